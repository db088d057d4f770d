"""`class_distribution` and `kl_discrepancy` against loops, closed forms and SciPy."""

from itertools import product

import mpmath
import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st

import lpprop
import reference
import reference_dslo as twin

# Roundings of one softmax and one division, relative to the largest entry of a class: tens of them.
TOLERANCE = {torch.float64: 1e-14, torch.float32: 4e-6}
DTYPES = pytest.mark.parametrize("dtype", TOLERANCE, ids=["float64", "float32"])
HALVES = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["half", "bfloat"])
seeds = st.integers(0, 2**31)


def make(seed, B=2, C=4, h=3, w=4):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(B, C, h, w)).astype(np.float32).astype(np.float64)


def check(logits, dtype=torch.float64, **options):
    got = lpprop.class_distribution(torch.tensor(logits, dtype=dtype), **options)
    assert got.dtype == dtype
    expected = twin.class_distribution(logits, **options)
    assert reference.class_error(got[:, :, None], expected[:, :, None]) <= TOLERANCE[dtype]
    return got


ALL = [
    dict(zip(("nms", "threshold", "confidence", "logit_scale", "early_rejection"), o, strict=True))
    for o in product(
        (0.0, 0.3, 0.9, 1.0),
        ("relative", "absolute"),
        ("softmax", "minmax"),
        (0.1, 1.0, 4.0),  # a larger one brings confidences nearer to 1 than float32 tells apart
        (False, True),
    )
]


@DTYPES
@pytest.mark.parametrize("options", ALL, ids=lambda o: "-".join(map(str, o.values())))
def test_options(options, dtype):
    check(make(0), dtype, **options)


@DTYPES
@pytest.mark.parametrize(
    "shape", [(1, 1, 1, 1), (3, 1, 2, 5), (1, 7, 1, 1), (1, 40, 5, 1)], ids=str
)
def test_shapes(shape, dtype):
    check(make(1, *shape), dtype)
    check(make(1, *shape), dtype, early_rejection=True, confidence="minmax", nms=0.5)


@given(
    seed=seeds,
    nms=st.floats(0, 1),
    threshold=st.sampled_from(["relative", "absolute"]),
    confidence=st.sampled_from(["softmax", "minmax"]),
)
def test_rows_sum_to_1(seed, nms, threshold, confidence):
    f = lpprop.class_distribution(
        torch.tensor(make(seed)), nms=nms, threshold=threshold, confidence=confidence
    )
    assert (f >= 0).all()
    np.testing.assert_allclose(f.sum(2), 1, rtol=1e-14)


def test_nms_0_keeps_every_patch():
    logits = torch.tensor(make(2))
    expected = logits.flatten(2).softmax(2)
    for threshold, confidence in product(("relative", "absolute"), ("softmax", "minmax")):
        f = lpprop.class_distribution(logits, nms=0, threshold=threshold, confidence=confidence)
        np.testing.assert_allclose(f, expected, rtol=1e-13)


@pytest.mark.parametrize("confidence", ["softmax", "minmax"])
def test_nms_1_keeps_the_best(confidence):
    f = lpprop.class_distribution(torch.tensor(make(3)), nms=1, confidence=confidence)
    assert torch.equal(f.count_nonzero(2), torch.ones(2, 4, dtype=torch.int64))
    assert (f.amax(2) == 1).all()


@DTYPES
@pytest.mark.parametrize("confidence", ["softmax", "minmax"])
@pytest.mark.parametrize("threshold", ["relative", "absolute"])
def test_tied_patches_share(confidence, threshold, dtype):
    """Two best patches alike in every class: both are kept, at a half each."""
    logits = torch.tensor([[[[1.0, 3.0, 3.0, 0.0]], [[2.0, 0.5, 0.5, 1.0]]]], dtype=dtype)
    f = lpprop.class_distribution(logits, nms=1, confidence=confidence, threshold=threshold)
    assert f[0, 0].tolist() == [0, 0.5, 0.5, 0]


