"""Saliency maps from files: arrays, or PNG in which white is foreground."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lpprop._core.errors import InputError
from lpprop.io.arrays import ARRAY_SUFFIXES, load_array
from lpprop.io.label_maps import load_labels

__all__ = ["SALIENCY_SUFFIXES", "load_saliency"]

#: What the names of files end with that hold saliency.
SALIENCY_SUFFIXES = (*ARRAY_SUFFIXES, ".png")


def load_saliency(path: Path, argument: str = "saliency") -> Tensor:
    """Read the saliency of one image.

    Args:
        path: an array, as `load_array` reads it; or a PNG, grey of 8 or 16 bits, whose largest
            value, 255 or 65535, is 1, or a mask of 1 bit.
        argument: what errors call it, and the array's name among several.

    Returns:
        A tensor on the CPU; of a PNG (H, W), float32 in [0, 1] or boolean.

    Raises:
        InputError: a file that is missing, damaged or of another format, or a PNG of 0 and 1 in
            more than one bit.

    >>> import tempfile
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Image.fromarray(np.array([[0, 51, 255]], np.uint8)).save(Path(folder, "a.png"))
    ...     load_saliency(Path(folder, "a.png"))
    tensor([[0.0000, 0.2000, 1.0000]])
    """
    if path.suffix.lower() != ".png":
        return load_array(path, argument)
    stored = load_labels(path, argument)
    if stored.dtype == np.bool_:
        return torch.from_numpy(stored.copy())
    if stored.max() == 1:
        raise InputError.of(
            argument,
            got=f"{path}, whose values are 0 and 1",
            expected="255 for what is foreground, or a PNG of 1 bit",
            fix="Multiply the mask by 255.",
        )
    largest = 255 if stored.dtype == np.uint8 else 65535
    return torch.from_numpy(stored.astype(np.float32) / largest)
