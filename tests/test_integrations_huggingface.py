"""Outputs of tiny random models of transformers, refined, against `lpprop.refine` by hand."""

import dataclasses
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import lpprop
from lpprop import InputError, SlidingWindows
from lpprop.integrations import on_grid
from lpprop.integrations.huggingface import hidden_features, refine_outputs

OPTIONS = {"method": "lposs", "k": 20, "patch_size": 16}


@dataclasses.dataclass
class Outputs:
    """The fields that decide what outputs are."""

    logits: object = None
    class_queries_logits: object = None
    masks_queries_logits: object = None
    hidden_states: object = None


def random(seed, *shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def photos(*size, count=2):
    """Smooth images, so that patches differ."""
    return F.interpolate(random(0, count, 3, 5, 6), size, mode="bilinear")


def by_hand(logits, feats, image, **options):
    coarse = F.interpolate(logits, feats.shape[2:], mode="bilinear", antialias=True)
    return lpprop.refine(coarse, feats, image, **(OPTIONS | options))


# ------------------------------------------------------------------------ models


@pytest.fixture(scope="module")
def transformers():
    return pytest.importorskip("transformers", reason="the extra models is not installed")


@pytest.fixture(scope="module")
def segformer(transformers):
    torch.manual_seed(0)
    config = transformers.SegformerConfig(
        depths=[1] * 4, hidden_sizes=[8, 8, 16, 16], num_attention_heads=[1, 1, 2, 2],
        decoder_hidden_size=16, num_labels=5,
    )  # fmt: skip
    return transformers.SegformerForSemanticSegmentation(config).eval()


@pytest.fixture(scope="module")
def clipseg(transformers):
    torch.manual_seed(0)
    common = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}
    text = {"num_hidden_layers": 1, "vocab_size": 64, "max_position_embeddings": 8}
    vision = {"num_hidden_layers": 3, "image_size": 64, "patch_size": 16}
    config = transformers.CLIPSegConfig(
        text_config=common | text | {"bos_token_id": 62, "eos_token_id": 63},
        vision_config=common | vision, projection_dim=16, reduce_dim=8, extract_layers=[0, 1, 2],
        decoder_num_attention_heads=2, decoder_intermediate_size=16,
    )  # fmt: skip
    return transformers.CLIPSegForImageSegmentation(config).eval()


def tokens(*words):
    return torch.tensor([[62, word, 63] for word in words])


def outputs_of(model, pixel_values):
    with torch.no_grad():
        return model(pixel_values=pixel_values)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_segformer(segformer, transformers, dtype):
    processor = transformers.SegformerImageProcessorPil()
    images = photos(64, 96)
    mean, std = (
        torch.tensor(x)[:, None, None] for x in (processor.image_mean, processor.image_std)
    )
    pixel_values = ((images - mean) / std).to(dtype)
    with torch.no_grad():
        outputs = segformer.to(dtype)(pixel_values, output_hidden_states=True)
    segformer.float()
    feats = random(1, 2, 16, 4, 6).to(dtype)
    refined = refine_outputs(
        outputs, pixel_values, feats, mean=processor.image_mean, std=processor.image_std, **OPTIONS
    )
    assert type(refined) is type(outputs)
    assert refined.logits.dtype == dtype
    assert refined.hidden_states is outputs.hidden_states
    assert outputs.logits.shape == (2, 5, 16, 24)
    tolerance = (
        {"rtol": 1e-4, "atol": 1e-4} if dtype == torch.float32 else {"rtol": 0.1, "atol": 0.1}
    )
    coarse = F.interpolate(outputs.logits.float(), (4, 6), mode="bilinear", antialias=True)
    expected = lpprop.refine(coarse, feats.float(), images, **OPTIONS)
    torch.testing.assert_close(refined.logits.float(), expected, **tolerance)
    maps = processor.post_process_semantic_segmentation(refined, target_sizes=[(64, 96), (32, 48)])
    assert torch.equal(maps[0], refined.logits[0].argmax(0))
    assert maps[1].shape == (32, 48)


