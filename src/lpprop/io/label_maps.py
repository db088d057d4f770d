"""Label maps in PNG files: one label per pixel, grey or indexed."""

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

__all__ = ["check_class_count", "label_image", "load_labels"]


def load_labels(path: Path, argument: str) -> NDArray[Any]:
    """Read the labels (H, W) of a PNG as they are stored.

    Args:
        path: the file; a lossless format alone is taken, since JPEG invents labels along edges.
        argument: what errors call it.

    Raises:
        InputError: a file that `lpprop.io.images.open_image` refuses, or one in colours.
    """
    with open_image(path, argument, ("PNG",)) as image:
        if image.mode not in ("L", "P", "1") and not image.mode.startswith("I"):
            raise InputError.of(
                argument,
                got=f"{path} of mode {image.mode!r}",
                expected="one label per pixel, grey or indexed",
                fix="Where colours stand for classes, convert them to indices first.",
            )
        return np.asarray(image)


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
