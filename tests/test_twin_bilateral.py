"""`joint_bilateral_upsample` against the direct double loop in float64.

On every backend of a CPU, to the same tolerances.
"""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import lpprop
import reference
import reference_dslo as twin

# A weighted mean: its rounding is that of the exponents, which stay below 60 at these sigmas, so
# 60 roundings of the weights, a few times. Relative to the largest entry of a class.
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-5}
DTYPES = pytest.mark.parametrize("dtype", TOLERANCE, ids=["float64", "float32"])


def rounded(array):
    return array.astype(np.float32).astype(np.float64)


def make(seed, grid, pixels, B=1, C=2):
    rng = np.random.default_rng(seed)
    return rounded(rng.normal(size=(B, C, *grid))), rounded(rng.random((B, 3, *pixels)))


TWINS = {}


def expected_of(x, image, **options):
    """What the twin says, which every dtype and backend is compared with."""
    key = (x.shape, x.tobytes(), image.shape, image.tobytes(), *sorted(options.items()))
    if key not in TWINS:
        TWINS[key] = twin.joint_bilateral_upsample(x, image, **options)
    return TWINS[key]


def check(x, image, dtype=torch.float64, tolerance=None, *, backend, **options):
    got = lpprop.joint_bilateral_upsample(
        torch.tensor(x, dtype=dtype), torch.tensor(image, dtype=dtype), backend=backend, **options
    )
    assert got.dtype == dtype
    expected = expected_of(x, image, **options)
    assert reference.class_error(got, expected) <= (tolerance or TOLERANCE[dtype])
    return got.double()


@DTYPES
@pytest.mark.parametrize("pixels", [(7, 9), (6, 8), (12, 16), (2, 3), (1, 1), (1, 7)], ids=str)
@pytest.mark.parametrize("grid", [(1, 1), (3, 4), (5, 3)], ids=str)
def test_sizes(grid, pixels, dtype, backend):
    check(*make(0, grid, pixels), dtype, backend=backend)


@DTYPES
@pytest.mark.parametrize("radius", [0, 1, 2, 3, 100])
def test_radius(radius, dtype, backend):
    check(*make(1, (5, 4), (8, 9)), dtype, radius=radius, backend=backend)


@DTYPES
@pytest.mark.parametrize("radius", [0, 1, 3])
@pytest.mark.parametrize("size", [(7, 9), (3, 4), (2, 2), (5, 1), (20, 6)], ids=str)
def test_other_size(size, radius, dtype, backend):
    check(*make(2, (3, 4), (6, 8)), dtype, size=size, radius=radius, backend=backend)


@DTYPES
@pytest.mark.parametrize("C", [1, 7, 8, 9, 16, 17, 24, 25, 49, 60])
def test_classes(C, dtype, backend):
    """Compiled code takes them eight at a time, in groups of up to 24."""
    check(*make(13, (3, 2), (4, 5), C=C), dtype, backend=backend)


@DTYPES
@pytest.mark.parametrize("W", [3, 4, 5, 63, 64, 65, 127, 129])
def test_widths(W, dtype, backend):
    """Compiled code takes pixels in blocks of 4, and grid points eight at a time."""
    check(*make(14, (1, 13), (1, W), C=1), dtype, radius=3, backend=backend)
    check(*make(14, (13, 1), (W, 1), C=1), dtype, radius=3, backend=backend)


@DTYPES
@pytest.mark.parametrize("radius", [3, 4, 7, 8, 20])
@pytest.mark.parametrize("grid", [(1, 17), (17, 1)], ids=str)
def test_long_grids(grid, radius, dtype, backend):
    """Neighbourhoods of 7, 9, 15, 17 and 33 points, one of their sides cut off at the edge."""
    check(*make(15, grid, grid, C=1), dtype, radius=radius, sigma_space=9.0, backend=backend)


