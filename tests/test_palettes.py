"""Published colours as their data sets have them, and requests that cannot be met."""

import numpy as np
import pytest

from lpprop import InputError
from lpprop.viz.palettes import PALETTES, colours, palette

LENGTHS = {"default": 300, "voc": 256, "ade20k": 150, "cityscapes": 19, "camvid": 11}


def test_voc_by_its_bits():
    """The development kit's loop: three bits of the number go to each byte's top, then the next."""
    expected = []
    for number in range(256):
        red = green = blue = 0
        rest = number
        for place in range(7, -1, -1):
            red |= (rest & 1) << place
            green |= (rest >> 1 & 1) << place
            blue |= (rest >> 2 & 1) << place
            rest >>= 3
        expected.append((red, green, blue))
    np.testing.assert_array_equal(colours("voc", 256), expected)
    assert colours("voc", 21)[[15, 20]].tolist() == [[192, 128, 128], [0, 64, 128]]


def test_ade20k():
    known = colours("ade20k", 150)
    samples = {
        "wall": (0, (120, 120, 120)), "sky": (2, (6, 230, 230)), "person": (12, (150, 5, 61)),
        "car": (20, (0, 102, 200)), "sand": (46, (160, 150, 20)), "chair": (75, (10, 0, 255)),
        "tent": (114, (112, 224, 255)), "flag": (149, (92, 0, 255)),
    }  # fmt: skip
    for number, colour in samples.values():
        assert tuple(known[number].tolist()) == colour
    assert known.sum(0, dtype=int).tolist() == [17965, 20212, 20250]


def test_cityscapes():
    expected = {
        "road": (128, 64, 128), "sidewalk": (244, 35, 232), "building": (70, 70, 70),
        "wall": (102, 102, 156), "fence": (190, 153, 153), "pole": (153, 153, 153),
        "traffic light": (250, 170, 30), "traffic sign": (220, 220, 0),
        "vegetation": (107, 142, 35), "terrain": (152, 251, 152), "sky": (70, 130, 180),
        "person": (220, 20, 60), "rider": (255, 0, 0), "car": (0, 0, 142), "truck": (0, 0, 70),
        "bus": (0, 60, 100), "train": (0, 80, 100), "motorcycle": (0, 0, 230),
        "bicycle": (119, 11, 32),
    }  # fmt: skip
    assert colours("cityscapes", 19).tolist() == [list(rgb) for rgb in expected.values()]


def test_camvid():
    expected = {
        "Sky": (128, 128, 128), "Building": (128, 0, 0), "Column_Pole": (192, 192, 128),
        "Road": (128, 64, 128), "Sidewalk": (0, 0, 192), "Tree": (128, 128, 0),
        "SignSymbol": (192, 128, 128), "Fence": (64, 64, 128), "Car": (64, 0, 128),
        "Pedestrian": (64, 64, 0), "Bicyclist": (0, 128, 192),
    }  # fmt: skip
    assert colours("camvid", 11).tolist() == [list(rgb) for rgb in expected.values()]


def test_road_and_skyscraper_alone_share_a_colour():
    known = colours("ade20k", 150)
    assert len(np.unique(known, axis=0)) == 149
    assert tuple(known[6]) == tuple(known[48]) == (140, 140, 140)


@pytest.mark.parametrize("name", PALETTES)
def test_every_palette_grows_without_changing(name):
    full = colours(name, LENGTHS[name])
    assert (full.shape, full.dtype) == ((LENGTHS[name], 3), np.uint8)
    np.testing.assert_array_equal(colours(name, 7), full[:7])
    if name != "default":
        with pytest.raises(InputError, match=rf"palette: got '{name}' with {len(full)} colours"):
            colours(name, len(full) + 1)


def test_the_default_is_the_palette_for_colour_blind_eyes():
    np.testing.assert_array_equal(colours("default", 30), palette(30))


def test_colours_of_your_own():
    own = np.arange(12, dtype=np.uint8).reshape(4, 3)
    np.testing.assert_array_equal(colours(own, 3), own[:3])


@pytest.mark.parametrize(
    ("given", "classes", "message"),
    [
        ("vok", 3, "palette: got 'vok', expected one of 'default', 'voc'"),
        (np.zeros((3, 3)), 3, "palette: got shape (3, 3) of float64, expected RGB colours (n, 3)"),
        (np.zeros((3, 4), np.uint8), 3, "palette: got shape (3, 4) of uint8"),
        (np.zeros((2, 3), np.uint8), 3, "palette: got a palette with 2 colours, expected 3"),
        ("voc", 0, "classes: got 0, expected an integer >= 1"),
        ("default", 1.5, "classes: got 1.5"),
    ],
)
def test_what_cannot_be_used_is_refused(given, classes, message):
    with pytest.raises(InputError) as refused:
        colours(given, classes)
    assert message in str(refused.value)
