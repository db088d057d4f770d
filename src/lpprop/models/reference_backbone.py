"""A backbone whose classes are examples, in place of words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lpprop._core.convert import as_image
from lpprop._core.errors import InputError
from lpprop._core.options import Check, check_above_0, check_choice, check_options
from lpprop._core.scans import one_call
from lpprop.backbones.backbone import Backbone, BackboneOutput
from lpprop.backbones.fingerprints import describe_model, describe_settings
from lpprop.backbones.prompts import parse_classes
from lpprop.inputs.matching import CHECKS, match
from lpprop.inputs.proposals import Proposal, cover_regions
from lpprop.inputs.region_matching import classify_regions
from lpprop.models.references import References, find_sets
from lpprop.regions.cached import describe_proposer

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

__all__ = ["ReferenceBackbone"]


def _check_scores(name: str, value: object) -> str:
    return check_choice(name, value, ("softmax", "cosine"))


_CHECKS: dict[str, Check] = {**CHECKS, "scores": _check_scores, "logit_scale": check_above_0}


class ReferenceBackbone(Backbone):
    """Scores by references, from the features of another backbone, for classes by their names.

        references = References.from_images(model, images, labels, ["road", "car; van"])
        segmenter = Segmenter(ReferenceBackbone(model, references))
        scores, names = segmenter(image, ["road", "car"])

    Each patch is scored by the references as `lpprop.classify_regions` scores a region, or, given a
    proposer, each region of the image is; then a patch's score is the mean over its pixels. All
    else that the model provides is handed on.

    Args:
        model: a backbone that provides feats.
        references: what the model made of examples.
        matching: "cosine" or "rank", as `classify_regions` takes it.
        reduce: "max" or "mean".
        temperature: for "rank".
        scores: "softmax" gives softmax(logit_scale x scores), as methods on distributions and
            label propagation want it; "cosine" gives the scores themselves: cosines, or the
            negative divergences of "rank".
        logit_scale: > 0; None stands for 50, and for 1 where divergences are scaled, which are
            differences of logarithms already.
        regions: None, or a proposer as `lpprop.refine` takes it: a function of an image
            (B, 3, H, W) in [0, 1] that returns its regions, or the name of one, such as "slic".

    A class is scored by all sets that its name or a synonym names: "vehicle = car; truck" takes
    those of cars and of trucks, and of vehicles if there are any.

    Raises:
        InputError: a model that did not make the references, or an option that cannot be used.

    >>> from lpprop.backbones import EfficientNetLite0
    >>> references = References(["cat", "sofa"], [torch.rand(3, 192), torch.rand(1, 192)])
    >>> backbone = ReferenceBackbone(EfficientNetLite0(), references)
    >>> backbone(torch.rand(1, 3, 64, 96), ["sofa", "cat"])
    BackboneOutput(grid=(4, 6), logits=(1, 2, 4, 6), feats=(1, 192, 4, 6))
    """

    def __init__(
        self,
        model: Backbone,
        references: References,
        *,
        matching: str = "cosine",
        reduce: str = "max",
        temperature: float = 0.02,
        scores: str = "softmax",
        logit_scale: float | None = None,
        regions: Callable[..., Any] | str | None = None,
    ) -> None:
        if not isinstance(references, References):
            raise InputError.of(
                "references",
                got=type(references).__name__,
                expected="lpprop.models.References",
                fix="Make them by References.from_images, or load them.",
            )
        references.check_backbone(model)
        options = {"matching": matching, "reduce": reduce, "temperature": temperature}
        if logit_scale is None:
            logit_scale = 1.0 if matching == "rank" else 50.0
        checked = check_options(_CHECKS, {**options, "scores": scores, "logit_scale": logit_scale})
        proposal = None if regions is None else Proposal(regions)
        if proposal is not None and proposal.asks_for_scores:
            raise InputError.of(
                "regions",
                got=f"the proposer {proposal.name}, which asks for scores",
                expected="one of the image alone, since its regions are what is scored",
                fix="Pass one of lpprop.regions, such as slic.",
            )
        super().__init__(
            patch_size=model.patch_size, mean=model._mean, std=model._std,
            max_bytes=model.max_bytes,
        )  # fmt: skip
        self.model = model
        self.names = list(references.names)
        # Buffers go with the model to its device, and are part of its fingerprint.
        for number, vectors in enumerate(references.vectors):
            self.register_buffer(f"references_{number}", vectors.clone())
        self.matching, self.reduce = checked["matching"], checked["reduce"]
        self.temperature = checked["temperature"]
        self.scores, self.logit_scale = checked["scores"], checked["logit_scale"]
        #: What proposes the regions that are scored; None where patches are.
        self.regions = None if proposal is None else proposal.proposer
        self.provides = ("logits", *(name for name in model.provides if name != "logits"))
        self.feats_from, self.commit = model.feats_from, model.commit

    def span(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return how many pixels the model's grid spans."""
        return self.model.span(size)

    def fingerprint(self) -> dict[str, Any]:
        """Describe itself, the model that it asks for features, and what proposes regions.

        Raises:
            InputError: a proposer that its name does not tell apart, such as a lambda.
        """
        described = {**describe_model(self), "model": describe_settings(self.model)}
        if self.regions is not None:
            described["regions"] = describe_proposer(self.regions)
        return described

    def class_names(self, classes: Sequence[str]) -> list[str]:
        """Return the name of each class, or refuse one without references."""
        find_sets(classes, self.names)
        return parse_classes(classes).class_names

    @torch.no_grad()
    def forward(
        self,
        image: Float[Tensor, "B 3 H W"] | np.ndarray[Any, Any] | Image,
        classes: Sequence[str] | None = None,
    ) -> BackboneOutput:
        """See images, and score classes, all of them in their order if None; see `Backbone`."""
        with one_call():
            sets = self._sets(self.names if classes is None else classes)
            pixels = as_image(image, like=torch.empty(0, device=self.device))
            seen = self.model(pixels)
            channels, width = seen.feats.shape[1], sets[0].shape[1]
            if channels != width:
                raise InputError.of(
                    "references",
                    got=f"vectors of {width} channels",
                    expected=f"{channels}, as the features of {type(self.model).__name__} have",
                    fix="Make them with this model.",
                )
            options = {name: getattr(self, name) for name in CHECKS}
            if self.regions is None:
                vectors = seen.feats.flatten(2).mT.flatten(0, 1)
                found = match(vectors, sets, **options)
                scores = found.unflatten(0, (len(pixels), *seen.grid)).movedim(-1, 1)
            else:
                scores = self._score_regions(pixels, seen, sets, options)
            if self.scores == "softmax":
                scores = (self.logit_scale * scores).softmax(1)
            return BackboneOutput(seen.grid, scores, seen.feats, seen.attention)

    def _score_regions(
        self,
        pixels: Float[Tensor, "B 3 H W"],
        seen: BackboneOutput,
        sets: list[Float[Tensor, "K D"]],
        options: dict[str, Any],
    ) -> Float[Tensor, "B C h w"]:
        assert self.regions is not None
        assert seen.feats is not None
        size = (pixels.shape[-2], pixels.shape[-1])
        found = Proposal(self.regions)(pixels.float(), pixels)
        spanned = cover_regions(found, size, self.span(size))
        assert not isinstance(spanned, Proposal)
        scores = classify_regions(seen.feats, spanned, sets, **options)
        return F.adaptive_avg_pool2d(scores, seen.grid)

    def _sets(self, classes: Sequence[str]) -> list[Float[Tensor, "K D"]]:
        """Return the references of each class."""
        sets = find_sets(classes, self.names)
        return [torch.cat([getattr(self, f"references_{i}") for i in one]) for one in sets]
