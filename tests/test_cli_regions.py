"""--regions of the commands: files and proposers, what their records hold, and what is refused."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco

import lpprop
from lpprop.backbones import EfficientNetLite0
from lpprop.cli import main
from lpprop.evaluation import (
    ProposedRegions,
    SegmenterPredictor,
    Start,
    StoredStart,
    refinements,
)
from lpprop.evaluation.datasets import dataset_from_folders
from lpprop.evaluation.tuning.sources import as_source
from lpprop.models.recipes import RECIPES
from lpprop.models.segmenter import Segmenter
from lpprop.regions import CachedProposer, named, slic
from test_cli_eval import Colours

SIZE = (40, 56)
NAMES = ("a", "b")


@pytest.fixture
def tree(tmp_path):
    """Images in blocks of a colour, their labels and scores, and regions of several formats."""
    random = np.random.default_rng(0)
    for part in ("images", "labels", "logits", "png", "json", "npy"):
        (tmp_path / part).mkdir()
    (tmp_path / "classes.txt").write_text("red\nblue\ngreen\n")
    for name in NAMES:
        blocks = random.integers(0, 256, (5, 7, 3), np.uint8).repeat(8, 0).repeat(8, 1)
        Image.fromarray(blocks).save(tmp_path / "images" / f"{name}.png")
        labels = random.integers(0, 3, (5, 7), np.uint8).repeat(8, 0).repeat(8, 1)
        Image.fromarray(labels).save(tmp_path / "labels" / f"{name}.png")
        logits = random.normal(size=(3, 5, 7)).astype(np.float32)
        np.save(tmp_path / "logits" / f"{name}.npy", logits)
        regions = random.integers(0, 4, SIZE, np.uint8)
        regions[:5] = 255
        Image.fromarray(regions).save(tmp_path / "png" / f"{name}.png")
        masks = [coco.encode(np.asfortranarray(regions == number)) for number in range(4)]
        records = [{"segmentation": mask | {"counts": mask["counts"].decode()}} for mask in masks]
        (tmp_path / "json" / f"{name}.json").write_text(json.dumps(records))
        np.save(tmp_path / "npy" / f"{name}.npy", np.where(regions == 255, -1, regions.astype(int)))
    return tmp_path


def given(tree, name="a"):
    image = np.array(Image.open(tree / "images" / f"{name}.png"))
    return np.load(tree / "logits" / f"{name}.npy"), image


def refine(tree, regions, out, *more):
    paths = ["refine", tree / "images", "--logits", tree / "logits", "--out", tree / out]
    options = ["--method", "region_vote", "--regions", regions, *more]
    return main([str(word) for word in (*paths, *options)])


def test_refine_by_files_and_by_name(tree, capsys):
    for kind in ("png", "json", "npy"):
        assert refine(tree, tree / kind, kind) == 0
    assert refine(tree, "slic", "slic") == 0
    for name in NAMES:
        logits, image = given(tree, name)
        stored = np.load(tree / "npy" / f"{name}.npy")
        for regions, kind in [(stored, "png"), (stored, "npy"), ("slic", "slic")]:
            expected = lpprop.refine(logits, image=image, regions=regions, method="region_vote")
            found = np.load(tree / kind / f"{name}_scores.npy")
            np.testing.assert_allclose(found, expected[0], rtol=1e-5, atol=1e-6)
        # Masks that cover each pixel at most once are a map.
        voted = np.load(tree / "json" / f"{name}_scores.npy")
        np.testing.assert_allclose(
            voted, np.load(tree / "npy" / f"{name}_scores.npy"), rtol=1e-5, atol=1e-6
        )
    capsys.readouterr()


def test_records_hold_the_regions(tree, capsys):
    assert refine(tree, "slic", "out") == 0
    assert refine(tree, "slic", "out") == 0
    assert "2 skipped" in capsys.readouterr().out
    assert refine(tree, "felzenszwalb", "out") == 1
    assert "regions was slic and is felzenszwalb" in capsys.readouterr().err
    assert refine(tree, tree / "png", "files") == 0
    Image.fromarray(np.zeros(SIZE, np.uint8)).save(tree / "png" / "b.png")
    assert refine(tree, tree / "png", "files") == 1
    assert f"the content of --regions, {tree / 'png' / 'b.png'}, has changed" in (
        capsys.readouterr().err
    )


def test_compare(tree, capsys):
    image, logits = tree / "images" / "a.png", tree / "logits" / "a.npy"
    common = ["compare", image, "--logits", logits, "--out", tree / "out"]
    common += ["--methods", "bilinear", "region_vote"]
    for regions in ("slic", tree / "json"):
        assert main([str(word) for word in (*common, "--regions", regions)]) == 0
        said = capsys.readouterr().out
        (row,) = [line for line in said.splitlines() if line.strip().startswith("region_vote")]
        assert "skipped" not in row


# --------------------------------------------------------------------------- evaluation


def evaluated(tree, *more):
    folders = ["--images", tree / "images", "--labels", tree / "labels"]
    words = ["eval", *folders, "--classes", tree / "classes.txt", "--out", tree / "runs", *more]
    return main([str(word) for word in words])


def results(tree):
    found = json.loads((tree / "runs" / "results.json").read_text())
    return {method: row["miou"] for method, row in found["methods"].items()}


def labels_of(tree, method, name="a"):
    return np.array(Image.open(tree / "runs" / "labels" / method / f"{name}.png"))


@pytest.mark.parametrize("regions", ["json", "slic"])
def test_eval_of_stored_scores(tree, regions, capsys):
    given_by = regions if regions == "slic" else tree / regions
    common = ["--logits", tree / "logits", "--regions", given_by, "--save", "labels"]
    assert evaluated(tree, *common, "--method", "region_vote", "bilinear") == 0
    for name in NAMES:
        logits, image = given(tree, name)
        known = "slic" if regions == "slic" else np.load(tree / "npy" / f"{name}.npy")
        expected = lpprop.refine(logits, image=image, regions=known, method="region_vote")
        np.testing.assert_array_equal(
            labels_of(tree, "region_vote", name), expected[0].argmax(0).numpy()
        )
    kept = list((tree / "runs").glob("regions/*.npz"))
    assert len(kept) == (2 if regions == "slic" else 0)  # once for all methods
    # Other regions are another configuration.
    assert evaluated(tree, *common[:3], "felzenszwalb", *common[4:]) == 1
    assert "--out" in capsys.readouterr().err


def test_eval_of_a_recipe(tree, monkeypatch, capsys):
    monkeypatch.setattr(EfficientNetLite0, "from_pretrained", lambda **_: Colours())
    common = ["--recipe", "offline", "--side", 40, "--regions", "slic", "--save", "labels"]
    assert evaluated(tree, *common, "--method", "bilinear", "region_vote") == 0
    picture = Image.open(tree / "images" / "a.png")
    segmenter = Segmenter(Colours(), method="region_vote", shorter_side=40, regions=slic)
    expected = segmenter(picture, ["red", "blue", "green"]).labels[0].numpy()
    np.testing.assert_array_equal(labels_of(tree, "region_vote"), expected)
    assert not np.array_equal(labels_of(tree, "bilinear"), expected)
    assert len(list((tree / "runs").glob("regions/*.npz"))) == 2
    capsys.readouterr()


@pytest.mark.parametrize("source", [["--logits", "logits"], ["--recipe", "offline", "--side", 40]])
def test_a_model_that_is_prompted_with_the_scores(tree, source, monkeypatch, capsys):
    """Its regions differ from method to method, so that none are kept."""
    monkeypatch.setattr(EfficientNetLite0, "from_pretrained", lambda **_: Colours())
    monkeypatch.setattr(named, "find_proposer", lambda name, **_: best)
    monkeypatch.chdir(tree)
    common = [*source, "--regions", "prompted-sam-vitb", "--save", "labels"]
    assert evaluated(tree, *common, "--method", "bilinear", "region_vote") == 0
    assert not (tree / "runs" / "regions").exists()
    # Its regions are those of the labels, which then stay as they are.
    np.testing.assert_array_equal(labels_of(tree, "region_vote"), labels_of(tree, "bilinear"))
    capsys.readouterr()


def test_starts_with_proposed_regions(tree):
    dataset = dataset_from_folders(tree / "images", tree / "labels", ["red", "blue", "green"])
    stored = StoredStart({"logits": tree / "logits", "regions": tree / "npy"})
    stored.check(dataset)
    sample = dataset[0]
    np.testing.assert_array_equal(
        stored(sample).inputs["regions"].numpy(), np.load(tree / "npy" / "a.npy")
    )
    logits, image = given(tree)
    start = ProposedRegions(stored, CachedProposer("slic", tree / "kept"))
    found = refinements(start, ["region_vote"])["region_vote"]
    expected = lpprop.refine(logits, image=image, regions="slic", method="region_vote")[0]
    assert torch.equal(found(sample), expected)
    assert found.fingerprint()["start"]["regions"] == {"function": "lpprop.inputs.superpixels.slic"}
    # A proposer that a start hands on, and one that asks for the scores, do the same.
    for proposer in (slic, best):
        handed = Start(torch.from_numpy(logits)[None], regions=proposer)
        one = refinements(lambda sample, handed=handed: handed, ["region_vote"])["region_vote"]
        added = ProposedRegions(lambda sample: Start(torch.from_numpy(logits)[None]), proposer)
        other = refinements(added, ["region_vote"])["region_vote"]
        assert torch.equal(one(sample), other(sample))


def best(image, scores):
    return scores.argmax(1)


# --------------------------------------------------------------------------- segment


def segment(tree, *more):
    words = ["segment", tree / "images" / "a.png", "--classes", "cat", "sofa", "dog", "--side", 40]
    return main([str(word) for word in (*words, "--out", tree / "out", *more)])


def test_segment_by_files_and_by_name(tree, monkeypatch, capsys):
    monkeypatch.setattr(EfficientNetLite0, "from_pretrained", lambda **_: Colours())
    segmenter = Segmenter(Colours(), method="region_vote", shorter_side=40)
    picture, classes = Image.open(tree / "images" / "a.png"), ["cat", "sofa", "dog"]
    known = {"slic": "slic", tree / "npy": np.load(tree / "npy" / "a.npy"), tree / "json": None}
    for given_by, regions in known.items():
        options = ["--regions", given_by, "--method", "region_vote"]
        assert segment(tree, *options, "--overwrite") == 0
        found = np.load(tree / "out" / "a_scores.npy")
        if regions is None:
            regions = known[tree / "npy"]
        expected = segmenter(picture, classes, regions=regions).scores[0]
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
        assert segment(tree, *options) == 0
        assert "1 skipped" in capsys.readouterr().out
    assert segment(tree, "--regions", "slic", "--method", "region_vote") == 1
    assert "regions was not given and is slic" in capsys.readouterr().err


@pytest.mark.parametrize("windows", [None, (16, 8)])
def test_a_segmenter_gives_regions_to_its_method(windows):
    images = torch.rand(2, 3, 24, 32, generator=torch.Generator().manual_seed(0))
    regions = torch.randint(-1, 5, (2, 24, 32), generator=torch.Generator().manual_seed(1))
    classes = ["a", "b", "c"]
    plain = Segmenter(Colours(), method="bilinear", windows=windows)
    voting = Segmenter(Colours(), method="region_vote", windows=windows, regions=given_map)
    scores = plain(images, classes).scores
    expected = lpprop.region_vote(scores, regions, by="vote")
    assert torch.equal(voting(images, classes, regions=regions).scores, expected)
    masks = [torch.stack([one == number for number in range(5)]) for one in regions]
    assert torch.allclose(voting(images, classes, regions=masks).scores, expected)
    proposed = lpprop.region_vote(scores, given_map(images), by="vote")
    assert torch.equal(voting(images, classes).scores, proposed)
    assert "regions=given_map" in repr(voting)


def test_the_tuner_hands_on_what_a_segmenter_proposes(tree):
    classes = ["red", "blue", "green"]
    sample = dataset_from_folders(tree / "images", tree / "labels", classes)[0]
    segmenter = Segmenter(Colours(), method="bilinear")
    segmenter.regions = given_map
    predictor = SegmenterPredictor(segmenter, classes)
    source = as_source(predictor)
    seen = source.see(sample, 3)
    assert "regions" in source.given(seen)
    voting = Segmenter(Colours(), method="region_vote", regions=given_map)
    expected = voting(sample.image, classes).scores[0]
    assert torch.equal(source.refine(seen, sample, lpprop.presets.region_vote()), expected)
    assert predictor.fingerprint()["regions"] == {"function": "test_cli_regions.given_map"}


def given_map(image):
    return (image.mean(1) * 5).long()


def test_what_a_segmenter_refuses():
    images, classes = torch.rand(1, 3, 24, 32), ["a", "b"]
    with pytest.raises(lpprop.InputError, match="regions: got regions, or what proposes them"):
        Segmenter(Colours(), method="bilinear", regions="slic")
    with pytest.raises(lpprop.InputError, match="regions: got regions, or what proposes them"):
        Segmenter(Colours(), method="bilinear")(images, classes, regions=given_map(images))
    voting = Segmenter(Colours(), method="region_vote")
    with pytest.raises(lpprop.InputError, match=r"regions: got shape \(2, 24, 32\)"):
        voting(images, classes, regions=torch.zeros(2, 24, 32).long())
    with pytest.raises(lpprop.InputError, match="regions: got None"):
        voting(images, classes)


def test_recipes_name_a_proposer():
    recipe = RECIPES["offline"].with_method("region_vote")
    assert recipe.regions is None
    named = lpprop.models.Recipe(recipe.backbone, method="region_vote", regions="slic")
    assert named.tie(Colours()).regions is slic
    assert "slic" in repr(named)
    assert named.with_method("bilinear").regions is None


# --------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["refine", "--method", "bilinear", "--regions", "slic"],
         "--regions: got slic, expected nothing"),
        (["refine", "--method", "region_vote"], "--regions: got nothing"),
        (["refine", "--method", "region_vote", "--regions", "sclic"],
         "--regions: got sclic, which does not exist, expected a path to regions, or slic, felz"),
        (["refine", "--method", "region_vote", "--regions", "./slic"], "--regions: got slic"),
        (["eval", "--regions", "slic", "--method", "bilinear"],
         "--regions: got slic, expected nothing, since no method takes it (bilinear)"),
        (["eval", "--method", "region_vote"], "--regions: got nothing"),
        (["recipe", "--regions", "slic", "--method", "bilinear"],
         "--regions: got slic, expected nothing, since no method takes it (bilinear)"),
        (["recipe", "--method", "region_vote"], "--regions: got nothing, expected slic, "),
        (["recipe", "--method", "region_vote", "--regions", "npy"],
         "--regions: got npy beside --recipe offline, expected slic, felzenszwalb"),
        (["segment", "--method", "bilinear", "--regions", "slic"],
         "--regions: got slic, expected nothing"),
        (["segment", "--method", "region_vote"], "--regions: got nothing"),
    ],
)  # fmt: skip
def test_what_is_refused_before_any_work(tree, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tree)
    command, *rest = words
    before = {
        "refine": ["refine", "images", "--logits", "logits", "--out", "out"],
        "eval": ["eval", "--logits", "logits"],
        "recipe": ["eval", "--recipe", "offline"],
        "segment": ["segment", "images", "--classes", "cat", "dog", "--out", "out"],
    }[command]
    if before[0] == "eval":
        before += ["--images", "images", "--labels", "labels", "--classes", "classes.txt"]
    assert main([*before, *rest]) == 1
    assert f"lpprop: error: {message}" in capsys.readouterr().err
    assert not (tree / "out").exists()
    assert not (tree / "runs").exists()


@pytest.mark.parametrize("command", ["refine", "compare", "segment", "eval", "tune"])
def test_names_that_are_nearly_right(tree, monkeypatch, capsys, command):
    monkeypatch.chdir(tree)
    arrays = ["--logits", "logits"]
    labelled = [*arrays, "--images", "images", "--labels", "labels", "--classes", "classes.txt"]
    words = {
        "refine": ["images", *arrays, "--method", "region_vote"],
        "compare": ["images", *arrays],
        "segment": ["images", "--classes", "cat", "dog", "--method", "region_vote"],
        "eval": [*labelled, "--method", "region_vote"],
        "tune": [*labelled, "--method", "region_vote"],
    }[command]
    assert main([command, *words, "--out", "out", "--regions", "sam2-hiera-tin"]) == 1
    assert "Did you mean sam2-hiera-tiny?" in capsys.readouterr().err
    assert not (tree / "out").exists()
