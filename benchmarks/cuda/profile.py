"""Where the time of each step goes on a GPU: its kernels, and how long none of them runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch.profiler import ProfilerActivity, profile

from lpprop._core.measure import time_call
from lpprop._core.text import markdown_table

from .steps import Setting, Step

CALLS = 5
TOP = 5


@dataclass(frozen=True)
class Profile:
    """Kernels with their seconds per call and how often a call launches them, the longest first.

    `seconds` is the time of a call from start to end, without the profiler.
    """

    name: str
    kernels: Sequence[tuple[str, float, float]]
    seconds: float | None


def profile_step(step: Step, device: str | torch.device, sizes: Mapping[str, int]) -> Profile:
    """Profile calls after one that warms up; on a device other than CUDA, operations of the CPU."""
    cuda = torch.device(device).type == "cuda"
    run, _ = step.build(Setting(device, sizes))
    run()
    seconds = sorted(time_call(run, torch.device(device))[1] for _ in range(CALLS)) if cuda else []
    activity = ProfilerActivity.CUDA if cuda else ProfilerActivity.CPU
    with profile(activities=[activity]) as recorded:
        for _ in range(CALLS if cuda else 1):
            run()
        if cuda:
            torch.cuda.synchronize()
    events = [
        (event.key, (event.self_device_time_total if cuda else 0) / 1e6 / CALLS, event.count)
        for event in recorded.key_averages()
    ]
    kernels = sorted(events, key=lambda event: -event[1] if cuda else -event[2])
    per_call = CALLS if cuda else 1
    return Profile(
        step.name,
        [(name, time, count / per_call) for name, time, count in kernels if time > 0 or not cuda],
        seconds[len(seconds) // 2] if seconds else None,
    )


def section(profiles: Sequence[Profile]) -> str:
    """Return a table of the longest kernels of each step, with their shares of the call."""
    lines = []
    for found in profiles:
        whole = found.seconds
        for name, seconds, launches in found.kernels[:TOP]:
            share = "–" if whole is None else f"{seconds / whole:.0%}"
            lines.append([found.name, _shorten(name), f"{launches:.3g}", share])
        if whole is not None:
            rest = sum(seconds for _, seconds, _ in found.kernels[TOP:])
            idle = max(0.0, whole - rest - sum(s for _, s, _ in found.kernels[:TOP]))
            lines.append([found.name, "all other kernels", "", f"{rest / whole:.0%}"])
            lines.append([found.name, "no kernel runs", "", f"{idle / whole:.0%}"])
    return markdown_table(["step", "kernel", "launches per call", "share of the call"], lines)


def _shorten(name: str, most: int = 70) -> str:
    """Cut the template arguments that make a kernel's name a paragraph."""
    return name if len(name) <= most else name[: most - 1] + "…"
