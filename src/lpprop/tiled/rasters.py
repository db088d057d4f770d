"""Rasters that need not fit into memory: arrays, .npy files, GeoTIFF and Zarr, read by boxes."""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lpprop._core.errors import InputError
from lpprop._core.optional import import_hint
from lpprop.io.files import fingerprint, refuse_damaged
from lpprop.tiled.bands import Place, are_all, choose_bands
from lpprop.tiled.geotiff import GeoTIFF
from lpprop.tiled.tiles import Box

__all__ = ["RASTER_SUFFIXES", "Raster", "import_zarr", "open_raster"]

#: What the names of rasters end with that are read by boxes.
RASTER_SUFFIXES = (".tif", ".tiff", ".npy", ".zarr")

# Rows of an array whose content is hashed at a time.
_HASH_ROWS = 256


class Raster(Protocol):
    """Numbers (bands, H, W) of which a box is read at a time.

    Attributes:
        shape: (bands, H, W).
        dtype: of the numbers.
        place: where it lies.
        has_gaps: whether pixels may lack data.
    """

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    place: Place
    has_gaps: bool

    def read(self, box: Box) -> NDArray[Any]:
        """Read the bands (bands, y, x) of a box."""
        ...

    def read_gaps(self, box: Box) -> NDArray[np.bool_]:
        """Read which pixels (y, x) of a box lack data."""
        ...

    def fingerprint(self) -> dict[str, Any]:
        """Describe the content, so that a later run can tell whether it is the same."""
        ...


def open_raster(
    source: object,
    name: str,
    *,
    bands: Sequence[int] | None = None,
    nodata: float | None = None,
) -> Raster:
    """Open what a user passes as a raster.

    Args:
        source: a path of .npy, .tif, .tiff or .zarr, an array or tensor (bands, H, W), or one
            (H, W, 3) named image.
        name: what errors call it.
        bands: which bands to read, counted from 1; all if None.
        nodata: the value of pixels without data; a GeoTIFF brings its own if None.

    Raises:
        InputError: a path of another kind, a file that is missing or damaged, an array of other
            axes, or a band that is not there.
        ImportError: rasterio or zarr is not installed.
    """
    if isinstance(source, (str, Path)):
        path = Path(source)
        suffix = path.suffix.lower()
        if suffix in (".tif", ".tiff"):
            return GeoTIFF(path, name, bands, nodata)
        if suffix == ".npy":
            with refuse_damaged(path, name, "an array of numpy.save"):
                source = np.lib.format.open_memmap(path, mode="r")
        elif suffix == ".zarr":
            source = _open_zarr(path, name)
        else:
            raise InputError.of(
                name,
                got=str(path),
                expected=f"a file of {', '.join(RASTER_SUFFIXES)}",
                fix="Convert it, for instance by gdal_translate, or pass an array.",
            )
    if isinstance(source, Tensor):
        # NumPy has no bfloat16.
        source = source.float() if source.dtype == torch.bfloat16 else source
        source = source.detach().cpu().numpy()
    shape = getattr(source, "shape", None)
    if shape is None or not hasattr(source, "__getitem__"):
        raise InputError.of(
            name,
            got=type(source).__name__,
            expected="a path, an array or a tensor",
            fix="Pass what numpy.load or zarr.open_array returns.",
        )
    return _Array(source, name, bands, nodata)


