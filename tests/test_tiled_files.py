"""Rasters on the disk: formats and what they keep, runs that were ended, damage, full disks."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch

from lpprop import InputError, InputWarning
from lpprop.tiled import refine
from lpprop.tiled.bands import Place
from lpprop.tiled.journal import Journal, Layer
from lpprop.tiled.rasters import open_raster
from lpprop.tiled.tiles import Box
from lpprop.tiled.writers import write_raster

pytest.importorskip("llvmlite")
rasterio = pytest.importorskip("rasterio")
zarr = pytest.importorskip("zarr")

pytestmark = [
    # rasterio's own, of the package affine.
    pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning"),
    pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning"),
]

H, W, C = 60, 83, 4
RANDOM = np.random.default_rng(0)
IMAGE = RANDOM.integers(1, 256, (3, H, W)).astype(np.uint8)
IMAGE[:, 20:30, 40:60] = 0
GAPS = (IMAGE == 0).all(0)
LOGITS = RANDOM.normal(size=(C, H, W)).astype(np.float32)
OPTIONS = {"tau": 0.3, "r": 3, "max_iter": 3, "tile": 32, "progress": False}
NAMES = ("water", "field", "forest", "road")


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """Labels and scores by arrays in memory."""
    folder = tmp_path_factory.mktemp("expected")
    return run(folder, LOGITS, IMAGE, nodata=0)


def run(folder, logits, image, out="labels.npy", **options):
    options = {"scores": folder / "scores.npy", **OPTIONS, **options}
    done = refine(logits, image, folder / out, **options)
    return np.load(done.labels), np.load(done.scores)


def write_tif(path, numbers, names=(), **profile):
    count, height, width = numbers.shape
    with rasterio.open(
        path, "w", driver="GTiff", count=count, height=height, width=width, dtype=numbers.dtype,
        **profile,
    ) as file:  # fmt: skip
        file.write(numbers)
        for band, name in enumerate(names, start=1):
            file.set_band_description(band, name)
    return path


def place():
    return {"crs": "EPSG:32633", "transform": rasterio.Affine(0.5, 0, 5e5, 0, -0.5, 46e5)}


# --------------------------------------------------------------------------- formats


def test_geotiff_keeps_place_nodata_and_bands(tmp_path, expected):
    image = write_tif(tmp_path / "image.tif", IMAGE, nodata=0, **place())
    logits = write_tif(tmp_path / "logits.tif", LOGITS, NAMES, **place())
    out, scores = tmp_path / "labels.tif", tmp_path / "scores.tif"
    refine(logits, image, out, scores=scores, **OPTIONS)
    with rasterio.open(out) as labels:
        assert (labels.crs, labels.transform) == (place()["crs"], place()["transform"])
        assert (labels.nodata, labels.dtypes, labels.shape) == (255, ("uint8",), (H, W))
        assert np.array_equal(labels.read(1), expected[0])
        assert np.array_equal(labels.dataset_mask() == 0, GAPS)
    with rasterio.open(scores) as file:
        assert file.descriptions == NAMES
        assert (file.crs, file.transform) == (place()["crs"], place()["transform"])
        assert np.isnan(file.nodata)
        assert np.array_equal(file.read(), expected[1], equal_nan=True)


def test_ground_control_points_are_kept(tmp_path):
    points = [
        rasterio.control.GroundControlPoint(row, column, 5e5 + column, 46e5 - row)
        for row, column in ((0, 0), (0, 80), (50, 0))
    ]
    image = write_tif(tmp_path / "image.tif", IMAGE, gcps=points, crs="EPSG:32633")
    refine(LOGITS, image, tmp_path / "labels.tif", **OPTIONS)
    with rasterio.open(tmp_path / "labels.tif") as file:
        kept, system = file.gcps
    assert system == "EPSG:32633"
    assert [(p.row, p.col, p.x, p.y) for p in kept] == [(p.row, p.col, p.x, p.y) for p in points]


def test_a_mask_and_other_bands(tmp_path, expected):
    """Bands in another order, beside one of infrared, and a mask in place of a nodata value."""
    bands = np.concatenate([RANDOM.integers(0, 9, (1, H, W)).astype(np.uint8), IMAGE[::-1]])
    path = tmp_path / "image.tif"
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(path, "w", driver="GTiff", count=4, height=H, width=W, dtype="uint8") as file,
    ):
        file.write(bands)
        file.write_mask(~GAPS)
    labels, scores = run(tmp_path, LOGITS, path, bands=(4, 3, 2))
    assert np.array_equal(labels, expected[0])
    assert np.array_equal(scores, expected[1], equal_nan=True)


@pytest.mark.parametrize("nodata", [None, 7])
def test_four_classes_in_bytes_have_no_mask(tmp_path, nodata):
    """GDAL takes the last band for alpha, which would leave out pixels where that class has 0."""
    scores = RANDOM.integers(0, 4, (4, H, W)).astype(np.uint8)
    scores[:, 3, 4] = 7  # equal scores, which are a gap where 7 is no data
    with rasterio.open(write_tif(tmp_path / "logits.tif", scores, nodata=nodata)) as file:
        assert file.colorinterp[3] == rasterio.enums.ColorInterp.alpha
    gaps = (scores == nodata).all(0)
    whole = run(tmp_path, scores, np.where(gaps, 0, IMAGE | 1), nodata=0)[1]
    tiled = run(tmp_path, tmp_path / "logits.tif", IMAGE | 1, out="b.npy", overwrite=True)[1]
    assert np.array_equal(tiled, whole, equal_nan=True)


def test_alpha_of_an_image_is_a_mask_unless_it_is_read(tmp_path, expected):
    alpha = np.where(GAPS, 0, 200)[None].astype(np.uint8)
    image = write_tif(tmp_path / "image.tif", np.concatenate([IMAGE, alpha]))
    labels, scores = run(tmp_path, LOGITS, image)
    assert np.array_equal(labels, expected[0])
    assert np.array_equal(scores, expected[1], equal_nan=True)
    labels, _ = run(tmp_path, LOGITS, image, out="infrared.npy", bands=(4, 1, 2), overwrite=True)
    assert 255 not in labels


def test_complex_numbers_are_refused(tmp_path):
    """rasterio would drop their imaginary part."""
    logits = write_tif(tmp_path / "logits.tif", LOGITS.astype(np.complex64))
    with pytest.raises(InputError, match=r"^logits: got complex64"):
        run(tmp_path, logits, IMAGE)


@pytest.mark.parametrize("rows", [1, 2])
def test_an_image_of_a_row_or_two_has_its_bands_last(tmp_path, rows):
    labels, _ = run(tmp_path, LOGITS[:, :rows], IMAGE[:, :rows].transpose(1, 2, 0))
    first, _ = run(tmp_path, LOGITS[:, :rows], IMAGE[:, :rows], out="first.npy", overwrite=True)
    assert np.array_equal(labels, first)


def test_bfloat16_tensors(tmp_path):
    logits = torch.from_numpy(LOGITS).bfloat16()
    labels, _ = run(tmp_path, logits, IMAGE)
    wide, _ = run(tmp_path, logits.float().numpy(), IMAGE, out="wide.npy", overwrite=True)
    assert np.array_equal(labels, wide)


# --------------------------------------------------------------------------- other ground


def cells(x, y=46e5, side=0.5, turn=0.0, down=-1):
    return rasterio.Affine(side, turn, x, turn, down * side, y)


# Patches of 10 pixels, the last of which do not fit.
PATCHES = LOGITS[:, :6, :9]
PLACES = {
    "the same": (cells(5e5), "EPSG:32633", LOGITS, None),
    "half a pixel": (cells(5e5 + 0.25), "EPSG:32633", LOGITS, None),
    "patches": (cells(5e5, side=5), "EPSG:32633", PATCHES, None),
    "nowhere": (rasterio.Affine.identity(), None, LOGITS, None),
    "another zone": (cells(5e5), "EPSG:32632", LOGITS, "are in EPSG:32632, and the im"),
    "the next sheet": (cells(5e5 + 40), "EPSG:32633", LOGITS, "a corner that is 40 units"),
    "turned": (cells(5e5, turn=0.2), "EPSG:32633", LOGITS, "a corner that is"),
    "upside down": (cells(5e5, 46e5 - 30, down=1), "EPSG:32633", LOGITS, "a corner that is 30 un"),
    "patches of elsewhere": (cells(5e5 + 10, side=5), "EPSG:32633", PATCHES, "that is 13.5 units"),
}


@pytest.mark.parametrize("name", PLACES)
def test_other_ground_is_told(tmp_path, name):
    transform, crs, numbers, said = PLACES[name]
    image = write_tif(tmp_path / "image.tif", IMAGE, **place())
    logits = write_tif(tmp_path / "logits.tif", numbers, transform=transform, crs=crs)
    heard = pytest.warns(InputWarning, match=f"logits: by their georeference they .*{said}")
    with heard if said else contextlib.nullcontext():
        run(tmp_path, logits, image)


# --------------------------------------------------------------------------- inputs stay


@pytest.mark.parametrize("argument", ["out", "scores"])
@pytest.mark.parametrize("kind", [".npy", ".zarr", "mapped"])
def test_no_input_is_replaced(tmp_path, argument, kind):
    path = tmp_path / ("logits" + (kind if kind != "mapped" else ".npy"))
    if kind == ".zarr":
        zarr.create_array(str(path), shape=LOGITS.shape, dtype="f4")[:] = LOGITS
    else:
        np.save(path, LOGITS)
    logits = np.load(path, mmap_mode="r") if kind == "mapped" else path
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    files = {"out": tmp_path / "labels.npy", "scores": tmp_path / "scores.npy"}
    files[argument] = tmp_path / "." / path.name
    with pytest.raises(InputError, match=rf"^{argument}: got .*, which is that of logits"):
        refine(logits, IMAGE, **files, overwrite=True, **OPTIONS)
    assert before == {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}


def test_results_have_names_of_their_own(tmp_path):
    with pytest.raises(InputError, match=r"^scores: got .*, which is that of out"):
        run(tmp_path, LOGITS, IMAGE, out="scores.npy")
    (tmp_path / "labels.tif").mkdir()
    with pytest.raises(InputError, match=r"^out: got .*labels.tif, a folder"):
        run(tmp_path, LOGITS, IMAGE, out="labels.tif", overwrite=True)
    with pytest.raises(InputError, match=r"^out: got NoneType, expected a path"):
        refine(LOGITS, IMAGE, None)


# --------------------------------------------------------------------------- formats, again


def test_every_kind_of_input_gives_the_same(tmp_path, expected):
    array = zarr.create_array(
        str(tmp_path / "logits.zarr"), shape=LOGITS.shape, dtype="f4", chunks=(2, 19, 23)
    )
    array[:] = LOGITS
    np.save(tmp_path / "image.npy", IMAGE.transpose(1, 2, 0))
    np.save(tmp_path / "two.npy", np.stack([LOGITS, LOGITS]))
    mapped = np.load(tmp_path / "two.npy", mmap_mode="r")[1]  # a part of a map
    image = np.load(tmp_path / "image.npy", mmap_mode="r")
    kinds = [
        (tmp_path / "logits.zarr", str(tmp_path / "image.npy")),
        (mapped, image),
        (array, IMAGE.astype(np.float32) / 255),
        (np.asfortranarray(LOGITS), (IMAGE * np.uint16(257))),
    ]
    for logits, image in kinds:
        _, scores = run(tmp_path, logits, image, nodata=0, overwrite=True)
        np.testing.assert_allclose(scores, expected[1], atol=1e-5)


def test_every_kind_of_output_holds_the_same(tmp_path, expected):
    for suffix in ("npy", "zarr", "tif"):
        out, scores = tmp_path / f"labels.{suffix}", tmp_path / f"scores.{suffix}"
        for _ in range(2):  # the second time it replaces the first
            refine(LOGITS, IMAGE, out, scores=scores, nodata=0, overwrite=True, **OPTIONS)
        labels, numbers = (
            open_raster(path, "there").read(Box(0, H, 0, W)) for path in (out, scores)
        )
        assert np.array_equal(labels[0], expected[0])
        assert np.array_equal(numbers, expected[1], equal_nan=True)
    names = {f"{name}.{kind}" for name in ("labels", "scores") for kind in ("npy", "zarr", "tif")}
    records = {f"labels.{kind}.json" for kind in ("npy", "zarr", "tif")}
    assert {path.name for path in tmp_path.iterdir()} == names | records


def test_what_cannot_be_opened(tmp_path):
    (tmp_path / "text.tif").write_text("no raster")
    (tmp_path / "text.npy").write_text("no array")
    (tmp_path / "empty.zarr").mkdir()
    for name in (
        "text.tif",
        "text.npy",
        "empty.zarr",
        "none.tif",
        "none.npy",
        "none.zarr",
        "a.jp2",
    ):
        with pytest.raises(InputError, match=rf"logits: got .*{name}"):
            open_raster(tmp_path / name, "logits")


# --------------------------------------------------------------------------- damage


def test_a_damaged_block_is_named(tmp_path):
    """In the second row of tiles; what came before is kept."""
    path = write_tif(
        tmp_path / "logits.tif", LOGITS, compress="deflate", tiled=True, blockxsize=16,
        blockysize=16, interleave="band",
    )  # fmt: skip
    with rasterio.open(path) as file:
        place = int(file.get_tag_item("BLOCK_OFFSET_0_3", "TIFF", bidx=1))
    raw = bytearray(path.read_bytes())
    raw[place : place + 40] = bytes(40)
    path.write_bytes(raw)
    with pytest.raises(InputError, match=r"logits: got .*logits.tif, of which rows 29 to 60"):
        refine(path, IMAGE, tmp_path / "labels.tif", **OPTIONS)
    assert not (tmp_path / "labels.tif").exists()
    journal = tmp_path / ".labels.tif.part" / "tiles.jsonl"
    assert len(journal.read_text().splitlines()) == 1 + 3


def test_a_damaged_chunk_is_named(tmp_path):
    array = zarr.create_array(
        str(tmp_path / "logits.zarr"), shape=LOGITS.shape, dtype="f4", chunks=(4, 32, 32)
    )
    array[:] = LOGITS
    chunk = tmp_path / "logits.zarr" / "c" / "0" / "1" / "1"
    chunk.write_bytes(chunk.read_bytes()[:50])
    with pytest.raises(InputError, match=r"logits.zarr: got chunks that cannot be read at"):
        refine(tmp_path / "logits.zarr", IMAGE, tmp_path / "labels.npy", **OPTIONS)


# --------------------------------------------------------------------------- runs that were ended

#: Runs, and kills the process at the n-th of the moments after which something is on the disk.
SCRIPT = """
import os, signal, sys
from pathlib import Path
import lpprop.tiled.journal as journal
import lpprop.tiled.writers as writers
from test_tiled_files import IMAGE, LOGITS, OPTIONS
from lpprop.tiled import refine
left = int(sys.argv[2])
def tick():
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
def ticking(function):
    def call(*args, **kwargs):
        tick()
        result = function(*args, **kwargs)
        tick()
        return result
    return call
