"""Inputs as engines give them: encoded images and paths, and names of what proposes regions."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lpprop._core.errors import InputError
from lpprop._core.options import hint
from lpprop.inputs.proposals import Proposal
from lpprop.io.images import load_image
from lpprop.regions.named import NAMES, SUMMARY

__all__ = ["as_picture", "check_proposer"]


def as_picture(value: Any, *, upright: bool) -> Any:
    """Read an image that is encoded or a path; return anything else as it is.

    Args:
        value: the content of an image file, its path, or a dictionary with "bytes" or "path", as
            `datasets` stores images.
        upright: whether to turn an image that is read as its EXIF orientation says.

    Raises:
        InputError: a file that is missing, damaged or of another format.

    >>> import io
    >>> from PIL import Image
    >>> file = io.BytesIO()
    >>> Image.new("L", (4, 3)).save(file, "PNG")
    >>> as_picture({"bytes": file.getvalue(), "path": None}, upright=True).mode
    'RGB'
    """
    if isinstance(value, Mapping) and {"bytes", "path"} & value.keys():
        content = value.get("bytes")
        value = value.get("path") if content is None else content
    if isinstance(value, (bytes, bytearray, memoryview)):
        return load_image(bytes(value), upright=upright)
    if isinstance(value, (str, os.PathLike)):
        return load_image(Path(value), upright=upright)
    return value


def check_proposer(regions: object) -> None:
    """Refuse what proposes no regions: neither a name that is known, nor a function of an image.

    >>> check_proposer("slik")
    Traceback (most recent call last):
    lpprop.InputError: regions: got 'slik', expected slic, ... Did you mean slic?
    """
    if isinstance(regions, str) and regions not in NAMES:
        fix = hint(regions, NAMES, "docs/regions.md lists the models.")
        raise InputError.of("regions", got=repr(regions), expected=SUMMARY, fix=fix)
    if not isinstance(regions, str):
        if not callable(regions):
            raise InputError.of(
                "regions",
                got=type(regions).__name__,
                expected=f"a function of the image, or {SUMMARY}",
                fix='Regions of single images come in the column "regions".',
            )
        Proposal(regions)  # may refuse its parameters
