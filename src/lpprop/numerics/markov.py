"""Distributions that walk along a Markov chain, and how their steps are foreseen.

Modes of the chain that fade fast are gone after a few steps. From then on a step is nearly a sum of
the steps before it. With X, the steps so far as rows, and Y = X T, those that follow them, the step
P = W X + R leads to P T = W Y + D, D = R T; and since Y = M X but for R, M made of W, each further
step is q = a Y with a <- a M: products of small matrices take the place of p T.

D is what W misses of the latest step, so it is known, and one more product gives D T. Each foreseen
step differs from (the foreseen step before it) T by a' D, where a' is a's part for the latest rows.
T passes on at most `gain` times the largest error, so that the sum of these bounds is a bound of
the error.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

__all__ = ["MarkovWalk"]

# So many roundings of its largest value may be wrong with a foreseen step: products in float32 are
# off by as much after some steps.
_ROUNDINGS = 64
# W is sought after so many steps at first.
_FIRST_ATTEMPT = 5
# W is taken where its error stays in the limit for about so many steps.
_STEPS_AHEAD = 20
# In squared roundings, relative to the mean square of a row: it keeps W small where rows of X are
# nearly dependent.
_DAMPING = 16
# At 2,304 patches and 21 classes, foreseeing took a sixth longer than the products that it saved.
_FEWEST_PATCHES = 4096


class MarkovWalk:
    """Classes that walk along a chain, each divided by its largest value after every step.

    Args:
        p: (C, N) where the classes start, with 1 as their largest value.
        product: p -> p T.
        gain: the largest sum of a column of T, if steps are to be foreseen; done in float32 only,
            whose rounding leaves room for the error.

    >>> T = torch.tensor([[0.5, 0.5, 0.0], [0.5, 0.0, 0.5], [0.0, 0.5, 0.5]])
    >>> walk = MarkovWalk(torch.tensor([[1.0, 0.0, 0.0]]), lambda p: p @ T)
    >>> walk.advance(), walk.advance()
    (tensor([[1., 1., 0.]]), tensor([[1.0000, 0.5000, 0.5000]]))
    """

    def __init__(
        self,
        p: Float[Tensor, "C N"],
        product: Callable[[Tensor], Tensor],
        *,
        gain: float | None = None,
    ) -> None:
        able = p.dtype == torch.float32 and p.shape[-1] >= _FEWEST_PATCHES
        self.product, self.gain = product, gain if able else None
        self.steps, self.growths = [p], [torch.ones_like(p[:, :1])]
        self.taken, self.next_attempt, self.error = 0, _FIRST_ATTEMPT, 0.0
        self.last_attempt: tuple[int, float] | None = None
        self.foresight: _Foresight | None = None

    def keep(self, classes: Bool[Tensor, " C"]) -> None:
        """Go on with some of the classes."""
        self.steps = [p[classes] for p in self.steps]
        self.growths = [growth[classes] for growth in self.growths]
        if self.foresight is not None:
            self.foresight.present = self.foresight.present[classes]

    def advance(self) -> Float[Tensor, "C N"]:
        """Take a step; return where the classes are, with 1 as their largest value."""
        if self.foresight is not None:
            following, error = self.foresight.advance()
            if error <= _ROUNDINGS * torch.finfo(following.dtype).eps:
                self.steps, self.growths = [following], self.growths[-1:]
                self.error = error
                return following
            self.foresight, self.last_attempt = None, None
            self.next_attempt = self.taken + _FIRST_ATTEMPT
        following = self.product(self.steps[-1])
        growth = following.amax(-1, keepdim=True)
        following = following / growth
        self.taken += 1
        if self.gain is None:
            self.steps = [following]
            return following
        classes, patches = following.shape
        # So many that the search for W takes about half a step at most.
        kept = max(1, int((classes * patches) ** 0.5 / 2) // classes) + 2
        self.steps = [*self.steps[1 - kept :], following]
        self.growths = [*self.growths[1 - kept :], growth]
        if self.taken == self.next_attempt:
            self.foresight, missed = _find_foresight(
                self.steps, self.growths, self.product, self.gain, self.error
            )
            self._plan_attempt(missed)
        return following

    def _plan_attempt(self, missed: float) -> None:
        """Seek W again when it will miss little enough, if it falls as since the last attempt."""
        wait = max(2, self.taken // 4)
        if self.last_attempt is not None:
            taken, before = self.last_attempt
            excess = missed / _most_missed(self.steps[-1].dtype)
            if 0 < missed < before and excess > 1:
                fall = math.log(before / missed) / (self.taken - taken)
                wait = min(max(2, math.ceil(math.log(excess) / fall)), 2 * wait)
        self.last_attempt = self.taken, missed
        self.next_attempt = self.taken + wait


@dataclass
class _Foresight:
    """Steps q = present Y that follow from those that were taken.

    `recurrence` is M. `missed` is D, and `spread` D T, in the units of the latest rows of Y.
    `error` is a bound of what is wrong with q, and `passed_on` of what is wrong with q T.
    """

    Y: Float[Tensor, "m N"]
    recurrence: Float[Tensor, "m m"]
    missed: Float[Tensor, "C N"]
    spread: Float[Tensor, "C N"]
    present: Float[Tensor, "n m"]
    passed_on: float
    gain: float

    def advance(self) -> tuple[Float[Tensor, "n N"], float]:
        latest = self.present[:, -len(self.missed) :]
        missed, spread = ((latest @ x).abs().amax(-1) for x in (self.missed, self.spread))
        self.present = self.present @ self.recurrence
        q = self.present @ self.Y
        growth = q.amax(-1, keepdim=True)
        self.present = self.present / growth
        # Roundings of the steps in Y are independent, so that their squares add up.
        rounding = torch.finfo(q.dtype).eps * torch.linalg.vector_norm(self.present, dim=-1)
        error = float(((self.passed_on + missed) / growth[:, 0] + rounding).max())
        passed_on = (self.gain * self.passed_on + spread) / growth[:, 0]
        self.passed_on = float(passed_on.max())
        return q / growth, error


def _find_foresight(
    steps: list[Float[Tensor, "C N"]],
    growths: list[Float[Tensor, "C 1"]],
    product: Callable[[Tensor], Tensor],
    gain: float,
    error: float,
) -> tuple[_Foresight | None, float]:
    """Find W by least squares in all steps but the two latest; None if its steps are too wrong.

    Returns also the largest entry of D, or infinity where there is none.
    """
    dtype = steps[-1].dtype
    eps = torch.finfo(dtype).eps
    # Each step is divided by its growth: X T is the next one times that.
    X = torch.cat(steps[:-2]).double()
    Y = torch.cat([growth * p for growth, p in zip(growths[1:-1], steps[1:-1], strict=True)])
    gram = X @ X.mT
    gram.diagonal().add_(_DAMPING * eps**2 * gram.diagonal().mean())
    factor, failed = torch.linalg.cholesky_ex(gram)
    if int(failed):
        return None, math.inf
    W = torch.cholesky_solve(X @ steps[-2].double().mT, factor).mT
    missed = (steps[-1] - (W @ Y.double()) / growths[-1]).to(dtype)
    largest = float(missed.abs().max())
    if not error + largest <= _most_missed(dtype):
        return None, largest
    spread = product(missed)
    passed_on = gain * error + float(spread.abs().max())
    if not error + largest + _STEPS_AHEAD * passed_on <= _ROUNDINGS * eps:
        return None, largest
    recurrence = torch.zeros_like(gram)
    classes = len(W)
    recurrence[:-classes, classes:] = torch.diag(torch.cat(growths[1:-1])[:-classes, 0])
    recurrence[-classes:] = growths[-2] * W
    scale = growths[-2] * growths[-1]
    present = (W / growths[-1]).to(dtype)
    missed, spread = scale * missed, scale * spread
    foresight = _Foresight(Y, recurrence.to(dtype), missed, spread, present, passed_on, gain)
    return foresight, largest


def _most_missed(dtype: torch.dtype) -> float:
    return _ROUNDINGS * torch.finfo(dtype).eps / 4
