"""Memory ceilings: the peak of resident memory beyond the inputs, in a process of its own.

Measured as the process's high-water mark after the call, less what it held before it. Linux alone
tells a process its own mark (`ru_maxrss` starts at that of the parent).
"""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

import lpprop
from lpprop.kernels import portable
from lpprop.numerics.graphs import forecast_graph
from lpprop.numerics.propagation import forecast_solver

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="the high-water mark is read from /proc"
)

MEASURE = """
import contextlib, torch, lpprop

def held(field):  # MB
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(field)) / 1024

torch.manual_seed(0)
{inputs}
{small}  # imports, threads and buffers that the first call brings
before = held("VmRSS:")
with contextlib.suppress(OSError):  # forget the peak of making the inputs, where that is allowed
    open("/proc/self/clear_refs", "w").write("5")
result = {call}
print(held("VmHWM:") - before)
"""


def peak(*, inputs, small, call):
    """MB that `call` takes at its peak beyond `inputs`."""
    script = MEASURE.format(inputs=inputs, small=small, call=call)
    done = subprocess.run(
        [sys.executable, "-c", script],
        # glibc then gives every large block back as soon as it is freed: what it would keep
        # differs from run to run.
        env=os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return float(done.stdout)


def test_the_pixel_step_of_a_real_image_stays_below_500_mb():
    # 84 planes of weights are 90 MB, and each image of scores (labels, x, r, p, Ap, ...) is 22 MB.
    # A list of its 45 million edges would be 180 MB of weights and 360 MB of indices or more.
    used = peak(
        inputs="logits, image = torch.rand(1, 21, 448, 597), torch.rand(1, 3, 448, 597)",
        small="lpprop.propagate_pixels(logits[..., :16, :16], image[..., :16, :16])",
        call="lpprop.propagate_pixels(logits, image, max_iter=3)",
    )
    assert used < 500


def test_compiled_code_keeps_weights_of_half_of_the_neighbours():
    # 85 weights of 454 x 720 pixels, margins of strips included, are 106 MB, the solver's three
    # vectors 69 MB, the scores 22 MB; what a pixel has one of (features and a border, degrees) is
    # 1 MB each.
    pytest.importorskip("llvmlite")
    used = peak(
        inputs="logits, image = torch.rand(1, 21, 448, 597), torch.rand(1, 3, 448, 597)",
        small="lpprop.propagate_pixels(logits[..., :16, :16], image[..., :16, :16], "
        "backend='llvm')",
        call="lpprop.propagate_pixels(logits, image, max_iter=2, backend='llvm')",
    )
    assert used < 106 + 69 + 22 + 16


def test_compiled_code_remakes_weights_that_would_be_large():
    # All weights would be 555 MB, above the limit. The solver's three vectors are 29 MB each, the
    # scores 29 MB; what a pixel has one of is 6 MB each, twelve of them; a thread's 3.4 MB.
    pytest.importorskip("llvmlite")
    used = peak(
        inputs="logits, image = torch.rand(1, 5, 1024, 1408), torch.rand(1, 3, 1024, 1408)",
        small="lpprop.propagate_pixels(logits[..., :16, :16], image[..., :16, :16], "
        "backend='llvm')",
        call="lpprop.propagate_pixels(logits, image, max_iter=1, backend='llvm')",
    )
    assert used < 4 * 29 + 12 * 6 + 3.4 * torch.get_num_threads()


def test_compiled_code_remakes_weights_where_memory_is_short(monkeypatch):
    """It does not fail as long as it can do without them, and gives the same bits."""
    pytest.importorskip("llvmlite")
    from lpprop.kernels.llvm import stencil_weights

    logits, image = torch.rand(1, 3, 100, 90), torch.rand(1, 3, 100, 90) / 9
    kept = []
    fill = stencil_weights.Weights._fill_kept
    monkeypatch.setattr(
        stencil_weights.Weights, "_fill_kept", lambda self, to: kept.append(to) or fill(self, to)
    )
    expected = lpprop.propagate_pixels(logits, image, backend="llvm")
    assert len(kept) == 1
    # All weights are 4 MB.
    monkeypatch.setattr(stencil_weights, "available_bytes", lambda device: 6 * 2**20)
    assert torch.equal(lpprop.propagate_pixels(logits, image, backend="llvm"), expected)
    assert len(kept) == 1


def test_a_batch_of_images_is_worked_off_one_by_one():
    # Four images of a quarter of the pixels: all stencils at once would be 90 MB, one is 22 MB.
    used = peak(
        inputs="logits, image = torch.rand(4, 5, 224, 299), torch.rand(4, 3, 224, 299)",
        small="lpprop.propagate_pixels(logits[..., :16, :16], image[..., :16, :16])",
        call="lpprop.propagate_pixels(logits, image, max_iter=1)",
    )
    assert used < 80


def test_the_patch_step_of_a_large_grid_makes_no_square_matrix():
    # N = 12,100 patches: one N x N float32 matrix is 585 MB. The similarities come in blocks of
    # 64 MB, the CSR graph of at most 2 k N = 774,400 edges with the sort behind it is the rest.
    used = peak(
        inputs="logits, feats = torch.rand(1, 5, 110, 110), torch.rand(1, 32, 110, 110)",
        small="lpprop.propagate_patches(logits[..., :9, :9], feats[..., :9, :9], storage='csr')",
        call="lpprop.propagate_patches(logits, feats, k=32)",
    )
    assert used < 300


def test_many_classes_are_solved_in_groups():
    # 2,000 classes of 128 x 128 pixels are 131 MB, so is the result; solved together they take
    # 750 MB, in groups 512 MB.
    used = peak(
        inputs="logits, image = torch.rand(1, 2000, 128, 128), torch.rand(1, 3, 128, 128)",
        small="lpprop.propagate_pixels(logits[:, :2], image, r=3, max_iter=1)",
        call="lpprop.propagate_pixels(logits, image, r=3, max_iter=1)",
    )
    assert used < 512 + 131


def test_a_dilation_beyond_the_image_takes_no_more_than_one_across_it():
    # A plane of 448 x 597 float32 is 1.07 MB: weights, distances and exponents of 8 neighbours, and
    # one plane of a frame that is three times as wide and as high. A frame of 8,000 pixels around
    # the image would be 1.1 GB.
    used = peak(
        inputs="x, image = torch.rand(1, 3, 448, 597), torch.rand(1, 3, 448, 597)",
        small="lpprop.pamr(x[..., :16, :16], image[..., :16, :16], dilations=(1,))",
        call="lpprop.pamr(x, image, dilations=(8000,), iterations=1)",
    )
    assert used < (5 * 8 + 9 + 10) * 1.07


# What may come on top: blocks of the products, threads, and what is freed between the steps.
BESIDE = 30
SMALL = 8
# Compiled code keeps no weights and solves 8 classes at a time: the forecast is what it needs then.
SHORT = """
from lpprop.kernels.llvm import stencil, stencil_weights
stencil.available_bytes = stencil_weights.available_bytes = lambda device: 2**20
"""
PROPAGATIONS = {
    "21 classes": ("(1, 21, 448, 597)", "(1, 3, 448, 597)", "max_iter=3, backend='torch'"),
    "2 classes": ("(1, 2, 448, 597)", "(1, 3, 448, 597)", "max_iter=3, backend='torch'"),
    "short, compiled": ("(1, 21, 448, 597)", "(1, 3, 448, 597)", "backend='llvm'"),
    "remade, compiled": ("(1, 5, 1024, 1408)", "(1, 3, 1024, 1408)", "max_iter=1, backend='llvm'"),
}


def forecast_of(call, names, monkeypatch):
    """MB that a call says it needs, on a machine that has none, in a process that keeps none."""
    if kept := sys.modules.get("lpprop.kernels.memory"):
        kept.release()
    monkeypatch.setattr("lpprop._core.memory.available_bytes", lambda device: 0)
    with pytest.raises(lpprop.InputError, match=r"needs? ") as refused:
        eval(call, names)
    return float(re.search(r"needs? ([\d.e-]+) GiB", str(refused.value))[1]) * 1024


@pytest.mark.parametrize("name", PROPAGATIONS)
@pytest.mark.parametrize("gradient", [False, True])
def test_the_pixel_step_forecasts_what_it_takes(name, gradient, monkeypatch):
    logits, image, options = PROPAGATIONS[name]
    if "llvm" in options:
        pytest.importorskip("llvmlite")
    if gradient and name != "2 classes":
        pytest.skip("one is enough")
    asked = f", requires_grad={gradient}"
    inputs = f"logits, image = torch.rand{logits[:-1]}{asked}), torch.rand{image}"
    short = SHORT if name == "short, compiled" else ""
    backward = ".sum().backward()" if gradient else ""
    call = f"lpprop.propagate_pixels(logits, image, {options}){backward}"
    small = f"lpprop.propagate_pixels(logits[..., :16, :16], image[..., :16, :16], {options})"
    used = peak(inputs=inputs + short, small=small + backward, call=call)
    names = {"torch": torch, "lpprop": lpprop}
    exec(inputs, names)
    forecast = forecast_of(call, names, monkeypatch)
    assert used < 1.1 * forecast + SMALL
    assert used > 0.8 * forecast - SMALL


FIELDS = {
    "plain": ("(1, 40, 224, 300)", "iterations=1, r=7", False),
    "gradient": ("(1, 40, 224, 300)", "iterations=2, r=3", True),
}


@pytest.mark.parametrize("name", FIELDS)
def test_the_local_crf_forecasts_what_it_takes(name, monkeypatch):
    shape, options, gradient = FIELDS[name]
    size = shape[:-1].split(", ", 2)[2]
    asked = f", requires_grad={gradient}"
    inputs = f"x, image = torch.rand{shape[:-1]}{asked}), torch.rand(1, 3, {size}{asked})"
    backward = ".sum().backward()" if gradient else ""
    options += ", backend='torch'"
    used = peak(
        inputs=inputs,
        small=f"lpprop.local_crf(x[..., :16, :16], image[..., :16, :16], {options}){backward}",
        call=f"lpprop.local_crf(x, image, {options}){backward}",
    )
    names = {"torch": torch, "lpprop": lpprop}
    exec(inputs, names)
    forecast = forecast_of(f"lpprop.local_crf(x, image, {options})", names, monkeypatch)
    assert used < forecast + BESIDE
    assert used > 0.6 * forecast - BESIDE


@pytest.mark.parametrize(
    ("options", "slope"),
    [("storage='csr'", False), ("storage='dense'", False), ("storage='csr'", True)],
)
def test_the_patch_step_forecasts_what_it_takes(options, slope, monkeypatch):
    inputs = "logits, feats = torch.rand(1, 5, 60, 60), torch.rand(1, 16, 60, 60)"
    inputs += "; feats.requires_grad_()" if slope else ""
    backward = ".sum().backward()" if slope else ""
    small = f"lpprop.propagate_patches(logits[..., :9, :9], feats[..., :9, :9], {options})"
    call = f"lpprop.propagate_patches(logits, feats, {options}){backward}"
    used = peak(inputs=inputs, small=small + backward, call=call)
    names = {"torch": torch, "lpprop": lpprop}
    exec(inputs, names)
    forecast = forecast_of(call, names, monkeypatch)
    assert used < forecast + BESIDE
    assert used > 0.5 * forecast - BESIDE


def test_neighbours_are_found_in_smaller_blocks_where_memory_is_short(monkeypatch):
    """The bits are the same; a byte less than forecast is refused."""
    # Entries of +-1/16 have exact cosines, with many ties, by every library and in every block.
    feats = torch.rand(1, 256, 20, 30).round() / 8 - 1 / 16
    logits, options = torch.rand(1, 3, 20, 30), {"k": 7, "storage": "csr"}
    expected = lpprop.propagate_patches(logits, feats, **options)
    forecast = forecast_graph(600, 7, "csr", 4, logits.device, gradient=False)
    forecast += forecast_solver(3, 600 * 4, alpha=0.95, max_iter=10, tol=1e-6, gradient=False)
    blocks = []
    multiply = portable.multiply
    monkeypatch.setattr(portable, "multiply", lambda a, b: blocks.append(len(a)) or multiply(a, b))
    for free in (forecast, 40 * 600 * 4, 0):
        blocks.clear()
        monkeypatch.setattr("lpprop.numerics.graphs.available_bytes", lambda _, free=free: free)
        assert torch.equal(lpprop.propagate_patches(logits, feats, **options), expected)
        assert max(blocks) == max(1, free // (4 * 600 * 4))
        assert sum(blocks) == 600
    monkeypatch.setattr("lpprop._core.memory.available_bytes", lambda device: forecast - 1)
    with pytest.raises(lpprop.InputError, match="600 patches with 7 neighbours each"):
        lpprop.propagate_patches(logits, feats, **options)


@pytest.mark.parametrize("method", ["lposs+", "a chain"])
def test_a_photo_of_12_megapixels_is_refused_before_any_step(method, monkeypatch):
    monkeypatch.setattr("lpprop._core.memory.available_bytes", lambda device: 2 * 2**30)
    logits, feats = torch.rand(1, 21, 24, 32), torch.rand(1, 8, 24, 32)
    image = torch.full((1, 3, 1, 1), 0.5).expand(1, 3, 3000, 4000)
    steps = []

    def note(logits, **_):
        steps.append("started")
        return logits

    if method == "a chain":
        method = lpprop.Chain(note, lpprop.BilinearUpsample(), lpprop.PixelPropagation())
        feats = None
    with pytest.raises(lpprop.InputError, match="logits: got 21 classes of 3000 x 4000 pixels"):
        lpprop.refine(
            logits, feats, image, method=method, **{} if feats is None else {"patch_size": 125}
        )
    assert steps == []


def test_groups_of_fewer_classes_where_memory_is_short_give_the_same_bits(monkeypatch):
    pytest.importorskip("llvmlite")
    from lpprop.kernels.llvm import stencil

    logits, image = torch.rand(1, 21, 40, 50), torch.rand(1, 3, 40, 50) / 9
    expected = lpprop.propagate_pixels(logits, image, backend="llvm")
    sizes, make = [], stencil.ClassGroup
    monkeypatch.setattr(
        stencil,
        "ClassGroup",
        lambda graph, count, *rest: sizes.append(count) or make(graph, count, *rest),
    )
    lanes = stencil.Weights(image[0], ((0, 1),), (1.0,), 1.0, squared=False, stored=0).lanes
    plane = 3 * 40 * -(-50 // lanes) * lanes * 4  # r, product and q
    for count, groups in ((24, [21]), (16, [16, 5]), (8, [8, 8, 5]), (1, [8, 8, 5])):
        sizes.clear()
        monkeypatch.setattr(
            stencil, "available_bytes", lambda device, n=count: int(n * plane / 0.79)
        )
        assert torch.equal(lpprop.propagate_pixels(logits, image, backend="llvm"), expected)
        assert sizes == groups


# 1,000 regions of 1024 x 2048 pixels of 19 classes, 159 MB, within 1.5 GB: that bound a pixel, at a
# quarter of the pixels. The scores are 40 MB, and so is the result.
VOTE_BOUND = 1500 / 4
VOTES = {
    "vote, pure": ("maps", ", by='vote', purity=0.5, strength=0.5", 4.2),
    # Of 100 masks of 0.5 MB as many at a time as make 32 MB of floats.
    "masks": ("masks", ", by='probability'", 3.2),
}


@pytest.mark.parametrize("name", VOTES)
def test_a_vote_makes_no_matrix_of_regions_by_pixels(name):
    regions, options, scores = VOTES[name]
    inputs = (
        "logits = torch.rand(1, 19, 512, 1024)\n"
        "rows, columns = torch.arange(512)[:, None] // 20, torch.arange(1024) // 26\n"
        "maps = (rows * 40 + columns)[None]\n"
        "masks = [torch.stack([maps[0] % 100 >= i for i in range(100)])]"
    )
    small = f"lpprop.region_vote(logits[..., :9, :9], maps[..., :9, :9]{options})"
    used = peak(inputs=inputs, small=small, call=f"lpprop.region_vote(logits, {regions}{options})")
    chunks = 2 * 32 if regions == "masks" else 0  # one that is read, and one before it
    assert used < scores * 40 + chunks + 5 * 4.2 + 10 < VOTE_BOUND


# --------------------------------------------------------------------------- discrepancy

# 48 x 48 patches: one N x N float32 matrix is 21 MB, a (C, N) one of 150 classes 1.4 MB; a
# (C, N, N) plan would be 3.2 GB.
SQUARE, CLASSES = 21.2, 1.4
LARGE = "f, A = torch.rand(1, 150, 2304).softmax(-1), torch.rand(1, 2304, 2304).softmax(-1)"
UNEVEN = "f, A = torch.rand(1, 150, 2304).softmax(-1), torch.rand(1, 2304, 2304)"
# Of 32 x 32 patches: 4.2 MB each in float32, 67 MB all.
HEADS, HEAD = "A = torch.rand(1, 16, 1024, 1024)", 4.2
BATCH = "f, A = torch.rand(8, 2, 1024).softmax(-1), torch.rand(8, 1024, 1024, dtype=torch.half)"


class Case(NamedTuple):
    inputs: str
    small: str
    call: str
    limit: float
    # What is taken beside matrices of N x N, which alone are forecast.
    beside: float


DISCREPANCIES = {
    # The kernel, and (C, N) some times over; its product with the cost comes in blocks of 4 MB.
    "path": Case(
        LARGE,
        "lpprop.optimal_path(f[..., :9].softmax(-1), A[:, :9, :9])",
        "lpprop.optimal_path(f, A)",
        SQUARE + 20 * CLASSES,
        5,
    ),
    # The same beside the turned cost.
    "complement": Case(
        LARGE,
        "lpprop.optimal_path(f[..., :9].softmax(-1), A[:, :9, :9])",
        "lpprop.optimal_path(f, A, complement=True, iterations=5)",
        2 * SQUARE + 20 * CLASSES,
        5,
    ),
    # Kernel and exponents in float64, beside the turned cost.
    "complement in float64": Case(
        UNEVEN,
        "lpprop.optimal_path(f[..., :9].softmax(-1), A[:, :9, :9], epsilon=1e-2)",
        "lpprop.optimal_path(f, A, epsilon=1e-2, complement=True, iterations=2)",
        5 * SQUARE + 20 * 2 * CLASSES,
        5,
    ),
    # In float64, and of the sums that are taken in logarithms some, up to 16 MB at a time.
    "path in logarithms": Case(
        UNEVEN,
        "lpprop.optimal_path(f[..., :9].softmax(-1), A[:, :9, :9], epsilon=1e-3)",
        "lpprop.optimal_path(f, A, epsilon=1e-3, iterations=2)",
        2 * SQUARE + 20 * 2 * CLASSES + 4 * 16,
        4 * 16,
    ),
    # Kernel, product with the cost, and gradients of both, in float64.
    "gradient of the path in the cost": Case(
        UNEVEN.replace("150", "3") + "; A.requires_grad_()",
        "lpprop.optimal_path(f[..., :9].softmax(-1), A[:, :9, :9], epsilon=1e-2).sum().backward()",
        "lpprop.optimal_path(f, A, epsilon=1e-2, iterations=3).sum().backward()",
        16 * SQUARE,
        5,
    ),
    # The kernel's product with the cost is kept.
    "gradient of the path in the distribution": Case(
        LARGE.replace("150", "3") + "; f.requires_grad_()",
        "lpprop.optimal_path(f[..., :9].softmax(-1), A[:, :9, :9]).sum().backward()",
        "lpprop.optimal_path(f, A, iterations=3).sum().backward()",
        2 * SQUARE + 10,
        10,
    ),
    # T before and after the columns are scaled, and gradients.
    "gradient of the velocity in the attention": Case(
        LARGE.replace("150", "3") + "; A.requires_grad_()",
        "lpprop.max_velocity(f[..., :9], A[:, :9, :9]).sum().backward()",
        "lpprop.max_velocity(f, A).sum().backward()",
        4 * SQUARE + 10,
        10,
    ),
    # T, and (C, N) some times over.
    "velocity": Case(
        LARGE,
        "lpprop.max_velocity(f[..., :9], A[:, :9, :9])",
        "lpprop.max_velocity(f, A)",
        SQUARE + 10 * CLASSES,
        10 * CLASSES,
    ),
    # An item in float32, and its T.
    "velocity of a batch in half": Case(
        BATCH,
        "lpprop.max_velocity(f[..., :9], A[:, :9, :9])",
        "lpprop.max_velocity(f, A)",
        2.5 * HEAD,
        5,
    ),
    # The attention, and the cosines that it is made of.
    "attention of features": Case(
        "x = torch.rand(1, 64, 48, 48)",
        "lpprop.attention_from_features(x[..., :3, :3])",
        "lpprop.attention_from_features(x)",
        2 * SQUARE + 5,
        5,
    ),
    # Two matrices: the sum before a head and after it. All heads once more would be 67 MB.
    "heads": Case(
        HEADS,
        "lpprop.aggregate_attention([A[..., :9, :9]])",
        "lpprop.aggregate_attention([A])",
        2.5 * HEAD,
        5,
    ),
    # The sum of the blocks too, and a head in float32.
    "blocks in half": Case(
        "A = torch.rand(1, 16, 1024, 1024, dtype=torch.half)",
        "lpprop.aggregate_attention([A[..., :9, :9]])",
        "lpprop.aggregate_attention([A] * 4)",
        4.5 * HEAD,
        5,
    ),
    # The cosines of a batch and their softmax.
    "attention of a batch of features": Case(
        "x = torch.rand(8, 16, 32, 32)",
        "lpprop.attention_from_features(x[..., :3, :3])",
        "lpprop.attention_from_features(x)",
        16 * HEAD + 5,
        5,
    ),
    # The same: what the step adds for one item is less than the cosines that are gone by then.
    "velocity of a batch of features": Case(
        "x, l, image = (torch.rand(8, channels, 32, 32) for channels in (16, 2, 3))",
        "lpprop.refine(l[..., :9, :9], x[..., :9, :9], image, method='max_velocity')",
        "lpprop.refine(l, x, image, method='max_velocity')",
        16 * HEAD + 5,
        5,
    ),
}


@pytest.mark.parametrize("name", DISCREPANCIES)
def test_discrepancies_take_a_few_square_matrices_and_forecast_them(name, monkeypatch):
    case = DISCREPANCIES[name]
    used = peak(inputs=case.inputs, small=case.small, call=case.call)
    assert used < case.limit

    monkeypatch.setattr("lpprop._core.memory.available_bytes", lambda device: 0)
    names = {"torch": torch, "lpprop": lpprop}
    exec(case.inputs, names)
    with pytest.raises(lpprop.InputError, match="matrices need") as refused:
        eval(case.call, names)
    forecast = float(re.search(r"need ([\d.e-]+) GiB", str(refused.value))[1]) * 1024
    assert used < forecast + case.beside


@pytest.mark.parametrize("backend", ["torch", "llvm"])
def test_joint_bilateral_upsampling_gathers_no_neighbourhoods_and_is_forecast(backend, monkeypatch):
    # The scores are 22.5 MB, so are all blocks of pixels together; a block's weights are 4 MB. A
    # copy per neighbour, 49 of them, would be 1.1 GB.
    if backend == "llvm":
        pytest.importorskip("llvmlite")
    inputs = "x, image = torch.rand(1, 21, 28, 37), torch.rand(1, 3, 448, 597)"
    options = f"backend={backend!r}"
    call = f"lpprop.joint_bilateral_upsample(x, image, {options})"
    used = peak(
        inputs=inputs,
        small=f"lpprop.joint_bilateral_upsample(x[..., :3, :3], image[..., :16, :16], {options})",
        call=call,
    )
    assert used < 2 * 22.5 + 5 * 4
    names = {"torch": torch, "lpprop": lpprop}
    exec(inputs, names)
    forecast = forecast_of(call, names, monkeypatch)
    assert 0.8 * forecast - SMALL < used < 1.1 * forecast + SMALL


def test_an_upsampling_that_does_not_fit_is_refused_before_any_step(monkeypatch):
    monkeypatch.setattr("lpprop._core.memory.available_bytes", lambda device: 2**30)
    image = torch.full((1, 3, 1, 1), 0.5).expand(1, 3, 3000, 4000)
    steps = []
    chain = lpprop.Chain(lambda logits: steps.append(1) or logits, lpprop.JointBilateralUpsample())
    with pytest.raises(lpprop.InputError, match="21 classes of 3000 x 4000 pixels, whose upsam"):
        chain(torch.rand(1, 21, 24, 32), image=image)
    assert steps == []


def test_the_memory_that_is_free():
    available = lpprop._core.memory.available_bytes(torch.device("cpu"))
    assert 2**20 < available < 2**50
