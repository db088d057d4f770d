"""What SAM's tools return and write, as masks."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from lpprop._core.errors import InputError
from lpprop._core.options import is_listed
from lpprop.io.rle import decode_rle, is_rle

__all__ = ["from_sam"]

_FIX = "Pass what SAM's mask generator or transformers' mask-generation pipeline returned."


def from_sam(masks: Mapping[str, Any] | Iterable[Any]) -> Bool[Tensor, "M H W"]:
    """Stack the masks that a generator of masks returned for one image, in its order.

    Their scores come from the same output, as `region_scores` of `region_vote` takes them:
    `torch.tensor([mask["predicted_iou"] for mask in masks])` of SAM's own generator, and
    `output["scores"]` of transformers.

    Args:
        masks: of SAM and SAM 2, the list of dicts whose "segmentation" is an array or COCO's
            run-length encoding; of transformers, the dict of `pipeline("mask-generation")`; or any
            list of masks, all (H, W) or all encoded, as `post_process_for_mask_generation` returns
            it.

    Returns:
        Boolean masks (M, H, W), on the device of the first.

    Raises:
        InputError: no mask, which has no size; masks of several sizes; or something that is none.

    >>> whole = {"segmentation": np.ones((2, 3), bool), "predicted_iou": 0.9}
    >>> part = {"segmentation": np.eye(2, 3, dtype=bool), "predicted_iou": 0.8}
    >>> from_sam([whole, part]).sum((1, 2))
    tensor([6, 2])
    """
    found = masks["masks"] if isinstance(masks, Mapping) and "masks" in masks else masks
    if not (isinstance(found, Tensor) and found.ndim) and not is_listed(found):
        raise InputError.of(
            "masks", got=_describe(masks), expected="a list of masks, or a dict with one", fix=_FIX
        )
    listed = [
        item["segmentation"] if isinstance(item, Mapping) and "segmentation" in item else item
        for item in found
    ]
    if not listed:
        raise InputError.of(
            "masks",
            got="no mask",
            expected="at least one, which says how large the image is",
            fix="Where nothing was found, pass torch.zeros(0, H, W, dtype=torch.bool) on.",
        )
    if all(map(is_rle, listed)):
        return decode_rle(listed, "masks")
    stacked = [_as_mask(item, f"masks[{number}]") for number, item in enumerate(listed)]
    for number, mask in enumerate(stacked):
        if mask.shape != stacked[0].shape:
            raise InputError.of(
                f"masks[{number}]",
                got=f"shape {tuple(mask.shape)}",
                expected=f"{tuple(stacked[0].shape)}, as masks[0] has",
                fix="Keep the masks of each image apart.",
            )
    return torch.stack([mask.to(stacked[0].device) for mask in stacked])


def _as_mask(item: object, name: str) -> Tensor:
    mask = item
    if isinstance(item, np.ndarray) and item.dtype.kind in "biu":
        mask = torch.from_numpy(item.astype(np.int64))
    if isinstance(mask, Tensor) and mask.ndim == 2 and mask.numel():
        ones = mask == 1
        if bool((ones | (mask == 0)).all()):
            return ones
    raise InputError.of(
        name,
        got=_describe(item),
        expected="a mask (H, W) of booleans, or of 0 and 1",
        fix=_FIX,
    )


def _describe(value: object) -> str:
    if isinstance(value, (Tensor, np.ndarray)):
        return f"shape {tuple(value.shape)} of {value.dtype}"
    if isinstance(value, Mapping):
        return f"a dict with {reprlib.repr(sorted(map(str, value)))}"
    return reprlib.repr(value) if isinstance(value, (str, int)) else type(value).__name__
