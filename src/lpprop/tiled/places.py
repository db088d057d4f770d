"""Whether two rasters lie on the same ground, by their georeferences."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from lpprop.tiled.rasters import Raster

__all__ = ["find_shift"]


def find_shift(image: Raster, other: Raster) -> str | None:
    """Say how another raster lies elsewhere than the image; None where nothing tells that it does.

    Both cover the same ground if their corners are less than a cell of the coarser one apart, which
    is the rest of a last patch. Ground control points, and files without a georeference, tell
    nothing.
    """
    first, second = image.place.georeference, other.place.georeference
    if not (_is_placed(first) and _is_placed(second)):
        return None
    if first["crs"] and second["crs"] and first["crs"] != second["crs"]:
        return f"are in {_short(second['crs'])}, and the image is in {_short(first['crs'])}"
    cell = max(_cell(first["transform"]), _cell(second["transform"]))
    apart = max(
        math.dist(a, b)
        for a, b in zip(
            _corners(first["transform"], image.shape),
            _corners(second["transform"], other.shape),
            strict=True,
        )
    )
    if apart <= cell:
        return None
    return (
        f"have a corner that is {apart:.6g} units from that of the image, {apart / cell:.6g} cells"
    )


def _is_placed(georeference: dict[str, Any]) -> bool:
    transform = georeference.get("transform")
    return transform is not None and not transform.is_identity


def _corners(transform: Any, shape: tuple[int, int, int]) -> Iterator[tuple[float, float]]:
    _, height, width = shape
    for row, column in ((0, 0), (0, width), (height, 0), (height, width)):
        yield (
            transform.a * column + transform.b * row + transform.c,
            transform.d * column + transform.e * row + transform.f,
        )


def _cell(transform: Any) -> float:
    """Return the diagonal of a cell."""
    return math.hypot(transform.a + transform.b, transform.d + transform.e)


def _short(crs: Any) -> str:
    return str(crs)[:60]
