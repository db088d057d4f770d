"""`python -m benchmarks.references`: the tables of docs/references.md.

    python -m benchmarks.references --weights DINOV2 --streets STREETS --out WORK

Features are kept in WORK. Without --out it renews the tables from the committed results.
"""

import argparse
import json
import warnings
from pathlib import Path

import torch

import lpprop
from lpprop.io.atomic import atomic_write

from ..camvid.tables import rounded
from ..marked import renew
from .study import Study
from .tables import tables

FILE = Path(__file__).parent / "results.json"
PAGE = Path(__file__).parents[2] / "docs" / "references.md"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.references")
    parser.add_argument("--weights", type=Path, help="folder of DINOv2 ViT-S/14")
    parser.add_argument("--streets", type=Path, help="two drives of CamVid: images/ and labels/")
    parser.add_argument("--out", type=Path, help="where a run keeps what it has done")
    args = parser.parse_args(arguments)
    if args.out is not None:
        if args.weights is None or args.streets is None:
            parser.error("--out needs --weights and --streets")
        with warnings.catch_warnings(), torch.inference_mode():
            # k = 400 is much on one image; that is part of what is shown.
            warnings.simplefilter("ignore", lpprop.InputWarning)
            found = Study(args.weights, args.streets, args.out).run()
        with atomic_write(FILE) as file:
            file.write((json.dumps(rounded(found), indent=1) + "\n").encode())
    renew(PAGE, tables(json.loads(FILE.read_text())))


if __name__ == "__main__":
    main()
