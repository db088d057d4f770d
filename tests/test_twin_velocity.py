"""`ipf` and `max_velocity` against scalar twins from the definition, and closed forms."""

import contextlib
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import lpprop
import reference_dslo as twin
from lpprop._core.errors import InputError
from lpprop.numerics.ipf import ipf

DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["double", "float"])
# Rounding of p, some 10 units after tens of products, over the rise at the crossing, which the
# inputs here keep above 1e-2: a time is off by 1e3 units, a velocity by no more.
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-4}
seeds = st.integers(0, 2**31)


def attentions(seed, B=1, N=8, sharp=2.0):
    """Random positive rows that sum to 1, far from doubly stochastic."""
    A = np.exp(sharp * np.random.default_rng(seed).normal(size=(B, N, N)))
    return A / A.sum(-1, keepdims=True)


def distributions(seed, B=1, C=3, N=8, zeros=True):
    rng = np.random.default_rng(seed + 1000)
    f = rng.random((B, C, N))
    if zeros:
        f[rng.random((B, C, N)) < 0.6] = 0
        f[..., 0] += f.sum(-1) == 0
    return f / f.sum(-1, keepdims=True)


def doubly_stochastic(seed, N=8, terms=4):
    """A mean of random permutation matrices, after Birkhoff."""
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet(np.ones(terms))
    return sum(w * np.eye(N)[rng.permutation(N)] for w in shares)


def velocity(f, A, dtype=torch.float64, **options):
    f, A = (torch.as_tensor(np.asarray(x)).to(dtype) for x in (f, A))
    got = lpprop.max_velocity(f, A, **options)
    assert got.dtype == dtype
    return got


def check(f, A, dtype=torch.float64, max_steps=60, **options):
    got = velocity(f, A, dtype, max_steps=max_steps, **options)
    expected = twin.max_velocity(f, A, max_steps=max_steps, **options)
    np.testing.assert_allclose(got.double(), expected, rtol=TOLERANCE[dtype])
    return got


# --------------------------------------------------------------------------- IPF


@DTYPES
@pytest.mark.parametrize("iterations", [1, 2, 3, 15])
@pytest.mark.parametrize("N", [1, 2, 7])
def test_ipf(N, iterations, dtype):
    A = attentions(0, N=N)[0]
    got = ipf(torch.tensor(A, dtype=dtype), iterations=iterations)
    eps = torch.finfo(dtype).eps
    np.testing.assert_allclose(got.value.double(), twin.ipf(A, iterations), rtol=30 * N * eps)


def test_ipf_by_hand():
    """Columns: [[3/4, 1/3], [1/4, 2/3]]; rows: sums 13/12 and 11/12."""
    got = ipf(torch.tensor([[3.0, 1.0], [1.0, 2.0]], dtype=torch.float64), iterations=1)
    np.testing.assert_allclose(got.value, [[9 / 13, 4 / 13], [3 / 11, 8 / 11]], rtol=1e-15)
    assert got.iterations == 1
    assert not got.converged
    np.testing.assert_allclose(got.column_error, 4 / 13 + 8 / 11 - 1, rtol=1e-13)
    assert got.row_error <= 1e-15


@DTYPES
@pytest.mark.parametrize("iterations", [1, 2, 5, 500])
def test_ipf_errors_are_those_of_the_matrix(iterations, dtype):
    got = ipf(torch.tensor(attentions(1, N=9)[0], dtype=dtype), iterations=iterations)
    T = got.value.double()
    eps = torch.finfo(dtype).eps
    row, column = ((T.sum(axis) - 1).abs().max() for axis in (1, 0))
    assert row <= 8 * eps
    np.testing.assert_allclose(float(got.row_error), row, atol=8 * eps)
    np.testing.assert_allclose(float(got.column_error), column, atol=8 * eps)
    assert got.residual == max(got.row_error, got.column_error)
    assert got.converged == (got.residual <= 8 * eps)
    if iterations < 5:
        assert column > 1e-3
        assert got.iterations == iterations
        assert not got.converged
    if iterations == 500:
        assert got.converged
        assert got.iterations < 500


