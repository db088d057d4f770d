"""Chebyshev's iteration: label propagation by a polynomial that is fixed beforehand.

The steps of conjugate gradients depend on sums over all nodes. Those of Chebyshev's iteration
depend on alpha alone, so that a node depends on those that its edges reach in as many steps, and on
no other. That is what work on tiles of an image needs.

Saad: Iterative Methods for Sparse Linear Systems, 2nd edition, SIAM 2003, Algorithm 12.1.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

__all__ = ["bound_residual", "chebyshev", "count_steps", "schedule"]


def chebyshev(
    product: Callable[[Tensor], Tensor],
    b: Float[Tensor, "*systems N"],
    *,
    alpha: float,
    steps: int,
) -> Float[Tensor, "*systems N"]:
    """Solve (I - alpha S) x = b by a polynomial in S, for any S with eigenvalues in [-1, 1].

    The polynomial has degree `steps` - 1 in S, and leaves the smallest residual that can be
    promised for all such S: `bound_residual(alpha, steps)` times the norm of b.

    Args:
        product: applies the symmetric S to (..., N).
        b: right-hand sides, one per row.
        alpha: in [0, 1).
        steps: number of steps, >= 1; the first needs no product.

    Returns:
        The solutions, in the shape of b. Linear in b, and differentiable in it.

    >>> import torch
    >>> S = torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=torch.float64)
    >>> b = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    >>> chebyshev(lambda x: x @ S, b, alpha=0.5, steps=20)       # 4/3 and 2/3
    tensor([[1.3333, 0.6667]], dtype=torch.float64)
    """
    x, r, p = 0 * b, b, b
    *others, (last, _) = schedule(alpha, steps)
    for step, momentum in others:
        # A product and a sum at a time: a fused one would round by its place within a vector.
        x = x + p * step
        r = r - (p - product(p) * alpha) * step
        p = r + p * momentum
    return x + p * last


def schedule(alpha: float, steps: int) -> list[tuple[float, float]]:
    """List the step along each direction, and the share of it that the next direction keeps.

    Conjugate gradients take their steps x + step p and p = r + momentum p by dot products; these
    are known beforehand.

    >>> schedule(0.0, 1), [round(step, 3) for step, _ in schedule(0.95, 4)]
    ([(1.0, 0.0)], [1.0, 1.822, 1.698, 1.621])
    """
    if alpha == 0:
        return [(1.0, 0.0)] * steps
    # Algorithm 12.1 with its direction d divided by the step that it takes, theta = 1 for the
    # middle of [1 - alpha, 1 + alpha], and delta = alpha for half of its width.
    listed, step, rho = [], 1.0, alpha
    for _ in range(steps):
        listed.append((step, rho * step * alpha / 2))
        rho = 1 / (2 / alpha - rho)
        step = 2 * rho / alpha
    return listed


def bound_residual(alpha: float, steps: int) -> float:
    """Bound the residual after so many steps, relative to the norm of the right-hand side.

    It is 1 / T_n(1 / alpha) = 2 q^n / (1 + q^2n) with q = alpha / (1 + sqrt(1 - alpha^2)), where
    T_n is Chebyshev's polynomial and n the steps. The error of the solution is at most that over
    1 - alpha, relative to the same norm.

    >>> [round(bound_residual(0.95, steps), 4) for steps in (10, 20, 40)]
    [0.079, 0.0031, 0.0]
    """
    power = (alpha / (1 + math.sqrt(1 - alpha * alpha))) ** steps
    return 2 * power / (1 + power * power)


def count_steps(alpha: float, tol: float, most: int) -> int:
    """Count the steps after which the residual is at most `tol`, but no more than `most`.

    >>> count_steps(0.95, 0.01, 100), count_steps(0.95, 1e-6, 10), count_steps(0.0, 0.0, 10)
    (17, 10, 1)
    """
    if alpha == 0:
        return 1
    if tol <= 0:
        return most
    # The hyperbolic form of T_n(1 / alpha) >= 1 / tol; of the least floats 1 / x is infinite.
    wanted, grows = (min(1 / x, sys.float_info.max) for x in (tol, alpha))
    needed = math.acosh(max(wanted, 1)) / math.acosh(grows)
    return min(most, max(1, math.ceil(needed)))