@pytest.mark.filterwarnings("ignore:logits. got scores that differ by at most:UserWarning")
@DTYPES
@pytest.mark.parametrize("confidence", ["softmax", "minmax"])
def test_constant_logits_are_uniform(confidence, dtype):
    logits = torch.full((1, 3, 2, 4), 0.7, dtype=dtype)
    f = lpprop.class_distribution(logits, nms=1, confidence=confidence)
    np.testing.assert_allclose(f, 1 / 8, rtol=4 * torch.finfo(dtype).eps)


def test_absolute_threshold_without_a_patch_keeps_the_best():
    """Three classes near 1/3 each never reach 0.9; the fourth does at one patch."""
    logits = make(4, B=1, C=4) * 0.1
    logits[0, 3, 1, 2] = 10
    logits[0, 3, 0, 0] = 9
    f = check(logits, nms=0.9, threshold="absolute")
    shares = torch.tensor(logits).softmax(1).flatten(2)
    for c in range(3):
        assert shares[0, c].max() < 0.9
        assert f[0, c].argmax() == shares[0, c].argmax()
        assert f[0, c].max() == 1
    assert f[0, 3].count_nonzero() == 2


def test_absolute_threshold_keeps_all_of_tied_best():
    logits = torch.zeros(1, 3, 1, 4)
    logits[0, 0, 0, 2:] = 0.5
    f = lpprop.class_distribution(logits, threshold="absolute")
    assert f[0, 0].tolist() == [0, 0, 0.5, 0.5]


@DTYPES
@pytest.mark.parametrize("threshold", ["relative", "absolute"])
@pytest.mark.parametrize("below", [0, 88, 400, 2e4])
def test_suppression_of_a_class_whose_confidence_underflows(below, threshold, dtype):
    """The class is `below` the best of each patch; its confidences are e^-below times 1, e^-0.05,
    e^-0.2 and e^-1, of which 0.9 lets two pass. In float32 they vanish from 88 on."""
    gaps = torch.tensor([0.0, 0.05, 0.2, 1.0], dtype=dtype)
    logits = torch.stack([torch.zeros_like(gaps), -below - gaps])[None, :, None]
    f = lpprop.class_distribution(logits, nms=0.9, threshold=threshold)[0, 1]
    kept = 1  # no confidence reaches 0.9, so the best patch alone stays
    if threshold == "relative":
        log_q = [-mpmath.log(1 + mpmath.exp(mpmath.mpf(float(z)))) for z in below + gaps]
        kept = sum(q >= mpmath.log("0.9") + max(log_q) for q in log_q)
    assert f.count_nonzero() == kept
    torch.testing.assert_close(f[:kept], (-gaps[:kept]).softmax(0), rtol=1e-2, atol=0)


# --------------------------------------------------------------------------- early rejection


def test_early_rejection():
    """Class 1 is second everywhere: a row of zeros, and nothing changes for the others."""
    logits = torch.tensor([[[[3.0, 0.0, 5.0]], [[2.0, 1.0, 4.0]], [[0.0, 2.0, 0.0]]]])
    plain = lpprop.class_distribution(logits, nms=0.5)
    f = lpprop.class_distribution(logits, nms=0.5, early_rejection=True)
    assert (f[0, 1] == 0).all()
    assert torch.equal(f[0, [0, 2]], plain[0, [0, 2]])


@given(seed=seeds, C=st.integers(1, 12))
def test_early_rejection_keeps_the_winners_of_each_item(seed, C):
    logits = torch.tensor(make(seed, B=3, C=C, h=2, w=3))
    f = lpprop.class_distribution(logits, early_rejection=True)
    won = torch.nn.functional.one_hot(logits.flatten(2).argmax(1), C).any(1)
    assert torch.equal(f.sum(2) > 0, won)


@pytest.mark.filterwarnings("ignore:logits. got scores that differ by at most:UserWarning")
def test_early_rejection_with_ties_leaves_someone():
    """All classes alike: which of them wins is open, that one does is not."""
    f = lpprop.class_distribution(torch.zeros(2, 5, 3, 3), early_rejection=True)
    assert (f.sum(2).amax(1) > 0).all()


@pytest.mark.filterwarnings("ignore:logits. got scores that differ by at most:UserWarning")
def test_early_rejection_ignores_the_scale():
    """A scale that sends softmax to ties must not decide who wins."""
    logits = torch.tensor(make(5))
    tiny, plain = (
        lpprop.class_distribution(logits, nms=0, early_rejection=True, logit_scale=scale)
        for scale in (1e-9, 1.0)
    )
    assert torch.equal(tiny > 0, plain > 0)


