"""Attention: from features, sharpened and aggregated, against NumPy written from the equations."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import lpprop
import reference
import reference_dslo as twin
from lpprop.inputs.attention import fit_grid

# Roundings of a few sums and one softmax, whose exponents at most reach 20 where it says 0.1.
TOLERANCE = {torch.float64: 1e-13, torch.float32: 1e-5}
DTYPES = pytest.mark.parametrize("dtype", TOLERANCE, ids=["float64", "float32"])
HALVES = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["half", "bfloat"])
seeds = st.integers(0, 2**31)


def features(seed, B=2, D=6, h=3, w=4):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(B, D, h, w)).astype(np.float32).astype(np.float64)


def maps(seed, *shape, sharp=2.0):
    """Random positive maps, whose rows do not sum to 1."""
    rng = np.random.default_rng(seed)
    return np.exp(sharp * rng.normal(size=(*shape, shape[-1]))).astype(np.float32).astype(float)


def close(got, expected, dtype=torch.float64):
    """Deviation relative to the largest entry of each row."""
    got = np.asarray(got.detach().double() if isinstance(got, torch.Tensor) else got)
    expected = np.asarray(expected, dtype=np.float64)
    assert reference.class_error(got[..., None, :], expected[..., None, :]) <= TOLERANCE[dtype]


def rows_sum_to_1(A, dtype=torch.float64):
    np.testing.assert_allclose(A.detach().double().sum(-1), 1, rtol=TOLERANCE[dtype])


# --------------------------------------------------------------------------- from features


@DTYPES
@pytest.mark.parametrize("temperature", [0.1, 0.5, 1.0, 30.0])
def test_from_features(temperature, dtype):
    x = features(0)
    A = lpprop.attention_from_features(torch.tensor(x, dtype=dtype), temperature)
    assert A.dtype == dtype
    assert A.shape == (2, 12, 12)
    close(A, twin.attention_from_features(x, temperature), dtype)
    rows_sum_to_1(A, dtype)


@DTYPES
def test_default_temperature(dtype):
    x = features(0)
    close(
        lpprop.attention_from_features(torch.tensor(x, dtype=dtype)),
        twin.attention_from_features(x, 0.1),
        dtype,
    )


@DTYPES
@pytest.mark.parametrize("size", [1e-30, 1e30, -5.0])
def test_scale_of_the_features_does_not_count(size, dtype):
    x = torch.tensor(features(1), dtype=dtype)
    close(
        lpprop.attention_from_features(size * x),
        lpprop.attention_from_features(x).double(),
        dtype,
    )


def test_scale_of_each_patch_does_not_count():
    x = torch.tensor(features(1))
    size = torch.rand(2, 1, 3, 4, dtype=x.dtype) * 100 + 1e-3
    close(lpprop.attention_from_features(size * x), lpprop.attention_from_features(x))


@DTYPES
def test_zero_features(dtype):
    """A zero feature has cosine 0 with every patch, itself included."""
    x = features(2)
    x[0, :, 1, 1] = 0
    A = lpprop.attention_from_features(torch.tensor(x, dtype=dtype))
    close(A, twin.attention_from_features(x), dtype)
    np.testing.assert_allclose(A[0, 5].double(), 1 / 12, rtol=1e-6)


@DTYPES
@pytest.mark.parametrize("temperature", [1e-5, 1e-20, 1e-40, 1e-60, 1e-300])
def test_tiny_temperature(temperature, dtype):
    """Each patch attends to its likes alone: here to itself."""
    A = lpprop.attention_from_features(torch.tensor(features(3), dtype=dtype), temperature)
    assert torch.equal(A, torch.eye(12, dtype=dtype).expand(2, 12, 12))


@DTYPES
@pytest.mark.parametrize("temperature", [1e6, 1e20, 1e60, 1e300])
def test_huge_temperature(temperature, dtype):
    """1/N, to within 2 / temperature in the exponent."""
    A = lpprop.attention_from_features(torch.tensor(features(3), dtype=dtype), temperature)
    np.testing.assert_allclose(A.double(), 1 / 12, rtol=3e-6)


@HALVES
def test_half_features(dtype):
    """At least float32, from the rounded features."""
    x = torch.tensor(features(4)).to(dtype)
    A = lpprop.attention_from_features(x)
    assert A.dtype == torch.float32
    close(A, twin.attention_from_features(x.double()), torch.float32)


@HALVES
def test_half_features_of_any_size(dtype):
    """Squares of the largest half would overflow there, those of the smallest vanish."""
    x = torch.tensor(features(4)).to(dtype)
    x = x / x.abs().max()
    expected = twin.attention_from_features(x.double())
    for size in (2.0**-6, 2.0**14):
        close(lpprop.attention_from_features(x * size), expected, torch.float32)


def test_gradient_of_features():
    x = torch.tensor(features(5, B=1, D=3, h=2, w=2), requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: lpprop.attention_from_features(x, 0.5), x)


# --------------------------------------------------------------------------- sharpening


@DTYPES
@pytest.mark.parametrize("temperature", [0.05, 0.65, 1.0, 3.0, 1e6])
def test_sharpen(temperature, dtype):
    """The exponents reach 12 / temperature, whose rounding a sharp softmax takes in full."""
    A = maps(0, 2, 8)
    A[0, 2, 3:6] = 0
    got = lpprop.sharpen_attention(torch.tensor(A, dtype=dtype), temperature)
    assert got.dtype == dtype
    info = torch.finfo(dtype)
    np.testing.assert_allclose(
        got.double(),
        twin.sharpen_attention(A, temperature),
        rtol=(12 / temperature + 8) * 4 * info.eps,
        atol=info.tiny,
    )
    assert (got[0, 2, 3:6] == 0).all()
    rows_sum_to_1(got, dtype)


def test_sharpen_default_is_that_of_m2n2():
    A = maps(1, 1, 6)
    close(lpprop.sharpen_attention(torch.tensor(A)), twin.sharpen_attention(A, 0.65))


@given(seed=seeds, a=st.floats(0.2, 5), b=st.floats(0.2, 5))
def test_sharpening_composes(seed, a, b):
    """log A / a, less a constant a row, / b is log A / (a b)."""
    A = torch.tensor(maps(seed, 1, 5))
    A[0, 0, 2] = 0
    twice = lpprop.sharpen_attention(lpprop.sharpen_attention(A, a), b)
    np.testing.assert_allclose(twice, lpprop.sharpen_attention(A, a * b), rtol=1e-10)


def test_sharpening_at_1_makes_rows_sum_to_1():
    A = maps(2, 1, 5)
    close(lpprop.sharpen_attention(torch.tensor(A), 1.0), A / A.sum(-1, keepdims=True))


@DTYPES
@pytest.mark.parametrize("temperature", [1e-4, 1e-20, 1e-40, 1e-60, 1e-300])
def test_sharpening_at_a_tiny_temperature(temperature, dtype):
    """All to the largest entry; ties share; zeros stay."""
    A = torch.tensor([[[0.5, 0.25, 0.25], [0.4, 0.4, 0.2], [0.0, 0.1, 0.9]]], dtype=dtype)
    got = lpprop.sharpen_attention(A, temperature)
    assert got.tolist() == [[[1, 0, 0], [0.5, 0.5, 0], [0, 0, 1]]]


@DTYPES
@pytest.mark.parametrize("temperature", [1e20, 1e60, 1e300])
def test_sharpening_at_a_huge_temperature(temperature, dtype):
    """Alike over the positive entries."""
    A = torch.tensor([[[0.5, 0.5, 0.0], [0.9, 0.05, 0.05], [0.0, 1e-30, 1.0]]], dtype=dtype)
    got = lpprop.sharpen_attention(A, temperature)
    third = 1 / 3
    expected = [[[0.5, 0.5, 0], [third, third, third], [0, 0.5, 0.5]]]
    np.testing.assert_allclose(got, expected, rtol=1e-6)


@HALVES
def test_sharpen_halves(dtype):
    A = torch.tensor(maps(3, 1, 6, sharp=1.0)).to(dtype)
    got = lpprop.sharpen_attention(A)
    assert got.dtype == dtype
    eps = torch.finfo(dtype).eps
    # Entries may fall among the subnormal numbers of half precision.
    expected = twin.sharpen_attention(A.double())
    np.testing.assert_allclose(got.double(), expected, rtol=eps, atol=1e-7)


def test_gradient_of_sharpening():
    A = torch.tensor(maps(4, 1, 4, sharp=1.0), requires_grad=True)
    assert torch.autograd.gradcheck(lpprop.sharpen_attention, A)


def test_gradient_of_sharpening_is_finite_at_zeros():
    A = torch.tensor(maps(4, 1, 4))
    A[0, 1, 2] = 0
    A.requires_grad_()
    lpprop.sharpen_attention(A).square().sum().backward()
    assert torch.isfinite(A.grad).all()


# --------------------------------------------------------------------------- aggregation


def aggregate(given, weights, size, sides, dtype=torch.float64, **options):
    got = lpprop.aggregate_attention(
        [torch.tensor(x, dtype=dtype) for x in given], weights, size, **options
    )
    assert got.dtype == dtype
    expected = twin.aggregate_attention(
        given, [1.0] * len(given) if weights is None else weights, size, sides
    )
    close(got, expected, dtype)
    rows_sum_to_1(got, dtype)
    return got


WEIGHTS = {
    "none": None,
    "blocks": [0.75, 0.25],
    "large": [30.0, 10.0],
    "left-out": [1.0, 0.0],
    "heads": [[0.1, 0.2, 0.7], [0.0, 5.0]],
    "mixed": [2.0, [0.5, 0.5]],
    "one-head": [[0.0, 0.0, 0.0], [0.0, 1.0]],
}


@DTYPES
@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
def test_same_grid_is_a_weighted_mean(weights, dtype):
    aggregate([maps(0, 2, 3, 9), maps(1, 2, 2, 9)], weights, (3, 3), [(3, 3)] * 2, dtype)


@DTYPES
@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
def test_weights_hold_across_grids(weights, dtype):
    """The share of a block does not depend on whether it was resampled."""
    given = [maps(0, 2, 3, 4), maps(1, 2, 2, 16)]
    for size in ((4, 4), (2, 2), (3, 3), (5, 5)):
        aggregate(given, weights, size, [(2, 2), (4, 4)], dtype)


def test_weights_across_grids_by_hand():
    """Attention that is the same everywhere on the coarse grid, the identity on the fine one."""
    coarse, fine = torch.full((1, 4, 4), 0.25), torch.eye(16)[None]
    got = lpprop.aggregate_attention([coarse, fine], weights=[0.9, 0.1])
    np.testing.assert_allclose(got[0], 0.9 / 16 + 0.1 * np.eye(16), atol=1e-6)


def test_heads_are_normalised_first():
    """A head of larger numbers does not count for more."""
    one, other = maps(2, 1, 1, 9), maps(3, 1, 1, 9)
    got = lpprop.aggregate_attention([torch.tensor(np.concatenate([one, 1000 * other], axis=1))])
    means = (x[0, 0] / x[0, 0].sum(-1, keepdims=True) for x in (one, other))
    close(got[0], sum(means) / 2)


def test_maps_without_heads():
    S = torch.tensor(maps(4, 2, 9))
    close(lpprop.aggregate_attention([S]), S / S.sum(-1, keepdim=True))
    assert torch.equal(lpprop.aggregate_attention([S]), lpprop.aggregate_attention([S[:, None]]))


def test_upsampling_is_bilinear_over_keys_and_queries():
    """Against a bilinear of its own: keys row by row, to sum 1, then queries key by key."""
    grid, size = (3, 4), (6, 9)
    S = maps(5, 1, 1, 12)
    got = lpprop.aggregate_attention([torch.tensor(S)], size=size, grids=[grid])[0]
    rows = S[0, 0] / S[0, 0].sum(-1, keepdims=True)
    keys = np.stack([reference.bilinear(row.reshape(grid), size).ravel() for row in rows])
    keys /= keys.sum(-1, keepdims=True)
    expected = [reference.bilinear(key.reshape(grid), size).ravel() for key in keys.T]
    close(got, np.stack(expected, axis=1))


def test_downsampling_is_that_of_pillow():
    """Pillow widens the bilinear filter by the ratio, in single precision."""
    grid, size = (8, 6), (3, 2)
    S = maps(6, 1, 1, 48)
    got = lpprop.aggregate_attention([torch.tensor(S)], size=size, grids=[grid])[0]

    def resized(plane):
        image = Image.fromarray(plane.reshape(grid).astype(np.float32))
        return np.asarray(image.resize(size[::-1], Image.Resampling.BILINEAR)).ravel()

    keys = np.stack([resized(row) for row in S[0, 0] / S[0, 0].sum(-1, keepdims=True)])
    keys /= keys.sum(-1, keepdims=True)
    close(got, np.stack([resized(key) for key in keys.T], axis=1), torch.float32)


GRIDS = [
    ((2, 3), (4, 6)),
    ((3, 4), (6, 9)),
    ((4, 6), (2, 3)),
    ((5, 2), (2, 5)),
    ((1, 6), (3, 2)),
    ((2, 2), (1, 1)),
    ((1, 1), (2, 3)),
]


@DTYPES
@pytest.mark.parametrize(("grid", "size"), GRIDS, ids=str)
def test_grids(grid, size, dtype):
    M = grid[0] * grid[1]
    aggregate([maps(7, 2, 2, M)], None, size, [grid], dtype, grids=[grid])


def test_grids_in_the_shape_of_the_size():
    S, fine = maps(8, 1, 1, 6), maps(9, 1, 1, 24)
    aggregate([S, fine], [0.3, 0.7], (4, 6), [(2, 3), (4, 6)])


def test_size_is_the_finest_grid():
    given = [torch.tensor(maps(seed, 1, 1, M)) for seed, M in ((0, 4), (1, 25), (2, 9))]
    close(lpprop.aggregate_attention(given), lpprop.aggregate_attention(given, size=(5, 5)))


def test_order_of_the_maps_does_not_matter():
    given = [torch.tensor(maps(seed, 1, 2, M)) for seed, M in ((0, 4), (1, 16), (2, 9))]
    weights = [0.2, 0.7, 0.1]
    plain = lpprop.aggregate_attention(given, weights, (4, 4))
    for order in ([2, 1, 0], [1, 2, 0]):
        moved = lpprop.aggregate_attention(
            [given[i] for i in order], [weights[i] for i in order], (4, 4)
        )
        close(moved, plain)


@DTYPES
@pytest.mark.parametrize(("grid", "size"), GRIDS, ids=str)
def test_constant_attention_stays_constant(grid, size, dtype):
    M, N = grid[0] * grid[1], size[0] * size[1]
    S = torch.full((1, 2, M, M), 0.3, dtype=dtype)
    got = lpprop.aggregate_attention([S], size=size, grids=[grid])
    np.testing.assert_allclose(got, np.full((1, N, N), 1 / N), rtol=20 * torch.finfo(dtype).eps)


def test_batch_is_a_loop():
    given = [maps(0, 3, 2, 4), maps(1, 3, 2, 16)]
    both = lpprop.aggregate_attention([torch.tensor(x) for x in given], [0.2, 0.8])
    for b in range(3):
        alone = lpprop.aggregate_attention([torch.tensor(x[b : b + 1]) for x in given], [0.2, 0.8])
        close(both[b], alone[0])


@HALVES
def test_aggregate_halves(dtype):
    """Rounded once, from float32: a sum of many halves would stall."""
    S = torch.tensor(maps(3, 1, 4, 16, sharp=1.0)).to(dtype)
    got = lpprop.aggregate_attention([S], size=(8, 8))
    assert got.dtype == dtype
    expected = twin.aggregate_attention([S.double().numpy()], [1.0], (8, 8), [(4, 4)])
    np.testing.assert_allclose(
        got.double(), expected, rtol=torch.finfo(dtype).eps, atol=torch.finfo(dtype).eps * 1e-3
    )


def test_gradient_of_aggregation():
    coarse = torch.tensor(maps(0, 1, 2, 4, sharp=1.0), requires_grad=True)
    fine = torch.tensor(maps(1, 1, 1, 9, sharp=1.0), requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda a, b: lpprop.aggregate_attention([a, b], [0.3, 0.7], (3, 3)), (coarse, fine)
    )


# --------------------------------------------------------------------------- grids


@given(h=st.integers(1, 40), w=st.integers(1, 40), scale=st.integers(1, 9))
def test_fit_grid_of_whole_ratios(h, w, scale):
    fine = (scale * h, scale * w)
    assert fit_grid(scale**2 * h * w, like=(h, w)) == fine
    assert fit_grid(h * w, like=fine) == (h, w)


@given(patches=st.integers(1, 5000), h=st.integers(1, 40), w=st.integers(1, 40))
def test_fit_grid_has_the_patches(patches, h, w):
    grid = fit_grid(patches, like=(h, w))
    assert grid is None or grid[0] * grid[1] == patches


def test_fit_grid_of_other_shapes():
    assert fit_grid(4096, like=(12, 16)) is None
    assert fit_grid(768, like=(12, 16)) == (24, 32)
    assert fit_grid(28 * 37, like=(14, 19)) == (28, 37)
    assert fit_grid(7, like=(1, 1)) is None
