"""The results as Markdown tables, by the names that mark them in the document."""

from collections.abc import Iterable, Sequence
from functools import partial

from lpprop._core.text import markdown_table, percent

from ..camvid.tables import interval
from . import advice
from .advice import of_experiment
from .directions import DIRECTIONS, MISSING, Direction
from .experiments import ADVISED_FROM, CLICKED, MAIN, MORE, SCALED, SWEPT, WHOLE
from .methods import BILINEAR, SHORT
from .results import Document

_percent = partial(percent, digits=1)
_FLAT = ("spatial", "windows", "pixels", "forms", "regions", "components", "path")
#: The way of each sweep that has the presets' settings; None where nothing stands for them.
USUAL = {
    "graphs": "k 400, gamma 7, alpha 0.95", "spatial": "k 400, γ 7, sigma 0.01",
    "features": "token, k 400, γ 7", "windows": "k 400, γ 7, 224/112",
    "pixels": "pixel step, tau 0.01", "forms": None, "regions": None, "components": None,
    "attention": "velocity, query-key last", "suppression": "velocity, softmax, nms 0.9",
    "path": "epsilon 0.1, nms 0.9", "velocity": "m2n2, tau 0.3",
}  # fmt: skip


def tables(found: Document) -> dict[str, str]:
    """Every table by its name."""
    made = {
        "pictures": markdown_table(
            ["scene", "pictures"], [[name, str(n)] for name, n in found["pictures"].items()]
        ),
        "main": crossed(found, "main", MAIN, "miou"),
        "main boundary": crossed(found, "main", MAIN, "boundary"),
        "main gains": gains(found, "main", MAIN, "gain"),
        "main boundary gains": gains(found, "main", MAIN, "boundary_gain"),
        "more starts": more_starts(found),
        "default": advice.default(found, dict.fromkeys((*MAIN, *MORE, *CLICKED))),
        "settings": advice.settings(found),
        "advice": crossed(found, "advice", ADVISED_FROM, "miou"),
        "advice gains": gains(found, "advice", ADVISED_FROM, "gain"),
        **{name: crossed(found, name, SCALED, "miou") for name in WHOLE},
        "photographs": of_photographs(found, "photographs"),
        "borders": of_photographs(found, "borders"),
        "best": best(found),
        "graphs": graphs(found),
        "directions": directions(found),
        "missing": markdown_table(
            ["not measured", "why"], [[name, why] for name, why in MISSING.items()]
        ),
        "seconds": seconds(found),
    }
    for start in _starts(found, "main", MAIN):
        made[f"scenes {start}"] = scenes(found, start)
    for name in _FLAT:
        made[name] = crossed(found, name, SWEPT, "miou", mean=True)
    for start in _starts(found, "features", SWEPT):
        made[f"features {start}"] = features(found, start)
    for name in ("attention", "suppression"):
        made[name] = paired(found, name, ("path", "velocity"))
    made["velocity"] = paired(found, "velocity", ("m2n2", "linear"))
    made["velocity others"] = crossed(
        found, "velocity", SWEPT, "miou", mean=True,
        only=[name for name in _ways(found, "velocity") if "scalings" in name or "step" in name],
    )  # fmt: skip
    return made


def _starts(found: Document, experiment: str, wanted: Iterable[str]) -> list[str]:
    return [start for start in wanted if start in of_experiment(found, experiment)]


def _ways(found: Document, experiment: str) -> list[str]:
    return list(next(iter(of_experiment(found, experiment).values())))


def crossed(
    found: Document, experiment: str, starts: Sequence[str], metric: str, *, mean: bool = False,
    only: Sequence[str] | None = None,
) -> str:  # fmt: skip
    """Methods down, starts across; the best of each start in bold."""
    rows = of_experiment(found, experiment)
    columns = {
        start: {name: row[metric] for name, row in rows[start].items()}
        for start in _starts(found, experiment, starts)
    }
    if mean:
        columns["mean"] = {
            name: sum(column[name] for column in columns.values()) / len(columns)
            for name in _ways(found, experiment)
        }
    names = _ways(found, experiment) if only is None else only
    return _bold(columns, names)


def _bold(columns: dict[str, dict[str, float]], names: Sequence[str]) -> str:
    top = {start: max((column[name] for name in names), default=0) for start, column in
           columns.items()}  # fmt: skip
    lines = [
        [
            name,
            *(
                f"**{_percent(column[name])}**"
                if column[name] == top[start]
                else _percent(column[name])
                for start, column in columns.items()
            ),
        ]
        for name in names
    ]
    return markdown_table(["", *columns], lines)


def gains(found: Document, experiment: str, starts: Sequence[str], kind: str) -> str:
    """Paired gains over the bilinearly upsampled start, with intervals."""
    rows = of_experiment(found, experiment)
    columns = _starts(found, experiment, starts)
    lines = [
        [name, *(interval(rows[start][name][kind]) for start in columns)]
        for name in _ways(found, experiment)
        if name != BILINEAR
    ]
    return markdown_table(["", *columns], lines)


def scenes(found: Document, start: str) -> str:
    """mIoU of each scene by itself."""
    rows = of_experiment(found, "main")[start]
    names = list(rows[BILINEAR]["scenes"])
    columns = {scene: {name: row["scenes"][scene] for name, row in rows.items()} for scene in names}
    return _bold(columns, list(rows))


def more_starts(found: Document) -> str:
    """mIoU by the number of labelled images, and by the share of wrong patches."""
    both = {**of_experiment(found, "main"), **of_experiment(found, "more starts")}
    order = sorted((x for x in both if x in (*MAIN, *MORE)), key=_by_number)
    columns = {
        start: {name: row["miou"] for name, row in both[start].items() if name in SHORT}
        for start in order
        if any(mark in start for mark in ("prototypes", "relabelled"))
    }
    names = [name for name in SHORT if all(name in column for column in columns.values())]
    return _bold(columns, names)


