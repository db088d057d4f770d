"""Properties that hold for every input, on small random ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import lpprop
import reference

CONVERGED = {"max_iter": 1000, "tol": 1e-12}


def patch_inputs(seed, B, C, h, w, D=6):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(B, C, h, w, generator=generator, dtype=torch.float64)
    feats = torch.randn(B, D, h, w, generator=generator, dtype=torch.float64)
    return logits, {"feats": feats}


def pixel_inputs(seed, B, C, H, W):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(B, C, H, W, generator=generator, dtype=torch.float64)
    image = 0.5 + 0.03 * torch.rand(B, 3, H, W, generator=generator, dtype=torch.float64)
    return logits, {"image": image}


# name: how to make inputs, the function, and options that small inputs exercise.
STEPS = {
    "patches": (patch_inputs, lpprop.propagate_patches, {"k": 5}),
    "pixels": (pixel_inputs, lpprop.propagate_pixels, {"r": 5}),
}


def distribution_inputs(seed, B, C, h, w):
    """Distributions with zeros and attention between their patches."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(B, C, h, w, generator=generator, dtype=torch.float64)
    scores = 2 * torch.randn(B, h * w, h * w, generator=generator, dtype=torch.float64)
    with lpprop.value_checks(False):  # a draw of one patch may be flat, which a warning tells
        return lpprop.class_distribution(logits, nms=0.2), (scores.softmax(-1),)


