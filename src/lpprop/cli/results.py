"""The results of an image, and beside them a record of what they were made from.

<stem>_labels.png, <stem>_overlay.png, <stem>_scores.npy
<stem>_record.json          the settings, and a fingerprint of each input

The record says "complete": false before the first result takes its name, and true after the last
has: results that a kill left in between are taken for unfinished, whatever they look like.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lpprop._core.errors import InputError
from lpprop._version import __version__
from lpprop.io.atomic import atomic_write
from lpprop.io.files import fingerprint, is_unchanged

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

__all__ = ["Results", "find_pending"]


@dataclass(frozen=True)
class Results:
    """The files of one image's results, there or still to be made.

    Attributes:
        image: the image.
        folder: where the results go.
        settings: all that decides what they are, beside the inputs, by the name that users know.
            What lies behind a setting that differs is not compared.
        inputs: the files that they are made from, by the command line's name, the image too.
    """

    image: Path
    folder: Path
    settings: Mapping[str, Any]
    inputs: Mapping[str, Path]

    @property
    def files(self) -> list[Path]:
        """The files of labels, overlay and scores."""
        parts = ("labels.png", "overlay.png", "scores.npy")
        return [self.folder / f"{self.image.stem}_{part}" for part in parts]

    @property
    def scores_file(self) -> Path:
        """The file of the scores."""
        return self.files[2]

    @property
    def record_file(self) -> Path:
        """The file of the record."""
        return self.folder / f"{self.image.stem}_record.json"

    def fingerprints(self) -> dict[str, dict[str, Any]]:
        """Describe the content of the inputs; to be asked before they are read.

        A file that changes while it is read then differs from its description, so the next run
        cannot take the results for those of its new content.
        """
        return {name: fingerprint(path) for name, path in self.inputs.items()}

    def write(
        self,
        labels: Image.Image,
        overlay: Image.Image,
        scores: NDArray[np.float32],
        inputs: Mapping[str, Mapping[str, Any]],
        commits: Mapping[str, str | None] | None = None,
    ) -> None:
        """Write the results, all or none, and the record.

        Args:
            labels: what the file of labels holds.
            overlay: the picture.
            scores: what the file of scores holds.
            inputs: the `fingerprints` of the inputs.
            commits: by model, the commit that was loaded, which the record tells too.
        """
        labels_file, overlay_file, scores_file = self.files
        with ExitStack() as stack:
            labels.save(stack.enter_context(atomic_write(labels_file)), format="PNG")
            overlay.save(stack.enter_context(atomic_write(overlay_file)), format="PNG")
            np.save(stack.enter_context(atomic_write(scores_file)), scores)
            record = {
                "complete": False, "lpprop": __version__, "commits": commits or {},
                "settings": self.settings, "inputs": inputs,
            }  # fmt: skip
            self.write_record(record)
        self.write_record({**record, "complete": True})

    def write_record(self, record: Mapping[str, Any]) -> None:
        """Write the record, in place of the one that is there."""
        with atomic_write(self.record_file) as file:
            file.write((json.dumps(record, indent=2, default=str) + "\n").encode())

    def find_differences(self) -> list[str] | None:
        """Tell in words how the results that are there were made otherwise.

        Returns:
            None where results are missing or unfinished, so that they can be made; an empty list
            for results of the same settings and inputs.
        """
        there = [file for file in self.files if file.exists()]
        if not there:
            return None
        record = self.load_record()
        if record is None:
            return [f"{there[0].name} is there without a record of how it was made"]
        if not record["complete"]:
            return None
        found = self.compare(record)
        return found if found or len(there) == len(self.files) else None

    def compare(self, record: Mapping[str, Any]) -> list[str]:
        """Tell in words what differs from the settings and inputs of a record."""
        found = list(_compare_settings(record["settings"], _as_json(self.settings)))
        return found or list(_compare_inputs(record["inputs"], self.inputs))

    def load_record(self) -> dict[str, Any] | None:
        """Read the record; None where it is missing or damaged."""
        try:
            record = json.loads(self.record_file.read_bytes())
            if not isinstance(record["complete"], bool):
                return None
            inputs = record["inputs"].values()
            whole = isinstance(record["settings"], dict) and all(
                one.keys() >= _PRINT for one in inputs
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None
        return dict(record) if whole else None


_PRINT = {"path", "size", "mtime_ns", "sha256"}


def _as_json(value: Any) -> Any:
    """Return what a value is after a way through a file: tuples are lists."""
    return json.loads(json.dumps(value, default=str))


def _compare_settings(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """Yield the first setting that differs, and all that differ beneath it."""
    for name in dict.fromkeys([*new, *old]):
        before, now = old.get(name), new.get(name)
        if before == now:
            continue
        if isinstance(before, dict) and isinstance(now, dict):
            for key in dict.fromkeys([*now, *before]):
                if before.get(key) != now.get(key):
                    yield f"{key} was {_show(before.get(key))} and is {_show(now.get(key))}"
        else:
            yield f"{name} was {_show(before)} and is {_show(now)}"
        return


def _show(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "not given" if value is None else str(value)


def _compare_inputs(old: Mapping[str, Mapping[str, Any]], new: Mapping[str, Path]) -> Iterator[str]:
    for name in dict.fromkeys([*new, *old]):
        if name not in old:
            yield f"{name} was not given and is {new[name]}"
        elif name not in new:
            yield f"{name} was {old[name]['path']} and is not given"
        elif not is_unchanged(new[name], old[name]):
            same_place = str(new[name].resolve()) == old[name]["path"]
            yield (
                f"the content of {name}, {new[name]}, has changed"
                if same_place
                else (
                    f"{name} was {old[name]['path']} and is {new[name]}, which holds something else"
                )
            )


def find_pending(every: Sequence[Results], *, overwrite: bool) -> list[Results]:
    """List the results that are missing or unfinished, or all of them to overwrite.

    Raises:
        InputError: results that were made with other settings or inputs, or that have no record.
    """
    if overwrite:
        return list(every)
    pending, otherwise = [], dict[str, list[str]]()
    for results in every:
        differences = results.find_differences()
        if differences is None:
            pending.append(results)
        elif differences:
            otherwise.setdefault("; ".join(differences), []).append(results.image.name)
    if otherwise:
        listed = [
            f"{names[0]}{f' and {len(names) - 1} more' if names[1:] else ''}: {text}"
            for text, names in otherwise.items()
        ]
        more = f"; and {len(listed) - 3} others" if listed[3:] else ""
        raise InputError.of(
            "--out",
            got=f"{every[0].folder}, whose results were made otherwise ({'; '.join(listed[:3])}"
            f"{more})",
            expected="none, or results of the same settings and inputs",
            fix="Choose another folder, or pass --overwrite to make all of them again.",
        )
    return pending
