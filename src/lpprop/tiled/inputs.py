"""The inputs of a raster, opened and checked against each other, and read as tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lpprop._core.errors import InputError, warn
from lpprop._core.options import check_above_0
from lpprop.inputs.colour import lab
from lpprop.inputs.patch_grid import spans
from lpprop.tiled.bands import check_bands
from lpprop.tiled.places import find_shift
from lpprop.tiled.plan import Plan
from lpprop.tiled.rasters import Raster, open_raster
from lpprop.tiled.tiles import Box

__all__ = ["Inputs"]

# What white is in an image of whole numbers.
_WHITE = {"uint8": 255.0, "uint16": 65535.0}
# Rounding may leave values this far outside [0, 1].
_SLACK = 1e-3


@dataclass(frozen=True)
class Inputs:
    """What `lpprop.tiled.refine` is given beside its options.

    Attributes:
        logits: scores on a grid, or at the image's size.
        image: the image.
        feats: features on the logits' grid.
        regions: the number of each pixel's region.
        white: the value that is 1 in [0, 1].
    """

    logits: Raster
    image: Raster
    feats: Raster | None
    regions: Raster | None
    white: float

    @classmethod
    def open(
        cls,
        logits: object,
        image: object,
        feats: object,
        regions: object,
        *,
        bands: Sequence[int],
        white: float | None,
        nodata: float | None,
    ) -> Inputs:
        """Open the rasters, and compare their sizes.

        Raises:
            InputError: one that cannot be used.
        """
        bands = check_bands(bands)
        if isinstance(nodata, bool) or not isinstance(nodata, (Real, type(None))):
            raise InputError.of(
                "nodata", got=repr(nodata), expected="a number, or NaN",
                fix="Pass the value of pixels without data.",
            )  # fmt: skip
        picture = open_raster(image, "image", bands=bands, nodata=nodata)
        scores = open_raster(logits, "logits")
        given = {
            name: None if source is None else open_raster(source, name)
            for name, source in (("feats", feats), ("regions", regions))
        }
        white = _find_white(picture.dtype, white)
        opened = cls(scores, picture, given["feats"], given["regions"], white)
        opened._check_sizes()
        opened._compare_places()
        return opened

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the image."""
        return self.image.shape[1:]

    @property
    def grid(self) -> tuple[int, int]:
        """Height and width of the scores."""
        return self.logits.shape[1:]

    @property
    def has_gaps(self) -> bool:
        """Whether pixels may lack data."""
        return self.image.has_gaps or (self.grid == self.size and self.logits.has_gaps)

    def _check_sizes(self) -> None:
        if self.grid != self.size and not (
            spans(self.grid, self.size) and self.grid[0] <= self.size[0]
        ):
            raise InputError.of(
                "logits",
                got=f"{self.grid[0]} x {self.grid[1]} scores",
                expected=f"those of the image, {self.size[0]} x {self.size[1]}, or of square "
                "patches that span it",
                fix="Cut or resample one of the two.",
            )
        for name, raster, size in (
            ("feats", self.feats, self.grid), ("regions", self.regions, self.size)
        ):  # fmt: skip
            if raster is not None and raster.shape[1:] != size:
                raise InputError.of(
                    name,
                    got=f"{raster.shape[1]} x {raster.shape[2]}",
                    expected=f"{size[0]} x {size[1]}, as the "
                    + ("logits have" if name == "feats" else "image has"),
                    fix="Resample it before.",
                )
        if self.regions is not None and self.regions.dtype.kind not in "iu":
            raise InputError.of(
                "regions", got=f"numbers of {self.regions.dtype}", expected="whole numbers",
                fix="Save the number of each pixel's region as int32.",
            )  # fmt: skip

    def _compare_places(self) -> None:
        """Warn of a raster that lies elsewhere than the image, whose pixels it is taken for."""
        for name, raster in (
            ("logits", self.logits), ("feats", self.feats), ("regions", self.regions)
        ):  # fmt: skip
            away = None if raster is None else find_shift(self.image, raster)
            if away is not None:
                warn(
                    f"place of {name}",
                    f"{name}: by their georeference they {away}. Pixels are matched by row and "
                    "column all the same: cut or warp one of the two, such as by gdalwarp, if "
                    "they show other ground.",
                )

    def fingerprints(self) -> dict[str, Any]:
        """Describe the content of the rasters that are given."""
        given = {
            "image": self.image, "logits": self.logits, "feats": self.feats,
            "regions": self.regions,
        }  # fmt: skip
        return {name: raster.fingerprint() for name, raster in given.items() if raster is not None}

    def check(self, plan: Plan) -> None:
        """Refuse inputs that the steps cannot do without, or do not take.

        Raises:
            InputError: as described.
        """
        for name, raster, step in (
            ("feats", self.feats, plan.patches), ("regions", self.regions, plan.vote)
        ):  # fmt: skip
            if (raster is None) != (step is None):
                raise InputError.of(
                    name,
                    got="None" if raster is None else "an input that nobody takes",
                    expected="a raster" if raster is None else f"a method that takes {name}",
                    fix=f"Pass {name}=." if raster is None else f"Leave {name} out.",
                )
        others = [type(step).__name__ for step in plan.pixels if not plan.skips_gaps(step)]
        if not plan.skips_gaps(plan.raise_by) and self.image.has_gaps:
            others.append(type(plan.raise_by).__name__)
        if self.has_gaps and others:
            raise InputError.of(
                "image",
                got=f"pixels without data, for {others[0]}",
                expected="PixelPropagation alone, which leaves them out",
                fix="Fill them, for instance by gdal_fillnodata, and mask the result.",
            )

    def read_image(self, box: Box) -> Float[Tensor, "3 y x"]:
        """Read colours in [0, 1]; pixels without data are black.

        Raises:
            InputError: colours out of range.
        """
        numbers = torch.from_numpy(self.image.read(box).astype(np.float32)) / self.white
        if self.image.has_gaps:
            numbers = numbers.masked_fill(torch.from_numpy(self.image.read_gaps(box)), 0)
        low, high = (float(bound) for bound in torch.aminmax(numbers))
        if not -_SLACK <= low <= high <= 1 + _SLACK:
            raise InputError.of(
                "image",
                got=f"values from {low * self.white:g} to {high * self.white:g} in rows {box.top} "
                f"to {box.bottom} and columns {box.left} to {box.right}",
                expected=f"values from 0 to white = {self.white:g}",
                fix="Pass white= the largest value, or nodata= that of pixels without data.",
            )
        return numbers.clamp_(0, 1)

    def read_scores(self, box: Box) -> Float[Tensor, "C y x"]:
        """Read scores; those of pixels without data are 0.

        Raises:
            InputError: scores that are not finite.
        """
        numbers = torch.from_numpy(self.logits.read(box).astype(np.float32))
        if self.grid == self.size and self.has_gaps:
            numbers = numbers.masked_fill(self.read_gaps(box), 0)
        if not bool(torch.isfinite(numbers.sum())) and not bool(torch.isfinite(numbers).all()):
            raise InputError.of(
                "logits",
                got=f"values that are not finite in rows {box.top} to {box.bottom} and columns "
                f"{box.left} to {box.right}",
                expected="finite scores, or nodata= where there are none",
                fix="Repair them, or leave the pixels out by nodata= of the image.",
            )
        return numbers

    def read_gaps(self, box: Box) -> Bool[Tensor, "y x"]:
        """Read which pixels lack data, in the image or in scores of its size."""
        gaps = self.image.read_gaps(box)
        if self.grid == self.size:
            gaps = gaps | self.logits.read_gaps(box)
        return torch.from_numpy(gaps)

    def read_colours(self, box: Box, apart: float) -> Float[Tensor, "3 y x"]:
        """Read the colour features of the pixel graph; pixels without data are apart from all."""
        features = lab(self.read_image(box))
        return features.masked_fill(self.read_gaps(box), apart) if self.has_gaps else features


def _find_white(dtype: np.dtype[Any], white: float | None) -> float:
    if white is not None:
        return float(check_above_0("white", white))
    if dtype.kind == "f":
        return 1.0
    if dtype.name not in _WHITE:
        raise InputError.of(
            "white",
            got=f"None, for an image of {dtype.name}",
            expected="the value that white has",
            fix="Pass white=10000, or whatever is the largest value.",
        )
    return _WHITE[dtype.name]
