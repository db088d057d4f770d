"""The best choice of what may be tuned in the Triton kernels, per size of an image.

One field after the other is tried, from the default, and the best value kept: the fields hardly
depend on each other, and the whole space would take hours to compile.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lpprop._core.text import markdown_table

from ..report import number
from .steps import FULL, Setting, pixel_step, upsampling
from .timing import seconds_of

#: The steps with the fields that they read, and the images.
FIELDS = {
    "pixel step": ("warps", "stages", "product_classes", "vector", "partials", "sum_warps"),
    "upsampling": ("warps", "stages", "upsampling_classes"),
}
SIZES = (
    {"H": 448, "W": 597, "C": 21},
    {"H": 512, "W": 683, "C": 150},
    {"H": 1024, "W": 2048, "C": 19},
)
# A choice has to be this much faster than the default to count: less is noise.
_GAIN = 0.02


@dataclass(frozen=True)
class Best:
    """The fields that won against the default, with the seconds of both."""

    step: str
    size: str
    changed: dict[str, int]
    seconds: float
    default: float


def search(
    start: Any, space: dict[str, Sequence[int]], time: Callable[[Any], float]
) -> tuple[Any, float, float]:
    """Return the best choice, its seconds, and those of the start.

    A value that the GPU refuses, for want of registers or shared memory, raises in `time`, and is
    passed over.
    """
    best, default = start, time(start)
    least = default
    for name, values in space.items():
        for value in values:
            if value == getattr(start, name):
                continue
            tried = replace(best, **{name: value})
            try:
                seconds = time(tried)
            except Exception as error:
                print(f"{name} {value}: {type(error).__name__}", flush=True)
                continue
            if seconds < (1 - _GAIN) * least:
                best, least = tried, seconds
    return best, least, default


def sweep(device: str) -> list[Best]:
    """Search for each step and size."""
    from lpprop.kernels.triton.tiling import SPACE, Tuning, tuned

    builders = {"pixel step": pixel_step, "upsampling": upsampling}
    found = []
    for name, fields in FIELDS.items():
        for size in SIZES:
            run, _ = builders[name](Setting(device, FULL | size))

            def time(choice: Any, run: Callable[[], Any] = run) -> float:
                with tuned(choice):
                    return statistics.median(seconds_of(run, device, rounds=7))

            best, seconds, default = search(Tuning(), {x: SPACE[x] for x in fields}, time)
            chosen = {x: getattr(best, x) for x in fields}
            changed = {x: value for x, value in chosen.items() if value != getattr(Tuning(), x)}
            text = "{H} x {W} x {C}".format(**size)
            found.append(Best(name, text, changed, seconds, default))
    return found


def section(found: Sequence[Best]) -> str:
    """Return the best choice per step and size in Markdown."""
    lines = [
        [
            best.step,
            best.size,
            number(1e3 * best.default),
            number(1e3 * best.seconds),
            f"{best.default / best.seconds:.2f}",
            ", ".join(f"{name} {value}" for name, value in best.changed.items()) or "the defaults",
        ]
        for best in found
    ]
    head = ["step", "size", "defaults, ms", "best, ms", "gain", "lpprop.kernels.triton.tiling"]
    return markdown_table(head, lines)
