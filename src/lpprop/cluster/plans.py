"""What a job consists of: shards, which are fixed ranges of its input and follow from it alone."""

from __future__ import annotations

import csv
import hashlib
import io
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lpprop._core.errors import InputError
from lpprop.cluster.stores import is_folder, is_url, join, list_files, locate, open_file
from lpprop.io.images import IMAGE_SUFFIXES

__all__ = ["Plan", "make_plan"]

_TABLES = (".parquet", ".csv")
_TARS = (".tar", ".tar.gz", ".tgz")


@dataclass(frozen=True)
class Plan:
    """The shards of a job.

    Attributes:
        table: an Arrow table. Of images: the columns "id" and "image", and a column for each other
            input; of tars: the columns "id" and "tar".
        rows: how many rows a shard has; a tar is a shard.
    """

    table: Any
    rows: int

    @property
    def of_tars(self) -> bool:
        """Whether each shard is a tar, whose images are counted when it is read."""
        return "tar" in self.table.column_names

    @property
    def shards(self) -> int:
        """The number of shards."""
        return -(-self.units // self.rows)

    @property
    def units(self) -> int:
        """The number of images, or of tars where nobody has counted the images in them."""
        return int(self.table.num_rows)

    def count(self, shard: int) -> int:
        """Return how many rows a shard has."""
        return min(self.rows, self.units - shard * self.rows)

    def to_parquet(self) -> bytes:
        """Return a Parquet file with a row group per shard, from which a worker reads its own."""
        import pyarrow.parquet

        file = io.BytesIO()
        pyarrow.parquet.write_table(
            self.table, file, row_group_size=self.rows, write_statistics=False
        )
        return file.getvalue()

    def fingerprint(self) -> str:
        """Return a SHA-256 of the rows, by which an input that differs is told apart."""
        digest = hashlib.sha256()
        for name in self.table.column_names:
            digest.update(name.encode())
            for chunk in self.table[name].to_pylist():
                digest.update(repr(chunk).encode("utf-8", "surrogatepass"))
        return digest.hexdigest()


def make_plan(
    source: str,
    inputs: Sequence[str],
    required: Sequence[str],
    rows: int,
    folders: Mapping[str, str] | None = None,
) -> Plan:
    """Plan the shards of a folder of images, a manifest, or shards of WebDataset.

    Args:
        source: a folder of images (those in folders within it too) or of tars, a tar, or a manifest
            (.parquet, .csv) with a column "image" of paths or URLs, relative ones from the
            manifest's folder, and perhaps "id" and columns of other inputs.
        inputs: what the job takes of each image; other columns are left out.
        required: those of them that each image must have.
        rows: images per shard.
        folders: by input, the folder with a file per image, of the same path but for its suffix.

    Raises:
        InputError: nothing there, a table without a column that is needed, ids or images that come
            twice, rows without a path.
    """
    source = locate(source)
    lower = source.lower()
    if lower.endswith(_TABLES):
        table = _read_table(source, inputs)
    elif lower.endswith(_TARS):
        name = source.rpartition("/")[2]
        table, rows = _as_table({"id": [_cut(name)], "tar": [source]}), 1
    elif not is_folder(source):
        raise InputError.of(
            "IMAGE",
            got=f"{source}, which is no folder, manifest or tar",
            expected=f"a folder of images or tars, or a file in {', '.join(_TABLES + _TARS)}",
            fix="Check the path.",
        )
    else:
        listed = list_files(source, recursive=True)
        tars = [name for name, _ in listed if name.lower().endswith(_TARS)]
        if tars:
            ids = list(map(_cut, tars))
            table, rows = _as_table({"id": ids, "tar": [join(source, one) for one in tars]}), 1
        else:
            table = _list_images(source, [name for name, _ in listed], folders or {})
    if not table.num_rows:
        raise InputError.of(
            "IMAGE",
            got=f"{source} without images",
            expected=f"files in {', '.join(IMAGE_SUFFIXES)}, or rows of a manifest",
            fix="Check the path.",
        )
    _refuse_repeated(source, table["id"].to_pylist())
    if "tar" not in table.column_names:
        _require_columns(source, table.column_names, required)
    return Plan(table, rows)


def _as_table(columns: Mapping[str, Any]) -> Any:
    import pyarrow

    return pyarrow.table(dict(columns))


def _cut(name: str) -> str:
    """Return a path without its suffix."""
    folder, slash, base = name.rpartition("/")
    base = base[: -len(".tar.gz")] if base.lower().endswith(".tar.gz") else base.rpartition(".")[0]
    return f"{folder}{slash}{base}"


def _list_images(source: str, names: Sequence[str], folders: Mapping[str, str]) -> Any:
    images = [
        name
        for name in names
        if name.lower().endswith(IMAGE_SUFFIXES) and not name.rpartition("/")[2].startswith(".")
    ]
    ids = list(map(_cut, images))
    columns: dict[str, Any] = {"id": ids, "image": [join(source, name) for name in images]}
    for name, folder in folders.items():
        folder = locate(folder)
        found: dict[str, str] = {}
        for file, _ in list_files(folder, recursive=True):
            found.setdefault(_cut(file), join(folder, file))
        absent = [one for one in ids if one not in found]
        if absent:
            raise InputError.of(
                name,
                got=f"nothing in {folder} for {len(absent)} of {len(ids)} images, the first "
                f"{absent[0]}",
                expected="one file per image, named after it",
                fix="Add the missing files.",
            )
        columns[name] = [found[one] for one in ids]
    return _as_table(columns)


def _read_table(source: str, inputs: Sequence[str]) -> Any:
    import pyarrow
    import pyarrow.parquet

    try:
        with open_file(source) as file:
            content = io.BytesIO(file.read())
        if source.lower().endswith(".csv"):
            # Everything is text: an id 007 stays as it is.
            header, *lines = csv.reader(io.TextIOWrapper(content, "utf-8-sig", newline=""))
            lines = [line for line in lines if line]
            columns = zip(*lines, strict=True) if lines else [()] * len(header)
            table = _as_table(dict(zip(header, columns, strict=True)))
        else:
            table = pyarrow.parquet.read_table(content)
    except (OSError, ValueError, csv.Error) as error:  # Arrow's are ValueErrors
        raise InputError.of(
            "IMAGE",
            got=f"{source}, which cannot be read ({str(error).splitlines()[0][:120]})",
            expected="a manifest in Parquet or CSV, whose rows have one length",
            fix="Check the path, or write it again.",
        ) from error
    _require_columns(source, table.column_names, ["image"])
    base = source.rpartition("/")[0]
    found: dict[str, Any] = {}
    for name in ("image", *(one for one in inputs if one != "image")):
        if name in table.column_names:
            values = table[name].to_pylist()
            found[name] = (
                list(map(_split_classes, values)) if name == "classes" else _locate(values, base)
            )
    empty = [number for number, value in enumerate(found["image"]) if not value]
    if empty:
        raise InputError.of(
            "IMAGE",
            got=f"{source}, whose row {empty[0] + 1} has no image",
            expected="a path or a URL in each row",
            fix="Fill it in, or leave the row out.",
        )
    ids = table["id" if "id" in table.column_names else "image"].to_pylist()
    return _as_table({"id": list(map(str, ids)), **found})


def _locate(values: Sequence[Any], base: str) -> list[Any]:
    """Return paths from the manifest's folder; what is no path stays as it is."""
    return [
        join(base, value)
        if isinstance(value, str) and value and not is_url(value) and not value.startswith("/")
        else value
        for value in values
    ]


def _split_classes(value: Any) -> Any:
    """Return the classes of an image: those of a list, or of a text with "|" between them."""
    return [part.strip() for part in value.split("|")] if isinstance(value, str) else value


def _require_columns(source: str, names: Collection[str], required: Sequence[str]) -> None:
    for name in required:
        if name not in names:
            raise InputError.of(
                "IMAGE",
                got=f"{source} with the columns {', '.join(names)}",
                expected=f"a column {name!r} among them",
                fix="Rename the column that holds it, or pass what is missing as an option.",
            )


def _refuse_repeated(source: str, ids: Sequence[str]) -> None:
    if len(set(ids)) == len(ids):
        return
    twice, _ = Counter(ids).most_common(1)[0]
    raise InputError.of(
        "IMAGE",
        got=f"{source}, where {twice} comes twice",
        expected="one image per id",
        fix='Rename one of them, or give a manifest a column "id".',
    )
