"""The bands of a raster: which are read, where they lie, which of their pixels are gaps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lpprop._core.errors import InputError
from lpprop._core.options import check_integer, is_listed

__all__ = ["Place", "are_all", "check_bands", "check_numbers", "choose_bands"]


@dataclass(frozen=True)
class Place:
    """Where a raster lies, and what its bands are; empty for an array.

    Attributes:
        georeference: crs, transform and ground control points, as rasterio takes them.
        bands: the description of each band, such as a class's name; empty where there are none.
    """

    georeference: dict[str, Any] = field(default_factory=dict)
    bands: tuple[str, ...] = ()


def check_bands(bands: object) -> tuple[int, int, int]:
    """Require the numbers of three bands, counted from 1.

    >>> check_bands((1, 2))
    Traceback (most recent call last):
    lpprop.InputError: bands: got (1, 2), expected three, for red, green and blue. Name the band
    that stands for each.
    """
    listed = bands.tolist() if isinstance(bands, np.ndarray) else bands
    if not is_listed(listed) or len(listed) != 3:
        raise InputError.of(
            "bands",
            got=repr(bands),
            expected="three, for red, green and blue",
            fix="Name the band that stands for each.",
        )
    red, green, blue = (check_integer("bands", band) for band in listed)
    return red, green, blue


def check_numbers(dtype: np.dtype[Any], name: str) -> np.dtype[Any]:
    """Require a type of real numbers.

    >>> check_numbers(np.dtype("complex64"), "logits")
    Traceback (most recent call last):
    lpprop.InputError: logits: got complex64, expected whole numbers or floats. Pass real ones.
    """
    if dtype.kind not in "fiub":
        raise InputError.of(
            name, got=str(dtype), expected="whole numbers or floats", fix="Pass real ones."
        )
    return dtype


def choose_bands(bands: Sequence[int] | None, count: int, name: str) -> list[int]:
    """Return the bands, counted from 0."""
    chosen = range(1, count + 1) if bands is None else bands
    if not chosen or any(not 1 <= band <= count for band in chosen):
        raise InputError.of(
            name,
            got=f"{count} band{'s' * (count > 1)}, and bands={tuple(chosen)}",
            expected=f"bands from 1 to {count}",
            fix="Name bands that are there.",
        )
    return [int(band) - 1 for band in chosen]


def are_all(numbers: NDArray[Any], value: float) -> NDArray[np.bool_]:
    """Tell for which pixels (y, x) all bands have this value, which may be NaN."""
    equal = np.isnan(numbers) if np.isnan(value) else numbers == value
    return np.asarray(np.all(equal, axis=0))
