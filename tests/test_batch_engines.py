"""The scripts of docs/batches.md: the same object under real engines, in processes of theirs."""

import importlib.util
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
SCRIPTS = sorted((DOCS / "scripts").glob("batch_*.py"))
SHAPES = {"0": "(48, 64)", "1": "(64, 48)", "2": "(40, 40)"}


def require(*packages):
    for package in packages:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")


def run_here(script, tmp_path, monkeypatch, capsys):
    """Run a script in this process; return the lines that it prints."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    runpy.run_path(str(DOCS / "scripts" / f"batch_{script}.py"), run_name="__main__")
    return capsys.readouterr().out.splitlines()


def run_apart(arguments, tmp_path):
    """Run Python in a process of its own, which starts others; return the lines that it prints."""
    settings = {"HF_DATASETS_CACHE": str(tmp_path), "TMPDIR": str(tmp_path), "RAY_TMPDIR": "/tmp"}
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True, text=True, check=False, env=os.environ | settings, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout.splitlines()


def test_the_page_names_every_script():
    named = re.findall(r"\(scripts/(batch_\w+\.py)\)", (DOCS / "batches.md").read_text("utf-8"))
    assert sorted(set(named)) == [path.name for path in SCRIPTS]


def test_a_plain_loop(tmp_path, monkeypatch, capsys):
    require("efficientnet_lite_pytorch")
    done, failed = run_here("loop", tmp_path, monkeypatch, capsys)
    assert done == str({f"{name}.png": eval(shape) for name, shape in SHAPES.items()})
    assert failed.startswith("{'3.png': ")
    assert "which cannot be read" in failed


# WebDataset leaves a file to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_webdataset(tmp_path, monkeypatch, capsys):
    require("efficientnet_lite_pytorch", "webdataset")
    (line,) = run_here("webdataset", tmp_path, monkeypatch, capsys)
    assert line == str({name: eval(shape) for name, shape in SHAPES.items()})


def test_datasets(tmp_path):
    require("efficientnet_lite_pytorch", "datasets")
    rows = run_apart([DOCS / "scripts" / "batch_datasets.py"], tmp_path)
    assert rows == [f"{n} {shape} fine" for n, shape in SHAPES.items()] + ["3 (48, 48) fine"]


def test_a_data_loader_with_workers(tmp_path):
    rows = run_apart([DOCS / "scripts" / "batch_torch.py"], tmp_path)
    assert rows == [f"{n} ({48 + n % 2 * 16}, 64) True" for n in range(6)]


# A cluster that believes to have two GPUs; torch is told the same, and computes nothing on them.
ON_RAY = """
import runpy
import sys

import ray

ray.init(num_cpus=2, num_gpus=2, include_dashboard=False)


@ray.remote
def choose():
    import torch
    from lpprop.batch.devices import _choose

    torch.cuda.is_available = lambda: True
    torch.cuda.device_count = lambda: 1
    return _choose(None)


print(*ray.get([choose.options(num_gpus=1).remote(), choose.options(num_cpus=1).remote()]))
runpy.run_path(sys.argv[1], run_name="__main__")
"""


def test_ray_data(tmp_path):
    """One cluster for all that is asked of Ray, since its start takes most of the time."""
    require("efficientnet_lite_pytorch", "ray", "pyarrow")
    chosen, *rows = run_apart(["-c", ON_RAY, DOCS / "scripts" / "batch_ray.py"], tmp_path)
    assert chosen == "cuda:0 cpu"
    assert rows[:3] == [f"{name}.png {shape} fine" for name, shape in SHAPES.items()]
    assert rows[3].startswith("3.png (0, 0) image: got ")
    assert len(rows) == 4
