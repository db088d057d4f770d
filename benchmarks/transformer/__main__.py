"""`python -m benchmarks.transformer`: the tables of docs/transformer_study.md.

    python -m benchmarks.transformer --weights DINOV2 --streets STREETS --camvid CAMVID \\
        --bsds BSDS --out WORK

The same command continues a run that was interrupted. Without --out it renews tables and figures
from the committed results.
"""

import argparse
import json
from pathlib import Path

from lpprop.io.atomic import atomic_write

from ..camvid.tables import rounded
from ..marked import renew
from . import figures, tables
from .results import results
from .visits import Folders, Worker, evaluate

FILE = Path(__file__).parent / "results.json"
DOCS = Path(__file__).parents[2] / "docs"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.transformer")
    parser.add_argument("--weights", type=Path, help="folder of DINOv2 ViT-S/14")
    parser.add_argument("--streets", type=Path, help="two drives of CamVid: images/ and labels/")
    parser.add_argument("--camvid", type=Path, help="a stretch of CamVid: images/ and labels/")
    parser.add_argument("--bsds", type=Path, help="photographs of BSDS500: images/ and regions/")
    parser.add_argument("--out", type=Path, help="where a run keeps what it has done")
    parser.add_argument("--processes", type=int, default=2, help="default: %(default)s")
    parser.add_argument("--results", type=Path, default=FILE, help="default: %(default)s")
    parser.add_argument("--docs", type=Path, default=DOCS, help="default: %(default)s")
    parser.add_argument("--tiny", action="store_true", help="small pictures, few methods")
    args = parser.parse_args(arguments)
    if args.out is not None:
        folders = (args.weights, args.streets, args.camvid, args.bsds)
        if None in folders:
            parser.error("--out needs --weights, --streets, --camvid and --bsds")
        worker = Worker(Folders(*folders, args.out), tiny=args.tiny)
        evaluate(worker, args.processes)
        found = results(worker.pictures, args.out, tiny=args.tiny)
        with atomic_write(args.results) as file:
            file.write((json.dumps(rounded(found), indent=1) + "\n").encode())
    found = json.loads(args.results.read_text())
    for page in (args.docs / "transformer_study.md", args.docs.parent / "README.md"):
        if page.exists():
            renew(page, tables.tables(found))
    figures.draw(found, args.docs / "images")


if __name__ == "__main__":
    main()
