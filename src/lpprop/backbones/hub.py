"""Loading weights by name or from a folder, with one clear line where that is not possible."""

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

__all__ = ["load_model", "load_tokenizer", "model_class", "with_stored_colours"]

_PATIENCE = 10  # seconds
# Weights that nothing here uses, so that a checkpoint may lack them.
_UNUSED = ("pooler.", "logit_scale", "mask_token")


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


def load_model(
    package: str, name: str, checkpoint: str | Path, *, download: bool = True, **options: Any
) -> Any:
    """Load a model with all of its weights, from a folder or by name.

    What is in the cache of the Hugging Face hub is taken from there, without a look at the hub.

    Args:
        package: "transformers" or "diffusers".
        name: of the class in it.
        checkpoint: a folder that `save_pretrained` wrote, or the name of a repository of the hub.
        download: whether to fetch what is neither a folder nor in the cache, with a progress bar.
        options: further arguments of `from_pretrained`, such as `subfolder="unet"`.

    Raises:
        ImportError: the extra `models` is not installed.
        InputError: no such checkpoint, one of another kind or damaged, or a hub that cannot be
            reached.
    """
    options["output_loading_info"] = True
    return _load(_complete, package, name, checkpoint, download, options)


def load_tokenizer(checkpoint: str | Path, *, download: bool = True, **options: Any) -> Any:
    """Load the tokenizer of a CLIP model, as `load_model` loads a model."""
    return _load(_with_words, "transformers", "CLIPTokenizer", checkpoint, download, options)


def _complete(loaded: tuple[Any, Mapping[str, Any]]) -> Any:
    """Refuse a model some of whose weights are random: the packages only print which."""
    model, report = loaded
    lacking = sorted(
        str(key)
        for kind in ("missing_keys", "mismatched_keys")
        for key in report.get(kind, ())
        if not any(unused in str(key) for unused in _UNUSED)
    )
    if lacking:
        raise ValueError(f"it has no weights for {len(lacking)} parts, such as {lacking[0]}")
    return model


def _with_words(tokenizer: Any) -> Any:
    """Refuse a tokenizer of special tokens alone, which is what comes without a vocabulary."""
    if not set(tokenizer.get_vocab()) - set(tokenizer.all_special_tokens):
        raise ValueError("it has no vocabulary")
    return tokenizer


def _load(
    accepted: Callable[[Any], Any],
    package: str,
    name: str,
    checkpoint: str | Path,
    download: bool,
    options: dict[str, Any],
) -> Any:
    cls = model_class(package, name)
    load = partial(cls.from_pretrained, str(checkpoint), **options)
    # What lacks a file, is of another kind, has other shapes, or is cut short.
    failures = (OSError, ValueError, KeyError, RuntimeError, SafetensorError)
    try:
        return accepted(load(local_files_only=True))
    except failures as error:
        failure: Exception = error
    advice = "Check what is in the folder."
    if not Path(checkpoint).exists():
        advice = "It is not downloaded yet, and downloads are off: allow them."
        if download:
            # Asked once, since the packages themselves would ask for minutes.
            _check_hub(checkpoint)
            advice = "Check the name; if it is right, delete what is in the cache, and try again."
            try:
                return accepted(load())
            except failures as error:
                failure = error
    reason = " ".join(str(failure).split()) or type(failure).__name__
    raise InputError.of(
        "checkpoint",
        got=f"{str(checkpoint)!r}, which {name} could not load ({reason[:200]})",
        expected="a folder that holds such a model, or its name on the Hugging Face hub",
        fix=advice,
    ) from failure


def with_stored_colours(
    options: dict[str, Any], checkpoint: str | Path, *, download: bool = True
) -> dict[str, Any]:
    """Add mean and std from a checkpoint's `preprocessor_config.json`, as far as it tells them.

    Those that are among the options stand; where both are, it is not read. The image processors
    themselves may need torchvision; what configures them does not.

    Raises:
        InputError: neither a folder nor in the cache, and not to be had from the hub.
    """
    if {"mean", "std"} <= options.keys():
        return options
    file = Path(checkpoint, "preprocessor_config.json")
    if not Path(checkpoint).is_dir():
        found = _fetched(str(checkpoint), file.name, download)
        if found is None:
            return options
        file = found
    return (_colours(file) if file.is_file() else {}) | options


def _fetched(checkpoint: str, name: str, download: bool) -> Path | None:
    """Return a file from the cache or else from the hub; None where the hub has none."""
    absent = model_class("huggingface_hub.errors", "EntryNotFoundError")
    fetch = model_class("huggingface_hub", "hf_hub_download")
    try:
        return Path(fetch(checkpoint, name, local_files_only=True))
    except OSError as error:
        failure = error
    if download:
        _check_hub(checkpoint)
        try:
            return Path(fetch(checkpoint, name, local_files_only=False))
        except OSError as error:
            # The hub says that there is none, or it could not be asked.
            if isinstance(error, absent) and not isinstance(error, FileNotFoundError):
                return None
            failure = error
    raise InputError.of(
        "mean",
        got=f"None, and no {name} of {checkpoint!r} in the cache",
        expected="the colours that the weights were trained on",
        fix="Give mean and std, or allow downloads where there is a connection.",
    ) from failure


def _colours(file: Path) -> dict[str, Any]:
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
            fix="Download it where there is a connection; the folder or the cache can be copied.",
        )
