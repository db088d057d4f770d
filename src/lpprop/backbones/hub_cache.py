"""What the cache of the Hugging Face hub holds of a checkpoint, and of which commit."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

__all__ = ["find_cached", "find_commit", "find_folder", "import_extra", "is_on_disk"]

# A model's weights, or the list of the files that hold them.
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")


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


def find_commit(
    checkpoint: str | Path, revision: str | None = None, file: str = "config.json"
) -> str | None:
    """Return the commit of what was loaded from a repository; None for a folder.

    Args:
        checkpoint: what `find_checkpoint` returned.
        revision: as it was loaded.
        file: a file that was loaded.
    """
    found = find_cached(checkpoint, file, revision)
    commit = re.search(r"snapshots[/\\]([^/\\]+)[/\\]", str(found or ""))
    return commit[1] if commit else None


def find_cached(checkpoint: str | Path, file: str, revision: str | None) -> Any:
    """Return the path of a file in the cache, None, or a mark that the repository has none."""
    look = import_extra("huggingface_hub", "try_to_load_from_cache")
    given = {} if revision is None else {"revision": revision}
    return None if Path(checkpoint).is_dir() else look(str(checkpoint), file, **given)


def find_folder(checkpoint: str | Path, revision: str | None, subfolder: str = "") -> Path | None:
    """Return the folder on disk that holds a checkpoint's files, if there is one."""
    if Path(checkpoint).is_dir():
        return Path(checkpoint, subfolder)
    found = find_cached(checkpoint, f"{subfolder}/config.json".lstrip("/"), revision)
    return Path(found).parent if isinstance(found, str) else None


def is_on_disk(checkpoint: str | Path, revision: str | None = None) -> bool:
    """Tell whether a checkpoint is a folder, or in the cache with a configuration and weights."""
    folder = find_folder(checkpoint, revision)
    if folder is None or Path(checkpoint).is_dir():
        return folder is not None
    return any(
        (folder / f"{name}{end}").is_file() for name in _WEIGHTS for end in ("", ".index.json")
    )
