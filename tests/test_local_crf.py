"""The local CRF against DenseCRF's equations in dense float64, cut to a square, and closed forms.

Where the square covers the image it is DenseCRF's model, and its sums are exact. What then
separates it from pydensecrf is that package's lattice; the tolerances are those by which it misses
the exact sums itself (tests/test_dense_crf.py).
"""

import inspect

import pytest
import torch

import lpprop
from lpprop.refiners import dense_crf, local_crf
from reference_crf import mean_field
from test_dense_crf import SIZE, scene, smooth_scores

COVERING = 2 * max(SIZE)
BACKENDS = ["torch", "llvm"]


def random_inputs(batch=1, classes=3, size=(9, 11)):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, classes, *size, generator=generator, dtype=torch.float64)
    return x, torch.rand(batch, 3, *size, generator=generator, dtype=torch.float64)


def exact(x, image, scale=1.0, **options):
    return mean_field((scale * x[0].double()).log_softmax(0), image[0], **options)[None]


# ------------------------------------------------------------------------ the twin


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("r", [3, 4, 5, 99])
def test_it_is_the_mean_field_within_a_square(r, backend):
    """An even side acts as the next odd one; 99 covers the image."""
    if backend == "llvm":
        pytest.importorskip("llvmlite")
    x, image = random_inputs()
    options = {"theta_alpha": 2.5, "theta_beta": 60.0, "theta_gamma": 1.5, "iterations": 3}
    got = local_crf(x, image, scale=2.0, r=r, backend=backend, **options)
    expected = exact(x, image, 2.0, r=r, **options)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-13)
    assert float((got - (2 * x).softmax(1)).abs().max()) > 0.5


@pytest.mark.parametrize(
    "options", [{"theta_alpha": 1.0}, {"theta_beta": 20.0}, {"w1": 1.0}, {"w2": 0.1},
                {"theta_gamma": 0.5}, {"iterations": 1}]
)  # fmt: skip
def test_each_option_is_that_of_the_twin(options):
    x, image = random_inputs()
    own = {"theta_alpha": 2.5, "theta_beta": 60.0, "theta_gamma": 1.5, "r": 3}
    got = local_crf(x, image, scale=1.0, **own | options)
    torch.testing.assert_close(got, exact(x, image, **own | options), rtol=0, atol=1e-13)
    assert not torch.allclose(got, local_crf(x, image, scale=1.0, **own), rtol=0, atol=1e-3)


def test_the_defaults_are_those_of_densecrf():
    theirs = inspect.signature(dense_crf).parameters
    ours = dict(inspect.signature(local_crf).parameters)
    assert (ours.pop("r").default, ours.pop("backend").default) == (11, "auto")
    assert {k: p.default for k, p in ours.items()} == {k: p.default for k, p in theirs.items()}


@pytest.mark.parametrize("seed", [0, 1])
def test_a_square_over_the_image_is_densecrf_but_for_its_lattice(seed):
    pytest.importorskip("pydensecrf.densecrf")
    x, image = smooth_scores(seed=seed), scene()[None]
    options = {"scale": 2.0, "iterations": 1}
    got, theirs = local_crf(x, image, r=COVERING, **options), dense_crf(x, image, **options)
    moved = (got - (2 * x).softmax(1)).abs().mean()
    assert (got - theirs).abs().mean() < 0.05 * moved
    assert (got.argmax(1) == theirs.argmax(1)).double().mean() > 0.985
    # The usual square of 11 is another model.
    assert (local_crf(x, image, **options) - theirs).abs().mean() > 0.2 * moved


# ------------------------------------------------------------------------ closed forms


@pytest.mark.parametrize("options", [{"w1": 0, "w2": 0}, {"iterations": 0}])
def test_without_a_kernel_or_a_step_it_is_the_softmax(options):
    x, image = random_inputs()
    got = local_crf(x, image, scale=3.0, **options)
    torch.testing.assert_close(got, (3 * x).softmax(1), rtol=0, atol=1e-15)


