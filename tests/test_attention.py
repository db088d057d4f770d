"""Attention: from features, sharpened and aggregated, against NumPy written from the equations."""

import itertools
import re
import warnings
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import lpprop
import reference
import reference_dslo as twin
from lpprop.inputs.attention import as_rows, fit_grid

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


# --------------------------------------------------------------------------- proxy attention


def proxy_by_hand(feats, beta=1.2, gamma=3.0):
    """ProxyCLIP's rule, patch by patch; a patch without any goes to itself."""
    feats = np.asarray(feats, dtype=np.float64)
    found = []
    for item in feats:
        cosines = reference.similarities(item.reshape(len(item), -1).T)
        rows = []
        for number, row in enumerate(cosines):
            exponents = gamma * (row - beta * cosines.mean())
            shares = np.where(exponents >= 0, np.exp(exponents), 0.0)
            shares = shares if shares.any() else np.eye(len(row))[number]
            rows.append(shares / shares.sum())
        found.append(rows)
    return np.array(found)


@DTYPES
@pytest.mark.parametrize("options", [{}, {"beta": 0.0}, {"beta": 2.5, "gamma": 0.5}, {"gamma": 40}])
def test_proxy_attention_by_hand(options, dtype):
    x = features(6) + 0.4  # a mean cosine above 0
    A = lpprop.proxy_attention(torch.tensor(x, dtype=dtype), **options)
    assert A.dtype == dtype
    close(A, proxy_by_hand(x, **options), dtype)
    rows_sum_to_1(A, dtype)
    assert (options.get("beta", 1.2) == 0) or ((A == 0).any() and (A > 0).sum() > 2 * 12)


def test_each_item_of_proxy_attention_has_its_own_mean():
    x = torch.tensor(features(6))
    x[1] += 1
    for item, alone in zip(lpprop.proxy_attention(x), x.split(1), strict=True):
        torch.testing.assert_close(item[None], lpprop.proxy_attention(alone))


@HALVES
def test_proxy_attention_of_halves(dtype):
    x = torch.tensor(features(4) + 0.4).to(dtype)
    A = lpprop.proxy_attention(x)
    assert A.dtype == torch.float32
    close(A, proxy_by_hand(x.double()), torch.float32)


def test_gradient_of_proxy_attention():
    x = torch.tensor(features(5, B=1, D=3, h=2, w=2), requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: lpprop.proxy_attention(x, beta=0.9), x)


@DTYPES
@pytest.mark.parametrize("gamma", [1e30, 1e300])
@pytest.mark.parametrize("beta", [0.5, 1e300])
def test_proxy_attention_at_huge_options(beta, gamma, dtype):
    """Each patch attends to itself, the most similar one."""
    x = torch.tensor(features(3) + 0.4, dtype=dtype)
    with pytest.warns(lpprop.InputWarning) if beta > 1 else warnings.catch_warnings():
        A = lpprop.proxy_attention(x, beta=beta, gamma=gamma)
    close(A, np.broadcast_to(np.eye(12), (2, 12, 12)), dtype)


def test_a_masked_patch_attends_to_itself_alone():
    """All cosines are below 1.2 times their mean, even those of patches with themselves."""
    x = torch.tensor(0.1 * features(7) + 1, requires_grad=True)
    with pytest.warns(lpprop.InputWarning, match="24 of 24 patches have no cosine of beta=1.2"):
        A = lpprop.proxy_attention(x)
    np.testing.assert_array_equal(A.detach(), np.broadcast_to(np.eye(12), (2, 12, 12)))
    A.square().sum().backward()
    assert torch.isfinite(x.grad).all()
    x = torch.tensor(features(6) + 0.4)
    x[0, :, 1, 1] = 0
    with pytest.warns(lpprop.InputWarning, match="1 of 24 patches"):
        A = lpprop.proxy_attention(x)
    close(A, proxy_by_hand(x))
    assert A[0, 5, 5] == 1


# --------------------------------------------------------------------------- doubtful input


