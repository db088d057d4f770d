"""The methods compared, each with the inputs that it is given. The one list of the main table."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

import lpprop
from lpprop import Chain
from lpprop.refiners import (
    PAMR,
    BilinearUpsample,
    ClassDistribution,
    DenseCRF,
    GuidedFilter,
    JointBilateralUpsample,
    KLDiscrepancy,
    MaxVelocity,
    OptimalPath,
    PatchPropagation,
    PixelPropagation,
)

from .regions import MAJORITY_VOTE, regions
from .starts import STARTS, Labelled, scores
from .views import CNN, PATCH, View

Method = Callable[..., Tensor]


@dataclass(frozen=True)
class Way:
    """A method, and what it is given.

    Attributes:
        method: what `lpprop.refine` takes as its method; None for its default.
        feats, attention, regions: the names of these inputs, None for none.
        sharpen: the temperature of `lpprop.sharpen_attention`, None for none.
        form: what the start is given as.
        windows: names of window settings; several are averaged. Empty: the whole image.
        values: options as they are shown in tables of settings.
    """

    method: Method | None = None
    feats: str | None = None
    attention: str | None = None
    sharpen: float | None = None
    regions: str | None = None
    form: str = "probabilities"
    windows: tuple[str, ...] = ()
    values: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, view: View, start: str, labelled: Labelled) -> Tensor:
        """Return the scores (1, C, H, W) at the size of the picture."""
        settings: list[str | None] = [*self.windows] or [None]
        logits = [scores(view, start, labelled, self.form, name) for name in settings]
        patch, (height, width) = STARTS[start].patch, view.picture.size
        image = view.padded(patch) if patch else view.image(settings[0])
        size = (image.shape[-2], image.shape[-1]) if patch else (height, width)
        given: dict[str, Any] = {"image": image, "size": size}
        if self.feats is not None:
            given["feats"] = [view.feats(self.feats, name) for name in settings]
        if self.windows:
            given["windows"] = [view.windows(name) for name in self.windows]
        if len(settings) == 1:
            given |= {name: given[name][0] for name in ("feats", "windows") if name in given}
        if self.attention is not None:
            attention = view.attention(self.attention)
            if self.sharpen is not None:
                attention = lpprop.sharpen_attention(attention, self.sharpen)
            given["attention"] = attention
        if self.regions is not None:
            given["regions"] = regions(view, self.regions, image)
        given |= {"patch_size": PATCH} if self.method is None else {"method": self.method}
        refined = lpprop.refine(logits if len(settings) > 1 else logits[0], **given)
        return refined[..., :height, :width]

    def describe(self, start: str) -> str:
        """A hash of what decides the result, beside the picture and the weights."""
        return hashlib.sha256(f"{self} {STARTS[start]}".encode()).hexdigest()[:16]


def propagation(k: int = 400, gamma: float = 7.0, alpha: float = 0.95, **options: Any) -> nn.Module:
    return PatchPropagation(k=k, gamma=gamma, alpha=alpha, patch_size=PATCH, **options)


def lposs(
    k: int = 400, gamma: float = 7.0, alpha: float = 0.95, feats: str = "token", **options: Any
) -> Way:
    """Patch propagation, bilinear to pixels."""
    return Way(Chain(propagation(k, gamma, alpha, **options), BilinearUpsample()), feats)


def then(way: Way, *steps: nn.Module, **others: Any) -> Way:
    """A way, and steps on pixels after it."""
    assert way.method is not None
    return Way(**vars(way) | {"method": Chain(*_steps(way), *steps), **others})


def _steps(way: Way) -> list[Any]:
    assert isinstance(way.method, Chain)
    return list(way.method.steps)


def dslo(
    step: nn.Module, upsample: nn.Module | None = None, attention: str = "query-key last",
    **distribution: Any,
) -> Way:  # fmt: skip
    """A map of the discrepancy; as in the presets, joint bilateral upsampling and early rejection.

    KL, which takes no attention, is given none.
    """
    chain = Chain(
        ClassDistribution(**{"early_rejection": True, **distribution}),
        step,
        JointBilateralUpsample() if upsample is None else upsample,
    )
    return Way(chain, attention=None if isinstance(step, KLDiscrepancy) else attention)


BILINEAR = "bilinear"
#: What the document advises for prototypes and texts, if the models can look at windows.
ADVISED = "LPOSS+, k 50, γ 7, windows 224/112 and 448/224"
SPARSE = lposs(10, 7.0, 0.8)
PATH = OptimalPath(norm="image")

METHODS: dict[str, Way] = {
    BILINEAR: Way(Chain(BilinearUpsample())),
    **{
        f"default, {title}": Way(feats=feats)
        for title, feats in (
            ("tokens", "token"),
            ("keys", "key"),
            ("queries", "query"),
            ("values", "value"),
            ("CNN", CNN),
        )
    },
    "LPOSS, γ 3": lposs(400, 3.0),
    "LPOSS+, γ 3": then(lposs(400, 3.0), PixelPropagation()),
    "LPOSS, γ 7": lposs(400, 7.0),
    "LPOSS+, γ 7": then(lposs(400, 7.0), PixelPropagation()),
    "LP k 50, γ 7": lposs(50, 7.0),
    "LP k 50, γ 30, values": lposs(50, 30.0, feats="value"),
    "LPOSS+ k 50, γ 30, windows 448/224": then(
        Way(**vars(lposs(50, 30.0)) | {"windows": ("448/224",)}), PixelPropagation()
    ),
    "LP k 10, γ 7, α 0.8": SPARSE,
    "LP k 10, γ 7, α 0.8 + pixel step": then(SPARSE, PixelPropagation()),
    "LP k 10, γ 7, α 0.8, CNN": lposs(10, 7.0, 0.8, CNN),
    "LP k 50, γ 7, CNN": lposs(50, 7.0, feats=CNN),
    "optimal path": dslo(PATH),
    "path, NMS 0, ε 0.3": dslo(OptimalPath(norm="image", epsilon=0.3), nms=0.0),
    "maximum velocity": dslo(MaxVelocity()),
    "velocity, minmax 0.5": dslo(MaxVelocity(), confidence="minmax", nms=0.5),
    "KL": dslo(KLDiscrepancy()),
    "fusion": dslo(lpprop.Fusion(PATH, MaxVelocity())),
    "pixel step": Way(Chain(BilinearUpsample(), PixelPropagation())),
    "joint bilateral": Way(Chain(JointBilateralUpsample())),
    "guided filter": Way(Chain(BilinearUpsample(), GuidedFilter())),
    "PAMR": Way(Chain(BilinearUpsample(), PAMR())),
    "DenseCRF": Way(Chain(BilinearUpsample(), DenseCRF())),
    "regions: Felzenszwalb": Way(
        Chain(BilinearUpsample(), MAJORITY_VOTE), regions="Felzenszwalb, 100"
    ),
    "regions: SLIC": Way(Chain(BilinearUpsample(), MAJORITY_VOTE), regions="SLIC, 400"),
}


def _advice() -> dict[str, Way]:
    """The default beside what the document advises, given probabilities and given raw scores."""
    ways = {
        "LPOSS+, k 50, γ 30": then(lposs(50, 30.0), PixelPropagation()),
        ADVISED: then(
            Way(**vars(lposs(50, 7.0)) | {"windows": ("224/112", "448/224")}), PixelPropagation()
        ),
    }
    raw = {f"{name}, raw scores": Way(**vars(way) | {"form": "raw"}) for name, way in ways.items()}
    return {name: METHODS[name] for name in (BILINEAR, "default, tokens")} | ways | raw


ADVICE = _advice()

#: Those of the tables with many starts, without what takes long.
SHORT = [
    BILINEAR, "default, tokens", "default, values", "default, CNN", "LPOSS, γ 7",
    "LP k 50, γ 30, values", "LP k 10, γ 7, α 0.8",
    "LP k 10, γ 7, α 0.8, CNN", "path, NMS 0, ε 0.3", "optimal path", "maximum velocity",
    "velocity, minmax 0.5", "regions: Felzenszwalb",
]  # fmt: skip

#: The ways to pixels alone, for patches of true labels.
UPSAMPLERS = [
    BILINEAR, "pixel step", "joint bilateral", "guided filter", "PAMR", "DenseCRF",
    "regions: Felzenszwalb", "regions: SLIC",
]  # fmt: skip
