"""The command line of a benchmark whose results are committed."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .contract import RESULTS, document, save
from .report import table


def read_arguments(
    benchmark: str, arguments: Sequence[str] | None, *, rounds: str
) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{benchmark}")
    parser.add_argument("--repeats", type=int, default=5, help=rounds)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument(
        "--quick", action="store_true", help="tiny sizes, no memory: tests the benchmark alone"
    )
    parser.add_argument("--out", type=Path, help="default: benchmarks/results; with --quick none")
    return parser.parse_args(arguments)


def publish(
    benchmark: str, works: Sequence[dict[str, Any]], args: argparse.Namespace, packages: str
) -> None:
    """Write the result where the arguments say, and print it."""
    result = document(benchmark, works, quick=args.quick, packages=packages)
    if args.out or not args.quick:
        save(result, args.out or RESULTS / f"{benchmark}_{args.device}.json")
    print(table(result))
