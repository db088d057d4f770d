"""`lpprop eval`: its figures, what it refuses before any model is loaded, and how it goes on."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image

from dataset_trees import TREES
from lpprop import InputError
from lpprop.backbones import Backbone, EfficientNetLite0
from lpprop.backbones.backbone import BackboneOutput
from lpprop.backbones.prompts import parse_classes
from lpprop.cli import main
from lpprop.evaluation import Report, SegmentationMetrics
from lpprop.evaluation.datasets import DATASETS, dataset_from_folders, load_dataset
from lpprop.evaluation.recipe_predictors import method_recipes, recipe_predictors
from lpprop.models.recipes import RECIPES
from lpprop.models.segmenter import Segmenter


class Colours(Backbone):
    """Scores any number of classes by the mean colour of each patch, and fails on demand."""

    provides = ("logits", "feats")

    def __init__(self):
        super().__init__(patch_size=4, mean=(0.5,) * 3, std=(0.25,) * 3)
        self.mixed = torch.nn.Parameter(torch.ones(1))
        self.fails = False

    def class_names(self, classes):
        return parse_classes(classes).class_names

    def _item_bytes(self, size):
        return 1

    def _see(self, pixels, classes):
        if self.fails:
            raise RuntimeError("too hard")
        colours = torch.nn.functional.avg_pool2d(pixels, 4)
        angles = torch.arange(len(classes)).outer(torch.tensor([1.0, 2.0, 3.0]))
        logits = torch.einsum("ck,bkyx->bcyx", angles.sin(), colours)
        return BackboneOutput((colours.shape[-2], colours.shape[-1]), logits, colours)


@pytest.fixture
def loaded(monkeypatch):
    """The backbone "offline" is of colours; the list has those that were loaded."""
    models = []

    def load(*, download, dtype):
        models.append(Colours())
        return models[-1]

    monkeypatch.setattr(EfficientNetLite0, "from_pretrained", load)
    return models


def run(*arguments):
    return main(["eval", "--recipe", "offline", *map(str, arguments)])


def folders(root, names, size=(40, 56)):
    """Images and labels of one's own: of two classes, and what does not count."""
    rng = np.random.default_rng(3)
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True)
    for name in names:
        image = rng.integers(0, 256, (5, 7, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
        Image.fromarray(image).resize(size[::-1]).save(root / "images" / f"{name}.png")
        labels = rng.choice(np.array([0, 1, 255], np.uint8), size)
        Image.fromarray(labels).save(root / "labels" / f"{name}.png")
    (root / "classes.txt").write_text("cat; lynx\n\nseat = sofa; rocking chair\n")
    return [
        *("--images", root / "images", "--labels", root / "labels"),
        *("--classes", root / "classes.txt"),
    ]


def counts(report, name):
    return report[name].metrics.to_dict()


def expected(dataset, segmenter):
    """The metrics in a loop, without runner and predictors."""
    metrics = SegmentationMetrics(len(dataset.class_names))
    for sample in dataset:
        metrics.update(segmenter(sample.image, dataset.prompts).labels[0], sample.gt)
    return metrics.to_dict()


@pytest.mark.parametrize("name", TREES)
def test_the_official_layouts(tmp_path, loaded, capsys, name):
    TREES[name](tmp_path / "data")
    out = tmp_path / "out"
    options = ["--method", "bilinear", "lposs", "--option", "k=3", "--side", 16, "--out", out]
    assert run("--dataset", name, "--root", tmp_path / "data", *options) == 0
    assert len(loaded) == 1  # for both methods
    said = capsys.readouterr()
    size = DATASETS[name].size
    assert f"warning: 2 images in {tmp_path / 'data'}, but {name} has {size} in" in said.err
    dataset = load_dataset(name, tmp_path / "data")
    report = Report.load(out)
    assert list(report) == ["bilinear", "lposs"]
    assert report.class_names == dataset.class_names
    for method, chosen in (("bilinear", {}), ("lposs", {"k": 3})):
        segmenter = Segmenter(Colours(), method=method, shorter_side=16, **chosen)
        assert counts(report, method) == expected(dataset, segmenter)
    assert said.out.startswith(report.table())
    assert str(out / "results.md") in said.out
    assert report.config["predictors"]["lposs"]["recipe"]["options"] == {"k": 3}


@pytest.mark.filterwarnings("always:labels. no pixel")
def test_another_split_has_no_official_size(tmp_path, loaded, capsys):
    TREES["voc21"](tmp_path)
    lists = tmp_path / "ImageSets" / "Segmentation"
    (lists / "train.txt").write_text("2007_000033\n")
    options = ["--dataset", "voc21", "--root", tmp_path, "--out", tmp_path / "out"]
    assert run(*options, "--split", "train", "--method", "bilinear") == 0
    said = capsys.readouterr()
    assert "compare no figures" not in said.err
    assert Report.load(tmp_path / "out").images == 1


def test_a_complete_split_needs_no_warning(tmp_path, loaded, capsys, monkeypatch):
    TREES["camvid"](tmp_path)
    monkeypatch.setitem(DATASETS, "camvid", dataclasses.replace(DATASETS["camvid"], size=2))
    options = ["--dataset", "camvid", "--root", tmp_path, "--out", tmp_path / "out"]
    assert run(*options, "--method", "bilinear") == 0
    assert "warning" not in capsys.readouterr().err


def test_own_folders(tmp_path, capsys):
    pytest.importorskip("efficientnet_lite_pytorch", reason="the extra demo is not installed")
    given = folders(tmp_path, "ab")
    out = tmp_path / "out"
    assert run(*given, "--side", 64, "--out", out) == 0  # the backbone's method, lposs+
    assert capsys.readouterr().err == ""
    prompts = ["cat; lynx", "seat = sofa; rocking chair"]
    dataset = dataset_from_folders(tmp_path / "images", tmp_path / "labels", prompts)
    report = Report.load(out)
    segmenter = Segmenter(EfficientNetLite0(), method="auto", shorter_side=64)
    assert counts(report, "auto") == expected(dataset, segmenter)
    assert report.class_names == ["cat", "seat"]


def test_classes_that_the_backbone_does_not_know(tmp_path, capsys):
    pytest.importorskip("efficientnet_lite_pytorch", reason="the extra demo is not installed")
    TREES["cityscapes"](tmp_path)
    options = ["--dataset", "cityscapes", "--root", tmp_path, "--out", tmp_path / "out"]
    assert run(*options) == 1
    assert "classes[0]: got 'road', expected names of ImageNet classes" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--dataset": ["voc"]}, "dataset: got 'voc', expected one of 'voc21', 'voc20'"),
        ({"--root": ["empty"]}, "ImageSets/Segmentation"),
        ({"--root": None}, "--dataset: got --dataset, expected --dataset and --root, or --images"),
        ({"--dataset": None, "--root": None}, "--dataset: got nothing"),
        ({"--labels": ["empty"]}, "--dataset: got --dataset, --root, --labels, expected"),
        ({"--split": ["tomorrow"]}, "tomorrow"),
        ({"--method": ["bilinear", "lpos"]}, "Did you mean 'lposs'?"),
        ({"--option": ["kk=3"]}, "kk: got an option that no method has (bilinear, lposs)"),
        ({"--option": ["k=0"]}, "k: got 0"),
        ({"--recipe": ["clip"]}, "--recipe: got 'clip', expected one of offline, clip-dino"),
        ({"--limit": ["0"]}, "--limit: got 0, expected an integer >= 1"),
        ({"--processes": ["0"]}, "--processes: got 0"),
        ({"--side": ["0"]}, "--side: got 0"),
        ({"--device": ["moon"]}, "--device: got moon"),
    ],
)
def test_mistakes_are_found_before_models_are_loaded(
    tmp_path, loaded, capsys, monkeypatch, change, message
):
    monkeypatch.chdir(tmp_path)
    TREES["voc20"](tmp_path / "data")
    (tmp_path / "empty").mkdir()
    base = {"--dataset": ["voc20"], "--root": ["data"], "--method": ["bilinear", "lposs"]}
    base |= {"--recipe": ["offline"], "--out": ["out"]} | change
    flat = [part for name, values in base.items() if values for part in (name, *values)]
    assert main(["eval", *flat]) == 1
    assert message in capsys.readouterr().err
    assert not loaded
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--option", "k=4"], "lposs.recipe.options.k = 3, expected 4"),
        (["--side", 32], "lposs.recipe.shorter_side = 16, expected 32"),
        (["--recipe", "clip-dino"], 'lposs.recipe.backbone.kind = "EfficientNetLite0"'),
        (["--images", "few"], "dataset.samples = 2, expected 1"),
        (
            ["--classes", "other.txt"],
            'dataset.class_names = ["cat", "seat"], expected ["cat", "lamp"]',
        ),
        (["--classes", "more.txt"], 'lposs.prompts = ["cat; lynx", "seat = sofa; rocking chair"]'),
    ],
)
def test_a_folder_of_another_run_is_refused(tmp_path, loaded, capsys, monkeypatch, change, message):
    monkeypatch.chdir(tmp_path)
    given = [*folders(tmp_path, "ab"), "--out", "out", "--method", "lposs", "--side", 16]
    assert run(*given, "--option", "k=3") == 0
    (tmp_path / "few").mkdir()
    (tmp_path / "images" / "a.png").rename(tmp_path / "few" / "a.png")
    (tmp_path / "images" / "a.png").write_bytes((tmp_path / "few" / "a.png").read_bytes())
    (tmp_path / "other.txt").write_text("cat\nlamp\n")
    (tmp_path / "more.txt").write_text("cat; lynx; tabby\nseat = sofa; rocking chair\n")
    config = (tmp_path / "out" / "config.json").read_bytes()
    loaded.clear()
    kept = [] if "--option" in change else ["--option", "k=3"]
    assert run(*given, *kept, *change) == 1
    assert message in capsys.readouterr().err
    assert not loaded
    assert (tmp_path / "out" / "config.json").read_bytes() == config


