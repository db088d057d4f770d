"""Load weights by name or from a folder, with one clear line where that is not possible.

No code that comes with a checkpoint is run, whatever the user answers on the terminal: custom
classes, attention kernels and pickled objects are refused.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from lpprop._core.checks import all_finite
from lpprop._core.errors import InputError
from lpprop.backbones.hub_cache import find_cached, find_folder, import_extra
from lpprop.backbones.stored_files import AGAIN, NO_CODE, Damage, find_damage, read_colours

__all__ = [
    "add_stored_colours",
    "find_preprocessing",
    "load_config",
    "load_model",
    "load_tokenizer",
]

_TIMEOUT = 10  # seconds
_COLOURS = "preprocessor_config.json"
# The backbones use none of these weights, so a checkpoint may come without them.
_UNUSED = ("pooler.", "logit_scale", "mask_token")
# Numbers of parts that are made one by one.
_COUNTS = ("num_hidden_layers", "num_channels")
# Where the packages' messages turn to advice, some of which is to run what comes with a checkpoint.
_ADVICE = re.compile(r"\b(?:Please|If you|You (?:can|set)|In PyTorch|For details|Check)\b")


def load_model(
    package: str,
    name: str,
    checkpoint: str | Path,
    *,
    download: bool = True,
    revision: str | None = None,
    **options: Any,
) -> Any:
    """Load a model with all of its weights, from a folder or by name.

    Files in the cache of the Hugging Face hub are used without asking the hub.

    Args:
        package: "transformers" or "diffusers".
        name: name of the class in it.
        checkpoint: a folder that `save_pretrained` wrote, or the name of a repository on the hub.
        download: whether to download, with a progress bar, files that are not on disk.
        revision: commit, tag or branch of the repository; the newest if None.
        options: further arguments of `from_pretrained`, such as `subfolder="unet"`; None for their
            default.

    Raises:
        ImportError: the extra `models` is not installed.
        InputError: a checkpoint that does not exist, is damaged or of another kind, that needs code
            of its own, or a hub that cannot be reached.
    """
    given = {option: value for option, value in options.items() if value is not None}
    subfolder = given.get("subfolder", "")

    def load(cls: Any, **source: Any) -> Any:
        if package == "transformers":
            read = import_extra(package, "PreTrainedConfig").get_config_dict
            _check_config(read(str(checkpoint), **source, subfolder=subfolder)[0])
        loaded = cls.from_pretrained(str(checkpoint), **source, **given, output_loading_info=True)
        return _require_weights(loaded)

    return _load(load, package, name, checkpoint, download, revision, subfolder)


def load_tokenizer(
    checkpoint: str | Path,
    *,
    name: str = "CLIPTokenizer",
    download: bool = True,
    revision: str | None = None,
    **options: Any,
) -> Any:
    """Load a tokenizer, that of CLIP or one of another class, as `load_model` loads a model."""

    def load(cls: Any, **source: Any) -> Any:
        return _require_vocabulary(cls.from_pretrained(str(checkpoint), **source, **options))

    subfolder = options.get("subfolder", "")
    return _load(load, "transformers", name, checkpoint, download, revision, subfolder)


def load_config(
    name: str,
    checkpoint: str | Path,
    *,
    download: bool = True,
    revision: str | None = None,
    subfolder: str = "",
) -> dict[str, Any]:
    """Load the configuration of a class of diffusers that has no weights, as `load_model` does.

    Args:
        name: the class, such as that of a pipeline or a scheduler.
        checkpoint: a folder, or the name of a repository on the hub.
        download: whether to download a file that is not on disk.
        revision: commit, tag or branch of the repository; the newest if None.
        subfolder: where the file is in the folder or the repository.
    """

    def load(cls: Any, *, trust_remote_code: bool, **source: Any) -> Any:
        return dict(cls.load_config(str(checkpoint), subfolder=subfolder or None, **source))

    found = _load(load, "diffusers", name, checkpoint, download, revision, subfolder)
    return dict(found)


def _check_config(config: Mapping[str, Any]) -> None:
    """Refuse attention by compiled code, which transformers would fetch from the hub and run.

    A model with a million layers is refused too, since it would be built before its weights miss.
    """
    for key, value in config.items():
        if key.removeprefix("_") == "attn_implementation" and value not in (None, "sdpa", "eager"):
            what = f"it asks for other code, {value!r}, as its attention"
            raise Damage("config.json", what, NO_CODE)
        if key in _COUNTS and isinstance(value, int) and value > 1000:
            raise Damage("config.json", f"{key} is {value}", AGAIN)
        if isinstance(value, Mapping):
            _check_config(value)


def _require_weights(loaded: tuple[Any, Mapping[str, Any]]) -> Any:
    """Refuse NaN, and weights that are random in places: the packages only print where."""
    model, report = loaded
    missing = sorted(
        str(key)
        for kind in ("missing_keys", "mismatched_keys")
        for key in report.get(kind, ())
        if not any(unused in str(key) for unused in _UNUSED)
    )
    if missing:
        raise ValueError(f"it has no weights for {len(missing)} parts, such as {missing[0]}")
    for name, weight in model.named_parameters():
        if not (all_finite(weight) or any(unused in name for unused in _UNUSED)):
            raise Damage(None, f"there is NaN or infinity in {name}", AGAIN)
    return model


def _require_vocabulary(tokenizer: Any) -> Any:
    """Refuse a tokenizer of special tokens only: the packages make one where the words miss."""
    if not set(tokenizer.get_vocab()) - set(tokenizer.all_special_tokens):
        raise ValueError("it has no vocabulary")
    tokenizer(["a"])  # fails where its settings are damaged
    return tokenizer


def _load(
    load: Callable[..., Any],
    package: str,
    name: str,
    checkpoint: str | Path,
    download: bool,
    revision: str | None,
    subfolder: str,
) -> Any:
    cls = import_extra(package, name)
    source = {"trust_remote_code": False} | ({} if revision is None else {"revision": revision})
    failure: Exception
    try:
        with _without_conversion():
            return load(cls, local_files_only=True, **source)
    except MemoryError:
        raise
    # What the packages raise depends on the file and on the byte at which reading it fails.
    except Exception as error:
        failure = error
    on_disk = Path(checkpoint).is_dir()
    folder = find_folder(checkpoint, revision, subfolder)
    damage = _recognise(failure) or (None if folder is None else find_damage(folder))
    advice = "Check config.json and the weights in the folder."
    if damage is None and not on_disk:
        advice = "It is no folder here, not wholly downloaded, and downloads are off: allow them."
        if download:
            # One request, since the packages themselves would retry for minutes.
            _check_hub(checkpoint)
            advice = "Check name and revision; if they are right, delete what is in the cache."
            try:
                return load(cls, **source)
            except MemoryError:
                raise
            except Exception as error:
                failure, damage = error, _recognise(error)
    said = _ADVICE.split(" ".join(str(failure).split()))[0].strip(" .")
    reason = said[:200] or type(failure).__name__
    if damage is not None:
        folder = find_folder(checkpoint, revision, subfolder)
        reason, advice = damage.describe(folder), damage.fix
    raise InputError.of(
        "checkpoint",
        got=f"{str(checkpoint)!r}, which {name} could not load ({reason})",
        expected="a folder that holds such a model, or its name on the Hugging Face hub",
        fix=advice,
    ) from failure


def _recognise(failure: Exception) -> Damage | None:
    """Tell what is wrong by an error, where that is more than the package says, or less harmful."""
    if isinstance(failure, Damage):
        return failure
    if "trust_remote_code" in str(failure):
        return Damage("config.json", "the model needs Python code that comes with it", NO_CODE)
    if "ignore_mismatched_sizes" in str(failure):
        what = "the weights have other shapes than it says"
        return Damage("config.json", what, "Take both files from one checkpoint.")
    return None


@contextmanager
def _without_conversion() -> Iterator[None]:
    """Keep transformers from asking the hub to convert weights that are on disk already."""
    variable = "DISABLE_SAFETENSORS_CONVERSION"
    before = os.environ.get(variable)
    os.environ[variable] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[variable]
        else:
            os.environ[variable] = before


def add_stored_colours(
    options: dict[str, Any],
    checkpoint: str | Path,
    *,
    download: bool = True,
    revision: str | None = None,
) -> dict[str, Any]:
    """Add mean and std from a checkpoint's `preprocessor_config.json` to options that lack them.

    The image processors themselves may need torchvision; their configuration does not.

    Raises:
        InputError: a checkpoint that is neither a folder nor in the cache, and that the hub does
            not give; or a file from which no colours can be read.
    """
    if {"mean", "std"} <= options.keys():
        return options
    file = find_preprocessing(checkpoint, download=download, revision=revision)
    return (read_colours(file) if file is not None else {}) | options


def find_preprocessing(
    checkpoint: str | Path, *, download: bool = True, revision: str | None = None
) -> Path | None:
    """Return the path of a checkpoint's `preprocessor_config.json`, or None if it has none.

    Raises:
        InputError: a checkpoint that is neither a folder nor in the cache, and that the hub does
            not give.
    """
    on_disk = Path(checkpoint).is_dir()
    file = Path(checkpoint, _COLOURS) if on_disk else _fetch_colours(checkpoint, download, revision)
    return file if file is not None and file.is_file() else None


def _fetch_colours(checkpoint: str | Path, download: bool, revision: str | None) -> Path | None:
    """Return the file from the cache or else from the hub; None if the repository has none.

    The cache also remembers which files the hub has said not to have, so that one is asked for
    once and not on every load.
    """
    cached = find_cached(checkpoint, _COLOURS, revision)
    if cached is not None:
        return Path(cached) if isinstance(cached, str) else None
    failure: Exception | None = None
    if download:
        _check_hub(checkpoint)
        absent = import_extra("huggingface_hub.errors", "EntryNotFoundError")
        given = {} if revision is None else {"revision": revision}
        fetch = import_extra("huggingface_hub", "hf_hub_download")
        try:
            return Path(fetch(str(checkpoint), _COLOURS, **given))
        except OSError as error:
            # A FileNotFoundError says that the hub could not be asked.
            if isinstance(error, absent) and not isinstance(error, FileNotFoundError):
                return None
            failure = error
    raise InputError.of(
        "mean",
        got=f"None, and no {_COLOURS} of {str(checkpoint)!r} in the cache",
        expected="the colours that the weights were trained on",
        fix="Give mean and std, or allow downloads where there is a connection.",
    ) from failure


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
            got=f"{str(checkpoint)!r}, which is neither a folder here nor wholly downloaded, and "
            f"no way to {endpoint} ({getattr(error, 'reason', error)})",
            expected="a connection, or a checkpoint on disk",
            fix=f"Where there is a connection, run: hf download {checkpoint} --local-dir FOLDER; "
            "the folder can be copied here, and passed as the checkpoint.",
        ) from error
