"""DenseCRF against the paper's equations in dense float64, closed forms, and the package's own 2D.

The permutohedral lattice is approximate. Over 36 x 48 pixels of a drawn scene, from six starts, one
step's probabilities are 0.002 to 0.004 from the exact ones on average, where the step moves them by
0.07 to 0.18, and 99 % of the labels agree. Five steps amplify what is different, as far as whole
parts that tip over: 0.001 to 0.037 where they move by 0.15 to 0.29, and 93 to 99.8 % of the labels.
"""

import importlib.util
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import lpprop
from lpprop.refiners import dense_crf
from reference_crf import mean_field

SIZE = (36, 48)


@pytest.fixture
def package():
    return pytest.importorskip("pydensecrf.densecrf")


def scene(noise=0.02):
    """A disc, a half plane and a ramp, one a channel, with noise."""
    rows, columns = torch.meshgrid(*(torch.arange(side) for side in SIZE), indexing="ij")
    disc = (columns - 28) ** 2 + (rows - 14) ** 2 < 100
    planes = torch.stack([0.2 + 0.6 * disc, 0.2 + 0.5 * (columns > rows), 0.3 + columns / 120])
    random = torch.Generator().manual_seed(1)
    return (planes + noise * torch.randn(planes.shape, generator=random)).clamp(0, 1)


def smooth_scores(classes=4, seed=0):
    random = torch.Generator().manual_seed(seed)
    coarse = torch.randn(1, classes, 3, 4, generator=random)
    return F.interpolate(coarse, SIZE, mode="bilinear")


def distances(x, image, scale, **options):
    """Mean and largest difference from the exact mean field, and how far that is from its start."""
    start = (scale * x[0].double()).log_softmax(0)
    exact = mean_field(start, image, **options)
    got = dense_crf(x, image[None], scale=scale, **options)[0].double()
    same = (got.argmax(0) == exact.argmax(0)).double().mean()
    moved = (exact - start.exp()).abs().mean()
    return (got - exact).abs().mean(), (got - exact).abs().max(), moved, same


# ------------------------------------------------------------------------ the twin