# --------------------------------------------------------------------------- invariants


@given(seed=seeds, a=st.sampled_from([0.25, 0.5, 2.0, 64.0]), shift=st.integers(-8, 8))
def test_minmax_sees_neither_scale_nor_shift_nor_other_classes(seed, a, shift):
    """Which patches are kept; eighths are exact through either."""
    logits = torch.tensor(np.round(make(seed) * 8) / 8)
    kept = lpprop.class_distribution(logits, nms=0.6, confidence="minmax") > 0
    moved = logits.clone()
    moved[:, 1] = a * moved[:, 1] + shift
    moved[:, 2] = moved[:, 2].flip(-1) * 3
    again = lpprop.class_distribution(moved, nms=0.6, confidence="minmax") > 0
    assert torch.equal(again[:, [0, 1, 3]], kept[:, [0, 1, 3]])


@given(seed=seeds, shift=st.floats(-50, 50))
def test_softmax_sees_no_shift_of_all_classes(seed, shift):
    """The confidence sees no shift over classes, the softmax none over patches."""
    logits = torch.tensor(make(seed))
    plain = lpprop.class_distribution(logits, nms=0.6)
    moved = lpprop.class_distribution(logits + shift, nms=0.6)
    np.testing.assert_allclose(moved, plain, rtol=1e-12, atol=1e-15)


@given(seed=seeds, data=st.data())
def test_class_and_patch_permutation(seed, data):
    logits = torch.tensor(make(seed, h=1, w=12))
    classes, patches = data.draw(st.permutations(range(4))), data.draw(st.permutations(range(12)))
    f = lpprop.class_distribution(logits, nms=0.4, early_rejection=True)
    moved = lpprop.class_distribution(
        logits[:, classes][..., patches], nms=0.4, early_rejection=True
    )
    np.testing.assert_allclose(moved, f[:, classes][..., patches], rtol=1e-12, atol=1e-15)


def test_logit_scale_is_a_factor():
    logits = torch.tensor(make(6))
    np.testing.assert_allclose(
        lpprop.class_distribution(logits, logit_scale=7.0),
        lpprop.class_distribution(7.0 * logits),
        rtol=1e-13,
        atol=1e-15,
    )


def test_patches_in_row_major_order():
    logits = torch.zeros(1, 1, 3, 4)
    logits[0, 0, 1, 2] = 50
    assert lpprop.class_distribution(logits)[0, 0].argmax() == 1 * 4 + 2


# --------------------------------------------------------------------------- extremes and dtypes


@DTYPES
@pytest.mark.parametrize("size", [1e30, 3e38, -3e38])
@pytest.mark.parametrize("confidence", ["softmax", "minmax"])
@pytest.mark.parametrize("threshold", ["relative", "absolute"])
def test_extreme_logits(size, confidence, threshold, dtype):
    """Each class far above at a patch of its own, which takes it all; 3e38 is near the largest
    number of float32, so that a difference of two leaves its range."""
    logits = torch.tensor([[[[1.0, -1.0, 0.0]], [[-1.0, 1.0, 0.0]]]], dtype=dtype) * size
    f = lpprop.class_distribution(logits, confidence=confidence, threshold=threshold)
    expected = [[1, 0, 0], [0, 1, 0]] if size > 0 else [[0, 1, 0], [1, 0, 0]]
    assert f[0].tolist() == expected


@pytest.mark.filterwarnings("ignore:logits. got scores that differ by at most:UserWarning")
@DTYPES
def test_extreme_offset(dtype):
    """A common offset of 1e30 swallows the rest: all alike."""
    f = lpprop.class_distribution(torch.tensor(make(7), dtype=dtype) + 1e30)
    np.testing.assert_allclose(f, 1 / 12, rtol=4 * torch.finfo(dtype).eps)


