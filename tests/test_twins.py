"""Identical classes get identical bits, whatever computes them and wherever they stand."""

import pytest
import torch

import lpprop
from lpprop.numerics.twins import match_twins

SIDE = 9
# A row of a product is rounded by its place among the others, at some of these counts.
COUNTS = (3, 7, 13, 26)


def inputs(count, seed=0):
    """`count` classes whose scores alternate between two, and what guides them."""
    generator = torch.Generator().manual_seed(seed)
    two = torch.randn(1, 2, SIDE, SIDE, generator=generator)
    logits = two[:, torch.arange(count) % 2]
    feats = torch.randn(1, 32, SIDE, SIDE, generator=generator)
    image = 0.4 + 0.1 * torch.rand(1, 3, 4 * SIDE, 4 * SIDE, generator=generator)
    return logits, feats, image


def pixels(logits):
    two = lpprop.bilinear_upsample(logits[:, :2], (4 * SIDE, 4 * SIDE))
    return two[:, torch.arange(logits.shape[1]) % 2]


def distribution(logits):
    f = lpprop.class_distribution(logits[:, :2], nms=0.5)
    return f[:, torch.arange(logits.shape[1]) % 2]


CALLS = {
    "dense": lambda y, feats, image: lpprop.propagate_patches(y, feats, k=20, storage="dense"),
    "csr": lambda y, feats, image: lpprop.propagate_patches(y, feats, k=20, storage="csr"),
    "torch": lambda y, feats, image: lpprop.propagate_pixels(pixels(y), image, backend="torch"),
    "llvm": lambda y, feats, image: lpprop.propagate_pixels(pixels(y), image, backend="llvm"),
    "bilateral": lambda y, feats, image: lpprop.joint_bilateral_upsample(y, image, backend="torch"),
    "compiled bilateral": lambda y, feats, image: lpprop.joint_bilateral_upsample(
        y, image, backend="llvm"
    ),
    "path": lambda y, feats, image: lpprop.optimal_path(
        distribution(y), lpprop.attention_from_features(feats)
    ),
    "velocity": lambda y, feats, image: lpprop.max_velocity(
        distribution(y), lpprop.attention_from_features(feats)
    ),
    "bilinear": lambda y, feats, image: lpprop.bilinear_upsample(y, (23, 31)),
}


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("name", CALLS)
def test_identical_classes_get_identical_bits(name, count):
    if name in ("llvm", "compiled bilateral"):
        pytest.importorskip("llvmlite")
    scores = CALLS[name](*inputs(count))
    for c in range(2, count):
        assert torch.equal(scores[:, c], scores[:, c % 2])
    assert not torch.equal(scores[:, 0], scores[:, 1])
    assert (scores.argmax(1) < 2).all()  # the first of the equal ones


def test_windows_whose_classes_are_twins_in_all_of_them():
    """Twins in one window alone are none in the image."""
    windows = lpprop.SlidingWindows((40, 56), window=32, stride=16)
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(len(windows), 2, 4, 4, generator=generator)[:, [0, 1] * 3]
    feats = torch.randn(len(windows), 16, 4, 4, generator=generator)
    logits[1, 3] += 1
    scores = lpprop.propagate_patches(logits, feats, k=10, windows=windows)
    merged = lpprop.BilinearUpsample()(scores, windows=windows)
    for both in (scores, merged):
        assert torch.equal(both[:, 0], both[:, 2])
        assert torch.equal(both[:, 1], both[:, 5])
        assert not torch.equal(both[:, 1], both[:, 3])


def test_each_takes_the_first_of_its_own():
    scores = torch.tensor([[[1.0, 2.0], [1.0, 3.0], [1.0, 2.0], [4.0, 5.0], [1.0, 3.0]]])
    result = torch.arange(5.0).reshape(1, 5, 1)
    assert match_twins(result, scores).flatten().tolist() == [0, 1, 0, 3, 1]
    assert match_twins(result, torch.arange(10.0).reshape(1, 5, 2)) is result


def test_classes_that_differ_in_a_single_place_are_no_twins():
    scores = torch.zeros(1, 3, 100)
    scores[0, 1, 37] = 1e-30
    result = torch.tensor([[[0.1], [0.2], [0.3]]])
    expected = torch.tensor([[[0.1], [0.2], [0.1]]])
    assert torch.equal(match_twins(result, scores), expected)


def test_the_gradient_of_twins_is_each_class_own():
    logits, feats, _ = inputs(3)
    logits = logits.double().requires_grad_()
    weight = torch.randn(
        logits.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2)
    )
    scores = lpprop.propagate_patches(logits, feats.double(), k=20)
    (grad,) = torch.autograd.grad((scores * weight).sum(), logits)
    # The operator is linear and symmetric, and the same for all classes.
    again = lpprop.propagate_patches(weight, feats.double(), k=20, max_iter=1000, tol=0)
    converged = lpprop.propagate_patches(logits, feats.double(), k=20, max_iter=1000, tol=0)
    (exact,) = torch.autograd.grad((converged * weight).sum(), logits)
    torch.testing.assert_close(exact, again, rtol=1e-8, atol=1e-8)
    assert not torch.equal(grad[:, 0], grad[:, 2])
