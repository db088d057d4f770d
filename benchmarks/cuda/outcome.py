"""The tests that use a GPU where there is one, run on a device, and what pytest counted."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Outcome:
    """What pytest counted; `failed` has a line for each test that failed or could not start.

    `promises` has the numbers passed, failed and skipped for each function of tests.
    """

    passed: int
    skipped: int
    failed: Sequence[str]
    seconds: float
    promises: Mapping[str, Sequence[int]] = field(default_factory=dict)


def list_files() -> list[Path]:
    """List the files that have such tests."""
    return [x for x in sorted((ROOT / "tests").glob("test_*.py")) if "mark.gpu" in x.read_text()]


def run_tests(device: str, *arguments: str) -> Outcome:
    """Run the tests of these files that use a GPU, on a device."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "tests.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "gpu"]
        command += ["--device", device, f"--junitxml={result}", *arguments, *map(str, list_files())]
        done = subprocess.run(command, cwd=ROOT, check=False)
        if not result.is_file():
            raise RuntimeError(f"pytest ended with {done.returncode}, and counted nothing")
        return counted(ElementTree.parse(result).getroot())


def counted(results: ElementTree.Element) -> Outcome:
    """Read the counts off pytest's JUnit file."""
    failed, promises = [], {}
    for case in results.iter("testcase"):
        name = f"{case.get('classname', '').removeprefix('tests.')}::{case.get('name')}"
        counts = promises.setdefault(name.split("[")[0], [0, 0, 0])
        wrong = [x for kind in ("failure", "error") if (x := case.find(kind)) is not None]
        if wrong:
            failed.append(f"{name}: {wrong[0].get('message', '').split(chr(10))[0]}")
        counts[1 if wrong else 2 if case.find("skipped") is not None else 0] += 1
    seconds = sum(float(suite.get("time", 0)) for suite in results.iter("testsuite"))
    passed, _, skipped = (sum(counts[i] for counts in promises.values()) for i in range(3))
    return Outcome(passed, skipped, failed, seconds, promises)