def test_labels_improve(transformers):
    """Two halves of different colours, and logits that are noisy on top of them."""
    truth = torch.arange(64).expand(64, 64) // 32
    image = torch.stack([truth.float(), 0.2 * torch.ones(64, 64), 1.0 - truth])[None]
    coarse = F.one_hot(truth[::8, ::8]).permute(2, 0, 1)[None] + 6 * random(3, 1, 2, 8, 8)
    outputs = transformers.modeling_outputs.SemanticSegmenterOutput(logits=coarse)
    feats = F.avg_pool2d(image, 8) - 0.5
    refined = refine_outputs(outputs, image, feats, method="lposs", patch_size=8, k=20)
    processor = transformers.SegformerImageProcessorPil()
    before, after = (
        (processor.post_process_semantic_segmentation(x, [(64, 64)])[0] == truth).float().mean()
        for x in (outputs, refined)
    )
    assert after > 0.97 > 0.9 > before


@pytest.mark.parametrize("prompts", [None, 3])
def test_clipseg(clipseg, prompts):
    images = photos(64, 64)[: 1 if prompts is None else 2]
    repeated = images.repeat_interleave(3, 0)
    ids = tokens(1, 2, 3).repeat(len(images), 1)
    with torch.no_grad():
        outputs = clipseg(input_ids=ids, pixel_values=repeated)
    assert outputs.logits.shape == (3 * len(images), 64, 64)
    feats = random(2, len(images), 16, 4, 4)
    refined = refine_outputs(outputs, images, feats, prompts=prompts, size=(50, 70), **OPTIONS)
    assert type(refined) is type(outputs)
    assert refined.logits.shape == (3 * len(images), 50, 70)
    for number, image in enumerate(images):
        part = slice(3 * number, 3 * number + 3)
        expected = by_hand(
            outputs.logits[None, part], feats[number, None], image[None], size=(50, 70)
        )
        torch.testing.assert_close(refined.logits[part], expected[0], rtol=1e-4, atol=1e-4)
    # What is repeated for every prompt is taken once.
    again = refine_outputs(
        outputs, repeated, feats.repeat_interleave(3, 0), prompts=prompts, size=(50, 70), **OPTIONS
    )
    torch.testing.assert_close(again.logits, refined.logits)


def test_a_single_prompt(clipseg):
    images, feats = photos(64, 64, count=1), random(2, 1, 16, 4, 4)
    with torch.no_grad():
        outputs = clipseg(input_ids=tokens(1), pixel_values=images)
    with pytest.warns(lpprop.InputWarning, match="a single class"):
        one = refine_outputs(outputs, images, feats, **OPTIONS).logits
    assert one.shape == (1, 64, 64)
    flat = dataclasses.replace(outputs, logits=outputs.logits[0])  # as older versions return it
    with pytest.warns(lpprop.InputWarning, match="a single class"):
        assert torch.equal(refine_outputs(flat, images, feats, **OPTIONS).logits, one[0])


def test_clipsegs_own_hidden_states(clipseg):
    images = photos(64, 64, count=1)
    with torch.no_grad():
        outputs = clipseg(
            input_ids=tokens(1, 2, 3), pixel_values=images.repeat(3, 1, 1, 1),
            output_hidden_states=True,
        )  # fmt: skip
        own = clipseg.clip.vision_model(images, output_hidden_states=True).hidden_states
    feats = hidden_features(outputs)
    assert feats.shape == (3, 16, 4, 4)
    torch.testing.assert_close(feats[:1].flatten(2), own[-1][:, 1:].mT)
    torch.testing.assert_close(hidden_features(outputs, 1, grid=(2, 8))[0, :, 1, 3], own[1][0, 12])
    refined = refine_outputs(outputs, images, feats, **OPTIONS)
    expected = by_hand(outputs.logits[None], feats[:1], images)
    torch.testing.assert_close(refined.logits, expected[0], rtol=1e-4, atol=1e-4)


