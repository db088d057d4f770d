"""The script that reproduces the papers' tables: its counts by hand, and a run on a tiny tree."""

import json

import numpy as np
import pytest
from benchmarks.papers import confusion, main, mean_iou
from PIL import Image

from lpprop import InputError


def test_counts_by_hand():
    labels = np.array([[0, 0, 1], [1, 2, 255]])
    predicted = np.array([[0, 1, 1], [1, 0, 2]])
    counts = confusion(predicted, labels, 4)
    assert counts.tolist() == [[1, 1, 0, 0], [0, 2, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    mean, each = mean_iou(counts)
    np.testing.assert_allclose(each, [1 / 3, 2 / 3, 0, np.nan])
    assert mean == pytest.approx(1 / 3)


@pytest.fixture
def tree(tmp_path):
    pytest.importorskip("efficientnet_lite_pytorch", reason="the extra demo is not installed")
    rng = np.random.default_rng(0)
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    for stem in "abc":
        image = rng.integers(0, 256, (64, 80, 3), dtype=np.uint8)
        Image.fromarray(image).save(tmp_path / "images" / f"{stem}.png")
        labels = rng.choice(np.array([0, 1, 255], np.uint8), (64, 80))
        Image.fromarray(labels).save(tmp_path / "labels" / f"{stem}.png")
    (tmp_path / "classes.txt").write_text("cat; lynx\nsofa\n")
    (tmp_path / "split.txt").write_text("a\nc\n")
    return tmp_path


def arguments(tree, *more):
    folders = ["--images", tree / "images", "--labels", tree / "labels"]
    return [
        *map(str, folders),
        "--classes",
        str(tree / "classes.txt"),
        "--recipe",
        "offline",
        *more,
    ]


def test_a_run(tree, capsys):
    out = tree / "result.json"
    options = ["--method", "lposs", "--split", str(tree / "split.txt"), "--out", str(out)]
    main(arguments(tree, *options, "--device", "cpu"))
    result = json.loads(out.read_text())
    assert result["images"] == 2
    assert result["miou"] == pytest.approx(np.mean(list(result["classes"].values())))
    assert 0 < result["miou"] < 1
    assert "published: {'average of 8': 41.3}" in capsys.readouterr().out


def test_mistakes(tree):
    (tree / "labels" / "b.png").unlink()
    with pytest.raises(InputError, match="1 of 3 files missing"):
        main(arguments(tree))
    Image.new("L", (80, 64), 7).save(tree / "labels" / "b.png")
    with pytest.raises(InputError, match=r"indices to 7.*below 2 classes"):
        main(arguments(tree, "--method", "lposs", "--device", "cpu"))
