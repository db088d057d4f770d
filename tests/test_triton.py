"""The Triton kernels against the portable loops and the dense float64 twins.

On a GPU they run as they are. Elsewhere one subprocess runs this file under Triton's interpreter,
which has to be chosen before anything imports Triton, and another compiles the kernels for a GPU
that need not be there: the interpreter takes what the compiler does not.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import reference
import reference_dslo
from lpprop.kernels import portable
from lpprop.numerics.cg import cg
from lpprop.numerics.propagation import propagation_system
from lpprop.refiners import propagate_pixels

if importlib.util.find_spec("triton") is None:
    pytest.skip("Triton is not installed", allow_module_level=True)

pytestmark = pytest.mark.gpu

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cuda" if torch.cuda.is_available() and not INTERPRETED else "cpu"
RUNS = INTERPRETED or DEVICE == "cuda"
if RUNS:
    from lpprop.kernels import triton as kernels
    from lpprop.kernels.triton import cg as solver
    from lpprop.kernels.triton import tiling

DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["double", "single"])
TAU = 0.01


def test_under_the_interpreter():
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "TRITON_"))}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[1],
        env=kept | {"TRITON_INTERPRET": "1"},
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
    assert " passed" in done.stdout


@pytest.mark.parametrize("capability", [80, 90, 100])
def test_they_compile(capability, tmp_path, monkeypatch):
    """For A100, H100 and B200, whether or not there is such a GPU; the variants for one of them."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from lpprop.kernels.triton import cg, product, stencil, tiling, upsampling

    constants = {
        "FEATURES": 3, "TILE": 128, "REACH": 1, "UNROLLED": True, "SYSTEM": True, "GROUP": 8,
        "COLUMNS": 32, "STEP": True, "BLOCK": 512, "REACH_Y": 1, "REACH_X": 2, "SQUARED": False,
    }  # fmt: skip
    types = dict.fromkeys(("rr", "limit", "factor", "step", "momentum"), "*fp64")
    types |= dict.fromkeys(("height", "width", "h", "w", "n", "classes", "groups"), "i32")
    types |= dict.fromkeys(("count", "reach", "tiles"), "i32")
    types |= dict.fromkeys(("iterations", "centre_y", "centre_x"), "*i64") | {"alive": "*i32"}

    def build(kernel, vector="*fp32", **changed):
        names = kernel.arg_names
        sizes = {k: v for k, v in (constants | changed).items() if k in names}
        kinds = {k: "constexpr" if k in sizes else types.get(k, vector) for k in names}
        options = {"enable_fp_fusion": True}
        source = ASTSource(kernel, kinds, sizes)
        return triton.compile(
            source, target=GPUTarget("cuda", capability, 32), options=options
        ).asm["ptx"]

    ptx = build(product._gather_neighbours)
    # No thread waits for what another one has read: the only barriers are of the sums at the end.
    assert ptx.rindex("ld.global") < ptx.index("bar.sync")
    build(stencil._fill_stencil)
    build(cg._reduce)
    build(cg._lower_residual)
    build(cg._advance)
    assert "bar.sync" not in build(upsampling._mix_points, "*fp64")
    if capability == 90:
        build(product._gather_neighbours, "*fp64", SYSTEM=False, UNROLLED=False, GROUP=1, COLUMNS=1)
        build(stencil._fill_stencil, SQUARED=True)
        build(cg._reduce, STEP=False)
        # The ends of what may be tuned.
        build(product._gather_neighbours, TILE=32 * max(tiling.SPACE["warps"]), GROUP=32)
        build(upsampling._mix_points, TILE=32 * min(tiling.SPACE["warps"]), GROUP=32)


# The kernels run in the subprocess, or here on a GPU; then there is no need of the subprocess.
test_under_the_interpreter.__test__ = not RUNS
test_they_compile.__test__ = not RUNS


def rounding(dtype):
    return torch.finfo(dtype).eps


