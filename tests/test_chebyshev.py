"""The pixel step by a fixed polynomial: its residual, its solution, and how far a pixel reaches."""

import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.polynomial import chebyshev as polynomials

import lpprop
import reference
from lpprop.inputs.colour import lab
from lpprop.numerics.chebyshev import bound_residual, chebyshev, count_steps

STEP = {"tau": 0.1, "r": 5, "alpha": 0.9, "solver": "chebyshev"}


def first_kind(n, x):
    return polynomials.chebval(x, [0] * n + [1])


@pytest.mark.parametrize("alpha", [0.1, 0.5, 0.95, 0.999])
@pytest.mark.parametrize("steps", [1, 2, 5, 17])
def test_the_residual_is_chebyshevs_polynomial(alpha, steps):
    """With eigenvalue s of S the residual is T_n(s) / T_n(1 / alpha)."""
    s = torch.linspace(-1, 1, 41, dtype=torch.float64)
    b = torch.ones(1, 41, dtype=torch.float64)
    x = chebyshev(lambda v: v * s, b, alpha=alpha, steps=steps)
    residual = (b - (1 - alpha * s) * x)[0].numpy()
    expected = first_kind(steps, s.numpy()) / first_kind(steps, 1 / alpha)
    np.testing.assert_allclose(residual, expected, atol=1e-12)
    # The bound is met at both ends, and nowhere exceeded.
    assert bound_residual(alpha, steps) == pytest.approx(abs(residual).max(), rel=1e-6, abs=1e-14)


def test_no_propagation_is_the_right_hand_side():
    b = torch.rand(2, 5)
    assert torch.equal(chebyshev(lambda x: x / 0, b, alpha=0.0, steps=count_steps(0.0, 0, 9)), b)


@given(alpha=st.floats(0.01, 0.999), tol=st.floats(1e-9, 0.9))
def test_the_fewest_steps_that_promise_the_tolerance(alpha, tol):
    steps = count_steps(alpha, tol, 10**6)
    assert bound_residual(alpha, steps) <= tol * (1 + 1e-9)
    assert steps == 1 or bound_residual(alpha, steps - 1) > tol * (1 - 1e-9)
    assert count_steps(alpha, tol, 3) == min(steps, 3)


def test_the_least_floats_have_steps_too():
    """Where 1 / x is infinite, steps are counted to the least normal number."""
    steps = count_steps(0.5, 1e-320, 10**6)
    assert bound_residual(0.5, steps + 1) < sys.float_info.min <= bound_residual(0.5, steps - 2)
    assert count_steps(1e-320, 1e-320, 10**6) == 1


def pixels(height, width, classes=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 5, 6, generator=generator)
    image = 0.8 * torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    image += 0.2 * torch.rand(1, 3, height, width, generator=generator)
    return torch.randn(1, classes, height, width, generator=generator), image


@pytest.mark.parametrize("steps", [1, 4, 60])
def test_the_twin_in_float64(backend, steps):
    """The steps are those of the polynomial on the dense graph, and 60 are the solution."""
    logits, image = pixels(11, 9)
    own = {**STEP, "max_iter": steps, "tol": 0.0}
    scores = lpprop.propagate_pixels(logits, image, backend=backend, **own)
    S = reference.pixel_graph(reference.lab_features(image[0].double()), tau=0.1, r=5)
    degree = S.sum(0)
    S /= np.sqrt(degree[:, None] * degree[None])
    values, vectors = np.linalg.eigh(S)
    b = logits[0].double().flatten(1).numpy().T
    residual = first_kind(steps, values) / first_kind(steps, 1 / 0.9)
    twin = vectors @ (((1 - residual) / (1 - 0.9 * values))[:, None] * (vectors.T @ b))
    np.testing.assert_allclose(scores[0].flatten(1).T, twin, atol=2e-5)
    if steps == 60:
        exact = np.linalg.solve(np.eye(len(S)) - 0.9 * S, b)
        np.testing.assert_allclose(scores[0].flatten(1).T, exact, atol=2e-5)


