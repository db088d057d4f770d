"""Compare ratios with those of a release: what fell by more than its spread."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lpprop._core.text import markdown_table

#: The ratios of several runs, by the name of a row and of its yardstick.
Ratios = Mapping[tuple[str, str], Sequence[float]]

# A smaller fall is none: what a process is given of memory and threads differs as much.
LEAST = 0.15
# On another kind of machine vectors, caches and libraries differ, and ratios with them.
ELSEWHERE = 0.5


@dataclass(frozen=True)
class Verdict:
    """A row of the table. Ratios are a yardstick's time over lpprop's: larger is better.

    Attributes:
        allowed: the share by which the ratio may fall.
        said: "fell", "rose", "holds", "missing" (not measured now) or "new" (not recorded).
    """

    row: str
    yardstick: str
    recorded: float | None
    now: float | None
    allowed: float | None
    said: str


def judge(recorded: Ratios, now: Ratios, *, same_machine: bool = True) -> list[Verdict]:
    """Judge each ratio by the spread of its recorded runs: the medians of the runs are compared.

    The spread is the largest run over the least; a ratio falls if it is divided by more than that,
    and by more than `LEAST` allows (`ELSEWHERE` on another kind of machine).

    >>> judge({("a", "b"): [2.0, 2.1, 1.9]}, {("a", "b"): [1.0]})[0].said
    'fell'
    """
    verdicts = []
    for row, yardstick in [*recorded, *(key for key in now if key not in recorded)]:
        before, after = recorded.get((row, yardstick)), now.get((row, yardstick))
        if before is None or after is None:
            said, only = ("new", after) if before is None else ("missing", before)
            middle = statistics.median(only or ())
            pair = (None, middle) if before is None else (middle, None)
            verdicts.append(Verdict(row, yardstick, *pair, None, said))
            continue
        spread = max(before) / min(before)
        least = LEAST if same_machine else ELSEWHERE
        factor = max(spread, 1 / (1 - least))
        middles = statistics.median(before), statistics.median(after)
        fall = math.log(middles[0] / middles[1])
        said = "holds" if abs(fall) <= math.log(factor) else "fell" if fall > 0 else "rose"
        verdicts.append(Verdict(row, yardstick, *middles, 1 - 1 / factor, said))
    return verdicts


def fallen(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Return what fell."""
    return [verdict for verdict in verdicts if verdict.said == "fell"]


def table(verdicts: Sequence[Verdict]) -> str:
    """Return the verdicts in Markdown, falls first."""
    order = ("fell", "missing", "new", "rose", "holds")
    lines = [
        [f"{v.row} / {v.yardstick}", _write(v.recorded), _write(v.now), _change(v),
         "–" if v.allowed is None else f"-{v.allowed:.0%}", v.said]
        for v in sorted(verdicts, key=lambda v: order.index(v.said))
    ]  # fmt: skip
    head = ["yardstick's time / lpprop's", "recorded", "now", "change", "allowed", ""]
    return markdown_table(head, lines)


def _write(ratio: float | None) -> str:
    return "–" if ratio is None else f"{ratio:.3g}"


def _change(verdict: Verdict) -> str:
    if verdict.recorded is None or verdict.now is None:
        return "–"
    return f"{verdict.now / verdict.recorded - 1:+.0%}"
