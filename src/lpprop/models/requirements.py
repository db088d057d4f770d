"""What a segmenter requires of its models, its method, its windows and the memory."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch

from lpprop._core.errors import InputError
from lpprop._core.memory import available_bytes
from lpprop._core.options import check_integer
from lpprop.backbones.backbone import Backbone
from lpprop.compose.chain import Chain
from lpprop.compose.composite import missing_input, step_name, steps_of
from lpprop.inputs.windows import SlidingWindows
from lpprop.refiners import PAMR, BilinearUpsample, JointBilateralUpsample

__all__ = [
    "PROVIDED",
    "check_affinity",
    "check_averages",
    "check_models",
    "check_room",
    "check_takes_regions",
    "check_windows",
]

#: What a segmenter itself gives to a method.
PROVIDED = ("image", "windows", "regions")


def check_models(backbone: object, affinity: object) -> None:
    """Refuse what is no backbone, and a first one that cannot score classes."""
    for name, model in (("backbone", backbone), ("affinity", affinity)):
        if not isinstance(model, Backbone):
            raise InputError.of(
                name,
                got=type(model).__name__,
                expected="a backbone, as in lpprop.backbones",
                fix="Wrap a model of your own in a subclass of lpprop.backbones.Backbone.",
            )
    assert isinstance(backbone, Backbone)
    if "logits" not in backbone.provides:
        raise InputError.of(
            "backbone",
            got=f"{type(backbone).__name__}, which provides {' and '.join(backbone.provides)}",
            expected="a backbone that provides logits",
            fix="Use MaskCLIP or EfficientNetLite0, and pass this one as affinity; or let it "
            "score by examples, with lpprop.models.ReferenceBackbone.",
        )


def check_averages(method: Chain) -> None:
    """Refuse a method that does not leave probabilities what they are: averages do, in [0, 1]."""
    for step in steps_of(method):
        if not isinstance(step, (BilinearUpsample, JointBilateralUpsample, PAMR)):
            raise InputError.of(
                "background",
                got=f"it beside a model of independent probabilities, and {step_name(step)}, whose "
                "result has another scale",
                expected='method="bilinear", "joint_bilateral" or "pamr"',
                fix="Take one of them, or leave background out.",
            )


def check_affinity(affinity: Backbone, method: Chain) -> None:
    """Refuse an affinity that lacks what the method needs."""
    if missing := missing_input(method, (*PROVIDED, *affinity.provides)):
        raise InputError.of(
            "affinity",
            got=f"{type(affinity).__name__}, which provides {' and '.join(affinity.provides)}",
            expected=f"an affinity that provides {missing}, for this method",
            fix="Use another method, or another affinity.",
        )


def check_takes_regions(method: Chain) -> None:
    """Refuse regions for a method that would ignore them."""
    if "regions" not in method.takes:
        raise InputError.of(
            "regions",
            got="regions, or what proposes them",
            expected="None, since this method takes none",
            fix="Leave them out, or use a method that takes them, such as 'region_vote'.",
        )


def check_windows(windows: object, method: Chain, models: Iterable[Backbone]) -> tuple[int, int]:
    """Return (window, stride); refuse windows that are not whole patches of each model."""
    if "attention" in method.needs:
        raise InputError.of(
            "windows",
            got=repr(windows),
            expected="None, since this method works on the attention of whole images",
            fix="Leave windows out, or use a method on feats, such as 'lposs+'.",
        )
    if not (isinstance(windows, (tuple, list)) and len(windows) == 2):
        raise InputError.of(
            "windows",
            got=repr(windows),
            expected="a pair (window, stride) of pixels",
            fix="The papers use (224, 112) and (448, 224).",
        )
    sides = (check_integer(f"windows[{i}]", side) for i, side in enumerate(windows))
    checked = SlidingWindows((1, 1), *sides)
    for model in models:
        if checked.window % model.patch_size:
            raise InputError.of(
                "windows",
                got=f"windows of {checked.window} pixels",
                expected=f"whole patches of {type(model).__name__}, {model.patch_size} pixels",
                fix="Use a multiple, such as "
                f"{model.patch_size * max(1, round(checked.window / model.patch_size))}.",
            )
    return checked.window, checked.stride


def check_room(
    images: int, size: tuple[int, int], seen: tuple[int, int], channels: int, device: torch.device
) -> None:
    """Refuse images whose scores alone do not fit, at both sizes, once and as a result.

    Args:
        images: their number.
        size: (H, W) of the images.
        seen: (H, W) at which the models see them.
        channels: the number of classes or prompts.
        device: where the scores are.
    """
    pixels = images * (math.prod(size) + math.prod(seen))
    needed = 4 * pixels * (3 + 2 * channels)
    free = available_bytes(device)
    if free is not None and needed > free:
        raise InputError.of(
            "image",
            got=f"{images} x {size[0]} x {size[1]} pixels, seen as {seen[0]} x {seen[1]}, "
            f"whose scores of {channels} classes or prompts need {needed / 2**30:.3g} GiB",
            expected=f"at most the {free / 2**30:.3g} GiB that are free",
            fix="Segment a smaller image, fewer images at once, or fewer classes.",
        )
