"""Reproduce a row of the papers' tables, with your weights and your data.

    python -m benchmarks.papers --dataset voc21 --root VOC2012 --recipe clip-dino \\
        --method lposs lposs+ --out runs/voc21

It prints the measured mIoU beside the published one, if the papers have that recipe, method and
data set. The folders are those of the official downloads; the same command continues a run that was
interrupted. For other images, classes or options there is lpprop eval.
"""

import argparse
from pathlib import Path
from typing import NamedTuple

import torch

from lpprop.evaluation import Report, evaluate
from lpprop.evaluation.datasets import DATASETS, load_dataset
from lpprop.evaluation.recipe_predictors import check_resumable, method_recipes, recipe_predictors
from lpprop.models.recipes import RECIPES


class Figure(NamedTuple):
    """A published mIoU in percent, and the table that it stands in."""

    miou: float
    source: str


class Row(NamedTuple):
    """A row of a paper's table: mIoU by data set, and the average that the paper prints."""

    source: str
    average: float
    miou: dict[str, float]


def _rows(source: str, columns: str, rows: str) -> dict[tuple[str, str], Row]:
    """Read lines of a recipe, a method, the average, and a figure per column."""
    found = {}
    for recipe, method, average, *figures in map(str.split, rows.strip().splitlines()):
        miou = dict(zip(columns.split(), map(float, figures), strict=True))
        found[recipe, method] = Row(source, float(average), miou)
    return found


# The tables' columns in their order.
_LPOSS = "voc21 coco-object context60 context59 coco-stuff voc20 ade20k cityscapes"
_DSLO = "voc21 context60 coco-object voc20 context59 coco-stuff cityscapes ade20k"

#: Rows of the papers' tables by recipe and method, with the method's own settings for the recipe:
#: k = 800 for DINO ViT-B/8 and gamma = 7 for DINOv2, the rows that Table 5 names by them.
PUBLISHED: dict[tuple[str, str], Row] = {
    **_rows("LPOSS, CVPR 2025, supplement, Table 5", _LPOSS, """
    clip-dino     lposs        41.3  61.1 33.4 34.6 37.8 25.9 78.8 21.8 37.3
    clip-dino     lposs+       42.1  62.4 34.3 35.4 38.6 26.5 79.3 22.3 37.9
    clip-dino8    lposs        42.1  62.2 34.1 35.2 38.5 26.4 78.7 22.5 39.4
    clip-dino8    lposs+       42.6  63.0 34.8 35.8 39.1 26.8 79.0 22.8 39.3
    clip-dinov2   lposs        41.0  59.7 33.3 34.3 37.5 25.6 80.0 21.9 36.0
    clip-dinov2   lposs+       41.8  60.8 34.3 35.1 38.3 26.2 80.4 22.4 36.7
    """),
    # All in windows of 448 every 224. Row MaskCLIP is what LPOSS starts from: no refinement.
    **_rows("LPOSS, CVPR 2025, supplement, Table 6", _LPOSS, """
    clip-dino-448 bilinear     27.0  32.9 16.3 22.9 25.5 17.5 61.8 14.2 25.0
    clip-dino-448 lposs        40.4  61.1 32.5 32.9 36.3 25.2 82.8 20.4 31.7
    clip-dino-448 lposs+       40.8  61.8 33.2 33.4 36.9 25.6 83.1 20.7 31.9
    """),
    **_rows("arXiv:2604.07723, Table 1", _DSLO, """
    clip-sd2      optimal_path 46.2  66.9 37.6 38.9 88.6 44.4 28.6 41.7 22.8
    clip-sd2      max_velocity 46.9  67.8 38.3 39.6 89.0 44.9 28.9 43.3 23.0
    clip-l14-sd2  optimal_path 47.2  68.2 37.9 42.3 89.7 44.8 28.9 42.3 23.4
    clip-l14-sd2  max_velocity 47.8  68.9 38.7 42.9 90.1 45.3 29.2 43.9 23.4
    """),
    # Row VII, the fusion of rows V and VI, which are Table 1's for ViT-B/16. Rows I to IV have no
    # counterpart here: they take logits of plain CLIP, the recipe those of key-key attention.
    **_rows("arXiv:2604.07723, Table 2", "voc21 coco-stuff cityscapes ade20k", """
    clip-sd2      fusion       38.4  64.9 26.8 41.4 20.5
    """),
}  # fmt: skip


def published(recipe: str, method: str, dataset: str) -> Figure | None:
    """Return the papers' figure, or None if they have none."""
    row = PUBLISHED.get((recipe, method))
    if row is None or dataset not in row.miou:
        return None
    return Figure(row.miou[dataset], row.source)


def table(report: Report, recipe: str, dataset: str) -> str:
    """Return a line per method: mIoU in percent as measured, as published, and in which table."""
    lines = [f"{'method':<16}{'measured':>9}{'published':>11}  where"]
    for row in report.rows():
        figure = published(recipe, row.predictor, dataset)
        there = f"{figure.miou:>11.1f}  {figure.source}" if figure else ""
        lines.append(f"{row.predictor:<16}{100 * row.miou:>9.1f}{there}")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.papers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--dataset", choices=list(DATASETS), required=True)
    parser.add_argument("--root", type=Path, required=True, help="the data set's folder")
    parser.add_argument("--recipe", choices=list(RECIPES), default="clip-dino")
    parser.add_argument("--method", nargs="+", help="in place of the recipe's")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--limit", type=int, help="how many images, from the first")
    parser.add_argument("--out", type=Path, help="folder of the run, to continue it later")
    args = parser.parse_args(arguments)

    recipe = RECIPES[args.recipe]
    recipes = method_recipes(recipe, args.method or [recipe.method])
    dataset = load_dataset(args.dataset, args.root)
    if args.out:
        check_resumable(args.out, dataset, recipes)
    print(recipe)
    predictors = recipe_predictors(recipes, dataset.prompts, device=args.device)
    report = evaluate(dataset, predictors, args.out, limit=args.limit)
    print(table(report, args.recipe, args.dataset))
    official = DATASETS[args.dataset].size
    if report.images != official:
        print(f"measured on {report.images} of the {official} images: not comparable")


if __name__ == "__main__":
    main()
