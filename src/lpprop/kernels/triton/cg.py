"""Conjugate gradients on a pixel graph, whose scalars stay on the GPU."""

from __future__ import annotations

from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lpprop.kernels.interface import Offsets
from lpprop.kernels.triton.product import launch_product, multiply
from lpprop.kernels.triton.tiling import count_tiles, group_of, tuning

__all__ = ["solve"]

# Steps between two looks at whether all classes have stopped. A look waits for the GPU, and a class
# that has stopped costs next to nothing.
_LOOK = 16


@torch.no_grad()
def solve(
    weights: Float[Tensor, "K H W"],
    offsets: Offsets,
    scores: Float[Tensor, "C N"],
    alpha: float,
    max_iter: int,
    tol: float,
) -> tuple[Float[Tensor, "C N"], Float[Tensor, " C"], Int[Tensor, " C"], Bool[Tensor, " C"]]:
    """Solve (I - alpha D^-1/2 W D^-1/2) x = scores by `interface.PropagatingGraph.propagate`.

    Beside scores and result, it holds three vectors per class.
    """
    scale = torch.frexp(scores.abs().amax(-1, keepdim=True)).exponent - 1
    scale = torch.ldexp(torch.ones_like(scores[:, :1]), scale)
    r = (scores / scale).contiguous()
    classes, n = r.shape

    # D^-1/2 scales the search direction instead of the weights: only q = D^-1/2 p is stored, and
    # p = D^1/2 q where it is needed. So the weights need not be rewritten, and very small ones
    # stay representable.
    degree = multiply(weights, offsets, torch.ones_like(r[:1]))[0]
    root = torch.where(degree > 0, degree, 1.0).sqrt()
    normaliser = 1 / root
    damping = alpha * normaliser
    q = normaliser * r
    x = 0 * r
    Ap = torch.empty_like(r)

    # The scalars of each class are float64, so their squares and sums lose no precision.
    double = torch.float64
    rr = torch.linalg.vecdot(r, r).to(double)
    size = rr.sqrt()
    limit = max(tol, torch.finfo(r.dtype).eps ** 1.5) * size
    iterations = torch.zeros_like(rr, dtype=torch.int64)
    step, momentum = torch.zeros_like(rr), torch.zeros_like(rr)

    chosen = tuning()
    group = group_of(classes, chosen.product_classes)
    groups = triton.cdiv(classes, group)
    padded = torch.zeros(groups * group, dtype=torch.bool, device=r.device)
    padded[:classes] = size > limit
    alive = padded.view(groups, group).any(1).to(torch.int32)

    height, width = weights.shape[1:]
    tiles = count_tiles(height, width, chosen.tile)
    blocks = triton.cdiv(n, chosen.vector)
    curvatures = torch.empty((classes, tiles), dtype=r.dtype, device=r.device)
    squares = torch.empty((classes, blocks), dtype=r.dtype, device=r.device)
    system = root, damping, curvatures, alive
    vectors = {"GROUP": group, "BLOCK": chosen.vector} | chosen.launch
    sums = {"GROUP": group, "BLOCK": chosen.partials} | chosen.launch
    sums |= {"num_warps": chosen.sum_warps}

    with torch.cuda.device_of(r):
        for count in range(max_iter):
            if count % _LOOK == _LOOK - 1 and not bool(alive.any()):
                break
            launch_product(weights, offsets, q, Ap, group, system)
            _reduce[(groups,)](
                curvatures, rr, limit, step, iterations, alive, classes, tiles, True, **sums
            )
            _lower_residual[(blocks * groups,)](
                r, Ap, step, squares, alive, classes, n, groups, **vectors
            )
            _reduce[(groups,)](
                squares, rr, limit, momentum, iterations, alive, classes, blocks, False, **sums
            )
            _advance[(blocks * groups,)](
                x, r, q, root, normaliser, step, momentum, alive, classes, n, groups, **vectors
            )

    norm = rr.sqrt()
    residual = (norm / torch.where(size > 0, size, 1.0)).to(r.dtype)
    return x.mul_(scale), residual, iterations, norm <= limit


