"""Colours of an image as features of its pixels."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from lpprop._core.checks import check_tensors
from lpprop._core.optional import import_hint
from lpprop._core.precision import compute_dtype, full_precision

__all__ = ["lab", "lab_features"]


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

    >>> import torch
    >>> lab_features(torch.ones(1, 3, 1, 1)).flatten()           # white: L = 100, a = b = 0
    tensor([ 1.0000e+00, ...])
    """
    check_tensors(image=(image, "B 3 H W"))
    return lab(image.to(compute_dtype(image))).to(image.dtype)


def lab(image: Float[Tensor, "*B 3 H W"]) -> Float[Tensor, "*B 3 H W"]:
    """Compute `lab_features` in the image's own precision, without checks."""
    # Imported here, since kornia would slow `import lpprop` down by a third of a second.
    with import_hint("kornia cannot be imported: pip install kornia"):
        from kornia.color import rgb_to_lab

    scale = image.new_tensor([100.0, 128.0, 128.0])[:, None, None]
    features: Tensor = rgb_to_lab(image) / scale
    return features
