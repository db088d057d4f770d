"""Arrays of any model: read from .npy, .npz, .safetensors, .pt and .pth."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lpprop._core.errors import InputError
from lpprop._core.memory import available_bytes
from lpprop._core.tensors import as_int64
from lpprop.io.files import list_folder, refuse_damaged, require_file

__all__ = [
    "ARRAY_SUFFIXES",
    "as_float32",
    "find_arrays",
    "list_arrays",
    "load_array",
    "load_numbers",
]


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
        InputError: a file that is missing, empty, damaged or of another format, that does not
            hold one real array of that name, or whose array does not fit into the free memory; the
            message names file and argument.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savez(Path(folder, "a.npz"), logits=np.ones((5, 2, 3)), feats=np.zeros((8, 4, 6)))
    ...     load_array(Path(folder, "a.npz"), "feats").shape
    torch.Size([8, 4, 6])
    """
    return _load(path, argument, _as_float)


def load_numbers(path: Path, argument: str) -> Tensor:
    """Read an array as `load_array` does, but keep booleans and integers, the latter as int64.

    Raises:
        InputError: as `load_array` raises it.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(Path(folder, "a.npy"), np.array([2**40 + 1, -1], ">i8"))
    ...     load_numbers(Path(folder, "a.npy"), "regions")
    tensor([1099511627777,            -1])
    """
    return _load(path, argument, _as_stored)


def _as_float(stored: torch.dtype) -> torch.dtype:
    # A half-precision result would tie classes that differ.
    return torch.float64 if stored == torch.float64 else torch.float32


def _as_stored(stored: torch.dtype) -> torch.dtype:
    if stored.is_floating_point:
        return _as_float(stored)
    return stored if stored == torch.bool else torch.int64


#: Which dtype an array gets, by the one that it is stored in.
_Choice = Callable[[torch.dtype], torch.dtype]


def _load(path: Path, argument: str, choose: _Choice) -> Tensor:
    reader = _READERS.get(path.suffix.lower())
    with refuse_damaged(path, argument, "an undamaged file of numbers"):
        if reader is None:
            raise InputError.of(
                argument,
                got=f"{path}, whose format is unknown",
                expected=f"one of {', '.join(_READERS)}",
                fix="Save the array with numpy.save. Other pickles are refused: they can run code.",
            )
        return _as_tensor(reader(path, argument), path, argument, choose)


def _read_npy(path: Path, argument: str) -> object:
    # Mapped, so that a header that promises more than the file holds fails before allocation.
    return np.lib.format.open_memmap(path, mode="r")


def _read_npz(path: Path, argument: str) -> object:
    with zipfile.ZipFile(path) as archive:
        members = {
            name.removesuffix(".npy"): name for name in archive.namelist() if name.endswith(".npy")
        }
        member = members[_pick(members, path, argument)]
        # A few compressed bytes can hold any number of zeros: the header says how many.
        with archive.open(member) as file:
            newer = np.lib.format.read_magic(file) > (1, 0)
            read = (
                np.lib.format.read_array_header_2_0
                if newer
                else (np.lib.format.read_array_header_1_0)
            )
            shape, _, dtype = read(file)
        _require_memory(path, argument, shape, math.prod(shape) * dtype.itemsize)
        with archive.open(member) as file:
            return np.lib.format.read_array(file, allow_pickle=False)


def _read_safetensors(path: Path, argument: str) -> object:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as tensors:
        name = _pick(tensors.keys(), path, argument)
        shape = tensors.get_slice(name).get_shape()
        # A file with holes takes no room on the disk. No dtype takes more bytes than 8.
        _require_memory(path, argument, shape, min(8 * math.prod(shape), path.stat().st_size))
        return tensors.get_tensor(name)


def _read_torch(path: Path, argument: str) -> object:
    unpacked = path.stat().st_size
    if zipfile.is_zipfile(path):  # whose parts may be compressed
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(part.file_size for part in archive.infolist())
    _require_memory(path, argument, None, unpacked)
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
#: What the names of files end with that hold arrays.
ARRAY_SUFFIXES = tuple(_READERS)


def _pick(names: Iterable[str], path: Path, argument: str) -> str:
    """Take the array named like the argument, or the only one."""
    known = sorted(names)
    if argument in known:
        return argument
    if len(known) == 1:
        return known[0]
    raise InputError.of(
        argument,
        got=f"{path} with {_list_names(known) or 'no array'}",
        expected=f"an array named {argument!r}, or only one array",
        fix=f"Save it under the name {argument!r}.",
    )


def _list_names(known: Sequence[str]) -> str:
    more = f" and {len(known) - 10} more" if len(known) > 10 else ""
    return ", ".join(repr(name[:60]) for name in known[:10]) + more


def _require_memory(path: Path, argument: str, shape: Sequence[int] | None, needed: int) -> None:
    """Refuse an array that would not fit into memory, before any of it is read."""
    available = available_bytes(torch.device("cpu"))
    if available is not None and needed > available:
        held = "data" if shape is None else f"an array of shape {tuple(shape)}"
        raise InputError.of(
            argument,
            got=f"{path}, which holds {held} of {needed / 2**30:.3g} GiB",
            expected=f"at most the {available / 2**30:.3g} GiB that are free",
            fix="Save the array of one image alone, or on a coarser grid.",
        )


