"""The options of LPOSS and LPOSS+: features, graph, windows, and the ways to pixels behind it."""

import torch
from torch import Tensor, nn

from lpprop import Chain
from lpprop.refiners import (
    PAMR,
    BilinearUpsample,
    DenseCRF,
    GuidedFilter,
    JointBilateralUpsample,
    PatchPropagation,
    PixelPropagation,
)

from .grids import grid
from .methods import BILINEAR, METHODS, PATH, SPARSE, Way, dslo, lposs, propagation, then
from .regions import FELZENSZWALB, MAJORITY_VOTE, SLIC
from .starts import FORMS
from .views import CNN, FEATURES

SMALL, LARGE = "224/112", "448/224"
#: Settings of the graph in which features are compared, and details of the graph.
GRAPHS = {
    "k 10, γ 7, α 0.8": (10, 7.0, 0.8),
    "k 50, γ 7": (50, 7.0, 0.95), "k 50, γ 30": (50, 30.0, 0.95),
    "k 400, γ 3": (400, 3.0, 0.95), "k 400, γ 7": (400, 7.0, 0.95),
}  # fmt: skip
USED = ("k 10, γ 7, α 0.8", "k 400, γ 7")


class PerWindow(nn.Module):
    """Propagation within each window by itself: feature extraction and prediction are coupled."""

    needs = ("feats",)

    def __init__(self, step: PatchPropagation) -> None:
        super().__init__()
        self.step = step

    def forward(self, logits: Tensor, *, feats: Tensor, windows: object) -> Tensor:
        return torch.cat(
            [
                self.step(z, feats=x)
                for z, x in zip(logits.split(1), feats.split(1), strict=True)
            ]
        )  # fmt: skip


def graphs() -> dict[str, Way]:
    return grid(
        lposs,
        k=(5, 10, 50, 100, 400),
        gamma=(3.0, 7.0, 15.0, 30.0),
        alpha=(0.5, 0.8, 0.95),
    )


def features() -> dict[str, Way]:
    return {
        f"{feats}, {name}": lposs(*options, feats=feats)
        for feats in (*FEATURES, CNN)
        for name, options in GRAPHS.items()
    }


def spatial() -> dict[str, Way]:
    """The spatial term, the appearance and the solver, in two graphs."""
    ways = {}
    for name in USED:
        k, gamma, alpha = GRAPHS[name]
        for sigma in (0.0, 0.003, 0.01, 0.03, 0.1):
            ways[f"{name}, sigma {sigma:g}"] = lposs(k, gamma, alpha, sigma=sigma)
        ways[f"{name}, spatial none"] = lposs(k, gamma, alpha, spatial="none")
        for sigma in (0.001, 0.005):
            ways[f"{name}, spatial linear, sigma {sigma:g}"] = lposs(
                k, gamma, alpha, spatial="linear", sigma=sigma
            )
        for sigma_a in (1 / 3, 1 / 7, 1 / 15):
            ways[f"{name}, exponential 1/{round(1 / sigma_a)}"] = lposs(
                k, gamma, alpha, appearance="exponential", sigma_a=sigma_a
            )
        ways[f"{name}, converged"] = lposs(k, gamma, alpha, max_iter=1000)
    return ways


