"""VisionTransformer against the models' own modules, called one by one, on tiny random models."""

import copy
import json
import pickle
import re
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lpprop._core.errors import InputError
from lpprop.backbones import vision_transformer
from lpprop.backbones.vision_transformer import CHECKPOINTS, VisionTransformer
from lpprop.compose.presets import FEATS_FROM

transformers = pytest.importorskip("transformers")

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TINY = {
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "intermediate_size": 40,
    "image_size": 32,
    "patch_size": 8,
}
# Each class with the number of its tokens that are no patches, and what its config needs besides.
KINDS = {
    "ViT": (1, {}),
    "DeiT": (2, {}),
    "Dinov2": (1, {"mlp_ratio": 2}),
    "Dinov2WithRegisters": (4, {"mlp_ratio": 2, "num_register_tokens": 3}),
    "DINOv3ViT": (3, {"num_register_tokens": 2, "num_attention_heads": 2}),
    "Beit": (1, {}),
    "IJepa": (0, {}),
    "ViTMSN": (1, {}),
    "CLIPVision": (1, {}),
    "SiglipVision": (0, {}),
    "MetaClip2Vision": (1, {}),
    "Siglip2Vision": (0, {"num_patches": 16}),
    "Tipsv2Vision": (2, {"mlp_ratio": 2, "num_register_tokens": 1}),
    "Radio": (5, {"mlp_ratio": 2.0, "max_img_size": 64, "num_cls_tokens": 2, "num_registers": 3}),
}
# Those whose weights were trained on other colours than ImageNet's.
UTILS = transformers.image_utils
CLIP = UTILS.OPENAI_CLIP_MEAN, UTILS.OPENAI_CLIP_STD
COLOURS = {
    "CLIPVision": CLIP,
    "MetaClip2Vision": CLIP,
    "SiglipVision": (UTILS.IMAGENET_STANDARD_MEAN, UTILS.IMAGENET_STANDARD_STD),
    "Siglip2Vision": (UTILS.IMAGENET_STANDARD_MEAN, UTILS.IMAGENET_STANDARD_STD),
    "Tipsv2Vision": ((0, 0, 0), (1, 1, 1)),
    "Radio": CLIP,
}
every_kind = pytest.mark.parametrize("kind", KINDS)
two_kinds = pytest.mark.parametrize("kind", ["ViT", "Dinov2"])


def tiny(kind, seed=0, **options):
    """A random model whose attention is far from uniform."""
    config = getattr(transformers, f"{kind}Config")(
        **(TINY | KINDS.get(kind, (0, {}))[1] | options)
    )
    torch.manual_seed(seed)
    model = getattr(transformers, f"{kind}Model")(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.25 * torch.randn_like(parameter))
    return model


def images(count=2, size=(40, 24), seed=1):
    return torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(seed))


def normalised(image, mean=MEAN, std=STD):
    return (image - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]


