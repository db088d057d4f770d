"""The results as Markdown tables, by the names that mark them in the document."""

from functools import partial
from typing import Any

from lpprop._core.text import markdown_table, percent

from .study import BILINEAR, FEW, IN_ALL, MANY, MEAN, SETTINGS, SIGMAS, STARTS, TRUTH, WINDOWS

_percent = partial(percent, digits=1)
Found = dict[str, Any]


def tables(found: Found) -> dict[str, str]:
    """Every table by its name."""
    return {
        "video windows": _windows(found),
        "video sigmas": _sigmas(found),
        "video seconds": _seconds(found),
    }


def _cell(row: Found) -> str:
    return f"{_percent(row['miou'])} / {_percent(row['changes'])}"


def _windows(found: Found) -> str:
    rows = [
        [name if min(map(int, by_window)) == T else "", str(T), *(
            _cell(found["windows"][start][name][str(T)]) for start in STARTS
        )]
        for name, by_window in found["windows"][STARTS[0]].items()
        for T in WINDOWS
        if str(T) in by_window
    ]  # fmt: skip
    assert {row[0] for row in rows} - {""} == {BILINEAR, MEAN, *SETTINGS, *IN_ALL}
    rows.append([TRUTH, "", *[f"100 / {_percent(found['truth'])}"] * len(STARTS)])
    return markdown_table(["method", "T", *STARTS], rows)


def _sigmas(found: Found) -> str:
    rows = [
        [name, f"{sigma:g}", *(
            _cell(found["sigmas"][start][name][f"{sigma:g}"]) for start in STARTS
        )]
        for name in (FEW, MANY)
        for sigma in SIGMAS
    ]  # fmt: skip
    return markdown_table(["method", "sigma_time", *STARTS], rows)


def _seconds(found: Found) -> str:
    rows = [
        [name, *(f"{found['windows'][STARTS[-1]][name][str(T)]['seconds']:.2f}" for T in WINDOWS)]
        for name in (FEW, MANY)
    ]
    return markdown_table(["seconds per frame", *(f"T = {T}" for T in WINDOWS)], rows)
