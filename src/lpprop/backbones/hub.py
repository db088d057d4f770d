"""Loading weights by name or from a folder, with one clear line where that is not possible."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from lpprop.errors import InputError

__all__ = ["load_pretrained", "model_class"]


def model_class(package: str, name: str) -> Any:
    """Import a class of a package that the extra `models` brings.

    Raises:
        ImportError: the package is not installed, or too old to have the class.
    """
    try:
        return getattr(importlib.import_module(package), name)
    except (ImportError, AttributeError) as error:
        raise ImportError(
            f"{package} with {name} needs an extra: pip install 'lpprop[models]' ({error})"
        ) from error


def load_pretrained(
    package: str, name: str, checkpoint: str | Path, *, download: bool = True, **options: Any
) -> Any:
    """Load weights, or whatever else has `from_pretrained`, from a folder or by name.

    What is in the cache of the Hugging Face hub is taken from there.

    Args:
        package: "transformers" or "diffusers".
        name: of the class in it.
        checkpoint: a folder that `save_pretrained` wrote, or the name of a repository of the hub.
        download: whether to fetch what is neither a folder nor in the cache, with a progress bar.
        options: further arguments of `from_pretrained`, such as `subfolder="unet"`.

    Raises:
        ImportError: the extra `models` is not installed.
        InputError: no such checkpoint, one of another kind, or a hub that cannot be reached.
    """
    cls = model_class(package, name)
    offline = not download
    try:
        return cls.from_pretrained(str(checkpoint), local_files_only=offline, **options)
    except (OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        reason = reason if len(reason) < 200 else reason[:200] + " …"
        raise InputError.of(
            "checkpoint",
            got=f"{str(checkpoint)!r}, which {name} could not load ({reason})",
            expected="a folder that holds such a model, or its name on the Hugging Face hub",
            fix="It is not downloaded yet, and downloads are off: pass download=True."
            if offline and not Path(checkpoint).exists()
            else "Check the name and the connection, or download it where there is one and pass "
            "the folder.",
        ) from error
