"""Labels in their colours, and panels that hold what they are given."""

import numpy as np
import pytest
import torch
from PIL import Image

from lpprop import InputError
from lpprop.viz.drawing import ERROR_KEYS, colorize, error_map, framed, keys, overlay, panels
from lpprop.viz.palettes import colours
from lpprop.viz.sheets import Cell, sheet


@pytest.mark.parametrize("make", [np.array, torch.tensor, list])
def test_colorize_paints_every_label(make):
    painted = np.asarray(colorize(make([[0, 1, 2], [2, 1, 0]]), 3))
    np.testing.assert_array_equal(painted, colours("default", 3)[[[0, 1, 2], [2, 1, 0]]])


def test_overlay_mixes_grey_and_colour_and_outlines_classes():
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    labels = np.zeros((6, 8), dtype=int)
    labels[:, 4:] = 1
    mixed = np.asarray(overlay(image, labels, 2, alpha=0.25)).astype(float)
    grey = np.asarray(image.convert("L"), dtype=float)[..., None]
    expected = 0.75 * grey + 0.25 * colours("default", 2)[labels]
    assert (mixed[:, 3] == 255).all()
    inside = [0, 1, 2, 4, 5, 6, 7]
    assert np.abs(mixed - expected)[:, inside].max() <= 1


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros((2, 2)), "labels: got shape (2, 2) of float64, expected integers (H, W)"),
        (np.zeros((1, 2, 2), int), "labels: got shape (1, 2, 2)"),
        (np.zeros((0, 2), int), "labels: got shape (0, 2)"),
        (np.full((2, 2), 3), "labels: got the label 3, expected 0 to 2."),
        (np.full((2, 2), -1), "labels: got the label -1"),
        (np.zeros((2, 3), int), "image: got 2 x 2 pixels, expected 3 x 2"),
    ],
)
def test_bad_labels_are_refused(labels, message):
    with pytest.raises(InputError) as refused:
        overlay(Image.new("RGB", (2, 2)), labels, 3)
    assert message in str(refused.value)


def test_an_outline_may_be_faint():
    image, labels = Image.new("RGB", (4, 1)), [[0, 0, 1, 1]]
    plain, faint = (
        np.asarray(overlay(image, labels, 2, outline=outline), dtype=float) for outline in (0, 0.25)
    )
    np.testing.assert_allclose(faint[0, 1], 0.25 * 255 + 0.75 * plain[0, 1], atol=0.5)
    np.testing.assert_array_equal(faint[0, [0, 2, 3]], plain[0, [0, 2, 3]])


def test_other_palettes():
    labels, own = [[0, 1, 2]], np.uint8([[9, 8, 7], [6, 5, 4], [3, 2, 1]])
    image = Image.new("RGB", (3, 1))
    for palette_, expected in (("voc", colours("voc", 3)), (own, own)):
        painted = np.asarray(colorize(labels, 3, palette=palette_))
        np.testing.assert_array_equal(painted[0], expected)
        flat = overlay(image, labels, 3, alpha=1, outline=0, palette=palette_)
        np.testing.assert_array_equal(np.asarray(flat)[0], expected)
        assert [colour for _, colour in keys("abc", palette_)] == [*map(tuple, expected.tolist())]
        page = np.asarray(panels([("a", image)], ["x", "y", "z"], palette=palette_))
        assert {*map(tuple, expected.tolist())} <= {*map(tuple, page.reshape(-1, 3).tolist())}


def test_error_map_by_loops():
    rng = np.random.default_rng(0)
    labels, gt = rng.integers(0, 3, (2, 20, 30))
    gt[rng.random(gt.shape) < 0.2] = 7
    image = Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8))
    marks = dict(ERROR_KEYS)
    painted = np.asarray(error_map(image, labels, gt, 3, ignore_index=7))
    grey = np.asarray(image.convert("L"), dtype=float)
    for y in range(20):
        for x in range(30):
            pixel = tuple(painted[y, x].tolist())
            if gt[y, x] == 7:
                assert pixel == marks["ignored"]
            elif gt[y, x] != labels[y, x]:
                assert pixel == marks["wrong"]
            else:
                assert pixel[0] == pixel[1] == pixel[2]
                assert abs(pixel[0] - (0.25 * grey[y, x] + 0.75 * 255)) <= 1


@pytest.mark.parametrize(
    ("gt", "message"),
    [
        ([[0, 1, 2]], "gt: got shape (1, 3), expected (1, 2), that of labels"),
        ([[0, 3]], "gt: got the label 3, expected 0 to 2, or 255"),
        ([[0.0, 1.0]], "gt: got shape (1, 2) of float64"),
    ],
)
def test_bad_ground_truth_is_refused(gt, message):
    with pytest.raises(InputError) as refused:
        error_map(Image.new("RGB", (2, 1)), [[0, 1]], gt, 3)
    assert message in str(refused.value)


