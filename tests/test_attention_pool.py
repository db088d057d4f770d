"""Attention pooling is a matrix power, and CLIP-DINOiser's weights are thresholded cosines."""

import numpy as np
import pytest
import torch

import lpprop
from lpprop.refiners import attention_pool, correlation_pool


def inputs(batch=2, classes=3, h=3, w=4):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(batch, classes, h, w, generator=generator, dtype=torch.float64)
    feats = torch.randn(batch, 5, h, w, generator=generator, dtype=torch.float64) + 0.4
    attention = torch.randn(batch, h * w, h * w, generator=generator, dtype=torch.float64)
    return logits, feats, attention.mul(2).softmax(-1)


@pytest.mark.parametrize("steps", [0, 1, 2, 5])
def test_steps_are_a_power_of_the_attention(steps):
    logits, _, attention = inputs()
    got = attention_pool(logits, attention, steps=steps)
    for item, A, x in zip(got, attention.numpy(), logits, strict=True):
        expected = np.linalg.matrix_power(A, steps) @ x.flatten(1).T.numpy()
        np.testing.assert_allclose(item.flatten(1).T.numpy(), expected, rtol=0, atol=1e-14)


def test_a_row_of_patches_is_the_grid_flattened():
    logits, _, attention = inputs()
    expected = attention_pool(logits, attention, steps=2)
    got = attention_pool(logits.flatten(2), attention, steps=2)
    assert torch.equal(got, expected.flatten(2))
    assert expected.shape == logits.shape


def test_the_identity_changes_nothing_and_the_uniform_gives_the_mean():
    logits, *_ = inputs()
    eye = torch.eye(12, dtype=torch.float64).expand(2, 12, 12)
    assert torch.equal(attention_pool(logits, eye, steps=3), logits)
    got = attention_pool(logits, torch.full_like(eye, 1 / 12))
    mean = logits.mean((2, 3), keepdim=True).expand_as(logits)
    torch.testing.assert_close(got, mean, rtol=0, atol=1e-15)


def test_scores_stay_between_their_extremes_and_a_constant_stays():
    logits, _, attention = inputs()
    got = attention_pool(logits, attention, steps=3).flatten(2)
    assert (got.amax(2) <= logits.flatten(2).amax(2)).all()
    assert (got.amin(2) >= logits.flatten(2).amin(2)).all()
    constant = torch.full_like(logits, 0.3)
    torch.testing.assert_close(attention_pool(constant, attention, steps=3), constant)


def test_rows_of_another_sum_are_divided_by_it():
    logits, _, attention = inputs()
    factors = torch.linspace(0.5, 3, 12, dtype=torch.float64)[:, None]
    with pytest.warns(lpprop.InputWarning, match="rows do not sum to 1"):
        got = attention_pool(logits, factors * attention)
    torch.testing.assert_close(got, attention_pool(logits, attention), rtol=0, atol=1e-14)


@pytest.mark.parametrize("threshold", [0.0, 0.2, 0.6])
def test_correlations_by_hand(threshold):
    """A plain loop over pairs."""
    logits, feats, _ = inputs()
    A = lpprop.correlation_attention(feats, threshold=threshold)
    masked = 0
    for item, weights in zip(feats.flatten(2).numpy(), A.numpy(), strict=True):
        for i, row in enumerate(weights):
            pairs = [(item[:, i], item[:, j]) for j in range(12)]
            cosines = [a @ b / np.sqrt((a @ a) * (b @ b)) for a, b in pairs]
            kept = np.array([c if c >= threshold else 0.0 for c in cosines])
            np.testing.assert_allclose(row, kept / kept.sum(), rtol=0, atol=1e-14)
            masked += (kept == 0).sum()
    assert 0 < masked < 2 * 12 * 11
    got = correlation_pool(logits, feats, threshold=threshold, steps=2)
    assert torch.equal(got, attention_pool(logits, A, steps=2))


def test_pooling_scores_is_pooling_what_they_are_linear_in():
    """CLIP-DINOiser pools CLIP's features, and compares them with the text afterwards."""
    _, feats, _ = inputs()
    generator = torch.Generator().manual_seed(1)
    clip = torch.randn(2, 6, 3, 4, generator=generator, dtype=torch.float64)
    text = torch.nn.functional.normalize(
        torch.randn(7, 6, generator=generator, dtype=torch.float64), dim=1
    )
    pooled = correlation_pool(clip, feats)
    cosines = torch.einsum("cd,bdhw->bchw", text, torch.nn.functional.normalize(pooled, dim=1))
    got = correlation_pool(torch.einsum("cd,bdhw->bchw", text, clip), feats)
    length = pooled.norm(dim=1, keepdim=True)
    torch.testing.assert_close(got, cosines * length, rtol=0, atol=1e-14)


def test_a_patch_of_no_feature_keeps_its_scores():
    logits, feats, _ = inputs()
    feats[0, :, 1, 2] = 0
    A = lpprop.correlation_attention(feats)
    assert A[0, 6, 6] == 1
    assert torch.equal(correlation_pool(logits, feats)[0, :, 1, 2], logits[0, :, 1, 2])


def test_the_highest_threshold_leaves_each_patch_to_itself():
    """Whether its cosine with itself is rounded up or down."""
    feats = inputs(h=8, w=9)[1]
    for dtype in (torch.float32, torch.float64):
        A = lpprop.correlation_attention(feats.to(dtype), threshold=1)
        assert torch.equal(A, torch.eye(72, dtype=dtype).expand(2, 72, 72))


@pytest.mark.parametrize(
    ("method", "given", "options", "expected"),
    [
        ("attention_pool", {"attention"}, {"steps": 2}, attention_pool),
        ("clip_dinoiser", {"feats"}, {"threshold": 0.5}, correlation_pool),
    ],
)
def test_the_presets_pool_then_upsample(method, given, options, expected):
    logits, feats, attention = inputs()
    image = torch.rand(2, 3, 48, 64)
    known = {"feats": feats, "attention": attention}
    given = {name: known[name] for name in given}
    got = lpprop.refine(logits, image=image, method=method, **given, **options)
    pooled = expected(logits, *given.values(), **options)
    torch.testing.assert_close(got, lpprop.bilinear_upsample(pooled, (48, 64)), rtol=0, atol=0)


def test_attention_is_built_from_feats_where_none_is_given():
    logits, feats, _ = inputs()
    got = lpprop.AttentionPool()
    chain = lpprop.Chain(got, temperature=0.3)
    built = lpprop.attention_from_features(feats, 0.3)
    assert torch.equal(chain(logits, feats=feats), attention_pool(logits, built))
