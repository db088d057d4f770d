"""Images and label maps as they are stored, and the conversion of labels to class indices."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from jaxtyping import Int, UInt8
from PIL import Image

from lpprop._core.errors import InputError
from lpprop.evaluation.label_maps import IGNORED

__all__ = [
    "LabelMaps",
    "convert",
    "kept",
    "opened",
    "read_image",
    "reduced_zero",
    "table",
]

# By content, whatever the suffix says.
IMAGE_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "PPM")

_REFUSED = -1


def table(
    classes: Mapping[int, int], *, ignored: Iterable[int] = (IGNORED,), size: int = 256
) -> tuple[int, ...]:
    """Say for each stored label which class it is; what is neither class nor ignored is refused.

    >>> table({1: 0, 2: 1}, ignored=[0])[:4]
    (255, 0, 1, -1)
    """
    known = [_REFUSED] * size
    for stored, label in classes.items():
        known[stored] = label
    for stored in ignored:
        known[stored] = IGNORED
    return tuple(known)


def kept(classes: int, *, ignored: Iterable[int] = (IGNORED,)) -> tuple[int, ...]:
    """Labels that are class indices already."""
    return table({label: label for label in range(classes)}, ignored=ignored)


def reduced_zero(classes: int) -> tuple[int, ...]:
    """Labels whose 0 is no class: it is ignored, and the others count from 1 (reduce zero label).

    >>> reduced_zero(2)[:4]
    (255, 0, 1, -1)
    """
    return table({label + 1: label for label in range(classes)}, ignored=(0, IGNORED))


def convert(
    stored: Int[np.ndarray, "H W"], known: Sequence[int], path: Path
) -> UInt8[np.ndarray, "H W"]:
    """Replace each stored label by its class.

    Args:
        stored: labels (H, W), integers.
        known: as `table` makes it.
        path: the file they are from, for the message.

    Returns:
        Classes (H, W), 255 where ignored.

    Raises:
        InputError: a label that the table refuses, or has no entry for.

    >>> convert(np.array([[0, 2], [1, 255]]), reduced_zero(2), Path("a.png"))
    array([[255,   1],
           [  0, 255]], dtype=uint8)
    """
    beyond = len(known)
    lookup = np.array([*known, _REFUSED], dtype=np.int16)
    # What is below or above the table reaches the last entry, which refuses it.
    classes: npt.NDArray[np.int16] = lookup[np.clip(stored, -1, beyond)]
    wrong = classes == _REFUSED
    if wrong.any():
        values = ", ".join(map(str, np.unique(stored[wrong])[:5].tolist()))
        row, column = np.argwhere(wrong)[0].tolist()
        raise InputError.of(
            "labels",
            got=f"{path} with {values} at {int(wrong.sum())} pixels, the first at "
            f"({row}, {column})",
            expected=f"labels among {_ranges(known)}",
            fix="It may be of another data set, or converted for another program.",
        )
    return classes.astype(np.uint8)


def _ranges(known: Sequence[int]) -> str:
    """Write the labels that a table knows as ranges."""
    runs: list[list[int]] = []
    for stored, label in enumerate(known):
        if label == _REFUSED:
            continue
        if runs and runs[-1][1] == stored - 1:
            runs[-1][1] = stored
        else:
            runs.append([stored, stored])
    return ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in runs)


@contextmanager
def opened(path: Path, formats: tuple[str, ...] = IMAGE_FORMATS) -> Iterator[Image.Image]:
    """Open an image of a data set, and name its path in whatever goes wrong inside."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # metadata oddities of a file that reads well
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=formats) as image:
                yield image
    except InputError:
        raise
    except Exception as error:  # decoders raise SyntaxError, struct.error, zlib.error and more
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:150]
        raise InputError.of(
            "root",
            got=f"{path}, which cannot be read ({reason})",
            expected=f"an undamaged {' or '.join(formats)} image",
            fix="Download or unpack it again.",
        ) from error


def read_image(path: Path) -> Image.Image:
    """Read an image as RGB, its pixels as they are stored: labels belong to these.

    An orientation that EXIF names is not applied, unlike in `lpprop.io.files.load_image`.
    """
    with opened(path) as image:
        if image.mode.startswith(("I", "F")):
            raise InputError.of(
                "root",
                got=f"{path} of mode {image.mode!r}",
                expected="8 bits a channel",
                fix="Scale it to 0-255 and save it as RGB.",
            )
        return image.convert("RGB")


@dataclass(frozen=True)
class LabelMaps:
    """Reads PNG label maps: grey or indexed, one stored label a pixel.

    Attributes:
        known: which class each stored label is, as `table` makes it.
    """

    known: tuple[int, ...]

    def __call__(self, name: str, path: Path) -> UInt8[np.ndarray, "H W"]:
        """Read one map as classes (H, W)."""
        # Only lossless formats: JPEG would invent labels along every edge.
        with opened(path, ("PNG",)) as image:
            if image.mode not in ("L", "P", "1") and not image.mode.startswith("I"):
                raise InputError.of(
                    "labels",
                    got=f"{path} of mode {image.mode!r}",
                    expected="one label a pixel, grey or indexed",
                    fix="Where colours stand for classes, convert them to indices first.",
                )
            stored = np.asarray(image)
        return convert(stored.astype(np.int64), self.known, path)