@torch.no_grad()
def outputs(model, image, attn="sdpa", **options):
    """What the model itself says about images."""
    model, kind = copy.deepcopy(model), type(model).__name__.removesuffix("Model")
    model.set_attn_implementation(attn)
    if kind == "Radio":  # it normalises images itself
        return model(image, **options)
    pixels = normalised(image, *COLOURS.get(kind, (MEAN, STD)))
    if kind == "Siglip2Vision":
        cut = transformers.models.siglip2.image_processing_pil_siglip2.convert_image_to_patches
        patches = torch.from_numpy(np.stack([cut(one.numpy(), 8) for one in pixels]))
        grids = torch.tensor([[side // 8 for side in image.shape[-2:]]] * len(image))
        return model(patches, torch.ones(patches.shape[:2]), grids, **options)
    if kind not in ("Dinov2", "Dinov2WithRegisters", "DINOv3ViT", "Tipsv2Vision"):
        options["interpolate_pos_encoding"] = True
    return model(pixels, **options)


def own_attention(model, image, blocks, prefix):
    """The model's eager attention: heads averaged, patches alone, rows that sum to 1."""
    maps = outputs(model, image, "eager", output_attentions=True).attentions
    kept = [maps[block].mean(1)[:, prefix:, prefix:] for block in blocks]
    return sum(rows / rows.sum(-1, keepdim=True) for rows in kept) / len(kept)


@torch.no_grad()
def by_hand(model, image, block, name):
    """(B, T, D) queries, keys or values of a block, from its norm and its projection."""
    x = outputs(model, image, output_hidden_states=True).hidden_states[block]
    if model.config.model_type == "vit":
        layer = model.layers[block]
        x = layer.layernorm_before(x)
    else:
        layer = model.encoder.layer[block]
        x = layer.norm1(x)
    projection = getattr(layer.attention, {"query": "q_proj", "key": "k_proj"}.get(name, "v_proj"))
    return x @ projection.weight.T + projection.bias


@every_kind
def test_attention_is_the_models_own(kind):
    model, image = tiny(kind), images()
    prefix = KINDS[kind][0]
    for blocks, numbers in (((-1,), [2]), ((0, -2), [0, 1]), ("all", [0, 1, 2])):
        expected = own_attention(model, image, numbers, prefix)
        grid, logits, feats, attention = VisionTransformer(
            model, features=None, attention="query-key", blocks=blocks
        )(image)
        assert (grid, logits, feats) == ((5, 3), None, None)
        torch.testing.assert_close(attention, expected, atol=2e-6, rtol=1e-5)
        torch.testing.assert_close(attention.sum(-1), torch.ones(2, 15))
    # Far from uniform, and the blocks differ, so that none of this holds by chance.
    assert expected.max() > 0.2
    assert (own_attention(model, image, [0], prefix) - expected).abs().max() > 0.01


@two_kinds
@pytest.mark.parametrize("attention", ["query-query", "key-key"])
def test_attention_of_queries_or_keys_alone_by_hand(kind, attention):
    model, image = tiny(kind), images()
    expected = torch.zeros(2, 15, 15)
    for block in (0, 2):
        x = by_hand(model, image, block, attention.split("-")[0]).unflatten(2, (3, 8))
        for item in range(2):
            heads = [(x[item, :, h] @ x[item, :, h].T / 8**0.5).softmax(-1) for h in range(3)]
            rows = sum(heads)[1:, 1:]
            expected[item] += rows / rows.sum(-1, keepdim=True) / 2
    found = VisionTransformer(model, attention=attention, blocks=(0, 2))(image).attention
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=1e-5)


@two_kinds
@pytest.mark.parametrize("features", ["value", "key", "query"])
def test_features_by_hand(kind, features):
    model, image = tiny(kind), images()
    expected = by_hand(model, image, 2, features)[:, 1:].mT.reshape(2, 24, 5, 3)
    grid, logits, feats, attention = VisionTransformer(model, features=features)(image)
    assert (grid, logits, attention) == ((5, 3), None, None)
    torch.testing.assert_close(feats, expected, atol=2e-5, rtol=1e-5)


@every_kind
def test_tokens_are_the_last_hidden_state(kind):
    model, image = tiny(kind), images()
    tokens = outputs(model, image).last_hidden_state[:, KINDS[kind][0] :]
    feats = VisionTransformer(model, features="token")(image).feats
    torch.testing.assert_close(feats, tokens.mT.reshape(2, -1, 5, 3), atol=2e-5, rtol=1e-5)


@every_kind
def test_values_carry_the_attention_of_the_last_block(kind):
    """The last block's mixture, from the values and the attention that it is given out with."""
    model, image, mixed = tiny(kind, num_attention_heads=1), images(), []
    for module in model.modules():
        if hasattr(module, "o_proj") or hasattr(module, "out_proj"):
            out = getattr(module, "o_proj", None) or module.out_proj
            out.register_forward_pre_hook(lambda _, given: mixed.append(given[0]))
    prefix = KINDS[kind][0]
    feats = VisionTransformer(model)(image).feats
    weights = outputs(model, image, "eager", output_attentions=True).attentions[-1][:, 0]
    rest = mixed[2] - weights[..., prefix:] @ feats.flatten(2).mT
    # What is left is the share of the tokens that are no patches: none, or of their number's rank.
    scale = mixed[2].abs().max()
    assert all((torch.linalg.svdvals(item)[prefix:] < 1e-4 * scale).all() for item in rest)


def test_rotary_positions_are_in_the_keys():
    """DINOv3's keys as it attends with them: the same patch everywhere, and keys that differ."""
    model = tiny("DINOv3ViT", num_hidden_layers=1)
    image = images(1, (8, 8)).repeat(1, 1, 4, 4)
    keys, values = (VisionTransformer(model, features=f)(image).feats for f in ("key", "value"))
    assert values.flatten(2).std(-1).max() < 1e-4
    assert keys.flatten(2).std(-1).max() > 0.1


@every_kind
def test_images_are_padded_with_the_mean_colour(kind):
    backbone = VisionTransformer(tiny(kind), attention="query-key")
    image = images(2, (37, 50))
    mean, _ = COLOURS.get(kind, (MEAN, STD))
    padded = torch.tensor(mean, dtype=torch.float)[:, None, None].repeat(2, 1, 40, 56)
    padded[..., :37, :50] = image
    found, expected = backbone(image), backbone(padded)
    assert found.grid == expected.grid == (5, 7)
    assert backbone.span((37, 50)) == (40, 56)
    torch.testing.assert_close(found.feats, expected.feats, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found.attention, expected.attention, atol=1e-5, rtol=1e-4)


@two_kinds
@pytest.mark.parametrize("size", [(32, 32), (16, 64), (40, 24), (8, 8), (72, 32)])
@pytest.mark.parametrize("offset", [0.0, 0.1, 0.5])
def test_position_embeddings_are_resized_to_the_grid(kind, size, offset):
    """As many patches as in training, 2 x 8 instead of 4 x 4, are resized nonetheless.

    With an offset as in the original DINO's `interpolate_pos_encoding`, which passes a scale.
    """
    model, image = tiny(kind), images(2, size)
    h, w = size[0] // 8, size[1] // 8
    first, positions = model.embeddings.position_embeddings.split([1, 16], dim=1)
    if (h, w) != (4, 4):
        grid = positions.mT.unflatten(2, (4, 4))
        new = {"size": (h, w)}
        if offset:
            new = {"scale_factor": ((h + offset) / 4, (w + offset) / 4)}
        positions = F.interpolate(grid, **new, mode="bicubic")
        assert positions.shape[2:] == (h, w)
        positions = positions.flatten(2).mT
    with torch.no_grad():
        patches = model.embeddings.patch_embeddings.projection(normalised(image)).flatten(2).mT
        classes = model.embeddings.cls_token + first
        x = torch.cat([classes.expand(2, -1, -1), patches + positions], dim=1)
        for layer in model.layers if kind == "ViT" else model.encoder.layer:
            x = layer(x)
        expected = model.layernorm(x)[:, 1:].mT.reshape(2, 24, h, w)
    backbone = VisionTransformer(model, features="token", position_offset=offset)
    torch.testing.assert_close(backbone(image).feats, expected, atol=2e-5, rtol=1e-5)
    plain = VisionTransformer(model, features="token")(image).feats
    same = torch.allclose(plain, expected, atol=2e-5, rtol=1e-5)
    assert same == (offset == 0 or (h, w) == (4, 4))


# Those whose positions are rotary, or relative in each block, and those that resize bilinearly.
WITHOUT_OFFSET = {
    "Beit": "has no position embeddings",
    "DINOv3ViT": "has no position embeddings",
    "Siglip2Vision": "does not resize position embeddings bicubically",
    "Tipsv2Vision": "does not resize position embeddings bicubically",
    "Radio": "does not resize position embeddings bicubically",
}


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in WITHOUT_OFFSET])
def test_every_kind_resizes_with_the_offset(kind):
    model, image = tiny(kind), images()
    plain, moved = (
        VisionTransformer(model, features="token", position_offset=offset)(image).feats
        for offset in (0, np.float32(0.1))
    )
    assert plain.shape == moved.shape
    assert (plain - moved).abs().max() > 1e-3
    # Nothing is left behind in the model, and no scale is used that rounds down to fewer patches.
    for offset in (0, 1e-17):
        found = VisionTransformer(model, features="token", position_offset=offset)(image).feats
        assert torch.equal(found, plain)


