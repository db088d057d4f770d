"""Starts with regions that a proposer finds in the image of each sample."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lpprop._core.convert import as_image
from lpprop.evaluation.fingerprints import describe
from lpprop.evaluation.predictors import LabelledImage, Start, check_start
from lpprop.inputs.proposals import Proposal
from lpprop.regions.cached import describe_proposer

__all__ = ["ProposedRegions"]


class ProposedRegions:
    """Make the start of a sample, and add regions to it.

    The regions are proposed once for all methods that refine the start, and their time does not
    count as that of a method. For a data set that is run several times, keep them on disk:
    `ProposedRegions(start, lpprop.regions.CachedProposer("slic", folder))`.

    Args:
        start: makes the `Start` of a sample.
        proposer: a function of the image, as `lpprop.refine` takes it, or its name, such as "slic".
            One of image and scores is handed on, and sees the scores that each method makes.

    Raises:
        InputError: what cannot make a start, no proposer, or one whose name does not tell it apart
            from others, such as a lambda.

    >>> import torch
    >>> from PIL import Image
    >>> from types import SimpleNamespace
    >>> sample = SimpleNamespace(name="a", image=Image.new("RGB", (32, 24)))
    >>> start = ProposedRegions(lambda sample: Start(torch.rand(1, 5, 3, 4)), "slic")
    >>> start(sample).inputs["regions"].shape
    torch.Size([1, 24, 32])
    """

    def __init__(self, start: Callable[[Any], Start], proposer: Callable[..., Any] | str) -> None:
        check_start(start)
        self.start = start
        self.proposer = Proposal(proposer).proposer
        self._described = describe_proposer(self.proposer)

    def __call__(self, sample: LabelledImage) -> Start:
        """Return the start of a sample, with regions.

        Raises:
            InputError: a proposer that returns no regions of the image.
        """
        start = self.start(sample)
        proposal = Proposal(self.proposer)
        regions: Any = self.proposer
        if not proposal.asks_for_scores:
            image = as_image(start.inputs.get("image", sample.image), like=start.logits)
            regions = proposal(image, start.logits)
        return Start(start.logits, **{**start.inputs, "regions": regions})

    def fingerprint(self) -> dict[str, Any]:
        """Describe the start and the proposer."""
        return {**describe(self.start), "regions": self._described}
