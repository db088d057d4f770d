"""The benchmarks' own tests: results keep the contract, and the yardstick computes the equations. Nothing is timed."""

import copy
import json
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("faiss", reason="the benchmarks compare with faiss-cpu (extra `bench`)")
jsonschema = pytest.importorskip("jsonschema", reason="results are checked by jsonschema")
sys.path.insert(0, str(Path(__file__).parents[1]))  # benchmarks/ is no part of the package

from benchmarks import contract, label_propagation, report, scipy_reference  # noqa: E402
from benchmarks.inputs import scene  # noqa: E402

from . import reference  # noqa: E402
