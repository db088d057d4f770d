"""Charts of the results."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lpprop.viz.figures import MARKERS, colour, new_figure

from .methods import REFINERS, UPSAMPLERS, pair
from .study import Document
from .tables import thin_first

DPI = 110


def draw(found: Document, folder: Path) -> None:
    """Write all charts."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, chart in CHARTS.items():
        chart(found).savefig(folder / f"camvid_{name}.png", dpi=DPI, metadata={"Software": None})


def pairs(found: Document) -> Figure:
    """Each refiner with each upsampler: a row per refiner, a point per upsampler."""
    figure, axes = new_figure(9.6, 6.6, 2, 2, sharey=True, sharex="row")
    places = range(len(REFINERS))
    panels = [
        (f"{title}: {label}", start, metric)
        for metric, label in (("miou", "mIoU (%)"), ("boundary", "Boundary IoU, 0.005 (%)"))
        for start, title in (("relabelled", "40 % relabelled"), ("probe", "linear probe"))
    ]
    for axis, (title, start, metric) in zip(axes, panels, strict=True):
        rows = found["runs"][start]
        for number, name in enumerate(UPSAMPLERS):
            values = [100 * rows[pair(refiner, name)][metric] for refiner in REFINERS]
            axis.plot(
                values, places, linestyle="", marker=MARKERS[number % len(MARKERS)], markersize=6,
                color=colour(number), alpha=0.85, label=name if axis is axes[0] else None,
            )  # fmt: skip
        base = 100 * rows[pair("start", "bilinear")][metric]
        axis.axvline(base, color="0.4", linewidth=1, linestyle=":")
        axis.set_title(title, fontsize=10, loc="left")
        axis.set_yticks(places, REFINERS, fontsize=9)
        axis.set_ylim(len(REFINERS) - 0.5, -0.5)
    figure.legend(loc="outside upper center", ncols=6, frameon=False, fontsize=9)
    return figure


def classes(found: Document) -> Figure:
    """What refiners do to each class, from the narrowest to the widest."""
    figure, axes = new_figure(10.4, 4.2, 1, 3, sharey=True)
    order = thin_first(found)
    titles = {"true": "true labels", "relabelled": "40 % relabelled", "probe": "linear probe"}
    for axis, (start, title) in zip(axes, titles.items(), strict=True):
        rows = found["runs"][start]
        before = _numbers(rows[pair("start", "bilinear")]["iou"])
        for number, name in enumerate(("LP k 50, γ 7", "LP preset", "velocity preset")):
            gains = 100 * (_numbers(rows[pair(name, "bilinear")]["iou"]) - before)[order]
            axis.plot(
                range(len(order)), gains, linestyle="", marker=MARKERS[number % len(MARKERS)],
                color=colour((0, 5, 3)[number]), alpha=0.85,
                label=name if axis is axes[0] else None,
            )  # fmt: skip
        axis.axhline(0, color="0.4", linewidth=1)
        names = [f"{found['classes'][c]}, {found['reasons']['thickness'][c]:.0f} px" for c in order]
        axis.set_xticks(range(len(order)), names, rotation=90, fontsize=8)
        axis.set_title(title, fontsize=10, loc="left")
    axes[0].set_ylabel("change of IoU (points)")
    figure.legend(loc="outside upper center", ncols=3, frameon=False, fontsize=9)
    return figure


def noise(found: Document) -> Figure:
    """From which share of wrong patches on each refiner helps."""
    figure, (axis,) = new_figure(7.4, 4.2)
    shares = [100 * float(share) for share in found["shares"]]
    for number, name in enumerate(REFINERS):
        values = [100 * rows[pair(name, "bilinear")]["miou"] for rows in found["shares"].values()]
        line(axis, shares, values, number, name, dashed=name == "start")
    axis.set(xlabel="patches relabelled (%)", ylabel="mIoU (%)")
    figure.legend(loc="outside right center", frameon=False, fontsize=9)
    return figure


def sizes(found: Document) -> Figure:
    """The best that patches of several sizes allow."""
    figure, axes = new_figure(8.6, 3.9, 1, 2)
    places = [int(size) for size in found["sizes"]]
    labels = {"miou": "mIoU", "boundary": "Boundary IoU, 0.005"}
    for axis, (metric, label) in zip(axes, labels.items(), strict=True):
        for number, name in enumerate(UPSAMPLERS):
            values = [100 * rows[pair("start", name)][metric] for rows in found["sizes"].values()]
            line(axis, places, values, number, name if axis is axes[0] else None)
        axis.set(xscale="log", xlabel="patch of the true labels (pixels)", ylabel=f"{label} (%)")
        axis.set_xticks(places, list(map(str, places)))
        axis.minorticks_off()
    figure.legend(loc="outside upper center", ncols=6, frameon=False, fontsize=9)
    return figure


