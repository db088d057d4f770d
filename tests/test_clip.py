"""MaskCLIP against its formulas, written out with the weights of tiny models, and its promises."""

import copy
import math
import pickle
import string
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lpprop import InputError, merge_classes
from lpprop.backbones.clip import CHECKPOINTS, MaskCLIP
from lpprop.backbones.prompts import IMAGENET_BEST, PLAIN, parse_classes

transformers = pytest.importorskip("transformers", reason="the extra models is not installed")

CLASSES = ["background = sky; wall; tree", "cat", "dog; puppy"]
ATTENTIONS = ("value", "query-key", "query-query", "key-key", "query-query+key-key")
WORDS = ["cat", "dog", "photo", "the"]


def tiny_tokenizer():
    """Every letter, and a few whole words that their merges make."""
    letters = [*string.ascii_lowercase, *string.digits, *".,-'"]
    vocab = [*letters, *(f"{letter}</w>" for letter in letters)]
    merges = []
    for word in WORDS:
        parts = [*word[:-1], f"{word[-1]}</w>"]
        while len(parts) > 1:
            merges.append((parts[-2], parts[-1]))
            parts[-2:] = [parts[-2] + parts[-1]]
            vocab.append(parts[-1])
    vocab = [*dict.fromkeys(vocab), "<|startoftext|>", "<|endoftext|>"]
    return transformers.CLIPTokenizer(vocab={t: i for i, t in enumerate(vocab)}, merges=merges)


def tiny_model(tokenizer, **vision):
    size = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4}
    end = tokenizer.eos_token_id
    config = transformers.CLIPConfig(
        text_config={
            **size,
            "num_hidden_layers": 2,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": 40,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": end,
            "pad_token_id": end,
        },
        vision_config={
            **size,
            "num_hidden_layers": 3,
            "image_size": 32,
            "patch_size": 8,
            **vision,
        },
        projection_dim=16,
    )
    torch.manual_seed(0)
    model = transformers.CLIPModel(config).eval()
    with torch.no_grad():  # fresh ones are too small for attention to differ from a mean
        for name, parameter in model.named_parameters():
            if "layer" in name or "embedding" in name:
                parameter.add_(0.15 * torch.randn(parameter.shape))
    return model


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_tokenizer()


@pytest.fixture(scope="module")
def model(tokenizer):
    return tiny_model(tokenizer)


@pytest.fixture(scope="module")
def image():
    return torch.rand(2, 3, 40, 24, generator=torch.Generator().manual_seed(0))


def normalised(image, mean=None, std=None):
    utils = transformers.image_utils
    mean, std = mean or utils.OPENAI_CLIP_MEAN, std or utils.OPENAI_CLIP_STD
    return (image - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]


def linear(x, layer):
    return x @ layer.weight.mT + layer.bias


def by_hand(model, pixels, attention, residual):
    """The formulas, from weights; all blocks but the last are the library's own."""
    model = copy.deepcopy(model)  # asking for hidden states leaves hooks behind
    states = model.vision_model(
        pixels, interpolate_pos_encoding=True, output_hidden_states=True
    ).hidden_states
    layers = model.vision_model.encoder.layers
    last, x = layers[-1], states[-2]

    def heads(layer, state, name):
        normed = F.layer_norm(
            state, (32,), layer.layer_norm1.weight, layer.layer_norm1.bias, eps=1e-5
        )
        return linear(normed, getattr(layer.self_attn, name)).view(len(x), -1, 4, 8).transpose(1, 2)

    def weights(layer, state, rows, columns):
        products = heads(layer, state, rows) @ heads(layer, state, columns).mT
        return (products / math.sqrt(8)).softmax(-1)

    v = heads(last, x, "v_proj")
    if attention == "query-key":
        v = weights(last, x, "q_proj", "k_proj") @ v
    elif attention == "query-query+key-key":
        v = (weights(last, x, "q_proj", "q_proj") + weights(last, x, "k_proj", "k_proj")) @ v
    elif attention != "value":
        name = {"query-query": "q_proj", "key-key": "k_proj"}[attention]
        every = zip(layers, states[:-1], strict=True)
        v = torch.stack([weights(*one, name, name) for one in every]).mean(0) @ v
    v = linear(v.transpose(1, 2).flatten(2), last.self_attn.out_proj)
    if residual:
        v = v + x
        y = linear(F.layer_norm(v, (32,), last.layer_norm2.weight, last.layer_norm2.bias),
                   last.mlp.fc1)  # fmt: skip
        v = v + linear(y * torch.sigmoid(1.702 * y), last.mlp.fc2)
    post = model.vision_model.post_layernorm
    v = F.layer_norm(v, (32,), post.weight, post.bias, eps=1e-5) @ model.visual_projection.weight.mT
    return F.normalize(v[:, 1:], dim=-1)