def square(r, H, W):
    """Offsets of a square, and a factor for each that tells them apart."""
    offsets = portable.half_offsets(r // 2, H, W)
    return offsets, tuple(1 / (1 + 0.3 * dy + 0.1 * dx * dx + 0.02 * dx) for dy, dx in offsets)


def features(H, W, dtype, count=3):
    """Features whose distances are up to a few tau."""
    rng = np.random.default_rng(H * W + count)
    values = rng.uniform(0, 2 * TAU / count**0.5, size=(count, H, W)).astype(np.float32)
    return torch.tensor(values, dtype=dtype, device=DEVICE)


def scores(C, N, dtype, seed=0):
    values = np.random.default_rng(seed).normal(size=(C, N)).astype(np.float32)
    return torch.tensor(values, dtype=dtype, device=DEVICE)


def both(f, r, tau=TAU, *, squared=False):
    """One graph by the kernel and by the portable loop."""
    offsets, spatial = square(r, *f.shape[1:])
    return tuple(
        k.build_stencil(f, offsets, spatial, tau, squared=squared) for k in (kernels, portable)
    )


def dense(f, r, tau=TAU):
    """The same graph as a full matrix, pair by pair."""
    offsets, spatial = square(r, *f.shape[1:])
    factor = dict(zip(offsets, spatial, strict=True))
    S = reference.pixel_graph(f.double().cpu().numpy(), tau=tau, r=r)
    W = f.shape[2]
    for i, j in zip(*np.nonzero(S), strict=True):
        (y, x), (v, u) = divmod(int(min(i, j)), W), divmod(int(max(i, j)), W)
        S[i, j] *= factor[v - y, u - x]
    return S


SHAPES = {
    "plain": (3, 4, 5),
    "one-row": (1, 40, 3),
    "one-column": (140, 1, 3),
    "one-pixel": (1, 1, 13),
    "r-is-1": (3, 4, 1),
    "r-above-image": (2, 2, 25),
    "tiles": (6, 35, 3),
    "wider-than-unrolled": (1, 10, 19),
}
GRAPHS = pytest.mark.parametrize(("H", "W", "r"), SHAPES.values(), ids=SHAPES)


class TestWeights:
    __test__ = RUNS

    @GRAPHS
    def test_like_portable(self, H, W, r):
        """A root, a quotient and an exponential of up to 4, in 16 roundings of the weights."""
        graph, expected = both(features(H, W, torch.float32), r)
        assert graph.weights.dtype == torch.float32
        assert graph.offsets == expected.offsets
        assert torch.equal(graph.weights == 0, expected.weights == 0)  # outside the image
        difference = (graph.weights - expected.weights).abs()
        assert (difference <= 16 * rounding(torch.float32) * expected.weights).all()

    def test_of_squared_distances(self):
        graph, expected = both(features(3, 4, torch.float64), 3, TAU**2, squared=True)
        torch.testing.assert_close(graph.weights, expected.weights, rtol=1e-13, atol=0)
        plain, _ = both(features(3, 4, torch.float64), 3, TAU**2)
        assert not torch.allclose(graph.weights, plain.weights, rtol=0.1)

    @pytest.mark.parametrize("count", [1, 7])
    def test_features(self, count):
        graph, expected = both(features(3, 4, torch.float64, count), 3)
        torch.testing.assert_close(graph.weights, expected.weights, rtol=1e-14, atol=0)

    def test_of_a_constant_image(self):
        f = torch.full((3, 3, 4), 0.3, dtype=torch.float32, device=DEVICE)
        offsets, _ = square(3, 3, 4)
        weights = kernels.build_stencil(f, offsets, (1.0,) * len(offsets), TAU).weights
        inside = portable.stencil_weights(torch.zeros_like(f), offsets, (1.0,) * len(offsets), TAU)
        torch.testing.assert_close(weights, inside.round(), rtol=2e-13, atol=0)

    def test_non_contiguous(self):
        f = features(5, 4, torch.float64)
        graph, _ = both(f, 3)
        again, _ = both(f.mT.contiguous().mT, 3)
        assert torch.equal(graph.weights, again.weights)


class TestProduct:
    __test__ = RUNS

    @GRAPHS
    def test_like_the_dense_product(self, H, W, r):
        """Two roundings for each neighbour, at most, of the sum of the magnitudes."""
        f = features(H, W, torch.float32)
        x = scores(3, H * W, torch.float32)
        graph, plain = both(f, r)
        S = torch.tensor(dense(f, r), device=DEVICE)
        slack = 24 * rounding(torch.float32) * (x.double().abs() @ S)
        got = graph.product(x)
        assert got.dtype == torch.float32
        assert ((got.double() - x.double() @ S).abs() <= slack).all()
        assert ((got - plain.product(x)).abs() <= slack).all()

    @pytest.mark.parametrize("C", [1, 9])
    def test_classes(self, C):
        graph, expected = both(features(3, 4, torch.float64), 3)
        x = scores(C, 12, torch.float64)
        torch.testing.assert_close(graph.product(x), expected.product(x), rtol=0, atol=1e-14)

    def test_non_contiguous(self):
        graph, _ = both(features(3, 4, torch.float32), 3)
        x = scores(3, 12, torch.float32)
        assert torch.equal(graph.product(x.mT.contiguous().mT), graph.product(x))
        wide = scores(3, 12, torch.float32).repeat_interleave(2, dim=1)
        assert torch.equal(graph.product(wide[:, ::2]), graph.product(x))

    def test_infinity_stays_outside_its_square(self):
        """What lies outside the image or the square is not read, not even to be multiplied by 0."""
        graph, _ = both(features(5, 6, torch.float32), 3)
        x = torch.ones(1, 5, 6, device=DEVICE)
        x[0, 2, 0] = torch.inf
        finite = graph.product(x.flatten(1)).isfinite().view(5, 6)
        expected = torch.ones(5, 6, dtype=torch.bool, device=DEVICE)
        expected[1:4, :2] = False
        expected[2, 0] = True  # no pixel is its own neighbour
        assert torch.equal(finite, expected)

    def test_gradients(self):
        graph, expected = both(features(3, 4, torch.float64), 3)
        x = scores(2, 12, torch.float64).requires_grad_()
        v = scores(2, 12, torch.float64, seed=1).requires_grad_()
        (mine,) = torch.autograd.grad(graph.product(x), x, v, create_graph=True)
        (theirs,) = torch.autograd.grad(expected.product(x), x, v)
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-14)
        (twice,) = torch.autograd.grad(mine, v, x.detach())
        torch.testing.assert_close(twice, expected.product(x), rtol=0, atol=1e-14)
        assert torch.autograd.gradcheck(graph.product, x, fast_mode=True)

    def test_gradients_of_the_normalised_product(self):
        """Which the solver multiplies by where a gradient is wanted."""
        graph, _ = both(features(3, 4, torch.float64), 3)
        x = scores(2, 12, torch.float64).requires_grad_()
        v = scores(2, 12, torch.float64, seed=1)
        (slope,) = torch.autograd.grad(graph.normalised_product(x), x, v)
        torch.testing.assert_close(slope, graph.normalised_product(v), rtol=0, atol=1e-14)

    def test_gradient_of_propagated_scores(self):
        image = features(3, 4, torch.float64)[None]
        slopes = []
        for backend in ("triton", "torch"):
            logits = scores(2, 12, torch.float64).view(1, 2, 3, 4).requires_grad_()
            options = {"pixel_feats": image, "r": 3, "max_iter": 3, "backend": backend}
            propagate_pixels(logits, None, **options).square().sum().backward()
            slopes.append(logits.grad)
        torch.testing.assert_close(*slopes, rtol=1e-12, atol=1e-12 * float(slopes[1].abs().max()))


