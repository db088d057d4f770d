"""Segmenting batches against the segmenter itself, with the models of the recipe "offline"."""

import dataclasses
import io
import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from lpprop import InputError
from lpprop.batch import Segment
from lpprop.models import RECIPES, Segmenter

pytest.importorskip("efficientnet_lite_pytorch")

from lpprop.backbones import EfficientNetLite0

CLASSES = ["cat; lynx", "sofa", "dog"]
SMALL = dataclasses.replace(RECIPES["offline"], shorter_side=64)


def pixels(number, size=(50, 70)):
    return np.random.default_rng(number).integers(0, 256, (*size, 3), dtype=np.uint8)


IMAGES = [pixels(0), pixels(1, (70, 50)), pixels(2)]


def make_small(device):
    return Segmenter(EfficientNetLite0().to(device), method="lposs", shorter_side=64, k=5)


def make_nothing(device):
    return device


def encode(image, **options):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG", **options)
    return file.getvalue()


@pytest.fixture(scope="module")
def segmenter():
    return SMALL.build(download=False)


def test_every_image_has_the_bits_of_the_segmenter(segmenter):
    segment = Segment(CLASSES, SMALL, outputs=["labels", "scores"], keep=["image"])
    out = segment({"image": IMAGES, "name": ["a", "b", "c"]})
    assert (out["error"], out["name"], out["image"]) == ([""] * 3, ["a", "b", "c"], IMAGES)
    for image, labels, scores in zip(IMAGES, out["labels"], out["scores"], strict=True):
        expected = segmenter(image, CLASSES)
        assert scores.tobytes() == expected.scores[0].numpy().tobytes()
        assert np.array_equal(labels, expected.labels[0])
        assert labels.dtype == np.uint16
    backwards = segment({"image": IMAGES[::-1]})["scores"]
    assert [x.tobytes() for x in backwards[::-1]] == [x.tobytes() for x in out["scores"]]


