"""Which backend a call uses, and that all of them say the same."""

import importlib.metadata
import importlib.util
import inspect
import itertools
import logging
import shutil
import subprocess
import sys
import sysconfig
from types import SimpleNamespace

import pytest
import torch

import lpprop
from lpprop.kernels import dispatch as backends
from lpprop.kernels import portable
from lpprop.kernels.interface import Kernels

needs_llvmlite = pytest.mark.skipif(
    importlib.util.find_spec("llvmlite") is None, reason="llvmlite is not installed"
)
STEPS = {
    "pixels": lambda logits, image, **options: lpprop.propagate_pixels(logits, image, **options),
    "features": lambda logits, image, **options: lpprop.propagate_pixels(
        logits, None, pixel_feats=image, **options
    ),
    "bilateral": lambda logits, image, **options: lpprop.joint_bilateral_upsample(
        logits, image, **options
    ),
}
steps = pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)


@pytest.fixture
def chosen(caplog):
    """Return the backends that "auto" took since the last look, from the log."""
    caplog.set_level(logging.INFO, logger="lpprop")

    def look():
        records = [record for record in caplog.records if record.msg.startswith("backend ")]
        caplog.clear()
        assert all(record.name == "lpprop" for record in records)
        assert all(record.levelno == logging.INFO for record in records)
        return [record.getMessage().split()[1] for record in records]

    return look


@pytest.fixture
def no_size_is_small(monkeypatch):
    monkeypatch.setattr(backends, "_has_compiled", lambda: True)


