"""Files in, files out: arrays of any model, images, and results that are whole or absent.

Input files are taken for hostile: nothing in them is executed, and what is damaged is refused.
"""

from __future__ import annotations

import uuid
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from lpprop._core.errors import InputError
from lpprop.viz.drawing import palette

__all__ = [
    "atomic_write",
    "find_arrays",
    "find_images",
    "load_array",
    "load_image",
    "save_image",
    "save_labels",
    "save_scores",
]

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".ppm")
# By content, whatever the suffix says. Not EPS, which Pillow would hand to Ghostscript to run.
_IMAGE_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM")


def load_array(path: Path, argument: str) -> Tensor:
    """Read one array of numbers from .npy, .npz, .safetensors, .pt or .pth.

    Of several arrays in a file it takes the one named like the argument. Nothing is unpickled but
    what torch's weights-only reader allows: plain tensors.

    Args:
        path: the file.
        argument: what the array is for, "logits" or "feats": its name among several, and in errors.

    Returns:
        The array on the CPU, float64 if it was that, else float32.

    Raises:
        InputError: a file that is missing, empty, damaged, of another format, or holds something
            else than one real array of that name; the message names file and argument.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savez(Path(folder, "a.npz"), logits=np.ones((5, 2, 3)), feats=np.zeros((8, 4, 6)))
    ...     load_array(Path(folder, "a.npz"), "feats").shape
    torch.Size([8, 4, 6])
    """
    _check_file(path, argument)
    if path.suffix.lower() not in _READERS:
        raise InputError.of(
            argument,
            got=f"{path}, whose format is unknown",
            expected=f"one of {', '.join(_READERS)}",
            fix="Save the array with numpy.save. Other pickles are refused: they can run code.",
        )
    try:
        return _READERS[path.suffix.lower()](path, argument)
    except InputError:
        raise
    except Exception as error:  # each format has a whole zoo of its own for damaged files
        raise _unreadable(path, argument, "an undamaged file of numbers", error) from error


def _read_npy(path: Path, argument: str) -> Tensor:
    # Mapped, a header that promises more than the file holds fails before anything is allocated.
    return _from_numpy(np.lib.format.open_memmap(path, mode="r"), path, argument)


def _read_npz(path: Path, argument: str) -> Tensor:
    # Opened here, since NumPy leaves a damaged file open.
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return _from_numpy(arrays[_pick(arrays.keys(), path, argument)], path, argument)


def _read_safetensors(path: Path, argument: str) -> Tensor:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as tensors:
        return _from_torch(
            tensors.get_tensor(_pick(tensors.keys(), path, argument)), path, argument
        )


def _read_torch(path: Path, argument: str) -> Tensor:
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # Torch's own message would advise how to run the file's code all the same.
        raise _not_numbers(path, argument, "a pickle of more than tensors, or damaged") from error
    if isinstance(loaded, dict):
        tensors = {str(key): item for key, item in loaded.items() if isinstance(item, Tensor)}
        loaded = tensors[_pick(tensors, path, argument)]
    return _from_torch(loaded, path, argument)


_READERS: dict[str, Callable[[Path, str], Tensor]] = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".safetensors": _read_safetensors,
    ".pt": _read_torch,
    ".pth": _read_torch,
}


def _pick(names: Iterable[str], path: Path, argument: str) -> str:
    """Take the array named like the argument, or the only one."""
    known = sorted(names)
    if argument in known:
        return argument
    if len(known) == 1:
        return known[0]
    raise InputError.of(
        argument,
        got=f"{path} with {', '.join(map(repr, known)) or 'no array'}",
        expected=f"an array named {argument!r}, or only one array",
        fix=f"Save it under the name {argument!r}.",
    )


def _from_numpy(array: Any, path: Path, argument: str) -> Tensor:
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiub":
        kind = getattr(array, "dtype", type(array).__name__)
        raise _not_numbers(path, argument, f"data of type {kind}")
    dtype = np.float64 if array.dtype.newbyteorder("=") == np.float64 else np.float32
    # One copy mends what torch cannot take: foreign byte order, negative strides, a mapped file.
    return torch.from_numpy(np.array(array, dtype=dtype, order="C"))


def _from_torch(tensor: object, path: Path, argument: str) -> Tensor:
    if not isinstance(tensor, Tensor):
        raise _not_numbers(path, argument, f"an object of type {type(tensor).__name__}")
    plain = tensor.layout == torch.strided and tensor.device.type == "cpu"
    if not plain or tensor.is_complex() or tensor.is_quantized:
        raise _not_numbers(path, argument, f"a {tensor.layout} tensor of {tensor.dtype}")
    # A few bytes with strides of 0 can claim any size, and would take it in the first copy.
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise _not_numbers(path, argument, f"an expanded tensor of shape {tuple(tensor.shape)}")
    tensor = tensor.detach()
    # A half-precision result would tie classes that differ.
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def _not_numbers(path: Path, argument: str, held: str) -> InputError:
    return InputError.of(
        argument,
        got=f"{path}, which holds {held}",
        expected="an array of real numbers",
        fix="Save it with numpy.save, or with torch.save(tensor.cpu().contiguous(), file).",
    )


