"""The hot loops of the pixel graph and of joint bilateral upsampling as Triton kernels, for a GPU.

They give what the portable loops give, to rounding, and the same bits every time: nothing is
summed atomically. Importing this file needs Triton.

A program of a stencil kernel owns a tile of pixels and a group of classes, one pixel a thread and
all classes of the group in its registers, so that a weight is read once for all of them. A group
has a power of two of classes; where they do not fill the last group, it repeats the last class
and does not store it, which needs no mask in the loop.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lpprop.kernels.portable import gibbs  # two passes over memory: nothing to gain here

__all__ = ["Stencil", "gibbs", "stencil", "upsample"]

Offsets = tuple[tuple[int, int], ...]
Axis = tuple[Int[Tensor, " pixels"], Float[Tensor, "pixels k"]]

_WARPS = 4
_TILE = 32 * _WARPS  # pixels of a program: one a thread
# Said at every launch, since its default changes between versions: multiply-adds are the work.
_LAUNCH = {"num_warps": _WARPS, "enable_fp_fusion": True}
_CLASSES = 8  # a group's; few, since 21 classes fill 24 places and not 32
_UPSAMPLED = 16  # the same where each group computes the weights anew
_VECTOR = 512  # pixels of a program that updates vectors
_PARTIALS = 1024  # partial sums that are read at once
# Neighbours of one row are unrolled up to this reach, so that their addresses are one address and
# constants; wider stencils would only compile for longer.
_UNROLLED = 8
# Steps between two looks at whether all classes have stopped. A look waits for the GPU, and a
# class that has stopped costs next to nothing.
_LOOK = 16


# --------------------------------------------------------------------------- the pixel graph


def stencil(
    f: Float[Tensor, "F H W"], offsets: Offsets, spatial: tuple[float, ...], tau: float
) -> Stencil:
    """Weights exp(-|f_i - f_j| / tau) times the offset's own factor, without a gradient.

    Args:
        f: features; float32 or float64.
        offsets: from `portable.half_offsets`.
        spatial: a factor for each offset.
        tau: feature distance at which a weight falls to 1/e.
    """
    f = f.detach().contiguous()
    tau = max(tau, torch.finfo(f.dtype).tiny)  # 0 / 0 would be no weight
    features, height, width = f.shape
    weights = f.new_empty((len(offsets), height, width))
    if offsets:
        # One tensor, since Triton takes a number of Python as float32.
        constants = f.new_tensor([*spatial, tau])
        with torch.cuda.device_of(f):
            _fill_stencil[(triton.cdiv(height * width, _TILE),)](
                f, constants, weights, len(offsets), height, width, _reach(offsets)[1], features,
                _TILE, **_LAUNCH,
            )  # fmt: skip
    return Stencil(weights, offsets)


@dataclass(frozen=True)
class Stencil:
    """A graph that joins each pixel with those of the square around it, as weight planes."""

    weights: Float[Tensor, "K H W"]
    offsets: Offsets

    def product(self, x: Float[Tensor, "C N"]) -> Float[Tensor, "C N"]:
        """Sum over each node's neighbours j of weight_ij x_j. Differentiable in x, repeatedly."""
        product: Tensor = _Product.apply(self, x)
        return product

    @torch.no_grad()
    def normalised_product(self, x: Float[Tensor, "C N"]) -> Float[Tensor, "C N"]:
        """Sum with D^-1/2 W D^-1/2 in place of the weights W."""
        degree = self._multiply(torch.ones_like(x[:1]))
        scale = torch.where(degree > 0, degree, 1.0).rsqrt()
        return scale * self.product(scale * x)

    def propagate(
        self, labels: Float[Tensor, "C N"], *, alpha: float, max_iter: int, tol: float
    ) -> tuple[Float[Tensor, "C N"], Float[Tensor, " C"], Int[Tensor, " C"], Bool[Tensor, " C"]]:
        """Solve (I - alpha D^-1/2 S D^-1/2) x = labels by conjugate gradients, without a gradient.

        Steps, stopping and results are those of `solvers.cg` with `affinity.propagation_system`.
        Beside labels and result there are three vectors a class.

        Returns:
            The entries of a `solvers.CGResult`.
        """
        scale = torch.frexp(labels.abs().amax(-1, keepdim=True)).exponent - 1
        scale = torch.ldexp(torch.ones_like(labels[:, :1]), scale)
        r = (labels / scale).contiguous()
        classes, n = r.shape

        # D^-1/2 goes into the search direction: only q = D^-1/2 p is stored, and p = D^1/2 q where
        # it is needed. The products then read neither D nor weights of their own, which a fold
        # into the weights would have to write once, and weights that only D^-1/2 brings back from
        # the end of the range stay as they are.
        degree = self._multiply(torch.ones_like(r[:1]))[0]
        root = torch.where(degree > 0, degree, 1.0).sqrt()
        normaliser = 1 / root
        damping = alpha * normaliser
        q = normaliser * r
        x = 0 * r
        Ap = torch.empty_like(r)

        # The scalars of each class in float64: their squares and sums then cost no precision.
        double = torch.float64
        rr = torch.linalg.vecdot(r, r).to(double)
        size = rr.sqrt()
        limit = max(tol, torch.finfo(r.dtype).eps ** 1.5) * size
        iterations = torch.zeros_like(rr, dtype=torch.int64)
        step, momentum = torch.zeros_like(rr), torch.zeros_like(rr)

        group = _group(classes)
        groups = triton.cdiv(classes, group)
        padded = torch.zeros(groups * group, dtype=torch.bool, device=r.device)
        padded[:classes] = size > limit
        alive = padded.view(groups, group).any(1).to(torch.int32)

        tiles, blocks = _tiles(*self.weights.shape[1:]), triton.cdiv(n, _VECTOR)
        curvatures = torch.empty((classes, tiles), dtype=r.dtype, device=r.device)
        squares = torch.empty((classes, blocks), dtype=r.dtype, device=r.device)
        vectors = {"GROUP": group, "BLOCK": _VECTOR} | _LAUNCH
        sums = {"GROUP": group, "BLOCK": _PARTIALS} | _LAUNCH | {"num_warps": 8}

        with torch.cuda.device_of(r):
            for count in range(max_iter):
                if count % _LOOK == _LOOK - 1 and not bool(alive.any()):
                    break
                self._launch(q, Ap, group, (root, damping, curvatures, alive))
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

    def _multiply(self, x: Float[Tensor, "C N"]) -> Float[Tensor, "C N"]:
        x = x.contiguous()
        result = torch.empty_like(x)
        with torch.cuda.device_of(x):
            self._launch(x, result, _group(len(x)), None)
        return result

    def _launch(
        self, x: Tensor, result: Tensor, group: int, system: tuple[Tensor, ...] | None
    ) -> None:
        """Multiply by S; or, of x = D^-1/2 p, make A p and its partial products with p."""
        height, width = self.weights.shape[1:]
        groups, (reach_y, reach_x) = triton.cdiv(len(x), group), _reach(self.offsets)
        root, damping, partials, alive = system or (x, x, x, x)
        tiles = _tiles(height, width)
        _gather_neighbours[(tiles * groups,)](
            x, self.weights, result, root, damping, partials, alive, len(x), height, width, groups,
            tiles, reach_y, reach_x, reach_x <= _UNROLLED, system is not None, group,
            _columns(width), _TILE, **_LAUNCH,
        )  # fmt: skip


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, graph: Stencil, x: Tensor) -> Tensor:
        ctx.graph = graph
        return graph._multiply(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor]:
        return None, ctx.graph.product(grad)  # the graph is symmetric


