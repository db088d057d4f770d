"""Logits of clicks against a loop over all pixels, and their laws."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import lpprop
from lpprop import seed_logits


def marked_by_force(points, labels, size, classes, grid, radius):
    """Go through every pixel, with exact fractions."""
    (height, width), (h, w) = size, grid
    cells = {}
    for r in range(height):
        for c in range(width):
            distances = [(r - int(y)) ** 2 + (c - int(x)) ** 2 for y, x in points]
            nearest = min(distances)
            if nearest > radius**2:
                continue
            found = {k for k, d in zip(labels, distances, strict=True) if d == nearest}
            place = (
                int(Fraction(2 * r + 1, 2) * h / height),
                int(Fraction(2 * c + 1, 2) * w / width),
            )
            shares = cells.setdefault(place, [Fraction(0)] * classes)
            for k in found:
                shares[k] += Fraction(1, len(found))
    expected = torch.zeros(1, classes, h, w)
    for (i, j), shares in cells.items():
        for k, share in enumerate(shares):
            expected[0, k, i, j] = float(share / sum(shares))
    for k in set(range(classes)) - set(labels):
        expected[0, k] = -torch.inf
    return expected


@st.composite
def clicks(draw):
    """Clicks on a small image: their places, labels, and the options."""
    height, width = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    at = st.tuples(st.integers(0, height - 1), st.integers(0, width - 1), st.integers(0, 3))
    found = draw(st.lists(at, min_size=1, max_size=6))
    grid = draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    radius = draw(st.sampled_from([0, 0.9, 1, 1.5, 2, 3.7, 20]))
    return [x[:2] for x in found], [x[2] for x in found], (height, width), grid, radius


@given(clicks(), st.integers(0, 2))
def test_seeds_are_those_of_the_definition(drawn, more):
    points, labels, size, grid, radius = drawn
    count = max(labels) + 1 + more
    found = seed_logits(points, labels, size, classes=count, grid=grid, radius=radius)
    assert found.dtype == torch.float32
    expected = marked_by_force(points, labels, size, count, grid, radius)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)


@given(clicks(), st.randoms())
def test_the_order_of_clicks_and_their_repetition_do_not_matter(drawn, random):
    points, labels, size, grid, radius = drawn
    every = list(zip(points, labels, strict=True))
    shuffled = every + random.choices(every, k=3)
    random.shuffle(shuffled)
    again = [x for x, _ in shuffled], [x for _, x in shuffled]
    options = {"grid": grid, "radius": radius}
    assert torch.equal(
        seed_logits(*again, size, **options), seed_logits(points, labels, size, **options)
    )


@given(clicks(), st.booleans(), st.booleans())
def test_a_flipped_image_has_flipped_seeds(drawn, upside_down, mirrored):
    points, labels, size, grid, radius = drawn
    # An odd image has a middle row, which no flip may move to another cell of an even grid.
    size = tuple(2 * x for x in size)
    grid = tuple(min(g, s) for g, s in zip(grid, size, strict=True))
    grid = tuple(
        next(g for g in range(n, 0, -1) if s % g == 0) for n, s in zip(grid, size, strict=True)
    )
    turned = [
        (size[0] - 1 - r if upside_down else r, size[1] - 1 - c if mirrored else c)
        for r, c in points
    ]
    axes = [axis for axis, flips in ((2, upside_down), (3, mirrored)) if flips]
    options = {"grid": grid, "radius": radius}
    torch.testing.assert_close(
        seed_logits(turned, labels, size, **options),
        seed_logits(points, labels, size, **options).flip(axes),
        rtol=1e-6,
        atol=0,
    )


@given(clicks(), st.integers(2, 5))
def test_clicks_on_a_larger_picture_of_the_same_mark_the_same_cells(drawn, scale):
    points, labels, size, grid, _ = drawn
    # Whole cells of pixels, so that a pixel and its square in the larger picture share a cell.
    size = tuple(g * s for g, s in zip(grid, size, strict=True))
    larger = [(scale * r + scale // 2, scale * c + scale // 2) for r, c in points]
    assert torch.equal(
        seed_logits(larger, labels, tuple(scale * x for x in size), grid=grid),
        seed_logits(points, labels, size, grid=grid),
    )


def test_a_click_between_pixels_counts_for_the_one_that_it_lies_in():
    whole = seed_logits([[2, 3], [0, 0]], [0, 1], (4, 5))
    assert torch.equal(seed_logits([[2.99, 3.0], [0.5, 0.999]], [0, 1], (4, 5)), whole)


@pytest.mark.parametrize("make", [np.array, torch.tensor, list, tuple], ids=lambda x: x.__name__)
def test_lists_arrays_and_tensors_are_alike(make):
    points, labels = make([[2, 3], [0, 0]]), make([0, 1])
    found = seed_logits(points, labels, (4, 5), classes=["cat", "dog", "sky"])
    assert found[0, 0, 2, 3] == found[0, 1, 0, 0] == 1
    assert found[0, :2].sum() == 2
    assert torch.isneginf(found[0, 2]).all()


def test_a_class_without_a_click_never_wins():
    torch.manual_seed(0)
    image, feats = torch.rand(1, 3, 64, 80), torch.rand(1, 8, 4, 5)
    logits = seed_logits([[3, 3], [60, 60]], [1, 2], (64, 80), classes=4, grid=(4, 5))
    for method in ("lposs+", "lposs", "max_velocity", "optimal_path", "kl", "bilinear"):
        scores = lpprop.refine(logits, feats, image, method=method, size=(64, 80))
        assert torch.isneginf(scores[:, [0, 3]]).all(), method
        assert not scores.isnan().any(), method
        assert set(scores.argmax(1).unique().tolist()) <= {1, 2}, method
