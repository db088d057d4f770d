"""The script that reproduces the papers' tables: its figures are theirs, its runs are measured."""

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from benchmarks.papers import PUBLISHED, main, published, table

from dataset_trees import TREES
from lpprop import InputError, presets
from lpprop.backbones import EfficientNetLite0
from lpprop.evaluation import Report, SegmentationMetrics
from lpprop.evaluation.datasets import DATASETS, load_dataset
from lpprop.evaluation.results import Row
from lpprop.models import recipes
from lpprop.models.recipes import RECIPES
from lpprop.models.segmenter import Segmenter
from test_cli_eval import Colours, expected

PAPERS = Path(__file__).parents[2] / "shared" / "papers"

# How the papers' tables begin the rows that are quoted; columns as the tables have them.
LPOSS = ["voc21", "coco-object", "context60", "context59", "coco-stuff", "voc20", "ade20k"]
LPOSS = [*LPOSS, "cityscapes"]
DSLO = ["voc21", "context60", "coco-object", "voc20", "context59", "coco-stuff", "cityscapes"]
DSLO = [*DSLO, "ade20k"]
ROWS = {
    ("clip-dino", "lposs"): ("000", "LPOSS DINO(ViT-B/16)", LPOSS),
    ("clip-dino", "lposs+"): ("000", "LPOSS+ DINO(ViT-B/16)", LPOSS),
    ("clip-dino8", "lposs"): ("000", "LPOSS ( k = 800 ) DINO(ViT-B/8)", LPOSS),
    ("clip-dino8", "lposs+"): ("000", "LPOSS+(k=800) DINO(ViT-B/8)", LPOSS),
    ("clip-dinov2", "lposs"): ("000", r"LPOSS ( \gamma = 7.0 ) DINOv2(ViT-B/14)", LPOSS),
    ("clip-dinov2", "lposs+"): ("000", r"LPOSS+ ( \gamma = 7.0 ) DINOv2(ViT-B/14)", LPOSS),
    ("clip-dino-448", "bilinear"): ("000", "MaskCLIP * [53]", LPOSS),
    ("clip-dino-448", "lposs"): ("000", "LPOSS (MaskCLIP)", LPOSS),
    ("clip-dino-448", "lposs+"): ("000", "LPOSS+ (MaskCLIP)", LPOSS),
    ("clip-sd2", "optimal_path"): ("004", "- solve optimal path CLIP ViT-B/16", DSLO),
    ("clip-sd2", "max_velocity"): ("004", "- solve maximum velocity CLIP ViT-B/16", DSLO),
    ("clip-sd2", "fusion"): (
        "004",
        "(VII) (V) + (VI)",
        ["voc21", "coco-stuff", "cityscapes", "ade20k"],
    ),
    ("clip-l14-sd2", "optimal_path"): ("004", "- solve optimal path CLIP ViT-L/14", DSLO),
    ("clip-l14-sd2", "max_velocity"): ("004", "- solve maximum velocity CLIP ViT-L/14", DSLO),
}


def plain(line):
    """A line without the marks of best and default figures."""
    return " ".join(re.sub(r"</?(u|b|sup)>|\$", "", line).split())


@pytest.mark.parametrize("row", PUBLISHED, ids=" ".join)
def test_figures_are_the_papers(row):
    number, begin, columns = ROWS[row]
    found = list(PAPERS.glob(f"{number}_*.txt"))
    if not found:
        pytest.skip("the papers are not here")
    lines = [plain(line) for line in found[0].read_text(encoding="utf-8").splitlines()]
    (line,) = [line for line in lines if re.match(re.escape(begin) + r"( \d+\.\d)+$", line)]
    *figures, average = map(float, line.removeprefix(begin).split())
    quoted = PUBLISHED[row]
    assert quoted.miou == dict(zip(columns, figures, strict=True))
    assert quoted.average == average
    assert {name: published(*row, name).miou for name in columns} == quoted.miou