def propagated(graph, labels, alpha=0.95, max_iter=10, tol=1e-6):
    return graph.propagate(labels, alpha=alpha, max_iter=max_iter, tol=tol)


def compare(graph, plain, labels, alpha=0.95, max_iter=10, tol=1e-6, roundings=400):
    """Compare with `cg`: values to so many roundings of a class's largest; returns the result."""
    system = propagation_system(plain, torch.ones_like(labels[:1]), alpha)
    expected = cg(system, labels, tol=tol, max_iter=max_iter)
    value, residual, iterations, converged = propagated(graph, labels, alpha, max_iter, tol)
    eps = rounding(labels.dtype)
    assert (value.dtype, residual.dtype) == (labels.dtype, labels.dtype)
    bound = roundings * eps * expected.value.abs().amax(1, keepdim=True)
    assert ((value - expected.value).abs() <= bound).all()
    assert iterations.tolist() == expected.iterations.tolist()
    assert converged.tolist() == expected.converged.tolist()
    assert ((residual - expected.residual).abs() <= roundings * eps).all()
    return value, residual, iterations, converged


def twin(f, r, labels, tau=TAU, **options):
    options = {"alpha": 0.95, "max_iter": 10, "tol": 1e-6} | options
    return reference.propagate(dense(f, r, tau), labels.double().cpu().numpy(), **options)


