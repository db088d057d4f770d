"""The maximum velocity: how soon a class arrives at each patch on a Markov chain (DSLO).

Li, Lu, Zhang, Wang, Xie, Qu: Direct Segmentation without Logits Optimization for Training-Free
Open-Vocabulary Semantic Segmentation, 2026 (arXiv:2604.07723), Section 3.5. The paper takes its
chain from Karmann, Urfalioglu: Repurposing Stable Diffusion Attention for Training-Free
Unsupervised Interactive Segmentation (M2N2), CVPR 2025. With first_step="m2n2" the arrival
criterion is that of M2N2's code.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from lpprop._core.checks import check_non_negative, check_positive_sums, check_tensors
from lpprop._core.errors import warn
from lpprop._core.memory import check_memory
from lpprop._core.options import check_choice, check_integer, check_number, checked
from lpprop._core.precision import cast_back, compute_dtype, full_precision
from lpprop._core.refiner import Refiner
from lpprop.kernels.portable import multiply_rows
from lpprop.numerics.ipf import fit_factors, fit_marginals
from lpprop.numerics.markov import MarkovWalk
from lpprop.numerics.twins import match_twins

__all__ = ["MaxVelocity", "max_velocity"]

# So many vectors of all classes exist at a time.
_VECTORS = 10
_PUBLISHED_SCALINGS = 15
# Factors of rows and columns may be so large, or so small: their products with p and with the
# attention then lose no digits at the ends of float32's range.
_WIDEST = 1e12
# Foreseen steps are off by roundings, which must not pass for an arrival.
_LEAST_TAU = 1e-3


@full_precision
@checked(
    tau=partial(check_number, low=0, high=1, open_high=True),
    ipf_iterations=check_integer,
    criterion=partial(check_choice, choices=("arrival", "step")),
    first_step=partial(check_choice, choices=("linear", "m2n2")),
    max_steps=check_integer,
)
def max_velocity(
    distribution: Float[Tensor, "B C N"],
    attention: Float[Tensor, "B N N"],
    *,
    tau: float = 0.3,
    ipf_iterations: int = 15,
    criterion: str = "arrival",
    first_step: str = "m2n2",
    max_steps: int = 1000,
) -> Float[Tensor, "B C N"]:
    """Compute how fast a class's distribution reaches each patch on its way to the uniform one.

    T is the attention made doubly stochastic (Eq. 11), and p(l) = p(l-1) T (Eq. 10).

    "arrival": p(0) = f / max f, each p(l) is divided by its maximum, and a patch arrives at the
    first step l with p_i(l) > tau; inside the step the crossing is interpolated linearly:

        t_i = l - (p_i(l) - tau) / (p_i(l) - p_i(l-1)),   t_i = 0 where p_i(0) > tau
        velocity_i = 1 / (1 + t_i),   1 / (1 + max_steps) where it never arrives

    Within the first step M2N2's code divides by 1 - tau, t_i = 1 - (p_i(1) - tau) / (1 - tau): the
    time then tells how far beyond tau the first step leads, whatever p_i was before.

    "step", the paper's Eq. 12 to the letter, p(0) = f:

        velocity_i = 1 / min{l >= 1 : |p_i(l) - p_i(l-1)| <= tau}

    It is for study only. Since f sums to 1, nearly every patch meets it at l = 1 unless tau is far
    below 1/N, and the argmax over the classes is a tie.

    Args:
        distribution: (B, C, N) non-negative; rows of zeros stand for rejected classes, whose
            velocity is 0. "arrival" does not depend on the scale of a row.
        attention: (B, N, N) non-negative; row i says what patch i attends to. Every row and column
            needs a positive entry. Zeros stay zeros in T.
        tau: threshold, in [0, 1).
        ipf_iterations: scalings of columns and rows, >= 1.
        criterion: "arrival" or "step".
        first_step: what "arrival" divides by within the first step: 1 - tau ("m2n2"), or the rise
            p_i(1) - p_i(0), as in all others ("linear").
        max_steps: budget of steps. A class stops when all of its patches have arrived.

    Returns:
        Velocities (B, C, N) in the dtype of `distribution`, in [0, 1]; computed in that dtype,
        float32 at least. "arrival" is differentiable in both arguments, through the time of
        arrival; the gradient is 0 for patches that arrive at the start or never. "step" has no
        gradient.

    Raises:
        InputError: shapes that do not match, values that are negative or not finite, attention
            with a row or column of zeros, an option out of range, or too little memory.

    >>> attention = torch.tensor([[[0.6, 0.4, 0.0], [0.3, 0.6, 0.1], [0.1, 0.0, 0.9]]])
    >>> max_velocity(torch.tensor([[[1.0, 0.0, 0.0]]]), attention)
    tensor([[[1.0000, 0.6774, 0.1862]]])
    """
    check_tensors(distribution=(distribution, "B C N"), attention=(attention, "B N N"))
    check_non_negative(
        "distribution", distribution, "Make it with lpprop.class_distribution(logits)."
    )
    check_non_negative("attention", attention, "Take it after the softmax.")
    check_positive_sums("attention", attention, 1, 2)
    dtype, patches = compute_dtype(distribution), attention.shape[-1]
    # T, and the attention in its dtype; with gradients, T before the columns are scaled, and those.
    size, copied = dtype.itemsize, attention.dtype != dtype
    matrices = size + copied * size
    if attention.requires_grad and torch.is_grad_enabled():
        matrices = 4 * size + copied * (2 * size + attention.dtype.itemsize)
    needed = matrices * patches**2 + _VECTORS * size * distribution[0].numel()
    check_memory("attention", patches, needed, attention.device)

    def velocity(f: Tensor, attention: Tensor) -> Tensor:
        attention = attention.to(dtype)
        chain = _Chain.of(attention, ipf_iterations)
        _warn_of_columns(chain.column_error, ipf_iterations)
        present = f.detach().amax(-1) > 0
        p = f[present]
        p = p / p.amax(-1, keepdim=True) if criterion == "arrival" else p
        speeds = _walk(p, chain, tau, criterion, first_step, max_steps)
        if criterion == "step":
            return torch.zeros_like(f).masked_scatter(present[:, None], speeds)
        # Zeros that depend on both inputs, so autograd works even when every class is rejected.
        return (0 * f + 0 * attention[0, 0]).masked_scatter(present[:, None], speeds)

    # One item at a time: items finish at different steps, and a batch equals a loop.
    pairs = zip(distribution.to(dtype), attention, strict=True)
    velocities = torch.stack([velocity(*pair) for pair in pairs])
    velocities = match_twins(velocities, distribution)
    return cast_back(velocities, distribution, "distribution")


class _Chain(NamedTuple):
    """The chain of the attention: product is p -> p T."""

    product: Callable[[Tensor], Tensor]
    column_error: float

    @classmethod
    def of(cls, attention: Float[Tensor, "N N"], iterations: int) -> _Chain:
        """Take T as factors of the rows and columns of the attention, where their range allows it.

        To write T would take as long as some steps.
        """
        if not (attention.requires_grad and torch.is_grad_enabled()):
            row, column, error, _ = fit_factors(attention, iterations=iterations)
            ends = torch.stack([*row.aminmax(), *column.aminmax()])
            if bool(((ends > 1 / _WIDEST) & (ends < _WIDEST)).all()):
                return cls(lambda p: multiply_rows(p * row, attention) * column, float(error))
        fitted = fit_marginals(attention, iterations=iterations, name="attention")
        return cls(lambda p: multiply_rows(p, fitted.value), float(fitted.column_error))


def _warn_of_columns(error: float, iterations: int) -> None:
    """Warn where as many scalings as the paper takes leave a column far from a sum of 1."""
    if iterations >= _PUBLISHED_SCALINGS and error > 1:
        warn(
            "column sums",
            f"attention: after {iterations} scalings a column still sums to {1 + error:.3g} in "
            "place of 1, so that all classes flow to its patch. Its zeros may allow no better: add "
            "a small number such as 1e-6 to every entry, or raise ipf_iterations.",
        )


def _walk(
    p: Float[Tensor, "C N"],
    chain: _Chain,
    tau: float,
    criterion: str,
    first_step: str,
    max_steps: int,
) -> Float[Tensor, "C N"]:
    """Walk all classes at once, each until all of its patches have arrived."""
    if len(p) == 0:
        return p
    arrival = criterion == "arrival"
    velocity = (p > tau).to(p) if arrival else torch.zeros_like(p)
    walking, current = torch.arange(len(p), device=p.device), velocity
    foreseeable = tau >= _LEAST_TAU and not p.requires_grad
    walk = MarkovWalk(p, chain.product, gain=1 + chain.column_error if foreseeable else None)
    for step in range(1, max_steps + 1):
        waiting = current.detach() == 0
        pending = waiting.any(-1)
        if not bool(pending.all()):
            velocity = velocity.index_copy(0, walking[~pending], current[~pending])
            walking, p, waiting, current = (x[pending] for x in (walking, p, waiting, current))
            if len(walking) == 0:
                break
            walk.keep(pending)
        # Few patches arrive in a step, so that times are computed for these alone.
        if arrival:
            following = walk.advance()
            arrives = (waiting & (following > tau)).nonzero(as_tuple=True)
            reaches = following[arrives]
            within_first = step == 1 and first_step == "m2n2"
            rise = 1 - tau if within_first else reaches - p[arrives]
            reached = 1 / (1 + step - (reaches - tau) / rise)
        else:
            following = chain.product(p)
            arrives = (waiting & ((following - p).abs() <= tau)).nonzero(as_tuple=True)
            reached = torch.full_like(p[arrives], 1 / step)
        current = current.index_put(arrives, reached)
        if torch.equal(following, p):  # a fixed point
            break
        p = following
    velocity = velocity.index_copy(0, walking, current)
    return torch.where(velocity == 0, 1 / (1 + max_steps), velocity)


class MaxVelocity(Refiner, function=max_velocity, needs=("attention",), on_patches=True):
    """`max_velocity` as a module; it takes that function's options.

    >>> step = MaxVelocity(tau=0.5)
    >>> attention = torch.rand(1, 16, 16).softmax(-1)
    >>> step(torch.rand(1, 5, 16).softmax(-1), attention=attention).shape
    torch.Size([1, 5, 16])
    """
