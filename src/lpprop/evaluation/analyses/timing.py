"""Time the steps of methods."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from lpprop._core.measure import time_call
from lpprop._core.options import check_integer
from lpprop._core.progress import track
from lpprop._core.text import markdown_table
from lpprop.compose.chain import Chain
from lpprop.compose.composite import Composite, step_name
from lpprop.compose.pipeline import as_chain
from lpprop.evaluation.predictors import (
    LastSampleCache,
    RefinedStart,
    Start,
    check_start,
    name_methods,
)
from lpprop.evaluation.task import Samples, check_dataset
from lpprop.viz.figures import Drawn, colour, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["ComponentTimes", "component_times"]

_START, _REST = "start", "rest"


@dataclass(frozen=True)
class ComponentTimes(Drawn):
    """Seconds per image, by method and component.

    Attributes:
        seconds: medians over images. "start" is the time of making the start; "rest" is the time of
            a method outside its steps: checks, resizing to the grid, and attention from feats.
    """

    seconds: Mapping[str, Mapping[str, float]]

    def to_markdown(self) -> str:
        """Return a row per component as Markdown, in milliseconds."""
        lines = [
            [
                method,
                component,
                f"{1000 * seconds:.1f}",
                f"{100 * seconds / sum(parts.values()):.0f}",
            ]
            for method, parts in self.seconds.items()
            for component, seconds in parts.items()
        ]
        return markdown_table(["method", "component", "ms per image", "%"], lines)

    def figure(self) -> Figure:
        """Draw a bar per method, stacked from its components."""
        figure, (axis,) = new_figure(6.4, 1.5 + 0.45 * len(self.seconds))
        colours: dict[str, Any] = {}
        ends = []
        for place, parts in enumerate(self.seconds.values()):
            end = 0.0
            for name, seconds in parts.items():
                label = None if name in colours or name == _REST else name
                shade = "0.75" if name == _REST else colours.setdefault(name, colour(len(colours)))
                axis.barh(place, 1000 * seconds, left=end, height=0.6, color=shade, label=label)
                end += 1000 * seconds
            ends.append(end)
        axis.barh(0, 0, color="0.75", label=_REST)
        for place, end in enumerate(ends):
            axis.text(end, place, f" {end:.3g} ms", va="center", fontsize=9)
        axis.set_yticks(range(len(self.seconds)), list(self.seconds))
        axis.set(
            xlabel="ms per image (medians)",
            ylim=(len(self.seconds) - 0.5, -0.5),
            xlim=(0, 1.18 * max(ends)),
        )
        axis.grid(False, axis="y")
        figure.legend(loc="outside upper center", ncols=3, frameon=False, fontsize=9)
        return figure


@torch.no_grad()
def component_times(
    dataset: Samples,
    start: Callable[[Any], Start],
    methods: Mapping[str, str | Callable[..., Tensor]],
    *,
    limit: int = 5,
    warmup: int = 1,
) -> ComponentTimes:
    """Time each step of each method on the first images, with the device synchronised.

    Args:
        dataset: as `evaluate` takes it.
        start: makes the `Start` of a sample.
        methods: by name, as `lpprop.refine` takes them; each step of a chain is timed.
        limit: number of images that count.
        warmup: number of images before them that do not count: kernels compile at their first call.
    """
    check_dataset(dataset)
    check_start(start)
    methods = name_methods(methods)
    limit, warmup = check_integer("limit", limit), check_integer("warmup", warmup, low=0)
    seconds: dict[str, list[dict[str, float]]] = {name: [] for name in methods}
    for number in track(range(warmup + min(limit, len(dataset)))):
        # The first image also serves as the warm-up.
        sample = dataset[max(0, number - warmup)]
        made, start_seconds = time_call(partial(start, sample))
        for name, method in methods.items():
            parts = _time_steps(method, made, sample)
            if number >= warmup:
                seconds[name].append({_START: start_seconds, **parts})
    return ComponentTimes(
        {
            name: {part: float(np.median([one[part] for one in images])) for part in images[0]}
            for name, images in seconds.items()
        }
    )


def _time_steps(method: str | Callable[..., Tensor], start: Start, sample: Any) -> dict[str, float]:
    chain = as_chain(method)
    watches = [_Stopwatch(step) for step in chain.steps]
    timed = Chain(*watches, temperature=chain.temperature)
    refined = RefinedStart(LastSampleCache(lambda _: start), timed)
    _, total = time_call(partial(refined, sample))
    parts: dict[str, float] = {}
    for watch in watches:
        (step,) = watch.steps
        parts[step_name(step)] = parts.get(step_name(step), 0.0) + sum(watch.seconds)
    return {**parts, _REST: total - sum(parts.values())}


class _Stopwatch(Composite):
    """One step, and the seconds of its calls."""

    def __init__(self, step: nn.Module) -> None:
        super().__init__(step)
        self.seconds: list[float] = []  # the copy that is fitted to the image shares this list

    def forward(self, logits: Tensor, **inputs: Any) -> Tensor:
        scores, seconds = time_call(partial(self.run, self.steps[0], logits, inputs))
        self.seconds.append(seconds)
        return scores
