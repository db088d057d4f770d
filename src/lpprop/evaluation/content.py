"""The content of samples, so that a run that is resumed tells images and labels that were replaced.

A sample of files is described by a stamp and a hash of each file. Where the stamp is the same, the
file is not read again; a file that was copied or touched is compared by its hash. A sample without
files is described by a hash of its pixels alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from lpprop.evaluation.datasets.dataset import Files
from lpprop.evaluation.predictors import LabelledImage

__all__ = ["describe_content", "is_unchanged"]


def describe_content(sample: LabelledImage) -> dict[str, list[str]]:
    """Describe a sample's image and labels by stamp and hash.

    >>> from types import SimpleNamespace
    >>> sample = SimpleNamespace(name="a", image=np.zeros((2, 3, 3)), gt=[[0, 1, 1], [0, 0, 1]])
    >>> {part: hash_[:4] for part, (_, hash_) in describe_content(sample).items()}
    {'image': '1cfa', 'labels': '12f3'}
    """
    files = _files(sample)
    if files is None:
        return {"image": ["", _hash_array(sample.image)], "labels": ["", _hash_array(sample.gt)]}
    paths = {"image": files.image, "labels": files.labels}
    return {part: [stamp := _stamp(path), _hash_file(path, stamp)] for part, path in paths.items()}


def is_unchanged(sample: LabelledImage, described: Mapping[str, list[str]]) -> bool:
    """Tell whether a sample still has the content that was described.

    Raises:
        OSError: a file that is not there any more.
    """
    files = _files(sample)
    if files is None:
        return describe_content(sample) == described
    for part, path in (("image", files.image), ("labels", files.labels)):
        stamp = _stamp(path)
        known, hash_ = described[part]
        if stamp != known and _hash_file(path, stamp) != hash_:
            return False
    return True


def _files(sample: LabelledImage) -> Files | None:
    files = getattr(sample, "files", None)
    return files if isinstance(files, Files) else None


def _stamp(path: Path) -> str:
    """Return what changes when a file is replaced, be it by one of the same size and time."""
    state = path.stat()
    told = (str(path.absolute()), state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino)
    return hashlib.sha256(repr(told).encode(errors="surrogatepass")).hexdigest()[:16]


# All samples of a data set may share one file of labels, such as COCO's instances.
@lru_cache(maxsize=2)
def _hash_file(path: Path, stamp: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _hash_array(given: Any) -> str:
    try:
        dense = given.detach().cpu().numpy() if isinstance(given, Tensor) else given
        array = np.ma.asanyarray(dense)
    except Exception:  # no array, which the metrics refuse by name
        array = np.ma.array(None)
    digest = hashlib.sha256(f"{array.shape} {array.dtype}".encode())
    if array.dtype.kind != "O":  # no array: its bytes would be addresses
        digest.update(np.ascontiguousarray(np.ma.getdata(array)).tobytes())
        digest.update(np.ma.getmaskarray(array).tobytes() if np.ma.is_masked(array) else b"")
    return digest.hexdigest()