def _unreadable(path: Path, argument: str, expected: str, error: Exception) -> InputError:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:150]
    return InputError.of(
        argument,
        got=f"{path}, which cannot be read ({reason})",
        expected=expected,
        fix="It may be cut off or of another format than its name says: write it again.",
    )


def _check_file(path: Path, argument: str) -> None:
    if not path.is_file():
        state = "is not a file" if path.exists() else "does not exist"
        raise InputError.of(
            argument, got=f"{path}, which {state}", expected="a file", fix="Check the path."
        )
    if path.stat().st_size == 0:
        raise InputError.of(
            argument, got=f"{path}, which is empty", expected="data", fix="Write it again."
        )


def load_image(path: Path, argument: str = "image") -> Image.Image:
    """Read an image as 8-bit RGB, turned as its EXIF orientation says; alpha is dropped.

    Args:
        path: a JPEG, PNG, WebP, TIFF, BMP, GIF (the first frame) or PPM file.
        argument: what errors call it.

    Raises:
        InputError: a file that is missing, damaged, of another format, grey of 16 bits or more
            (whose range is anyone's guess), or of more pixels than Pillow's limit.
    """
    _check_file(path, argument)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # metadata oddities of a file that reads well
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=_IMAGE_FORMATS) as image:
                if image.mode.startswith(("I", "F")):
                    raise InputError.of(
                        argument,
                        got=f"{path} of mode {image.mode!r}",
                        expected="8 bits a channel",
                        fix="Scale it to 0-255 and save it as RGB.",
                    )
                return ImageOps.exif_transpose(image).convert("RGB")
    except InputError:
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise InputError.of(
            argument,
            got=f"{path}, which unpacks to too many pixels",
            expected=f"at most {Image.MAX_IMAGE_PIXELS}",
            fix="Make it smaller, or cut it into tiles.",
        ) from error
    except Exception as error:  # decoders raise SyntaxError, struct.error, zlib.error and more
        formats = f"an undamaged {', '.join(_IMAGE_FORMATS)} image"
        raise _unreadable(path, argument, formats, error) from error


def find_images(path: Path, argument: str = "image") -> list[Path]:
    """List the image, or those in a folder, by name; hidden files are left out.

    Raises:
        InputError: nothing there, or two images of one stem, whose results would collide.
    """
    if not path.is_dir():
        _check_file(path, argument)
        return [path]
    images = _in_folder(path, IMAGE_SUFFIXES)
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
            expected="one image a name",
            fix="Rename them: results are named after the image, without its suffix.",
        )
    return images


def find_arrays(path: Path, images: Sequence[Path], argument: str) -> list[Path]:
    """Find the array file of each image: the file given, or those of the same stem in a folder.

    Raises:
        InputError: images without a file, or with several; all of them are listed.
    """
    if not path.is_dir():
        _check_file(path, argument)
        if len(images) > 1:
            raise InputError.of(
                argument,
                got=f"the file {path} for {len(images)} images",
                expected="a folder with one file an image",
                fix="Name each file after its image.",
            )
        return [path] * len(images)
    found: dict[str, list[Path]] = {}
    for file in _in_folder(path, tuple(_READERS)):
        found.setdefault(file.stem, []).append(file)
    wrong = [
        f"{image.stem} ({len(found.get(image.stem, []))} files)"
        for image in images
        if len(found.get(image.stem, [])) != 1
    ]
    if wrong:
        raise InputError.of(
            argument,
            got=f"in {path}, for {len(wrong)} of {len(images)} images: {', '.join(wrong)}",
            expected=f"one file an image, named after it, in {', '.join(_READERS)}",
            fix="Add what is missing, and remove what is double.",
        )
    return [found[image.stem][0] for image in images]


def _in_folder(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    return sorted(
        file
        for file in folder.iterdir()
        if file.suffix.lower() in suffixes and not file.name.startswith(".") and file.is_file()
    )


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Open a file that takes its name only when it is complete.

    Until then it has a hidden name in the same folder; an error or Ctrl-C removes it, and leaves
    what stood at `path` before.
    """
    temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("xb") as file:
            yield file
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def save_scores(path: Path, scores: Tensor) -> None:
    """Write scores (C, H, W) as a float32 .npy file."""
    with atomic_write(path) as file:
        np.save(file, scores.float().cpu().numpy())


def save_labels(path: Path, labels: Tensor, classes: int) -> None:
    """Write labels (H, W) as a PNG of class indices: with a palette up to 256 classes, else 16-bit.

    Raises:
        InputError: more classes than 16 bits can number.
    """
    if classes > 2**16:
        raise InputError.of(
            "logits", got=f"{classes} classes", expected="at most 65536", fix="Merge some of them."
        )
    if classes <= 256:
        image = Image.fromarray(labels.to(torch.uint8).cpu().numpy())
        image.putpalette(palette(classes).tobytes())
    else:
        image = Image.fromarray(labels.cpu().numpy().astype(np.uint16))
    save_image(path, image)


def save_image(path: Path, image: Image.Image) -> None:
    """Write an image as PNG."""
    with atomic_write(path) as file:
        image.save(file, format="PNG")
