"""Folders as the data sets come: which is the root, and which label file belongs to which image."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from lpprop._core.errors import InputError
from lpprop.evaluation.datasets.dataset import Files

__all__ = ["find_root", "in_folder", "missing", "paired", "read_list"]


def find_root(root: Path, inside: Sequence[str], needs: Iterable[str], layout: str) -> Path:
    """Find the folder that has what a layout needs: the root itself, or one of those inside it.

    Args:
        root: what the user passed.
        inside: folders below it that are tried too.
        needs: files and folders that must be there.
        layout: the expected tree, for the message.

    Raises:
        InputError: no folder, or things that it lacks.
    """
    needs = tuple(needs)
    homes = [root, *(root / folder for folder in inside)]
    for home in homes:
        if all((home / need).exists() for need in needs):
            return home
    # Of several roots the one that has most is likeliest meant.
    best = max(homes, key=lambda home: sum((home / need).exists() for need in needs))
    raise missing(best, [need for need in needs if not (best / need).exists()], layout)


def missing(root: Path, lacking: Sequence[str], layout: str) -> InputError:
    """Say what is there, what is lacking, and which tree is expected."""
    if root.is_dir():
        held = sorted(path.name for path in root.iterdir())
        shown = ", ".join(held[:8]) + (", ..." if len(held) > 8 else "")
        got = f"{root} without {', '.join(lacking)} (it holds {shown or 'nothing'})"
    else:
        got = f"{root}, which {'is not a folder' if root.exists() else 'does not exist'}"
    tree = "\n".join(f"    {line}" for line in layout.strip().splitlines())
    return InputError.of(
        "root",
        got=got,
        expected="the folders of the official download",
        fix=f"Check the path, or unpack what is missing:\n{tree}",
    )


def in_folder(folder: Path, suffix: str) -> dict[str, Path]:
    """List the files with a suffix by what stands before it, sorted; hidden ones are left out.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("b_gt.png", "a_gt.png", ".c_gt.png", "a.png"):
    ...         Path(folder, name).touch()
    ...     list(in_folder(Path(folder), "_gt.png"))
    ['a', 'b']
    """
    return {
        path.name.removesuffix(suffix): path
        for path in sorted(folder.iterdir())
        if path.name.endswith(suffix) and not path.name.startswith(".") and path.is_file()
    }


def read_list(path: Path) -> list[str]:
    """Read the names of a split, one a line, in the order of the file."""
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


def paired(
    names: Iterable[str], images: Mapping[str, Path], labels: Mapping[str, Path]
) -> tuple[Files, ...]:
    """Put images and label files of one name together.

    Raises:
        InputError: a name without image or without labels; the first few are listed.
    """
    names = list(names)
    for kind, found in (("image", images), ("labels", labels)):
        lacking = [name for name in names if name not in found]
        if lacking:
            raise InputError.of(
                "root",
                got=f"no {kind} for {len(lacking)} of {len(names)} samples, the first "
                f"{', '.join(lacking[:3])}",
                expected="an image and a label file each",
                fix="Unpack the whole download again.",
            )
    return tuple(Files(name, images[name], labels[name]) for name in names)
