"""Uploaded images: refused or opened, without trust in anything that the file says of itself."""

from __future__ import annotations

import math
from pathlib import Path

from PIL import Image

from lpprop._core.errors import InputError, warn
from lpprop.app.limits import Limits
from lpprop.io.images import load_image, open_image

__all__ = ["open_upload"]

# What browsers show, and cameras and phones write. TIFF and others are left to the command line.
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")

# Encoders write about ten. Each scan costs a pass over the whole image, and may be of a few bytes,
# so that a small file can keep a decoder busy for an hour.
_JPEG_SCANS = 100


def open_upload(path: Path, limits: Limits, argument: str = "image") -> Image.Image:
    """Open an image that somebody has sent, upright and as 8-bit RGB.

    Its size is known from its header before a pixel is decoded. An image whose longer side is over
    `limits.side` is scaled down, and an `lpprop.InputWarning` says so.

    Args:
        path: the file; no message names it.
        limits: what it may be.
        argument: what errors call it.

    Returns:
        An image whose longer side is at most `limits.side`.

    Raises:
        InputError: a file that is too large, damaged or no image, that has too many pixels, that
            is too narrow, or that is animated.
    """
    try:
        size = path.stat().st_size
        if size > limits.file_bytes:
            raise InputError.of(
                argument,
                got=f"a file of {math.ceil(10 * size / 2**20) / 10} MiB",
                expected=f"at most {limits.file_bytes / 2**20:.3g} MiB",
                fix="Make the image smaller, or save it as JPEG.",
            )
        with open_image(path, argument, _FORMATS) as image:
            _check_header(image, path, limits, argument)
        return _scale(load_image(path, argument, formats=_FORMATS), limits)
    except OSError as error:
        raise InputError.of(
            argument, got="a file that is gone", expected="an image", fix="Upload it again."
        ) from error
    except InputError as error:
        raise _without_path(error, path, limits, argument) from None


def _without_path(error: InputError, path: Path, limits: Limits, argument: str) -> InputError:
    """Say the same without the path, which is the server's, and the name, which is the user's."""
    bombs = (Image.DecompressionBombWarning, Image.DecompressionBombError)
    if isinstance(error.__cause__, bombs):
        return InputError.of(
            argument,
            got="an image of too many pixels",
            expected=f"at most {limits.pixels / 1e6:g} million",
            fix="Make the image smaller.",
        )
    if error.__cause__ is not None:
        return InputError.of(
            argument,
            got="a file that cannot be read",
            expected="an undamaged JPEG, PNG, WebP, GIF or BMP image",
            fix="It may be cut off, or of another format than its name says: save it again.",
        )
    return InputError(str(error).replace(str(path), "a file"))


def _check_header(image: Image.Image, path: Path, limits: Limits, argument: str) -> None:
    width, height = image.size
    if width * height > limits.pixels:
        raise InputError.of(
            argument,
            got=f"{width} x {height} pixels",
            expected=f"at most {limits.pixels / 1e6:g} million",
            fix="Make the image smaller.",
        )
    if min(width, height) * min(1, limits.side / max(width, height)) < limits.shorter_side:
        raise InputError.of(
            argument,
            got=f"{width} x {height} pixels",
            expected=f"at least {limits.shorter_side} pixels in height and width, also after the "
            f"longer one is scaled down to {limits.side}",
            fix="Use a larger image, or cut a part out of it.",
        )
    # Not of MPO, as phones write it: a JPEG that holds a second picture or a map of depth.
    if image.format in ("GIF", "PNG", "WEBP") and getattr(image, "is_animated", False):
        raise InputError.of(
            argument,
            got="an animated image",
            expected="a still one",
            fix="Save one of its frames as an image.",
        )
    if image.format in ("JPEG", "MPO"):
        # Within the data of a scan 0xFF is followed by another byte, so these are markers.
        scans = path.read_bytes().count(b"\xff\xda")
        if scans > _JPEG_SCANS:
            raise InputError.of(
                argument,
                got=f"a JPEG image of {scans} scans",
                expected=f"at most {_JPEG_SCANS}",
                fix="Save it again with another program.",
            )


def _scale(image: Image.Image, limits: Limits) -> Image.Image:
    if max(image.size) <= limits.side:
        return image
    ratio = limits.side / max(image.size)
    width, height = (max(1, round(ratio * length)) for length in image.size)
    warn(
        "upload size",
        f"The image of {image.width} x {image.height} pixels is scaled down to {width} x {height}. "
        "Install lpprop to work on it in full: pip install lpprop.",
    )
    return image.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3.0)