def test_a_run_is_resumed(tmp_path, loaded, capsys):
    given = [*folders(tmp_path, "abcd"), "--side", 16, "--out", tmp_path / "out"]
    assert run(*given, "--method", "bilinear", "--limit", 2) == 0
    assert "| 2 |" in capsys.readouterr().out
    first = (tmp_path / "out" / "bilinear.jsonl").read_bytes()
    assert run(*given, "--method", "bilinear", "lposs") == 0  # more images, a further method
    lines = (tmp_path / "out" / "bilinear.jsonl").read_bytes()
    assert lines.startswith(first)
    assert lines.count(b"\n") == 4
    assert run(*given, "--method", "lposs") == 0
    said = capsys.readouterr().out
    assert said.splitlines()[-3].startswith("| lposs |")
    assert said.splitlines()[-2].endswith("pixels count; the others are ignored.")
    assert (tmp_path / "out" / "bilinear.jsonl").read_bytes() == lines


@pytest.mark.filterwarnings("always:.*failed")
def test_failures_are_left_out_and_tried_again(tmp_path, loaded, capsys, monkeypatch):
    given = [*folders(tmp_path, "abc"), "--out", tmp_path / "out", "--method", "bilinear"]
    label = tmp_path / "labels" / "b.png"
    good = label.read_bytes()
    label.write_bytes(b"no image")
    assert run(*given) == 1
    said = capsys.readouterr()
    assert "| 2 of 3 |" in said.out
    assert "warning: b failed" in said.err
    assert "error: 1 failed and are left out" in said.err
    label.write_bytes(good)
    assert run(*given) == 0
    assert "| 3 |" in capsys.readouterr().out


