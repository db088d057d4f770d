"""Foreseen steps of a chain, and the products and selections that speed methods up."""

import numpy as np
import pytest
import torch

import lpprop
from lpprop.kernels.portable import largest_of_rows, multiply, multiply_rows
from lpprop.numerics.markov import _ROUNDINGS, MarkovWalk

EPS = torch.finfo(torch.float32).eps
N = 1536


@pytest.fixture(autouse=True)
def _few_patches(monkeypatch):
    """Foresee steps on chains that a test can afford."""
    monkeypatch.setattr("lpprop.numerics.markov._FEWEST_PATCHES", N)


def fading_chain(modes, fast=0.1):
    """A doubly stochastic, symmetric chain with a few slow modes, and a share of fast mixing."""
    rng = np.random.default_rng(0)
    groups = rng.integers(0, modes, N)
    between = 0.05 * np.ones((modes, modes)) + np.eye(modes)
    K = between[groups][:, groups] + fast * rng.random((N, N))
    K = K + K.T
    scale = np.ones(N)
    for _ in range(300):
        scale = np.sqrt(scale / (K @ scale))
    return torch.tensor(scale[:, None] * K * scale)


def starts(classes):
    p = torch.zeros(classes, N, dtype=torch.float64)
    p[torch.arange(classes), torch.arange(classes) * 7] = 1
    return p


@pytest.mark.parametrize("fast", [0.1, 0.3])
def test_foreseen_steps_are_those_of_products_in_float64(fast):
    T, p = fading_chain(12, fast), starts(9)
    products = []

    def product(x):
        products.append(len(x))
        return x @ T.float()

    walk = MarkovWalk(p.float(), product, gain=1.0)
    foreseen = 0
    for step in range(20):
        got, p = walk.advance(), p @ T
        p = p / p.amax(-1, keepdim=True)
        foreseen += walk.foresight is not None
        # The limit of a foreseen step's error, and as much for products in float32.
        assert (got.double() - p).abs().max() <= 2 * _ROUNDINGS * EPS
        if step == 9:  # classes leave in the midst of it
            walk.keep(torch.arange(9) != 4)
            p = p[torch.arange(9) != 4]
    assert foreseen >= 10
    assert len(products) == 20 - foreseen + 1 + 1


def test_attempts_wait_until_the_sum_misses_little_enough(monkeypatch):
    """What the sum misses falls by ten per step; so the third attempt is where it is small."""
    walk, attempts = MarkovWalk(starts(3).float(), lambda x: x, gain=1.0), []

    def miss(*_):
        attempts.append(walk.taken)
        return None, 10.0 ** -(walk.taken - 4)

    monkeypatch.setattr("lpprop.numerics.markov._find_foresight", miss)
    for _ in range(20):
        walk.advance()
    # 64 roundings over 4 are 1.9e-6, which is passed 5.7 steps after the first.
    assert attempts[:4] == [5, 7, 10, 12]


def test_a_chain_whose_modes_do_not_fade_is_walked_by_products():
    order = torch.randperm(N, generator=torch.Generator().manual_seed(0))
    walk, p = MarkovWalk(starts(3).float(), lambda x: x[:, order], gain=1.0), starts(3).float()
    for _ in range(20):
        p = p[:, order]
        assert torch.equal(walk.advance(), p)
    assert walk.foresight is None


def test_the_velocity_foresees_its_steps_and_is_that_of_float64():
    f, A = starts(6)[None], fading_chain(12)[None]
    exact = lpprop.max_velocity(f, A)
    got = lpprop.max_velocity(f.float(), A.float())
    # An arrival is off by the error of p over its rise in the step, here above 1e-2.
    assert (got.double() - exact).abs().max() <= 2 * _ROUNDINGS * EPS / 1e-2


@pytest.mark.parametrize("shape", [(1, 600, 700), (5, 513, 601), (3, 20, 30)], ids=str)
@pytest.mark.parametrize("turned", [False, True])
def test_products_of_few_rows(shape, turned, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    n, K, M = shape
    generator = torch.Generator().manual_seed(0)
    p = torch.rand(n, K, dtype=torch.float64, generator=generator)
    matrix = torch.rand(M, K, dtype=torch.float64, generator=generator).mT
    matrix = matrix if turned else matrix.contiguous()
    np.testing.assert_allclose(multiply_rows(p, matrix), p.numpy() @ matrix.numpy(), rtol=1e-13)


@pytest.mark.parametrize("stored", ["rows", "columns", "part"])
@pytest.mark.parametrize("rows", [1, 5])
def test_large_products_in_float32(rows, stored):
    """A sum of K terms is off by sqrt(K) roundings or so, with any library."""
    generator = torch.Generator().manual_seed(1)
    a = torch.rand(rows, 700, generator=generator)
    b = torch.rand(700, 700, generator=generator)
    b = {"rows": b, "columns": b.mT, "part": b[:, :600]}[stored]
    exact = a.double() @ b.double()
    for product in (multiply(a, b), multiply_rows(a, b)):
        assert (product - exact).abs().max() <= 700**0.5 * EPS * exact.max()


# PyTorch's first dual tensor compiles its rules by what PyTorch itself calls deprecated.
@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit.script:FutureWarning")
@pytest.mark.parametrize("product", [multiply, multiply_rows])
def test_large_products_have_gradients(product):
    a, b = torch.rand(5, 600), torch.rand(600, 600)
    ones = torch.ones_like(a)
    assert torch.equal(product(a.requires_grad_(), b), a @ b)
    product(a, b).sum().backward()
    torch.testing.assert_close(a.grad, b.sum(1).expand(5, 600))
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(a.detach(), ones)
        slope = torch.autograd.forward_ad.unpack_dual(product(dual, b)).tangent
    torch.testing.assert_close(slope, ones @ b)


@pytest.mark.parametrize("k", [1, 7, 40])
@pytest.mark.parametrize("levels", [2, 10, 10**6])
def test_the_largest_of_rows(levels, k, monkeypatch):
    """With ties too, of which it may be any."""
    monkeypatch.setattr("lpprop.kernels.portable.selection._BLOCK_BYTES", 4 * 40 * 3)
    values = torch.randint(0, levels, (11, 40), generator=torch.Generator().manual_seed(k)) / 7
    expected = np.sort(values.numpy(), axis=1)[:, 40 - k :]
    places, largest = largest_of_rows(values, k)
    np.testing.assert_array_equal(np.sort(largest, axis=1), expected)
    assert torch.equal(largest, values.gather(1, places))
    assert all(len(set(row)) == k for row in places.tolist())
    assert largest_of_rows(values.requires_grad_(), k)[1].requires_grad
