"""Named recipes: each returns a `Chain` with the settings of a paper.

    chain = lpprop.presets.lposs_plus(backbone="dinov2")
    scores = chain(logits, feats=feats, image=image)

`lpprop.refine(..., method="lposs+")` finds them by name, and fits patch_size to the image, which a
chain called directly takes as it stands.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any

from lpprop._core.errors import InputError
from lpprop.compose.chain import Chain
from lpprop.compose.presets.baselines import (
    bilinear,
    dense_crf,
    guided_filter,
    joint_bilateral,
    pamr,
)
from lpprop.compose.presets.discrepancy import fusion, kl, max_velocity, optimal_path
from lpprop.compose.presets.propagation import BACKBONES, lposs, lposs_plus

__all__ = [
    "BACKBONES",
    "METHODS",
    "bilinear",
    "by_name",
    "dense_crf",
    "fusion",
    "guided_filter",
    "joint_bilateral",
    "kl",
    "lposs",
    "lposs_plus",
    "max_velocity",
    "optimal_path",
    "pamr",
]

#: What `method=` names.
METHODS: dict[str, Callable[..., Chain]] = {
    "lposs": lposs,
    "lposs+": lposs_plus,
    "optimal_path": optimal_path,
    "max_velocity": max_velocity,
    "kl": kl,
    "fusion": fusion,
    "bilinear": bilinear,
    "joint_bilateral": joint_bilateral,
    "guided_filter": guided_filter,
    "pamr": pamr,
    "dense_crf": dense_crf,
}


def by_name(method: str, **options: Any) -> Chain:
    """Build the preset that a method's name stands for.

    Args:
        method: a key of `METHODS`, such as "lposs+", or the preset function's name.
        options: the preset's options.

    Raises:
        InputError: an unknown method or option, with the closest known one.

    >>> by_name("lposs+", k=100).needs
    ('feats', 'image')
    """
    known = METHODS | {preset.__name__: preset for preset in METHODS.values()}
    if method not in known:
        close = difflib.get_close_matches(method.lower(), METHODS, n=1, cutoff=0.3)
        raise InputError.of(
            "method",
            got=repr(method),
            expected=f"one of {', '.join(map(repr, METHODS))}, a module or a callable",
            fix=f"Did you mean {close[0]!r}?" if close else "Change method.",
        )
    preset = known[method]
    return preset(**options)
