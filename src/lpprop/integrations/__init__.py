"""Refinement inside the pipelines of other packages, none of which is imported here.

`lpprop.integrations.huggingface` refines the outputs of Hugging Face's segmentation models and of
CLIPSeg; `lpprop.integrations.mmsegmentation` is a mix-in for the segmentors of MMSegmentation 1.x.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lpprop._core.checks import check_tensors
from lpprop._core.errors import InputError
from lpprop._core.optional import import_later

if not TYPE_CHECKING:
    __getattr__ = import_later(__name__, {"huggingface": "", "mmsegmentation": ""})

__all__ = ["denormalize", "on_grid"]

# Rounding of half-precision pixels may bring colours this far outside [0, 1].
_ROUNDING = 0.02


def denormalize(
    name: str,
    pixels: Float[Tensor, "B 3 H W"],
    mean: Sequence[float] | Tensor,
    std: Sequence[float] | Tensor,
) -> Float[Tensor, "B 3 H W"]:
    """Undo (x - mean) / std, and return the colours in [0, 1], in float32.

    Raises:
        InputError: not three channels, or a mean and std with which the colours leave [0, 1].

    >>> denormalize("pixels", torch.zeros(1, 3, 1, 1), [0.5, 0.4, 0.3], [0.2, 0.2, 0.2]).flatten()
    tensor([0.5000, 0.4000, 0.3000])
    """
    check_tensors(**{name: (pixels, "B 3 H W")})
    shift, scale = (_as_column(*item, like=pixels) for item in (("mean", mean), ("std", std)))
    image = pixels.float() * scale + shift
    low, high = (float(bound) for bound in torch.aminmax(image.detach()))
    if low < -_ROUNDING or high > 1 + _ROUNDING:
        raise InputError.of(
            name,
            got=f"values that mean and std bring to {low:.4g} to {high:.4g}",
            expected="values that they bring to [0, 1]",
            fix="Pass the mean and std with which these pixels were normalised.",
        )
    return image.clamp(0, 1)


def _as_column(name: str, values: Sequence[float] | Tensor, like: Tensor) -> Tensor:
    try:
        tensor = torch.as_tensor(values, dtype=torch.float32, device=like.device).flatten()
    except (TypeError, ValueError, RuntimeError):
        tensor = torch.zeros(0)
    if len(tensor) != 3:
        raise InputError.of(
            name, got=repr(values), expected="three numbers", fix="Pass one per colour channel."
        )
    return tensor[:, None, None]


def on_grid(logits: Float[Tensor, "B C h w"], grid: tuple[int, int]) -> Float[Tensor, "B C y x"]:
    """Average scores that are finer than a grid over its cells; return others as they are.

    The heads of these pipelines upsample. The plain bilinear resampling of a chain would read only
    the few pixels around the centre of each patch.

    >>> on_grid(torch.tensor([[[[0.0, 1.0, 2.0, 3.0]]]]), (1, 2))
    tensor([[[[0.7143, 2.2857]]]])
    """
    height, width = logits.shape[-2:]
    if height <= grid[0] and width <= grid[1]:
        return logits
    dtype = torch.promote_types(logits.dtype, torch.float32)
    return F.interpolate(logits.to(dtype), grid, mode="bilinear", antialias=True).to(logits.dtype)
