"""LPOSS+: label propagation over the pixels of an image."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lpprop._core.checks import check_finite, check_tensors, require
from lpprop._core.memory import check_room
from lpprop._core.options import check_above_0, check_boolean, check_from_0, check_integer, checked
from lpprop._core.precision import cast_back, compute_dtype, full_precision
from lpprop._core.refiner import Refiner
from lpprop.inputs.colour import lab
from lpprop.kernels import portable
from lpprop.kernels.dispatch import check_backend, kernels_for
from lpprop.kernels.interface import Graph, Kernels
from lpprop.numerics.chebyshev import count_steps
from lpprop.numerics.graphs import stencil_graph
from lpprop.numerics.propagation import (
    SOLVER_CHECKS,
    check_solver,
    forecast_solver,
    propagate,
)
from lpprop.numerics.twins import match_twins
from lpprop.numerics.winners import solve_winners

__all__ = ["PixelPropagation", "propagate_pixels"]

# Multiply-adds from which compiling pays off: PyTorch then takes as long as compiling, 0.1 s, or
# ten times as long where other processes use the cores.
_WORTH_COMPILING = 1e8
# Steps from which the classes that win are guessed.
_GUESS_STEPS = 10


@full_precision
@checked(
    **SOLVER_CHECKS,
    tau=check_above_0,
    r=check_integer,
    sigma=check_from_0,
    distance_power=check_above_0,
    solver=check_solver,
    backend=check_backend,
    prune=check_boolean,
)
def propagate_pixels(
    logits: Float[Tensor, "B C H W"],
    image: Float[Tensor, "B 3 H W"] | None,
    *,
    tau: float = 0.01,
    r: int = 13,
    alpha: float = 0.95,
    max_iter: int = 10,
    tol: float = 1e-6,
    pixel_feats: Float[Tensor, "B F H W"] | None = None,
    sigma: float = 0.0,
    distance_power: float = 1.0,
    solver: str = "cg",
    backend: str = "auto",
    prune: bool = False,
) -> Float[Tensor, "B C H W"]:
    """Propagate scores over the pixels of an image, which sharpens their borders (LPOSS+).

    With f = Lab(image) / (100, 128, 128),

        w_ij = exp(-|f_i - f_j| / tau) for |dy| <= r//2, |dx| <= r//2, i != j, else 0
        S' = D^-1/2 w D^-1/2;  solve (I - alpha S') Y' = Y for each class

    The graph is a stencil without a list of edges: memory grows with pixels x (r^2 + classes).

    Args:
        logits: (B, C, H, W) scores at the image's size.
        image: (B, 3, H, W) RGB in [0, 1]; may be None if `pixel_feats` is given.
        tau: feature distance at which a weight falls to 1/e, > 0.
        r: side of the square neighbourhood in pixels; 13 gives 168 neighbours, 1 gives none, and
            an even side acts as the next odd one.
        alpha: strength of propagation, in [0, 1); 0 returns the logits.
        max_iter: budget of steps; 10 of conjugate gradients are published, 1000 converge.
        tol: stop a class when its residual is at most tol |Y_c|.
        pixel_feats: (B, F, H, W) features in place of Lab, compared at the same tau: depth scaled
            to [0, 1], or `torch.cat([lab_features(image), depth], 1)`.
        sigma: decay with distance, >= 0; above 0 the weight is multiplied by exp(-sigma d^q).
        distance_power: exponent q of the distance d in pixels, > 0.
        solver: "cg", conjugate gradients, or "chebyshev", a polynomial that is the same for every
            image: after n steps a pixel depends on those within n (r//2) pixels alone, so that a
            tile of an image gets what the whole image gives it. Its residual is at most
            2 q^n / (1 + q^2n) |Y_c|, q = alpha / (1 + sqrt(1 - alpha^2)), which counts as
            the residual for `tol`; 10 steps promise 8 % at the default alpha, and 20 0.3 %.
        backend: "torch", "llvm" (compiled code for a CPU), "triton" (a GPU), or "auto", the
            fastest that is installed and pays off; all agree to rounding.
        prune: whether to leave out classes that win at no pixel, to save their time, for labels.
            They get a score below all others, and no gradient; the others keep their scores. The
            argmax is proved for the converged solution, and measured for 10 steps, which differ
            from class to class. Where many classes win, all are solved.

    Returns:
        Refined scores (B, C, H, W), in the dtype of `logits`; computed in that dtype, float32 at
        least. Differentiable in `logits`; in `image` and `pixel_feats`, once only, with backend
        "torch", which "auto" then takes.

    Raises:
        InputError: shapes that do not match, values that are not finite, an image outside [0, 1],
            an option out of range, a backend that is not installed or cannot do this, or too
            little memory.

    >>> image = torch.zeros(1, 3, 4, 6)
    >>> image[..., 3:] = 1                                  # a black and a white half
    >>> logits = torch.zeros(1, 2, 4, 6)
    >>> logits[:, 0, :, :2] = 1                             # class 0 seen in two columns
    >>> logits[:, 1, :, 4:] = 1
    >>> propagate_pixels(logits, image).argmax(1)[0, 0]     # it spreads up to the edge
    tensor([0, 0, 0, 1, 1, 1])
    """
    if pixel_feats is None:
        name, guide, axes = "image", require("image", image), "B 3 H W"
    else:
        name, guide, axes = "pixel_feats", pixel_feats, "B F H W"
    check_tensors(logits=(logits, "B C H W"), **{name: (guide, axes)})
    solving: dict[str, Any] = {"alpha": alpha, "max_iter": max_iter, "tol": tol}
    kernels = _choose_kernels(logits, (name, guide), r, backend, solving, solver)

    dtype = compute_dtype(logits)

    def build(guide: Tensor, r: int) -> Graph:
        return stencil_graph(
            lab(guide) if pixel_feats is None else guide,
            tau=tau, r=r, sigma=sigma, distance_power=distance_power, kernels=kernels,
        )  # fmt: skip

    def propagate_item(scores: Tensor, guide: Tensor) -> Tensor:
        graph = build(guide, r)

        def solve(scores: Tensor) -> Tensor:
            return propagate(scores, graph, **solving, solver=solver)

        @torch.no_grad()
        def guess() -> tuple[Tensor, Tensor]:
            """Propagate a grid of pixels, each joined with the next ones of the grid.

            Classes that are best at none of them keep their distance from the best.
            """
            (rows, own_row), (columns, own_column) = (_sample(n, r) for n in scores.shape[1:])
            small = build(guide[:, rows][:, :, columns], 3)
            sampled = scores[:, rows][:, :, columns].flatten(1)
            few = {**solving, "max_iter": min(max_iter, _GUESS_STEPS)}
            near = sampled.argmax(0).unique()
            # A solution is about 1 / (1 - alpha) as large as its scores.
            found = (1 - alpha) * propagate(sampled[near], small, **few)
            guessed = sampled + (found.amax(0) - sampled.amax(0))
            guessed[near] = found
            cell = own_row[:, None] * len(range(*columns.indices(scores.shape[2]))) + own_column
            return guessed, cell.flatten().to(scores.device)

        rows = scores.flatten(1)
        return solve_winners(rows.contiguous(), solve, guess) if prune else solve(rows)

    guide = guide.to(dtype)
    check_finite(name, guide)  # float64 values may overflow in float32
    items = [propagate_item(*pair) for pair in zip(logits.to(dtype), guide, strict=True)]
    scores = torch.stack(items) if len(items) > 1 else items[0][None]
    scores = scores.reshape(logits.shape)
    return cast_back(scores if prune else match_twins(scores, logits), logits)


def _choose_kernels(
    logits: Float[Tensor, "B C *grid"],
    guide: tuple[str, Float[Tensor, "B F H W"]],
    r: int,
    backend: str,
    solving: Mapping[str, Any],
    solver: str,
    *,
    logged: bool = True,
) -> Kernels:
    """Choose the backend for the guide's pixels, and refuse what does not fit into memory."""
    classes, (features, height, width) = logits.shape[1], guide[1].shape[1:]
    side = [min(r // 2, length - 1) * 2 + 1 for length in (height, width)]
    work = classes * height * width * math.prod(side) * solving["max_iter"]
    kernels = kernels_for(backend, logits, guide, work, worth=_WORTH_COMPILING, logged=logged)

    size = compute_dtype(logits).itemsize
    plane = size * height * width
    counts = classes, (height, width), features, math.prod(side) - 1, size
    needed = kernels.forecast_stencil(*counts) + features * plane
    wants = torch.is_grad_enabled()
    gradient = wants and (logits.requires_grad or guide[1].requires_grad)
    fused = kernels.forecast_stencil is not portable.forecast_stencil and solver == "cg"
    if gradient or not fused:
        needed += forecast_solver(classes, plane, **solving, gradient=gradient)
    if wants and guide[1].requires_grad:  # gradients of the weights, of two products
        needed += 2 * math.prod(side) // 2 * plane
    if logits.dtype.itemsize < size:
        needed += classes * plane
    check_room(
        "logits",
        f"{classes} classes of {height} x {width} pixels, whose propagation needs",
        needed,
        logits.device,
        "Pass a smaller image, or some classes at a time.",
    )
    return kernels


def _sample(length: int, r: int) -> tuple[slice, Int[Tensor, " length"]]:
    """Take some of so many rows or columns: which, and for each row the one that stands for it.

    After as many steps, a square of 3 x 3 of them reaches as far as r x r pixels.
    """
    step = max(2, r // 3)
    taken = slice(min(step // 2, length - 1), None, step)
    return taken, (torch.arange(length) // step).clamp(max=len(range(*taken.indices(length))) - 1)


class PixelPropagation(
    Refiner, function=propagate_pixels, needs=("image",), takes=("pixel_feats",)
):
    """`propagate_pixels` as a module; it takes that function's options.

    >>> step = PixelPropagation(r=5)
    >>> step(torch.rand(1, 5, 8, 8), image=torch.rand(1, 3, 8, 8)).shape
    torch.Size([1, 5, 8, 8])
    """

    alpha: float
    max_iter: int
    tol: float
    r: int
    solver: str
    backend: str
    prune: bool

    @property
    def reach(self) -> int | None:
        """How far from a pixel the pixels are that its scores depend on; None with "cg": all are.

        Each step of the polynomial but the first multiplies by the graph, and the row sums of the
        farthest pixels need their own neighbours.
        """
        if self.solver == "cg" or self.prune:
            return None
        return count_steps(self.alpha, self.tol, self.max_iter) * (self.r // 2)

    def check_room(self, logits: Tensor, inputs: Mapping[str, Any]) -> None:
        """Refuse an image whose propagation does not fit into memory."""
        for name in ("pixel_feats", "image"):
            if inputs.get(name) is not None:
                solving = {option: self.config[option] for option in SOLVER_CHECKS}
                guide, how = (name, inputs[name]), (self.r, self.backend, solving, self.solver)
                _choose_kernels(logits, guide, *how, logged=False)
                return

    def forward(self, logits: Tensor, **inputs: Any) -> Tensor:
        """Propagate over pixels; the image may be missing if `pixel_feats` are given."""
        if inputs.get("pixel_feats") is not None and inputs.get("image") is None:
            return self._call(logits, inputs)
        return super().forward(logits, **inputs)
