"""Conjugate gradients for many right-hand sides at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lpprop._core.checks import check_finite, check_precision
from lpprop._core.errors import InputError
from lpprop._core.options import check_from_0, check_integer
from lpprop._core.tensors import check_kind, resolve

__all__ = ["CGResult", "cg"]

# The error of marginals does not fall further once it is this many roundings.
_ROUNDINGS = 8


class CGResult(NamedTuple):
    """The result of `cg`; all fields but `value` have one entry per system.

    Attributes:
        value: the solutions, shape (..., N).
        residual: norm of the residual relative to the right-hand side's; 0 if that side is zero.
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
        b: right-hand sides, one per row; float32 or float64.
        tol: relative tolerance, >= 0.
        max_iter: budget of steps, >= 1.

    Returns:
        A `CGResult`. Differentiable in `b` and in the tensors that `matvec` uses.

    Raises:
        InputError: no function, no tensor or half precision, or tol or max_iter out of range.

    >>> A = torch.tensor([[4.0, 1.0], [1.0, 3.0]])
    >>> result = cg(lambda x: x @ A, torch.tensor([[1.0, 2.0]]))
    >>> result.value, result.iterations, result.converged
    (tensor([[0.0909, 0.6364]]), tensor([2]), tensor([True]))
    """
    if not callable(matvec):
        raise InputError.of(
            "matvec",
            got=type(matvec).__name__,
            expected="a function of a tensor (..., N)",
            fix="For a matrix A, pass lambda x: x @ A.",
        )
    if isinstance(b, Tensor):
        check_kind("b", b)
    if not isinstance(b, Tensor) or 0 in (b.ndim, *b.shape) or not b.is_floating_point():
        raise InputError.of(
            "b",
            got=f"a tensor of shape {tuple(b.shape)} of {b.dtype}"
            if isinstance(b, Tensor)
            else type(b).__name__,
            expected="a tensor (..., N) of float32 or float64",
            fix="Convert it with torch.as_tensor(b, dtype=torch.float32).",
        )
    b = resolve(b)
    check_precision("b", b)
    check_finite("b", b)
    tol, max_iter = check_from_0("tol", tol), check_integer("max_iter", max_iter)

    # A power of two per system, so that the squares below neither overflow nor vanish. The scaling
    # is exact, and conjugate gradients commute with it.
    with torch.no_grad():
        exponent = torch.frexp(b.abs().amax(-1, keepdim=True)).exponent - 1
        scale = torch.ldexp(torch.ones_like(b[..., :1]), exponent)
    b = b / scale

    x = 0 * b  # zero, and a function of b even if no step is taken
    r = p = b
    rr = _dot(r, r)
    # Steps far below the precision of x gain nothing, and their squares vanish.
    limit = max(tol, torch.finfo(b.dtype).eps ** 1.5) * rr.detach().sqrt()
    iterations = torch.zeros_like(rr, dtype=torch.int64)
    for _ in range(max_iter):
        active = rr.detach().sqrt() > limit
        if not bool(active.any()):
            break
        Ap = matvec(p)
        # A system that has stopped keeps its solution; dividing by one keeps 0/0 out of its
        # gradient.
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