def texts_by_hand(model, tokenizer, prompts, templates):
    """One sentence at a time, through the library's own door."""
    found = []
    for prompt in prompts:
        each = []
        for template in templates:
            ids = tokenizer(template.format(prompt), return_tensors="pt").input_ids
            each.append(F.normalize(model.get_text_features(ids).pooler_output, dim=-1))
        found.append(F.normalize(torch.cat(each).mean(0), dim=0))
    return torch.stack(found)


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("attention", ATTENTIONS)
@torch.no_grad()
def test_feats_are_the_formulas(model, tokenizer, image, attention, residual):
    backbone = MaskCLIP(model, tokenizer, attention=attention, residual=residual)
    grid, logits, feats, _ = backbone(image)
    assert (grid, logits) == ((5, 3), None)
    expected = by_hand(model, normalised(image), attention, residual)
    torch.testing.assert_close(feats, expected.mT.reshape(2, 16, 5, 3), rtol=1e-4, atol=1e-5)


PEERS = {
    "SCLIP": ("qk", (2,), None, True, {"attention": "query-query+key-key"}),
    "ClearCLIP": ("q", (2,), None, False, {"attention": "query-query", "blocks": (-1,)}),
    "NACLIP": ("k", (2,), 5.0, False, {"attention": "key-key", "blocks": (2,), "gaussian_std": 5}),
    "k-k of two blocks": ("k", (0, 2), 0.7, True,
                          {"attention": "key-key", "blocks": range(0, 3, 2), "gaussian_std": 0.7}),
    "q-q of all": ("q", (0, 1, 2), None, True, {"attention": "query-query", "blocks": "all"}),
    "neighbours": ("x", (2,), 2.0, False, {"attention": "query-key", "gaussian_std": 2.0}),
    "all of all": ("qk", (0, 1, 2), None, False,
                   {"attention": "query-query+key-key", "blocks": "all"}),
}  # fmt: skip


@torch.no_grad()
def last_block_by_hand(model, pixels, grid, compared, blocks, std, residual):
    """The papers' equations in float64, one pair of tokens at a time; x compares Q with K."""
    model = copy.deepcopy(model).double()
    states = model.vision_model(
        pixels.double(), interpolate_pos_encoding=True, output_hidden_states=True
    ).hidden_states
    layers = model.vision_model.encoder.layers
    places = [divmod(number, grid[1]) for number in range(grid[0] * grid[1])]
    expected = []
    for item in range(len(pixels)):
        x = states[-2][item]
        normed = [
            layer.layer_norm1(state[item]) for layer, state in zip(layers, states, strict=False)
        ]
        values = linear(normed[2], layers[2].self_attn.v_proj)
        mixed = torch.zeros(len(x), 32, dtype=torch.float64)
        for head in range(4):
            part = slice(8 * head, 8 * head + 8)
            for block in blocks:
                own = layers[block].self_attn
                q, k = (
                    linear(normed[block], own.get_submodule(f"{n}_proj"))[:, part] for n in "qk"
                )
                for one, other in [
                    {"q": (q, q), "k": (k, k), "x": (q, k)}[name] for name in compared
                ]:
                    for i in range(1, len(x)):
                        exponents = [float(one[i] @ other[j]) / math.sqrt(8) for j in range(len(x))]
                        if std is not None:
                            for j in range(1, len(x)):
                                d = math.dist(places[i - 1], places[j - 1])
                                exponents[j] += math.exp(-(d**2) / (2 * std**2))
                        shares = torch.tensor(exponents, dtype=torch.float64).exp()
                        shares /= shares.sum() * len(blocks)
                        mixed[i, part] += shares @ values[:, part]
        v = linear(mixed, layers[2].self_attn.out_proj)
        if residual:
            v = v + x
            v = v + layers[2].mlp(layers[2].layer_norm2(v))
        v = model.visual_projection(model.vision_model.post_layernorm(v))
        expected.append(F.normalize(v[1:], dim=-1))
    return torch.stack(expected).mT.unflatten(-1, grid)


