"""`propagate_patches` against the dense float64 twin, on ordinary and on awkward shapes."""

from fractions import Fraction

import numpy as np
import pytest
import torch

import lpprop
import reference
from lpprop.kernels.portable import patches
from lpprop.numerics.cg import cg

STORAGES = ["auto", "dense", "csr", "torch-sparse"]
# float64 to 1e-9, float32 to 1e-5, each relative to the largest entry of a class.
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-5}
DTYPES = pytest.mark.parametrize("dtype", TOLERANCE, ids=["float64", "float32"])


@pytest.fixture(params=STORAGES)
def storage(request):
    if request.param == "torch-sparse":
        pytest.importorskip("torch_sparse")
    return request.param


def rounded(array):
    """The same values in float32 and float64, so that both precisions solve one problem."""
    return array.astype(np.float32).astype(np.float64)


def make(seed, B=1, C=3, D=8, h=4, w=5, k=400, joined=False):
    """Random logits and feats whose k nearest neighbours are beyond doubt in either precision.

    `joined`: among the patches of all items, as for windows.
    """
    rng = np.random.default_rng(seed)
    logits = rounded(rng.normal(size=(B, C, h, w)))
    for _ in range(1000):
        feats = rounded(rng.normal(size=(B, D, h, w)))
        graphs = [x.reshape(D, -1).T for x in feats]
        if joined:
            graphs = [np.concatenate(graphs)]
        if min(reference.neighbour_gap(x, k) for x in graphs) > 1e-5:
            return logits, feats
    raise AssertionError("no feats without near ties")


def check(logits, feats, dtype=torch.float64, *, storage="auto", exact=False, **options):
    """Compare with the twin; returns the refined scores."""
    expected = reference.propagate_patches(logits, feats, exact=exact, **options)
    got = lpprop.propagate_patches(
        torch.tensor(logits, dtype=dtype),
        torch.tensor(feats, dtype=dtype),
        storage=storage,
        **options,
    )
    assert got.dtype == dtype
    assert reference.class_error(got, expected) <= TOLERANCE[dtype]
    return got.double().numpy()


SHAPES = {
    "plain": ({}, {"k": 6}),
    "batch": ({"B": 3, "C": 2, "h": 3, "w": 4}, {"k": 5}),
    "tall": ({"h": 9, "w": 2}, {"k": 4}),
    "one-row": ({"h": 1, "w": 9}, {"k": 4}),
    "one-column": ({"h": 9, "w": 1}, {"k": 4}),
    "one-class": ({"C": 1}, {"k": 6}),
    "one-patch": ({"h": 1, "w": 1}, {"k": 1}),
    "one-patch-one-class": ({"B": 2, "C": 1, "h": 1, "w": 1}, {"k": 400}),
    "two-patches": ({"h": 1, "w": 2}, {"k": 2}),
    "one-channel": ({"D": 1}, {"k": 20}),
    "k-is-1": ({}, {"k": 1}),
    "k-is-2": ({}, {"k": 2}),
    "k-is-N": ({}, {"k": 20}),
    "k-above-N": ({"h": 3, "w": 3}, {"k": 400}),
    "many-classes": ({"C": 40, "h": 3, "w": 3}, {"k": 4}),
    "larger": ({"h": 8, "w": 9, "D": 16}, {"k": 12}),
}


@DTYPES
@pytest.mark.parametrize(("shape", "options"), SHAPES.values(), ids=SHAPES)
def test_shapes(shape, options, dtype, storage):
    check(*make(0, k=options["k"], **shape), dtype, storage=storage, **options)


def test_defaults():
    """Nothing but logits and feats: the twin's own defaults are those of the equations."""
    check(*make(1))


OPTIONS = {
    "gamma-1": {"gamma": 1.0},
    "gamma-7": {"gamma": 7.0},
    "gamma-half": {"gamma": 0.5},
    "sigma-0": {"sigma": 0.0},
    "sigma-large": {"sigma": 1.0},
    "alpha-0": {"alpha": 0.0},
    "alpha-half": {"alpha": 0.5},
    "alpha-0.99": {"alpha": 0.99},
    "patch-8": {"patch_size": 8},
    "patch-odd": {"patch_size": 7},
    "patch-1": {"patch_size": 1},
    "distance-squared": {"distance_power": 2.0, "sigma": 1e-3},
    "distance-root": {"distance_power": 0.5, "sigma": 0.1},
    "one-step": {"max_iter": 1},
    "three-steps": {"max_iter": 3},
    "stops-early": {"tol": 0.05},
    "stops-before-it-starts": {"tol": 1.0},
    "exponential": {"appearance": "exponential"},
    "exponential-sharp": {"appearance": "exponential", "sigma_a": 0.1},
    "linear": {"spatial": "linear"},
    "linear-cut": {"spatial": "linear", "sigma": 0.03},
    "linear-squared": {"spatial": "linear", "sigma": 1e-3, "distance_power": 2.0},
    "no-spatial": {"spatial": "none"},
    "exponential-linear": {"appearance": "exponential", "spatial": "linear"},
    "exponential-none": {"appearance": "exponential", "spatial": "none"},
}


