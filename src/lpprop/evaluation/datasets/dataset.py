"""A labelled data set: a sequence of samples, each read on first access."""

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

__all__ = ["FORMATS", "SUFFIXES", "Dataset", "Files", "Sample"]

#: The formats that are read.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "PPM", "TIFF")

#: The suffixes of your own images. TIFF and GIF are not among them: a reader turns the one by
#: itself, and the other has frames.
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm")

#: A function from a sample's name and the file with its labels to its classes (H, W).
LabelReader = Callable[[str, Path], UInt8[np.ndarray, "H W"]]


class Files(NamedTuple):
    """The files of a sample.

    Attributes:
        name: the sample's name, the same on every machine.
        image: the image file.
        labels: the file with the labels, of this image only or of all images.
    """

    name: str
    image: Path
    labels: Path


@dataclass(frozen=True, eq=False)
class Sample:
    """An image and its labels; both are read on first access, and cached."""

    files: Files
    read_labels: LabelReader
    n_classes: int

    @property
    def name(self) -> str:
        """The sample's name, unique in the data set."""
        return self.files.name

    @cached_property
    def image(self) -> Image.Image:
        """The image in RGB, with the pixels as they are stored, to which the labels belong.

        An orientation in the file's EXIF data is not applied, and an `lpprop.InputWarning` says so.
        """
        return load_image(self.files.image, "root", formats=FORMATS, upright=False)

    @cached_property
    def gt(self) -> UInt8[np.ndarray, "H W"]:
        """The class of each pixel (H, W), counted from 0; 255 where the pixel does not count.

        Raises:
            InputError: labels that are damaged, of another size than the image, or of no class.
        """
        labels = self.read_labels(self.name, self.files.labels)
        with open_image(self.files.image, "root", FORMATS) as image:
            width, height = image.size
        if labels.shape != (height, width):
            raise InputError.of(
                "labels",
                got=f"{labels.shape[1]} x {labels.shape[0]} labels for {self.name!r} in "
                f"{self.files.labels}",
                expected=f"{width} x {height}, one per pixel of {self.files.image}",
                fix="Labels are for the stored pixels: EXIF orientation is not applied. Resize "
                "image and labels together.",
            )
        last = int(labels.max(where=labels != IGNORED, initial=0))
        if last >= self.n_classes:
            raise InputError.of(
                "prompts",
                got=f"{self.n_classes} for labels up to {last} ({self.name!r})",
                expected="one string for each class of the data set",
                fix="Write all synonyms of a class into one string, with ';' between them.",
            )
        return labels


@dataclass(frozen=True, repr=False, eq=False)
class Dataset(Sequence[Sample]):
    """A sequence of samples, always in the same order; each is read on first access.

    A slice is a data set too: `dataset[:10]`. A data set pickles, for other processes.

    Attributes:
        name: name of the benchmark, such as "voc21".
        prompts: one string per class, in the order of the indices, as `lpprop.backbones` takes
            them: synonyms separated by ";", with or without "name =".
        files: files of the samples.
        read_labels: reader of a label file.
        labels_from: source of the labels, for reports.
        palette: the data set's own colours (C, 3), if it has any.

    Raises:
        InputError: no sample, two samples of one name, or prompts that cannot be used.
    """

    name: str
    prompts: list[str]
    files: tuple[Files, ...]
    read_labels: LabelReader
    labels_from: str
    palette: UInt8[np.ndarray, "C 3"] | None = None

    def __post_init__(self) -> None:
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
                expected="one sample per name",
                fix="Remove or rename the duplicates.",
            )

    def __repr__(self) -> str:
        return f"Dataset({self.name!r}, {len(self)} samples, {len(self.prompts)} classes)"

    @property
    def class_names(self) -> list[str]:
        """The name of each class."""
        return parse_classes(self.prompts).class_names

    @property
    def names(self) -> list[str]:
        """The name of each sample."""
        return [files.name for files in self.files]

    def __len__(self) -> int:
        return len(self.files)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> Dataset: ...
    def __getitem__(self, index: int | slice) -> Sample | Dataset:
        """Return one sample, or a data set for a slice."""
        if isinstance(index, slice):
            return replace(self, files=self.files[index])
        return Sample(self.files[index], self.read_labels, len(self.prompts))