def bilateral_inputs(seed, B, C, h, w):
    """Three times as many pixels as grid points: no pixel is as near to two of them."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(B, C, h, w, generator=generator, dtype=torch.float64)
    image = torch.rand(B, 3, 3 * h, 3 * w, generator=generator, dtype=torch.float64)
    return logits, (image,)


# Functions of other families, for the properties that they share with the steps above.
MAPS = {
    "path": (distribution_inputs, lpprop.optimal_path, {}),
    "path-logarithms": (
        distribution_inputs,
        lpprop.optimal_path,
        {"epsilon": 1e-3, "iterations": 5},
    ),
    "path-complement": (
        distribution_inputs,
        lpprop.optimal_path,
        {"complement": True, "norm": "class"},
    ),
    "velocity": (distribution_inputs, lpprop.max_velocity, {"max_steps": 20}),
    "velocity-step": (distribution_inputs, lpprop.max_velocity, {"criterion": "step", "tau": 0.01}),
    "divergence": (distribution_inputs, lambda f, attention: lpprop.kl_discrepancy(f), {}),
    "bilateral": (bilateral_inputs, lpprop.joint_bilateral_upsample, {"radius": 2}),
}
seeds = st.integers(0, 2**31)
sides = st.integers(1, 5)
classes = st.integers(1, 4)
any_step = pytest.mark.parametrize("step", STEPS)
any_map = pytest.mark.parametrize("name", MAPS)


def close(got, expected, tolerance=1e-9):
    assert reference.class_error(got, expected) <= tolerance


@any_step
@given(seed=seeds, C=classes, h=sides, w=sides, data=st.data())
def test_class_permutation(step, seed, C, h, w, data):
    """Classes do not see one another: permuted, they come back permuted."""
    make, function, options = STEPS[step]
    logits, inputs = make(seed, 2, C, h, w)
    order = data.draw(st.permutations(range(C)))
    close(
        function(logits[:, order], **inputs, **options),
        function(logits, **inputs, **options)[:, order],
        1e-12,
    )


@any_step
@given(seed=seeds, C=classes, h=sides, w=sides)
def test_a_class_alone(step, seed, C, h, w):
    """Each class has its own step sizes: alone, it is refined as among others."""
    make, function, options = STEPS[step]
    logits, inputs = make(seed, 1, C, h, w)
    together = function(logits, **inputs, **options)
    close(function(logits[:, :1], **inputs, **options), together[:, :1], 1e-12)


@any_step
@given(seed=seeds, B=st.integers(1, 3), C=classes, h=sides, w=sides)
def test_batch_is_a_loop(step, seed, B, C, h, w):
    make, function, options = STEPS[step]
    logits, inputs = make(seed, B, C, h, w)
    loop = [
        function(logits[i : i + 1], **{name: x[i : i + 1] for name, x in inputs.items()}, **options)
        for i in range(B)
    ]
    close(function(logits, **inputs, **options), torch.cat(loop), 1e-12)


@any_step
@given(seed=seeds, h=sides, w=sides, exponent=st.integers(-30, 30), sign=st.sampled_from([-1, 1]))
def test_homogeneous_at_any_number_of_steps(step, seed, h, w, exponent, sign):
    """Step sizes are ratios and the stop is relative. Powers of two scale without rounding."""
    make, function, options = STEPS[step]
    logits, inputs = make(seed, 1, 2, h, w)
    factor = sign * 2.0**exponent
    for max_iter in (1, 3, 10):
        plain = function(logits, **inputs, **options, max_iter=max_iter)
        scaled = function(factor * logits, **inputs, **options, max_iter=max_iter)
        close(scaled, factor * plain, 1e-12)


@any_step
@given(seed=seeds, h=sides, w=sides, a=st.floats(-5, 5), b=st.floats(-5, 5))
def test_linear_at_convergence(step, seed, h, w, a, b):
    """(I − alpha Ŝ)⁻¹ is linear; ten steps of CG are not."""
    make, function, options = STEPS[step]
    logits, inputs = make(seed, 1, 2, h, w)
    logits, other = logits[:, :1], logits[:, 1:]
    both = function(torch.cat([logits, other], 1), **inputs, **options, **CONVERGED)
    mixed = function(a * logits + b * other, **inputs, **options, **CONVERGED)
    scale = (abs(a) + abs(b)) * both.abs().max()
    assert (mixed - a * both[:, :1] - b * both[:, 1:]).abs().max() <= 1e-9 * scale


@any_step
@given(seed=seeds, C=classes, h=sides, w=sides)
def test_non_negative_at_convergence(step, seed, C, h, w):
    """The inverse is I + alpha Ŝ + …, so scores only grow where nothing is negative."""
    make, function, options = STEPS[step]
    logits, inputs = make(seed, 1, C, h, w)
    got = function(logits.abs(), **inputs, **options, **CONVERGED)
    assert (got >= logits.abs() - 1e-9).all()


@any_step
@given(seed=seeds, h=sides, w=sides, alpha=st.floats(0, 0.99))
def test_norm_bounds_at_convergence(step, seed, h, w, alpha):
    """Eigenvalues of Ŝ in [−1, 1]: ‖Y‖/(1 + alpha) ≤ ‖Ŷ‖ ≤ ‖Y‖/(1 − alpha)."""
    make, function, options = STEPS[step]
    logits, inputs = make(seed, 1, 2, h, w)
    got = function(logits, **inputs, **options, **CONVERGED, alpha=alpha).norm(dim=(2, 3))
    size = logits.norm(dim=(2, 3))
    assert (got >= size / (1 + alpha) * (1 - 1e-9)).all()
    assert (got <= size / (1 - alpha) * (1 + 1e-9)).all()


@any_step
@given(seed=seeds, h=sides, w=sides)
def test_self_adjoint_at_convergence(step, seed, h, w):
    """Ŝ is symmetric, hence ⟨u, Lv⟩ = ⟨Lu, v⟩ for L = (I − alpha Ŝ)⁻¹; kNN alone is not."""
    make, function, options = STEPS[step]
    logits, inputs = make(seed, 1, 2, h, w)
    got = function(logits, **inputs, **options, **CONVERGED)
    left, right = (logits[:, 0] * got[:, 1]).sum(), (got[:, 0] * logits[:, 1]).sum()
    assert abs(left - right) <= 1e-9 * logits.norm() * got.norm()


# --------------------------------------------------------------------------- fixed points


def degrees(step, inputs, options):
    """Row sums of the twin's S, as a map; a row without edges counts as 1."""
    if step == "patches":
        feats = inputs["feats"][0].numpy()
        _, h, w = feats.shape
        rows = feats.reshape(len(feats), -1).T
        S = reference.patch_graph(rows, reference.patch_centres(h, w, 16), **options)
    else:
        image = inputs["image"][0].numpy()
        _, h, w = image.shape
        S = reference.pixel_graph(reference.lab_features(image), **options)
    D = S.sum(axis=1)
    return torch.tensor(np.where(D == 0, 1.0, D).reshape(1, 1, h, w)), S


