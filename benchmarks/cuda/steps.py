"""The steps that are timed on a GPU: their aims, their inputs, and what each needs at least."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

import lpprop
from lpprop.numerics.ipf import ipf
from lpprop.numerics.sinkhorn import sinkhorn

from ..discrepancy import patches, transport
from ..inputs import Scene, scene

FULL = {
    "H": 448, "W": 597, "C": 21, "r": 13, "k": 400, "D": 768, "side": 64, "h": 28, "w": 37,
    "window": 224, "stride": 112, "patch_size": 16, "crf": 11,
}  # fmt: skip
TINY = {
    "H": 32, "W": 48, "C": 2, "r": 3, "k": 9, "D": 16, "side": 8, "h": 4, "w": 6,
    "window": 32, "stride": 16, "patch_size": 8, "crf": 3,
}  # fmt: skip
ITERATIONS = 10  # of conjugate gradients: the default of both steps
VECTORS = 10  # reads and writes of a vector per class in a step of conjugate gradients
STEPS_OF_FIELD = 5  # of the local CRF: its default


@dataclass(frozen=True)
class Need:
    """What a step cannot do without: bytes to and from memory, and floating-point operations.

    Inputs, results and what is kept between two passes over an image count once per pass. Caches
    that hold more than that are not counted on.
    """

    bytes: float
    flops: float

    def __add__(self, other: Need) -> Need:
        return Need(self.bytes + other.bytes, self.flops + other.flops)


@dataclass(frozen=True)
class Setting:
    """Where and on what a step runs; a batch repeats one image."""

    device: str | torch.device
    sizes: Mapping[str, int]
    batch: int = 1
    dtype: torch.dtype = torch.float32

    def place(self, x: Tensor, *, repeated: bool = True) -> Tensor:
        """Move an input there; a batch has memory of its own for each image."""
        x = x.repeat(self.batch, *[1] * (x.ndim - 1)) if repeated else x
        return x.to(self.dtype).to(self.device)

    @property
    def scene(self) -> Scene:
        names = ("H", "W", "C", "D", "window", "stride", "patch_size")
        return scene(**{name: self.sizes[name] for name in names})


@dataclass(frozen=True)
class Step:
    """A step, and the milliseconds that are aimed at for one image at the full sizes.

    `build` gives a call without arguments, and what it needs for the whole batch.
    """

    name: str
    aim: float | None
    build: Callable[[Setting], tuple[Callable[[], Tensor], Need]]
    batched: bool = False


def need_of_pixels(P: int, C: int, r: int) -> Need:
    """The pixel step: K weights per pixel made once and read once per product, and ten solves."""
    K = ((r // 2 * 2 + 1) ** 2 - 1) // 2
    weights = Need(4 * P * (3 + K), 12 * K * P)  # three features; a distance and an exponential
    product = Need(4 * P * K, 4 * K * P * C)
    vectors = Need(4 * VECTORS * P * C, 2 * VECTORS * P * C)
    degrees = Need(4 * P * K, 2 * K * P)
    solve = Need(ITERATIONS * (product + vectors).bytes, ITERATIONS * (product + vectors).flops)
    return weights + degrees + solve


def need_of_patches(N: int, C: int, D: int) -> Need:
    """The patch step by a full matrix: similarities, the nearest of them, and ten products."""
    similarities = Need(4 * (N * D + 2 * N * N), 2 * N * N * D)  # written, and read for the nearest
    solve = Need(4 * ITERATIONS * N * N, 2 * ITERATIONS * N * N * C)
    return similarities + Need(4 * N * N, 0) + solve


def pixel_step(setting: Setting) -> tuple[Callable[[], Tensor], Need]:
    view, sizes = setting.scene, setting.sizes
    logits, image = setting.place(view.pixel_logits), setting.place(view.image)
    need = need_of_pixels(sizes["H"] * sizes["W"] * setting.batch, sizes["C"], sizes["r"])
    return partial(lpprop.propagate_pixels, logits, image, r=sizes["r"]), need


def patch_step(setting: Setting) -> tuple[Callable[[], Tensor], Need]:
    """All windows of one image, in one graph."""
    view, sizes = setting.scene, setting.sizes
    logits, feats = (
        setting.place(x, repeated=False) for x in (view.patch_logits, view.patch_feats)
    )
    options = {"k": sizes["k"], "patch_size": sizes["patch_size"]}
    nodes = len(logits) * logits.shape[-2] * logits.shape[-1]
    run = partial(lpprop.propagate_patches, logits, feats, windows=view.boxes, **options)
    return run, need_of_patches(nodes, sizes["C"], sizes["D"])


def both_steps(setting: Setting) -> tuple[Callable[[], Tensor], Need]:
    """`refine` by "lposs+", with the windows of one image."""
    view, sizes = setting.scene, setting.sizes
    size = sizes["H"], sizes["W"]
    windows = lpprop.SlidingWindows(size, sizes["window"], sizes["stride"])
    inputs = [
        setting.place(x, repeated=False)
        for x in (view.patch_logits, view.patch_feats, view.image)
    ]  # fmt: skip
    options = {name: sizes[name] for name in ("k", "r", "patch_size")}
    nodes = len(inputs[0]) * inputs[0].shape[-2] * inputs[0].shape[-1]
    need = need_of_patches(nodes, sizes["C"], sizes["D"])
    need += need_of_pixels(size[0] * size[1], sizes["C"], sizes["r"])
    return partial(lpprop.refine, *inputs, method="lposs+", windows=windows, **options), need


def whole_views(setting: Setting) -> tuple[Callable[[], Tensor], Need]:
    """`refine` by "lposs+" of images that are seen whole: what a batch is made of."""
    sizes = setting.sizes
    h, w = sizes["H"] // sizes["patch_size"], sizes["W"] // sizes["patch_size"]
    side = min(h, w)
    view = scene(H=h, W=w, window=side, stride=side, patch_size=1, D=sizes["D"], C=sizes["C"])
    merge = lpprop.SlidingWindows((h, w), side, side).merge
    inputs = [setting.place(merge(x)) for x in (view.patch_logits, view.patch_feats)]
    image = setting.place(setting.scene.image)
    options = {"k": min(sizes["k"], h * w), "r": sizes["r"], "patch_size": sizes["patch_size"]}
    need = need_of_patches(h * w, sizes["C"], sizes["D"])
    need += need_of_pixels(sizes["H"] * sizes["W"], sizes["C"], sizes["r"])
    whole = Need(need.bytes * setting.batch, need.flops * setting.batch)
    return partial(lpprop.refine, *inputs, image, method="lposs+", **options), whole


def optimal_path(setting: Setting) -> tuple[Callable[[], Tensor], Need]:
    sizes = setting.sizes
    f, cost, epsilon = transport(setting.device, "attention", side=sizes["side"], C=sizes["C"])
    counts = sinkhorn(cost[0], f[0] / f[0].sum(-1, keepdim=True), epsilon=epsilon).iterations
    f, cost = f.to(setting.dtype), cost.to(setting.dtype)
    N, updates = cost.shape[-1], int(counts.max())
    # The kernel is made of the cost; each update reads it twice, and the cost of the path once.
    need = Need(4 * N * N * (2 + 2 * updates + 2), 2 * N * N * (2 * int(counts.sum()) + len(f[0])))
    return partial(lpprop.optimal_path, f, cost, epsilon=epsilon), need


def max_velocity(setting: Setting) -> tuple[Callable[[], Tensor], Need]:
    sizes = setting.sizes
    view, f = patches(sizes["side"], sizes["C"])
    f = f.to(setting.device)
    attention = lpprop.attention_from_features(view.patch_feats.to(setting.device))
    sweeps = ipf(attention[0]).iterations
    # A class walks until its last patch has arrived: 1 / velocity - 1 steps, rounded up.
    arrivals = (1 / lpprop.max_velocity(f, attention)[0].amin(-1) - 1 - 1e-4).ceil().cpu()
    f, attention = f.to(setting.dtype), attention.to(setting.dtype)
    N = attention.shape[-1]
    need = Need(
        4 * N * N * (2 * sweeps + float(arrivals.max())),
        2 * N * N * (2 * sweeps + float(arrivals.sum())),
    )
    return partial(lpprop.max_velocity, f, attention), need


def upsampling(setting: Setting) -> tuple[Callable[[], Tensor], Need]:
    view, sizes = setting.scene, setting.sizes
    coarse = F.adaptive_avg_pool2d(view.pixel_logits, (sizes["h"], sizes["w"]))
    x, image = setting.place(coarse), setting.place(view.image)
    P, C = sizes["H"] * sizes["W"] * setting.batch, sizes["C"]
    # 49 points around each pixel: three differences, an exponential, and a sum per class.
    need = Need(4 * P * (3 + C), 49 * P * (12 + 2 * C))
    return partial(lpprop.joint_bilateral_upsample, x, image), need


def region_vote(setting: Setting) -> tuple[Callable[[], Tensor], Need]:
    view, sizes = setting.scene, setting.sizes
    scores = setting.place(view.pixel_logits)
    rows, columns = (torch.arange(n) // 21 for n in (sizes["H"], sizes["W"]))
    blocks = rows[:, None] * (int(columns[-1]) + 1) + columns
    maps = blocks.expand(setting.batch, -1, -1).contiguous().to(setting.device)
    P, C = sizes["H"] * sizes["W"] * setting.batch, sizes["C"]
    return partial(lpprop.region_vote, scores, maps, by="mean"), Need(P * (8 * C + 16), 2 * P * C)


def local_crf(setting: Setting) -> tuple[Callable[[], Tensor], Need]:
    view, sizes = setting.scene, setting.sizes
    scores, image = setting.place(view.pixel_logits), setting.place(view.image)
    P, C, r = sizes["H"] * sizes["W"] * setting.batch, sizes["C"], sizes["crf"]
    K = (r * r - 1) // 2
    weights = Need(4 * P * (3 + K), 12 * K * P)
    # Each step reads and writes Q for either kernel, adds both to log P, and takes a softmax.
    step = Need(4 * P * (K + 8 * C), P * C * (4 * K + 4 * r + 8))
    steps = Need(STEPS_OF_FIELD * step.bytes, STEPS_OF_FIELD * step.flops)
    options = {"scale": None, "iterations": STEPS_OF_FIELD, "r": r}
    return partial(lpprop.local_crf, scores, image, **options), weights + steps


#: The aims are those for an H100 or H200, at the full sizes and one image.
STEPS = [
    Step("pixel step", 2.0, pixel_step, batched=True),
    Step("patch step, windows", 1.5, patch_step),
    Step('refine("lposs+"), windows', 5.0, both_steps),
    Step('refine("lposs+"), whole views', None, whole_views, batched=True),
    Step("optimal path", 2.0, optimal_path),
    Step("maximum velocity", 2.0, max_velocity),
    Step("upsampling", 0.3, upsampling, batched=True),
    Step("region vote", 0.2, region_vote, batched=True),
    Step("local CRF", 5.0, local_crf, batched=True),
]
