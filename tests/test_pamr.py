"""PAMR, a peer in the benchmarks, is its equations: a plain loop over pixels in float64."""

import math
import statistics
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))  # benchmarks/ is no part of the package

from benchmarks.pamr import pamr, pamr_gathered, pamr_weights


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
@pytest.mark.parametrize("dilations", [(1, 2), (3, 6)])
def test_pamr_is_a_plain_loop(dilations):
    g = np.random.default_rng(0)
    scores, image = g.standard_normal((3, 6, 7)), g.random((3, 6, 7))
    expected = plain_loop(scores, image, 3, dilations)
    inputs, options = (torch.tensor(scores), torch.tensor(image)), {"dilations": dilations}
    for got in (
        pamr(*inputs, iterations=3, **options),
        pamr_gathered(*inputs, iterations=3, **options),
        pamr_gathered(*inputs, iterations=3, **options, chunk_bytes=1),
    ):
        np.testing.assert_allclose(got.numpy(), expected, rtol=0, atol=1e-12)


def test_the_weights_of_a_flat_image_are_equal_and_the_defaults_are_the_published():
    weights = pamr_weights(torch.full((3, 4, 5), 0.5))
    torch.testing.assert_close(weights, torch.full((16, 4, 5), 1 / 16))
