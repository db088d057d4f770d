"""The methods compared: each way to refine patches, followed by each way from patches to pixels."""

from collections.abc import Callable

from torch import Tensor, nn

from lpprop import Chain
from lpprop.refiners import (
    PAMR,
    BilinearUpsample,
    ClassDistribution,
    DenseCRF,
    GuidedFilter,
    JointBilateralUpsample,
    MaxVelocity,
    OptimalPath,
    PatchPropagation,
    PixelPropagation,
)

UPSAMPLERS: dict[str, list[nn.Module]] = {
    "bilinear": [BilinearUpsample()],
    "pixel step": [BilinearUpsample(), PixelPropagation()],
    "joint bilateral": [JointBilateralUpsample()],
    "guided filter": [BilinearUpsample(), GuidedFilter()],
    "PAMR": [BilinearUpsample(), PAMR()],
    "DenseCRF": [BilinearUpsample(), DenseCRF()],
}


class Softmax(nn.Module):
    """Logits of a classifier as probabilities."""

    def forward(self, logits: Tensor, **_: Tensor | None) -> Tensor:
        return logits.softmax(1)


REFINERS: dict[str, list[nn.Module]] = {
    "start": [],
    "LP k 50, γ 7": [PatchPropagation(k=50, gamma=7.0)],
    "LP k 100, γ 3": [PatchPropagation(k=100, gamma=3.0)],
    "LP preset": [PatchPropagation()],
    "path preset": [ClassDistribution(early_rejection=True), OptimalPath(norm="image")],
    "path, NMS 0": [ClassDistribution(early_rejection=True, nms=0.0), OptimalPath(norm="image")],
    "path, NMS 0, ε 0.3": [
        ClassDistribution(early_rejection=True, nms=0.0),
        OptimalPath(norm="image", epsilon=0.3),
    ],
    "velocity preset": [ClassDistribution(early_rejection=True), MaxVelocity()],
    "velocity, minmax 0.7": [
        ClassDistribution(early_rejection=True, confidence="minmax", nms=0.7),
        MaxVelocity(),
    ],
}


def methods(
    refiners: list[str] | None = None, upsamplers: list[str] | None = None, *, logits: bool = False
) -> dict[str, Callable[..., Tensor]]:
    """Return a chain per pair, by name; if the start gives `logits`, they become probabilities."""
    first: list[nn.Module] = [Softmax()] * logits
    return {
        pair(refiner, upsampler): Chain(*first, *REFINERS[refiner], *UPSAMPLERS[upsampler])
        for refiner in refiners or REFINERS
        for upsampler in upsamplers or UPSAMPLERS
    }


def pair(refiner: str, upsampler: str) -> str:
    return f"{refiner} + {upsampler}"
