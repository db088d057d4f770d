"""What the guard measures: steps of lpprop beside code that is not lpprop's.

A yardstick that lpprop's own changes make faster would look like a fall of the step beside it. So
yardsticks are other packages, and bare products and passes over memory.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

import lpprop

from .. import products
from ..contract import measure
from ..inputs import pixels
from ..patch_step import both_steps, patch_step
from ..peers import DENSECRF, ITERATIONS, dense_crf
from ..pixel_step import pixel_step
from ..regions import region_vote
from ..upsampling import upsampling
from ..work import Competitor, Work

STEPS = 10  # of conjugate gradients
PRODUCT = "a matrix product of as many multiply-adds"


@dataclass(frozen=True)
class Row:
    """A work of which lpprop's first competitor is held against some of the others."""

    name: str
    build: partial[Work]
    yardsticks: tuple[str, ...]
    rounds: int

    def run(self) -> tuple[dict[str, float], float | None]:
        """Measure once; return the ratio to each yardstick that is installed, and how far other
        processes took part of the CPUs.
        """
        found = measure(partial(_chosen, self.build, self.yardsticks), repeats=self.rounds)
        ratios = {c["name"]: c["ratio"]["median"] for c in found["competitors"][1:]}
        return ratios, found["cpu_share_of_other_processes"]


def _chosen(build: partial[Work], yardsticks: tuple[str, ...]) -> Work:
    work = build()
    others = [c for c in work.competitors[1:] if c.name in yardsticks]
    return replace(work, competitors=[work.competitors[0], *others])


def pixels_beside_product(r: int, **sizes: int) -> Work:
    work = pixel_step("cpu", r=r, **sizes)
    return replace(work, competitors=[*work.competitors, _product(_multiply_adds(r, **sizes))])


def both_beside_product(k: int, r: int, **sizes: int) -> Work:
    """`refine` beside the products that its two steps cannot do without."""
    work = both_steps("cpu", k=k, r=r, **sizes)
    nodes = work.sizes["windows"] * (sizes["window"] // sizes["patch_size"]) ** 2
    pixel = _multiply_adds(r, sizes["H"], sizes["W"], sizes["C"])
    both = _product(pixel + nodes**2 * sizes["D"])
    return replace(work, competitors=[work.competitors[0], both])


def _multiply_adds(r: int, H: int, W: int, C: int) -> int:
    return STEPS * (r**2 - 1) * H * W * C


def _product(multiply_adds: int) -> Competitor:
    side = max(1, round(multiply_adds ** (1 / 3)))
    a = torch.rand(side, side)
    return Competitor(PRODUCT, "torch, float32", lambda: a @ a, comparable=False)


def local_crf(H: int, W: int, C: int) -> Work:
    view = pixels(H, W, C)
    x, image = view.pixel_logits, view.image
    run = partial(lpprop.local_crf, x, image, scale=None, iterations=ITERATIONS)
    peer = Competitor(
        "DenseCRF", "pydensecrf2", partial(dense_crf, x[0], image[0]), comparable=False
    )
    ours = Competitor("lpprop", "local_crf, float32", run)
    return Work("local CRF", {"H": H, "W": W, "C": C}, 1e-3, [ours, *([peer] if DENSECRF else [])])


def process(ours: str, other: str) -> Work:
    """A process of Python that runs some code, beside one that runs less."""
    names = {"lpprop": ours, other: other}
    return Work(
        "process",
        {"processes": 1},
        1e-3,
        [Competitor(x, code, partial(_start, code), comparable=False) for x, code in names.items()],
    )


def _start(code: str) -> int:
    return subprocess.run(
        [sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL
    ).returncode


HELP = "import sys; sys.argv = ['lpprop', '--help']; import runpy; runpy.run_module('lpprop')"

_IMAGE = {"H": 448, "W": 597, "C": 21}
_WINDOWS = _IMAGE | {"window": 224, "stride": 112, "patch_size": 16, "D": 768}
_SMALL = {"H": 48, "W": 64, "C": 3}
_SMALL_WINDOWS = _SMALL | {"window": 32, "stride": 16, "patch_size": 8, "D": 16}


def plan(*, quick: bool = False) -> list[Row]:
    """Return the rows; `quick` has tiny sizes and no processes, and tests the guard alone."""

    def sized(full: Mapping[str, Any], tiny: Mapping[str, Any]) -> Mapping[str, Any]:
        return tiny if quick else full

    def row(name: str, build: Any, *yardsticks: str, rounds: int, **sizes: Any) -> Row:
        return Row(name, partial(build, **sizes), yardsticks, 1 if quick else rounds)

    pixel = {"r": 13} | _IMAGE, {"r": 5} | _SMALL
    many = {"r": 13, "H": 256, "W": 342, "C": 150}, {"r": 5} | _SMALL | {"C": 9}
    large = {"r": 13, "H": 1024, "W": 1024, "C": 5}, {"r": 5} | _SMALL
    patch = {"k": 400} | _WINDOWS, {"k": 9} | _SMALL_WINDOWS
    both = {"r": 13} | patch[0], {"r": 5} | patch[1]
    nodes = {"side": 64, "C": 21}, {"side": 8, "C": 3, "D": 16}
    grid = {"h": 28, "w": 37} | _IMAGE, {"h": 6, "w": 9} | _SMALL
    regions = grid[0] | {"side": 21}, grid[1] | {"side": 8}
    path = partial(products.optimal_path, "cpu", "attention")
    velocity, vote = partial(products.max_velocity, "cpu"), partial(region_vote, "cpu", "mean")
    rows = [
        row("pixel step", pixels_beside_product, PRODUCT, "DenseCRF", rounds=3, **sized(*pixel)),
        row("pixel step, 150 classes", pixels_beside_product, PRODUCT, rounds=2, **sized(*many)),
        row("pixel step, 1024 x 1024", pixels_beside_product, PRODUCT, rounds=2, **sized(*large)),
        row("patch step", partial(patch_step, "cpu"), "X Xᵀ alone", "SciPy + faiss-cpu", rounds=3,
            **sized(*patch)),
        row("refine", both_beside_product, PRODUCT, rounds=2, **sized(*both)),
        row("optimal path", path, "products alone", "plain torch", rounds=7, **sized(*nodes)),
        row("maximum velocity", velocity, "products alone", rounds=3, **sized(*nodes)),
        row("upsampling", partial(upsampling, "cpu"), "kornia", "bilinear", rounds=7,
            **sized(*grid)),
        row("region vote", vote, "index_add", "CSR", rounds=9, **sized(*regions)),
        row("local CRF", local_crf, "DenseCRF", rounds=2, **sized(_IMAGE, _SMALL)),
    ]  # fmt: skip
    if not quick:
        rows += [
            row("import", process, "import torch", rounds=2, ours="import lpprop; lpprop.refine",
                other="import torch"),
            row("help", process, "import argparse", rounds=5, ours=HELP, other="import argparse"),
        ]  # fmt: skip
    return rows