def test_segformers_own_hidden_states(segformer):
    with torch.no_grad():
        outputs = segformer(photos(64, 96), output_hidden_states=True)
    assert hidden_features(outputs, 1) is outputs.hidden_states[1]
    refined = refine_outputs(outputs, photos(64, 96), hidden_features(outputs, -2), **OPTIONS)
    expected = by_hand(outputs.logits, outputs.hidden_states[2], photos(64, 96))
    torch.testing.assert_close(refined.logits, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["BEiT", "DPT", "MobileViT", "UperNet"])
def test_other_semantic_models(transformers, name):
    torch.manual_seed(0)
    vit = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2,
           "intermediate_size": 32, "image_size": 64, "patch_size": 16,
           "num_labels": 5}  # fmt: skip
    if name == "BEiT":
        config = transformers.BeitConfig(**vit, vocab_size=8, out_indices=[1, 2, 3, 4],
                                         use_auxiliary_head=False, pool_scales=[1, 2])  # fmt: skip
        model = transformers.BeitForSemanticSegmentation(config)
    elif name == "DPT":
        config = transformers.DPTConfig(**vit, is_hybrid=False, backbone_out_indices=[0, 1, 2, 3],
                                        neck_hidden_sizes=[8, 8, 16, 16], fusion_hidden_size=8,
                                        use_auxiliary_head=False)  # fmt: skip
        model = transformers.DPTForSemanticSegmentation(config)
    elif name == "MobileViT":
        config = transformers.MobileViTConfig(hidden_sizes=[8, 8, 8], num_attention_heads=2,
                                              neck_hidden_sizes=[8] * 7, image_size=64,
                                              aspp_out_channels=8, num_labels=5)  # fmt: skip
        model = transformers.MobileViTForSemanticSegmentation(config)
    else:
        backbone = transformers.ConvNextConfig(
            hidden_sizes=[8] * 4, depths=[1] * 4, out_features=[f"stage{i}" for i in (1, 2, 3, 4)]
        )
        config = transformers.UperNetConfig(
            backbone_config=backbone, hidden_size=8, num_labels=5, pool_scales=[1, 2],
            use_auxiliary_head=False,
        )  # fmt: skip
        model = transformers.UperNetForSemanticSegmentation(config)
    images, feats = photos(64, 64), random(1, 2, 16, 4, 4)
    outputs = outputs_of(model.eval(), images)
    refined = refine_outputs(outputs, images, feats, **OPTIONS)
    expected = by_hand(outputs.logits, feats, images)
    assert type(refined) is type(outputs)
    torch.testing.assert_close(refined.logits, expected, rtol=1e-4, atol=1e-4)
    assert refined.logits.shape == (2, 5, 64, 64)


@pytest.fixture(scope="module")
def universal(transformers):
    masks, classes = 4 * random(4, 2, 7, 16, 16) - 2, 3 * random(5, 2, 7, 6)
    return (
        transformers.models.maskformer.modeling_maskformer.MaskFormerForInstanceSegmentationOutput(
            class_queries_logits=classes, masks_queries_logits=masks
        )
    )


def test_universal_models(universal, transformers):
    """Of the class that MaskFormer returns, through MaskFormer's own processor."""
    processor = transformers.MaskFormerImageProcessorPil()
    images, feats = photos(64, 64), random(1, 2, 16, 4, 4)
    refined = refine_outputs(universal, images, feats, **OPTIONS)
    assert type(refined) is type(universal)
    share = universal.class_queries_logits.softmax(-1)[..., :-1]
    semantic = torch.einsum("bqc,bqhw->bchw", share, universal.masks_queries_logits.sigmoid())
    expected = by_hand(semantic, feats, images)
    assert refined.masks_queries_logits.shape == (2, 5, 64, 64)
    maps = processor.post_process_semantic_segmentation(refined)
    assert torch.equal(torch.stack(maps), expected.argmax(1))
    low, high = expected.amin((1, 2, 3), True), expected.amax((1, 2, 3), True)
    torch.testing.assert_close(
        refined.masks_queries_logits.sigmoid(), (expected - low) / (high - low)
    )
    # With nothing to refine, the labels are those of the untouched outputs.
    same = refine_outputs(universal, images, method=lambda logits, **_: logits, size=(16, 16))
    before, after = (
        torch.stack(processor.post_process_semantic_segmentation(x)) for x in (universal, same)
    )
    assert torch.equal(before, after)