@pytest.mark.parametrize("row", PUBLISHED, ids=" ".join)
def test_figures_agree_with_their_average(row):
    """A slip of the pen in one of eight figures would move the mean by more than its rounding."""
    quoted = PUBLISHED[row]
    assert np.mean(list(quoted.miou.values())) == pytest.approx(quoted.average, abs=0.1)


def test_rows_are_of_recipes_methods_and_data_sets():
    for (recipe, method), row in PUBLISHED.items():
        RECIPES[recipe].with_method(method)
        assert method in presets.METHODS
        assert set(row.miou) <= set(DATASETS)
    assert published("clip-dino", "lposs", "camvid") is None
    assert published("clip-dino", "max_velocity", "voc21") is None
    assert published("clip-sd2", "fusion", "voc20") is None


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A tiny VOC, and a recipe of the paper's name that scores colours."""
    monkeypatch.setattr(EfficientNetLite0, "from_pretrained", lambda **_: Colours())
    tiny = recipes.Recipe(recipes.Model("EfficientNetLite0"), shorter_side=16)
    monkeypatch.setitem(RECIPES, "clip-dino", tiny)
    TREES["voc21"](tmp_path / "data")
    return tmp_path


def run(tree, *more):
    main(["--dataset", "voc21", "--root", str(tree / "data"), "--device", "cpu", *map(str, more)])


def test_a_run_is_the_evaluations(tree, capsys):
    methods = ["bilinear", "lposs", "lposs+"]
    run(tree, "--method", *methods, "--out", tree / "out")
    said = capsys.readouterr().out
    dataset = load_dataset("voc21", tree / "data")
    report = Report.load(tree / "out")
    for method, text in zip(methods, ("", "61.1  LPOSS", "62.4  LPOSS"), strict=True):
        segmenter = Segmenter(Colours(), method=method, shorter_side=16)
        counts = expected(dataset, segmenter)
        assert report[method].metrics.to_dict() == counts
        miou = 100 * SegmentationMetrics.from_dict(counts).miou
        (line,) = [line for line in said.splitlines() if line.startswith(f"{method} ")]
        assert re.fullmatch(rf"{re.escape(method)} +{miou:.1f} *{text}.*", line)
        assert bool(text) or line.endswith(f" {miou:.1f}")
    assert "measured on 2 of the 1449 images: not comparable" in said


def test_the_table_is_of_miou():
    """On a tree of single pixels mIoU and Boundary IoU are the same."""
    rows = [Row(name, 0.5, 0.25, 0.75, 0.8, 1.0, 3) for name in ("lposs", "kl")]
    lines = table(SimpleNamespace(rows=lambda: rows), "clip-dino", "cityscapes").splitlines()
    assert lines[1].split()[:3] == ["lposs", "50.0", "37.3"]
    assert lines[2].split() == ["kl", "50.0"]


def test_the_recipes_own_method_and_a_limit(tree, capsys):
    run(tree, "--limit", 1)
    said = capsys.readouterr().out
    assert "lposs+ " in said
    assert "measured on 1 of the 1449" in said
    assert sorted(path.name for path in tree.iterdir()) == ["data"]


def test_mistakes_are_found_before_models_are_loaded(tree, monkeypatch):
    run(tree, "--method", "bilinear", "--limit", 1, "--out", tree / "out")
    monkeypatch.setattr(
        EfficientNetLite0, "from_pretrained", lambda **_: pytest.fail("it was loaded")
    )
    with pytest.raises(InputError, match="Did you mean 'lposs'"):
        run(tree, "--method", "lpos")
    with pytest.raises(InputError, match="images/validation"):
        main(["--dataset", "ade20k", "--root", str(tree / "data"), "--device", "cpu"])
    with pytest.raises(InputError, match=r'backbone.kind = "EfficientNetLite0"'):
        run(tree, "--recipe", "clip-dinov2", "--method", "bilinear", "--out", tree / "out")
    with pytest.raises(SystemExit):
        run(tree, "--recipe", "clip")