journal.Journal._add = ticking(journal.Journal._add)
journal.Journal.write = ticking(journal.Journal.write)
Path.replace, Path.rename = ticking(Path.replace), ticking(Path.rename)
out = Path(sys.argv[1])
done = refine(LOGITS, IMAGE, out / "labels.npy", scores=out / "scores.npy", nodata=0, **OPTIONS)
print(done.resumed)
"""


def start(folder, moment):
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder), str(moment)],
        capture_output=True, text=True, check=False, timeout=100,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
@pytest.mark.parametrize("moment", [12, 29])
def test_a_killed_run_continues(tmp_path, expected, moment):
    """Within a tile, and while the files take their names."""
    killed = start(tmp_path, moment)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    # What has its name is whole: both files are there only once all tiles are.
    for name, whole in zip(("labels", "scores"), expected, strict=True):
        path = tmp_path / f"{name}.npy"
        assert not path.exists() or np.array_equal(np.load(path), whole, equal_nan=True)
    done = refine(
        LOGITS, IMAGE, tmp_path / "labels.npy", scores=tmp_path / "scores.npy", nodata=0, **OPTIONS
    )
    assert done.resumed == min(max((moment - 3) // 4, 0), 6)
    assert np.array_equal(np.load(done.labels), expected[0])
    assert np.array_equal(np.load(done.scores), expected[1], equal_nan=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "labels.npy",
        "labels.npy.json",
        "scores.npy",
    ]


def interrupt(folder, tiles, monkeypatch):
    """Begin a run, and end it by Ctrl-C after so many tiles."""
    write = Journal.write

    def write_some(self, tile, results):
        if tile == tiles:
            raise KeyboardInterrupt
        write(self, tile, results)

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "write", write_some)
        with pytest.raises(KeyboardInterrupt):
            run(folder, LOGITS, IMAGE, nodata=0)
    return folder / ".labels.npy.part"


def test_a_journal_that_is_cut_off_anywhere(tmp_path, monkeypatch, expected):
    part = interrupt(tmp_path, 4, monkeypatch)
    text = (part / "tiles.jsonl").read_bytes()
    ends = [found.end() for found in re.finditer(rb"\n", text)]
    layers = {"labels": Layer(1, "u1"), "scores": Layer(C, "<f4")}
    cores = [Box(y, min(y + 32, H), x, min(x + 32, W)) for y in (0, 32) for x in (0, 32, 64)]
    for length in {*range(0, len(text), 37), *ends, *(end - 1 for end in ends)}:
        (part / "tiles.jsonl").write_bytes(text[:length])
        described = json.loads(text[: ends[0]])
        with Journal(part, "tiles", described, (H, W), cores, layers) as journal:
            whole = sum(end <= length for end in ends) - 1
            assert journal.done == set(range(max(whole, 0)))
    (part / "tiles.jsonl").write_bytes(text[:-3] + b'garbage"}\n' + b"\xff\n")
    labels, _ = run(tmp_path, LOGITS, IMAGE, nodata=0)
    assert np.array_equal(labels, expected[0])


def test_numbers_that_have_changed_are_made_again(tmp_path, monkeypatch, expected):
    part = interrupt(tmp_path, 4, monkeypatch)
    raw = bytearray((part / "tiles_labels.raw").read_bytes())
    raw[5] ^= 1  # in the first tile
    (part / "tiles_labels.raw").write_bytes(raw)
    scores = tmp_path / "scores.npy"
    done = refine(LOGITS, IMAGE, tmp_path / "labels.npy", scores=scores, nodata=0, **OPTIONS)
    assert done.resumed == 3
    assert np.array_equal(np.load(done.labels), expected[0])


def test_other_options_and_inputs_do_not_continue(tmp_path, monkeypatch, expected):
    interrupt(tmp_path, 2, monkeypatch)
    others = [
        ({"tau": 0.2}, "method was"),
        ({"tile": 16}, "tile was 32 and is 16"),
        ({"nodata": 1}, "nodata of image was 0 and is 1"),
        ({"white": 256.0}, "white was 255.0 and is 256.0"),
    ]
    for changed, said in others:
        with pytest.raises(InputError, match=rf"out: got .*part, whose tiles .*{said}"):
            run(tmp_path, LOGITS, IMAGE, **{"nodata": 0, **changed})
    with pytest.raises(InputError, match="the content of logits has changed"):
        run(tmp_path, LOGITS + 1, IMAGE, nodata=0)
    labels, _ = run(tmp_path, LOGITS, IMAGE, nodata=0)
    assert np.array_equal(labels, expected[0])
    # The same once the result is there; --overwrite replaces it.
    assert refine(
        LOGITS, IMAGE, tmp_path / "labels.npy", scores=tmp_path / "scores.npy", nodata=0, **OPTIONS
    ).resumed == 6  # fmt: skip
    with pytest.raises(InputError, match=r"labels.npy, which was made otherwise \(method was"):
        run(tmp_path, LOGITS, IMAGE, nodata=0, max_iter=2)
    changed, _ = run(tmp_path, LOGITS, IMAGE, nodata=0, max_iter=2, overwrite=True)
    assert not np.array_equal(changed, expected[0])


def test_files_of_others_are_not_replaced(tmp_path):
    (tmp_path / "labels.npy").write_bytes(b"mine")
    with pytest.raises(
        InputError, match=r"labels.npy.json, which says how it was made, is missing"
    ):
        refine(LOGITS, IMAGE, tmp_path / "labels.npy", **OPTIONS)
    assert (tmp_path / "labels.npy").read_bytes() == b"mine"


def test_two_processes_do_not_write_one_result(tmp_path):
    pytest.importorskip("fcntl")
    part = tmp_path / "part"
    run = part, "tiles", {}, (1, 1), [Box(0, 1, 0, 1)], {"labels": Layer(1, "u1")}
    first = Journal(*run)
    with pytest.raises(InputError, match="to which another process writes"):
        Journal(*run)
    first.close()
    Journal(*run).close()


# --------------------------------------------------------------------------- disks and memory


@pytest.fixture
def largest_file():
    """Let no file grow beyond a size, as on a disk that is full."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk(tmp_path, expected, largest_file):
    largest_file(4 * C * H * W // 2)
    with pytest.raises(OSError, match="File too large"):
        run(tmp_path, LOGITS, IMAGE, nodata=0)
    assert not (tmp_path / "scores.npy").exists()
    largest_file(10**9)
    labels, _ = run(tmp_path, LOGITS, IMAGE, nodata=0)
    assert np.array_equal(labels, expected[0])


def test_a_geotiff_on_a_full_disk_is_whole_or_an_error(tmp_path, largest_file, capfd):
    """GDAL does not always say that the last bytes were lost, so the file is read back."""
    numbers = RANDOM.integers(0, 5, (1, 200, 300)).astype(np.uint8)

    def write():
        write_raster(
            tmp_path / "a.tif", lambda band, box: numbers[(band, *box.slices)], shape=(1, 200, 300),
            dtype=numbers.dtype, place=Place(), nodata=None, folder=tmp_path,
        )  # fmt: skip

    write()
    size = (tmp_path / "a.tif").stat().st_size
    for limit in (size // 2, size - 3000, size - 500, size - 100, size - 1):
        (tmp_path / "a.tif").unlink()
        largest_file(limit)
        try:
            with pytest.raises(OSError):  # noqa: PT011  # GDAL's and ours
                write()
        finally:
            largest_file(10**9)
        assert not (tmp_path / "a.tif").exists()
        write()
    capfd.readouterr()  # GDAL's own complaints


MEMORY = r"""
import re, sys
from pathlib import Path
from lpprop.tiled import refine
refine(*sys.argv[1:4], r=3, max_iter=2, tile=256, nodata=0, progress=False)
print(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_memory_does_not_grow_with_the_image(tmp_path):
    """Six times the pixels: 77 MB more of inputs, and the peak stays where it was."""
    peaks, sides = [], (900, 2200)  # both have tiles within, which have the largest windows
    for side in sides:
        logits, image = tmp_path / f"logits{side}.npy", tmp_path / f"image{side}.npy"
        np.save(logits, np.ones((C, side, side), np.float32))
        np.save(image, np.full((3, side, side), 99, np.uint8))
        done = subprocess.run(
            [sys.executable, "-c", MEMORY, str(logits), str(image), str(tmp_path / f"{side}.tif")],
            capture_output=True, text=True, check=True, timeout=100,
        )  # fmt: skip
        peaks.append(int(done.stdout) * 1024)
    inputs = (4 * C + 3) * (sides[1] ** 2 - sides[0] ** 2)
    assert peaks[1] - peaks[0] < inputs / 4
