"""References for `lpprop segment`: a saved set, or a folder of labelled images."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lpprop._core.errors import InputError

if TYPE_CHECKING:
    from lpprop.backbones.backbone import Backbone
    from lpprop.evaluation.datasets import Dataset
    from lpprop.models.recipes import Recipe
    from lpprop.models.references import References

__all__ = ["FILE", "Source"]

#: What a set that was made of a folder is saved as, beside the results.
FILE = "references.safetensors"

_CLASSES = "classes.txt"


@dataclass(frozen=True)
class Source:
    """What --references names: a file of `References.save`, or images/, labels/ and classes.txt."""

    path: Path

    @cached_property
    def _saved(self) -> References | None:
        from lpprop.models.references import References

        return None if self.path.is_dir() else References.load(self.path)

    @cached_property
    def _labelled(self) -> Dataset:
        from lpprop.cli.labelled import read_lines
        from lpprop.evaluation.datasets import dataset_from_folders
        from lpprop.io.files import require_file

        images, labels, listed = (self.path / x for x in ("images", "labels", _CLASSES))
        if not (images.is_dir() and labels.is_dir()):
            raise InputError.of(
                "--references",
                got=f"{self.path}, without folders images and labels",
                expected=f"a folder with images, labels and {_CLASSES}, or a file of references",
                fix="Name the images and their label maps (PNG) alike.",
            )
        require_file(listed, "--references", "a class per line, in the order of the labels")
        return dataset_from_folders(images, labels, read_lines("--references", listed, "a class"))

    def check(self, classes: Sequence[str]) -> None:
        """Refuse a class without references, before anything is loaded."""
        from lpprop.backbones.prompts import parse_classes
        from lpprop.models.references import find_sets

        find_sets(classes, parse_classes(self.classes).class_names)

    @property
    def classes(self) -> list[str]:
        """The classes that have references, in their order."""
        return self._labelled.prompts if self._saved is None else self._saved.names

    @cached_property
    def sha256(self) -> str:
        """A hash of what the references are or are made of, and of the names of its files."""
        if self._saved is not None:
            files = [self.path]
        else:
            files = [file for one in self._labelled.files for file in (one.image, one.labels)]
            files.append(self.path / _CLASSES)
        digest = hashlib.sha256()
        for file in files:
            name = "" if file == self.path else file.relative_to(self.path).as_posix()
            digest.update(f"{name} {hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
        return digest.hexdigest()

    def check_saved(self, recipe: Recipe, out: Path) -> None:
        """Refuse a folder whose saved set is not the one that would be saved there."""
        from lpprop.models.references import References

        file = out / FILE
        if self._saved is not None or not file.exists():
            return
        if References.load(file).made.get("source") != self._describe(recipe):
            raise InputError.of(
                "--out",
                got=f"{out}, whose {FILE} was made of other images, labels or models",
                expected="none, or the same",
                fix="Choose another folder, or pass --overwrite to replace it.",
            )

    def _describe(self, recipe: Recipe) -> dict[str, Any]:
        seen = {"model": dataclasses.asdict(recipe.backbone), "side": recipe.shorter_side}
        described: dict[str, Any] = json.loads(json.dumps(seen, default=str))
        return {"files": self.sha256, **described}

    def make(self, backbone: Backbone, recipe: Recipe, out: Path) -> References:
        """Load the references, or make them with the backbone and save them in `out`."""
        from lpprop.models.references import References

        if self._saved is not None:
            return self._saved
        dataset = self._labelled
        made = References.from_images(
            backbone,
            (sample.image for sample in dataset),
            (sample.gt for sample in dataset),
            dataset.prompts,
            shorter_side=recipe.shorter_side,
            longer_side=recipe.longer_side,
        )
        about = {**made.made, "source": self._describe(recipe)}
        made = References(made.names, made.vectors, about)
        made.save(out / FILE)
        return made
