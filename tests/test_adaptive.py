"""Settings that follow from the image: against their equations in NumPy, and what they promise."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lpprop
import reference
from lpprop.evaluation.analyses import relabel
from lpprop.numerics.adaptive import (
    assortativity,
    choose_alpha,
    choose_gamma,
    choose_k,
    mark_winners,
)
from lpprop.numerics.graphs import DenseGraph, nearest_neighbours, symmetric_graph

AUTO = {"k": "auto", "gamma": "auto", "alpha": "auto"}


def random(*shape, seed=0, dtype=torch.float32):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def gamma_of(similarities, k):
    """The equation, row by row."""
    falls = []
    for row in similarities:
        nearest = sorted(row, reverse=True)[:k]
        falls.append(np.log(nearest[-1] / nearest[1]))
    return float(np.clip(np.log(1 / 4) / np.median(falls), 1, 100))


def assortativity_of(labels, weights):
    """Newman's Eq. 2 with loops over the edges."""
    kinds = sorted(set(labels))
    e = {(a, b): 0.0 for a in kinds for b in kinds}
    for i, a in enumerate(labels):
        for j, b in enumerate(labels):
            e[a, b] += weights[i][j] / weights.sum()
    chance = sum(sum(e[a, b] for b in kinds) ** 2 for a in kinds)
    return (sum(e[a, a] for a in kinds) - chance) / (1 - chance)


def halves(height=12, width=16, noise=0.05):
    """Two halves: one-hot scores, features that tell them apart, and an image that does so too."""
    labels = (torch.arange(width) >= width // 2).long().expand(height, width)
    logits = torch.nn.functional.one_hot(labels, 2).permute(2, 0, 1)[None].float()
    feats = logits.repeat(1, 8, 1, 1) + noise * random(1, 16, height, width, seed=1)
    image = labels.repeat_interleave(16, 0).repeat_interleave(16, 1).expand(1, 3, -1, -1).float()
    return logits, feats, image * 0.6 + 0.2


# --------------------------------------------------------------------------- each choice


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([1], 1), ([2, 2], 4), ([1, 4], 5), ([1, 199], 5), ([1, 239], 6), ([1, 4095], 10),
        ([100, 300], 12), ([100, 300, 0], 12), ([400, 400], 50), ([399, 401], 49), ([9000], 50),
    ],
)  # fmt: skip
def test_k_grows_with_the_smallest_class_that_wins(sizes, expected):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    winners = torch.from_numpy(np.eye(len(sizes))[labels].T)
    assert choose_k(winners) == expected


def test_gamma_is_that_of_the_equation():
    feats = random(40, 12, seed=3, dtype=torch.float64)
    _, found = nearest_neighbours(feats, 10, torch.float64)
    expected = gamma_of(reference.similarities(feats.numpy()), 10)
    assert choose_gamma(found) == pytest.approx(expected, rel=1e-9)


def test_gamma_spreads_the_weights_alike_for_close_and_for_wide_similarities():
    """What it is for: tokens whose cosines are near 1, and features whose cosines are not."""
    for offset in (0.0, 0.3):
        _, found = nearest_neighbours(random(200, 24, seed=4) + offset - 0.3, 10, torch.float32)
        top = found.sort(descending=True).values ** choose_gamma(found)
        assert float((top[:, -1] / top[:, 1]).quantile(0.5)) == pytest.approx(0.25, rel=1e-3)


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_patches_that_are_all_alike_do_not_choose_gamma(value):
    """A frame around the image, without features or with the same ones, unlike all others."""
    feats = random(40, 12, seed=3) - 0.3
    _, inside = nearest_neighbours(feats, 10, torch.float32)
    framed = torch.cat([feats, torch.full((60, 12), value)])
    _, found = nearest_neighbours(framed, 10, torch.float32)
    assert choose_gamma(found) == pytest.approx(choose_gamma(inside))


def test_gradients_in_feats_do_not_warn():
    logits, feats, _ = halves()
    feats.requires_grad_()
    lpprop.propagate_patches(relabel(logits[0], 0.3)[None], feats, **AUTO).sum().backward()
    assert bool(feats.grad.isfinite().all())


@pytest.mark.parametrize(
    ("similarity", "expected"),
    [
        ([[1.0, 0.9, 0.9]], 100.0),  # all alike
        ([[1.0, 0.9]], 1.0),  # one neighbour
        ([[1.0]], 1.0),
        ([[1.0, 0.5, -0.5]], 1.0),  # below 0 counts as next to nothing
        ([[0.0, 0.0, 0.0]], 100.0),
    ],
)
def test_gamma_stays_within_its_bounds(similarity, expected):
    assert choose_gamma(torch.tensor(similarity)) == expected


