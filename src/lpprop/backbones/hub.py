"""Load weights by name or from a folder, with one clear line where that is not possible."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from safetensors import SafetensorError

from lpprop._core.errors import InputError

__all__ = ["add_stored_colours", "import_extra", "load_model", "load_tokenizer"]

_TIMEOUT = 10  # seconds
_COLOURS = "preprocessor_config.json"
# The backbones use none of these weights, so a checkpoint may come without them.
_UNUSED = ("pooler.", "logit_scale", "mask_token")


def import_extra(package: str, name: str) -> Any:
    """Import a name from a package of the extra `models`.

    Raises:
        ImportError: the package is not installed, or too old to have the name.
    """
    try:
        return getattr(importlib.import_module(package), name)
    except (ImportError, AttributeError) as error:
        raise ImportError(
            f"{package} with {name} needs an extra: pip install 'lpprop[models]' ({error})"
        ) from error


def load_model(
    package: str, name: str, checkpoint: str | Path, *, download: bool = True, **options: Any
) -> Any:
    """Load a model with all of its weights, from a folder or by name.

    Files in the cache of the Hugging Face hub are used without asking the hub.

    Args:
        package: "transformers" or "diffusers".
        name: name of the class in it.
        checkpoint: a folder that `save_pretrained` wrote, or the name of a repository on the hub.
        download: whether to download, with a progress bar, files that are not on disk.
        options: further arguments of `from_pretrained`, such as `subfolder="unet"`; None for their
            default.

    Raises:
        ImportError: the extra `models` is not installed.
        InputError: a checkpoint that does not exist, is damaged or of another kind, or a hub that
            cannot be reached.
    """
    given = {option: value for option, value in options.items() if value is not None}
    given["output_loading_info"] = True
    return _load(_require_weights, package, name, checkpoint, download, given)


def load_tokenizer(checkpoint: str | Path, *, download: bool = True, **options: Any) -> Any:
    """Load the tokenizer of a CLIP model, as `load_model` loads a model."""
    return _load(
        _require_vocabulary, "transformers", "CLIPTokenizer", checkpoint, download, options
    )


def _require_weights(loaded: tuple[Any, Mapping[str, Any]]) -> Any:
    """Refuse a model that has random weights in places: the packages only print where."""
    model, report = loaded
    missing = sorted(
        str(key)
        for kind in ("missing_keys", "mismatched_keys")
        for key in report.get(kind, ())
        if not any(unused in str(key) for unused in _UNUSED)
    )
    if missing:
        raise ValueError(f"it has no weights for {len(missing)} parts, such as {missing[0]}")
    return model


def _require_vocabulary(tokenizer: Any) -> Any:
    """Refuse a tokenizer of special tokens only: the packages make one where the words miss."""
    if not set(tokenizer.get_vocab()) - set(tokenizer.all_special_tokens):
        raise ValueError("it has no vocabulary")
    return tokenizer


def _load(
    accept: Callable[[Any], Any],
    package: str,
    name: str,
    checkpoint: str | Path,
    download: bool,
    options: dict[str, Any],
) -> Any:
    cls = import_extra(package, name)
    load = partial(cls.from_pretrained, str(checkpoint), **options)
    # Raised for a missing file, another kind of model, other shapes, or a file that is cut short.
    failures = (OSError, ValueError, KeyError, RuntimeError, SafetensorError)
    try:
        return accept(load(local_files_only=True))
    except failures as error:
        failure: Exception = error
    advice = "Check what is in the folder."
    if not Path(checkpoint).exists():
        advice = "It is not downloaded yet, and downloads are off: allow them."
        if download:
            # One request, since the packages themselves would retry for minutes.
            _check_hub(checkpoint)
            advice = "Check the name; if it is right, delete what is in the cache, and try again."
            try:
                return accept(load())
            except failures as error:
                failure = error
    reason = " ".join(str(failure).split()) or type(failure).__name__
    raise InputError.of(
        "checkpoint",
        got=f"{str(checkpoint)!r}, which {name} could not load ({reason[:200]})",
        expected="a folder that holds such a model, or its name on the Hugging Face hub",
        fix=advice,
    ) from failure


def add_stored_colours(
    options: dict[str, Any], checkpoint: str | Path, *, download: bool = True
) -> dict[str, Any]:
    """Add mean and std from a checkpoint's `preprocessor_config.json` to options that lack them.

    The image processors themselves may need torchvision; their configuration does not.

    Raises:
        InputError: a checkpoint that is neither a folder nor in the cache, and that the hub does
            not give.
    """
    if {"mean", "std"} <= options.keys():
        return options
    on_disk = Path(checkpoint).is_dir()
    file = Path(checkpoint, _COLOURS) if on_disk else _fetch_colours(str(checkpoint), download)
    return (_read_colours(file) if file is not None and file.is_file() else {}) | options


def _fetch_colours(checkpoint: str, download: bool) -> Path | None:
    """Return the file from the cache or else from the hub; None if the repository has none.

    The cache also remembers which files the hub has said not to have, so that one is asked for
    once and not on every load.
    """
    cached = import_extra("huggingface_hub", "try_to_load_from_cache")(checkpoint, _COLOURS)
    if cached is not None:
        return Path(cached) if isinstance(cached, str) else None
    failure: Exception | None = None
    if download:
        _check_hub(checkpoint)
        absent = import_extra("huggingface_hub.errors", "EntryNotFoundError")
        try:
            return Path(import_extra("huggingface_hub", "hf_hub_download")(checkpoint, _COLOURS))
        except OSError as error:
            # A FileNotFoundError says that the hub could not be asked.
            if isinstance(error, absent) and not isinstance(error, FileNotFoundError):
                return None
            failure = error
    raise InputError.of(
        "mean",
        got=f"None, and no {_COLOURS} of {checkpoint!r} in the cache",
        expected="the colours that the weights were trained on",
        fix="Give mean and std, or allow downloads where there is a connection.",
    ) from failure


def _read_colours(file: Path) -> dict[str, Any]:
    config = json.loads(file.read_text(encoding="utf-8"))
    if config.get("do_normalize") is False:
        return {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
    found = {"mean": config.get("image_mean"), "std": config.get("image_std")}
    return {name: values for name, values in found.items() if values is not None}


def _check_hub(checkpoint: str | Path) -> None:
    """Refuse to download while the hub cannot be reached."""
    endpoint = import_extra("huggingface_hub.constants", "ENDPOINT")
    offline = import_extra("huggingface_hub.constants", "HF_HUB_OFFLINE")
    try:
        if offline:
            raise OSError("HF_HUB_OFFLINE is set")
        urlopen(Request(endpoint, method="HEAD"), timeout=_TIMEOUT).close()
    except HTTPError:
        pass  # it answers
    except OSError as error:
        raise InputError.of(
            "checkpoint",
            got=f"{str(checkpoint)!r}, not all of which is on disk, and no way to {endpoint} "
            f"({getattr(error, 'reason', error)})",
            expected="a connection, or a checkpoint on disk",
            fix="Download it where there is a connection; the folder or the cache can be copied.",
        ) from error