def test_the_tolerance_is_kept():
    """The error is at most the promised residual over 1 - alpha."""
    logits, image = pixels(30, 41)
    exact = lpprop.propagate_pixels(
        logits.double(), image.double(), tau=0.1, r=5, alpha=0.9, max_iter=1000, tol=1e-13
    )
    for tol in (0.3, 0.01, 1e-4):
        scores = lpprop.propagate_pixels(logits, image, **STEP, tol=tol, max_iter=1000)
        error = torch.linalg.vector_norm(scores - exact, dim=(2, 3))
        size = torch.linalg.vector_norm(logits, dim=(2, 3))
        assert (error <= (tol / (1 - 0.9)) * size * (1 + 1e-3)).all()


def test_gradients():
    logits, image = (x.double() for x in pixels(4, 5, 2))

    def step(logits, image):
        return lpprop.propagate_pixels(logits, image, **STEP, max_iter=5)

    assert torch.autograd.gradcheck(
        step, (logits.requires_grad_(), image.requires_grad_()), fast_mode=True
    )


# --------------------------------------------------------------------------- the same bits


@given(data=st.data())
def test_a_part_gets_the_bits_of_the_whole(data):
    """A pixel that is the step's reach away from the cut has the same bits; one nearer has not."""
    pytest.importorskip("llvmlite")
    step = lpprop.PixelPropagation(**STEP, max_iter=3, backend="llvm")
    assert step.reach == 6
    logits, image = pixels(34, 37)
    whole = step(logits, image=image)
    top, left = data.draw(st.integers(0, 33)), data.draw(st.integers(0, 36))
    bottom, right = data.draw(st.integers(top + 1, 34)), data.draw(st.integers(left + 1, 37))

    def part(reach):
        a, b = max(top - reach, 0), max(left - reach, 0)
        rows, columns = slice(a, bottom + reach), slice(b, right + reach)
        scores = step(logits[..., rows, columns], image=image[..., rows, columns])
        return scores[..., top - a : bottom - a, left - b : right - b]

    assert torch.equal(part(6), whole[..., top:bottom, left:right])


def test_the_reach_is_no_larger_than_it_must_be():
    step = lpprop.PixelPropagation(**STEP, max_iter=3, backend="llvm")
    logits, image = pixels(34, 37)
    whole = step(logits, image=image)
    cut = step(logits[..., 10:, :], image=image[..., 10:, :])
    assert torch.equal(cut[..., 6:, :], whole[..., 16:, :])
    assert not torch.equal(cut[..., 5:, :], whole[..., 15:, :])


def test_weights_that_are_not_kept_give_the_same_bits(monkeypatch):
    """Large windows compute their weights anew in each product."""
    stencil = pytest.importorskip("lpprop.kernels.llvm.stencil")
    logits, image = pixels(20, 23)
    kept = lpprop.propagate_pixels(logits, image, **STEP, backend="llvm")
    monkeypatch.setattr(stencil, "_STORED_BYTES", 0)
    assert torch.equal(lpprop.propagate_pixels(logits, image, **STEP, backend="llvm"), kept)


def test_scores_of_any_size_give_the_same_bits_beside_others():
    """No scaling by the largest score, which stands in another tile: the digits would differ."""
    logits, image = pixels(8, 40, 1)
    logits *= 1e-20
    far = logits.clone()
    far[..., 39] = 1e20
    step = lpprop.PixelPropagation(**STEP, max_iter=3, backend="llvm")
    near = (..., slice(0, 30))
    assert torch.equal(step(logits, image=image)[near], step(far, image=image)[near])


@given(data=st.data(), dtype=st.sampled_from([torch.float32, torch.float64]))
def test_a_colour_has_the_same_features_everywhere(data, dtype):
    _, image = pixels(61, 47)
    image = image.to(dtype)
    whole = lab(image)
    top, left = data.draw(st.integers(0, 60)), data.draw(st.integers(0, 46))
    rows = slice(top, data.draw(st.integers(top + 1, 61)))
    columns = slice(left, data.draw(st.integers(left + 1, 47)))
    assert torch.equal(lab(image[..., rows, columns]), whole[..., rows, columns])


def test_colours_of_more_than_one_block(monkeypatch):
    image = torch.rand(2, 3, 70, 130)
    whole = lab(image)
    for item, features in zip(image, whole, strict=True):
        np.testing.assert_allclose(features, reference.lab_features(item.double()), atol=1e-5)
