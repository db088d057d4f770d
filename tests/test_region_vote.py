"""The region vote against a dense twin, closed forms, and what must hold for all regions."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import lpprop
from lpprop.numerics import region_pooling
from lpprop.numerics.nearest import resample_nearest

vote = lpprop.region_vote
BY = ["mean", "vote", "probability"]
OVERLAPS = ["average", "smallest", "largest"]


def random(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def dense(scores, masks, *, by, strength=1.0, purity=0.0, overlap="average", weights=None):
    """One image: scores (C, H, W) and masks (M, H, W), with the matrix A (M, N) written out."""
    y = scores.flatten(1).numpy()
    a = masks.double().flatten(1).numpy()
    classes, size = len(y), a.sum(1)
    best = np.eye(classes)[y.argmax(0)].T
    soft = np.exp(y) / np.exp(y).sum(0)
    f = {"mean": y, "vote": best, "probability": soft}[by]
    rows = [m for m in range(len(a)) if size[m] > 0]
    rows = [m for m in rows if (best @ a[m]).max() / size[m] >= purity - 1e-12]
    if weights is not None:
        rows = [m for m in rows if weights[m] > 0]
    z = {m: f @ a[m] / size[m] for m in rows}
    out = f.copy()
    for i in range(y.shape[1]):
        if overlap == "average":
            w = {m: a[m, i] * (1 if weights is None else float(weights[m])) for m in rows}
            w = {m: value for m, value in w.items() if value > 0}
        else:
            holding = [m for m in rows if a[m, i] > 0 and a[m, i] >= a[m].max() / 2]
            order = {"smallest": min, "largest": max}[overlap]
            w = {order(holding, key=lambda m: size[m]): 1.0} if holding else {}
        if w:
            pooled = sum(w[m] * z[m] for m in w) / sum(w.values())
            out[:, i] = (1 - strength) * f[:, i] + strength * pooled
    return torch.from_numpy(out).view_as(scores)


def some_masks(seed, count, soft):
    draws = random(seed, count, 6, 7)
    masks = draws.clamp(0, 1) if soft else draws > 0.3
    masks[count // 2] = 0  # one that holds no pixel
    return masks


@pytest.mark.parametrize("by", BY)
@pytest.mark.parametrize("overlap", OVERLAPS)
@pytest.mark.parametrize("soft", [False, True])
def test_masks_against_the_matrix(by, overlap, soft, monkeypatch):
    monkeypatch.setattr(region_pooling, "_CHUNK_BYTES", 2 * 42 * 8)  # two masks at a time
    logits = random(0, 2, 4, 6, 7)
    masks = [some_masks(1, 5, soft), some_masks(2, 3, soft)]
    weights = [random(3, 5).abs(), torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64)]
    for options in ({}, {"strength": 0.3}, {"purity": 0.4}, {"region_scores": weights}):
        got = vote(logits, masks, by=by, overlap=overlap, **options)
        own = dict(options)
        each = own.pop("region_scores", [None, None])
        expected = [
            dense(y, m, by=by, overlap=overlap, weights=w, **own)
            for y, m, w in zip(logits, masks, each, strict=True)
        ]
        torch.testing.assert_close(got, torch.stack(expected), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("by", BY)
def test_runs_of_pixels_against_the_matrix(by):
    logits = random(0, 1, 4, 6, 21)
    maps = random(1, 1, 6, 3).mul(2).round().long().clamp_max(4).repeat_interleave(7, -1)
    masks = torch.stack([maps[0] == number for number in range(5)])
    for options in ({}, {"strength": 0.3}, {"purity": 0.4}):
        torch.testing.assert_close(
            vote(logits, maps, by=by, **options)[0], dense(logits[0], masks, by=by, **options)
        )
    if by != "vote":
        wanted = logits.clone().requires_grad_()
        assert torch.autograd.gradcheck(lambda x: vote(x, maps, by=by), [wanted], fast_mode=True)


@pytest.mark.parametrize("by", BY)
@pytest.mark.parametrize("numbers", [1, 10**9])
def test_maps_are_masks_that_do_not_overlap(by, numbers):
    logits = random(0, 2, 4, 6, 7)
    maps = random(1, 2, 6, 7).mul(2).round().long().clamp_max(4)
    masks = [torch.stack([one == number for number in range(5)]) for one in maps]
    assert bool((maps < 0).any())
    for options in ({}, {"strength": 0.3}, {"purity": 0.4}):
        expected = [dense(y, m, by=by, **options) for y, m in zip(logits, masks, strict=True)]
        got = vote(logits, torch.where(maps > 0, numbers * maps, maps), by=by, **options)
        torch.testing.assert_close(got, torch.stack(expected), rtol=1e-12, atol=1e-12)
        for overlap in OVERLAPS:
            same = vote(logits, masks, by=by, overlap=overlap, **options)
            torch.testing.assert_close(same, got, rtol=1e-12, atol=1e-12)


# --------------------------------------------------------------------------- closed forms


def test_one_region_gives_the_mean():
    logits = random(0, 2, 3, 4, 5)
    got = vote(logits, torch.full((2, 4, 5), 7))
    torch.testing.assert_close(got, logits.mean((2, 3), keepdim=True).expand_as(logits))


@given(st.integers(0, 2**31), st.integers(1, 4), st.integers(1, 6), st.integers(1, 7))
def test_the_mean_over_a_partition_is_a_projection(seed, classes, height, width):
    logits = random(seed, 1, classes, height, width)
    maps = random(seed + 1, 1, height, width).mul(3).round().long()
    once = vote(logits, maps)
    torch.testing.assert_close(vote(once, maps), once, rtol=1e-12, atol=1e-12)
    # It keeps the mean of the image, and what it removes is orthogonal to what it leaves.
    torch.testing.assert_close(once.mean((2, 3)), logits.mean((2, 3)), rtol=1e-9, atol=1e-12)
    assert abs(float((once * (logits - once)).sum())) < 1e-9


@given(st.integers(0, 2**31), st.integers(1, 40), st.integers(2, 5))
def test_a_vote_is_the_mode_away_from_ties(seed, pixels, classes):
    logits = random(seed, 1, classes, 1, pixels)
    labels = logits.argmax(1)[0, 0]
    counts = labels.bincount(minlength=classes)
    for maps in (torch.zeros(1, 1, pixels).long(), [torch.ones(1, 1, pixels) > 0]):
        got = vote(logits, maps, by="vote")
        torch.testing.assert_close(got[0, :, 0, 0], counts / pixels, check_dtype=False)
        if (counts == counts.max()).sum() == 1:
            assert int(got.argmax(1)[0, 0, 0]) == int(labels.mode().values)


def test_equal_scores_go_to_the_first_class():
    got = vote(torch.zeros(1, 3, 2, 2), torch.tensor([[[0, 0], [-1, -1]]]), by="vote")
    assert bool((got.argmax(1) == 0).all())
    assert bool((got[:, 0] == 1).all())


def test_equal_classes_get_equal_scores():
    logits = random(0, 1, 4, 6, 7).float()[:, [0, 1, 0, 2]]
    for regions in (torch.ones(1, 6, 7).long(), [some_masks(1, 5, False)]):
        for by in ("mean", "probability"):
            got = vote(logits, regions, by=by)
            assert torch.equal(got[:, 0], got[:, 2])


@pytest.mark.parametrize("by", BY)
def test_strength_0_gives_what_would_be_averaged(by):
    logits = random(0, 1, 3, 4, 5)
    f = {
        "mean": logits,
        "vote": torch.nn.functional.one_hot(logits.argmax(1), 3).movedim(-1, 1).double(),
        "probability": logits.softmax(1),
    }
    none = torch.full((1, 4, 5), -3)
    for regions in (torch.zeros(1, 4, 5).long(), [torch.ones(2, 4, 5) > 0]):
        assert torch.equal(vote(logits, regions, by=by, strength=0), f[by])
    # So do regions that hold no pixel.
    for regions in (none, [torch.ones(0, 4, 5) > 0], [torch.zeros(2, 4, 5)]):
        assert torch.equal(vote(logits, regions, by=by), f[by])


@pytest.mark.parametrize("form", ["maps", "bool", "soft"])
def test_purity_1_leaves_mixed_regions_alone(form):
    labels = torch.tensor([[0, 0, 0, 1, 1, 2]])
    logits = torch.nn.functional.one_hot(labels, 3).movedim(-1, 1)[:, :, None].float()
    logits = logits * torch.tensor([1.0, 3.0, 2.0, 1.0, 2.0, 5.0])
    maps = torch.tensor([[[0, 0, 0, 1, 1, 1]]])
    masks = torch.stack([maps[0] == 0, maps[0] == 1])
    regions = {"maps": maps, "bool": [masks], "soft": [0.3 * masks]}[form]
    got = vote(logits, regions, purity=1)
    torch.testing.assert_close(got[0, 0, 0, :3], torch.full((3,), 2.0))
    assert torch.equal(got[..., 3:], logits[..., 3:])
    assert not torch.equal(vote(logits, regions, purity=0.66)[..., 3:], logits[..., 3:])


def test_the_smallest_and_the_largest_of_nested_masks():
    logits = torch.arange(9.0).view(1, 1, 3, 3)
    whole, row = torch.ones(3, 3) > 0, torch.zeros(3, 3) > 0
    row[1] = True
    point = torch.zeros(3, 3) > 0
    point[1, 1] = True
    for order in ([0, 1, 2], [2, 0, 1]):
        masks = [torch.stack([whole, row, point])[order]]
        assert bool((vote(logits, masks, overlap="largest") == 4).all())
        smallest = vote(torch.where(point, 13.0, logits), masks, overlap="smallest")[0, 0]
        mean, middle = (36 + 9) / 9, (12 + 9) / 3
        expected = [[mean] * 3, [middle, 13, middle], [mean] * 3]
        torch.testing.assert_close(smallest, torch.tensor(expected))


def test_of_equally_large_masks_the_first_has_the_pixel():
    logits = torch.tensor([[[[0.0, 1.0, 4.0]]]])
    masks = torch.tensor([[[1, 1, 0]], [[0, 1, 1]]]) > 0
    for overlap in ("smallest", "largest"):
        assert vote(logits, [masks], overlap=overlap).flatten().tolist() == [0.5, 0.5, 2.5]
        assert vote(logits, [masks.flip(0)], overlap=overlap).flatten().tolist() == [0.5, 2.5, 2.5]


# --------------------------------------------------------------------------- invariants


@given(st.integers(0, 2**31), st.sampled_from(BY), st.sampled_from([0.0, 0.5]))
def test_the_names_of_regions_and_classes_do_not_matter(seed, by, purity):
    logits = random(seed, 1, 4, 5, 6)
    maps = random(seed + 1, 1, 5, 6).mul(2).round().long().clamp_max(4)
    got = vote(logits, maps, by=by, purity=purity)
    names = torch.randperm(10, generator=torch.Generator().manual_seed(seed))
    renamed = torch.where(maps < 0, maps, names[maps.clamp_min(0)])
    torch.testing.assert_close(vote(logits, renamed, by=by, purity=purity), got)
    classes = torch.randperm(4, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(
        vote(logits[:, classes], maps, by=by, purity=purity), got[:, classes]
    )
    masks = torch.stack([maps[0] == number for number in range(5)])
    order = torch.randperm(5, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(vote(logits, [masks[order]], by=by, purity=purity), got)


@given(st.integers(0, 2**31))
def test_the_mean_is_linear_and_keeps_constants(seed):
    x, y = random(seed, 2, 1, 3, 5, 6)
    masks = [some_masks(seed, 4, soft=True)]
    torch.testing.assert_close(
        vote(2 * x - y, masks), 2 * vote(x, masks) - vote(y, masks), rtol=1e-9, atol=1e-12
    )
    torch.testing.assert_close(vote(0 * x + 3, masks), 0 * x + 3)


def test_weights_count_by_their_ratio():
    logits, masks = random(0, 1, 3, 6, 7).float(), [some_masks(1, 5, soft=False)]
    weights = random(2, 5).abs().float()
    expected = vote(logits, masks, region_scores=weights)
    assert not torch.equal(expected, vote(logits, masks))
    for factor in (1e-30, 1e30):
        torch.testing.assert_close(vote(logits, masks, region_scores=[factor * weights]), expected)


def test_a_gradient_reaches_the_weights():
    weights = random(2, 5).abs().requires_grad_()
    logits, masks = random(0, 1, 3, 6, 7), [some_masks(1, 5, soft=True)]
    assert torch.autograd.gradcheck(lambda w: vote(logits, masks, region_scores=w), [weights])


def test_sums_over_large_regions_keep_their_digits():
    """In float32 alone, a running sum of a million values is wrong in its fourth digit."""
    logits = torch.full((1, 1, 1000, 1000), 0.1)
    logits[..., ::2] = 0.7
    got = vote(logits, torch.zeros(1, 1000, 1000).long())
    torch.testing.assert_close(got.flatten()[0], torch.tensor(0.4), rtol=1e-6, atol=0)


@pytest.mark.parametrize("by", ["mean", "probability"])
def test_a_mask_of_nearly_nothing_is_none(by):
    """As a sigmoid gives it where it finds nothing: its area has no reciprocal in float32."""
    logits = random(0, 1, 3, 4, 5).float().requires_grad_()
    whole, faint = torch.ones(1, 4, 5), torch.full((1, 4, 5), 1e-40)
    both = vote(logits, [torch.cat([whole, faint])], by=by)
    torch.testing.assert_close(both, vote(logits, [whole], by=by))
    alone = vote(logits, [faint], by=by)
    torch.testing.assert_close(alone, logits if by == "mean" else logits.softmax(1))
    (both.sum() + alone.sum()).backward()
    assert bool(logits.grad.isfinite().all())


# --------------------------------------------------------------------------- other sizes


@pytest.mark.parametrize(("of", "to"), [((2, 3), (4, 9)), ((8, 9), (4, 3)), ((5, 7), (3, 4))])
def test_regions_of_another_size_are_those_at_the_centres_of_pixels(of, to):
    maps = torch.arange(of[0] * of[1]).view(1, *of)
    y, x = ((torch.arange(side).double() + 0.5) / side for side in to)
    rows, columns = (y * of[0]).floor().long(), (x * of[1]).floor().long()
    expected = maps[:, rows][:, :, columns]
    assert torch.equal(resample_nearest(maps, to), expected)
    # PyTorch's own, which takes no integers.
    assert torch.equal(
        torch.nn.functional.interpolate(maps[None].double(), to, mode="nearest-exact")[0].long(),
        expected,
    )
    logits = random(0, 1, 2, *to)
    assert torch.equal(vote(logits, maps), vote(logits, expected))
    masks = torch.stack([maps[0] < 3, maps[0] > 1])
    assert torch.equal(vote(logits, [masks]), vote(logits, [resample_nearest(masks, to)]))


def test_numbers_far_apart_take_no_memory():
    maps = torch.tensor([[[2**62, 5, -1]]])
    got = vote(torch.tensor([[[[1.0, 2.0, 3.0]]]]), maps)
    assert got.flatten().tolist() == [1, 2, 3]
