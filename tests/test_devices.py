"""Everything on a device that is not the CPU: a GPU where there is one, else the fake device.

Results stand on that device and are the CPU's, and nothing on the way mixes two devices. All of
the contract runs there too: `pytest tests/test_contract.py --device fake`, or cuda.
"""

import numpy as np
import pytest
import torch

import lpprop
from lpprop.evaluation.metrics import SegmentationMetrics
from lpprop.numerics.cg import cg
from lpprop.numerics.ipf import ipf
from lpprop.numerics.sinkhorn import sinkhorn
from lpprop.viz.drawing import colorize
from test_contract import (
    REFINERS,
    attention_of,
    call,
    close,
    compiled,
    distributions,
    mapped,
    patches_and_pixels,
    placed,
    random,
    same,
)

pytestmark = pytest.mark.gpu

HERE = torch.device("cpu")
FAKE = not torch.cuda.is_available()

# What sums in another order than on the CPU: similarities there are mirrored, PAMR's classes taken
# one by one, and the colours of pixels made in blocks.
REORDERED = ("auto", "clicks", "patches", "pixels", "lposs", "pamr")


def agree(got, expected, name=""):
    """To the bit, where the same sums are taken in the same order by the same processor."""
    compare = same if FAKE and not name.startswith(REORDERED) else close
    compare(got.cpu(), expected)


def table(rows):
    return pytest.mark.parametrize("row", rows, ids=lambda row: row.name)


# --------------------------------------------------------------------------- the contract's table

ROWS = [row for row in REFINERS if not compiled(row)]


@table(ROWS)
def test_scores(row, there):
    pytest.importorskip(row.package)
    inputs = mapped(row.inputs(2), torch.Tensor.float)
    scores = call(row, placed(inputs, there))
    assert scores.device.type == there.type
    agree(scores, call(row, inputs), row.name)


@table([row for row in ROWS if row.smooth])
def test_gradients(row, there):
    pytest.importorskip(row.package)
    slopes = []
    for device in (there, HERE):
        inputs = mapped(placed(row.inputs(2), device), torch.Tensor.requires_grad_)
        call(row, inputs).square().sum().backward()
        slopes.append([inputs[name].grad for name in ("logits", *row.differentiable)])
    for got, expected in zip(*slopes, strict=True):
        assert got.device.type == there.type
        agree(got, expected, row.name)


@table([row for row in REFINERS if compiled(row)])
def test_compiled_code_is_refused(row, there):
    pytest.importorskip(row.package)
    with pytest.raises(lpprop.InputError, match=r"^backend: got 'llvm' for tensors on "):
        call(row, mapped(row.inputs(1), lambda x: x.to(there)))


# --------------------------------------------------------------------------- all other calls

WINDOWS = lpprop.SlidingWindows((20, 20), window=12, stride=8)
WHOLE = lpprop.SlidingWindows((20, 20), window=20, stride=20)
SMALL = {"k": 5, "r": 3, "patch_size": 4}
GROUPS = [[0, 2], [1]]


def positive(size):
    """A symmetric positive definite matrix."""
    root = random(5, size, size)
    return root @ root.mT + torch.eye(size, dtype=root.dtype)


def of_windows(to):
    sizes = {"logits": (4, 2, 3, 3), "feats": (4, 6, 3, 3), "image": (1, 3, 20, 20)}
    low = {"image": 0.45}
    return {
        name: to(random(i, *shape, low=low.get(name, -1.0), high=0.5))
        for i, (name, shape) in enumerate(sizes.items())
    }


def several_windows(to):
    inputs, one = of_windows(to), to(random(7, 1, 2, 5, 5))
    whole = one, to(random(8, 1, 6, 5, 5))
    lists = {name: [inputs[name], x] for name, x in zip(("logits", "feats"), whole, strict=True)}
    return lpprop.refine(
        **lists, image=inputs["image"], windows=[WINDOWS, WHOLE], method="lposs", k=5, patch_size=4
    )


def single(to):
    """One item, its image an array; logits on a coarser grid than the feats."""
    image = (255 * random(2, 12, 16, 3, low=0, high=1)).byte().numpy()
    logits, feats = random(0, 3, 2, 2), random(1, 6, 3, 4)
    return lpprop.refine(to(logits), to(feats), image, size=(6, 8), **SMALL)


def losing(inputs):
    """The last class is nowhere near the others."""
    return inputs | {"logits": inputs["logits"] - torch.tensor([0.0, 0.0, 5.0])[:, None, None]}


def refined(to, inputs, **options):
    return lpprop.refine(**mapped(inputs, to), **options)


