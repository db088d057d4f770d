"""Whole files of results, written strip by strip: GeoTIFF, .npy and Zarr."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lpprop._core.errors import InputError
from lpprop.tiled.bands import Place
from lpprop.tiled.geotiff import import_rasterio, quiet_rasterio
from lpprop.tiled.rasters import import_zarr
from lpprop.tiled.tiles import Box

__all__ = ["check_output", "write_raster"]

# Side of the blocks of a GeoTIFF and of the chunks of Zarr, and rows that are written at a time.
_BLOCK = 512

#: Returns the numbers (y, x) of a band within a box.
ReadBand = Callable[[int, Box], NDArray[Any]]


def check_output(argument: str, given: object) -> Path:
    """Return the path of a file to write; refuse one that cannot be written, before any work.

    Raises:
        InputError: no path, an unknown suffix, a folder that is not there, or another folder of
            this name.
        ImportError: rasterio or zarr is not installed.
    """
    if not isinstance(given, (str, Path)):
        raise InputError.of(
            argument,
            got=type(given).__name__,
            expected="a path",
            fix=f"Pass {argument}='labels.tif'.",
        )
    path = Path(given)
    suffix = path.suffix.lower()
    if suffix not in _WRITERS:
        raise InputError.of(
            argument,
            got=str(path),
            expected=f"a name that ends with one of {', '.join(_WRITERS)}",
            fix=f"Pass {argument}={str(path.with_suffix('.tif'))!r}.",
        )
    if not path.absolute().parent.is_dir():
        raise InputError.of(
            argument,
            got=f"{path}, in a folder that is not there",
            expected="a folder",
            fix="Make it.",
        )
    if suffix != ".zarr" and path.is_dir():
        raise InputError.of(
            argument, got=f"{path}, a folder", expected="a file", fix="Choose another name."
        )
    if suffix in (".tif", ".tiff"):
        import_rasterio()
    elif suffix == ".zarr":
        import_zarr()
    return path


def refuse_inputs(files: Mapping[str, Path], inputs: Mapping[str, object]) -> None:
    """Refuse a result in the place of an input, which would be lost, or of another result.

    Raises:
        InputError: two of them are one file.
    """
    places = {name: _place_of(source) for name, source in inputs.items()}
    for argument, path in files.items():
        here = path.resolve()
        taken = [name for name, place in places.items() if place == here]
        if taken:
            raise InputError.of(
                argument,
                got=f"{path}, which is that of {taken[0]}",
                expected="a file of its own",
                fix="Choose another name.",
            )
        places[argument] = here


def _place_of(source: object) -> Path | None:
    """Return the file that a source is read from: by a path, or as a mapped array."""
    named = getattr(source, "filename", None) if isinstance(source, np.memmap) else source
    return Path(named).resolve() if isinstance(named, (str, Path)) else None


def write_raster(
    path: Path,
    read: ReadBand,
    *,
    shape: tuple[int, int, int],
    dtype: np.dtype[Any],
    place: Place,
    nodata: float | None,
    folder: Path,
) -> None:
    """Write a raster that takes its name only when it is whole.

    Args:
        path: its name; the suffix says the format.
        read: gives the numbers.
        shape: (bands, H, W).
        dtype: of the numbers.
        place: where it lies, and what its bands are; .npy and Zarr keep no georeference.
        nodata: the value of pixels without data, if there are any.
        folder: where to write until then, on the same disk.
    """
    temporary = folder / f"whole{path.suffix.lower()}"
    _remove(temporary)
    _WRITERS[path.suffix.lower()](temporary, read, shape, dtype, place, nodata)
    if temporary.is_dir() and path.exists():  # a folder takes no other folder's place
        _remove(path)
    temporary.replace(path)


def _write_geotiff(
    path: Path, read: ReadBand, shape: tuple[int, int, int], dtype: np.dtype[Any], place: Place,
    nodata: float | None,
) -> None:  # fmt: skip
    count, height, width = shape
    with quiet_rasterio() as rasterio, rasterio.open(
        path, "w", driver="GTiff", count=count, height=height, width=width, dtype=dtype.name,
        nodata=nodata, compress="deflate", predictor=3 if dtype.kind == "f" else 2, tiled=True,
        blockxsize=_BLOCK, blockysize=_BLOCK, interleave="band", bigtiff="if_safer",
        **place.georeference,
    ) as file:  # fmt: skip
        for band, box in _strips(shape):
            window = rasterio.windows.Window.from_slices(*box.slices)
            file.write(read(band, box), band + 1, window=window)
        for band, text in enumerate(place.bands):
            if text:
                file.set_band_description(band + 1, text)
    _compare_geotiff(path, read, shape)


def _compare_geotiff(path: Path, read: ReadBand, shape: tuple[int, int, int]) -> None:
    """Read a file back, since GDAL may not say that the disk was full when the file was closed."""
    with quiet_rasterio() as rasterio:
        try:
            with rasterio.open(path) as file:
                for band, box in _strips(shape):
                    window = rasterio.windows.Window.from_slices(*box.slices)
                    there = file.read(band + 1, window=window)
                    if not np.array_equal(
                        there, read(band, box), equal_nan=there.dtype.kind == "f"
                    ):
                        raise OSError("it holds other numbers than were written")
        except OSError as error:  # rasterio's errors are such too
            raise OSError(
                errno.EIO,
                f"The file cannot be written whole; is the disk full? ({error})",
                str(path),
            ) from error


def _write_npy(
    path: Path, read: ReadBand, shape: tuple[int, int, int], dtype: np.dtype[Any], place: Place,
    nodata: float | None,
) -> None:  # fmt: skip
    whole = shape if shape[0] > 1 else shape[1:]
    header = {"descr": dtype.str, "fortran_order": False, "shape": whole}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for band, box in _strips(shape):
            file.write(np.ascontiguousarray(read(band, box)).tobytes())


def _write_zarr(
    path: Path, read: ReadBand, shape: tuple[int, int, int], dtype: np.dtype[Any], place: Place,
    nodata: float | None,
) -> None:  # fmt: skip
    zarr = import_zarr()
    chunks = (1, min(_BLOCK, shape[1]), min(_BLOCK, shape[2]))
    fill = 0 if nodata is None else nodata
    array = zarr.create_array(str(path), shape=shape, dtype=dtype, chunks=chunks, fill_value=fill)
    for band, box in _strips(shape):
        array[(band, *box.slices)] = read(band, box)
    if place.bands:
        array.attrs["bands"] = list(place.bands)


_WRITERS: dict[str, Callable[..., None]] = {
    ".tif": _write_geotiff,
    ".tiff": _write_geotiff,
    ".npy": _write_npy,
    ".zarr": _write_zarr,
}


def _strips(shape: Sequence[int]) -> Iterator[tuple[int, Box]]:
    """Yield a band after the other, in strips of whole rows of blocks."""
    count, height, width = shape
    for band in range(count):
        for top in range(0, height, _BLOCK):
            yield band, Box(top, min(top + _BLOCK, height), 0, width)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
