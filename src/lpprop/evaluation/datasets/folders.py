"""Data sets of your own images and labels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from functools import partial
from pathlib import Path

from lpprop._core.errors import InputError
from lpprop._core.options import check_integer, is_listed
from lpprop.backbones.prompts import parse_classes
from lpprop.evaluation.datasets.dataset import SUFFIXES, Dataset
from lpprop.evaluation.datasets.labels import kept, read_map
from lpprop.evaluation.datasets.layout import as_path, list_files, no_folder, pair_files
from lpprop.evaluation.label_maps import IGNORED
from lpprop.io.images import find_images

__all__ = ["dataset_from_folders"]


def dataset_from_folders(
    images: Path | str,
    labels: Path | str,
    prompts: Sequence[str],
    *,
    name: str = "folders",
    ignored: Iterable[int] = (IGNORED,),
) -> Dataset:
    """Make a data set of a folder of images and a folder of label maps with the same names.

    Args:
        images: folder of images: JPEG, PNG, WebP, BMP or PPM. Their stored pixels count, to which
            the labels belong; an EXIF orientation is not applied.
        labels: folder of PNG files, grey or indexed, one class index per pixel.
        prompts: one string per class, in the order of the indices: synonyms separated by ";", with
            or without "name =".
        name: name of the data set in reports.
        ignored: labels from 0 to 255 of pixels that do not count.

    Raises:
        InputError: no images, images of another format, an image without labels, or prompts that
            cannot be used.

    >>> import tempfile
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as root:
    ...     for folder, mode in (("jpg", "RGB"), ("png", "L")):
    ...         Path(root, folder).mkdir()
    ...         Image.new(mode, (4, 3), 1).save(Path(root, folder, f"cat.{folder}"))
    ...     dataset = dataset_from_folders(Path(root, "jpg"), Path(root, "png"), ["sofa", "cat"])
    ...     dataset[0].name, dataset.class_names[dataset[0].gt[0, 0]]
    ('cat', 'cat')
    """
    images, labels = as_path("images", images), as_path("labels", labels)
    for argument, folder in (("images", images), ("labels", labels)):
        if not folder.is_dir():
            raise no_folder(argument, folder)
    parse_classes(prompts)
    if len(prompts) > IGNORED:
        raise InputError.of(
            "prompts",
            got=f"{len(prompts)} classes",
            expected=f"at most {IGNORED}, in maps of 8 bits",
            fix="Merge some of them.",
        )
    if not (is_listed(ignored) or isinstance(ignored, Set)):
        raise InputError.of(
            "ignored", got=repr(ignored), expected="a list of labels", fix="Pass ignored=(255,)."
        )
    left_out = sorted({check_integer("ignored", one, low=0, high=IGNORED) for one in ignored})
    found = {path.stem: path for path in _find_readable(images)}
    files = pair_files(found, found, list_files(labels, ".png"))
    read = partial(read_map, known=kept(len(prompts), ignored=left_out))
    but = f", without {', '.join(map(str, left_out))}" if left_out != [IGNORED] else ""
    return Dataset(name, list(prompts), files, read, f"label maps{but}")


def _find_readable(folder: Path) -> list[Path]:
    found = find_images(folder, "images")
    others = [path.name for path in found if path.suffix.lower() not in SUFFIXES]
    if others:
        raise InputError.of(
            "images",
            got=f"{others[0]}, one of {len(others)} such files in {folder}",
            expected=f"files in {', '.join(SUFFIXES)}",
            fix="Save them as PNG.",
        )
    return found
