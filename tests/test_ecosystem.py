"""The library where users put it: in data loaders, under inference_mode, autocast and compile."""

import multiprocessing
import subprocess
import sys
import time

import pytest
import torch
from torch import nn

import lpprop

METHODS = ["lposs", "lposs+", "max_velocity", "optimal_path"]
PRESETS = {"lposs": "lposs", "lposs+": "lposs_plus"}


def options(method):
    return {"patch_size": 8} if method.startswith("lposs") else {}


def preset(method):
    return getattr(lpprop.presets, PRESETS.get(method, method))(**options(method))


def inputs(batch=2, classes=3, grid=(6, 7), seed=0):
    generator = torch.Generator().manual_seed(seed)

    def random(*shape):
        return torch.rand(shape, generator=generator)

    size = (8 * grid[0], 8 * grid[1])
    return random(batch, classes, *grid), random(batch, 16, *grid), random(batch, 3, *size)


def refined(method, logits, feats, image):
    return lpprop.refine(logits, feats, image, method=method, **options(method))


# ------------------------------------------------------------------------ data loaders

LOADING = """
import sys

import torch
from torch.utils.data import DataLoader, Dataset

import lpprop


def refiners():
    # What "auto" takes depends on what a process has compiled already.
    return {
        "lposs": lpprop.presets.lposs(patch_size=8, k=10),
        "lposs+": lpprop.presets.lposs_plus(patch_size=8, k=10, r=5, backend="torch"),
        "max_velocity": lpprop.presets.max_velocity(backend="torch"),
        "optimal_path": lpprop.presets.optimal_path(backend="torch"),
        "kl": lpprop.presets.kl(backend="torch"),
        "fusion": lpprop.presets.fusion(backend="torch"),
        "own": lpprop.Chain(
            lpprop.PatchPropagation(k=20, patch_size=8),
            lpprop.BilinearUpsample(),
            lpprop.PixelPropagation(r=5, backend="llvm"),
        ),
        "patches": lpprop.PatchPropagation(k=20, patch_size=8),
        "upsample": lpprop.JointBilateralUpsample(backend="llvm"),
    }


class Refined(Dataset):
    def __init__(self):
        self.refiners = refiners()

    def __len__(self):
        return 4

    def __getitem__(self, i):
        random = torch.Generator().manual_seed(i)
        logits, feats = (torch.rand(1, n, 6, 7, generator=random) for n in (3, 16))
        image = torch.rand(1, 3, 48, 56, generator=random)
        scores = {
            name: refiner(logits, feats=feats, image=image)
            for name, refiner in self.refiners.items()
        }
        scores["refine"] = lpprop.refine(
            logits, feats, image, k=10, r=5, patch_size=8, backend="torch"
        )
        return i, scores


if __name__ == "__main__":
    torch.set_num_threads(1)
    dataset = Refined()
    expected = dict(dataset[i] for i in range(len(dataset)))
    torch.set_num_threads(2)
    dataset[0]  # with threads, before the workers start
    for start in sys.argv[1:]:
        loader = DataLoader(dataset, batch_size=None, num_workers=2, timeout=60,
                            multiprocessing_context=start)
        seen = 0
        for i, scores in loader:
            assert scores.keys() == expected[i].keys()
            for name, x in scores.items():
                assert torch.equal(x, expected[i][name]), name
            seen += 1
        assert seen == len(dataset)
        print(start)
"""


