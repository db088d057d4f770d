"""What the commands on labelled images share: the data set, and how they end early."""

from __future__ import annotations

import argparse
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lpprop._core.errors import InputError
from lpprop.cli.common import refuse_one_class, say

if TYPE_CHECKING:
    from lpprop.evaluation.datasets import Dataset

__all__ = ["add_dataset", "find_dataset", "interruptible", "read_lines"]


def add_dataset(command: argparse.ArgumentParser) -> None:
    """Add the arguments that name a benchmark, or folders of the user's own."""
    command.add_argument("--dataset", metavar="NAME", help="see above")
    command.add_argument("--root", type=Path, metavar="DIR", help="the data set's folder")
    command.add_argument("--split", help="by its official name (default: the literature's)")
    command.add_argument("--images", type=Path, metavar="DIR", help="your images")
    command.add_argument("--labels", type=Path, metavar="DIR", help="their label maps")
    command.add_argument(
        "--ignore",
        type=int,
        nargs="+",
        metavar="N",
        help="the labels in them that do not count (default: 255)",
    )
    command.add_argument("--classes", type=Path, metavar="FILE", help="the classes")


@contextmanager
def interruptible() -> Iterator[list[int]]:
    """End on SIGTERM as on Ctrl-C, so that processes are ended and the user is told.

    Yields:
        The exit codes of the signals so far, for a block that ends well nevertheless.
    """
    codes: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield codes
        return

    def stop(number: int, _: object) -> None:
        codes.append(128 + number)
        raise KeyboardInterrupt(128 + number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield codes
    finally:
        signal.signal(signal.SIGTERM, before)


def read_lines(argument: str, path: Path, what: str) -> list[str]:
    """Read the lines of a text file that are not blank.

    Raises:
        InputError: a file that is not in UTF-8.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError.of(
            argument,
            got=f"{path} ({error})",
            expected=f"a text file in UTF-8 with {what} per line",
            fix="Save it as UTF-8.",
        ) from error
    return [line for line in text.splitlines() if line.strip()]


def find_dataset(arguments: argparse.Namespace) -> Dataset:
    """Find the samples of the benchmark, or of the user's own folders."""
    from lpprop._core.options import check_integer
    from lpprop.evaluation.datasets import DATASETS, dataset_from_folders, load_dataset
    from lpprop.evaluation.label_maps import IGNORED

    for label in arguments.ignore or ():
        check_integer("--ignore", label, low=0, high=255)
    names = ("dataset", "root", "split", "images", "labels", "classes", "ignore")
    given = [name for name in names if getattr(arguments, name) is not None]
    if given[:3] == ["images", "labels", "classes"]:
        classes = read_lines("--classes", arguments.classes, "one class")
        if classes:
            refuse_one_class("--classes", classes)
        ignored = [IGNORED] if arguments.ignore is None else arguments.ignore
        return dataset_from_folders(arguments.images, arguments.labels, classes, ignored=ignored)
    if given not in (["dataset", "root"], ["dataset", "root", "split"]):
        raise InputError.of(
            "--dataset",
            got=", ".join(f"--{name}" for name in given) or "nothing",
            expected="--dataset and --root, or --images, --labels and --classes (--ignore)",
            fix="Name a benchmark and its folder, or folders of your own.",
        )
    dataset = load_dataset(arguments.dataset, arguments.root, split=arguments.split)
    benchmark = DATASETS[arguments.dataset]
    if arguments.split in (None, benchmark.split) and len(dataset) != benchmark.size:
        say(
            f"warning: {len(dataset)} images in {arguments.root}, but {benchmark.name} has "
            f"{benchmark.size} in {benchmark.split}: compare no figures with the literature's"
        )
    return dataset