def windows() -> dict[str, Way]:
    """The whole image against windows of two sizes and both, jointly and window by window."""
    ways = {}
    for name in ("k 400, γ 7", "k 50, γ 7", "k 10, γ 7, α 0.8"):
        k, gamma, alpha = GRAPHS[name]
        step = propagation(k, gamma, alpha)
        assert isinstance(step, PatchPropagation)
        alone = Chain(PerWindow(step), BilinearUpsample())
        ways[f"{name}, whole"] = lposs(k, gamma, alpha)
        for chosen in ((SMALL,), (LARGE,), (SMALL, LARGE)):
            title = f"{name}, {' and '.join(chosen)}"
            ways[title] = Way(lposs(k, gamma, alpha).method, "token", windows=chosen)
            ways[f"{title}, coupled"] = Way(alone, "token", windows=chosen)
        for chosen in ((), (SMALL,)):
            title = f"{name}, {' and '.join(chosen) or 'whole'}"
            for term, options in {
                "spatial none": {"spatial": "none"}, "pixel step": {},
            }.items():  # fmt: skip
                way = lposs(k, gamma, alpha, **options)
                way = then(way, PixelPropagation()) if term == "pixel step" else way
                ways[f"{title}, {term}"] = Way(way.method, "token", windows=chosen)
        for feats in (CNN,):
            ways[f"{name}, {SMALL}, {feats} features"] = Way(
                lposs(k, gamma, alpha).method, feats, windows=(SMALL,)
            )
        if name == "k 400, γ 7":
            ways[f"{name}, {SMALL}, coupled, pixel step"] = then(
                ways[f"{name}, {SMALL}, coupled"], PixelPropagation()
            )
    for chosen in ((LARGE,), (SMALL, LARGE)):
        for feats in ("token", "value"):
            title = f"k 50, γ 30, {' and '.join(chosen)}, {feats}s"
            ways[title] = Way(lposs(50, 30.0).method, feats, windows=chosen)
    for chosen in ((SMALL,), (LARGE,), (SMALL, LARGE)):
        ways[f"bilinear, {' and '.join(chosen)}"] = Way(METHODS[BILINEAR].method, windows=chosen)
    return ways


def pixels() -> dict[str, Way]:
    """The options of the pixel step, and other ways to pixels, behind a patch step."""
    ways = {"patch step alone": SPARSE}
    for tau in (0.003, 0.01, 0.03):
        ways[f"pixel step, tau {tau:g}"] = then(SPARSE, PixelPropagation(tau=tau))
    for r in (3, 7, 19):
        ways[f"pixel step, r {r}"] = then(SPARSE, PixelPropagation(r=r))
    for alpha in (0.5, 0.8):
        ways[f"pixel step, alpha {alpha:g}"] = then(SPARSE, PixelPropagation(alpha=alpha))
    for sigma in (0.1, 0.5):
        ways[f"pixel step, sigma {sigma:g}"] = then(SPARSE, PixelPropagation(sigma=sigma))
    others = {
        "guided filter": GuidedFilter(),
        "PAMR": PAMR(), "PAMR, dilations 4 and 8": PAMR(dilations=(4, 8)),
        "DenseCRF": DenseCRF(), "DenseCRF, w1 3": DenseCRF(w1=3.0),
    }  # fmt: skip
    ways |= {name: then(SPARSE, step) for name, step in others.items()}
    for title, sigma_range in (("joint bilateral", 0.1**0.5), ("joint bilateral, 0.2", 0.2)):
        step = propagation(10, 7.0, 0.8)
        ways[title] = Way(Chain(step, JointBilateralUpsample(sigma_range=sigma_range)), "token")
    return ways


def forms() -> dict[str, Way]:
    """What the start is given as: probabilities, as it is, scaled by 50, or labels."""
    methods = {
        "LP k 10, γ 7, α 0.8": SPARSE, "LPOSS, γ 7": lposs(), "optimal path": dslo(PATH),
        "maximum velocity": METHODS["maximum velocity"],
    }  # fmt: skip
    return {
        f"{name}, {form}": Way(**vars(way) | {"form": form})
        for name, way in methods.items()
        for form in FORMS
    }


def votes() -> dict[str, Way]:
    """A majority vote in regions of colour, from the start and behind refiners."""
    before = {
        "start": METHODS[BILINEAR], "LP k 10, γ 7, α 0.8": SPARSE,
        "maximum velocity": METHODS["maximum velocity"],
    }  # fmt: skip
    ways = {name: way for name, way in before.items() if name != "start"}
    for name in (*FELZENSZWALB, *SLIC):
        for title, way in before.items():
            ways[f"{title} + {name}"] = then(way, MAJORITY_VOTE, regions=name)
    return ways
