"""From a grid to the pixels of a window, as the whole grid would give them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lpprop._core.refiner import Refiner
from lpprop.kernels.dispatch import kernels_for
from lpprop.refiners import JointBilateralUpsample
from lpprop.refiners._joint_bilateral import find_points
from lpprop.tiled.tiles import Box

__all__ = ["Read", "upsample"]

#: Reads a box as a tensor (channels, y, x).
Read = Callable[[Box], Tensor]


def upsample(
    step: Refiner,
    read_scores: Read,
    read_image: Read,
    grid: tuple[int, int],
    size: tuple[int, int],
    window: Box,
) -> Float[Tensor, "C y x"]:
    """Give the scores of a window's pixels.

    Each pixel is computed by the same operations in the same order wherever the window lies.

    Args:
        step: `JointBilateralUpsample`, or any other for bilinear upsampling.
        read_scores: reads scores on the grid.
        read_image: reads colours in [0, 1].
        grid: (h, w) of the scores.
        size: (H, W) of the image.
        window: the pixels.
    """
    if isinstance(step, JointBilateralUpsample):
        return _joint_bilateral(step, read_scores, read_image, grid, size, window)
    return _sample(read_scores, grid, size, window)


def _sample(
    read: Read, source: tuple[int, int], target: tuple[int, int], window: Box
) -> Float[Tensor, "C y x"]:
    """Resample bilinearly, with grids aligned at their outer edges: a window of the target."""
    (top, bottom, down), (left, right, across) = (
        _find_pair(of, to, span.start, span.stop)
        for of, to, span in zip(source, target, window.slices, strict=True)
    )
    box = Box(int(top[0]), int(bottom[-1]) + 1, int(left[0]), int(right[-1]) + 1)
    x = read(box)
    top, bottom, left, right = top - box.top, bottom - box.top, left - box.left, right - box.left
    down, across = down.to(x)[:, None], across.to(x)
    rows = x[:, top] * (1 - down) + x[:, bottom] * down
    return rows[..., left] * (1 - across) + rows[..., right] * across


def _find_pair(
    source: int, target: int, start: int, stop: int
) -> tuple[Int[Tensor, " n"], Int[Tensor, " n"], Float[Tensor, " n"]]:
    """Find the two places of the source around each place of the target, and the second's share."""
    twice = (2 * torch.arange(start, stop) + 1) * source - target
    place = (twice.double() / (2 * target)).clamp_min(0)
    first = place.floor().long().clamp_max(source - 1)
    return first, (first + 1).clamp_max(source - 1), place - first


def _joint_bilateral(
    step: JointBilateralUpsample,
    read_scores: Read,
    read_image: Read,
    grid: tuple[int, int],
    size: tuple[int, int],
    window: Box,
) -> Float[Tensor, "C y x"]:
    """Take the part of `joint_bilateral_upsample` that gives a window's pixels."""
    options = step.config
    pixels = read_image(window)
    spans = []
    for pixel, point, span in zip(size, grid, window.slices, strict=True):
        centres, exponents = find_points(
            pixel, point, options["radius"], options["sigma_space"], pixels
        )
        centres, exponents = centres[span], exponents[span]
        reach = exponents.shape[1] // 2
        low = max(int(centres[0]) - reach, 0)
        spans.append((low, min(int(centres[-1]) + reach + 1, point), centres - low, exponents))
    (top, bottom, *rows), (left, right, *columns) = spans
    box = Box(top, bottom, left, right)
    scores, points = read_scores(box), _sample(read_image, size, grid, box)
    kernels = kernels_for(options["backend"], scores, ("image", pixels), 0, worth=0)
    scale = options["sigma_range"]
    return kernels.upsample(
        scores, points / scale, pixels / scale, (rows[0], rows[1]), (columns[0], columns[1])
    )
