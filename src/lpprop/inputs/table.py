"""The inputs of refiners beside the scores: one table, from which everything else derives.

`lpprop.refine`, `Chain`, `Fusion`, `lpprop.compare`, the command line and the docs read it. A step
may also name inputs that are not in it: those are passed to the step unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from lpprop._core.checks import check_tensors
from lpprop._core.convert import as_attention, as_grid, as_image, as_maps
from lpprop._core.errors import InputError
from lpprop.inputs.background import check_saliency
from lpprop.inputs.patch_grid import cover
from lpprop.inputs.proposals import (
    as_given_regions,
    check_given_regions,
    check_given_scores,
    cover_regions,
)
from lpprop.inputs.regions import as_region_scores
from lpprop.inputs.windows import SlidingWindows

__all__ = ["INPUTS", "Input", "check_inputs", "convert_inputs"]


def _cover(tensor: Tensor, pixels: tuple[int, int], span: tuple[int, int]) -> Tensor:
    return cover(tensor, span)


@dataclass(frozen=True)
class Input:
    """One input: its shape, its conversion from what users pass, and a description.

    Attributes:
        name: the keyword that passes it.
        what: its description, for help and docs.
        axes: axes of the tensor, one entry per rank that it may have. None for other objects.
        convert: makes it from what the user passes and from the scores.
        per_image: whether there is one per image even if the scores are those of n windows.
        kinds: the kinds of numbers that it holds, as `check_tensors` takes them.
        check: checks it among the inputs of a call, given the scores and all inputs, if it is more
            than a tensor of these axes.
        cover: brings it from the image's pixels to those of a span, if it is per image.
        file: the shape of its array in a file, for the command line; "" if files cannot hold it.
    """

    name: str
    what: str
    axes: tuple[str, ...] | None
    convert: Callable[[object, Tensor], Any]
    per_image: bool = False
    kinds: tuple[str, ...] = ("float",)
    check: Callable[[Tensor, Mapping[str, Any]], None] | None = None
    cover: Callable[[Any, tuple[int, int], tuple[int, int]], Any] = _cover
    file: str = ""

    def axes_of(self, tensor: object, *, windowed: bool) -> str:
        """Return the axes that a tensor of this rank should have."""
        assert self.axes is not None
        rank = getattr(tensor, "ndim", 0)
        fitting = [axes for axes in self.axes if len(axes.split()) == rank]
        axes = (fitting or self.axes)[0]
        return axes.replace("B", "1", 1) if windowed and self.per_image else axes


def _as_windows(windows: object, scores: Tensor) -> SlidingWindows:
    if not isinstance(windows, SlidingWindows):
        raise InputError.of(
            "windows",
            got=type(windows).__name__,
            expected="lpprop.SlidingWindows",
            fix="Make them with SlidingWindows((H, W), window, stride).",
        )
    return windows


#: Every input that lpprop converts and checks, by name. To add an input, add a row.
INPUTS: dict[str, Input] = {
    row.name: row
    for row in (
        Input(
            "feats",
            "affinity features; need not be normalised, and may be on another grid",
            ("B D h' w'",),
            lambda feats, scores: as_grid("feats", feats),
            file="(D, h', w')",
        ),
        Input(
            "image",
            "the image, RGB in [0, 1] or uint8; with windows, the whole image that they cut",
            ("B 3 H W",),
            as_image,
            per_image=True,
        ),
        Input(
            "attention",
            "attention maps; row i says what patch i attends to; built from the feats if missing",
            ("B N N", "B heads N N"),
            lambda attention, scores: as_attention(attention),
            file="(N, N) or (heads, N, N)",
        ),
        Input(
            "windows",
            "the SlidingWindows that cut the image; item i of logits and feats is crop i's",
            None,
            _as_windows,
        ),
        Input(
            "pixel_feats",
            "features that replace the colours in the pixel step",
            ("B F H W",),
            lambda feats, scores: as_grid("pixel_feats", feats),
            per_image=True,
            file="(F, H, W)",
        ),
        Input(
            "saliency",
            "the probability that a pixel is foreground, or a mask of it, beside background",
            ("B H W",),
            lambda saliency, scores: as_maps("saliency", saliency),
            per_image=True,
            kinds=("float", "bool"),
            check=lambda scores, inputs: check_saliency(inputs["saliency"]),
            file="(H, W), or a PNG",
        ),
        Input(
            "regions",
            "regions: integer maps, negative = none, or masks; or what proposes them, such as "
            '"slic"',
            None,
            as_given_regions,
            per_image=True,
            check=check_given_regions,
            cover=cover_regions,
            file="(H, W) or (M, H, W)",
        ),
        Input(
            "region_scores",
            "the weights of masks, where several hold a pixel",
            None,
            as_region_scores,
            check=check_given_scores,
        ),
    )
}


def convert_inputs(inputs: Mapping[str, object], scores: Tensor) -> dict[str, Any]:
    """Convert what users pass to what refiners take; leave unknown inputs unchanged."""
    return {
        name: INPUTS[name].convert(value, scores) if name in INPUTS else value
        for name, value in inputs.items()
        if value is not None
    }


def check_inputs(scores: Tensor, inputs: Mapping[str, Any], names: Iterable[str]) -> dict[str, int]:
    """Check the scores and the named inputs against each other.

    Returns:
        The sizes of the axes, by name.

    Raises:
        InputError: as `check_tensors` and the checks of the inputs raise it.
    """
    windowed = inputs.get("windows") is not None
    known = [INPUTS[name] for name in INPUTS if name in names and inputs.get(name) is not None]
    tensors = {
        row.name: (inputs[row.name], row.axes_of(inputs[row.name], windowed=windowed), row.kinds)
        for row in known
        if row.axes is not None
    }
    sizes = check_tensors(logits=(scores, "B C h w"), **tensors)
    for row in known:
        if row.check is not None:
            row.check(scores, inputs)
    return sizes
