"""Odd calls of every public name: a right result, or an InputError that names the argument.

    python tests/fuzzing.py --calls 100000 [--seed N]      # what `make fuzz` runs
    python tests/fuzzing.py --seed N --only 1234           # one of those calls again

A call draws sensible arguments, and then, in half of the calls, spoils one or two of them. It is
right if it returns finite values of the documented shape and dtype, close to those of the same call
in float64 if nothing was spoilt; or if it raises InputError, and the message begins with the name
of an argument. It is wrong if it raises anything else, warns of anything but InputWarning, changes
an input, or takes three minutes.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import inspect
import multiprocessing
import os
import random
import re
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import lpprop
from lpprop.numerics.cg import cg
from lpprop.numerics.ipf import ipf
from lpprop.numerics.sinkhorn import sinkhorn

_SECONDS = 180
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


# --------------------------------------------------------------------------- what to draw


@dataclass
class Scene:
    """Sizes that fit together, and the draws that depend on them."""

    rng: random.Random
    generator: torch.Generator
    dtype: torch.dtype
    sizes: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, seed: int) -> Scene:
        rng = random.Random(f"scene {seed}")  # apart from the draw of the target
        generator = torch.Generator().manual_seed(seed)
        dtypes = [torch.float32] * 5 + [torch.float64, torch.float16, torch.bfloat16]
        scene = cls(rng, generator, rng.choice(dtypes))
        h, w = rng.randint(1, 7), rng.randint(1, 7)
        patch = rng.choice([1, 2, 4, 8])
        scene.sizes = {
            "B": rng.choice([1, 1, 2]),
            "C": rng.choice([1, 2, 3, 4, 5, 9]),
            "D": rng.choice([1, 3, 8]),
            "h": h,
            "w": w,
            "N": h * w,
            "H": h * patch,
            "W": w * patch,
            "F": rng.choice([1, 3]),
            "heads": rng.choice([1, 3]),
            "patch": patch,
        }
        scene.sizes["K"] = scene.sizes["C"] + 1
        return scene

    def normal(self, axes: str) -> Tensor:
        shape = [self.sizes[x] if x in self.sizes else int(x) for x in axes.split()]
        return torch.randn(shape, generator=self.generator, dtype=torch.float64)

    def scores(self, axes: str) -> Tensor:
        """Scores of many kinds: of models, with ties, of any size."""
        x = self.normal(axes)
        kinds: list[Callable[[], Tensor]] = [
            lambda: x,
            lambda: x,
            lambda: x.softmax(1),
            lambda: 0.25 + 0.02 * x,
            lambda: 100 * x,
            lambda: 1e-6 * x,
            lambda: x.round(),
            lambda: torch.zeros_like(x),
            lambda: torch.full_like(x, self.rng.choice([-3.0, 1.0])),
            lambda: 1e30 * x if self.dtype not in (torch.float16,) else x,
        ]
        return self.rng.choice(kinds)().to(self.dtype)

    def features(self, axes: str) -> Tensor:
        x = self.normal(axes)
        kinds = [x, x, x.abs(), 1e-4 * x, 1e4 * x.clamp(-1, 1), x.round(), torch.ones_like(x)]
        return self.rng.choice(kinds).to(self.dtype)

    def image(self, axes: str = "B 3 H W") -> Tensor:
        x = self.normal(axes)
        kinds = [
            x.sigmoid(),
            x.sigmoid(),
            torch.zeros_like(x),
            torch.ones_like(x),
            x.gt(0).double(),
        ]
        return self.rng.choice(kinds).to(self.dtype)

    def labels(self) -> Tensor:
        """A map of integers with each class, if there are pixels enough."""
        size = [self.sizes[x] for x in ("B", "H", "W")]
        count = size[0] * size[1] * size[2]
        drawn = torch.randint(-1, self.sizes["C"], (count,), generator=self.generator)
        first = torch.arange(min(count, self.sizes["C"]))
        return torch.cat([first, drawn[len(first) :]]).view(size)

    def rows(self, axes: str) -> Tensor:
        """Attention or distributions: rows that sum to 1."""
        scale = self.rng.choice([0.1, 1.0, 10.0])
        return (scale * self.normal(axes)).softmax(-1).to(self.dtype)


# By name, values that the docs allow.
OPTIONS: dict[str, list[Any]] = {
    "beta": [0, 1.0, 1.2],
    "k": [1, 2, 5, 50, 400],
    "gamma": [0.5, 1, 3.0, 7.0],
    "sigma": [0, 0.01, 1.0],
    "alpha": [0, 0.5, 0.95, 0.99],
    "patch_size": [1, 8, 14, 7.5],
    "distance_power": [0.5, 1, 2.0],
    "max_iter": [1, 10, 40],
    "tol": [0, 1e-6, 1e-2],
    "appearance": ["power", "exponential"],
    "sigma_a": [0.1, 1.0],
    "spatial": ["rbf", "linear", "none"],
    "storage": ["auto", "dense", "csr"],
    "tau": [0.01, 0.1, 0.9],
    "by": ["mean", "vote", "probability"],
    "strength": [0, 0.5, 1.0],
    "purity": [0, 0.5, 1],
    "overlap": ["average", "smallest", "largest"],
    "r": [1, 3, 13],
    "backend": ["auto", "torch", "llvm"],
    "prune": [True, False],
    "pixel_sigma": [0.0, 0.1],
    "pixel_distance_power": [1.0, 2.0],
    "pixel_alpha": [0.5, 0.95],
    "pixel_max_iter": [1, 10],
    "pixel_tol": [1e-6, 1e-2],
    "nms": [0, 0.5, 0.9, 1],
    "matching": ["cosine", "rank"],
    "reduce": ["max", "mean"],
    "threshold": ["relative", "absolute"],
    "confidence": ["softmax", "minmax"],
    "logit_scale": [0.01, 1.0, 100],
    "early_rejection": [True, False],
    "epsilon": [1e-3, 0.1, 10.0],
    "iterations": [1, 5, 50],
    "norm": ["none", "image", "class", "sum"],
    "complement": [True, False],
    "ipf_iterations": [1, 15],
    "criterion": ["arrival", "step"],
    "max_steps": [1, 20, 1000],
    "sigma_space": [0.5, 1.0, 3],
    "sigma_range": [0.05, 0.3, 2.0],
    "radius": [0, 1, 3],
    "eps": [1e-6, 1e-4, 1.0],
    "dilations": [(1,), (8, 16), [2, 3]],
    "temperature": [0.05, 0.1, 1.0],
    "scale": ["auto", 1.0, 100],
    "steps": [0, 1, 3],
    "w1": [0, 10.0],
    "w2": [0, 3.0],
    "theta_alpha": [1.0, 80.0],
    "theta_beta": [1.0, 13.0],
    "theta_gamma": [1.0, 3.0],
    "feats_from": ["vit-b/16", "dinov2"],
    "window": [8, 224],
    "stride": [3, 8],
    "repeats": [1],
    "ignore_index": [255, 99],
    "palette": ["default", "voc"],
    "background": [None, 0, 0.3, 0.5, 1],
    "patches": [1, 3, 0.01, 0.5, 1.0],
}

# By preset, those of an option whose name has another meaning elsewhere.
OPTIONS_OF: dict[str, dict[str, list[Any]]] = {"clip_dinoiser": {"threshold": [0, 0.2, 0.9, 1]}}

ODD: list[Any] = [
    float("nan"),
    float("inf"),
    -float("inf"),
    -1,
    0,
    -0.0,
    1e-320,
    1e300,
    10**30,
    2**63,
    True,
    None,
    "x",
    "",
    "auto",
    b"x",
    [],
    (),
    {},
    object(),
    int,
    np.float64("nan"),
    np.int8(3),
    np.uint16(2),
    np.int64(5),
    np.float16(0.5),
    np.bool_(True),
    Fraction(1, 2),
    Decimal("0.5"),
    torch.tensor(1),
    np.array(1),
    np.array([1, 2]),
    1 + 1j,
    [1, 2],
    (3, 4),
    {"a": 1},
    {1, 2},
    "3",
    lambda x: x,
]


def odd_tensors(scene: Scene, tensor: Tensor) -> Any:
    """A tensor, spoilt in one of many ways; some leave it usable."""
    rng, some = scene.rng, (..., 0)
    if not tensor.is_floating_point():
        return rng.choice(odd_integers(tensor))()
    padded = tensor.new_zeros((*tensor.shape[:-1], 2 * tensor.shape[-1] + 1))
    padded[..., 1::2] = tensor
    neg = torch.view_as_complex(
        torch.stack([torch.zeros_like(tensor.float()), -tensor.float()], -1)
    )

    def put(value: float) -> Tensor:
        spoilt = tensor.clone()
        spoilt[some] = value
        return spoilt

    ways: list[Callable[[], Any]] = [
        lambda: put(float("nan")),
        lambda: put(float("inf")),
        lambda: put(-float("inf")),
        lambda: put(torch.finfo(tensor.dtype).max),
        lambda: put(-torch.finfo(tensor.dtype).max),
        lambda: put(1e-40),
        lambda: torch.full_like(tensor, float("nan")),
        lambda: -tensor,
        lambda: tensor[:0],
        lambda: tensor[..., :0],
        lambda: tensor[None],
        lambda: tensor[0],
        lambda: tensor.sum(),
        lambda: tensor.flatten(),
        lambda: tensor[..., :-1],
        lambda: tensor.movedim(0, -1),
        lambda: tensor.movedim(-1, 0),
        lambda: tensor.repeat_interleave(2, 0),
        lambda: tensor.expand(3, *tensor.shape),
        lambda: padded[..., 1::2],
        lambda: tensor.movedim(-1, 0).contiguous().movedim(0, -1),
        lambda: tensor.double(),
        lambda: tensor.half(),
        lambda: tensor.bfloat16(),
        lambda: tensor.int(),
        lambda: tensor > 0,
        lambda: tensor + 1j,
        lambda: (255 * tensor.float().abs().clamp(0, 1)).to(torch.uint8),
        lambda: tensor.to(torch.float8_e4m3fn),
        lambda: tensor.to_sparse(),
        lambda: tensor.to("meta"),
        lambda: torch.quantize_per_tensor(tensor.float(), 0.1, 0, torch.qint8),
        lambda: neg.conj().imag,
        lambda: torch.nn.Parameter(tensor.clone()),
        lambda: tensor.float().numpy(),
        lambda: tensor.double().numpy()[..., ::-1],
        lambda: np.ma.masked_array(tensor.float().numpy(), tensor.float().numpy() > 0),
        lambda: tensor.float().numpy().astype(">f4"),
        lambda: tensor.float().numpy().astype(object),
        lambda: tensor.tolist(),
        lambda: None,
        lambda: "x.npy",
        lambda: 5,
        lambda: [tensor],
        lambda: Image.new("RGB", (5, 4)),
        lambda: Image.new("F", (5, 4)),
        lambda: 1e30 * tensor.float(),
        lambda: torch.zeros_like(tensor),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what making the argument warns of is not ours
        return rng.choice(ways)()


def odd_integers(tensor: Tensor) -> list[Callable[[], Any]]:
    """Ways to spoil integers."""
    return [
        lambda: tensor.int(),
        lambda: tensor.abs().to(torch.uint8),
        lambda: -1 - tensor.abs(),
        lambda: torch.full_like(tensor, torch.iinfo(tensor.dtype).max),
        lambda: torch.full_like(tensor, torch.iinfo(tensor.dtype).min),
        lambda: tensor.float(),
        lambda: tensor > 0,
        lambda: tensor[:0],
        lambda: tensor[..., :0],
        lambda: tensor[..., :1],
        lambda: tensor[0],
        lambda: tensor[:, None],
        lambda: tensor.repeat_interleave(2, 0),
        lambda: tensor.movedim(-1, 0),
        lambda: tensor.to("meta"),
        lambda: tensor.to_sparse(),
        lambda: tensor.numpy()[..., ::-1],
        lambda: list(tensor),
        lambda: tensor.tolist(),
        lambda: "slick",
        lambda: lambda image: tensor,
        lambda: lambda image, scores: [scores[0] > 0],
        lambda: lambda: tensor,
    ]


# --------------------------------------------------------------------------- what to call


@dataclass(frozen=True)
class Target:
    """A public name: how its arguments are drawn, and what its result must be.

    Attributes:
        call: what is called.
        draw: makes its arguments by name.
        options: which options it takes.
        axes: of its result; "" if it is judged by `judge` alone.
        like: the argument whose dtype the result has.
        judge: looks at other results; it raises AssertionError.
        exact: whether the result is continuous, so that a float64 twin is close.
        unit: of the terms whose difference the result is, where it may be less than their rounding.
    """

    call: Callable[..., Any]
    draw: Callable[[Scene], dict[str, Any]]
    options: tuple[str, ...] = ()
    axes: str = ""
    like: str = "logits"
    judge: Callable[[Scene, dict[str, Any], Any], None] = lambda scene, given, result: None
    exact: bool = True
    unit: float = 0.0


def keywords_of(function: Callable[..., Any], leave: tuple[str, ...] = ()) -> tuple[str, ...]:
    parameters = inspect.signature(function).parameters.values()
    return tuple(x.name for x in parameters if x.kind is x.KEYWORD_ONLY and x.name not in leave)


def draw(**makers: Callable[[Scene], Any]) -> Callable[[Scene], dict[str, Any]]:
    return lambda scene: {name: maker(scene) for name, maker in makers.items()}


SCORES = {"logits": lambda s: s.scores("B C h w")}
PIXELS = {"x": lambda s: s.scores("B C H W"), "image": lambda s: s.image()}
MAPS = {"distribution": lambda s: s.rows("B C N")}


def refine_inputs(scene: Scene) -> dict[str, Any]:
    sizes, rng = scene.sizes, scene.rng
    given: dict[str, Any] = {
        "logits": scene.scores("B C h w"),
        "feats": scene.features("B D h w"),
        "image": scene.image(),
    }
    names = [*METHODS, *(() if scene.dtype.itemsize < 4 else ("kl",))]
    given["method"] = rng.choice(names)
    if rng.random() < 0.3 and given["method"] in ("optimal_path", "max_velocity", "fusion"):
        given["attention"] = scene.rows(rng.choice(["B N N", "B heads N N"]))
    if given["method"] in ("region_vote", "lposs+regions"):
        given["regions"] = rng.choice([draw_maps, draw_masks])(scene)
    if rng.random() < 0.3:
        side = rng.randint(1, 40)
        given["size"] = (side, max(1, side * sizes["W"] // sizes["H"]))
    if rng.random() < 0.1:
        beyond = rng.randint(0, sizes["patch"] // 2)
        given["span"] = (sizes["H"] + beyond, sizes["W"] + beyond)
    return given


METHODS = (
    "lposs",
    "auto",
    "lposs+",
    "clicks",
    "optimal_path",
    "max_velocity",
    "fusion",
    "bilinear",
    "joint_bilateral",
    "guided_filter",
    "pamr",
    "local_crf",
    "attention_pool",
    "clip_dinoiser",
    "region_vote",
    "lposs+regions",
)


def judge_refined(scene: Scene, given: dict[str, Any], result: Any) -> None:
    sizes = scene.sizes
    size = given.get("size") or (sizes["H"], sizes["W"])
    assert tuple(result.shape) == (sizes["B"], sizes["C"], *size), "shape"


def judge_comparison(scene: Scene, given: dict[str, Any], result: Any) -> None:
    assert isinstance(result, lpprop.Comparison)
    assert [row.method for row in result.rows]
    for row in result.rows:
        assert row.skipped or row.seconds >= 0
    assert str(result)
    assert result.to_markdown()


def compare_inputs(scene: Scene) -> dict[str, Any]:
    given = refine_inputs(scene) | {"repeats": 1}
    given["methods"] = scene.rng.sample(METHODS, 2)
    for name in ("method", "span"):
        given.pop(name, None)
    if "regions" in given or {"region_vote", "lposs+regions"} & {*given["methods"]}:
        given |= {"methods": ["region_vote", "lposs+regions"], "regions": draw_maps(scene)}
    inputs = ("logits", "feats", "image", "attention", "regions")
    given |= {x: given[x][:1] for x in inputs if x in given}
    height, width = given.get("size") or (scene.sizes["H"], scene.sizes["W"])
    if scene.rng.random() < 0.5:
        draws = torch.randint(0, scene.sizes["C"], (height, width), generator=scene.generator)
        given["gt"] = draws.numpy()
    return given


def show_inputs(scene: Scene) -> dict[str, Any]:
    grid = scene.rng.choice([("h", "w"), ("H", "W")])
    classes, size = scene.sizes["C"], [scene.sizes[x] for x in grid]
    return {
        "image": scene.image("1 3 H W"),
        "labels": torch.randint(0, classes, size, generator=scene.generator).numpy(),
        "names": scene.rng.choice([None, ["猫", "Café", "a" * 999, "\x1b[0m", *"bcdefgh"]]),
    }


def judge_picture(scene: Scene, given: dict[str, Any], result: Any) -> None:
    assert isinstance(result, Image.Image)
    assert result.mode == "RGB"


def run_windows(image_size: Any, window: Any, stride: Any, scores: Any) -> Tensor:
    windows = lpprop.SlidingWindows(image_size, window, stride)
    plain = isinstance(scores, Tensor) and scores.layout is torch.strided
    if plain and scores.ndim == 4 and len(scores):
        scores = scores[:1].expand(len(windows), -1, -1, -1)
    return windows.merge(scores)


def of_masks(function: Callable[..., Tensor], name: str) -> Callable[..., Tensor]:
    """Call a function of masks with what is above 0, and take its result for numbers."""

    def call(**given: Any) -> Any:
        values = given[name]
        plain = isinstance(values, Tensor) and values.layout is torch.strided
        if plain and values.dtype in _FLOATS and not values.is_meta:
            given[name] = values > 0
        return function(**given).double()

    return call


def judge_points(scene: Scene, given: dict[str, Any], result: Any) -> None:
    assert tuple(result.shape) == (given["n"], 2)
    assert all(given["mask"][row, column] > 0 for row, column in result.long())


def draw_points(scene: Scene) -> Tensor:
    """As many clicks as there are labels."""
    n = min(scene.sizes["C"], scene.labels().numel())
    size = torch.tensor([scene.sizes["H"], scene.sizes["W"]])
    return (torch.rand(n, 2, generator=scene.generator) * 0.99 * size).to(scene.dtype)


def judge_seeds(scene: Scene, given: dict[str, Any], result: Any) -> None:
    size = given.get("grid") or given["size"]
    assert tuple(result.shape) == (1, scene.sizes["C"], *size)
    left_out = torch.isneginf(result[0]).all(-1).all(-1)
    unclicked = set(range(scene.sizes["C"])) - set(given["labels"].tolist())
    assert set(left_out.nonzero().flatten().tolist()) == unclicked, "other classes are left out"
    shares = result.clamp(min=0).sum(1)
    assert bool((shares > 0).all())
    assert bool((shares < 1 + 1e-5).all())


def judge_fused(scene: Scene, given: dict[str, Any], result: Any) -> None:
    before, after = given["masks"] > 0, result > 0
    assert len(after) <= len(before)
    assert torch.equal(before.any(0), after.any(0))


def cg_of(b: Any, **options: Any) -> Tensor:
    """Solve (3 I - J / N) x = b, where J is all ones: its eigenvalues are 2 and 3."""
    return cg(lambda v: 3 * v - v.mean(-1, keepdim=True), b, **options).value


def module_of(cls: type[torch.nn.Module], needs: tuple[str, ...]) -> Callable[..., Tensor]:
    def call(**given: Any) -> Tensor:
        inputs = {name: given.pop(name) for name in needs if name in given}
        first = next(iter(given))
        scores = given.pop(first)
        return cls(**given)(scores, **inputs)  # type: ignore[no-any-return]

    return call


def draw_maps(scene: Scene) -> Tensor:
    """Numbers of few regions, or of many that are far apart, on a grid of their own."""
    grid = scene.rng.choice(["B H W", "B h w"])
    return (scene.rng.choice([1, 3, 10**9]) * scene.normal(grid)).long()


def draw_masks(scene: Scene) -> list[Tensor]:
    """Masks of each image, bool or soft, some of no pixel."""
    counts = [scene.rng.randint(1, 5) for _ in range(scene.sizes["B"])]
    masks = [scene.normal(f"{count} H W") for count in counts]
    soft = scene.rng.random() < 0.5
    return [x.clamp(0, 1).to(scene.dtype) if soft else x > scene.rng.choice([0, 9]) for x in masks]


def vote_inputs(scene: Scene) -> dict[str, Any]:
    given = {"logits": scene.scores("B C H W")}
    if scene.rng.random() < 0.5:
        return given | {"regions": draw_maps(scene)}
    masks = draw_masks(scene)
    if scene.rng.random() < 0.5:
        weights = [scene.normal(str(len(x))).abs().to(scene.dtype) for x in masks]
        return given | {"regions": masks, "region_scores": weights}
    return given | {"regions": masks}


def functions() -> Iterator[tuple[str, Target]]:
    """The refiners' functions and modules."""
    patch = {**SCORES, "feats": lambda s: s.features("B D h w")}
    pixel = {"logits": PIXELS["x"], "image": PIXELS["image"]}
    upsampled = {"x": lambda s: s.scores("B C h w"), "image": PIXELS["image"]}
    square = {"attention": lambda s: s.rows("B N N")}
    cost = {"cost": lambda s: s.rows("B N N")}
    cosine = {"threshold": lambda s: s.rng.choice([0, 0.2, 0.9, 1])}
    table: list[tuple[str, dict[str, Any], str, str, bool]] = [
        ("propagate_patches", patch, "B C h w", "PatchPropagation", False),
        # Not exact: weights below the smallest float32 vanish, and leave a pixel alone.
        ("propagate_pixels", pixel, "B C H W", "PixelPropagation", False),
        ("class_distribution", SCORES, "B C N", "ClassDistribution", False),
        ("class_shares", SCORES, "B C h w", "ClassShares", False),
        ("kl_discrepancy", MAPS, "B C N", "KLDiscrepancy", True),
        ("optimal_path", MAPS | cost, "B C N", "OptimalPath", False),
        ("max_velocity", MAPS | square, "B C N", "MaxVelocity", False),
        ("joint_bilateral_upsample", upsampled, "B C H W", "JointBilateralUpsample", True),
        ("guided_filter", PIXELS, "B C H W", "GuidedFilter", True),
        ("pamr", PIXELS, "B C H W", "PAMR", True),
        ("local_crf", PIXELS, "B C H W", "LocalCRF", False),
        ("attention_pool", SCORES | square, "B C h w", "AttentionPool", True),
        # Not exact: a cosine at the threshold counts or not by its last bit.
        ("correlation_pool", patch | cosine, "B C h w", "CorrelationPool", False),
    ]
    for name, makers, axes, module, exact in table:
        function, cls = getattr(lpprop, name), getattr(lpprop, module)
        options = keywords_of(function, ("windows", "pixel_feats", "size", *makers))
        first = next(iter(makers))
        yield name, Target(function, draw(**makers), options, axes, first, exact=exact)
        inputs = {"attention" if x == "cost" else x: maker for x, maker in makers.items()}
        yield (
            module,
            Target(module_of(cls, cls.needs), draw(**inputs), options, axes, first, exact=exact),
        )


