"""Inputs of refiners from files: which formats each may have, and what reads it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from lpprop.io.arrays import ARRAY_SUFFIXES, load_array
from lpprop.io.regions import REGION_SUFFIXES, load_regions
from lpprop.io.saliency import SALIENCY_SUFFIXES, load_saliency

__all__ = ["Reader", "reader_of"]


class Reader(NamedTuple):
    """What reads the files of an input.

    Attributes:
        suffixes: what their names may end with.
        load: reads one, given its path and what errors call it.
    """

    suffixes: tuple[str, ...]
    load: Callable[[Path, str], Tensor]


_READERS = {
    "regions": Reader(REGION_SUFFIXES, load_regions),
    "saliency": Reader(SALIENCY_SUFFIXES, load_saliency),
}


def reader_of(name: str) -> Reader:
    """Return the reader of an input, by its name in `lpprop.refine`.

    >>> ".png" in reader_of("regions").suffixes, ".png" in reader_of("feats").suffixes
    (True, False)
    """
    return _READERS.get(name, Reader(ARRAY_SUFFIXES, load_array))
