"""`python -m benchmarks.camvid --root FOLDER --out FOLDER`: the tables of docs/camvid_study.md.

The same command continues a run that was interrupted. Without --root it renews tables and figures
from the committed results.
"""

import argparse
import json
from pathlib import Path

from lpprop.io.atomic import atomic_write

from ..marked import renew
from . import figures, tables
from .starts import images
from .study import study

FILE = Path(__file__).parent / "results.json"
DOCS = Path(__file__).parents[2] / "docs"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.camvid")
    parser.add_argument("--root", type=Path, help="folder of the images: images/ and labels/")
    parser.add_argument("--out", type=Path, help="where a run keeps what it has done")
    parser.add_argument("--results", type=Path, default=FILE, help="default: %(default)s")
    parser.add_argument("--docs", type=Path, default=DOCS, help="default: %(default)s")
    parser.add_argument("--tiny", action="store_true", help="one value per option: tests the code")
    args = parser.parse_args(arguments)
    if args.root is not None:
        if args.out is None:
            parser.error("--root needs --out, a folder outside the repository")
        found = study(images(args.root), args.out, tiny=args.tiny)
        with atomic_write(args.results) as file:
            file.write((json.dumps(tables.rounded(found), indent=1) + "\n").encode())
    found = json.loads(args.results.read_text())
    renew(args.docs / "camvid_study.md", tables.tables(found))
    figures.draw(found, args.docs / "images")


if __name__ == "__main__":
    main()
