"""`python -m benchmarks.clicks`: the tables of docs/clicks.md.

    python -m benchmarks.clicks --weights DINOV2 --streets STREETS --camvid CAMVID --bsds BSDS \
        --out WORK

Features are kept in WORK. Without --out it renews the tables from the committed results, and with
--picture it draws the picture of the page.
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
from . import study
from .picture import draw
from .tables import tables

FILE = Path(__file__).parent / "results.json"
PAGE = Path(__file__).parents[2] / "docs" / "clicks.md"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.clicks")
    parser.add_argument("--weights", type=Path, help="folder of DINOv2 ViT-S/14")
    parser.add_argument("--streets", type=Path, help="two drives of CamVid: images/ and labels/")
    parser.add_argument("--camvid", type=Path, help="a stretch of CamVid: images/ and labels/")
    parser.add_argument("--bsds", type=Path, help="photographs of BSDS500: images/ and regions/")
    parser.add_argument("--out", type=Path, help="where a run keeps what it has done")
    parser.add_argument("--picture", action="store_true", help="draw, with the weights if given")
    args = parser.parse_args(arguments)
    if args.out is not None:
        folders = (args.weights, args.streets, args.camvid, args.bsds)
        if None in folders:
            parser.error("--out needs --weights, --streets, --camvid and --bsds")
        with warnings.catch_warnings(), torch.inference_mode():
            # k = 400 is much on one image; that is part of what is shown.
            warnings.simplefilter("ignore", lpprop.InputWarning)
            found = study.run(*folders, args.out)
        with atomic_write(FILE) as file:
            file.write((json.dumps(rounded(found), indent=1) + "\n").encode())
    if args.picture:
        draw(args.weights)
    renew(PAGE, tables(json.loads(FILE.read_text())))


if __name__ == "__main__":
    main()