@DTYPES
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_options(options, dtype, storage):
    check(*make(2, B=2, k=7), dtype, storage=storage, k=7, **options)


VARIANTS = [
    {"appearance": a, "spatial": s}
    for a in ("power", "exponential")
    for s in ("rbf", "linear", "none")
]


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: "-".join(v.values()))
def test_converged(variant, storage):
    """Enough steps reach the exact solution of (I − alpha Ŝ) Ŷ = Y."""
    converged = {"max_iter": 1000, "tol": 1e-12}
    check(*make(3, k=7), storage=storage, k=7, exact=True, **converged, **variant)


def test_converged_single_precision(storage):
    converged = {"max_iter": 1000, "tol": 1e-7}
    check(*make(3, k=7), torch.float32, storage=storage, k=7, exact=True, **converged)


# --------------------------------------------------------------------------- degenerate graphs


def unchanged(logits, feats, dtype, **options):
    """An edgeless graph has Ŝ = 0, so Ŷ = Y."""
    got = check(logits, feats, dtype, **options)
    np.testing.assert_allclose(got, logits, rtol=4 * torch.finfo(dtype).eps)


@DTYPES
def test_zero_feats_leave_the_logits(dtype, storage):
    """A zero feature has cosine 0 with everything, itself included."""
    logits, feats = make(4)
    unchanged(logits, np.zeros_like(feats), dtype, storage=storage, k=5)


@DTYPES
def test_zero_feats_under_the_exponential(dtype, storage):
    """exp(−1/sigma_a) between all patches: with k ≥ N no tie has to be broken."""
    logits, feats = make(4)
    check(logits, np.zeros_like(feats), dtype, storage=storage, appearance="exponential")


@DTYPES
def test_some_zero_feats(dtype, storage):
    logits, feats = make(5)
    feats[..., 1:3, 2:4] = 0
    check(logits, feats, dtype, storage=storage)
    # Truncated CG mixes all patches in its step sizes; a converged one leaves the isolated alone.
    got = check(logits, feats, dtype, storage=storage, max_iter=1000, tol=1e-7)
    np.testing.assert_allclose(got[..., 1:3, 2:4], logits[..., 1:3, 2:4], rtol=1e-5)


@DTYPES
def test_orthogonal_feats_disconnect_every_patch(dtype, storage):
    logits, _ = make(6, h=3, w=4)
    feats = np.eye(12).reshape(1, 12, 3, 4)
    unchanged(logits, feats, dtype, storage=storage, k=5)


@DTYPES
def test_opposite_feats_do_not_attract(dtype, storage):
    """max(x_i·x_j, 0): a cosine of −1 is no edge."""
    logits, _ = make(6, h=1, w=2)
    unchanged(logits, np.array([1.0, -1.0]).reshape(1, 1, 1, 2), dtype, storage=storage)


@DTYPES
def test_nothing_within_reach(dtype, storage):
    """The linear weight is cut to 0 beyond 1/sigma pixels, here less than one patch."""
    unchanged(*make(7), dtype, storage=storage, spatial="linear", sigma=1.0)


@DTYPES
def test_blocks_of_orthogonal_feats(dtype, storage):
    """Three unconnected groups; k reaches past each, but only to cosines 0, whose ties weigh 0."""
    logits, _ = make(8, h=3, w=6)
    group = np.arange(18).reshape(3, 6) % 3
    feats = np.moveaxis(np.eye(3)[group], -1, 0)[None] * np.linspace(1, 2, 18).reshape(3, 6)
    logits[0, 0][group != 1] = 0
    got = check(logits, rounded(feats), dtype, storage=storage, k=8)
    assert (got[0, 0][group != 1] == 0).all(), "scores crossed between unconnected groups"
    converged = {"max_iter": 1000, "tol": 1e-12 if dtype == torch.float64 else 1e-7}
    check(logits, rounded(feats), dtype, storage=storage, k=8, exact=True, **converged)


@DTYPES
@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: "-".join(v.values()))
def test_identical_feats_complete_graph(variant, dtype, storage):
    """All cosines are 1, and with k ≥ N every pair is an edge: the answer is unique."""
    logits, _ = make(9)
    feats = np.broadcast_to(np.arange(1.0, 9.0)[None, :, None, None], (1, 8, 4, 5))
    check(logits, feats, dtype, storage=storage, **variant)


