"""Charts of the results."""

from collections.abc import Callable
from pathlib import Path

from matplotlib.figure import Figure

from lpprop.viz.figures import MARKERS, colour, new_figure

from ..camvid.figures import DPI, line, through_best
from .experiments import MAIN, SWEPT
from .methods import BILINEAR, METHODS, SHORT, UPSAMPLERS
from .results import Document


def draw(found: Document, folder: Path) -> None:
    """Write all charts."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, chart in CHARTS.items():
        chart(found).savefig(
            folder / f"transformer_{name}.png", dpi=DPI, metadata={"Software": None}
        )


def _starts(found: Document, experiment: str) -> Document:
    starts: Document = found["experiments"][experiment]["starts"]
    return starts


def gains(found: Document) -> Figure:
    """The gain of each method over bilinear upsampling, with its interval, from each start."""
    starts = _starts(found, "main")
    shown = [start for start in MAIN if start in starts and start != "oracle"]
    names = [x for x in METHODS if x in next(iter(starts.values())) and x != BILINEAR]
    figure, axes = new_figure(2.2 + 2.1 * len(shown), 7.2, 1, len(shown), sharey=True)
    for axis, start in zip(axes, shown, strict=True):
        for place, name in enumerate(names):
            gain = starts[start][name]["gain"]
            shade = colour(0) if gain["low"] > 0 else colour(5) if gain["high"] < 0 else "0.6"
            axis.plot([gain["low"], gain["high"]], [place, place], color=shade, linewidth=1.5)
            axis.plot(gain["gain"], place, marker="o", color=shade, markersize=5)
        axis.axvline(0, color="0.4", linewidth=1)
        axis.set_title(start, fontsize=9, loc="left")
        axis.set_yticks(range(len(names)), names, fontsize=8)
        axis.set_ylim(len(names) - 0.5, -0.5)
    figure.supxlabel("change of mIoU (points), 95 %", fontsize=10)
    return figure


def noise(found: Document) -> Figure:
    """From which share of wrong patches on each method helps, and with how many labelled images."""
    both = {**_starts(found, "main"), **_starts(found, "more starts")}
    groups = {
        "patches relabelled (%)": [f"relabelled {x} %" for x in (20, 40, 60)],
        "CNN prototypes, labelled images": [f"CNN prototypes, {n}" for n in (1, 4, 16)],
        "DINOv2 prototypes, labelled images": [f"DINOv2 prototypes, {n}" for n in (1, 4, 16)],
    }
    figure, axes = new_figure(11.4, 4.0, 1, 3)
    for axis, (title, names) in zip(axes, groups.items(), strict=True):
        there = [start for start in names if start in both]
        places = [int(start.removesuffix(" %").split(" ")[-1]) for start in there]
        for number, name in enumerate(SHORT):
            if all(name in both[start] for start in there):
                values = [100 * both[start][name]["miou"] for start in there]
                label = name if axis is axes[0] else None
                line(axis, places, values, number, label, dashed=name == BILINEAR)
        axis.set_xticks(places, list(map(str, places)))
        axis.set(xlabel=title, ylabel="mIoU (%)")
    figure.legend(loc="outside upper center", ncols=5, frameon=False, fontsize=8)
    return figure


def settings(found: Document) -> Figure:
    """Options along a line through the best point of their grid, on each start."""
    chosen = [("graphs", "k"), ("graphs", "gamma"), ("graphs", "alpha"),
              ("path", "epsilon"), ("path", "nms")]  # fmt: skip
    figure, axes = new_figure(12.4, 3.4, 1, len(chosen))
    for axis, (name, option) in zip(axes, chosen, strict=True):
        for number, (start, rows) in enumerate(_starts(found, name).items()):
            points = through_best([row for row in rows.values() if "values" in row], option)
            label = start if axis is axes[0] else None
            line(axis, *map(list, zip(*points, strict=True)), number, label)
        values = [value for value, _ in points]
        if min(values) > 0 and max(values) >= 10 * min(values):
            axis.set_xscale("log")
            axis.minorticks_off()
        axis.set_xticks(values, [f"{value:.3g}" for value in values], fontsize=7)
        axis.set_title(f"{name}: {option}", fontsize=9, loc="left")
    axes[0].set_ylabel("mIoU (%)")
    figure.legend(loc="outside upper center", ncols=len(SWEPT), frameon=False, fontsize=9)
    return figure


def borders(found: Document) -> Figure:
    """The true regions of photographs, averaged over patches and brought back to pixels."""
    starts = _starts(found, "borders")
    places = [int(start.split(" ")[0]) for start in starts]
    figure, axes = new_figure(8.6, 4.0, 1, 2)
    for axis, (metric, label) in zip(
        axes, {"miou": "mIoU", "boundary": "Boundary IoU"}.items(), strict=True
    ):
        names = [name for name in UPSAMPLERS if name in next(iter(starts.values()))]
        for number, name in enumerate(names):
            values = [100 * rows[name][metric] for rows in starts.values()]
            line(axis, places, values, number, name if axis is axes[0] else None)
        axis.set(xscale="log", xlabel="patch (pixels)", ylabel=f"{label} (%)")
        axis.set_xticks(places, list(map(str, places)))
        axis.minorticks_off()
    figure.legend(loc="outside upper center", ncols=4, frameon=False, fontsize=8)
    return figure


def directions(found: Document) -> Figure:
    """The papers' ablations: the change of mIoU along each claim, from each start."""
    rows = {claim: each for claim, each in found["directions"].items() if each}
    figure, (axis,) = new_figure(9.4, 1.2 + 0.27 * max(len(rows), 4))
    for place, each in enumerate(rows.values()):
        for number, start in enumerate(SWEPT):
            if start not in each:
                continue
            gain, shift = each[start], 0.22 * (number - 1)
            axis.plot([gain["low"], gain["high"]], [place + shift] * 2, color=colour(number))
            axis.plot(
                gain["gain"], place + shift, color=colour(number), marker=MARKERS[number],
                markersize=4, linestyle="", label=start if place == 0 else None,
            )  # fmt: skip
    axis.axvline(0, color="0.4", linewidth=1)
    axis.set_yticks(range(len(rows)), list(rows), fontsize=8)
    axis.set_ylim(len(rows) - 0.5, -0.5)
    axis.set_xlabel("change of mIoU (points), 95 %")
    figure.legend(loc="outside upper center", ncols=3, frameon=False, fontsize=9)
    return figure


CHARTS: dict[str, Callable[[Document], Figure]] = {
    "gains": gains, "noise": noise, "settings": settings, "borders": borders,
    "directions": directions,
}  # fmt: skip