TARGETS: dict[str, Target] = {
    **dict(functions()),
    # Not exact: a tie of two classes falls as the last digit has it.
    "region_vote": Target(
        lpprop.region_vote,
        vote_inputs,
        keywords_of(lpprop.region_vote, ("region_scores",)),
        "B C H W",
        exact=False,
    ),
    "RegionVote": Target(
        module_of(lpprop.RegionVote, ("regions", "region_scores")),
        vote_inputs,
        keywords_of(lpprop.region_vote, ("region_scores",)),
        "B C H W",
        exact=False,
    ),
    "bilinear_upsample": Target(
        lpprop.bilinear_upsample,
        draw(x=lambda s: s.scores("B C h w"), size=lambda s: (s.sizes["H"], s.sizes["W"])),
        axes="B C H W",
        like="x",
    ),
    "BilinearUpsample": Target(
        module_of(lpprop.BilinearUpsample, ("image",)),
        draw(logits=lambda s: s.scores("B C h w"), image=lambda s: s.image()),
        axes="B C H W",
    ),
    "attention_from_features": Target(
        lpprop.attention_from_features,
        draw(feats=lambda s: s.features("B D h w")),
        ("temperature",),
        "B N N",
        "",
    ),
    "proxy_attention": Target(
        lpprop.proxy_attention,
        draw(feats=lambda s: s.features("B D h w")),
        ("beta",),
        "B N N",
        "",
        exact=False,  # a cosine at the threshold is masked or not by its last bit
    ),
    "correlation_attention": Target(
        lpprop.correlation_attention,
        draw(
            feats=lambda s: s.features("B D h w"),
            threshold=lambda s: s.rng.choice([0, 0.2, 0.9, 1]),
        ),
        (),
        "B N N",
        "",
        exact=False,  # as above
    ),
    "sharpen_attention": Target(
        lpprop.sharpen_attention,
        draw(attention=lambda s: s.rows("B N N")),
        ("temperature",),
        "B N N",
        "attention",
    ),
    "aggregate_attention": Target(
        lambda maps, other, **rest: lpprop.aggregate_attention([maps, other], **rest),
        draw(
            maps=lambda s: s.rows("B heads N N"),
            other=lambda s: s.rows("B heads N N"),
            size=lambda s: (s.sizes["h"], s.sizes["w"]),
            grids=lambda s: [(s.sizes["h"], s.sizes["w"])] * 2,
            weights=lambda s: s.rng.choice([None, [0.5, 0.5], [1, 3]]),
        ),
        axes="B N N",
        like="maps",
    ),
    "lab_features": Target(
        lpprop.lab_features, draw(image=lambda s: s.image()), axes="B 3 H W", like="image"
    ),
    "merge_classes": Target(
        lpprop.merge_classes,
        draw(
            scores=lambda s: s.scores("B C h w"),
            groups=lambda s: [[i] for i in range(s.sizes["C"])],
        ),
        axes="B C h w",
        like="scores",
    ),
    "prototypes": Target(
        lpprop.prototypes,
        draw(
            feats=lambda s: s.features("B D h w"),
            labels=lambda s: s.labels(),
            classes=lambda s: s.sizes["C"],
        ),
        ("ignore_index",),
        "C D",
        "feats",
        exact=False,  # features that all but cancel out
    ),
    "prototype_logits": Target(
        lpprop.prototype_logits,
        draw(feats=lambda s: s.features("B D h w"), prototypes=lambda s: s.normal("C D")),
        axes="B C h w",
        like="feats",
    ),
    "classify_regions": Target(
        lambda feats, regions, references, others, **rest: lpprop.classify_regions(
            feats, regions, [references, others], **rest
        ),
        draw(
            feats=lambda s: s.features("B D h w").abs(),  # no mean all but cancels out
            regions=lambda s: s.labels(),
            references=lambda s: s.normal("C D"),
            others=lambda s: s.normal("1 D"),
        ),
        ("matching", "reduce", "temperature"),
        "B 2 H W",
        "feats",
        unit=1.0,  # by rank, the divergence of two distributions that may be equal
    ),
    "add_background": Target(
        lpprop.add_background,
        draw(
            scores=lambda s: s.normal("B C H W").softmax(1).to(s.dtype),
            threshold=lambda s: s.rng.choice([0, 0.3, 1, np.float32(0.5)]),
            saliency=lambda s: s.rng.choice([None, s.normal("B H W").sigmoid()]),
        ),
        axes="B K H W",
        like="scores",
    ),
    "select_classes": Target(
        lpprop.select_classes,
        draw(
            logits=lambda s: s.scores("B C h w"),
            top=lambda s: s.rng.choice([1, 2, 99]),
            global_scores=lambda s: s.rng.choice([None, s.scores("B C")]),
        ),
        ("patches", "logit_scale"),
        "B C h w",
        exact=False,  # of equal evidence in half precision, others may be kept
    ),
    "seed_logits": Target(
        lpprop.seed_logits,
        draw(
            points=draw_points,
            labels=lambda s: s.labels().flatten()[: s.sizes["C"]].clamp(min=0),
            size=lambda s: (s.sizes["H"], s.sizes["W"]),
            classes=lambda s: s.sizes["C"],
            grid=lambda s: s.rng.choice([None, (s.sizes["h"], s.sizes["w"])]),
        ),
        ("radius",),
        judge=judge_seeds,
        like="",
        exact=False,  # in half precision, clicks are at other places
    ),
    "SlidingWindows": Target(
        run_windows,
        draw(
            image_size=lambda s: (s.sizes["H"], s.sizes["W"]),
            window=lambda s: s.rng.choice([3, 8, 224]),
            stride=lambda s: s.rng.choice([1, 3]),
            scores=lambda s: s.scores("B C h w"),
        ),
        axes="1 C H W",
        like="scores",
    ),
    "fuse_masks": Target(
        of_masks(lpprop.fuse_masks, "masks"),
        draw(
            masks=lambda s: s.scores("C H W"),
            threshold=lambda s: s.rng.choice([0, 0.5, 0.9, 1]),
        ),
        judge=judge_fused,
        like="",
        exact=False,  # scores in less precision may be 0
    ),
    "prompt_points": Target(
        of_masks(lpprop.prompt_points, "mask"),
        draw(mask=lambda s: s.scores("H W"), n=lambda s: s.rng.choice([1, 2, 7])),
        judge=judge_points,
        like="",
        exact=False,
    ),
    "refine": Target(lpprop.refine, refine_inputs, judge=judge_refined, exact=False),
    "compare": Target(
        lpprop.compare,
        compare_inputs,
        ("class_names", "ignore_index", "palette"),
        judge=judge_comparison,
        like="",
    ),
    "show": Target(
        lpprop.show,
        show_inputs,
        ("side", "palette", "ignore_index"),
        judge=judge_picture,
        like="",
    ),
    "cg": Target(
        cg_of, draw(b=lambda s: s.scores("B C N")), ("tol", "max_iter"), "B C N", "b", exact=False
    ),
    "ipf": Target(
        lambda **given: ipf(**given).value,
        draw(matrix=lambda s: s.rows("N N")),
        ("iterations", "tol"),
        "N N",
        "matrix",
        exact=False,
    ),
    "sinkhorn": Target(
        lambda **given: sinkhorn(**given).value,
        draw(cost=lambda s: s.rows("N N"), distribution=lambda s: s.rows("C N")),
        ("epsilon", "iterations", "tol"),
        "",
        "cost",
        exact=False,
    ),
}


