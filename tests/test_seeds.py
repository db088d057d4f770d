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
    """Go through every pixel and cell, with exact fractions."""
    (height, width), (h, w) = size, grid
    half = Fraction(1, 2)
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
    for i in range(h):
        for j in range(w):
            y, x = (i + half) * height / h - half, (j + half) * width / w - half
            distances = [(y - int(r)) ** 2 + (x - int(c)) ** 2 for r, c in points]
            found = {k for k, d in zip(labels, distances, strict=True) if d == min(distances)}
            for k in found:
                expected[0, k, i, j] = 0.001 / (h * w * len(found))
    for (i, j), shares in cells.items():
        for k, share in enumerate(shares):
            expected[0, k, i, j] = float(share / sum(shares))
    for k in set(range(classes)) - set(labels):
        expected[0, k] = -torch.inf
    return expected


# On a grid of a few cells, clicks of several classes share theirs.
hidden = pytest.mark.filterwarnings("ignore:points. got clicks of class")


@st.composite
def clicks(draw):
    """Clicks on a small image: their places, labels, and the options."""
    height, width = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    at = st.tuples(st.integers(0, height - 1), st.integers(0, width - 1), st.integers(0, 3))
    found = draw(st.lists(at, min_size=1, max_size=6))
    grid = draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    radius = draw(st.sampled_from([0, 0.9, 1, 1.5, 2, 3.7, 20]))
    return [x[:2] for x in found], [x[2] for x in found], (height, width), grid, radius


@hidden
@given(clicks(), st.integers(0, 2))
def test_seeds_are_those_of_the_definition(drawn, more):
    points, labels, size, grid, radius = drawn
    count = max(labels) + 1 + more
    found = seed_logits(points, labels, size, classes=count, grid=grid, radius=radius)
    assert found.dtype == torch.float32
    expected = marked_by_force(points, labels, size, count, grid, radius)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)


@hidden
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


@hidden
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


@hidden
@given(clicks(), st.sampled_from([3, 5]))
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


@pytest.mark.parametrize("points", [
    [torch.tensor([2.0, 3.0], dtype=torch.bfloat16), [0, 0]],
    [[2, torch.tensor(3.0, dtype=torch.bfloat16)], (0, 0)],
    torch.tensor([[2.0, 3.0], [0.0, 0.0]], requires_grad=True).unbind(),
], ids=["rows", "numbers", "with a gradient"])  # fmt: skip
def test_a_list_may_hold_tensors_that_numpy_cannot_read(points):
    labels = [torch.tensor(0), torch.tensor(1)]
    expected = seed_logits([[2, 3], [0, 0]], [0, 1], (4, 5))
    assert torch.equal(seed_logits(points, labels, (4, 5)), expected)


@pytest.mark.parametrize("make", [np.array, torch.tensor, list, tuple], ids=lambda x: x.__name__)
def test_lists_arrays_and_tensors_are_alike(make):
    points, labels = make([[2, 3], [0, 0]]), make([0, 1])
    found = seed_logits(points, labels, (4, 5), classes=["cat", "dog", "sky"])
    assert found[0, 0, 2, 3] == found[0, 1, 0, 0] == 1
    assert (found[0, :2] > 0.5).sum() == 2
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


def test_a_cell_without_a_click_is_left_to_the_nearest_one():
    logits = seed_logits([[0, 0], [0, 99]], [0, 1], (4, 100), classes=3, grid=(2, 50))
    assert torch.equal(logits.argmax(1)[0], (torch.arange(50) >= 25).long().expand(2, -1))
    hints = logits[:, :2].sum() - 2
    assert 0 < hints < 0.001 + 1e-6


@pytest.mark.parametrize("method", ["lposs", "lposs+", "auto"])
def test_patches_that_are_like_no_clicked_one_get_the_nearest_click(method):
    """Two kinds of patches without an edge between them, only one of which is clicked."""
    feats = torch.zeros(1, 2, 4, 8)
    feats[:, 0, :2] = feats[:, 1, 2:] = 1
    logits = seed_logits([[8, 8], [8, 120]], [1, 2], (64, 128), grid=(4, 8))
    image = torch.full((1, 3, 64, 128), 0.5)
    labels = lpprop.refine(logits, feats, image, method=method, size=(64, 128)).argmax(1)[0]
    assert (labels[:, :40] == 1).all()
    assert (labels[:, -40:] == 2).all()


def test_a_region_without_a_click_gets_the_nearest_one():
    regions = torch.arange(4).repeat_interleave(16).expand(1, 64, 64)
    logits = seed_logits([[5, 5], [60, 60]], [2, 1], (64, 64))
    labels = lpprop.refine(logits, regions=regions, method="region_vote", size=(64, 64)).argmax(1)[
        0
    ]
    assert torch.equal(labels[0], torch.tensor([2, 2, 1, 1]).repeat_interleave(16))


def test_clicks_that_hide_each_other_are_told_of():
    points = [[1, 1], [0, 0], [9, 9]]
    with pytest.warns(lpprop.InputWarning, match=r"clicks of class 1 in no cell.* grid of 2 x 2"):
        seed_logits(points, [0, 1, 2], (10, 10), grid=(2, 2))
    seed_logits(points, [0, 1, 2], (10, 10), grid=(10, 10))


@pytest.mark.parametrize("radius", [3, 8.5, 1e300])
def test_a_disc_is_round_and_ends_halfway_to_another(radius):
    found = seed_logits([[20, 20], [20, 26]], [0, 1], (41, 60), radius=radius)
    row, column = torch.meshgrid(torch.arange(41), torch.arange(60), indexing="ij")
    first, second = ((row - 20) ** 2 + (column - x) ** 2 for x in (20, 26))
    expected = (first <= radius * radius) & (first < second)
    halved = (first == second) & (first <= radius * radius)
    assert torch.equal(found[0, 0] > 0.9, expected)
    assert torch.equal(found[0, 0] == 0.5, halved)
