"""Committed results as Markdown: `python -m benchmarks.report [FILE ...]`.

Without FILE it prints them. In each FILE it renews the tables that are marked `<!-- table ... -->`:
"benchmarks" has all results, "speed" three of them.
"""

import json
import sys
from pathlib import Path
from typing import Any

from lpprop._core.text import markdown_table

from .contract import RESULTS, validate
from .marked import renew

HEAD = [
    "", "median, ms (quartiles)", "time / lpprop's (quartiles)", "aim", "peak memory, MiB",
]  # fmt: skip
#: What the README shows: a step, its benchmark, whose first sizes it names, and the names of the
#: others by their competitors.
SPEED = [
    ("pixels: {H} x {W}, r {r}, {C} classes", "pixel step",
     {"SciPy, CSR": "SciPy", "DenseCRF": "DenseCRF", "PAMR, added": "PAMR"}),
    ("patches: {patches:,} of {windows} windows, k {k}, {C} classes", "patch step",
     {"SciPy + faiss-cpu": "SciPy with faiss"}),
    ("maximum velocity: {N:,} patches, {C} classes", "maximum velocity and its products",
     {"products alone": "its matrix products by PyTorch alone"}),
]  # fmt: skip


def table(result: dict[str, Any]) -> str:
    machine, versions = result["machine"], result["versions"]
    lines = [
        f"{machine['gpu'] or machine['cpu']}, "
        f"{machine['cores']} CPU cores ({machine['instructions']}), "
        f"{machine['threads']} threads, {machine['system']}; "
        + ", ".join(f"{name} {number}" for name, number in versions.items())
        + f"; {result['date']}"
    ]
    for work in result["works"]:
        rounds = len(work["competitors"][0]["seconds"]["values"])
        others = work["cpu_share_of_other_processes"]
        lines += [
            "",
            f"**{work['name']}** on {work['device']}, {rounds} round{'s'[: rounds - 1]}: "
            + ", ".join(f"{name} {size}" for name, size in work["sizes"].items()),
            "",
            markdown_table(HEAD, [row(competitor) for competitor in work["competitors"]]),
        ]
        agreed = "; ".join(
            f"{d['competitor']} agrees to {d['max_relative']:.0e} of the maximum"
            for d in work["agreement"]["differences"]
        )
        used = others is not None and f"Other processes used {others:.0%} of the CPU time"
        if agreed or used:
            lines += ["", ". ".join(filter(None, (agreed, used))) + "."]
    return "\n".join(lines)


def row(competitor: dict[str, Any]) -> list[str]:
    memory = competitor["peak_memory_bytes"]
    return [
        f"{competitor['name']}: {competitor['note']}",
        spread(competitor["seconds"], 1e3),
        spread(competitor["ratio"], 1),
        aims(competitor),
        "" if memory is None else f"{memory / 2**20:.0f}",
    ]


def aims(competitor: dict[str, Any]) -> str:
    """State the aims in time and in memory, and whether they were reached."""
    said, verdict = [], {True: "met", False: "missed"}
    target, limit = competitor["target"], competitor.get("limit")
    if target is not None:
        said.append(f"≥ {target:.3g}: {verdict[competitor['ratio']['median'] >= target]}")
    if limit is not None:
        peak = competitor["peak_memory_bytes"]
        beyond = None if peak is None else (peak - competitor["output_bytes"]) / 2**20
        measured = "not measured" if beyond is None else f"{beyond:.0f}, {verdict[beyond <= limit]}"
        said.append(f"memory beyond the output ≤ {limit:,.0f} MiB: {measured}")
    return "; ".join(said)


def spread(statistics: dict[str, Any], scale: float) -> str:
    median, q1, q3 = (number(scale * statistics[key]) for key in ("median", "q1", "q3"))
    return f"{median} ({q1}–{q3})"


def number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def report() -> str:
    sections = []
    for file in sorted(RESULTS.glob("*.json")):
        result = json.loads(file.read_text())
        validate(result)
        if result["quick"]:
            raise ValueError(f"{file.name} is a --quick result, which says nothing about speed")
        sections.append(
            f"### {result['benchmark'].replace('_', ' ').capitalize()}\n\n{table(result)}"
        )
    return "\n\n".join(sections)


def speed() -> str:
    """Return three steps with their times and those of others, for the README."""
    works = json.loads((RESULTS / "speed_cpu.json").read_text())["works"]
    lines = []
    for step, name, names in SPEED:
        work = next(work for work in works if work["name"] == name)
        times = {competitor["name"]: competitor for competitor in work["competitors"]}
        ours = next(time for name, time in times.items() if name.startswith("lpprop"))
        others = [
            f"{name} {seconds(times[found])} ({times[found]['ratio']['median']:.2g})"
            for found, name in names.items()
        ]
        lines.append([step.format(**work["sizes"]), seconds(ours), ", ".join(others)])
    return markdown_table(["step", "lpprop", "others (their time / lpprop's)"], lines)


def seconds(competitor: dict[str, Any]) -> str:
    return f"{competitor['seconds']['median']:.2g} s"


def main(arguments: list[str]) -> None:
    if not arguments:
        print(report())
    for file in arguments:
        renew(Path(file), {"benchmarks": report(), "speed": speed()})


if __name__ == "__main__":
    main(sys.argv[1:])
