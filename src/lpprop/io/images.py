"""Images: found, opened under one set of rules, read as RGB, and written as PNG."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import ExifTags, Image

from lpprop._core.errors import InputError, warn
from lpprop.io.atomic import atomic_write
from lpprop.io.files import describe_source, list_folder, refuse_damaged, require_file

__all__ = ["IMAGE_SUFFIXES", "find_images", "load_image", "open_image", "save_image"]

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".ppm")
# By content, whatever the suffix says. Not EPS, which Pillow would hand to Ghostscript to run.
_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM")


@contextmanager
def open_image(
    source: Path | bytes, argument: str, formats: tuple[str, ...] = _FORMATS
) -> Iterator[Image.Image]:
    """Open an image file, and name it in whatever goes wrong inside.

    Args:
        source: the file, or its content.
        argument: what errors call it.
        formats: Pillow's names of the formats that it may have.

    Raises:
        InputError: a file that is missing, damaged, of another format, or of more pixels than
            Pillow's limit.
    """
    with refuse_damaged(source, argument, f"an undamaged {' or '.join(formats)} image"):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # metadata oddities of a file that reads well
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                file = source if isinstance(source, Path) else io.BytesIO(source)
                with Image.open(file, formats=formats) as image:
                    yield image
        except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
            raise InputError.of(
                argument,
                got=f"{describe_source(source)}, which unpacks to too many pixels",
                expected=f"at most {Image.MAX_IMAGE_PIXELS}",
                fix="Make it smaller, or cut it into tiles.",
            ) from error


def load_image(
    source: Path | bytes,
    argument: str = "image",
    *,
    formats: tuple[str, ...] = _FORMATS,
    upright: bool = True,
) -> Image.Image:
    """Read an image as 8-bit RGB; alpha and metadata are dropped, the first frame is taken.

    Args:
        source: a JPEG, PNG, WebP, TIFF, BMP, GIF or PPM file, or the content of one.
        argument: what errors call it.
        formats: the formats that it may have, as for `open_image`.
        upright: whether to turn it as its EXIF orientation says, which is right for an image that
            comes alone. Arrays and label maps belong to the pixels as they are stored: with them
            pass False, and an `lpprop.InputWarning` names an orientation that is not applied.

    Raises:
        InputError: a file that `open_image` refuses, or grey of 16 bits or more, whose range is
            anyone's guess.
    """
    with open_image(source, argument, formats) as image:
        if image.mode.startswith(("I", "F")):
            raise InputError.of(
                argument,
                got=f"{describe_source(source)} of mode {image.mode!r}",
                expected="8 bits per channel",
                fix="Scale it to 0-255 and save it as RGB.",
            )
        tag = ExifTags.Base.Orientation
        orientation = image.getexif().get(tag, 1)
        image.load()
        # Pillow turns TIFF files while it loads them, and takes the tag away.
        turned = orientation in _TURNED and tag not in image.getexif()
        if orientation in _TURNED and turned != upright:
            show = _TURNED[orientation][1]
            # Not ImageOps.exif_transpose, which writes all other tags again and fails on odd ones.
            pixels = image.transpose(show if upright else _UNDO.get(show, show)).convert("RGB")
        else:
            pixels = image.convert("RGB")
        pixels.info.clear()  # what it says of the orientation is settled
    if orientation in _TURNED and not upright:  # outside, where warnings are heard
        warn(
            "EXIF orientation",
            f"{describe_source(source)}: its EXIF orientation {orientation} "
            f"({_TURNED[orientation][0]}) is not applied, since arrays and label maps belong to "
            "the pixels as they are stored. If yours were made from the upright image, turn the "
            "file first, such as by PIL.ImageOps.exif_transpose.",
        )
    pixels.info.pop("exif", None)  # so that nobody takes the orientation for one to apply
    return pixels


# How an image with each EXIF orientation is shown.
_TURNED = {
    2: ("mirrored", Image.Transpose.FLIP_LEFT_RIGHT),
    3: ("turned by 180 degrees", Image.Transpose.ROTATE_180),
    4: ("upside down and mirrored", Image.Transpose.FLIP_TOP_BOTTOM),
    5: ("turned by 90 degrees and mirrored", Image.Transpose.TRANSPOSE),
    6: ("turned clockwise by 90 degrees", Image.Transpose.ROTATE_270),
    7: ("turned by 90 degrees and mirrored", Image.Transpose.TRANSVERSE),
    8: ("turned counter-clockwise by 90 degrees", Image.Transpose.ROTATE_90),
}

# All others undo themselves.
_UNDO = {
    Image.Transpose.ROTATE_90: Image.Transpose.ROTATE_270,
    Image.Transpose.ROTATE_270: Image.Transpose.ROTATE_90,
}


def find_images(path: Path, argument: str = "image") -> list[Path]:
    """List the image, or those in a folder by name; hidden files are left out.

    Raises:
        InputError: nothing there, or two images of one stem, whose results would collide.
    """
    if not path.is_dir():
        require_file(path, argument, "an image, or a folder of images")
        return [path]
    images = list_folder(path, IMAGE_SUFFIXES)
    if not images:
        raise InputError.of(
            argument,
            got=f"{path} without images",
            expected=f"files in {', '.join(IMAGE_SUFFIXES)}",
            fix="Check the path; folders inside it are not searched.",
        )
    stems = [image.stem for image in images]
    twice = sorted({stem for stem in stems if stems.count(stem) > 1})
    if twice:
        raise InputError.of(
            argument,
            got=f"several images named {', '.join(twice)} in {path}",
            expected="one image per name",
            fix="Rename them: results are named after the image, without its suffix.",
        )
    return images


def save_image(path: Path, image: Image.Image) -> None:
    """Write an image as PNG."""
    with atomic_write(path) as file:
        image.save(file, format="PNG")
