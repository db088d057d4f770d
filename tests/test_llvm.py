"""The compiled vector code itself: its exponential, its memory, its threads and its processes.

That it gives the right scores is shown in `test_twin_pixels` and `test_twin_bilateral`.
"""

import gc
import os
import subprocess
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

import lpprop
from lpprop.kernels import portable
from lpprop.numerics.cg import cg
from lpprop.numerics.propagation import propagation_system

pytest.importorskip("llvmlite")
from llvmlite import ir

from lpprop.kernels import llvm as kernels
from lpprop.kernels import memory
from lpprop.kernels.llvm import gibbs, jit, parallel, stencil, stencil_loops, upsampling
from lpprop.kernels.llvm.builder import LANES, Array, Code, Index, Scalar
from lpprop.kernels.llvm.jit import compile_kernel

# No machine code is read from disk, so that every kernel is compiled.
COMPILING = os.environ | {"LPPROP_CACHE": ""}
DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["double", "single"])


@pytest.fixture
def threads(monkeypatch):
    """Set the number of threads, which little work is worth as well; as before afterwards."""
    monkeypatch.setattr(parallel, "_WORTH_THREADS", 0)
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def make(seed, C, H, W, dtype=torch.float32):
    """Logits, and an image of so little contrast that most neighbours are joined."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(1, C, H, W, generator=generator, dtype=torch.float64)
    image = 0.3 + 0.05 * torch.rand(1, 3, H, W, generator=generator, dtype=torch.float64)
    return logits.to(dtype), image.to(dtype)


def graphs(H, W, r, dtype, tau=0.01, *, squared=False):
    """One graph by compiled code and by the portable loops, with a factor for each offset."""
    f = lpprop.lab_features(make(0, 1, H, W, dtype)[1])[0]
    offsets = portable.half_offsets(r // 2, H, W)
    spatial = tuple(1 / (1 + 0.3 * dy + 0.1 * dx * dx + 0.02 * dx) for dy, dx in offsets)
    return tuple(
        k.build_stencil(f, offsets, spatial, tau, squared=squared) for k in (kernels, portable)
    )


def roundings(got, expected):
    """The largest deviation of a row, in roundings of the largest entry of that row."""
    got, expected = got.detach(), expected.detach()
    largest = expected.abs().amax(-1)
    return float(((got - expected).abs().amax(-1) / largest).max() / torch.finfo(got.dtype).eps)


# --------------------------------------------------------------------------- code


def exponentials(x, raised=0):
    """2^(x + raised) by compiled code, for a NumPy array."""

    def kernel(code: Code, x: Array, y: Array, count: Index) -> None:
        with code.loop(0, count, LANES) as i:
            y.store(i, code.exp2(x.load(i), raised))

    room = np.zeros(-(-len(x) // LANES) * LANES, x.dtype)
    room[: len(x)] = x
    result = np.empty_like(room)
    compile_kernel(kernel, x.dtype)(room, result, len(room))
    return result[: len(x)]


@pytest.mark.parametrize("raised", [0, 60])
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["single", "double"])
def test_exponentials(dtype, raised):
    """Within one unit in the last place, down to the smallest number.

    That one, the smallest that is not denormal, is taken off every result and the rest rounded,
    which shows beside numbers as small alone.
    """
    info = np.finfo(dtype)
    lowest = info.minexp - raised
    whole = np.arange(lowest + 0.0, 1.0)
    x = np.concatenate(
        [
            np.linspace(1.1 * lowest, 0, 2**17),
            whole,
            whole - 0.5,
            np.nextafter(whole, -np.inf),
            -np.geomspace(1e-30, 1, 1000),
        ]
    ).astype(dtype)
    # In 64 bits of mantissa where NumPy has them, else to a rounding of its own.
    expected = np.exp2(x.astype(np.longdouble)) * 2.0**raised
    got = exponentials(x, raised)
    assert (np.abs(got - expected) <= info.eps * expected + info.smallest_normal).all()
    assert (got >= 0).all()
    assert (got[x <= lowest] == 0).all()
    plain = whole > lowest + info.nmant + 1
    powers = np.exp2(whole[plain] + raised).astype(dtype)
    np.testing.assert_array_equal(exponentials(whole[plain].astype(dtype), raised), powers)


@pytest.mark.parametrize("raised", [0, 60])
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["single", "double"])
def test_exponentials_that_vanish(dtype, raised):
    info = np.finfo(dtype)
    lowest = info.minexp - raised
    x = np.array([-np.inf, info.min, -1e30, -1101, -1200, -(2.0**31) - 1, lowest], dtype)
    vanishing = x <= lowest
    assert vanishing[[0, 1, 2, 5, 6]].all()
    assert (exponentials(x, raised)[vanishing] == 0).all()
    zeros = np.array([0.0, -0.0], dtype)
    np.testing.assert_array_equal(exponentials(zeros, raised), np.full(2, 2.0**raised, dtype))


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["single", "double"])
@pytest.mark.parametrize(("start", "stop"), [(0, 0), (3, 2), (0, 1), (0, 16), (8, 40)], ids=str)
def test_a_loop_takes_its_range(start, stop, dtype):
    def kernel(code: Code, x: Array, y: Array, factor: Scalar, start: Index, stop: Index) -> None:
        with code.loop(start, stop) as i:
            y.store(i, x.load(i, 1) * factor + 1.0)

    x, y = np.arange(40, dtype=dtype), np.full(40, -1, dtype)
    compile_kernel(kernel, np.dtype(dtype))(x, y, 3.0, start, stop)
    expected = np.full(40, -1, dtype)
    expected[start:stop] = 3 * x[start:stop] + 1
    np.testing.assert_array_equal(y, expected)


LOOPS = {
    "fill": stencil_loops.fill_loop(9),
    "add-degrees": stencil_loops.add_degrees_loop(),
    "multiply": stencil_loops.multiply_loop(3, 2),
    "lower-residual": stencil_loops.lower_residual_loop(),
    "advance": stencil_loops.advance_loop(),
    "pack": stencil_loops.pack_loop(),
    "unpack": stencil_loops.unpack_loop(),
    "upsample": upsampling._upsample_loop(3),
    "gibbs": gibbs._gibbs_loop(),
}


@pytest.mark.parametrize("loop", LOOPS.values(), ids=LOOPS)
def test_no_pointer_needs_a_type(loop, monkeypatch):
    """LLVM's pointers have none, and llvmlite is to drop those that its builder still has."""
    for kind in (ir.IntType, ir.FloatType, ir.DoubleType, ir.VectorType):
        monkeypatch.setattr(kind, "as_pointer", lambda self, addrspace=0: ir.PointerType())
    compile_kernel(loop, np.dtype(np.float32))