@any_step
@given(seed=seeds, h=sides, w=sides)
def test_root_of_the_degrees_is_fixed(step, seed, h, w):
    """Ŝ D^1/2 1 = D^1/2 1: that map, not the constant one, comes back as Y/(1 − alpha).

    It is an eigenvector, so a single step of CG is exact.
    """
    make, function, options = STEPS[step]
    _, inputs = make(seed, 1, 1, h, w)
    D, S = degrees(step, inputs, options)
    connected = (S.sum(axis=1) > 0).all()
    logits = D.sqrt() if connected else torch.zeros_like(D)
    for max_iter in (1, 10):
        got = function(logits, **inputs, **options, max_iter=max_iter)
        close(got, logits / (1 - 0.95))


@given(h=sides, w=sides, level=st.floats(-100, 100))
def test_constant_is_fixed_on_a_regular_graph(h, w, level):
    """Where all degrees are equal D^1/2 is constant: identical nodes, each joined to all."""
    gain = 1.0 if h * w == 1 else 1 / (1 - 0.95)
    logits = torch.full((1, 2, h, w), level, dtype=torch.float64)
    close(lpprop.propagate_patches(logits, torch.ones_like(logits), spatial="none"), gain * logits)
    image = torch.full((1, 3, h, w), 0.4, dtype=torch.float64)
    close(lpprop.propagate_pixels(logits, image, r=11), gain * logits)


@given(seed=seeds, C=classes, level=st.just(0.0) | st.floats(0.05, 1))  # darker ones warn
def test_a_single_node_is_unchanged(seed, C, level):
    logits = torch.randn(1, C, 1, 1, generator=torch.Generator().manual_seed(seed))
    close(lpprop.propagate_patches(logits, torch.full((1, 3, 1, 1), level)), logits, 1e-6)
    close(lpprop.propagate_pixels(logits, torch.full((1, 3, 1, 1), level)), logits, 1e-6)


# --------------------------------------------------------------------------- symmetries


@given(seed=seeds, h=sides, w=sides)
def test_feats_scale_per_patch(seed, h, w):
    """Only directions of the features count: a positive factor per patch changes nothing."""
    logits, inputs = patch_inputs(seed, 1, 2, h, w)
    generator = torch.Generator().manual_seed(seed + 1)
    factor = 2.0 ** torch.randint(-60, 60, (1, 1, h, w), generator=generator).double()
    plain = lpprop.propagate_patches(logits, **inputs, k=5)
    close(lpprop.propagate_patches(logits, inputs["feats"] * factor, k=5), plain)


@given(seed=seeds, h=sides, w=sides)
def test_feats_rotation(seed, h, w):
    """Cosines do not change under an orthogonal map of the channels."""
    logits, inputs = patch_inputs(seed, 1, 2, h, w)
    generator = torch.Generator().manual_seed(seed + 1)
    Q = torch.linalg.qr(torch.randn(6, 6, generator=generator, dtype=torch.float64)).Q
    turned = torch.einsum("dc,bchw->bdhw", Q, inputs["feats"])
    plain = lpprop.propagate_patches(logits, **inputs, k=5)
    close(lpprop.propagate_patches(logits, turned, k=5), plain)


@given(seed=seeds, h=sides, w=sides)
def test_patch_permutation_without_places(seed, h, w):
    """True only where places do not count: spatial="none"."""
    logits, inputs = patch_inputs(seed, 1, 2, h, w)
    order = torch.randperm(h * w, generator=torch.Generator().manual_seed(seed))

    def shuffled(x):
        return x.flatten(2)[..., order].reshape(x.shape)

    options = {"k": 5, "spatial": "none"}
    plain = lpprop.propagate_patches(logits, **inputs, **options)
    close(
        lpprop.propagate_patches(shuffled(logits), shuffled(inputs["feats"]), **options),
        shuffled(plain),
    )