# --------------------------------------------------------------------------- one call


@dataclass
class Outcome:
    """How a call ended: "right", "refused", or what was wrong with it."""

    target: str
    kind: str
    detail: str = ""

    @property
    def wrong(self) -> bool:
        return self.kind not in ("right", "refused")


def arguments_of(scene: Scene, target: Target, *, spoil: bool) -> tuple[dict[str, Any], list[str]]:
    """Draw the arguments; return them and the names of those that were spoilt."""
    given = target.draw(scene)
    options, allowed = target.options, OPTIONS
    if target.call is lpprop.refine and isinstance(given.get("method"), str):
        options = tuple(lpprop.presets.METHODS[given["method"]].options)
        allowed = OPTIONS | OPTIONS_OF.get(given["method"], {})
    for name in options:
        if scene.rng.random() < 0.25 and name in allowed:
            given[name] = scene.rng.choice(allowed[name])
    spoilt: list[str] = []
    names = sorted({*given, *options})
    for name in (
        scene.rng.sample(names, min(len(names), scene.rng.choice([1, 1, 2]))) if spoil else ()
    ):
        value = given.get(name)
        given[name] = (
            odd_tensors(scene, value)
            if isinstance(value, Tensor) and scene.rng.random() < 0.9
            else scene.rng.choice(ODD)
        )
        spoilt.append(name)
    return given, spoilt


