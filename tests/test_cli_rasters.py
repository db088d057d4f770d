"""`lpprop refine` in tiles: when, with what options, and that the library gives the same."""

import numpy as np
import pytest
from PIL import Image

from lpprop.cli import main, rasters
from lpprop.tiled import refine

pytest.importorskip("llvmlite")
rasterio = pytest.importorskip("rasterio")

pytestmark = [
    pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning"),
]

H, W, C = 40, 52, 3
RANDOM = np.random.default_rng(0)
IMAGE = RANDOM.integers(0, 256, (3, H, W)).astype(np.uint8)
LOGITS = RANDOM.normal(size=(C, H, W)).astype(np.float32)
STEP = ["--option", "r=3", "--option", "max_iter=3"]


def write_tif(path, numbers):
    count, height, width = numbers.shape
    with rasterio.open(
        path, "w", driver="GTiff", count=count, height=height, width=width, dtype=numbers.dtype
    ) as file:
        file.write(numbers)
    return path


def read_tif(path):
    with rasterio.open(path) as file:
        return file.read()


@pytest.fixture
def files(tmp_path):
    """An image and its logits, and the command for them."""
    image = write_tif(tmp_path / "city.tif", IMAGE)
    logits = write_tif(tmp_path / "logits.tif", LOGITS)
    return ["refine", str(image), "--logits", str(logits), "--out", str(tmp_path / "out")]


@pytest.fixture
def expected(tmp_path):
    """What the library makes of them."""
    labels, scores = tmp_path / "expected.npy", tmp_path / "scores.npy"
    refine(LOGITS, IMAGE, labels, scores=scores, r=3, max_iter=3, progress=False)
    return np.load(labels), np.load(scores)


def test_rasters_are_refined_in_tiles(files, tmp_path, expected, capsys):
    command = [*files, *STEP, "--tile", "16", "--save-scores"]
    assert main(command) == 0
    assert capsys.readouterr().out == f"12 tiles refined into {tmp_path / 'out'}\n"
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"city_labels.tif", "city_labels.tif.json", "city_scores.tif"}
    assert np.array_equal(read_tif(tmp_path / "out" / "city_labels.tif")[0], expected[0])
    assert np.array_equal(read_tif(tmp_path / "out" / "city_scores.tif"), expected[1])
    # Once more: nothing is left to do; with other options it is refused, and --overwrite replaces.
    assert main(command) == 0
    assert capsys.readouterr().out.endswith(", 12 were there\n")
    assert main([*command, "--option", "tau=0.5"]) == 1
    said = capsys.readouterr().err
    assert "city_labels.tif, which was made otherwise (method was" in said
    assert "--overwrite" in said
    assert main([*command, "--option", "tau=0.5", "--overwrite"]) == 0


def test_bands_white_and_nodata(files, tmp_path, expected):
    """The same image in other bands, of 16 bits, with a value of no data."""
    bands = np.stack([IMAGE[2], IMAGE[0], IMAGE[1]]).astype(np.uint16) * 10
    bands[:, :4] = 9999
    write_tif(tmp_path / "city.tif", bands)
    options = ["--bands", "2", "3", "1", "--white", "2550", "--nodata", "9999"]
    assert main([*files, *STEP, *options]) == 0
    labels = read_tif(tmp_path / "out" / "city_labels.tif")[0]
    assert (labels[:4] == 255).all()
    assert np.array_equal(labels[12:], expected[0][12:])  # farther from it than the step reaches


def test_an_image_that_does_not_fit(files, tmp_path, expected, monkeypatch, capsys):
    """A GeoTIFF beside scores in .npy is refined as a whole if it fits, and else in tiles."""
    np.save(tmp_path / "logits.npy", LOGITS)
    files[3] = str(tmp_path / "logits.npy")
    feats = ["--method", "bilinear"]
    assert main([*files, *feats]) == 0
    assert (tmp_path / "out" / "city_labels.png").exists()
    from lpprop._core import memory

    free = memory.available_bytes
    monkeypatch.setattr(memory, "available_bytes", lambda device: 1000)
    assert rasters._exceeds_memory(_parse([*files, *feats]))
    monkeypatch.setattr(memory, "available_bytes", free)
    monkeypatch.setattr(rasters, "_exceeds_memory", lambda arguments: True)
    assert main([*files, *STEP]) == 0
    assert "city.tif does not fit into memory: in tiles of 1024 pixels" in capsys.readouterr().err
    assert np.array_equal(read_tif(tmp_path / "out" / "city_labels.tif")[0], expected[0])


def _parse(argv):
    from lpprop.cli import build_parser

    return build_parser().parse_args(argv)


REFUSED = [
    (["--background", "0.3"], "--background: got 0.3, expected nothing, since tiles"),
    (["--size", "10", "10"], "--size: got"),
    (["--regions", "slic", "--method", "region_vote"], "--regions: got slic"),
    (["--method", "lposs"], "--feats: got None"),
    (["--method", "dense_crf"], "got DenseCRF, whose result"),
    (["--tile", "0"], "--tile: got 0"),
    (["--bands", "1", "2", "7"], "got 3 bands, and"),
]


@pytest.mark.parametrize(("options", "said"), REFUSED)
def test_it_refuses_in_its_own_words(files, capsys, options, said):
    if "dense_crf" in options:
        pytest.importorskip("pydensecrf")
    assert main([*files, *options]) == 1
    assert said in capsys.readouterr().err


def test_tiles_are_of_one_image(files, tmp_path, capsys):
    (tmp_path / "folder").mkdir()
    Image.fromarray(IMAGE.transpose(1, 2, 0)).save(tmp_path / "folder" / "a.png")
    files[1] = str(tmp_path / "folder")
    assert main([*files, "--tile", "16"]) == 1
    assert "folder, a folder, expected one image" in capsys.readouterr().err


def test_options_of_tiles_need_tiles(files, tmp_path, capsys):
    np.save(tmp_path / "logits.npy", LOGITS)
    files[3] = str(tmp_path / "logits.npy")
    assert main([*files, "--method", "bilinear", "--white", "300"]) == 1
    assert "--white: got 300.0, expected --tile beside it" in capsys.readouterr().err
