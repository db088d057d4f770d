"""Whether anything became slower than at the last release: `make bench-guard`.

Each run is a process of its own, since a process keeps what it was given of memory and threads. A
ratio is that of a yardstick's time to lpprop's in the same round, so a slower machine does not show
in it. What fell is measured once more, and counts only if it falls again.

`--record` writes the file of this version, from more runs. Exit status: 0 nothing fell, 1 something
did, or there was nothing to compare.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection
from pathlib import Path

from . import history, judgement
from .plan import plan

ROOT = Path(__file__).parents[2]
RUNS, RECORDED_RUNS = 3, 5


def measure_rows(file: Path, names: Collection[str], *, quick: bool) -> None:
    """Measure the rows of these names, or all, once, and write {row: {yardstick: ratio}}."""
    measured = {}
    for row in plan(quick=quick):
        if not names or row.name in names:
            start = time.perf_counter()
            measured[row.name], busy = row.run()
            noise = f"; other processes used {busy:.0%} of the CPU time" if busy else ""
            print(f"{row.name}: {time.perf_counter() - start:.1f} s{noise}", file=sys.stderr)
    file.write_text(json.dumps(measured))


def run_apart(count: int, names: Collection[str], args: argparse.Namespace) -> judgement.Ratios:
    """Measure in processes, one after the other."""
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "run.json"
        command = [*shlex.split(args.prefix), sys.executable, "-m", "benchmarks.guard"]
        command += ["--once", str(file), *(["--quick"] if args.quick else []), *names]
        for number in range(1, count + 1):
            print(f"run {number} of {count}", flush=True)
            subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
            runs.append(json.loads(file.read_text()))
    return history.gather(runs)


def compare(args: argparse.Namespace) -> int:
    """Compare with the newest file; print the table."""
    record = history.latest(args.history)
    if record is None:
        print(f"no history in {args.history}: make bench-guard RECORD=1", file=sys.stderr)
        return 1
    here = history.is_here(record)
    recorded = history.ratios_of(record)
    verdicts = judgement.judge(recorded, run_apart(RUNS, args.rows, args), same_machine=here)
    if suspects := {verdict.row for verdict in judgement.fallen(verdicts)}:
        print(f"measured again: {', '.join(sorted(suspects))}", flush=True)
        again = judgement.judge(recorded, run_apart(RUNS, suspects, args), same_machine=here)
        better = {(v.row, v.yardstick): v for v in again if v.now is not None}
        verdicts = [
            better[v.row, v.yardstick] if v.said == "fell" else v for v in verdicts
        ]  # fmt: skip
    print(f"\nAgainst {record['version']}, recorded {record['date']}", end="")
    print("" if here else " on another kind of machine: halves alone count", end=".\n\n")
    print(judgement.table(verdicts))
    if all(verdict.said in ("missing", "new") for verdict in verdicts):
        print("\nnothing that was recorded could be measured", file=sys.stderr)
        return 1
    return 1 if judgement.fallen(verdicts) else 0


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.guard")
    parser.add_argument("rows", nargs="*", help="names of rows (default: all)")
    parser.add_argument("--record", action="store_true", help="write the file of this version")
    parser.add_argument("--history", type=Path, default=history.FOLDER, help="a folder")
    parser.add_argument(
        "--prefix", default="", help='a command that starts each run, such as "taskset -c 0,1"'
    )
    parser.add_argument("--quick", action="store_true", help="tiny sizes: tests the guard alone")
    parser.add_argument("--once", type=Path, metavar="FILE", help="one run, in this process")
    args = parser.parse_args(arguments)
    if args.once:
        measure_rows(args.once, args.rows, quick=args.quick)
        return 0
    if args.record:
        print(history.write(run_apart(RECORDED_RUNS, args.rows, args), args.history))
        return 0
    return compare(args)


if __name__ == "__main__":
    sys.exit(main())
