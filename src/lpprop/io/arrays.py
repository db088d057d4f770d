"""Arrays of any model: read from .npy, .npz, .safetensors, .pt and .pth, written as .npy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lpprop._core.errors import InputError
from lpprop.io.atomic import atomic_write
from lpprop.io.files import list_folder, refuse_damaged, require_file

__all__ = ["find_arrays", "load_array", "save_scores"]


def load_array(path: Path, argument: str) -> Tensor:
    """Read one array of numbers from .npy, .npz, .safetensors, .pt or .pth.

    Of several arrays in a file, the one named like the argument is taken. Nothing is unpickled but
    the plain tensors that torch's weights-only reader allows.

    Args:
        path: the file.
        argument: what the array is for, such as "logits": its name among several, and in errors.

    Returns:
        The array on the CPU: float64 if it was stored so, else float32.

    Raises:
        InputError: a file that is missing, empty, damaged or of another format, or that does not
            hold one real array of that name; the message names file and argument.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savez(Path(folder, "a.npz"), logits=np.ones((5, 2, 3)), feats=np.zeros((8, 4, 6)))
    ...     load_array(Path(folder, "a.npz"), "feats").shape
    torch.Size([8, 4, 6])
    """
    reader = _READERS.get(path.suffix.lower())
    with refuse_damaged(path, argument, "an undamaged file of numbers"):
        if reader is None:
            raise InputError.of(
                argument,
                got=f"{path}, whose format is unknown",
                expected=f"one of {', '.join(_READERS)}",
                fix="Save the array with numpy.save. Other pickles are refused: they can run code.",
            )
        return _as_tensor(reader(path, argument), path, argument)


def _read_npy(path: Path, argument: str) -> object:
    # Mapped, so that a header that promises more than the file holds fails before allocation.
    return np.lib.format.open_memmap(path, mode="r")


def _read_npz(path: Path, argument: str) -> object:
    # The file is opened here, since NumPy leaves a damaged one open.
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return arrays[_pick(arrays.keys(), path, argument)]


def _read_safetensors(path: Path, argument: str) -> object:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as tensors:
        return tensors.get_tensor(_pick(tensors.keys(), path, argument))


def _read_torch(path: Path, argument: str) -> object:
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # Torch's own message would advise how to run the file's code after all.
        raise _not_numbers(path, argument, "a pickle of more than tensors, or damaged") from error
    if isinstance(loaded, dict):
        tensors = {str(key): item for key, item in loaded.items() if isinstance(item, Tensor)}
        loaded = tensors[_pick(tensors, path, argument)]
    return loaded


_READERS: dict[str, Callable[[Path, str], object]] = {
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


def _as_tensor(loaded: object, path: Path, argument: str) -> Tensor:
    if isinstance(loaded, np.ndarray) and loaded.dtype.kind in "fiub":
        dtype = np.float64 if loaded.dtype.newbyteorder("=") == np.float64 else np.float32
        # One copy removes what torch cannot take: foreign byte order, negative strides, a mapping.
        return torch.from_numpy(np.array(loaded, dtype=dtype, order="C"))
    if not isinstance(loaded, Tensor):
        kind = getattr(loaded, "dtype", type(loaded).__name__)
        raise _not_numbers(path, argument, f"data of type {kind}")
    plain = loaded.layout == torch.strided and loaded.device.type == "cpu"
    if not plain or loaded.is_complex() or loaded.is_quantized:
        raise _not_numbers(path, argument, f"a {loaded.layout} tensor of {loaded.dtype}")
    # A few bytes with strides of 0 can claim any size, and the first copy would allocate it.
    if loaded.numel() * loaded.element_size() > loaded.untyped_storage().nbytes():
        raise _not_numbers(path, argument, f"an expanded tensor of shape {tuple(loaded.shape)}")
    # A half-precision result would tie classes that differ.
    return loaded.detach().to(torch.float64 if loaded.dtype == torch.float64 else torch.float32)


def _not_numbers(path: Path, argument: str, held: str) -> InputError:
    return InputError.of(
        argument,
        got=f"{path}, which holds {held}",
        expected="an array of real numbers",
        fix="Save it with numpy.save, or with torch.save(tensor.cpu().contiguous(), file).",
    )


def find_arrays(path: Path, images: Sequence[Path], argument: str) -> list[Path]:
    """Find the array file of each image: the file given, or those of the same stem in a folder.

    Raises:
        InputError: images without a file, or with several; all of them are listed.
    """
    if not path.is_dir():
        require_file(path, argument)
        if len(images) > 1:
            raise InputError.of(
                argument,
                got=f"the file {path} for {len(images)} images",
                expected="a folder with one file per image",
                fix="Name each file after its image.",
            )
        return [path] * len(images)
    found: dict[str, list[Path]] = {}
    for file in list_folder(path, tuple(_READERS)):
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
            expected=f"one file per image, named after it, in {', '.join(_READERS)}",
            fix="Add the missing files, and keep one of each.",
        )
    return [found[image.stem][0] for image in images]


def save_scores(path: Path, scores: Tensor) -> None:
    """Write scores (C, H, W) as a float32 .npy file."""
    with atomic_write(path) as file:
        np.save(file, scores.float().cpu().numpy())
