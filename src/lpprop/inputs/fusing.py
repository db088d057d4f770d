"""Fusing of masks that nearly contain each other, such as SAM's whole, part and subpart."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from jaxtyping import Bool
from numpy.typing import NDArray
from torch import Tensor

from lpprop._core.checks import check_tensors
from lpprop._core.options import check_number, checked
from lpprop._core.precision import uncompiled

__all__ = ["fuse_masks"]

# How many masks' bits and a pixel's number fit into one 64-bit integer, in bytes of masks.
_WORD = 4
# Columns of a product at once, which bounds the memory of masks as floats.
_COLUMNS = 2**16


@uncompiled
@checked(threshold=partial(check_number, low=0, high=1))
def fuse_masks(
    masks: Bool[Tensor, "M H W"], *, threshold: float = 0.9
) -> Bool[Tensor, "fewer H W"]:
    """Replace masks that nearly contain each other by their union (RIM, after SAM).

        r(A, B) = |A ∩ B| / min(|A|, |B|)

    While a pair has r > threshold, the pair of the largest r becomes A ∪ B; of equal ones the pair
    that comes first, by its first mask and then by its second.

    Args:
        masks: boolean masks of one image, (M, H, W); M may be 0. Empty masks are left out.
        threshold: the share of the smaller mask, in [0, 1], above which two masks are one. At 1
            none are.

    Returns:
        The masks that are left, (M', H, W), on the device of `masks`. A union stands where the
        first of its masks stood.

    Raises:
        InputError: masks that are not boolean (M, H, W), or a threshold out of range.

    >>> whole = torch.tensor([[[1, 1, 1, 1, 0, 0]]]).bool()
    >>> part = torch.tensor([[[0, 0, 1, 1, 0, 0]]]).bool()
    >>> apart = torch.tensor([[[0, 0, 0, 1, 1, 1]]]).bool()
    >>> fuse_masks(torch.cat([part, apart, whole])).int()
    tensor([[[1, 1, 1, 1, 0, 0]],
            [[0, 0, 0, 1, 1, 1]]], dtype=torch.int32)
    """
    if isinstance(masks, Tensor) and masks.ndim == 3 and not len(masks):
        check_tensors(masks=(masks.new_ones((1, *masks.shape[1:])), "M H W", ("bool",)))
        return masks.clone()
    check_tensors(masks=(masks, "M H W", ("bool",)))
    pixels = masks.flatten(1).cpu().numpy()
    group, first, count = _alike(pixels)
    members = pixels[:, first]
    kept = _fuse(members, count, threshold)
    fused = torch.from_numpy(members[kept][:, group])
    return fused.reshape(-1, *masks.shape[1:]).to(masks.device)


def _fuse(members: NDArray[np.bool_], count: NDArray[np.int64], threshold: float) -> list[int]:
    """Fuse masks (M, groups) in place; return which of them are left."""
    shared = _intersections(members, count)
    alive = shared.diagonal() > 0
    ratio = np.full(shared.shape, -1.0)
    for row in range(len(ratio)):
        _fill(ratio, shared, alive, row)
    while ratio.max(initial=-1.0) > threshold:
        # argmax takes the first of equals; above the diagonal, that is the pair that comes first.
        a, b = (int(x) for x in np.unravel_index(int(ratio.argmax()), ratio.shape))
        small, large = (a, b) if shared[a, a] < shared[b, b] else (b, a)
        # |(A ∪ B) ∩ C| = |large ∩ C| + |(small - large) ∩ C|, whose second part is quick.
        added = np.flatnonzero(members[small] & ~members[large])
        others = shared[large] + members[:, added].astype(np.float64) @ count[added]
        shared[a, :] = shared[:, a] = others
        shared[a, a] = shared[large, large] + count[added].sum()
        members[a] |= members[b]
        alive[b] = False
        ratio[b, :] = ratio[:, b] = -1.0
        _fill(ratio, shared, alive, a)
    return np.flatnonzero(alive).tolist()


def _fill(
    ratio: NDArray[np.float64], shared: NDArray[np.int64], alive: NDArray[np.bool_], row: int
) -> None:
    """Renew one mask's ratios with all others, above the diagonal."""
    area = shared.diagonal()
    both = alive & alive[row]
    values = np.where(both, shared[row] / np.maximum(np.minimum(area, area[row]), 1), -1.0)
    ratio[row, row + 1 :] = values[row + 1 :]
    ratio[:row, row] = values[:row]


def _alike(
    pixels: NDArray[np.bool_],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Group the pixels that are in the same masks, since masks have far fewer groups than pixels.

    Returns:
        The group of each pixel, and for each group its first pixel and their number.
    """
    packed = np.packbits(pixels, axis=0)
    group = np.zeros(pixels.shape[1], np.int64)
    first = count = group
    for start in range(0, len(packed), _WORD):
        key = group << (8 * _WORD)
        for place, byte in enumerate(packed[start : start + _WORD]):
            key |= byte.astype(np.int64) << (8 * place)
        _, first, group, count = np.unique(
            key, return_index=True, return_inverse=True, return_counts=True
        )
    return group, first, count


def _intersections(members: NDArray[np.bool_], count: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count the pixels that each two masks share."""
    total = np.zeros((len(members), len(members)), np.int64)
    for start in range(0, len(count), _COLUMNS):
        part = slice(start, start + _COLUMNS)
        # Whole numbers below 2**53, so that the sums are exact.
        inside = members[:, part].astype(np.float64)
        total += ((inside * count[part]) @ inside.T).astype(np.int64)
    return total
