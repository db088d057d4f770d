"""What was recorded per release: a file of ratios, with the machine that gave them."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lpprop._version import __version__

from ..contract import RESULTS, machine, version_of
from .judgement import Ratios

FOLDER = RESULTS / "history"
PACKAGES = "lpprop torch numpy scipy llvmlite kornia faiss-cpu pydensecrf2"
#: What has to be the same for ratios to be comparable to within their spread.
SAME = ("instructions", "cores", "threads", "system")


def gather(runs: Sequence[dict[str, dict[str, float]]]) -> Ratios:
    """Return the ratios of several runs, each {row: {yardstick: ratio}}."""
    found: dict[tuple[str, str], list[float]] = {}
    for run in runs:
        for row, ratios in run.items():
            for yardstick, ratio in ratios.items():
                found.setdefault((row, yardstick), []).append(float(f"{ratio:.4g}"))
    return found


def write(ratios: Ratios, folder: Path = FOLDER) -> Path:
    """Write the file of this version, over an older one of the same."""
    record = {
        "version": __version__,
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(),
        "versions": {"python": platform.python_version()}
        | {package: version_of(package) for package in PACKAGES.split()},
        "ratios": [
            {"row": row, "yardstick": yardstick, "runs": list(runs)}
            for (row, yardstick), runs in ratios.items()
        ],
    }
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{__version__}.json"
    file.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return file


def latest(folder: Path = FOLDER) -> dict[str, Any] | None:
    """Read the newest version that is not newer than this one; None if there is none."""
    found = {_order(file.stem): file for file in folder.glob("*.json")}
    versions = [version for version in found if version <= _order(__version__)]
    if not versions:
        return None
    record: dict[str, Any] = json.loads(found[max(versions)].read_text(encoding="utf-8"))
    return record


def ratios_of(record: dict[str, Any]) -> Ratios:
    """Return the ratios that a file holds."""
    return {(x["row"], x["yardstick"]): x["runs"] for x in record["ratios"]}


def is_here(record: dict[str, Any]) -> bool:
    """Tell whether a file was recorded on a machine of this kind."""
    here = machine()
    return all(record["machine"][name] == here[name] for name in SAME)


def _order(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())
