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
from lpprop.io.images import open_image, save_image
from lpprop.viz.palettes import colours

__all__ = ["load_labels", "save_labels"]


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


def save_labels(path: Path, labels: Tensor, classes: int) -> None:
    """Write labels (H, W) as a PNG of class indices: with a palette up to 256 classes, else 16-bit.

    Raises:
        InputError: more classes than 16 bits can number.
    """
    if classes > 2**16:
        raise InputError.of(
            "logits", got=f"{classes} classes", expected="at most 65536", fix="Merge some of them."
        )
    if classes <= 256:
        image = Image.fromarray(labels.to(torch.uint8).cpu().numpy())
        image.putpalette(colours("default", classes).tobytes())
    else:
        image = Image.fromarray(labels.cpu().numpy().astype(np.uint16))
    save_image(path, image)
