"""A benchmark's protocol: classes, prompts, split, folder layout and label conversion."""

from __future__ import annotations

import reprlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from lpprop._core.errors import InputError
from lpprop.backbones.prompts import BACKGROUND_PROMPTS
from lpprop.evaluation.datasets.dataset import Dataset, Files, LabelReader
from lpprop.evaluation.datasets.layout import as_path
from lpprop.viz.palettes import colours

__all__ = ["Benchmark", "Found"]


class Found(NamedTuple):
    """The files of a layout's samples, the reader of their labels, and the labels' source."""

    files: tuple[Files, ...]
    read_labels: LabelReader
    labels_from: str


@lru_cache
def _lines(name: str) -> tuple[str, ...]:
    lists = files("lpprop.evaluation.datasets").joinpath("classes")
    return tuple(lists.joinpath(f"{name}.txt").read_text(encoding="utf-8").splitlines())


@dataclass(frozen=True)
class Benchmark:
    """A protocol, under which numbers are comparable; `load` reads a copy of the data.

    Attributes:
        name: short name, such as "voc21".
        title: name in words.
        class_list: file in classes/ with the prompts, one line per class.
        find: lists the samples of a split below a root.
        layout: the expected folders, with {split}.
        split: the split that is evaluated.
        size: the official number of samples in that split.
        background: key of `lpprop.backbones.BACKGROUND_PROMPTS` for class 0, "background", which
            comes before the classes of the list; None where there is no such class.
        palette: name of the data set's own colours in `lpprop.viz.palettes`.
        colour: index of class 0 in that palette.
    """

    name: str
    title: str
    class_list: str
    find: Callable[[Path, str, str], Found]
    layout: str
    split: str
    size: int
    background: str | None = None
    palette: str | None = None
    colour: int = 0

    @property
    def prompts(self) -> list[str]:
        """One string per class, in the order of the indices."""
        lines = list(_lines(self.class_list))
        if self.background is None:
            return lines
        return [f"background = {'; '.join(BACKGROUND_PROMPTS[self.background])}", *lines]

    def load(self, root: Path | str, split: str | None = None) -> Dataset:
        """Find the samples below a root; see `load_dataset`."""
        chosen = self.split if split is None else split
        if not isinstance(chosen, str) or not chosen or {"/", "\\", "\0"} & set(chosen):
            raise InputError.of(
                "split",
                got=reprlib.repr(chosen),
                expected="the name of a split",
                fix=f"Pass {self.split!r}.",
            )
        found = self.find(as_path("root", root), chosen, self.layout.format(split=chosen))
        prompts = self.prompts
        own = None
        if self.palette is not None:
            own = colours(self.palette, self.colour + len(prompts))[self.colour :]
        return Dataset(self.name, prompts, *found, palette=own)