@pytest.mark.parametrize("shape", [(1,), (3, 5, 8), (2, 3, 4, 24)], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["single", "double"])
def test_memory_starts_at_a_cache_line(shape, dtype):
    arrays = [memory.zeros(shape, np.dtype(dtype)) for _ in range(5)]
    for x in arrays:
        assert x.shape == shape
        assert x.dtype == dtype
        assert x.flags.c_contiguous
        assert not x.any()
        assert x.ctypes.data % 64 == 0


@pytest.mark.parametrize("height", [1, 2, 7, 8, 100])
@pytest.mark.parametrize("pieces", [1, 3, 50])
def test_bands_cover_the_rows_once(height, pieces, threads):
    threads(2)
    bands = parallel.bands(height, pieces)
    assert [y for top, end in bands for y in range(top, end)] == list(range(height))
    assert all(top < end for top, end in bands)


def test_an_error_in_a_thread_comes_through(threads):
    threads(2)

    def fail(number):
        raise RuntimeError(number)

    with pytest.raises(RuntimeError, match="7"), parallel.workers(1e9) as each:
        each(fail, [(7,)])


# --------------------------------------------------------------------------- the pixel graph


@DTYPES
@pytest.mark.parametrize(
    ("H", "W", "r"), [(11, 70, 5), (70, 11, 13), (3, 129, 7), (1, 9, 3), (5, 6, 1)], ids=str
)
@pytest.mark.parametrize("C", [1, 24, 25])
def test_product_and_its_gradient(H, W, r, C, dtype):
    """Sums of up to 168 neighbours, in another order."""
    ours, theirs = graphs(H, W, r, dtype)
    x, v = (make(seed, C, H, W, dtype)[0][0].flatten(1) for seed in (1, 2))
    x.requires_grad_()
    got, expected = (graph.product(x) for graph in (ours, theirs))
    if r == 1:
        assert not got.any()
        assert not torch.autograd.grad(got, x, v)[0].any()
        return
    assert roundings(got, expected) <= 64
    slopes = [torch.autograd.grad(y, x, v)[0] for y in (got, expected)]
    assert roundings(*slopes) <= 64


