"""Every named recipe from end to end, on tiny random models of the classes that it names."""

import dataclasses

import pytest
import torch

import lpprop
from lpprop.backbones import (
    BACKGROUND_PROMPTS,
    MaskCLIP,
    MaskTIPS,
    SAM3Concepts,
    StableDiffusion,
    VisionTransformer,
)
from lpprop.models import recipes
from lpprop.models.recipes import RECIPES

transformers = pytest.importorskip("transformers")
pytest.importorskip("diffusers")
pytest.importorskip("efficientnet_lite_pytorch", reason="the extra demo is not installed")

import test_metaclip  # noqa: E402
import test_sam3  # noqa: E402
import test_tips  # noqa: E402
from test_clip import tiny_model, tiny_tokenizer  # noqa: E402
from test_stable_diffusion import tiny_unet, tiny_vae  # noqa: E402

CLASSES = [f"background = {'; '.join(BACKGROUND_PROMPTS['coco-object'][:3])}", "cat; dog"]
TINY = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 48,
    "image_size": 224,
}


def clip(checkpoint, *, download, dtype, revision=None, **options):
    if checkpoint == "metaclip2-vitb16":
        tokenizer = test_metaclip.tiny_tokenizer()
        model = test_metaclip.tiny_model(tokenizer, image_size=224, patch_size=16)
        return MaskCLIP(model, tokenizer, **options)
    tokenizer = tiny_tokenizer()
    patch = {"openai-vitb16": 16, "laion-vitb16": 16, "openai-vitl14": 14}[checkpoint]
    return MaskCLIP(tiny_model(tokenizer, image_size=224, patch_size=patch), tokenizer, **options)


def vision(checkpoint, *, download, dtype, revision=None, **options):
    torch.manual_seed(1)
    kind, patch = {
        "dino-vitb16": ("ViT", 16),
        "dino-vitb8": ("ViT", 8),
        "dinov2-vitb14": ("Dinov2", 14),
        "dinov3-vitb16": ("DINOv3ViT", 16),
        "radio-v4-h": ("Radio", 16),
        "siglip2-vitb16": ("SiglipVision", 16),
    }[checkpoint]
    heads = {"num_attention_heads": 2}  # rotary embeddings need sides of a multiple of four
    config = getattr(transformers, f"{kind}Config")(**TINY | heads, patch_size=patch)
    return VisionTransformer(getattr(transformers, f"{kind}Model")(config), **options)


def tips(checkpoint, *, download, dtype, revision=None, **options):
    assert checkpoint == "tipsv2-vitb14"
    tokenizer = test_tips.tiny_tokenizer()
    model = test_tips.tiny_model(tokenizer, image_size=224, patch_size=14)
    return MaskTIPS(model, tokenizer, **options)


def concepts(checkpoint, *, download, dtype, revision=None, **options):
    assert checkpoint == "sam3"
    tokenizer = test_sam3.tiny_tokenizer()
    return SAM3Concepts(test_sam3.tiny_model(tokenizer), tokenizer, **options)


def diffusion(checkpoint, *, download, dtype, revision=None, **options):
    torch.manual_seed(2)
    return StableDiffusion(tiny_vae().eval(), tiny_unet(), torch.randn(1, 5, 12), side=64)


@pytest.fixture
def loaders(monkeypatch):
    for kind, load in (
        (MaskCLIP, clip), (VisionTransformer, vision), (StableDiffusion, diffusion),
        (MaskTIPS, tips), (SAM3Concepts, concepts),
    ):  # fmt: skip
        monkeypatch.setattr(kind, "from_pretrained", load)


