"""OpenEarthMap (Xia et al., WACV 2023): land cover of 97 regions as GeoTIFF files, 8 classes.

The folders are those of the authors' download, OpenEarthMap_wo_xBD; names and numbers of the
classes are those of their code. Images of the data set xBD are listed, but come from xView2 alone.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from lpprop._core.errors import warn
from lpprop.evaluation.datasets.benchmark import Benchmark, Found
from lpprop.evaluation.datasets.labels import read_map, reduced_zero
from lpprop.evaluation.datasets.layout import find_root, list_folders, pair_files, read_list

__all__ = ["OPENEARTHMAP"]

_LAYOUT = """
OpenEarthMap_wo_xBD/
  REGION/images/*.tif
  REGION/labels/*.tif
  {split}.txt
"""
_INSIDE = ("OpenEarthMap_wo_xBD", "OpenEarthMap", "OpenEarthMap_Mini")
_SUFFIX = ".tif"


def _find(root: Path, split: str, layout: str) -> Found:
    home = find_root(root, _INSIDE, (f"{split}.txt",), layout)
    regions = sorted(path for path in home.iterdir() if path.is_dir())
    images, labels = (
        list_folders([("", region / kind) for region in regions], _SUFFIX)
        for kind in ("images", "labels")
    )
    listed = [name.removesuffix(_SUFFIX) for name in read_list(home / f"{split}.txt")]
    # The authors may not pass on the images of xBD, which their csv lists.
    missing = {name for name in _of_xbd(home) if name not in images}.intersection(listed)
    if missing:
        warn(
            "images of xBD",
            f"root: {len(missing)} of the {len(listed)} images of {split!r} in {home} are of xBD "
            "and not there, and are left out: compare no figures with those of the whole split. "
            "data/compile_xbd.py of the authors' code adds them.",
        )
    files = pair_files([name for name in listed if name not in missing], images, labels)
    read = partial(read_map, known=reduced_zero(8), formats=("TIFF",))
    return Found(files, read, "REGION/labels/*.tif")


def _of_xbd(home: Path) -> list[str]:
    """List the images that come from xBD: lines such as "file of xBD,adelaide_1.tif"."""
    path = home / "xbd_files.csv"
    lines = read_list(path) if path.is_file() else []
    return [line.rpartition(",")[2].strip().removesuffix(_SUFFIX) for line in lines]


OPENEARTHMAP = Benchmark(
    name="openearthmap",
    title="OpenEarthMap val, 8 classes",
    class_list="openearthmap",
    find=_find,
    layout=_LAYOUT,
    split="val",
    size=500,
    palette="openearthmap",
)
