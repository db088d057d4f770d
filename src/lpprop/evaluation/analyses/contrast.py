"""Compare methods with a baseline: component ablations and window-size ensembles."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from lpprop._core.errors import InputError
from lpprop._core.label_maps import refuse_masked
from lpprop._core.options import is_listed
from lpprop._core.text import markdown_table, percent
from lpprop.compose.chain import Chain
from lpprop.compose.composite import step_name
from lpprop.evaluation.predictors import (
    Predictor,
    Start,
    as_predictor,
    check_predictors,
    refinements,
)
from lpprop.evaluation.report import Report
from lpprop.evaluation.runner import evaluate
from lpprop.evaluation.task import Samples
from lpprop.refiners import BilinearUpsample
from lpprop.viz.figures import Drawn, colour, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Contrast", "ContrastRow", "Ensemble", "ablation", "cumulative", "window_ensemble"]


class ContrastRow(NamedTuple):
    """Metrics in [0, 1], the gains over the baseline, and the seconds per image."""

    name: str
    miou: float
    boundary_iou: float
    miou_gain: float
    boundary_gain: float
    seconds: float


@dataclass(frozen=True)
class Contrast(Drawn):
    """Methods compared with the first of them.

    Attributes:
        report: the report with the metrics of each image and class.
    """

    report: Report

    @property
    def rows(self) -> list[ContrastRow]:
        """A row per method, in their order."""
        rows = self.report.rows()
        base = rows[0]
        return [
            ContrastRow(
                *row[:3], row.miou - base.miou, row.boundary_iou - base.boundary_iou, row.seconds
            )
            for row in rows
        ]

    def to_markdown(self) -> str:
        """Return the rows as Markdown, metrics in percent, gains in points."""
        head = ["method", "mIoU", "gain", "Boundary IoU", "gain", "seconds per image"]
        lines = [
            [
                row.name,
                percent(row.miou),
                f"{100 * row.miou_gain:+.2f}",
                percent(row.boundary_iou),
                f"{100 * row.boundary_gain:+.2f}",
                f"{row.seconds:.3g}",
            ]
            for row in self.rows
        ]
        return markdown_table(head, lines)

    def figure(self) -> Figure:
        """Draw two bars per method, with a line where the baseline ends."""
        rows = self.rows
        figure, (axis,) = new_figure(6.4, 1.3 + 0.5 * len(rows))
        bars = (("mIoU", 1, 3, -0.2), ("Boundary IoU", 2, 4, 0.2))
        for number, (label, of, gain, shift) in enumerate(bars):
            places = [place + shift for place in range(len(rows))]
            lengths = [100 * float(row[of]) for row in rows]
            axis.barh(places, lengths, height=0.36, color=colour(number), label=label)
            axis.axvline(lengths[0], color=colour(number), linewidth=1, linestyle=":")
            for place, length, row in zip(places, lengths, rows, strict=True):
                text = f" {length:.1f}" + (
                    f" ({100 * float(row[gain]):+.1f})" if row != rows[0] else ""
                )
                axis.text(length, place, text, va="center", fontsize=8)
        axis.set_yticks(range(len(rows)), [row.name for row in rows])
        longest = max(100 * max(row.miou, row.boundary_iou) for row in rows)
        axis.set(xlabel="%", ylim=(len(rows) - 0.5, -0.5), xlim=(0, 1.2 * longest))
        axis.grid(False, axis="y")
        figure.legend(loc="outside upper center", ncols=2, frameon=False, fontsize=9)
        return figure


def cumulative(chain: Chain) -> dict[str, Chain]:
    """Return the prefixes of a chain by name, from no step at all to the whole chain.

    Scores that a prefix leaves on patches are upsampled bilinearly. So a bilinear step of the chain
    does not count as a step of its own.

    >>> from lpprop.compose import presets
    >>> list(cumulative(presets.lposs_plus()))
    ['start', '+ PatchPropagation', '+ PixelPropagation']
    """
    if not isinstance(chain, Chain):
        raise InputError.of(
            "chain",
            got=type(chain).__name__,
            expected="a Chain",
            fix="Pass a preset, such as lpprop.presets.lposs().",
        )
    steps = list(chain.steps)
    parts = {"start": Chain(BilinearUpsample())}
    for count, step in enumerate(steps, 1):
        if isinstance(step, BilinearUpsample):
            continue
        name = f"+ {step_name(step)}"
        while name in parts:
            name += "'"
        parts[name] = Chain(*steps[:count], temperature=chain.temperature)
    return parts


def ablation(
    dataset: Samples,
    start: Callable[[Any], Start],
    methods: Chain | Mapping[str, str | Callable[..., Tensor]],
    out: Path | None = None,
    **options: Any,
) -> Contrast:
    """Evaluate a method with and without its components.

    Args:
        dataset: as `evaluate` takes it.
        start: makes the `Start` of a sample.
        methods: the variants by name, the first of them the baseline; or a chain, whose steps are
            added one by one (see `cumulative`).
        out: as `evaluate` takes it.
        options: further options of `evaluate`, such as `limit` and `processes`.
    """
    variants = cumulative(methods) if isinstance(methods, Chain) else methods
    return Contrast(evaluate(dataset, refinements(start, variants), out, **options))


class Ensemble(Predictor):
    """Average the scores of several predictors, such as one segmenter with several windows.

    >>> both = Ensemble([lambda sample: torch.zeros(2, 1, 1), lambda sample: torch.ones(2, 1, 1)])
    >>> both(None).flatten()
    tensor([0.5000, 0.5000])
    """

    def __init__(self, predictors: Sequence[Callable[[Any], Any]]) -> None:
        """Take the predictors, each of which returns scores (C, H, W)."""
        listed = list(predictors) if is_listed(predictors) else []
        if not listed or not all(map(callable, listed)):
            raise InputError.of(
                "predictors",
                got=reprlib.repr(predictors),
                expected="one or more functions of a sample",
                fix="Pass a list of predictors.",
            )
        self.predictors = [as_predictor(predictor) for predictor in listed]

    def prepare(self, sample: Any) -> None:
        """Prepare the members."""
        for predictor in self.predictors:
            predictor.prepare(sample)

    def __call__(self, sample: Any) -> Tensor:
        """Return the mean of the scores."""
        results = [predictor(sample) for predictor in self.predictors]
        self.borrowed_seconds = sum(predictor.borrowed_seconds for predictor in self.predictors)
        for result in results:
            refuse_masked("predictors", result)
        scores = [torch.as_tensor(result) for result in results]
        if any(not one.is_floating_point() or one.ndim != 3 for one in scores):
            raise InputError.of(
                "predictors",
                got="labels",
                expected="scores (C, H, W) from each",
                fix="Return the scores, not their argmax.",
            )
        parts = [one / len(scores) for one in scores]  # their sum might overflow
        return torch.stack(parts).sum(0)

    def fingerprint(self) -> dict[str, Any]:
        """Describe the members."""
        return {"average of": [predictor.fingerprint() for predictor in self.predictors]}


def window_ensemble(
    dataset: Samples,
    predictors: Mapping[str, Callable[[Any], Any]],
    out: Path | None = None,
    **options: Any,
) -> Contrast:
    """Evaluate each of several window settings, and the average of their scores.

        window_ensemble(dataset, {
            "224 / 112": SegmenterPredictor(Segmenter(backbone, windows=(224, 112)), prompts),
            "448 / 224": SegmenterPredictor(Segmenter(backbone, windows=(448, 224)), prompts),
        })

    In LPOSS's supplement the average beats either window size (Stojnic et al., CVPR 2025, Table 6).

    Args:
        dataset: as `evaluate` takes it.
        predictors: by name; each returns scores (C, H, W). The first is the baseline.
        out: as `evaluate` takes it.
        options: further options of `evaluate`, such as `limit` and `processes`.
    """
    check_predictors(predictors)
    average = {"average": Ensemble(list(predictors.values()))}
    return Contrast(evaluate(dataset, {**predictors, **average}, out, **options))
