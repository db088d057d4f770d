"""Means of values over regions, and sums over regions back at pixels: A and its transpose.

A (M, N) says how much of pixel i is in region m. Where no regions overlap it is kept as a number
per pixel; else as the masks that were given, of which a few at a time become floats.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Integer
from numpy.typing import NDArray
from torch import Tensor

from lpprop._core.precision import has_double
from lpprop.numerics.nearest import resample_nearest

__all__ = ["Masks", "Partition"]

# Bytes of the masks that are floats at one time.
_CHUNK_BYTES = 2**25

# Pixels that are summed at once on a CPU: just too few for torch to hand them to several threads,
# which would wait for each other at every class (benchmarks/regions.py has other ways).
_BLOCK = 2**15 - 1

# Mean length from which runs are summed first.
_RUN = 4

_Map = Callable[[Tensor], Tensor]


class Partition:
    """Regions of which each pixel is in one or in none.

    Attributes:
        numbers: (N,) the region of each pixel, `count` where it is in none.
        count: number M of regions, of which some may have no pixel.
    """

    def __init__(self, numbers: Int[Tensor, " N"], count: int) -> None:
        self.numbers, self.count = numbers, count

    @classmethod
    def of(cls, regions: Integer[Tensor, "y x"], size: tuple[int, int]) -> Partition:
        """Read a map of a size of its own, in which negative numbers are no region.

        >>> Partition.of(torch.tensor([[-1, 10**9, 7]]), (1, 3)).numbers
        tensor([2, 1, 0])
        """
        numbers = resample_nearest(regions, size).flatten().long()
        low, high = (int(bound) for bound in torch.aminmax(numbers))
        if high >= len(numbers):  # numbers far apart would need memory for all between
            known, numbers = torch.unique(numbers.clamp_min(-1), return_inverse=True)
            none = int(known[0] < 0)
            numbers, high = numbers - none, len(known) - none - 1
        count = max(0, high + 1)
        return cls(torch.where(numbers < 0, count, numbers) if low < 0 else numbers, count)

    @cached_property
    def areas(self) -> Float[Tensor, " M"]:
        """Return the number of pixels of each region."""
        areas = self._zeros(1)[0]
        return areas.index_add_(0, self.numbers, areas.new_ones(len(self.numbers)))[:-1]

    @property
    def covered(self) -> Bool[Tensor, " N"]:
        """Return which pixels are in a region."""
        return self.numbers < self.count

    def means(self, values: Float[Tensor, "C N"]) -> Float[Tensor, "C M"]:
        """Return the mean over each region: sum_i A_mi x_i / sum_i A_mi; 0 if it has no pixel."""
        if not has_double(values.device):
            return self._on_cpu.means(values.cpu()).to(values.device)
        scale = 1 / self.areas.clamp_min(1)
        return _linear(values, lambda x: self._sum(x, scale), lambda x: self._spread(x * scale))

    def shares(self, labels: Int[Tensor, " N"], classes: int) -> Float[Tensor, "C M"]:
        """Return the share of each class among the labels of a region; 0 if it has no pixel."""
        if not has_double(labels.device):
            return self._on_cpu.shares(labels.cpu(), classes).float().to(labels.device)
        pairs = self.numbers * classes + labels
        counts = self._zeros(classes).flatten()
        counts.index_add_(0, pairs, counts.new_ones(len(pairs)))
        counts = counts.view(-1, classes)[:-1].T
        return counts / counts.sum(0).clamp_min(1)

    def spread(self, values: Float[Tensor, "C M"]) -> Float[Tensor, "C N"]:
        """Return at each pixel its region's values, sum_m A_mi z_m: 0 where it is in none."""
        return _linear(values, self._spread, self._sum)

    def only(self, kept: Bool[Tensor, " M"]) -> Partition:
        """Leave regions out: their pixels are then in none."""
        if bool(kept.all()):
            return self
        out = torch.cat([~kept, kept.new_zeros(1)])
        return Partition(torch.where(out[self.numbers], self.count, self.numbers), self.count)

    def _sum(
        self, values: Float[Tensor, "C N"], scale: Float[Tensor, " M"] | float = 1.0
    ) -> Float[Tensor, "C M"]:
        # In float64, since a sum of so many in float32 loses half of its digits.
        if not has_double(values.device):
            return self._on_cpu._sum(values.cpu()).to(values.device)
        sums = self._zeros(len(values))
        if values.device.type == "cpu":
            numbers, values = self._shorten(values.detach())
            for total, row in zip(sums, values, strict=True):  # a class stays in the cache
                for some, part in zip(numbers.split(_BLOCK), row.split(_BLOCK), strict=True):
                    total.index_add_(0, some, part.to(sums.dtype))
        else:
            sums.index_add_(1, self.numbers, values.to(sums.dtype))
        return (sums[:, :-1] * scale).to(values.dtype)

    def _shorten(
        self, values: Float[Tensor, "C N"]
    ) -> tuple[Int[Tensor, " R"], Float[Tensor, "C R"]]:
        """Sum over runs of pixels in one region first, where runs are long: that is quicker."""
        starts = self._starts
        if len(starts) > len(self.numbers) / _RUN:
            return self.numbers, values
        with np.errstate(over="ignore", invalid="ignore"):  # such a result is refused
            # In pairs, which keeps the digits.
            runs = np.add.reduceat(values.numpy(), starts, axis=1)
        return self.numbers[torch.from_numpy(starts)], torch.from_numpy(runs)

    @cached_property
    def _starts(self) -> NDArray[np.int64]:
        """Return the first pixel of each run of pixels in one region, in row-major order."""
        numbers = self.numbers.numpy()
        changes = np.flatnonzero(numbers[1:] != numbers[:-1]) + 1
        return np.concatenate([np.zeros(1, np.int64), changes])

    def _zeros(self, classes: int) -> Float[Tensor, "C M1"]:
        """Return zeros for each class and region, and for the pixels in none."""
        shape = classes, self.count + 1
        return torch.zeros(shape, dtype=torch.float64, device=self.numbers.device)

    @cached_property
    def _on_cpu(self) -> Partition:
        """Return the same regions where there is float64, which some devices have not."""
        return Partition(self.numbers.cpu(), self.count)

    def _spread(self, values: Float[Tensor, "C M"]) -> Float[Tensor, "C N"]:
        padded = torch.cat([values, values.new_zeros(len(values), 1)], 1)
        return padded.gather(1, self.numbers.expand(len(values), -1))