@HALVES
@pytest.mark.parametrize("options", [{}, {"confidence": "minmax", "nms": 0.5}, {"nms": 0}], ids=str)
def test_halves(options, dtype):
    """Computed in float32 from the rounded logits; the result is rounded once."""
    logits = torch.tensor(make(8)).to(dtype)
    f = lpprop.class_distribution(logits, **options)
    assert f.dtype == dtype
    expected = twin.class_distribution(logits.double(), **options)
    np.testing.assert_allclose(f.double(), expected, rtol=torch.finfo(dtype).eps, atol=1e-7)


@HALVES
def test_half_extremes(dtype):
    top = torch.finfo(dtype).max
    f = lpprop.class_distribution(torch.tensor([[[[top, -top]], [[-top, top]]]], dtype=dtype))
    assert f[0].tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize(
    "options", [{"nms": 0.0}, {"nms": 0.5}, {"nms": 0.5, "logit_scale": 3.0}], ids=str
)
def test_gradient(options):
    logits = torch.tensor(make(9, C=3, h=2, w=3), requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: lpprop.class_distribution(x, **options), logits)


def test_gradient_of_rejected_classes_is_zero():
    logits = torch.tensor([[[[3.0, 5.0]], [[2.0, 4.0]]]], requires_grad=True)
    f = lpprop.class_distribution(logits, nms=0, early_rejection=True)
    f[0, :, 0].sum().backward()
    assert (logits.grad[0, 1] == 0).all()
    assert (logits.grad[0, 0] != 0).all()


# --------------------------------------------------------------------------- KL


def distributions(seed, B=2, C=3, N=12):
    f = np.random.default_rng(seed).dirichlet(np.full(N, 0.5), size=(B, C))
    f[..., ::3] = 0
    return f / f.sum(-1, keepdims=True)


@DTYPES
def test_kl(dtype):
    f = distributions(0)
    got = lpprop.kl_discrepancy(torch.tensor(f, dtype=dtype))
    assert got.dtype == dtype
    expected = twin.kl_discrepancy(f)
    assert reference.class_error(got[:, :, None], expected[:, :, None]) <= TOLERANCE[dtype]


@given(seed=seeds)
def test_kl_sums_to_the_divergence(seed):
    f = distributions(seed)
    got = lpprop.kl_discrepancy(torch.tensor(f)).sum(2)
    expected = scipy.stats.entropy(f, np.full(12, 1 / 12), axis=2)
    np.testing.assert_allclose(got, expected, rtol=1e-12)
    assert (got >= 0).all()


@DTYPES
@pytest.mark.parametrize("kept", [1, 2, 7, 16])
def test_kl_of_uniform_over_some_patches(kept, dtype):
    """f = 1/k at k patches: log(N / k) / k there, 0 elsewhere."""
    f = torch.zeros(1, 1, 16, dtype=dtype)
    f[..., :kept] = 1 / kept
    got = lpprop.kl_discrepancy(f)[0, 0]
    expected = np.r_[np.full(kept, np.log(16 / kept) / kept), np.zeros(16 - kept)]
    np.testing.assert_allclose(got, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


def test_kl_of_rejected_rows_is_zero():
    f = torch.tensor(distributions(1))
    f[0, 1] = 0
    got = lpprop.kl_discrepancy(f)
    assert (got[0, 1] == 0).all()
    alone = lpprop.kl_discrepancy(torch.tensor(distributions(1)))
    assert torch.equal(got[0, [0, 2]], alone[0, [0, 2]])


@HALVES
def test_kl_halves(dtype):
    """f log(f N) of the rounded f, whose sum is taken back to 1; then rounded once."""
    f = torch.tensor(distributions(2)).to(dtype)
    exact = f.double() / f.double().sum(2, keepdim=True)
    got = lpprop.kl_discrepancy(f)
    assert got.dtype == dtype
    eps = torch.finfo(dtype).eps
    np.testing.assert_allclose(got.double(), twin.kl_discrepancy(exact), rtol=eps, atol=eps / 100)


def test_kl_gradient():
    f = torch.tensor(np.random.default_rng(3).dirichlet(np.ones(6), size=(1, 2)))
    assert torch.autograd.gradcheck(lpprop.kl_discrepancy, f.requires_grad_())


def test_kl_gradient_is_finite_at_zeros():
    f = torch.tensor(distributions(4), requires_grad=True)
    lpprop.kl_discrepancy(f).square().sum().backward()
    assert torch.isfinite(f.grad).all()