def test_several_processes_and_a_process_that_was_killed(tmp_path):
    """SIGKILL in the middle, then the same command: the figures of a run without interruption."""
    pytest.importorskip("efficientnet_lite_pytorch", reason="the extra demo is not installed")
    given = folders(tmp_path, [f"{i:02d}" for i in range(8)])
    options = [*given, "--side", 192, "--method", "bilinear", "lposs"]
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    command = [sys.executable, "-m", "lpprop", "eval", "--recipe", "offline", *map(str, options)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([*command, "--out", str(killed)], env=environment)
    lines = killed / "lposs.jsonl"
    while process.poll() is None and not (lines.is_file() and lines.read_bytes().count(b"\n") > 1):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    before = lines.read_bytes()
    done = before.count(b"\n")
    assert 2 <= done < 8
    assert run(*options, "--out", killed, "--processes", 2) == 0
    after = lines.read_bytes()
    assert after.startswith(before[: before.rindex(b"\n") + 1])
    assert sorted(json.loads(line)["index"] for line in after.splitlines()) == list(range(8))
    assert run(*options, "--out", whole) == 0
    for name in ("bilinear", "lposs"):
        assert counts(Report.load(killed), name) == counts(Report.load(whole), name)


@pytest.mark.filterwarnings("always::lpprop.InputWarning")
def test_masks_of_0_and_255(tmp_path, loaded, capsys):
    given = folders(tmp_path, "ab")
    for path in (tmp_path / "labels").iterdir():
        Image.fromarray(np.where(np.asarray(Image.open(path)) == 1, 255, 0).astype(np.uint8)).save(
            path
        )
    assert run(*given, "--method", "bilinear", "lposs", "--out", tmp_path / "out") == 0
    said = capsys.readouterr()
    assert said.err.count("warning") == 1
    assert "lpprop: warning: labels: all pixels that count are of class 0, 'cat'" in said.err
    assert "% of 4,480 pixels count; the others are ignored." in said.out
    text = (tmp_path / "out" / "results.md").read_text()
    assert "## Warnings\n\n- labels: all pixels that count are of class 0, 'cat'" in text
    assert "| seat | 0 |" in text


def test_labels_to_ignore(tmp_path, loaded, capsys):
    """--ignore takes the place of 255, and a run with other ones is another run."""
    given = [*folders(tmp_path, "ab"), "--method", "bilinear"]
    stored = {}
    for path in (tmp_path / "labels").iterdir():
        labels = np.asarray(Image.open(path)).copy()
        labels[:5] = 7
        stored[path.stem] = labels
        Image.fromarray(labels).save(path)
    assert run(*given, "--ignore", 255, 7, "--out", tmp_path / "out") == 0
    ignored = sum(((one == 255) | (one == 7)).sum() for one in stored.values())
    report = Report.load(tmp_path / "out")
    assert report.ignored_pixels == ignored
    assert report.class_pixels.sum() == sum(one.size for one in stored.values()) - ignored
    capsys.readouterr()
    assert run(*given, "--ignore", 7, 254, 255, "--out", tmp_path / "out") == 1
    assert "dataset.labels_from" in capsys.readouterr().err
    for wrong in (256, -1):
        assert run(*given, "--ignore", wrong) == 1
        assert f"--ignore: got {wrong}, expected an integer" in capsys.readouterr().err
    assert run("--dataset", "voc20", "--root", tmp_path, "--ignore", 0) == 1
    assert "--dataset: got --dataset, --root, --ignore, expected" in capsys.readouterr().err


def test_one_class_is_refused(tmp_path, loaded, capsys):
    given = folders(tmp_path, "a")
    (tmp_path / "classes.txt").write_text("cat\n")
    assert run(*given) == 1
    assert "--classes: got only 'cat', expected two or more" in capsys.readouterr().err
    assert not loaded


@pytest.mark.parametrize("folder", ["images", "labels"])
def test_a_folder_that_is_not_there(tmp_path, loaded, capsys, folder):
    given = folders(tmp_path, "a")
    (tmp_path / folder).rename(tmp_path / "elsewhere")
    assert run(*given, "--out", tmp_path / "out") == 1
    said = capsys.readouterr().err
    assert f"{folder}: got {tmp_path / folder}, which does not exist, expected a folder" in said
    assert "download" not in said
    assert not loaded


@pytest.mark.filterwarnings("always::lpprop.InputWarning")
def test_an_orientation_is_said_once_per_run(tmp_path, loaded, capsys):
    given = folders(tmp_path, "abc")
    for name in "bc":
        path = tmp_path / "images" / f"{name}.png"
        with Image.open(path) as image:
            exif = image.getexif()
            exif[0x0112] = 3
            image.save(path, exif=exif)
    assert run(*given, "--method", "bilinear", "lposs", "--out", tmp_path / "out") == 0
    said = capsys.readouterr().err
    assert said.count("EXIF orientation") == 1
    assert "warning: 2 images, the first b: " in said


@pytest.mark.filterwarnings("always::lpprop.InputWarning")
def test_replaced_labels_are_measured_again(tmp_path, loaded, capsys):
    given = [*folders(tmp_path, "abc"), "--method", "bilinear", "--out", tmp_path / "out"]
    assert run(*given) == 0
    Image.fromarray(np.ones((40, 56), np.uint8)).save(tmp_path / "labels" / "b.png")
    capsys.readouterr()
    assert run(*given) == 0
    said = capsys.readouterr()
    assert "warning: dataset: 1 of 3 samples have another image or other labels" in said.err
    prompts = ["cat; lynx", "seat = sofa; rocking chair"]
    dataset = dataset_from_folders(tmp_path / "images", tmp_path / "labels", prompts)
    segmenter = Segmenter(Colours(), method="bilinear", shorter_side=448)
    assert counts(Report.load(tmp_path / "out"), "bilinear") == expected(dataset, segmenter)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("processes", [1, 2])
def test_interrupted(tmp_path, number, code, processes):
    pytest.importorskip("efficientnet_lite_pytorch", reason="the extra demo is not installed")
    given = folders(tmp_path, [f"{i:03d}" for i in range(60)])
    out = tmp_path / "out"
    options = [*given, "--method", "bilinear", "--side", 192, "--processes", processes]
    command = [sys.executable, "-m", "lpprop", "eval", "--recipe", "offline", *map(str, options)]
    process = subprocess.Popen(
        [*command, "--out", str(out)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )
    lines = out / "bilinear.jsonl"
    while process.poll() is None and not (lines.is_file() and lines.stat().st_size):
        time.sleep(0.01)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == code
    assert said == "lpprop: interrupted: the same command continues\n"
    assert 1 <= lines.read_bytes().count(b"\n") < 60


def test_weights_that_are_not_there_are_one_clear_line(tmp_path, capsys, monkeypatch):
    pytest.importorskip("transformers")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    given = [*folders(tmp_path, "a"), "--recipe", "clip-dino", "--no-download"]
    assert run(*given, "--out", tmp_path / "out") == 1
    said = capsys.readouterr().err
    assert said.startswith("lpprop: error: checkpoint: got 'laion/")
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


class TestRecipes:
    def test_options_go_to_the_methods_that_have_them(self):
        made = method_recipes(RECIPES["clip-dino"], ["lposs", "lposs_plus", "kl"], k=9, r=5, nms=1)
        assert made["lposs"].options == {"k": 9}
        assert made["lposs_plus"].options == {"k": 9, "r": 5}
        assert made["kl"].options == {"logit_scale": 100.0, "nms": 1}
        # Of the preset itself, not of a step.
        made = method_recipes(RECIPES["clip-dino"], ["lposs", "bilinear"], feats_from="dinov2")
        assert made["lposs"].options == {"feats_from": "dinov2"}

    def test_a_method_whose_input_the_affinity_does_not_provide(self):
        with pytest.raises(InputError, match="method: got 'lposs'"):
            method_recipes(RECIPES["clip-sd2"], ["max_velocity", "lposs"])

    def test_each_predictor_equals_its_recipe(self, loaded):
        """Sharing the models changes nothing: options, windows and sizes are each recipe's own."""
        recipe = dataclasses.replace(RECIPES["offline"], windows=(24, 12), shorter_side=32)
        made = method_recipes(recipe, ["max_velocity", "lposs", "bilinear"], k=5)
        predictors = recipe_predictors(made, ["a", "b", "c"])
        assert len(loaded) == 1
        for name, predictor in predictors.items():
            alone = made[name].build()
            assert repr(predictor.segmenter) == repr(alone)
            assert predictor.segmenter.affinity is predictor.segmenter.backbone
        assert [one.segmenter.windows for one in predictors.values()] == [None, *[(24, 12)] * 2]

    @pytest.mark.parametrize("what", ["lposs", {"lposs"}, [], {}, None, 5])
    def test_methods_and_recipes_of_odd_types(self, loaded, what):
        with pytest.raises(InputError, match=r"^methods: got "):
            method_recipes(RECIPES["offline"], what)
        with pytest.raises(InputError, match=r"^recipes: got "):
            recipe_predictors(what, ["a", "b"])
        assert not loaded

    def test_models_that_differ_are_refused(self, loaded):
        several = {"a": RECIPES["offline"], "b": RECIPES["clip-dino"]}
        with pytest.raises(InputError, match="recipes: got different models"):
            recipe_predictors(several, ["a", "b"])
        assert not loaded
