"""Data sets of your own images and labels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from lpprop._core.errors import InputError
from lpprop._core.options import check_integer, check_number
from lpprop.backbones.prompts import parse_classes
from lpprop.evaluation.datasets.dataset import Dataset
from lpprop.evaluation.datasets.labels import kept, read_map
from lpprop.evaluation.datasets.layout import layout_error, list_files, pair_files
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
        images: folder of images; their suffix does not matter.
        labels: folder of PNG files, grey or indexed, one class index per pixel.
        prompts: one string per class, in the order of the indices: synonyms separated by ";", with
            or without "name =".
        name: name of the data set in reports.
        ignored: labels from 0 to 255 of pixels that do not count.

    Raises:
        InputError: no images, an image without labels, or prompts that cannot be used.

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
    for folder in (Path(images), Path(labels)):
        if not folder.is_dir():
            raise layout_error(folder, [], "images/*.jpg (or another format)\nlabels/*.png")
    parse_classes(prompts)
    if len(prompts) > IGNORED:
        raise InputError.of(
            "prompts",
            got=f"{len(prompts)} classes",
            expected=f"at most {IGNORED}, in maps of 8 bits",
            fix="Merge some of them.",
        )
    ignored = [check_integer("ignored", label, low=0) for label in ignored]
    for label in ignored:
        check_number("ignored", label, low=0, high=IGNORED)
    found = {path.stem: path for path in find_images(Path(images))}
    files = pair_files(found, found, list_files(Path(labels), ".png"))
    read = partial(read_map, known=kept(len(prompts), ignored=ignored))
    but = f", without {', '.join(map(str, ignored))}" if set(ignored) != {IGNORED} else ""
    return Dataset(name, list(prompts), files, read, f"label maps{but}")
