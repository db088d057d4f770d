"""Names of checkpoints: short names, repositories and folders, told apart before anything loads."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from lpprop._core.errors import InputError
from lpprop._core.options import hint

__all__ = ["find_checkpoint"]

_REPOSITORY = re.compile(r"\w[\w.-]*/\w[\w.-]*")


def find_checkpoint(
    checkpoint: str | Path, short_names: Mapping[str, str], revision: str | None = None
) -> str:
    """Return the folder or the repository that a checkpoint names; nothing is loaded.

    Args:
        checkpoint: a short name, the name of a repository on the Hugging Face hub, or a folder.
        short_names: repositories by the short names that the class knows.
        revision: the revision that is asked for; a folder has none.

    Raises:
        InputError: a folder that does not exist, a file, a name that is neither short nor that of a
            repository, or a revision of a folder.

    >>> find_checkpoint("dino-vitb8", {"dino-vitb8": "facebook/dino-vitb8"})
    'facebook/dino-vitb8'
    """
    known = [*map(repr, short_names), "a repository such as 'owner/name'", "a folder"]
    expected = f"{', '.join(known[:-1])} or {known[-1]}"
    if not isinstance(checkpoint, (str, os.PathLike)):
        got = type(checkpoint).__name__
        raise InputError.of("checkpoint", got=got, expected=expected, fix="Pass a name or a path.")
    if revision is not None and not (isinstance(revision, str) and revision):
        raise InputError.of(
            "revision",
            got=repr(revision),
            expected="a commit, a tag or a branch, or None for the newest",
            fix="Pass the hash of a commit.",
        )
    name = short_names.get(str(checkpoint), str(checkpoint))
    folder = Path(name).expanduser()
    if name.strip() and folder.is_dir():
        if revision is not None:
            raise InputError.of(
                "revision",
                got=f"{revision!r} beside a folder",
                expected="None, since a folder has no revisions",
                fix="Leave it out, or pass the repository's name.",
            )
        return str(folder)
    if folder.is_file():
        fix = f"Pass the folder that holds the file: {str(folder.parent)!r}."
        raise InputError.of("checkpoint", got=f"the file {name!r}", expected=expected, fix=fix)
    if isinstance(checkpoint, os.PathLike) or not _REPOSITORY.fullmatch(name):
        path = isinstance(checkpoint, os.PathLike) or bool(set(name) & {"/", "\\"})
        what = f"the folder {name!r}, which does not exist" if path else repr(name)
        fix = "Check the path." if path else hint(name, short_names, "Check the name.")
        raise InputError.of("checkpoint", got=what, expected=expected, fix=fix)
    return name
