"""What all tests share: one Hypothesis profile, and the golden cases."""

import os

# One thread a worker, before torch reads it: workers that share cores wait on each other's threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")

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
