"""PAMR is its equations: a plain loop over pixels in float64."""

import importlib
import math
import statistics
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import lpprop
from lpprop.refiners import pamr

sys.path.insert(0, str(Path(__file__).parents[1]))  # benchmarks/ is no part of the package

from benchmarks.pamr import pamr_gathered, pamr_weights


def square(y, x, dilation, shape):
    """The 3x3 square around a pixel, in reading order; outside the image, its border."""
    return [
        (min(max(y + dy, 0), shape[0] - 1), min(max(x + dx, 0), shape[1] - 1))
        for dy in (-dilation, 0, dilation)
        for dx in (-dilation, 0, dilation)
    ]


def plain_loop(scores, image, iterations, dilations):
    shape = scores.shape[1:]
    for _ in range(iterations):
        refined = np.empty_like(scores)
        for y, x in np.ndindex(shape):
            squares = [square(y, x, d, shape) for d in dilations]
            sigma = [
                statistics.stdev(float(channel[p]) for points in squares for p in points)
                for channel in image
            ]
            total, value = 0.0, np.zeros(len(scores))
            for j in (p for points in squares for p in points[:4] + points[5:]):
                k = statistics.mean(
                    -abs(float(channel[y, x] - channel[j])) / (0.1 * s + 1e-8)
                    for channel, s in zip(image, sigma, strict=True)
                )
                total += math.exp(k)
                value += math.exp(k) * scores[:, j[0], j[1]]
            refined[:, y, x] = value / total
        scores = refined
    return scores


# At 1 and 2 most squares lie inside the image; at 3 and 6 all leave it somewhere.
@pytest.mark.parametrize("dilations", [(1, 2), (3, 6), (2,), [1, 2, 4], (5, 9), (8000,)])
def test_pamr_is_a_plain_loop(dilations):
    g = np.random.default_rng(0)
    scores, image = g.standard_normal((3, 6, 7)), g.random((3, 6, 7))
    expected = plain_loop(scores, image, 3, dilations)
    inputs, options = (torch.tensor(scores), torch.tensor(image)), {"dilations": dilations}
    every = [pamr(*(x[None] for x in inputs), iterations=3, **options)[0]]
    if max(dilations) < 100:  # the benchmark's peer pads the image by them, with gigabytes
        every += [
            pamr_gathered(*inputs, iterations=3, **options),
            pamr_gathered(*inputs, iterations=3, **options, chunk_bytes=1),
        ]
    for got in every:
        np.testing.assert_allclose(got.numpy(), expected, rtol=0, atol=1e-12)


def test_the_defaults_are_the_published():
    x, image = torch.rand(1, 2, 20, 24).double(), torch.rand(1, 3, 20, 24).double()
    expected = plain_loop(x[0].numpy(), image[0].numpy(), 5, (8, 16))
    np.testing.assert_allclose(pamr(x, image)[0].numpy(), expected, rtol=0, atol=1e-12)


def test_a_flat_image_takes_the_mean_of_all_neighbours():
    weights = pamr_weights(torch.full((3, 4, 5), 0.5))
    torch.testing.assert_close(weights, torch.full((16, 4, 5), 1 / 16))
    x = torch.zeros(1, 1, 5, 5)
    x[..., 2, 2] = 8.0
    got = pamr(x, torch.full((1, 3, 5, 5), 0.5), iterations=1, dilations=(1,))[0, 0]
    expected = torch.zeros(5, 5)
    expected[1:4, 1:4] = 1
    expected[2, 2] = 0
    torch.testing.assert_close(got, expected)


def test_scores_stay_between_their_extremes_and_a_constant_stays():
    x, image = torch.rand(1, 3, 30, 40), torch.rand(1, 3, 30, 40)
    got = pamr(x, image)
    for plane, refined in zip(x[0], got[0], strict=True):
        assert plane.min() <= refined.min()
        assert refined.max() <= plane.max()
    torch.testing.assert_close(pamr(torch.full_like(x, 0.3), image), torch.full_like(x, 0.3))


def test_the_gradient_is_finite_where_the_image_is_flat():
    x = torch.rand(1, 2, 20, 20, requires_grad=True)
    image = torch.full((1, 3, 20, 20), 0.5, requires_grad=True)
    pamr(x, image).square().sum().backward()
    assert torch.isfinite(image.grad).all()
    assert torch.isfinite(x.grad).all()
    assert x.grad.any()


@pytest.mark.parametrize(("room", "together"), [(1, [1] * 7), (3 * 8 * 9 * 4, [3, 3, 1])])
def test_classes_go_in_groups_that_stay_in_the_cache(room, together, monkeypatch):
    """At most that much for each neighbour, whatever the number of classes; a large one alone."""
    module = importlib.import_module("lpprop.refiners._pamr")
    seen = []
    moved = module._shift_to_neighbours

    def spy(x, dilations):
        seen.append(len(x))
        return moved(x, dilations)

    x, image = torch.rand(1, 7, 8, 9), torch.rand(1, 3, 8, 9)
    expected = pamr(x, image, iterations=2)
    monkeypatch.setattr(module, "_shift_to_neighbours", spy)
    monkeypatch.setattr(module, "_CACHE_BYTES", room)
    assert torch.equal(pamr(x, image, iterations=2), expected)
    assert seen == [1] * 3 + [count for count in together for _ in range(2)]


def test_an_array_of_dilations():
    x, image = torch.rand(1, 2, 8, 9), torch.rand(1, 3, 8, 9)
    expected = pamr(x, image, dilations=(1, 200))
    assert torch.equal(pamr(x, image, dilations=np.array([1, 200], np.uint8)), expected)


@pytest.mark.parametrize("shape", [(1, 1), (1, 6), (5, 1)])
def test_a_dilation_beyond_one_row_or_column(shape):
    g = np.random.default_rng(1)
    scores, image = g.standard_normal((2, *shape)), g.random((3, *shape))
    expected = plain_loop(scores, image, 2, (2, 70))
    inputs = (torch.tensor(x)[None] for x in (scores, image))
    got = pamr(*inputs, iterations=2, dilations=(2, 70))[0]
    np.testing.assert_allclose(got.numpy(), expected, rtol=0, atol=1e-12)


def test_the_preset_is_bilinear_then_pamr():
    logits, image = torch.rand(1, 3, 4, 5), torch.rand(1, 3, 64, 80)
    got = lpprop.refine(logits, image=image, method="pamr", iterations=2)
    expected = pamr(lpprop.bilinear_upsample(logits, (64, 80)), image, iterations=2)
    torch.testing.assert_close(got, expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"iterations": -1}, "iterations: got -1, expected an integer >= 0"),
        ({"dilations": ()}, "dilations: got (), expected at least one integer. Pass dilations=(8,"),
        ({"dilations": 8}, "dilations: got 8, expected at least one integer"),
        ({"dilations": "8"}, "dilations: got '8', expected at least one integer"),
        ({"dilations": (8, 0)}, "dilations[1]: got 0, expected an integer >= 1"),
    ],
)
def test_options_out_of_range(options, message):
    for call in (
        lambda: pamr(torch.rand(1, 2, 4, 5), torch.rand(1, 3, 4, 5), **options),
        lambda: lpprop.PAMR(**options),
        lambda: lpprop.presets.pamr(**options),
    ):
        with pytest.raises(lpprop.InputError) as error:
            call()
        assert str(error.value).startswith(message)


def test_scores_on_another_grid_than_the_image_are_refused():
    with pytest.raises(lpprop.InputError, match="image: got shape"):
        pamr(torch.rand(1, 2, 4, 5), torch.rand(1, 3, 8, 10))
