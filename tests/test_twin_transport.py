"""Sinkhorn and the optimal path against the dense float64 twins, POT and closed forms."""

import warnings
from fractions import Fraction

import numpy as np
import ot
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import lpprop
import reference
import reference_dslo as twin
from lpprop.numerics.gibbs import GibbsKernel
from lpprop.numerics.sinkhorn import sinkhorn

# Costs of 0, and an epsilon far below the costs, are told; they are computed right all the same.
pytestmark = [
    pytest.mark.filterwarnings("ignore:cost. after:lpprop.InputWarning"),
    pytest.mark.filterwarnings("ignore:distribution. the path of:lpprop.InputWarning"),
]

# Each half step rounds exponents of up to 60 (beyond, float64 takes over), and Sinkhorn's map does
# not expand errors (Birkhoff): 60 roundings of float32 are 4e-6, of which the mean over the plan
# leaves a few. In float64 the exponents of the plain twin reach 700: 1e-13, over 50 updates.
TOLERANCE = {torch.float64: 1e-11, torch.float32: 1e-5}
DTYPES = pytest.mark.parametrize("dtype", TOLERANCE, ids=["float64", "float32"])
seeds = st.integers(0, 2**31)


def rounded(array):
    return array.astype(np.float32).astype(np.float64)


def distributions(seed, B=1, C=3, N=8, zeros=False):
    """Random rows; with zeros, about half of the patches of each, never all."""
    rng = np.random.default_rng(seed)
    f = rng.random((B, C, N)) + 0.05
    if zeros:
        keep = rng.random((B, C, N)) < 0.5
        keep[..., 0] |= ~keep.any(-1)
        f = f * keep
    return f / f.sum(-1, keepdims=True)


def costs(seed, kind="uniform", B=1, N=8):
    """Uniform in [0, 1], or attention: a softmax of cosines, most entries near 0."""
    rng = np.random.default_rng(seed + 1000)
    if kind == "uniform":
        return rounded(rng.random((B, N, N)))
    feats = rng.normal(size=(B, 4, 1, N))
    return rounded(twin.attention_from_features(feats, 0.1))


def path(f, cost, dtype=torch.float64, **options):
    f, cost = (torch.as_tensor(x).to(dtype) for x in (f, cost))
    got = lpprop.optimal_path(f, cost, **options)
    assert got.dtype == dtype
    return got


def error(got, expected):
    got = np.asarray(got.detach().double() if isinstance(got, torch.Tensor) else got)
    return reference.class_error(got[..., None, :], np.asarray(expected)[..., None, :])


def check(f, cost, dtype=torch.float64, tolerance=None, plan=twin.transport_plan, **options):
    got = path(f, cost, dtype, **options)
    expected = twin.optimal_path(f, cost, plan=plan, **options)
    assert error(got, expected) <= (tolerance or TOLERANCE[dtype])
    return got


def plans(result, f, cost, epsilon):
    """The full plans (C, N, N) that the potentials stand for, in float64."""
    alpha, beta = (x.detach().double() for x in result.value)
    exponent = alpha[:, :, None] + beta[:, None, :] - torch.as_tensor(cost) / epsilon
    f = torch.as_tensor(f)[:, :, None]
    return torch.where(f > 0, f * exponent.exp(), 0.0)


@pytest.fixture
def fallback(monkeypatch):
    """The number of sums that were taken again in the log domain, as a list of counts."""
    taken = []
    terms = GibbsKernel._recompute_terms

    def counted(self, weights, potential, lost, *, transposed):
        taken.append(int(lost.sum()))
        return terms(self, weights, potential, lost, transposed=transposed)

    monkeypatch.setattr(GibbsKernel, "_recompute_terms", counted)
    return taken


# --------------------------------------------------------------------------- against the twin


@DTYPES
@pytest.mark.parametrize("kind", ["uniform", "attention"])
@pytest.mark.parametrize("epsilon", [0.01, 0.1, 1.0, 10.0])
def test_twin(epsilon, kind, dtype):
    check(distributions(0, B=2), costs(0, kind, B=2), dtype, epsilon=epsilon)


