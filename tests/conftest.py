"""What all tests share: one Hypothesis profile, the backends of a CPU, and the golden cases."""

import os

# One thread a worker, before torch reads it: workers that share cores wait on each other's threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

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

GOLDEN = Path(__file__).parents[2] / "shared" / "golden"
SOURCE = Path(__file__).parents[1] / "src" / "lpprop"


def pytest_configure(config):
    """Look for doctests in no file whose import needs a package that is not there."""
    needs = {
        "kernels/triton": "triton",
        "kernels/llvm": "llvmlite",
        "backbones/clip.py": "transformers",
        "backbones/vision_transformer.py": "transformers",
        "backbones/stable_diffusion.py": "diffusers",
        "integrations/huggingface.py": "transformers",
        "backbones/efficientnet_lite.py": "efficientnet_lite_pytorch",
        "segmenter.py": "efficientnet_lite_pytorch",
        "dense_crf.py": "pydensecrf",
        "presets/baselines.py": "pydensecrf",
        "evaluation/analyses": "matplotlib",
    }
    absent = [name for name in needs if importlib.util.find_spec(needs[name]) is None]
    ignored = [str(SOURCE / name) for name in absent]
    config.option.ignore = [*(config.option.ignore or []), *ignored]


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