@pytest.mark.parametrize("name", PEERS)
def test_variants_of_the_last_attention_by_hand(model, tokenizer, image, name):
    *written, residual, options = PEERS[name]
    backbone = MaskCLIP(model, tokenizer, residual=residual, **options)
    expected = last_block_by_hand(model, normalised(image), (5, 3), *written, residual)
    feats = backbone(image).feats
    torch.testing.assert_close(feats.double(), expected, rtol=1e-4, atol=1e-5)
    double = MaskCLIP(copy.deepcopy(model).double(), tokenizer, residual=residual, **options)
    torch.testing.assert_close(double(image).feats, expected.float(), rtol=1e-6, atol=1e-6)


def test_default_blocks_are_dslos_for_its_means_and_the_last_for_others(model, tokenizer):
    blocks = {a: MaskCLIP(model, tokenizer, attention=a).blocks for a in ATTENTIONS}
    last, every = (2,), (0, 1, 2)
    assert blocks == dict(zip(ATTENTIONS, (last, last, every, every, last), strict=True))
    chosen = MaskCLIP(model, tokenizer, attention="key-key", blocks=[np.int64(-1), np.uint8(0)])
    assert chosen.blocks == (2, 0)


@pytest.mark.parametrize("std", [1e-320, 1e-3])
def test_a_tiny_gaussian_favours_the_patch_itself_alone(model, tokenizer, image, std):
    expected = last_block_by_hand(model, normalised(image), (5, 3), "k", (2,), 1e-3, True)
    backbone = MaskCLIP(model, tokenizer, attention="key-key", blocks=(-1,), gaussian_std=std)
    torch.testing.assert_close(backbone(image).feats.double(), expected, rtol=1e-4, atol=1e-5)


# The hubs' formula for the position embeddings.
@pytest.mark.parametrize("size", [(40, 24), (32, 32), (16, 64), (72, 56)])
@torch.no_grad()
def test_positions_with_an_offset(model, tokenizer, size):
    image = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(2))
    grid = (size[0] // 8, size[1] // 8)
    vision = copy.deepcopy(model.vision_model)
    first, places = vision.embeddings.position_embedding.weight.split([1, 16])
    if grid != (4, 4):
        places = F.interpolate(
            places.mT.reshape(1, 32, 4, 4),
            scale_factor=tuple((side + 0.1) / 4 for side in grid),
            mode="bicubic",
        )
        assert tuple(places.shape[-2:]) == grid
        places = places[0].flatten(1).mT
    patches = vision.embeddings.patch_embedding(normalised(image)).flatten(2).mT
    tokens = torch.cat([vision.embeddings.class_embedding[None, None], patches], 1)
    x = vision.pre_layrnorm(tokens + torch.cat([first, places]))
    for layer in vision.encoder.layers:
        x = layer(x, attention_mask=None)
    x = model.visual_projection(vision.post_layernorm(x))
    expected = F.normalize(x[:, 1:], dim=-1).mT.reshape(1, 16, *grid)
    options = {"attention": "query-key"}
    seen = MaskCLIP(model, tokenizer, position_offset=0.1, **options)(image).feats
    torch.testing.assert_close(seen, expected, rtol=1e-4, atol=1e-5)
    plain = MaskCLIP(model, tokenizer, **options)(image).feats
    assert torch.equal(seen, plain) == (grid == (4, 4))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"blocks": (-1,)}, "blocks: got (-1,) beside attention='value', expected None"),
        ({"gaussian_std": 5}, "gaussian_std: got 5.0 beside attention='value', expected None"),
        ({"attention": "key-key", "blocks": (3,)}, "blocks: got (3,), expected 'all', or"),
        ({"attention": "key-key", "gaussian_std": 0}, "gaussian_std: got 0"),
        ({"position_offset": 1}, "position_offset: got 1, expected a number in [0, 1)"),
        ({"position_offset": -0.1}, "position_offset: got -0.1"),
        ({"attention": "query-query+key"}, "Did you mean 'query-query+key-key'?"),
    ],
)
def test_bad_options_of_the_attention(model, tokenizer, options, message):
    with pytest.raises(InputError) as refused:
        MaskCLIP(model, tokenizer, **options)
    assert message in str(refused.value)