# ------------------------------------------------------------------------ images


@pytest.mark.parametrize("form", ["uint8", "HWC", "array", "PIL list", "tensor list", "pixels"])
def test_images_in_any_form(form):
    exact = (255 * photos(64, 96)).round()
    hwc = exact.byte().permute(0, 2, 3, 1).numpy()
    options = {}
    if form == "uint8":
        images = exact.byte()
    elif form == "HWC":
        images = torch.from_numpy(hwc)
    elif form == "array":
        images = (hwc / 255).astype(np.float32)
    elif form == "PIL list":
        images = [Image.fromarray(one) for one in hwc]
    elif form == "tensor list":
        images = list(exact.byte())
    else:
        options = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]}
        mean, std = (torch.tensor(x)[:, None, None] for x in options.values())
        images = ((exact / 255 - mean) / std).numpy()
    outputs, feats = Outputs(logits=random(1, 2, 5, 8, 12)), random(2, 2, 16, 4, 6)
    got = refine_outputs(outputs, images, feats, k=20, r=5, **options).logits
    coarse = F.interpolate(outputs.logits, (4, 6), mode="bilinear", antialias=True)
    expected = lpprop.refine(coarse, feats, exact / 255, k=20, r=5)
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-3)


def test_a_single_pil_image():
    image = Image.fromarray((255 * photos(64, 96, count=1)[0]).byte().permute(1, 2, 0).numpy())
    outputs = Outputs(logits=random(1, 1, 5, 4, 6))
    assert refine_outputs(outputs, image, random(2, 16, 4, 6), k=20, r=5).logits.shape == (
        1, 5, 64, 96)  # fmt: skip


@pytest.mark.parametrize("prompts", [None, 3])
def test_windows_of_one_image(prompts):
    windows = SlidingWindows((64, 96), window=64, stride=32)
    image, feats = photos(64, 96, count=1), random(1, 2, 16, 4, 4)
    logits = random(2, 2, 3, 8, 8)
    given = logits if prompts is None else logits.flatten(0, 1)
    got = refine_outputs(
        Outputs(logits=given), image, feats, windows=windows, prompts=prompts, **OPTIONS
    ).logits
    expected = by_hand(logits, feats, image, windows=windows)
    assert torch.equal(got, expected if prompts is None else expected[0])


def test_coarse_logits_are_left_to_the_chain():
    """Only what is finer than the feats is averaged here; upsampling is `refine`'s own."""
    logits, feats, image = random(1, 2, 5, 2, 3), random(2, 2, 16, 4, 6), photos(64, 96)
    got = refine_outputs(Outputs(logits=logits), image, feats, **OPTIONS).logits
    assert torch.equal(got, lpprop.refine(logits, feats, image, **OPTIONS))


def test_attention_in_place_of_feats():
    attention = random(3, 2, 24, 24).softmax(-1)
    outputs, image = Outputs(logits=random(1, 2, 5, 4, 6)), photos(64, 96)
    got = refine_outputs(outputs, image, method="max_velocity", attention=attention).logits
    expected = lpprop.refine(
        outputs.logits, image=image, method="max_velocity", attention=attention
    )
    assert torch.equal(got, expected)


# ------------------------------------------------------------------------ errors

LOGITS, MAPS, MASKS = random(1, 2, 5, 4, 4), random(1, 6, 8, 8), random(0, 2, 7, 4, 4)
FEATS, IMAGES = random(2, 2, 16, 4, 4), random(3, 2, 3, 64, 64)