class Masks:
    """Regions that may overlap, or be soft.

    Args:
        masks: (M, y, x) bool, or floats in [0, 1].
        size: (H, W) to which each is resampled when it is read.
        dtype: to compute in.
    """

    def __init__(
        self,
        masks: Bool[Tensor, "M y x"] | Float[Tensor, "M y x"],
        size: tuple[int, int],
        dtype: torch.dtype,
    ) -> None:
        self.masks, self.size, self.dtype = masks.detach(), size, dtype
        self.count = len(masks)

    @cached_property
    def areas(self) -> Float[Tensor, " M"]:
        """Return the sum of each mask over the pixels."""
        return torch.cat([part.sum(1) for part in self._read()])

    def means(self, values: Float[Tensor, "C N"]) -> Float[Tensor, "C M"]:
        """Return the mean over each region: sum_i A_mi x_i / sum_i A_mi; 0 if it has no pixel."""
        # A smaller area has no reciprocal, and no weight beside any other mask.
        scale = 1 / self.areas.clamp_min(torch.finfo(self.dtype).tiny)
        return _linear(values, self._sum, self._spread) * scale

    def shares(self, labels: Int[Tensor, " N"], classes: int) -> Float[Tensor, "C M"]:
        """Return the share of each class among the labels of a region; 0 if it has no pixel."""
        one_hot = torch.zeros(classes, len(labels), dtype=self.dtype, device=labels.device)
        sums = self._sum(one_hot.scatter_(0, labels[None], 1.0))
        total = sums.sum(0)  # and not the areas, which round apart: all of one class is exactly 1
        return sums / torch.where(total > 0, total, 1)

    def spread(self, values: Float[Tensor, "C M"]) -> Float[Tensor, "C N"]:
        """Return at each pixel the sum over its regions, sum_m A_mi z_m: 0 where it is in none."""
        return _linear(values, self._spread, self._sum)

    def owners(self, kept: Bool[Tensor, " M"], *, largest: bool) -> Partition:
        """Give each pixel to the smallest or largest region that holds it, the first of equal ones.

        A mask holds the pixels where it has at least half of its largest value.

        Args:
            kept: which regions take part.
            largest: whether the largest region has a pixel, or the smallest.
        """
        order = self.areas.argsort(descending=largest, stable=True)
        owner = torch.full(self.size, self.count, device=self.masks.device)
        for number in order[kept[order]].flip(0).tolist():  # a later one paints over the earlier
            mask = resample_nearest(self.masks[number], self.size)
            if mask.dtype != torch.bool:
                mask = (mask > 0) & (mask >= mask.amax() / 2)
            owner.masked_fill_(mask, number)
        return Partition(owner.flatten(), self.count)

    def _read(self) -> Iterator[Float[Tensor, "m N"]]:
        """Yield some masks after others as floats at the size."""
        at_once = max(1, _CHUNK_BYTES // (self.size[0] * self.size[1] * self.dtype.itemsize))
        for part in self.masks.split(at_once):
            yield resample_nearest(part, self.size).flatten(1).to(self.dtype)

    def _sum(self, values: Float[Tensor, "C N"]) -> Float[Tensor, "C M"]:
        return torch.cat([values @ part.T for part in self._read()], 1)

    def _spread(self, values: Float[Tensor, "C M"]) -> Float[Tensor, "C N"]:
        total = values.new_zeros(len(values), self.size[0] * self.size[1])
        first = 0
        for part in self._read():
            total.addmm_(values[:, first : first + len(part)], part)
            first += len(part)
        return total


class _Linear(torch.autograd.Function):
    """A linear map whose adjoint is known, so that nothing is kept for the gradient."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, apply: _Map, adjoint: _Map) -> Tensor:
        ctx.maps = adjoint, apply
        return apply(values)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return _linear(grad, *ctx.maps), None, None


def _linear(values: Tensor, apply: _Map, adjoint: _Map) -> Tensor:
    result: Tensor = _Linear.apply(values, apply, adjoint)  # type: ignore[no-untyped-call]
    return result
