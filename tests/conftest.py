"""What all tests share: one Hypothesis profile, the backends of a CPU, and the golden cases."""

import os

# One thread a worker, before torch reads it: workers that share cores wait on each other's threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import atexit
import contextlib
import gc
import importlib.util
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings

import fake_device

# Derandomised: a failure is the same on every machine, and a green run stays green.
settings.register_profile(
    "lpprop",
    derandomize=True,
    deadline=None,
    max_examples=20,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("lpprop")

# The suite keeps machine code for its own run, and shares it among its processes.
if "PYTEST_XDIST_WORKER" not in os.environ:
    _machine_code = tempfile.TemporaryDirectory(prefix="lpprop-tests-")
    atexit.register(_machine_code.cleanup)
    os.environ["LPPROP_CACHE"] = _machine_code.name

GOLDEN = Path(__file__).parents[2] / "shared" / "golden"
SOURCE = Path(__file__).parents[1] / "src" / "lpprop"


def pytest_configure(config):
    """Look for doctests in no file whose import needs a package that is not there."""
    config.addinivalue_line("markers", "gpu: runs on a CUDA device where there is one")
    config.addinivalue_line("markers", "slow_browser: runs with --all-browser-tests alone")
    config.addinivalue_line("markers", "cluster: runs with --cluster-tests alone")
    needs = {
        "kernels/triton": "triton",
        "kernels/llvm": "llvmlite",
        "app/": "gradio",
        "backbones/clip.py": "transformers",
        "backbones/sam3.py": "transformers",
        "backbones/tips.py": "transformers",
        "backbones/vision_transformer.py": "transformers",
        "backbones/stable_diffusion.py": "diffusers",
        "backbones/unet.py": "diffusers",
        "backbones/cross_attention.py": "diffusers",
        "integrations/huggingface.py": "transformers",
        "backbones/efficientnet_lite.py": "efficientnet_lite_pytorch",
        "regions/sam.py": "transformers",
        "regions/prompted_sam.py": "transformers",
        "regions/panoptic.py": "transformers",
        "inputs/superpixels.py": "skimage",
        "regions/cached.py": "skimage",
        "evaluation/proposed.py": "skimage",
        "segmenter.py": "efficientnet_lite_pytorch",
        "dense_crf.py": "pydensecrf",
        "presets/baselines.py": "pydensecrf",
        "evaluation/analyses": "matplotlib",
        "cluster/stores.py": "pyarrow",
        "cluster/plans.py": "pyarrow",
    }
    absent = [name for name in needs if importlib.util.find_spec(needs[name]) is None]
    ignored = [str(SOURCE / name) for name in absent]
    config.option.ignore = [*(config.option.ignore or []), *ignored]


def pytest_collection_finish():
    """Spare the garbage collector what stays to the end: it runs before each peak of memory."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(config, items):
    """Skip what takes long in a browser or on a cluster, unless it is asked for."""
    for option, marker, target in (
        ("--all-browser-tests", "slow_browser", "browser"),
        ("--cluster-tests", "cluster", "cluster"),
    ):
        if not config.getoption(option):
            for item in items:
                if item.get_closest_marker(marker):
                    item.add_marker(pytest.mark.skip(reason=f"make {target} runs it"))


def pytest_addoption(parser):
    parser.addoption(
        "--all-browser-tests", action="store_true", help="run what takes long in a browser, too"
    )
    parser.addoption(
        "--cluster-tests", action="store_true", help="run what starts a cluster of Ray, too"
    )
    parser.addoption(
        "--device",
        default="cpu",
        choices=["cpu", "cuda", "fake"],
        help="where the contract's tensors are; the tests of devices take a GPU by themselves",
    )


@pytest.fixture
def device(request):
    """The device that --device names."""
    with _device(request.config.getoption("--device")) as device:
        yield device


@pytest.fixture
def there():
    """A device that is not the CPU: a GPU, else the fake device."""
    with _device("cuda" if torch.cuda.is_available() else "fake") as device:
        yield device


@pytest.fixture
def narrow():
    """A device that has no float64, as MPS has none."""
    with _device("fake", double=False) as device:
        yield device


@contextlib.contextmanager
def _device(name, double=True):
    if name == "cuda" and not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    if name != "fake":
        yield torch.device(name)
        return
    if reason := fake_device.why_not():
        pytest.skip(f"there is no fake device: {reason}")
    with fake_device.fake_device(double=double) as device:
        yield device


@pytest.fixture(scope="session", autouse=True)
def nothing_is_compiled_yet():
    """Let "auto" choose in each test as in a new process, whichever tests ran before."""
    from lpprop.kernels import dispatch

    with contextlib.suppress(ImportError):  # before a test makes memory look small
        import lpprop.kernels.llvm  # noqa: F401
    has_compiled = dispatch._has_compiled
    dispatch._has_compiled = lambda: False
    yield has_compiled
    dispatch._has_compiled = has_compiled


@pytest.fixture(scope="session", params=["torch", "llvm"])
def backend(request):
    """Each backend that runs on a CPU."""
    if request.param == "llvm":
        pytest.importorskip("llvmlite")
    return request.param


@pytest.fixture(scope="session")
def golden():
    """Load one golden case by name; skip where the cases are absent."""

    def load(name):
        path = GOLDEN / f"{name}.npz"
        if not path.is_file():
            pytest.skip("the golden cases are not beside this checkout")
        with np.load(path) as arrays:
            return dict(arrays)

    return load