def test_frames_lie_around_their_box():
    ground = Image.new("RGB", (40, 30), (255, 0, 0))
    page = np.asarray(framed(ground, (10, 8, 20, 16), width=2))
    assert (np.asarray(ground) == (255, 0, 0)).all()
    black, white, red = ((page == colour).all(-1) for colour in (0, 255, (255, 0, 0)))
    assert (black | white | red).all()
    assert red[8:16, 10:20].all()
    # From the box outwards: a black line, two white ones, a black one, on each of the four sides.
    for line in (page[12, 9:5:-1], page[12, 20:24], page[7:3:-1, 15], page[16:20, 15]):
        assert line[:, 0].tolist() == line[:, 1].tolist() == [0, 255, 255, 0]
    assert (black | white).sum() == 18 * 16 - 10 * 8


def test_frames_stay_inside_the_picture():
    page = np.asarray(framed(Image.new("RGB", (40, 30), (255, 0, 0)), (0, 0, 40, 30)))
    for edge in (page[1], page[-2], page[:, 1], page[:, -2]):
        assert (edge[1:-1] == 255).all()


def test_a_sheet_stacks_pictures_and_balances_rows():
    colours_ = [(10 * i, 0, 0) for i in range(1, 6)]
    pictures = [Image.new("RGB", (400, 90), colour) for colour in colours_]
    below = Image.new("RGB", (400, 90), (0, 0, 255))
    cells = [Cell(str(i), [picture, below if i else None]) for i, picture in enumerate(pictures)]
    page = np.asarray(sheet(cells, [], columns=4))
    places = [np.argwhere((page == colour).all(-1)) for colour in colours_]
    assert [len(place) for place in places] == [400 * 90] * 5
    assert (page == (0, 0, 255)).all(-1).sum() == 4 * 400 * 90
    rows = [place[:, 0].min() for place in places]
    assert rows[0] == rows[1] == rows[2] < rows[3] == rows[4]  # three and two, not four and one
    under = np.argwhere((page == (0, 0, 255)).all(-1))
    assert under[:, 0].min() > rows[0] + 90
    assert not (page[rows[0] + 90 : rows[3], : places[0][:, 1].max()] == (0, 0, 255)).all(-1).any()


def test_each_group_of_the_legend_begins_a_line():
    cells = [Cell("a", [Image.new("RGB", (400, 90))])]
    red, blue = (250, 1, 2), (1, 2, 250)
    together = np.asarray(sheet(cells, [[("a", red), ("b", blue)]]))
    apart = np.asarray(sheet(cells, [[("a", red)], [("b", blue)]]))
    tops = [
        [np.argwhere((page == colour).all(-1))[:, 0].min() for colour in (red, blue)]
        for page in (together, apart)
    ]
    assert tops[0][0] == tops[0][1]
    assert tops[1][1] - tops[1][0] == apart.shape[0] - together.shape[0] > 0


def test_panels_hold_pictures_and_swatches():
    red, blue = Image.new("RGB", (400, 90), (255, 0, 0)), Image.new("RGB", (400, 90), (0, 0, 255))
    page = np.asarray(panels([("first", red), ("second", blue)], ["cat", "sofa"], "a note"))
    reds = (page == (255, 0, 0)).all(-1)
    blues = (page == (0, 0, 255)).all(-1)
    assert (reds.sum(), blues.sum()) == (400 * 90, 400 * 90)
    assert reds.nonzero()[1].max() < blues.nonzero()[1].min()
    for colour in colours("default", 2):
        swatch = (page == colour).all(-1).nonzero()
        assert len(swatch[0]) > 500
        assert swatch[0].min() > reds.nonzero()[0].max()
    # Margins are paper all round.
    for edge in (page[:8], page[-8:], page[:, :8], page[:, -8:]):
        assert (edge == 255).all()


def test_panels_break_into_rows():
    painted = [(255, 0, 0), (0, 0, 255), (0, 255, 0)]
    pictures = [(str(c), Image.new("RGB", (400, 90), c)) for c in painted]
    page = np.asarray(panels(pictures, ["cat"], columns=2))
    red, blue, green = ((page == colour).all(-1).nonzero() for colour in painted)
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
    shown = {*map(tuple, np.asarray(long).reshape(-1, 3))}
    assert shown >= {*map(tuple, colours("default", 32))}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda image: overlay(image, [[0]], 1, alpha=55), "alpha: got 55, expected a number in"),
        (lambda image: overlay(image, [[0]], 1, outline=-0.5), "outline: got -0.5"),
        (lambda image: overlay(image, [[0]], 1, alpha=float("nan")), "alpha: got nan"),
        (lambda image: overlay(image, [[0]], 1, alpha="1"), "alpha: got '1'"),
        (lambda image: overlay("photo.jpg", [[0]], 1), "image: got"),
        (lambda image: overlay(image, [[0]], 2.0), "classes: got 2.0"),
        (lambda image: panels([("a", image)], ["a"], columns=0), "columns: got 0"),
        (lambda image: panels([], ["a"]), "pictures: got none"),
    ],
)
def test_odd_arguments_are_refused_by_name(call, message):
    with pytest.raises(InputError) as refused:
        call(Image.new("RGB", (1, 1)))
    assert message in str(refused.value)
