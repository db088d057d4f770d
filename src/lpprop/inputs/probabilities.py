"""Probabilities of classes made from scores, as the random fields start from them."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from lpprop._core.errors import InputError
from lpprop._core.options import check_number
from lpprop._core.scans import values_are_checked

__all__ = ["check_probabilities", "check_scale", "log_probabilities"]

# Lower clamp for probabilities before the log.
_LOWEST = 1e-5
# Mean log-odds of the two best classes after scale="auto". On street images the kernels erase whole
# classes if it is lower, and do not move borders if it is higher.
_LOG_ODDS = 12.0
# Logarithms beyond this would overflow sums in float32, while the probabilities have long been 0.
_LOWEST_LOG = -1e30


def check_scale(name: str, value: object) -> float | str | None:
    """Return a factor of scores above 0, "auto", or None for probabilities; refuse others."""
    if value is None or (isinstance(value, str) and value == "auto"):
        return value
    try:
        return check_number(name, value, low=0, open_low=True)
    except InputError:
        raise InputError.of(
            name, got=repr(value), expected="'auto', None or a number > 0", fix=f"Change {name}."
        ) from None


def check_probabilities(x: Tensor) -> None:
    """Refuse scores whose classes are not probabilities, where scale=None says that they are."""
    if not values_are_checked():
        return
    total = x.detach().sum(1, dtype=torch.promote_types(x.dtype, torch.float32))
    slack = 1e-3 if x.dtype.itemsize > 2 else 2e-2  # the entries' rounding adds up
    low, off = float(x.detach().min()), float((total - 1).abs().max())
    if low < -slack or off > slack:
        raise InputError.of(
            "x",
            got=f"values down to {low:.4g} and sums over the classes up to {off:.4g} from 1",
            expected="probabilities, since scale is None",
            fix="Pass scale='auto', or a number, for scores.",
        )


def log_probabilities(
    x: Float[Tensor, "C H W"], scale: float | str | None
) -> Float[Tensor, "C H W"]:
    """Take the logarithms of softmax(scale x), or of x if scale is None; differentiable.

    "auto" is the scale at which the log-odds of the two likeliest classes average 12.
    """
    if scale is None:
        return x.clamp_min(_LOWEST).log()
    # Halves, since their differences cannot overflow.
    below = x / 2 - x.amax(0) / 2
    factor = x.new_tensor(2.0)
    if scale == "auto" and len(x) > 1:
        gap = -(below.topk(2, dim=0).values[1] / below[0].numel()).sum()
        # The inner choice keeps the gradient of what is not taken finite.
        factor = torch.where(gap > 0, _LOG_ODDS / torch.where(gap > 0, gap, 1.0), factor)
    elif scale != "auto":
        factor = 2 * x.new_tensor(float(scale))
    logs = (factor.clamp_max(torch.finfo(x.dtype).max) * below).log_softmax(0)
    return logs.clamp_min(_LOWEST_LOG)
