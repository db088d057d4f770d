"""The wheel: it holds the package and nothing else, and runs from where it was unpacked."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import lpprop

pytest.importorskip("build")
pytest.importorskip("hatchling")

ROOT = Path(__file__).parents[1]
# Every client is told that there is no network, so a test that needed one would fail.
OFFLINE = os.environ | {
    "PIP_NO_INDEX": "1",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "http_proxy": "http://127.0.0.1:9",
    "https_proxy": "http://127.0.0.1:9",
}


def run(*command, **kwargs):
    done = subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        text=True,
        check=False,
        env=OFFLINE,
        **kwargs,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    run("-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT))
    (built,) = folder.iterdir()
    return built


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    assert wheel.name == f"lpprop-{lpprop.__version__}-py3-none-any.whl"
    names = zipfile.ZipFile(wheel).namelist()
    metadata = f"lpprop-{lpprop.__version__}.dist-info/"
    source = ROOT / "src"
    expected = {
        path.relative_to(source).as_posix()
        for path in source.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name for name in names if not name.startswith(metadata)} == expected
    assert {
        "lpprop/py.typed",
        "lpprop/kernels/portable/stencil.py",
        "lpprop/backbones/imagenet_classes.txt",
    } <= expected
    assert f"{metadata}licenses/LICENSE" in names
    assert f"{metadata}entry_points.txt" in names


def test_the_metadata(wheel):
    with zipfile.ZipFile(wheel) as archive:
        metadata = archive.read(f"lpprop-{lpprop.__version__}.dist-info/METADATA").decode()
        entry_points = archive.read(f"lpprop-{lpprop.__version__}.dist-info/entry_points.txt")
    assert "Requires-Python: >=3.11" in metadata
    assert "License-Expression: MIT" in metadata
    required = [line for line in metadata.splitlines() if line.startswith("Requires-Dist: ")]
    core = {line.split()[1].split(">")[0] for line in required if "extra ==" not in line}
    assert {"torch", "numpy", "scipy", "opencv-python", "kornia", "pillow"} <= core
    assert b"lpprop = lpprop.cli:main" in entry_points


def test_the_wheel_runs_from_where_it_is_unpacked(wheel, tmp_path):
    target = tmp_path / "site"
    run("-m", "pip", "install", "--no-deps", "--quiet", "--target", str(target), str(wheel))
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import lpprop, torch, importlib.metadata as metadata\n"
        "scores = lpprop.refine(torch.rand(1, 3, 4, 4), torch.rand(1, 8, 4, 4), "
        "torch.rand(1, 3, 64, 64))\n"
        "assert scores.shape == (1, 3, 64, 64)\n"
        "from pathlib import Path\n"
        "assert (Path(lpprop.__file__).parent / 'py.typed').is_file()\n"
        "assert metadata.version('lpprop') == lpprop.__version__\n"
        "print(lpprop.__file__)"
    )
    # -I: neither this directory nor PYTHONPATH; away from the checkout.
    origin = run("-I", "-c", script, str(target), cwd=tmp_path)
    assert Path(origin.strip()).is_relative_to(target)