def test_ipf_stops_at_the_tolerance():
    A = attentions(2)[0]
    errors = [np.abs(twin.ipf(A, count).sum(0) - 1).max() for count in range(1, 40)]
    for tol in (0.1, 1e-3, 1e-6):
        first = next(count for count, error in enumerate(errors, 1) if error <= tol)
        got = ipf(torch.tensor(A), iterations=100, tol=tol)
        assert got.iterations == first
        assert got.converged
        np.testing.assert_allclose(got.value, twin.ipf(A, first), rtol=1e-12)


def test_numbers_of_numpy_and_fractions():
    """One more than the largest of 8 bits is 0 there."""
    A = torch.tensor(attentions(2)[0])
    got = ipf(A, iterations=np.uint8(255), tol=Fraction(1, 1000))
    expected = ipf(A, iterations=255, tol=1e-3)
    assert got.iterations == expected.iterations
    assert torch.equal(got.value, expected.value)


@DTYPES
def test_doubly_stochastic_is_a_fixed_point(dtype):
    T = doubly_stochastic(3)
    got = ipf(torch.tensor(T, dtype=dtype), iterations=15)
    np.testing.assert_allclose(got.value, T, rtol=20 * torch.finfo(dtype).eps)
    assert got.converged
    assert got.iterations == 1


@DTYPES
@pytest.mark.parametrize("order", [[0, 1, 2, 3], [2, 0, 3, 1], [1, 0, 3, 2]], ids=str)
def test_permutations_are_unchanged(order, dtype):
    P = torch.eye(4, dtype=dtype)[order]
    got = ipf(P)
    assert torch.equal(got.value, P)
    assert got.converged


@given(seed=seeds, iterations=st.sampled_from([1, 2, 15]))
def test_scales_of_columns_do_not_count(seed, iterations):
    """Columns come first, so their scale is gone after the first step."""
    A = attentions(seed)[0]
    scale = np.exp(5 * np.random.default_rng(seed).normal(size=8))
    one, other = (ipf(torch.tensor(x), iterations=iterations).value for x in (A, A * scale))
    np.testing.assert_allclose(other, one, rtol=1e-12)


@given(seed=seeds)
def test_scales_of_rows_do_not_count_in_the_end(seed):
    """Sinkhorn's theorem: one doubly stochastic matrix of the form diag A diag."""
    A = attentions(seed, sharp=1.0)[0]
    scale = np.exp(3 * np.random.default_rng(seed).normal(size=(8, 1)))
    one, other = (ipf(torch.tensor(x), iterations=3000).value for x in (A, A * scale))
    np.testing.assert_allclose(other, one, rtol=1e-11)


@DTYPES
@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_scale_of_the_matrix_does_not_count(size, dtype):
    A = torch.tensor(attentions(4)[0], dtype=dtype)
    np.testing.assert_allclose(ipf(A * size).value, ipf(A).value, rtol=40 * torch.finfo(dtype).eps)


SUPPORTS = {
    "triangle": [[1, 0], [1, 1e-4]],
    "triangle-tiny": [[1, 0], [1, 1e-30]],
    "two-rows-one-column": [[1, 0, 0], [1, 0, 0], [0, 1, 1]],
    "upper": [[1, 1, 1], [0, 1, 1], [0, 0, 1]],
}


@DTYPES
@pytest.mark.parametrize("iterations", [1, 15, 100])
@pytest.mark.parametrize("matrix", SUPPORTS.values(), ids=SUPPORTS)
def test_without_a_doubly_stochastic_matrix(matrix, iterations, dtype):
    """Scaled as often as asked for, rows summing to 1, zeros kept, and no word of convergence."""
    A = torch.tensor(matrix, dtype=dtype)
    got = ipf(A, iterations=iterations)
    expected = twin.ipf(A.double(), iterations)
    eps = torch.finfo(dtype).eps
    rtol = 8 * (iterations + 10) * eps
    np.testing.assert_allclose(got.value.double(), expected, rtol=rtol, atol=eps)
    assert ((got.value == 0) | (A > 0)).all()
    assert not got.converged
    assert got.iterations == iterations


