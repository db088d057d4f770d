"""Classes that cannot win are left out, and the labels stay."""

import pytest
import torch
import torch.nn.functional as F

import lpprop
from lpprop.numerics.cg import cg
from lpprop.numerics.graphs import stencil_graph
from lpprop.numerics.propagation import propagation_system
from lpprop.numerics.winners import solve_winners


def make(C=12, H=40, W=50, present=4, seed=0):
    """Scores of some classes that are there and others that nearly are not."""
    torch.manual_seed(seed)
    coarse = torch.randn(1, C, 5, 6) * 2
    coarse[:, present:] -= 8
    logits = F.interpolate(coarse, (H, W), mode="bilinear").softmax(1)
    image = F.interpolate(torch.rand(1, 3, 6, 7), (H, W), mode="bicubic").clamp(0, 1)
    return logits, image


def cosines(C=40, seed=0):
    """Scores that differ little: four regions, in each of which a class stands out of the noise."""
    torch.manual_seed(seed)
    region = torch.arange(4).reshape(1, 2, 2).repeat_interleave(3, 1).repeat_interleave(4, 2)
    scores = 0.2 + 0.005 * torch.randn(1, C, 6, 8)
    scores += 0.06 * F.one_hot(region, C).movedim(-1, 1)
    image = F.interpolate(torch.rand(1, 3, 6, 8), (48, 64), mode="nearest")
    return F.interpolate(scores, (48, 64), mode="bilinear"), image


def left_out(pruned):
    """Return which classes lie below all others; they have the same score everywhere."""
    rows = pruned.flatten(1)
    return (rows == rows.amin()).all(1)


@pytest.mark.parametrize("scores", [make, cosines])
@pytest.mark.parametrize("seed", range(2))
def test_the_converged_labels_are_the_same(scores, seed):
    logits, image = (x.double() for x in scores(seed=seed))
    plain = lpprop.propagate_pixels(logits, image, max_iter=1000, tol=1e-12)
    pruned = lpprop.propagate_pixels(logits, image, max_iter=1000, tol=1e-12, prune=True)
    assert torch.equal(plain.argmax(1), pruned.argmax(1))
    out = left_out(pruned[0])
    assert out.sum() >= logits.shape[1] / 2
    torch.testing.assert_close(pruned[:, ~out], plain[:, ~out], rtol=0, atol=1e-12)
    assert pruned[:, out].max() < pruned[:, ~out].min()


@pytest.mark.parametrize("scores", [make, cosines])
def test_ten_steps_keep_the_labels(scores):
    logits, image = scores()
    plain = lpprop.propagate_pixels(logits, image)
    pruned = lpprop.propagate_pixels(logits, image, prune=True)
    assert torch.equal(plain.argmax(1), pruned.argmax(1))
    assert left_out(pruned[0]).any()


# --------------------------------------------------------------- any operator, by a dense inverse


def operator(nodes, seed):
    """Return (I - 0.9 S)^-1 of a path with random weights in S, whose row sums differ."""
    torch.manual_seed(seed)
    weights = torch.rand(nodes - 1, dtype=torch.float64) ** 3
    graph = torch.diag(weights, 1) + torch.diag(weights, -1)
    root = graph.sum(1).rsqrt()
    return torch.linalg.inv(
        torch.eye(nodes, dtype=torch.float64) - 0.9 * root[:, None] * graph * root
    )