@DTYPES
@pytest.mark.parametrize("k", [1, 2, 7, 19])
def test_identical_feats_few_neighbours(k, dtype, storage):
    """Which k of the tied patches count is open; these hold for every choice.

    The eigenvalues of Ŝ lie in [−1, 1], hence ‖Y‖/(1 + alpha) ≤ ‖Ŷ‖ ≤ ‖Y‖/(1 − alpha).
    (I − alpha Ŝ)⁻¹ = I + alpha Ŝ + … has no negative term, hence Ŷ ≥ Y where Y ≥ 0.
    """
    logits = np.abs(make(10)[0])
    feats = torch.ones(1, 8, 4, 5, dtype=dtype)
    converged = {"max_iter": 1000, "tol": 1e-7}
    got = lpprop.propagate_patches(
        torch.tensor(logits, dtype=dtype), feats, k=k, storage=storage, **converged
    ).double()
    norm, size = got.norm(dim=(2, 3)), torch.tensor(logits).norm(dim=(2, 3))
    slack = 1e-4
    assert (norm >= size / 1.95 * (1 - slack)).all()
    assert (norm <= size / 0.05 * (1 + slack)).all()
    assert (got.numpy() >= logits - slack).all()


@DTYPES
def test_duplicated_patches(dtype, storage):
    """Each feature occurs twice; k ≥ N keeps the answer unique."""
    logits, feats = make(11, h=4, w=6)
    feats[..., 3:] = feats[..., :3]
    check(logits, feats, dtype, storage=storage)


@DTYPES
def test_zero_logits_stay_zero(dtype, storage):
    """A class without evidence: CG must not divide by its zero residual, nor spoil others."""
    logits, feats = make(12, k=6)
    logits[0, 1] = 0
    got = check(logits, feats, dtype, storage=storage, k=6)
    assert (got[0, 1] == 0).all()


@DTYPES
def test_classes_that_stop_at_different_steps(dtype, storage):
    """Class 0 is an eigenvector and is done after one step, while the others go on."""
    logits, feats = make(13)
    rows = feats[0].reshape(8, -1).T
    S = reference.patch_graph(rows, reference.patch_centres(4, 5, 16))
    logits[0, 0] = np.sqrt(S.sum(axis=1)).reshape(4, 5)
    got = check(rounded(logits), feats, dtype, storage=storage)
    np.testing.assert_allclose(got[0, 0], logits[0, 0] / 0.05, rtol=1e-5)


# --------------------------------------------------------------------------- windows

WINDOWS = {
    "overlapping": ((64, 80), 48, 24),
    "touching": ((96, 96), 48, 48),
    "shifted-back": ((50, 75), 48, 32),
    "larger-than-image": ((40, 44), 48, 24),
    "wider-than-image": ((90, 40), 48, 24),
}


@DTYPES
@pytest.mark.parametrize("setting", WINDOWS.values(), ids=WINDOWS)
def test_windows(setting, dtype, storage):
    """One graph over the patches of all windows, each patch at its place in the image."""
    windows = lpprop.SlidingWindows(setting[0], window=setting[1], stride=setting[2])
    boxes = reference.window_boxes(*setting[0], *setting[1:])
    logits, feats = make(14, B=len(boxes), C=2, h=3, w=3, k=5, joined=True)
    options = {"k": 5, "storage": storage}
    expected = reference.propagate_patches(logits, feats, k=5, windows=boxes)
    tensors = [torch.tensor(x, dtype=dtype) for x in (logits, feats)]
    for given in (windows, torch.from_numpy(boxes)):
        got = lpprop.propagate_patches(*tensors, windows=given, **options)
        assert reference.class_error(got, expected) <= TOLERANCE[dtype]


@DTYPES
def test_one_window_is_no_window(dtype, storage):
    """Only differences of places count, so one window anywhere equals no window."""
    logits, feats = make(15, k=6)
    tensors = [torch.tensor(x, dtype=dtype) for x in (logits, feats)]
    plain = lpprop.propagate_patches(*tensors, k=6, storage=storage)
    boxes = torch.tensor([[100, 164, 200, 280]])
    windowed = lpprop.propagate_patches(*tensors, k=6, windows=boxes, storage=storage)
    assert reference.class_error(windowed, plain) <= TOLERANCE[dtype]


@DTYPES
def test_identical_windows(dtype, storage):
    """The same window twice: patches at distance 0 of another patch, with cosine 1."""
    logits, feats = make(16, h=3, w=3)
    logits, feats = np.concatenate([logits] * 2), np.concatenate([feats] * 2)
    boxes = torch.tensor([[0, 48, 0, 48]] * 2)
    # Half of the eigenvectors are antisymmetric and absent from Y: the Krylov space is exhausted
    # after 9 steps, and steps near that are all rounding. So few steps, or enough of them.
    check(logits, feats, dtype, storage=storage, windows=boxes, max_iter=3)
    tol = 1e-12 if dtype == torch.float64 else 1e-7
    converged = {"max_iter": 1000, "tol": tol, "exact": True}
    got = check(logits, feats, dtype, storage=storage, windows=boxes, **converged)
    assert reference.class_error(got[0], got[1]) <= 2 * TOLERANCE[dtype]