@DTYPES
@pytest.mark.parametrize("matrix", SUPPORTS.values(), ids=SUPPORTS)
def test_many_scalings_never_give_nan(matrix, dtype):
    """Factors may grow without bound: an error then, or a matrix."""
    with contextlib.suppress(InputError):
        got = ipf(torch.tensor(matrix, dtype=dtype), iterations=3000)
        assert torch.isfinite(got.value).all()


@pytest.mark.parametrize("iterations", [1, 2, 15])
def test_ipf_gradient(iterations):
    A = torch.tensor(attentions(5, N=4, sharp=1.0)[0], requires_grad=True)
    assert torch.autograd.gradcheck(lambda A: ipf(A, iterations=iterations).value, A)


# --------------------------------------------------------------------------- against the twin


@DTYPES
@pytest.mark.parametrize("tau", [0.0, 0.05, 0.3, 0.7, 0.95])
@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("first_step", ["linear", "m2n2"])
def test_random_attention(first_step, zeros, tau, dtype):
    f, A = distributions(0, B=2, zeros=zeros), attentions(0, B=2)
    check(f, A, dtype, tau=tau, first_step=first_step)


def test_defaults():
    """Nothing but a distribution and attention: the twin's own defaults are the definition's."""
    f, A = distributions(1), attentions(1)
    np.testing.assert_allclose(velocity(f, A), twin.max_velocity(f, A), rtol=1e-12)


@pytest.mark.parametrize("ipf_iterations", [1, 2, 15])
def test_ipf_iterations(ipf_iterations):
    check(distributions(2), attentions(2), ipf_iterations=ipf_iterations)


@DTYPES
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 2, 1), (1, 1, 2), (2, 5, 3), (1, 2, 20)], ids=str)
def test_shapes(shape, dtype):
    B, C, N = shape
    check(distributions(3, B, C, N), attentions(3, B, N), dtype, max_steps=30)


@given(seed=seeds, terms=st.integers(2, 6), tau=st.sampled_from([0.0, 0.1, 0.3, 0.6]))
def test_doubly_stochastic(seed, terms, tau):
    f, T = distributions(seed, C=2), doubly_stochastic(seed, terms=terms)
    check(f, T[None], tau=tau, max_steps=25)


@given(seed=seeds, tau=st.floats(0.01, 0.99))
def test_permutation_matrices(seed, tau):
    """Mass walks along cycles: where f reaches only its own cycle, the others never see it."""
    rng = np.random.default_rng(seed)
    f = np.eye(8)[rng.integers(8)][None, None]
    check(f, np.eye(8)[rng.permutation(8)][None], tau=tau, max_steps=20)