def test_the_variants_differ(model, tokenizer, image):
    seen = [
        MaskCLIP(model, tokenizer, attention=attention, residual=residual)(image).feats
        for attention in ATTENTIONS
        for residual in (True, False)
    ]
    seen += [
        MaskCLIP(model, tokenizer, residual=residual, **options)(image).feats
        for name, (*_, residual, options) in PEERS.items()
        if name not in ("SCLIP", "q-q of all")  # among those above
    ]
    for number, one in enumerate(seen):
        assert all((one - other).abs().max() > 1e-2 for other in seen[:number])


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@torch.no_grad()
def test_its_own_attention_gives_its_own_output(model, tokenizer, image, implementation):
    model = copy.deepcopy(model)
    model.set_attn_implementation(implementation)
    feats = MaskCLIP(model, tokenizer, attention="query-key")(image).feats
    vision = model.vision_model
    state = vision(normalised(image), interpolate_pos_encoding=True).last_hidden_state
    own = F.normalize(model.visual_projection(vision.post_layernorm(state)), dim=-1)[:, 1:]
    torch.testing.assert_close(feats.flatten(2).mT, own, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_the_models_activation_is_honoured(tokenizer, image, activation):
    seen = MaskCLIP(tiny_model(tokenizer, hidden_act=activation), tokenizer)(image).feats
    expected = by_hand(tiny_model(tokenizer), normalised(image), "value", True)
    agrees = torch.allclose(seen.flatten(2).mT, expected, atol=1e-5)
    assert agrees == (activation == "quick_gelu")


@torch.no_grad()
def test_text_embeddings_are_means_over_templates(model, tokenizer):
    backbone = MaskCLIP(model, tokenizer, templates=IMAGENET_BEST)
    prompts = ["sky", "wall", "tree", "cat", "dog", "puppy"]
    expected = texts_by_hand(model, tokenizer, prompts, IMAGENET_BEST)
    torch.testing.assert_close(backbone.text_embeddings(CLASSES), expected, rtol=1e-5, atol=1e-6)
    # Few at once, so that sentences are padded otherwise.
    small = MaskCLIP(model, tokenizer, templates=IMAGENET_BEST, max_bytes=1)
    torch.testing.assert_close(small.text_embeddings(CLASSES), expected, rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_a_legacy_end_token_is_read_too(model, tokenizer):
    # OpenAI's own configurations say 2, and the model then takes the largest token for the end.
    legacy = copy.deepcopy(model)
    legacy.text_model.eos_token_id = 2
    seen = [MaskCLIP(one, tokenizer).text_embeddings(CLASSES) for one in (model, legacy)]
    torch.testing.assert_close(*seen, rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_logits_are_cosines_or_their_softmax(model, tokenizer, image):
    patches = by_hand(model, normalised(image), "value", True)
    texts = texts_by_hand(model, tokenizer, parse_classes(CLASSES).prompts, PLAIN)
    cosines = (patches @ texts.mT).mT.reshape(2, 6, 5, 3)
    groups = [[0, 1, 2], [3], [4, 5]]

    def logits(**options):
        return MaskCLIP(model, tokenizer, templates=PLAIN, **options)(image, CLASSES).logits

    close = {"rtol": 1e-3, "atol": 1e-5}
    assert float(cosines.abs().max()) <= 1 + 1e-6
    torch.testing.assert_close(logits(scores="cosine", merge=False), cosines, **close)
    torch.testing.assert_close(logits(scores="cosine"), merge_classes(cosines, groups), **close)
    for logit_scale in (7.0, 100.0):
        shares = (logit_scale * cosines).softmax(1)
        seen = logits(logit_scale=logit_scale, merge=False)
        torch.testing.assert_close(seen, shares, rtol=1e-2, atol=1e-4)
        torch.testing.assert_close(seen.sum(1), torch.ones(2, 5, 3))
        merged = logits(logit_scale=logit_scale)
        assert merged.shape == (2, 3, 5, 3)
        torch.testing.assert_close(merged, merge_classes(seen, groups))
    torch.testing.assert_close(logits(), merged)  # 100 is the default


def test_synonyms_compete_as_classes_of_their_own(model, tokenizer, image):
    backbone = MaskCLIP(model, tokenizer, templates=PLAIN)
    apart = backbone(image, ["sky", "wall", "cat"]).logits
    together = backbone(image, ["background = sky; wall", "cat"]).logits
    torch.testing.assert_close(together[:, 0], apart[:, :2].amax(1))
    torch.testing.assert_close(together[:, 1], apart[:, 2])
    assert backbone.class_names(["background = sky; wall", "cat"]) == ["background", "cat"]
    one = backbone(image, ["cat"]).logits
    torch.testing.assert_close(one, torch.ones_like(one))


@pytest.mark.parametrize("attention", ["value", "key-key"])
@pytest.mark.parametrize(
    ("size", "grid"), [((32, 32), (4, 4)), ((33, 47), (5, 6)), ((5, 9), (1, 2))]
)
def test_odd_sizes_and_batches(model, tokenizer, attention, size, grid):
    backbone = MaskCLIP(model, tokenizer, attention=attention, templates=PLAIN)
    images = torch.rand(3, 3, *size, generator=torch.Generator().manual_seed(1))
    whole = backbone(images, CLASSES)
    assert whole.grid == grid
    assert whole.logits.shape == (3, 3, *grid)
    torch.testing.assert_close(whole.feats.norm(dim=1), torch.ones(3, *grid))
    sides = [8 * side for side in grid]
    padded = torch.zeros(3, 3, *sides)
    padded[..., : size[0], : size[1]] = normalised(images)
    expected = by_hand(model, padded, attention, True)
    torch.testing.assert_close(whole.feats.flatten(2).mT, expected, rtol=1e-3, atol=1e-5)
    small = MaskCLIP(model, tokenizer, attention=attention, templates=PLAIN, max_bytes=1)
    seen = []
    hook = model.vision_model.embeddings.register_forward_hook(
        lambda module, args, output: seen.append(len(output))
    )
    apart = small(images, CLASSES)
    hook.remove()
    assert seen == [1, 1, 1]
    for one, other in zip(whole[1:3], apart[1:3], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_max_bytes_bounds_the_images_seen_at_once(model, tokenizer):
    backbone = MaskCLIP(model, tokenizer)
    item = backbone._item_bytes((32, 32))
    backbone.max_bytes = 2 * item
    seen = []
    hook = model.vision_model.embeddings.register_forward_hook(
        lambda module, args, output: seen.append(len(output))
    )
    backbone(torch.rand(5, 3, 32, 32))
    hook.remove()
    assert seen == [2, 2, 1]
    mixing = MaskCLIP(model, tokenizer, attention="key-key")
    assert mixing._item_bytes((32, 32)) > item
    assert backbone._item_bytes((64, 64)) > 3 * item


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_dtypes_agree(model, tokenizer, image, attention, dtype):
    options = {"attention": attention, "templates": PLAIN, "scores": "cosine"}
    expected = MaskCLIP(model, tokenizer, **options)(image, CLASSES)
    seen = MaskCLIP(copy.deepcopy(model).to(dtype), tokenizer, **options)(image.to(dtype), CLASSES)
    assert seen.logits.dtype == seen.feats.dtype == torch.float32
    tolerance = 0.06 if dtype.itemsize == 2 else 1e-4
    torch.testing.assert_close(seen.feats, expected.feats, rtol=0, atol=tolerance)
    torch.testing.assert_close(seen.logits, expected.logits, rtol=0, atol=tolerance)


def test_texts_are_embedded_once(model, tokenizer, image):
    backbone = MaskCLIP(model, tokenizer, templates=PLAIN)
    calls = []
    hook = model.text_model.register_forward_hook(lambda *args: calls.append(1))
    first = backbone(image, CLASSES).logits
    assert calls
    del calls[:]
    with torch.inference_mode():
        backbone(image, list(CLASSES))
    torch.testing.assert_close(backbone(image, tuple(CLASSES)).logits, first)
    assert not calls
    for number in range(20):
        backbone.text_embeddings([f"cat {number}"])
    assert len(calls) == 20
    assert len(backbone._texts) < 10
    backbone(image, CLASSES)
    assert len(calls) == 21
    hook.remove()


def test_texts_follow_the_models_dtype(model, tokenizer, image):
    backbone = MaskCLIP(copy.deepcopy(model), tokenizer, templates=PLAIN, scores="cosine")
    with torch.inference_mode():
        single = backbone.text_embeddings(CLASSES)
    backbone.bfloat16()
    half = backbone.text_embeddings(CLASSES)
    assert half.dtype == torch.float32
    assert 0 < (half - single).abs().max() < 0.1
    backbone(image, CLASSES)


def test_it_is_frozen_and_pickles(model, tokenizer, image):
    backbone = MaskCLIP(copy.deepcopy(model).train(), tokenizer, templates=PLAIN)
    assert not any(module.training for module in backbone.modules())
    backbone.train()
    assert not any(module.training for module in backbone.modules())
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    expected = backbone(image.clone().requires_grad_(), CLASSES)
    assert not expected.logits.requires_grad
    copied = pickle.loads(pickle.dumps(backbone))
    torch.testing.assert_close(copied(image, CLASSES).logits, expected.logits)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        seen = backbone(image, CLASSES)
    assert F.cosine_similarity(seen.feats, expected.feats).min() > 0.99


@pytest.mark.parametrize("dtype", [None, torch.float32, torch.bfloat16])
def test_loading_what_was_saved(model, tokenizer, image, dtype, tmp_path):
    stored = torch.float32 if dtype is None else dtype
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    options = {"download": False, "templates": PLAIN, "attention": "key-key"}
    loaded = MaskCLIP.from_pretrained(tmp_path, dtype=dtype, **options)
    assert loaded.dtype == stored
    expected = MaskCLIP(copy.deepcopy(model).to(stored), tokenizer, templates=PLAIN,
                        attention="key-key")(image, CLASSES)  # fmt: skip
    torch.testing.assert_close(loaded(image, CLASSES), expected)


def test_loading_takes_the_checkpoints_colours(model, tokenizer, image, tmp_path):
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    mean, std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    transformers.CLIPImageProcessorPil(image_mean=mean, image_std=std).save_pretrained(tmp_path)
    expected = by_hand(model, normalised(image, mean, std), "value", True)
    seen = MaskCLIP.from_pretrained(str(tmp_path), download=False)(image).feats
    torch.testing.assert_close(seen.flatten(2).mT, expected, rtol=1e-3, atol=1e-5)
    own = MaskCLIP.from_pretrained(tmp_path, download=False, mean=(0, 0, 0), std=(1, 1, 1))
    expected = by_hand(model, image, "value", True)
    torch.testing.assert_close(own(image).feats.flatten(2).mT, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("download", [False, True])
def test_missing_checkpoints_are_refused(monkeypatch, tmp_path, download):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=r"^checkpoint: got 'nobody/nothing'"):
        MaskCLIP.from_pretrained("nobody/nothing", download=download)
    assert all("/" in name for name in CHECKPOINTS.values())


def test_a_checkpoint_without_its_vocabulary(model, tmp_path):
    model.save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"^checkpoint: .*CLIPTokenizer .*it has no vocabulary"):
        MaskCLIP.from_pretrained(tmp_path, download=False)


def test_cached_embeddings_depend_on_the_prompts_only(model, tokenizer, image):
    backbone = MaskCLIP(model, tokenizer, templates=PLAIN, scores="cosine")
    expected = MaskCLIP(model, tokenizer, templates=PLAIN).text_embeddings(["cat"])
    with torch.autocast("cpu", torch.bfloat16):
        backbone(image, ["cat", "dog"])
        assert torch.equal(backbone.text_embeddings(["cat"]), expected)
    backbone.templates = ("a good photo of a {}.",)
    assert not torch.equal(backbone.text_embeddings(["cat"]), expected)


def test_short_names_stand_for_repositories(model, tokenizer, monkeypatch):
    asked = []

    def load(package, name, checkpoint, **options):
        asked.append((package, name, checkpoint))
        return model

    def load_words(checkpoint, *, name, **options):
        asked.append((name, checkpoint))
        return tokenizer

    monkeypatch.setattr("lpprop.backbones.clip.load_model", load)
    monkeypatch.setattr("lpprop.backbones.clip.load_tokenizer", load_words)
    for short, name in CHECKPOINTS.items():
        MaskCLIP.from_pretrained(short, mean=(0, 0, 0), std=(1, 1, 1))
        assert asked == [("transformers", "AutoModel", name), ("CLIPTokenizer", name)]
        del asked[:]


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r"pip install 'lpprop\[models\]'"):
        MaskCLIP.from_pretrained("openai-vitb16")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attention": "keys"}, "attention: got 'keys', expected one of 'value', 'query-key'"),
        ({"residual": 1}, "residual: got 1"),
        ({"merge": None}, "merge: got None"),
        ({"scores": "logits"}, "scores: got 'logits', expected one of 'softmax', 'cosine'"),
        ({"logit_scale": 0}, "logit_scale: got 0"),
        ({"templates": []}, "templates: got []"),
        ({"templates": ["a cat"]}, "templates: got 'a cat'"),
        ({"templates": ["ñ {}"]}, "tokenizer: got one that cannot read 'ñ a'"),
        ({"max_bytes": 0}, "max_bytes: got 0"),
    ],
)
def test_bad_options_are_refused(model, tokenizer, options, message):
    with pytest.raises(InputError) as refused:
        MaskCLIP(model, tokenizer, **options)
    assert str(refused.value).startswith(message)


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ([], "classes: got []"),
        ("cat", "classes: got 'cat'"),
        (["cat", "Cat"], "classes[1]: got 'Cat' with the name of 'cat'"),
        (["cat", " = dog"], "classes[1]: got ' = dog'"),
        (["cat", "z" * 40], "classes: got the prompt 'a photo of a zzz"),
        (["jalapeño"], "tokenizer: got one that cannot read 'a photo of a jalapeño.'"),
    ],
)
def test_bad_classes_are_refused(model, tokenizer, image, classes, message):
    with pytest.raises(InputError) as refused:
        MaskCLIP(model, tokenizer, templates=PLAIN)(image, classes)
    assert str(refused.value).startswith(message)


