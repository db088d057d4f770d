"""Segmenters as predictors, which may share their models."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from jaxtyping import Float
from torch import Tensor

from lpprop._core.errors import InputError
from lpprop.evaluation.fingerprints import model_fingerprint
from lpprop.evaluation.predictors import LabelledImage, Predictor
from lpprop.evaluation.sharing import SharedCalls
from lpprop.regions.cached import describe_proposer

if TYPE_CHECKING:
    from lpprop.models.recipes import Recipe
    from lpprop.models.segmenter import Segmenter

__all__ = ["SegmenterPredictor", "share_models"]


class SegmenterPredictor(Predictor):
    """Segment samples into classes in words.

    Args:
        segmenter: a `lpprop.models.segmenter.Segmenter`.
        prompts: one string per class, in the order of the labels.
        recipe: the recipe of which the segmenter was built, if any; reports then show it.

    Attributes:
        calls: the calls of the segmenter's models, which `share_models` shares.

    Raises:
        InputError: no segmenter, or prompts that its backbone cannot score.
    """

    def __init__(
        self, segmenter: Segmenter, prompts: Sequence[str], recipe: Recipe | None = None
    ) -> None:
        if not hasattr(segmenter, "backbone"):
            raise InputError.of(
                "segmenter",
                got=type(segmenter).__name__,
                expected="a lpprop.models.segmenter.Segmenter",
                fix="Build one, such as by RECIPES['offline'].build().",
            )
        self.segmenter = segmenter
        self.segmenter.backbone.class_names(prompts)
        self.background = segmenter.choice.background is not None
        self.prompts = list(prompts)
        self.recipe = recipe
        self.calls: SharedCalls | None = None

    def __call__(self, sample: LabelledImage) -> Float[Tensor, "C H W"]:
        """Return the scores at the size of the sample's image."""
        if self.calls is None:
            return self.segmenter(sample.image, self.prompts).scores[0]
        with self.calls.on(sample):
            scores = self.segmenter(sample.image, self.prompts).scores[0]
        self.borrowed_seconds = self.calls.borrowed
        return scores

    def fingerprint(self) -> dict[str, Any]:
        """Describe the recipe, the segmenter and its models."""
        proposer = self.segmenter.regions
        of_references = getattr(self.segmenter.backbone, "regions", None)
        return {
            **({} if self.recipe is None else {"recipe": dataclasses.asdict(self.recipe)}),
            "segmenter": repr(self.segmenter),
            **({} if proposer is None else {"regions": describe_proposer(proposer)}),
            "prompts": self.prompts,
            "backbone": model_fingerprint(self.segmenter.backbone)
            | ({} if of_references is None else {"regions": describe_proposer(of_references)}),
            "affinity": model_fingerprint(self.segmenter.affinity),
        }


def share_models(predictors: Iterable[SegmenterPredictor]) -> None:
    """Run models that predictors have in common once per image.

    The results are those of separate runs, to the bit, and each predictor's time still contains the
    models. The outputs of the last image stay in memory.
    """
    calls = SharedCalls()
    for predictor in predictors:
        predictor.calls = predictor.segmenter.call_model = calls
