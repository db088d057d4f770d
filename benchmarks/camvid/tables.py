"""The results as Markdown tables, by the names that mark them in the document."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from lpprop._core.text import markdown_table, percent

from .methods import REFINERS, UPSAMPLERS, pair
from .study import BASE, Document

_percent = partial(percent, digits=1)

#: The point of each grid that holds the function's defaults.
DEFAULTS: dict[str, dict[str, Any]] = {
    "patch step": {"k": 400, "gamma": 3.0, "alpha": 0.95},
    "patch step, k 50, γ 7": {"sigma": 0.01, "max_iter": 10},
    "pixel step": {"tau": 0.01, "r": 13, "alpha": 0.95},
    "optimal path": {"epsilon": 0.1, "nms": 0.9},
    "velocity": {"tau": 0.3, "nms": 0.9, "temperature": 0.1},
    "joint bilateral": {"sigma_range": 0.1**0.5, "sigma_space": 1.0},
    "guided filter": {"radius": 8, "eps": 1e-4},
    "PAMR": {"iterations": 5, "dilations": [8, 16]},
    "DenseCRF": {"w1": 10.0, "theta_beta": 13.0, "scale": "auto"},
    "scores for LP k 50, γ 7": {"scores": "as they are"},
    "scores for path": {"scores": "as they are"},
    "scores for velocity": {"scores": "as they are"},
}


def tables(found: Document) -> dict[str, str]:
    """Every table by its name."""
    made = {
        "oracle": oracle(found),
        "sizes": sizes(found),
        "seeds": seeds(found),
        "shares": shares(found),
        "penalties": markdown_table(
            ["probe", "mIoU"], [[name, _percent(x)] for name, x in found["penalties"].items()]
        ),
        "purity": classes_of(found),
        "votes": votes(found),
        "sweeps": swept(found),
    }
    for start in ("relabelled", "probe"):
        made[f"{start} miou"] = crossed(found, start, "miou")
        made[f"{start} boundary"] = crossed(found, start, "boundary")
        made[f"{start} boundary wide"] = crossed(found, start, "boundary_wide")
        made[f"{start} gains"] = gains(found, start, [*bilinear()[1:], *upsampled()[1:]])
        made[f"{start} classes"] = by_class(found, start)
    made["true gains"] = gains(found, "true", bilinear()[1:])
    made["true classes"] = by_class(found, "true")
    for start in ("oracle", "true", "relabelled", "probe"):
        made[f"{start} repairs"] = repairs(found, start)
    for start in found["reasons"]["borders"]:
        made[f"{start} borders"] = borders(found, start)
    return made


def bilinear() -> list[str]:
    return [pair(name, "bilinear") for name in REFINERS]


def upsampled() -> list[str]:
    return [pair("start", name) for name in UPSAMPLERS]


def oracle(found: Document) -> str:
    rows = found["runs"]["oracle"]
    lines = []
    for name in UPSAMPLERS:
        row = rows[pair("start", name)]
        base = name == "bilinear"
        lines.append(
            [
                name,
                _percent(row["miou"]),
                "" if base else interval(row["gain"]),
                "" if base else f"{row['gain']['better']} of {found['images']}",
                _percent(row["boundary_wide"]),
                _percent(row["boundary"]),
                "" if base else interval(row["boundary_gain"]),
                f"{found['seconds'][name]:.2f}",
            ]
        )
    head = ["upsampling", "mIoU", "gain (95 %)", "images that gain", "Boundary IoU, 0.02",
            "0.005", "gain (95 %)", "time"]  # fmt: skip
    return markdown_table(head, lines)


def crossed(found: Document, start: str, metric: str) -> str:
    """Refiners down, upsamplers across; the best of all in bold."""
    rows = found["runs"][start]
    best = max(row[metric] for row in rows.values())
    lines = []
    for refiner in REFINERS:
        values = [rows[pair(refiner, column)][metric] for column in UPSAMPLERS]
        cells = [f"**{_percent(x)}**" if x == best else _percent(x) for x in values]
        lines.append([refiner, *cells])
    return markdown_table(["", *UPSAMPLERS], lines)


def gains(found: Document, start: str, names: Iterable[str]) -> str:
    """Paired gains over the bilinearly upsampled start."""
    rows, images = found["runs"][start], found["images"]
    lines = [
        [
            name,
            interval(rows[name]["gain"]),
            f"{rows[name]['gain']['better']} of {images}",
            interval(rows[name]["boundary_gain"]),
            f"{rows[name]['boundary_gain']['better']} of {images}",
        ]
        for name in names
    ]
    head = ["", "mIoU (95 %)", "images that gain", "Boundary IoU, 0.005 (95 %)", "images that gain"]
    return markdown_table(head, lines)


def by_class(found: Document, start: str) -> str:
    """The start's IoU of each class, thin classes first, and what each refiner adds to it."""
    rows = found["runs"][start]
    before = rows[BASE]["iou"]
    lines = [
        [
            found["classes"][c],
            f"{found['reasons']['thickness'][c]:.0f}",
            _percent(before[c]),
            *(_points(rows[name]["iou"][c], before[c]) for name in bilinear()[1:]),
        ]
        for c in thin_first(found)
    ]
    return markdown_table(["class", "width, px", "start", *list(REFINERS)[1:]], lines)


