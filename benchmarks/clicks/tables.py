"""The results as Markdown tables, by the names that mark them in the document."""

from functools import partial
from typing import Any

from lpprop._core.text import markdown_table, percent

from ..transformer.scenes import PHOTOGRAPHS
from .study import CORRECTED, MORE, PER_CLASS, STREETS, WAYS

_percent = partial(percent, digits=1)
_SCENES = {STREETS: "streets", PHOTOGRAPHS: "photographs"}
Found = dict[str, Any]


def tables(found: Found) -> dict[str, str]:
    """Every table by its name."""
    return {
        "clicks random": _table(found["random"], WAYS, PER_CLASS, "per class"),
        "clicks corrected": _table(found["corrected"], CORRECTED, MORE, "more"),
    }


def _table(found: Found, ways: Any, counts: tuple[int, ...], unit: str) -> str:
    heads = [f"{title}, {n} {unit}" for title in _SCENES.values() for n in counts]
    rows = [
        [way, *(_percent(found[scene][way][str(n)]) for scene in _SCENES for n in counts)]
        for way in ways
    ]
    return markdown_table(["method", *heads], rows)
