"""Hyper-parameter sweeps: a method at every point of a grid of its options."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
from torch import Tensor

from lpprop._core.errors import InputError
from lpprop._core.text import markdown_table, percent
from lpprop.compose import presets
from lpprop.evaluation.predictors import Start, refinements
from lpprop.evaluation.report import Report
from lpprop.evaluation.runner import evaluate
from lpprop.evaluation.task import Samples
from lpprop.viz.figures import MARKERS, Drawn, colour, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Sweep", "SweepRow", "sweep"]


class SweepRow(NamedTuple):
    """The metrics, in [0, 1], at one point of the grid, and the seconds per image."""

    values: dict[str, Any]
    miou: float
    boundary_iou: float
    seconds: float


@dataclass(frozen=True)
class Sweep(Drawn):
    """A method's metrics over a grid of its options.

    Attributes:
        grid: the values of each option.
        rows: a row per point, in the grid's order; the last option varies fastest.
        report: the report with the metrics of each image.
    """

    grid: Mapping[str, Sequence[Any]]
    rows: list[SweepRow]
    report: Report

    @property
    def best(self) -> SweepRow:
        """The row with the highest mIoU, the first one in a tie."""
        return max(self.rows, key=lambda row: row.miou)

    def through_best(self, option: str) -> list[SweepRow]:
        """Return the rows that differ from the best in one option only."""
        fixed = {name: value for name, value in self.best.values.items() if name != option}
        return [row for row in self.rows if fixed.items() <= row.values.items()]

    def to_markdown(self) -> str:
        """Return the rows as Markdown, metrics in percent."""
        lines = [
            [
                *(_text(value) for value in row.values.values()),
                percent(row.miou),
                percent(row.boundary_iou),
                f"{row.seconds:.3g}",
            ]
            for row in self.rows
        ]
        return markdown_table([*self.grid, "mIoU", "Boundary IoU", "seconds per image"], lines)

    def figure(self) -> Figure:
        """Draw a column per option, through the best point: the other options have its values."""
        columns = len(self.grid)
        figure, axes = new_figure(0.9 + 2.7 * columns, 4.6, 2, columns, sharex="col", sharey="row")
        for number, (label, of) in enumerate(_METRICS.items()):
            panels = axes[number * columns : (number + 1) * columns]
            for axis, option in zip(panels, self.grid, strict=True):
                self._draw(axis, option, number, of)
            panels[0].set_ylabel(label)
        for axis, option in zip(axes[columns:], self.grid, strict=True):
            axis.set_xlabel(option)
        best = ", ".join(f"{name} {_text(value)}" for name, value in self.best.values.items())
        others = "; each column varies one of them" if columns > 1 else ""
        figure.suptitle(f"highest mIoU at {best}{others}", fontsize=10)
        return figure

    def _draw(self, axis: Axes, option: str, number: int, of: Callable[[SweepRow], float]) -> None:
        rows = self.through_best(option)
        values = [row.values[option] for row in rows]
        numbers = all(isinstance(value, Real) and not isinstance(value, bool) for value in values)
        places = values if numbers else list(range(len(values)))
        points = sorted(zip(places, (100 * of(row) for row in rows), strict=True))
        axis.plot(
            *zip(*points, strict=True),
            color=colour(number),
            marker=MARKERS[number],
            markersize=5,
            linestyle="-" if numbers else "",
        )
        axis.plot(
            places[rows.index(self.best)],
            100 * of(self.best),
            marker="o",
            markersize=12,
            markerfacecolor="none",
            markeredgecolor=colour(number),
        )
        if numbers and min(values) > 0 and max(values) >= 20 * min(values):
            axis.set_xscale("log")
            axis.minorticks_off()
        axis.set_xticks(places, [_text(value) for value in values], fontsize=9)
        axis.margins(x=0.1, y=0.15)


_METRICS: dict[str, Callable[[SweepRow], float]] = {
    "mIoU (%)": lambda row: row.miou,
    "Boundary IoU (%)": lambda row: row.boundary_iou,
}


def sweep(
    dataset: Samples,
    start: Callable[[Any], Start],
    method: str | Callable[..., Callable[..., Tensor]],
    grid: Mapping[str, Sequence[Any]],
    out: Path | None = None,
    **options: Any,
) -> Sweep:
    """Evaluate a method at every point of a grid of its options.

    The start of each image is made once for all points.

    Args:
        dataset: as `evaluate` takes it.
        start: makes the `Start` of a sample.
        method: a preset's name, or a function that builds a method from keywords, such as
            `functools.partial(lpprop.presets.lposs, gamma=7.0)`.
        grid: the values of each option, such as `{"k": [50, 100], "sigma": [0.0, 0.01]}`.
        out: as `evaluate` takes it, which also resumes a sweep that was ended.
        options: further options of `evaluate`, such as `limit` and `processes`.

    Raises:
        InputError: an empty grid, or an unknown method or option.
    """
    grid = _check_grid(grid)
    for name, values in grid.items():
        if len(set(map(repr, values))) < len(values):
            raise InputError.of(
                "grid",
                got=f"{name}={list(values)!r}",
                expected="each value once",
                fix="Remove the duplicates.",
            )
    if not (isinstance(method, str) or callable(method)):
        raise InputError.of(
            "method",
            got=type(method).__name__,
            expected="a preset's name, or a function that builds a method",
            fix='Pass "lposs".',
        )
    make = partial(presets.by_name, method) if isinstance(method, str) else method
    points = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    methods = {_name(point): make(**point) for point in points}
    report = evaluate(dataset, refinements(start, methods), out, **options)
    rows = [
        SweepRow(point, row.miou, row.boundary_iou, row.seconds)
        for point, row in zip(points, report.rows(), strict=True)
    ]
    return Sweep(dict(grid), rows, report)


def _check_grid(grid: object) -> dict[str, list[Any]]:
    """Return the values of each option, those of NumPy as Python's own."""
    listed = isinstance(grid, Mapping) and all(
        isinstance(values, (Sequence, np.ndarray)) and not isinstance(values, str) and len(values)
        for values in grid.values()
    )
    if not (listed and grid):
        raise InputError.of(
            "grid",
            got=repr(grid),
            expected="one or more values for each of one or more options",
            fix="Pass grid={'k': [50, 100, 200]}.",
        )
    return {
        str(name): [one.item() if isinstance(one, np.generic) else one for one in values]
        for name, values in cast(Mapping[str, Sequence[Any]], grid).items()
    }


def _name(point: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in point.items())


def _text(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