def classes_of(found: Document) -> str:
    """Width of each class, and the share of its edges that stay within the class."""
    graphs = found["reasons"]["purity"]
    lines = [
        [
            found["classes"][c],
            f"{found['reasons']['thickness'][c]:.0f}",
            *(f"{values[c]:.0f}" for values in graphs.values()),
        ]
        for c in thin_first(found)
    ]
    return markdown_table(["class", "width, px", *graphs], lines)


def votes(found: Document) -> str:
    """For which class the neighbours of wrong patches vote."""
    lines = [
        [start, graph, *(f"{x:.0f}" for x in row.values())]
        for start, graphs in found["reasons"]["votes"].items()
        for graph, row in graphs.items()
    ]
    first = next(iter(found["reasons"]["votes"]["probe"].values()))
    return markdown_table(["start", "graph", *(f"{name}, %" for name in first)], lines)


def repairs(found: Document, start: str) -> str:
    rows = found["reasons"]["repairs"][start]
    lines = [
        [name, f"{row['mended']:.1f}", f"{row['broken']:.1f}"]
        for name, row in rows.items()
        if name != BASE
    ]
    return markdown_table(["", "mended, % of the wrong", "broken, % of the right"], lines)


def borders(found: Document, start: str) -> str:
    rows = found["reasons"]["borders"][start]
    head = ["right, %", *next(iter(rows.values()))]
    return markdown_table(
        head, [[name, *(f"{x:.1f}" for x in row.values())] for name, row in rows.items()]
    )


def sizes(found: Document) -> str:
    lines = [
        [
            name,
            *(
                f"{_percent(rows[pair('start', name)]['miou'])} / "
                f"{_percent(rows[pair('start', name)]['boundary'])}"
                for rows in found["sizes"].values()
            ),
        ]
        for name in UPSAMPLERS
    ]
    return markdown_table(["mIoU / Boundary IoU", *(f"{x} px" for x in found["sizes"])], lines)


def seeds(found: Document) -> str:
    lines = [
        [name, *map(_percent, values), f"{100 * (max(values) - min(values)):.1f}"]
        for name, values in found["seeds"].items()
    ]
    count = len(next(iter(found["seeds"].values())))
    return markdown_table(["", *(f"seed {i}" for i in range(count)), "range"], lines)


def shares(found: Document) -> str:
    columns = found["shares"]
    lines = [
        [refiner, *(_percent(rows[name]["miou"]) for rows in columns.values())]
        for refiner, name in zip(REFINERS, bilinear(), strict=True)
    ]
    return markdown_table(["mIoU", *(f"{100 * float(x):.0f} %" for x in columns)], lines)


def swept(found: Document) -> str:
    """The defaults and the best point of each grid, by start."""
    lines = [
        ["bilinear alone", start, _both(row), "–", "–"] for start, row in found["part"].items()
    ]
    for start, grids in found["sweeps"].items():
        for name, rows in grids.items():
            usual = at(rows, DEFAULTS[name])
            best = max(rows, key=lambda row: row["miou"])
            lines.append(
                [
                    name,
                    start,
                    "–" if usual is None else _both(usual),
                    setting(best["values"]),
                    _both(best),
                ]
            )
    head = ["swept", "start", "at its defaults", "at its best", "mIoU / Boundary IoU there"]
    order = ["bilinear alone", *DEFAULTS]
    return markdown_table(head, sorted(lines, key=lambda line: order.index(line[0])))


def at(rows: list[Document], values: dict[str, Any]) -> Document | None:
    """Return the row at a point, or None if the grid does not have it."""
    return next((row for row in rows if rounded(row["values"]) == rounded(values)), None)


def rounded(value: Any) -> Any:
    """Drop digits beyond the sixth, which no table shows. Tuples become lists, as in JSON."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    return [rounded(item) for item in value] if isinstance(value, (list, tuple)) else value


def setting(values: dict[str, Any]) -> str:
    return ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in values.items()
    )


def thin_first(found: Document) -> list[int]:
    width: Callable[[int], float] = found["reasons"]["thickness"].__getitem__
    return sorted(range(len(found["classes"])), key=width)


def _both(row: Document) -> str:
    return f"{_percent(row['miou'])} / {_percent(row['boundary'])}"


def interval(gain: Document) -> str:
    return f"{gain['gain']:+.1f} ({gain['low']:+.1f} to {gain['high']:+.1f})"


def _points(after: float | None, before: float | None) -> str:
    return "–" if after is None or before is None else f"{100 * (after - before):+.1f}"