@pytest.mark.parametrize("kind", WITHOUT_OFFSET)
def test_positions_that_have_no_offset(kind):
    got = f"position_offset: got 0.1 for {kind}Model, which {WITHOUT_OFFSET[kind]}"
    with pytest.raises(InputError, match=re.escape(got)):
        VisionTransformer(tiny(kind), position_offset=0.1)
    assert VisionTransformer(tiny(kind), position_offset=0).position_offset == 0


@every_kind
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_gives_nearly_the_same_in_float32(kind, dtype):
    model, image = tiny(kind).to(dtype), images(2, (37, 24))
    full = VisionTransformer(copy.deepcopy(model).float(), attention="query-key")
    half = VisionTransformer(model, attention="query-key")
    assert half.dtype == dtype
    (grid, _, feats, attention), expected = half(image), full(image)
    assert grid == expected.grid
    assert feats.dtype == attention.dtype == torch.float32
    slack = 0.1 if dtype == torch.bfloat16 else 0.02
    assert (feats - expected.feats).norm() < slack * expected.feats.norm()
    assert (attention - expected.attention).abs().sum(-1).mean() < 2 * slack
    torch.testing.assert_close(attention.sum(-1), torch.ones(2, 15), atol=1e-5, rtol=0)


def test_batches_under_the_bound_equal_one_by_one():
    model, image, seen = tiny("Dinov2WithRegisters"), images(7), []
    model.register_forward_hook(lambda _, given, __: seen.append(len(given[0])))
    settings = {"attention": "key-key", "blocks": "all"}
    backbone = VisionTransformer(model, **settings)
    at_once = backbone(image)
    three = VisionTransformer(model, **settings, max_bytes=3 * backbone._item_bytes((40, 24)))
    in_threes = three(image)
    alone = VisionTransformer(model, **settings, max_bytes=1)(image)
    assert seen == [7, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1]
    for found in (in_threes, alone):
        torch.testing.assert_close(found.feats, at_once.feats, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(found.attention, at_once.attention, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(backbone(image[2:3]).feats, at_once.feats[2:3], atol=1e-5, rtol=1e-5)


def test_outputs_that_are_not_asked_for_are_not_computed():
    model = tiny("ViT")
    need = {
        (features, attention): VisionTransformer(
            model, features=features, attention=attention
        )._item_bytes((512, 512))
        for features, attention in (("value", None), ("value", "key-key"), (None, "key-key"))
    }
    assert need["value", "key-key"] - need["value", None] == 16 * 4096**2
    assert need[None, "key-key"] < need["value", "key-key"]


def test_two_threads_share_a_model_and_do_not_mix():
    model = tiny("ViT")
    given = [images(2, (40, 24), seed) for seed in (1, 2)]
    backbones = [
        VisionTransformer(model, attention=attention, position_offset=offset)
        for attention, offset in (("query-key", 0.0), ("key-key", 0.1))
    ]
    expected = [backbone(image) for backbone, image in zip(backbones, given, strict=True)]
    found, gate = [[], []], threading.Barrier(2)

    def work(number):
        for _ in range(20):
            gate.wait()
            found[number].append(backbones[number](given[number]))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(2):
        assert len(found[number]) == 20
        for output in found[number]:
            torch.testing.assert_close(output.feats, expected[number].feats)
            torch.testing.assert_close(output.attention, expected[number].attention)


@pytest.mark.parametrize("offset", [0.0, 0.1])
def test_modes_of_torch(offset):
    options = {"attention": "query-key", "position_offset": offset}
    backbone, image = VisionTransformer(tiny("ViT"), **options), images()
    expected = backbone(image)
    with torch.inference_mode():
        torch.testing.assert_close(backbone(image), expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = backbone(image)
    assert cast.feats.dtype == torch.float32
    assert 0 < (cast.feats - expected.feats).norm() < 0.1 * expected.feats.norm()
    torch.testing.assert_close(torch.compile(backbone, backend="eager")(image), expected)
    torch.testing.assert_close(pickle.loads(pickle.dumps(backbone))(image), expected)
    torch.testing.assert_close(copy.deepcopy(backbone)(image), expected)


def test_stays_frozen_in_evaluation_mode():
    model = tiny("ViT", hidden_dropout_prob=0.5).train()
    backbone = VisionTransformer(model)
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    assert not model.training
    assert not backbone.train().model.training
    torch.testing.assert_close(backbone(images()), backbone(images()))


@pytest.mark.parametrize(
    ("kind", "patch", "feats_from"),
    [
        ("ViT", 16, "vit-b/16"),
        ("ViT", 8, "vit-b/8"),
        ("ViT", 32, None),
        ("Dinov2", 14, "dinov2"),
        ("Dinov2WithRegisters", 14, "dinov2"),
        ("DeiT", 16, None),
        ("DINOv3ViT", 16, None),
    ],
)
def test_settings_that_suit_the_features(kind, patch, feats_from):
    backbone = VisionTransformer(tiny(kind, patch_size=patch, image_size=4 * patch))
    assert backbone.feats_from == feats_from
    if feats_from is not None:
        assert FEATS_FROM[feats_from]["patch_size"] == patch == backbone.patch_size


def test_says_what_it_provides():
    model = tiny("ViT")
    assert VisionTransformer(model).provides == ("feats",)
    assert VisionTransformer(model, features=None, attention="key-key").provides == ("attention",)
    both = VisionTransformer(model, attention="key-key")
    assert both.provides == ("feats", "attention")
    with pytest.raises(InputError, match="VisionTransformer provides feats and attention"):
        both(images(), ["cat"])


def saved(tmp_path, model, **processor):
    model.save_pretrained(tmp_path)
    if processor:
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
    return tmp_path


# AutoModel loads image and text of the others, and RADIO has its own colours: see below.
@pytest.mark.parametrize("kind", [k for k in KINDS if not k.endswith("Vision") and k != "Radio"])
def test_saved_and_loaded(kind, tmp_path):
    model, image = tiny(kind), images()
    mean, std = (0.1, 0.6, 0.3), (0.5, 0.2, 0.4)
    folder = saved(tmp_path, model, image_mean=mean, image_std=std, image_processor_type="Any")
    loaded = VisionTransformer.from_pretrained(folder, features="key", attention="query-key")
    assert type(loaded.model) is type(model)
    expected = VisionTransformer(model, features="key", attention="query-key", mean=mean, std=std)(
        image
    )
    torch.testing.assert_close(loaded(image), expected)
    other = VisionTransformer(model, features="key", attention="query-key")(image)
    assert (other.feats - expected.feats).norm() > 0.1 * expected.feats.norm()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.endswith("Vision")])
def test_of_images_and_texts_the_part_for_images_is_loaded(kind, tmp_path):
    kind = kind.removesuffix("Vision")
    text = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 3, "vocab_size": 9}
    ends = {} if kind == "Tipsv2" else {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    config = getattr(transformers, f"{kind}Config")(
        text_config=text | ends, vision_config=TINY | KINDS[f"{kind}Vision"][1]
    )
    torch.manual_seed(0)
    model = getattr(transformers, f"{kind}Model")(config).eval()
    loaded = VisionTransformer.from_pretrained(saved(tmp_path, model), features="token")
    assert type(loaded.model) is type(model.vision_model)
    prefix = KINDS[f"{kind}Vision"][0]
    expected = outputs(model.vision_model, images()).last_hidden_state[:, prefix:]
    torch.testing.assert_close(loaded(images()).feats.flatten(2).mT, expected)


def test_radio_normalises_images_itself(tmp_path):
    """By the colours among its weights, whatever the processor's file says."""
    mean, std = [0.1, 0.6, 0.3], [0.5, 0.2, 0.4]
    model, image = tiny("Radio", norm_mean=mean, norm_std=std), images(2, (37, 24))
    pad = torch.tensor(mean)[:, None, None].repeat(2, 1, 40, 24)
    pad[..., :37, :] = image
    expected = outputs(model, pad).features.mT.reshape(2, 24, 5, 3)
    folder = saved(tmp_path, model, do_normalize=False)
    loaded = VisionTransformer.from_pretrained(folder, features="token")
    torch.testing.assert_close(loaded(image).feats, expected, atol=1e-4, rtol=1e-4)
    assert f"mean={tuple(mean)}, std={tuple(std)}" in repr(loaded)
    # Without its conditioner, it is like any other.
    model.make_preprocessor_external()
    bare = VisionTransformer(model, features="token", mean=mean, std=std)
    torch.testing.assert_close(bare(image).feats, expected, atol=1e-4, rtol=1e-4)
    for options in ({"mean": mean}, {"std": std}):
        with pytest.raises(
            InputError, match=r"(mean|std): got .* for RadioModel, which normalises"
        ):
            VisionTransformer(tiny("Radio"), **options)


@every_kind
def test_a_patch_moves_its_own_cell_most(kind):
    """The grid, rows by columns after the prefix, without a look at the tokens of the model."""
    model, image = tiny(kind), images(1)
    for row, column in ((0, 0), (1, 2), (4, 0)):
        moved = image.clone()
        moved[..., 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] = 0.5
        backbone = VisionTransformer(model)
        change = (backbone(moved).feats - backbone(image).feats).norm(dim=1)
        assert divmod(int(change.argmax()), 3) == (row, column)


@pytest.mark.parametrize("kind", ["SiglipVision", "Siglip2Vision"])
def test_one_patch_is_not_confused_with_the_pooling_head(kind):
    model, image = tiny(kind), images(1, (8, 8))
    found = VisionTransformer(model, features="token", attention="query-key")(image)
    assert found.attention.tolist() == [[[1.0]]]
    expected = outputs(model, image).last_hidden_state[0, 0]
    torch.testing.assert_close(found.feats[0, :, 0, 0], expected, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("processor", "options", "mean", "std"),
    [
        ({}, {}, MEAN, STD),
        ({"size": 8}, {}, MEAN, STD),
        ({"image_mean": [0.1] * 3, "image_std": None}, {}, [0.1] * 3, STD),
        ({"image_mean": [0.1] * 3, "do_normalize": False}, {}, [0.0] * 3, [1.0] * 3),
        ({"image_mean": [0.1] * 3, "image_std": [0.2] * 3}, {"std": STD}, [0.1] * 3, STD),
        ({"image_mean": [0.1] * 3}, {"mean": [0.3] * 3, "std": [0.4] * 3}, [0.3] * 3, [0.4] * 3),
    ],
)
def test_colours_of_a_checkpoint(processor, options, mean, std, tmp_path):
    folder = saved(tmp_path, tiny("ViT"), **processor)
    loaded = VisionTransformer.from_pretrained(str(folder), download=False, **options)
    expected = VisionTransformer(tiny("ViT"), mean=mean, std=std)
    torch.testing.assert_close(loaded(images()), expected(images()))


def test_loads_in_another_dtype(tmp_path):
    folder = saved(tmp_path, tiny("Dinov2"))
    assert VisionTransformer.from_pretrained(folder).dtype == torch.float32
    assert VisionTransformer.from_pretrained(folder, dtype=torch.bfloat16).dtype == torch.bfloat16
    saved(tmp_path, tiny("Dinov2").half())
    assert VisionTransformer.from_pretrained(folder).dtype == torch.float16


@pytest.fixture
def hub(monkeypatch):
    """The names that were asked for; models come from a hub, colours from the cache or the hub."""
    import huggingface_hub

    asked = []

    def load(package, name, checkpoint, *, download, **options):
        asked.append((package, name, checkpoint, download, options))
        return tiny("ViT")

    def look(checkpoint, name, **revision):
        asked.append(("cache", checkpoint, name))
        return None if isinstance(hub.answer, Exception) else str(hub.answer)

    def fetch(checkpoint, name, **revision):
        asked.append(("hub", checkpoint, name))
        raise hub.answer

    def hub():
        return asked

    monkeypatch.setattr(vision_transformer, "load_model", load)
    monkeypatch.setattr("lpprop.backbones.hub._check_hub", lambda checkpoint: None)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", look)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fetch)
    return hub


@pytest.mark.parametrize("name", [*CHECKPOINTS, *CHECKPOINTS.values()])
@pytest.mark.parametrize("download", [True, False])
def test_names_of_checkpoints(hub, tmp_path, name, download):
    hub.answer = tmp_path / "preprocessor_config.json"
    hub.answer.write_text('{"image_mean": [0.1, 0.1, 0.1]}')
    backbone = VisionTransformer.from_pretrained(name, download=download)
    repository = CHECKPOINTS.get(name, name)
    options = {"revision": None, "dtype": None, "attn_implementation": "sdpa"}
    assert hub() == [
        ("transformers", "AutoModel", repository, download, options),
        ("cache", repository, "config.json"),
        ("cache", repository, "preprocessor_config.json"),
    ]
    assert (backbone._mean, backbone._std) == ((0.1, 0.1, 0.1), STD)


def test_a_hub_without_colours(hub):
    from huggingface_hub.errors import LocalEntryNotFoundError, RemoteEntryNotFoundError

    response = SimpleNamespace(headers={}, request=None)
    hub.answer = RemoteEntryNotFoundError("no such file", response=response)
    assert VisionTransformer.from_pretrained("some/vit")._mean == MEAN
    hub.answer = LocalEntryNotFoundError("offline")
    with pytest.raises(InputError, match=r"mean: got None, and no preprocessor_config.json of '"):
        VisionTransformer.from_pretrained("some/vit")
    assert VisionTransformer.from_pretrained("some/vit", mean=MEAN, std=STD)._std == STD
    # For colours, cache and hub are asked twice, and once neither; for the commit, the cache.
    assert len(hub()) == 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"features": "values"}, "features: got 'values', expected one of 'value', 'key', 'query'"),
        ({"attention": "value-value"}, "attention: got 'value-value', expected one of 'query-key'"),
        ({"features": None}, "features: got None, and no attention, expected features, attention"),
        ({"blocks": ()}, "blocks: got (), expected 'all', or different numbers from 0 to 2"),
        ({"blocks": "last"}, "blocks: got 'last'"),
        ({"blocks": (3,)}, "blocks: got (3,)"),
        ({"blocks": (-4,)}, "blocks: got (-4,)"),
        ({"blocks": (2, -1)}, "blocks: got (2, -1)"),
        ({"blocks": (True,)}, "blocks: got (True,)"),
        ({"blocks": -1}, "blocks: got -1"),
        ({"max_bytes": 0}, "max_bytes: got 0"),
        ({"position_offset": 1.0}, "position_offset: got 1.0, expected a number in [0, 1)"),
        ({"position_offset": "0.1"}, "position_offset: got '0.1'"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(InputError) as refused:
        VisionTransformer(tiny("ViT"), **options)
    assert message in str(refused.value)


@pytest.mark.parametrize("options", [{"features": "values"}, {"features": None}])
def test_bad_options_are_refused_before_loading(hub, options):
    with pytest.raises(InputError, match="features: got"):
        VisionTransformer.from_pretrained("some/vit", **options)
    assert hub() == []


def test_models_of_another_architecture_are_refused():
    clip = transformers.CLIPConfig(
        text_config={"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1},
        vision_config=TINY,
    )
    for model, message in (
        (torch.nn.Linear(2, 2), "model: got Linear, expected a vision transformer"),
        (transformers.CLIPModel(clip), "model: got CLIPModel, expected"),
        (transformers.ViTForImageClassification(transformers.ViTConfig(**TINY)), "got ViTForImage"),
        (tiny("ViTMAE", mask_ratio=0.0), "model: got ViTMAEModel, which shuffles the patches"),
    ):
        with pytest.raises(InputError) as refused:
            VisionTransformer(model)
        assert message in str(refused.value)


def test_another_kernel_is_refused():
    model = tiny("ViT")
    model.set_attn_implementation("eager")
    with pytest.raises(InputError, match="got a ViTModel with 'eager' attention, expected"):
        VisionTransformer(model)
    model.set_attn_implementation("sdpa")
    backbone = VisionTransformer(model)
    model.set_attn_implementation("eager")
    with pytest.raises(InputError, match=r"in which 0 of 3 blocks attend from 1 \+ 5 x 3 tokens"):
        backbone(images())


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("Yolos", {"image_size": [32, 32], "num_detection_tokens": 4}),
        ("Swin", {"embed_dim": 24, "depths": [1, 1], "num_heads": [1, 2], "window_size": 2}),
    ],
)
@pytest.mark.parametrize("features", ["value", "token"])
def test_other_tokens_are_refused_with_the_first_image(kind, options, features):
    config = getattr(transformers, f"{kind}Config")
    own = {} if kind == "Swin" else TINY
    sizes = {"image_size": 32, "patch_size": 8}
    model = getattr(transformers, f"{kind}Model")(config(**(own | sizes | options)))
    backbone = VisionTransformer(model, features=features)
    with pytest.raises(InputError, match=f"model: got {kind}Model, in which 0 of"):
        backbone(images(1, (32, 32)))