@DTYPES
@pytest.mark.parametrize("tau", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("first_step", ["linear", "m2n2"])
def test_one_cycle(first_step, tau, dtype):
    """All mass arrives at patch l in step l, and crosses tau there at l - 1 + tau. M2N2's time of
    the first step is 0 where p is 1 after it."""
    options = {"tau": tau, "first_step": first_step}
    got = velocity(np.eye(6)[:1][None], np.roll(np.eye(6), 1, axis=1)[None], dtype, **options)
    expected = [1, *(1 / (1 + step - 1 + tau) for step in range(1, 6))]
    if first_step == "m2n2":
        expected[1] = 1
    np.testing.assert_allclose(got[0, 0], expected, rtol=4 * torch.finfo(dtype).eps)


@DTYPES
@pytest.mark.parametrize("max_steps", [1, 10, 1000])
def test_two_cycles(max_steps, dtype):
    """Patches 3, 4, 5 lie on a cycle of their own, where nothing starts."""
    P = np.eye(6)[[1, 2, 0, 4, 5, 3]]
    got = velocity(np.eye(6)[:1][None], P[None], dtype, max_steps=max_steps)[0, 0]
    assert (got[3:] == torch.tensor(1 / (1 + max_steps), dtype=dtype)).all()
    assert got[0] == 1


@DTYPES
@pytest.mark.parametrize("max_steps", [1, 7, 1000])
def test_the_identity_never_moves(max_steps, dtype):
    f = np.array([[[0.5, 0.3, 0.1, 0.1, 0.0], [0.0, 0.0, 0.0, 0.0, 1.0]]])
    got = velocity(f, np.eye(5)[None], dtype, max_steps=max_steps)
    never = torch.tensor(1 / (1 + max_steps), dtype=dtype)
    assert torch.equal(got == 1, torch.tensor(f / f.max(-1, keepdims=True) > 0.3))
    assert (got[got != 1] == never).all()


@DTYPES
def test_blocks(dtype):
    """Unconnected groups: a class does not reach the other one, the mixed class reaches both."""
    A = np.zeros((1, 8, 8))
    A[0, :3, :3], A[0, 3:, 3:] = attentions(4, N=3)[0], attentions(5, N=5)[0]
    f = np.zeros((1, 3, 8))
    f[0, 0, 1], f[0, 1, 6], f[0, 2, [0, 7]] = 1, 1, 0.5
    got = check(f, A, dtype, max_steps=40)
    never = torch.tensor(1 / 41, dtype=dtype)
    assert (got[0, 0, 3:] == never).all()
    assert (got[0, 1, :3] == never).all()
    assert (got[0, 2] > never).all()


def test_two_patches_in_closed_form():
    """T = [[1-a, a], [a, 1-a]] from (1, 0): p = (1 + x^l, 1 - x^l)/2 with x = 1 - 2a, so the second
    over the first is (1 - x^l)/(1 + x^l)."""
    a, tau = 0.02, 0.3
    x = 1 - 2 * a
    ratio = [(1 - x**step) / (1 + x**step) for step in range(100)]
    step = next(i for i, r in enumerate(ratio) if r > tau)
    t = step - (ratio[step] - tau) / (ratio[step] - ratio[step - 1])
    assert step > 10
    got = velocity([[[1.0, 0.0]]], [[[1 - a, a], [a, 1 - a]]])
    np.testing.assert_allclose(got[0, 0], [1, 1 / (1 + t)], rtol=1e-12)


def test_the_first_step_by_hand():
    """(1, 0.2, 0) moves to (0.57, 0.45, 0.18), so p(1) = (1, 0.79, 0.32): the second patch rises by
    0.59 and the third by 0.32."""
    A = np.array([[0.5, 0.35, 0.15], [0.35, 0.5, 0.15], [0.15, 0.15, 0.7]])
    second, third = 0.45 / 0.57, 0.18 / 0.57
    times = {
        "linear": [0, 1 - (second - 0.3) / (second - 0.2), 1 - (third - 0.3) / third],
        "m2n2": [0, (1 - second) / 0.7, (1 - third) / 0.7],
    }
    for first_step, t in times.items():
        got = velocity([[[1.0, 0.2, 0.0]]], A[None], first_step=first_step)
        np.testing.assert_allclose(got[0, 0], 1 / (1 + np.array(t)), rtol=1e-12)


# --------------------------------------------------------------------------- invariants


@given(seed=seeds, one=st.floats(0, 0.98), other=st.floats(0, 0.98))
def test_monotone_in_tau(seed, one, other):
    """A higher threshold is crossed later, or never."""
    f, A = distributions(seed), attentions(seed, sharp=3.0)
    low, high = (velocity(f, A, tau=tau, max_steps=100) for tau in sorted((one, other)))
    assert (high <= low * (1 + 1e-12)).all()


@given(seed=seeds, exponent=st.integers(-100, 100))
def test_scale_of_the_distribution_does_not_count(seed, exponent):
    f, A = distributions(seed), attentions(seed)
    plain = velocity(f, A, max_steps=50)
    assert torch.equal(velocity(f * 2.0**exponent, A, max_steps=50), plain)
    np.testing.assert_allclose(velocity(f * 3.7, A, max_steps=50), plain, rtol=1e-11)


@given(seed=seeds, data=st.data())
def test_permutations(seed, data):
    f, A = distributions(seed), attentions(seed)
    classes, order = data.draw(st.permutations(range(3))), data.draw(st.permutations(range(8)))
    plain = velocity(f, A, max_steps=50)
    moved = velocity(f[:, classes][..., order], A[:, order][:, :, order], max_steps=50)
    np.testing.assert_allclose(moved, plain[:, classes][..., order], rtol=1e-10)


@pytest.mark.parametrize("criterion", ["arrival", "step"])
def test_items_and_classes_stop_by_themselves(criterion):
    """A fast item beside a slow one and one that never arrives, and such classes in each."""
    slow = 0.97 * np.eye(8) + 0.03 * doubly_stochastic(6)
    A = np.stack([attentions(6, sharp=0.5)[0], slow, np.eye(8)])
    f = np.concatenate([distributions(6, B=3), np.full((3, 1, 8), 1 / 8)], axis=1)
    f[:, 0] = np.eye(8)[3]
    options = {"criterion": criterion, "tau": 0.3 if criterion == "arrival" else 1e-3}
    together = check(f, A, max_steps=150, **options)
    # The criterion tells these items apart: they do not all finish at once.
    assert len({float(x) for x in together.amin((1, 2))}) == 3 or criterion == "step"
    for b in range(3):
        item = velocity(f[b : b + 1], A[b : b + 1], max_steps=150, **options)
        assert torch.equal(item, together[b : b + 1])
        for c in range(4):
            alone = velocity(f[b : b + 1, c : c + 1], A[b : b + 1], max_steps=150, **options)
            np.testing.assert_allclose(alone[0, 0], together[b, c], rtol=1e-11)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("sharp", [1.0, 3.0])
def test_it_walks_until_the_last_arrival_and_no_less(seed, sharp):
    """As many steps as the twin's last arrival give the answer of any more; one fewer does not."""
    f, A = distributions(seed, B=2), attentions(seed, B=2, sharp=sharp)
    slowest = twin.max_velocity(f, A, max_steps=400).min()
    last = int(np.ceil(1 / slowest - 1 - 1e-9))
    assert 1 <= last < 400
    exact = velocity(f, A, max_steps=last)
    for more in (last + 1, 100_000):
        assert torch.equal(velocity(f, A, max_steps=more), exact)
    if last > 1:
        short = velocity(f, A, max_steps=last - 1)
        assert (short == 1 / last).any()
        assert not torch.equal(short, exact)


@DTYPES
@pytest.mark.parametrize("criterion", ["arrival", "step"])
def test_zero_rows(criterion, dtype):
    f, A = distributions(7, B=2), attentions(7, B=2)
    plain = velocity(f, A, dtype, criterion=criterion)
    f[0, 1] = f[1] = 0
    got = velocity(f, A, dtype, criterion=criterion)
    assert (got[0, 1] == 0).all()
    assert (got[1] == 0).all()
    # Products of fewer rows may be summed in another order.
    np.testing.assert_allclose(got[0, [0, 2]], plain[0, [0, 2]], rtol=TOLERANCE[dtype])


# --------------------------------------------------------------------------- the step criterion


@DTYPES
@pytest.mark.parametrize("tau", [0.3, 0.05, 0.02, 3e-3])
def test_step_criterion(tau, dtype):
    check(distributions(8, B=2), attentions(8, B=2), dtype, criterion="step", tau=tau)


def test_step_criterion_at_tau_0():
    """The identity meets it at once, a cycle nowhere that mass passes."""
    f = np.eye(4)[:1][None]
    got = velocity(f, np.eye(4)[None], criterion="step", tau=0.0)
    assert (got == 1).all()
    P = np.eye(4)[[1, 0, 3, 2]]
    got = velocity(f, P[None], criterion="step", tau=0.0, max_steps=9)
    assert got.tolist() == [[[0.1, 0.1, 1, 1]]]


def test_step_criterion_is_degenerate():
    """f sums to 1 over many patches: all meet tau = 0.3 at l = 1, and the argmax is a tie."""
    f = distributions(9, C=5, N=30, zeros=False)
    got = velocity(f, attentions(9, N=30), criterion="step")
    assert (got == 1).all()


# --------------------------------------------------------------------------- gradients


@pytest.mark.parametrize("tau", [0.1, 0.3, 0.8])
@pytest.mark.parametrize("ipf_iterations", [1, 15])
def test_gradients(ipf_iterations, tau):
    """The time of arrival is piecewise smooth; at random inputs no crossing sits on a step."""
    f = torch.tensor(distributions(10, C=2, N=4, zeros=False) ** 4, requires_grad=True)
    A = torch.tensor(attentions(10, N=4), requires_grad=True)

    def function(f, A):
        return lpprop.max_velocity(f, A, tau=tau, ipf_iterations=ipf_iterations, max_steps=30)

    assert torch.autograd.gradcheck(function, (f, A))
    grads = torch.autograd.grad(function(f, A).sum(), (f, A))
    assert all(grad.abs().max() > 1e-3 for grad in grads)


def test_gradient_at_zeros_and_rejected_rows():
    """One-sided differences where a patch without mass receives some."""
    f, A = torch.tensor(distributions(11)), torch.tensor(attentions(11))
    f[0, 1] = 0

    def score(f):
        return float(lpprop.max_velocity(f, A)[0, 0].sin().sum())

    f.requires_grad_()
    (grad,) = torch.autograd.grad(lpprop.max_velocity(f, A)[0].sin().sum(), f)
    assert torch.isfinite(grad).all()
    assert (grad[0, 1] == 0).all()
    step = 1e-6
    for i in range(8):
        moved = [f.detach().clone() for _ in range(3)]
        for k in range(3):
            moved[k][0, 0, i] += k * step
        a, b, c = map(score, moved)
        assert abs(float(grad[0, 0, i]) - (-3 * a + 4 * b - c) / (2 * step)) <= 1e-7
    assert grad[0, 0][f[0, 0] == 0].abs().max() > 1e-3


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["half", "bfloat"])
def test_halves(dtype):
    """Computed in float32 from the rounded inputs, and rounded once."""
    f, A = (torch.tensor(x).to(dtype) for x in (distributions(12), attentions(12)))
    got = lpprop.max_velocity(f, A)
    assert got.dtype == dtype
    expected = twin.max_velocity(f.double(), A.double())
    np.testing.assert_allclose(got.double(), expected, rtol=torch.finfo(dtype).eps)


# --------------------------------------------------------------------------- warnings


def test_attention_that_scaling_does_not_balance_is_told():
    """Four rows whose mass can only go to the first column: it sums to nearly 4."""
    A = torch.full((1, 5, 5), 1e-30)
    A[0, :4, 0], A[0, 4, 1:] = 1, 1
    f = torch.full((1, 2, 5), 0.2)
    with pytest.warns(
        lpprop.InputWarning, match="attention: after 15 scalings a column still sums"
    ):
        lpprop.max_velocity(f, A)
    lpprop.max_velocity(f, A, ipf_iterations=14)
    for sharp in (1.0, 3.0):
        lpprop.max_velocity(f, torch.tensor(attentions(0, N=5, sharp=sharp)).float())