def test_product_of_what_is_not_contiguous():
    ours, theirs = graphs(6, 9, 5, torch.float32)
    x = make(1, 5, 6, 9)[0][0].flatten(1).T.contiguous().T
    assert not x.is_contiguous()
    assert roundings(ours.product(x), theirs.product(x)) <= 64


@DTYPES
@pytest.mark.parametrize("C", [1, 9, 27])
@pytest.mark.parametrize("options", [{"r": 13}, {"r": 4, "sigma": 0.1}, {"r": 1}], ids=str)
def test_weights_kept_or_remade(C, options, dtype, monkeypatch):
    """The same numbers in the same order: the same result, bit for bit."""
    logits, image = make(1, C, 19, 70, dtype)
    kept = lpprop.propagate_pixels(logits, image, backend="llvm", **options)
    monkeypatch.setattr(stencil, "_STORED_BYTES", 0)
    remade = lpprop.propagate_pixels(logits, image, backend="llvm", **options)
    assert torch.equal(kept, remade)


@DTYPES
def test_weights_of_squared_distances(dtype, monkeypatch):
    """Kept, and remade in each product."""
    ours, theirs = graphs(9, 70, 5, dtype, 1e-3, squared=True)
    plain, _ = graphs(9, 70, 5, dtype, 1e-3)
    x = make(1, 3, 9, 70, dtype)[0][0].flatten(1)
    expected = theirs.product(x)
    assert roundings(ours.product(x), expected) <= 64
    assert roundings(plain.product(x), expected) > 1e4
    monkeypatch.setattr(stencil, "_STORED_BYTES", 0)
    remade, _ = graphs(9, 70, 5, dtype, 1e-3, squared=True)
    assert remade.weights.kept is None
    assert torch.equal(remade.product(x), ours.product(x))


@DTYPES
def test_products_with_weights_remade(dtype, monkeypatch):
    kept, _ = graphs(9, 70, 7, dtype)
    monkeypatch.setattr(stencil, "_STORED_BYTES", 0)
    remade, _ = graphs(9, 70, 7, dtype)
    assert kept.weights.kept is not None
    assert remade.weights.kept is None
    x = make(1, 10, 9, 70, dtype)[0][0].flatten(1)
    assert torch.equal(kept.product(x), remade.product(x))


@DTYPES
@pytest.mark.parametrize("tol", [0.3, 1e-3, 0.0])
@pytest.mark.parametrize("max_iter", [1, 4, 200])
def test_it_says_what_the_solver_says(max_iter, tol, dtype):
    """Steps, residuals and convergence of each class: of 27, one is zero and one constant."""
    graph, _ = graphs(9, 12, 5, dtype)
    labels = make(1, 27, 9, 12, dtype)[0][0].flatten(1)
    labels[3], labels[25] = 0, 1e-20
    got = graph.propagate(labels, alpha=0.9, max_iter=max_iter, tol=tol)
    system = propagation_system(graph, torch.ones_like(labels[:1]), 0.9)
    expected = cg(system, labels, max_iter=max_iter, tol=tol)
    assert (got[0][3] == 0).all()
    rows = torch.arange(27) != 3
    assert roundings(got[0][rows], expected.value[rows]) <= 64
    if tol > 0:  # without a tolerance, rounding says where it ends
        assert torch.equal(got[2], expected.iterations)
        assert torch.equal(got[3], expected.converged)
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(got[1], expected.residual, rtol=1e4 * eps, atol=64 * eps)