def test_biased_attention_is_refused_and_its_features_are_not():
    model, image = tiny("Beit", use_relative_position_bias=True), images()
    with pytest.raises(InputError, match="attention: got BeitModel, whose attention has a bias"):
        VisionTransformer(model, attention="query-key")(image)
    # And nothing of the refused call is left behind.
    tokens = outputs(model, image).last_hidden_state[:, 1:]
    feats = VisionTransformer(model, features="token")(image).feats
    torch.testing.assert_close(feats, tokens.mT.reshape(2, 24, 5, 3), atol=2e-5, rtol=1e-5)


def test_missing_checkpoints(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"checkpoint: got .*AutoModel could not load"):
        VisionTransformer.from_pretrained(tmp_path)
    with pytest.raises(InputError, match="downloads are off: allow them"):
        VisionTransformer.from_pretrained("no/such-model", download=False)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r"pip install 'lpprop\[models\]'"):
        VisionTransformer.from_pretrained("dino-vitb16")


def test_blocks_that_attend_to_fewer_keys_are_refused():
    class Reduced(torch.nn.Module):
        config = SimpleNamespace(patch_size=8, num_hidden_layers=1, hidden_size=4, model_type="x")

        def __init__(self):
            super().__init__()
            self.embeddings = torch.nn.Conv2d(3, 4, 8, stride=8)
            self.mlp = torch.nn.Linear(4, 4)

        def forward(self, pixels):
            x = self.embeddings(pixels).flatten(2).mT[:, None]
            F.scaled_dot_product_attention(x, x[:, :, ::2], x[:, :, ::2])

    backbone = VisionTransformer(Reduced())
    with pytest.raises(InputError, match=r"in which 0 of 1 blocks attend from 0 \+ 5 x 3 tokens"):
        backbone(images())
