"""`lpprop tune`."""

from __future__ import annotations

import argparse
import dataclasses
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lpprop._core.errors import InputError
from lpprop.cli.arguments import add_command, add_shared, name_methods, regions_name
from lpprop.cli.common import check_folder, find_device, find_recipe, make_folder, say
from lpprop.cli.eval_methods import add_source, check_source, keep_regions
from lpprop.cli.labelled import add_dataset, find_dataset, interruptible, read_lines
from lpprop.cli.messages import visible

if TYPE_CHECKING:
    from lpprop.evaluation.datasets import Dataset

__all__ = ["add_tune"]

_HELP = """\
Find the method and its settings for labelled images of your own, or of a benchmark: those with the
highest mIoU. The images, and the scores that are refined, are named as for lpprop eval: by a
recipe, or by folders of stored arrays (--logits, --feats ...). The models run once per image.

Every preset is tried as it is; then Optuna suggests methods and settings (pip install
'lpprop[tune]'). Overfitting is shown: beside the score on the images that a setting was chosen by
stands that on held-out folds, for which the others choose. Images that belong together, such as
frames of one video, are never in two folds: names tell which they are, or --groups.

The DIR of --out receives tuning.md and tuning.json: a table of the best settings with 95 %
intervals, whether the best beats the start and the presets beyond chance, what each option is
worth, and a line of Python that rebuilds the method. A search that was ended is continued by the
same command, and so is one with more --trials. Ctrl-C ends it with the result so far."""

_EXAMPLE = """\
example:
  lpprop tune --images photos --labels labels --classes classes.txt --logits logits \\
    --feats feats --trials 200 --out runs/tuned
  lpprop tune --dataset camvid --root CamVid --recipe clip-dino --minutes 60 \\
    --groups '(.*)_f?[0-9]+' --out runs/camvid-tuned"""


def add_tune(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    command = add_command(
        commands, "tune", _tune,
        short="find the best method and settings on labelled images", description=_HELP,
        example=_EXAMPLE,
    )  # fmt: skip
    add_dataset(command)
    add_source(command, leave=["saliency"])  # which decides on the background alone
    command.add_argument(
        "--method",
        nargs="+",
        metavar="METHOD",
        help=f"some of {name_methods()} (default: those that the inputs allow)",
    )
    add_shared(command, "--side", " (default: the recipe's)")
    command.add_argument(
        "--trials",
        type=int,
        metavar="N",
        help="number of settings that are searched, with the presets; beside them, each option of "
        "the best is put back at the end (default: 100, or none beside --minutes)",
    )
    command.add_argument(
        "--minutes",
        type=float,
        metavar="N",
        help="bound on the time of this call, without that of the starts (default: none)",
    )
    command.add_argument("--seed", type=int, default=0, metavar="N", help="default: 0")
    command.add_argument(
        "--groups",
        metavar="WHAT",
        help="which images belong together: a file with a name, a blank and a group (without "
        "blanks) per line, or a regular expression whose first group is the group's name (default: "
        "by names that are alike but for a number)",
    )
    command.add_argument(
        "--folds", type=int, metavar="N", help="default: 5, or as many as there are groups"
    )
    command.add_argument("--metric", default="miou", help="miou or boundary_iou (default: miou)")
    add_shared(command, "--out", " (default: runs/ and the data set's name, -tuned)")


def _tune(arguments: argparse.Namespace) -> int:
    # Imported here, since the other commands need none of it.
    from lpprop.evaluation import (
        EvaluationError,
        ProposedRegions,
        SegmenterPredictor,
        StoredStart,
        tune,
    )
    from lpprop.evaluation.tuning.study import import_optuna

    import_optuna()
    folders, proposer = check_source(arguments), regions_name(arguments)
    recipe = None if folders else find_recipe(arguments.recipe, arguments.side)
    device = find_device(arguments.device)
    dataset = find_dataset(arguments)
    groups = None if arguments.groups is None else _read_groups(arguments.groups, dataset)
    out = arguments.out or Path("runs") / f"{dataset.name}-tuned"
    check_folder(out)
    start: Any
    if recipe is None:
        start = StoredStart(folders, device=device)
        start.check(dataset)
        if proposer:
            start = ProposedRegions(start, keep_regions(arguments, proposer, out, device))
    else:
        segmenter = recipe.build(download=not arguments.no_download, device=device)
        if proposer:
            recipe = dataclasses.replace(recipe, regions=proposer)  # which the record tells
            segmenter.regions = keep_regions(arguments, proposer, out, device)
        start = SegmenterPredictor(segmenter, dataset.prompts, recipe)
    make_folder(out)
    trials = arguments.trials
    if trials is None and arguments.minutes is None:
        trials = 100
    try:
        with interruptible() as codes:
            result = tune(
                dataset, start, out,
                methods=arguments.method, groups=groups, folds=arguments.folds, trials=trials,
                minutes=arguments.minutes, seed=arguments.seed, metric=arguments.metric,
            )  # fmt: skip
    except EvaluationError as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt as interrupt:
        say("interrupted: the same command continues")
        return int(interrupt.args[0]) if interrupt.args else 130
    print(result.to_markdown(), end="")
    print(f"\nall of it: {visible(str(out / 'tuning.md'))} and tuning.json")
    if result.stopped == "interrupted":
        say("interrupted: the same command continues")
        return codes[-1] if codes else 130
    return 0


def _read_groups(given: str, dataset: Dataset) -> list[str]:
    """Return the group of each sample, by a file or by a pattern of names."""
    if Path(given).is_file():
        known = _read_groups_file(Path(given))
        unknown = [name for name in known if name not in set(dataset.names)]
        if unknown:
            more = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
            named = ", ".join(map(repr, unknown[:3])) + more
            say(f"warning: --groups: {given} names images that are not there: {named}")
        found = [known.get(name) for name in dataset.names]
        expected, fix = "a line for each image: its name, a blank, its group", "Add it."
    else:
        try:
            pattern = re.compile(given)
        except re.error as error:
            raise InputError.of(
                "--groups",
                got=f"{given!r} ({error})",
                expected="a file, or a regular expression",
                fix="Check the path, or write a pattern such as '(.*)_[0-9]+'.",
            ) from error
        matches = [pattern.match(name) if pattern.groups else None for name in dataset.names]
        found = [None if match is None else match[1] for match in matches]
        expected = "a pattern whose first group, in brackets, is found in each name"
        fix = "Check the path, or write a pattern such as '(.*)_[0-9]+'."
    for name, group in zip(dataset.names, found, strict=True):
        if group is None:
            raise InputError.of(
                "--groups", got=f"{given!r}, which has no group for {name!r}", expected=expected,
                fix=fix,
            )  # fmt: skip
    return [str(group) for group in found]


def _read_groups_file(path: Path) -> dict[str, str]:
    """Return groups by names; a name may have blanks, a group has none."""
    known: dict[str, str] = {}
    for line in read_lines("--groups", path, "a name, a blank, and its group"):
        words = line.strip().rsplit(maxsplit=1)
        if len(words) < 2:  # it is said below where an image has no group
            continue
        name, group = words
        if known.setdefault(name, group) != group:
            raise InputError.of(
                "--groups",
                got=f"{str(path)!r} with {name!r} in {known[name]!r} and in {group!r}",
                expected="one group for each image",
                fix="Remove one of the lines.",
            )
    return known
