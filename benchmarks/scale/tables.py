"""The measurement and the plan as Markdown tables, by the names that mark them in the document."""

from __future__ import annotations

from typing import Any

from lpprop._core.text import markdown_table

from .plan import (
    GPUS,
    IMAGES,
    Assumed,
    count_operations,
    plan,
    plan_on_cores,
    seconds_on_gpu,
)

_SHOWN = {
    "decode": "read the JPEG", "scores": "MaskCLIP ViT-B/16, {windows} windows",
    "features": "DINO ViT-B/16, {windows} windows", "patch step": "patch step, {patches} patches",
    "pixel step": "pixel step", "encode": "write the PNG",
}  # fmt: skip
_BYTES = {
    "image": "JPEG", "pixels": "pixels", "features": "features of both networks",
    "scores": "scores in float32", "labels": "PNG of labels",
}  # fmt: skip


def tables(results: dict[str, Any], assumed: Assumed | None = None) -> dict[str, str]:
    """Every table by its name."""
    assumed, measured = assumed or Assumed(), results["steps"]
    return {
        "scale steps": _steps(measured),
        "scale bytes": _bytes(measured),
        "scale gpu": _on_gpu(measured, assumed),
        "scale plan": _plan(measured, assumed),
        "scale throughput": _throughput(results["throughput"]),
    }


def _steps(measured: dict[str, Any]) -> str:
    total = sum(measured["seconds"].values())
    rows = [
        [name.format(**measured), _number(measured["seconds"][key]),
         f"{measured['seconds'][key] / total:.1%}"]
        for key, name in _SHOWN.items()
    ]  # fmt: skip
    return markdown_table(["step", "s per image", "share"], [*rows, ["all", _number(total), ""]])


def _bytes(measured: dict[str, Any]) -> str:
    size = measured["bytes"]
    rows = [[name, _size(size[key]), _size(size[key] * IMAGES)] for key, name in _BYTES.items()]
    return markdown_table(["what", "per image", "ten million"], rows)


def _on_gpu(measured: dict[str, Any], assumed: Assumed) -> str:
    operations = count_operations(measured)
    by_precision = [seconds_on_gpu(measured, assumed, name) for name, _ in assumed.peak]
    rows = [
        [step, f"{operations[step] / 1e9:,.0f}" if step in operations else "",
         *(f"{1e3 * seconds[step]:.2g}" for seconds in by_precision)]
        for step in by_precision[0]
    ]  # fmt: skip
    rows.append(["all", "", *(f"{1e3 * sum(seconds.values()):.2g}" for seconds in by_precision)])
    head = [f"ms, networks in {name}" for name, _ in assumed.peak]
    return markdown_table(["step", "operations, 10^9", *head], rows)


def _plan(measured: dict[str, Any], assumed: Assumed) -> str:
    rows = []
    for name, _ in assumed.peak:
        for gpus in GPUS:
            found = plan(measured, assumed, name, gpus)
            rows.append(
                [
                    f"{gpus} GPUs, {name}",
                    f"{found['images per second']:,.0f}",
                    f"{found['hours']:.2g}",
                    f"{_size(found['read'])}, {_size(found['written'])}",
                    f"{found['share of the network']:.1%}",
                    f"{found['with features']:.0%}",
                    f"{found['dollars per million']:.2g}",
                ]
            )
    cores = plan_on_cores(measured, assumed)
    hours = cores["core hours per million"]
    rows.append(
        ["1,000 cores like this one", f"{1e9 / hours / 3600:,.0f}", f"{hours / 100:.2g}", "", "",
         "", f"{cores['dollars per million']:,.0f}"]
    )  # fmt: skip
    head = [
        "", "images per s", "hours", "read, written per s", "of the network", "with features",
        "$ per million",
    ]  # fmt: skip
    return markdown_table(head, rows)


def _throughput(found: dict[str, Any]) -> str:
    rows = []
    for way in found["ways"]:
        workers, images = way["workers"], way["images"]
        at_work = way["work"] / (workers or 1)
        rows.append(
            [
                f"{workers} worker{'s'[: workers - 1]}" if workers else "a plain loop",
                str(images),
                f"{way['seconds']:.0f}",
                f"{images / way['seconds']:.2f}",
                f"{way['work'] / images:.3f}",
                f"{way['seconds'] - at_work:.0f}",
            ]
        )
    head = ["", "images", "s", "images per s", "s per image at work", "s of a worker not at work"]
    return markdown_table(head, rows)


def _number(seconds: float) -> str:
    return f"{seconds:.2g}"


def _size(count: float) -> str:
    """Return bytes in the largest unit of which there is one.

    >>> _size(87_343), _size(1.5e12)
    ('87 kB', '1.5 TB')
    """
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            value = count / size
            return f"{value:.1f} {unit}" if value < 10 else f"{value:,.0f} {unit}"
    return f"{count:.0f} B"
