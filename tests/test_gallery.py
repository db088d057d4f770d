"""The gallery has every preset, its lines run, and its pictures are what they draw."""

import re
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import lpprop
from lpprop.io.images import load_image

pytest.importorskip("transformers", reason="the extra models is not installed")
pytest.importorskip("skimage", reason="scikit-image is not installed")
sys.path.insert(0, str(Path(__file__).parents[1]))  # benchmarks/ is no part of the package

from benchmarks import gallery
from benchmarks.marked import MARKED

PAGE = gallery.PAGE.read_text(encoding="utf-8")
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
SECTION = re.compile(r"^### `([^`]+)`\n(.*?)(?=^##|\Z)", re.DOTALL | re.MULTILINE)
TRAINED = Path(__file__).parents[2] / "shared" / "dinov2-small"


def test_every_preset_is_shown_in_the_order_of_the_table():
    assert list(gallery.SHOWN) == list(lpprop.presets.METHODS)


def test_the_page_is_what_the_list_makes():
    made = gallery.page()
    found = {match[2]: match[0] for match in MARKED.finditer(PAGE)}
    assert found.keys() == made.keys()
    for name, text in found.items():
        assert text == f"<!-- table {name} -->\n{made[name]}\n<!-- /table -->", name


def test_every_picture_is_there_small_and_of_one_size():
    named = re.findall(r"^!\[(.+)\]\(images/gallery/(.+)\)$", PAGE, re.MULTILINE)
    assert {name for _, name in named} == {path.name for path in gallery.PICTURES.iterdir()}
    assert len(named) == len(lpprop.presets.METHODS) + 1
    files = [gallery.PICTURES / name for _, name in named]
    assert max(path.stat().st_size for path in files) < 60_000
    assert sum(path.stat().st_size for path in files) < 1_200_000
    sizes = {load_image(path).size for path in files if path.stem != "scene"}
    assert len(sizes) == 1
    assert len({text for text, _ in named}) == len(named)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A DINOv2 with random weights, of the class of the trained one."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.Dinov2Config(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=3, image_size=56, patch_size=14
    )
    folder = tmp_path_factory.mktemp("dinov2")
    transformers.Dinov2Model(config).save_pretrained(folder)
    colours = '{"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.2, 0.2]}'
    (folder / "preprocessor_config.json").write_text(colours)
    return folder


@pytest.fixture(scope="module")
def small(tiny):
    """The names of the page's scene, on a photograph of half the size."""
    (code, *_) = BLOCK.findall(PAGE)
    assert gallery.CHECKPOINT in code
    assert gallery.SIDES in code
    code = code.replace(gallery.CHECKPOINT, repr(str(tiny))).replace(gallery.SIDES, "(294, 196)")
    names = {}
    exec(compile(code, str(gallery.PAGE), "exec"), names)
    return names


def test_the_scene(small):
    assert list(small["clicks"]) == list(gallery.CLASSES)
    assert small["logits"].shape == (1, 5, 14, 21)
    chance = small["logits"][0, :, small["wrong"]]
    assert set(chance.unique().tolist()) == {0, 1}
    assert 0.1 < small["wrong"].float().mean() < 0.3


@pytest.mark.parametrize("name", lpprop.presets.METHODS)
def test_the_line_of_a_method_runs_and_is_that_method(small, name, monkeypatch):
    preset = lpprop.presets.find(name)
    if preset.package is not None:
        pytest.importorskip(preset.package[0], reason=f"the extra {preset.package[1]} is missing")
    methods, refine = [], lpprop.refine

    def recorded(*inputs, method="auto", **options):
        methods.append(method)
        return refine(*inputs, method=method, **options)

    monkeypatch.setattr(lpprop, "refine", recorded)
    (code,) = BLOCK.findall(dict(SECTION.findall(PAGE))[name])
    names = dict(small)
    exec(compile(code, str(gallery.PAGE), "exec"), names)
    assert methods == [name]
    labels = names["scores"].argmax(1)
    assert labels.shape == (1, 196, 294)
    assert lpprop.show(names["image"], labels, names=list(names["clicks"])).mode == "RGB"


@pytest.mark.skipif(not TRAINED.is_dir(), reason="no trained weights")
def test_pictures_are_what_the_lines_draw():
    names = gallery.scene(TRAINED)

    def distance(name, other):
        labels = gallery.refined(names, name)
        drawn = BytesIO(gallery.encoded(gallery.picture(names["image"], labels)))
        pixels = np.asarray(Image.open(drawn).convert("RGB"), dtype=float)
        stored = np.asarray(load_image(gallery.PICTURES / gallery.file(other)), dtype=float)
        return np.abs(pixels - stored).mean()

    for name, other in {"lposs+": "auto", "bilinear": "local_crf"}.items():
        assert distance(name, name) < 1 < distance(name, other), name
