"""A labelled data set: a sequence of samples that are read when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, overload

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from lpprop._core.errors import InputError
from lpprop.backbones.prompts import parse_classes
from lpprop.evaluation.label_maps import IGNORED
from lpprop.io.images import load_image, open_image

__all__ = ["Dataset", "Files", "Sample"]

_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "PPM")

#: Reads the labels of a sample, by its name and the file that holds them, as classes (H, W).
LabelReader = Callable[[str, Path], UInt8[np.ndarray, "H W"]]


class Files(NamedTuple):
    """Where a sample is.

    Attributes:
        name: of the sample, the same on every machine.
        image: its image file.
        labels: the file that holds its labels, of this image alone or of all.
    """

    name: str
    image: Path
    labels: Path


@dataclass(frozen=True, eq=False)
class Sample:
    """An image and its labels; both are read when first asked for, and then kept.

    Attributes:
        files: its name and files.
        read_labels: reads its label file.
        classes: how many classes there are.
    """

    files: Files
    read_labels: LabelReader
    classes: int

    @property
    def name(self) -> str:
        """The sample's name, which no other of the data set has."""
        return self.files.name

    @cached_property
    def image(self) -> Image.Image:
        """The image in RGB, its pixels as they are stored."""
        return load_image(self.files.image, "root", formats=_FORMATS, upright=False)

    @cached_property
    def gt(self) -> UInt8[np.ndarray, "H W"]:
        """The class of each pixel (H, W), counted from 0; 255 where it does not count.

        Raises:
            InputError: labels that are damaged, of another size than the image, or no class.
        """
        labels = self.read_labels(self.name, self.files.labels)
        with open_image(self.files.image, "root", _FORMATS) as image:
            width, height = image.size
        if labels.shape != (height, width):
            raise InputError.of(
                "labels",
                got=f"{labels.shape[1]} x {labels.shape[0]} labels for {self.name!r} in "
                f"{self.files.labels}",
                expected=f"{width} x {height}, one a pixel of {self.files.image}",
                fix="Labels are for the stored pixels: EXIF orientation is not applied. Do not "
                "resize the one without the other.",
            )
        last = int(labels.max(where=labels != IGNORED, initial=0))
        if last >= self.classes:
            raise InputError.of(
                "prompts",
                got=f"{self.classes} for labels up to {last} ({self.name!r})",
                expected="one string for each class of the data set",
                fix="Write all synonyms of a class into one string, with ';' between them.",
            )
        return labels


@dataclass(frozen=True, repr=False, eq=False)
class Dataset(Sequence[Sample]):
    """A sequence of samples, always in the same order; nothing of them is read until asked for.

    A slice is a data set too: `dataset[:10]`. It pickles, for other processes.

    Attributes:
        name: of the benchmark, such as "voc21".
        prompts: one string a class, in the order of the indices, as `lpprop.backbones` takes
            them: synonyms separated by ";", which may begin with "label =".
        files: where the samples are.
        read_labels: reads a label file.
        labels_from: what the labels are made of, for reports.
        palette: its own colours (C, 3), if it has any.

    Raises:
        InputError: no sample, two of one name, or prompts that cannot be used.
    """

    name: str
    prompts: list[str]
    files: tuple[Files, ...]
    read_labels: LabelReader
    labels_from: str
    palette: UInt8[np.ndarray, "C 3"] | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be evaluated."""
        parse_classes(self.prompts)
        if not self.files:
            raise InputError.of(
                "dataset",
                got=f"{self.name} without samples",
                expected="at least one",
                fix="Check the folder, the split or the slice.",
            )
        names = self.names
        if len(set(names)) < len(names):
            twice = sorted({name for name in names if names.count(name) > 1})
            raise InputError.of(
                "dataset",
                got=f"{self.name} with several samples named {', '.join(twice[:3])}",
                expected="one sample a name",
                fix="Remove what is double.",
            )

    def __repr__(self) -> str:
        """Show name and size."""
        classes = len(self.prompts)
        return f"Dataset({self.name!r}, {len(self)} samples, {classes} classes)"

    @property
    def classes(self) -> list[str]:
        """What each class is called."""
        return parse_classes(self.prompts).labels

    @property
    def names(self) -> list[str]:
        """What each sample is called."""
        return [files.name for files in self.files]

    def __len__(self) -> int:
        """Count the samples."""
        return len(self.files)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> Dataset: ...
    def __getitem__(self, index: int | slice) -> Sample | Dataset:
        """Return one sample, or a data set of several."""
        if isinstance(index, slice):
            return replace(self, files=self.files[index])
        return Sample(self.files[index], self.read_labels, len(self.prompts))