def test_refiners_work_in_a_data_loader(tmp_path):
    """In workers that are forked after the compiled code has run, and in fresh ones."""
    pytest.importorskip("llvmlite")
    starts = [x for x in ("fork", "spawn") if x in multiprocessing.get_all_start_methods()]
    script = tmp_path / "loading.py"
    script.write_text(LOADING)
    done = subprocess.run(
        [sys.executable, str(script), *starts],
        capture_output=True, text=True, check=False, timeout=180,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout.split() == starts


# ------------------------------------------------------------------------ inference_mode, autocast


@pytest.mark.parametrize("method", METHODS)
def test_inference_mode(method):
    expected = refined(method, *inputs())
    with torch.inference_mode():
        made_inside = [x.clone() for x in inputs()]
        assert torch.equal(refined(method, *made_inside), expected)
        logits, feats, image = made_inside
        assert torch.equal(preset(method)(logits, feats=feats, image=image), expected)


@pytest.mark.parametrize("method", METHODS)
def test_autocast(method):
    logits, feats, image = inputs()
    expected = refined(method, logits, feats, image)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(refined(method, logits, feats, image), expected)
        assert torch.equal(preset(method)(logits, feats=feats, image=image), expected)
        # Logits that a layer rounded keep their dtype, and are refined in full precision.
        half = logits.bfloat16()
        scores = refined(method, half, feats, image)
    assert scores.dtype == torch.bfloat16
    assert torch.equal(scores, refined(method, half, feats, image))


# ------------------------------------------------------------------------ torch.compile


class Model(nn.Module):
    """A user's model: layers, a refiner, and something after it."""

    def __init__(self, refiner):
        super().__init__()
        self.head = nn.Conv2d(16, 3, 1)
        self.refiner = refiner

    def forward(self, feats, image):
        logits = self.head(feats).relu()
        return 2 * self.refiner(logits, feats=feats, image=image)


# "inductor" needs a C++ compiler, and half a minute; what could differ is what Dynamo traces,
# and "aot_eager" has the same before its code generation.
@pytest.fixture
def compiled():
    torch.compiler.reset()
    yield lambda model: torch.compile(model, backend="aot_eager")
    torch.compiler.reset()


@pytest.mark.parametrize("method", METHODS)
def test_a_compiled_model_holds_a_refiner(method, compiled):
    torch.manual_seed(0)
    model = Model(preset(method)).eval()
    fast = compiled(model)
    with torch.no_grad():
        for case in (inputs(), inputs(batch=1, grid=(5, 9))):
            torch.testing.assert_close(fast(*case[1:]), model(*case[1:]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_a_compiled_function_calls_refine(method, compiled):
    def function(logits, feats, image):
        return refined(method, 2 * logits.relu(), feats, image) + 1

    fast = compiled(function)
    started = time.perf_counter()
    for case in (inputs(), inputs(batch=1, classes=4, grid=(5, 9))):
        torch.testing.assert_close(fast(*case), function(*case), rtol=1e-5, atol=1e-5)
    # A graph break at the door. To trace the solvers, step by step, would take a minute.
    assert time.perf_counter() - started < 15


@pytest.mark.parametrize(
    "step",
    [
        lpprop.PatchPropagation(k=20, patch_size=8),
        lpprop.JointBilateralUpsample(),
        lpprop.Chain(lpprop.ClassDistribution(), lpprop.OptimalPath()),
    ],
    ids=lambda step: type(step).__name__,
)
def test_a_compiled_model_holds_a_single_step(step, compiled):
    model = Model(step).eval()
    with torch.no_grad():
        _, feats, image = inputs()
        torch.testing.assert_close(compiled(model)(feats, image), model(feats, image))


# PyTorch warns at any graph break behind which a tensor goes on that has a gradient.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
def test_a_compiled_model_has_gradients(compiled):
    torch.manual_seed(0)
    model = Model(preset("lposs"))
    _, feats, image = inputs()
    model(feats, image).square().mean().backward()
    expected = model.head.weight.grad.clone()
    model.head.weight.grad = None
    compiled(model)(feats, image).square().mean().backward()
    torch.testing.assert_close(model.head.weight.grad, expected)


def test_errors_come_through(compiled):
    logits, feats, image = inputs()
    with pytest.raises(lpprop.InputError, match="image: got values from"):
        compiled(lambda *case: refined("lposs", *case))(logits, feats, 255 * image)
