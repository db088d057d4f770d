"""Iterative solvers; each returns a NamedTuple with the value and how it was reached."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lpprop.checks import (
    check_axes,
    check_distribution,
    check_finite,
    check_integer,
    check_non_negative,
    check_number,
    check_positive_sums,
    check_precision,
    check_tensors,
    finite_bounds,
)
from lpprop.errors import InputError
from lpprop.gibbs import GibbsKernel

__all__ = ["CGResult", "IPFResult", "SinkhornResult", "cg", "ipf", "scale_kernel", "sinkhorn"]

# Marginals that are off by no more than so many roundings will not come closer.
_ROUNDINGS = 8


class CGResult(NamedTuple):
    """What `cg` found, one entry a system in all but `value`.

    Attributes:
        value: the solutions, shape (..., N).
        residual: norm of the residual relative to the right-hand side's; 0 for a zero side.
        iterations: steps taken.
        converged: whether the residual is within the tolerance.
    """

    value: Float[Tensor, "*systems N"]
    residual: Float[Tensor, "*systems"]
    iterations: Int[Tensor, "*systems"]
    converged: Bool[Tensor, "*systems"]


def cg(
    matvec: Callable[[Tensor], Tensor],
    b: Float[Tensor, "*systems N"],
    *,
    tol: float = 1e-6,
    max_iter: int = 10,
) -> CGResult:
    """Solve A x = b for many right-hand sides by conjugate gradients from zero.

    Every system has its own step sizes and stops by itself, as if it were solved alone: at the
    first step where the residual's norm is at most `tol` times the norm of its right-hand side,
    or after `max_iter` steps.

    Args:
        matvec: applies the symmetric positive definite A to (..., N).
        b: right-hand sides, one a row; float32 or float64.
        tol: relative tolerance, >= 0.
        max_iter: budget of steps, >= 1.

    Returns:
        A `CGResult`. Differentiable in `b` and in what `matvec` is made of.

    Raises:
        InputError: tol or max_iter out of range.

    >>> A = torch.tensor([[4.0, 1.0], [1.0, 3.0]])
    >>> result = cg(lambda x: x @ A, torch.tensor([[1.0, 2.0]]))
    >>> result.value, result.iterations, result.converged
    (tensor([[0.0909, 0.6364]]), tensor([2]), tensor([True]))
    """
    check_number("tol", tol, low=0)
    check_integer("max_iter", max_iter)

    # A power of two a system, so that the squares below neither overflow nor vanish; it is
    # exact, and conjugate gradients commute with it.
    with torch.no_grad():
        exponent = torch.frexp(b.abs().amax(-1, keepdim=True)).exponent - 1
        scale = torch.ldexp(torch.ones_like(b[..., :1]), exponent)
    b = b / scale

    x = 0 * b  # zero, and a function of b even where no step is taken
    r = p = b
    rr = _dot(r, r)
    # Far below the precision of x there is nothing left to gain, and the squares vanish.
    limit = max(tol, torch.finfo(b.dtype).eps ** 1.5) * rr.detach().sqrt()
    iterations = torch.zeros_like(rr, dtype=torch.int64)
    for _ in range(max_iter):
        active = rr.detach().sqrt() > limit
        if not bool(active.any()):
            break
        Ap = matvec(p)
        # A system that has stopped keeps its solution; the ones keep 0/0 out of its gradient.
        one = torch.ones_like(rr)
        step = torch.where(active, rr / torch.where(active, _dot(p, Ap), one), 0.0)
        x = torch.addcmul(x, step, p)
        r = torch.addcmul(r, step, Ap, value=-1)
        rr_next = _dot(r, r)
        momentum = torch.where(active, rr_next / torch.where(active, rr, one), 0.0)
        p = torch.addcmul(r, momentum, p)
        rr = rr_next
        iterations += active

    norm = rr.detach().sqrt()
    size = torch.linalg.vector_norm(b.detach(), dim=-1, keepdim=True)
    residual = norm / torch.where(size > 0, size, 1.0)
    return CGResult(
        value=x * scale,
        residual=residual.squeeze(-1),
        iterations=iterations.squeeze(-1),
        converged=(norm <= limit).squeeze(-1),
    )


def _dot(a: Tensor, b: Tensor) -> Tensor:
    products: Tensor = torch.linalg.vecdot(a, b)
    return products.unsqueeze(-1)


class SinkhornResult(NamedTuple):
    """What `sinkhorn` found, one entry a distribution in all but the kernel.

    Attributes:
        value: the potentials (alpha, beta) of the plan
            pi_ij = f_i exp(alpha_i + beta_j - C_ij / epsilon), which itself is never formed. Where
            f_i = 0, alpha_i may be a lower bound.
        residual: how far the rows of the plan are from f, in total variation: the sum over i of
            |sum_j pi_ij - f_i|. Its columns hold to rounding.
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
    """Transport many distributions to the uniform one at the same cost, by Sinkhorn's iteration.

    With K = exp(-C / epsilon), u = 1/N and nu = 1 at first, `iterations` times (Eq. 8)

        mu = f / (K nu),   nu = u / (K^T mu),   pi = diag(mu) K diag(nu)

    Each distribution stops by itself, and earlier, where its plan has its marginals to within
    `tol`, or to rounding, after which nothing changes any more. The scalings are kept as
    mu = f exp(alpha) and nu = exp(beta), which hold for any epsilon.

    Args:
        cost: (N, N), from i to j; float32 or float64.
        distribution: (C, N) rows f that sum to 1.
        epsilon: regularisation, > 0, in the units of the cost.
        iterations: budget of updates, >= 1.
        tol: residual at which to stop, >= 0.

    Returns:
        A `SinkhornResult`. Differentiable in both, also where f is 0.

    Raises:
        InputError: shapes that do not match, half precision, values that are not finite, rows that
            are no distributions, or an option out of range.

    >>> cost = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    >>> result = sinkhorn(cost, torch.tensor([[0.8, 0.2]]))
    >>> alpha, beta = result.value
    >>> 0.8 * (alpha[0, 0] + beta[0] - cost[0] / 0.1).exp()     # what leaves the first patch
    tensor([0.5000, 0.3000])
    """
    check_axes(distribution=(distribution, "C N"), cost=(cost, "N N"))
    check_finite("distribution", distribution)
    (bounds,) = finite_bounds("cost", cost[None])
    check_precision("distribution", distribution)
    check_precision("cost", cost)
    check_number("epsilon", epsilon, low=0, open_low=True)
    check_integer("iterations", iterations)
    check_number("tol", tol, low=0)
    check_distribution("distribution", distribution, "Divide each row by its sum.")
    check_positive_sums("distribution", distribution, 1)

    dtype = torch.promote_types(cost.dtype, distribution.dtype)
    kernel = GibbsKernel(cost.to(dtype), bounds, epsilon)
    return scale_kernel(kernel, distribution, iterations=iterations, tol=tol)


