"""Regions of an image: integer maps, or masks that may overlap or be soft.

An integer map (B, H, W) gives each pixel the number of its region; a negative number is none.
Masks are a list with a tensor (M_b, H, W) for each image, bool or of memberships in [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor

from lpprop._core.checks import check_axes, check_finite, require
from lpprop._core.convert import as_tensor
from lpprop._core.errors import InputError, warn
from lpprop._core.precision import move_to
from lpprop._core.scans import has_passed, mark_passed, values_are_checked
from lpprop._core.tensors import as_int64
from lpprop.inputs.layout import refuse_turned
from lpprop.inputs.patch_grid import spans

__all__ = [
    "RegionScores",
    "Regions",
    "as_region_scores",
    "as_regions",
    "check_region_scores",
    "check_regions",
    "warn_of_patches",
]

#: What functions take as regions; their size may differ from that of the scores.
Regions: TypeAlias = (
    Integer[Tensor, "B y x"] | Sequence[Bool[Tensor, "_ _ _"] | Float[Tensor, "_ _ _"]]
)

#: A weight for each mask: one tensor for each image, or the tensor of a batch of one.
RegionScores: TypeAlias = Float[Tensor, " M"] | Sequence[Float[Tensor, " _"]]

_FORMS = "integers (B, H, W), or a list of masks (M, H, W) for each image"


def as_regions(regions: object, scores: Tensor) -> Regions:
    """Make regions of what users pass.

    Args:
        regions: integers (B, H, W), or (H, W) for one image; bool or float masks (B, M, H, W), or
            (M, H, W) for one image; a list of either, with an entry for each image; torch or NumPy.
        scores: the scores, to whose device arrays go.

    Raises:
        InputError: another type, or another number of axes.

    >>> import numpy as np
    >>> scores = torch.zeros(1, 2, 4, 4)
    >>> as_regions(np.array([[0, 0, 1]], dtype=np.uint16), scores)
    tensor([[[0, 0, 1]]])
    >>> [masks.shape for masks in as_regions(torch.ones(5, 4, 4) > 0, scores)]
    [torch.Size([5, 4, 4])]
    """
    if isinstance(regions, (list, tuple)):
        return _from_list([_as_tensor(f"regions[{i}]", x, scores) for i, x in enumerate(regions)])
    tensor = _as_tensor("regions", regions, scores)
    if _is_map(tensor):
        if tensor.ndim in (2, 3):
            return tensor if tensor.ndim == 3 else tensor[None]
    elif tensor.ndim in (3, 4):
        return list(tensor) if tensor.ndim == 4 else [tensor]
    raise _wrong_axes("regions", tensor)


def as_region_scores(given: object, scores: Tensor) -> list[Tensor]:
    """Make a list of scores (M_b,), one for each image, of what users pass.

    Args:
        given: an array (M,) for one image, (B, M), or a list with an array for each image.
        scores: the scores of the classes, to whose device arrays go.

    Raises:
        InputError: another type, or another number of axes.

    >>> as_region_scores([0.9, 0.5], torch.zeros(1, 2, 4, 4))
    [tensor([0.9000, 0.5000])]
    """
    if isinstance(given, (list, tuple)) and all(isinstance(x, Real) for x in given):
        given = np.array(given, dtype=np.float32)
    listed = isinstance(given, (list, tuple))
    each = given if listed else [given]
    assert isinstance(each, (list, tuple))
    tensors = [_as_tensor("region_scores", x, scores) for x in each]
    if not listed and tensors[0].ndim == 2:
        return list(tensors[0])
    return tensors


def check_regions(
    regions: object,
    scores: Float[Tensor, "B C h w"],
    *,
    windowed: bool = False,
    pixels: tuple[int, int] | None = None,
) -> None:
    """Check regions against the scores that they are for.

    Args:
        regions: as functions take them.
        scores: the scores of B images.
        windowed: whether the scores are those of B windows of one image.
        pixels: (H, W) of the image; that of the scores if None.

    Raises:
        InputError: regions of another number of images, type or number of axes, without pixels, on
            another device, with height and width swapped, or memberships outside [0, 1].

    Warns:
        InputWarning: regions that are stretched over the image, if its size is given.

    >>> check_regions(torch.zeros(1, 8, 8).long(), torch.zeros(2, 3, 4, 4))
    Traceback (most recent call last):
    lpprop.InputError: regions: got shape (1, 8, 8), expected (B=2, H, W), since logits has B=2...
    """
    regions = require("regions", regions)
    batch, image = "1" if windowed else "B", pixels
    pixels = pixels or (scores.shape[-2], scores.shape[-1])
    if isinstance(regions, Tensor) and not _is_map(regions):
        raise InputError.of(
            "regions",
            got=f"dtype {regions.dtype}",
            expected=_FORMS,
            fix="Pass the masks of one image as [masks], and labels as integers, labels.long().",
        )
    if isinstance(regions, Tensor):
        check_axes(logits=(scores, "B C h w"), regions=(regions, f"{batch} H W", ("integer",)))
        refuse_turned("regions", regions, pixels)
        _warn_of_stretched("regions", regions, image)
        return
    if not isinstance(regions, (list, tuple)):
        raise InputError.of(
            "regions",
            got=type(regions).__name__,
            expected=_FORMS,
            fix="Pass tensors; lpprop.refine also takes arrays, and proposers.",
        )
    images = 1 if windowed else len(scores)
    if len(regions) != images:
        raise InputError.of(
            "regions",
            got=f"masks of {len(regions)} images",
            expected=f"those of {images}",
            fix="Pass one tensor (M, H, W) for each image.",
        )
    for number, masks in enumerate(regions):
        _check_masks(f"regions[{number}]", masks, scores)
        refuse_turned(f"regions[{number}]", masks, pixels)
        _warn_of_stretched(f"regions[{number}]", masks, image)


def check_region_scores(given: object, regions: object, scores: Float[Tensor, "B C h w"]) -> None:
    """Check the scores of masks against the masks, which are checked already.

    Raises:
        InputError: regions that are no masks, another number of scores than masks, negative scores,
            or others that cannot be used.

    >>> masks = [torch.ones(2, 4, 4) > 0]
    >>> check_region_scores([torch.tensor([0.5])], masks, torch.zeros(1, 3, 4, 4))
    Traceback (most recent call last):
    lpprop.InputError: region_scores[0]: got shape (1,), expected (2,), one for each mask...
    """
    each = [given] if isinstance(given, Tensor) else given
    if not isinstance(regions, (list, tuple)):
        raise InputError.of(
            "region_scores",
            got="scores of regions, beside no masks",
            expected="None: weights count where masks overlap",
            fix="Remove region_scores, or pass regions as a list of masks (M, H, W).",
        )
    if not isinstance(each, (list, tuple)) or len(each) != len(regions):
        images = f"those of {len(each)} images" if isinstance(each, (list, tuple)) else ""
        raise InputError.of(
            "region_scores",
            got=images or type(given).__name__,
            expected=f"those of {len(regions)}",
            fix="Pass one tensor (M,) for each image.",
        )
    for number, (weights, masks) in enumerate(zip(each, regions, strict=True)):
        name = f"region_scores[{number}]"
        if isinstance(weights, Tensor) and weights.shape != (len(masks),):
            raise InputError.of(
                name,
                got=f"shape {tuple(weights.shape)}",
                expected=f"({len(masks)},), one for each mask",
                fix="Keep the scores of the masks that you pass, in their order.",
            )
        if isinstance(weights, Tensor) and not len(weights):
            continue
        check_axes(logits=(scores, "B C h w"), **{name: (weights, "M")})
        check_finite(name, weights)
        if values_are_checked() and bool((weights < 0).any()):
            raise InputError.of(
                name,
                got=f"values down to {float(weights.detach().min()):.4g}",
                expected="no negative value",
                fix="Take the sigmoid of logits; 0 leaves a region out.",
            )


def warn_of_patches(regions: Regions, scores: Float[Tensor, "B C h w"]) -> None:
    """Warn of regions on a finer grid than the scores, if no image says how fine scores become."""
    sizes = [x.shape[-2:] for x in ([regions] if isinstance(regions, Tensor) else regions)]
    height, width = scores.shape[-2:]
    if any(y > height or x > width for y, x in sizes):
        warn(
            "regions of patches",
            f"regions: got {sizes[0][0]} x {sizes[0][1]} pixels for scores on {height} x {width}, "
            "and no image. Scores that are not upsampled get the regions' votes on their own "
            "grid. Pass image=, or scores at pixels.",
        )


def _is_map(tensor: Tensor) -> bool:
    return not (tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool)


def _as_tensor(name: str, array: object, scores: Tensor) -> Tensor:
    if isinstance(array, dict):
        raise InputError.of(
            name,
            got="a dictionary",
            expected=_FORMS,
            fix="Convert what SAM returns with lpprop.regions.from_sam.",
        )
    tensor = as_tensor(name, array)
    if not isinstance(array, Tensor):
        tensor = move_to(scores.device, tensor)
    return as_int64(name, tensor) if _is_map(tensor) else tensor


def _from_list(items: list[Tensor]) -> Regions:
    maps = [_is_map(item) for item in items]
    if not any(maps):
        for number, item in enumerate(items):
            if item.ndim != 3:
                raise _wrong_axes(f"regions[{number}]", item)
        return items
    for number, item in enumerate(items):
        if not maps[number] or item.ndim != 2 or item.shape != items[0].shape:
            raise InputError.of(
                f"regions[{number}]",
                got=f"shape {tuple(item.shape)} and dtype {item.dtype}",
                expected="integer maps (H, W) of one size, or masks (M, H, W), bool or float",
                fix="Masks of 0 and 1 are masks.bool().",
            )
    return torch.stack(items)


def _wrong_axes(name: str, tensor: Tensor) -> InputError:
    return InputError.of(
        name,
        got=f"shape {tuple(tensor.shape)} and dtype {tensor.dtype}",
        expected="integer maps (H, W) or (B, H, W), or masks (M, H, W) or (B, M, H, W), bool or "
        "float",
        fix="Convert labels to integers, labels.long(), and masks of 0 and 1 to masks.bool(); "
        "a single mask is masks[None].",
    )


def _warn_of_stretched(name: str, regions: Tensor, image: tuple[int, int] | None) -> None:
    """Warn of regions of another aspect ratio than the image, such as those of a crop of it."""
    size = regions.shape[-2], regions.shape[-1]
    if image is None or spans(size, image) or spans(image, size):
        return
    warn(
        "stretched regions",
        f"{name}: got {size[0]} x {size[1]} pixels for an image of {image[0]} x {image[1]}, over "
        "which they are stretched, by other factors in height and in width. If they were found in "
        "a crop of it, or in a padded image, pad or cut them first.",
    )


def _check_masks(name: str, masks: object, scores: Tensor) -> None:
    if isinstance(masks, Tensor) and masks.ndim == 3 and not len(masks):
        masks = masks.new_zeros((1, *masks.shape[1:]))  # an image without regions
    check_axes(logits=(scores, "B C h w"), **{name: (masks, "M H W", ("bool", "float"))})
    assert isinstance(masks, Tensor)
    if masks.dtype == torch.bool or not values_are_checked() or has_passed(masks, "membership"):
        return
    low, high = (float(bound) for bound in torch.aminmax(masks.detach()))
    if not (low >= 0 and high <= 1):
        check_finite(name, masks)
        raise InputError.of(
            name,
            got=f"values from {low:.4g} to {high:.4g}",
            expected="memberships in [0, 1]",
            fix="Threshold a model's logits, masks > 0, or take their sigmoid; for weights pass "
            "region_scores.",
        )
    mark_passed(masks, "membership")
