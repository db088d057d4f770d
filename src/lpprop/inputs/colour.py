"""Colours of an image as features of its pixels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lpprop._core.checks import check_tensors
from lpprop._core.optional import import_hint
from lpprop._core.precision import compute_dtype, full_precision

__all__ = ["lab", "lab_features"]

# Pixels whose features are made at a time; three channels of them are below PyTorch's least share
# of a thread.
_BLOCK = 8192

# Linear RGB to XYZ under D65, and XYZ of white, to kornia's digits; the published threshold and
# slope below which Lab is linear.
_TO_XYZ = (
    (0.412453, 0.357580, 0.180423),
    (0.212671, 0.715160, 0.072169),
    (0.019334, 0.119193, 0.950227),
)
_WHITE = (0.95047, 1.0, 1.08883)
_DARK, _SLOPE, _OFFSET = 0.008856, 7.787, 4 / 29


@full_precision
def lab_features(image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 H W"]:
    """Compute the colour features of the pixel graph: f = Lab(image) / (100, 128, 128).

    Lab is CIE Lab under D65, whose distances are close to perceived ones; after the division L lies
    in [0, 1], a and b in about [-1, 1]. Concatenate other features, such as depth, to use them
    together.

    Args:
        image: RGB in [0, 1], shape (B, 3, H, W).

    Returns:
        Features (B, 3, H, W) in the image's dtype. Differentiable.

    Raises:
        InputError: not three channels, values that are not finite or outside [0, 1].

    >>> lab_features(torch.ones(1, 3, 1, 1)).flatten()           # white: L = 100, a = b = 0
    tensor([ 1.0000e+00, ...])
    """
    check_tensors(image=(image, "B 3 H W"))
    return lab(image.to(compute_dtype(image))).to(image.dtype)


def lab(image: Float[Tensor, "*B 3 H W"]) -> Float[Tensor, "*B 3 H W"]:
    """Compute `lab_features` in the image's own precision, without checks.

    On a CPU a colour has the same features, to the last bit, wherever it stands in an image of
    whatever size, unless a gradient is wanted.
    """
    if image.device.type == "cpu" and not (image.requires_grad and torch.is_grad_enabled()):
        return _lab_in_blocks(image)
    return _lab_by_kornia(image)


def _lab_in_blocks(image: Float[Tensor, "*B 3 H W"]) -> Float[Tensor, "*B 3 H W"]:
    """Compute the features of blocks of one size.

    The powers at the end of a row of vectors, or of a thread's share, are rounded otherwise than
    those within: blocks are of whole vectors, and too small to be shared. The last is filled up.
    """
    pixels = image.movedim(-3, 0).flatten(1)
    features = torch.empty_like(pixels)
    for start in range(0, pixels.shape[1], _BLOCK):
        block = pixels[:, start : start + _BLOCK]
        count = block.shape[1]
        if count < _BLOCK:
            block = F.pad(block, (0, _BLOCK - count))
        features[:, start : start + count] = _lab_of_block(block)[:, :count]
    whole: Tensor = features.unflatten(1, image.movedim(-3, 0).shape[1:])
    return whole.movedim(0, -3)


def _lab_of_block(rgb: Float[Tensor, "3 N"]) -> Float[Tensor, "3 N"]:
    """Compute the features of colours, to the bits of kornia, whose import takes 0.1 s."""
    # sRGB's own curve, undone.
    linear = torch.where(rgb > 0.04045, ((rgb + 0.055).clamp(min=0) / 1.055) ** 2.4, rgb / 12.92)
    xyz = rgb.new_tensor(_TO_XYZ) @ linear / rgb.new_tensor(_WHITE)[:, None]
    root = xyz.clamp(min=_DARK) ** (1 / 3)
    x, y, z = torch.where(xyz > _DARK, root, _SLOPE * xyz + _OFFSET)
    return torch.stack([(116 * y - 16) / 100, 500 * (x - y) / 128, 200 * (y - z) / 128])


def _lab_by_kornia(image: Float[Tensor, "*B 3 H W"]) -> Float[Tensor, "*B 3 H W"]:
    # Imported here, since kornia would slow `import lpprop` down by a third of a second.
    with import_hint("kornia cannot be imported: pip install kornia"):
        from kornia.color import rgb_to_lab

    scale = image.new_tensor([100.0, 128.0, 128.0])[:, None, None]
    features: Tensor = rgb_to_lab(image) / scale
    return features