def compared(to):
    inputs = mapped(patches_and_pixels(1), to)
    gt = to(random(9, 12, 16, low=0, high=2.99).long())
    methods = {
        "LPOSS": lpprop.presets.lposs(k=5, patch_size=4),
        "path": lpprop.presets.optimal_path(radius=1),
        "bilinear": "bilinear",
    }
    comparison = lpprop.compare(**inputs, gt=gt, methods=methods, repeats=1)
    assert list(comparison.labels) == list(methods)
    return [torch.from_numpy(x) for x in (comparison.start, *comparison.labels.values())]


def measured(to):
    metrics = SegmentationMetrics(classes=3)
    labels, gt = (to(random(seed, 9, 8, low=0, high=2.99).long()) for seed in (0, 1))
    metrics.update(labels, gt)
    return [torch.from_numpy(x) for x in (metrics.confusion, metrics.boundary_union)]


def solved(result):
    """The tensors among a solver's findings."""
    return [x for x in result if isinstance(x, torch.Tensor)]


def transported(to):
    result = sinkhorn(to(random(0, 12, 12)), to(distributions(1)["logits"][0]))
    return [*result.value, *solved(result)]


REGIONS = torch.arange(2 * 7 * 9).view(2, 7, 9) % 5


def classified(to, regions, **options):
    references = [to(random(1, 2, 5)), to(random(2, 1, 5))]
    return lpprop.classify_regions(to(random(0, 2, 5, 3, 4)), regions, references, **options)


# What each call gives, made of tensors that `to` moves.
CALLS = {
    "attention_from_features": lambda to: lpprop.attention_from_features(to(random(0, 2, 6, 3, 4))),
    "sharpen_attention": lambda to: lpprop.sharpen_attention(to(attention_of(0, 2, 6, 6))),
    "aggregate_attention": lambda to: lpprop.aggregate_attention(
        [to(attention_of(0, 2, 3, 12, 12)), to(attention_of(1, 2, 48, 48))],
        weights=[[0.5, 0.2, 0.3], 1.0],
        size=(3, 4),
    ),
    "merge_classes": lambda to: lpprop.merge_classes(to(random(0, 2, 3, 4, 5)), GROUPS),
    "prototypes": lambda to: lpprop.prototypes(
        to(random(0, 2, 5, 3, 4)), to(random(1, 2, 7, 9, low=-1, high=2.99).long()), classes=3
    ),
    "prototype_logits": lambda to: lpprop.prototype_logits(
        to(random(0, 2, 5, 3, 4)), to(random(1, 3, 5))
    ),
    "seed_logits": lambda to: lpprop.seed_logits(
        to(torch.tensor([[3, 4], [9, 30]])), to(torch.tensor([1, 0])), (20, 40), grid=(3, 4)
    ),
    "regions-cosine": lambda to: classified(to, to(REGIONS)),
    "regions-rank": lambda to: classified(to, to(REGIONS), matching="rank"),
    "regions-masks": lambda to: classified(to, [to(torch.stack([x > 1, x < 3])) for x in REGIONS]),
    "lab_features": lambda to: lpprop.lab_features(to(random(0, 2, 3, 4, 5, low=0, high=1))),
    "split": lambda to: WINDOWS.split(to(random(0, 1, 3, 20, 20))),
    "merge": lambda to: WINDOWS.merge(to(random(0, 4, 2, 3, 3))),
    "cg": lambda to: solved(cg(lambda x: x @ to(positive(6)), to(random(0, 3, 6)))),
    "ipf": lambda to: solved(ipf(to(attention_of(0, 6, 6)))),
    "sinkhorn": transported,
    "patches-boxes": lambda to: lpprop.propagate_patches(
        *(of_windows(to)[name] for name in ("logits", "feats")),
        windows=to(WINDOWS.boxes), k=5, patch_size=4,
    ),
    "patches-boxes-cpu": lambda to: lpprop.propagate_patches(
        *(of_windows(to)[name] for name in ("logits", "feats")),
        windows=WINDOWS.boxes, k=5, patch_size=4,
    ),
    "patches-anywhere": lambda to: refined(
        to, patches_and_pixels(1), method="lposs", k=5, sigma=0, patch_size=4
    ),
    "lposs-sized": single,
    "lposs-windows": lambda to: refined(to, of_windows(to), windows=WINDOWS, **SMALL),
    "lposs-list-of-windows": several_windows,
    "lposs-pixel-feats": lambda to: refined(
        to, patches_and_pixels(2), pixel_feats=to(random(4, 2, 2, 12, 16)), **SMALL
    ),
    "lposs-pruned": lambda to: refined(to, losing(patches_and_pixels(2)), prune=True, **SMALL),
    "velocity-heads-resized": lambda to: refined(
        to, patches_and_pixels(1), attention=to(attention_of(3, 1, 4, 48, 48)),
        method="max_velocity", radius=1,
    ),
    "velocity-temperature": lambda to: refined(
        to, patches_and_pixels(1), method="max_velocity", temperature=0.3, radius=1
    ),
    "compare": compared,
    "metrics": measured,
    "colorize": lambda to: torch.tensor(np.array(colorize(to(torch.tensor([[0, 1], [2, 0]])), 3))),
}  # fmt: skip
ON_THE_CPU = ("compare", "metrics", "colorize")  # what gives arrays