@given(seed=st.integers(0, 1000), classes=st.integers(2, 5), nodes=st.integers(4, 14))
@settings(max_examples=25, deadline=None)
def test_assortativity_is_newmans(seed, classes, nodes):
    rng = np.random.default_rng(seed)
    weights = rng.random((nodes, nodes)) * (rng.random((nodes, nodes)) < 0.6)
    weights = weights + weights.T
    np.fill_diagonal(weights, 0)
    labels = np.r_[0, 1, rng.integers(0, classes, nodes - 2)]
    degrees = weights.sum(1)
    if np.count_nonzero([degrees[labels == c].sum() for c in range(classes)]) < 2:
        return  # one label has all the edges
    one_hot = torch.from_numpy(np.eye(classes)[labels].T)
    found = assortativity(one_hot, DenseGraph(torch.from_numpy(weights)))
    assert found == pytest.approx(assortativity_of(labels, weights), abs=1e-12)


def test_one_label_and_no_edge_leave_nothing_to_mend():
    graph = DenseGraph(torch.ones(4, 4) - torch.eye(4))
    assert assortativity(torch.tensor([[1.0] * 4, [0.0] * 4]), graph) == 1
    assert assortativity(torch.eye(2).repeat(1, 2), DenseGraph(torch.zeros(4, 4))) == 1


def test_alpha_rises_with_the_share_of_scattered_errors():
    logits, feats, _ = halves()
    indices, similarity = nearest_neighbours(feats[0].flatten(1).T, 10, torch.float32)
    graph = symmetric_graph(indices, similarity, "dense")
    alphas = [
        choose_alpha(mark_winners(relabel(logits[0], share).flatten(1)), graph)
        for share in (0, 0.1, 0.3, 0.6)
    ]
    assert alphas[0] < 0.05
    assert alphas == sorted(alphas)
    assert 0.8 < alphas[-1] <= 0.85


# --------------------------------------------------------------------------- the step


@pytest.mark.parametrize("storage", ["dense", "csr"])
def test_auto_is_the_step_with_the_values_of_the_equations(storage):
    logits, feats = random(1, 4, 6, 7, seed=5).double(), random(1, 16, 6, 7, seed=6).double() - 0.2
    X, Y = (x[0].flatten(1).T.numpy() for x in (feats, logits))
    assert reference.neighbour_gap(X, 5) > 1e-9  # of 42 patches
    gamma = gamma_of(reference.similarities(X), 5)
    centres = reference.patch_centres(6, 7, 16)
    graph = reference.patch_graph(X, centres, k=5, gamma=gamma)
    r = max(assortativity_of(Y.argmax(1), graph), 0)
    alpha = 0.85 * max(0, 1 - (r / 0.95) ** 6)
    expected = reference.propagate(graph, Y.T, alpha=alpha, max_iter=10, tol=1e-6)
    found = lpprop.propagate_patches(logits, feats, **AUTO, storage=storage)
    np.testing.assert_allclose(found[0].flatten(1).numpy(), expected, atol=1e-10)


def test_each_item_of_a_batch_has_its_own():
    logits, feats, _ = halves()
    both = torch.cat([logits, relabel(logits[0], 0.4)[None]])
    feats = torch.cat([feats, feats * 3 + 1])
    together = lpprop.propagate_patches(both, feats, **AUTO)
    for i in range(2):
        alone = lpprop.propagate_patches(both[i : i + 1], feats[i : i + 1], **AUTO)
        assert torch.equal(together[i : i + 1], alone)


@given(seed=st.integers(0, 100), scale=st.sampled_from([1e-3, 0.5, 40.0]))
@settings(max_examples=10, deadline=None)
def test_scale_and_order_of_the_classes_do_not_matter(seed, scale):
    logits, feats = random(1, 5, 6, 8, seed=seed), random(1, 12, 6, 8, seed=seed + 1) - 0.3
    found = lpprop.propagate_patches(logits, feats, **AUTO)
    order = torch.randperm(5, generator=torch.Generator().manual_seed(seed))
    permuted = lpprop.propagate_patches(scale * logits[:, order], 7 * feats, **AUTO)
    torch.testing.assert_close(permuted, scale * found[:, order], rtol=2e-4, atol=1e-5 * scale)


