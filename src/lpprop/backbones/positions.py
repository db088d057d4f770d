"""How position embeddings are resized to the grid of an image."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any

import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

from lpprop._core.options import check_number

__all__ = ["OffsetPositions", "check_offset"]

#: An offset of a whole patch would give a larger grid.
check_offset = partial(check_number, low=0, high=1, open_high=True)


class OffsetPositions(TorchFunctionMode):
    """Resize position embeddings with another scale, within `with` and in this thread only.

    From m to n patches, models of transformers resize with the scale n / m. The original DINO and
    others take (n + 0.1) / m for the size n, so that rounding could not make it n - 1. So their
    sampling points are m / (n + 0.1) apart, which is not m / n.

    Args:
        offset: the 0.1; 0 changes nothing.
    """

    def __init__(self, offset: float) -> None:
        super().__init__()
        self.offset = offset

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Collection[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        # Of the models' resampling, only that of position embeddings is bicubic.
        bicubic = func is F.interpolate and kwargs.get("mode") == "bicubic"
        if self.offset and bicubic and kwargs.get("size") is not None:
            sides = list(zip(kwargs["size"], args[0].shape[-2:], strict=True))
            scale = tuple((int(n) + self.offset) / m for n, m in sides)
            if all(math.floor(m * s) == n for (n, m), s in zip(sides, scale, strict=True)):
                kwargs |= {"size": None, "scale_factor": scale}
        return func(*args, **kwargs)
