"""The tables that a user looks for first: what the default gains, and which settings to try."""

from collections.abc import Iterable
from functools import partial

from lpprop._core.text import markdown_table, percent

from .methods import BILINEAR
from .results import Document

_percent = partial(percent, digits=1)
#: The features that the default is measured with.
FEATS = ("tokens", "keys", "queries", "values", "CNN")
_PUBLISHED = "LPOSS+, γ 7"


def of_experiment(found: Document, experiment: str) -> Document:
    """The rows of each start."""
    starts: Document = found["experiments"][experiment]["starts"]
    return starts


def default(found: Document, starts: Iterable[str]) -> str:
    """What refine's default gains over bilinear upsampling, and its least gain on any scene."""
    lines = []
    for experiment, ending in (("main", ""), ("more starts", ""), ("photographs", ", photographs")):
        rows = of_experiment(found, experiment)
        lines += [
            [f"{start}{ending}", *_of_default(rows[start])] for start in starts if start in rows
        ]
    head = ["start", "bilinear", "published LPOSS+", *(f"default, {kind}" for kind in FEATS)]
    return markdown_table([*head, "least on any scene"], lines)


def _of_default(rows: Document) -> list[str]:
    """The start's mIoU, the gains over it, and the least of the default's on any scene."""
    base, names = rows[BILINEAR], [f"default, {kind}" for kind in FEATS]
    least = [
        100 * (rows[name]["scenes"][scene] - base["scenes"][scene])
        for name in names
        if name in rows
        for scene in rows[name].get("scenes", ())
    ]
    shown = [rows[name]["gain"]["gain"] if name in rows else None for name in (_PUBLISHED, *names)]
    shown.append(min(least) if least else None)
    return [_percent(base["miou"]), *("–" if gain is None else f"{gain:+.1f}" for gain in shown)]


def settings(found: Document) -> str:
    """The best graph of each kind of features from each start, and its gain over bilinear."""
    rows, base = of_experiment(found, "features"), of_experiment(found, "components")
    lines = []
    for start, ways in rows.items():
        if "logits" not in base.get(start, {}):
            continue
        top: dict[str, tuple[float, str]] = {}
        for name, row in ways.items():
            feats, graph = name.split(", ", 1)
            top[feats] = max(top.get(feats, (0.0, "")), (row["miou"], graph))
        cells = (
            f"{graph}: {100 * (miou - base[start]['logits']['miou']):+.1f}"
            for miou, graph in top.values()
        )
        lines.append([start, *cells])
    return markdown_table(
        ["start", *dict.fromkeys(x.split(", ")[0] for x in next(iter(rows.values())))], lines
    )
