"""Labels that are stored as colours, and their conversion to class indices."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from jaxtyping import UInt8

from lpprop._core.errors import InputError
from lpprop.evaluation.datasets.dataset import LabelReader
from lpprop.evaluation.label_maps import IGNORED
from lpprop.io.label_maps import load_coloured_labels

__all__ = ["convert_colours", "read_colours"]


def read_colours(known: UInt8[np.ndarray, "C 3"]) -> LabelReader:
    """Return a reader of label files in which each colour of a palette stands for a class."""
    return partial(_read, known=known)


def _read(name: str, path: Path, *, known: UInt8[np.ndarray, "C 3"]) -> UInt8[np.ndarray, "H W"]:
    return convert_colours(load_coloured_labels(path, "labels"), known, path)


def convert_colours(
    stored: UInt8[np.ndarray, "H W 3"], known: UInt8[np.ndarray, "C 3"], path: Path
) -> UInt8[np.ndarray, "H W"]:
    """Replace each colour by its class.

    Args:
        stored: colours (H, W, 3).
        known: the colour of each class (C, 3), C < 255.
        path: the file they are from, for the message.

    Returns:
        Classes (H, W).

    Raises:
        InputError: a colour of no class.

    >>> palette = np.array([[0, 0, 0], [128, 0, 0]], dtype=np.uint8)
    >>> convert_colours(palette[[[1, 0]]], palette, Path("a.png"))
    array([[1, 0]], dtype=uint8)
    """
    codes = _pack(stored)
    classes = np.full(codes.shape, IGNORED, dtype=np.uint8)
    for label, code in enumerate(_pack(known).tolist()):
        classes[codes == code] = label
    wrong = classes == IGNORED
    if wrong.any():
        row, column = np.argwhere(wrong)[0].tolist()
        found = np.unique(codes[wrong])[:3].tolist()
        shown = ", ".join(f"({code >> 16}, {code >> 8 & 255}, {code & 255})" for code in found)
        raise InputError.of(
            "labels",
            got=f"{path} with the colours {shown} at {int(wrong.sum())} pixels, the first at "
            f"({row}, {column})",
            expected=f"the {len(known)} colours of the data set's classes",
            fix="It may be of another data set, or have been resized or compressed.",
        )
    return classes


def _pack(colours: UInt8[np.ndarray, "*S 3"]) -> npt.NDArray[np.int32]:
    """Write red, green and blue into one number."""
    red, green, blue = np.moveaxis(colours.astype(np.int32), -1, 0)
    packed: npt.NDArray[np.int32] = red << 16 | green << 8 | blue
    return packed
