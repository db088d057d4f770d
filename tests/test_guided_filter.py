"""The guided filter is its equations: each window by itself, in NumPy loops."""

import numpy as np
import pytest
import torch

import lpprop
from lpprop.refiners import guided_filter


def random(*shape, seed=0):
    return np.random.default_rng(seed).random(shape)


def window(y, x, radius, shape):
    return np.s_[max(0, y - radius) : y + radius + 1, max(0, x - radius) : x + radius + 1]


def plain_loop(x, image, radius, eps):
    """(H, W) and (3, H, W): the fit in each window by least squares, then the mean of the fits."""
    shape = x.shape
    total, count = np.zeros(shape), np.zeros(shape)
    for centre in np.ndindex(shape):
        inside = window(*centre, radius, shape)
        colours = image[(slice(None), *inside)].reshape(3, -1).T
        n = len(colours)
        # Ridge regression with a free intercept: n eps |a|^2 beside the squared residuals.
        rows = np.concatenate([np.column_stack([colours, np.ones(n)]), np.zeros((3, 4))])
        rows[n:, :3] = np.sqrt(n * eps) * np.eye(3)
        wanted = np.concatenate([x[inside].ravel(), np.zeros(3)])
        *a, b = np.linalg.lstsq(rows, wanted, rcond=None)[0]
        total[inside] += np.tensordot(a, image[(slice(None), *inside)], 1) + b
        count[inside] += 1
    return total / count


# Windows inside the image, windows cut at every border, and windows larger than it.
@pytest.mark.parametrize("radius", [0, 1, 3, 20])
@pytest.mark.parametrize("eps", [1e-6, 1e-2])
def test_each_window_is_a_ridge_regression(radius, eps):
    x, image = random(2, 7, 9), random(3, 7, 9, seed=1)
    got = guided_filter(torch.tensor(x)[None], torch.tensor(image)[None], radius=radius, eps=eps)[0]
    for plane, refined in zip(x, got, strict=True):
        expected = plain_loop(plane, image, radius, eps)
        np.testing.assert_allclose(refined.numpy(), expected, rtol=0, atol=1e-8)


def test_it_is_float32_as_it_is_float64_where_the_guide_is_all_but_flat():
    """Far from 0 and with an eps far below its square, where float32 would cancel."""
    x, image = random(1, 1, 40, 50), 0.9 + 1e-3 * random(1, 3, 40, 50, seed=1)
    single = [torch.tensor(a, dtype=torch.float32) for a in (x, image)]
    got = guided_filter(*single, radius=5, eps=1e-8)
    expected = guided_filter(*(a.double() for a in single), radius=5, eps=1e-8)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got.double(), expected, rtol=1e-6, atol=1e-6)
    plain = plain_loop(single[0][0, 0].double().numpy(), single[1][0].double().numpy(), 5, 1e-8)
    np.testing.assert_allclose(expected[0, 0].numpy(), plain, rtol=0, atol=1e-6)


def test_a_flat_guide_is_two_box_means():
    x = torch.tensor(random(1, 1, 8, 9))
    got = guided_filter(x, torch.full((1, 3, 8, 9), 0.4), radius=2)[0, 0].numpy()
    means = plain_loop(x[0, 0].numpy(), np.zeros((3, 8, 9)), 2, 1.0)
    np.testing.assert_allclose(got, means, rtol=0, atol=1e-12)


def test_scores_that_are_linear_in_the_colours_stay():
    """At any eps a constant, and as eps falls any linear function of the guide."""
    image = torch.tensor(random(1, 3, 20, 21))
    x = torch.stack([torch.full((20, 21), 0.7), 2 * image[0, 0] - image[0, 2] + 1])[None]
    got = guided_filter(x, image, radius=3, eps=1e-9)
    torch.testing.assert_close(got[:, 0], x[:, 0].double(), rtol=0, atol=1e-10)
    torch.testing.assert_close(got[:, 1], x[:, 1].double(), rtol=0, atol=1e-6)


def test_an_edge_of_the_guide_is_kept_and_one_in_brightness_alone_too():
    image = torch.zeros(1, 3, 12, 16, dtype=torch.float64)
    image[..., 8:] = 1
    blurred = torch.linspace(0, 1, 16, dtype=torch.float64).expand(1, 1, 12, 16)
    sharp = guided_filter(blurred, image, radius=4, eps=1e-6)[0, 0, 6]
    jump = sharp.diff()
    assert int(jump.argmax()) == 7
    assert float(jump[7]) > 4 * float(blurred[0, 0, 0].diff()[7])


@pytest.mark.parametrize("bytes_", [1, 2**12])
def test_chunks_of_classes_change_nothing(monkeypatch, bytes_):
    import sys

    x, image = torch.rand(2, 5, 9, 8), torch.rand(2, 3, 9, 8)
    expected = guided_filter(x, image)
    monkeypatch.setattr(sys.modules["lpprop.refiners._guided_filter"], "_CHUNK_BYTES", bytes_)
    torch.testing.assert_close(guided_filter(x, image), expected, rtol=0, atol=0)


def test_the_preset_is_bilinear_then_the_filter():
    logits, image = torch.rand(1, 3, 4, 5), torch.rand(1, 3, 64, 80)
    got = lpprop.refine(logits, image=image, method="guided_filter", radius=5)
    expected = guided_filter(lpprop.bilinear_upsample(logits, (64, 80)), image, radius=5)
    torch.testing.assert_close(got, expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"radius": -1}, "radius: got -1, expected an integer >= 0"),
        ({"radius": 1.5}, "radius: got 1.5, expected an integer >= 0"),
        ({"eps": 0}, "eps: got 0, expected a number in"),
    ],
)
def test_options_out_of_range(options, message):
    for call in (
        lambda: guided_filter(torch.rand(1, 2, 4, 5), torch.rand(1, 3, 4, 5), **options),
        lambda: lpprop.GuidedFilter(**options),
        lambda: lpprop.presets.guided_filter(**options),
    ):
        with pytest.raises(lpprop.InputError) as error:
            call()
        assert str(error.value).startswith(message)


def test_scores_on_another_grid_than_the_image_are_refused():
    with pytest.raises(lpprop.InputError, match="image: got shape"):
        guided_filter(torch.rand(1, 2, 4, 5), torch.rand(1, 3, 8, 10))
