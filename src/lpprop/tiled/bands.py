"""The bands of a raster: which are read, where they lie, which of their pixels are gaps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lpprop._core.errors import InputError

__all__ = ["Place", "are_all", "choose_bands"]


@dataclass(frozen=True)
class Place:
    """Where a raster lies, and what its bands are; empty for an array.

    Attributes:
        georeference: crs, transform and ground control points, as rasterio takes them.
        bands: the description of each band, such as a class's name; empty where there are none.
    """

    georeference: dict[str, Any] = field(default_factory=dict)
    bands: tuple[str, ...] = ()


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
