"""Check what a release would upload: `python .ci/check_dist.py FOLDER [--install PYTHON ...]`.

FOLDER holds one wheel and one sdist. The wheel has the package and nothing else, the sdist builds
the same wheel, and an index can render the long description. Each PYTHON gets an empty environment,
with the wheel and what it requires, in which `.ci/smoke.py` runs.
"""

import argparse
import email
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parents[1]
#: What the package reads or shows beside its code.
DATA = {"lpprop/py.typed", "lpprop/refiners/__init__.pyi", "lpprop/backbones/imagenet_classes.txt"}
SUFFIXES = {".css", ".html", ".js", ".json", ".py", ".pyi", ".txt", ".typed"}


class DistributionError(Exception):
    """The distribution is not what it should be."""


def demand(right: object, message: str) -> None:
    """Refuse what is not right."""
    if not right:
        raise DistributionError(message)


def check_wheel(wheel: Path) -> None:
    """Check names, licence and metadata of a wheel."""
    name, version, *tags = wheel.stem.split("-")
    demand(name == "lpprop" and tags == ["py3", "none", "any"], f"odd name: {wheel.name}")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        info = f"{name}-{version}.dist-info"
        demand(f"{info}/METADATA" in names, "the name's version is not that of the metadata")
        metadata = email.message_from_bytes(archive.read(f"{info}/METADATA"))
        entry_points = archive.read(f"{info}/entry_points.txt").decode()
    demand(metadata["Version"] == version, "the name's version is not that of the metadata")
    demand(metadata["License-Expression"] == "MIT", "the licence is not named")
    demand(f"{info}/licenses/LICENSE" in names, "the licence's text is missing")
    demand("lpprop = lpprop.cli:main" in entry_points, "the command is missing")
    package = {name for name in names if not name.startswith(f"{info}/")}
    demand(package >= DATA, f"missing: {sorted(DATA - package)}")
    for found in map(PurePosixPath, package):
        demand(found.parts[0] == "lpprop", f"not of the package: {found}")
        demand(not found.name.startswith(("test_", "conftest")), f"a test: {found}")
        demand("tests" not in found.parts, f"a test: {found}")
        demand(found.suffix in SUFFIXES, f"neither code nor known data: {found}")


def check_sdist(sdist: Path, least: Iterable[str], most: Iterable[str]) -> None:
    """Check that an sdist holds all of these files, and no others than those."""
    with tarfile.open(sdist) as archive:
        inside = {PurePosixPath(member.name) for member in archive if member.isfile()}
    names = {str(path.relative_to(path.parts[0])) for path in inside}
    missing, odd = {*least, "PKG-INFO"} - names, names - {*most, "PKG-INFO"}
    demand(not missing, f"tracked by git, but not in the sdist: {sorted(missing)[:5]}")
    demand(not odd, f"in the sdist, but not tracked by git: {sorted(odd)[:5]}")


def check_same(sdist: Path, wheel: Path) -> None:
    """Check that the sdist builds the wheel, file for file."""
    with tempfile.TemporaryDirectory() as folder, tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
        (source,) = Path(folder).iterdir()
        build = ["-m", "build", "--wheel", "--no-isolation", "--outdir", f"{folder}/built"]
        subprocess.run([sys.executable, *build, source], check=True, stdout=subprocess.DEVNULL)
        (built,) = Path(folder, "built").iterdir()
        demand(contents(built) == contents(wheel), "the sdist builds another wheel")


def contents(wheel: Path) -> dict[str, int]:
    """Map names to checksums."""
    with zipfile.ZipFile(wheel) as archive:
        return {entry.filename: entry.CRC for entry in archive.infolist()}


def check_install(wheel: Path, python: str) -> None:
    """Install the wheel into an empty environment, and refine there."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([python, "-m", "venv", folder], check=True)
        (script,) = (*Path(folder).glob("bin/python"), *Path(folder).glob("Scripts/python.exe"))
        install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", wheel]
        subprocess.run([script, *install], check=True)
        # -I: neither this folder nor PYTHONPATH, so that the wheel is what runs.
        subprocess.run([script, "-I", ROOT / ".ci" / "smoke.py"], check=True, cwd=folder)
        subprocess.run([script, "-I", "-m", "lpprop", "--version"], check=True, cwd=folder)


def git_files(*options: str) -> list[str]:
    """List what git tracks, or what the options of `git ls-files` ask for."""
    command = ["git", "ls-files", "-z", *options]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return listed.stdout.split("\0")[:-1]


def main() -> None:
    """Check a folder of distributions."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--install", nargs="+", metavar="PYTHON", default=[])
    args = parser.parse_args()
    (wheel,), (sdist,) = args.folder.glob("*.whl"), args.folder.glob("*.tar.gz")
    try:
        check_wheel(wheel)
        check_sdist(sdist, git_files(), git_files())
        check_same(sdist, wheel)
    except DistributionError as error:
        sys.exit(f"{args.folder}: {error}")
    subprocess.run([sys.executable, "-m", "twine", "check", "--strict", wheel, sdist], check=True)
    for python in args.install:
        check_install(wheel.resolve(), python)
    print(f"{wheel.name} and {sdist.name} may be released")


if __name__ == "__main__":
    main()