def test_size_of_the_image_is_the_default():
    x, image = (torch.tensor(a) for a in make(2, (3, 4), (6, 8)))
    plain = lpprop.joint_bilateral_upsample(x, image)
    assert torch.equal(lpprop.joint_bilateral_upsample(x, image, size=(6, 8)), plain)


SIGMAS = {
    "small-space": {"sigma_space": 0.2},
    "tiny-space": {"sigma_space": 1e-3},
    "large-space": {"sigma_space": 1e9},
    "small-range": {"sigma_range": 0.05},
    "tiny-range": {"sigma_range": 1e-3},
    "large-range": {"sigma_range": 1e9},
    "both-large": {"sigma_space": 1e9, "sigma_range": 1e9},
    "both-tiny": {"sigma_space": 1e-3, "sigma_range": 1e-3},
}


@pytest.mark.parametrize("sigmas", SIGMAS.values(), ids=SIGMAS)
@pytest.mark.parametrize("radius", [1, 3])
def test_sigmas(sigmas, radius, backend):
    """Exponents reach 1e7 in the tiny ones: so many roundings of float64 are 1e-9."""
    check(*make(3, (4, 5), (9, 7)), tolerance=2e-9, radius=radius, backend=backend, **sigmas)


@DTYPES
def test_tiniest_sigmas(dtype, backend):
    """The nearest grid point takes all where the space decides; the likest where the range does."""
    x, image = make(4, (4, 5), (12, 15))  # odd ratios: no pixel lies between two points
    x, image = torch.tensor(x, dtype=dtype), torch.tensor(image, dtype=dtype)
    nearest = lpprop.joint_bilateral_upsample(x, image, sigma_space=1e-9, backend=backend)
    assert torch.equal(nearest, x.repeat_interleave(3, 2).repeat_interleave(3, 3))
    likest = lpprop.joint_bilateral_upsample(
        x, image, sigma_range=1e-9, radius=100, backend=backend
    )
    points = torch.nn.functional.interpolate(image, (4, 5), mode="bilinear").flatten(2)
    distance = (image.flatten(2)[0, :, :, None] - points[0, :, None, :]).square().sum(0)
    expected = x.flatten(2)[:, :, distance.argmin(1)].unflatten(2, (12, 15))
    assert torch.equal(likest, expected)


TIES = [
    (4, 10),
    (6, 15),
    (2, 5),
    (2, 1),
    (4, 2),
    (6, 7),
    (10, 11),
    (14, 9),
    (12, 10),
    (3, 1),
    (14, 49),
]


@pytest.mark.parametrize("radius", [0, 1])
@pytest.mark.parametrize(("points", "pixels"), TIES, ids=str)
def test_ties_go_to_even(points, pixels, radius, backend):
    """A pixel half way between two grid points belongs to the even one, in rows and columns."""
    x, image = make(5, (points, 1), (pixels, 1))
    check(x, image, radius=radius, backend=backend)
    check(x.swapaxes(2, 3), image.swapaxes(2, 3), radius=radius, backend=backend)


