"""The labels of a shard, written as Parquet, as a tar of WebDataset, or as a file per image."""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lpprop._core.errors import InputError
from lpprop.cluster.manifest import shard_name
from lpprop.cluster.stores import Store

__all__ = ["FORMATS", "Labelled", "check_ids", "encode", "is_whole", "write_shard"]

#: What the labels of a shard may be written as.
FORMATS = ("parquet", "webdataset", "files")
_SUFFIX = {"parquet": ".parquet", "webdataset": ".tar"}
_FOLDER = "labels"


@dataclass(frozen=True)
class Labelled:
    """The result of an image; of one that failed, only the error.

    Attributes:
        id: its name.
        path: where it came from.
        png: the labels as a PNG of 8 bits, or 16 if there are labels above 255; b"" without any.
        size: height and width.
        error: why it failed, "" if it did not.
    """

    id: str
    path: str
    png: bytes
    size: tuple[int, int]
    error: str


def encode(labels: NDArray[np.uint16]) -> bytes:
    r"""Return labels (H, W) as the content of a PNG file.

    >>> encode(np.zeros((2, 3), np.uint16))[:4]
    b'\x89PNG'
    """
    fits = not labels.size or labels.max() < 256
    file = io.BytesIO()
    Image.fromarray(labels.astype(np.uint8) if fits else labels).save(file, "PNG")
    return file.getvalue()


def check_ids(ids: Collection[str], format: str) -> None:
    """Refuse ids that cannot be the names of the format's files.

    Raises:
        InputError: an id that leads out of the folder, or has a dot where WebDataset reads none.
    """
    if format == "parquet":
        return
    wrong = r"(^|/)\.{0,2}(/|$)|[\\\0]" + (r"|\.[^/]*$" if format == "webdataset" else "")
    for one in ids:
        if re.search(wrong, one):
            raise InputError.of(
                "IMAGE",
                got=f"an image called {one!r}",
                expected="names that can be those of files"
                + (" and have no dot, at which WebDataset cuts them" * (format == "webdataset")),
                fix='Pass --format parquet, or a manifest with other names in its column "id".',
            )


def write_shard(
    store: Store, shard: int, format: str, results: Sequence[Labelled]
) -> tuple[str, int, str]:
    """Write the results of a shard, whole or not at all.

    Returns:
        The output, its bytes and its checksum, as `Finished` has them.

    Raises:
        OSError: it cannot be written.
    """
    name = f"{_FOLDER}/{shard_name(shard)}"
    if format == "files":
        return _write_files(store, name, results)
    content = _as_parquet(results) if format == "parquet" else _as_tar(results)
    store.write(name + _SUFFIX[format], content)
    return name + _SUFFIX[format], len(content), hashlib.sha256(content).hexdigest()


def is_whole(store: Store, output: str, sha256: str, ids: Sequence[str]) -> bool:
    """Tell whether the output of a shard is there with the content that it had when it was written.

    Args:
        store: the job's folder.
        output: the file; or the folder, without a suffix.
        sha256: the checksum.
        ids: of a folder, the images with labels, in their order.
    """
    try:
        if output.endswith(tuple(_SUFFIX.values())):
            return hashlib.sha256(store.read(output)).hexdigest() == sha256
        digest = hashlib.sha256()
        for one in ids:
            digest.update(hashlib.sha256(store.read(f"{output}/{one}.png")).digest())
        return digest.hexdigest() == sha256
    except FileNotFoundError:
        return False


def _write_files(store: Store, folder: str, results: Sequence[Labelled]) -> tuple[str, int, str]:
    digest, size = hashlib.sha256(), 0
    for one in results:
        if not one.error:
            store.write(f"{folder}/{one.id}.png", one.png)
            digest.update(hashlib.sha256(one.png).digest())
            size += len(one.png)
    return folder, size, digest.hexdigest()


def _as_parquet(results: Sequence[Labelled]) -> bytes:
    import pyarrow
    import pyarrow.parquet

    kinds = {
        "id": pyarrow.string(), "path": pyarrow.string(), "height": pyarrow.int32(),
        "width": pyarrow.int32(), "labels": pyarrow.binary(), "error": pyarrow.string(),
    }  # fmt: skip
    rows = [
        {
            "id": one.id, "path": one.path, "height": one.size[0], "width": one.size[1],
            "labels": one.png, "error": one.error,
        }
        for one in results
    ]  # fmt: skip
    table = pyarrow.Table.from_pylist(rows, schema=pyarrow.schema(list(kinds.items())))
    file = io.BytesIO()
    # PNG is compressed already.
    pyarrow.parquet.write_table(table, file, compression="none", write_statistics=False)
    return file.getvalue()


def _as_tar(results: Sequence[Labelled]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for one in results:
            told = {"path": one.path, "height": one.size[0], "width": one.size[1]}
            parts = {"json": json.dumps(told | {"error": one.error}).encode()}
            parts |= {} if one.error else {"png": one.png}
            for suffix, content in parts.items():
                member = tarfile.TarInfo(f"{one.id}.{suffix}")  # with no time: the same bytes again
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return file.getvalue()