def _by_number(start: str) -> tuple[str, int]:
    digits = "".join(x for x in start if x.isdigit() and x != "2") or "0"
    return start.split(" ")[0], int(digits)


def of_photographs(found: Document, experiment: str) -> str:
    """mIoU and Boundary IoU, with the gain over bilinear upsampling, by start."""
    rows = of_experiment(found, experiment)
    lines = []
    for start, ways in rows.items():
        for name, row in ways.items():
            base = name == BILINEAR
            lines.append(
                [
                    start,
                    name,
                    _percent(row["miou"]),
                    "" if base else interval(row["gain"]),
                    _percent(row["boundary"]),
                    "" if base else interval(row["boundary_gain"]),
                ]
            )
    head = ["start", "", "mIoU", "gain (95 %)", "Boundary IoU", "gain (95 %)"]
    return markdown_table(head, lines)


def best(found: Document) -> str:
    """The usual and the best way of each sweep, by start."""
    lines = []
    for experiment, usual in USUAL.items():
        for start, rows in of_experiment(found, experiment).items():
            top = max(rows, key=lambda name: rows[name]["miou"])
            known = usual is not None and usual in rows
            lines.append(
                [
                    experiment,
                    start,
                    _percent(rows[usual]["miou"]) if known else "–",
                    top,
                    _percent(rows[top]["miou"]),
                ]
            )
    return markdown_table(["swept", "start", "at the preset", "at its best", "mIoU there"], lines)


def graphs(found: Document) -> str:
    """k and alpha down, gamma across, for each start."""
    rows = of_experiment(found, "graphs")
    points = [row["values"] for row in next(iter(rows.values())).values()]
    gammas = sorted({point["gamma"] for point in points})
    lines = []
    for start, ways in rows.items():
        at = {tuple(row["values"].values()): row["miou"] for row in ways.values()}
        for k, alpha in sorted({(point["k"], point["alpha"]) for point in points}):
            cells = (_percent(at.get((k, gamma, alpha))) for gamma in gammas)
            lines.append([start, str(k), f"{alpha:g}", *cells])
    return markdown_table(["start", "k", "alpha", *(f"γ {gamma:g}" for gamma in gammas)], lines)


def features(found: Document, start: str) -> str:
    """Features down, graphs across."""
    rows = of_experiment(found, "features")[start]
    columns: dict[str, dict[str, float]] = {}
    for name, row in rows.items():
        feats, graph = name.split(", ", 1)
        columns.setdefault(graph, {})[feats] = row["miou"]
    names = [
        feats
        for feats in dict.fromkeys(name.split(", ")[0] for name in rows)
        if all(feats in column for column in columns.values())
    ]
    return _bold(columns, names)


def paired(found: Document, experiment: str, prefixes: Sequence[str]) -> str:
    """The same settings of two methods side by side, from each start."""
    rows = of_experiment(found, experiment)
    names = _ways(found, experiment)
    settings = dict.fromkeys(
        name.removeprefix(f"{prefix}, ")
        for prefix in prefixes
        for name in names
        if name.startswith(f"{prefix}, ")
    )
    settings = {
        setting: None for setting in settings if f"{prefixes[0]}, {setting}" in names
    }  # fmt: skip
    columns = {
        f"{prefix}: {start}": {
            setting: ways[f"{prefix}, {setting}"]["miou"]
            for setting in settings
            if f"{prefix}, {setting}" in ways
        }
        for prefix in prefixes
        for start, ways in rows.items()
    }
    shared = [x for x in settings if all(x in column for column in columns.values())]
    return _bold(columns, shared)


def directions(found: Document) -> str:
    """What the papers say, and what is measured here."""
    lines = []
    for direction in DIRECTIONS:
        measured = found["directions"].get(direction.claim, {})
        sign = {1: "better", -1: "worse", 0: "the same"}[direction.sign]
        paper = sign if direction.paper is None else f"{direction.paper:+.1f}"
        cells = [interval(measured[start]) if start in measured else "–" for start in SWEPT]
        lines.append(
            [direction.claim, direction.source, paper, *cells, verdict(direction, measured),
             direction.why]
        )  # fmt: skip
    head = ["the papers' claim", "where", "there", *SWEPT, "agrees from", "why"]
    return markdown_table(head, lines)


def verdict(direction: Direction, measured: Document) -> str:
    """From how many starts the direction is the paper's, the other one, or open.

    A claim of "about the same" is met if the interval holds 0 or stays within a point of it.
    """
    met = against = 0
    for gain in measured.values():
        if direction.sign == 0:
            same = gain["low"] <= 0 <= gain["high"] or abs(gain["gain"]) < 1
            met, against = met + same, against + (not same)
        else:
            ends = sorted(direction.sign * gain[end] for end in ("low", "high"))
            met, against = met + (ends[0] > 0), against + (ends[1] < 0)
    if not measured:
        return "–"
    opened = len(measured) - met - against
    parts = [f"{met} of {len(measured)}"]
    parts += [f"{against} against"] * (against > 0) + [f"{opened} open"] * (opened > 0)
    return ", ".join(parts)


def seconds(found: Document) -> str:
    """Processor time of a picture, and what the whole run takes."""
    lines = [
        [
            name,
            str(found["experiments"][name]["pictures"]),
            f"{each['features']:.1f}",
            f"{each['methods']:.1f}",
        ]
        for name, each in found["seconds"].items()
    ]
    return markdown_table(["experiment", "pictures", "features, s", "methods, s"], lines)
