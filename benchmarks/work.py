"""What a benchmark is made of: a task, and several ways to do it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Competitor:
    """One way to do the work; `run` takes nothing and returns the result.

    `target` is the aim for the ratio of its time to lpprop's: 2.5 asks lpprop to be 2.5 times
    faster. `limit` is the aim for its peak memory beyond inputs and output, in MiB. A competitor
    that does other work, such as a bare matrix product as a floor, is not `comparable`. If it does
    a part of the work only, its time counts `times` times.
    `device` is where it runs, if not on the work's device. If `clocked`, it returns its result and
    the seconds that it measured, since what starts its process does not count.
    """

    name: str
    note: str
    run: Callable[[], Any]
    target: float | None = None
    limit: float | None = None
    comparable: bool = True
    times: float = 1.0
    device: str | None = None
    clocked: bool = False


def aim(device: str, ratio: float) -> float | None:
    """Return a target on a CPU, and none on other devices: the aims were set for a CPU."""
    return ratio if device == "cpu" else None


@dataclass(frozen=True)
class Work:
    """A task at fixed sizes. `tolerance` bounds max |a - b| / max |a| of comparable results."""

    name: str
    sizes: Mapping[str, int]
    tolerance: float
    competitors: Sequence[Competitor]
