"""The Gibbs kernel exp(-C / epsilon) of entropic transport, for any epsilon.

All classes share the kernel, so each product with it is one matrix product. Its weights come as
w_i exp(a_i), and its results as logarithms, so that nothing overflows; where the terms of a sum
vanish below what the dtype can hold, that sum alone is taken again in the log domain.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lpprop._core.errors import InputError
from lpprop.kernels.dispatch import kernels_for

__all__ = ["GibbsKernel"]

# Exponents down to minus this are far enough above the smallest number of the dtype that what
# vanishes in a sum is less than its rounding.
_REACH = {torch.float32: 60.0, torch.float64: 600.0}
# Exponents up to this are still told apart to 1e-4 in float64.
_FINEST = 1e12
# Rows of the kernel that are combined with the cost at once; they stay in the cache of a CPU.
_BLOCK_BYTES = 4 * 2**20
# Multiply-adds that an entry is counted as, when it is asked whether compiled code is worth while:
# from about 3,900 patches on. A first call does not win back what compiling takes; later ones do.
_EXPONENTIAL = 100
# Sums that are taken again are worked off this many bytes at a time.
_EXACT_BYTES = 64 * 2**20


class GibbsKernel:
    """G_ij = exp(-C_ij / epsilon), stored less its largest exponents by row and by column.

    Args:
        cost: (N, N) finite costs.
        bounds: the least and the largest of them.
        epsilon: regularisation, > 0.

    Raises:
        InputError: an epsilon that is too small for the cost.

    Attributes:
        dtype: in which to compute: the cost's own, but float64 where the exponents leave the
            reach of float32.
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
                fix="Raise epsilon, or scale the cost down; below, the exponents are but rounding.",
            )
        spread = (high - low) / epsilon
        self.dtype = torch.float64 if spread > _REACH[torch.float32] else cost.dtype
        self.cost, self.epsilon = cost, epsilon
        # The shifts are constants, which the potentials take up again.
        self.safe = spread <= _REACH[self.dtype]
        if self.safe:
            self.row = torch.full_like(cost[0], -low / epsilon, dtype=self.dtype)
            self.column = torch.zeros_like(self.row)
            kernels = kernels_for("auto", cost, ("cost", cost), _EXPONENTIAL * cost.numel())
            kernel = kernels.build_gibbs_kernel(cost.to(self.dtype), 1 / epsilon, low / epsilon)
        else:  # every row and every column then has an entry near 1
            exponent = cost.to(self.dtype) * (-1 / epsilon)
            with torch.no_grad():
                self.row = exponent.amax(1)
                self.column = (exponent - self.row[:, None]).amax(0)
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
        """Return log sum_i w_i exp(a_i) G_ij, or the sum over j of G_ij where transposed.

        Each row of weights is non-negative, with a positive entry. Where a sum vanishes and is not
        wanted, an upper bound stands.
        """
        inner, outer = (self.column, self.row) if transposed else (self.row, self.column)
        share, size = self._shares(weights, potential + inner)
        mean = share @ (self.kernel.mT if transposed else self.kernel)
        if self.safe:
            return mean.log() + size + outer
        lost = self._lost(mean)
        logs = torch.where(lost, -_REACH[self.dtype], torch.where(lost, 1.0, mean).log())
        logs = logs + size + outer
        again = lost if wanted is None else lost & wanted
        exact = [
            (largest + terms.sum(-1, keepdim=True).log()).squeeze(-1)
            for terms, largest, _ in self._exact(weights, potential, again, transposed=transposed)
        ]
        return logs.masked_scatter(again, torch.cat(exact)) if exact else logs

    def mean_cost(
        self,
        weights: Float[Tensor, "C N"],
        potential: Float[Tensor, "C N"],
        total: Float[Tensor, "C N"],
    ) -> Float[Tensor, "C N"]:
        """Return the mean over i of C_ij, weighted by w_i exp(a_i) G_ij.

        The logarithms of the sums of these weights are given, from `log_product`.
        """
        share, size = self._shares(weights, potential + self.row)
        total = (total - size - self.column).exp() if self.safe else share @ self.kernel
        # Rows of the kernel at a time, so that no second N x N matrix stands in memory.
        rows = max(1, _BLOCK_BYTES // self.kernel[0].nbytes)
        parts = zip(
            share.split(rows, 1), self.kernel.split(rows), self.cost.split(rows), strict=True
        )
        weighted = torch.zeros_like(total)
        for part, kernel, cost in parts:
            weighted = torch.addmm(weighted, part, kernel * cost)
        if self.safe:
            return weighted / total
        lost = self._lost(total)
        mean = weighted / torch.where(lost, 1.0, total)
        exact = [
            (terms * cost).sum(-1) / terms.sum(-1)
            for terms, _, cost in self._exact(weights, potential, lost, transposed=False)
        ]
        return mean.masked_scatter(lost, torch.cat(exact)) if exact else mean

    def _shares(
        self, weights: Float[Tensor, "C N"], exponent: Float[Tensor, "C N"]
    ) -> tuple[Float[Tensor, "C N"], Float[Tensor, "C 1"]]:
        """Return each entry's share of the sum of w exp(x) over its row, and the sum's logarithm.

        Neither leaves the range of the dtype, and where w sums to 1 and x is near 0, so is the
        logarithm, which then is good to the last digit.
        """
        terms, largest = self._terms(weights, exponent)
        total = terms.detach().sum(1, keepdim=True)
        return terms / total, largest + total.log()

    def _terms(
        self, weights: Float[Tensor, "n N"], exponent: Float[Tensor, "n N"]
    ) -> tuple[Float[Tensor, "n N"], Float[Tensor, "n 1"]]:
        """Return w exp(x - m), and m, the largest x of the row that has any weight."""
        with torch.no_grad():
            largest = exponent.masked_fill(weights == 0, -torch.inf).amax(1, keepdim=True)
        # A weight of 0 may stand beside any exponent, which must not make 0 times infinity.
        return weights * (exponent - largest).clamp(max=_REACH[self.dtype]).exp(), largest

    def _lost(self, mean: Float[Tensor, "C N"]) -> Bool[Tensor, "C N"]:
        """Mark the sums whose terms have vanished."""
        return mean.detach().log() < -_REACH[self.dtype]

    def _exact(
        self,
        weights: Float[Tensor, "C N"],
        potential: Float[Tensor, "C N"],
        lost: Bool[Tensor, "C N"],
        *,
        transposed: bool,
    ) -> Iterator[tuple[Float[Tensor, "n k"], Float[Tensor, "n 1"], Float[Tensor, "n k"]]]:
        """Yield the terms of the lost sums, their scale, and their costs, a group at a time."""
        cost = self.cost if transposed else self.cost.mT
        places = None
        support = int((weights > 0).sum(1).max())
        # Most classes have mass at a few patches: no other counts, except for the slope there.
        if 2 * support < len(cost) and not weights.requires_grad:
            weights, places = weights.topk(support)
            potential = potential.gather(1, places)
        group = max(1, _EXACT_BYTES // potential[0].nbytes)
        for c, j in (part.unbind(1) for part in lost.nonzero().split(group) if len(part)):
            costs = (cost[j] if places is None else cost[j[:, None], places[c]]).to(self.dtype)
            yield *self._terms(weights[c], potential[c] - costs / self.epsilon), costs
