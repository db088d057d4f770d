"""Analyses of single images and classes: how the metrics correlate, and what a method changes.

The figures of LPOSS's supplement (Stojnic et al., CVPR 2025, Figures 5 and 6).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Float

from lpprop._core.errors import InputError
from lpprop._core.options import check_choice, is_listed
from lpprop._core.text import markdown_table, percent
from lpprop.evaluation.report import Report
from lpprop.viz.figures import BETTER, MARKERS, WORSE, Drawn, colour, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Change", "Changes", "ImageScatter", "changes", "image_scatter"]

_METRICS = {"miou": "mIoU", "boundary_iou": "Boundary IoU"}


@dataclass(frozen=True)
class ImageScatter(Drawn):
    """The two metrics of each image, by predictor.

    Attributes:
        miou: by predictor the mIoU of each image, in [0, 1]; NaN where no pixel counts.
        boundary_iou: likewise the mean Boundary IoU.
    """

    miou: Mapping[str, Float[np.ndarray, " images"]]
    boundary_iou: Mapping[str, Float[np.ndarray, " images"]]

    @property
    def correlation(self) -> dict[str, float]:
        """Pearson's correlation over the images, by predictor; NaN for fewer than two images."""
        return {name: _correlation(self.miou[name], self.boundary_iou[name]) for name in self.miou}

    def figure(self) -> Figure:
        """Draw a point per image. Below the diagonal, boundaries are worse than regions."""
        figure, (axis,) = new_figure(5.2, 4.8)
        values = np.concatenate([*self.miou.values(), *self.boundary_iou.values(), [0.0]])
        top = 10 * np.ceil(10 * np.nanmax(values) + 0.1)
        axis.plot([0, top], [0, top], color="0.6", linewidth=1, linestyle="--", zorder=1)
        for number, (name, r) in enumerate(self.correlation.items()):
            axis.scatter(
                100 * self.miou[name],
                100 * self.boundary_iou[name],
                s=24,
                color=colour(number),
                marker=MARKERS[number % len(MARKERS)],
                alpha=0.75,
                linewidths=0,
                label=name if np.isnan(r) else f"{name} (r = {r:.2f})",
            )
        axis.set(
            xlabel="mIoU of the image (%)",
            ylabel="Boundary IoU of the image (%)",
            xlim=(0, top),
            ylim=(0, top),
            aspect="equal",
        )
        axis.legend(frameon=False, loc="upper left")
        return figure


def image_scatter(report: Report, predictors: Sequence[str] | None = None) -> ImageScatter:
    """Plot the mIoU of each image against its Boundary IoU.

    Args:
        report: the report of `evaluate`.
        predictors: names of the predictors; all if None.

    Raises:
        InputError: a predictor that is not in the report.
    """
    check_report(report)
    if not (predictors is None or is_listed(predictors)):
        raise InputError.of(
            "predictors",
            got=repr(predictors),
            expected="a list of names",
            fix=f"Pass {list(report)}, or some of them.",
        )
    results = [report[name] for name in (report if predictors is None else predictors)]
    return ImageScatter(
        {result.name: result.image_miou for result in results},
        {result.name: result.image_boundary_iou for result in results},
    )


def check_report(report: object) -> None:
    """Refuse what is no report."""
    if not isinstance(report, Report):
        raise InputError.of(
            "report",
            got=type(report).__name__,
            expected="a Report",
            fix="Pass the result of evaluate, or of Report.load.",
        )


class Change(NamedTuple):
    """A metric of one image or class before and after, in [0, 1]."""

    name: str
    before: float
    after: float

    @property
    def change(self) -> float:
        """The gain."""
        return self.after - self.before