# NumPy's kinds of numbers, by a dtype of torch that stands for all of the kind.
_KINDS = {"f": torch.float32, "i": torch.int64, "u": torch.int64, "b": torch.bool}


def _as_tensor(loaded: object, path: Path, argument: str, choose: _Choice) -> Tensor:
    if isinstance(loaded, np.ndarray) and loaded.dtype.kind in _KINDS:
        double = loaded.dtype.newbyteorder("=") == np.float64
        wanted = choose(torch.float64 if double else _KINDS[loaded.dtype.kind])
        dtype = np.dtype(str(wanted).removeprefix("torch."))
        _require_memory(path, argument, loaded.shape, loaded.size * dtype.itemsize)
        if loaded.dtype.kind == "u" and wanted == torch.int64 and loaded.max(initial=0) >= 2**63:
            raise _not_numbers(path, argument, "numbers from 2**63, beyond int64")
        # One copy removes what torch cannot take: foreign byte order, negative strides, a mapping.
        return torch.from_numpy(np.array(loaded, dtype=dtype, order="C"))
    if not isinstance(loaded, Tensor):
        kind = getattr(loaded, "dtype", type(loaded).__name__)
        raise _not_numbers(path, argument, f"data of type {kind}")
    plain = loaded.layout == torch.strided and loaded.device.type == "cpu"
    if not plain or loaded.is_nested or loaded.is_complex() or loaded.is_quantized:
        kind = "nested" if loaded.is_nested else str(loaded.layout)
        raise _not_numbers(path, argument, f"a {kind} tensor of {loaded.dtype}")
    # A few bytes with strides of 0 can claim any size, and the first copy would allocate it.
    if loaded.numel() * loaded.element_size() > loaded.untyped_storage().nbytes():
        raise _not_numbers(path, argument, f"an expanded tensor of shape {tuple(loaded.shape)}")
    wanted = choose(loaded.dtype)
    if loaded.dtype != wanted:
        _require_memory(path, argument, loaded.shape, loaded.numel() * wanted.itemsize)
    loaded = loaded.detach().resolve_neg()
    return as_int64(argument, loaded) if wanted == torch.int64 else loaded.to(wanted)


def _not_numbers(path: Path, argument: str, held: str) -> InputError:
    return InputError.of(
        argument,
        got=f"{path}, which holds {held}",
        expected="an array of real numbers",
        fix="Save it with numpy.save, or with torch.save(tensor.cpu().contiguous(), file).",
    )


def find_arrays(
    path: Path,
    images: Sequence[Path],
    argument: str,
    suffixes: tuple[str, ...] = ARRAY_SUFFIXES,
) -> list[Path]:
    """Find the array file of each image: the file given, or those of the same stem in a folder.

    Args:
        path: the file or the folder.
        images: the images.
        argument: what errors call it.
        suffixes: what the files' names may end with.

    Raises:
        InputError: images without a file, or with several; all of them are listed.
    """
    if not path.is_dir():
        require_file(path, argument, "a file, or a folder with one file per image")
        if len(images) > 1:
            raise InputError.of(
                argument,
                got=f"the file {path} for {len(images)} images",
                expected="a folder with one file per image",
                fix="Name each file after its image.",
            )
        return [path] * len(images)
    found = list_arrays(path, suffixes)
    wrong = [
        f"{image.stem} ({len(found.get(image.stem, []))} files)"
        for image in images
        if len(found.get(image.stem, [])) != 1
    ]
    if wrong:
        raise InputError.of(
            argument,
            got=f"in {path}, for {len(wrong)} of {len(images)} images: {', '.join(wrong)}",
            expected=f"one file per image, named after it, in {', '.join(suffixes)}",
            fix="Add the missing files, and keep one of each.",
        )
    return [found[image.stem][0] for image in images]


def list_arrays(folder: Path, suffixes: tuple[str, ...] = ARRAY_SUFFIXES) -> dict[str, list[Path]]:
    """List the array files in a folder by their stems; hidden ones are left out.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("b.npy", "a.npz", "b.pt", "notes.txt"):
    ...         Path(folder, name).touch()
    ...     {stem: len(files) for stem, files in list_arrays(Path(folder)).items()}
    {'a': 1, 'b': 2}
    """
    found: dict[str, list[Path]] = {}
    for file in list_folder(folder, suffixes):
        found.setdefault(file.stem, []).append(file)
    return found


def as_float32(scores: Tensor, path: Path) -> NDArray[np.float32]:
    """Return scores as they are stored in a file: float32.

    Args:
        scores: the scores of any floating dtype, on any device.
        path: the file that they are for, which errors name.

    Raises:
        InputError: finite scores that float32 cannot hold.

    >>> as_float32(torch.tensor([1e39], dtype=torch.float64), Path("a.npy"))
    Traceback (most recent call last):
    lpprop.InputError: logits: got scores of up to 1e+39 for a.npy, expected at most 3.4e+38, ...
    """
    single = scores.float()
    lost = single.isinf() & scores.isfinite()
    if lost.any():
        raise InputError.of(
            "logits",
            got=f"scores of up to {scores[lost].abs().max().item():.3g} for {path}",
            expected="at most 3.4e+38, the largest number of its float32",
            fix="Divide the logits by their largest value.",
        )
    stored: NDArray[np.float32] = single.cpu().numpy()
    return stored
