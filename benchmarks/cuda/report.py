"""What was found on a GPU, as Markdown."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from lpprop._core.text import markdown_table

from ..contract import machine, version_of
from ..report import number, table
from .outcome import Outcome

PACKAGES = "lpprop torch triton numpy monai"
ON_CPU = "lpprop, on the CPU"


def report(
    device: str,
    tests: Outcome,
    result: dict[str, Any] | None,
    problems: Sequence[str],
    sections: Mapping[str, str] | None = None,
    notes: Sequence[str] = (),
) -> str:
    """All of it as Markdown."""
    lines = ["# lpprop on a GPU", "", *environment(device), "", "## Tests", ""]
    lines += [
        f"{tests.passed} passed, {len(tests.failed)} failed, {tests.skipped} skipped "
        f"in {tests.seconds:.0f} s.",
        *(["", *(f"- {line}" for line in tests.failed)] if tests.failed else []),
        "",
        *promised(tests),
    ]
    for name, text in (sections or {}).items():
        lines += [f"## {name}", "", text, ""]
    lines += ["## Beside others", "", *(x for note in notes for x in (note, ""))]
    if problems:
        lines += ["Not measured:", "", *(f"- {line}" for line in problems), ""]
    if result is None:
        lines += ["Nothing was measured."]
    else:
        lines += [*summary(result), "", table(result)]
    return "\n".join(lines) + "\n"


def promised(tests: Outcome) -> list[str]:
    """Return the counts of each function of tests, folded in."""
    if not tests.promises:
        return []
    lines = [[name, *map(str, counts)] for name, counts in tests.promises.items()]
    rows = markdown_table(["test", "passed", "failed", "skipped"], lines)
    return ["<details><summary>By test</summary>", "", rows, "", "</details>", ""]


def environment(device: str) -> list[str]:
    name = torch.cuda.get_device_name() if device == "cuda" else f"the suite's {device} device"
    capability = ".".join(map(str, torch.cuda.get_device_capability())) if device == "cuda" else "-"
    host = machine()
    return [
        "| | |",
        "|---|---|",
        f"| device | {name} |",
        f"| compute capability | {capability} |",
        f"| driver | {driver()} |",
        f"| CUDA of torch | {torch.version.cuda or 'none'} |",
        *(f"| {package} | {version_of(package)} |" for package in PACKAGES.split()),
        f"| CPU | {host['cpu']}, {host['cores']} cores, {host['threads']} threads |",
    ]


def driver() -> str:
    """The NVIDIA driver's version, as its own tool tells it."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return "unknown"
    query = [tool, "--query-gpu=driver_version", "--format=csv,noheader"]
    answer = subprocess.run(query, capture_output=True, text=True, check=False).stdout.split()
    return answer[0] if answer else "unknown"


def summary(result: dict[str, Any]) -> list[str]:
    """A line for each work: lpprop's time, and how many times as long the others take."""
    lines = [
        "| | GPU, ms | backend torch, times as long | CPU, times as long |",
        "|---|--:|--:|--:|",
    ]
    for work in result["works"]:
        ours, *others = work["competitors"]
        ratios = {c["name"]: number(c["ratio"]["median"]) for c in others}
        sizes = ", ".join(f"{name} {size}" for name, size in work["sizes"].items())
        cells = (
            f"{work['name']} ({sizes})",
            number(1e3 * ours["seconds"]["median"]),
            ratios.get("lpprop, torch", ""),
            ratios.get(ON_CPU, ""),
        )
        lines.append("| " + " | ".join(cells) + " |")
    return lines