@pytest.mark.parametrize("build", [lpprop.attention_from_features, lpprop.proxy_attention])
@pytest.mark.parametrize("value", [0.0, 3.0])
def test_constant_features_are_said(build, value):
    x = torch.tensor(features(0), dtype=torch.float32)
    build(x)  # pytest turns warnings into errors
    build(torch.full((1, 6, 1, 1), 3.0))  # one patch cannot differ
    x[1] = value * torch.arange(6.0)[:, None, None] * (1 + torch.rand(3, 4))
    with pytest.warns(lpprop.InputWarning, match="feats: 1 of 2 items are zero, or the same") as w:
        A = build(x)
    assert all("test_attention" in one.filename for one in w)
    if build is lpprop.attention_from_features:
        np.testing.assert_allclose(A[1], 1 / 12, rtol=1e-5)


MAPS = pytest.mark.parametrize("method", ["optimal_path", "max_velocity"])


def scene(patches=20):
    random = torch.Generator().manual_seed(0)
    logits = torch.rand(1, 3, 4, 5, generator=random)
    attention = torch.rand(1, patches, patches, generator=random).pow(3)
    return logits, attention / attention.sum(-1, keepdim=True)


@MAPS
@pytest.mark.parametrize("scale", [0.6, 30.0])
def test_rows_of_another_sum_give_the_same_with_and_without_heads(method, scale):
    logits, attention = scene()
    row = torch.linspace(0.5, 1, 20)[:, None] * scale  # each row has its own sum
    expected = lpprop.refine(logits, attention=attention, size=(8, 10), method=method_of(method))
    found = []
    for form in (row * attention, (row * attention)[:, None], (row * attention)[0].numpy()):
        with pytest.warns(lpprop.InputWarning, match="attention: .* of 20 rows do not sum") as said:
            found.append(
                lpprop.refine(logits, attention=form, size=(8, 10), method=method_of(method))
            )
        assert len(said) == 1
    assert all(torch.equal(found[0], other) for other in found[1:])
    torch.testing.assert_close(found[0], expected, rtol=1e-5, atol=0)


def method_of(name):
    """The map itself, without an upsampling that needs the image."""
    step = lpprop.OptimalPath(norm="image") if name == "optimal_path" else lpprop.MaxVelocity()
    return lpprop.Chain(lpprop.ClassDistribution(nms=0.5), step)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_rows_of_a_softmax_stay_as_they_are(dtype):
    logits = torch.randn(2, 1024, 1024, generator=torch.Generator().manual_seed(0))
    for sharp in (0.1, 1.0, 12.0):
        rows = (sharp * logits).softmax(-1).to(dtype)
        assert as_rows(rows) is rows
        wide = torch.promote_types(dtype, torch.float32)
        assert torch.equal(as_rows(rows[:, None]), rows.to(wide))


def test_rows_of_another_sum_next_to_proper_ones():
    _, attention = scene()
    attention[0, 3] *= 1.009  # within rounding
    attention[0, 7] *= 0.5
    with pytest.warns(lpprop.InputWarning, match=r"1 of 20 rows .* but to 0.5 to 1.01"):
        rows = as_rows(attention)
    np.testing.assert_allclose(rows[0, 7].sum(), 1, rtol=1e-6)
    attention[0, 7] = rows[0, 7]
    assert torch.equal(rows, attention)
    assert as_rows(rows) is rows
    # Without checks nothing is read, in either form.
    with lpprop.value_checks(False):
        assert torch.equal(as_rows(0.5 * rows), 0.5 * rows)
        assert torch.equal(as_rows(0.5 * rows[:, None]), 0.5 * rows)


def test_gradient_of_rows():
    A = torch.tensor(maps(4, 1, 2, 4, sharp=1.0), requires_grad=True)

    def rows(A):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return as_rows(A), as_rows(A[:, 1])

    assert torch.autograd.gradcheck(rows, A)


