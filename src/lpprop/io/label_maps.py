"""Label maps in lossless files: one label per pixel, grey or indexed, or a colour per class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from lpprop._core.errors import InputError
from lpprop.io.images import open_image
from lpprop.viz.palettes import colours

__all__ = ["check_class_count", "label_image", "load_coloured_labels", "load_labels"]


def load_labels(path: Path, argument: str, formats: tuple[str, ...] = ("PNG",)) -> NDArray[Any]:
    """Read labels (H, W) as they are stored.

    Args:
        path: the file; what is compressed as JPEG is not taken, which invents labels along edges.
        argument: what errors call it.
        formats: the lossless formats that it may have: "PNG", or "TIFF" too.

    Raises:
        InputError: a file that `lpprop.io.images.open_image` refuses, or one in colours.
    """
    with open_image(path, argument, formats) as image:
        _refuse_lossy(image, path, argument)
        if image.mode not in ("L", "P", "1") and not image.mode.startswith("I"):
            raise InputError.of(
                argument,
                got=f"{path} of mode {image.mode!r}",
                expected="one label per pixel, grey or indexed",
                fix="Where colours stand for classes, convert them to indices first.",
            )
        return np.asarray(image)


def load_coloured_labels(path: Path, argument: str) -> NDArray[np.uint8]:
    """Read the colours (H, W, 3) of a PNG in which colours stand for classes.

    Args:
        path: the file.
        argument: what errors call it.

    Raises:
        InputError: a file that `lpprop.io.images.open_image` refuses, or one without colours.
    """
    with open_image(path, argument, ("PNG",)) as image:
        if image.mode != "RGB":
            raise InputError.of(
                argument,
                got=f"{path} of mode {image.mode!r}",
                expected="a colour per class, in 8-bit RGB",
                fix="Unpack the original file again: it may have been converted.",
            )
        return np.asarray(image)


def _refuse_lossy(image: Image.Image, path: Path, argument: str) -> None:
    """Refuse a TIFF whose content is compressed as JPEG or WebP."""
    if image.info.get("compression") in ("jpeg", "tiff_jpeg", "webp"):
        raise InputError.of(
            argument,
            got=f"{path} with {image.info['compression']} compression",
            expected="lossless compression",
            fix="Labels along edges are lost: unpack the original file again.",
        )


def check_class_count(classes: int) -> None:
    """Refuse more classes than the 16 bits of a PNG can number.

    >>> check_class_count(70_000)
    Traceback (most recent call last):
    lpprop.InputError: logits: got 70000 classes, expected at most 65536, ...
    """
    if classes > 2**16:
        raise InputError.of(
            "logits",
            got=f"{classes} classes",
            expected="at most 65536, which a PNG of labels can number",
            fix="Merge some of them; if the array's axes are in another order, bring them to "
            "(C, h, w).",
        )


def label_image(labels: Tensor, classes: int, *, background: bool = False) -> Image.Image:
    """Return labels (H, W) as they are stored: with a palette up to 256 labels, else in 16 bits.

    With a background, the label after the last class is none of these.

    Raises:
        InputError: as `check_class_count` raises it.

    >>> label_image(torch.tensor([[0, 299]]), classes=300).mode
    'I;16'
    """
    check_class_count(classes + background)
    if classes + background > 256:
        return Image.fromarray(labels.cpu().numpy().astype(np.uint16))
    image = Image.fromarray(labels.to(torch.uint8).cpu().numpy())
    image.putpalette(colours("default", classes, background=background).tobytes())
    return image