def test_defaults():
    """Nothing but a distribution and a cost: the twin's own defaults are those of the equations."""
    check(distributions(1), costs(1))


@DTYPES
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 2, 1), (1, 1, 2), (2, 1, 5), (1, 9, 4)], ids=str)
def test_shapes(shape, dtype):
    B, C, N = shape
    check(distributions(2, B, C, N), costs(2, B=B, N=N), dtype)


@DTYPES
@pytest.mark.parametrize("iterations", [1, 2, 3, 10])
def test_updates_in_the_order_of_the_equation(iterations, dtype):
    """mu first, from nu = 1: before convergence the order shows."""
    check(distributions(3), costs(3), dtype, iterations=iterations, epsilon=0.05)


@DTYPES
@pytest.mark.parametrize("complement", [False, True])
@pytest.mark.parametrize("norm", ["none", "image", "class", "sum"])
def test_options(norm, complement, dtype):
    f = distributions(4, B=2, zeros=True)
    f[1, 2] = 0
    # u less a sum that is nearly u: what is left is a tenth or more of it here.
    tolerance = 10 * TOLERANCE[dtype] if complement else None
    check(f, costs(4, B=2), dtype, tolerance, norm=norm, complement=complement)


@pytest.mark.parametrize("epsilon", [1e-4, 1e-6])
def test_complement_at_a_small_epsilon(epsilon):
    f, cost = distributions(30, zeros=True), costs(30)
    check(f, cost, epsilon=epsilon, complement=True, plan=twin.transport_plan_log, tolerance=1e-8)


@DTYPES
@pytest.mark.parametrize("epsilon", [0.01, 0.1, 1.0])
def test_zeros_in_the_distribution(epsilon, dtype):
    check(distributions(5, C=6, zeros=True), costs(5), dtype, epsilon=epsilon)


@DTYPES
@pytest.mark.parametrize("epsilon", [1e-4, 0.01, 0.1, 10.0])
def test_one_single_patch(epsilon, dtype):
    """All mass in patch i: the plan is u in row i, whatever the cost, so path_j = u C_ij."""
    cost = costs(6)
    got = path(np.eye(8)[None], cost, dtype, epsilon=epsilon)
    assert error(got, cost / 8) <= TOLERANCE[dtype]


@DTYPES
def test_one_patch_in_all(dtype):
    got = path(np.ones((2, 3, 1)), np.array([[[0.3]], [[0.0]]]), dtype)
    np.testing.assert_allclose(got[:, :, 0], [[0.3] * 3, [0.0] * 3], rtol=1e-6)


@DTYPES
@pytest.mark.parametrize("kind", ["uniform", "attention"])
@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("epsilon", [1e-4, 1e-3, 0.01, 0.016, 0.02, 0.1, 1.0, 10.0])
def test_single_precision_agrees_for_any_epsilon(epsilon, zeros, kind, dtype):
    """Both precisions with the log-domain twin, below and above where the dtype must change."""
    f, cost = distributions(7, N=12, zeros=zeros), costs(7, kind, N=12)
    # Costs up to 1 over 1e-4 have 1e4 roundings of float64; of f in float32, 1/12 ulp.
    tolerance = max(TOLERANCE[dtype], 1e-15 / epsilon * 50)
    check(f, cost, dtype, tolerance, twin.transport_plan_log, epsilon=epsilon)


@pytest.mark.parametrize("kind", ["uniform", "attention"])
@pytest.mark.parametrize("iterations", [1, 2, 20])
@pytest.mark.parametrize("mass", ["full", "sparse", "faint"])
def test_the_smallest_epsilon(mass, iterations, kind, fallback):
    """At 1e-6 terms vanish in float64 too, and those sums are taken again by logarithms: where the
    patches that are near some column have no mass, or next to none."""
    f, cost = distributions(8, N=12), costs(8, kind, N=12)
    if mass != "full":
        f[..., 3:] = 0 if mass == "sparse" else 1e-290
        f /= f.sum(-1, keepdims=True)
    result = sinkhorn(*map(torch.tensor, (cost[0], f[0])), epsilon=1e-6, iterations=iterations)
    assert not result.kernel.safe
    # Exponents of up to 1e6 carry 1e-10 each half step.
    options = {"epsilon": 1e-6, "iterations": iterations}
    check(f, cost, tolerance=1e-8, plan=twin.transport_plan_log, **options)
    # Attention differs too little between patches for terms to vanish.
    assert sum(fallback) > 0 or mass == "full" or kind == "attention"