def kinds(nodes, seed):
    """Name scores of many classes, of which few win, and of all the awkward kinds."""
    torch.manual_seed(seed)
    place = torch.linspace(0, 1, nodes, dtype=torch.float64)
    bumps = torch.exp(-(((place - torch.rand(40, 1, dtype=torch.float64)) / 0.2) ** 2))
    peaked = bumps * torch.cat([torch.ones(4, 1), torch.full((36, 1), 0.1)]).double()
    noise = torch.randn(40, nodes, dtype=torch.float64)
    ties = torch.zeros(40, nodes, dtype=torch.float64)
    ties[20:24, : nodes // 4] = 1.0
    return {
        "peaked": peaked,
        "negative": peaked - 5,
        "levels": peaked + 0.05 * torch.randn(40, 1, dtype=torch.float64),
        "close": 0.25 + 0.05 * peaked + 1e-3 * noise,
        "noise": noise,
        "rounded": (3 * peaked).round(),
        "twins first": torch.cat([peaked[:20], peaked[:20]]),
        "twins of what loses": torch.cat([peaked[20:], peaked[20:], peaked[:4]]),
        "ties": ties,
        "equal": torch.ones(40, nodes, dtype=torch.float64),
        "zero": torch.zeros(40, nodes, dtype=torch.float64),
        "one": peaked[:1],
    }


@pytest.mark.parametrize("guessed", ["well", "wrongly", "all equal"])
@pytest.mark.parametrize("seed", range(4))
def test_no_guess_and_no_scores_change_the_labels(guessed, seed):
    nodes = 60
    inverse = operator(nodes, seed)
    few = 0
    for name, scores in kinds(nodes, seed).items():
        guess = {
            "well": scores @ inverse,
            "wrongly": torch.randn(len(scores), nodes, dtype=torch.float64),
            "all equal": torch.zeros_like(scores),
        }[guessed]
        columns = []

        def solve(rows, columns=columns):
            columns.append(len(rows))
            return rows @ inverse

        def tell(guess=guess):
            return guess[:, ::3], torch.arange(nodes) // 3

        found = solve_winners(scores, solve, tell)
        plain = torch.stack([row @ inverse for row in scores])
        assert torch.equal(found.argmax(0), plain.argmax(0)), name
        assert sum(columns) <= len(scores) * 1.125 + 16, name
        few += sum(columns) < len(scores) / 2
    assert few >= (4 if guessed == "well" else 2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_no_ties_with_what_was_left_out(dtype):
    logits = torch.zeros(1, 3, 8, 9, dtype=dtype)
    logits[:, 2] = 1
    image = torch.full((1, 3, 8, 9), 0.5, dtype=dtype)
    got = lpprop.propagate_pixels(logits, image, prune=True)
    assert (got.argmax(1) == 2).all()


def test_items_of_a_batch_are_pruned_by_themselves():
    (a, image), (b, _) = make(seed=1), make(seed=2)
    both = lpprop.propagate_pixels(torch.cat([a, b]), torch.cat([image, image]), prune=True)
    each = [lpprop.propagate_pixels(x, image, prune=True) for x in (a, b)]
    assert torch.equal(both, torch.cat(each))


def test_gradient_reaches_the_classes_that_are_solved():
    logits, image = make(H=12, W=13)
    logits = logits.requires_grad_()
    pruned = lpprop.propagate_pixels(logits, image, prune=True)
    pruned.sum().backward()
    size, out = logits.grad.abs().sum((0, 2, 3)), left_out(pruned[0].detach())
    assert out.any()
    assert (size[~out] > 0).all()
    assert (size[out] == 0).all()


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
    plain = lpprop.propagate_pixels(start, image)
    pruned = lpprop.propagate_pixels(start, image, prune=True)
    assert (~left_out(pruned[0])).sum() == count
    assert torch.equal(pruned.argmax(1), plain.argmax(1))
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


def test_all_of_many_classes_win():
    """No class is left to be bounded."""
    scores = torch.eye(20)
    solved = solve_winners(scores, lambda rows: 2 * rows, lambda: (scores, torch.arange(20)))
    assert torch.equal(solved, 2 * scores)


def test_many_winners_get_more_bounds():
    """One bound of classes that take turns would be above all; nine, of two each, are below."""
    winners, others = 23, 18
    nodes = winners * others
    places = torch.arange(nodes, dtype=torch.float64)
    near = (places[:, None] - places) % nodes < others  # the nodes before each
    mean = near.double() / others
    scores = torch.cat([
        torch.eye(winners).double().repeat_interleave(others, 1),
        1.5 * torch.eye(others).double().repeat(1, winners),
    ])  # fmt: skip
    columns = []

    def solve(rows):
        columns.append(len(rows))
        return rows @ mean.mT

    found = solve_winners(scores, solve, lambda: (scores @ mean.mT, torch.arange(nodes)))
    assert columns == [winners + 9]
    assert torch.equal(found.amax(0), (scores @ mean.mT).amax(0))


@pytest.mark.parametrize("size", [(1, 60), (60, 1), (1, 1)])
def test_the_scores_stay_as_they_were(size):
    """The sample of so small an image is the image."""
    logits, image = torch.rand(1, 12, *size), torch.rand(1, 3, *size)
    before = logits.clone()
    lpprop.propagate_pixels(logits, image, prune=True)
    assert torch.equal(logits, before)
