"""Tools for masks against brute force: fusing, prompt points, components and superpixels."""

import functools
import pickle
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from lpprop._core.errors import InputError
from lpprop.inputs.components import components
from lpprop.inputs.fusing import fuse_masks
from lpprop.inputs.points import prompt_points
from lpprop.inputs.superpixels import felzenszwalb, slic

# --------------------------------------------------------------------------- fusing


def fused_by_force(masks, threshold):
    """Fuse sets of pixels by the definition, with exact fractions."""
    sets = [frozenset(map(tuple, np.argwhere(mask))) for mask in masks.numpy()]
    sets = [pixels for pixels in sets if pixels]
    while True:
        best, pair = Fraction(threshold), None
        for a in range(len(sets)):
            for b in range(a + 1, len(sets)):
                ratio = Fraction(len(sets[a] & sets[b]), min(len(sets[a]), len(sets[b])))
                if ratio > best:
                    best, pair = ratio, (a, b)
        if pair is None:
            break
        sets[pair[0]] |= sets[pair[1]]
        del sets[pair[1]]
    found = torch.zeros(len(sets), *masks.shape[1:], dtype=torch.bool)
    for mask, pixels in zip(found, sets, strict=True):
        for place in pixels:
            mask[place] = True
    return found


@given(
    seed=st.integers(0, 10**6),
    count=st.integers(0, 9),
    share=st.sampled_from([0.1, 0.4, 0.8, 1.0]),
    threshold=st.sampled_from([0, 0.3, 0.5, 0.75, 0.9, 1]),
)
def test_fusing_is_that_of_the_definition(seed, count, share, threshold):
    random = torch.Generator().manual_seed(seed)
    masks = torch.rand(count, 3, 4, generator=random) < share
    before = masks.clone()
    found = fuse_masks(masks, threshold=threshold)
    assert torch.equal(found, fused_by_force(masks, threshold))
    assert torch.equal(masks, before)


def test_many_masks_are_fused_in_more_than_one_word_of_bits():
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:40, :50]
    centres = rng.integers(0, 40, (90, 2))
    radii = rng.integers(2, 9, 90)[:, None, None]
    discs = (rows - centres[:, :1, None]) ** 2 + (columns - centres[:, 1:, None]) ** 2 < radii**2
    masks = torch.from_numpy(discs)
    assert torch.equal(fuse_masks(masks, threshold=0.8), fused_by_force(masks, 0.8))


# --------------------------------------------------------------------------- points


def points_by_force(mask, n):
    """Measure the distance of each pixel to each of the background and the points so far."""
    if mask.all():
        padded = np.pad(mask, 1)
        others = [(r - 1, c - 1) for r, c in np.argwhere(~padded).tolist()]
    else:
        others = [tuple(place) for place in np.argwhere(~mask).tolist()]
    points = []
    for _ in range(n):
        best = max(
            np.argwhere(mask).tolist(),  # of equal ones, max takes the first
            key=lambda x: min((x[0] - r) ** 2 + (x[1] - c) ** 2 for r, c in [*others, *points]),
        )
        points.append(tuple(best))
    return torch.tensor(points)


@given(
    seed=st.integers(0, 10**6),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    share=st.sampled_from([0.5, 0.9, 1.0]),
    n=st.integers(1, 6),
)
def test_prompt_points_are_those_of_the_definition(seed, size, share, n):
    mask = torch.rand(size, generator=torch.Generator().manual_seed(seed)) < share
    if mask.sum() < n:
        with pytest.raises(InputError, match=f"expected at least n = {n}"):
            prompt_points(mask, n)
        return
    points = prompt_points(mask, n)
    assert points.dtype == torch.int64
    assert torch.equal(points, points_by_force(mask.numpy(), n))


def test_the_first_point_of_a_large_mask_is_at_the_largest_distance():
    mask = torch.ones(300, 400, dtype=torch.bool)
    mask[40:60, 100:130] = mask[250:, 300:] = False
    row, column = prompt_points(mask, 1)[0].tolist()
    distance = ndimage.distance_transform_edt(mask.numpy())
    assert distance[row, column] == distance.max()


# --------------------------------------------------------------------------- components


def components_by_scipy(labels, min_area):
    """Label the pixels of each class by scipy, and number what it finds by the first pixel."""
    found = []
    for label in np.unique(labels[labels >= 0]):
        parts, count = ndimage.label(labels == label, structure=np.ones((3, 3)))
        found += [parts == part + 1 for part in range(count)]
    found = [mask for mask in found if mask.sum() >= min_area]
    result = np.full(labels.shape, -1)
    for number, mask in enumerate(sorted(found, key=lambda mask: mask.argmax())):
        result[mask] = number
    return torch.from_numpy(result)


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (9, 1), (30, 40)])
@pytest.mark.parametrize(("classes", "min_area"), [(1, 0), (3, 0), (3, 4), (60, 2)])
def test_components_are_those_of_scipy(size, classes, min_area):
    labels = torch.randint(-1, classes, (2, *size), generator=torch.Generator().manual_seed(0))
    found = components(labels, min_area=min_area)
    expected = [components_by_scipy(image.numpy(), min_area) for image in labels]
    assert torch.equal(found, torch.stack(expected))
    assert torch.equal(components(labels[0].int(), min_area=min_area), expected[0])


# --------------------------------------------------------------------------- superpixels


def blocks():
    """An image of 3 x 4 blocks of one colour each, 10 pixels wide."""
    colours = torch.rand(1, 3, 3, 4, generator=torch.Generator().manual_seed(3)).double()
    return colours.repeat_interleave(10, 2).repeat_interleave(10, 3)


@pytest.mark.parametrize(
    "proposer",
    [
        functools.partial(slic, n_segments=12, compactness=0.01),
        functools.partial(felzenszwalb, scale=1e-3, sigma=0, min_size=1),
    ],
    ids=["slic", "felzenszwalb"],
)
def test_superpixels_find_blocks_of_one_colour(proposer):
    proposer = pickle.loads(pickle.dumps(proposer))
    image = torch.cat([blocks(), blocks().flip(3)])
    regions = proposer(image)
    expected = torch.arange(12).view(3, 4).repeat_interleave(10, 0).repeat_interleave(10, 1)
    assert torch.equal(components(regions), torch.stack([expected, expected]))
    assert torch.equal(regions.amax((1, 2)), torch.tensor([11, 11]))
    assert torch.equal(regions, torch.cat([proposer(one[None]) for one in image]))


@pytest.mark.parametrize("proposer", [slic, felzenszwalb])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 3)])
def test_superpixels_of_few_pixels(proposer, size):
    regions = proposer(torch.rand(1, 3, *size).half())
    assert regions.shape == (1, *size)
    assert regions.min() == 0


def test_fewer_larger_regions_by_the_options():
    random = torch.Generator().manual_seed(0)
    image = torch.nn.functional.interpolate(
        torch.rand(1, 3, 4, 5, generator=random), scale_factor=15
    )
    count = [int(slic(image, n_segments=n).max()) + 1 for n in (10, 100)]
    assert 5 <= count[0] <= 20 < 60 <= count[1] <= 140
    regions = felzenszwalb(torch.rand(1, 3, 60, 80, generator=random), min_size=50)
    assert regions.flatten().bincount().min() >= 50