def test_gradient_in_the_logits():
    logits, image = make(1, 2, 3, 4, torch.float64)
    options = {"r": 3, "max_iter": 3, "backend": "llvm"}
    assert torch.autograd.gradcheck(
        lambda logits: lpprop.propagate_pixels(logits, image, **options),
        [logits.requires_grad_()],
        fast_mode=True,
    )


@DTYPES
def test_scores_with_and_without_a_gradient(dtype):
    """Solved by the package's solver and by compiled conjugate gradients."""
    logits, image = make(1, 25, 9, 12, dtype)
    plain = lpprop.propagate_pixels(logits, image, backend="llvm")
    with_gradient = lpprop.propagate_pixels(logits.requires_grad_(), image, backend="llvm")
    assert with_gradient.requires_grad
    assert roundings(with_gradient.flatten(2), plain.flatten(2)) <= 64


# --------------------------------------------------------------------------- upsampling


@DTYPES
@pytest.mark.parametrize("C", [1, 24, 25, 60])
@pytest.mark.parametrize(("grid", "radius"), [((9, 11), 3), ((2, 3), 9), ((1, 1), 2)], ids=str)
def test_upsampling(C, grid, radius, dtype):
    """Weights to some roundings of their exponents, which stay below 30."""
    x, image = make(1, C, *grid, dtype)[0], make(2, 1, 40, 53, dtype)[1]
    got, expected = (
        lpprop.joint_bilateral_upsample(x, image, radius=radius, backend=backend)
        for backend in ("llvm", "torch")
    )
    assert roundings(got.flatten(2), expected.flatten(2)) <= 64


@pytest.mark.parametrize("space", [1e-9, 1e-3, 1.0, 1e9])
@pytest.mark.parametrize("range_", [1e-9, 1e-3, 1.0, 1e9])
@DTYPES
def test_upsampling_at_extreme_sigmas(space, range_, dtype):
    """No pixel is lost, though exponents reach 1e20: it takes the mean of grid points near it."""
    x, image = make(1, 5, 5, 7, dtype)[0], torch.rand(1, 3, 15, 21, dtype=dtype)
    options = {"sigma_space": space, "sigma_range": range_}
    got = lpprop.joint_bilateral_upsample(x, image, backend="llvm", **options)
    slack = 16 * torch.finfo(dtype).eps * x.abs().amax((2, 3))
    assert (got.amax((2, 3)) <= x.amax((2, 3)) + slack).all()
    assert (got.amin((2, 3)) >= x.amin((2, 3)) - slack).all()
    ones = lpprop.joint_bilateral_upsample(torch.ones_like(x), image, backend="llvm", **options)
    assert roundings(ones.flatten(2), torch.ones_like(ones).flatten(2)) <= 16
    if dtype == torch.float64 and min(space, range_) > 1e-9:
        expected = lpprop.joint_bilateral_upsample(x, image, backend="torch", **options)
        # An exponent of 1e7 has so many roundings.
        assert roundings(got.flatten(2), expected.flatten(2)) <= 1e7


# --------------------------------------------------------------------------- the Gibbs kernel


@DTYPES
@pytest.mark.parametrize("N", [1, 3, 8, 37])
def test_gibbs_kernel(N, dtype, threads):
    threads(3)
    cost = torch.rand(N, N, generator=torch.Generator().manual_seed(N), dtype=torch.float64)
    cost = 5 * cost.mT.to(dtype)  # in another order of memory
    low = float(cost.min())
    expected = (20 * (low - cost.double())).exp()
    got, plain = (k.build_gibbs_kernel(cost, 20.0, 20 * low) for k in (kernels, portable))
    assert got.dtype == dtype
    # The exponents, up to 100, are off by a rounding.
    close = {"rtol": 150 * torch.finfo(dtype).eps, "atol": torch.finfo(dtype).tiny}
    torch.testing.assert_close(got.double(), expected, **close)
    torch.testing.assert_close(plain.double(), expected, **close)