@triton.jit(do_not_specialize=["classes"])
@no_type_check
def _reduce(
    partials, rr, limit, factor, iterations, alive, classes, count,
    STEP: tl.constexpr, GROUP: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Sum the programs' partial sums per class, and compute the step or the momentum from them."""
    group = tl.program_id(0)
    if tl.load(alive + group) == 0:
        return
    c = group * GROUP + tl.arange(0, GROUP)
    valid = c < classes
    rows = partials + c.to(tl.int64)[:, None] * count
    sums = tl.zeros([GROUP, BLOCK], dtype=tl.float64)
    for start in range(0, count, BLOCK):
        i = start + tl.arange(0, BLOCK)
        both = valid[:, None] & (i < count)[None, :]
        sums += tl.load(rows + i[None, :], mask=both, other=0).to(tl.float64)
    total = tl.sum(sums, axis=1)

    old = tl.load(rr + c, mask=valid, other=0)
    bound = tl.load(limit + c, mask=valid, other=0)
    # A class that has stopped keeps its solution.
    active = tl.sqrt(old) > bound
    if STEP:
        step = tl.where(active, old / tl.where(active, total, 1), 0)
        tl.store(factor + c, step, mask=valid)
        # Not at the momentum: a group's last step has yet to reach its solutions then.
        tl.store(alive + group, tl.max(active.to(tl.int32), axis=0))
    else:
        momentum = tl.where(active, total / tl.where(active, old, 1), 0)
        tl.store(factor + c, momentum, mask=valid)
        new = tl.where(active, total, old)
        tl.store(rr + c, new, mask=valid)
        taken = tl.load(iterations + c, mask=valid, other=0) + active.to(tl.int64)
        tl.store(iterations + c, taken, mask=valid)


@triton.jit(do_not_specialize=["classes", "groups"])
@no_type_check
def _lower_residual(
    r, Ap, step, partials, alive, classes, n, groups, GROUP: tl.constexpr, BLOCK: tl.constexpr
):
    """Take step A p off r, and sum r . r per program."""
    group, block = tl.program_id(0) % groups, tl.program_id(0) // groups
    if tl.load(alive + group) == 0:
        return
    c = group * GROUP + tl.arange(0, GROUP)
    valid = c < classes
    i = block.to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    both = valid[:, None] & (i < n)[None, :]
    at = c.to(tl.int64)[:, None] * n + i[None, :]
    size = tl.load(step + c, mask=valid, other=0).to(r.dtype.element_ty)
    left = tl.load(r + at, mask=both, other=0)
    left -= size[:, None] * tl.load(Ap + at, mask=both, other=0)
    tl.store(r + at, left, mask=both)
    blocks = tl.num_programs(0) // groups
    sums = tl.sum(left * left, axis=1)
    tl.store(partials + c.to(tl.int64) * blocks + block, sums, mask=valid)


@triton.jit(do_not_specialize=["classes", "groups"])
@no_type_check
def _advance(
    x, r, q, root, normaliser, step, momentum, alive, classes, n, groups,
    GROUP: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Add step p to x, then set p to r + momentum p; in one kernel, they read p once."""
    group, block = tl.program_id(0) % groups, tl.program_id(0) // groups
    if tl.load(alive + group) == 0:
        return
    c = group * GROUP + tl.arange(0, GROUP)
    valid = c < classes
    i = block.to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    within = i < n
    both = valid[:, None] & within[None, :]
    at = c.to(tl.int64)[:, None] * n + i[None, :]
    old = tl.load(q + at, mask=both, other=0)
    size = tl.load(step + c, mask=valid, other=0).to(x.dtype.element_ty)
    p = old * tl.load(root + i, mask=within, other=0)[None, :]
    tl.store(x + at, tl.load(x + at, mask=both, other=0) + size[:, None] * p, mask=both)
    size = tl.load(momentum + c, mask=valid, other=0).to(x.dtype.element_ty)
    new = tl.load(r + at, mask=both, other=0)
    new *= tl.load(normaliser + i, mask=within, other=0)[None, :]
    tl.store(q + at, new + size[:, None] * old, mask=both)
