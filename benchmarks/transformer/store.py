"""Tensors that are computed once and kept in files."""

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from lpprop.io.atomic import atomic_write


class Store:
    """A folder of tensors by their keys: what they were computed from, and how.

    A file holds its key and a hash of its tensor. One that is damaged, or that has another key
    than its name says, is made anew.

    Attributes:
        seconds: processor time spent on making tensors.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seconds = 0.0

    def get(self, key: Mapping[str, Any], make: Callable[[], Tensor]) -> Tensor:
        """Return the tensor of a key, which `make` computes if it is not there."""
        text = json.dumps(key, sort_keys=True)
        file = self.file(key)
        found = _read(file, text)
        if found is None:
            began = time.process_time()
            found = make().contiguous()
            self.seconds += time.process_time() - began
            self.folder.mkdir(parents=True, exist_ok=True)
            data = save({"value": found}, {"key": text, "sha256": _hash(found)})
            with atomic_write(file) as out:
                out.write(data)
        return found

    def file(self, key: Mapping[str, Any]) -> Path:
        text = json.dumps(key, sort_keys=True)
        return self.folder / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.safetensors"


def _read(file: Path, key: str) -> Tensor | None:
    """Return what a file holds, or None if it is absent, damaged or another's."""
    try:
        with safe_open(file, "pt") as opened:
            about = opened.metadata() or {}
            value: Tensor = opened.get_tensor("value")
    except (OSError, SafetensorError):
        return None
    return value if (about.get("key"), about.get("sha256")) == (key, _hash(value)) else None


def _hash(value: Tensor) -> str:
    digest = hashlib.sha256(f"{value.dtype} {tuple(value.shape)}".encode())
    digest.update(value.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