def test_windows_join_one_graph_with_one_choice():
    windows = lpprop.SlidingWindows((96, 160), 96, 64)
    logits, feats = random(2, 3, 6, 6, seed=7), random(2, 8, 6, 6, seed=8) - 0.3
    found = lpprop.propagate_patches(logits, feats, windows=windows, **AUTO)
    again = lpprop.PatchPropagation(**AUTO)(logits, feats=feats, windows=windows)
    assert torch.equal(found, again)
    alone = lpprop.propagate_patches(logits[:1], feats[:1], **AUTO)
    assert not torch.allclose(found[:1], alone)


def test_it_mends_scattered_errors_and_leaves_what_is_right():
    logits, feats, image = halves()
    truth = logits.argmax(1).repeat_interleave(16, 1).repeat_interleave(16, 2)
    assert torch.equal(lpprop.refine(logits, feats, image).argmax(1), truth)
    noisy = relabel(logits[0], 0.4)[None]
    wrong = (lpprop.bilinear_upsample(noisy, truth.shape[1:]).argmax(1) != truth).float().mean()
    left = (lpprop.refine(noisy, feats, image).argmax(1) != truth).float().mean()
    assert float(wrong) > 0.05
    assert float(left) < 0.01


def test_gradients_hold_the_choice_fixed():
    logits = random(1, 3, 4, 5, seed=9).double().requires_grad_()
    feats = random(1, 8, 4, 5, seed=10).double() - 0.3
    options = {**AUTO, "max_iter": 200, "tol": 1e-12}

    def step(z):
        return lpprop.propagate_patches(z, feats, **options)

    assert torch.autograd.gradcheck(step, logits)


@pytest.mark.parametrize("option", ["k", "gamma", "alpha"])
@pytest.mark.parametrize("value", ["Auto", "", None])
def test_other_words_are_refused(option, value):
    with pytest.raises(lpprop.InputError, match=f'^{option}: got .*, or "auto"'):
        lpprop.PatchPropagation(**{option: value})


# --------------------------------------------------------------------------- the default


def test_with_windows_the_default_is_lposs_plus():
    windows = lpprop.SlidingWindows((96, 160), 96, 64)
    logits, feats = random(2, 3, 6, 6, seed=11), random(2, 8, 6, 6, seed=12) - 0.3
    image = random(1, 3, 96, 160, seed=13)
    published = lpprop.refine(logits, feats, image, windows=windows, method="lposs+")
    assert torch.equal(lpprop.refine(logits, feats, image, windows=windows), published)
    several = lpprop.refine([logits] * 2, [feats] * 2, image, windows=[windows] * 2)
    torch.testing.assert_close(several, published)


def test_options_of_the_default_are_those_of_its_steps():
    options = lpprop.presets.auto.options
    assert [options[x] for x in ("k", "gamma", "alpha", "pixel_alpha")] == ["auto"] * 3 + [0.9]
    chain = lpprop.presets.auto(k=5, alpha=0.5, pixel_alpha=0.8)
    assert (chain.steps[0].k, chain.steps[0].alpha, chain.steps[2].alpha) == (5, 0.5, 0.8)
    # alpha still holds for both steps where they have one default.
    assert {step.config.get("alpha") for step in lpprop.presets.lposs_plus(alpha=0.5).steps} == {
        0.5, None
    }  # fmt: skip


def test_comparisons_show_it_once():
    logits, feats = random(1, 3, 6, 6, seed=14), random(1, 8, 6, 6, seed=15) - 0.3
    image = random(1, 3, 96, 96, seed=16)
    rows = [row.method for row in lpprop.compare(logits, feats, image, repeats=1).rows]
    assert {"auto", "lposs+"} <= set(rows)
    windows = lpprop.SlidingWindows((96, 96), 96, 64)
    rows = [
        row.method for row in lpprop.compare(logits, feats, image, windows=windows, repeats=1).rows
    ]
    assert "lposs+" in rows
    assert "auto" not in rows


def test_patches_without_a_score_do_not_count_as_labelled():
    """A few clicks ask for strong propagation and few neighbours, with hints beside them or not."""
    logits, feats, _ = halves()
    seeds = torch.zeros_like(logits)
    seeds[:, 0, 5, 2] = seeds[:, 1, 5, 12] = 1
    hints = torch.where(seeds.sum(1, keepdim=True) > 0, seeds, 1e-6 * logits)
    for scores in (seeds, hints):
        winners = mark_winners(scores[0].flatten(1))
        assert winners.sum() == 2
        assert choose_k(winners) == 5  # one in 40 of 192 patches
        ring = DenseGraph(torch.eye(192).roll(1, 0) + torch.eye(192).roll(-1, 0))
        assert choose_alpha(winners, ring) == 0.85
    found = lpprop.propagate_patches(hints, feats, **AUTO).argmax(1)
    assert torch.equal(found, logits.argmax(1))