def make(H, W, C=3, dtype=torch.float32, B=1):
    """Scores, and an image of so little contrast that most neighbours are joined."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(B, C, H, W, generator=generator, dtype=torch.float64)
    image = 0.3 + 0.1 * torch.rand(B, 3, H, W, generator=generator, dtype=torch.float64)
    return logits.to(dtype), image.to(dtype)


# --------------------------------------------------------------------------- the choice


def choose(monkeypatch, backend, *, device="cpu", installed=("llvmlite", "triton"), work=1e12,
           requires_grad=False, capability=(9, 0), hip=None, can_build=True, version="0.50.0",
           free=2**30, compiled=False):  # fmt: skip
    """The backend that a call on a device would load, whether or not the device is there."""
    monkeypatch.setattr(importlib.metadata, "version", lambda package: version)
    monkeypatch.setattr(backends, "available_bytes", lambda device: free)
    monkeypatch.setattr(backends, "_has_compiled", lambda: compiled)
    monkeypatch.setattr(backends, "_installed", lambda package: package in installed)
    monkeypatch.setattr(backends, "_load", lambda name: name)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.version, "hip", hip)
    monkeypatch.setattr(backends, "_can_build", lambda: can_build)
    scores = SimpleNamespace(device=torch.device(device))
    guide = torch.zeros(1, requires_grad=requires_grad)
    return backends.kernels_for(backend, scores, ("image", guide), work, worth=1e8)


CHOICES = {
    "large": ({}, "llvm"),
    "small": ({"work": 1e6}, "torch"),
    "just-large": ({"work": 1e8}, "llvm"),
    "just-small": ({"work": 1e8 - 1}, "torch"),
    "small-but-compiled": ({"work": 1.0, "compiled": True}, "llvm"),
    "compiled-and-a-gradient": ({"compiled": True, "requires_grad": True}, "torch"),
    "llvmlite-0.45": ({"version": "0.45.0rc1"}, "llvm"),
    "llvmlite-1": ({"version": "1.0"}, "llvm"),
    "memory-unknown": ({"free": None}, "llvm"),
    "no-memory-but-compiled": ({"free": 2**20, "compiled": True}, "llvm"),
    "gradient": ({"requires_grad": True}, "torch"),
    "no-llvmlite": ({"installed": ("triton",)}, "torch"),
    "cuda": ({"device": "cuda"}, "triton"),
    "cuda-small": ({"device": "cuda", "work": 1.0}, "triton"),
    "cuda-old": ({"device": "cuda", "capability": (6, 1)}, "torch"),
    "rocm": ({"device": "cuda", "hip": "6.2"}, "torch"),
    "cuda-no-compiler": ({"device": "cuda", "can_build": False}, "torch"),
    "cuda-gradient": ({"device": "cuda", "requires_grad": True}, "torch"),
    "cuda-no-triton": ({"device": "cuda", "installed": ("llvmlite",)}, "torch"),
    "mps": ({"device": "mps"}, "torch"),
}


@pytest.mark.parametrize(("case", "expected"), CHOICES.values(), ids=CHOICES)
def test_auto(case, expected, monkeypatch, chosen):
    assert choose(monkeypatch, "auto", **case) == expected
    assert chosen() == [expected]


TROUBLES = {
    "old": ({"version": "0.44.0"}, "llvmlite is 0.44.0, and compiled code needs 0.45"),
    "older": ({"version": "0.9.1"}, "llvmlite is 0.9.1, and compiled code needs 0.45"),
    "no-memory": ({"free": 2**20}, "1 MiB are free, and compiling takes up to 256"),
}


@pytest.mark.parametrize(("case", "trouble"), TROUBLES.values(), ids=TROUBLES)
def test_what_compiled_code_needs(case, trouble, monkeypatch, chosen, caplog):
    """Without it "auto" takes PyTorch, and says once why; the backend by name is refused."""
    backends._warn_once.cache_clear()
    told = []
    for _ in range(2):
        assert choose(monkeypatch, "auto", **case) == "torch"
        told += [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        assert chosen() == ["torch"]
    assert told == [f"{trouble}: the slower backend 'torch' runs instead"]
    with pytest.raises(lpprop.InputError, match=f"^backend: got 'llvm', but {trouble}, expected"):
        lpprop.propagate_pixels(*make(4, 5), backend="llvm")


@needs_llvmlite
def test_an_llvmlite_that_is_too_old_is_not_imported(tmp_path):
    """As numba 0.61 and older bring it along."""
    stale = tmp_path / "llvmlite-0.43.0.dist-info"
    stale.mkdir()
    (stale / "METADATA").write_text("Metadata-Version: 2.1\nName: llvmlite\nVersion: 0.43.0\n")
    code = (
        "import sys, torch, lpprop; x = lpprop.propagate_pixels(torch.rand(1, 21, 99, 99), "
        "torch.rand(1, 3, 99, 99)); assert 'llvmlite' not in sys.modules; print(x.isfinite().all())"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {code}"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "tensor(True)"


@needs_llvmlite
def test_once_compiled_small_calls_are_compiled_too(chosen, monkeypatch, nothing_is_compiled_yet):
    monkeypatch.setattr(backends, "_has_compiled", nothing_is_compiled_yet)
    lpprop.propagate_pixels(*make(6, 7), backend="llvm")
    lpprop.propagate_pixels(*make(6, 7))
    lpprop.joint_bilateral_upsample(*make(6, 7))
    assert chosen() == ["llvm", "llvm"]


def test_triton_is_not_advised_where_there_is_no_gpu(monkeypatch):
    monkeypatch.setattr(backends, "_installed", lambda package: False)
    for gpu, advice in ((False, "and PyTorch sees none here"), (True, "Run pip install triton")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda gpu=gpu: gpu)
        with pytest.raises(lpprop.InputError, match=advice) as error:
            lpprop.PixelPropagation(backend="triton")
        assert ("pip install" in str(error.value)) == gpu


TOOLS = {
    "gcc": ({"gcc"}, "", True, None),
    "clang": ({"clang"}, "", True, None),
    "CC": (set(), "cc", True, None),
    "no-compiler": ({"make"}, "", True, "a C compiler"),
    "no-headers": ({"gcc"}, "", False, "Python's headers"),
}


@pytest.mark.parametrize(("programs", "cc", "headers", "missing"), TOOLS.values(), ids=TOOLS)
def test_what_triton_builds_with(programs, cc, headers, missing, monkeypatch, tmp_path, caplog):
    """What is missing is told once."""
    monkeypatch.setattr(shutil, "which", lambda name: name if name in programs else None)
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    monkeypatch.setenv("CC", cc)
    if headers:
        (tmp_path / "Python.h").touch()
    backends._can_build.cache_clear()
    try:
        assert [backends._can_build() for _ in range(2)] == [missing is None] * 2
    finally:
        backends._can_build.cache_clear()
    told = [f"Triton needs {missing}: the slower backend 'torch' runs instead"] if missing else []
    assert [record.getMessage() for record in caplog.records] == told


def test_auto_without_gradients(monkeypatch):
    with torch.no_grad():
        assert choose(monkeypatch, "auto", requires_grad=True) == "llvm"
        assert choose(monkeypatch, "llvm", requires_grad=True) == "llvm"


@pytest.mark.parametrize("work", [1.0, 1e12])
@pytest.mark.parametrize(("backend", "device"), [("llvm", "cpu"), ("triton", "cuda")])
def test_what_is_named_is_taken(backend, device, work, monkeypatch, chosen):
    """Of any size, and without a word in the log."""
    assert choose(monkeypatch, backend, device=device, work=work) == backend
    assert choose(monkeypatch, "torch", device=device, work=work) == "torch"
    assert chosen() == []


@pytest.mark.parametrize(("backend", "device"), [("llvm", "cuda"), ("triton", "cpu")])
def test_a_device_that_a_backend_does_not_run_on(backend, device, monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(lpprop.InputError, match=f"'{backend}' for tensors on {device}"):
        choose(monkeypatch, backend, device=device)


@pytest.mark.parametrize(("backend", "device"), [("llvm", "cpu"), ("triton", "cuda")])
def test_a_gradient_that_a_backend_does_not_have(backend, device, monkeypatch):
    with pytest.raises(lpprop.InputError, match="differentiates in the scores only"):
        choose(monkeypatch, backend, device=device, requires_grad=True)


@steps
@pytest.mark.parametrize(("backend", "package"), [("llvm", "llvmlite"), ("triton", "triton")])
def test_a_package_that_is_missing(step, backend, package, monkeypatch, chosen):
    monkeypatch.setattr(backends, "_installed", lambda package: False)
    logits, image = make(4, 5)
    with pytest.raises(lpprop.InputError, match=f"package {package} is not installed"):
        step(logits, image, backend=backend)
    monkeypatch.setattr(backends, "_has_compiled", lambda: True)
    assert torch.equal(step(logits, image), step(logits, image, backend="torch"))
    assert chosen() == ["torch"]


@steps
def test_small_calls_take_torch(step, chosen):
    logits, image = make(6, 7)
    assert torch.equal(step(logits, image), step(logits, image, backend="torch"))
    assert chosen() == ["torch"]


@needs_llvmlite
@steps
def test_large_calls_take_compiled_code(step, chosen, no_size_is_small):
    logits, image = make(6, 7)
    assert torch.equal(step(logits, image), step(logits, image, backend="llvm"))
    assert chosen() == ["llvm"]
    module = lpprop.JointBilateralUpsample() if step is STEPS["bilateral"] else None
    module = module or lpprop.PixelPropagation()
    module(logits, image=image)
    assert chosen() == ["llvm"]


@needs_llvmlite
def test_what_counts_as_large(chosen):
    """Neighbours, classes and steps do; other items of the batch do not."""
    options = {"tol": 0.9, "alpha": 0.1}
    sizes = {
        "torch": [(20, 20, 3, 13, 10), (64, 64, 3, 13, 40), (64, 64, 3, 1, 1000)],
        "llvm": [(64, 64, 3, 13, 100)],
    }
    for expected, cases in sizes.items():
        for H, W, C, r, max_iter in cases:
            lpprop.propagate_pixels(*make(H, W, C), r=r, max_iter=max_iter, **options)
            assert chosen() == [expected]
    lpprop.propagate_pixels(*make(64, 64, 3, B=3), r=13, max_iter=40, **options)
    assert chosen() == ["torch"]
    # A square far larger than the image is as large as the image lets it be.
    lpprop.propagate_pixels(*make(20, 20, 3), r=10001, max_iter=10, **options)
    assert chosen() == ["torch"]


# --------------------------------------------------------------------------- gradients


@steps
def test_auto_gives_the_gradient_in_the_guide(step, chosen, no_size_is_small):
    logits, image = make(6, 7)
    slopes = []
    for backend in ("auto", "torch"):
        guide = image.clone().requires_grad_()
        step(logits, guide, backend=backend).square().sum().backward()
        slopes.append(guide.grad)
    assert chosen() == ["torch"]
    assert slopes[0].abs().max() > 0
    assert torch.equal(*slopes)


@needs_llvmlite
@steps
def test_a_guide_whose_gradient_is_not_wanted(step, chosen, no_size_is_small):
    logits, image = make(6, 7)
    expected = step(logits, image, backend="llvm")
    guide = image.clone().requires_grad_()
    with torch.no_grad():
        assert torch.equal(step(logits, guide), expected)
        assert torch.equal(step(logits, guide, backend="llvm"), expected)
    assert chosen() == ["llvm"]
    name = "pixel_feats" if step is STEPS["features"] else "image"
    with pytest.raises(lpprop.InputError, match=f"^{name}.*requires a gradient"):
        step(logits, guide, backend="llvm")


@needs_llvmlite
@steps
def test_auto_gives_the_gradient_in_the_scores(step, chosen, no_size_is_small):
    logits, image = make(6, 7, dtype=torch.float64)
    slopes = []
    for backend in ("auto", "torch"):
        x = logits.clone().requires_grad_()
        step(x, image, backend=backend).square().sum().backward()
        slopes.append(x.grad)
    assert chosen() == ["llvm"]
    torch.testing.assert_close(*slopes, rtol=1e-12, atol=1e-12 * float(slopes[1].abs().max()))


# --------------------------------------------------------------------------- agreement


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@steps
def test_all_backends_agree(step, dtype):
    """To 64 roundings of the largest score of a class, which alpha = 0.95 makes of a few."""
    pytest.importorskip("llvmlite")
    logits, image = make(70, 90, 21, dtype)
    if step is STEPS["bilateral"]:
        logits = logits[..., :9, :12]
    scores = {backend: step(logits, image, backend=backend) for backend in ("torch", "llvm")}
    if torch.cuda.is_available() and importlib.util.find_spec("triton"):
        scores["triton"] = step(logits.cuda(), image.cuda(), backend="triton").cpu()
    for one, other in itertools.combinations(scores, 2):
        deviation = (scores[one] - scores[other]).abs().amax((2, 3))
        largest = scores[other].abs().amax((2, 3))
        assert (deviation <= 64 * torch.finfo(dtype).eps * largest).all(), (one, other)


# --------------------------------------------------------------------------- imports

LAZY = """
import sys, torch, lpprop
small = torch.rand(1, 2, 8, 9), torch.rand(1, 3, 8, 9)
lpprop.propagate_pixels(*small)
lpprop.joint_bilateral_upsample(*small)
loaded = {name for name in sys.modules if name.startswith(("llvmlite", "lpprop.kernels."))}
assert not loaded & {"llvmlite", "lpprop.kernels.llvm", "lpprop.kernels.triton"}, loaded
print("lazy")
"""


def test_compilers_are_imported_where_they_are_used():
    """A small call costs no import of a compiler, nor does `import lpprop`."""
    done = subprocess.run(
        [sys.executable, "-c", LAZY], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "lazy"


PACKAGES = {"torch": "portable", "llvm": "llvm", "triton": "triton"}


@pytest.mark.parametrize("backend", PACKAGES)
def test_every_backend_offers_the_interface(backend):
    """Functions of the names and arguments of `Kernels`, none of which hides a module."""
    pytest.importorskip({"torch": "torch", "llvm": "llvmlite"}.get(backend, backend))
    kernels = backends._load(backend)
    assert kernels.__name__ == f"lpprop.kernels.{PACKAGES[backend]}"
    assert isinstance(kernels, Kernels)
    for name in ("build_stencil", "forecast_stencil", "upsample", "build_gibbs_kernel"):
        expected = list(inspect.signature(getattr(Kernels, name)).parameters)[1:]
        assert list(inspect.signature(getattr(kernels, name)).parameters) == expected
    for name in kernels.__all__:
        assert importlib.util.find_spec(f"{kernels.__name__}.{name}") is None


def test_every_backend_has_its_kernels():
    assert set(PACKAGES) == set(backends.BACKENDS) - {"auto"}
    assert (
        backends.kernels_for("torch", torch.zeros(1), ("image", torch.zeros(1)), 0, worth=0)
        is portable
    )