def try_call(seed: int) -> Outcome:
    """Make one call, and judge it."""
    rng = random.Random(seed)
    name = rng.choice(list(TARGETS))
    target, scene = TARGETS[name], Scene.of(seed)
    given, spoilt = arguments_of(scene, target, spoil=rng.random() < 0.5)
    before = {key: snapshot(value) for key, value in given.items()}
    try:
        with deadline(), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                result = target.call(**dict(given))
            except lpprop.InputError as error:
                result = error
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        said = f"{type(error).__name__}: {error} ({where.filename}:{where.lineno})"
        return Outcome(name, "another exception", said)
    for warning in caught:
        if not issubclass(warning.category, lpprop.InputWarning):
            return Outcome(name, "a warning of a library", f"{warning.category}: {warning.message}")
    if any(snapshot(value) != before[key] for key, value in given.items()):
        return Outcome(name, "a changed input")
    if isinstance(result, lpprop.InputError):
        known = {*given, *target.options, *OPTIONS, *_KNOWN}
        argument = re.match(r"\w+", str(result))
        if argument is None or argument[0] not in known:
            return Outcome(name, "an error that names no argument", str(result))
        if not spoilt and not _may_refuse(str(result)):
            return Outcome(name, "sensible input refused", str(result))
        return Outcome(name, "refused")
    try:
        judge(scene, target, given, spoilt, result)
    except AssertionError as error:
        return Outcome(name, "a wrong result", str(error))
    return Outcome(name, "right")


