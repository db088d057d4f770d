"""The pixel graph and the joint bilateral upsampling in Numba, to measure lpprop's kernels against.

This is a backend for `benchmarks.compilers` alone: `lpprop.kernels.interface` in float32, without
gradients, without the Gibbs kernel, and with all weights stored. Numba is no dependency.

Numba leaves vectors and registers to LLVM, which vectorises innermost loops. So every innermost
loop runs along a row of pixels, in a function of its own whose arrays are contiguous. Within it,
one row of neighbours is a loop of constant length, which LLVM unrolls: the length is that of a
tuple, `taps`, which Numba has in its types. Three classes pass at a time, so that a weight is read
once for them. Written otherwise (along short tiles, over slices with strides, with indices that
Numba cannot tell from negative ones, with Python's division, which may raise) the same loops took
two to four times as long.
"""

import math
import os
from dataclasses import dataclass

import numpy as np
import torch
from numba import njit

from lpprop.kernels.llvm.parallel import bands, workers
from lpprop.kernels.memory import Borrowed

CACHE = os.environ.get("LPPROP_NUMBA_CACHE") == "1"  # keep compiled code on disk
STRIP = 640  # columns at a time: in shorter strips, loops start too often for what caches save
CLASSES = 3  # per pass
RAISED = 60  # weights are kept 2^60 times too large, as in lpprop.kernels.llvm
single = np.float32

# A product may be fused with a sum; sums along a loop may be taken in any order.
options = {"nogil": True, "cache": CACHE, "error_model": "numpy"}
exact = njit(**options, fastmath={"contract"})
summing = njit(**options, fastmath={"contract", "reassoc", "nnan", "nsz"})

LARGE = single(1.5 * 2**23)
LOWEST, SMALLEST = single(-126), single(2.0**-126)
C1, C2, C3, C4, C5, C6, C7 = (single(math.log(2) ** k / math.factorial(k)) for k in range(1, 8))
ZERO, ONE, LOG2_E = single(0), single(1), single(math.log2(math.e))


@exact
def exp2(x, raised):
    """2^(x + raised) for x <= 0: the exponent from the rounded x, the fraction by its series."""
    large = LARGE + raised
    x = max(x, LOWEST - raised)
    shifted = x + large
    f = x - (shifted - large)
    series = f * (C1 + f * (C2 + f * (C3 + f * (C4 + f * (C5 + f * (C6 + f * C7))))))
    power = np.int32(np.float32(shifted).view(np.int32) << np.int32(23))
    bits = np.int32(np.float32(ONE + series).view(np.int32) + power)
    return np.int32(bits).view(np.float32) - SMALLEST


# --------------------------------------------------------------------------- the pixel graph


@exact
def fill_row(exponents, own, near):
    for x in range(len(exponents)):
        difference = own[x] - near[x]
        exponents[x] += difference * difference


@exact
def weigh_row(weights, degree, squares, inside, slope, decay):
    for x in range(len(weights)):
        weight = exp2(math.sqrt(squares[x]) * slope + decay, single(RAISED))
        weights[x] = weight
        degree[x] += weight * inside[x]


@exact
def fill(guide, inside, decay, slope, weights, degree, top, end):
    """Weights (H, 2 ry + 1, strips, 2 rx + 1, columns of a strip) and their sums."""
    strips, n = weights.shape[2], weights.shape[4]
    ry, rx = decay.shape[0] // 2, decay.shape[1] // 2
    squares = np.empty(n, np.float32)
    for y in range(top, end):
        degree[y] = ZERO
        for dy in range(decay.shape[0]):
            for strip in range(strips):
                for dx in range(decay.shape[1]):
                    squares[:] = ZERO
                    left = strip * n + dx
                    for f in range(len(guide)):
                        own = guide[f, y + ry, strip * n + rx :]
                        fill_row(squares, own, guide[f, y + dy, left:])
                    weigh_row(
                        weights[y, dy, strip, dx], degree[y, strip], squares,
                        inside[y + dy, left:], slope, decay[dy, dx],
                    )  # fmt: skip