def _reach(offsets: Offsets) -> tuple[int, int]:
    """How far a square reaches down and across, whose offsets are in reading order."""
    return (max(dy for dy, _ in offsets), max(dx for _, dx in offsets)) if offsets else (0, 0)


def _group(classes: int) -> int:
    return min(_CLASSES, int(triton.next_power_of_2(classes)))


def _columns(width: int) -> int:
    """Columns of a tile: a warp lies along a row, unless the image is narrower."""
    return min(32, int(triton.next_power_of_2(width)))


def _tiles(height: int, width: int) -> int:
    columns = _columns(width)
    return int(triton.cdiv(height, _TILE // columns) * triton.cdiv(width, columns))


# Kernels have types of their own, of which Python and its checkers know nothing: `no_type_check`.
# Sizes of images are not specialised: a width that 16 divides would align some neighbours of a
# row and not others, and threads would have to exchange what they read.


@triton.jit(do_not_specialize=["count", "height", "width", "reach"])
@no_type_check
def _fill_stencil(
    f, constants, weights, count, height, width, reach, FEATURES: tl.constexpr, TILE: tl.constexpr
):
    pixels = height.to(tl.int64) * width
    here = tl.program_id(0).to(tl.int64) * TILE + tl.arange(0, TILE)
    y, x = here // width, here % width
    tau = tl.load(constants + count)
    for k in range(count):
        # Plane k of the square holds offset k + 1 in reading order, counted from (0, 0).
        dy = (k + 1 + reach) // (2 * reach + 1)
        dx = k + 1 - dy * (2 * reach + 1)
        inside = (y + dy < height) & (x + dx >= 0) & (x + dx < width)
        squares = tl.zeros([TILE], dtype=f.dtype.element_ty)
        own = f + here
        for _ in range(FEATURES):
            near = tl.load(own + (dy * width + dx), mask=inside, other=0)
            difference = tl.load(own, mask=inside, other=0) - near
            squares += difference * difference
            own += pixels
        distance = tl.sqrt(tl.maximum(squares, 1e-30))
        weight = tl.exp(distance / -tau) * tl.load(constants + k)
        tl.store(weights + k * pixels + here, tl.where(inside, weight, 0), mask=here < pixels)


@triton.jit
@no_type_check
def _add_pair(total, ahead, behind, plane, x, width, below, above, dx, shift):
    """Add the neighbours at (dy, dx) and at -(dy, dx), whose weight is stored with them."""
    there = below & (x + dx >= 0) & (x + dx < width)
    weight = tl.load(plane, mask=there, other=0)
    total += weight[None, :] * tl.load(ahead + dx, mask=there[None, :], other=0)
    there = above & (x >= dx) & (x - dx < width)
    weight = tl.load(plane - (shift + dx), mask=there, other=0)
    return total + weight[None, :] * tl.load(behind - dx, mask=there[None, :], other=0)


@triton.jit
@no_type_check
def _add_rows(
    total, at, weights, pixels, y, x, height, width, dy,
    FIRST: tl.constexpr, REACH: tl.constexpr, UNROLLED: tl.constexpr,
):  # fmt: skip
    """Add the neighbours dy rows below and above, from column FIRST on."""
    below, above = (y + dy < height) & (x < width), (y >= dy) & (y - dy < height)
    shift = dy * width
    ahead, behind = at + shift, at - shift
    # Offset (dy, dx) has plane dy (2 REACH + 1) + dx - 1.
    plane = weights + (dy * (2 * REACH + 1) + FIRST - 1) * pixels
    if UNROLLED:
        for dx in tl.static_range(FIRST, REACH + 1):
            total = _add_pair(total, ahead, behind, plane, x, width, below, above, dx, shift)
            plane += pixels
    else:
        for dx in range(FIRST, REACH + 1):
            total = _add_pair(total, ahead, behind, plane, x, width, below, above, dx, shift)
            plane += pixels
    return total


@triton.jit(do_not_specialize=["classes", "height", "width", "groups", "tiles", "reach"])
@no_type_check
def _gather_neighbours(
    vectors, weights, result, root, damping, partials, alive, classes, height, width, groups, tiles,
    reach, REACH: tl.constexpr, UNROLLED: tl.constexpr, SYSTEM: tl.constexpr, GROUP: tl.constexpr,
    COLUMNS: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    # The groups of a tile follow each other, so that its weights are still in the cache.
    group, tile = tl.program_id(0) % groups, tl.program_id(0) // groups
    if SYSTEM and tl.load(alive + group) == 0:
        return
    across = (width + COLUMNS - 1) // COLUMNS
    within = tl.arange(0, TILE)
    y = tile // across * (TILE // COLUMNS) + within // COLUMNS
    x = tile % across * COLUMNS + within % COLUMNS
    pixels = height.to(tl.int64) * width
    here = y.to(tl.int64) * width + x
    c = group * GROUP + tl.arange(0, GROUP)
    places = tl.minimum(c, classes - 1).to(tl.int64)[:, None] * pixels + here[None, :]
    at, planes = vectors + places, weights + here
    stored = (y < height) & (x < width)
    both = (c < classes)[:, None] & stored[None, :]

    total = tl.zeros([GROUP, TILE], dtype=vectors.dtype.element_ty)
    total = _add_rows(total, at, planes, pixels, y, x, height, width, 0, 1, REACH, UNROLLED)
    for dy in range(1, reach + 1):
        total = _add_rows(
            total, at, planes, pixels, y, x, height, width, dy, -REACH, REACH, UNROLLED
        )
    if SYSTEM:
        p = tl.load(at, mask=both, other=0) * tl.load(root + here, mask=stored, other=0)[None, :]
        total = p - tl.load(damping + here, mask=stored, other=0)[None, :] * total
        products = tl.sum(p * total, axis=1)  # p is 0 outside the image
        tl.store(partials + c.to(tl.int64) * tiles + tile, products, mask=c < classes)
    tl.store(result + places, total, mask=both)


# --------------------------------------------------------------------------- conjugate gradients


@triton.jit(do_not_specialize=["classes"])
@no_type_check
def _reduce(
    partials, rr, limit, factor, iterations, alive, classes, count,
    STEP: tl.constexpr, GROUP: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Sum what the programs left for each class, and make of it the step or the momentum."""
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
        # Only here: the last steps of a group have yet to reach its solutions when they are known.
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
    """Take step A p off r, and sum r r for each program."""
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
    """Add step p to x, and turn p to r + momentum p; together they read p once."""
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


# --------------------------------------------------------------------------- upsampling


def upsample(
    x: Float[Tensor, "C h w"],
    points: Float[Tensor, "3 h w"],
    pixels: Float[Tensor, "3 H W"],
    rows: Axis,
    columns: Axis,
) -> Float[Tensor, "C H W"]:
    """Joint bilateral upsampling of one item, without a gradient.

    Each pixel takes the softmax-weighted mean of the scores at the grid points around it, with
    exponents of its row and its column, less the squared distance of the colours.

    Args:
        x: scores; float32 or float64.
        points: colours of the grid points, as fractions of sigma_range.
        pixels: colours of the pixels, likewise.
        rows: for each row of pixels the grid row it rounds to, and the exponents of the k = 2 reach
            + 1 grid rows around that; minus infinity for those outside the grid.
        columns: the same across, where k may be another.
    """
    x, points, pixels = (a.detach().contiguous() for a in (x, points, pixels))
    classes, (height, width) = len(x), pixels.shape[1:]
    result = x.new_empty((classes, height, width))
    (centre_y, near_y), (centre_x, near_x) = (
        (centres.contiguous(), exponents.to(x).contiguous())
        for centres, exponents in (rows, columns)
    )
    group = min(_UPSAMPLED, int(triton.next_power_of_2(classes)))
    groups = triton.cdiv(classes, group)
    with torch.cuda.device_of(x):
        _mix_points[(_tiles(height, width) * groups,)](
            x, points, pixels, centre_y, near_y, centre_x, near_x, result, classes, *x.shape[1:],
            height, width, groups, near_y.shape[1] // 2, near_x.shape[1] // 2,
            group, _columns(width), _TILE, **_LAUNCH,
        )  # fmt: skip
    return result


@triton.jit(do_not_specialize=["classes", "h", "w", "height", "width", "groups"])
@no_type_check
def _mix_points(
    scores, points, pixels, centre_y, near_y, centre_x, near_x, result, classes, h, w, height,
    width, groups, REACH_Y: tl.constexpr, REACH_X: tl.constexpr, GROUP: tl.constexpr,
    COLUMNS: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    group, tile = tl.program_id(0) % groups, tl.program_id(0) // groups
    across = (width + COLUMNS - 1) // COLUMNS
    within = tl.arange(0, TILE)
    y = tile // across * (TILE // COLUMNS) + within // COLUMNS
    x = tile % across * COLUMNS + within % COLUMNS
    stored = (y < height) & (x < width)
    y, x = tl.minimum(y, height - 1), tl.minimum(x, width - 1)
    here = y.to(tl.int64) * width + x
    plane, cells = height.to(tl.int64) * width, h.to(tl.int64) * w
    c = group * GROUP + tl.arange(0, GROUP)
    own = tl.minimum(c, classes - 1).to(tl.int64)[:, None]

    # All pixels of a cell read the same points, so that a warp's reads are few lines of the cache.
    red = tl.load(pixels + here)
    green = tl.load(pixels + plane + here)
    blue = tl.load(pixels + 2 * plane + here)
    row, column = tl.load(centre_y + y), tl.load(centre_x + x)
    exponents_y = near_y + y.to(tl.int64) * (2 * REACH_Y + 1) + REACH_Y
    exponents_x = near_x + x.to(tl.int64) * (2 * REACH_X + 1) + REACH_X

    # Weights relative to the largest so far, which is finite from the start: outside the grid the
    # exponent is minus infinity, and its difference with itself would be no number.
    element = scores.dtype.element_ty
    largest = tl.full([TILE], -1e38, dtype=element)
    norm = tl.zeros([TILE], dtype=element)
    total = tl.zeros([GROUP, TILE], dtype=element)
    for dy in range(-REACH_Y, REACH_Y + 1):
        line = tl.minimum(tl.maximum(row + dy, 0), h - 1) * w
        spatial = tl.load(exponents_y + dy)
        for dx in range(-REACH_X, REACH_X + 1):
            point = line + tl.minimum(tl.maximum(column + dx, 0), w - 1)
            exponent = spatial + tl.load(exponents_x + dx)
            difference = red - tl.load(points + point)
            exponent -= difference * difference
            difference = green - tl.load(points + cells + point)
            exponent -= difference * difference
            difference = blue - tl.load(points + 2 * cells + point)
            exponent -= difference * difference

            new = tl.maximum(largest, exponent)
            # A change of the largest rescales what is summed already: one pass, in which each
            # exponent is computed once, and the largest weight is 1 whatever its rounding.
            shrink, weight = tl.exp(largest - new), tl.exp(exponent - new)
            largest = new
            norm = norm * shrink + weight
            near = tl.load(scores + own * cells + point[None, :])
            total = total * shrink[None, :] + weight[None, :] * near
    both = (c < classes)[:, None] & stored[None, :]
    tl.store(result + own * plane + here[None, :], total / norm[None, :], mask=both)
