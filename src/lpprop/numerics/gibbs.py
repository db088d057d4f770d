"""The Gibbs kernel exp(-C / epsilon) of entropic transport, for any epsilon.

All classes share the kernel, so each product with it is one matrix product. Weights are passed as
w_i exp(a_i), and results are returned as logarithms, so that nothing overflows. If the terms of a
sum underflow, that sum alone is computed again in the log domain.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lpprop._core.errors import InputError
from lpprop._core.precision import has_double
from lpprop.kernels.dispatch import kernels_for
from lpprop.kernels.portable import multiply_rows

__all__ = ["GibbsKernel", "kernel_device", "kernel_dtype"]

# Largest exponent magnitude for which underflowing terms stay below rounding error.
_REACH = {torch.float32: 60.0, torch.float64: 600.0}
# Largest exponent that float64 resolves to 1e-4.
_FINEST = 1e12
# Size of the blocks of rows in which kernel and cost are multiplied: they stay in a CPU's cache.
_BLOCK_BYTES = 4 * 2**20
# Entries from which compiling the loop pays off: 3,900 patches. The first call does not win back
# the time to compile; later calls do.
_WORTH_COMPILING = 1.5e7
# Size of the groups in which underflowed sums are computed again.
_EXACT_BYTES = 16 * 2**20


def kernel_dtype(dtype: torch.dtype, bounds: tuple[float, float], epsilon: float) -> torch.dtype:
    """Return the dtype of the kernel of a cost in `dtype` between these bounds.

    It is that dtype, or float64 if the exponents leave the range of float32.
    """
    low, high = bounds
    return torch.float64 if (high - low) / epsilon > _REACH[torch.float32] else dtype


def kernel_device(
    cost: Float[Tensor, "N N"], bounds: tuple[float, float], epsilon: float
) -> torch.device:
    """Return where the kernel of a cost is made: on the CPU if its device lacks the dtype."""
    wide = kernel_dtype(cost.dtype, bounds, epsilon) == torch.float64
    return torch.device("cpu") if wide and not has_double(cost.device) else cost.device


class GibbsKernel:
    """The kernel G_ij = exp(-C_ij / epsilon), its exponents shifted per row and per column.

    Args:
        cost: (N, N) finite costs.
        bounds: the smallest and the largest cost.
        epsilon: regularisation, > 0.

    Raises:
        InputError: an epsilon that is too small for the cost.

    Attributes:
        dtype: dtype of the computation, from `kernel_dtype`.
    """

    def __init__(
        self, cost: Float[Tensor, "N N"], bounds: tuple[float, float], epsilon: float
    ) -> None:
        """Make the kernel."""
        low, high = bounds
        if not max(abs(low), abs(high)) <= _FINEST * epsilon:
            raise InputError.of(
                "epsilon",
                got=f"{epsilon:g} for costs from {low:.4g} to {high:.4g}",
                expected=f"at least 1/{_FINEST:g} of the largest cost",
                fix="Raise epsilon, or scale the cost down: larger exponents are mere rounding.",
            )
        spread = (high - low) / epsilon
        self.dtype = kernel_dtype(cost.dtype, bounds, epsilon)
        self.cost, self.epsilon = cost, epsilon
        # No gradient is needed: the shifts are constants, which the potentials undo.
        self.safe = spread <= _REACH[self.dtype]
        if self.safe:
            self.row = torch.full_like(cost[0], -low / epsilon, dtype=self.dtype)
            self.column = torch.zeros_like(self.row)
            # By size alone, not by what is compiled already, so that bits repeat in every process.
            backend = "auto" if cost.numel() >= _WORTH_COMPILING else "torch"
            kernels = kernels_for(backend, cost, ("cost", cost), cost.numel(), worth=0)
            kernel = kernels.build_gibbs_kernel(cost.to(self.dtype), 1 / epsilon, low / epsilon)
        else:  # every row and every column then has an entry near 1
            scale = -1 / epsilon
            # No more matrices than needed: one is as large as two of the cost.
            exponent = cost * scale if cost.dtype == self.dtype else cost.to(self.dtype).mul_(scale)
            with torch.no_grad():
                self.row = exponent.amax(1)
                rows = _count_rows(exponent)
                parts = zip(exponent.split(rows), self.row.split(rows), strict=True)
                tops = [(part - row[:, None]).amax(0) for part, row in parts]
                self.column = torch.stack(tops).amax(0)
            exponent = exponent.sub_(self.row[:, None]).sub_(self.column)
            self.safe = -float(exponent.detach().min()) <= _REACH[self.dtype]
            kernel = exponent.exp_()
        self.kernel = kernel

    def log_product(
        self,
        weights: Float[Tensor, "C N"],
        potential: Float[Tensor, "C N"],
        *,
        transposed: bool,
        wanted: Bool[Tensor, "C N"] | None = None,
    ) -> Float[Tensor, "C N"]:
        """Return log sum_i w_i exp(a_i) G_ij; if transposed, with G_ji in place of G_ij.

        Each row of weights is non-negative and has a positive entry. If a sum underflows and is not
        wanted, its result is an upper bound.
        """
        inner, outer = (self.column, self.row) if transposed else (self.row, self.column)
        share, size = self._compute_shares(weights, potential + inner)
        mean = multiply_rows(share, self.kernel.mT if transposed else self.kernel)
        if self.safe:
            return mean.log() + size + outer
        lost = self._find_lost(mean)
        logs = torch.where(lost, -_REACH[self.dtype], torch.where(lost, 1.0, mean).log())
        logs = logs + size + outer
        again = lost if wanted is None else lost & wanted
        exact = [
            (largest + terms.sum(-1, keepdim=True).log()).squeeze(-1)
            for terms, largest, _ in self._recompute_terms(
                weights, potential, again, transposed=transposed
            )
        ]
        return logs.masked_scatter(again, torch.cat(exact)) if exact else logs

    def mean_cost(
        self,
        weights: Float[Tensor, "C N"],
        potential: Float[Tensor, "C N"],
        total: Float[Tensor, "C N"],
    ) -> Float[Tensor, "C N"]:
        """Return the mean over i of C_ij, weighted by w_i exp(a_i) G_ij.

        `total` is the logarithm of the sum of these weights, from `log_product`.
        """
        share, size = self._compute_shares(weights, potential + self.row)
        total = (total - size - self.column).exp() if self.safe else share @ self.kernel
        # In blocks of rows, so that there is no second N x N matrix in memory.
        rows = _count_rows(self.kernel)
        parts = zip(
            share.split(rows, 1), self.kernel.split(rows), self.cost.split(rows), strict=True
        )
        weighted = torch.zeros_like(total)
        for part, kernel, cost in parts:
            weighted = torch.addmm(weighted, part, kernel * cost)
        if self.safe:
            return weighted / total
        lost = self._find_lost(total)
        mean = weighted / torch.where(lost, 1.0, total)
        exact = [
            (terms * cost).sum(-1) / terms.sum(-1)
            for terms, _, cost in self._recompute_terms(weights, potential, lost, transposed=False)
        ]
        return mean.masked_scatter(lost, torch.cat(exact)) if exact else mean

    def _compute_shares(
        self, weights: Float[Tensor, "C N"], exponent: Float[Tensor, "C N"]
    ) -> tuple[Float[Tensor, "C N"], Float[Tensor, "C 1"]]:
        """Return each entry's share of the sum of w exp(x) over its row, and the sum's logarithm.

        Neither leaves the range of the dtype. If w sums to 1 and x is near 0, the logarithm is near
        0 too, and correct to the last digit.
        """
        terms, largest = self._compute_terms(weights, exponent)
        total = terms.detach().sum(1, keepdim=True)
        return terms / total, largest + total.log()

    def _compute_terms(
        self, weights: Float[Tensor, "n N"], exponent: Float[Tensor, "n N"]
    ) -> tuple[Float[Tensor, "n N"], Float[Tensor, "n 1"]]:
        """Return w exp(x - m) and m, the largest x of each row among entries with a weight."""
        with torch.no_grad():
            largest = exponent.masked_fill(weights == 0, -torch.inf).amax(1, keepdim=True)
        # An entry of weight 0 may have any exponent: the clamp avoids 0 times infinity.
        return weights * (exponent - largest).clamp(max=_REACH[self.dtype]).exp(), largest

    def _find_lost(self, mean: Float[Tensor, "C N"]) -> Bool[Tensor, "C N"]:
        """Mark the sums whose terms have underflowed."""
        return mean.detach().log() < -_REACH[self.dtype]

    def _recompute_terms(
        self,
        weights: Float[Tensor, "C N"],
        potential: Float[Tensor, "C N"],
        lost: Bool[Tensor, "C N"],
        *,
        transposed: bool,
    ) -> Iterator[tuple[Float[Tensor, "n k"], Float[Tensor, "n 1"], Float[Tensor, "n k"]]]:
        """Yield the terms of the lost sums, their scale and their costs, group by group."""
        cost = self.cost if transposed else self.cost.mT
        places = None
        support = int((weights > 0).sum(1).max())
        # Most classes have mass at a few patches, and the others matter to gradients alone.
        if 2 * support < len(cost) and not weights.requires_grad:
            weights, places = weights.topk(support)
            potential = potential.gather(1, places)
        group = max(1, _EXACT_BYTES // potential[0].nbytes)
        for c, j in (part.unbind(1) for part in lost.nonzero().split(group) if len(part)):
            costs = (cost[j] if places is None else cost[j[:, None], places[c]]).to(self.dtype)
            yield *self._compute_terms(weights[c], potential[c] - costs / self.epsilon), costs


def _count_rows(matrix: Float[Tensor, "N N"]) -> int:
    """Return how many rows of a matrix make a block."""
    return max(1, _BLOCK_BYTES // matrix[0].nbytes)
