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

__all__ = ["GibbsKernel"]

# Exponents down to minus this are far enough above the smallest number of the dtype that what
# vanishes in a sum is less than its rounding.
_REACH = {torch.float32: 60.0, torch.float64: 600.0}
# Rows of the kernel that are combined with the cost at once; they stay in the cache of a CPU.
_BLOCK_BYTES = 4 * 2**20
# Sums that are taken again are worked off this many bytes at a time.
_EXACT_BYTES = 64 * 2**20


class GibbsKernel:
    """G_ij = exp(-C_ij / epsilon), stored less its largest exponents by row and by column.

    Args:
        cost: (N, N) finite costs.
        epsilon: regularisation, > 0.

    Attributes:
        dtype: in which to compute: the cost's own, but float64 where the exponents leave the
            reach of float32.
    """

    def __init__(self, cost: Float[Tensor, "N N"], epsilon: float) -> None:
        """Make the kernel."""
        low, high = (float(bound) for bound in torch.aminmax(cost.detach()))
        spread = (high - low) / epsilon
        self.dtype = torch.float64 if spread > _REACH[torch.float32] else cost.dtype
        self.cost, self.epsilon = cost, epsilon
        # The shifts are constants, which the potentials take up again.
        if spread <= _REACH[self.dtype]:
            self.row = torch.full_like(cost[0], -low / epsilon, dtype=self.dtype)
            self.column = torch.zeros_like(self.row)
            exponent = torch.add(-self.row[0], cost.to(self.dtype), alpha=-1 / epsilon)
        else:  # every row and every column then has an entry near 1
            exponent = cost.to(self.dtype) * (-1 / epsilon)
            with torch.no_grad():
                self.row = exponent.amax(1)
                self.column = (exponent - self.row[:, None]).amax(0)
            exponent = exponent.sub_(self.row[:, None]).sub_(self.column)
            spread = -float(exponent.detach().min())
        self.safe = spread <= _REACH[self.dtype]
        self.kernel = exponent.exp_()

    def log_product(
        self, weights: Float[Tensor, "C N"], potential: Float[Tensor, "C N"], *, transposed: bool
    ) -> Float[Tensor, "C N"]:
        """Return log sum_i w_i exp(a_i) G_ij, or the sum over j of G_ij where transposed.

        Each row of weights is non-negative, with a positive entry.
        """
        inner, outer = (self.column, self.row) if transposed else (self.row, self.column)
        kernel = self.kernel.mT if transposed else self.kernel
        scaled, shift = self._scaled(weights, potential + inner)
        total = scaled @ kernel
        lost = self._lost(total)
        if lost is None:
            return total.log() + shift + outer
        logs = torch.where(lost, 1.0, total).log() + shift + outer
        cost = self.cost if transposed else self.cost.mT
        exact = [torch.logsumexp(x, -1) for x, _ in self._terms(weights, potential, cost, lost)]
        return logs.masked_scatter(lost, torch.cat(exact))

    def mean_cost(
        self, weights: Float[Tensor, "C N"], potential: Float[Tensor, "C N"]
    ) -> Float[Tensor, "C N"]:
        """Return the mean over i of C_ij, weighted by w_i exp(a_i) G_ij."""
        scaled, _ = self._scaled(weights, potential + self.row)
        total = scaled @ self.kernel
        # Rows of the kernel at a time, so that no second N x N matrix stands in memory.
        rows = max(1, _BLOCK_BYTES // self.kernel[0].nbytes)
        parts = zip(
            scaled.split(rows, 1), self.kernel.split(rows), self.cost.split(rows), strict=True
        )
        weighted = torch.zeros_like(total)
        for part, kernel, cost in parts:
            weighted = torch.addmm(weighted, part, kernel * cost)
        lost = self._lost(total)
        if lost is None:
            return weighted / total
        mean = weighted / torch.where(lost, 1.0, total)
        terms = self._terms(weights, potential, self.cost.mT, lost)
        exact = [(x.softmax(-1) * cost).sum(-1) for x, cost in terms]
        return mean.masked_scatter(lost, torch.cat(exact))

    def _scaled(
        self, weights: Float[Tensor, "C N"], exponent: Float[Tensor, "C N"]
    ) -> tuple[Float[Tensor, "C N"], Float[Tensor, "C 1"]]:
        """Scale each row of w exp(x) by a power e^-shift so that its largest entry is 1."""
        with torch.no_grad():
            shift = (weights.log() + exponent).amax(1, keepdim=True)
        # A weight of 0 may stand beside any exponent, which must not make 0 times infinity.
        return weights * (exponent - shift).clamp(max=_REACH[self.dtype]).exp(), shift

    def _lost(self, total: Float[Tensor, "C N"]) -> Bool[Tensor, "C N"] | None:
        """Mark the sums whose terms have vanished, or None where there are none."""
        if self.safe:
            return None
        lost = total.detach().log() < -_REACH[self.dtype]
        return lost if bool(lost.any()) else None

    def _terms(
        self,
        weights: Float[Tensor, "C N"],
        potential: Float[Tensor, "C N"],
        cost: Float[Tensor, "N N"],
        lost: Bool[Tensor, "C N"],
    ) -> Iterator[tuple[Float[Tensor, "n N"], Float[Tensor, "n N"]]]:
        """Yield, for groups of the lost sums, the logarithms of their terms and the costs."""
        logs = torch.where(weights > 0, weights, 1.0).log() + potential
        logs = logs.masked_fill(weights <= 0, -torch.inf)
        group = max(1, _EXACT_BYTES // logs[0].nbytes)
        for c, j in (part.unbind(1) for part in lost.nonzero().split(group)):
            costs = cost[j].to(self.dtype)
            yield logs[c] - costs / self.epsilon, costs
