"""Images that do not fit into memory: refined tile by tile, with the result of the whole.

    lpprop.tiled.refine("logits.tif", "image.tif", "labels.tif")

`docs/rasters.md` says which methods work on tiles, and what each promises.
"""

from lpprop.tiled.run import TiledResult, refine

__all__ = ["TiledResult", "refine"]
