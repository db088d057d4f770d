"""The region vote of a raster: sums over regions first, over all tiles, and then their spread."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from lpprop.refiners import RegionVote

__all__ = ["Votes", "list_regions"]

_Scores = NDArray[np.float32]
_Numbers = NDArray[np.integer]


def list_regions(numbers: Iterable[_Numbers]) -> NDArray[np.int64]:
    """List the regions of all tiles in order; negative numbers are none.

    >>> list_regions([np.array([[7, -1]]), np.array([[2, 7]])])
    array([2, 7])
    """
    known = np.zeros(0, np.int64)
    for part in numbers:
        found = np.unique(part).astype(np.int64)
        known = np.union1d(known, found[found >= 0])
    return known


class Votes:
    """What `lpprop.region_vote` gathers over regions, and gives back to their pixels.

    A region may lie in many tiles: `add` takes one tile after the other, and then `spread` gives
    the scores of each. Sums are in float64, so that the order of tiles is lost in the cast.

    Args:
        step: the vote's options.
        known: the regions, as `list_regions` gives them.
        classes: number of classes.
    """

    def __init__(self, step: RegionVote, known: NDArray[np.int64], classes: int) -> None:
        self._options, self._known, self._classes = step.config, known, classes
        self._sums = np.zeros((classes, len(known)))
        self._counts = np.zeros((classes, len(known)))

    def add(self, scores: _Scores, regions: _Numbers, gaps: NDArray[np.bool_]) -> None:
        """Add the scores (C, y, x) of a tile; pixels without data have no vote."""
        place = self._find(regions, gaps)
        inside = place >= 0
        where, chosen = place[inside], scores[:, inside]
        best = chosen.argmax(0)
        pairs = np.bincount(where * self._classes + best, minlength=self._counts.size)
        self._counts += pairs.reshape(-1, self._classes).T
        for total, row in zip(self._sums, self._values(chosen), strict=True):
            total += np.bincount(where, row, minlength=len(total))

    def spread(self, scores: _Scores, regions: _Numbers, gaps: NDArray[np.bool_]) -> _Scores:
        """Return the scores (C, y, x) of a tile after the vote."""
        strength = self._options["strength"]
        own = self._values(scores)
        if self._options["by"] == "vote":
            own = np.zeros_like(scores)
            np.put_along_axis(own, scores.argmax(0)[None], 1, 0)
        place = self._find(regions, gaps)
        kept = (place >= 0) & self._are_pure()[place]
        pooled = self._pool().astype(scores.dtype)[:, place]
        if strength < 1:
            pooled = own + np.float32(strength) * (pooled - own)
        return np.where(kept, pooled, own)

    def _find(self, regions: _Numbers, gaps: NDArray[np.bool_]) -> NDArray[np.int64]:
        place = np.searchsorted(self._known, regions)
        return np.where((regions >= 0) & ~gaps, place, -1)

    def _values(self, scores: _Scores) -> _Scores:
        if self._options["by"] != "probability":
            return scores
        powers = np.exp(scores - scores.max(0))
        shares: _Scores = powers / powers.sum(0)
        return shares

    def _pool(self) -> NDArray[np.float64]:
        """Return the scores of each region, with a last column for none."""
        sums = self._counts if self._options["by"] == "vote" else self._sums
        means = sums / self._counts.sum(0).clip(1)
        return np.concatenate([means, np.zeros((self._classes, 1))], 1)

    def _are_pure(self) -> NDArray[np.bool_]:
        """Return which regions have a class of enough pixels, with a last entry for none."""
        shares = self._counts.max(0, initial=0) / self._counts.sum(0).clip(1)
        return np.append(shares >= self._options["purity"], False)
