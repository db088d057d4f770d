"""MaskTIPS against the modules of a tiny TIPS v2, and its texts one sentence at a time."""

import copy
import json
import string

import pytest
import torch
import torch.nn.functional as F

from lpprop import InputError, merge_classes
from lpprop.backbones import MaskTIPS
from lpprop.backbones.tips import CHECKPOINTS, TCL_TEMPLATES

transformers = pytest.importorskip("transformers", reason="the extra models is not installed")

CLASSES = ["background = sky; wall", "cat", "dog; puppy"]
PROMPTS, GROUPS = ["sky", "wall", "cat", "dog", "puppy"], [[0, 1], [2], [3, 4]]


def tiny_tokenizer():
    pieces = ["<pad>", "<unk>", "▁", *string.ascii_lowercase, "."]
    return transformers.Tipsv2Tokenizer(vocab={piece: i for i, piece in enumerate(pieces)})


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_tokenizer()


def tiny_model(tokenizer, **vision):
    size = {"hidden_size": 24, "num_attention_heads": 3}
    config = transformers.Tipsv2Config(
        text_config=size
        | {"num_hidden_layers": 2, "intermediate_size": 40, "vocab_size": len(tokenizer)},
        vision_config=size
        | {"num_hidden_layers": 3, "mlp_ratio": 2, "image_size": 32, "patch_size": 8}
        | vision,
        temperature_init_value=0.1,
    )
    torch.manual_seed(0)
    model = transformers.Tipsv2Model(config).eval()
    with torch.no_grad():  # layer scales of 1 would not be missed
        for name, parameter in model.named_parameters():
            if name != "temperature":
                parameter.add_(0.2 * torch.randn_like(parameter))
    return model


@pytest.fixture(scope="module")
def model(tokenizer):
    return tiny_model(tokenizer)


@pytest.fixture(scope="module")
def image():
    return torch.rand(2, 3, 40, 24, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def patches_by_the_model(model, image):
    """The model's own path, with a last attention that looks at nothing but its own token."""
    model = copy.deepcopy(model)
    last = model.vision_model.encoder.layer[-1].attention
    last.forward = lambda x, *_, **__: (last.o_proj(last.v_proj(x)), None)
    tokens = model.vision_model(image).last_hidden_state
    return F.normalize(tokens[:, 2:], dim=-1)  # after the class token and the register


@torch.no_grad()
def texts_one_by_one(model, tokenizer):
    """Each sentence by itself, as the processor pads it."""
    found = []
    for prompt in PROMPTS:
        sentences = [template.replace("{}", prompt) for template in TCL_TEMPLATES]
        each = [
            model.get_text_features(
                **tokenizer(sentence, padding="max_length", max_length=64, return_tensors="pt")
            ).pooler_output
            for sentence in sentences
        ]
        found.append(F.normalize(F.normalize(torch.cat(each), dim=-1).mean(0), dim=0))
    return torch.stack(found)


@pytest.mark.parametrize("size", [(40, 24), (32, 32), (13, 61)])
def test_feats_are_the_values_in_the_joint_space(model, tokenizer, size):
    image = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1))
    grid = tuple(-(-side // 8) for side in size)
    padded = torch.zeros(2, 3, 8 * grid[0], 8 * grid[1])  # TIPS takes colours as they are
    padded[..., : size[0], : size[1]] = image
    expected = patches_by_the_model(model, padded).mT.unflatten(2, grid)
    found, logits, feats, attention = MaskTIPS(model, tokenizer)(image)
    assert (found, logits, attention) == (grid, None, None)
    torch.testing.assert_close(feats, expected, atol=1e-5, rtol=1e-4)


def test_texts_are_those_of_the_model_one_by_one(model, tokenizer):
    expected = texts_one_by_one(model, tokenizer)
    whole, parts = MaskTIPS(model, tokenizer), MaskTIPS(model, tokenizer, max_bytes=1)
    for backbone in (whole, parts):
        found = backbone.text_embeddings(CLASSES)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    assert whole.text_embeddings(CLASSES) is whole.text_embeddings(CLASSES)


def test_logits_by_hand(model, tokenizer, image):
    cosines = patches_by_the_model(model, image) @ texts_one_by_one(model, tokenizer).T
    cosines = cosines.mT.unflatten(2, (5, 3))
    expected = {
        "softmax": merge_classes((cosines / 0.1).softmax(1), GROUPS),
        "cosine": merge_classes(cosines, GROUPS),
    }
    assert (cosines.amax(1) - cosines.amin(1)).min() > 0.01
    for scores, wanted in expected.items():
        backbone = MaskTIPS(model, tokenizer, scores=scores)
        torch.testing.assert_close(backbone(image, CLASSES).logits, wanted, atol=1e-4, rtol=1e-4)
    unmerged = MaskTIPS(model, tokenizer, scores="cosine", merge=False)
    torch.testing.assert_close(unmerged(image, CLASSES).logits, cosines, atol=1e-5, rtol=1e-4)
    assert unmerged.groups(CLASSES) == GROUPS
    assert unmerged.class_names(CLASSES) == ["background", "cat", "dog"]


def test_saved_and_loaded(model, tokenizer, image, tmp_path):
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    expected = MaskTIPS(model, tokenizer)(image, CLASSES)
    loaded = MaskTIPS.from_pretrained(tmp_path, download=False)
    torch.testing.assert_close(loaded(image, CLASSES), expected)
    mean = (0.1, 0.2, 0.3)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"image_mean": mean}))
    other = MaskTIPS.from_pretrained(str(tmp_path), download=False, dtype=torch.bfloat16)
    assert (other._mean, other._std, other.dtype) == (mean, (1, 1, 1), torch.bfloat16)
    assert all(name.startswith("google/tipsv2-") for name in CHECKPOINTS.values())


def test_what_cannot_be_used(model, tokenizer):
    with pytest.raises(InputError, match="model: got Tipsv2VisionModel, expected a transformers"):
        MaskTIPS(model.vision_model, tokenizer)
    with pytest.raises(InputError, match="classes: got the prompt 'itap of a zzz"):
        MaskTIPS(model, tokenizer).text_embeddings(["z" * 60])
    small = tiny_model(["<pad>", "<unk>"])
    with pytest.raises(InputError, match="tokenizer: got one that makes the token"):
        MaskTIPS(small, tokenizer).text_embeddings(["cat"])
