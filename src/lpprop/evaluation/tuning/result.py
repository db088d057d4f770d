"""The result of a search: scores on the images that were tuned on, and on those held out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from lpprop._core.text import markdown_table, percent, printable
from lpprop.compose import presets
from lpprop.compose.chain import Chain
from lpprop.evaluation.groups import Fold, describe_groups
from lpprop.evaluation.intervals import (
    Difference,
    Interval,
    difference_of,
    draw_images,
    interval_of,
)
from lpprop.evaluation.records import write_json
from lpprop.evaluation.tuning.scores import (
    Score,
    Verdict,
    Worth,
    points,
    write_gain,
    write_interval,
)
from lpprop.evaluation.tuning.space import default_options
from lpprop.evaluation.tuning.trials import Tried, pooled
from lpprop.io.atomic import atomic_write

__all__ = ["ALL", "START", "TuningResult"]

#: The method that is the start itself, brought to pixels; and the row of all methods together.
START, ALL = "bilinear", "best of all"

_LEGEND = """\
“tuned” is the best setting on the images that it was chosen by. “held out” is honest: each fold is
scored by the setting that is best on the others. But the settings to choose from, those searched
and those with an option put back, were suggested by scores on all images, so images that took no
part at all are a still better test. Intervals are of 95 %, over draws of these images."""

_METRICS = {"miou": "mIoU", "boundary_iou": "Boundary IoU"}

Counts = Int[np.ndarray, "images C 2"]


@dataclass(frozen=True)
class TuningResult:
    """The settings that were tried, and what follows from them.

        result.best, result.python, result.table(), result.verdicts, result.worth

    Attributes:
        config: data set, start, methods, metric, seed and versions.
        names: the name of each image.
        groups: the group of each image.
        folds: the images of each fold.
        tried: every setting, in the order of the search.
        own: the options of each preset that suit the start.
        stopped: what ended the search: "trials", "minutes" or "interrupted".
        seconds: how long this call tried settings.
        doubts: what is doubtful about the true labels.
    """

    config: Mapping[str, Any]
    names: Sequence[str]
    groups: Sequence[str]
    folds: Sequence[Fold]
    tried: Sequence[Tried] = field(repr=False)
    own: Mapping[str, Mapping[str, Any]]
    stopped: str
    seconds: float
    doubts: Sequence[str] = ()

    @property
    def methods(self) -> list[str]:
        """The methods that were tried, the start first."""
        return list(dict.fromkeys(x.method for x in self._searched))

    @property
    def chosen(self) -> Tried:
        """The best setting on all images; of equal ones that with the fewest options."""
        return self._choose(self._searched)

    @property
    def best(self) -> Chain:
        """The best setting as a chain, for `lpprop.refine(..., method=result.best)`."""
        return presets.by_name(self.chosen.method, **self._options(self.chosen))

    @property
    def python(self) -> str:
        """A line of Python that rebuilds the best setting."""
        preset, options = presets.find(self.chosen.method), self._options(self.chosen)
        source = {name: value for name, value in options.items() if name == "feats_from"}
        plain = default_options(preset.name, source)  # what the line has without the option
        own = {name: value for name, value in options.items() if plain[name] != value}
        return f"lpprop.presets.{preset.python_name}({_write(source | own)})"

    @cached_property
    def rows(self) -> list[Score]:
        """A row per method, and one for the choice among all of them."""
        rows = []
        for method in self.methods:
            own = [x for x in self._searched if x.method == method]
            as_it_is = next((x for x in own if x.kind == "preset"), None)
            preset = None if as_it_is is None else self._interval(as_it_is.counts)
            chosen = (math.nan, None) if len(own) < 2 else self._nested(own)
            rows.append(Score(method, len(own), preset, *chosen))
        return [*rows, Score(ALL, len(self._searched), None, *self._nested(self._searched))]

    @cached_property
    def verdicts(self) -> list[Verdict]:
        """What the choice among all methods gains over the start and over presets.

        The presets are that of the best method, and the best preset on these same images, which
        flatters that one.
        """
        found = [x for x in self._searched if x.kind == "preset"]
        by_name = {x.method: x for x in found}
        over = {"the start": by_name[START]}
        if self.chosen.method in by_name and self.chosen.method != START:
            over[f"the preset {self.chosen.method}"] = by_name[self.chosen.method]
        best = self._choose(found)
        if best not in over.values():
            over[f"the best preset, {best.method}"] = best
        held_out = self._held_out(self._searched)
        return [Verdict(name, self._difference(one.counts, held_out)) for name, one in over.items()]

    @cached_property
    def worth(self) -> list[Worth]:
        """What each tuned option of the best setting is worth, the most valuable first."""
        defaults = default_options(self.chosen.method, self.own[self.chosen.method])
        known = {x.key: x for x in self._searched}
        rows = []
        for option, value in self.chosen.options.items():
            others = {name: x for name, x in self.chosen.options.items() if name != option}
            without = known.get(Tried("worth", self.chosen.method, others, 0.0, None).key)
            if without is not None:
                gain = self._difference(without.counts, self.chosen.counts)
                rows.append(Worth(option, value, defaults[option], gain))
        return sorted(rows, key=lambda row: -row.difference.gain)

    def table(self) -> str:
        """Return the rows as Markdown, metrics in percent, with 95 % intervals."""
        name = _METRICS[self.config["tuning"]["metric"]]
        head = ["method", "tried", f"preset: {name}", "tuned", "held out", "tuned − held out"]
        lines = [
            [
                row.method,
                str(row.tried),
                write_interval(row.preset),
                percent(row.tuned, 1),
                write_interval(row.held_out),
                "–" if math.isnan(row.optimism) else points(row.optimism),
            ]
            for row in self.rows
        ]
        return markdown_table(head, lines)

    __repr__ = _repr_markdown_ = table

    def worth_table(self) -> str:
        """Return what each option is worth as Markdown, in points."""
        lines = [
            [row.option, _text(row.value), _text(row.preset), write_gain(row.difference)]
            for row in self.worth
        ]
        return markdown_table(["option", "best", "preset", "worth, in points"], lines)

    def to_markdown(self) -> str:
        """Return tables, verdicts and the best setting as Markdown."""
        failed = [x for x in self.tried if x.failed]
        dataset = self.config["dataset"]["name"]
        parts = [
            f"# {printable(dataset)}: {self._count()} on {len(self.names)} images",
            *(printable(f"Doubtful: {doubt}") for doubt in self.doubts),
            describe_groups(self.groups, self.folds),
            self.table(),
            _LEGEND,
            "\n".join(f"- {verdict}" for verdict in self.verdicts),
            f"The best setting on all images:\n\n```python\n{self.python}\n```",
        ]
        if self.worth:
            parts += [
                "What each of its options is worth, if it alone goes back to the preset's value:",
                self.worth_table(),
            ]
        if len(self.worth) < len(self.chosen.options):
            parts.append("The search was ended before each of its options was put back.")
        if self.chosen.warnings:
            parts += ["It warned:", "\n".join(f"- {printable(x)}" for x in self.chosen.warnings)]
        if failed:
            lines = [printable(f"- {x.method}({_write(x.options)}): {x.failed}") for x in failed]
            parts += ["Settings that failed:", "\n".join(lines)]
        return "\n\n".join(parts) + "\n"

    def to_dict(self) -> dict[str, Any]:
        """Return all of it for JSON; NaN becomes None."""
        return {
            "python": self.python,
            "method": self.chosen.method,
            "options": self._options(self.chosen),
            "stopped": self.stopped,
            "doubts": list(self.doubts),
            "rows": [
                {
                    "method": row.method,
                    "tried": row.tried,
                    "preset": row.preset and row.preset._asdict(),
                    "tuned": _plain(row.tuned),
                    "held_out": row.held_out and row.held_out._asdict(),
                    "optimism": _plain(row.optimism),
                }
                for row in self.rows
            ],
            "verdicts": [
                {"over": x.over, **x.difference._asdict(), "beyond_chance": x.beyond_chance}
                for x in self.verdicts
            ],
            "worth": [
                {"option": x.option, "value": x.value, "preset": x.preset, **x.difference._asdict()}
                for x in self.worth
            ],
            "grouping": describe_groups(self.groups, self.folds),
            "groups": dict(zip(self.names, self.groups, strict=True)),
            "folds": [[self.names[index] for index in fold.held] for fold in self.folds],
            "tried": [
                {
                    "kind": x.kind,
                    "method": x.method,
                    "options": dict(x.options),
                    "score": _plain(x.score),
                    "seconds": x.seconds,
                    "failed": x.failed,
                }
                for x in self.tried
            ],
            "config": dict(self.config),
        }

    def save(self, folder: Path) -> None:
        """Write tuning.json and tuning.md, each atomically."""
        write_json(folder / "tuning.json", self.to_dict())
        with atomic_write(folder / "tuning.md") as file:
            file.write(self.to_markdown().encode())

    def _count(self) -> str:
        back = sum(x.kind == "worth" for x in self._searched)
        more = f" and {back} with an option put back" if back else ""
        return f"{len(self._searched) - back} settings{more}"

    @property
    def _searched(self) -> list[Tried]:
        return [x for x in self.tried if x.counts is not None]

    @cached_property
    def _weights(self) -> Int[np.ndarray, "draws images"]:
        return draw_images(self.groups)

    def _options(self, tried: Tried) -> dict[str, Any]:
        return {**self.own[tried.method], **tried.options}

    def _choose(self, tried: Sequence[Tried], images: Sequence[int] | None = None) -> Tried:
        def rank(x: Tried) -> tuple[float, int]:
            score = math.nan if x.counts is None else pooled(x.counts, images)
            return -math.inf if math.isnan(score) else score, -len(x.options)

        return max(tried, key=rank)

    def _held_out(self, tried: Sequence[Tried]) -> Counts:
        """Return the counts of each fold by the setting that is best on the others."""
        counts = np.zeros_like(tried[0].counts)
        for fold in self.folds:
            chosen = self._choose(tried, fold.rest).counts
            assert chosen is not None
            counts[list(fold.held)] = chosen[list(fold.held)]
        return counts

    def _nested(self, tried: Sequence[Tried]) -> tuple[float, Interval]:
        return self._choose(tried).score, self._interval(self._held_out(tried))

    def _interval(self, counts: Counts | None) -> Interval:
        assert counts is not None
        return interval_of(counts[..., 0], counts[..., 1], self._weights)

    def _difference(self, before: Counts | None, after: Counts | None) -> Difference:
        assert before is not None
        assert after is not None
        first, second = ((x[..., 0], x[..., 1]) for x in (before, after))
        return difference_of(first, second, self._weights)


def _text(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _write(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in options.items())


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else value
