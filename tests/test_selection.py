"""Choosing classes: by brute force, and what refinement makes of the chosen ones."""

import math

import pytest
import torch

import lpprop
from lpprop import select_classes


def draw(seed, *shape, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def kept_of(scores):
    return [c for c in range(scores.shape[1]) if not torch.isneginf(scores[:, c]).all()]


def brute(logits, top=None, threshold=None, patches=1, scale=None):
    """The classes that are kept, in plain Python."""
    kept = set()
    for item in logits.double():
        x = item.flatten(1)
        x = x if scale is None else torch.exp(scale * x) / torch.exp(scale * x).sum(0)
        nodes = x.shape[1]
        m = min(patches, nodes) if isinstance(patches, int) else math.ceil(patches * nodes)
        evidence = [sum(sorted(row.tolist())[-m:]) / m for row in x]
        order = sorted(range(len(evidence)), key=lambda c: -evidence[c])
        kept |= set(order[:top]) if top else {c for c in order if evidence[c] >= threshold}
        kept.add(order[0])
    return sorted(kept)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("patches", [1, 4, 99, 0.1, 1.0])
@pytest.mark.parametrize("scale", [None, 3.0])
def test_classes_by_brute_force(dtype, patches, scale):
    logits = draw(0, 2, 12, 4, 5, dtype=dtype)
    options = {"patches": patches, "logit_scale": scale}
    for top in (1, 3, 12, 40):
        found = select_classes(logits, top=top, **options)
        kept = brute(logits, top=top, patches=patches, scale=scale)
        assert kept_of(found) == kept
        assert torch.equal(found[:, kept], logits[:, kept])
    for threshold in (-9.0, 0.12, 9.0):
        found = select_classes(logits, threshold=threshold, **options)
        kept = brute(logits, threshold=threshold, patches=patches, scale=scale)
        assert kept_of(found) == kept
    assert found.dtype == dtype


def test_global_scores_replace_the_patches():
    logits, scores = draw(0, 2, 5, 3, 3), torch.tensor([[0.1, 0.9, 0.2, 0.3, 0.8],
                                                        [0.7, 0.9, 0.1, 0.0, 0.2]])  # fmt: skip
    assert kept_of(select_classes(logits, top=2, global_scores=scores)) == [0, 1, 4]
    assert kept_of(select_classes(logits, threshold=0.85, global_scores=scores)) == [1]


def test_ties_classes_left_out_before_and_huge_scores():
    equal = torch.zeros(1, 4, 2, 2)
    assert kept_of(select_classes(equal, top=2)) == [0, 1]
    equal[:, 0] = -torch.inf
    assert kept_of(select_classes(equal, top=2)) == [1, 2]
    scores = torch.tensor([[9.0, 1.0, 2.0, 3.0]])
    assert kept_of(select_classes(equal, top=2, global_scores=scores)) == [2, 3]
    huge = 3e38 * torch.tensor([1.0, -1.0, 0.5]).reshape(1, 3, 1, 1).repeat(1, 1, 4, 4)
    for options in ({}, {"logit_scale": 1e-38}, {"patches": 1.0}):
        assert kept_of(select_classes(huge, top=2, **options)) == [0, 2]
    # Softmax leaves nothing of both others.
    assert kept_of(select_classes(huge, top=2, logit_scale=100.0)) == [0, 1]


def test_gradients_pass_to_the_classes_that_are_kept():
    logits = draw(0, 1, 3, 2, 2).requires_grad_()
    found = select_classes(logits, top=2)
    kept = kept_of(found)
    found[:, kept].sum().backward()
    expected = torch.zeros(1, 3, 2, 2)
    expected[:, kept] = 1
    assert torch.equal(logits.grad, expected)


EACH_CLASS_BY_ITSELF = {
    "bilinear": {}, "joint_bilateral": {}, "guided_filter": {}, "pamr": {},
    "lposs": {"k": 9, "patch_size": 8}, "lposs+": {"k": 9, "patch_size": 8},
}  # fmt: skip


@pytest.mark.parametrize("method", EACH_CLASS_BY_ITSELF)
def test_methods_that_treat_each_class_by_itself_are_exact(method):
    """The classes that are kept score as beside all others, which come back as -inf."""
    logits, feats = draw(0, 2, 30, 6, 7).softmax(1), draw(1, 2, 8, 6, 7)
    image = draw(2, 2, 3, 48, 56).sigmoid()
    options = {"method": method, **EACH_CLASS_BY_ITSELF[method]}
    every = lpprop.refine(logits, feats, image, **options)
    few = lpprop.refine(select_classes(logits, top=3), feats, image, **options)
    kept = kept_of(few)
    assert 3 <= len(kept) <= 6
    torch.testing.assert_close(few[:, kept], every[:, kept], rtol=1e-5, atol=1e-6)
    every[:, [c for c in range(30) if c not in kept]] = -torch.inf
    assert torch.equal(few.argmax(1), every.argmax(1))


def test_methods_with_a_softmax_over_the_classes_are_not():
    logits, feats = draw(0, 1, 30, 6, 7), draw(1, 1, 8, 6, 7)
    image = draw(2, 1, 3, 48, 56).sigmoid()
    every = lpprop.refine(logits, feats, image, method="max_velocity")
    few = lpprop.refine(select_classes(logits, top=3), feats, image, method="max_velocity")
    kept = kept_of(few)
    assert float((few[:, kept] - every[:, kept]).abs().max()) > 1e-3