@DTYPES
def test_windows_in_any_order(dtype, storage):
    boxes = torch.tensor(reference.window_boxes(64, 80, 48, 24))
    logits, feats = make(17, B=len(boxes), h=3, w=3, k=6, joined=True)
    order = np.random.default_rng(0).permutation(len(boxes))
    got = check(logits, feats, dtype, storage=storage, k=6, windows=boxes)
    shuffled = check(logits[order], feats[order], dtype, storage=storage, k=6, windows=boxes[order])
    assert reference.class_error(shuffled, got[order]) <= TOLERANCE[dtype]


# --------------------------------------------------------------------------- storages


@DTYPES
@pytest.mark.parametrize("k", [3, 20, 144, 400])
def test_storages_agree(k, dtype, storage):
    """A graph large enough that the storages differ in layout, at every density."""
    logits, feats = make(18, B=2, C=5, D=32, h=12, w=12, k=k)
    tensors = [torch.tensor(x, dtype=dtype) for x in (logits, feats)]
    dense = lpprop.propagate_patches(*tensors, k=k, storage="dense")
    got = lpprop.propagate_patches(*tensors, k=k, storage=storage)
    assert reference.class_error(got, dense) <= TOLERANCE[dtype]


@DTYPES
@pytest.mark.parametrize("few", [0, 60])
def test_graphs_of_few_nodes_and_of_many_are_compressed_to_the_same(few, dtype, monkeypatch):
    """Those of few nodes by way of a matrix, others by SciPy."""
    monkeypatch.setattr(patches, "_FEW_NODES", few)
    generator = torch.Generator().manual_seed(0)
    weights = torch.rand(60, 7, generator=generator, dtype=dtype)
    weights[3:5] = 0
    neighbours = torch.rand(60, 60, generator=generator).argsort(1)[:, :7]
    both = torch.zeros(60, 60, dtype=dtype)
    for i, j in np.ndindex(60, 7):
        both[i, neighbours[i, j]] += weights[i, j]
        both[neighbours[i, j], i] += weights[i, j]
    crow, col, values = patches.symmetric_csr(neighbours, weights)
    found = torch.zeros(60, 60, dtype=dtype)
    for i, (start, end) in enumerate(zip(crow[:-1].tolist(), crow[1:].tolist(), strict=True)):
        found[i, col[start:end].long()] = values[start:end]
    assert torch.equal(found, both)
    assert len(values) == both.count_nonzero()


def test_the_solver_takes_numbers_of_numpy_and_fractions():
    A = torch.tensor([[4.0, 1.0], [1.0, 3.0]])
    b = torch.tensor([[1.0, 2.0]])
    options = {"tol": Fraction(1, 10), "max_iter": np.uint8(255)}
    got, expected = cg(lambda x: x @ A, b, **options), cg(lambda x: x @ A, b, tol=0.1, max_iter=255)
    assert torch.equal(got.value, expected.value)
    assert got.iterations.tolist() == expected.iterations.tolist()


# --------------------------------------------------------------------------- near alpha = 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("method", ["patches", "pixels", "compiled"])
def test_an_alpha_within_rounding_of_1_is_told(method, dtype):
    """The solution is off by percents, which no step can help; ten steps are what they are."""
    if method == "compiled":
        pytest.importorskip("llvmlite")
    generator = torch.Generator().manual_seed(0)
    logits = torch.rand(1, 3, 12, 12, generator=generator, dtype=torch.float64)
    guide = torch.rand(1, 3, 12, 12, generator=generator, dtype=torch.float64) / 20 + 0.5

    def refined(dtype, alpha, **options):
        x, y = logits.to(dtype), guide.to(dtype)
        if method == "patches":
            return lpprop.propagate_patches(x, y, alpha=alpha, **options)
        backend = "llvm" if method == "compiled" else "torch"
        return lpprop.propagate_pixels(x, y, alpha=alpha, backend=backend, **options)

    alpha = 1 - 8 * torch.finfo(dtype).eps
    with pytest.warns(lpprop.InputWarning, match="within a few roundings of 1") as caught:
        got = refined(dtype, alpha, max_iter=5000, tol=0)
    assert len(caught) == 1
    if dtype == torch.float32:
        exact = refined(torch.float64, alpha, max_iter=20000, tol=0)
        assert (got - exact).abs().max() > 1e-3 * exact.abs().max()
    refined(dtype, alpha)
    refined(dtype, 1 - 128 * torch.finfo(dtype).eps, max_iter=200)
