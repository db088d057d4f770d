"""Reproduce a row of the papers' tables, with your weights and your data.

    python -m benchmarks.papers --images VOC/JPEGImages --labels VOC/SegmentationClass \\
        --split VOC/val.txt --classes voc20.txt --recipe clip-dino --method lposs+

Labels are PNG files of class indices, of the images' stems; 255 is ignored. The file of classes has
one line a class, in the order of the indices, as lpprop.segmenter takes them: synonyms set apart by
";", with or without "label =". The mIoU is that of all pixels pooled, as in MMSegmentation.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from lpprop.backbones import BACKGROUND_PROMPTS
from lpprop.errors import InputError
from lpprop.files import find_images, load_image
from lpprop.recipes import RECIPES, Recipe
from lpprop.segmenter import Segmenter

IGNORED = 255

#: mIoU of the papers by method and data set: LPOSS, CVPR 2025 (averages over eight data sets);
#: arXiv:2604.07723 with CLIP ViT-B/16, Table 2.
PUBLISHED = {
    "lposs": {"average of 8": 41.3},
    "lposs+": {"average of 8": 42.1},
    "optimal_path": {"VOC21": 66.9, "COCO-Stuff": 28.6, "Cityscapes": 41.7, "ADE20K": 22.8},
    "max_velocity": {"VOC21": 67.8, "COCO-Stuff": 28.9, "Cityscapes": 43.3, "ADE20K": 23.0},
}


def load_labels(path: Path, shift: bool) -> np.ndarray:
    """Read class indices; with shift, 0 is ignored and the classes start at 1, as in ADE20K."""
    with Image.open(path) as picture:
        if picture.mode not in ("P", "L", "I", "I;16"):
            raise InputError.of(
                "--labels",
                got=f"{path}, of mode {picture.mode}",
                expected="a picture of class indices",
                fix="Convert the colours to indices first.",
            )
        labels = np.asarray(picture).astype(np.int64)
    return np.where(labels % IGNORED == 0, IGNORED, labels - 1) if shift else labels


def confusion(predicted: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Count pixels by label (rows) and prediction (columns)."""
    counted = labels != IGNORED
    pairs = labels[counted] * classes + predicted[counted]
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def mean_iou(counts: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the mean over the classes that occur, and each class's IoU (NaN where none does)."""
    hits = np.diag(counts)
    union = counts.sum(0) + counts.sum(1) - hits
    each = np.where(union > 0, hits / np.maximum(union, 1), np.nan)
    return float(np.nanmean(each)), each


def evaluate(
    segmenter: Segmenter, pairs: list[tuple[Path, Path]], classes: list[str], shift: bool
) -> np.ndarray:
    counts = np.zeros((len(classes), len(classes)), np.int64)
    for image, labels in tqdm(pairs, unit="image"):
        truth = load_labels(labels, shift)
        picture = load_image(image)
        if truth.shape != (picture.height, picture.width) or (
            truth[truth != IGNORED].max(initial=0) >= len(classes)
        ):
            raise InputError.of(
                "--labels",
                got=f"{labels}, {truth.shape}, indices to {truth[truth != IGNORED].max(initial=0)}",
                expected=f"{(picture.height, picture.width)}, below {len(classes)} classes",
                fix="Check --classes, and whether --shift is needed.",
            )
        predicted = segmenter(picture, classes).labels[0].cpu().numpy()
        counts += confusion(predicted, truth, len(classes))
    return counts


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.papers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--labels", type=Path, required=True)
    parser.add_argument("--split", type=Path, help="a file of stems, a line each; all if left out")
    parser.add_argument("--classes", type=Path, required=True)
    parser.add_argument("--shift", action="store_true", help="index 0 is ignored, class 1 is first")
    parser.add_argument(
        "--background", choices=list(BACKGROUND_PROMPTS), help="prompts of a first class background"
    )
    parser.add_argument("--recipe", choices=list(RECIPES), default="clip-dino")
    parser.add_argument("--method", help="in place of the recipe's")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, help="a JSON file of the result")
    args = parser.parse_args(arguments)

    classes = [line for line in args.classes.read_text().splitlines() if line.strip()]
    if args.background:
        classes.insert(0, f"background = {'; '.join(BACKGROUND_PROMPTS[args.background])}")
    stems = set(args.split.read_text().split()) if args.split else None
    images = [x for x in find_images(args.images) if stems is None or x.stem in stems]
    pairs = [(image, args.labels / f"{image.stem}.png") for image in images]
    missing = [labels for _, labels in pairs if not labels.is_file()]
    if missing or not pairs:
        raise InputError.of(
            "--labels",
            got=f"{len(missing)} of {len(pairs)} files missing, first {missing[:1]}",
            expected="a PNG for each image",
            fix="Check the folders and --split.",
        )
    recipe = RECIPES[args.recipe]
    if args.method and args.method != recipe.method:
        recipe = Recipe(
            recipe.backbone, recipe.affinity, args.method, {}, recipe.shorter_side, recipe.windows
        )
    print(recipe)
    segmenter = recipe.build(device=args.device)
    names = segmenter.backbone.labels(classes)
    mean, each = mean_iou(evaluate(segmenter, pairs, classes, args.shift))
    for name, iou in zip(names, each, strict=True):
        print(f"{name:<24}{100 * iou:>7.1f}")
    print(f"{'mIoU':<24}{100 * mean:>7.1f}   published: {PUBLISHED.get(recipe.method, {})}")
    if args.out:
        result = {"recipe": str(recipe), "images": len(pairs), "miou": mean}
        result["classes"] = dict(zip(names, np.nan_to_num(each, nan=-1).tolist(), strict=True))
        args.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
