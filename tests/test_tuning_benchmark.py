"""The demonstration of the tuner: its starts by hand, a tiny run, and the committed tables."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

pytest.importorskip("optuna", reason="the extra tune is not installed")
sys.path.insert(0, str(Path(__file__).parents[1]))  # benchmarks/ is no part of the package

from benchmarks.marked import MARKED
from benchmarks.tuning import __main__ as benchmark
from benchmarks.tuning import starts

from lpprop.backbones import Backbone
from lpprop.backbones.backbone import BackboneOutput
from lpprop.evaluation.datasets import load_dataset

# Of many classes the tiny images have no pixel, or a method predicts its neighbour.
pytestmark = [
    pytest.mark.filterwarnings("ignore:labels. :lpprop.InputWarning"),
    pytest.mark.filterwarnings("ignore:the feats' grid:lpprop.InputWarning"),
]


class Colours(Backbone):
    """The mean colour of each patch, and attention by it."""

    provides = ("feats", "attention")

    def __init__(self):
        super().__init__(patch_size=14, mean=(0.5,) * 3, std=(0.25,) * 3)
        self.scale = torch.nn.Parameter(torch.ones(1))

    def _item_bytes(self, size):
        return 1

    def _see(self, pixels, classes):
        feats = F.avg_pool2d(pixels, 14)
        flat = F.normalize(feats.flatten(2), dim=1)
        attention = (10 * flat.mT @ flat).softmax(-1)
        return BackboneOutput(tuple(feats.shape[-2:]), None, feats, attention[:, None])


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(starts, "GRID", (3, 4))
    monkeypatch.setattr(benchmark, "METHODS", ("bilinear", "pamr"))


@pytest.fixture
def streets(tmp_path):
    """Two drives of four images of 40 x 54 pixels, of three of CamVid's classes."""
    rng = np.random.default_rng(0)
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    for drive in benchmark.DRIVES:
        for number in range(4):
            gt = np.kron(rng.integers(0, 3, (3, 4)), np.ones((14, 14)))[:40, :54].astype(np.uint8)
            pixels = np.clip(gt[..., None] * 80 + rng.normal(40, 15, (40, 54, 3)), 0, 255)
            name = f"{drive}_{number:05d}.png"
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "images" / name)
            Image.fromarray(gt).save(tmp_path / "labels" / name)
    return load_dataset("camvid", tmp_path)


def test_a_drive_is_spread_evenly(streets):
    drive = starts.Drive(streets, "0016E5", 2)
    assert [drive[index].name for index in range(len(drive))] == ["0016E5_00000", "0016E5_00002"]


def test_prototypes_by_hand(small, streets):
    """The sum of the unit features of a class's pixels, patch by patch, in a loop."""
    other, backbone = starts.Drive(streets, "0016E5", 2), Colours()
    start = starts.PrototypeStart(backbone, starts.Affinity(backbone), other)
    total = torch.zeros(11, 3)
    for index in range(2):
        sample = other[index]
        gt = torch.as_tensor(sample.gt).float()[None, None]
        seen = F.interpolate(gt, (42, 56), mode="nearest")[0, 0]
        feats = backbone(starts.resized(sample, backbone)).feats[0]
        for y in range(3):
            for x in range(4):
                vector = feats[:, y, x] / feats[:, y, x].norm()
                patch = seen[14 * y : 14 * (y + 1), 14 * x : 14 * (x + 1)]
                for c in range(3):
                    total[c] += (patch == c).float().mean() * vector
    torch.testing.assert_close(start.prototypes[:3], F.normalize(total[:3], dim=1))
    scores = start(other[0]).logits
    assert scores.shape == (1, 11, 3, 4)
    torch.testing.assert_close(scores.sum(1), torch.ones(1, 3, 4))


def test_a_run(small, streets, tmp_path):
    """Tuned on one drive, tested on the other; all tables can be made of it."""
    backbone = Colours()
    affinity = starts.Affinity(backbone)
    first, second = (starts.Drive(streets, prefix, 4) for prefix in benchmark.DRIVES)
    ways = [
        benchmark.measure(
            lambda own, _: starts.RelabelledStart(affinity, own), pair, tmp_path / "out", 4
        )
        for pair in ((first, second), (second, first))
    ]
    assert [x["tested_on"] for x in ways] == ["0016E5", "0006R0"]
    assert ways[0]["over_start"].gain == pytest.approx(
        ways[0]["tuned_there"].value - ways[0]["presets_there"]["bilinear"].value
    )
    found = {"trials": 4, "threads": 1, "versions": {}, "starts": {}}
    found["starts"] = {"prototypes": ways, "relabelled": ways}
    found = json.loads(json.dumps(found))
    made = "\n".join(table(found) for table in benchmark.TABLES.values())
    assert ways[0]["python"] in made


def test_the_page_shows_the_committed_results():
    found = json.loads(benchmark.FILE.read_text())
    text = benchmark.DOCS.read_text(encoding="utf-8")
    shown = MARKED.findall(text)
    assert sorted(name for _, name, _ in shown) == sorted(benchmark.TABLES)
    for opening, name, _ in shown:
        table = benchmark.TABLES[name](found)
        assert f"{opening}{table}\n" in text, "run python -m benchmarks.tuning"