@pytest.mark.parametrize("name", CALLS)
def test_calls(name, there):
    results = [CALLS[name](lambda x, device=device: x.to(device)) for device in (there, HERE)]
    got, expected = (x if isinstance(x, list) else [x] for x in results)
    for result, value in zip(got, expected, strict=True):
        assert name.startswith(ON_THE_CPU) or result.device.type == there.type
        agree(result, value, name)


# --------------------------------------------------------------------------- the device's rules
# A GPU that is there is held to them too: they are its own.

NUMBER = torch.tensor(0.5)
ROW = torch.tensor([0.5, 1.0, 1.5])
PLACES = torch.tensor([0, 2, 1])

ALLOWED = {
    "a number": lambda x: x + NUMBER,
    "a number first": lambda x: NUMBER * x,
    "a number compared": lambda x: x > NUMBER,
    "a number in place": lambda x: x.mul_(NUMBER),
    "numbers chosen from": lambda x: torch.where(x > 1, NUMBER, NUMBER),
    "a number filled in": lambda x: x.masked_fill(x > 1, NUMBER),
    "a number put": lambda x: x.index_put((PLACES,), NUMBER),
    "a number assigned": lambda x: x.__setitem__(0, NUMBER) or x,
    "indices": lambda x: x[PLACES],
    "a mask": lambda x: x[ROW > 1],
    "a copy": lambda x: x.copy_(ROW),
    "an assignment": lambda x: x.__setitem__(slice(2), ROW[:2]) or x,
    "made of a list": lambda x: torch.tensor([0.5, 1.0], device=x.device),
    "made alike": lambda x: x.new_tensor([1.0]) + x.new_zeros(3) + torch.arange(3, device=x.device),
    "a vector product": lambda x: x @ torch.eye(3, device=x.device),
}
REFUSED = {
    "a row": lambda x: x + ROW,
    "one entry": lambda x: x * ROW[:1],
    "a row first": lambda x: ROW - x,
    "a row compared": lambda x: x.eq(ROW),
    "a row in place": lambda x: x.add_(ROW),
    "a row to choose from": lambda x: torch.where(x > 1, ROW, NUMBER),
    "a mask to choose by": lambda x: torch.where(ROW > 1, x, x),
    "a mask to fill by": lambda x: x.masked_fill(ROW > 1, 0.0),
    "into a row": lambda x: ROW.clone().add_(x),
    "into a number": lambda x: NUMBER.clone().add_(x.sum()),
    "out of both": lambda x: torch.add(x, x, out=torch.empty(3)),
    "a fused product": lambda x: torch.addcmul(x, x, ROW),
    "a dot product": lambda x: x @ ROW,
    "a matrix product": lambda x: x[None] @ ROW[:, None],
    "joined": lambda x: torch.cat([x, ROW]),
    "stacked": lambda x: torch.stack([x.sum(), NUMBER]),
    "gathered": lambda x: x.gather(0, PLACES),
    "selected": lambda x: x.index_select(0, PLACES),
    "scattered": lambda x: x.scatter(0, PLACES.to(x.device), ROW),
    "added at": lambda x: x.index_add(0, PLACES, x),
    "put at": lambda x: x.index_put((PLACES,), ROW),
    "indices from there": lambda x: ROW[PLACES.to(x.device)],
    "a mask from there": lambda x: ROW[x > 1],
    "an array": lambda x: x.numpy(),
    "an array asked for": np.asarray,
    "random numbers": lambda x: torch.rand(3, generator=torch.Generator(), device=x.device),
}


@pytest.mark.parametrize("name", ALLOWED)
def test_allowed(name, there):
    result = ALLOWED[name](ROW.to(there))
    assert result.device.type == there.type
    same(result.cpu(), ALLOWED[name](ROW.clone()))


@pytest.mark.parametrize("name", REFUSED)
def test_mixed(name, there):
    with pytest.raises((RuntimeError, TypeError), match=r"devices?\b|cpu"):
        REFUSED[name](ROW.to(there))