def test_the_fallback_after_many_updates(fallback):
    """With mass everywhere the potentials part by a few a step, until sums vanish there as well."""
    f, cost = distributions(0, C=1, N=12), costs(0, N=12)
    options = {"epsilon": 1e-6, "iterations": 600}
    check(f, cost, tolerance=1e-7, plan=twin.transport_plan_log, **options)
    assert sum(fallback) > 0


def test_large_costs(fallback):
    """What counts is C / epsilon."""
    f, cost = distributions(9, zeros=True), costs(9)
    got = path(f, 1e20 * cost, epsilon=1e8)
    expected = twin.optimal_path(f, cost, epsilon=1e-12, plan=twin.transport_plan_log)
    assert error(got / 1e20, expected) <= 1e-2
    assert sum(fallback) > 0


def test_negative_costs():
    """A constant more or less in the cost leaves the plan."""
    f, cost = distributions(10), costs(10)
    check(f, cost - 3.0, tolerance=1e-10)
    check(f, -cost)


# --------------------------------------------------------------------------- against POT


@pytest.mark.parametrize("kind", ["uniform", "attention"])
@pytest.mark.parametrize("method", ["sinkhorn", "sinkhorn_log"])
@pytest.mark.parametrize("epsilon", [0.05, 0.1, 1.0])
def test_pot(epsilon, method, kind):
    """Converged, both have the one plan with these marginals and the form diag K diag."""
    f, cost = distributions(11), costs(11, kind)
    u = np.full(8, 1 / 8)
    expected = [
        (ot.sinkhorn(row, u, cost[0], epsilon, method, 10000, 1e-13) * cost[0]).sum(0)
        for row in f[0]
    ]
    got = path(f, cost, epsilon=epsilon, iterations=10000)
    assert error(got[0], np.stack(expected)) <= 1e-10


@pytest.mark.parametrize("kind", ["uniform", "attention"])
@pytest.mark.parametrize("zeros", [False, True])
def test_pot_exact_transport_is_the_limit(zeros, kind):
    """0 <= <C, pi> - OT <= epsilon (H(pi) - H(pi*)) <= epsilon log N, as the entropies H of plans
    with these marginals lie between log N and log N + H(f)."""
    f, cost = distributions(12, C=2, N=6, zeros=zeros), costs(12, kind, N=6)
    u = np.full(6, 1 / 6)
    exact = np.array([ot.emd2(row, u, cost[0]) for row in f[0]])
    for epsilon in (0.1, 0.01):
        result = sinkhorn(
            *map(torch.tensor, (cost[0], f[0])), epsilon=epsilon, iterations=4000, tol=1e-9
        )
        assert result.converged.all()
        total = (
            path(f, cost, epsilon=epsilon, iterations=int(result.iterations.max()))[0]
            .sum(1)
            .numpy()
        )
        assert (total >= exact - 1e-8).all()
        assert (total <= exact + epsilon * np.log(6) + 1e-8).all()


# --------------------------------------------------------------------------- the solver's word


@pytest.mark.parametrize("iterations", [1, 2, 3, 200])
@pytest.mark.parametrize("epsilon", [1e-3, 0.05, 1.0])
@pytest.mark.parametrize("zeros", [False, True])
@DTYPES
def test_marginals_and_residual(zeros, epsilon, iterations, dtype):
    """Of the full plan made from the potentials: columns hold, rows are off by the residual."""
    f, cost = distributions(13, C=4, zeros=zeros)[0], costs(13)[0]
    result = sinkhorn(
        torch.tensor(cost, dtype=dtype),
        torch.tensor(f, dtype=dtype),
        epsilon=epsilon,
        iterations=iterations,
    )
    held = torch.tensor(f, dtype=dtype).double()
    pi = plans(result, held, cost, epsilon)
    eps = torch.finfo(dtype).eps
    # Exponents of float32 stay below 60; above, and in float64, those of float64 reach 1/epsilon.
    slack = 8 * (60 if dtype == torch.float32 else 1 / epsilon + 60) * eps
    np.testing.assert_allclose(pi.sum(1), np.full((4, 8), 1 / 8), rtol=slack)
    residual = (pi.sum(2) - held).abs().sum(1)
    np.testing.assert_allclose(result.residual.double(), residual, atol=slack)
    assert result.residual.shape == result.converged.shape == (4,)
    assert torch.equal(result.converged, result.residual <= 8 * eps)
    assert (result.iterations <= iterations).all()
    assert (result.iterations[~result.converged] == iterations).all()
    np.testing.assert_allclose(pi.sum(2)[result.converged], held[result.converged], atol=slack)