class _Array:
    """An array in memory, mapped from a file, or in Zarr."""

    def __init__(
        self, source: Any, name: str, bands: Sequence[int] | None, nodata: float | None
    ) -> None:
        shape = tuple(source.shape)
        if len(shape) == 2:
            shape = (1, *shape)
        self._flat = len(source.shape) == 2
        # Three bands do not fit into a first axis of one or two, which is then that of rows.
        few = len(shape) == 3 and shape[0] < max(bands or (1,))
        self._last = (
            name == "image" and len(shape) == 3 and shape[-1] in (3, 4) and (few or shape[0] > 3)
        )
        if self._last:
            shape = (shape[2], shape[0], shape[1])
        self.dtype = np.dtype(source.dtype)
        if len(shape) != 3 or 0 in shape or self.dtype.kind not in "fiub":
            raise InputError.of(
                name,
                got=f"shape {tuple(source.shape)} of {self.dtype}",
                expected="numbers (bands, H, W)" + (", or (H, W, 3)" * (name == "image")),
                fix="Pass one image without a batch axis.",
            )
        self._source, self._name, self._nodata = source, name, nodata
        self._bands = choose_bands(bands, shape[0], name)
        self.shape = (len(self._bands), shape[1], shape[2])
        self.place, self.has_gaps = Place(), nodata is not None

    def read(self, box: Box) -> NDArray[Any]:
        source = _remap(self._source)
        rows, columns = box.slices
        if self._flat:
            return np.array(source[rows, columns])[None]
        if self._last:
            return np.array(source[rows, columns])[..., self._bands].transpose(2, 0, 1)
        if self._bands == list(range(len(self._bands))):
            return np.array(source[: len(self._bands), rows, columns])
        return np.stack([np.array(source[band, rows, columns]) for band in self._bands])

    def read_gaps(self, box: Box) -> NDArray[np.bool_]:
        if self._nodata is None:
            return np.zeros(box.size, bool)
        return are_all(self.read(box), self._nodata)

    def fingerprint(self) -> dict[str, Any]:
        if _is_mapped(self._source):
            return {**fingerprint(Path(self._source.filename)), **self._choice()}
        _, height, width = self.shape
        digest = hashlib.sha256()
        for top in range(0, height, _HASH_ROWS):
            box = Box(top, min(top + _HASH_ROWS, height), 0, width)
            digest.update(self.read(box).tobytes())
        return {"shape": list(self.shape), "sha256": digest.hexdigest(), **self._choice()}

    def _choice(self) -> dict[str, Any]:
        return {"bands": self._bands, "nodata": repr(self._nodata), "dtype": str(self.dtype)}


def _is_mapped(source: Any) -> bool:
    """Tell whether an array is a whole mapped file; the base of a part is another array."""
    return isinstance(source, np.memmap) and isinstance(source.base, mmap.mmap)


def _remap(source: Any) -> Any:
    """Map a mapped file anew, since pages that are read stay with a map as long as it lives."""
    if not _is_mapped(source):
        return source
    order: Any = "C" if source.flags.c_contiguous else "F"
    return np.memmap(source.filename, source.dtype, "r", source.offset, source.shape, order)


def _open_zarr(path: Path, name: str) -> Any:
    zarr = import_zarr()
    if not path.is_dir():
        raise InputError.of(
            name, got=f"{path}, which is not a folder", expected="a Zarr array", fix="Check it."
        )
    try:
        return _ZarrArray(zarr.open_array(str(path), mode="r"), path)
    except Exception as error:  # metadata of any kind
        raise InputError.of(
            name,
            got=f"{path}, which cannot be opened ({str(error).splitlines()[0][:150]})",
            expected="a Zarr array (bands, H, W)",
            fix="Of a group, pass the array within it.",
        ) from error


class _ZarrArray:
    """A Zarr array whose damaged chunks are named."""

    def __init__(self, array: Any, path: Path) -> None:
        self._array, self._path = array, path
        self.shape, self.dtype = array.shape, array.dtype

    def __getitem__(self, place: Any) -> Any:
        try:
            return self._array[place]
        except Exception as error:
            shown = ", ".join(f"{x.start}:{x.stop}" for x in place if isinstance(x, slice))
            raise InputError.of(
                str(self._path),
                got=f"chunks that cannot be read at {shown} ({str(error)[:150]})",
                expected="undamaged chunks",
                fix="Write them again, and pass overwrite=True, since they then differ.",
            ) from error


def import_zarr() -> Any:
    """Return zarr.

    Raises:
        ImportError: it is not installed.
    """
    with import_hint("Zarr needs zarr: pip install 'lpprop[geo]'"):
        import zarr
    return zarr
