"""`lpprop tune`: stored arrays and recipes, groups of the user's, and what it refuses."""

import json
import os
import shutil
import signal
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("optuna", reason="the extra tune is not installed")

import lpprop
from lpprop.cli import main
from lpprop.evaluation import StoredStart, tune
from lpprop.evaluation.datasets import dataset_from_folders
from lpprop.evaluation.tuning.bench import Bench

# Grids are of 8 pixels, so that images can be small.
pytestmark = pytest.mark.filterwarnings("ignore:the feats' grid:lpprop.InputWarning")

NAMES = [f"{street}_{frame:03d}" for street in ("elm", "oak") for frame in (7, 8, 9)]


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Six images of two streets, their labels, and stored scores and features."""
    root = tmp_path_factory.mktemp("tree")
    for folder in ("images", "labels", "logits", "feats"):
        (root / folder).mkdir()
    rng = np.random.default_rng(0)
    for name in NAMES:
        gt = np.kron(rng.integers(0, 2, (2, 3)), np.ones((16, 16))).astype(np.uint8)
        image = np.clip(gt[..., None] * 90 + rng.normal(60, 40, (32, 48, 3)), 0, 255)
        Image.fromarray(image.astype(np.uint8)).save(root / "images" / f"{name}.png")
        Image.fromarray(gt).save(root / "labels" / f"{name}.png")
        truth = np.eye(2, dtype=np.float32)[gt[4::8, 4::8]].transpose(2, 0, 1)
        for folder, noise in (("logits", 1.0), ("feats", 0.4)):
            noisy = truth + noise * rng.normal(size=truth.shape).astype(np.float32)
            np.save(root / folder / f"{name}.npy", noisy)
    (root / "classes.txt").write_text("sky\nroad\n")
    (root / "groups.txt").write_text("".join(f"{name} {name[:3]}\n" for name in NAMES))
    return root


def run(tree, out, *arguments, arrays=("logits", "feats"), classes="classes.txt"):
    given = [f"--{name}={tree / name}" for name in ("images", "labels", *arrays)]
    given += [f"--classes={tree / classes}", f"--out={out}", *arguments]
    return main(["tune", *map(str, given)])


def test_stored_arrays(tree, tmp_path, capsys):
    """The command finds what the function finds, shows it, and continues."""
    options = ["--method", "lposs", "--trials", 4, "--groups", tree / "groups.txt"]
    assert run(tree, tmp_path / "out", *options) == 0
    said = capsys.readouterr().out
    assert said.startswith((tmp_path / "out" / "tuning.md").read_text())
    assert "2 folds of 2 groups, each group in one fold: elm (3 images), oak (3)" in said
    dataset = dataset_from_folders(tree / "images", tree / "labels", ["sky", "road"])
    start = StoredStart({name: tree / name for name in ("logits", "feats")})
    groups = [name[:3] for name in NAMES]
    result = tune(
        dataset, start, tmp_path / "same", methods=["lposs"], groups=groups, trials=4,
        progress=False,
    )  # fmt: skip
    stored = json.loads((tmp_path / "out" / "tuning.json").read_text())
    assert stored["python"] == result.python
    assert f"\n{result.python}\n" in said
    assert isinstance(eval(result.python, {"lpprop": lpprop}), lpprop.Chain)
    before = len(stored["tried"])
    assert run(tree, tmp_path / "out", *options[:3], 6, *options[4:]) == 0
    assert len(json.loads((tmp_path / "out" / "tuning.json").read_text())["tried"]) >= before + 2


@pytest.mark.parametrize(
    ("given", "groups"),
    [("([a-z]+)_", "elm oak"), ("(.*)", " ".join(NAMES))],
)
def test_groups_by_a_pattern(tree, tmp_path, given, groups):
    assert run(tree, tmp_path, "--method", "pamr", "--trials", 2, "--groups", given) == 0
    stored = json.loads((tmp_path / "tuning.json").read_text())
    assert list(dict.fromkeys(stored["groups"].values())) == groups.split()


def rename(tree, root, names):
    """Copy the tree, with other names of images."""
    shutil.copytree(tree, root)
    for path in [path for path in root.rglob("*.*") if path.stem in names]:
        path.rename(path.with_stem(names[path.stem]))
    return root


def test_names_with_blanks_in_a_file_of_groups(tree, tmp_path, capsys):
    names = {name: name.replace("_", " street ") for name in NAMES}
    root = rename(tree, tmp_path / "tree", names)
    lines = [f"{name}  {index % 2}\n" for index, name in enumerate(names.values())]
    (root / "groups.txt").write_text("".join([*lines, "ash street 4 1\n", "\n"]))
    options = ["--method", "pamr", "--trials", 2, "--groups", root / "groups.txt"]
    assert run(root, tmp_path / "out", *options) == 0
    stored = json.loads((tmp_path / "out" / "tuning.json").read_text())
    assert stored["groups"]["elm street 008"] == "1"
    assert list(stored["groups"].values()) == list("010101")
    said = capsys.readouterr().err
    assert "names images that are not there: 'ash street 4'" in said
    assert "'oak street 007'" not in said


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"elm_007 \xff\n", "groups.txt ("),
        (b"elm_007 a\nelm_007 b\n", "with 'elm_007' in 'a' and in 'b', expected one group for"),
        (b"elm_007\nelm_008\n", "which has no group for 'elm_007'"),
    ],
)
def test_files_of_groups_that_cannot_be_used(tree, tmp_path, capsys, content, said):
    (tmp_path / "groups.txt").write_bytes(content)
    assert run(tree, tmp_path / "out", "--groups", tmp_path / "groups.txt") == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("lpprop: error: --groups: got ")
    assert said in last


def test_a_recipe(tree, tmp_path, monkeypatch, capsys):
    pytest.importorskip("efficientnet_lite_pytorch", reason="the extra demo is not installed")
    from lpprop.backbones import EfficientNetLite0

    torch.manual_seed(0)
    monkeypatch.setattr(EfficientNetLite0, "from_pretrained", lambda **_: EfficientNetLite0())
    (tmp_path / "words.txt").write_text("cat; lynx\nsofa\n")
    options = ["--recipe", "offline", "--side", 64, "--method", "lposs", "--trials", 2]
    words = tmp_path / "words.txt"
    assert run(tree, tmp_path, *options, arrays=(), classes=words) == 0
    assert "lpprop.presets." in capsys.readouterr().out
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["predictors"]["start"]["recipe"]["shorter_side"] == 64


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--trials", "0"], "--trials: got 0"),
        (["--minutes", "-1"], "--minutes: got -1"),
        (["--metric", "iou"], "--metric: got 'iou'"),
        (["--method", "lpos"], "--method: got 'lpos'"),
        (["--groups", "elm"], "--groups: got 'elm', which has no group for 'elm_007'"),
        (["--groups", "(elm)"], "--groups: got '(elm)', which has no group for 'oak_007'"),
        (["--groups", "("], "--groups: got '(' ("),
        (["--folds", "9"], "--folds: got 9"),
        (["--recipe", "offline"], "beside --recipe offline"),
    ],
)
def test_what_it_refuses(tree, tmp_path, capsys, arguments, said):
    assert run(tree, tmp_path / "out", *arguments) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("lpprop: error: ")
    assert said in last


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["int", "term"]
)
@pytest.mark.parametrize("when", ["search", "worth"])
def test_a_signal_ends_it_with_the_result_so_far(
    tree, tmp_path, capsys, monkeypatch, when, number, code
):
    """The search and what follows it end alike."""
    whole, options = Bench.__call__, ["--method", "lposs", "--trials", 6]

    def interrupted(self, kind, *arguments):
        if kind == when:
            os.kill(os.getpid(), number)
            time.sleep(5)  # the signal comes now
        return whole(self, kind, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Bench, "__call__", interrupted)
        assert run(tree, tmp_path, *options) == code
    assert "interrupted: the same command continues" in capsys.readouterr().err
    assert json.loads((tmp_path / "tuning.json").read_text())["stopped"] == "interrupted"
    assert run(tree, tmp_path, *options) == 0
    assert json.loads((tmp_path / "tuning.json").read_text())["stopped"] == "trials"


def test_without_optuna_one_line_says_what_to_install(tree, tmp_path, capsys, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "optuna"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert run(tree, tmp_path / "out") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("lpprop: error: Tuning needs Optuna: pip install 'lpprop[tune]'")


def test_a_missing_array_is_said_before_any_work(tree, tmp_path, capsys):
    shutil.copytree(tree, tmp_path / "tree")
    (tmp_path / "tree" / "logits" / "oak_008.npy").unlink()
    assert run(tmp_path / "tree", tmp_path / "out") == 1
    assert "oak_008" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