@pytest.mark.parametrize(
    ("outputs", "images", "options", "message"),
    [
        ((LOGITS,), IMAGES, {}, "outputs: got tuple, expected the outputs of a segmentation"),
        (SimpleNamespace(logits=LOGITS), IMAGES, {}, "outputs: got SimpleNamespace"),
        (Outputs, IMAGES, {}, "outputs: got type"),
        (Outputs(), IMAGES, {}, "outputs.logits: got None, expected (B, C, h, w)"),
        (Outputs(logits=LOGITS[0, 0, 0]), IMAGES, {}, "outputs.logits: got shape (4,)"),
        (Outputs(logits=LOGITS), IMAGES, {"prompts": 5}, "prompts: got 5, with logits of shape"),
        (Outputs(logits=MAPS), IMAGES, {"prompts": 4}, "prompts: got 4, expected a divisor of 6"),
        (Outputs(logits=MAPS), IMAGES, {"prompts": 0}, "prompts: got 0, expected an integer >= 1"),
        (Outputs(logits=MAPS[:0]), IMAGES, {}, "prompts: got 0, expected a divisor of 0"),
        (Outputs(logits=MAPS), IMAGES, {}, "images: got 2, expected 1, for (1, 6, 8, 8) logits. "
         "Pass prompts=3 if each"),
        (Outputs(logits=MAPS), random(4, 6, 3, 64, 64), {}, "images: got 6 different ones"),
        (Outputs(logits=LOGITS), IMAGES[:1], {}, "images: got 1, expected 2, for (2, 5, 4, 4)"),
        (Outputs(logits=LOGITS), [], {}, "images: got an empty list"),
        (Outputs(logits=LOGITS), [IMAGES[0], IMAGES[1, :, 1:]], {}, "got sizes 63 x 64, 64 x 64"),
        (Outputs(logits=LOGITS), "cat.jpg", {}, "image: got str"),
        (Outputs(logits=LOGITS), IMAGES, {"mean": [0.5] * 3}, "std: got None, expected both"),
        (Outputs(logits=LOGITS), IMAGES, {"std": [0.5] * 3}, "mean: got None, expected both"),
        (Outputs(logits=LOGITS), IMAGES, {"mean": [0.5], "std": [1] * 3}, "mean: got [0.5]"),
        (Outputs(logits=LOGITS), IMAGES, {"mean": [0.5] * 3, "std": [0.5, 0.5, 0]},
         "std: got [0.5, 0.5, 0.0], expected three numbers above 0"),
        (Outputs(logits=LOGITS), IMAGES, {"mean": [0.5] * 3, "std": [math.nan] * 3},
         "std: got [nan, nan, nan], expected three finite numbers"),
        (Outputs(logits=LOGITS), IMAGES, {"mean": [math.inf] * 3, "std": [1] * 3}, "mean: got"),
        (Outputs(logits=LOGITS), IMAGES, {"mean": "imagenet", "std": [1] * 3}, "mean: got 'image"),
        (Outputs(logits=LOGITS), IMAGES, {"mean": [0.5] * 3, "std": [1] * 3},
         "images: got values that mean and std bring to 0.5"),
        (Outputs(logits=LOGITS), 3 * IMAGES, {}, "image: got values from"),
        (Outputs(logits=LOGITS), IMAGES, {"feats": FEATS[:1]}, "feats: got 1, expected 2"),
        (Outputs(logits=LOGITS), IMAGES, {"feats": None}, "feats: got None"),
        (Outputs(logits=LOGITS), IMAGES, {"feats": FEATS[0, 0]}, "feats: got shape (4, 4)"),
        (Outputs(logits=LOGITS), IMAGES, {"method": "lpos"}, "method"),
        (Outputs(logits=LOGITS), IMAGES, {"windows": SlidingWindows((64, 64))},
         "images: got 2, expected 1, for the windows of one image"),
        (Outputs(logits=LOGITS), IMAGES[:1], {"windows": SlidingWindows((64, 64), 64, 64)},
         "logits: got 2 items, expected 1, one per window"),
        (Outputs(class_queries_logits=random(0, 2, 7, 1), masks_queries_logits=MASKS),
         IMAGES, {}, "class_queries_logits: got 1 class"),
        (Outputs(class_queries_logits=random(0, 2, 6, 5), masks_queries_logits=MASKS),
         IMAGES, {}, "class_queries_logits: got shape (2, 6, 5), expected (B=2, Q=7, C+1)"),
    ],
)  # fmt: skip
def test_unusable_arguments_are_refused(outputs, images, options, message):
    options = {"feats": FEATS, "method": "lposs"} | options
    with pytest.raises(InputError) as refused:
        refine_outputs(outputs, images, **options)
    assert message in str(refused.value)


