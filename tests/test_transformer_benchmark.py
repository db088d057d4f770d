"""The study on a vision transformer: its parts by hand, and a run on a tiny tree."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

pytest.importorskip("transformers", reason="the extra models is not installed")
pytest.importorskip("efficientnet_lite_pytorch", reason="the extra demo is not installed")
pytest.importorskip("pydensecrf", reason="the extra crf is not installed")
pytest.importorskip("matplotlib", reason="the extra eval is not installed")
pytest.importorskip("skimage", reason="scikit-image is not installed")
sys.path.insert(0, str(Path(__file__).parents[1]))  # benchmarks/ is no part of the package

from benchmarks.marked import MARKED
from benchmarks.transformer import (
    experiments,
    results,
    starts,
    tables,
    visits,
    votes,
)
from benchmarks.transformer.__main__ import DOCS, FILE, PAGES, every_table, main
from benchmarks.transformer.directions import DIRECTIONS
from benchmarks.transformer.figures import CHARTS
from benchmarks.transformer.methods import METHODS, SHORT, UPSAMPLERS, Way
from benchmarks.transformer.regions import MAJORITY_VOTE, TRUE, regions
from benchmarks.transformer.scenes import DRIVES, PHOTOGRAPHS, STRETCH, of_scene, pictures
from benchmarks.transformer.store import Store
from benchmarks.transformer.views import PATCH, Backbones, View
from transformers import Dinov2Config, Dinov2Model

import lpprop
from lpprop.evaluation import SegmentationMetrics


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A model with random weights, three images of each drive, of a stretch, and photographs."""
    root = tmp_path_factory.mktemp("study")
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, (12, 3))

    def write(folder, kind, name, size, classes):
        blocks = rng.integers(0, classes, (size[0] // 14, size[1] // 14))
        labels = np.kron(blocks, np.ones((14, 14))).astype(np.uint8)
        labels[:2] = 11  # unlabelled; or another region, too small to count
        pixels = np.clip(colours[labels] + rng.normal(0, 20, (*size, 3)), 0, 255)
        for each, data in (("images", pixels.astype(np.uint8)), (kind, labels)):
            (root / folder / each).mkdir(parents=True, exist_ok=True)
            Image.fromarray(data).save(root / folder / each / f"{name}.png")

    for number in range(3):
        for drive in DRIVES:
            write("streets", "labels", f"{drive}_{number}", (56, 84), 4)
        write("camvid", "labels", f"frame{number}", (56, 84), 4)
        write("bsds", "regions", f"{number}", (56, 42), 3)
    torch.manual_seed(0)
    config = Dinov2Config(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=3, image_size=70, patch_size=14
    )
    Dinov2Model(config).save_pretrained(root / "weights")
    return visits.Folders(*(root / x for x in ("weights", "streets", "camvid", "bsds", "out")))


@pytest.fixture(scope="module")
def every(folders):
    return pictures(folders.streets, folders.camvid, folders.bsds, tiny=True)


@pytest.fixture(scope="module")
def backbones(folders):
    return Backbones(folders.weights)


KEY = {"image": "a", "setting": "token"}


class TestStore:
    def stored(self, folder, value=2.0):
        made = []

        def make():
            made.append(1)
            return torch.full((3, 4), value)

        return Store(folder).get(KEY, make), len(made)

    def test_what_is_kept_is_not_made_again(self, tmp_path):
        assert [self.stored(tmp_path)[1] for _ in range(3)] == [1, 0, 0]

    @pytest.mark.parametrize("where", ["value", "header", "end"])
    def test_a_damaged_file_is_made_anew(self, tmp_path, where):
        self.stored(tmp_path)
        file = Store(tmp_path).file(KEY)
        data = bytearray(file.read_bytes())
        if where == "end":
            del data[-5:]
        else:
            data[{"value": -1, "header": 3}[where]] ^= 1
        file.write_bytes(data)
        value, made = self.stored(tmp_path)
        assert made == 1
        assert torch.equal(value, torch.full((3, 4), 2.0))
        assert self.stored(tmp_path)[1] == 0

    def test_a_file_of_another_key_is_made_anew(self, tmp_path):
        self.stored(tmp_path)
        store, other = Store(tmp_path), {"image": "b"}
        store.file(KEY).rename(store.file(other))
        assert store.get(other, lambda: torch.zeros(2)).tolist() == [0, 0]


class TestStarts:
    def test_prototypes_by_hand(self, every, backbones, tmp_path):
        """The mean of unit features, weighted by the share of the class, from the other drive."""
        store = Store(tmp_path)
        view = View(of_scene(every, "0006R0")[0], store, backbones)
        others = [View(x, store, backbones) for x in of_scene(every, "0016E5")]
        labelled = starts.Labelled({"0016E5": others})
        found = starts.raw(view, "DINOv2 prototypes, 1", labelled)
        seen = others[1]  # the middle of three
        feats = seen.feats("token")[0].flatten(1).T
        gt = cv2.resize(seen.picture.gt, (70, 56), interpolation=cv2.INTER_NEAREST_EXACT)
        of_patch = starts.patch_oracle(gt, 14, 11).flatten(1)
        mine = F.normalize(view.feats("token")[0].flatten(1), dim=0)
        for c in range(11):
            total = sum(
                of_patch[c, i] * feats[i] / feats[i].norm() for i in range(len(feats))
            )  # fmt: skip
            expected = (total / total.norm()) @ mine if total.norm() > 0 else -torch.ones(20)
            torch.testing.assert_close(found[0, c].flatten(), expected, atol=1e-5, rtol=1e-5)

    def test_prototypes_of_windows_by_hand(self, every, backbones, tmp_path):
        """Each window counts by itself, with its own features and labels."""
        store = Store(tmp_path)
        others = [View(x, store, backbones) for x in of_scene(every, "0016E5")]
        found = starts.Labelled({"0016E5": others}).fit("0016E5", "CNN prototypes, 1", "224/112")
        seen = others[1]
        windows, feats = seen.windows("224/112"), seen.feats("CNN", "224/112")
        gt = cv2.resize(seen.picture.gt, (112, 84), interpolation=cv2.INTER_NEAREST_EXACT)
        total = torch.zeros(11, feats.shape[1])
        for number, (y1, y2, x1, x2) in enumerate(windows.boxes.tolist()):
            of_patch = starts.patch_oracle(gt[y1:y2, x1:x2], 14, 11)
            for y, x in np.ndindex(*of_patch.shape[1:]):
                unit = feats[number, :, y, x] / feats[number, :, y, x].norm()
                total += of_patch[:, y, x, None] * unit
        there = total.norm(dim=1) > 0
        assert (found[~there] == 0).all()
        expected = total[there] / total[there].norm(dim=1, keepdim=True)
        torch.testing.assert_close(found[there], expected, atol=1e-5, rtol=1e-5)

    def test_no_start_sees_labels_of_its_own_drive(self, every, backbones, tmp_path):
        """Only the other drive is there to be asked."""
        store = Store(tmp_path)
        for picture in (of_scene(every, "0016E5")[0], of_scene(every, STRETCH)[0]):
            view = View(picture, store, backbones)
            drive = [View(x, store, backbones) for x in of_scene(every, "0006R0")]
            labelled = starts.Labelled({"0006R0": drive})
            assert starts.raw(view, "CNN prototypes, 4", labelled).shape == (1, 11, 4, 5)

    def test_forms(self):
        cosines = torch.tensor([0.5, 0.4])[None, :, None, None]
        form = {x: starts.as_form(cosines, "clicks", x).flatten().tolist() for x in starts.FORMS}
        first = 1 / (1 + np.exp(-5))
        assert form["probabilities"] == pytest.approx([first, 1 - first], abs=1e-6)
        assert form["raw"] == pytest.approx([0.5, 0.4])
        assert form["scaled"] == pytest.approx([25, 20])
        assert form["labels"] == [1, 0]

    def test_images_are_spread_evenly(self):
        assert starts.spread(24, 4) == [3, 9, 15, 21]
        assert starts.spread(24, 1) == [12]
        assert starts.spread(3, 16) == [0, 1, 2]

    def test_small_regions_of_a_photograph_are_ignored(self, every):
        picture = of_scene(every, PHOTOGRAPHS)[0]
        whole = np.array(Image.open(picture.labels_file))
        kept = [x for x in np.unique(whole) if (whole == x).mean() >= 0.005]
        assert picture.classes == len(kept)
        for number, region in enumerate(kept):
            assert ((picture.gt == number) == (whole == region)).all()


def test_majority_vote_by_hand():
    rng = np.random.default_rng(0)
    regions, labels = rng.integers(0, 5, (8, 9)), rng.integers(0, 3, (8, 9))
    logits = F.one_hot(torch.from_numpy(labels), 3).movedim(-1, 0)[None].float()
    found = MAJORITY_VOTE(logits, regions=torch.from_numpy(regions)[None]).argmax(1)[0].numpy()
    for region in range(5):
        votes = np.bincount(labels[regions == region], minlength=3)
        assert (found[regions == region] == votes.argmax()).all()


def test_a_vote_is_behind_a_refiner(every, backbones, tmp_path):
    """At the picture's own size, in true pieces, counted by hand."""
    view = View(of_scene(every, "0006R0")[0], Store(tmp_path), backbones)
    labelled, before = starts.Labelled({}), votes.BEFORE["joint bilateral"]
    labels = before(view, "relabelled 40 %", labelled).argmax(1)[0].numpy()
    way = votes.voted(before, TRUE)
    found = way(view, "relabelled 40 %", labelled).argmax(1)[0].numpy()
    pieces = regions(view, TRUE, view.picture.image)[0].numpy()
    assert ((pieces < 0) == (view.picture.gt == 255)).all()
    assert (found[pieces < 0] == labels[pieces < 0]).all()
    for piece in range(pieces.max() + 1):
        inside = pieces == piece
        assert len(np.unique(view.picture.gt[inside])) == 1
        assert (found[inside] == np.bincount(labels[inside]).argmax()).all()
    kept = votes.unvoted(before)(view, "relabelled 40 %", labelled).argmax(1)[0].numpy()
    assert (kept == labels).all()


def test_windows_alone_are_windows_by_themselves(every, backbones, tmp_path):
    """Coupled prediction is propagation in each window, and the mean where they overlap."""
    view = View(of_scene(every, "0006R0")[0], Store(tmp_path), backbones)
    way = experiments.experiments()["windows"].ways["k 50, γ 7, 224/112, coupled"]
    found = way(view, "relabelled 40 %", starts.Labelled({}))
    windows = view.windows("224/112")
    z = starts.scores(view, "relabelled 40 %", starts.Labelled({}), "probabilities", "224/112")
    feats = view.feats("token", "224/112")
    alone = [
        lpprop.propagate_patches(z[i : i + 1], feats[i : i + 1], k=50, gamma=7.0, patch_size=14)
        for i in range(len(windows))
    ]
    merged = lpprop.bilinear_upsample(windows.merge(torch.cat(alone)), view.picture.size)
    torch.testing.assert_close(found, merged, atol=1e-5, rtol=1e-4)


def test_without_a_method_it_is_the_default(every, backbones, tmp_path):
    view = View(of_scene(every, "0006R0")[0], Store(tmp_path), backbones)
    found = Way(feats="token")(view, "oracle", starts.Labelled({}))
    z = starts.raw(view, "oracle", starts.Labelled({}))
    image, size = view.image(), view.picture.size
    expected = lpprop.refine(z, view.feats("token"), image, patch_size=PATCH, size=size)
    assert torch.equal(found, expected)


def test_every_way_has_another_description():
    """So no counts of one are taken for those of another, and nothing is measured twice."""
    for experiment in experiments.experiments().values():
        described = [way.describe("probe") for way in experiment.ways.values()]
        assert len(set(described)) == len(described), experiment.name
    assert METHODS["LPOSS, γ 7"].describe("probe") != METHODS["LPOSS, γ 7"].describe("oracle")


def test_names_are_those_of_methods():
    assert set(SHORT) | set(UPSAMPLERS) <= set(METHODS)
    known = experiments.experiments()
    for direction in DIRECTIONS:
        assert {direction.before, direction.after} <= known[direction.experiment].ways.keys()
    for name, usual in tables.USUAL.items():
        assert usual is None or usual in known[name].ways
    assert len({direction.claim for direction in DIRECTIONS}) == len(DIRECTIONS)


def arguments(folders, tmp_path, out):
    docs = tmp_path / "docs"
    docs.mkdir(exist_ok=True)
    for page in PAGES:
        (docs / page).write_text((DOCS / page).read_text())
    given = {**folders._asdict(), "out": out, "results": tmp_path / "found.json", "docs": docs}
    return ["--tiny", "--processes=1", *(f"--{name}={value}" for name, value in given.items())]


@pytest.fixture(scope="module")
def ran(folders, tmp_path_factory):
    """A whole run, and its results."""
    work = tmp_path_factory.mktemp("ran")
    main(arguments(folders, work, folders.out))
    return work, json.loads((work / "found.json").read_text())


def test_a_run_fills_the_document(ran):
    work, found = ran
    text = "".join((work / "docs" / page).read_text() for page in PAGES)
    made = every_table(found)
    assert {name for _, name, _ in MARKED.findall(text)} <= made.keys()
    start = found["experiments"]["main"]["starts"]["probe"]["bilinear"]
    assert f"{100 * start['miou']:.1f}" in text
    assert {path.stem for path in (work / "docs" / "images").glob("*.png")} == {
        f"transformer_{name}" for name in CHARTS
    }


def test_counts_are_those_of_the_metrics(folders, every, ran):
    """The mIoU of the results, from labels that are made and counted here."""
    worker = visits.Worker(folders, tiny=True)
    experiment = worker.experiments["main"]
    name, way = list(experiment.ways.items())[1]
    both = SegmentationMetrics(11, dilation_ratio=visits.RATIO)
    for drive in DRIVES:
        for picture in of_scene(every, drive):
            scores = way(worker.view(picture), "probe", worker.labelled)
            both.update(scores.argmax(1)[0], picture.gt)
    row = ran[1]["experiments"]["main"]["starts"]["probe"][name]
    assert row["miou"] == pytest.approx(both.miou, abs=1e-6)
    assert row["boundary"] == pytest.approx(both.mean_boundary_iou, abs=1e-6)


def test_a_run_that_was_killed_goes_on(folders, ran, tmp_path, monkeypatch):
    """Counts that are lost, torn or outdated are made anew, nothing else, and all is equal."""
    files = sorted((folders.out / "counts").rglob("*.json"))
    before = [json.loads(file.read_text())["rows"] for file in files]
    files[0].unlink()
    files[5].write_bytes(files[5].read_bytes()[:-20])
    old = json.loads(files[9].read_text())
    start, name = next((s, n) for s, rows in old["rows"].items() for n in rows)
    old["rows"][start][name] |= {"of": "another method", "hits": [0]}
    files[9].write_text(json.dumps(old))
    calls = []
    run = Way.__call__
    monkeypatch.setattr(Way, "__call__", lambda *given: calls.append(1) or run(*given))
    main(arguments(folders, tmp_path, folders.out))
    assert [json.loads(file.read_text())["rows"] for file in files] == before
    assert len(calls) == sum(len(x) for i in (0, 5) for x in before[i].values()) + 1
    again = json.loads((tmp_path / "found.json").read_text())
    assert again["experiments"] == ran[1]["experiments"]
    assert again["directions"] == ran[1]["directions"]


def test_bootstrap_is_a_plain_loop(folders, every, ran):
    """The interval of a gain, by pooling the drawn pictures one by one."""
    counted = results.Counted(experiments.experiments(tiny=True)["main"], every, folders.out)
    after = list(counted.experiment.ways)[1]
    found = counted.gain("probe", "bilinear", after)
    drawn = [results.drawn_images(3, block=results.BLOCK, seed=number) for number in (0, 1)]
    gains = []
    for draw in range(len(drawn[0])):
        mious = []
        for way in ("bilinear", after):
            hits, either = np.zeros(11), np.zeros(11)
            for number in range(6):  # three pictures of each drive; the stretch comes after
                row = counted.files[number]["rows"]["probe"][way]
                for _ in range(drawn[number // 3][draw, number % 3]):
                    hits += row["hits"]
                    either += row["either"]
            mious.append((hits[either > 0] / either[either > 0]).mean())
        gains.append(100 * (mious[1] - mious[0]))
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(gains, [2.5, 97.5])))


def test_photographs_are_averaged(folders, every, ran):
    counted = results.Counted(experiments.experiments(tiny=True)["photographs"], every, folders.out)
    own = []
    for each in counted.files:
        row = each["rows"]["clicks"]["bilinear"]
        ratio = [a / b for a, b in zip(row["hits"], row["either"], strict=True) if b]
        own.append(sum(ratio) / len(ratio))
    assert counted.mean("clicks", "bilinear") == pytest.approx(np.mean(own))


def test_what_a_vote_adds_is_over_its_own_refiner(folders, every, ran):
    experiment = replace(experiments.experiments(tiny=True)["votes"], before={})
    rows = ran[1]["experiments"]["votes"]["starts"]
    before, after = experiment.ways
    gain = results.Counted(experiment, every, folders.out).gain("oracle", before, after)
    assert rows["oracle"][after]["own_gain"]["gain"] == pytest.approx(gain.gain, abs=1e-4)
    own = 100 * (rows["oracle"][after]["boundary"] - rows["oracle"][before]["boundary"])
    assert rows["oracle"][after]["own_boundary_gain"]["gain"] == pytest.approx(own, abs=1e-3)


def test_a_run_of_some_experiments_keeps_the_others(folders, every, ran):
    worker = visits.Worker(folders, tiny=True, only=["votes"])
    new = results.results(every, folders.out, worker.experiments)
    old = ran[1] | {"experiments": {"main": "kept", "votes": "outdated"}}
    grown = results.grown(old, new)
    assert grown["experiments"] == {"main": "kept", "votes": new["experiments"]["votes"]}
    assert grown["directions"] == old["directions"]
    assert grown["seconds"].keys() == old["seconds"].keys()


def test_verdicts():
    claim = DIRECTIONS[0]._replace(sign=-1)
    gains = {
        "a": {"gain": -2.0, "low": -3.0, "high": -1.0},
        "b": {"gain": 0.5, "low": -1.0, "high": 2.0},
        "c": {"gain": 1.0, "low": 0.5, "high": 1.5},
    }
    assert tables.verdict(claim, gains) == "1 of 3, 1 against, 1 open"
    assert tables.verdict(claim._replace(sign=0), gains) == "1 of 3, 2 against"


@pytest.mark.parametrize("page", PAGES)
def test_the_document_shows_the_committed_results(page):
    text = (DOCS / page).read_text()
    found = json.loads(FILE.read_text())
    made = every_table(found)
    shown = MARKED.findall(text)
    assert shown
    for opening, name, _ in shown:
        assert f"{opening}{made[name]}\n" in text, "run python -m benchmarks.transformer"