def test_a_large_cost_takes_the_compiled_kernel(monkeypatch):
    """And says the same as PyTorch, which takes over where the cost has a gradient."""
    monkeypatch.setattr("lpprop.numerics.gibbs._WORTH_COMPILING", 0)
    called = []
    whole = kernels.build_gibbs_kernel
    monkeypatch.setattr(
        kernels, "build_gibbs_kernel", lambda *args: called.append(1) or whole(*args)
    )
    generator = torch.Generator().manual_seed(0)
    f = torch.rand(1, 4, 30, generator=generator).softmax(-1)
    cost = torch.rand(1, 30, 30, generator=generator)
    compiled_paths = lpprop.optimal_path(f, cost)
    assert called == [1]
    cost.requires_grad_()
    paths = lpprop.optimal_path(f, cost)
    assert called == [1]
    torch.testing.assert_close(compiled_paths, paths.detach(), rtol=1e-5, atol=0)
    paths.sum().backward()
    assert cost.grad.abs().max() > 0


# --------------------------------------------------------------------------- threads


@DTYPES
def test_the_number_of_threads(dtype, threads):
    """Weights, products and upsampling are the same bit for bit.

    Conjugate gradients add up rows in another order, in double precision: single precision hardly
    sees it, double precision by a few roundings.
    """
    logits, image = make(1, 21, 24, 66, dtype)

    def results(count):
        threads(count)
        graph, _ = graphs(24, 66, 9, dtype)
        up = lpprop.joint_bilateral_upsample(logits[..., :20, :20], image, backend="llvm")
        exact = (
            graph.weights.kept.array.copy(),
            graph.weights.degree,
            graph.product(logits[0].flatten(1)).numpy(),
            up.numpy(),
        )
        steps = [
            lpprop.propagate_pixels(logits, image, max_iter=m, r=9, backend="llvm") for m in (1, 9)
        ]
        return exact, steps

    alone = results(1)
    for count in (2, 3):
        exact, steps = results(count)
        for got, expected in zip(exact, alone[0], strict=True):
            np.testing.assert_array_equal(got, expected)
        for got, expected in zip(steps, alone[1], strict=True):
            assert roundings(got.flatten(2), expected.flatten(2)) <= 64


def test_more_threads_than_rows(threads):
    logits, image = make(1, 30, 2, 300)
    threads(1)
    expected = lpprop.propagate_pixels(logits, image, backend="llvm")
    threads(5)
    got = lpprop.propagate_pixels(logits, image, backend="llvm")
    assert roundings(got.flatten(2), expected.flatten(2)) <= 64


@pytest.mark.parametrize("count", [1, 2])
def test_calls_from_many_threads(count, threads):
    threads(count)
    sizes = [(C, H, 37) for C in (3, 12, 21, 30) for H in (10, 17)]
    inputs = [make(C + H, C, H, W) for C, H, W in sizes]

    def refined(logits, image):
        pixels = lpprop.propagate_pixels(logits, image, backend="llvm")
        return pixels, lpprop.joint_bilateral_upsample(logits[..., :7, :9], image, backend="llvm")

    expected = [refined(*pair) for pair in inputs]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(2):
            got = pool.map(lambda pair: refined(*pair), inputs)
            for pair in zip(got, expected, strict=True):
                assert all(torch.equal(a, b) for a, b in zip(*pair, strict=True))


