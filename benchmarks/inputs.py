"""Seeded inputs that look like real ones: an image, ViT-like features, noisy probabilities."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Scene(NamedTuple):
    """An image with its windows; `patch_*` hold an entry per window."""

    image: Tensor  # (1, 3, H, W) in [0, 1]
    boxes: Tensor  # (n, 4) y1, y2, x1, x2
    patch_logits: Tensor  # (n, C, h, w), sums to 1 over C
    patch_feats: Tensor  # (n, D, h, w)
    pixel_logits: Tensor  # (1, C, H, W), sums to 1 over C


def smooth(channels: int, size: tuple[int, int], cells: int, generator: torch.Generator) -> Tensor:
    """(1, channels, *size): Gaussian noise on a grid of `cells` to the longer side, bicubic."""
    grid = [max(2, round(cells * s / max(size))) for s in size]
    noise = torch.randn(1, channels, *grid, generator=generator)
    return F.interpolate(noise, size, mode="bicubic", align_corners=False)


def scene(
    *, H: int, W: int, window: int, stride: int, patch_size: int, D: int, C: int, seed: int = 0
) -> Scene:
    """Twelve regions with sharp borders; every patch sees the region beneath its centre.

    The features are a common direction, one direction per region, slow drift and noise, weighted so
    that cosine similarities resemble those of DINO: about 0.7 within a region, 0.2 across.
    """
    g = torch.Generator().manual_seed(seed)
    size, regions = (H, W), 12
    region = smooth(regions, size, 4, g).argmax(1)  # (1, H, W)

    colour = torch.rand(regions, 3, generator=g)[region].movedim(-1, 1)
    shading = 0.08 * smooth(3, size, 10, g) + 0.015 * torch.randn(1, 3, H, W, generator=g)
    image = (colour + shading).clamp(0, 1)

    y1, x1 = (
        torch.tensor([min(i * stride, s - window) for i in range(-(-(s - window) // stride) + 1)])
        for s in size
    )
    y1, x1 = (t.flatten() for t in torch.meshgrid(y1, x1, indexing="ij"))
    boxes = torch.stack([y1, y1 + window, x1, x1 + window], 1)
    centre = torch.arange(patch_size // 2, window, patch_size)
    rows, cols = (y1[:, None] + centre)[:, :, None], (x1[:, None] + centre)[:, None, :]

    def sample(x: Tensor) -> Tensor:
        return x[0][:, rows, cols].movedim(0, 1)  # (1, F, H, W) -> (n, F, h, w)

    def directions(count: int) -> Tensor:
        return torch.randn(count, D, generator=g) / D**0.5

    common, of_region, of_drift, drift = 0.45, 0.7, 0.5, 8
    which = region[0][rows, cols]  # (n, h, w)
    feats = common * directions(1)[0] + of_region * directions(regions)[which]
    shifts = sample(smooth(drift, size, 6, g)).movedim(1, -1)
    feats = feats + of_drift * drift**-0.5 * shifts @ directions(drift)
    feats = feats + 0.5 * torch.randn(feats.shape, generator=g) / D**0.5

    preference = torch.randn(regions, C, generator=g)
    patch = preference[which] + 1.5 * torch.randn(*which.shape, C, generator=g)
    coarse = 2.0 * smooth(C, size, 12, g) + preference[region].movedim(-1, 1)
    return Scene(
        image,
        boxes,
        (2 * patch).softmax(-1).movedim(-1, 1).contiguous(),
        feats.movedim(-1, 1).contiguous(),
        coarse.softmax(1),
    )


def pixels(H: int, W: int, C: int) -> Scene:
    """A scene for work that needs no patches."""
    side = min(H, W)
    return scene(H=H, W=W, window=side, stride=side, patch_size=side, D=1, C=C)
