"""GeoTIFF by rasterio, read by windows."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lpprop._core.errors import InputError
from lpprop._core.optional import import_hint
from lpprop.io.files import fingerprint, refuse_damaged
from lpprop.tiled.bands import Place, are_all, check_numbers, choose_bands
from lpprop.tiled.tiles import Box

__all__ = ["GeoTIFF", "import_rasterio", "quiet_rasterio"]

# The blocks that GDAL keeps, in MB; by default they would take a twentieth of the memory.
_GDAL_CACHE = 64


class GeoTIFF:
    """A file that GDAL reads; opened at each call, so that it can be handed to other processes."""

    def __init__(
        self, path: Path, name: str, bands: Sequence[int] | None, nodata: float | None
    ) -> None:
        self._path, self._name, self._nodata = path, name, nodata
        with (
            refuse_damaged(path, name, "an undamaged GeoTIFF"),
            quiet_rasterio() as rasterio,
            rasterio.open(path) as file,
        ):
            count = file.count
            self._bands = choose_bands(bands, count, name)
            self.shape = (len(self._bands), file.height, file.width)
            self.dtype = check_numbers(np.dtype(file.dtypes[self._bands[0]]), name)
            self._masks = _find_masks(file, self._bands)
            self.has_gaps = nodata is not None or self._masks is not None
            reference = {"crs": file.crs, "transform": file.transform}
            points, system = file.gcps
            if points:
                reference = {"gcps": points, "crs": system}
            named = tuple(file.descriptions[band] or "" for band in self._bands)
            self.place = Place(reference, named if any(named) else ())

    def read(self, box: Box) -> NDArray[Any]:
        """Read the bands (bands, y, x) of a box."""
        numbers: NDArray[Any] = self._read(box, "read", indexes=[band + 1 for band in self._bands])
        return numbers

    def read_gaps(self, box: Box) -> NDArray[np.bool_]:
        """Read which pixels (y, x) of a box lack data, by the file's mask or a value."""
        if self._nodata is not None:
            return are_all(self.read(box), self._nodata)
        if self._masks is None:
            return np.zeros(box.size, bool)
        masks = self._read(box, self._masks)
        return np.asarray(masks == 0 if masks.ndim == 2 else np.all(masks == 0, axis=0))

    def _read(self, box: Box, what: str, **options: Any) -> Any:
        rasterio = import_rasterio()
        window = rasterio.windows.Window.from_slices(*box.slices)
        try:
            with quiet_rasterio(), rasterio.open(self._path) as file:
                return getattr(file, what)(window=window, **options)
        except rasterio.errors.RasterioError as error:
            reason = str(error.__cause__ or error).strip().splitlines()[0][:150]
            raise InputError.of(
                self._name,
                got=f"{self._path}, of which rows {box.top} to {box.bottom} and columns {box.left} "
                f"to {box.right} cannot be read ({reason})",
                expected="undamaged blocks",
                fix="Write or download it again, and pass overwrite=True, since it then differs.",
            ) from error

    def fingerprint(self) -> dict[str, Any]:
        """Describe the content, so that a later run can tell whether it is the same."""
        choice = {"bands": self._bands, "nodata": repr(self._nodata)}
        return {**fingerprint(self._path), **choice}


def _find_masks(file: Any, bands: Sequence[int]) -> str | None:
    """Return what reads the masks of a file: of each band, or of all; None if there are none.

    GDAL takes the fourth of four bands of uint8 for alpha, unless it is told otherwise, so also
    that of four classes or of infrared: a band that is read is no mask. And rasterio's mask of the
    whole file is that fourth band even where the file has a nodata value.
    """
    from rasterio.enums import ColorInterp, MaskFlags

    flags = {flag for band in bands for flag in file.mask_flag_enums[band]}
    if MaskFlags.nodata in flags:
        return "read_masks"
    alphas = {band for band in range(file.count) if file.colorinterp[band] == ColorInterp.alpha}
    if MaskFlags.per_dataset not in flags or (MaskFlags.alpha in flags and alphas & set(bands)):
        return None
    return "dataset_mask"


def import_rasterio() -> Any:
    """Return rasterio with the parts that are used here.

    Raises:
        ImportError: it is not installed.
    """
    with import_hint("GeoTIFF needs rasterio: pip install 'lpprop[geo]'"):
        import rasterio
        import rasterio.enums
        import rasterio.errors
        import rasterio.windows
    return rasterio


@contextmanager
def quiet_rasterio() -> Iterator[Any]:
    """Give rasterio with a small cache, and without warnings of what is no doubt here.

    These are pictures that lie nowhere, and a nodata value beside an alpha band: the value counts.
    """
    rasterio = import_rasterio()
    with warnings.catch_warnings(), rasterio.Env(GDAL_CACHEMAX=_GDAL_CACHE):
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        warnings.simplefilter("ignore", rasterio.errors.NodataShadowWarning)
        yield rasterio
