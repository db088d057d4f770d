"""`python -m benchmarks.video`: the tables and the picture of docs/video.md.

    python -m benchmarks.video --weights DINOV2 --streets STREETS --camvid CAMVID --out WORK

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
from .figures import draw
from .study import Clip, run
from .tables import tables

FILE = Path(__file__).parent / "results.json"
DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "video.md"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.video")
    parser.add_argument("--weights", type=Path, help="folder of DINOv2 ViT-S/14")
    parser.add_argument("--streets", type=Path, help="two drives of CamVid: images/ and labels/")
    parser.add_argument("--camvid", type=Path, help="a stretch of CamVid: images/ and labels/")
    parser.add_argument("--out", type=Path, help="where a run keeps what it has done")
    parser.add_argument("--draw", action="store_true", help="make the picture alone")
    args = parser.parse_args(arguments)
    if args.out is not None:
        if None in (args.weights, args.streets, args.camvid):
            parser.error("--out needs --weights, --streets and --camvid")
        clip = Clip(args.weights, args.streets, args.camvid, args.out)
        with warnings.catch_warnings(), torch.inference_mode():
            warnings.simplefilter("ignore", lpprop.InputWarning)
            draw(clip, DOCS / "images" / "video.webp")
            if args.draw:
                return
            found = run(clip)
        with atomic_write(FILE) as file:
            file.write((json.dumps(rounded(found), indent=1) + "\n").encode())
    renew(PAGE, tables(json.loads(FILE.read_text())))


if __name__ == "__main__":
    main()
