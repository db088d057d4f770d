"""The results as Markdown tables, by the names that mark them in the document."""

from functools import partial
from typing import Any

from lpprop._core.text import markdown_table, percent

from ..transformer.scenes import DRIVES, OTHER
from .study import IMAGES, REFINED, SCALES, TEMPERATURES, WAYS

_percent = partial(percent, digits=1)
Found = dict[str, Any]


def tables(found: Found) -> dict[str, str]:
    """Every table by its name."""
    return {
        "references starts": _starts(found),
        "references refined": _refined(found),
        "references temperatures": markdown_table(
            ["temperature", *map(str, TEMPERATURES)],
            [
                [way, *(_percent(row[str(x)]["miou"]) for x in TEMPERATURES)]
                for way, row in found["temperatures"].items()
            ],
        ),
        "references scales": markdown_table(
            ["scale of the softmax", *(f"{x:g}" for x in SCALES)],
            [["auto", *(_percent(found["scales"][f"{x:g}"]["miou"]) for x in SCALES)]],
        ),
    }


def _cells(row: Found) -> list[str]:
    """MIoU of each direction, and the mean Boundary IoU of both."""
    boundary = sum(row[drive]["boundary"] for drive in DRIVES) / len(DRIVES)
    return [*(_percent(row[drive]["miou"]) for drive in DRIVES), _percent(boundary)]


def _heads() -> list[str]:
    return [*(f"{drive} → {OTHER[drive]}" for drive in DRIVES), "Boundary IoU"]


def _starts(found: Found) -> str:
    rows = [
        [str(n), way, *_cells(found["starts"][f"{n} {way}"]["bilinear"])]
        for n in IMAGES
        for way in WAYS
    ]
    return markdown_table(["images", "scores", *_heads()], rows)


def _refined(found: Found) -> str:
    rows = [
        [str(n), way, method, *_cells(row)]
        for n, way in REFINED
        for method, row in found["refined"][f"{n} {way}"].items()
    ]
    return markdown_table(["images", "scores", "method", *_heads()], rows)