class TestPropagation:
    __test__ = RUNS

    @DTYPES
    @pytest.mark.parametrize(("H", "W"), [(3, 4), (1, 1)], ids=str)
    def test_like_cg(self, H, W, dtype):
        f, labels = features(H, W, dtype), scores(3, H * W, dtype)
        graph, plain = both(f, 3)
        value, *_ = compare(graph, plain, labels, max_iter=4)
        error = reference.class_error(value.cpu(), twin(f, 3, labels, max_iter=4))
        assert error <= (1e-13 if dtype == torch.float64 else 5e-5)

    def test_tiles_and_blocks(self):
        """Several programs for the pixels in every kernel, and for the classes."""
        f, labels = features(2, 34, torch.float64), scores(9, 68, torch.float64)
        graph, plain = both(f, 3)
        with tiling.tuned(tiling.Tuning(vector=32, partials=2)):
            compare(graph, plain, labels, max_iter=2)

    def test_converged(self):
        """More steps than there are between two looks at what has stopped."""
        f, labels = features(1, 15, torch.float64), scores(2, 15, torch.float64)
        value, residual, iterations, converged = propagated(
            both(f, 3)[0], labels, alpha=0.99, max_iter=1000, tol=1e-12
        )
        assert bool(converged.all())
        assert (residual <= 1e-12).all()
        assert int(iterations.max()) < 60
        expected = twin(f, 3, labels, alpha=0.99, exact=True)
        # The condition of the system is 200: so much may a residual be off in the solution.
        assert reference.class_error(value.cpu(), expected) <= 2e-10

    @pytest.mark.parametrize("options", [{"max_iter": 1}, {"alpha": 0.0}, {"tol": 0.3}], ids=str)
    def test_options(self, options):
        graph, plain = both(features(2, 3, torch.float64), 3)
        compare(graph, plain, scores(2, 6, torch.float64), **{"max_iter": 3} | options)

    def test_classes_stop_by_themselves(self):
        """Each as if alone, whole groups before others, and no group before its last step.

        One step solves the root of the degrees, and some more what is near to it.
        """
        graph, plain = both(features(2, 5, torch.float32), 3)
        root = plain.product(torch.ones(1, 10, dtype=torch.float32, device=DEVICE))[0].sqrt()
        labels = scores(18, 10, torch.float32)
        labels[3] = 0
        labels[4] += 30 * root
        labels[5] = root
        labels[6] += 1000 * root
        labels[8:16] = root * torch.arange(1, 9, device=DEVICE)[:, None]
        labels[16:] = 0
        value, residual, iterations, converged = compare(graph, plain, labels, tol=0.01)
        assert iterations[[3, 5, 16, 17]].tolist() == [0, 1, 0, 0]
        assert iterations[8:16].tolist() == [1] * 8
        assert len(set(iterations.tolist())) > 3
        assert (value[[3, 16, 17]] == 0).all()
        assert (residual[[3, 16, 17]] == 0).all()
        assert bool(converged[[3, 5, 8, 16]].all())
        alone = propagated(graph, labels[:1], tol=0.01)
        torch.testing.assert_close(value[:1], alone[0], rtol=0, atol=50 * rounding(torch.float32))

    def test_looks_do_not_show(self, monkeypatch):
        graph, _ = both(features(2, 3, torch.float32), 3)
        labels = scores(2, 6, torch.float32)
        results = []
        for steps in (1, 100):
            monkeypatch.setattr(solver, "_LOOK", steps)
            results.append(propagated(graph, labels, max_iter=8, tol=1e-2))
        assert int(results[0][2].max()) < 7
        for a, b in zip(*results, strict=True):
            assert torch.equal(a, b)

    def test_scale_of_a_class(self):
        """Powers of two change nothing but the scale, near either end of the range."""
        graph, _ = both(features(2, 3, torch.float32), 3)
        labels = scores(1, 6, torch.float32)
        factors = 2.0 ** torch.tensor([[0.0], [100.0], [-100.0]], device=DEVICE)
        value, _, iterations, _ = propagated(graph, labels * factors, max_iter=4)
        assert len(set(iterations.tolist())) == 1
        for row, factor in zip(value, factors, strict=True):
            assert torch.equal(row / factor, value[0])

    def test_of_a_constant_image(self):
        f = torch.zeros(3, 3, 4, dtype=torch.float32, device=DEVICE)
        compare(*both(f, 3), scores(2, 12, torch.float32), max_iter=2)

    def test_disconnected_pixels(self):
        """One pixel without an edge among others, and an image of nothing else."""
        f = torch.zeros(1, 4, 5, dtype=torch.float32, device=DEVICE)
        f[0, 1, 2] = 1e4
        labels = scores(2, 20, torch.float32)
        value, *_ = compare(*both(f, 3), labels, max_iter=6)
        torch.testing.assert_close(value[:, 7], labels[:, 7], rtol=0.1, atol=0)  # in so few steps
        f = torch.arange(20.0, dtype=torch.float32, device=DEVICE).view(1, 4, 5)
        value, _, iterations, _ = propagated(both(f, 3, tau=1e-3)[0], labels)
        torch.testing.assert_close(value, labels, rtol=2 * rounding(torch.float32), atol=0)
        assert iterations.tolist() == [1, 1]

    def test_weights_at_the_end_of_the_range(self):
        """A pixel of degree e^-98, of which float32 holds a few bits, and strong contrasts."""
        labels = scores(2, 20, torch.float32)
        f = torch.zeros(1, 4, 5, device=DEVICE)
        f[0, 1, 2] = 1.0
        compare(*both(f, 3), labels, max_iter=3)
        f = features(4, 5, torch.float32) * 40
        value, *_ = propagated(both(f, 3)[0], labels, max_iter=3)
        assert reference.class_error(value.cpu(), twin(f, 3, labels, max_iter=3)) <= 5e-5

    def test_the_same_bits_every_time(self):
        graph, _ = both(features(3, 5, torch.float32), 3)
        labels = scores(2, 15, torch.float32)
        first, second = (propagated(graph, labels, max_iter=2) for _ in range(2))
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
        transposed = propagated(graph, labels.mT.contiguous().mT, max_iter=2)
        assert torch.equal(transposed[0], first[0])