@any_step
@given(seed=seeds, h=sides, w=sides, dims=st.sampled_from([(2,), (3,), (2, 3)]))
def test_mirrored(step, seed, h, w, dims):
    """Distances do not change in a mirror."""
    make, function, options = STEPS[step]
    logits, inputs = make(seed, 1, 2, h, w)
    mirrored = {name: x.flip(dims) for name, x in inputs.items()}
    plain = function(logits, **inputs, **options)
    close(function(logits.flip(dims), **mirrored, **options), plain.flip(dims))


@any_step
@given(seed=seeds, h=sides, w=sides)
def test_transposed(step, seed, h, w):
    """Rows and columns play the same part."""
    make, function, options = STEPS[step]
    logits, inputs = make(seed, 1, 2, h, w)
    turned = {name: x.mT for name, x in inputs.items()}
    plain = function(logits, **inputs, **options)
    close(function(logits.mT, **turned, **options), plain.mT)


@given(seed=seeds, h=sides, w=sides, k=st.integers(25, 10**6))
def test_k_is_clamped(seed, h, w, k):
    logits, inputs = patch_inputs(seed, 1, 2, h, w)
    full = lpprop.propagate_patches(logits, **inputs, k=h * w)
    close(lpprop.propagate_patches(logits, **inputs, k=k), full, 1e-12)


@given(seed=seeds, h=sides, w=sides, r=st.integers(0, 6))
def test_r_counts_in_whole_reaches(seed, h, w, r):
    """|Δy| ≤ r//2: an even side 2m is the odd side 2m + 1."""
    logits, inputs = pixel_inputs(seed, 1, 2, h, w)
    even = lpprop.propagate_pixels(logits, **inputs, r=2 * r + 2)
    close(even, lpprop.propagate_pixels(logits, **inputs, r=2 * r + 3), 1e-12)


# --------------------------------------------------------------------------- discrepancies


@any_map
@given(seed=seeds, C=classes, h=sides, w=sides, data=st.data())
def test_class_permutation_of_maps(name, seed, C, h, w, data):
    make, function, options = MAPS[name]
    f, inputs = make(seed, 2, C, h, w)
    order = data.draw(st.permutations(range(C)))
    close(
        function(f[:, order], *inputs, **options), function(f, *inputs, **options)[:, order], 1e-12
    )


@any_map
@given(seed=seeds, C=classes, h=sides, w=sides)
def test_a_class_alone_in_maps(name, seed, C, h, w):
    """One product serves all classes, and mixes none; nor does one stop for another."""
    make, function, options = MAPS[name]
    f, inputs = make(seed, 1, C, h, w)
    together = function(f, *inputs, **options)
    # The solver stops when all classes have converged, to some roundings.
    close(function(f[:, :1], *inputs, **options), together[:, :1], 1e-11)


@any_map
@given(seed=seeds, B=st.integers(1, 3), C=classes, h=sides, w=sides)
def test_batch_is_a_loop_of_maps(name, seed, B, C, h, w):
    make, function, options = MAPS[name]
    f, inputs = make(seed, B, C, h, w)
    loop = [function(f[i : i + 1], *(x[i : i + 1] for x in inputs), **options) for i in range(B)]
    close(function(f, *inputs, **options), torch.cat(loop), 1e-12)


@pytest.mark.parametrize("name", [name for name in MAPS if name != "bilateral"])
@given(seed=seeds, C=classes, h=sides, w=sides, data=st.data())
def test_patch_permutation(name, seed, C, h, w, data):
    """Patches have no place but in the attention: renumbered in all, they come back so."""
    make, function, options = MAPS[name]
    f, (attention,) = make(seed, 1, C, h, w)
    order = torch.tensor(data.draw(st.permutations(range(h * w))))
    shuffled = attention[:, order][:, :, order]
    close(
        function(f[..., order], shuffled, **options),
        function(f, attention, **options)[..., order],
        1e-11,
    )


@pytest.mark.parametrize("name", [name for name in MAPS if name != "bilateral"])
@given(seed=seeds, C=st.integers(2, 4), h=sides, w=sides)
def test_a_rejected_class_scores_nothing_and_changes_nothing(name, seed, C, h, w):
    make, function, options = MAPS[name]
    f, inputs = make(seed, 1, C, h, w)
    rejected = f.index_fill(1, torch.tensor([0]), 0.0)
    got = function(rejected, *inputs, **options)
    assert not got[:, 0].any()
    close(got[:, 1:], function(f, *inputs, **options)[:, 1:], 1e-11)