def test_files_are_turned_upright_and_damaged_ones_are_told(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = encode(IMAGES[0], exif=exif)
    (tmp_path / "a.png").write_bytes(turned)
    segment = Segment(CLASSES, SMALL)
    out = segment({"image": [tmp_path / "a.png", turned, turned[:200], np.rot90(IMAGES[0], -1)]})
    assert [labels.shape for labels in out["labels"]] == [(70, 50), (70, 50), (0, 0), (70, 50)]
    assert np.array_equal(out["labels"][0], out["labels"][3])
    assert np.array_equal(out["labels"][1], out["labels"][3])
    assert out["error"][2].startswith("image: got a file of 200 bytes, which cannot be read")


def test_classes_may_differ_by_image(segmenter):
    segment = Segment(None, SMALL, outputs=["scores"])
    classes = [CLASSES, np.array(["sofa", "bird"], dtype=object), [], "cat"]
    out = segment({"image": [IMAGES[0]] * 4, "classes": classes})
    assert [scores.shape[0] for scores in out["scores"]] == [3, 2, 0, 0]
    assert np.array_equal(out["scores"][1], segmenter(IMAGES[0], ["sofa", "bird"]).scores[0])
    assert [error.split(":")[0] for error in out["error"]] == ["", "", "classes", "classes"]
    with pytest.raises(InputError, match="expected a column 'classes' among them"):
        segment({"image": IMAGES})
    with pytest.raises(InputError, match="classes: got None, so that each image has its own"):
        print(segment.label_names)


def test_background_and_top_classes_are_those_of_a_segmenter():
    options = {"background": 0.52, "top_classes": 2}
    segment = Segment(CLASSES, SMALL, outputs=["scores"], **options)
    expected = dataclasses.replace(SMALL, **options).build()(IMAGES[0], CLASSES)
    assert segment.label_names == expected.class_names == ["cat", "sofa", "dog", "none of these"]
    (scores,) = segment({"image": IMAGES[:1]})["scores"]
    assert scores.tobytes() == expected.scores[0].numpy().tobytes()


def test_methods_on_regions_take_those_of_each_image_or_propose_them():
    pytest.importorskip("skimage")
    maps, image = np.arange(48 * 72).reshape(48, 72) // 700, pixels(0, (48, 72))
    segment = Segment(CLASSES, SMALL, method="region_vote", regions="slic", outputs=["scores"])
    out = segment({"image": [image] * 2, "regions": [maps, None]})
    recipe = dataclasses.replace(SMALL.with_method("region_vote"), regions="slic")
    segmenter = recipe.build()
    for scores, regions in zip(out["scores"], (maps, None), strict=True):
        expected = segmenter(image, CLASSES, regions=regions).scores[0]
        assert np.array_equal(scores, expected)
    assert not np.array_equal(*out["scores"])
    # A column that the method does not take belongs to somebody else.
    assert Segment(CLASSES, SMALL)({"image": IMAGES[:1], "regions": [maps]})["regions"] == [maps]


def test_a_function_makes_the_segmenter_where_it_is_used():
    segment = Segment(CLASSES, make_small, outputs=["scores"])
    assert segment.label_names == ["cat", "sofa", "dog"]
    (scores,) = segment({"image": IMAGES[:1]})["scores"]
    expected = make_small(torch.device("cpu"))(IMAGES[0], CLASSES).scores[0]
    assert scores.tobytes() == expected.numpy().tobytes()


def test_the_models_are_loaded_once_and_do_not_travel(monkeypatch):
    calls = []
    load = EfficientNetLite0.from_pretrained.__func__
    monkeypatch.setattr(
        EfficientNetLite0, "from_pretrained",
        classmethod(lambda cls, **options: calls.append(1) or load(cls, **options)),
    )  # fmt: skip
    segment = Segment(CLASSES, SMALL, background=0.8)
    before = pickle.dumps(segment)
    assert len(before) < 2000
    assert not calls
    segment({"image": IMAGES[:1]})
    segment.process({"image": IMAGES[0]})
    assert len(calls) == 1
    assert pickle.dumps(segment) == before
    copy = pickle.loads(before)
    assert copy == segment
    assert copy != Segment(CLASSES, SMALL)
    copy.load()
    assert len(calls) == 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Segment(CLASSES, "offlin"), "recipe: got 'offlin'"),
        (lambda: Segment(CLASSES, 3), "recipe: got a int, expected a name of lpprop.models.REC"),
        (lambda: Segment(CLASSES, "dinov2-references"), "recipe: got a recipe of classes by ref"),
        (lambda: Segment(CLASSES, make_small, method="kl"), "method: got it beside a function"),
        (lambda: Segment(CLASSES, make_small, k=3), "k: got it beside a function"),
        (lambda: Segment(CLASSES, method="lpos"), "method: got 'lpos'"),
        (lambda: Segment(CLASSES, k=0), "k: got 0"),
        (lambda: Segment(CLASSES, kk=0), "kk: got an option that"),
        (lambda: Segment(CLASSES, method="max_velocity", download="no"), "download: got 'no'"),
        (lambda: Segment("cat"), "classes: got 'cat', expected a list of class names"),
        (lambda: Segment(["cat", "cat"]), "classes[1]: got 'cat' with the name of 'cat'"),
        (lambda: Segment(["cat", "shuttle"]), "classes[1]: got 'shuttle', expected names of Imag"),
        (lambda: Segment(["cat"], background=0.5), "background: got it beside the single class"),
        (lambda: Segment(CLASSES, background=3), "background: got 3"),
        (lambda: Segment(CLASSES, top_classes=1), "top_classes: got 1"),
        (lambda: Segment(CLASSES, regions="slic"), "regions: got regions, or what proposes them"),
        (lambda: Segment(CLASSES, method="region_vote", regions="slik"), "regions: got 'slik'"),
        (
            lambda: Segment(CLASSES, keep=["regions"]),
            "keep: got 'regions', expected one of 'image'",
        ),
        (lambda: Segment(CLASSES, make_nothing).load(), "recipe: got a function that returned a d"),
    ],
)
def test_what_is_wrong_with_the_configuration_is_told_without_models(make, message):
    with pytest.raises(InputError) as refused:
        make()
    assert str(refused.value).startswith(message)


def test_models_that_cannot_be_had_are_no_error_of_an_image(tmp_path):
    model = dataclasses.replace(RECIPES["clip-dino"].backbone, checkpoint=tmp_path / "absent")
    segment = Segment(CLASSES, dataclasses.replace(RECIPES["clip-dino"], backbone=model))
    pytest.importorskip("transformers")
    with pytest.raises(InputError, match=r"checkpoint: got .*absent"):
        segment({"image": IMAGES})
