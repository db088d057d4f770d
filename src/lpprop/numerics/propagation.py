"""The linear system of label propagation over a graph, and its solution."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import forward_ad

from lpprop._core.errors import warn
from lpprop._core.options import Check, check_choice, check_from_0, check_integer, check_number
from lpprop._core.scans import mark_passed
from lpprop.numerics.cg import cg
from lpprop.numerics.chebyshev import chebyshev, count_steps, schedule
from lpprop.numerics.graphs import Graph, IteratingGraph, PropagatingGraph

__all__ = [
    "SOLVER_CHECKS",
    "check_solver",
    "forecast_solver",
    "normalised_product",
    "propagate",
    "propagation_system",
]


SOLVER_CHECKS: dict[str, Check] = {
    "alpha": partial(check_number, low=0, high=1, open_high=True),
    "max_iter": check_integer,
    "tol": check_from_0,
}

check_solver = partial(check_choice, choices=("cg", "chebyshev"))

# Conjugate gradients hold about six vectors per class; classes are solved in groups whose vectors
# stay below this size.
_SOLVER_BYTES = 512 * 2**20


# With alpha nearer to 1 than so many roundings, solutions were off by 0.3 to 20 %.
_ROUNDINGS_FROM_1 = 64
# A budget of so many steps is meant to converge; the published 10 are not.
_MANY_STEPS = 100
# The vectors per class and step that a gradient keeps, measured.
_KEPT_VECTORS = 8


def forecast_solver(
    classes: int, vector: int, *, alpha: float, max_iter: int, tol: float, gradient: bool
) -> int:
    """Estimate the bytes that `propagate` takes beyond the graph, for vectors of so many bytes."""
    if gradient:
        # The bound of conjugate gradients with eigenvalues in [1 - alpha, 1 + alpha].
        bound = 0.5 * math.sqrt((1 + alpha) / (1 - alpha)) * math.log(2 / max(tol, 1e-8))
        return _KEPT_VECTORS * min(max_iter, math.ceil(max(bound, 1))) * classes * vector
    return (6 * min(classes, _count_group(vector)) + 2 * classes) * vector


def _count_group(vector: int) -> int:
    return max(1, _SOLVER_BYTES // (6 * vector))


def propagation_system(
    graph: Graph, ones: Float[Tensor, "1 N"], alpha: float
) -> Callable[[Tensor], Tensor]:
    """Return x -> (I - alpha D^-1/2 S D^-1/2) x.

    D holds the row sums of S, or 1 for a node without edges.
    """
    if isinstance(graph, PropagatingGraph):
        return lambda x: torch.sub(x, graph.normalised_product(x), alpha=alpha)
    scale = _scale(graph, ones)
    return lambda x: torch.addcmul(x, scale, graph.product(scale * x), value=-alpha)


def normalised_product(graph: Graph, ones: Float[Tensor, "1 N"]) -> Callable[[Tensor], Tensor]:
    """Return x -> D^-1/2 S D^-1/2 x, with D as in `propagation_system`."""
    if isinstance(graph, PropagatingGraph):
        return graph.normalised_product
    scale = _scale(graph, ones)
    return lambda x: scale * graph.product(scale * x)


def _scale(graph: Graph, ones: Float[Tensor, "1 N"]) -> Float[Tensor, "1 N"]:
    degree = graph.product(ones)
    return torch.where(degree > 0, degree, 1.0).rsqrt()


def propagate(
    scores: Float[Tensor, "C N"],
    graph: Graph,
    *,
    alpha: float,
    max_iter: int,
    tol: float,
    solver: str = "cg",
) -> Float[Tensor, "C N"]:
    """Solve (I - alpha S') Y' = Y for groups of classes, which bounds the solver's memory.

    The solver is "cg", conjugate gradients, or "chebyshev", whose steps follow from the options
    alone: it takes as many as `tol` and `alpha` ask for, and at most `max_iter`.

    Warns of an alpha so near 1 that rounding decides the solution: the error grows like rounding
    over 1 - alpha, however many steps are taken.
    """
    nearest = 1 - _ROUNDINGS_FROM_1 * torch.finfo(scores.dtype).eps
    if alpha > nearest and max_iter >= _MANY_STEPS:
        warn(
            "alpha",
            f"alpha={alpha!r} is within a few roundings of 1 in {scores.dtype}: the scores are off "
            f"by percents, and more steps do not help. Pass alpha={nearest:.6g} or less"
            + (", or float64." if scores.dtype.itemsize < 8 else "."),
        )
    gradient = scores.requires_grad and torch.is_grad_enabled()
    gradient = gradient or forward_ad.unpack_dual(scores).tangent is not None
    steps = count_steps(alpha, tol, max_iter)
    if solver == "chebyshev" and isinstance(graph, IteratingGraph) and not gradient:
        return graph.iterate(scores, alpha=alpha, steps=schedule(alpha, steps))
    if solver == "cg" and isinstance(graph, PropagatingGraph) and not gradient:
        return graph.propagate(scores, alpha=alpha, max_iter=max_iter, tol=tol)[0]
    groups = scores.split(_count_group(scores[0].nbytes))
    if solver == "chebyshev":
        product = normalised_product(graph, torch.ones_like(scores[:1]))
        return torch.cat([chebyshev(product, part, alpha=alpha, steps=steps) for part in groups])
    system = propagation_system(graph, torch.ones_like(scores[:1]), alpha)
    for part in groups:
        mark_passed(part)  # as what they are parts of
    return torch.cat([cg(system, part, tol=tol, max_iter=max_iter).value for part in groups])