@given(seed=seeds, C=classes, h=sides, w=sides, exponent=st.integers(-20, 20))
def test_arrival_does_not_see_the_scale_of_a_class(seed, C, h, w, exponent):
    f, (attention,) = distribution_inputs(seed, 1, C, h, w)
    plain = lpprop.max_velocity(f, attention, max_steps=20)
    close(lpprop.max_velocity(f * 2.0**exponent, attention, max_steps=20), plain, 1e-12)


@given(seed=seeds, C=classes, h=sides, w=sides, low=st.floats(0, 0.9), more=st.floats(0, 0.09))
def test_velocity_falls_with_tau_and_stays_in_its_range(seed, C, h, w, low, more):
    """What exceeds the higher threshold has exceeded the lower one before."""
    f, (attention,) = distribution_inputs(seed, 1, C, h, w)
    early = lpprop.max_velocity(f, attention, tau=low, max_steps=20)
    late = lpprop.max_velocity(f, attention, tau=low + more, max_steps=20)
    assert (late <= early + 1e-12).all()
    assert ((late >= 1 / 21) & (early <= 1)).all()


# Drawn scores of a single patch may be flat, of which there are warnings.
flat_draws = pytest.mark.filterwarnings("ignore:logits. got scores that differ")


@flat_draws
@given(seed=seeds, C=classes, h=sides, w=sides, nms=st.floats(0, 1), rejection=st.booleans())
def test_distributions_sum_to_one_or_to_nothing(seed, C, h, w, nms, rejection):
    logits, _ = patch_inputs(seed, 2, C, h, w)
    f = lpprop.class_distribution(logits, nms=nms, early_rejection=rejection)
    assert (f >= 0).all()
    wins = torch.zeros_like(f, dtype=torch.bool)
    wins.scatter_(1, logits.flatten(2).argmax(1, keepdim=True), True)
    expected = wins.any(2).double() if rejection else torch.ones(2, C, dtype=torch.float64)
    assert (f.sum(2) - expected).abs().max() <= 1e-12


@flat_draws
@given(seed=seeds, C=classes, h=sides, w=sides, data=st.data(), nms=st.floats(0, 1))
def test_distributions_do_not_see_places_nor_the_order_of_classes(seed, C, h, w, data, nms):
    logits, _ = patch_inputs(seed, 1, C, h, w)
    order = data.draw(st.permutations(range(C)))
    patches = torch.tensor(data.draw(st.permutations(range(h * w))))
    f = lpprop.class_distribution(logits, nms=nms)
    # Where nms is 1 the best alone is kept, and a sum in another order may move the best.
    moved = logits[:, order].flatten(2)[..., patches].reshape(logits.shape)
    close(lpprop.class_distribution(moved, nms=nms), f[:, order][..., patches], 1e-12)


@flat_draws
@given(seed=seeds, C=classes, h=sides, w=sides, level=st.floats(-1e3, 1e3), nms=st.floats(0, 1))
def test_distributions_do_not_see_a_level_of_all_logits(seed, C, h, w, level, nms):
    # The level rounds the logits to some 1e-13, which moves the threshold by as much.
    logits, _ = patch_inputs(seed, 1, C, h, w)
    logits = logits.mul(2**10).round() / 2**10
    level = round(level)
    plain = lpprop.class_distribution(logits, nms=nms)
    close(lpprop.class_distribution(logits + level, nms=nms), plain, 1e-12)


@given(seed=seeds, h=sides, w=sides, a=st.floats(-5, 5), b=st.floats(-5, 5))
def test_joint_bilateral_upsampling_is_linear(seed, h, w, a, b):
    logits, (image,) = bilateral_inputs(seed, 1, 2, h, w)
    both = lpprop.joint_bilateral_upsample(logits, image)
    mixed = a * logits[:, :1] + b * logits[:, 1:]
    got = lpprop.joint_bilateral_upsample(mixed, image)
    scale = (abs(a) + abs(b)) * both.abs().max()
    assert (got - a * both[:, :1] - b * both[:, 1:]).abs().max() <= 1e-12 * scale


