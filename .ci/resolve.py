"""Resolve the dependencies with the public index, for every Python that pyproject.toml claims.

    python .ci/resolve.py               # all of them
    python .ci/resolve.py 3.13 3.14

It reads metadata and installs nothing, so neither those Pythons nor those platforms are needed.
All extras are resolved at once, since what they resolve to serves any of them alone; but
torch-sparse tells its dependencies only where torch is installed.
"""

import os
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[1]
PLATFORMS = {
    "Linux": "x86_64-manylinux_2_28",
    "Linux on ARM": "aarch64-manylinux_2_28",
    "macOS": "aarch64-apple-darwin",
    "Windows": "x86_64-pc-windows-msvc",
}
PINS = {"with constraints.txt": ["--constraints", "constraints.txt"], "without": []}
# No other index, no folder of wheels and no setting of this machine takes part.
ENVIRONMENT = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith("UV_") or name == "UV_CACHE_DIR"
} | {"MACOSX_DEPLOYMENT_TARGET": "14.0"}  # the first macOS that torch has wheels for


with (ROOT / "pyproject.toml").open("rb") as file:
    PROJECT = tomllib.load(file)["project"]
EXTRAS = [
    x
    for name in PROJECT["optional-dependencies"]
    if name != "torch-sparse"
    for x in ("--extra", name)
]


def claimed():
    """Return the Pythons that pyproject.toml claims, such as "3.11"."""
    prefix = "Programming Language :: Python :: "
    versions = [line.removeprefix(prefix) for line in PROJECT["classifiers"]]
    return [version for version in versions if version.startswith("3.")]


def resolve(python, platform, pins):
    """Return why the dependencies do not resolve, or ""."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--no-config"),
            *("--python-version", python, "--python-platform", platform, *pins),
            # Only pydensecrf2 has no wheels: a compiler builds it.
            *("--only-binary", ":all:", "--no-binary", "pydensecrf2"),
            *EXTRAS,
            "pyproject.toml",
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=ENVIRONMENT,
    )
    return "" if done.returncode == 0 else done.stderr.strip()


def main():
    """Print one line per Python, and why each failure failed; return the exit code."""
    failed = False
    cases = [(name, how) for name in PLATFORMS for how in PINS]
    with ThreadPoolExecutor(len(cases)) as pool:  # what takes time is asking the index
        for python in sys.argv[1:] or claimed():
            jobs = [pool.submit(resolve, python, PLATFORMS[x], PINS[how]) for x, how in cases]
            reasons = [job.result() for job in jobs]
            failing = [f"{x} {how}" for (x, how), why in zip(cases, reasons, strict=True) if why]
            verdict = f"does not resolve: {', '.join(failing)}" if failing else "resolves"
            print(f"Python {python} {verdict}", flush=True)
            print(*filter(None, reasons), sep="\n", end="", file=sys.stderr)
            failed = failed or bool(failing)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