PROCESSES = """
import multiprocessing, sys, threading
from concurrent.futures import ThreadPoolExecutor

import torch
from torch.utils.data import DataLoader, Dataset

import lpprop

torch.set_num_threads(2)
torch.manual_seed(0)
images = [(torch.rand(1, C, 40, 41), torch.rand(1, 3, 40, 41) / 9) for C in (8, 8, 9, 17, 30, 30)]

def refined(logits, image):
    pixels = lpprop.propagate_pixels(logits, image, backend="llvm")
    return pixels, lpprop.joint_bilateral_upsample(logits[..., :5, :5], image, backend="llvm")

assert "llvmlite" not in sys.modules
with ThreadPoolExecutor(6) as pool:  # the first calls of all, so each kernel is compiled here
    got = list(pool.map(lambda pair: refined(*pair), images))
expected = [refined(*pair) for pair in images]
assert all(torch.equal(a, b) for x, y in zip(got, expected, strict=True)
           for a, b in zip(x, y, strict=True))
torch.rand(2_000_000).exp().sum()  # PyTorch's own threads are started as well
assert threading.active_count() == 1
print("compiled at once")

# A fork of a process whose OpenMP threads have run hangs in PyTorch itself, where that would use
# them again: in einsum, of which Lab is made, and from 32,768 elements on.
def by_features(logits, feats):
    return lpprop.propagate_pixels(logits, None, pixel_feats=feats, backend="llvm")

small = images[:4]
parents = [by_features(*pair) for pair in small]

def child(queue):
    equal = all(torch.equal(by_features(*pair), x) for pair, x in zip(small, parents))
    queue.put((equal, torch.get_num_threads()))

context = multiprocessing.get_context("fork")
queue = context.SimpleQueue()
process = context.Process(target=child, args=(queue,))
process.start()
process.join(30)
if process.is_alive():
    process.kill()
    raise SystemExit("the forked process hangs")
assert process.exitcode == 0 and queue.get() == (True, 2)
print("forked")

started = []
start = threading.Thread.start
def counted(self):
    if threading.current_thread() is threading.main_thread():  # others send results
        started.append(self)
    start(self)
threading.Thread.start = counted

class Images(Dataset):
    def __len__(self):
        return len(images)

    def __getitem__(self, i):
        before = len(started)
        pair = refined(*images[i])
        return i, *pair, torch.get_num_threads(), len(started) - before

before = len(started)
refined(*images[-1])
assert len(started) > before  # here, there are threads

torch.set_num_threads(1)
expected = [refined(*pair) for pair in images]
torch.set_num_threads(2)
loader = DataLoader(Images(), batch_size=None, num_workers=2, timeout=30,
                    multiprocessing_context="fork")
seen = 0
for i, pixels, up, threads, new in loader:
    assert (threads, new) == (1, 0), (threads, new)
    assert torch.equal(pixels, expected[i][0]) and torch.equal(up, expected[i][1])
    seen += 1
assert seen == len(images)
print("loaded")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked")
def test_first_calls_at_once_and_forked_processes():
    done = subprocess.run(
        [sys.executable, "-c", PROCESSES], capture_output=True, text=True, check=False, timeout=120,
        env=COMPILING,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
    assert done.stdout.splitlines() == ["compiled at once", "forked", "loaded"]


FORKING = """
import os, sys, threading, time

import torch

import lpprop
from lpprop.kernels import llvm
from lpprop.kernels.llvm import jit, stencil_loops

torch.set_num_threads(1)
image = torch.rand(3, 9, 11)

def weights():
    graph = llvm.build_stencil(image, ((0, 1), (1, 0)), (1.0, 1.0), 0.1)
    return graph.weights.degree.sum()

def compile_on():
    while True:
        jit.compile_kernel(stencil_loops.fill_loop(3), image.numpy().dtype)

expected = weights()
threading.Thread(target=compile_on, daemon=True).start()
for n in range(10):
    time.sleep(0.003 * n)
    child = os.fork()
    if child == 0:  # a kernel that the parent has, and one that it has not
        jit.specialise.cache_clear()
        os._exit(int(weights() != expected))
    deadline = time.monotonic() + 30
    while (done := os.waitpid(child, os.WNOHANG)) == (0, 0):
        if time.monotonic() > deadline:
            os.kill(child, 9)
            sys.exit(f"the child of fork {n} hangs")
        time.sleep(0.01)
    assert done[1] == 0, done
