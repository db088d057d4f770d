"""What a benchmark is made of: a task, and several ways to do it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Competitor:
    """One way to do the work; `run` takes nothing and returns the result.

    `target` is the aim for its time over lpprop's; 2.5 reads "lpprop is to be 2.5 times faster".
    `limit` is the aim for its peak memory beyond inputs and output, in MiB. One that does other
    work, such as a bare matrix product for a floor, is not `comparable`; its time counts `times`
    times, where it does that part of the work. `device` is where it runs, if not on the work's.
    """

    name: str
    note: str
    run: Callable[[], Any]
    target: float | None = None
    limit: float | None = None
    comparable: bool = True
    times: float = 1.0
    device: str | None = None


def aim(device: str, ratio: float) -> float | None:
    """The target of a competitor: aims are for a CPU."""
    return ratio if device == "cpu" else None


@dataclass(frozen=True)
class Work:
    """A task at fixed sizes. `tolerance` bounds max |a - b| / max |a| of comparable results."""

    name: str
    sizes: Mapping[str, int]
    tolerance: float
    competitors: Sequence[Competitor]
