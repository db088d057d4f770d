"""`python -m benchmarks.transformer`: tables of the study, of regions and of "which refiner?".

    python -m benchmarks.transformer --weights DINOV2 --streets STREETS --camvid CAMVID \\
        --bsds BSDS --out WORK

The same command continues a run that was interrupted. With --only it runs some experiments, and
keeps the committed results of the others. Without --out it renews tables and figures from the
committed results.
"""

import argparse
import json
from pathlib import Path

from lpprop.io.atomic import atomic_write

from ..camvid.tables import rounded
from ..marked import renew
from . import choice_tables, figures, region_tables, tables
from .experiments import experiments
from .results import Document, grown, results
from .visits import Folders, Worker, evaluate

FILE = Path(__file__).parent / "results.json"
PAGES = ("transformer_study.md", "regions.md", "which_refiner.md")
DOCS = Path(__file__).parents[2] / "docs"


def every_table(found: Document) -> dict[str, str]:
    """The tables of all pages, by the names that mark them there."""
    return tables.tables(found) | region_tables.tables(found) | choice_tables.tables(found)


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
    parser.add_argument(
        "--only", nargs="+", metavar="EXPERIMENT", choices=list(experiments()),
        help="run these, and keep the committed results of the others",
    )  # fmt: skip
    parser.add_argument("--tiny", action="store_true", help="small pictures, few methods")
    args = parser.parse_args(arguments)
    if args.out is not None:
        folders = (args.weights, args.streets, args.camvid, args.bsds)
        if None in folders:
            parser.error("--out needs --weights, --streets, --camvid and --bsds")
        worker = Worker(Folders(*folders, args.out), tiny=args.tiny, only=args.only)
        evaluate(worker, args.processes)
        found = results(worker.pictures, args.out, worker.experiments)
        if args.only is not None:
            found = grown(json.loads(args.results.read_text()), found)
        with atomic_write(args.results) as file:
            file.write((json.dumps(rounded(found), indent=1) + "\n").encode())
    found = json.loads(args.results.read_text())
    made = every_table(found)
    for page in (args.docs / name for name in PAGES):
        if page.exists():
            renew(page, made)
    figures.draw(found, args.docs / "images")


if __name__ == "__main__":
    main()
