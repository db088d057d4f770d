"""`python -m benchmarks.tuning --streets DIR --weights DIR --out DIR`: tables of docs/tuning.md.

A refiner is tuned on one drive and tested on the other, against the presets, both ways. The same
command continues a run that was interrupted. Without --streets it renews the tables from the
committed results.
"""

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

import lpprop
from lpprop import presets
from lpprop._core.text import markdown_table, percent
from lpprop.backbones import EfficientNetLite0, VisionTransformer
from lpprop.evaluation import Start, bootstrap, difference, evaluate, refinements, tune
from lpprop.evaluation.datasets import load_dataset
from lpprop.evaluation.tuning.scores import write_gain, write_interval
from lpprop.io.atomic import atomic_write

from ..marked import renew
from .starts import Affinity, Drive, PrototypeStart, RelabelledStart

FILE = Path(__file__).parent / "results.json"
DOCS = Path(__file__).parents[2] / "docs" / "tuning.md"
DRIVES = ("0006R0", "0016E5")
METHODS = (
    *("bilinear", "auto", "joint_bilateral", "lposs", "lposs+"),
    *("optimal_path", "max_velocity", "pamr"),
)
Document = dict[str, Any]
Make = Callable[[Drive, Drive], Callable[[Any], Start]]


def measure(make: Make, drives: tuple[Drive, Drive], out: Path, trials: int) -> dict[str, Any]:
    """Tune on the first drive, test on the second; `make` makes the start of one by the other."""
    began = time.monotonic()
    here, there = drives
    result = tune(here, make(here, there), out / here.name, methods=METHODS, trials=trials)
    methods = {name: presets.find(name)() for name in METHODS} | {"tuned": result.best}
    predictors = refinements(make(there, here), methods)
    report = evaluate(there, predictors, out / f"{here.name} on {there.name}")
    groups = [there.name] * len(there)
    own = result.rows[-1]
    best = max(METHODS, key=lambda name: report[name].metrics.miou)
    return {
        "tuned_on": here.name,
        "tested_on": there.name,
        "images": [len(here), len(there)],
        "python": result.python,
        "tried": own.tried,
        "tuned": own.tuned,
        "held_out": own.held_out,
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


def scores(found: Document, start: str) -> str:
    """Every method on the drive that it was not tuned on."""
    ways = found["starts"][start]
    head = ["", *(f"{x['tested_on']}, tuned on {x['tuned_on']}" for x in ways)]
    rows = [
        [
            "the start, bilinear" if name == "bilinear" else f"preset {name}",
            *(write(x["presets_there"][name]) for x in ways),
        ]
        for name in METHODS
    ]
    rows.append(["**tuned**", *(f"**{write(x['tuned_there'])}**" for x in ways)])
    rows.append(["tuned, over the start", *(gain(x["over_start"]) for x in ways)])
    over = [f"{x['best_preset']}: {gain(x['over_best_preset'])}" for x in ways]
    rows.append(["tuned, over the best preset", *over])
    return markdown_table(head, rows)


def optimism(found: Document) -> str:
    """The score of the choice on images that have less and less to do with it."""
    head = ["start", "tuned on", "those images", "held-out runs of them", "the other drive"]
    rows = [
        [
            start,
            x["tuned_on"],
            percent(x["tuned"], 1),
            write(x["held_out"]),
            write(x["tuned_there"]),
        ]
        for start, ways in found["starts"].items()
        for x in ways
    ]
    return markdown_table(head, rows)


def worth(found: Document) -> str:
    """What each option of the best is worth on the drive that it was tuned on."""
    rows = [
        [start, x["tuned_on"], one["option"], *map(plain, (one["value"], one["preset"])),
         gain(one["gain"])]
        for start, ways in found["starts"].items()
        for x in ways
        for one in x["worth"]
    ]  # fmt: skip
    head = ["start", "tuned on", "option", "best", "preset", "worth, in points"]
    return markdown_table(head, rows)


def lines(found: Document) -> str:
    """The best settings as Python."""
    listed = "\n".join(
        f"{x['python']}  # {start}, {x['tuned_on']}"
        for start, ways in found["starts"].items()
        for x in ways
    )
    return f"<!-- no-run -->\n```python\n{listed}\n```"


def facts(found: Document) -> str:
    """What was run."""
    ways = [x for each in found["starts"].values() for x in each]
    versions = ", ".join(f"{name} {number}" for name, number in found["versions"].items())
    counts = " and ".join(str(count) for count in ways[0]["images"])
    minutes = sum(x["seconds"] for x in ways) / 60
    return (
        f"{counts} images, {found['trials']} settings searched for each start and drive; "
        f"{minutes:.0f} minutes on {found['threads']} CPU thread{'s'[: found['threads'] - 1]}; "
        f"{versions}."
    )


def verdicts(found: Document) -> str:
    """Whether tuning pays on the other drive, a line for each start and drive."""
    return "\n".join(
        f"- From {start}, tuned on {x['tuned_on']}: on the other drive it "
        f"{judge('the start', x['over_start'])}; it "
        f"{judge('the best preset there, ' + x['best_preset'], x['over_best_preset'])}."
        for start, ways in found["starts"].items()
        for x in ways
    )


def judge(over: str, found: list[float]) -> str:
    _, low, high, _ = found
    if low > 0:
        return f"beats {over}, beyond chance"
    if high < 0:
        return f"is worse than {over}, beyond chance"
    return f"differs from {over}, by no more than chance"


def plain(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


TABLES: dict[str, Callable[[Document], str]] = {
    "prototypes": partial(scores, start="prototypes"),
    "relabelled": partial(scores, start="relabelled"),
    "verdicts": verdicts,
    "optimism": optimism,
    "worth": worth,
    "lines": lines,
    "facts": facts,
}


def write(interval: list[float]) -> str:
    return write_interval(lpprop.evaluation.Interval(*interval))


def gain(found: list[float]) -> str:
    return write_gain(lpprop.evaluation.Difference(*found[:3], int(found[3])))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tuning")
    parser.add_argument("--streets", type=Path, help="folder of both drives: images/ and labels/")
    parser.add_argument("--weights", type=Path, help="folder of DINOv2's weights")
    parser.add_argument("--out", type=Path, help="where a run keeps what it has done")
    parser.add_argument("--images", type=int, default=10, help="of each drive (%(default)s)")
    parser.add_argument("--trials", type=int, default=44, help="settings (%(default)s)")
    parser.add_argument("--results", type=Path, default=FILE, help="default: %(default)s")
    parser.add_argument("--docs", type=Path, default=DOCS, help="default: %(default)s")
    args = parser.parse_args(arguments)
    if args.streets is not None:
        if args.out is None or args.weights is None:
            parser.error("--streets needs --weights, and --out, a folder outside the repository")
        affinity = Affinity(
            VisionTransformer.from_pretrained(
                args.weights, dtype=torch.float32, features="token", attention="query-key"
            )
        )
        scorer = EfficientNetLite0.from_pretrained()
        makes: dict[str, Make] = {
            "prototypes": lambda _, other: PrototypeStart(scorer, affinity, other),
            "relabelled": lambda own, _: RelabelledStart(affinity, own),
        }
        streets = load_dataset("camvid", args.streets)
        first, second = (Drive(streets, prefix, args.images) for prefix in DRIVES)
        found = {
            "trials": args.trials,
            "threads": torch.get_num_threads(),
            "versions": {"lpprop": lpprop.__version__, "torch": torch.__version__},
            "starts": {
                name: [
                    measure(make, pair, args.out / name, args.trials)
                    for pair in ((first, second), (second, first))
                ]
                for name, make in makes.items()
            },
        }
        with atomic_write(args.results) as file:
            file.write((json.dumps(found, indent=1) + "\n").encode())
    found = json.loads(args.results.read_text())
    renew(args.docs, {name: table(found) for name, table in TABLES.items()})


if __name__ == "__main__":
    main()