def axis(pixels, points, radius, sigma, dtype):
    """Centres and exponents of one axis, from their definition."""
    place = ((2 * torch.arange(pixels) + 1) * points - pixels).double() / (2 * pixels)
    centre = place.round().long().clamp(0, points - 1)
    reach = min(radius, points - 1)
    around = centre[:, None] + torch.arange(-reach, reach + 1)
    exponents = -((place[:, None] - around) ** 2) / sigma**2
    exponents[(around < 0) | (around >= points)] = -torch.inf
    return centre.to(DEVICE), exponents.to(DEVICE, dtype)


def upsampled(x, image, sigma_space=1.0, sigma_range=0.1**0.5, radius=3):
    """One item by the kernel and by the portable code."""
    grid, size = x.shape[1:], image.shape[1:]
    points = F.interpolate(image[None], grid, mode="bilinear")[0] / sigma_range
    pixels = image / sigma_range
    pairs = zip(size, grid, strict=True)
    axes = [axis(*pair, radius, sigma_space, x.dtype) for pair in pairs]
    return tuple(k.upsample(x, points, pixels, *axes) for k in (kernels, portable))


def item(C, grid, size, dtype, seed=0):
    rng = np.random.default_rng(seed)
    arrays = rng.normal(size=(C, *grid)), rng.random((3, *size))
    return (torch.tensor(a.astype(np.float32), dtype=dtype, device=DEVICE) for a in arrays)


