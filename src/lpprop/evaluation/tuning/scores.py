"""The rows of a result: scores, verdicts, and the worth of options; and how they are written."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from lpprop._core.text import percent
from lpprop.evaluation.intervals import Difference, Interval

__all__ = ["Score", "Verdict", "Worth", "points", "write_gain", "write_interval"]


class Score(NamedTuple):
    """A row of the table; metrics are shares in [0, 1].

    Attributes:
        method: the preset's name, or `ALL`.
        tried: number of settings that were tried.
        preset: the preset as it is, with its 95 % interval; None for `ALL`, or if it failed.
        tuned: the best setting on the images that it was chosen by; NaN if none was searched.
        held_out: the best settings of the other folds on each fold, with the interval.
    """

    method: str
    tried: int
    preset: Interval | None
    tuned: float
    held_out: Interval | None

    @property
    def optimism(self) -> float:
        """How much the choice flatters itself: the tuned score minus the held-out one."""
        return math.nan if self.held_out is None else self.tuned - self.held_out.value


class Verdict(NamedTuple):
    """What the search gained over another method, on held-out folds.

    Attributes:
        over: the method that it is compared with.
        difference: the gain with its 95 % interval, over the same draws of images.
    """

    over: str
    difference: Difference

    @property
    def beyond_chance(self) -> bool:
        """Whether the interval of the gain is above 0."""
        return self.difference.low > 0

    def __str__(self) -> str:
        gain, low, high, _ = self.difference
        if gain == low == high == 0:
            return f"On held-out folds the choice is the same as {self.over}."
        side = f"{'beats' if gain > 0 else 'does not beat'} {self.over}: {points(gain)} points"
        chance = "no more than chance"
        if self.beyond_chance:
            chance = "beyond chance"
        elif high < 0:
            chance = "worse beyond chance"
        return f"On held-out folds the choice {side} ({points(low)} to {points(high)}): {chance}."


class Worth(NamedTuple):
    """What one option of the best setting is worth.

    Attributes:
        option: its name.
        value: its value in the best setting.
        preset: its value in the preset.
        difference: the best setting minus the same with the preset's value, on all images.
    """

    option: str
    value: Any
    preset: Any
    difference: Difference


def points(share: float) -> str:
    """Write a difference in points.

    >>> points(0.0123)
    '+1.2'
    """
    return f"{100 * share:+.1f}"


def write_interval(interval: Interval | None) -> str:
    """Write a metric and its interval in percent; None becomes a dash.

    >>> write_interval(Interval(0.5, 0.45, 0.56))
    '50.0 (45.0 to 56.0)'
    """
    if interval is None:
        return "–"
    value, low, high = (percent(x, 1) for x in interval)
    return f"{value} ({low} to {high})"


def write_gain(difference: Difference) -> str:
    """Write a gain and its interval in points.

    >>> write_gain(Difference(0.01, -0.002, 0.02, 3))
    '+1.0 (-0.2 to +2.0)'
    """
    gain, low, high, _ = difference
    return f"{points(gain)} ({points(low)} to {points(high)})"
