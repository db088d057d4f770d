"""`lpprop.show`: the image, its labels over it, and a legend, whatever form they come in."""

import numpy as np
import pytest
import torch
from PIL import Image

import lpprop
from lpprop import InputError
from lpprop.viz.drawing import ERROR_KEYS, error_map, overlay
from lpprop.viz.palettes import colours

SIZE = (48, 64)
PIXELS = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
LABELS = np.kron([[0, 2], [2, 3]], np.ones((24, 32), int))
NAMES = ["sky", "cat", "sofa", "wall"]
FORMS = {
    "PIL": Image.fromarray(PIXELS),
    "RGBA": Image.fromarray(PIXELS).convert("RGBA"),
    "channels last": PIXELS,
    "channels first": np.moveaxis(PIXELS, -1, 0),
    "batch": torch.tensor(PIXELS).movedim(-1, 0)[None],
    "floats": torch.tensor(PIXELS).movedim(-1, 0).float() / 255,
    "doubles": PIXELS / 255.0,
    "half": torch.tensor(PIXELS / 255.0, dtype=torch.float16),
    "not contiguous": torch.tensor(PIXELS).movedim(-1, 0).float().requires_grad_() / 255,
}  # fmt: skip


def count(page, colour):
    return int((np.asarray(page) == colour).all(-1).sum())


def find(page, picture):
    """Where on the page a picture is, pixel by pixel: the places of its upper left corner."""
    page, picture = np.asarray(page), np.asarray(picture)
    height, width = picture.shape[:2]
    corners = np.argwhere((page[: 1 - height, : 1 - width] == picture[0, 0]).all(-1))
    return [(y, x) for y, x in corners if (page[y : y + height, x : x + width] == picture).all()]


@pytest.mark.parametrize("form", FORMS)
def test_an_image_of_every_form(form):
    """At the image's own size the page holds it and its overlay, pixel by pixel."""
    page = lpprop.show(FORMS[form], LABELS, NAMES, side=64)
    assert page.mode == "RGB"
    assert len(find(page, PIXELS)) == 1
    drawn = overlay(Image.fromarray(PIXELS), LABELS, 4, outline=0.5)
    assert len(find(page, drawn)) == 1


@pytest.mark.parametrize("form", FORMS)
def test_overlays_and_error_maps_of_every_form(form):
    image = Image.fromarray(PIXELS)
    gt = np.where(LABELS == 3, 255, 0)
    assert overlay(FORMS[form], LABELS, 4) == overlay(image, LABELS, 4)
    assert error_map(FORMS[form], LABELS, gt, 4) == error_map(image, LABELS, gt, 4)


@pytest.mark.parametrize("make", [np.asarray, torch.tensor, lambda x: x.tolist(),
                                  lambda x: torch.tensor(x)[None], lambda x: x[None],
                                  lambda x: x.astype(np.uint8)])  # fmt: skip
def test_labels_of_every_form(make):
    assert lpprop.show(PIXELS, make(LABELS), NAMES) == lpprop.show(PIXELS, LABELS, NAMES)


def test_labels_of_another_grid():
    page = lpprop.show(PIXELS, [[0, 2], [2, 3]], NAMES)
    assert page == lpprop.show(PIXELS, LABELS, NAMES)
    finer = LABELS.repeat(3, 0).repeat(3, 1)
    assert lpprop.show(PIXELS, finer, NAMES) == page


def test_what_a_pipeline_returns():
    logits, image = torch.rand(1, 4, 3, 4), torch.rand(1, 3, *SIZE)
    scores = lpprop.refine(logits, image=image, method="bilinear")
    assert lpprop.show(image, scores.argmax(1), NAMES).mode == "RGB"
    assert lpprop.show(image, logits.argmax(1)).mode == "RGB"


def test_the_legend_has_the_classes_that_occur():
    # The swatches alone have pure colours: over the image they are mixed.
    for names in (NAMES, None):
        page = lpprop.show(PIXELS, LABELS, names, palette="voc")
        seen = {c for c in range(1, 4) if count(page, colours("voc", 4)[c])}
        assert seen == {2, 3}
    assert lpprop.show(PIXELS, LABELS, NAMES) != lpprop.show(PIXELS, LABELS, list("abcd"))


