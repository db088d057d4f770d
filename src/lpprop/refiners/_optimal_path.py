"""The optimal path: what it costs to transport a class to the uniform distribution (DSLO).

Li, Lu, Zhang, Wang, Xie, Qu: Direct Segmentation without Logits Optimization for Training-Free
Open-Vocabulary Semantic Segmentation, 2026 (arXiv:2604.07723), Section 3.4.
"""

from __future__ import annotations

import math
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from lpprop._core.checks import check_axes, check_finite, finite_bounds
from lpprop._core.errors import InputError, warn
from lpprop._core.memory import check_memory
from lpprop._core.options import check_boolean, check_choice, check_integer, check_number, checked
from lpprop._core.precision import cast_back, full_precision
from lpprop._core.refiner import Refiner
from lpprop.inputs.distribution import as_distribution
from lpprop.numerics.gibbs import GibbsKernel, kernel_device, kernel_dtype
from lpprop.numerics.sinkhorn import scale_kernel
from lpprop.numerics.twins import match_twins

__all__ = ["OptimalPath", "optimal_path"]

# So many vectors of all classes exist at a time.
_VECTORS = 20
_PUBLISHED_ITERATIONS = 50
# The sum of what the rows of a plan miss and have too much, from which its path means little.
_MISPLACED = 0.5


@full_precision
@checked(
    epsilon=partial(check_number, low=1e-9, high=1e9),
    iterations=check_integer,
    norm=partial(check_choice, choices=("none", "image", "class", "sum")),
    complement=check_boolean,
)
def optimal_path(
    distribution: Float[Tensor, "B C N"],
    cost: Float[Tensor, "B N N"],
    *,
    epsilon: float = 0.1,
    iterations: int = 50,
    norm: str = "none",
    complement: bool = False,
) -> Float[Tensor, "B C N"]:
    """Compute the cost per patch of the optimal path from a class's distribution to the uniform.

    With K = exp(-C / epsilon), u = 1/N and nu = 1 at first, `iterations` times (Eq. 8)

        mu = f / (K nu),   nu = u / (K^T mu)

    and then, with the plan pi = diag(mu) K diag(nu), which is never formed (Eq. 3 and 6),

        path_j = Norm(sum_i pi_ij C_ij)

    Args:
        distribution: (B, C, N), each row a distribution f over the patches, or zeros for a
            rejected class, whose path is 0.
        cost: (B, N, N) cost C from patch i to patch j; the paper takes the attention itself.
        epsilon: regularisation, in [1e-9, 1e9], in the units of the cost. If exp(-C / epsilon)
            leaves the range of float32, float64 is used, and beyond its range logarithms.
        iterations: budget of updates, which stop early once they change nothing.
        norm: divisor of the path: "none"; "image", the largest value of the item; "class", the
            largest of each class; "sum", the sum of each class. "none" and "image" keep the order
            of the classes.
        complement: whether the cost is 1 - `cost` instead, so that high attention is a short way,
            as usual in transport. The path is then u - sum_i pi_ij C_ij, the mass that arrives at j
            from patches of high attention: larger stays likelier.

    Returns:
        Paths (B, C, N) in the dtype of `distribution`; computed in that dtype, float32 at least.
        Differentiable in both arguments. Where f is 0, the gradient grows like exp(C / epsilon),
        and is clamped to the dtype's range.

    Raises:
        InputError: shapes that do not match, values that are not finite, rows that are not
            distributions, an option out of range, paths too small for the dtype, or too little
            memory.

    >>> attention = torch.tensor([[[0.6, 0.4, 0.0], [0.4, 0.6, 0.0], [0.0, 0.0, 1.0]]])
    >>> optimal_path(torch.tensor([[[1.0, 0.0, 0.0]]]), attention)    # the second is similar
    tensor([[[0.2000, 0.1333, 0.0000]]])
    """
    check_axes(distribution=(distribution, "B C N"), cost=(cost, "B N N"))
    check_finite("distribution", distribution)
    bounds = finite_bounds("cost", cost)
    f = as_distribution(distribution)
    patches = f.shape[-1]
    needed = max(_forecast(f, cost, pair, epsilon, complement) for pair in bounds)
    check_memory("cost", patches, needed, cost.device)

    def path(f: Tensor, cost: Tensor, bounds: tuple[float, float]) -> Tensor:
        present = f.detach().sum(-1) > 0
        cost = cost.to(f.dtype)
        if complement:
            cost, bounds = 1 - cost, (1 - bounds[1], 1 - bounds[0])
        # Zeros that depend on both inputs, so autograd works even when every class is rejected.
        rejected = 0 * f + 0 * cost[0, 0]
        if not bool(present.any()):
            return rejected
        device = kernel_device(cost, bounds, epsilon)
        kernel, mass = GibbsKernel(cost.to(device), bounds, epsilon), f[present].to(device)
        scaled = scale_kernel(kernel, mass, iterations=iterations)
        _warn_of_marginals(float(scaled.residual.max()), iterations)
        alpha, beta = scaled.value
        # The columns of the plan sum to u, so that the cost of the path is u times a mean of C.
        total = -beta - math.log(patches)
        mean = kernel.mean_cost(mass.to(alpha.dtype), alpha, total)
        mean = ((1 - mean if complement else mean) / patches).to(f.dtype).to(f.device)
        return rejected.masked_scatter(present[:, None], mean)

    if f.requires_grad:
        f.register_hook(partial(_clamp_gradient, bound=_choose_bound(distribution.dtype)))
    # One item at a time: memory does not grow with the batch, and a batch equals a loop.
    paths = torch.stack([path(*item) for item in zip(f, cost, bounds, strict=True)])
    paths = match_twins(paths, distribution)
    cast = _cast_paths(_normalise(paths, norm), distribution)
    _warn_of_vanished(f, cast)
    return cast