print("forked")
os._exit(sys.stdout.flush() or 0)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked")
def test_a_fork_while_another_thread_compiles():
    done = subprocess.run(
        [sys.executable, "-c", FORKING], capture_output=True, text=True, check=False, timeout=200,
        env=COMPILING,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
    assert done.stdout.strip() == "forked"


# --------------------------------------------------------------------------- what is kept


def test_code_is_kept_up_to_a_number_and_freed_when_nobody_uses_it():
    """A kernel in use outlives its place among those that are kept."""
    jit.specialise.cache_clear()

    def scale_by(number):
        def scale(code: Code, x: Array, count: Index) -> None:
            with code.loop(0, count, LANES) as i:
                x.store(i, x.load(i) * float(number))

        return scale

    dtype = np.dtype(np.float32)
    used = jit.specialise(scale_by, dtype, 3)
    dropped = weakref.ref(jit.specialise(scale_by, dtype, 4).code)
    for number in range(10, 10 + jit._KEPT):
        jit.specialise(scale_by, dtype, number)
    assert jit.specialise.cache_info().currsize == jit._KEPT
    gc.collect()
    assert dropped() is None
    x = np.ones(LANES, np.float32)
    used(x, LANES)
    assert x.tolist() == [3.0] * LANES
    jit.specialise.cache_clear()


def test_too_little_memory_to_compile_is_an_error_and_not_the_end(monkeypatch):
    """LLVM would end the process."""
    monkeypatch.setattr(jit, "available_bytes", lambda device: 2**20)
    with pytest.raises(MemoryError, match="1 MiB are free"):
        jit.compile_kernel(stencil_loops.fill_loop(3), np.dtype(np.float32))


SHORT = """
import resource, torch, lpprop

torch.set_num_threads(1)
logits, image = torch.rand(1, 21, 100, 100), torch.rand(1, 3, 100, 100)
expected = lpprop.propagate_pixels(logits, image, backend="torch")
with open("/proc/self/statm") as statm:
    held = int(statm.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (held + 140 * 2**20,) * 2)
assert torch.equal(lpprop.propagate_pixels(logits, image), expected)
print("done by PyTorch")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is one of Linux")
def test_where_there_is_too_little_memory_to_compile_pytorch_works():
    """In 140 MiB of addresses, llvmlite's library does not even load."""
    done = subprocess.run(
        [sys.executable, "-c", SHORT], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == "done by PyTorch"
    assert "MiB are free, and compiling takes up to 256" in done.stderr


# --------------------------------------------------------------------------- memory


def test_memory_is_kept_for_the_next_and_given_back():
    memory.release()
    dtype = np.dtype(np.float32)
    first = memory.Borrowed((1024, 1024), dtype, clear=True)
    first.array[:] = np.nan
    place = first.array.ctypes.data
    assert place % 64 == 0
    second = memory.Borrowed((1024, 1024), dtype, clear=True)
    assert second.array.ctypes.data != place  # the first is still in use
    del first
    small = memory.Borrowed((8, 8), dtype, clear=True)
    assert small.array.ctypes.data != place  # too large a block for it
    again = memory.Borrowed((1000, 1024), dtype, clear=True)
    assert again.array.ctypes.data == place
    assert (again.array == 0).all()
    del again, second
    assert len(memory._pool) == 2
    memory.release()
    assert not memory._pool


def test_memory_of_a_tensor_goes_back_with_the_last_that_shares_it():
    memory.release()
    tensor = memory.borrow_tensor((1024, 1024), np.dtype(np.float32))
    part = tensor.mT[:5]
    place = tensor.data_ptr()
    del tensor
    other = memory.borrow_tensor((1024, 1024), np.dtype(np.float32))
    assert other.data_ptr() != place
    del part
    assert memory.borrow_tensor((1024, 1024), np.dtype(np.float32)).data_ptr() == place
    memory.release()


def test_no_more_memory_is_kept_than_the_bound(monkeypatch):
    memory.release()
    monkeypatch.setattr(memory, "_POOL_BYTES", 10 * 2**20)
    arrays = [memory.Borrowed((2**20,), np.dtype(np.float32), clear=True) for _ in range(5)]
    arrays.clear()
    assert sum(block.nbytes for block in memory._pool) <= 10 * 2**20
    memory.release()


def test_what_stood_in_kept_memory_does_not_show():
    """A solve after one of other sizes, and after values that are not finite, gives the same."""
    torch.manual_seed(0)
    logits, image = torch.rand(1, 30, 120, 90), torch.rand(1, 3, 120, 90)
    memory.release()
    expected = lpprop.propagate_pixels(logits, image, backend="llvm")
    memory.release()
    # Three blocks of each size that may be asked for: none is larger than twice another.
    sizes = [int(2**20 * 1.5**power) for power in range(6) for _ in range(3)]
    blocks = [memory.Borrowed((n // 4,), np.dtype(np.float32), clear=False) for n in sizes]
    for block in blocks:
        block.array[:] = np.nan
    del block, blocks
    lpprop.propagate_pixels(logits[..., :80, :], image[..., :80, :], backend="llvm")
    assert torch.equal(lpprop.propagate_pixels(logits, image, backend="llvm"), expected)


@pytest.mark.parametrize("prune", [False, True])
def test_a_result_that_is_held_does_not_change(prune):
    """Its memory is nobody else's, though it came from the pool."""
    logits, image = torch.rand(1, 12, 160, 150), torch.rand(1, 3, 160, 150)
    logits[:, 4:] /= 100
    memory.release()
    held = lpprop.propagate_pixels(logits, image, backend="llvm", prune=prune)
    copy = held.clone()
    for factor in (2, 3):
        lpprop.propagate_pixels(factor * logits, image, backend="llvm", prune=prune)
    assert torch.equal(held, copy)
    memory.release()


# --------------------------------------------------------------------------- what could go astray


@pytest.mark.parametrize("size", [(640, 480), (32, 40)])
@pytest.mark.parametrize("grid", [(1, 9), (9, 1), (5, 6)])
def test_upsampling_of_an_image_in_any_order_of_memory(size, grid):
    x = torch.rand(1, 30, *grid)
    image = torch.rand(1, size[1], size[0], 3).permute(0, 3, 2, 1)
    got = lpprop.joint_bilateral_upsample(x, image, backend="llvm")
    expected = lpprop.joint_bilateral_upsample(x, image.contiguous(), backend="torch")
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)


def test_arrays_in_another_order_are_refused():
    def kernel(code: Code, x: Array) -> None:
        x.store(code.index(0), code.vector(0.0))

    with pytest.raises(ValueError, match="C order"):
        compile_kernel(kernel, np.dtype(np.float32))(np.zeros((8, 8), np.float32).T)


@pytest.mark.parametrize("r", [3, 13])
def test_an_image_one_pixel_wide(r):
    logits, image = torch.rand(1, 2, 3000, 1), 0.5 + 0.05 * torch.rand(1, 3, 3000, 1)
    for _ in range(2):
        memory.Borrowed((3000, 2, 39, 4), np.dtype(np.float32), clear=False).array[:] = np.nan
        got = lpprop.propagate_pixels(logits, image, r=r, backend="llvm")
        expected = lpprop.propagate_pixels(logits, image, r=r, backend="torch")
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-4)
    memory.release()


@pytest.mark.parametrize("features", [8, 9, 40])
def test_many_features(features):
    logits, f = torch.rand(1, 3, 20, 30), 0.01 * torch.rand(1, features, 20, 30)
    got, expected = (
        lpprop.propagate_pixels(logits, None, pixel_feats=f, backend=name)
        for name in ("llvm", "torch")
    )
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-4)


def test_weights_too_small_for_single_precision_count_with_and_without_gradients():
    tiles = torch.zeros(1, 9, 12, 12)
    for y in range(12):
        for x in range(12):
            tiles[0, 3 * (y % 3) + x % 3, y, x] = 1
    logits = torch.rand(1, 2, 12, 12)
    options = {"pixel_feats": tiles, "tau": 0.0133, "r": 3}
    exact = lpprop.propagate_pixels(
        logits.double(), None, **options | {"pixel_feats": tiles.double()}
    )
    plain = lpprop.propagate_pixels(logits, None, **options, backend="llvm")
    trained = lpprop.propagate_pixels(
        logits.clone().requires_grad_(), None, **options, backend="llvm"
    )
    torch.testing.assert_close(plain.double(), exact, rtol=1e-3, atol=0)
    torch.testing.assert_close(trained.detach(), plain, rtol=1e-4, atol=0)


@pytest.mark.filterwarnings("ignore:.torch.jit.script")
def test_tangents_are_not_lost():
    logits, image = torch.rand(1, 2, 6, 7), torch.rand(1, 3, 6, 7)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(logits, torch.ones_like(logits))
        with pytest.raises(RuntimeError, match="forward mode AD"):
            lpprop.propagate_pixels(dual, image, backend="llvm")
