"""Prototypes, classification by references, and sets of references, against twins in float64."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import lpprop
from lpprop import InputError, InputWarning, classify_regions, prototype_logits, prototypes
from lpprop.inputs import patch_areas
from lpprop.inputs.patch_areas import areas_of_labels, areas_of_masks


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def numbers(high, *shape, seed=0):
    return torch.randint(high, shape, generator=torch.Generator().manual_seed(seed))


# --------------------------------------------------------------------------- areas

GRIDS = [((7, 5), (3, 4)), ((2, 3), (5, 4)), ((6, 8), (3, 4)), ((4, 4), (4, 4))]


def shares(values, grid):
    """The share of each patch in maps: pixels so fine that all edges coincide, and a mean."""
    height, width = values.shape[-2:]
    fine = values.double().repeat_interleave(grid[0], -2).repeat_interleave(grid[1], -1)
    return F.avg_pool2d(fine[None], (height, width))[0].flatten(1)


@pytest.mark.parametrize(("size", "grid"), GRIDS)
def test_areas_are_those_of_a_grid_on_which_all_edges_coincide(size, grid, monkeypatch):
    labels = numbers(5, *size) - 1
    one_hot = torch.stack([labels == k for k in range(4)])
    expected = shares(one_hot, grid).float()
    torch.testing.assert_close(areas_of_labels(labels, 4, grid), expected)
    torch.testing.assert_close(areas_of_masks(one_hot, grid), expected)
    soft = draw(3, *size).sigmoid()
    torch.testing.assert_close(areas_of_masks(soft, grid), shares(soft, grid))
    monkeypatch.setattr(patch_areas, "_AT_ONCE", 1)  # one label, one mask at a time
    torch.testing.assert_close(areas_of_labels(labels, 4, grid), expected)
    torch.testing.assert_close(areas_of_masks(soft, grid), shares(soft, grid))


# --------------------------------------------------------------------------- prototypes


def twin_prototypes(feats, labels, classes, ignored=(255,)):
    """Patch by patch, in float64."""
    total = torch.zeros(classes, feats.shape[1], dtype=torch.float64)
    for x, own in zip(feats.double(), labels.long(), strict=True):
        area = shares(torch.stack([own == c for c in range(classes)]), x.shape[-2:])
        for p, patch in enumerate(x.flatten(1).T):
            labelled = float(area[:, p].sum())
            for c in range(classes):
                if labelled:
                    total[c] += area[c, p] / labelled * patch / patch.norm()
    return total / total.norm(dim=1, keepdim=True)


@pytest.mark.parametrize(("size", "grid"), GRIDS)
def test_prototypes_are_those_of_the_twin(size, grid):
    feats, labels = draw(2, 6, *grid), numbers(5, 2, *size) - 1
    labels[labels == 3] = 255
    found = prototypes(feats, labels, classes=3)
    torch.testing.assert_close(found, twin_prototypes(feats, labels, 3))
    # Classes in another order; another ignore_index, and bytes, which hold no -1.
    order = torch.tensor([2, 0, 1])
    renumbered = torch.where((labels >= 0) & (labels < 3), order[labels.clamp(0, 2)], 9)
    swapped = prototypes(feats, renumbered.byte(), classes=["a", "b", "c"], ignore_index=9)
    torch.testing.assert_close(swapped[order], found)
    half = prototypes(feats.bfloat16(), labels, classes=3)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.double(), found, atol=0.02, rtol=0)


def test_clicks_count_their_patches_fully():
    feats, clicks = 3 * draw(1, 4, 2, 3), torch.full((1, 8, 12), -1)
    clicks[0, 0, 0] = clicks[0, 1, 2] = clicks[0, 7, 5] = (
        0  # two in the first patch, one in another
    )
    clicks[0, 5, 11] = 1
    units = F.normalize(feats[0], dim=0)
    expected = torch.stack([units[:, 0, 0] + units[:, 1, 1], units[:, 1, 2]])
    found = prototypes(feats, clicks, classes=2)
    torch.testing.assert_close(found, F.normalize(expected, dim=1))


def test_a_class_of_a_few_pixels_has_a_direction_and_one_that_cancels_out_has_none():
    labels = torch.zeros(1, 1500, 1500, dtype=torch.int16)
    labels[0, 0, 0] = 1
    found = prototypes(torch.ones(1, 4, 1, 1), labels, classes=2)
    torch.testing.assert_close(found, torch.full((2, 4), 0.5))
    feats = draw(1, 3, 30, 40).float()
    opposite = torch.cat([feats, -(3 * feats).roll(7, -1)], -1)  # in another order
    with pytest.raises(InputError, match="features that cancel out"):
        prototypes(opposite, torch.zeros(1, 30, 80, dtype=torch.long), classes=1)


def test_prototype_logits_are_cosines():
    feats, rows = draw(2, 5, 3, 4), draw(3, 5, seed=1)
    found = prototype_logits(feats, rows)
    for c in range(3):
        expected = F.cosine_similarity(feats, rows[c][None, :, None, None], dim=1)
        torch.testing.assert_close(found[:, c], expected)
    # A patch's own feature has cosine 1, however large; a zero one has none with anything.
    huge = torch.stack([torch.eye(3)[0] * 1e30, torch.zeros(3)], 1)[None, :, None]
    torch.testing.assert_close(
        prototype_logits(huge, torch.eye(3)[:2]), torch.tensor([[[[1.0, 0.0]], [[0.0, 0.0]]]])
    )


def test_orthogonal_features_are_found_again():
    """What the labels say, where each class has a direction of its own."""
    labels = numbers(4, 2, 5, 6)
    feats = F.one_hot(labels, 4).movedim(-1, 1).double()
    found = prototype_logits(feats, prototypes(feats, labels, classes=4))
    assert found.argmax(1).equal(labels)
    assert found.amax(1).equal(torch.ones(2, 5, 6, dtype=torch.float64))


# --------------------------------------------------------------------------- regions


def twin_scores(vector, references, matching, reduce, temperature):
    """One region by loops over the references, with NumPy alone."""
    units = [[r / np.linalg.norm(r) for r in one.double().numpy()] for one in references]
    every = [(c, r) for c, one in enumerate(units) for r in one]
    x = vector.double().numpy() / np.linalg.norm(vector.double().numpy())
    if matching == "cosine":
        found = [[float(x @ r) for r in one] for one in units]
        return [max(one) if reduce == "max" else sum(one) / len(one) for one in found]

    def ranking(y, without=None):
        raw = [0.0 if i == without else math.exp(y @ r / temperature)
               for i, (_, r) in enumerate(every)]  # fmt: skip
        return [one / sum(raw) for one in raw]

    own, scores = ranking(x), []
    for c, one in enumerate(units):
        of_class = [i for i, (k, _) in enumerate(every) if k == c]
        rows = [ranking(every[i][1], None if len(one) == 1 else i) for i in of_class]
        profile = np.mean(rows, 0)
        scores.append(-sum(p * math.log(p / q) for p, q in zip(profile, own, strict=True) if p))
    return scores


OPTIONS = [
    {"matching": "cosine", "reduce": "max", "temperature": 0.05},
    {"matching": "cosine", "reduce": "mean", "temperature": 0.05},
    {"matching": "rank", "reduce": "max", "temperature": 0.3},
]
SETS = [draw(3, 6, seed=2), draw(1, 6, seed=3), draw(4, 6, seed=4)]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize(("size", "grid"), GRIDS[:2])
def test_regions_are_scored_as_by_the_twin(size, grid, options):
    feats, maps = draw(2, 6, *grid), numbers(4, 2, *size)
    found = classify_regions(feats, maps, SETS, **options)
    assert found.shape == (2, 3, *size)
    for item in range(2):
        x = feats[item].flatten(1).T
        for region in maps[item].unique():
            inside = maps[item] == region
            area = shares(inside[None], grid)[0]
            mean = (area[:, None] * x).sum(0) / area.sum()
            expected = torch.tensor(twin_scores(mean, SETS, **options), dtype=torch.float64)
            rows = found[item][:, inside].T
            torch.testing.assert_close(rows, expected.expand_as(rows), rtol=1e-6, atol=1e-6)
    # The numbers of the regions say nothing, and masks say the same as they do.
    renumbered = torch.tensor([10**12, 5, 0, 77])[maps]
    torch.testing.assert_close(classify_regions(feats, renumbered, SETS, **options), found)
    masks = [torch.stack([one == k for k in range(4)]) for one in maps]
    torch.testing.assert_close(classify_regions(feats, masks, SETS, **options), found)
    # An image alone, and the classes in another order.
    alone = classify_regions(feats[1:], maps[1:], SETS[::-1], **options)
    torch.testing.assert_close(alone[0].flip(0), found[1])


def test_overlapping_and_soft_masks_are_averaged():
    feats = draw(1, 6, 2, 2)
    masks = torch.tensor(
        [[[1.0, 1.0], [0.0, 0.5]], [[0.0, 0.5], [0.0, 1.0]], [[0.0, 0.0], [0.0, 0.0]]]
    )
    x = feats[0].flatten(1).T
    area = masks[:2].flatten(1).double()
    means = area @ x / area.sum(1, keepdim=True)
    each = torch.tensor([twin_scores(mean, SETS, **OPTIONS[0]) for mean in means]).double()
    with pytest.warns(InputWarning, match=r"regions: got 0.25 of the pixels in no region"):
        found = classify_regions(feats, [masks], SETS)[0]
    torch.testing.assert_close(found[:, 0, 0], each[0])
    torch.testing.assert_close(found[:, 0, 1], (each[0] + 0.5 * each[1]) / 1.5)
    torch.testing.assert_close(found[:, 1, 1], (0.5 * each[0] + each[1]) / 1.5)


def test_a_pixel_in_no_region_has_the_lowest_score():
    feats, maps = draw(2, 6, 2, 2), torch.tensor([[[0, 0], [-1, 3]], [[-7, -7], [-7, -7]]])
    with pytest.warns(
        InputWarning, match=r"got 0.62 of the pixels in no region, where all classes"
    ):
        found = classify_regions(feats, maps, SETS)
    assert found[0, :, 1, 0].tolist() == [float(found[0].min())] * 3
    assert found[1].equal(torch.full((3, 2, 2), -1.0, dtype=torch.float64))
    with pytest.warns(InputWarning):
        empty = classify_regions(feats[1:], [torch.zeros(0, 2, 2).bool()], SETS)
    assert empty[0].equal(found[1])


@pytest.mark.parametrize("options", OPTIONS)
def test_orthogonal_references_classify_perfectly(options):
    maps = torch.arange(4).view(1, 2, 2)
    feats = F.one_hot(maps, 4).movedim(-1, 1).double()
    sets = [torch.eye(4)[c].repeat(2, 1) + 0.01 * draw(2, 4, seed=c) for c in range(4)]
    assert classify_regions(feats, maps, sets, **options).argmax(1).equal(maps)
    # One reference of each class: a region that is one of them has the profile of its class.
    single = classify_regions(feats, maps, list(torch.eye(4).split(1)), **options)
    assert single.argmax(1).equal(maps)
    best = 0.0 if options["matching"] == "rank" else 1.0
    torch.testing.assert_close(single.amax(1), torch.full_like(single[:, 0], best))


@pytest.mark.parametrize("options", OPTIONS)
def test_equal_references_tie(options):
    same = draw(3, 6)
    found = classify_regions(draw(1, 6, 3, 3), numbers(3, 1, 5, 5), [same, same], **options)
    torch.testing.assert_close(found[:, 0], found[:, 1])
    assert options["matching"] == "cosine" or float(found.max()) <= 1e-12


@pytest.mark.parametrize("options", OPTIONS)
def test_gradients_and_precision_of_regions(options):
    feats, maps = draw(1, 6, 2, 3).requires_grad_(), numbers(3, 1, 4, 5)
    assert torch.autograd.gradcheck(lambda x: classify_regions(x, maps, SETS, **options), feats)
    found = classify_regions(feats.float(), maps, [one.float() for one in SETS], **options)
    expected = classify_regions(feats, maps, SETS, **options)
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5)
    half = classify_regions(feats.half(), maps, SETS, **options)
    assert half.dtype == torch.float16
    torch.testing.assert_close(half.double(), expected, rtol=2e-2, atol=2e-2)


def test_few_similarities_are_held_at_once(monkeypatch):
    feats, maps = draw(1, 6, 4, 4), numbers(9, 1, 8, 8)
    masks = [torch.stack([maps[0] == k for k in range(9)])]
    expected = classify_regions(feats, maps, SETS)
    for file in ("matching", "region_matching"):
        monkeypatch.setattr(f"lpprop.inputs.{file}._AT_ONCE", 1)
    torch.testing.assert_close(classify_regions(feats, maps, SETS), expected)
    torch.testing.assert_close(classify_regions(feats, masks, SETS), expected)


def test_regions_mend_what_patches_miss():
    """A mean over a region averages the noise of its patches away."""
    maps = (torch.arange(64).view(1, 8, 8) // 32) % 2
    clean = F.one_hot(maps, 8).movedim(-1, 1).double()
    noisy = clean + 0.8 * draw(1, 8, 8, 8)
    sets = list(torch.eye(8, dtype=torch.float64)[:2].split(1))
    patches = prototype_logits(noisy, torch.cat(sets)).argmax(1)
    assert (patches == maps).float().mean() < 0.95
    assert classify_regions(noisy, maps, sets).argmax(1).equal(maps)


def test_the_names_are_on_the_face():
    assert {"classify_regions", "prototypes", "prototype_logits"} <= set(lpprop.__all__)
    with pytest.raises(InputError, match="matching: got 'ranks'"):
        classify_regions(draw(1, 6, 2, 2), numbers(2, 1, 2, 2), SETS, matching="ranks")
