"""The default colours as they are derived, the published ones, and refused requests."""

import cv2
import numpy as np
import pytest
import torch

from dataset_trees import ISAID_COLOURS, UAVID_COLOURS
from lpprop import InputError
from lpprop.viz.palettes import PALETTES, colours, named_colours

LENGTHS = {"default": 300, "voc": 256, "ade20k": 150, "cityscapes": 19, "camvid": 11} | {
    "loveda": 7, "isaid": 16, "uavid": 8, "openearthmap": 8,
}  # fmt: skip

# The order is chosen so that the first few differ in lightness too.
OKABE_ITO = (
    (0, 114, 178),  # blue
    (230, 159, 0),  # orange
    (0, 158, 115),  # green
    (204, 121, 167),  # purple
    (240, 228, 66),  # yellow
    (213, 94, 0),  # vermilion
    (86, 180, 233),  # sky blue
    (0, 0, 0),
)
TO_XYZ = np.array(
    [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169],
     [0.019334, 0.119193, 0.950227]]
)  # fmt: skip

# What people with protanopia and deuteranopia see, in linear RGB (Machado et al., 2009).
VISION = np.array(
    [
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
         [-0.003882, -0.048116, 1.051998]],
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
         [-0.011820, 0.042940, 0.968881]],
    ]
)  # fmt: skip


def seen_lab(rgb):
    """Map sRGB (n, 3) in 0-255 to CIE Lab (3, n, 3) under each kind of vision."""
    unit = rgb / 255
    linear = np.where(unit <= 0.04045, unit / 12.92, ((unit + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ VISION.transpose(0, 2, 1), 0, 1)
    xyz = seen @ TO_XYZ.T / TO_XYZ.sum(axis=1)
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    x, y, z = np.moveaxis(f, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def worst_distance(a, b):
    return np.linalg.norm(a - b, axis=-1).min(axis=0)


def test_the_default_is_derived_for_colour_blind_eyes():
    """After Okabe and Ito's, each colour is the farthest from those before it, for all eyes."""
    axis = np.linspace(16, 255, 12).round()
    grid = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    candidates = np.concatenate([np.array(OKABE_ITO, dtype=float), grid])
    seen = seen_lab(candidates)
    chosen = list(range(len(OKABE_ITO)))
    # White is the paper: no class should look like it.
    nearest = worst_distance(seen, seen_lab(np.full((1, 3), 255.0)))
    for number in range(256):
        if number == len(chosen):
            chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, worst_distance(seen, seen[:, chosen[number], None]))
    np.testing.assert_array_equal(colours("default", 256), candidates[chosen])


def test_the_defaults_colours_differ_from_each_other_and_from_the_paper():
    known = np.vstack([colours("default", 20), [[255, 255, 255]]])
    lab = cv2.cvtColor(np.float32(known)[None] / 255, cv2.COLOR_RGB2LAB)[0]
    distance = np.linalg.norm(lab[:, None] - lab[None], axis=-1)
    assert distance[~np.eye(21, dtype=bool)].min() > 20
    assert len(np.unique(colours("default", 256), axis=0)) == 256


@pytest.mark.parametrize("name", PALETTES)
def test_none_of_these_looks_like_no_class(name):
    """A grey, for colour-blind eyes too; ADE20K has 150 colours, some of them greys."""
    classes = {"default": 40, "voc": 21}.get(name, LENGTHS[name])
    known = colours(name, classes, background=True)
    assert known.shape == (classes + 1, 3)
    np.testing.assert_array_equal(known[:-1], colours(name, classes))
    grey = known[-1]
    assert len(set(grey.tolist())) == 1
    assert grey.tolist() not in colours(name, min(LENGTHS[name], 256)).tolist()
    others = np.vstack([known[:-1], [[130, 130, 135]], [[255, 255, 255]]])
    nearest = worst_distance(seen_lab(others.astype(float)), seen_lab(grey[None].astype(float)))
    assert nearest.min() > (4 if classes > 100 else 9)
    assert named_colours(name, ["cat", "none of these"]).tolist()[1] == grey.tolist()
    assert named_colours(name, ["none of these", "cat"]).tolist() == colours(name, 2).tolist()


def test_the_default_repeats_after_256():
    np.testing.assert_array_equal(colours("default", 300)[256:], colours("default", 44))


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


def test_the_palettes_from_the_air():
    """The colours of MMSegmentation and of the authors' tools, written out on their own."""
    assert colours("loveda", 7).tolist() == [
        [255, 255, 255], [255, 0, 0], [255, 255, 0], [0, 0, 255], [159, 129, 183], [0, 255, 0],
        [255, 195, 128],
    ]  # fmt: skip
    assert colours("openearthmap", 8).tolist() == [
        [128, 0, 0], [0, 255, 36], [148, 148, 148], [255, 255, 255], [34, 97, 38], [0, 69, 255],
        [75, 181, 73], [222, 31, 7],
    ]  # fmt: skip
    assert [tuple(colour) for colour in colours("isaid", 16).tolist()] == ISAID_COLOURS
    assert [tuple(colour) for colour in colours("uavid", 8).tolist()] == UAVID_COLOURS


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


def test_colours_of_your_own():
    own = np.arange(12, dtype=np.uint8).reshape(4, 3)
    for given in (own, torch.tensor(own), np.ma.masked_array(own)):
        np.testing.assert_array_equal(colours(given, np.int64(3)), own[:3])


@pytest.mark.parametrize(
    ("given", "classes", "message"),
    [
        ("vok", 3, "palette: got 'vok', expected one of 'default', 'voc'"),
        (np.zeros((3, 3)), 3, "palette: got shape (3, 3) of float64, expected RGB colours (n, 3)"),
        (np.zeros((3, 4), np.uint8), 3, "palette: got shape (3, 4) of uint8"),
        (np.zeros((2, 3), np.uint8), 3, "palette: got a palette with 2 colours, expected 3"),
        ([[1, 2, 3], [4, 5]], 2, "palette: got list, expected RGB colours (n, 3) of uint8"),
        (torch.zeros(3, 3, device="meta"), 3, "palette: got Tensor"),
        (torch.zeros(3, 3).to(torch.float8_e4m3fn), 3, "palette: got Tensor"),
        (torch.zeros(3, 3, dtype=torch.uint8).to_sparse(), 3, "palette: got Tensor"),
        (np.ma.masked_array(np.zeros((3, 3), np.uint8), np.eye(3)), 3, "palette: got MaskedArray"),
        (None, 3, "palette: got shape () of object"),
        ({"voc"}, 3, "palette: got shape () of object"),
        (b"voc", 3, "palette: got shape () of |S3"),
        ("default", 10**12, "classes: got 1000000000000, expected an integer <= 16777216"),
        ("voc", 0, "classes: got 0, expected an integer >= 1"),
        ("default", 1.5, "classes: got 1.5"),
    ],
)
def test_what_cannot_be_used_is_refused(given, classes, message):
    with pytest.raises(InputError) as refused:
        colours(given, classes)
    assert message in str(refused.value)
