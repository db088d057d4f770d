"""How long each step takes on a GPU: one image, a batch, bfloat16; beside what it needs."""

from __future__ import annotations

import statistics
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from lpprop._core.measure import time_call
from lpprop._core.text import markdown_table

from ..report import number
from .steps import Need, Setting, Step

BATCHES = (1, 8, 16, 32, 64)
ROUNDS = 20


@dataclass(frozen=True)
class Ceilings:
    """What a device reaches at best: bytes per second of a copy, and float32 FLOPs of a product."""

    bandwidth: float
    flops: float

    def least(self, need: Need) -> float:
        """Return the seconds below which nothing that needs so much can stay."""
        return max(need.bytes / self.bandwidth, need.flops / self.flops)

    def bound(self, need: Need) -> str:
        """Name what limits such a step."""
        memory = need.bytes / self.bandwidth >= need.flops / self.flops
        return "memory" if memory else "arithmetic"


@dataclass
class Timed:
    """The seconds of a step's calls, empty where nothing was measured."""

    step: Step
    need: Need
    single: Sequence[float] = ()
    bfloat16: Sequence[float] = ()
    batches: dict[int, Sequence[float]] = field(default_factory=dict)


def measure_ceilings(device: str) -> Ceilings:
    """Time a copy of 1 GiB, and a float32 product of 8,192 x 8,192 without TF32."""
    source = torch.ones(2**28, device=device)
    target = torch.empty_like(source)
    copy = min(seconds_of(lambda: target.copy_(source), device))
    side = 8192
    a = torch.ones(side, side, device=device)
    allowed = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        product = min(seconds_of(lambda: a @ a, device))
    finally:
        torch.backends.cuda.matmul.allow_tf32 = allowed
    return Ceilings(2 * source.nbytes / copy, 2 * side**3 / product)


def seconds_of(run: Callable[[], Tensor], device: str, rounds: int = ROUNDS) -> list[float]:
    """Time calls, after two that warm up, each until the device has ended it."""
    for _ in range(2):
        run()
    return [time_call(run, torch.device(device))[1] for _ in range(rounds)]


def time_steps(
    steps: Sequence[Step],
    device: str | torch.device,
    sizes: Mapping[str, int],
    *,
    batches: Sequence[int] = BATCHES,
    clock: Callable[[Callable[[], Tensor]], Sequence[float]],
) -> tuple[list[Timed], list[str]]:
    """Time all steps by a clock; what fails, for want of memory or else, is a line of its own.

    A clock that calls once and returns nothing tests the steps without measuring them.
    """
    timed, problems = [], []

    def attempt(step: Step, setting: Setting, of: str) -> tuple[Sequence[float], Need] | None:
        try:
            run, need = step.build(setting)
            return clock(run), need
        except Exception as error:
            if not isinstance(error, torch.OutOfMemoryError):
                traceback.print_exc()
            problems.append(f"{step.name}, {of}: {describe(error)}")
            return None

    for step in steps:
        setting = Setting(device, sizes)
        found = attempt(step, setting, "one image")
        if found is None:
            continue
        row = Timed(step, found[1], found[0])
        half = attempt(step, replace(setting, dtype=torch.bfloat16), "bfloat16")
        row.bfloat16 = half[0] if half else ()
        for batch in batches if step.batched else ():
            several = attempt(step, replace(setting, batch=batch), f"a batch of {batch}")
            row.batches[batch] = several[0] if several else ()
        timed.append(row)
    return timed, problems


def describe(error: Exception) -> str:
    """Name an error in a line."""
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"


def section(timed: Sequence[Timed], ceilings: Ceilings | None) -> str:
    """Return both tables in Markdown."""
    head = ["step", "ms (quartiles)", "aim, ms", "", "MB", "GFLOP", "roofline, ms", "share of it",
            "bound by", "bfloat16 inputs, ms"]  # fmt: skip
    lines = [_line(row, ceilings) for row in timed]
    batches = sorted({batch for row in timed for batch in row.batches})
    per_image = [
        [row.step.name, *(_per_image(row.batches.get(batch, ()), batch) for batch in batches)]
        for row in timed
        if row.batches
    ]
    reached = (
        "Ceilings: not measured."
        if ceilings is None
        else f"Ceilings, measured here: {ceilings.bandwidth / 1e12:.3g} TB/s for a copy, "
        f"{ceilings.flops / 1e12:.3g} TFLOP/s for a product in float32."
    )
    return "\n".join([
        f"{reached} The roofline is the time that the step's bytes or operations take there; "
        "the share says how near the step is to it.",
        "",
        markdown_table(head, lines),
        "",
        "Milliseconds per image in a batch:",
        "",
        markdown_table(["step", *map(str, batches)], per_image),
    ])  # fmt: skip


def _line(row: Timed, ceilings: Ceilings | None) -> list[str]:
    need = row.need
    least = None if ceilings is None else ceilings.least(need)
    middle = statistics.median(row.single) if row.single else None
    verdict = ""
    if middle is not None and row.step.aim is not None:
        verdict = "met" if 1e3 * middle <= row.step.aim else "missed"
    return [
        row.step.name,
        _spread(row.single),
        "" if row.step.aim is None else f"{row.step.aim:g}",
        verdict,
        number(need.bytes / 1e6),
        number(need.flops / 1e9),
        "–" if least is None else number(1e3 * least),
        "–" if least is None or middle is None else f"{least / middle:.0%}",
        "–" if ceilings is None else ceilings.bound(need),
        _spread(row.bfloat16),
    ]


def _spread(seconds: Sequence[float]) -> str:
    if not seconds:
        return "–"
    q1, middle, q3 = (1e3 * x for x in statistics.quantiles(seconds, n=4, method="inclusive"))
    return f"{number(middle)} ({number(q1)}–{number(q3)})"


def _per_image(seconds: Sequence[float], batch: int) -> str:
    return number(1e3 * statistics.median(seconds) / batch) if seconds else "–"