def test_iterations_and_tolerance():
    """Each class stops at its first update that is within the tolerance, by the twin's plans."""
    f, cost, epsilon = distributions(14)[0], costs(14)[0], 0.2
    found = np.array(
        [
            [
                np.abs(
                    twin.transport_plan(cost, row, epsilon=epsilon, iterations=count).sum(1) - row
                ).sum()
                for count in range(1, 30)
            ]
            for row in f
        ]
    )
    args = [torch.tensor(cost), torch.tensor(f)]
    for tol in (0.1, 1e-2, 1e-4):
        first = (found <= tol).argmax(1) + 1
        assert first.max() > 1
        result = sinkhorn(*args, epsilon=epsilon, tol=tol, iterations=50)
        assert result.iterations.tolist() == first.tolist()
        assert result.converged.all()
        expected = found[np.arange(len(f)), first - 1]
        np.testing.assert_allclose(result.residual, expected, atol=1e-12)
        short = sinkhorn(*args, epsilon=epsilon, tol=tol, iterations=int(first.max()) - 1)
        assert short.converged.tolist() == (first < first.max()).tolist()
    assert len(set(first.tolist())) > 1


def test_classes_that_stop_early_do_not_touch_the_others():
    """Together or alone, each distribution has the same potentials, after the same updates."""
    f, cost = distributions(14, C=6)[0], torch.tensor(costs(14)[0])
    f[[1, 4]] = np.eye(f.shape[1])[[2, 5]]
    options = {"epsilon": 0.1, "iterations": 300, "tol": 1e-6}
    together = sinkhorn(cost, torch.tensor(f), **options)
    assert len(set(together.iterations.tolist())) > 2
    for row, (alpha, beta, steps) in enumerate(
        zip(*together.value, together.iterations, strict=True)
    ):
        alone = sinkhorn(cost, torch.tensor(f[row : row + 1]), **options)
        assert int(alone.iterations) == int(steps)
        torch.testing.assert_close(alone.value[0][0], alpha, rtol=0, atol=1e-12)
        torch.testing.assert_close(alone.value[1][0], beta, rtol=0, atol=1e-12)


def test_each_class_has_its_own_word():
    """The single patch is transported at once, the mixture is not."""
    f = np.stack([np.eye(8)[2], distributions(15)[0, 0]])
    result = sinkhorn(torch.tensor(costs(15)[0]), torch.tensor(f), epsilon=0.02, iterations=2)
    assert result.converged.tolist() == [True, False]


def test_stopping_early_changes_nothing():
    """Once converged, a larger budget gives the same path, in as many steps."""
    f, cost = (torch.tensor(x) for x in (distributions(16)[0], costs(16)[0]))
    first, second = (sinkhorn(cost, f, epsilon=1.0, iterations=n) for n in (200, 5000))
    assert torch.equal(first.iterations, second.iterations)
    assert (first.iterations < 200).all()
    assert torch.equal(first.value[0], second.value[0])


# --------------------------------------------------------------------------- closed forms


