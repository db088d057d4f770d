"""The contract of every benchmark: what is timed, how, and what a result must say.

A `Work` is one task on fixed inputs with its competitors, the first of which is lpprop. `measure`
runs every competitor once, which warms it up, and refuses to go on unless those that claim the same
result agree. Then it times them in rounds, each competitor once per round and in alternating order,
so that noise from outside hits all of them. A ratio is taken within each round, so it has a spread
of its own. The device is synchronised before the clock is read.

Peak memory comes from a fresh process for each competitor (`memory`).

Nothing in a result names the host or a path.
"""

from __future__ import annotations

import gc
import json
import os
import platform
import statistics
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lpprop._core.measure import time_call
from lpprop._version import __version__

from .memory import peak_memory_of
from .work import Competitor, Work

SCHEMA = json.loads((Path(__file__).parent / "schema.json").read_text())
RESULTS = Path(__file__).parent / "results"


class DisagreementError(RuntimeError):
    """Two competitors that claim the same result differ by more than the work's tolerance."""


def measure(
    build: Callable[[], Work],
    *,
    repeats: int,
    device: str = "cpu",
    tiny: Callable[[], Work] | None = None,
) -> dict[str, Any]:
    """Measure one work. With `tiny`, the same work at small sizes, also its peak memory.

    `build` and `tiny` must be picklable then: a module's function, or a `functools.partial` of one.
    With no repeats the first call, which otherwise warms a competitor up, is the one that counts:
    for work that takes a minute.
    """
    work = build()
    ours = work.competitors[0].name
    seconds: dict[str, list[float]] = {c.name: [] for c in work.competitors}
    sizes: dict[str, int] = {}
    expected, agreement = None, []
    busy, own = _busy_seconds(), _own_seconds()
    for competitor in work.competitors:
        result, elapsed = _timed(competitor, device)
        if not repeats:
            seconds[competitor.name].append(elapsed)
        if competitor.limit is not None:
            sizes[competitor.name] = _array(result).nbytes
        if expected is None:
            expected = _array(result)
        elif competitor.comparable:
            agreement.append(_agreement(work, competitor.name, _array(result), expected))
        del result

    if repeats:
        busy, own = _busy_seconds(), _own_seconds()
    for repeat in range(repeats):
        order = reversed(work.competitors) if repeat % 2 else work.competitors
        for competitor in order:
            seconds[competitor.name].append(_timed(competitor, device)[1])
    own = _own_seconds() - own
    elsewhere = None if busy is None else max(0.0, 1 - own / max(_busy_seconds() - busy, 1e-9))

    return {
        "name": work.name,
        "sizes": dict(work.sizes),
        "device": device,
        "agreement": {"tolerance": work.tolerance, "differences": agreement},
        "cpu_share_of_other_processes": None if elsewhere is None else round(elsewhere, 3),
        "competitors": [
            {
                "name": c.name,
                "note": c.note,
                "comparable": c.comparable,
                "target": c.target,
                "seconds": summary(seconds[c.name]),
                "ratio": summary(_divide(seconds[c.name], seconds[ours])),
                "peak_memory_bytes": tiny
                and peak_memory_of(c.name, build, tiny, c.device or device),
            }
            | ({} if c.limit is None else {"limit": c.limit, "output_bytes": sizes[c.name]})
            for c in work.competitors
        ],
    }


def _divide(a: Sequence[float], b: Sequence[float]) -> list[float]:
    return [x / y for x, y in zip(a, b, strict=True)]


def summary(values: Sequence[float]) -> dict[str, Any]:
    """Median and quartiles, with the values in the order in which they were taken."""
    values = [float(f"{v:.6g}") for v in values]
    q1, median, q3 = (
        statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    )
    return {"median": median, "q1": q1, "q3": q3, "values": values}


def document(
    benchmark: str, works: Sequence[dict[str, Any]], *, quick: bool, packages: str
) -> dict:
    """Return the whole result, validated; `packages` names those whose versions matter."""
    result = {
        "schema_version": 1,
        "benchmark": benchmark,
        "quick": quick,
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(),
        "versions": {"python": platform.python_version()}
        | {p: version_of(p) for p in packages.split()},
        "works": list(works),
    }
    validate(result)
    return result


def version_of(package: str) -> str:
    if package == "lpprop":  # which may be on the path and not installed
        return __version__
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def machine() -> dict[str, Any]:
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "cpu": _cpu_model(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": gpu,
        "system": f"{platform.system()} {platform.machine()}",
    }


def validate(result: Any) -> None:
    """Refuse a result that breaks the schema, or whose statistics are not those of its values."""
    import jsonschema

    jsonschema.validate(result, SCHEMA)
    for work in result["works"]:
        ours = work["competitors"][0]["seconds"]["values"]
        for c in work["competitors"]:
            seconds, ratio = c["seconds"], c["ratio"]
            if len(seconds["values"]) != len(ours):
                raise ValueError(f"{work['name']}, {c['name']}: not timed as often as lpprop")
            expected = _divide(seconds["values"], ours)
            if not np.allclose(ratio["values"], expected, rtol=1e-4):
                raise ValueError(f"{work['name']}, {c['name']}: ratios are not those of the times")
            for field in (seconds, ratio):
                if field != summary(field["values"]):
                    raise ValueError(f"{work['name']}, {c['name']}: statistics of other values")
        worst = max((d["max_relative"] for d in work["agreement"]["differences"]), default=0)
        if worst > work["agreement"]["tolerance"]:
            raise ValueError(f"{work['name']}: the results differ by {worst:.1e}")


def save(result: dict[str, Any], file: Path) -> None:
    validate(result)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n")


def _timed(competitor: Competitor, device: str) -> tuple[Any, float]:
    gc.collect()
    result, seconds = time_call(competitor.run, torch.device(device))
    if competitor.clocked:
        result, seconds = result
    return result, competitor.times * seconds


def _array(result: Any) -> np.ndarray:
    return np.asarray(result.detach().cpu() if isinstance(result, torch.Tensor) else result)


def _agreement(work: Work, name: str, result: np.ndarray, expected: np.ndarray) -> dict[str, Any]:
    if result.shape != expected.shape:
        raise DisagreementError(f"{work.name}: {name} gives {result.shape}, not {expected.shape}")
    difference = float(np.abs(result - expected).max() / np.abs(result).max())
    print(f"{work.name}: {name} differs by {difference:.1e} of its maximum", flush=True)
    if not difference <= work.tolerance:
        raise DisagreementError(
            f"{work.name}: {name} and {work.competitors[0].name} differ by {difference:.1e}, "
            f"more than {work.tolerance:.0e}"
        )
    return {"competitor": name, "max_relative": difference}


def _own_seconds() -> float:
    """CPU seconds of this process and of its children that have ended."""
    return sum(os.times()[:4])


def _busy_seconds() -> float | None:
    """CPU seconds that all processes of the machine have used, from /proc/stat; None elsewhere."""
    if sys.platform != "linux":
        return None
    user, nice, system, _, _, irq, softirq, *_ = map(
        int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    )
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def _cpu_model() -> str:
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
