"""Pixel-adaptive mask refinement (PAMR) in plain torch: a peer of the pixel step.

Araslanov, Roth: Single-Stage Semantic Segmentation from Image Labels, CVPR 2020, Section 3.3. With
N(i) the 8 neighbours of pixel i in a 3x3 square at each dilation, and sigma the standard deviation
of a channel over these squares, i itself among them,

    k_ij = -mean over the channels of |I_i - I_j| / (0.1 sigma_i + 1e-8)
    a_ij = exp k_ij / sum_l exp k_il,   m_i <- sum_j a_ij m_j,   `iterations` times

The scale 0.1 sigma, with n - 1 in the deviation, and pixels outside the image that repeat its
border are those of the authors' release, which the literature compares with.

Two ways to sum: `pamr_gathered` brings the neighbours of every pixel together first, which is how
one writes it with unfold or a convolution; `pamr` adds one neighbour after the other, a class at a
time, which stays in the cache.
"""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def pamr(
    scores: Tensor, image: Tensor, *, iterations: int = 5, dilations: Sequence[int] = (8, 16)
) -> Tensor:
    """(C, H, W) scores, (3, H, W) image -> (C, H, W), in the dtype of both."""
    weights = pamr_weights(image, dilations)
    chunk = 1 if scores.device.type == "cpu" else len(scores)
    refined = []
    for x in scores.split(chunk):
        for _ in range(iterations):
            total = torch.zeros_like(x)
            for weight, near in zip(weights, _neighbours(x, dilations), strict=True):
                total.addcmul_(weight, near)
            x = total
        refined.append(x)
    return torch.cat(refined)


def pamr_gathered(
    scores: Tensor,
    image: Tensor,
    *,
    iterations: int = 5,
    dilations: Sequence[int] = (8, 16),
    chunk_bytes: int = 128 * 2**20,
) -> Tensor:
    """The same; classes go in chunks whose gathered neighbours stay below `chunk_bytes`."""
    weights = pamr_weights(image, dilations)
    chunk = max(1, chunk_bytes // (len(weights) * scores[0].nbytes))
    refined = []
    for x in scores.split(chunk):
        for _ in range(iterations):
            x = (torch.stack(list(_neighbours(x, dilations)), 1) * weights).sum(1)
        refined.append(x)
    return torch.cat(refined)


def pamr_weights(image: Tensor, dilations: Sequence[int] = (8, 16)) -> Tensor:
    """The weights a_ij, (8 a dilation, H, W); they sum to 1 at each pixel."""
    near = torch.stack(list(_neighbours(image, dilations)))
    centre = image.expand(len(dilations), *image.shape)
    sigma = torch.cat([near, centre]).std(0)
    exponent = -((near - image).abs_() / (0.1 * sigma + 1e-8)).mean(1)
    return exponent.softmax(0)


def _neighbours(x: Tensor, dilations: Sequence[int]) -> Iterator[Tensor]:
    """The planes (C, H, W) moved to each neighbour of a pixel, the nearer squares first."""
    height, width = x.shape[-2:]
    for d in dilations:
        padded = F.pad(x[None], [d] * 4, mode="replicate")[0]
        for dy in (0, d, 2 * d):
            for dx in (0, d, 2 * d):
                if (dy, dx) != (d, d):
                    yield padded[:, dy : dy + height, dx : dx + width]
