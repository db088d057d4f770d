"""Refinement of images that do not fit into memory, tile by tile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lpprop._core.options import check_integer
from lpprop._version import __version__
from lpprop.tiled.inputs import Inputs
from lpprop.tiled.job import Job
from lpprop.tiled.plan import make_plan
from lpprop.tiled.tiles import cut
from lpprop.tiled.writers import check_output, refuse_inputs

__all__ = ["TiledResult", "refine"]


class TiledResult(NamedTuple):
    """What a run of `refine` has done.

    Attributes:
        labels: the file of labels.
        scores: the file of scores, if it was asked for.
        tiles: how many tiles the image has.
        resumed: how many of them an earlier run had finished.
    """

    labels: Path
    scores: Path | None
    tiles: int
    resumed: int


def refine(
    logits: object,
    image: object,
    out: str | Path,
    *,
    feats: object = None,
    regions: object = None,
    scores: str | Path | None = None,
    method: str | Callable[..., Tensor] = "auto",
    tile: int = 1024,
    bands: Sequence[int] = (1, 2, 3),
    white: float | None = None,
    nodata: float | None = None,
    overwrite: bool = False,
    progress: bool | None = None,
    **options: Any,
) -> TiledResult:
    """Refine the scores of an image that does not fit into memory, and write labels.

    The image is cut into tiles. Each is refined within a window that is larger by as much as the
    method reaches, so that its pixels get what the whole image would give them. The same call
    continues a run that was ended, from its finished tiles.

    Inputs are paths of GeoTIFF (.tif), Zarr (.zarr) or .npy files, or arrays; all are read by
    windows. Outputs are GeoTIFF, with the georeference of the image, Zarr or .npy, by their names.

    Pixels without data (a nodata value or a mask of the image, or of logits of its size) have
    weight 0 in the pixel step, so that nothing in the others depends on them. Their label is the
    largest that the type holds, 255 up to 255 classes, and their scores are NaN.

    Args:
        logits: (C, H, W) scores, larger = likelier, or (C, h, w) on a coarser grid of square
            patches that spans the image.
        image: the image, of which three bands are red, green and blue.
        out: the file of labels to write.
        feats: (D, h, w) features on the grid of the logits, for a step on patches.
        regions: (1, H, W) numbers of regions, negative = in none, for `RegionVote` at the end.
        scores: a file of scores to write too, (C, H, W) in float32.
        method: a preset's name, or a module or callable, as `lpprop.refine` takes it. Each step
            must have a reach: the pixel step with solver="chebyshev", which presets get here, PAMR,
            the guided filter, the local CRF with a scale, steps of your own with an attribute
            `reach`. Before them may stand one on patches and one from patches to pixels. "auto"
            without feats is the pixel step alone.
        tile: side of the tiles in pixels; larger tiles take more memory, and less time for margins.
        bands: the bands of the image that are red, green and blue, counted from 1.
        white: the image's value that counts as 1; 255 for uint8, 65535 for uint16 and 1 for
            floats if None.
        nodata: the image's value of pixels without data; what its file says if None.
        overwrite: whether to replace a result that is there, and unfinished tiles of other options.
        progress: True shows a bar, False nothing; None a bar on a terminal, else a line a minute.
        options: options of a preset, such as `r=7` or `max_iter=20`.

    Returns:
        A `TiledResult`.

    Raises:
        InputError: inputs that cannot be used; a step that needs the whole image; a result that is
            there already, or tiles, of other inputs or options; a damaged block, with its place.
        ImportError: rasterio or zarr is not installed: `pip install 'lpprop[geo]'`.
        OSError: the disk is full or cannot be written to; the same call continues.

    >>> import tempfile
    >>> import numpy as np
    >>> image = np.zeros((3, 40, 60), np.uint8)
    >>> image[:, :, 30:] = 255                              # a black and a white half
    >>> logits = np.zeros((2, 40, 60), np.float32)
    >>> logits[0, :, :25] = logits[1, :, 35:] = 1           # seen up to 5 columns from the edge
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     done = refine(logits, image, Path(folder, "labels.npy"), tile=16, progress=False)
    ...     labels = np.load(done.labels)
    >>> done.tiles, labels[20, 24:36]
    (12, array([0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1], dtype=uint8))
    """
    given = {"out": out} if scores is None else {"out": out, "scores": scores}
    files = {argument: check_output(argument, path) for argument, path in given.items()}
    refuse_inputs(files, {"logits": logits, "image": image, "feats": feats, "regions": regions})
    out = files["out"]
    tile = check_integer("tile", tile)
    plan = make_plan(method, options, has_feats=feats is not None)
    inputs = Inputs.open(logits, image, feats, regions, bands=bands, white=white, nodata=nodata)
    inputs.check(plan)
    run = {
        "lpprop": __version__, "method": plan.describe(), "tile": tile, "white": inputs.white,
        "files": {name: path.name for name, path in files.items()},
        "inputs": inputs.fingerprints(),
    }  # fmt: skip
    job = Job(inputs, plan, cut(inputs.size, tile, plan.reach), files, run, overwrite, progress)
    if job.is_finished():
        return TiledResult(out, files.get("scores"), len(job.tiles), len(job.tiles))
    with torch.inference_mode():
        resumed = job.finish()
    return TiledResult(out, files.get("scores"), len(job.tiles), resumed)