def scale_kernel(
    kernel: GibbsKernel, distribution: Float[Tensor, "C N"], *, iterations: int, tol: float = 0.0
) -> SinkhornResult:
    """Iterate as `sinkhorn` says, on a kernel that is made and inputs that are checked."""
    f = distribution.to(kernel.dtype)
    limit = max(tol, _ROUNDINGS * torch.finfo(distribution.dtype).eps)
    # With the factor u apart, nu = u exp(beta), both potentials are near 0 where the plan is flat.
    uniform = torch.full_like(f, 1 / f.shape[1])
    # The same sums for all at first.
    level = kernel.log_product(uniform[:1], torch.zeros_like(f[:1]), transposed=True)
    following = -level.expand_as(f)

    walking = torch.arange(len(f), device=f.device)
    stopped: list[tuple[Tensor, ...]] = []
    for count in range(1, iterations + 1):
        alpha = following
        beta = -kernel.log_product(f, alpha, transposed=False)
        # Where f is 0, alpha counts for the slope alone.
        wanted = None if f.requires_grad else f > 0
        following = -kernel.log_product(uniform, beta, transposed=True, wanted=wanted)
        # The rows of the plan sum to mu (K nu) = f exp(alpha - following). All together they sum
        # to 1, as its columns do: a factor that they share is but rounding of the products.
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


class IPFResult(NamedTuple):
    """What `ipf` found.

    Attributes:
        value: the matrix scaled.
        row_error: largest deviation of a row's sum from 1.
        column_error: the same of a column's.
        residual: the larger of both.
        iterations: scalings of the columns and then the rows.
        converged: whether the residual is within the tolerance.
    """

    value: Float[Tensor, "N N"]
    row_error: Float[Tensor, ""]
    column_error: Float[Tensor, ""]
    residual: Float[Tensor, ""]
    iterations: int
    converged: bool


def ipf(matrix: Float[Tensor, "N N"], *, iterations: int = 15, tol: float = 0.0) -> IPFResult:
    """Make a matrix doubly stochastic by iterative proportional fitting (Eq. 11).

        T_ij <- T_ij / sum_u T_uj,   then   T_ij <- T_ij / sum_v T_iv,   `iterations` times

    The rows of the result sum to 1, the columns as far as the iterations go. It stops earlier
    where they do so to within `tol`, or to rounding. Zeros stay zeros. A matrix whose zeros leave
    no doubly stochastic matrix, such as two rows whose only entry is in the same column, is
    scaled as often as it was asked for and has not converged.

    Args:
        matrix: (N, N) non-negative, no row or column of zeros; float32 or float64.
        iterations: budget, >= 1.
        tol: residual at which to stop, >= 0.

    Returns:
        An `IPFResult`. Differentiable.

    Raises:
        InputError: a matrix that is not square, of half precision, not finite, negative somewhere,
            or has a row or column of zeros; or an option out of range.

    >>> result = ipf(torch.tensor([[0.9, 0.1], [0.6, 0.4]]))
    >>> result.value, result.converged
    (tensor([[0.7101, 0.2899],
            [0.2899, 0.7101]]), True)
    """
    check_tensors(matrix=(matrix, "N N"))
    check_precision("matrix", matrix)
    check_integer("iterations", iterations)
    check_number("tol", tol, low=0)
    check_non_negative("matrix", matrix, "Take attention after the softmax.")
    check_positive_sums("matrix", matrix, 0, 1)
    limit = max(tol, _ROUNDINGS * torch.finfo(matrix.dtype).eps)

    # Scaled by a factor a row and a factor a column, which reads the matrix and writes none.
    row = torch.ones_like(matrix[0])
    sums = row @ matrix
    for count in range(1, iterations + 1):  # noqa: B007
        column = 1 / sums
        row = 1 / (matrix @ column)
        sums = row @ matrix
        column_error = (column * sums - 1).detach().abs().max()
        if bool(column_error <= limit):
            break
    value = row[:, None] * matrix
    value = value * column if value.requires_grad else value.mul_(column)
    row_error = (value.detach().sum(1) - 1).abs().max()
    residual = torch.maximum(row_error, column_error)
    if not bool(torch.isfinite(residual)):
        raise InputError.of(
            "matrix",
            got=f"values from {float(matrix.detach().min()):.4g} to "
            f"{float(matrix.detach().max()):.4g}, whose scaling leaves the range of {matrix.dtype}",
            expected="a matrix nearer to a doubly stochastic one",
            fix="Take fewer iterations, or add a small number to every entry.",
        )
    return IPFResult(value, row_error, column_error, residual, count, bool(residual <= limit))
