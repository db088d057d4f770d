"""Stored labels, and their conversion to class indices."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from jaxtyping import Int, UInt8

from lpprop._core.errors import InputError
from lpprop.evaluation.label_maps import IGNORED
from lpprop.io.label_maps import load_labels

__all__ = ["convert", "kept", "read_map", "reduced_zero", "table"]

_REFUSED = -1


def table(
    classes: Mapping[int, int], *, ignored: Iterable[int] = (IGNORED,), size: int = 256
) -> tuple[int, ...]:
    """Say for each stored label which class it is; what is neither class nor ignored is refused.

    >>> table({1: 0, 2: 1}, ignored=[0])[:4]
    (255, 0, 1, -1)
    """
    known = [_REFUSED] * size
    for stored, label in classes.items():
        known[stored] = label
    for stored in ignored:
        known[stored] = IGNORED
    return tuple(known)


def kept(classes: int, *, ignored: Iterable[int] = (IGNORED,)) -> tuple[int, ...]:
    """Labels that are class indices already."""
    return table({label: label for label in range(classes)}, ignored=ignored)


def reduced_zero(classes: int) -> tuple[int, ...]:
    """Labels whose 0 is no class: it is ignored, and the others count from 1 (reduce zero label).

    >>> reduced_zero(2)[:4]
    (255, 0, 1, -1)
    """
    return table({label + 1: label for label in range(classes)}, ignored=(0, IGNORED))


def convert(
    stored: Int[np.ndarray, "H W"], known: Sequence[int], path: Path
) -> UInt8[np.ndarray, "H W"]:
    """Replace each stored label by its class.

    Args:
        stored: labels (H, W), integers.
        known: as `table` makes it.
        path: the file they are from, for the message.

    Returns:
        Classes (H, W), 255 where ignored.

    Raises:
        InputError: a label that the table refuses, or has no entry for.

    >>> convert(np.array([[0, 2], [1, 255]]), reduced_zero(2), Path("a.png"))
    array([[255,   1],
           [  0, 255]], dtype=uint8)
    """
    beyond = len(known)
    lookup = np.array([*known, _REFUSED], dtype=np.int16)
    # What is below or above the table reaches the last entry, which refuses it.
    classes: npt.NDArray[np.int16] = lookup[np.clip(stored, -1, beyond)]
    wrong = classes == _REFUSED
    if wrong.any():
        values = ", ".join(map(str, np.unique(stored[wrong])[:5].tolist()))
        row, column = np.argwhere(wrong)[0].tolist()
        raise InputError.of(
            "labels",
            got=f"{path} with {values} at {int(wrong.sum())} pixels, the first at "
            f"({row}, {column})",
            expected=f"labels among {_ranges(known)}",
            fix=_advise(np.unique(stored[wrong]).tolist(), known),
        )
    return classes.astype(np.uint8)


def _advise(wrong: Sequence[int], known: Sequence[int]) -> str:
    last = max(label for label in known if label != IGNORED)
    if wrong == [last + 1] and known[: last + 1] == tuple(range(last + 1)):
        return "Classes count from 0: where the labels count from 1, subtract 1."
    return "It may be of another data set, or converted for another program."


def _ranges(known: Sequence[int]) -> str:
    """Write the labels that a table knows as ranges."""
    runs: list[list[int]] = []
    for stored, label in enumerate(known):
        if label == _REFUSED:
            continue
        if runs and runs[-1][1] == stored - 1:
            runs[-1][1] = stored
        else:
            runs.append([stored, stored])
    return ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in runs)


def read_map(
    name: str, path: Path, *, known: Sequence[int], formats: tuple[str, ...] = ("PNG",)
) -> UInt8[np.ndarray, "H W"]:
    """Read a label map, grey or indexed, as classes (H, W); `known` is as `table` makes it."""
    return convert(load_labels(path, "labels", formats).astype(np.int64), known, path)