@given(seed=seeds, h=sides, w=sides, H=st.integers(1, 9), W=st.integers(1, 9), radius=sides)
def test_joint_bilateral_upsampling_averages(seed, h, w, H, W, radius):
    """Weights sum to 1: a constant stays, and nothing leaves the range of the scores."""
    logits, (image,) = bilateral_inputs(seed, 1, 2, h, w)
    logits[:, 0] = 0.7
    got = lpprop.joint_bilateral_upsample(logits, image, size=(H, W), radius=radius)
    assert (got[:, 0] - 0.7).abs().max() <= 1e-12
    assert (got[:, 1] <= logits[:, 1].max() + 1e-12).all()
    assert (got[:, 1] >= logits[:, 1].min() - 1e-12).all()


@given(seed=seeds, h=sides, w=sides, radius=sides)
def test_joint_bilateral_upsampling_in_a_mirror_and_transposed(seed, h, w, radius):
    logits, (image,) = bilateral_inputs(seed, 1, 2, h, w)
    plain = lpprop.joint_bilateral_upsample(logits, image, radius=radius)
    for dims in ((2,), (3,), (2, 3)):
        got = lpprop.joint_bilateral_upsample(logits.flip(dims), image.flip(dims), radius=radius)
        close(got, plain.flip(dims), 1e-12)
    close(lpprop.joint_bilateral_upsample(logits.mT, image.mT, radius=radius), plain.mT, 1e-12)


# --------------------------------------------------------------------------- attention


@given(seed=seeds, h=sides, w=sides, temperature=st.floats(0.05, 10))
def test_attention_of_features_sees_directions_alone(seed, h, w, temperature):
    """A factor per patch and an orthogonal map of the channels change nothing."""
    _, inputs = patch_inputs(seed, 1, 1, h, w)
    generator = torch.Generator().manual_seed(seed + 1)
    factor = 2.0 ** torch.randint(-60, 60, (1, 1, h, w), generator=generator).double()
    Q = torch.linalg.qr(torch.randn(6, 6, generator=generator, dtype=torch.float64)).Q
    turned = torch.einsum("dc,bchw->bdhw", Q, inputs["feats"] * factor)
    plain = lpprop.attention_from_features(inputs["feats"], temperature)
    assert (plain.sum(-1) - 1).abs().max() <= 1e-12
    # Cosines are exact to 1e-15, and divided by the temperature.
    close(lpprop.attention_from_features(turned, temperature), plain, 1e-12)


@given(seed=seeds, h=sides, w=sides, first=st.floats(0.3, 3), second=st.floats(0.3, 3))
def test_temperatures_multiply(seed, h, w, first, second):
    _, (attention,) = distribution_inputs(seed, 2, 1, h, w)
    once = lpprop.sharpen_attention(attention, first * second)
    twice = lpprop.sharpen_attention(lpprop.sharpen_attention(attention, first), second)
    close(twice, once, 1e-11)
    close(lpprop.sharpen_attention(attention, 1.0), attention, 1e-12)


@given(seed=seeds, h=sides, w=sides, data=st.data())
def test_heads_and_blocks_have_no_order(seed, h, w, data):
    generator = torch.Generator().manual_seed(seed)
    heads = torch.rand(2, 4, h * w, h * w, generator=generator, dtype=torch.float64) + 0.01
    order = data.draw(st.permutations(range(4)))
    weights = [0.1, 0.2, 0.3, 0.4]
    grid = (h, w)
    expected = lpprop.aggregate_attention([heads], [weights], grids=[grid])
    permuted = [weights[i] for i in order]
    got = lpprop.aggregate_attention([heads[:, order]], [permuted], grids=[grid])
    close(got, expected, 1e-12)
    blocks = [heads[:, i] for i in order]
    close(lpprop.aggregate_attention(blocks, permuted, grids=[grid] * 4), expected, 1e-12)
    assert (expected.sum(-1) - 1).abs().max() <= 1e-12


# --------------------------------------------------------------------------- range of the floats


