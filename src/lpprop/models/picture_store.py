"""Generated pictures on disk, each with its mask and its reference, so that a run can go on.

    out/settings.json                 what all pictures share; another run must have the same
    out/<class>/0007.png              the picture
    out/<class>/0007.mask.png         the mask whose features are the reference
    out/<class>/0007.safetensors      the reference
    out/<class>/0007.json             prompt, seed and more; written last, so that it stands for all

A picture without a usable mask has a record that says why, and neither mask nor reference.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import torch
from jaxtyping import Bool, Float, UInt8
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from lpprop._core.errors import InputError
from lpprop.io.atomic import atomic_write, remove_abandoned
from lpprop.io.images import save_image

__all__ = ["Picture", "PictureStore"]

_FORMAT = "lpprop pictures 1"
_LONGEST = 100


class Picture(NamedTuple):
    """A picture that was drawn, and what came of it.

    Attributes:
        record: what is known of it, for JSON.
        reference: its reference vector, None if it has none.
    """

    record: dict[str, Any]
    reference: Float[Tensor, " D"] | None


class PictureStore:
    """The folder of a run.

    Args:
        folder: where it is, or will be.
        settings: what decides about all pictures, for JSON.

    Raises:
        InputError: a folder that holds the pictures of other settings, or other files.

    >>> import tempfile
    >>> picture = torch.zeros(3, 4, 4, dtype=torch.uint8)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = PictureStore(Path(folder), {"steps": 50})
    ...     store.save("cat", 7, Picture({"seed": 1}, torch.ones(2)), picture, picture[0] < 1)
    ...     store.load("cat", 7, {"seed": 1})
    Picture(record={'seed': 1, 'channels': 2}, reference=tensor([1., 1.]))
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.folder = folder
        now = json.loads(json.dumps({"format": _FORMAT, **settings}, default=str))
        file = folder / "settings.json"
        before = _read(file) if file.exists() else now if _is_new(folder) else None
        if before is None:
            raise InputError.of(
                "folder",
                got=f"{folder}, which holds something else",
                expected="a new or empty folder, or one of an earlier run",
                fix="Choose another folder.",
            )
        for name in sorted(before.keys() | now.keys()):
            if before.get(name) != now.get(name):
                self._refuse(name, before.get(name), now.get(name))
        folder.mkdir(parents=True, exist_ok=True)
        remove_abandoned(folder)
        if not file.exists():
            _write(file, now)

    def load(self, name: str, number: int, expected: Mapping[str, Any]) -> Picture | None:
        """Return a picture of a class; None if it is not there, or not whole.

        Args:
            name: the class.
            number: which picture of it.
            expected: what its record must say, such as its prompt.

        Raises:
            InputError: a picture whose record says otherwise.
        """
        record = _read(self._path(name, number, ".json"))
        if record is None:
            return None
        for key, value in expected.items():
            if record.get(key) != value:
                self._refuse(f"{key} of {name!r}", record.get(key), value)
        if "unused" in record:
            return Picture(record, None)
        try:
            vector = load(self._path(name, number, ".safetensors").read_bytes())["reference"]
        except (OSError, KeyError, SafetensorError):
            return None
        whole = vector.shape == (record.get("channels"),) and bool(torch.isfinite(vector).all())
        return Picture(record, vector) if whole else None

    def save(
        self,
        name: str,
        number: int,
        made: Picture,
        pixels: UInt8[Tensor, "3 H W"],
        mask: Bool[Tensor, "H W"] | None,
    ) -> None:
        """Write a picture of a class, its record last."""
        self._path(name, number, "").parent.mkdir(exist_ok=True)
        image = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
        save_image(self._path(name, number, ".png"), image)
        if mask is not None:
            drawn = Image.fromarray(mask.to(torch.uint8).mul(255).numpy())
            save_image(self._path(name, number, ".mask.png"), drawn)
        record = made.record
        if made.reference is not None:
            record = {**record, "channels": len(made.reference)}
            content = save({"reference": made.reference.contiguous()})
            with atomic_write(self._path(name, number, ".safetensors")) as file:
                file.write(content)
        _write(self._path(name, number, ".json"), record)

    def _path(self, name: str, number: int, end: str) -> Path:
        # A name such as ".." or "a/b" must not lead out of the folder.
        safe = quote(name, safe=" ").replace(".", "%2E")
        if len(safe) > _LONGEST:  # the names of files have a bound
            safe = f"{safe[:_LONGEST]}~{hashlib.sha256(safe.encode()).hexdigest()[:16]}"
        return self.folder / safe / f"{number:04d}{end}"

    def _refuse(self, what: str, before: object, now: object) -> None:
        raise InputError.of(
            "folder",
            got=f"{self.folder}, whose pictures were made with {what} = {before!r}",
            expected=f"{now!r}, as in this call",
            fix="Choose another folder, or remove this one to start again.",
        )


def _is_new(folder: Path) -> bool:
    return not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))


def _read(file: Path) -> dict[str, Any] | None:
    """Read a record; None if there is none, or if it is damaged."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _write(file: Path, record: Mapping[str, Any]) -> None:
    with atomic_write(file) as stream:
        stream.write(json.dumps(record, indent=1, ensure_ascii=False).encode())
