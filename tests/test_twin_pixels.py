"""`propagate_pixels` against the dense float64 twin, on ordinary and on awkward images.

On every backend of a CPU, to the same tolerances.
"""

import numpy as np
import pytest
import torch

import lpprop
import reference

TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-5}
DTYPES = pytest.mark.parametrize("dtype", TOLERANCE, ids=["float64", "float32"])


def make(seed, B=1, C=3, H=5, W=6):
    """Random logits, and images so smooth that tau = 0.01 joins some neighbours, others not."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(B, C, H, W))
    ramp = np.linspace(0.3, 0.36, H)[:, None] + np.linspace(0, 0.05, W)[None, :]
    image = ramp + rng.uniform(-0.01, 0.01, size=(B, 3, H, W))
    return logits.astype(np.float32).astype(float), image.astype(np.float32).astype(float)


def check(
    logits, image=None, dtype=torch.float64, *, backend, pixel_feats=None, exact=False, **options
):
    """Compare with the twin; returns the refined scores.

    In float32, Lab / (100, 128, 128) is good to about 5e-7, which exp(−d/tau) with tau = 0.01 turns
    into 5e-5 of a weight. That is the conversion's rounding and not the propagation's: there the
    twin gets the same float32 Lab, which `test_lab_single_precision` checks by itself.
    """

    def tensor(x):
        return None if x is None else torch.tensor(x, dtype=dtype)

    features = pixel_feats
    if features is None and dtype == torch.float32:
        features = lpprop.lab_features(tensor(image)).double().numpy()
    expected = reference.propagate_pixels(
        logits, image, pixel_feats=features, exact=exact, **options
    )
    got = lpprop.propagate_pixels(
        tensor(logits), tensor(image), pixel_feats=tensor(pixel_feats), backend=backend, **options
    )
    assert got.dtype == dtype
    assert reference.class_error(got, expected) <= TOLERANCE[dtype]
    return got.double().numpy()


SHAPES = {
    "plain": ({}, {"r": 3}),
    "default-radius": ({"H": 9, "W": 16}, {}),
    "batch": ({"B": 3, "C": 2}, {"r": 3}),
    "tall": ({"H": 13, "W": 3}, {"r": 5}),
    "one-row": ({"H": 1, "W": 20}, {"r": 5}),
    "one-column": ({"H": 20, "W": 1}, {"r": 5}),
    "one-class": ({"C": 1}, {"r": 3}),
    "one-pixel": ({"H": 1, "W": 1}, {}),
    "one-pixel-one-class": ({"B": 2, "C": 1, "H": 1, "W": 1}, {"r": 1}),
    "two-pixels": ({"H": 1, "W": 2}, {}),
    "many-classes": ({"C": 40}, {"r": 3}),
    "r-is-1": ({}, {"r": 1}),
    "r-even": ({"H": 8, "W": 8}, {"r": 4}),
    "r-just-covers": ({"H": 5, "W": 5}, {"r": 9}),
    "r-above-image": ({}, {"r": 101}),
}


@DTYPES
@pytest.mark.parametrize(("shape", "options"), SHAPES.values(), ids=SHAPES)
def test_shapes(shape, options, dtype, backend):
    check(*make(0, **shape), dtype, backend=backend, **options)


@DTYPES
@pytest.mark.parametrize("C", [7, 8, 9, 16, 17, 24, 25, 49, 60])
def test_classes(C, dtype, backend):
    """Compiled code takes them eight at a time, in groups of up to 24."""
    check(*make(20, C=C, H=3, W=5), dtype, r=3, backend=backend)


@DTYPES
@pytest.mark.parametrize("W", [3, 4, 5, 63, 64, 65, 127, 129])
def test_widths(W, dtype, backend):
    """Compiled code takes pixels in blocks of 4 and 8, and strips of 64."""
    logits, _ = make(21, C=2, H=2, W=W)
    feats = np.random.default_rng(21).integers(0, 64, size=(1, 2, 2, W)) / 2048
    check(logits, None, dtype, pixel_feats=feats, r=5, backend=backend)


@DTYPES
@pytest.mark.parametrize("H", [3, 64, 65])
def test_heights(H, dtype, backend):
    logits, _ = make(22, C=2, H=H, W=2)
    feats = np.random.default_rng(22).integers(0, 64, size=(1, 2, H, 2)) / 2048
    check(logits, None, dtype, pixel_feats=feats, r=7, backend=backend)


OPTIONS = {
    "tau-large": {"tau": 1.0},
    "tau-small": {"tau": 0.003},
    "alpha-0": {"alpha": 0.0},
    "alpha-0.99": {"alpha": 0.99},
    "one-step": {"max_iter": 1},
    "three-steps": {"max_iter": 3},
    "stops-early": {"tol": 0.05},
    "many-steps": {"max_iter": 1000, "tol": 1e-7},
    "spatial": {"sigma": 0.3},
    "spatial-squared": {"sigma": 0.1, "distance_power": 2.0},
    "spatial-root": {"sigma": 0.5, "distance_power": 0.5},
    "power-without-sigma": {"sigma": 0.0, "distance_power": 2.0},
}


@DTYPES
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_options(options, dtype, backend):
    check(*make(1, B=2, H=7, W=6), dtype, backend=backend, **{"r": 5} | options)


@DTYPES
@pytest.mark.parametrize("options", [{}, {"sigma": 0.3}], ids=["binary", "spatial"])
def test_converged(options, dtype, backend):
    converged = {"max_iter": 1000, "tol": 1e-12 if dtype == torch.float64 else 1e-7}
    check(*make(2, H=7, W=8), dtype, r=5, backend=backend, exact=True, **converged, **options)


# --------------------------------------------------------------------------- features


@DTYPES
def test_depth_alone_needs_no_image(dtype, backend):
    logits, image = make(3)
    check(logits, None, dtype, pixel_feats=image[:, :1], r=3, backend=backend)


@DTYPES
def test_lab_and_depth(dtype, backend):
    """pixel_feats replaces Lab, also where an image is given."""
    logits, image = make(4)
    tensor = torch.tensor(image, dtype=dtype)
    lab = lpprop.lab_features(tensor).double().numpy()
    feats = np.concatenate([lab, make(5)[1][:, :1]], axis=1)
    feats = feats.astype(np.float32).astype(float)
    alone = check(logits, None, dtype, pixel_feats=feats, r=3, backend=backend)
    with_image = check(logits, image, dtype, pixel_feats=feats, r=3, backend=backend)
    np.testing.assert_array_equal(alone, with_image)


@DTYPES
@pytest.mark.parametrize("count", [1, 2, 5])
def test_features_of_any_number(count, dtype, backend):
    rng = np.random.default_rng(23)
    feats = rng.uniform(0, 0.03, size=(1, count, 5, 6)).astype(np.float32).astype(float)
    check(make(23)[0], None, dtype, pixel_feats=feats, r=5, sigma=0.2, backend=backend)


@DTYPES
@pytest.mark.parametrize(
    ("size", "tau"), [(1e18, 0.01), (1e18, 1e18), (3e38, 0.01), (3e38, 1e30)], ids=str
)
def test_huge_features(size, tau, dtype, backend):
    """Two sides of opposite sign: of 3e38, float32 holds not even the difference."""
    logits, _ = make(24, H=4, W=9)
    feats = np.zeros((1, 2, 4, 9))
    feats[:, 0, :, :4], feats[:, 0, :, 6:], feats[:, 1, 2] = -size, size, size / 2
    feats = feats.astype(np.float32).astype(float)
    check(logits, None, dtype, pixel_feats=feats, tau=tau, r=5, backend=backend)


@DTYPES
@pytest.mark.parametrize("tau", [1e-10, 1e-30, 1e-307])
def test_tiny_tau(tau, dtype, backend):
    """Identical pixels stay joined by weights of 1, and no others."""
    logits, _ = make(25, H=4, W=9)
    feats = np.zeros((1, 1, 4, 9))
    feats[..., 4:], feats[..., 2, 6] = 0.5, 1.0
    check(logits, None, dtype, pixel_feats=feats, tau=tau, r=5, backend=backend)


def test_lab_as_pixel_feats_is_the_default():
    logits, image = (torch.tensor(x) for x in make(6))
    default = lpprop.propagate_pixels(logits, image, r=3)
    explicit = lpprop.propagate_pixels(logits, image, pixel_feats=lpprop.lab_features(image), r=3)
    torch.testing.assert_close(default, explicit, rtol=1e-12, atol=0)


def colours():
    """The cube of colours, its black, white and pure corners among them: (1, 3, 17, 289)."""
    steps = np.linspace(0, 1, 17)
    return np.stack(np.meshgrid(steps, steps, steps, indexing="ij")).reshape(1, 3, 17, 289)


# With a gradient kornia computes them, without one our own lines.
GRADIENT = pytest.mark.parametrize("gradient", [False, True])


@GRADIENT
def test_lab(gradient):
    image = colours()
    got = lpprop.lab_features(torch.tensor(image, requires_grad=gradient)).detach()
    np.testing.assert_allclose(got[0].numpy(), reference.lab_features(image[0]), rtol=0, atol=1e-12)


@GRADIENT
def test_lab_single_precision(gradient):
    image = colours().astype(np.float32)
    got = lpprop.lab_features(torch.tensor(image, requires_grad=gradient)).detach()
    assert got.dtype == torch.float32
    np.testing.assert_allclose(got[0].numpy(), reference.lab_features(image[0]), rtol=0, atol=2e-6)


def test_twin_lab_is_lab():
    """The twin against scikit-image and kornia.

    All three agree to rounding. OpenCV's float conversion does not: it interpolates tables and is
    off by up to 0.4 in Lab, so it is no oracle here.
    """
    color = pytest.importorskip("skimage.color")
    import kornia

    image = colours()
    theirs = np.moveaxis(color.rgb2lab(np.moveaxis(image[0], 0, -1)), -1, 0)
    np.testing.assert_allclose(reference.lab(image[0]), theirs, rtol=0, atol=1e-10)
    theirs = kornia.color.rgb_to_lab(torch.tensor(image))[0].numpy()
    np.testing.assert_allclose(reference.lab(image[0]), theirs, rtol=0, atol=1e-10)


# --------------------------------------------------------------------------- degenerate images


@DTYPES
@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("r", [3, 13])
def test_constant_image(level, r, dtype, backend):
    """Every weight is exactly 1; black is where a gradient of the root or of Lab would break."""
    logits, image = make(7)
    check(logits, np.full_like(image, level), dtype, r=r, backend=backend)


@DTYPES
def test_r_1_leaves_the_logits(dtype, backend):
    """No pixel but itself: Ŝ = 0, Ŷ = Y."""
    logits, image = make(8)
    got = check(logits, image, dtype, r=1, backend=backend)
    np.testing.assert_allclose(got, logits, rtol=4 * torch.finfo(dtype).eps)


@DTYPES
def test_a_sharp_edge(dtype, backend):
    """Black beside white: weights of e^-100 across, and nothing is propagated over the edge."""
    logits, image = make(9, H=6, W=8)
    image[..., :4], image[..., 4:] = 0.0, 1.0
    logits[0, 0, :, 4:] = 0
    got = check(logits, image, dtype, r=5, backend=backend)
    assert np.abs(got[0, 0, :, 4:]).max() < 1e-20


@DTYPES
@pytest.mark.parametrize("dot", [0.0, 1.0], ids=["black-on-white", "white-on-black"])
def test_a_lone_pixel(dot, dtype, backend):
    """Its degree is 24·e^-100, which float32 barely holds."""
    logits, image = make(10, H=6, W=8)
    image[:] = 1 - dot
    image[..., 2, 3] = dot
    check(logits, image, dtype, r=5, backend=backend)
    # Its edges weigh e^-50 after normalisation, so a converged solve leaves its own score alone.
    got = check(logits, image, dtype, r=5, max_iter=1000, tol=1e-7, backend=backend)
    np.testing.assert_allclose(got[..., 2, 3], logits[..., 2, 3], rtol=1e-5)


@DTYPES
@pytest.mark.parametrize("shape", [(1, 20), (20, 1)], ids=["row", "column"])
def test_stripes_one_pixel_wide(shape, dtype, backend):
    """All weights are e^-100 alike, so normalised ones are halves: of a few bits, none is lost."""
    logits, _ = make(15, H=shape[0], W=shape[1])
    stripes = (np.arange(20.0) % 2).reshape(1, 1, *shape)
    check(logits, None, dtype, pixel_feats=stripes, r=3, backend=backend)


@DTYPES
def test_no_weight_above_zero(dtype, backend):
    """exp(−1000) is 0 in either precision: all degrees vanish, D counts as 1, and Ŷ = Y."""
    logits, _ = make(11)
    ramp = np.arange(30.0).reshape(1, 1, 5, 6)
    got = check(logits, None, dtype, pixel_feats=ramp, tau=1e-3, r=3, backend=backend)
    np.testing.assert_allclose(got, logits, rtol=4 * torch.finfo(dtype).eps)


@DTYPES
def test_strong_contrast_everywhere(dtype, backend):
    """Pixels of random colour: degrees of 1e-20, whose products float32 cannot hold."""
    logits, _ = make(12)
    image = np.random.default_rng(12).uniform(size=(1, 3, 5, 6))
    check(logits, image.astype(np.float32).astype(float), dtype, r=5, backend=backend)


@DTYPES
def test_zero_logits_stay_zero(dtype, backend):
    logits, image = make(13)
    logits[0, 1] = 0
    got = check(logits, image, dtype, r=3, backend=backend)
    assert (got[0, 1] == 0).all()


@DTYPES
def test_logits_of_any_size(dtype, backend):
    """Each class on its own scale, some beyond what a square holds, one of them zero."""
    logits, image = make(16, C=27)
    tiny, huge = (1e-310, 1e300) if dtype == torch.float64 else (1e-40, 1e30)
    factor = np.ones(27)
    factor[[0, 8, 9, 20, 24, 26]] = tiny, huge, 0, tiny, 0, huge
    logits = torch.tensor(logits * factor[None, :, None, None]).to(dtype).double().numpy()
    expected = reference.propagate_pixels(
        logits / np.where(factor, factor, 1)[None, :, None, None],
        pixel_feats=lpprop.lab_features(torch.tensor(image, dtype=dtype)).double().numpy(),
        r=3,
    )
    got = lpprop.propagate_pixels(
        torch.tensor(logits, dtype=dtype), torch.tensor(image, dtype=dtype), r=3, backend=backend
    ).double()
    assert (got[:, factor == 0] == 0).all()
    # Tiny scores have steps of their own.
    step = torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps / tiny
    for c in np.flatnonzero(factor):
        scale = np.abs(expected[0, c]).max()
        error = np.abs(got[0, c].numpy() / factor[c] - expected[0, c]).max() / scale
        assert error <= TOLERANCE[dtype] + (step if factor[c] == tiny else 0)


@DTYPES
def test_a_result_beyond_the_dtype_is_refused(dtype, backend):
    """And nothing warns of the overflow."""
    logits = torch.full((1, 2, 5, 6), torch.finfo(dtype).max, dtype=dtype)
    with pytest.raises(lpprop.InputError, match="logits whose result that dtype can hold"):
        lpprop.propagate_pixels(logits, torch.rand(1, 3, 5, 6).to(dtype), r=3, backend=backend)


@DTYPES
def test_classes_stop_at_different_steps(dtype, backend):
    """After none, one or two steps, and where the budget ends, side by side in one group."""
    logits, image = make(17, C=27, H=6, W=7)
    image[:] = 0.5
    logits[0, 3] = 0
    # At r = 13 all pixels are joined alike: constants take one step, differences two.
    logits[0, 5::2] = np.arange(1, 12)[:, None, None]
    logits[0, 20] *= 1e-3
    options = {"r": 13, "tol": 1e-4, "backend": backend}
    check(logits, image, dtype, max_iter=1, **options)
    check(logits, image, dtype, max_iter=10, **options)
    ramp = make(18, H=6, W=7)[1]
    logits[0, 7::2] = np.linspace(1, 5, 7)
    check(logits, ramp, dtype, max_iter=10, **options | {"tol": 0.1, "r": 5})


def test_chunks_do_not_show(backend):
    """An image of more pixels than the twin can hold, checked on a crop around each class.

    In max_iter steps a class spreads max_iter·(r//2) pixels, and needs degrees r//2 further: one
    that is zero outside the crop's core is refined as if there were nothing but the crop.
    """
    H, W, reach, steps = 60, 70, 2, 3
    rng = np.random.default_rng(14)
    image = torch.tensor(rng.uniform(0.4, 0.45, size=(1, 3, H, W)))
    logits = torch.zeros(1, 4, H, W, dtype=torch.float64)
    margin = (steps + 1) * reach
    corners = [(0, 0), (0, W - 20), (H - 20, 0), (H - 20, W - 20)]
    for c, (y, x) in enumerate(corners):
        inside = torch.tensor(rng.normal(size=(20 - 2 * margin, 20 - 2 * margin)))
        logits[0, c, y + margin : y + 20 - margin, x + margin : x + 20 - margin] = inside
    whole = lpprop.propagate_pixels(logits, image, r=5, max_iter=steps, backend=backend)
    for c, (y, x) in enumerate(corners):
        crop = (slice(0, 1), slice(c, c + 1), slice(y, y + 20), slice(x, x + 20))
        alone = reference.propagate_pixels(
            logits[crop], image[:, :, crop[2], crop[3]], r=5, max_iter=steps
        )
        assert reference.class_error(whole[crop], alone) <= 1e-9