@pytest.mark.usefixtures("loaders")
@pytest.mark.parametrize("name", [name for name in RECIPES if not RECIPES[name].references])
def test_a_recipe_from_end_to_end(name):
    # A quarter of the papers' sides: 112 pixels are whole patches of 8, 14 and 16.
    recipe = dataclasses.replace(RECIPES[name], shorter_side=112)
    if recipe.windows is not None:
        recipe = dataclasses.replace(recipe, windows=tuple(x // 2 for x in (224, 112)))
    image = torch.rand(2, 3, 60, 85, generator=torch.Generator().manual_seed(0))
    classes = ["cat", "sofa"] if name == "offline" else CLASSES
    segmenter = recipe.build()
    scores, names = segmenter(image, classes)
    assert scores.shape == (2, 2, 60, 85)
    assert names == ["background", "cat"] or name == "offline"
    assert bool(torch.isfinite(scores).all())
    assert scores.amax() > scores.amin()
    one = segmenter(image[1:], classes).scores
    torch.testing.assert_close(one[0], scores[1], rtol=1e-3, atol=1e-4)


@pytest.mark.usefixtures("loaders")
def test_the_settings_suit_the_affinity():
    for name, expected in {
        "clip-dino": (400, 3.0, 16),
        "clip-dino8": (800, 3.0, 8),
        "clip-dinov2": (400, 7.0, 14),
    }.items():
        step = RECIPES[name].build().method.steps[0]
        assert (step.k, step.gamma, step.patch_size) == expected
        assert isinstance(step, lpprop.PatchPropagation)


@pytest.mark.usefixtures("loaders")
def test_clip_dino_by_hand():
    """The protocol of LPOSS step by step: windows, cosines per prompt, one graph, then classes."""
    recipe = dataclasses.replace(RECIPES["clip-dino"], shorter_side=112, windows=(112, 56))
    image = torch.rand(1, 3, 112, 150, generator=torch.Generator().manual_seed(0))
    scores = recipe.build()(image, CLASSES).scores
    windows = lpprop.SlidingWindows((112, 150), 112, 56)
    crops = windows.split(image)
    model = clip("laion-vitb16", download=True, dtype=None, scores="cosine", merge=False)
    logits = model(crops, CLASSES).logits
    assert logits.shape == (2, 5, 7, 7)  # sky, wall, tree, cat, dog
    dino = vision("dino-vitb16", download=True, dtype=None, position_offset=0.1)
    feats = dino(crops).feats
    refined = lpprop.refine(logits, feats, image, windows=windows)
    expected = lpprop.merge_classes(refined, [[0, 1, 2], [3, 4]])
    torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-5)


def test_a_kind_chooses_the_class(monkeypatch):
    """Without a checkpoint the class takes its own default; the other arguments are passed on."""
    asked = []

    def load(*checkpoint, **options):
        asked.append((*checkpoint, options))

    monkeypatch.setattr(StableDiffusion, "from_pretrained", load)
    recipes.Model("StableDiffusion", options={"side": 64}).load()
    pinned = recipes.Model("StableDiffusion", "a/b", revision="0a1b")
    pinned.load(download=False, dtype=torch.bfloat16)
    assert asked == [
        ({"download": True, "dtype": None, "side": 64},),
        ("a/b", {"download": False, "revision": "0a1b", "dtype": torch.bfloat16}),
    ]
    with pytest.raises(lpprop.InputError, match="kind: got 'Mine', expected one of 'EfficientNet"):
        recipes.Model("Mine", "a/b").load()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_offline_recipe_in_half_precision(dtype):
    image = torch.rand(1, 3, 60, 85, generator=torch.Generator().manual_seed(0))
    recipe = dataclasses.replace(RECIPES["offline"], shorter_side=64)
    segmenter = recipe.build(dtype=dtype)
    assert segmenter.backbone.dtype == dtype
    scores = segmenter(image, ["cat", "sofa"]).scores
    expected = recipe.build()(image, ["cat", "sofa"]).scores
    torch.testing.assert_close(scores, expected, rtol=0, atol=0.1 * float(expected.amax()))


def test_models_that_are_loaded_are_tied_as_by_build():
    recipe = dataclasses.replace(RECIPES["offline"], shorter_side=64)
    backbone, affinity = recipe.load()
    assert affinity is None
    tied = recipe.tie(backbone, affinity)
    assert tied.backbone is tied.affinity is backbone
    assert repr(tied) == repr(recipe.build())


def test_another_method_of_the_same_models():
    recipe = RECIPES["clip-sd2"]
    assert recipe.with_method("max_velocity") == recipe
    assert recipe.with_method("max_velocity", tau=0.5).options == {"logit_scale": 100.0, "tau": 0.5}
    with pytest.raises(lpprop.InputError, match="tauu"):
        recipe.with_method("max_velocity", tauu=0.5)
    assert recipe.shorter_side == 512