@pytest.mark.parametrize(("r", "size"), [(1, (5, 6)), (11, (1, 1))])
def test_a_pixel_without_neighbours_hears_itself(r, size):
    x, image = random_inputs(size=size)
    q = x.softmax(1)
    for _ in range(5):
        q = (x + 2.5 * q).softmax(1)
    torch.testing.assert_close(
        local_crf(x, image, scale=1.0, w1=2.0, w2=0.5, r=r), q, rtol=0, atol=1e-14
    )


def test_two_flat_colours_are_two_means():
    """With a reach beyond the image, a pixel hears the mean of its colour, and of no other."""
    x, image = random_inputs(size=(4, 6))
    image[:], image[..., 2:] = 0, 1
    got = local_crf(x, image, scale=1.0, w1=3.0, theta_alpha=1e9, w2=0, iterations=4, r=99)
    for half in (..., slice(2)), (..., slice(2, None)):
        unary = x[half].log_softmax(1)
        q = unary.softmax(1)
        for _ in range(4):
            q = (unary + 3 * q.mean((2, 3), keepdim=True)).softmax(1)
        torch.testing.assert_close(got[half], q, rtol=0, atol=1e-12)


def test_auto_makes_any_scale_and_offset_of_the_scores_the_same():
    x, image = random_inputs()
    expected = local_crf(x, image)
    torch.testing.assert_close(local_crf(0.01 * x + 0.2, image), expected, rtol=0, atol=1e-10)
    logs = local_crf(x, image, iterations=0).log()
    first, second = logs.topk(2, dim=1).values.unbind(1)
    assert float((first - second).mean()) == pytest.approx(12, rel=1e-9)


@pytest.mark.parametrize("options", [
    {"theta_beta": 1e-300}, {"theta_beta": 1e300}, {"theta_alpha": 1e-300}, {"theta_gamma": 1e-300},
    {"theta_alpha": 1e300, "theta_gamma": 1e300}, {"w1": 1e9, "w2": 1e9}, {"scale": 1e300},
], ids=str)  # fmt: skip
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_options_of_any_size_give_probabilities(options, dtype):
    x, image = (tensor.to(dtype) for tensor in random_inputs())
    got = local_crf(x, image, **options)
    torch.testing.assert_close(got.sum(1), torch.ones_like(got[:, 0]))
    if "theta_beta" in options and options["theta_beta"] < 1:  # equal colours alone are joined
        alone = local_crf(x, image, theta_alpha=1e-300)
        torch.testing.assert_close(got, alone)


def test_both_gradients_flow_through_five_steps():
    """At the defaults, whose budget the contract's table cuts."""
    x, image = random_inputs()
    x.requires_grad_(), image.requires_grad_()
    found = torch.autograd.grad(local_crf(x, image, scale=1.0)[:, 0].sum(), (x, image))
    step = 1e-6
    for tensor, slope in zip((x, image), found, strict=True):
        draw = torch.rand(tensor.shape, generator=torch.Generator().manual_seed(1)).double() - 0.5
        with torch.no_grad():
            ends = [
                local_crf(*(
                    each + sign * step * draw if each is tensor else each for each in (x, image)
                ), scale=1.0)[:, 0].sum()
                for sign in (1, -1)
            ]  # fmt: skip
        expected = float(ends[0] - ends[1]) / (2 * step)
        assert abs(expected) > 1e-3
        assert float((slope * draw).sum()) == pytest.approx(expected, rel=1e-4)


def test_the_preset_is_bilinear_then_the_field():
    logits, image = torch.rand(1, 3, 4, 5), torch.rand(1, 3, 64, 80)
    got = lpprop.refine(logits, image=image, method="local_crf", scale=7.0, r=5)
    pixels = lpprop.bilinear_upsample(logits, (64, 80))
    torch.testing.assert_close(got, local_crf(pixels, image, scale=7.0, r=5), rtol=0, atol=0)