@pytest.mark.parametrize("points", range(1, 17))
def test_rounding_at_every_ratio(points):
    """At radius 0 the result is the score of round(p'), in exact fractions, ties to even."""
    x = torch.arange(points, dtype=torch.float64).view(1, 1, points, 1)
    image = torch.zeros(1, 3, 1, 1, dtype=torch.float64)
    wrong = {}
    for pixels in range(1, 65):
        got = lpprop.joint_bilateral_upsample(x, image, radius=0, size=(pixels, 1)).flatten()
        # round half to even of ((2p + 1) points - pixels) / (2 pixels), in integers
        places = [((2 * p + 1) * points - pixels, 2 * pixels) for p in range(pixels)]
        exact = [
            max(a // b + (2 * (a % b) > b or (2 * (a % b) == b and a // b % 2 == 1)), 0)
            for a, b in places
        ]
        if got.tolist() != exact:
            wrong[pixels] = [i for i in range(pixels) if got[i] != exact[i]]
    assert not wrong


# --------------------------------------------------------------------------- properties


@DTYPES
@pytest.mark.parametrize("radius", [1, 3])
@pytest.mark.parametrize("pixels", [(9, 11), (12, 16)], ids=str)
def test_constant_image_is_gaussian_interpolation(pixels, radius, dtype, backend):
    """exp(-(y' - r)^2) exp(-(x' - s)^2) is separable: two small matrices do it."""
    x, _ = make(6, (4, 5), pixels)

    def matrix(n_in, n_out):
        place = (np.arange(n_out) + 0.5) * n_in / n_out - 0.5
        offset = place[:, None] - np.arange(n_in)
        G = np.exp(-(offset**2))
        G[np.abs(np.round(place)[:, None] - np.arange(n_in)) > radius] = 0
        return G / G.sum(1, keepdims=True)

    expected = matrix(4, pixels[0]) @ x @ matrix(5, pixels[1]).T
    image = torch.full((1, 3, *pixels), 0.4, dtype=dtype)
    got = lpprop.joint_bilateral_upsample(
        torch.tensor(x, dtype=dtype), image, radius=radius, backend=backend
    )
    assert reference.class_error(got, expected) <= TOLERANCE[dtype]


def test_a_step_is_kept_better_than_by_bilinear():
    """A dark and a bright side, the border inside a row of cells: scores follow the colours."""
    image = torch.full((1, 3, 32, 32), 0.1)
    image[..., 18:] = 0.9
    truth = (image[:, :1] > 0.5).double()
    x = torch.nn.functional.avg_pool2d(truth, 8)  # what patches see: one column is a quarter
    image = image.double()
    joint, plain = lpprop.joint_bilateral_upsample(x, image), lpprop.bilinear_upsample(x, (32, 32))
    error = [float((y - truth).abs().mean()) for y in (joint, plain)]
    assert error[0] < 0.7 * error[1]
    # The step itself: 1 in truth, a few eighths of it by bilinear interpolation.
    jump = [float((y[..., 18] - y[..., 17]).mean()) for y in (joint, plain)]
    assert jump[0] > 0.5 > 4 * jump[1]


@given(
    seed=st.integers(0, 2**31),
    h=st.integers(1, 5),
    w=st.integers(1, 5),
    H=st.integers(1, 12),
    W=st.integers(1, 12),
    radius=st.integers(0, 6),
    sigma_space=st.floats(1e-9, 1e9),
    sigma_range=st.floats(1e-9, 1e9),
)
def test_within_the_range_of_the_scores(
    seed, h, w, H, W, radius, sigma_space, sigma_range, backend
):
    x, image = (torch.tensor(a) for a in make(seed, (h, w), (H, W)))
    options = {"radius": radius, "sigma_space": sigma_space, "sigma_range": sigma_range}
    got = lpprop.joint_bilateral_upsample(x, image, backend=backend, **options)
    slack = 1e-12 * x.abs().amax((2, 3))
    assert (got.amax((2, 3)) <= x.amax((2, 3)) + slack).all()
    assert (got.amin((2, 3)) >= x.amin((2, 3)) - slack).all()
    constant = lpprop.joint_bilateral_upsample(
        torch.full_like(x, 0.7), image, backend=backend, **options
    )
    np.testing.assert_allclose(constant, 0.7, rtol=1e-13)


@given(seed=st.integers(0, 2**31), a=st.floats(-5, 5), b=st.floats(-5, 5))
def test_linear_in_the_scores(seed, a, b):
    x, image = (torch.tensor(v) for v in make(seed, (3, 4), (7, 9)))
    x, y = x[:, :1], x[:, 1:]
    mixed = lpprop.joint_bilateral_upsample(a * x + b * y, image)
    apart = lpprop.joint_bilateral_upsample(torch.cat([x, y], 1), image)
    np.testing.assert_allclose(mixed, a * apart[:, :1] + b * apart[:, 1:], atol=1e-13)


def test_flipped_and_turned():
    """Without ties, the square of grid points is the same from every side."""
    x, image = (torch.tensor(a) for a in make(7, (4, 5), (12, 15)))
    plain = lpprop.joint_bilateral_upsample(x, image, radius=1)
    for moved in (lambda a: a.flip(2), lambda a: a.flip(3), lambda a: a.mT):
        turned = lpprop.joint_bilateral_upsample(moved(x), moved(image), radius=1)
        np.testing.assert_allclose(turned, moved(plain), atol=1e-13)


@DTYPES
def test_many_classes(dtype, backend):
    check(*make(8, (4, 3), (9, 7), C=150), dtype, radius=1, backend=backend)


def test_batch_is_a_loop(backend):
    x, image = (torch.tensor(a) for a in make(9, (4, 3), (9, 7), B=3))
    both = lpprop.joint_bilateral_upsample(x, image, backend=backend)
    for b in range(3):
        alone = lpprop.joint_bilateral_upsample(x[b : b + 1], image[b : b + 1], backend=backend)
        assert torch.equal(both[b : b + 1], alone)


def test_blocks_of_rows_are_seamless(backend):
    """Large enough that the work is done some rows at a time; spot checks by the direct loop."""
    x, image = make(10, (40, 40), (160, 160), C=1)
    got = lpprop.joint_bilateral_upsample(
        torch.tensor(x), torch.tensor(image), radius=6, backend=backend
    )
    points = np.stack([reference.bilinear(plane, (40, 40)) for plane in image[0]])
    for y in range(0, 160, 3):
        z = (7 * y) % 160
        place_y, place_x = (y + 0.5) / 4 - 0.5, (z + 0.5) / 4 - 0.5
        r = np.arange(max(round(place_y) - 6, 0), min(round(place_y) + 6, 39) + 1)
        s = np.arange(max(round(place_x) - 6, 0), min(round(place_x) + 6, 39) + 1)
        colour = ((image[0, :, y, z, None, None] - points[:, r][:, :, s]) ** 2).sum(0)
        space = (place_y - r)[:, None] ** 2 + (place_x - s) ** 2
        weights = np.exp(-space - colour / 0.1)
        expected = (weights * x[0, 0][np.ix_(r, s)]).sum() / weights.sum()
        assert abs(float(got[0, 0, y, z]) - expected) <= 1e-12


# --------------------------------------------------------------------------- gradients


@pytest.mark.parametrize(
    "options", [{}, {"radius": 1, "sigma_range": 0.2}, {"size": (3, 7)}], ids=str
)
def test_gradients(options):
    x, image = make(11, (2, 3), (4, 5))
    image = 0.2 + 0.6 * image
    inputs = [torch.tensor(a, requires_grad=True) for a in (x, image)]
    assert torch.autograd.gradcheck(
        lambda x, image: lpprop.joint_bilateral_upsample(x, image, **options), inputs
    )


@pytest.mark.parametrize("options", [{}, {"radius": 1, "size": (3, 7)}], ids=str)
def test_gradient_in_the_scores(options, backend):
    x, image = (torch.tensor(a) for a in make(11, (2, 3), (4, 5)))
    assert torch.autograd.gradcheck(
        lambda x: lpprop.joint_bilateral_upsample(x, image, backend=backend, **options),
        [x.requires_grad_()],
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["half", "bfloat"])
def test_halves(dtype, backend):
    """Computed in float32 and rounded once; scores relative to the largest."""
    x, image = (torch.tensor(a).to(dtype) for a in make(12, (3, 4), (7, 9)))
    got = lpprop.joint_bilateral_upsample(x, image, backend=backend)
    assert got.dtype == dtype
    expected = twin.joint_bilateral_upsample(x.double(), image.double())
    assert reference.class_error(got.double(), expected) <= torch.finfo(dtype).eps
