"""The report of a run: tables, and the metrics of each image for the analyses."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from lpprop._core.doubts import Doubt
from lpprop._core.errors import InputError
from lpprop._core.options import check_choice
from lpprop._core.text import markdown_table, percent, printable
from lpprop.evaluation.datasets.layout import as_path
from lpprop.evaluation.doubts import label_doubts
from lpprop.evaluation.metrics import SegmentationMetrics
from lpprop.evaluation.records import (
    Records,
    load_config,
    load_records,
    write_json,
)
from lpprop.evaluation.results import ClassRow, Result, Row, gather_result
from lpprop.io.atomic import atomic_write

__all__ = ["Report"]


class Report:
    """The results of a run by predictor, with its configuration.

        report["lposs+"].metrics.iou, report.rows(), report.to_markdown()

    Attributes:
        config: data set, metrics, versions, and the fingerprint of each predictor.
        class_names: names of the data set's classes.
        images: number of images that each predictor was to label.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        records: Mapping[str, Sequence[Mapping[str, Any]]],
        *,
        images: int,
        failures: Mapping[str, Mapping[str, str]],
    ) -> None:
        self.config = config
        self.class_names: list[str] = list(config["dataset"]["class_names"])
        self.images = images
        self._results = {
            name: gather_result(name, records[name], failures[name], config) for name in records
        }

    @classmethod
    def load(cls, folder: Path) -> Report:
        """Read the run in a folder, which may still be at work; it does not keep failures.

        Args:
            folder: the `out` of `evaluate`.

        Raises:
            InputError: a folder without a run.
        """
        folder = as_path("folder", folder)
        config = load_config(folder)
        if config is None:
            raise InputError.of(
                "folder",
                got=f"{folder} without a run",
                expected="the out of an evaluation",
                fix="Check the path.",
            )
        return cls.of_records(config, load_records(folder, config))

    @classmethod
    def of_records(
        cls,
        config: Mapping[str, Any],
        records: Mapping[str, Records],
        failures: Mapping[str, Mapping[str, str]] | None = None,
    ) -> Report:
        """Report all records of a run, and the reasons of failures by predictor and image."""
        done = {name: one.in_order() for name, one in records.items()}
        failed = {name: (failures or {}).get(name, {}) for name in records}
        images = max((len(kept) + len(failed[name]) for name, kept in done.items()), default=0)
        return cls(config, done, images=images, failures=failed)

    def __getitem__(self, predictor: str) -> Result:
        """Return the results of a predictor.

        Raises:
            InputError: a name that is not in the run.
        """
        check_choice("predictor", predictor, tuple(self._results))
        return self._results[predictor]

    def __iter__(self) -> Iterator[str]:
        return iter(self._results)

    def __len__(self) -> int:
        return len(self._results)

    @property
    def class_pixels(self) -> Int[np.ndarray, " C"]:
        """The number of true pixels of each class, in the images that are labelled."""
        return self._fullest.true_pixels

    @property
    def ignored_pixels(self) -> int:
        """The number of pixels that do not count, in the images that are labelled."""
        return self._fullest.ignored

    @property
    def _fullest(self) -> SegmentationMetrics:
        """The metrics of the predictor that labelled the most images."""
        return max(self._results.values(), key=lambda result: len(result.images)).metrics

    @property
    def warnings(self) -> list[str]:
        """What is doubtful about the labels, and what predictors warned of, a sentence or two each.

        The same warning of several predictors is one.
        """
        said: dict[Doubt, list[str]] = {}
        for name, result in self._results.items():
            for doubt in result.warnings:
                said.setdefault(doubt, []).append(name)
        metrics = {name: result.metrics for name, result in self._results.items()}
        pixels = [*self.class_pixels.tolist(), self.ignored_pixels]
        whole = self.images == self.config["dataset"]["samples"]
        return [
            *label_doubts(metrics, pixels, self.class_names, whole=whole),
            *(
                printable(f"{_where(doubt, names, len(self))}: {doubt.message}")
                for doubt, names in said.items()
            ),
        ]

    def rows(self) -> list[Row]:
        """Return a row per predictor."""
        rows = []
        for name, result in self._results.items():
            m = result.metrics
            means = (m.miou, m.mean_boundary_iou, m.pixel_accuracy, m.mean_class_accuracy)
            rows.append(Row(name, *means, result.seconds, len(result.images)))
        return rows

    def table(self) -> str:
        """Return the rows as Markdown, metrics in percent."""
        head = ["method", "mIoU", "Boundary IoU", "pixel accuracy", "class accuracy"]
        lines = [
            [
                printable(row.predictor),
                *map(percent, row[1:5]),
                f"{row.seconds:.3g}",
                str(row.images) + f" of {self.images}" * (row.images < self.images),
            ]
            for row in self.rows()
        ]
        return markdown_table([*head, "seconds per image", "images"], lines)

    __repr__ = _repr_markdown_ = table

    def class_rows(self) -> list[ClassRow]:
        """Return a row per predictor and class, the classes of a predictor together."""
        return [
            ClassRow(name, *row)
            for name, result in self._results.items()
            for row in zip(
                self.class_names,
                result.metrics.true_pixels.tolist(),
                result.metrics.predicted_pixels.tolist(),
                result.metrics.iou.tolist(),
                result.metrics.boundary_iou.tolist(),
                strict=True,
            )
        ]

    def class_table(self) -> str:
        """Return true pixels, predicted pixels, IoU and Boundary IoU (in percent) as Markdown.

        A line is a class. The true pixels are those of the predictor that labelled most images.
        """
        kinds = ("predicted", "IoU", "boundary")
        head = [f"{name}: {kind}" for name in map(printable, self) for kind in kinds]
        lines = [
            [printable(name), f"{pixels:,}"]
            for name, pixels in zip(self.class_names, self.class_pixels.tolist(), strict=True)
        ]
        for number, row in enumerate(self.class_rows()):
            lines[number % len(lines)] += [
                f"{row.predicted_pixels:,}", percent(row.iou), percent(row.boundary_iou)
            ]  # fmt: skip
        return markdown_table(["class", "true pixels", *head], lines)

    def ignored_line(self) -> str:
        """Say in a line how many pixels count."""
        counted = int(self.class_pixels.sum())
        if not (total := counted + self.ignored_pixels):
            return "No pixel is labelled yet."
        if not self.ignored_pixels:
            return f"All {total:,} pixels count."
        return f"{percent(counted / total, 1)} % of {total:,} pixels count; the others are ignored."

    def rejected_lines(self) -> list[str]:
        """Say in a line per predictor that rejects pixels how many it calls none of these."""
        return [
            f"{name}: {percent(one.rejected.sum() / one.true_pixels.sum(), 1)} % of the pixels "
            "that count are none of these, and so misses of their classes."
            for name, one in ((name, result.metrics) for name, result in self._results.items())
            if one.rejected.any()
        ]

    def to_markdown(self) -> str:
        """Return tables, warnings, failures and configuration as Markdown."""
        dataset = self.config["dataset"]
        parts = [
            f"# {printable(dataset['name'])}: {self.images} of {dataset['samples']} images",
            self.table(),
            f"Metrics are in percent, pooled over the images; seconds are medians. "
            f"{self.ignored_line()}",
            *map(printable, self.rejected_lines()),
        ]
        if warnings := self.warnings:
            parts += ["## Warnings", "\n".join(f"- {message}" for message in warnings)]
        failed: dict[tuple[str, str], list[str]] = {}
        for name, result in self._results.items():
            for image, reason in result.failures.items():
                failed.setdefault((image, reason), []).append(name)
        if failed:
            lines = [
                printable(f"- {image}: {', '.join(names)}: {reason}")
                for (image, reason), names in failed.items()
            ]
            parts += ["## Failed: not counted for that method", "\n".join(lines)]
        parts += [
            "## Classes",
            self.class_table(),
            "## Configuration",
            f"```json\n{json.dumps(self.config, indent=2)}\n```",
        ]
        return "\n\n".join(parts) + "\n"

    def to_dict(self) -> dict[str, Any]:
        """Return rows, metrics per class, warnings, failures and configuration for JSON.

        NaN becomes None.
        """
        return {
            "images": self.images,
            "class_pixels": self.class_pixels.tolist(),
            "ignored_pixels": self.ignored_pixels,
            "warnings": self.warnings,
            "predictors": [
                {
                    **{name: _plain(value) for name, value in row._asdict().items()},
                    "failures": dict(result.failures),
                    "warnings": [doubt._asdict() for doubt in result.warnings],
                    "true_pixels": result.metrics.true_pixels.tolist(),
                    "predicted_pixels": result.metrics.predicted_pixels.tolist(),
                    "rejected_pixels": result.metrics.rejected.tolist(),
                    "iou": [_plain(x) for x in result.metrics.iou],
                    "class_boundary_iou": [_plain(x) for x in result.metrics.boundary_iou],
                }
                for row, result in zip(self.rows(), self._results.values(), strict=True)
            ],
            "config": dict(self.config),
        }

    def save(self, folder: Path) -> None:
        """Write results.json and results.md, each atomically."""
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "results.json", self.to_dict())
        with atomic_write(folder / "results.md") as file:
            file.write(self.to_markdown().encode())


def _where(doubt: Doubt, names: Sequence[str], predictors: int) -> str:
    images = f"{doubt.images} images, the first {doubt.first}" if doubt.images > 1 else doubt.first
    return images if len(names) == predictors else f"{', '.join(names)}, {images}"


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value
