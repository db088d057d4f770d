"""Read a checkpoint's own files: the colours of its images, and what is wrong if loading failed."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from lpprop._core.errors import InputError
from lpprop._core.options import check_number

__all__ = ["AGAIN", "NO_CODE", "Damage", "check_colours", "find_damage", "read_colours"]

AGAIN = "Copy or download it again."
NO_CODE = (
    "lpprop runs no code of a checkpoint: load the model yourself and pass it to the class, or use "
    "a checkpoint without code."
)
_WEIGHTS = ("model*.safetensors", "pytorch_model*.bin", "diffusion_pytorch_model*")


class Damage(Exception):  # noqa: N818
    """What is wrong with a file of a checkpoint, and what to do.

    The file is a path, or a name in the checkpoint's folder, or None for that of the weights.
    """

    def __init__(self, file: str | Path | None, what: str, fix: str) -> None:
        super().__init__(what)
        self.file, self.what, self.fix = file, what, fix

    def describe(self, folder: Path | None) -> str:
        """Name the file, by its path if the folder is known, and say what is wrong with it."""
        file: object = self.file or "the weights"
        if folder is not None:
            weights = [file for pattern in _WEIGHTS for file in folder.glob(pattern)]
            file = folder / (self.file or (weights[0] if len(weights) == 1 else ""))
        return f"{file}: {self.what}"


def find_damage(folder: Path) -> Damage | None:
    """Look for the file of a checkpoint that cannot be read; None if all can.

    Args:
        folder: where the files are. Those that the backbones do not read are not looked at.
    """
    for file in sorted(folder.glob("*.json")):
        try:
            read_object(file)
        except Damage as found:
            return found
    for pattern in _WEIGHTS:
        for file in sorted(folder.glob(pattern)):
            if file.suffix in (".safetensors", ".bin") and (damage := _check_weights(file)):
                return damage
    return None


def read_object(file: Path) -> dict[str, Any]:
    """Read the object that a JSON file holds.

    Raises:
        Damage: the file holds anything else.
    """
    content = file.read_bytes()
    if content.startswith(b"\xef\xbb\xbf"):
        what = "it begins with a byte order mark, which JSON does not have"
        raise Damage(file, what, "Save it as UTF-8 without one.")
    try:
        found = json.loads(content)
    except RecursionError:
        raise Damage(file, "it is nested too deeply", AGAIN) from None
    except ValueError as error:
        raise Damage(file, f"it is no JSON ({error})", AGAIN) from None
    if not isinstance(found, dict):
        raise Damage(file, f"it holds {type(found).__name__}, not an object", AGAIN)
    return found


def _check_weights(file: Path) -> Damage | None:
    """Tell why a file of weights cannot be read; None if it can."""
    with file.open("rb") as stream:
        if stream.read(12) == b"version http":
            what = "it is a pointer of Git LFS, not the weights"
            return Damage(file, what, "Run git lfs pull where it was cloned.")
    try:
        if file.suffix == ".safetensors":
            with safe_open(file, framework="pt"):
                return None
        torch.load(file, map_location="meta", weights_only=True)
    except pickle.UnpicklingError as error:
        if "Unsupported" in str(error) and zipfile.is_zipfile(file):
            return Damage(file, "it holds Python objects beside weights", NO_CODE)
        return Damage(file, "it is cut short or damaged", AGAIN)
    # What else is raised depends on the byte at which the file is damaged.
    except Exception:
        return Damage(file, "it is cut short or damaged", AGAIN)
    return None


def read_colours(file: Path) -> dict[str, Any]:
    """Return mean and std from a `preprocessor_config.json`, without those that it leaves out.

    Raises:
        InputError: the file cannot be read, or its colours cannot be used.
    """
    try:
        config = read_object(file)
    except Damage as damage:
        raise InputError.of(
            "checkpoint",
            got=damage.describe(file.parent),
            expected="the colours that the weights were trained on",
            fix=damage.fix,
        ) from damage
    normalises = config.get("do_normalize")
    if normalises not in (None, True, False):
        raise _unusable(file, "do_normalize", normalises, "true or false")
    if normalises is False:
        return {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
    found = {"mean": config.get("image_mean"), "std": config.get("image_std")}
    for name, values in found.items():
        if values is not None:
            try:
                check_colours(name, values)
            except InputError as error:
                raise _unusable(file, f"image_{name}", values, "three usable numbers") from error
    return {name: values for name, values in found.items() if values is not None}


def _unusable(file: Path, key: str, value: object, expected: str) -> InputError:
    return InputError.of(
        "checkpoint",
        got=f"{file}: {key} is {str(value)[:80]}",
        expected=expected,
        fix="Pass mean=(red, green, blue) and std=(red, green, blue), as its paper has them.",
    )


def check_colours(name: str, values: Sequence[float]) -> tuple[float, ...]:
    """Return the three numbers of a mean in [0, 1], or of a `std` in [0.001, 1]; refuse others.

    Images are in [0, 1]. A `std` that is zero or close to it would make infinity of them.
    """
    numbers = values.tolist() if hasattr(values, "tolist") else values  # an array or a tensor
    if not isinstance(numbers, (list, tuple)) or len(numbers) != 3:
        raise InputError.of(
            name,
            got=str(values)[:80],
            expected="three numbers: red, green, blue",
            fix=f"Pass {name}=(red, green, blue) of images in [0, 1].",
        )
    low = 0.001 if name == "std" else 0.0
    return tuple(check_number(f"{name}[{i}]", v, low=low, high=1) for i, v in enumerate(numbers))