# Arguments by the names that they have inside: a chain's steps, a preset's inputs, a kind of map.
_KNOWN = (
    "steps",
    "logits",
    "feats",
    "image",
    "attention",
    "x",
    "maps",
    "gt",
    "pixel_feats",
    "regions",
    "region_scores",
    "method",
    "methods",
    "distribution",
    "cost",
    "class_names",
    "size",
    "span",
    "windows",
    "references",
    "regions",
    "labels",
    "prototypes",
)


_REASONS = (
    "result that dtype can hold",
    "in half precision",
    "torch.float16, in which",
    "float32 or float64",
    "none that can run",
    "beside attention",
    "a positive entry in every column",
    "labelled pixels of every class",
    "features with a common direction",
    "one per point",
)


# These say by -inf that a class is left out of the whole image.
_LEAVING_OUT = (lpprop.refine, lpprop.add_background, lpprop.select_classes, lpprop.seed_logits)


def _may_refuse(message: str) -> bool:
    """Tell whether a refusal of sensible draws is documented: results beyond a dtype, and so on."""
    return any(reason in message for reason in _REASONS)


def judge(
    scene: Scene, target: Target, given: dict[str, Any], spoilt: list[str], result: Any
) -> None:
    """Raise AssertionError if a result is not what the docs say."""
    if isinstance(result, Tensor):
        values = result.detach()
        assert values.dtype in _FLOATS, f"dtype {values.dtype}"
        left_out = torch.isneginf(values)
        if target.call in _LEAVING_OUT:
            left_out &= left_out.all(-1, keepdim=True).all(-2, keepdim=True)
        else:
            left_out = torch.zeros_like(values, dtype=torch.bool)
        assert bool((torch.isfinite(values) | left_out).all()), "values that are not finite"
        like = given.get(target.like)
        if isinstance(like, Tensor) and like.is_floating_point():
            assert result.dtype == like.dtype, f"dtype {result.dtype} for {like.dtype}"
    if spoilt:
        return
    if target.axes:
        shape = tuple(scene.sizes[x] if x in scene.sizes else int(x) for x in target.axes.split())
        assert tuple(result.shape) == shape, f"shape {tuple(result.shape)}, not {shape}"
    target.judge(scene, given, result)
    if target.exact and isinstance(result, Tensor):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            twin = target.call(**{name: as_double(name, value) for name, value in given.items()})
        scale = max(float(twin.abs().max()), target.unit)
        error = (result.double() - twin).abs()
        allowed = {torch.float64: 1e-9, torch.float32: 1e-3}.get(result.dtype, 6e-2)
        share = float((error > allowed * scale + torch.finfo(result.dtype).tiny).double().mean())
        assert share <= 0.02, f"{share:.1%} beyond {allowed} of the float64 twin"