def test_another_kind_of_model_is_refused(model, tokenizer):
    with pytest.raises(InputError, match=r"^model: got CLIPVisionModel, expected a transformers"):
        MaskCLIP(model.vision_model, tokenizer)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("attention", ATTENTIONS)
def test_cuda_agrees(model, tokenizer, image, attention):
    options = {"attention": attention, "templates": PLAIN, "scores": "cosine"}
    backbone = MaskCLIP(copy.deepcopy(model), tokenizer, **options)
    expected = backbone(image, CLASSES)
    seen = backbone.cuda()(image.cuda(), CLASSES)
    assert seen.logits.is_cuda
    torch.testing.assert_close(seen.logits.cpu(), expected.logits, rtol=0, atol=5e-3)
    torch.testing.assert_close(seen.feats.cpu(), expected.feats, rtol=0, atol=5e-3)


def test_scores_of_whole_images_are_the_models_own():
    """Logits per image, without their scale, of the class's best synonym."""
    tokenizer = tiny_tokenizer()
    model = tiny_model(tokenizer)
    backbone = MaskCLIP(model, tokenizer, templates=["a {}"], scores="cosine")
    image = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    prompts = parse_classes(CLASSES).prompts
    ids = tokenizer([f"a {text}" for text in prompts], padding=True, return_tensors="pt")
    mean, std = (torch.tensor(x)[:, None, None] for x in (backbone._mean, backbone._std))
    with torch.no_grad():
        seen = model(**ids, pixel_values=(image - mean) / std)
    cosines = seen.logits_per_image / model.logit_scale.exp()
    expected = merge_classes(cosines, parse_classes(CLASSES).groups)
    found = backbone.image_scores(image, CLASSES)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    split = MaskCLIP(model, tokenizer, templates=["a {}"], max_bytes=1).image_scores(image, CLASSES)
    torch.testing.assert_close(split, found, rtol=1e-4, atol=1e-5)
    # Images of another shape are seen in their aspect ratio.
    assert backbone.image_scores(torch.rand(1, 3, 30, 50), CLASSES).shape == (1, 3)