def borders(found: Document) -> Figure:
    """How many more pixels near a border each upsampler gets right than bilinear upsampling."""
    figure, axes = new_figure(9.6, 3.9, 1, 2, sharey=True)
    titles = {"oracle": "true labels of patches", "probe": "linear probe"}
    for axis, (start, title) in zip(axes, titles.items(), strict=True):
        rows = found["reasons"]["borders"][start]
        parts = list(rows["% of the band"])
        before = rows[pair("start", "bilinear")]
        names = [name for name in UPSAMPLERS if name != "bilinear"]
        for number, name in enumerate(names):
            gains = [rows[pair("start", name)][part] - before[part] for part in parts]
            shift = (number - (len(names) - 1) / 2) * 0.16
            axis.bar(
                np.arange(len(parts)) + shift, gains, width=0.15,
                color=colour(list(UPSAMPLERS).index(name)),
                label=name if axis is axes[0] else None,
            )  # fmt: skip
        axis.axhline(0, color="0.4", linewidth=1)
        axis.set_xticks(range(len(parts)), [_wrapped(part) for part in parts], fontsize=8)
        axis.grid(False, axis="x")
        axis.set_title(title, fontsize=10, loc="left")
    axes[0].set_ylabel("right pixels, against bilinear (points)")
    figure.legend(loc="outside upper center", ncols=5, frameon=False, fontsize=9)
    return figure


def settings(found: Document) -> Figure:
    """Each option of each method along a line through the best point, on both starts."""
    chosen = [
        ("patch step", "k"), ("patch step", "gamma"), ("patch step", "alpha"),
        ("patch step, k 50, γ 7", "sigma"), ("pixel step", "tau"), ("pixel step", "alpha"),
        ("optimal path", "epsilon"), ("optimal path", "nms"), ("velocity", "tau"),
        ("velocity", "nms"), ("joint bilateral", "sigma_range"), ("guided filter", "eps"),
    ]  # fmt: skip
    figure, axes = new_figure(10.4, 7.4, 3, 4)
    titles = {"relabelled": "40 % relabelled", "probe": "linear probe"}
    for axis, (name, option) in zip(axes, chosen, strict=True):
        for number, (start, title) in enumerate(titles.items()):
            points = through_best(found["sweeps"][start][name], option)
            label = title if axis is axes[0] else None
            line(axis, *map(list, zip(*points, strict=True)), (0, 5)[number], label)
        values = [value for value, _ in points]
        if min(values) > 0 and max(values) >= 10 * min(values):
            axis.set_xscale("log")
            axis.minorticks_off()
        axis.set_xticks(values, [f"{value:.3g}" for value in values], fontsize=7)
        axis.tick_params(axis="y", labelsize=8)
        axis.set_title(f"{name}: {option}", fontsize=9, loc="left")
    figure.supylabel("mIoU (%)", fontsize=10)
    figure.legend(loc="outside upper center", ncols=2, frameon=False, fontsize=9)
    return figure


def through_best(rows: list[Document], option: str) -> list[tuple[Any, float]]:
    """The points that differ from the best in one option only: its value, and the mIoU in %."""
    best = max(rows, key=lambda row: row["miou"])["values"]
    fixed = {name: value for name, value in best.items() if name != option}
    return sorted(
        (row["values"][option], 100 * row["miou"])
        for row in rows
        if fixed.items() <= row["values"].items()
    )


def _numbers(values: list[float | None]) -> np.ndarray:
    """Make an array, with NaN for absent classes."""
    return np.array(values, dtype=float)


def line(
    axis: Axes, x: list[Any], y: list[float], number: int, name: str | None, *, dashed: bool = False
) -> None:
    axis.plot(
        x, y, color="0.3" if dashed else colour(number), marker=MARKERS[number % len(MARKERS)],
        markersize=5, linestyle="--" if dashed else "-", label=name, alpha=0.9,
    )  # fmt: skip


def _wrapped(part: str) -> str:
    return (
        part.replace("contrast ", "contrast\n")
        .replace(" or ", "\nor ")
        .replace("0.2 to inf", "> 0.2")
    )


CHARTS: dict[str, Callable[[Document], Figure]] = {
    "pairs": pairs,
    "classes": classes,
    "noise": noise,
    "sizes": sizes,
    "borders": borders,
    "settings": settings,
}