def as_double(name: str, value: Any) -> Any:
    if not (isinstance(value, Tensor) and value.is_floating_point()):
        return value
    value = value.double()
    # Rows that sum to 1 to within half precision, as the functions normalise them.
    return value / value.sum(-1, keepdim=True) if name == "distribution" else value


def snapshot(value: Any) -> Any:
    """Something that changes if an argument's values do."""
    if isinstance(value, Tensor):
        plain = not (value.is_meta or value.is_sparse or value.is_quantized or value.is_nested)
        if not plain or value.layout is not torch.strided:
            return repr(value)
        rows = value.detach().resolve_neg().flatten().clone(memory_format=torch.contiguous_format)
        return rows.view(torch.uint8).numpy().tobytes()
    if isinstance(value, np.ndarray):
        return value.tobytes() if value.dtype != object else repr(value)
    if isinstance(value, (list, tuple)):
        return [snapshot(x) for x in value]
    return repr(value)


@contextmanager
def deadline() -> Iterator[None]:
    """Raise TimeoutError in a call that takes three minutes, where the system has such alarms."""

    def ring(*_: object) -> None:
        raise TimeoutError(f"no result after {_SECONDS} s")

    if not hasattr(signal, "SIGALRM"):
        yield
        return
    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


# --------------------------------------------------------------------------- many calls


