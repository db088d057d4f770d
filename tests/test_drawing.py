"""Colours that differ, labels in their colours, and panels that hold what they are given."""

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from lpprop import InputError
from lpprop.drawing import colorize, overlay, palette, panels


def lab(colours):
    return cv2.cvtColor(np.float32(colours)[None] / 255, cv2.COLOR_RGB2LAB)[0]


def test_colours_differ_from_each_other_and_from_the_paper():
    colours = palette(20)
    assert (colours.shape, colours.dtype) == ((20, 3), np.uint8)
    with_paper = lab(np.vstack([colours, [[255, 255, 255]]]))
    distance = np.linalg.norm(with_paper[:, None] - with_paper[None], axis=-1)
    assert distance[~np.eye(21, dtype=bool)].min() > 20
    assert len(np.unique(palette(256), axis=0)) == 256


def test_the_palette_grows_without_changing():
    large = palette(300)
    for classes in (1, 8, 9, 256):
        np.testing.assert_array_equal(palette(classes), large[:classes])
    np.testing.assert_array_equal(large[256:], large[:44])
    assert palette(1).tolist() == [[0, 114, 178]]


@pytest.mark.parametrize("make", [np.array, torch.tensor, list])
def test_colorize_paints_every_label(make):
    painted = np.asarray(colorize(make([[0, 1, 2], [2, 1, 0]]), 3))
    np.testing.assert_array_equal(painted, palette(3)[[[0, 1, 2], [2, 1, 0]]])


def test_overlay_mixes_grey_and_colour_and_outlines_classes():
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    labels = np.zeros((6, 8), dtype=int)
    labels[:, 4:] = 1
    mixed = np.asarray(overlay(image, labels, 2, alpha=0.25)).astype(float)
    grey = np.asarray(image.convert("L"), dtype=float)[..., None]
    expected = 0.75 * grey + 0.25 * palette(2)[labels]
    assert (mixed[:, 3] == 255).all()
    inside = [0, 1, 2, 4, 5, 6, 7]
    assert np.abs(mixed - expected)[:, inside].max() <= 1


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros((2, 2)), "labels: got shape (2, 2) of float64, expected integers (H, W)"),
        (np.zeros((1, 2, 2), int), "labels: got shape (1, 2, 2)"),
        (np.zeros((0, 2), int), "labels: got shape (0, 2)"),
        (np.full((2, 2), 3), "labels: got values from 3 to 3, expected 0 to 2 for 3 classes"),
        (np.full((2, 2), -1), "labels: got values from -1 to -1"),
        (np.zeros((2, 3), int), "image: got 2 x 2 pixels, expected 3 x 2"),
    ],
)
def test_bad_labels_are_refused(labels, message):
    with pytest.raises(InputError) as refused:
        overlay(Image.new("RGB", (2, 2)), labels, 3)
    assert message in str(refused.value)


def test_no_colours_are_refused():
    with pytest.raises(InputError, match="classes: got 0, expected an integer >= 1"):
        palette(0)


def test_panels_hold_pictures_and_swatches():
    red, blue = Image.new("RGB", (400, 90), (255, 0, 0)), Image.new("RGB", (400, 90), (0, 0, 255))
    page = np.asarray(panels([("first", red), ("second", blue)], ["cat", "sofa"], "a note"))
    reds = (page == (255, 0, 0)).all(-1)
    blues = (page == (0, 0, 255)).all(-1)
    assert (reds.sum(), blues.sum()) == (400 * 90, 400 * 90)
    assert reds.nonzero()[1].max() < blues.nonzero()[1].min()
    for colour in palette(2):
        swatch = (page == colour).all(-1).nonzero()
        assert len(swatch[0]) > 500
        assert swatch[0].min() > reds.nonzero()[0].max()
    # Margins are paper all round.
    for edge in (page[:8], page[-8:], page[:, :8], page[:, -8:]):
        assert (edge == 255).all()


def test_panels_break_into_rows():
    colours = [(255, 0, 0), (0, 0, 255), (0, 255, 0)]
    pictures = [(str(c), Image.new("RGB", (400, 90), c)) for c in colours]
    page = np.asarray(panels(pictures, ["cat"], columns=2))
    red, blue, green = ((page == colour).all(-1).nonzero() for colour in colours)
    assert [len(seen[0]) for seen in (red, blue, green)] == [400 * 90] * 3
    assert red[0].max() == blue[0].max() < green[0].min()
    assert red[1].min() == green[1].min() < blue[1].min()
    assert page.shape[1] < 3 * 400


def test_long_legends_break_and_long_names_are_cut():
    picture = [
        ("a title that is far too long for so small a picture" * 9, Image.new("RGB", (40, 30)))
    ]
    short = panels(picture, ["cat"])
    long = panels(picture, [f"class number {i}" for i in range(30)] + ["x" * 100_000, "two\nlines"])
    assert long.width == short.width
    assert long.height > 5 * short.height
    assert (np.asarray(long)[:, -8:] == 255).all()
    assert len({*map(tuple, palette(32))} & {*map(tuple, np.asarray(long).reshape(-1, 3))}) == 32