@pytest.mark.parametrize(
    ("step", "storage"),
    [("patches", "dense"), ("patches", "csr"), ("patches", "torch-sparse"), ("pixels", None)],
)
@pytest.mark.parametrize("factor", [1e30, 1e-30], ids=["huge", "tiny"])
def test_logits_of_any_size(step, storage, factor):
    """‖Y‖² does not fit into float32, in either direction."""
    make, function, options = STEPS[step]
    if storage is not None:
        options = options | {"storage": storage}
    if storage == "torch-sparse":
        pytest.importorskip("torch_sparse")
    logits, inputs = make(0, 2, 3, 4, 5)
    logits, inputs = logits.float(), {name: x.float() for name, x in inputs.items()}
    plain = function(logits, **inputs, **options)
    scaled = function(logits * factor, **inputs, **options)
    close(scaled.double() / factor, plain, 1e-5)


@any_step
def test_classes_of_very_different_size(step):
    make, function, options = STEPS[step]
    logits, inputs = make(0, 1, 3, 4, 5)
    logits, inputs = logits.float(), {name: x.float() for name, x in inputs.items()}
    factor = torch.tensor([1e30, 1.0, 1e-30]).reshape(1, 3, 1, 1)
    plain = function(logits, **inputs, **options)
    close(function(logits * factor, **inputs, **options).double() / factor.double(), plain, 1e-5)


@pytest.mark.parametrize("factor", [1e20, 1e-20, 1e30, 1e-30])
def test_feats_of_any_size(factor):
    """‖x‖² does not fit into float32; the direction is all that counts."""
    logits, inputs = patch_inputs(0, 1, 3, 4, 5)
    logits, feats = logits.float(), inputs["feats"].float()
    plain = lpprop.propagate_patches(logits, feats, k=5)
    close(lpprop.propagate_patches(logits, feats * factor, k=5), plain, 1e-5)


def test_feats_of_very_different_size():
    logits, inputs = patch_inputs(0, 1, 3, 4, 5)
    logits, feats = logits.float(), inputs["feats"].float()
    factor = torch.logspace(-30, 30, 20).reshape(1, 1, 4, 5)
    plain = lpprop.propagate_patches(logits, feats, k=5)
    close(lpprop.propagate_patches(logits, feats * factor, k=5), plain, 1e-5)


@pytest.mark.parametrize("factor", [1e60, 1e-60])
def test_double_feats_beside_single_logits(factor):
    """Feats that float32 cannot hold still have directions that it can."""
    logits, inputs = patch_inputs(0, 1, 3, 4, 5)
    logits, feats = logits.float(), inputs["feats"]
    plain = lpprop.propagate_patches(logits, feats, k=5)
    close(lpprop.propagate_patches(logits, feats * factor, k=5), plain, 1e-5)


@any_step
def test_zero_logits_keep_their_gradient(step):
    """No step is taken from a zero residual; the scores still belong to the logits' graph."""
    make, function, options = STEPS[step]
    _, inputs = make(0, 1, 2, 3, 4)
    logits = torch.zeros(1, 2, 3, 4, requires_grad=True)
    scores = function(logits, **{name: x.float() for name, x in inputs.items()}, **options)
    scores.sum().backward()
    assert torch.isfinite(logits.grad).all()


@any_step
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_no_tolerance_at_all(step, dtype):
    """Steps beyond what the dtype resolves change nothing, and divide no zero by zero."""
    make, function, options = STEPS[step]
    logits, inputs = make(0, 1, 3, 4, 5)
    logits, inputs = logits.to(dtype), {name: x.to(dtype) for name, x in inputs.items()}
    exact = function(logits, **inputs, **options, max_iter=1000, tol=1e-6)
    close(function(logits, **inputs, **options, max_iter=1000, tol=0), exact, 1e-4)


def test_gradient_of_a_power_below_one():
    """Its slope at similarity 0 is infinite; opposite features must not make it NaN."""
    logits = torch.rand(1, 2, 1, 4)
    feats = torch.tensor([[[[1.0, -1.0, 0.0, 0.5]], [[0.0, 0.0, 1.0, 0.5]]]], requires_grad=True)
    lpprop.propagate_patches(logits, feats, gamma=0.5).square().sum().backward()
    assert torch.isfinite(feats.grad).all()
    assert feats.grad.abs().max() > 0