class TestUpsampling:
    __test__ = RUNS

    @DTYPES
    @pytest.mark.parametrize(
        ("grid", "size", "radius"),
        [
            ((3, 4), (6, 9), 1),
            ((2, 4), (3, 7), 3),
            ((1, 5), (5, 40), 1),
            ((6, 1), (10, 1), 2),
            ((1, 1), (1, 1), 3),
            ((4, 4), (8, 8), 0),
            ((5, 4), (2, 3), 1),
        ],
        ids=str,
    )
    def test_like_portable(self, grid, size, radius, dtype):
        """A mean, whose error is that of exponents below 40: 100 roundings."""
        x, image = item(3, grid, size, dtype)
        got, plain = upsampled(x, image, radius=radius)
        assert got.dtype == dtype
        assert reference.class_error(got.cpu(), plain.cpu()) <= 100 * rounding(dtype)
        expected = reference_dslo.joint_bilateral_upsample(
            x[None].cpu().numpy(), image[None].cpu().numpy(), radius=radius
        )
        assert reference.class_error(got[None].cpu(), expected) <= 100 * rounding(dtype)

    @pytest.mark.parametrize("C", [1, 17])
    def test_classes(self, C):
        got, plain = upsampled(*item(C, (2, 3), (4, 5), torch.float64), radius=1)
        torch.testing.assert_close(got, plain, rtol=0, atol=1e-14)

    @pytest.mark.parametrize(
        "sigmas",
        [
            {"sigma_range": 1e-9},
            {"sigma_space": 1e-9, "sigma_range": 1e-9},
            {"sigma_space": 1e9, "sigma_range": 1e9},
            {"sigma_range": 1e-2},
        ],
        ids=str,
    )
    def test_extreme_sigmas(self, sigmas):
        """Exponents to -1e18, where all weights but the largest vanish, and where none differs."""
        x, image = item(
            2, (3, 4), (9, 12), torch.float32
        )  # odd ratios: no pixel is between two points
        got, plain = upsampled(x, image, radius=2, **sigmas)
        # Exponents of 1e4 at sigma_range 0.01 are good to 1e4 roundings, and so are the weights.
        slack = 2e4 if sigmas == {"sigma_range": 1e-2} else 100
        assert reference.class_error(got.cpu(), plain.cpu()) <= slack * rounding(x.dtype)

    def test_a_later_point_takes_over(self):
        """The largest exponent comes last, after others that it takes to nothing."""
        x = torch.arange(5.0, device=DEVICE).view(1, 1, 5)
        points = torch.zeros(3, 1, 5, device=DEVICE)
        points[0, 0] = torch.tensor([4e9, 3e5, 2e5, 1e5, 50.0])
        pixels = torch.zeros(3, 1, 5, device=DEVICE)
        rows, columns = axis(1, 1, 4, 1e9, torch.float32), axis(5, 5, 4, 1e9, torch.float32)
        got = kernels.upsample(x, points, pixels, rows, columns)
        assert (got == 4).all()

    def test_non_contiguous(self):
        x, image = item(2, (3, 2), (5, 4), torch.float32)
        plain, _ = upsampled(x, image, radius=1)
        again, _ = upsampled(x.mT.contiguous().mT, image.mT.contiguous().mT, radius=1)
        assert torch.equal(plain, again)
