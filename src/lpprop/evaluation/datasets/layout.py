"""The folders of the data sets: find the root, and pair images with their label files."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from lpprop._core.errors import InputError
from lpprop.evaluation.datasets.dataset import Files

__all__ = [
    "as_path",
    "find_root",
    "layout_error",
    "list_files",
    "list_folders",
    "no_folder",
    "pair_files",
    "read_list",
]


def find_root(root: Path, inside: Sequence[str], needs: Iterable[str], layout: str) -> Path:
    """Find the folder that has what a layout needs: the root itself, or a folder inside it.

    Args:
        root: the folder that the user passed.
        inside: folders below the root to try as well.
        needs: files and folders that must exist.
        layout: the expected tree, for the message.

    Raises:
        InputError: the root is not a folder, or something in it is missing.
    """
    needs = tuple(needs)
    homes = [root, *(root / folder for folder in inside)]
    for home in homes:
        if all((home / need).exists() for need in needs):
            return home
    # The folder that has most of the needs is most likely the intended one.
    best = max(homes, key=lambda home: sum((home / need).exists() for need in needs))
    raise layout_error(best, [need for need in needs if not (best / need).exists()], layout)


def layout_error(root: Path, missing: Sequence[str], layout: str) -> InputError:
    """Make the error for missing files, with those that are there and the expected tree."""
    tree = "\n".join(f"    {line}" for line in layout.strip().splitlines())
    if not root.is_dir():
        return no_folder("root", root, f"Check the path. It should hold\n{tree}")
    held = sorted(path.name for path in root.iterdir())
    shown = ", ".join(held[:8]) + (", ..." if len(held) > 8 else "")
    got = f"{root} without {', '.join(missing)} (it holds {shown or 'nothing'})"
    return InputError.of(
        "root",
        got=got,
        expected="the folders of the official download",
        fix=f"Check the path, or unpack what is missing:\n{tree}",
    )


def no_folder(argument: str, folder: Path, fix: str = "Check the path.") -> InputError:
    """Make the error for a folder that is not there."""
    return InputError.of(
        argument,
        got=f"{folder}, which {'is not a folder' if folder.exists() else 'does not exist'}",
        expected="a folder",
        fix=fix,
    )


def list_files(folder: Path, suffix: str) -> dict[str, Path]:
    """List the files with a suffix by their names without it, sorted; hidden files are left out.

    Raises:
        InputError: two files of one name, such as a.png and a.PNG.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("b_gt.PNG", "a_gt.png", ".c_gt.png", "a.png"):
    ...         Path(folder, name).touch()
    ...     list(list_files(Path(folder), "_gt.png"))
    ['a', 'b']
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        fits = path.name.lower().endswith(suffix.lower())
        if not fits or path.name.startswith(".") or not path.is_file():
            continue
        name = path.name[: -len(suffix)]
        if name in found:
            raise InputError.of(
                "root",
                got=f"{found[name].name} and {path.name} in {folder}",
                expected="one file per name",
                fix="Remove one of them.",
            )
        found[name] = path
    return found


def list_folders(folders: Iterable[tuple[str, Path]], suffix: str) -> dict[str, Path]:
    """List the files of several folders with a suffix, sorted by name.

    Args:
        folders: a prefix for the names of a folder's files, and the folder; folders that are not
            there are left out.
        suffix: what `list_files` takes.

    Raises:
        InputError: two files of one name.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as root:
    ...     folders = [(f"{name}_", Path(root, name)) for name in ("seq2", "seq1")]
    ...     for _, folder in folders:
    ...         folder.mkdir()
    ...         Path(folder, "0.png").touch()
    ...     list(list_folders(folders, ".png"))
    ['seq1_0', 'seq2_0']
    """
    found: dict[str, Path] = {}
    for prefix, folder in folders:
        for name, path in list_files(folder, suffix).items() if folder.is_dir() else ():
            if prefix + name in found:
                raise InputError.of(
                    "root",
                    got=f"{found[prefix + name]} and {path}",
                    expected="one file per name",
                    fix="Remove one of them.",
                )
            found[prefix + name] = path
    return dict(sorted(found.items()))


def as_path(argument: str, given: object) -> Path:
    """Return a path; refuse what is none.

    >>> as_path("root", 5)
    Traceback (most recent call last):
    lpprop.InputError: root: got 5, expected a path. Pass a string or a pathlib.Path.
    """
    if not isinstance(given, (str, Path)) or "\0" in str(given):
        raise InputError.of(
            argument,
            got=reprlib.repr(given),
            expected="a path",
            fix="Pass a string or a pathlib.Path.",
        )
    return Path(given).expanduser()


def read_list(path: Path) -> list[str]:
    """Read the names of a split, one per line, in the order of the file."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError.of(
            "root",
            got=f"{path}, which cannot be read ({error})",
            expected="a list of names",
            fix="Download or unpack it again.",
        ) from error
    return [line.strip() for line in lines if line.strip()]


def pair_files(
    names: Iterable[str], images: Mapping[str, Path], labels: Mapping[str, Path]
) -> tuple[Files, ...]:
    """Pair images and label files of the same name.

    Raises:
        InputError: names without image or without labels; the message lists the first three.
    """
    names = list(names)
    for kind, found in (("image", images), ("labels", labels)):
        missing = [name for name in names if name not in found]
        if missing:
            raise InputError.of(
                "root",
                got=f"no {kind} for {len(missing)} of {len(names)} samples, the first "
                f"{', '.join(missing[:3])}",
                expected="an image and a label file each",
                fix="Unpack the whole download again.",
            )
    return tuple(Files(name, images[name], labels[name]) for name in names)
