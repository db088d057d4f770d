"""Proposers: functions that find regions, and the names of those that lpprop has."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from lpprop._core.errors import InputError
from lpprop._core.options import hint
from lpprop._core.scans import forget
from lpprop.inputs.patch_grid import cover
from lpprop.inputs.regions import Regions, as_regions, check_region_scores, check_regions
from lpprop.inputs.superpixels import felzenszwalb, slic
from lpprop.numerics.nearest import resample_nearest

__all__ = [
    "PROPOSERS",
    "Proposal",
    "as_given_regions",
    "check_given_regions",
    "check_given_scores",
    "cover_regions",
]

#: The proposers that a name stands for.
PROPOSERS: dict[str, Callable[[Tensor], Any]] = {"slic": slic, "felzenszwalb": felzenszwalb}


class Proposal:
    """Regions that a proposer finds when they are asked for.

    A proposer of the image alone runs once, however often it is asked: a call has one image, be it
    for several methods or settings of windows. One with a parameter `scores` runs each time, for
    the scores that a step gets.

    Args:
        proposer: a function of the image (B, 3, H, W) in [0, 1], or of image and `scores`; or a
            name of `PROPOSERS`.

    Attributes:
        found: the regions, once a proposer of the image alone has run.

    Raises:
        InputError: no function of that form, or an unknown name.

    >>> import torch
    >>> calls = []
    >>> proposal = Proposal(lambda image: calls.append(1) or torch.zeros(1, 4, 4).long())
    >>> image, scores = torch.rand(1, 3, 4, 4), torch.rand(1, 2, 4, 4)
    >>> proposal(image, scores).shape, proposal(image, scores).shape, calls
    (torch.Size([1, 4, 4]), torch.Size([1, 4, 4]), [1])
    """

    def __init__(self, proposer: Callable[..., Any] | str) -> None:
        self.proposer = _find(proposer) if isinstance(proposer, str) else proposer
        self.name = getattr(self.proposer, "__name__", type(self.proposer).__name__)
        self.asks_for_scores = _asks_for_scores(self.proposer, self.name)
        self.found: Regions | None = None

    @classmethod
    def of(cls, proposer: Any) -> Proposal:
        """Return the proposal of a proposer or a name; one that is made already as it is."""
        return proposer if isinstance(proposer, Proposal) else cls(proposer)

    def __call__(self, image: Tensor | None, scores: Tensor) -> Regions:
        """Return the regions of an image, converted and checked.

        Raises:
            InputError: no image, or a proposer that returned what are no regions of it.
        """
        if image is None:
            raise self.lacks_image()
        if self.found is not None:
            return self.found
        asked = {"scores": scores} if self.asks_for_scores else {}
        # A copy, since a proposer may write to what it gets.
        found = self.proposer(image.clone(), **asked)
        forget()
        try:
            regions = as_regions(found, image)
            check_regions(regions, image)
        except InputError as error:
            why = str(error).removeprefix("regions")
            raise InputError(f"regions of the proposer {self.name}{why}") from None
        if not self.asks_for_scores:
            self.found = regions
        return regions

    def lacks_image(self) -> InputError:
        """Make the error for a call without the image that the proposer looks at."""
        return InputError.of(
            "image",
            got=f"None, beside the proposer {self.name}",
            expected="the image in which it finds regions",
            fix="Pass image=, or the regions themselves.",
        )


def as_given_regions(regions: object, scores: Tensor) -> Regions | Proposal:
    """Make regions, or a proposal of them, of what users pass.

    >>> import torch
    >>> as_given_regions(lambda image, scores: image[:, 0] > 0, torch.zeros(1)).asks_for_scores
    True
    """
    if isinstance(regions, str) or callable(regions):
        return Proposal.of(regions)
    return as_regions(regions, scores)


def check_given_regions(scores: Tensor, inputs: Mapping[str, Any]) -> None:
    """Check the regions among a call's inputs; those of a proposal are checked when they are found.

    Raises:
        InputError: as `check_regions` raises it, or a proposal without an image.
    """
    regions, image, windows = inputs["regions"], inputs.get("image"), inputs.get("windows")
    if not isinstance(regions, Proposal):
        pixels = None if windows is None else windows.image_size
        if image is not None:
            pixels = (image.shape[-2], image.shape[-1])
        check_regions(regions, scores, windowed=windows is not None, pixels=pixels)
    elif image is None:
        raise regions.lacks_image()


def check_given_scores(scores: Tensor, inputs: Mapping[str, Any]) -> None:
    """Check the scores of regions among a call's inputs.

    Raises:
        InputError: as `check_region_scores` raises it.
    """
    check_region_scores(inputs["region_scores"], inputs.get("regions"), scores)


def cover_regions(
    regions: Regions | Proposal, pixels: tuple[int, int], span: tuple[int, int]
) -> Regions | Proposal:
    """Bring regions to the image's size, and cut or extend them to the span of the grids."""
    if isinstance(regions, Proposal):
        return regions  # its proposer sees the image of that span
    if isinstance(regions, Tensor):
        return cover(resample_nearest(regions, pixels), span)
    return [cover(resample_nearest(masks, pixels), span) for masks in regions]


def _find(name: str) -> Callable[[Tensor], Any]:
    if name not in PROPOSERS:
        raise InputError.of(
            "regions",
            got=repr(name),
            expected=f"{', '.join(map(repr, PROPOSERS))}, a function of the image, or regions",
            fix=hint(name, PROPOSERS, "Read a file with lpprop.regions.load.", show=repr),
        )
    return PROPOSERS[name]


def _asks_for_scores(proposer: Callable[..., Any], name: str) -> bool:
    # A module's own signature takes anything; what it forwards to does not.
    call = proposer.forward if isinstance(proposer, nn.Module) else proposer
    try:
        parameters = list(inspect.signature(call).parameters.values())
        asks = len(parameters) > 1 and parameters[1].name == "scores"
        inspect.signature(call).bind(None, **({"scores": None} if asks else {}))
    except (TypeError, ValueError) as error:
        raise InputError.of(
            "regions",
            got=f"{name} ({error})",
            expected="a function of the image, or of image and scores",
            fix="Wrap it: lambda image: ..., or lambda image, scores: ....",
        ) from None
    return asks
