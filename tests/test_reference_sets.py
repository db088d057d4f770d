"""Sets of references: how they are made, stored, checked; the backbone, the recipe, the command."""

import dataclasses
import functools
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import lpprop
from lpprop import InputError, InputWarning
from lpprop.backbones import EfficientNetLite0, VisionTransformer
from lpprop.backbones.fingerprints import model_fingerprint
from lpprop.cli import main
from lpprop.evaluation import SegmenterPredictor
from lpprop.models import RECIPES, ReferenceBackbone, References, Segmenter
from lpprop.models.references import describe_backbone, find_sets

CLASSES = ["red", "green", "blue"]


@pytest.fixture(scope="module")
def vit():
    """A real DINOv2 model, tiny and random."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.Dinov2Config(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=3, mlp_ratio=2, patch_size=14,
        image_size=56,
    )  # fmt: skip
    return transformers.Dinov2Model(config)


@pytest.fixture
def backbone(vit):
    return VisionTransformer(vit, features="token", attention="query-key")


def stripes(height=42, width=84):
    """An image of three colours, and which colour each pixel has."""
    labels = (torch.arange(width) * 3 // width).repeat(height, 1)
    generator = torch.Generator().manual_seed(3)
    image = 0.9 * F.one_hot(labels, 3).movedim(-1, 0).float()
    return (image + 0.1 * torch.rand(3, height, width, generator=generator)), labels


# --------------------------------------------------------------------------- sets


def test_a_reference_is_the_prototype_of_one_image(backbone):
    image, labels = stripes()
    made = References.from_images(backbone, [image, image.flip(1)], [labels] * 2, CLASSES)
    assert made.names == CLASSES
    assert [len(one) for one in made.vectors] == [2, 2, 2]
    feats = backbone(image[None]).feats
    expected = lpprop.prototypes(feats, labels[None], classes=3)
    torch.testing.assert_close(torch.stack([one[0] for one in made.vectors]), expected)
    assert made.made["backbone"] == describe_backbone(backbone)
    assert json.loads(json.dumps(made.made)) == made.made


def test_images_give_references_of_the_classes_that_they_show(backbone):
    image, labels = stripes()
    some = torch.where(labels == 2, 255, labels)
    made = References.from_images(backbone, [image, image], [labels, some], CLASSES)
    assert [len(one) for one in made.vectors] == [2, 2, 1]
    assert repr(made) == "References(3 classes of 24 channels: red 2, green 2, blue 1)"
    with pytest.raises(InputError, match="labels: got no pixel of class 'blue' in 1 images"):
        References.from_images(backbone, [image], [some], CLASSES)
    with pytest.raises(InputError, match=r"labels\[1\]: got the label 2, expected labels below 2"):
        References.from_images(backbone, [image] * 2, [some, labels], CLASSES[:2])
    with pytest.raises(InputError, match=r"labels\[0\]: got shape \(84, 42\)"):
        References.from_images(backbone, [image], [labels.T], CLASSES)


def test_what_the_model_pads_has_no_label(backbone):
    """50 x 90 pixels are seen as 56 x 98: labels on the grid that the patches span, -1 beyond."""
    image, labels = stripes(50, 90)
    made = References.from_images(backbone, [image], [labels], CLASSES)
    beyond = F.pad(labels[None], (0, 8, 0, 6), value=-1)
    expected = lpprop.prototypes(backbone(image[None]).feats, beyond, classes=3)
    torch.testing.assert_close(torch.cat(made.vectors), expected)
    seen = References.from_images(backbone, [image], [labels], CLASSES, shorter_side=28)
    smaller = F.interpolate(image[None], (28, 50), mode="bilinear", antialias=True).clamp(0, 1)
    feats = backbone(smaller).feats
    by_hand = F.interpolate(labels[None, None].float(), (28, 50), mode="nearest-exact").long()[0]
    expected = lpprop.prototypes(feats, F.pad(by_hand, (0, 6), value=-1), classes=3)
    torch.testing.assert_close(torch.cat(seen.vectors), expected)


def test_sets_are_stored_whole_or_not_at_all(tmp_path, backbone):
    image, labels = stripes()
    made = References.from_images(backbone, [image], [labels], CLASSES)
    file = tmp_path / "set.safetensors"
    made.save(file)
    loaded = References.load(file)
    assert (loaded.names, loaded.made) == (made.names, made.made)
    assert all(map(torch.equal, loaded.vectors, made.vectors))
    whole = file.read_bytes()
    with pytest.raises(InputError, match=r"made: got .*not JSON serializable"):
        References(CLASSES, made.vectors, {"a": {1, 2}}).save(file)
    with pytest.raises(InputError, match=r"^path: got .*, whose folder does not exist"):
        made.save(tmp_path / "none" / "set.safetensors")
    assert file.read_bytes() == whole
    assert list(tmp_path.iterdir()) == [file]
    for damaged in (whole[: len(whole) // 2], b"", whole[:7], b"\x00" * 100):
        file.write_bytes(damaged)
        with pytest.raises(InputError, match=r"references: got .*set.safetensors"):
            References.load(file)
    from safetensors.torch import save_file

    save_file({"0": torch.ones(2, 3)}, file)
    with pytest.raises(InputError, match="another safetensors file"):
        References.load(file)
    with pytest.raises(InputError, match="does not exist"):
        References.load(tmp_path / "none.safetensors")


@pytest.mark.parametrize(
    ("names", "vectors", "message"),
    [
        (["a"], [torch.ones(1, 3)] * 2, "names: got 1 names, 1 of them unlike, expected 2"),
        (["a", "A"], [torch.ones(1, 3)] * 2, "names: got 2 names, 1 of them unlike"),
        (["a; b"], [torch.ones(1, 3)], r"names\[0\]: got 'a; b'"),
        ([" a"], [torch.ones(1, 3)], r"names\[0\]: got ' a'"),
        (["a"], [torch.ones(1, 3).double() * 1e300], r"vectors\[0\]: got 3 NaN or inf"),
        (["a"], [torch.ones(1, 3).double() * 1e-300], r"vectors\[0\]: got zeros"),
        (["a", "b"], [torch.ones(1, 3), torch.ones(2, 4)], r"vectors\[1\]: got shape \(2, 4\)"),
        (["a"], [torch.zeros(1, 3)], r"vectors\[0\]: got zeros as vector 0"),
        (["a"], [torch.full((1, 3), float("nan"))], r"vectors\[0\]: got 3 NaN"),
        (["a"], torch.ones(1, 3), "vectors: got Tensor"),
        ([], [], "names: got 0 names"),
    ],
)
def test_sets_that_are_none(names, vectors, message):
    with pytest.raises(InputError, match=message):
        References(names, vectors)


def test_a_fingerprint_tells_models_and_proposers_apart(vit):
    references = References(CLASSES, [torch.ones(1, 24)] * 3)
    of_model = {
        name: ReferenceBackbone(VisionTransformer(vit, features=name), references)
        for name in ("key", "token")
    }
    few = functools.partial(lpprop.regions.slic, n_segments=9)
    of_regions = [
        ReferenceBackbone(of_model["key"].model, references, regions=regions)
        for regions in ("slic", "felzenszwalb", few)
    ]
    described = [model_fingerprint(one) for one in (*of_model.values(), *of_regions)]
    assert len({json.dumps(one, sort_keys=True) for one in described}) == 5
    again = ReferenceBackbone(VisionTransformer(vit, features="key"), references)
    again.model.register_full_backward_hook(lambda *_: None)  # no setting of the model
    assert model_fingerprint(again) == described[0]
    with pytest.raises(InputError, match=r"regions: got the proposer .*, which asks for scores"):
        ReferenceBackbone(again.model, references, regions=lambda image, scores: image)


def test_a_set_keeps_its_vectors_and_says_how_it_was_made():
    vectors = torch.ones(1, 3)
    made = References(["a"], [vectors])
    vectors.zero_()
    assert bool((made.vectors[0] == 1).all())
    with pytest.raises(InputError, match="made: got list"):
        References(["a"], [torch.ones(1, 3)], [1])
    strange = {
        "backbone": {"class": "EfficientNetLite0", "dtype": "torch.float32", "settings": [1]}
    }
    with pytest.raises(InputError, match="expected references that this model made"):
        References(["a"], [torch.ones(1, 192)], strange).check_backbone(EfficientNetLite0())


@pytest.mark.parametrize(
    ("images", "labels", "options", "message"),
    [
        (2, 1, {}, "labels: got 1 label maps, and more images"),
        (1, 2, {}, "labels: got 1 images, and more label maps"),
        (None, 1, {}, "images: got NoneType, expected a list"),
        (1, 1, {"shorter_side": 0}, "shorter_side: got 0"),
        (1, 1, {"shorter_side": 28, "longer_side": 20}, "longer_side: got 20"),
    ],
)
def test_images_and_labels_that_do_not_go_together(backbone, images, labels, options, message):
    image, label = stripes()
    given = None if images is None else [image] * images
    with pytest.raises(InputError, match=message):
        References.from_images(backbone, given, [label] * labels, CLASSES, **options)


def test_another_model_is_refused(backbone, vit):
    image, labels = stripes()
    made = References.from_images(backbone, [image], [labels], CLASSES)
    made.check_backbone(VisionTransformer(vit, features="token"))  # whatever its attention is
    with pytest.raises(InputError, match="features token, for one of features key"):
        made.check_backbone(VisionTransformer(vit, features="key"))
    with pytest.warns(InputWarning, match=r"position_offset = 0.0 when they were made, and 0.1"):
        made.check_backbone(VisionTransformer(vit, features="token", position_offset=0.1))
    torch.manual_seed(1)
    other = type(vit)(vit.config)
    with pytest.raises(InputError, match=r"of weights .*, for one of weights"):
        made.check_backbone(VisionTransformer(other, features="token"))
    with pytest.warns(InputWarning, match=r"in torch.float32, and a model in torch.bfloat16"):
        made.check_backbone(VisionTransformer(other.bfloat16(), features="token"))
    with pytest.raises(InputError, match="provides attention, expected a backbone that provides f"):
        made.check_backbone(VisionTransformer(vit, features=None, attention="key-key"))


# --------------------------------------------------------------------------- backbone


@pytest.fixture
def made(backbone):
    image, labels = stripes()
    return References.from_images(backbone, [image, image.flip(1)], [labels] * 2, CLASSES)


@pytest.mark.parametrize(
    "options", [{}, {"matching": "rank", "temperature": 0.2, "scores": "cosine"}]
)
def test_patches_are_scored_as_regions_of_one_patch(backbone, made, options):
    images = torch.stack([stripes()[0], stripes()[0].flip(2)])
    options = dict(options)
    seen = ReferenceBackbone(backbone, made, **options)(images, ["blue", "red"])
    assert torch.equal(seen.feats, backbone(images).feats)
    assert torch.equal(seen.attention, backbone(images).attention)
    patches = torch.arange(18).view(1, 3, 6).expand(2, -1, -1)
    sets = [made.vectors[2], made.vectors[0]]
    matching = {name: x for name, x in options.items() if name != "scores"}
    expected = lpprop.classify_regions(seen.feats, patches, sets, **matching)
    expected = expected if options else (50 * expected).softmax(1)
    torch.testing.assert_close(seen.logits, expected, rtol=1e-4, atol=1e-5)
    assert ReferenceBackbone(backbone, made, **options)(images).logits.shape[1] == 3
    if options:  # differences of logarithms: their softmax needs no scale
        del options["scores"]
        soft = ReferenceBackbone(backbone, made, **options)(images, ["blue", "red"])
        torch.testing.assert_close(soft.logits, expected.softmax(1), rtol=1e-4, atol=1e-5)


def test_regions_of_a_proposer_are_scored(backbone, made):
    image, labels = stripes(50, 90)
    asked = []

    def proposer(pixels):
        asked.append(pixels)
        return labels[None].expand(len(pixels), -1, -1)

    found = ReferenceBackbone(backbone, made, regions=proposer, scores="cosine")(image[None])
    assert len(asked) == 1
    assert torch.equal(asked[0], image[None])
    grown = F.pad(labels[None, None].double(), (0, 8, 0, 6), mode="replicate").long()[0]
    scores = lpprop.classify_regions(backbone(image[None]).feats, grown, made.vectors)
    torch.testing.assert_close(found.logits, F.avg_pool2d(scores, 14))

    def masks(pixels):
        return [torch.stack([labels == c for c in range(3)])]

    same = ReferenceBackbone(backbone, made, regions=masks, scores="cosine")(image[None])
    torch.testing.assert_close(same.logits, found.logits)

    def of_another_size(pixels):
        return labels[None].repeat_interleave(2, 1).repeat_interleave(2, 2)

    same = ReferenceBackbone(backbone, made, regions=of_another_size, scores="cosine")(image[None])
    torch.testing.assert_close(same.logits, found.logits)
    with pytest.raises(InputError, match=r"^regions of the proposer <lambda>: got shape"):
        ReferenceBackbone(backbone, made, regions=lambda x: labels)(image.expand(2, -1, -1, -1))
    with pytest.raises(
        InputError, match=r"^regions: got the proposer <lambda>, which asks for scores"
    ):
        ReferenceBackbone(backbone, made, regions=lambda image, scores: labels)


def test_a_record_tells_which_regions_were_scored(backbone, made):
    described = [
        SegmenterPredictor(
            Segmenter(ReferenceBackbone(backbone, made, regions=regions), method="bilinear"),
            ["red"],
        ).fingerprint()["backbone"]
        for regions in (None, "slic", "felzenszwalb")
    ]
    assert described[1] != described[0] != described[2] != described[1]


def test_classes_by_their_names_and_synonyms(backbone, made):
    assert find_sets(["warm = red; orange", "blue; navy"], CLASSES) == [[0], [2]]
    model = ReferenceBackbone(backbone, made, scores="cosine")
    image = stripes()[0][None]
    whole, both = model(image).logits, model(image, ["any = red; green", "blue"])
    torch.testing.assert_close(both.logits[:, 0], whole[:, :2].amax(1))
    assert model.class_names(["any = red; green", "blue"]) == ["any", "blue"]
    with pytest.raises(InputError, match=r"classes\[1\]: got 'bleu'.*Did you mean blue\?"):
        model(image, ["red", "bleu"])


def test_vectors_of_an_unknown_model_must_fit(backbone):
    unknown = References(["a", "b"], [torch.rand(1, 5)] * 2)
    with pytest.raises(InputError, match="references: got vectors of 5 channels, expected 24"):
        ReferenceBackbone(backbone, unknown)(torch.rand(1, 3, 28, 28))


def test_a_segmenter_without_words(backbone, made):
    image, labels = stripes(70, 98)
    model = ReferenceBackbone(backbone, made)
    assert model.provides == ("logits", "feats", "attention")
    scores, names = Segmenter(model, method="bilinear")(image, ["green", "blue", "red"])
    assert names == ["green", "blue", "red"]
    order = torch.tensor([2, 0, 1])
    assert (scores.argmax(1)[0] == order[labels]).float().mean() > 0.8
    background = Segmenter(model, method="bilinear", background=0.4)(image, CLASSES)
    assert background.scores.shape == (1, 4, 70, 98)
    for method, options in (("lposs", {"k": 8}), ("max_velocity", {})):
        refined = Segmenter(model, method=method, **options)(image, CLASSES).scores
        assert refined.shape == (1, 3, 70, 98)
    with pytest.raises(InputError, match=r"score by examples, with lpprop.models.ReferenceBackb"):
        Segmenter(backbone)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"references": {}}, "references: got dict"),
        ({"matching": "best"}, "matching: got 'best'"),
        ({"temperature": 0}, "temperature: got 0"),
        ({"logit_scale": -1}, "logit_scale: got -1"),
        ({"scores": "raw"}, "scores: got 'raw'"),
        ({"regions": "slik"}, "regions: got 'slik', expected 'slic', 'felzenszwalb', a function"),
    ],
)
def test_options_are_checked(backbone, made, change, message):
    with pytest.raises(InputError, match=message):
        ReferenceBackbone(backbone, **{"references": made, **change})


# --------------------------------------------------------------------------- recipe


def test_the_recipe_is_given_its_references(backbone, made, monkeypatch):
    monkeypatch.setattr(VisionTransformer, "from_pretrained", lambda *_, **__: backbone)
    recipe = dataclasses.replace(RECIPES["dinov2-references"], shorter_side=42)
    image = stripes()[0]
    built = recipe.with_method("lposs", k=9).build(references=made)
    by_hand = Segmenter(ReferenceBackbone(backbone, made), method="lposs", k=9, shorter_side=42)
    assert torch.equal(built(image, CLASSES).scores, by_hand(image, CLASSES).scores)
    assert "references    given to build" in str(recipe)
    with pytest.raises(InputError, match="references: got None, expected references, by which"):
        recipe.build()
    other = RECIPES["clip-dinov2"].with_method("max_velocity")
    assert "logit_scale" in other.options
    with pytest.raises(InputError, match=r"recipe.with_references\(\) returns"):
        other.build(references=made)
    changed = other.with_references()
    assert (changed.backbone, changed.affinity, changed.options) == (other.affinity, None, {})
    assert changed.references


# --------------------------------------------------------------------------- command


@pytest.fixture
def labelled(tmp_path):
    """A folder of labelled images, and an image without labels."""
    folder = tmp_path / "labelled"
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    image, labels = stripes(64, 96)
    pixels = (255 * image.movedim(0, -1)).byte().numpy()
    Image.fromarray(pixels).save(folder / "images" / "a.png")
    Image.fromarray(labels.byte().numpy()).save(folder / "labels" / "a.png")
    (folder / "classes.txt").write_text("red; crimson\ngreen\nblue\n")
    Image.fromarray(pixels[:, ::-1]).save(tmp_path / "b.png")
    return folder


def run(*arguments):
    return main(["segment", *map(str, arguments)])


def test_the_command_segments_by_a_folder_and_by_the_set_that_it_leaves(labelled, capsys):
    pytest.importorskip("efficientnet_lite_pytorch", reason="the extra demo is not installed")
    image, out = labelled.parent / "b.png", labelled.parent / "out"
    shared = ["--recipe", "offline", "--side", 64, "--method", "bilinear"]
    assert run(image, "--references", labelled, *shared, "--out", out) == 0
    labels = np.array(Image.open(out / "b_labels.png"))
    truth = np.array(Image.open(labelled / "labels" / "a.png"))[:, ::-1]
    assert (labels == truth).mean() > 0.8
    record = json.loads((out / "b_record.json").read_text())["settings"]
    assert record["classes"] == ["red; crimson", "green", "blue"]
    assert len(record["references"]) == 64

    saved, second = out / "references.safetensors", labelled.parent / "second"
    assert References.load(saved).names == CLASSES
    References.load(saved).check_backbone(EfficientNetLite0())
    order = ["--classes", "blue", "crimson = red", "green"]
    assert run(image, "--references", saved, *order, *shared, "--out", second) == 0
    first, again = np.load(out / "b_scores.npy"), np.load(second / "b_scores.npy")
    np.testing.assert_allclose(again[[1, 2, 0]], first, rtol=1e-4, atol=1e-5)

    # The same again has nothing to do; other labels are another set.
    assert run(image, "--references", labelled, *shared, "--out", out) == 0
    assert "1 skipped" in capsys.readouterr().out
    Image.fromarray(truth.copy()).save(labelled / "labels" / "a.png")
    assert run(image, "--references", labelled, *shared, "--out", out) == 1
    assert "references was" in capsys.readouterr().err
    # Nor is the set replaced for another image without a word.
    before = saved.read_bytes()
    other = image.rename(image.with_name("c.png"))
    assert run(other, "--references", labelled, *shared, "--out", out) == 1
    assert "references.safetensors was made of other images" in capsys.readouterr().err
    assert saved.read_bytes() == before
    assert run(other, "--references", labelled, *shared, "--out", out, "--overwrite") == 0
    assert saved.read_bytes() != before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--classes", "red", "yellow"], "classes[1]: got 'yellow', expected one of red, green"),
        (["--references", "."], "--references: got ., without folders images and labels"),
        (["--references", "none"], "references: got none, which does not exist"),
        (["--references"], "--references: got nothing, expected examples"),
        (["--recipe", "sam3"], "got references for SAM3Concepts, which provides logits"),
        (["--recipe", "clip-sd2"], "for StableDiffusion, which provides attention"),
    ],
)
def test_mistakes_are_found_before_any_model(labelled, capsys, monkeypatch, change, message):
    monkeypatch.chdir(labelled.parent)
    loads = pytest.fail
    monkeypatch.setattr(VisionTransformer, "from_pretrained", lambda *_, **__: loads("loaded"))
    given = {"--references": [labelled], "--recipe": ["dinov2-references"], "--out": ["new"]}
    given |= {change[0]: change[1:]}
    if not given["--references"]:
        given = {"--recipe": given["--recipe"], "--classes": ["red", "blue"], "--out": ["new"]}
    flat = [part for name, values in given.items() for part in (name, *values)]
    assert run("b.png", *flat) == 1
    assert message in capsys.readouterr().err
    assert not (labelled.parent / "new").exists()


def test_the_classes_of_references_are_listed(labelled, capsys):
    assert run("--list-classes", "--references", labelled) == 0
    assert capsys.readouterr().out.splitlines() == ["red; crimson", "green", "blue"]
    assert run("--list-classes", "crimson", "--references", labelled) == 0
    assert capsys.readouterr().out == "red; crimson\n"
    assert run("--list-classes", "pink", "--references", labelled) == 1
    assert "got 'pink', expected a word of the references' classes" in capsys.readouterr().err
    (labelled / "classes.txt").unlink()
    assert run("--list-classes", "--references", labelled) == 1
    assert "classes.txt, which does not exist" in capsys.readouterr().err