def _warn_of_marginals(residual: float, iterations: int) -> None:
    """Warn where a budget like the published leaves the plan's rows far from the distribution."""
    if iterations >= _PUBLISHED_ITERATIONS and residual > _MISPLACED:
        warn(
            "plan",
            f"cost: after {iterations} iterations the plan of a class still has {residual / 2:.0%} "
            "of its mass at other patches than the distribution, so that its path means little. "
            "Raise iterations, or epsilon.",
        )


def _warn_of_vanished(f: Float[Tensor, "B C N"], paths: Float[Tensor, "B C N"]) -> None:
    """Warn where the path of a class is 0 at every patch, as that of a rejected class is."""
    vanished = (f.detach().amax(2) > 0) & (paths.detach() == 0).all(2)
    if bool(vanished.any()):
        item, number = vanished.nonzero()[0].tolist()
        warn(
            "vanished path",
            f"distribution: the path of class {number} of item {item} is 0 at every patch in "
            f"{paths.dtype}, as if it was rejected ({int(vanished.sum())} such classes). The plan "
            "costs nothing, or too little for the dtype: raise epsilon, pass costs without zeros, "
            "or take a dtype of a wider range.",
        )


def _forecast(
    f: Float[Tensor, "B C N"],
    cost: Float[Tensor, "B N N"],
    bounds: tuple[float, float],
    epsilon: float,
    complement: bool,
) -> int:
    """Estimate the bytes that an item takes at its peak."""
    (classes, patches), own = f.shape[1:], f.dtype.itemsize
    kernel = kernel_dtype(f.dtype, bounds, epsilon).itemsize
    # The cost in the dtype of f; the kernel; and its exponents, where they are cast.
    copied = own if complement or cost.dtype != f.dtype else 0
    matrices = copied + kernel + (kernel if kernel != own else 0)
    if torch.is_grad_enabled():
        if cost.requires_grad:  # the kernel, its product with the cost, and gradients of both
            matrices += 6 * kernel
        elif f.requires_grad:  # the kernel's product with the cost is kept
            matrices += kernel
    return matrices * patches**2 + _VECTORS * kernel * classes * patches


def _normalise(paths: Float[Tensor, "B C N"], norm: str) -> Float[Tensor, "B C N"]:
    if norm == "none":
        return paths
    if norm == "image":
        size = paths.abs().amax((1, 2), keepdim=True)
    elif norm == "class":
        size = paths.abs().amax(2, keepdim=True)
    else:
        size = paths.sum(2, keepdim=True)
    return paths / torch.where(size != 0, size, 1.0)


def _choose_bound(dtype: torch.dtype) -> float:
    """Return a bound of gradients in a dtype that leaves room for the factors of the chain rule."""
    return float(min(torch.finfo(torch.float32).max ** 0.5, torch.finfo(dtype).max / 2))


def _clamp_gradient(gradient: Tensor | None, bound: float) -> Tensor | None:
    """Clamp the gradient to the dtype's range: at f_i = 0 it grows like exp(C / epsilon)."""
    return None if gradient is None else gradient.clamp(-bound, bound)


def _cast_paths(paths: Float[Tensor, "B C N"], like: Tensor) -> Float[Tensor, "B C N"]:
    """Cast to the input's dtype; refuse paths, near 1/N^2, that would all vanish in it."""
    largest = float(paths.detach().abs().max())
    if 0 < largest < torch.finfo(like.dtype).tiny:
        raise InputError.of(
            "distribution",
            got=f"{like.dtype}, in which paths up to {largest:.4g} vanish",
            expected="a dtype that holds the paths",
            fix='Pass a dtype of a wider range, or norm="image".',
        )
    return cast_back(paths, like, "distribution")


class OptimalPath(Refiner, function=optimal_path, needs=("attention",), on_patches=True):
    """`optimal_path` with the attention as cost, as a module; it takes that function's options.

    >>> step = OptimalPath(epsilon=0.05)
    >>> attention = torch.rand(1, 16, 16).softmax(-1)
    >>> step(torch.rand(1, 5, 16).softmax(-1), attention=attention).shape
    torch.Size([1, 5, 16])
    """