def test_ignored_pixels_are_grey():
    grey = dict(ERROR_KEYS)["ignored"]
    true = np.where(LABELS == 3, 255, LABELS)
    page = lpprop.show(PIXELS, true, NAMES, ignore_index=255)
    without = lpprop.show(PIXELS, LABELS, NAMES, ignore_index=255)
    assert count(page, grey) > 100  # the swatch
    assert count(without, grey) == 0
    assert count(page, colours("default", 4)[3]) == 0
    nothing = lpprop.show(PIXELS, np.full(SIZE, 255), NAMES, ignore_index=255)
    assert count(nothing, grey) > 100
    assert lpprop.show(PIXELS, true, ignore_index=255).mode == "RGB"


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 2)])
@pytest.mark.parametrize("side", [64, 480])
def test_odd_shapes(size, side):
    page = lpprop.show(np.zeros((*size, 3), np.uint8), np.zeros(size, int), ["a"], side=side)
    assert page.mode == "RGB"
    assert max(page.size) < 4 * side + 1000


def test_large_images_are_made_smaller():
    page = lpprop.show(np.zeros((1000, 3000, 3), np.uint8), np.zeros((1000, 3000), int))
    assert page.width < 1100


def test_nothing_given_is_changed():
    image, labels = PIXELS.copy(), LABELS.copy()
    lpprop.show(image, labels, NAMES, ignore_index=255)
    np.testing.assert_array_equal(image, PIXELS)
    np.testing.assert_array_equal(labels, LABELS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": "photo.jpg"}, "image: got str"),
        ({"image": None}, "image: got NoneType"),
        ({"image": PIXELS * 1.0}, "image: got values from 0 to 255, expected RGB in [0, 1]"),
        ({"image": np.stack([PIXELS] * 2)}, "image: got shape (2, 3, 48, 64), expected (1, 3"),
        ({"image": PIXELS[..., 0]}, "image: got shape (48, 64)"),
        ({"image": Image.new("I;16", (64, 48))}, "image: got a PIL image of mode 'I;16'"),
        ({"image": np.full((*SIZE, 3), np.nan)}, "image: got"),
        ({"labels": LABELS.T}, "labels: got 64 x 48 pixels, expected 48 x 64, as the image, or a "
         "grid of that shape. They look turned: transpose them."),
        ({"labels": LABELS[:20]}, "labels: got 20 x 64 pixels"),
        ({"labels": torch.rand(1, 4, *SIZE)}, "Take the argmax of scores"),
        ({"labels": np.stack([LABELS] * 2)}, "labels: got shape (2, 48, 64)"),
        ({"labels": LABELS + 1}, "labels: got the label 4, expected 0 to 3."),
        ({"labels": LABELS - 1}, "labels: got the label -1"),
        ({"labels": LABELS + 10**9, "names": None}, "labels: got the label 1000000003"),
        ({"labels": LABELS > 1}, "labels: got shape (48, 64) of bool"),
        ({"names": {"a", "b", "c", "d"}}, "names: got {"),
        ({"names": "cat"}, "names: got 'cat', expected a list of strings, one per class."),
        ({"names": []}, "names: got 0 names"),
        ({"names": ["a", "b"]}, "labels: got the label 3, expected 0 to 1"),
        ({"side": 63}, "side: got 63"),
        ({"side": 480.0}, "side: got 480.0"),
        ({"palette": "vok"}, "palette: got 'vok'"),
        ({"palette": np.zeros((3, 3), np.uint8)}, "palette: got a palette with 3 colours"),
        ({"ignore_index": 2}, "ignore_index: got 2"),
        ({"ignore_index": "255"}, "ignore_index: got '255'"),
    ],
)  # fmt: skip
def test_what_cannot_be_shown(changes, message):
    given = {"image": PIXELS, "labels": LABELS, "names": NAMES} | changes
    with pytest.raises(InputError) as refused:
        lpprop.show(given.pop("image"), given.pop("labels"), given.pop("names"), **given)
    assert message in str(refused.value)
