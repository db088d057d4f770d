"""What a release uploads: the wheel holds the package and nothing else, and runs from where it was
unpacked; the sdist holds what git tracks, and builds the same wheel.
"""

import importlib.util
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
spec = importlib.util.spec_from_file_location("check_dist", ROOT / ".ci" / "check_dist.py")
check_dist = importlib.util.module_from_spec(spec)
spec.loader.exec_module(check_dist)
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
def folder(tmp_path_factory):
    """The wheel and the sdist, each built from the checkout."""
    folder = tmp_path_factory.mktemp("dist")
    options = ("--sdist", "--wheel", "--no-isolation", "--outdir", str(folder))
    run("-m", "build", *options, str(ROOT))
    return folder


@pytest.fixture(scope="module")
def wheel(folder):
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def sdist(folder):
    (built,) = folder.glob("*.tar.gz")
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
    check_dist.check_wheel(wheel)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tests/test_api.py", "not of the package"),
        ("lpprop/test_api.py", "a test"),
        ("lpprop/tests/__init__.py", "a test"),
        ("lpprop/weights.pt", "neither code nor known data"),
    ],
)
def test_a_wheel_with_something_else_is_refused(wheel, tmp_path, name, message):
    other = tmp_path / wheel.name
    with zipfile.ZipFile(wheel) as before, zipfile.ZipFile(other, "w") as after:
        for entry in before.namelist():
            after.writestr(entry, before.read(entry))
        after.writestr(name, "")
    with pytest.raises(check_dist.DistributionError, match=message):
        check_dist.check_wheel(other)


@pytest.mark.parametrize("missing", ["lpprop/py.typed", "licenses/LICENSE"])
def test_a_wheel_that_lacks_something_is_refused(wheel, tmp_path, missing):
    other = tmp_path / wheel.name
    with zipfile.ZipFile(wheel) as before, zipfile.ZipFile(other, "w") as after:
        for entry in before.namelist():
            if not entry.endswith(missing):
                after.writestr(entry, before.read(entry))
    with pytest.raises(check_dist.DistributionError, match=r"missing"):
        check_dist.check_wheel(other)


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="this is no checkout")
def test_the_sdist_holds_what_git_tracks(sdist):
    tracked = check_dist.git_files()
    most = tracked + check_dist.git_files("--others", "--exclude-standard")
    check_dist.check_sdist(sdist, tracked, most)
    with pytest.raises(check_dist.DistributionError, match=r"but not in the sdist: \['odd.py'\]"):
        check_dist.check_sdist(sdist, [*tracked, "odd.py"], most)
    with pytest.raises(
        check_dist.DistributionError, match=r"but not tracked by git: \['README.md'\]"
    ):
        check_dist.check_sdist(sdist, [], set(most) - {"README.md"})


def test_the_sdist_builds_the_same_wheel(sdist, wheel):
    check_dist.check_same(sdist, wheel)


def test_an_index_can_show_the_description(sdist, wheel):
    pytest.importorskip("twine")
    said = run("-m", "twine", "check", "--strict", str(wheel), str(sdist))
    assert said.count("PASSED") == 2


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
