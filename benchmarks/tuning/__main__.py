"""`python -m benchmarks.tuning --streets DIR --weights DIR --out DIR`: tables of docs/tuning.md.

A refiner is tuned on one drive and tested on the other, against the presets, both ways. The same
command continues a run that was interrupted. Without --streets it renews the tables from the
committed results.
"""

import argparse
import json
import re
import time
from pathlib import Path
from typing import Any

import torch

import lpprop
from lpprop import presets
from lpprop._core.text import markdown_table, percent
from lpprop.backbones import Backbone, VisionTransformer
from lpprop.evaluation import bootstrap, difference, evaluate, refinements, tune
from lpprop.evaluation.datasets import load_dataset
from lpprop.evaluation.tuning.scores import write_gain, write_interval
from lpprop.io.atomic import atomic_write

from .starts import Drive, PrototypeStart

FILE = Path(__file__).parent / "results.json"
DOCS = Path(__file__).parents[2] / "docs" / "tuning.md"
DRIVES = ("0006R0", "0016E5")
METHODS = ("bilinear", "joint_bilateral", "lposs", "lposs+", "optimal_path", "max_velocity", "pamr")
_MARKED = re.compile(r"(<!-- table (.+?) -->\n).*?(<!-- /table -->)", re.DOTALL)


def measure(
    backbone: Backbone, drives: tuple[Drive, Drive], out: Path, trials: int
) -> dict[str, Any]:
    """Tune on the first drive, test on the second."""
    began = time.monotonic()
    tuned_on, tested_on = drives
    here = PrototypeStart(backbone, tested_on)
    result = tune(tuned_on, here, out / tuned_on.name, methods=METHODS, trials=trials)
    there = PrototypeStart(backbone, tuned_on)
    methods = {name: presets.find(name)() for name in METHODS} | {"tuned": result.best}
    report = evaluate(
        tested_on, refinements(there, methods), out / f"{tuned_on.name} on {tested_on.name}"
    )
    groups = [tested_on.name] * len(tested_on)
    own = {x.method: x for x in result.rows}
    best = max(METHODS, key=lambda name: report[name].metrics.miou)
    return {
        "tuned_on": tuned_on.name,
        "tested_on": tested_on.name,
        "images": [len(tuned_on), len(tested_on)],
        "python": result.python,
        "tuned": own["best of all"].tuned,
        "held_out": own["best of all"].held_out,
        "presets_here": {name: own[name].preset for name in METHODS},
        "presets_there": {name: bootstrap(report[name], groups) for name in METHODS},
        "tuned_there": bootstrap(report["tuned"], groups),
        "best_preset": best,
        "over_start": difference(report["bilinear"], report["tuned"], groups),
        "over_best_preset": difference(report[best], report["tuned"], groups),
        "worth": [
            {"option": x.option, "value": x.value, "preset": x.preset, "gain": x.difference}
            for x in result.worth
        ],
        "seconds": round(time.monotonic() - began),
    }


def scores(found: dict[str, Any]) -> str:
    """Every method on both drives: as it is, and tuned."""
    head = ["", *(f"{x['tested_on']}, tuned on {x['tuned_on']}" for x in found["directions"])]
    rows = [
        [
            "start (bilinear)" if name == "bilinear" else f"preset {name}",
            *(write(x["presets_there"][name]) for x in found["directions"]),
        ]
        for name in METHODS
    ]
    rows.append(["**tuned**", *(f"**{write(x['tuned_there'])}**" for x in found["directions"])])
    rows.append(["over the start", *(gain(x["over_start"]) for x in found["directions"])])
    rows.append(
        [
            "over the best preset",
            *(f"{x['best_preset']}: {gain(x['over_best_preset'])}" for x in found["directions"]),
        ]
    )
    return markdown_table(head, rows)


def optimism(found: dict[str, Any]) -> str:
    """The score of the choice on what it has seen, less and less."""
    head = ["tuned on", "on the images tuned on", "held-out runs of that drive", "the other drive"]
    rows = [
        [
            x["tuned_on"],
            percent(x["tuned"], 1),
            write(x["held_out"]),
            write(x["tuned_there"]),
        ]
        for x in found["directions"]
    ]
    return markdown_table(head, rows)


def worth(found: dict[str, Any]) -> str:
    """What each option of the best is worth on the drive that it was tuned on."""
    rows = [
        [x["tuned_on"], one["option"], f"{one['value']}", f"{one['preset']}", gain(one["gain"])]
        for x in found["directions"]
        for one in x["worth"]
    ]
    return markdown_table(["tuned on", "option", "best", "preset", "worth, in points"], rows)


def lines(found: dict[str, Any]) -> str:
    """The best setting of each drive, as Python."""
    listed = "\n".join(f"{x['python']}  # {x['tuned_on']}" for x in found["directions"])
    return f"<!-- no-run -->\n```python\n{listed}\n```"


def facts(found: dict[str, Any]) -> str:
    """What was run."""
    versions = ", ".join(f"{name} {number}" for name, number in found["versions"].items())
    counts = " and ".join(str(count) for count in found["directions"][0]["images"])
    minutes = sum(x["seconds"] for x in found["directions"]) / 60
    return (
        f"{counts} images, {found['trials']} settings each way, {minutes:.0f} minutes on "
        f"{found['threads']} CPU thread{'s'[: found['threads'] - 1]}; {versions}."
    )


TABLES = {"scores": scores, "optimism": optimism, "worth": worth, "lines": lines, "facts": facts}


def write(interval: list[float]) -> str:
    return write_interval(lpprop.evaluation.Interval(*interval))


def gain(found: list[float]) -> str:
    return write_gain(lpprop.evaluation.Difference(*found[:3], int(found[3])))


def renew(text: str, found: dict[str, Any]) -> str:
    """Return the page with its tables made anew."""
    return _MARKED.sub(lambda part: f"{part[1]}{TABLES[part[2]](found)}\n{part[3]}", text)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tuning")
    parser.add_argument("--streets", type=Path, help="folder of both drives: images/ and labels/")
    parser.add_argument("--weights", type=Path, help="folder of DINOv2's weights")
    parser.add_argument("--out", type=Path, help="where a run keeps what it has done")
    parser.add_argument("--images", type=int, default=12, help="of each drive (%(default)s)")
    parser.add_argument("--trials", type=int, default=40, help="settings (%(default)s)")
    parser.add_argument("--results", type=Path, default=FILE, help="default: %(default)s")
    parser.add_argument("--docs", type=Path, default=DOCS, help="default: %(default)s")
    args = parser.parse_args(arguments)
    if args.streets is not None:
        if args.out is None or args.weights is None:
            parser.error("--streets needs --weights, and --out, a folder outside the repository")
        backbone = VisionTransformer.from_pretrained(
            args.weights, dtype=torch.float32, features="token", attention="query-key"
        )
        streets = load_dataset("camvid", args.streets)
        first, second = (Drive(streets, prefix, args.images) for prefix in DRIVES)
        found = {
            "trials": args.trials,
            "threads": torch.get_num_threads(),
            "versions": {"lpprop": lpprop.__version__, "torch": torch.__version__},
            "directions": [
                measure(backbone, pair, args.out, args.trials)
                for pair in ((first, second), (second, first))
            ],
        }
        with atomic_write(args.results) as file:
            file.write((json.dumps(found, indent=1) + "\n").encode())
    found = json.loads(args.results.read_text())
    page = renew(args.docs.read_text(encoding="utf-8"), found)
    with atomic_write(args.docs) as file:
        file.write(page.encode())


if __name__ == "__main__":
    main()
