"""PAMR as it is usually written, with unfold or a convolution: all neighbours of a pixel together.

The equations are those of `lpprop.pamr`, which adds one neighbour after the other instead, one
class at a time, and so stays in a CPU's cache.
"""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def pamr_gathered(
    scores: Tensor,
    image: Tensor,
    *,
    iterations: int = 5,
    dilations: Sequence[int] = (8, 16),
    chunk_bytes: int = 128 * 2**20,
) -> Tensor:
    """(C, H, W) scores, (3, H, W) image -> (C, H, W), in the dtype of both.

    Classes are refined in chunks whose gathered neighbours stay below `chunk_bytes`.
    """
    weights = pamr_weights(image, dilations)
    chunk = max(1, chunk_bytes // (len(weights) * scores[0].nbytes))
    refined = []
    for x in scores.split(chunk):
        for _ in range(iterations):
            x = (torch.stack(list(_neighbours(x, dilations)), 1) * weights).sum(1)
        refined.append(x)
    return torch.cat(refined)


def pamr_weights(image: Tensor, dilations: Sequence[int] = (8, 16)) -> Tensor:
    """The weights a_ij, (8 per dilation, H, W); they sum to 1 at each pixel."""
    near = torch.stack(list(_neighbours(image, dilations)))
    centre = image.expand(len(dilations), *image.shape)
    sigma = torch.cat([near, centre]).std(0)
    exponent = -((near - image).abs_() / (0.1 * sigma + 1e-8)).mean(1)
    return exponent.softmax(0)


def _neighbours(x: Tensor, dilations: Sequence[int]) -> Iterator[Tensor]:
    """Shift the planes (C, H, W) to each neighbour of a pixel, the nearest squares first."""
    height, width = x.shape[-2:]
    for d in dilations:
        padded = F.pad(x[None], [d] * 4, mode="replicate")[0]
        for dy in (0, d, 2 * d):
            for dx in (0, d, 2 * d):
                if (dy, dx) != (d, d):
                    yield padded[:, dy : dy + height, dx : dx + width]
