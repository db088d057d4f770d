"""`python -m benchmarks.scale`: the tables of docs/scale.md.

    python -m benchmarks.scale --measure

It needs the extras `models` and `demo`, and half a minute. Without --measure it renews the tables
from the committed results.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from lpprop.io.atomic import atomic_write

from ..marked import renew
from .tables import tables

FILE = Path(__file__).parent / "results.json"
PAGE = Path(__file__).parents[2] / "docs" / "scale.md"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale")
    parser.add_argument("--measure", action="store_true", help="take the steps of one image anew")
    if parser.parse_args(arguments).measure:
        from .steps import measure

        with atomic_write(FILE) as file:
            file.write((json.dumps(measure(), indent=1) + "\n").encode())
    renew(PAGE, tables(json.loads(FILE.read_text())))


if __name__ == "__main__":
    main()
