"""The tables of docs/which_refiner.md: gains by kind of start, and by what a method takes."""

import json
from collections.abc import Mapping

from lpprop._core.text import markdown_table, percent

from ..contract import RESULTS
from .advice import of_experiment
from .methods import BILINEAR
from .results import Document

#: What the page calls a start; the experiment, and the start there.
STARTS: Mapping[str, tuple[str, str]] = {
    "weak": ("main", "CNN prototypes, 4"),
    "probe": ("main", "probe"),
    "wrong": ("main", "relabelled 40 %"),
    "wrong, photos": ("photographs", "relabelled 40 %"),
    "clicks, photos": ("photographs", "clicks"),
    "true": ("main", "oracle"),
}

#: What the page calls a method, what it takes, and what the study calls it.
METHODS: Mapping[str, tuple[str, str]] = {
    "the default, `auto`": ("features", "default, tokens"),
    "`lposs+` as published": ("features", "LPOSS+, γ 7"),
    "`lposs`, k 50, γ 7": ("features", "LP k 50, γ 7"),
    "`lposs`, k 10, γ 7, α 0.8": ("features", "LP k 10, γ 7, α 0.8"),
    "the same, then pixels": ("features", "LP k 10, γ 7, α 0.8 + pixel step"),
    "`lposs+`, k 50, γ 30, windows": ("features", "LPOSS+ k 50, γ 30, windows 448/224"),
    "`max_velocity`": ("attention", "maximum velocity"),
    "`max_velocity`, minmax, nms 0.5": ("attention", "velocity, minmax 0.5"),
    "`optimal_path`": ("attention", "optimal path"),
    "`optimal_path`, nms 0, ε 0.3": ("attention", "path, NMS 0, ε 0.3"),
    "`region_vote`, superpixels": ("the image alone", "regions: Felzenszwalb"),
    "`PixelPropagation` alone": ("the image alone", "pixel step"),
    "`pamr`": ("the image alone", "PAMR"),
    "`joint_bilateral`": ("the image alone", "joint bilateral"),
    "`guided_filter`": ("the image alone", "guided filter"),
    "`dense_crf`": ("the image alone", "DenseCRF"),
}

#: Of the methods, those that the study of borders has.
BORDERS = [name for name, (takes, _) in METHODS.items() if takes == "the image alone"]

#: What the page calls a piece of work; the file of its results, its name and competitor there.
TIMED: Mapping[str, tuple[str, str, str]] = {
    "bilinear": ("speed_cpu", "upsampling", "bilinear"),
    "`region_vote`, the vote alone": ("regions_cpu", "region vote, vote", "lpprop"),
    "`joint_bilateral`": ("speed_cpu", "upsampling", "lpprop, llvm"),
    "`pamr`": ("speed_cpu", "pixel step", "PAMR, added"),
    "`lposs`, 2,940 patches of 15 windows": ("speed_cpu", "patch step", "lpprop"),
    "`PixelPropagation` alone": ("speed_cpu", "pixel step", "lpprop, llvm"),
    "`lposs+`, the whole image": ("speed_cpu", "both steps together", "lpprop, no windows"),
    "`dense_crf`": ("speed_cpu", "pixel step", "DenseCRF"),
    "`lposs+`, 15 windows": ("speed_cpu", "both steps together", "lpprop"),
}


def tables(found: Document) -> dict[str, str]:
    """Every table by its name."""
    starts = {name: of_experiment(found, where)[start] for name, (where, start) in STARTS.items()}
    sizes = of_experiment(found, "borders")
    return {
        "choices": gains(starts, "gain", list(METHODS)),
        "choices, boundary": gains(starts, "boundary_gain", list(METHODS)),
        "choices, patches": gains(sizes, "gain", BORDERS),
        "choices, patches, boundary": gains(sizes, "boundary_gain", BORDERS),
        "choices, times": times(),
    }


def gains(columns: Mapping[str, Document], kind: str, names: list[str]) -> str:
    """Gains over bilinear upsampling; in brackets where 0 is within the 95 % interval.

    The first row has the metric that bilinear upsampling reaches; then a line opens each group of
    methods that take the same.
    """
    metric = {"gain": "miou", "boundary_gain": "boundary"}[kind]
    lines = [["bilinear", *(percent(rows[BILINEAR][metric], 1) for rows in columns.values())]]
    group = ""
    for name in names:
        takes, way = METHODS[name]
        cells = [_gain(rows, way, kind) for rows in columns.values()]
        if set(cells) == {"–"}:  # a tiny run has few
            continue
        if takes != group:
            group = takes
            lines.append([f"**given {takes}**", *("" for _ in cells)])
        lines.append([name, *cells])
    return markdown_table(["", *columns], lines)


def _gain(rows: Document, way: str, kind: str) -> str:
    if way not in rows:
        return "–"
    found = rows[way][kind]
    text = f"{found['gain']:+.1f}"
    return f"({text})" if found["low"] <= 0 <= found["high"] else text


def times() -> str:
    """Seconds by the committed benchmarks."""
    lines = []
    for name, (file, work, competitor) in TIMED.items():
        works = json.loads((RESULTS / f"{file}.json").read_text())["works"]
        competitors = next(each["competitors"] for each in works if each["name"] == work)
        (seconds,) = (x["seconds"]["median"] for x in competitors if x["name"] == competitor)
        lines.append([name, f"{seconds:.2g}"])
    return markdown_table(["", "seconds"], lines)