@dataclass(frozen=True)
class Changes(Drawn):
    """The changes from one predictor to another, the largest gain first.

    Attributes:
        start: the predictor before.
        predictor: the predictor after.
        by: "image" or "class".
        metric: "miou" or "boundary_iou".
        rows: a row per image or class for which both have a value.
    """

    start: str
    predictor: str
    by: str
    metric: str
    rows: list[Change]

    @property
    def better(self) -> int:
        """Number of rows that gain."""
        return sum(row.change > 0 for row in self.rows)

    @property
    def worse(self) -> int:
        """Number of rows that lose."""
        return sum(row.change < 0 for row in self.rows)

    @property
    def mean(self) -> float:
        """The mean change."""
        return float(np.mean([row.change for row in self.rows]))

    def to_markdown(self) -> str:
        """Return the rows as Markdown, in percent."""
        head = [self.by, self.start, self.predictor, "change"]
        lines = [
            [row.name, percent(row.before), percent(row.after), f"{100 * row.change:+.2f}"]
            for row in self.rows
        ]
        return markdown_table(head, lines)

    def figure(self) -> Figure:
        """Draw a bar per image or class; up to 60 bars have names."""
        count = len(self.rows)
        gains = 100 * np.array([row.change for row in self.rows])
        colours = [BETTER if gain >= 0 else WORSE for gain in gains]
        named = count <= 60
        figure, (axis,) = new_figure(6.4, 1.3 + 0.2 * count if named else 3.6)
        of_class = self.by == "class" and self.metric == "miou"
        label = f"change of {'IoU' if of_class else _METRICS[self.metric]} (points)"
        if named:
            axis.barh(range(count), gains, color=colours, height=0.75)
            axis.set_yticks(range(count), [row.name for row in self.rows], fontsize=8)
            axis.set(xlabel=label, ylim=(count - 0.4, -0.6))
            axis.grid(False, axis="y")
            axis.axvline(0, color="0.3", linewidth=0.8)
        else:
            axis.bar(range(1, count + 1), gains, color=colours, width=1.0)
            plural = "images" if self.by == "image" else "classes"
            axis.set(xlabel=f"{plural}, sorted by change", ylabel=label, xlim=(0, count + 1))
            axis.axhline(0, color="0.3", linewidth=0.8)
        axis.set_title(
            f"{self.predictor} against {self.start}: {self.better} of {count} better, "
            f"{self.worse} worse, mean {100 * self.mean:+.1f}",
            fontsize=10,
            loc="left",
        )
        return figure


def changes(
    report: Report, start: str, predictor: str, *, by: str = "image", metric: str = "miou"
) -> Changes:
    """Compare two predictors image by image or class by class.

    Images that one of the two has not labelled are left out, also of the pooled counts of a class.
    So are classes that do not occur in one of the two.

    Args:
        report: the report of `evaluate`.
        start: the predictor before, such as the upsampled logits.
        predictor: the predictor after.
        by: "image" for the metric of each image, "class" for that of each class, pooled over
            images.
        metric: "miou" (for a class, its IoU) or "boundary_iou".

    Raises:
        InputError: a predictor that is not in the report, another choice, or no image or class with
            a value for both.
    """
    check_report(report)
    check_choice("by", by, ("image", "class"))
    check_choice("metric", metric, tuple(_METRICS))
    both = {image.name for image in report[start].images}
    both &= {image.name for image in report[predictor].images}
    before, after = (_values(report, name, both, by, metric) for name in (start, predictor))
    rows = [Change(name, before[name], after[name]) for name in before if name in after]
    rows = [row for row in rows if not np.isnan(row.change)]
    if not rows:
        raise InputError.of(
            "report",
            got=f"no {by} with a value for both {start!r} and {predictor!r}",
            expected="at least one",
            fix="Evaluate both on the same images.",
        )
    rows.sort(key=lambda row: (-row.change, row.name))
    return Changes(start, predictor, by, metric, rows)


def _values(
    report: Report, predictor: str, images: set[str], by: str, metric: str
) -> dict[str, float]:
    counted = [image for image in report[predictor].images if image.name in images]
    if by == "image":
        mean = "miou" if metric == "miou" else "mean_boundary_iou"
        return {image.name: getattr(image.metrics, mean) for image in counted}
    if not counted:
        return {}
    first, *others = (image.metrics for image in counted)
    pooled = sum(others, first)
    values = pooled.iou if metric == "miou" else pooled.boundary_iou
    return dict(zip(report.class_names, values.tolist(), strict=True))


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    there = ~(np.isnan(a) | np.isnan(b))
    a, b = a[there], b[there]
    if len(a) < 2 or a.std() == 0 or b.std() == 0:
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])
