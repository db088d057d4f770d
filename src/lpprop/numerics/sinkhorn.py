"""Sinkhorn's iteration for many distributions with one cost."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lpprop._core.checks import (
    check_axes,
    check_distribution,
    check_finite,
    check_positive_sums,
    check_precision,
    finite_bounds,
)
from lpprop._core.options import check_above_0, check_from_0, check_integer
from lpprop._core.tensors import resolve
from lpprop.numerics.cg import _ROUNDINGS
from lpprop.numerics.gibbs import GibbsKernel, kernel_device

__all__ = ["SinkhornResult", "scale_kernel", "sinkhorn"]


class SinkhornResult(NamedTuple):
    """The result of `sinkhorn`; all fields but the kernel have one entry per distribution.

    Attributes:
        value: the potentials (alpha, beta) of the plan
            pi_ij = f_i exp(alpha_i + beta_j - C_ij / epsilon), which is never formed. Where
            f_i = 0, alpha_i may be a lower bound.
        residual: how far the row sums of the plan are from f: the sum over i of
            |sum_j pi_ij - f_i|. The column sums are exact to rounding.
        iterations: updates of both potentials.
        converged: whether the residual is within the tolerance.
        kernel: the Gibbs kernel, for sums over the plan.
    """

    value: tuple[Float[Tensor, "C N"], Float[Tensor, "C N"]]
    residual: Float[Tensor, " C"]
    iterations: Int[Tensor, " C"]
    converged: Bool[Tensor, " C"]
    kernel: GibbsKernel


def sinkhorn(
    cost: Float[Tensor, "N N"],
    distribution: Float[Tensor, "C N"],
    *,
    epsilon: float = 0.1,
    iterations: int = 50,
    tol: float = 0.0,
) -> SinkhornResult:
    """Transport many distributions to the uniform one with one cost, by Sinkhorn's iteration.

    With K = exp(-C / epsilon), u = 1/N and nu = 1 at first, `iterations` times (Eq. 8)

        mu = f / (K nu),   nu = u / (K^T mu),   pi = diag(mu) K diag(nu)

    Each distribution stops early by itself, once the marginals of its plan are right to within
    `tol`, or to rounding, after which nothing changes. The scalings are kept as mu = f exp(alpha)
    and nu = exp(beta), which works for any epsilon.

    Args:
        cost: (N, N) cost from i to j; float32 or float64.
        distribution: (C, N) rows f that sum to 1.
        epsilon: regularisation, > 0, in the units of the cost.
        iterations: budget of updates, >= 1.
        tol: residual at which to stop, >= 0.

    Returns:
        A `SinkhornResult`. Differentiable in both arguments, also where f is 0. It is on the CPU
        if a small epsilon needs float64, and the device has none.

    Raises:
        InputError: shapes that do not match, half precision, values that are not finite, rows that
            are not distributions, or an option out of range.

    >>> cost = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    >>> result = sinkhorn(cost, torch.tensor([[0.8, 0.2]]))
    >>> alpha, beta = result.value
    >>> 0.8 * (alpha[0, 0] + beta[0] - cost[0] / 0.1).exp()     # mass from the first patch
    tensor([0.5000, 0.3000])
    """
    check_axes(distribution=(distribution, "C N"), cost=(cost, "N N"))
    distribution, cost = resolve(distribution), resolve(cost)
    check_finite("distribution", distribution)
    (bounds,) = finite_bounds("cost", cost[None])
    check_precision("distribution", distribution)
    check_precision("cost", cost)
    epsilon = check_above_0("epsilon", epsilon)
    iterations, tol = check_integer("iterations", iterations), check_from_0("tol", tol)
    check_distribution("distribution", distribution, "Divide each row by its sum.")
    check_positive_sums("distribution", distribution, 1)

    dtype = torch.promote_types(cost.dtype, distribution.dtype)
    cost = cost.to(dtype)
    device = kernel_device(cost, bounds, epsilon)
    kernel = GibbsKernel(cost.to(device), bounds, epsilon)
    return scale_kernel(kernel, distribution.to(device), iterations=iterations, tol=tol)


def scale_kernel(
    kernel: GibbsKernel, distribution: Float[Tensor, "C N"], *, iterations: int, tol: float = 0.0
) -> SinkhornResult:
    """Run `sinkhorn` on a kernel and on inputs that are already checked."""
    f = distribution.to(kernel.dtype)
    limit = max(tol, _ROUNDINGS * torch.finfo(distribution.dtype).eps)
    # Here nu = u exp(beta): without the factor u, both potentials are near 0 for a flat plan.
    uniform = torch.full_like(f, 1 / f.shape[1])
    # All distributions start from the same sums.
    level = kernel.log_product(uniform[:1], torch.zeros_like(f[:1]), transposed=True)
    following = -level.expand_as(f)

    walking = torch.arange(len(f), device=f.device)
    stopped: list[tuple[Tensor, ...]] = []
    for count in range(1, iterations + 1):
        alpha = following
        beta = -kernel.log_product(f, alpha, transposed=False)
        # Where f = 0, alpha affects only the gradient.
        wanted = None if f.requires_grad else f > 0
        following = -kernel.log_product(uniform, beta, transposed=True, wanted=wanted)
        # The rows of the plan sum to mu (K nu) = f exp(alpha - following). Together they sum to 1,
        # as the columns do, so that a factor common to all rows is rounding of the products.
        mass = f.detach()
        excess = torch.where(mass > 0, mass * torch.expm1(alpha - following).detach(), 0.0)
        residual = (excess - mass * excess.sum(1, keepdim=True)).abs().sum(1)
        stops = (residual <= limit) | (count == iterations)
        if bool(stops.any()):
            counts = torch.full_like(walking, count)
            stopped.append(tuple(x[stops] for x in (walking, alpha, beta, residual, counts)))
            walking, f, following = walking[~stops], f[~stops], following[~stops]
            uniform = uniform[: len(f)]
        if len(walking) == 0:
            break

    parts = [torch.cat(part) for part in zip(*stopped, strict=True)]
    order = parts[0].argsort()
    alpha, beta, residual, counts = (part[order] for part in parts[1:])
    beta = beta - math.log(beta.shape[1])
    return SinkhornResult((alpha, beta), residual, counts, residual <= limit, kernel)
