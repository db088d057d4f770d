"""Classes that cannot win are left out, and the labels stay."""

import pytest
import torch
import torch.nn.functional as F

import lpprop
from lpprop.numerics.cg import cg
from lpprop.numerics.graphs import stencil_graph
from lpprop.numerics.propagation import propagation_system
from lpprop.refiners._pixel_propagation import possible_winners


def make(C=12, H=40, W=50, present=4, seed=0):
    """Scores of some classes that are there and others that nearly are not."""
    torch.manual_seed(seed)
    coarse = torch.randn(1, C, 5, 6) * 2
    coarse[:, present:] -= 8
    logits = F.interpolate(coarse, (H, W), mode="bilinear").softmax(1)
    image = F.interpolate(torch.rand(1, 3, 6, 7), (H, W), mode="bicubic").clamp(0, 1)
    return logits, image


@pytest.mark.parametrize("seed", range(3))
def test_the_converged_labels_are_the_same(seed):
    logits, image = (x.double() for x in make(seed=seed))
    kept = possible_winners(logits[0].flatten(1))
    assert kept.sum() < 12
    plain = lpprop.propagate_pixels(logits, image, max_iter=1000, tol=1e-12)
    pruned = lpprop.propagate_pixels(logits, image, max_iter=1000, tol=1e-12, prune=True)
    assert torch.equal(plain.argmax(1), pruned.argmax(1))
    torch.testing.assert_close(pruned[:, kept], plain[:, kept], rtol=0, atol=1e-12)
    assert pruned[:, ~kept].max() < pruned[:, kept].min()


def test_a_class_that_any_operator_could_let_win_is_kept():
    """Random operators without negative entries never let a class win that was left out."""
    torch.manual_seed(0)
    left_out = 0
    for _ in range(50):
        scores = torch.randn(8, 6) + torch.linspace(0, 3, 8)[:, None]
        kept = possible_winners(scores)
        left_out += int((~kept).sum())
        for _ in range(20):
            winners = (scores @ torch.rand(6, 6) ** 4).argmax(0)
            assert kept[winners].all()
        assert kept[scores.argmax(0)].all()
    assert left_out > 50


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_no_ties_with_what_was_left_out(dtype):
    logits = torch.zeros(1, 3, 8, 9, dtype=dtype)
    logits[:, 2] = 1
    image = torch.full((1, 3, 8, 9), 0.5, dtype=dtype)
    got = lpprop.propagate_pixels(logits, image, prune=True)
    assert (got.argmax(1) == 2).all()


def test_equal_classes_leave_the_first():
    assert possible_winners(torch.ones(4, 5)).tolist() == [True, False, False, False]
    assert possible_winners(torch.rand(1, 5)).tolist() == [True]


def test_items_of_a_batch_are_pruned_by_themselves():
    (a, image), (b, _) = make(seed=1), make(seed=2)
    both = lpprop.propagate_pixels(torch.cat([a, b]), torch.cat([image, image]), prune=True)
    each = [lpprop.propagate_pixels(x, image, prune=True) for x in (a, b)]
    assert torch.equal(both, torch.cat(each))


def test_gradient_reaches_the_classes_that_are_solved():
    logits, image = make(H=12, W=13)
    logits = logits.requires_grad_()
    kept = possible_winners(logits[0].flatten(1).detach())
    lpprop.propagate_pixels(logits, image, prune=True).sum().backward()
    size = logits.grad.abs().sum((0, 2, 3))
    assert (size[kept] > 0).all()
    assert (size[~kept] == 0).all()


@pytest.mark.parametrize(("name", "count"), [("whole_image", 3), ("sliding_window", 2)])
def test_the_golden_cases(golden, name, count):
    """What the docs say of them: few classes are left, and ten steps give the same labels."""
    case = golden(name)
    image = torch.tensor(case["image"]).float()[None] / 255
    start = torch.tensor(case["lposs"].reshape(case["logits"].shape))
    if case["window"] == 0:
        start = lpprop.bilinear_upsample(start, tuple(image.shape[-2:]))
    else:
        windows = lpprop.SlidingWindows(
            tuple(image.shape[-2:]), window=int(case["window"]), stride=int(case["stride"])
        )
        start = windows.merge(start)
    assert possible_winners(start[0].flatten(1)).sum() == count
    plain = lpprop.propagate_pixels(start, image)
    assert torch.equal(lpprop.propagate_pixels(start, image, prune=True).argmax(1), plain.argmax(1))
    graph = stencil_graph(
        lpprop.lab_features(image)[0], tau=0.01, r=13, sigma=0.0, distance_power=1.0
    )
    labels = start[0].flatten(1)
    system = propagation_system(graph, torch.ones_like(labels[:1]), 0.95)
    steps = cg(system, labels, tol=1e-6, max_iter=1000).iterations
    assert {42, 43} >= set(steps.tolist())


def test_the_preset_passes_it_on():
    chain = lpprop.presets.lposs_plus(prune=True, backend="torch")
    assert chain.steps[2].config["prune"] is True
    assert chain.steps[2].config["backend"] == "torch"