@pytest.mark.parametrize(
    ("tokens", "kind"),
    [
        (1, "a class token before 8 x 10 patches: drop it, attention = attention[..., 1:, 1:]"),
        (2, "2 class tokens before 8 x 10 patches: drop them, attention = attention[..., 2:, 2:]"),
        (5, "a class token and 4 registers before 8 x 10 patches: drop them"),
    ],
)
@pytest.mark.parametrize("heads", [False, True])
def test_class_tokens_in_the_attention_are_named(tokens, kind, heads):
    logits, attention = scene(80 + tokens)
    given = attention[:, None] if heads else attention
    with pytest.raises(lpprop.InputError, match=re.escape(f"These look like tokens with {kind}")):
        lpprop.refine(logits, attention=given, size=(8, 10), method=method_of("max_velocity"))
    # What the message says.
    attention = given[..., tokens:, tokens:]
    attention = attention / attention.sum(-1, keepdim=True)
    lpprop.refine(logits, attention=attention, size=(8, 10), method=method_of("max_velocity"))


# --------------------------------------------------------------------------- layouts


def layouts(x):
    """The same numbers with other strides."""
    for order in itertools.permutations(range(x.ndim)):
        back = [order.index(axis) for axis in range(x.ndim)]
        yield x.permute(order).contiguous().permute(back)
    yield torch.stack([x, x], -1)[..., 0]
    yield torch.cat([x, x], -1)[..., : x.shape[-1]]


def softmaxed(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)).softmax(-1)


LAID_OUT = {
    "aggregate": (
        lambda x: lpprop.aggregate_attention([x], size=(5, 9), grids=[(6, 8)]),
        softmaxed(2, 48, 48),
    ),
    "aggregate-heads": (
        lambda x: lpprop.aggregate_attention([x], size=(12, 16), grids=[(6, 8)]),
        softmaxed(1, 3, 48, 48),
    ),
    "aggregate-same-grid": (
        lambda x: lpprop.aggregate_attention([x], size=(6, 8)),
        softmaxed(2, 3, 48, 48),
    ),
    "rows": (as_rows, softmaxed(2, 3, 48, 48)),
    "sharpen": (lpprop.sharpen_attention, softmaxed(2, 48, 48)),
    "from-features": (lpprop.attention_from_features, softmaxed(2, 96, 6, 8)),
    "proxy": (lambda x: lpprop.proxy_attention(x, beta=1.01), softmaxed(2, 96, 6, 8)),
}


@DTYPES
@pytest.mark.parametrize("name", LAID_OUT)
def test_strides_do_not_change_a_bit(name, dtype):
    function, x = LAID_OUT[name]
    x = x.to(dtype)
    expected = function(x)
    for other in layouts(x):
        assert torch.equal(other, x)
        assert torch.equal(function(other), expected)


# --------------------------------------------------------------------------- odd numbers


def test_options_of_other_types_are_the_numbers_that_they_stand_for():
    x, A = torch.tensor(features(0)), torch.tensor(maps(0, 1, 2, 9))
    half = (np.float16(0.5), Fraction(1, 2), np.float64(0.5))
    for one in half:
        assert torch.equal(
            lpprop.attention_from_features(x, one), lpprop.attention_from_features(x, 0.5)
        )
        assert torch.equal(
            lpprop.sharpen_attention(A[:, 0], one), lpprop.sharpen_attention(A[:, 0], 0.5)
        )
        assert torch.equal(
            lpprop.proxy_attention(x, beta=one, gamma=one),
            lpprop.proxy_attention(x, beta=0.5, gamma=0.5),
        )
        assert torch.equal(
            lpprop.aggregate_attention(
                [A, A], [one, [one, np.int8(1)]], (np.int64(3), np.uint8(3))
            ),
            lpprop.aggregate_attention([A, A], [0.5, [0.5, 1.0]], (3, 3)),
        )
        assert type(lpprop.Chain(lpprop.MaxVelocity(), temperature=one).temperature) is float


@pytest.mark.parametrize("scale", [1e308, 1e-308, 3e-320])
def test_weights_of_any_size(scale):
    given = [torch.tensor(maps(seed, 1, 2, 9)) for seed in (0, 1)]
    found = lpprop.aggregate_attention(given, [1.0 * scale, [0.5 * scale, 0.25 * scale]])
    close(found, lpprop.aggregate_attention(given, [1.0, [0.5, 0.25]]), torch.float32)
