"""Otsu's threshold, which splits a map of values into two classes without a setting.

Otsu, "A Threshold Selection Method from Gray-Level Histograms", IEEE Transactions on Systems, Man,
and Cybernetics 9(1), 1979.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from lpprop._core.checks import check_tensors
from lpprop._core.options import check_integer

__all__ = ["otsu_threshold"]


def otsu_threshold(values: Float[Tensor, "H W"], *, bins: int = 256) -> float:
    """Return the threshold that separates a map's values best into two classes.

    The values are counted in `bins` equal bins from the least to the largest value. Of all splits
    between two bins the one is taken whose variance between the classes is the largest,

        w_0 w_1 (mu_0 - mu_1)^2,    w = a class's share of the values, mu = its mean,

    the first one of equal splits. The threshold is the centre of the last bin below the split, as
    in scikit-image, so that values above the threshold are the foreground.

    Args:
        values: (H, W), finite.
        bins: number of bins, >= 2.

    Returns:
        The threshold; for a constant map its value, above which nothing lies.

    Raises:
        InputError: values of another shape or that are not finite, or fewer than two bins.

    >>> otsu_threshold(torch.tensor([[0.0, 0.1], [0.9, 1.0]]), bins=10)
    0.15...
    """
    check_tensors(values=(values, "H W"))
    bins = check_integer("bins", bins, low=2)
    flat = values.detach().cpu().double().flatten()
    low, high = flat.min(), flat.max()
    if low == high:
        return float(low)
    width = (high - low) / bins
    places = ((flat - low) / width).long().clamp(max=bins - 1)
    counts = torch.bincount(places, minlength=bins).double()
    centres = low + (torch.arange(bins) + 0.5).double() * width
    share, moment = counts.cumsum(0)[:-1], (counts * centres).cumsum(0)[:-1]
    rest, total = len(flat) - share, (counts * centres).sum()
    # The outermost bins hold the least and the largest value, so neither class is ever empty.
    between = share * rest * (moment / share - (total - moment) / rest) ** 2
    return float(centres[between.argmax()])
