"""Every InputError: which argument, what came, what was expected, what to do, and before any work.

A row of a table in `error_tables` is a call and its message. A last test walks the sources and
makes sure that every `raise` has a row.
"""

import ast
import math
import re
import traceback
from pathlib import Path

import kornia.color  # noqa: F401  (its import alone computes something)
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import lpprop
from error_tables import TABLE, discrepancy, references, regions
from error_tables.samples import ATTENTION, CROPS, FEATS, FULL, IMAGE, LOGITS, WINDOWS, spoilt
from lpprop.numerics.ipf import ipf
from lpprop.numerics.sinkhorn import sinkhorn

SOURCE = Path(lpprop.__file__).parent
# The floors whose every error has a row; files, models and evaluation have tests of their own.
FLOORS = ("_core", "numerics", "inputs", "refiners", "compose")
FILES = [*(file for floor in FLOORS for file in sorted((SOURCE / floor).rglob("*.py"))),
         SOURCE / "kernels" / "dispatch.py"]  # fmt: skip

refine = lpprop.refine
patches = lpprop.propagate_patches
pixels = lpprop.propagate_pixels

# They can be known only once the work is done.
AFTERWARDS = {name for name in TABLE if "overflow" in name and "gamma" not in name}
AFTERWARDS |= {*discrepancy.AFTERWARDS, *references.AFTERWARDS, *regions.AFTERWARDS}
AFTERWARDS |= {"refine a class out of fewer"}

# What the methods cannot do without, and checks do not use.
WORK = {
    "_softmax",
    "_upsample_bilinear2d_aa",
    "addcmul",
    "addmm",
    "bmm",
    "exp",
    "exp_",
    "index_add",
    "linalg_vector_norm",
    "log",
    "mm",
    "mv",
    "pow",
    "scatter",
    "topk",
    "upsample_bilinear2d",
}


class Watch(TorchDispatchMode):
    """Notes the work that is done inside it."""

    def __init__(self):
        super().__init__()
        self.work = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        if name in WORK:
            self.work.add(name)
        return function(*args, **kwargs or {})


def caught(call):
    """The InputError of a call, and the work that was done before it."""
    with Watch() as watch, pytest.raises(lpprop.InputError) as error:
        call()
    return error.value, watch.work


@pytest.fixture(autouse=True)
def few_packages(monkeypatch):
    monkeypatch.setattr("lpprop.kernels.torch_sparse.is_installed", lambda: False)
    monkeypatch.setattr("lpprop.kernels.dispatch._installed", lambda package: package == "llvmlite")


@pytest.fixture(autouse=True)
def a_small_machine(monkeypatch):
    """Room for a hundred planes of the pixels here, and not for a matrix of 1600 x 1600 patches."""
    monkeypatch.setattr("lpprop._core.memory.available_bytes", lambda device: 8 * 2**20)


@pytest.mark.parametrize("name", TABLE)
def test_the_message_and_that_it_comes_first(name):
    call, beginning = TABLE[name]
    error, work = caught(call)
    message = re.sub(r"0x[0-9a-fA-F]+", "0x...", str(error))
    assert message.startswith(beginning)
    # Argument, what came, what was expected; and a sentence that says what to do.
    assert re.fullmatch(r"[^:]+: got .+, expected .+\. [A-Z].+[.?]", message, re.DOTALL)
    assert isinstance(error, ValueError)
    assert not work or name in AFTERWARDS


@pytest.mark.parametrize(
    "call",
    [
        lambda: refine(LOGITS, FEATS, IMAGE),
        lambda: patches(LOGITS, FEATS, storage="csr"),
        lambda: pixels(FULL, IMAGE),
        lambda: WINDOWS.merge(CROPS[0]),
        lambda: lpprop.bilinear_upsample(LOGITS, (8, 8)),
        lambda: lpprop.class_distribution(LOGITS),
        lambda: lpprop.kl_discrepancy(discrepancy.EVEN),
        lambda: lpprop.optimal_path(discrepancy.EVEN, ATTENTION),
        lambda: lpprop.max_velocity(discrepancy.EVEN, ATTENTION),
        lambda: lpprop.joint_bilateral_upsample(LOGITS, IMAGE),
        lambda: lpprop.attention_from_features(FEATS),
        lambda: lpprop.sharpen_attention(ATTENTION),
        lambda: lpprop.aggregate_attention([ATTENTION], size=(2, 2), grids=[(4, 5)]),
        lambda: sinkhorn(ATTENTION[0], discrepancy.EVEN[0]),
        lambda: ipf(ATTENTION[0]),
    ],
)
def test_work_would_be_noticed(call):
    with Watch() as watch:
        call()
    assert watch.work


REFUSED = {
    "feats of batch 1": {"feats": FEATS[:1]},
    "feats of one patch, batch 1": {"feats": FEATS[:1, :, :1, :1]},
    "NaN in logits": {"logits": spoilt(LOGITS, math.nan, 1, 0, 0, 0)},
    "infinite feats": {"feats": spoilt(FEATS, math.inf, 1, 0, 0, 0)},
    "NaN in attention": {"attention": torch.full((2, 20, 20), math.nan)},
    "image 0-255": {"image": 255 * IMAGE},
    "image of batch 1": {"image": IMAGE[:1]},
    "grey image": {"image": IMAGE[:, :1]},
    "size": {"size": (0, 8)},
    "pixel_feats": {"pixel_feats": IMAGE},
    "windows": {"windows": WINDOWS},
    "patches not square": {"image": torch.rand(2, 3, 64, 200)},
    "no feats": {"feats": None},
    "a bad ensemble": {
        "logits": [CROPS[0]] * 2,
        "feats": [CROPS[1], CROPS[1][:5]],
        "image": None,
        "windows": [WINDOWS] * 2,
    },
}


@pytest.mark.parametrize("name", REFUSED)
def test_no_step_is_called_before_all_inputs_are_checked(name):
    calls = []

    def count(logits, *, feats, image, attention, windows=None):
        calls.append(logits)
        return logits

    method = lpprop.Chain(count, lpprop.PatchPropagation())
    given = {"logits": LOGITS, "feats": FEATS, "image": IMAGE, "method": method} | REFUSED[name]
    with pytest.raises(lpprop.InputError):
        refine(**given)
    assert not calls


def test_the_error_shows_the_callers_traceback_first():
    error, _ = caught(lambda: refine(LOGITS, FEATS[:1], IMAGE))
    frames = traceback.extract_tb(error.__traceback__)
    assert any(frame.filename == __file__ for frame in frames)
    assert error.__cause__ is None


def raising_lines():
    """Where the sources raise, as (file, first line, last line), but for errors caught inside."""
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            others = ("TypeError", "ImportError", "AttributeError")
            if isinstance(node, ast.Raise) and not any(x in ast.unparse(node) for x in others):
                yield path, node.lineno, node.end_lineno


def test_every_raise_has_a_row():
    reached = set()
    for call, _ in TABLE.values():
        error, _ = caught(call)
        last = traceback.extract_tb(error.__traceback__)[-1]
        reached.add((Path(last.filename), last.lineno))
    missed = [
        f"{path.relative_to(SOURCE)}:{first}"
        for path, first, last in raising_lines()
        if not any((path, line) in reached for line in range(first, last + 1))
    ]
    assert not missed
