"""Committed results as Markdown: `python -m benchmarks.report [FILE]`.

Without FILE it prints them. FILE must hold the lines `<!-- benchmarks -->` and
`<!-- /benchmarks -->`; what stands between them is replaced.
"""

import json
import sys
from pathlib import Path
from typing import Any

from .contract import RESULTS, validate

START, END = "<!-- benchmarks -->", "<!-- /benchmarks -->"


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
            f"**{work['name']}** on {work['device']}, {rounds} rounds: "
            + ", ".join(f"{name} {size}" for name, size in work["sizes"].items()),
            "",
            "| | median, ms (quartiles) | time / lpprop's (quartiles) | aim | peak memory, MiB |",
            "|---|--:|--:|--:|--:|",
        ]
        for c in work["competitors"]:
            memory = c["peak_memory_bytes"]
            aim = "" if c["target"] is None else f"≥ {c['target']:g}: {verdict(c)}"
            cells = (
                f"{c['name']}: {c['note']}",
                spread(c["seconds"], 1e3),
                spread(c["ratio"], 1),
                aim,
                "" if memory is None else f"{memory / 2**20:.0f}",
            )
            lines.append("| " + " | ".join(cells) + " |")
        lines += [
            "",
            "; ".join(
                f"{d['competitor']} agrees to {d['max_relative']:.0e} of the maximum"
                for d in work["agreement"]["differences"]
            )
            + ("." if others is None else f". Other processes used {others:.0%} of the CPU time."),
        ]
    return "\n".join(lines)


def verdict(competitor: dict[str, Any]) -> str:
    return "met" if competitor["ratio"]["median"] >= competitor["target"] else "missed"


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


def main(arguments: list[str]) -> None:
    if not arguments:
        print(report())
        return
    file = Path(arguments[0])
    before, rest = file.read_text().split(START)
    after = rest.split(END)[1]
    file.write_text(f"{before}{START}\n{report()}\n{END}{after}")


if __name__ == "__main__":
    main(sys.argv[1:])
