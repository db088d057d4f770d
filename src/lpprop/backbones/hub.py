"""Loading weights by name or from a folder, with one clear line where that is not possible."""

from __future__ import annotations

import importlib
import json
from functools import partial
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from lpprop.errors import InputError

__all__ = ["load_pretrained", "model_class", "stored_colours"]

_PATIENCE = 10  # seconds


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

    What is in the cache of the Hugging Face hub is taken from there, without a look at the hub.

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
    load = partial(cls.from_pretrained, str(checkpoint), **options)
    try:
        return load(local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        failure: Exception = error
    advice = "Check what is in the folder."
    if not Path(checkpoint).exists():
        advice = "It is not downloaded yet, and downloads are off: pass download=True."
        if download:
            # Asked once, since the packages themselves would ask for minutes.
            _check_hub(checkpoint)
            advice = "Check the name."
            try:
                return load()
            except (OSError, ValueError, KeyError) as error:
                failure = error
    reason = " ".join(str(failure).split()) or type(failure).__name__
    raise InputError.of(
        "checkpoint",
        got=f"{str(checkpoint)!r}, which {name} could not load ({reason[:200]})",
        expected="a folder that holds such a model, or its name on the Hugging Face hub",
        fix=advice,
    ) from failure


def stored_colours(checkpoint: str | Path, *, download: bool = True) -> dict[str, Any]:
    """Read mean and std from a checkpoint's `preprocessor_config.json`, as far as it tells them.

    The image processors themselves may need torchvision; what configures them does not.

    Raises:
        InputError: neither a folder nor in the cache, and not to be had from the hub.
    """
    file = Path(checkpoint, "preprocessor_config.json")
    if not Path(checkpoint).is_dir():
        absent = model_class("huggingface_hub.errors", "EntryNotFoundError")
        fetch = model_class("huggingface_hub", "hf_hub_download")
        try:
            file = Path(fetch(str(checkpoint), file.name, local_files_only=not download))
        except OSError as error:
            # The hub says that there is none, or it cannot be asked.
            if isinstance(error, absent) and not isinstance(error, FileNotFoundError):
                return {}
            raise InputError.of(
                "mean",
                got=f"None, and no {file.name} of {str(checkpoint)!r} in the cache",
                expected="the colours that the weights were trained on",
                fix="Pass mean= and std=, or download=True where there is a connection.",
            ) from error
    if not file.is_file():
        return {}
    config = json.loads(file.read_text(encoding="utf-8"))
    if config.get("do_normalize") is False:
        return {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
    found = {"mean": config.get("image_mean"), "std": config.get("image_std")}
    return {name: values for name, values in found.items() if values is not None}


def _check_hub(checkpoint: str | Path) -> None:
    """Refuse a download that has nowhere to come from."""
    endpoint = model_class("huggingface_hub.constants", "ENDPOINT")
    offline = model_class("huggingface_hub.constants", "HF_HUB_OFFLINE")
    reason = "HF_HUB_OFFLINE is set" if offline else ""
    if not offline:
        try:
            urlopen(Request(endpoint, method="HEAD"), timeout=_PATIENCE).close()
        except HTTPError:
            pass  # it answers
        except OSError as error:
            reason = str(getattr(error, "reason", error))
    if reason:
        raise InputError.of(
            "checkpoint",
            got=f"{str(checkpoint)!r}, which is not downloaded yet, and no way to {endpoint} "
            f"({reason})",
            expected="a connection, or a checkpoint on disk",
            fix="Download it where there is a connection, and pass the folder.",
        )
