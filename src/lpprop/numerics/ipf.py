"""Iterative proportional fitting: a matrix made doubly stochastic."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from lpprop._core.checks import (
    check_non_negative,
    check_positive_sums,
    check_precision,
    check_tensors,
)
from lpprop._core.errors import InputError
from lpprop._core.options import check_from_0, check_integer
from lpprop._core.tensors import resolve
from lpprop.kernels.portable import multiply_rows
from lpprop.numerics.cg import _ROUNDINGS

__all__ = ["Factors", "IPFResult", "fit_factors", "fit_marginals", "ipf"]


class IPFResult(NamedTuple):
    """The result of `ipf`.

    Attributes:
        value: the scaled matrix.
        row_error: largest deviation of a row's sum from 1.
        column_error: largest deviation of a column's sum from 1.
        residual: the larger of the two errors.
        iterations: how often the columns and then the rows were scaled.
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

    The rows of the result sum to 1, and its columns approach 1. The iterations stop early once the
    columns are within `tol`, or within rounding. Zeros stay zeros. Some patterns of zeros allow no
    doubly stochastic matrix, such as two rows whose only entry is in the same column: then all
    iterations are done, and the result has not converged.

    Args:
        matrix: (N, N) non-negative, without a row or column of zeros; float32 or float64.
        iterations: budget, >= 1.
        tol: residual at which to stop, >= 0.

    Returns:
        An `IPFResult`. Differentiable.

    Raises:
        InputError: a matrix that is not square, is in half precision, is not finite, has negative
            values or a row or column of zeros; or an option out of range.

    >>> result = ipf(torch.tensor([[0.9, 0.1], [0.6, 0.4]]))
    >>> result.value, result.converged
    (tensor([[0.7101, 0.2899],
            [0.2899, 0.7101]]), True)
    """
    check_tensors(matrix=(matrix, "N N"))
    check_precision("matrix", matrix)
    iterations, tol = check_integer("iterations", iterations), check_from_0("tol", tol)
    matrix = resolve(matrix)
    check_non_negative("matrix", matrix, "Take attention after the softmax.")
    check_positive_sums("matrix", matrix, 0, 1)
    return fit_marginals(matrix, iterations=iterations, tol=tol)


def fit_marginals(
    matrix: Float[Tensor, "N N"], *, iterations: int, tol: float = 0.0, name: str = "matrix"
) -> IPFResult:
    """Run `ipf` on a matrix that is already checked; `name` is what errors call it."""
    row, column, column_error, count = fit_factors(matrix, iterations=iterations, tol=tol)
    value = row[:, None] * matrix
    value = value * column if value.requires_grad else value.mul_(column)
    row_error = (value.detach().sum(1) - 1).abs().max()
    residual = torch.maximum(row_error, column_error)
    if not bool(torch.isfinite(residual)):
        raise InputError.of(
            name,
            got=f"values from {float(matrix.detach().min()):.4g} to "
            f"{float(matrix.detach().max()):.4g}, whose scaling leaves the range of {matrix.dtype}",
            expected="a matrix nearer to a doubly stochastic one",
            fix="Take fewer iterations, or add a small number to every entry.",
        )
    converged = bool(residual <= _limit(matrix, tol))
    return IPFResult(value, row_error, column_error, residual, count, converged)


class Factors(NamedTuple):
    """The doubly stochastic matrix is row_i matrix_ij column_j."""

    row: Float[Tensor, " N"]
    column: Float[Tensor, " N"]
    column_error: Float[Tensor, ""]
    iterations: int


def fit_factors(matrix: Float[Tensor, "N N"], *, iterations: int, tol: float = 0.0) -> Factors:
    """Find one factor per row and one per column, so that no matrix is written."""
    limit = _limit(matrix, tol)
    row = torch.ones_like(matrix[0])
    sums = multiply_rows(row[None], matrix)[0]
    for count in range(1, iterations + 1):  # noqa: B007
        column = 1 / sums
        row = 1 / multiply_rows(column[None], matrix.mT)[0]
        sums = multiply_rows(row[None], matrix)[0]
        column_error = (column * sums - 1).detach().abs().max()
        if bool(column_error <= limit):
            break
    return Factors(row, column, column_error, count)


def _limit(matrix: Tensor, tol: float) -> float:
    return max(tol, _ROUNDINGS * torch.finfo(matrix.dtype).eps)