@exact
def add_neighbours(sums0, sums1, sums2, weights, q0, q1, q2, taps):
    for x in range(min(len(sums0), STRIP)):
        sum0, sum1, sum2 = sums0[x], sums1[x], sums2[x]
        for k in range(len(taps)):
            weight = weights[k, x]
            sum0 += weight * q0[x + k]
            sum1 += weight * q1[x + k]
            sum2 += weight * q2[x + k]
        sums0[x], sums1[x], sums2[x] = sum0, sum1, sum2


@summing
def finish_row(product, sums, q, scale, root, alpha):
    dot = ZERO
    for x in range(len(sums)):
        p = q[x] * root[x]
        value = p - alpha * scale[x] * sums[x]
        product[x] = value
        dot += p * value
    return dot


@exact
def multiply(weights, q, scale, root, product, dots, alpha, taps, top, end):
    """The product A p, where q = D^-1/2 p, and its inner products with p."""
    rows, strips, n = weights.shape[1], weights.shape[2], weights.shape[4]
    sums = np.empty((len(q), n), np.float32)
    for strip in range(strips):
        left = strip * n
        for y in range(top, end):
            sums[:] = ZERO
            for dy in range(rows):
                part = weights[y, dy, strip]
                for c in range(0, len(q), CLASSES):
                    add_neighbours(
                        sums[c], sums[c + 1], sums[c + 2], part, q[c, y + dy, left:],
                        q[c + 1, y + dy, left:], q[c + 2, y + dy, left:], taps,
                    )  # fmt: skip
            for c in range(len(q)):
                dots[c] += finish_row(
                    product[c, y, left:], sums[c], q[c, y + rows // 2, left + len(taps) // 2 :],
                    scale[y, left:], root[y, left:], alpha,
                )  # fmt: skip


@summing
def lower_row(r, product, step):
    dot = ZERO
    for x in range(len(r)):
        value = r[x] - step * product[x]
        r[x] = value
        dot += value * value
    return dot


@exact
def lower_residual(r, product, step, dots, top, end):
    for c in range(len(r)):
        for y in range(top, end):
            dots[c] += lower_row(r[c, y], product[c, y], step[c])


@exact
def advance_row(x, q, r, scale, root, step, momentum):
    for i in range(len(x)):
        p = q[i] * root[i]
        x[i] += step * p
        q[i] = (r[i] + momentum * p) * scale[i]


@exact
def advance(x, q, r, scale, root, step, momentum, ry, rx, top, end):
    width = x.shape[2]
    for c in range(len(x)):
        for y in range(top, end):
            near = q[c, y + ry, rx : rx + width]
            advance_row(x[c, y], near, r[c, y], scale[y], root[y], step[c], momentum[c])


@dataclass(frozen=True)
class Stencil:
    weights: Borrowed
    degree: np.ndarray

    def propagate(self, scores, *, alpha, max_iter, tol):
        """Conjugate gradients, with the stopping rule of `lpprop.numerics.cg`."""
        height, rows, strips, taps, n = self.weights.array.shape
        ry, rx, classes, columns = rows // 2, taps // 2, len(scores), strips * n
        labels = scores.detach().numpy().reshape(classes, height, -1)
        width = labels.shape[2]
        power = np.frexp(np.abs(labels).max((1, 2)))[1] - 1
        padded = -(-classes // CLASSES) * CLASSES
        degree = self.degree.reshape(height, columns)
        scale = (np.where(degree > 0, degree, 1) ** -0.5).astype(np.float32)
        root = 1 / scale
        vector, bordered = (padded, height, columns), (padded, height + 2 * ry, columns + 2 * rx)
        memory = [borrow(shape) for shape in (vector, vector, vector, bordered)]
        r, x, product, q = (block.array for block in memory)
        r[:classes, :, :width] = labels * np.ldexp(single(1), -power)[:, None, None]
        q[:, ry : ry + height, rx : rx + columns] = r * scale
        parts, zero, unrolled = bands(height), np.zeros(padded), (0,) * taps

        with workers(labels.size * rows * taps) as for_each:

            def run(kernel, *arguments):
                """Call a kernel on bands of rows; return the sum of its dots per class."""
                dots = np.zeros((len(parts), padded))

                def run_band(number, top, end):
                    kernel(*arguments, dots[number], top, end)

                for_each(run_band, [(i, *band) for i, band in enumerate(parts)])
                return dots.sum(0)

            def multiply_band(dots, top, end):
                multiply(
                    self.weights.array, q, scale, root, product, dots, single(alpha), unrolled,
                    top, end,
                )  # fmt: skip

            def advance_band(step, momentum, _, top, end):
                advance(x, q, r, scale, root, step, momentum, ry, rx, top, end)

            rr = first = run(lower_residual, r, product, zero.astype(np.float32))
            limit = max(tol, np.finfo(np.float32).eps ** 1.5) * np.sqrt(first)
            iterations = np.zeros(padded, np.int64)
            for _ in range(max_iter):
                active = np.sqrt(rr) > limit
                if not active.any():
                    break
                step = np.divide(rr, run(multiply_band), out=zero.copy(), where=active)
                rr_next = run(lower_residual, r, product, step.astype(np.float32))
                momentum = np.divide(rr_next, rr, out=zero.copy(), where=active)
                run(advance_band, step.astype(np.float32), momentum.astype(np.float32))
                rr, iterations = rr_next, iterations + active
        x = x[:classes, :, :width] * np.ldexp(single(1), power)[:, None, None]
        residual = np.sqrt(rr) / np.where(first > 0, np.sqrt(first), 1)
        rest = residual.astype(np.float32), iterations, np.sqrt(rr) <= limit
        return torch.from_numpy(x).flatten(1), *(torch.from_numpy(a[:classes]) for a in rest)


def build_stencil(f, offsets, spatial, tau):
    features = f.detach().numpy()
    count, height, width = features.shape
    ry, rx = max(dy for dy, _ in offsets), max(abs(dx) for _, dx in offsets)
    decay = np.full((2 * ry + 1, 2 * rx + 1), -np.inf, np.float32)
    for (dy, dx), factor in zip(offsets, spatial, strict=True):
        exponent = np.log2(factor) if factor > 0 else -np.inf
        decay[ry + dy, rx + dx] = decay[ry - dy, rx - dx] = exponent
    strips = -(-width // STRIP)
    n = -(-width // strips)
    guide, inside = (
        np.zeros((planes, height + 2 * ry, strips * n + 2 * rx), np.float32)
        for planes in (count, 1)
    )
    guide[:, ry : ry + height, rx : rx + width] = features
    inside[:, ry : ry + height, rx : rx + width] = 1
    slope = single(-min(math.log2(math.e) / tau, float(np.finfo(np.float32).max)))
    weights = borrow((height, 2 * ry + 1, strips, 2 * rx + 1, n), clear=False)
    degree = np.empty((height, strips, n), np.float32)

    def fill_band(top, end):
        fill(guide, inside[0], decay, slope, weights.array, degree, top, end)

    with workers(weights.array.size) as for_each:
        for_each(fill_band, bands(height))
    degree.reshape(height, -1)[:, width:] = 0
    return Stencil(weights, degree)


def borrow(shape, *, clear=True):
    return Borrowed(shape, np.dtype(np.float32), clear=clear)


# --------------------------------------------------------------------------- upsampling


@exact
def find_exponents(exponents, largest, red, green, blue, own, spatial_y, spatial_x):
    for x in range(len(exponents)):
        r, g, b = own[0, x] - red[x], own[1, x] - green[x], own[2, x] - blue[x]
        exponent = spatial_y + spatial_x[x] - r * r - g * g - b * b
        exponents[x] = exponent
        largest[x] = exponent if exponent > largest[x] else largest[x]


@exact
def raise_exponents(weights, totals, largest):
    for x in range(len(weights)):
        weight = exp2((weights[x] - largest[x]) * LOG2_E, ZERO)
        weights[x] = weight
        totals[x] += weight


@exact
def divide_row(result, sums, totals):
    for x in range(len(result)):
        result[x] = sums[x] / totals[x]


@exact
def gather_row(wide, planes, row, centres):
    """Copy the grid points around each pixel of a strip: (planes, grid columns, pixels)."""
    for c in range(len(planes)):
        for k in range(wide.shape[1]):
            for x in range(len(centres)):
                wide[c, k, x] = planes[c, row, centres[x] + k]


@exact
def add_points(sums0, sums1, sums2, weights, near0, near1, near2, taps):
    for x in range(min(len(sums0), STRIP)):
        sum0, sum1, sum2 = sums0[x], sums1[x], sums2[x]
        for k in range(len(taps)):
            weight = weights[k, x]
            sum0 += weight * near0[k, x]
            sum1 += weight * near1[k, x]
            sum2 += weight * near2[k, x]
        sums0[x], sums1[x], sums2[x] = sum0, sum1, sum2


@exact
def upsample_strip(
    points, own, scores, first, centres, spatial_y, spatial_x, result, taps, top, end
):
    """One strip of columns; the grid rows around a pixel row stand in a ring."""
    columns = len(taps)
    rows, n, classes = spatial_y.shape[1], len(centres), len(scores)
    colours = np.empty((rows, 3, columns, n), np.float32)
    near = np.empty((rows, classes, columns, n), np.float32)
    weights = np.empty((rows, columns, n), np.float32)
    sums = np.empty((classes, n), np.float32)
    largest, totals = np.empty(n, np.float32), np.empty(n, np.float32)
    filled = first[top]
    for y in range(top, end):
        while filled < first[y] + rows:
            gather_row(colours[filled % rows], points, filled, centres)
            gather_row(near[filled % rows], scores, filled, centres)
            filled += 1
        largest[:] = -np.inf
        for row in range(rows):
            place = (first[y] + row) % rows
            for k in range(columns):
                find_exponents(
                    weights[row, k], largest, colours[place, 0, k], colours[place, 1, k],
                    colours[place, 2, k], own[y], spatial_y[y, row], spatial_x[k],
                )  # fmt: skip
        totals[:] = ZERO
        for row in range(rows):
            for k in range(columns):
                raise_exponents(weights[row, k], totals, largest)
        sums[:] = ZERO
        for row in range(rows):
            part, around = weights[row], near[(first[y] + row) % rows]
            for c in range(0, classes, CLASSES):
                add_points(
                    sums[c], sums[c + 1], sums[c + 2], part,
                    around[c], around[c + 1], around[c + 2], taps,
                )  # fmt: skip
        for c in range(len(result)):
            divide_row(result[c, y], sums[c], totals)


def upsample(x, points, pixels, rows, columns):
    (first, exponents_y), (centres, exponents_x) = (
        (a.numpy(), b.detach().numpy()) for a, b in (rows, columns)
    )
    (height, ky), (width, kx) = exponents_y.shape, exponents_x.shape
    border = (ky // 2, ky // 2), (kx // 2, kx // 2)
    near = np.pad(points.detach().numpy(), ((0, 0), *border))
    scores = np.pad(x.detach().numpy(), ((0, -len(x) % CLASSES), *border))
    strips = -(-width // STRIP)
    n = -(-width // strips)
    result = np.empty((strips, len(x), height, n), np.float32)
    beyond = (0, strips * n - width)
    own = np.pad(pixels.detach().numpy(), ((0, 0), (0, 0), beyond), mode="edge")
    own = np.ascontiguousarray(own.reshape(3, height, strips, n).transpose(2, 1, 0, 3))
    centres = np.pad(centres, beyond, mode="edge").reshape(strips, n)
    spatial = np.pad(exponents_x, (beyond, (0, 0)), mode="edge").reshape(strips, n, kx)
    spatial = np.ascontiguousarray(spatial.transpose(0, 2, 1))
    exponents_y, taps = np.ascontiguousarray(exponents_y), (0,) * kx

    def upsample_band(strip, top, end):
        upsample_strip(
            near, own[strip], scores, first, centres[strip], exponents_y, spatial[strip],
            result[strip], taps, top, end,
        )  # fmt: skip

    with workers(height * width * ky * kx) as for_each:
        tiles = [(i, *band) for i in range(strips) for band in bands(height, strips)]
        for_each(upsample_band, tiles)
    whole = result.transpose(1, 2, 0, 3).reshape(len(x), height, -1)[:, :, :width]
    return torch.from_numpy(np.ascontiguousarray(whole))