@pytest.mark.parametrize("scale", [1.0, 4.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_step_is_the_exact_one_but_for_the_lattice(package, scale, seed):
    mean, most, moved, same = distances(smooth_scores(seed=seed), scene(), scale, iterations=1)
    assert mean < 0.005
    assert mean < 0.05 * moved
    assert most < 0.15
    assert same > 0.985


@pytest.mark.parametrize("scale", [1.0, 4.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_five_steps_give_most_labels_of_the_exact_ones(package, scale, seed):
    mean, _, moved, same = distances(smooth_scores(seed=seed), scene(), scale)
    assert moved > 0.1
    assert mean < 0.25 * moved
    assert same > 0.92


@pytest.mark.parametrize("image", [scene(), scene(noise=1.0)], ids=["scene", "noise"])
def test_the_smoothness_kernel_alone_is_close_everywhere(package, image):
    """Two dimensions, where the lattice is good."""
    mean, most, moved, _ = distances(smooth_scores(), image, 2.0, w1=0.0)
    assert mean < 0.003
    assert most < 0.08
    assert moved > 0.05


@pytest.mark.parametrize(
    "options", [{"theta_alpha": 8.0}, {"theta_beta": 40.0}, {"w1": 5.0}, {"w2": 6.0},
                {"theta_gamma": 6.0}]
)  # fmt: skip
def test_the_twin_would_tell_another_setting(package, options):
    """So that its tolerance means something: each option moves more than it allows."""
    x, image = smooth_scores(), scene()
    exact = mean_field(x[0].double().log_softmax(0), image, iterations=1)
    other = dense_crf(x, image[None], scale=1.0, iterations=1, **options)[0]
    assert float((other - exact).abs().mean()) > 0.012
    mean, *_ = distances(x, image, 1.0, iterations=1, **options)
    assert mean < 0.006


# ------------------------------------------------------------------------ closed forms


@pytest.mark.parametrize("options", [{"w1": 0, "w2": 0}, {"iterations": 0}])
def test_without_a_kernel_or_a_step_it_is_the_softmax(package, options):
    x = smooth_scores()
    got = dense_crf(x, scene()[None], scale=3.0, **options)
    torch.testing.assert_close(got, (3 * x).softmax(1), rtol=1e-5, atol=1e-6)


def test_two_flat_colours_far_apart_are_two_means(package):
    """With a reach beyond the image, a pixel hears the mean of its colour, and of no other."""
    image = torch.zeros(1, 3, *SIZE)
    image[..., 20:] = 1
    x = smooth_scores()
    got = dense_crf(x, image, scale=2.0, w1=3.0, theta_alpha=1e5, w2=0, iterations=4)
    unary = (2 * x.double()).log_softmax(1)
    for half in (np.s_[..., :20], np.s_[..., 20:]):
        q = unary[half].softmax(1)
        for _ in range(4):
            q = (unary[half] + 3 * q.mean((2, 3), keepdim=True)).softmax(1)
        torch.testing.assert_close(got[half].double(), q, rtol=0, atol=1e-4)


def test_one_pixel_hears_itself(package):
    x, image = torch.tensor([1.0, 0.0, -1.0]).reshape(1, 3, 1, 1), torch.rand(1, 3, 1, 1)
    got = dense_crf(x, image, scale=1.0, w1=2.0, w2=0.5, iterations=2)
    q = x.softmax(1)
    for _ in range(2):
        q = (x + 2.5 * q).softmax(1)
    torch.testing.assert_close(got, q, rtol=0, atol=1e-5)


# ------------------------------------------------------------------------ the package's own 2D


def test_it_is_the_packages_own_model_of_an_image(package):
    """The calls of its documentation, on 8-bit colours."""
    classes, colours = 3, (255 * scene()).round().byte()
    probabilities = smooth_scores(classes).softmax(1)
    model = package.DenseCRF2D(*SIZE[::-1], classes)
    unary = -probabilities[0].log().flatten(1)
    model.setUnaryEnergy(unary.contiguous().numpy())
    model.addPairwiseGaussian(sxy=3, compat=3)
    rgb = np.ascontiguousarray(colours.permute(1, 2, 0).numpy())
    model.addPairwiseBilateral(sxy=80, srgb=13, rgbim=rgb, compat=10)
    expected = np.array(model.inference(5)).reshape(classes, *SIZE)
    got = dense_crf(probabilities, colours[None] / 255, scale=None)[0].numpy()
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-3)
    assert np.abs(expected - probabilities[0].numpy()).mean() > 0.1


def test_colours_between_the_8_bit_levels_count(package):
    """Unlike in the package's own, which takes bytes: both halves would be 128."""
    image = torch.full((1, 3, *SIZE), 0.5)
    image[..., 24:] += 0.9 / 255
    x = torch.zeros(1, 2, *SIZE)
    x[:, 0, :, :24], x[:, 1, :, 24:] = 0.5, 0.4
    options = {"scale": 1.0, "w2": 0.0, "theta_alpha": 1e5, "theta_beta": 0.25}
    flat = dense_crf(x, torch.full_like(image, 0.5), **options)
    assert (flat[:, 0] > 0.9).all()
    assert (dense_crf(x, image, **options)[:, 1, :, 24:] > 0.9).all()


# ------------------------------------------------------------------------ scores to probabilities


def test_auto_makes_any_scale_and_offset_of_the_scores_the_same(package):
    """Propagated scores, probabilities, cosines near 0.2: the range says nothing."""
    x, image = smooth_scores(), scene()[None]
    expected = dense_crf(x, image)
    for scale, offset in ((1e-3, 0.2), (40.0, -3.0), (1.0, 0.0)):
        got = dense_crf(scale * x.double() + offset, image).float()
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-3)


def test_auto_brings_the_two_best_classes_to_log_odds_of_12_on_average(package):
    x = smooth_scores(5)
    p = dense_crf(0.01 * x, scene()[None], w1=0, w2=0).double()
    first, second = p.log().topk(2, dim=1).values.unbind(1)
    torch.testing.assert_close((first - second).mean().item(), 12.0, rtol=1e-3, atol=0)


def test_auto_takes_each_image_by_itself(package):
    x, image = smooth_scores(), scene()[None]
    both = dense_crf(torch.cat([x, 100 * x]), torch.cat([image, image]))
    torch.testing.assert_close(both[0], both[1], rtol=0, atol=1e-3)


@pytest.mark.parametrize("classes", [1, 3])
def test_scores_that_tell_nothing_stay_uniform(package, classes):
    got = dense_crf(torch.full((1, classes, *SIZE), 0.3), scene()[None])
    torch.testing.assert_close(got, torch.full_like(got, 1 / classes), rtol=0, atol=1e-5)


def test_probabilities_of_0_are_taken(package):
    x = F.one_hot(smooth_scores()[0].argmax(0), 4).permute(2, 0, 1)[None].float()
    got = dense_crf(x, scene()[None], scale=None)
    raised = dense_crf(x, scene()[None], scale=None, w1=0, w2=0)
    torch.testing.assert_close(raised.min().item(), 1e-5, rtol=1e-3, atol=0)
    torch.testing.assert_close(got.sum(1), torch.ones(1, *SIZE), rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [1e40, 1e300, 1.5e308, 1e-300])
def test_scores_of_any_size_in_float64_are_taken(package, size):
    """Beyond the range of float32, in which the package computes."""
    x = smooth_scores().clamp(-1, 1).round(decimals=1).double()
    got = dense_crf(size * x, scene()[None])
    expected = dense_crf(size * x / size, scene()[None])
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-3)


def test_a_scale_that_leaves_the_range_leaves_one_class(package):
    x = smooth_scores().double()
    got = dense_crf(1e300 * x, scene()[None], scale=1e300, w1=0, w2=0)
    assert torch.equal(got, F.one_hot(x.argmax(1), 4).movedim(-1, 1).double())


@pytest.mark.parametrize("name", ["w1", "w2"])
def test_the_largest_weight_is_finite(package, name):
    got = dense_crf(smooth_scores(), scene()[None], **{name: 1e9})
    torch.testing.assert_close(got.sum(1), torch.ones(1, *SIZE), rtol=0, atol=1e-5)


def test_the_default_scale_can_be_named(package):
    x, image = smooth_scores(), scene()[None]
    assert torch.equal(dense_crf(x, image, scale="auto"), dense_crf(x, image))
    assert torch.equal(dense_crf(x, image, scale=np.int8(3)), dense_crf(x, image, scale=3.0))


# ------------------------------------------------------------------------ refusals


IMAGE = torch.rand(1, 3, 8, 9)


def test_the_narrowest_kernel_that_is_taken_is_right(package):
    """Just inside the lattice's 16 bits: nothing is joined, and a pixel hears itself alone."""
    x = torch.rand(1, 2, 8, 9)
    with pytest.raises(lpprop.InputError, match=r"expected at least 0\.0028") as error:
        dense_crf(x, IMAGE, theta_gamma=0.002)
    assert str(error.value).startswith("theta_gamma: got 0.002 for an image of 8 x 9 pixels")
    q = x.softmax(1)
    for _ in range(5):
        q = (x + 3 * q).softmax(1)
    got = dense_crf(x, IMAGE, scale=1.0, w1=0, theta_gamma=0.0026)
    torch.testing.assert_close(got, q, rtol=0, atol=1e-4)


def test_without_the_package_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydensecrf", None)
    x = torch.rand(1, 2, 8, 9)
    for call in (
        lambda: dense_crf(x, IMAGE),
        lpprop.DenseCRF,
        lpprop.presets.dense_crf,
        lambda: lpprop.refine(x, image=IMAGE, method="dense_crf"),
    ):
        with pytest.raises(ImportError) as error:
            call()
        assert str(error.value) == (
            "DenseCRF needs an extra: pip install 'lpprop[crf]' (from Python 3.13 on, first "
            "pip install cython setuptools, and add --no-build-isolation)"
        )


def test_nothing_imports_the_package_until_it_is_used():
    assert importlib.util.find_spec("lpprop.refiners._dense_crf") is not None
    assert "pydensecrf" not in vars(sys.modules["lpprop.refiners._dense_crf"])
    assert "densecrf" not in vars(sys.modules["lpprop.refiners._dense_crf"])


# ------------------------------------------------------------------------ the preset


def test_the_preset_is_bilinear_then_the_field(package):
    logits, image = torch.rand(1, 3, 4, 5), torch.rand(1, 3, 64, 80)
    got = lpprop.refine(logits, image=image, method="dense_crf", scale=7.0, iterations=2)
    pixels = lpprop.bilinear_upsample(logits, (64, 80))
    expected = dense_crf(pixels, image, scale=7.0, iterations=2)
    torch.testing.assert_close(got, expected, rtol=0, atol=0)
