"""MaskCLIP on MetaCLIP 2, whose tokens and texts come through the library's own door."""

import string

import pytest
import torch
import torch.nn.functional as F

from lpprop import InputError
from lpprop.backbones import MaskCLIP
from lpprop.backbones.prompts import PLAIN

transformers = pytest.importorskip("transformers", reason="the extra models is not installed")

from test_clip import by_hand, normalised, texts_by_hand  # noqa: E402


def tiny_tokenizer():
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "▁", *string.ascii_lowercase, "ñ", ".", "<mask>"]
    return transformers.XLMRobertaTokenizer(vocab=[(piece, -1.0) for piece in pieces])


def tiny_model(tokenizer, **vision):
    size = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4}
    ends = {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1}
    config = transformers.MetaClip2Config(
        text_config={**size, **ends, "num_hidden_layers": 2, "vocab_size": len(tokenizer)},
        vision_config={
            **size, "num_hidden_layers": 3, "image_size": 32, "patch_size": 8, **vision,
        },
        projection_dim=16,
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.MetaClip2Model(config).eval()
    with torch.no_grad():
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


@torch.no_grad()
def test_the_models_own_attention_gives_the_models_own_tokens(model, tokenizer, image):
    states = model.vision_model(normalised(image), interpolate_pos_encoding=True).last_hidden_state
    expected = model.visual_projection(model.vision_model.post_layernorm(states[:, 1:]))
    feats = MaskCLIP(model, tokenizer, attention="query-key")(image).feats
    expected = F.normalize(expected, dim=-1).mT.unflatten(2, (5, 3))
    torch.testing.assert_close(feats, expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_values_and_texts_by_hand(model, tokenizer, image):
    prompts = ["sky", "wall", "jalapeño"]
    patches = by_hand(model, normalised(image), "value", True)
    texts = texts_by_hand(model, tokenizer, prompts, PLAIN)
    expected = (patches @ texts.T).mT.unflatten(2, (5, 3))
    backbone = MaskCLIP(model, tokenizer, templates=PLAIN, scores="cosine", merge=False)
    logits = backbone(image, ["background = sky; wall", "jalapeño"]).logits
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)
    assert (logits.amax(1) - logits.amin(1)).min() > 0.01


def test_saved_and_loaded(model, tokenizer, image, tmp_path):
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    loaded = MaskCLIP.from_pretrained(tmp_path, download=False, templates=PLAIN)
    assert type(loaded.model) is type(model)
    expected = MaskCLIP(model, tokenizer, templates=PLAIN)(image, ["cat", "dog"])
    torch.testing.assert_close(loaded(image, ["cat", "dog"]), expected)


def test_a_checkpoint_of_another_kind_is_refused_before_its_tokenizer(tmp_path):
    config = transformers.ViTConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
    )
    transformers.ViTModel(config).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="model: got ViTModel, expected a transf"):
        MaskCLIP.from_pretrained(tmp_path, download=False)