def main() -> int:
    """Run many calls, and print what was wrong and a table of counts."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=None, help="(default: one from the clock)")
    parser.add_argument("--processes", type=int, default=None, help="(default: one per core)")
    parser.add_argument(
        "--only", type=int, default=None, metavar="I", help="call I, with its values"
    )
    arguments = parser.parse_args()
    seed = int(time.time()) if arguments.seed is None else arguments.seed
    print(f"seed {seed}", flush=True)
    if arguments.only is not None:
        one = seed * 1_000_000 + arguments.only
        scene, rng = Scene.of(one), random.Random(one)
        name = rng.choice(list(TARGETS))
        given, spoilt = arguments_of(scene, TARGETS[name], spoil=rng.random() < 0.5)
        print(name, "spoilt:", spoilt, given, sep="\n")
        print(try_call(one))
        TARGETS[name].call(**given)
        return 0
    counts: collections.Counter[tuple[str, str]] = collections.Counter()
    seeds = range(seed * 1_000_000, seed * 1_000_000 + arguments.calls)
    processes = arguments.processes or os.cpu_count() or 1
    context = multiprocessing.get_context("spawn")
    # After Ctrl-C the table has the calls so far.
    with context.Pool(processes, _use_one_thread) as pool, contextlib.suppress(KeyboardInterrupt):
        for index, outcome in enumerate(pool.imap(try_call, seeds, chunksize=50)):
            counts[outcome.target, "wrong" if outcome.wrong else outcome.kind] += 1
            if outcome.wrong:
                said = f"{index}: {outcome.target}: {outcome.kind}: {outcome.detail}"
                print(said[:500], flush=True)
        pool.close()  # not terminated, which would leave the locks of its processes behind
        pool.join()
    print("| name | calls | right | refused | wrong |\n|:--|--:|--:|--:|--:|")
    for name in [*TARGETS, ""]:
        kinds = [
            sum(n for (x, y), n in counts.items() if name in ("", x) and y == kind)
            for kind in ("right", "refused", "wrong")
        ]
        print(
            f"| {f'`{name}`' if name else 'all'} | {sum(kinds)} | {' | '.join(map(str, kinds))} |"
        )
    return 1 if any(kind == "wrong" for _, kind in counts) else 0


def _use_one_thread() -> None:
    """Leave the cores to the other processes: the calls are too small for more threads."""
    torch.set_num_threads(1)


if __name__ == "__main__":
    sys.exit(main())