@DTYPES
@pytest.mark.parametrize("complement", [False, True])
@pytest.mark.parametrize("epsilon", [1e-4, 0.1, 10.0])
@pytest.mark.parametrize("value", [0.0, 0.25, 0.75, 1.0])
def test_constant_cost(value, epsilon, complement, dtype):
    """The columns of the plan sum to u: the path is u C."""
    f = distributions(17, zeros=True)
    got = path(f, np.full((1, 8, 8), value), dtype, epsilon=epsilon, complement=complement)
    np.testing.assert_allclose(got, np.full((1, 3, 8), value / 8), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("epsilon", [0.02, 0.1, 1.0])
def test_uniform_and_circulant(epsilon):
    """K of a circulant cost has equal sums: the plan is K / (N sum of a row), after one update."""
    ring = np.minimum(np.arange(7), 7 - np.arange(7)) / 3
    cost = np.stack([np.roll(ring, i) for i in range(7)])
    K = np.exp(-ring / epsilon)
    expected = (K * ring).sum() / (7 * K.sum())
    for iterations in (1, 50):
        got = path(np.full((1, 1, 7), 1 / 7), cost[None], epsilon=epsilon, iterations=iterations)
        np.testing.assert_allclose(got, np.full((1, 1, 7), expected), rtol=1e-11)


@pytest.mark.parametrize("epsilon", [0.1, 1.0])
def test_uniform_and_symmetric(epsilon):
    """A symmetric K between equal marginals has a symmetric plan: what leaves each patch costs
    what arrives there."""
    cost = costs(18)[0]
    cost = cost + cost.T
    f = np.full((1, 8), 1 / 8)
    result = sinkhorn(torch.tensor(cost), torch.tensor(f), epsilon=epsilon, iterations=5000)
    assert result.converged.all()
    pi = plans(result, f, cost, epsilon)[0].numpy()
    np.testing.assert_allclose(pi, pi.T, rtol=1e-11)
    got = path(f[None], cost[None], epsilon=epsilon, iterations=5000)
    np.testing.assert_allclose(got[0, 0], (pi * cost).sum(1), rtol=1e-11)


@DTYPES
@pytest.mark.parametrize("epsilon", [0.05, 0.3, 1.0, 10.0])
@pytest.mark.parametrize("a", [0.5, 0.8, 0.99])
def test_two_patches(a, epsilon, dtype):
    """The cross ratio of the plan is that of K, q = exp(2 / epsilon): with y = pi_10,
    (1/2 - y)(1 - a - y) = q (a - 1/2 + y) y."""
    q = np.exp(2 / epsilon)
    A, B, C = q - 1, 1.5 - a + q * (a - 0.5), (1 - a) / 2
    y = 2 * C / (B + np.sqrt(B * B + 4 * A * C))
    got = path([[[a, 1 - a]]], [[[0.0, 1.0], [1.0, 0.0]]], dtype, epsilon=epsilon, iterations=5000)
    # It stops at a residual of 8 roundings of the dtype.
    np.testing.assert_allclose(got[0, 0], [y, a - 0.5 + y], atol=16 * torch.finfo(dtype).eps)


# --------------------------------------------------------------------------- invariants


@given(seed=seeds, C=st.integers(1, 5), data=st.data())
def test_class_permutation(seed, C, data):
    f, cost = distributions(seed, C=C, zeros=True), costs(seed)
    order = data.draw(st.permutations(range(C)))
    assert error(path(f[:, order], cost), path(f, cost)[:, order]) <= 1e-12


@given(seed=seeds, data=st.data())
def test_patch_permutation(seed, data):
    f, cost = distributions(seed, zeros=True), costs(seed)
    order = data.draw(st.permutations(range(8)))
    moved = path(f[..., order], cost[:, order][:, :, order])
    assert error(moved, path(f, cost)[..., order]) <= 1e-11


@pytest.mark.parametrize("epsilon", [1e-6, 0.1, 1.0])
def test_a_class_alone_and_a_batch_as_a_loop(epsilon):
    f, cost = distributions(29, B=3, zeros=True), costs(29, B=3)
    together = path(f, cost, epsilon=epsilon)
    for b in range(3):
        item = path(f[b : b + 1], cost[b : b + 1], epsilon=epsilon)
        assert torch.equal(item, together[b : b + 1])
        alone = path(f[b : b + 1, :1], cost[b : b + 1], epsilon=epsilon)
        assert error(alone, together[b : b + 1, :1]) <= max(1e-12, 1e-15 / epsilon)


@given(seed=seeds, exponent=st.integers(-20, 20), iterations=st.sampled_from([1, 3, 50]))
def test_homogeneous_in_cost_and_epsilon(seed, exponent, iterations):
    """C / epsilon alone makes the plan. Powers of two scale without rounding."""
    f, cost = distributions(seed), costs(seed)
    factor = 2.0**exponent
    plain = path(f, cost, epsilon=0.25, iterations=iterations)
    scaled = path(f, factor * cost, epsilon=factor * 0.25, iterations=iterations)
    assert error(scaled, factor * plain) <= 1e-11


@given(seed=seeds)
def test_row_and_column_offsets_leave_the_plan(seed):
    """At convergence r_i + c_j more in the cost is taken up by the potentials: the path is linear
    in it, path_j + sum_i pi_ij r_i + u c_j."""
    f, cost = distributions(seed)[0], costs(seed)[0]
    r, c = np.random.default_rng(seed).random((2, 8))
    converged = {"epsilon": 0.3, "iterations": 5000}
    pi = plans(sinkhorn(torch.tensor(cost), torch.tensor(f), **converged), f, cost, 0.3)
    moved = path(f[None], (cost + r[:, None] + c)[None], **converged)[0]
    plain = path(f[None], cost[None], **converged)[0]
    expected = plain + torch.einsum("kij,i->kj", pi, torch.tensor(r)) + torch.tensor(c) / 8
    assert error(moved, expected) <= 1e-11


@pytest.mark.parametrize("epsilon", [0.02, 0.1])
@pytest.mark.parametrize("iterations", [1, 3, 50])
def test_linear_in_the_cost_where_the_plan_is_held(iterations, epsilon):
    """sum_i pi_ij C_ij by the potentials' plan equals the path, and by the solver's kernel it is
    linear in the cost, which stands apart from the weights."""
    f, cost = distributions(19, zeros=True), costs(19)
    g, h = torch.tensor(f[0]), torch.tensor(cost[0])
    result = sinkhorn(h, g, epsilon=epsilon, iterations=iterations)
    pi = plans(result, f[0], cost[0], epsilon)
    got = path(f, cost, epsilon=epsilon, iterations=iterations)[0]
    assert error(got, (pi * h).sum(1)) <= 1e-11
    kernel, (alpha, beta) = result.kernel, result.value
    others = [torch.tensor(costs(seed)[0]) for seed in (20, 21)]
    means = []
    for other in (*others, 2 * others[0] - 3 * others[1]):
        kernel.cost = other
        means.append(kernel.mean_cost(g, alpha, -beta - np.log(len(h))))
        assert error(means[-1], (pi * other).sum(1) / pi.sum(1)) <= 1e-11
    np.testing.assert_allclose(means[2], 2 * means[0] - 3 * means[1], atol=1e-12)


@given(seed=seeds, epsilon=st.sampled_from([1e-5, 1e-3, 0.1, 10.0]))
def test_within_the_range_of_the_cost(seed, epsilon):
    """u times a mean of a column's costs."""
    f, cost = distributions(seed, zeros=True), costs(seed)
    got = path(f, cost, epsilon=epsilon)[0].numpy() * 8
    assert (got >= cost[0].min(0) - 1e-12).all()
    assert (got <= cost[0].max(0) + 1e-12).all()


@DTYPES
@pytest.mark.parametrize("complement", [False, True])
@pytest.mark.parametrize("epsilon", [1e-4, 0.1])
def test_rejected_rows(epsilon, complement, dtype):
    """Zeros give zeros, and the others are what they are without them."""
    f, cost = distributions(22, B=2, C=4), costs(22, B=2)
    options = {"epsilon": epsilon, "complement": complement}
    plain = path(f, cost, dtype, **options)
    f[0, 1] = f[1] = 0
    got = path(f, cost, dtype, **options)
    assert (got[0, 1] == 0).all()
    assert (got[1] == 0).all()
    assert error(got[0, [0, 2, 3]], plain[0, [0, 2, 3]].double()) <= TOLERANCE[dtype]


@pytest.mark.parametrize("norm", ["image", "class"])
def test_norms_keep_the_order_of_the_classes(norm):
    f, cost = distributions(23), costs(23)
    got, plain = path(f, cost, norm=norm), path(f, cost)
    if norm == "image":
        assert torch.equal(got.argmax(1), plain.argmax(1))
        assert got.max() == 1
    else:
        assert (got.amax(2) == 1).all()


# --------------------------------------------------------------------------- gradients


@pytest.mark.parametrize(
    "options",
    [
        {"epsilon": 0.1},
        {"epsilon": 1.0},
        {"complement": True},
        {"norm": "sum"},
        {"norm": "image"},
        {"norm": "class"},
    ],
    ids=str,
)
def test_gradients(options):
    f = torch.tensor(distributions(24, C=2, N=4), requires_grad=True)
    cost = torch.tensor(costs(24, N=4), requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda f, cost: lpprop.optimal_path(f, cost, iterations=4, **options), (f, cost)
    )


def test_gradients_at_a_tiny_epsilon(fallback):
    """By logarithms, with mass at two of five patches. Steps of 1e-9 in the cost against an epsilon
    of 1e-4 err by 1e-10, roundings of 1e-16 by 1e-7, times 1 / epsilon."""
    f = torch.tensor(distributions(25, C=2, N=2), requires_grad=True)
    cost = torch.tensor(costs(25, N=5), requires_grad=True)

    def function(f, cost):
        f = torch.nn.functional.pad(f, (0, 3))
        return lpprop.optimal_path(f, cost, iterations=4, epsilon=1e-4)

    assert torch.autograd.gradcheck(function, (f, cost), eps=1e-9, atol=1e-3, rtol=1e-4)
    assert sum(fallback) > 0


def one_sided(function, f, i, step):
    """Second-order forward difference, which never leaves f >= 0."""
    moved = [f.clone() for _ in range(3)]
    for k in range(3):
        moved[k][..., i] += k * step
    a, b, c = (float(function(x)) for x in moved)
    return (-3 * a + 4 * b - c) / (2 * step)


def zero_gradient(f, cost, patches, *, tolerance, **options):
    """Compare the gradient at some patches, zeros above all, with one-sided differences."""
    weights = torch.linspace(1, 2, f.shape[-1], dtype=torch.float64).sin()

    def score(f):
        return (lpprop.optimal_path(f, cost, **options) * weights).sum()

    f.requires_grad_()
    (got,) = torch.autograd.grad(score(f), f)
    assert torch.isfinite(got).all()
    expected = [one_sided(score, f.detach(), i, 1e-6) for i in patches]
    assert max(abs(x) for i, x in zip(patches, expected, strict=True) if f[0, 0, i] == 0) > 1e-3
    np.testing.assert_allclose(got[0, 0, patches], expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("iterations", [1, 5, 50])
@pytest.mark.parametrize("epsilon", [0.1, 0.5])
def test_gradient_at_zeros(epsilon, iterations):
    """A patch without mass may receive some: the derivative to the right of 0."""
    f = torch.tensor(distributions(26, C=1, N=6, zeros=True))
    assert (f == 0).sum() >= 2
    cost = torch.tensor(costs(26, N=6))
    options = {"epsilon": epsilon, "iterations": iterations}
    zero_gradient(f, cost, list(range(6)), tolerance=1e-5, **options)


@pytest.mark.parametrize("iterations", [1, 4])
def test_gradient_at_zeros_at_a_tiny_epsilon(iterations, fallback):
    """Patches 3 to 5, which are empty, are like 0 to 2, which are full: up to an offset of the row,
    which mu takes up, and epsilon. Else a derivative is beyond any difference, since any mass at
    all would take over whole columns. So do 6 and 7, near every column, whose terms would be the
    largest: all others vanish beside them."""
    epsilon = 1e-4
    rng = np.random.default_rng(0)
    cost = 0.1 + 0.5 * costs(27, N=8)
    offset = np.array([[0.1], [0.25], [0.4]])
    cost[0, 3:6] = cost[0, :3] + offset + epsilon * rng.normal(size=(3, 8))
    cost[0, 6:] = [np.linspace(0, 0.1, 8), np.linspace(0.1, 0, 8)]
    f = torch.tensor([[[0.5, 0.3, 0.2, 0, 0, 0, 0, 0]]], dtype=torch.float64)
    options = {"epsilon": epsilon, "iterations": iterations}
    zero_gradient(f, torch.tensor(cost), list(range(6)), tolerance=1e-4, **options)
    assert sum(fallback) > 0


@DTYPES
@pytest.mark.parametrize("epsilon", [1e-6, 1e-4, 1e-3, 3e-3, 1e-2, 0.1])
def test_gradient_is_finite_at_zeros(epsilon, dtype):
    """The true one may be beyond the dtype, where any mass would take over whole columns; infinity
    times the 0 of a patch that NMS has left out would make every logit's gradient NaN."""
    for seed in range(28, 30):
        f = torch.tensor(distributions(seed, zeros=True), dtype=dtype)
        f[0, 1] = 0  # a rejected class beside it
        f.requires_grad_()
        cost = torch.tensor(costs(seed), dtype=dtype, requires_grad=True)
        lpprop.optimal_path(f, cost, epsilon=epsilon).square().sum().backward()
        assert torch.isfinite(f.grad).all()
        assert torch.isfinite(cost.grad).all()
        assert (f.grad[0, 1] == 0).all()


@DTYPES
@pytest.mark.parametrize("epsilon", [1e-4, 1e-3, 0.1])
def test_gradient_reaches_the_logits(epsilon, dtype):
    logits = torch.tensor(np.random.default_rng(31).normal(size=(1, 3, 2, 4)), dtype=dtype)
    logits.requires_grad_()
    f = lpprop.class_distribution(logits, nms=0.5)
    assert (f == 0).any()
    cost = torch.tensor(costs(31), dtype=dtype)
    lpprop.optimal_path(f, cost, epsilon=epsilon).square().sum().backward()
    assert torch.isfinite(logits.grad).all()
    assert logits.grad.abs().max() > 0


def test_sinkhorn_takes_numbers_of_numpy_and_fractions():
    """One more than the largest of 8 bits is 0 there."""
    f, cost = torch.tensor(distributions(0))[0], torch.tensor(costs(0))[0]
    options = {"iterations": np.uint8(255), "tol": Fraction(1, 10**6), "epsilon": Fraction(1, 20)}
    got = sinkhorn(cost, f, **options)
    expected = sinkhorn(cost, f, iterations=255, tol=1e-6, epsilon=0.05)
    assert torch.equal(got.iterations, expected.iterations)
    assert all(torch.equal(a, b) for a, b in zip(got.value, expected.value, strict=True))


# --------------------------------------------------------------------------- warnings


def told(call):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    assert all(each.category is lpprop.InputWarning for each in caught)
    assert all(each.filename == __file__ for each in caught)
    return [str(each.message) for each in caught]


def test_a_path_that_vanishes_is_told():
    """In half precision the smaller path is below the smallest number; a cost of 0 has none."""
    f = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]]).half()
    cost = torch.tensor([[[2.0, 2.0], [2e-8, 2e-8]]])
    (message,) = told(lambda: lpprop.optimal_path(f, cost))
    assert message.startswith("distribution: the path of class 1 of item 0 is 0 at every patch in")
    assert "(1 such classes)" in message
    assert told(lambda: lpprop.optimal_path(f.float(), cost)) == []
    assert len(told(lambda: lpprop.optimal_path(f.float(), 0 * cost))) == 1


def test_a_plan_far_from_the_distribution_is_told():
    f, cost = torch.tensor(distributions(0)), torch.tensor(costs(0))
    (message,) = told(lambda: lpprop.optimal_path(f, cost, epsilon=1e-4))
    residual = sinkhorn(cost[0], f[0], epsilon=1e-4).residual.max()
    assert residual > 0.5
    assert f"still has {residual / 2:.0%} of its mass" in message
    for options in ({}, {"epsilon": 1e-4, "iterations": 20}, {"epsilon": 0.01}):
        assert told(lambda options=options: lpprop.optimal_path(f, cost, **options)) == []
    attention = torch.tensor(costs(0, "attention"))
    for epsilon in (1e-3, 0.01, 0.1, 1.0, 10.0):
        assert told(lambda e=epsilon: lpprop.optimal_path(f, attention, epsilon=e)) == []
