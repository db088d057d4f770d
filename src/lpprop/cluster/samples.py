"""The images of a shard, read one by one with the inputs that belong to them."""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lpprop.cluster.stores import as_local, open_file, read_file
from lpprop.io.images import IMAGE_SUFFIXES
from lpprop.io.inputs import reader_of

__all__ = ["Sample", "read_rows", "read_tar"]

# What a row holds itself, and no file does.
_VALUES = ("classes", "size", "span")


@dataclass(frozen=True)
class Sample:
    """An image of a shard.

    Attributes:
        id: its name in the output.
        path: where it came from.
        item: by input, a place to read it from, its value, or the content of a file.
    """

    id: str
    path: str
    item: Mapping[str, Any]

    def load(self) -> dict[str, Any]:
        """Read what the objects of `lpprop.batch` take of this image.

        Raises:
            OSError: a file that cannot be read.
            lpprop.InputError: one that is damaged.
        """
        found: dict[str, Any] = {}
        for name, value in self.item.items():
            if value is None:
                continue
            if name == "image":
                found[name] = read_file(value) if isinstance(value, str) else value
            elif isinstance(value, str) and name not in _VALUES:
                found[name] = _load_array(name, value)
            elif isinstance(value, _Member):
                found[name] = _load_array(name, value.name, value.content)
            else:
                found[name] = value
        return found


@dataclass(frozen=True)
class _Member:
    """A file of a tar."""

    name: str
    content: bytes


def _load_array(name: str, place: str, content: bytes | None = None) -> Any:
    with as_local(place, content) as path:
        array = reader_of(name).load(path, name)
    heads = name == "attention" and array.ndim == 3
    return array[None] if heads else array


def read_rows(rows: Sequence[Mapping[str, Any]]) -> Iterator[Sample]:
    """Yield the samples of a plan's rows."""
    for row in rows:
        item = {name: value for name, value in row.items() if name != "id"}
        yield Sample(row["id"], row["image"], item)


def read_tar(place: str, inputs: Sequence[str]) -> Iterator[Sample]:
    """Yield the samples of a shard of WebDataset: neighbouring files of one name up to its dot.

    An image is a.jpg, or of another suffix; prompts are the lines of a.txt, or "classes" in a.json;
    another input is a.NAME.SUFFIX, such as a.logits.npy.

    Args:
        place: the tar, with any of tarfile's compressions.
        inputs: what is taken of each image.

    Raises:
        OSError, tarfile.TarError, EOFError: a file that is missing, damaged or cut off.
    """
    key, item = "", dict[str, Any]()
    with open_file(place) as file, tarfile.open(fileobj=file, mode="r|*") as members:
        for member in members:
            if not member.isfile():
                continue
            folder, slash, base = member.name.rpartition("/")
            stem, _, kind = base.partition(".")
            if f"{folder}{slash}{stem}" != key:
                yield from _as_sample(place, key, item)
                key, item = f"{folder}{slash}{stem}", {}
            content = members.extractfile(member)
            assert content is not None
            item |= _read_member(member.name, kind.lower(), content.read(), inputs)
    yield from _as_sample(place, key, item)


def _as_sample(place: str, key: str, item: Mapping[str, Any]) -> Iterator[Sample]:
    if item:
        yield Sample(key, f"{place}/{key}", item)


def _read_member(name: str, kind: str, content: bytes, inputs: Sequence[str]) -> dict[str, Any]:
    if f".{kind}" in IMAGE_SUFFIXES:
        return {"image": content}
    if kind == "txt" and "classes" in inputs:
        lines = content.decode(errors="replace").splitlines()
        return {"classes": [line.strip() for line in lines if line.strip()]}
    if kind == "json":
        found = json.loads(content)
        return {one: found[one] for one in _VALUES if one in inputs and one in found}
    own = re.fullmatch(r"([a-z_]+)\.\w+", kind)
    return {own[1]: _Member(name, content)} if own and own[1] in inputs else {}