STATES = (random(0, 2, 17, 8), None, random(0, 2, 21, 8))


@pytest.mark.parametrize(
    ("outputs", "options", "message"),
    [
        (Outputs(), {}, "outputs: got a Outputs without hidden states"),
        (
            Outputs(hidden_states=STATES),
            {"layer": 3},
            "layer: got 3, expected one of [0, 2], or -1",
        ),
        (Outputs(hidden_states=STATES), {"layer": 1}, "layer: got 1"),
        (Outputs(hidden_states=STATES), {"layer": "last"}, "layer: got 'last'"),
        (Outputs(hidden_states=STATES), {"layer": False}, "layer: got False"),
        (Outputs(hidden_states=STATES), {"layer": 0.0}, "layer: got 0.0"),
        (Outputs(hidden_states=STATES), {}, "grid: got None, expected (h, w) of the patches among"),
        (Outputs(hidden_states=STATES), {"grid": (5, 5)}, "grid: got (5, 5)"),
        (Outputs(hidden_states=STATES), {"grid": (5,)}, "grid: got (5,), expected a pair"),
    ],
)
def test_missing_hidden_states_are_refused(outputs, options, message):
    with pytest.raises(InputError) as refused:
        hidden_features(outputs, **options)
    assert message in str(refused.value)


def test_registers_are_left_out():
    outputs = Outputs(hidden_states=STATES)
    for layer in (0, np.int64(0), np.uint8(0)):
        found = hidden_features(outputs, layer)
        assert torch.equal(found, STATES[0][:, 1:].mT.unflatten(2, (4, 4)))
    assert torch.equal(
        hidden_features(outputs, grid=(2, 8)), STATES[2][:, 5:].mT.unflatten(2, (2, 8))
    )


# ------------------------------------------------------------------------ the grid of the feats


def test_scores_on_a_grid_are_those_of_pillow():
    """Pillow widens the bilinear filter by the ratio, in single precision."""
    logits = random(0, 2, 3, 17, 23)
    found = on_grid(logits, (5, 7))
    for plane, expected in zip(logits.flatten(0, 1), found.flatten(0, 1), strict=True):
        image = Image.fromarray(plane.numpy()).resize((7, 5), Image.Resampling.BILINEAR)
        np.testing.assert_allclose(np.asarray(image), expected, atol=1e-6)
    assert on_grid(logits, (17, 30)) is logits
    assert torch.equal(on_grid(logits, np.array([5, 7])), found)


@pytest.mark.parametrize(
    ("logits", "grid", "message"),
    [
        (LOGITS[0], (2, 2), "logits: got shape (5, 4, 4)"),
        (LOGITS.numpy(), (2, 2), "logits: got ndarray"),
        (LOGITS, 2, "grid: got 2, expected a pair"),
        (LOGITS, (2, 0), "grid[1]: got 0, expected an integer >= 1"),
        (LOGITS / 0, (2, 2), "logits: got 160 NaN or infinite of 160 values"),
    ],
)
def test_bad_grids_are_refused(logits, grid, message):
    with pytest.raises(InputError) as refused:
        on_grid(logits, grid)
    assert message in str(refused.value)
