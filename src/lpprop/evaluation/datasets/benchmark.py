"""A benchmark's protocol: classes, prompts, split, folder layout and label conversion."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from lpprop.backbones.prompts import BACKGROUND_PROMPTS
from lpprop.evaluation.datasets.dataset import Dataset, Files, LabelReader
from lpprop.viz.palettes import colours

__all__ = ["Benchmark", "Found"]


class Found(NamedTuple):
    """What a layout holds.

    Attributes:
        files: of the samples.
        read_labels: reads their label files.
        labels_from: what the labels are made of, in words.
    """

    files: tuple[Files, ...]
    read_labels: LabelReader
    labels_from: str


@lru_cache
def _lines(name: str) -> tuple[str, ...]:
    lists = files("lpprop.evaluation.datasets").joinpath("classes")
    return tuple(lists.joinpath(f"{name}.txt").read_text(encoding="utf-8").splitlines())


@dataclass(frozen=True)
class Benchmark:
    """What makes numbers comparable; `load` reads a copy of the data.

    Attributes:
        name: "voc21" and so on.
        title: in words.
        class_list: file in classes/ with one line a class, as prompts.
        find: lists the samples of a split below a root.
        layout: the folders that it expects, with {split}.
        split: that is evaluated.
        size: how many samples that split has officially.
        background: which of `lpprop.backbones.BACKGROUND_PROMPTS` score class 0, "background",
            which then stands before those of the class list; None where there is no such class.
        palette: name of its own colours in `lpprop.viz.palettes`.
        colour: which of them is class 0's.
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
        """One string a class, in the order of the indices."""
        lines = list(_lines(self.class_list))
        if self.background is None:
            return lines
        return [f"background = {'; '.join(BACKGROUND_PROMPTS[self.background])}", *lines]

    def load(self, root: Path | str, split: str | None = None) -> Dataset:
        """Find the samples below a root; see `load_dataset`."""
        chosen = split or self.split
        found = self.find(Path(root).expanduser(), chosen, self.layout.format(split=chosen))
        prompts = self.prompts
        own = None
        if self.palette is not None:
            own = colours(self.palette, self.colour + len(prompts))[self.colour :]
        return Dataset(self.name, prompts, *found, palette=own)
