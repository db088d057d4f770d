"""`python -m benchmarks.scale`: the tables of docs/scale.md.

    python -m benchmarks.scale --steps --throughput

It takes the steps of one image, and the throughput of 500 on a cluster of this machine; five
minutes, and the extras `models`, `demo` and `ray`. Without an option it renews the tables from the
committed results.
"""

from __future__ import annotations

import argparse
import json
from importlib import import_module
from pathlib import Path

from lpprop.io.atomic import atomic_write

from ..marked import renew
from .tables import tables

FILE = Path(__file__).parent / "results.json"
# Files of this package that measure something.
PARTS = ("steps", "throughput")
PAGE = Path(__file__).parents[2] / "docs" / "scale.md"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale")
    for part in PARTS:
        parser.add_argument(f"--{part}", action="store_true", help=f"measure the {part} anew")
    args = parser.parse_args(arguments)
    results = json.loads(FILE.read_text())
    for part in PARTS:
        if getattr(args, part):
            results[part] = import_module(f"{__package__}.{part}").measure()
            with atomic_write(FILE) as file:
                file.write((json.dumps(results, indent=1) + "\n").encode())
    renew(PAGE, tables(results))


if __name__ == "__main__":
    main()
