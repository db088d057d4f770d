"""Starts whose arrays any model has stored: a folder per input, a file per sample.

start = StoredStart({"logits": "logits", "feats": "feats"})
start.check(dataset)
report = evaluate(dataset, refinements(start, ["bilinear", "lposs"]), Path("runs/mine"))
"""

from __future__ import annotations

import hashlib
import reprlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lpprop._core.errors import InputError
from lpprop._core.precision import move_to
from lpprop.evaluation.datasets.dataset import Files
from lpprop.evaluation.datasets.layout import as_path, no_folder
from lpprop.evaluation.predictors import LabelledImage, Start
from lpprop.evaluation.task import Samples, check_dataset
from lpprop.inputs.table import INPUTS
from lpprop.io.arrays import list_arrays
from lpprop.io.files import fingerprint, is_unchanged
from lpprop.io.inputs import reader_of

__all__ = ["StoredStart"]

#: The arrays that files can hold, and the number of axes that they have in a batch; 0 of those that
#: `refine` takes without a batch.
_RANKS = {"logits": 4} | {
    row.name: max((len(axes.split()) for axes in row.axes or ()), default=0)
    for row in INPUTS.values()
    if row.file
}


class StoredStart:
    """Read the start of each sample from files of arrays, as `lpprop refine` takes them.

    A folder has one file per sample: .npy, .npz, .safetensors, .pt or .pth, named after the sample,
    or after its image file. Of several arrays in a file, the one named like the input is taken. The
    folders are listed once, when the start is made.

    Args:
        folders: the folder of each input: of "logits" (C, h, w), and of any of "feats" (D, h', w'),
            "attention" (N, N) or (heads, N, N), "pixel_feats" (F, H, W), and "regions" (H, W) or
            (M, H, W), whose files may also be those of `lpprop.regions.load`.
        device: where the arrays are put, and so where methods compute.

    Attributes:
        folders: the folder of each input.
        device: as given.

    Raises:
        InputError: no logits, an input that files cannot hold, or a path that is no folder.

    >>> import tempfile
    >>> import numpy as np
    >>> from types import SimpleNamespace
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(Path(folder, "street.npy"), np.ones((5, 3, 4)))
    ...     StoredStart({"logits": folder})(SimpleNamespace(name="street")).logits.shape
    torch.Size([1, 5, 3, 4])
    """

    def __init__(
        self, folders: Mapping[str, Path | str], *, device: str | torch.device = "cpu"
    ) -> None:
        named = isinstance(folders, Mapping) and {"logits"} <= set(folders) <= set(_RANKS)
        if not named:
            raise InputError.of(
                "folders",
                got=reprlib.repr(dict(folders) if isinstance(folders, Mapping) else folders),
                expected=f"a folder of logits, and of any of {', '.join(list(_RANKS)[1:])}",
                fix='Pass {"logits": folder}, and other inputs by name.',
            )
        self.folders = {name: as_path(name, folder) for name, folder in folders.items()}
        for name, folder in self.folders.items():
            if not folder.is_dir():
                raise no_folder(name, folder)
        self.device = device
        self._files = {
            name: list_arrays(folder, reader_of(name).suffixes)
            for name, folder in self.folders.items()
        }
        self._known: dict[Path, dict[str, Any]] = {}

    def __repr__(self) -> str:
        folders = {name: str(folder) for name, folder in self.folders.items()}
        return f"StoredStart({folders}, device={str(self.device)!r})"

    def __call__(self, sample: LabelledImage) -> Start:
        """Return the start of a sample.

        Raises:
            InputError: an array without a file or with several, or one that cannot be read.
        """
        paths = {}
        for name in self.folders:
            found = self._find(name, sample)
            if len(found) != 1:
                raise self._not_one(name, [f"{sample.name} ({len(found)} files)"])
            paths[name] = found[0]
        arrays = {
            name: move_to(self.device, _as_batch(reader_of(name).load(path, name), name))
            for name, path in paths.items()
        }
        return Start(arrays.pop("logits"), **arrays)

    def check(self, dataset: Samples) -> None:
        """Refuse arrays that cannot be those of a data set, before any work.

        Args:
            dataset: the whole data set, not a part: a file that belongs to no sample is refused.

        Raises:
            InputError: samples without a file or with several, files without a sample, or scores
                of the first sample that are not of the data set's classes.

        >>> import tempfile
        >>> from types import SimpleNamespace
        >>> class Data(list):
        ...     name, class_names = "data", ["a", "b"]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     StoredStart({"logits": folder}).check(Data([SimpleNamespace(name="street")]))
        Traceback (most recent call last):
        lpprop.InputError: logits: got ... for 1 of 1 samples: street (0 files), expected ...
        """
        check_dataset(dataset)
        samples = [dataset[index] for index in range(len(dataset))]
        for name in self.folders:
            found = {str(sample.name): self._find(name, sample) for sample in samples}
            wrong = [
                f"{sample} ({len(files)} files)"
                for sample, files in found.items()
                if len(files) != 1
            ]
            taken = {file for files in found.values() for file in files}
            others = [
                file.name
                for files in self._files[name].values()
                for file in files
                if file not in taken
            ]
            if wrong:
                raise self._not_one(name, wrong, len(samples), others)
            if others:
                raise InputError.of(
                    name,
                    got=f"{_shorten(others)} in {self.folders[name]}, named like no sample",
                    expected=f"the files of the {len(samples)} samples alone",
                    fix="Check the names, or move those files elsewhere.",
                )
        classes, path = len(dataset.class_names), self._find("logits", samples[0])[0]
        shape = tuple(_as_batch(reader_of("logits").load(path, "logits"), "logits").shape)
        if len(shape) != 4 or shape[1] != classes:
            raise InputError.of(
                "logits",
                got=f"{path} of shape {shape[1:] if shape[0] == 1 else shape}",
                expected=f"({classes}, h, w), scores of each of the {classes} classes",
                fix="Check the classes, and the order of the array's axes.",
            )

    def fingerprint(self) -> dict[str, Any]:
        """Describe the folders and the content of their files.

        A file is read again only where its size or time has changed.
        """
        return {
            "stored": {
                name: {"folder": folder.resolve().name, "content": self._hash(name)}
                for name, folder in self.folders.items()
            }
        }

    def _find(self, name: str, sample: LabelledImage) -> list[Path]:
        """List the files of a sample's array: one, if all is well."""
        files = getattr(sample, "files", None)
        names = [str(sample.name), *([files.image.stem] if isinstance(files, Files) else [])]
        return [file for stem in dict.fromkeys(names) for file in self._files[name].get(stem, [])]

    def _hash(self, name: str) -> str:
        digest = hashlib.sha256()
        for path in self._paths(name):
            known = self._known.get(path)
            if known is None or not is_unchanged(path, known):
                self._known[path] = fingerprint(path)
            line = f"{path.name} {self._known[path]['sha256']}\n"
            digest.update(line.encode(errors="surrogatepass"))
        return digest.hexdigest()

    def _paths(self, name: str) -> Iterator[Path]:
        for files in self._files[name].values():
            yield from files

    def _not_one(
        self, name: str, wrong: list[str], samples: int = 1, others: list[str] | None = None
    ) -> InputError:
        more = f"; no sample is named like {_shorten(others)}" if others else ""
        return InputError.of(
            name,
            got=f"in {self.folders[name]}, for {len(wrong)} of {samples} samples: "
            f"{_shorten(wrong)}{more}",
            expected="one file per sample, named after it, such as street.npy",
            fix="Add the missing files, and keep one of each.",
        )


def _as_batch(array: Tensor, name: str) -> Tensor:
    """Return an array of one image as a batch of one; attention (N, N) has no heads."""
    return array[None] if array.ndim < _RANKS[name] else array


def _shorten(names: list[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"{', '.join(names[:5])}{more}"
