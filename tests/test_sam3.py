"""SAM3Concepts against a tiny SAM 3 that is asked for one image and one prompt at a time."""

import json
import string

import numpy as np
import pytest
import torch
from PIL import Image

import lpprop
from lpprop import InputError
from lpprop.backbones import SAM3Concepts
from lpprop.backbones.sam3 import CHECKPOINTS
from lpprop.models import Segmenter

transformers = pytest.importorskip("transformers", reason="the extra models is not installed")

UTILS = transformers.image_utils
CLASSES = ["background = sky; wall", "cat", "dog; puppy"]
PROMPTS, GROUPS = ["sky", "wall", "cat", "dog", "puppy"], [[0, 1], [2], [3, 4]]


def tiny_tokenizer():
    letters = [*string.ascii_lowercase, *(f"{letter}</w>" for letter in string.ascii_lowercase)]
    vocab = [*letters, "<|startoftext|>", "<|endoftext|>"]
    return transformers.CLIPTokenizer(vocab={t: i for i, t in enumerate(vocab)}, merges=[])


def tiny_model(tokenizer, **vision):
    size = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2}
    ends = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id")}
    config = transformers.Sam3Config(
        vision_config={
            "fpn_hidden_size": 16,
            "backbone_config": {
                "model_type": "sam3_vit_model", **size, "num_hidden_layers": 2, "image_size": 32,
                "patch_size": 8, "window_size": 2, "global_attn_indexes": [1],
                "pretrain_image_size": 16, **vision,
            },
        },
        text_config={
            "model_type": "clip_text_model", **size, **ends, "num_hidden_layers": 2,
            "vocab_size": len(tokenizer), "max_position_embeddings": 32, "projection_dim": 12,
        },
        geometry_encoder_config={**size, "num_layers": 1},
        detr_encoder_config={**size, "num_layers": 1},
        detr_decoder_config={**size, "num_layers": 2, "num_queries": 5},
        mask_decoder_config={"hidden_size": 16, "num_attention_heads": 2},
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.Sam3Model(config).eval()
    with torch.no_grad():  # fresh ones say the same of every prompt
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
        model.mask_decoder.semantic_projection.bias.sub_(1.5)
        model.mask_decoder.instance_projection.weight.mul_(4)
    return model


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_tokenizer()


@pytest.fixture(scope="module")
def model(tokenizer):
    return tiny_model(tokenizer)


@pytest.fixture(scope="module")
def image():
    """Of the size that the model takes, so that nothing is resized."""
    return torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
@torch.no_grad()
def maps(model, tokenizer, image):
    """The formula, (B, Q, I + 1, 16, 16): score times mask per instance, and the concept's mask."""
    found = np.zeros((2, 5, 6, 16, 16))
    for b, one in enumerate(image):
        for q, prompt in enumerate(PROMPTS):
            # As the processor pads a prompt.
            text = tokenizer(prompt, padding="max_length", max_length=32, return_tensors="pt")
            output = model(pixel_values=(one[None] - 0.5) / 0.5, **text)
            present, score, mask, concept = (
                1 / (1 + np.exp(-x[0].double().numpy()))
                for x in (output.presence_logits, output.pred_logits, output.pred_masks,
                          output.semantic_seg)
            )  # fmt: skip
            for i in range(5):
                found[b, q, i] = present[0] * score[i] * mask[i]
            found[b, q, 5] = present[0] * concept[0]
    return found


@pytest.mark.parametrize("semantic", [True, False])
@pytest.mark.parametrize("max_bytes", [2**30, 1])
def test_logits_by_the_formula(model, tokenizer, image, maps, semantic, max_bytes):
    per_prompt = maps[:, :, : 6 if semantic else 5].max(2)
    expected = np.stack([per_prompt[:, group].max(1) for group in GROUPS], 1)
    backbone = SAM3Concepts(model, tokenizer, semantic=semantic, max_bytes=max_bytes)
    grid, logits, feats, attention = backbone(image, CLASSES)
    assert (grid, feats, attention) == ((16, 16), None, None)
    torch.testing.assert_close(logits, torch.from_numpy(expected).float(), atol=2e-5, rtol=1e-4)
    assert backbone.class_names(CLASSES) == ["background", "cat", "dog"]


def test_nothing_of_the_formula_is_idle(maps):
    """Synonyms, instances, the concept's mask, prompts and images all decide somewhere."""
    assert len({int(x) for x in maps.argmax(2).ravel()}) > 2
    assert (maps.argmax(2) == 5).any()
    best = maps.max(2)
    assert np.ptp(best, axis=1).max() > 0.02
    assert np.abs(best[0] - best[1]).max() > 0.02
    for group in (GROUPS[0], GROUPS[2]):
        assert len(np.unique(best[:, group].argmax(1))) == 2


def test_images_and_texts_are_encoded_once(model, tokenizer, image):
    seen = {"vision_encoder": [], "text_encoder": [], "mask_decoder": []}
    hooks = [
        getattr(model, name).register_forward_pre_hook(
            lambda _, args, kwargs, calls=calls: calls.append(
                len(next(iter(kwargs.values()), *args))
            ),
            with_kwargs=True,
        )
        for name, calls in seen.items()
    ]
    backbone = SAM3Concepts(model, tokenizer)
    backbone.max_bytes = 2 * backbone._item_bytes((32, 32))
    backbone(image, CLASSES)
    backbone(image, CLASSES)
    for hook in hooks:
        hook.remove()
    assert len(seen["text_encoder"]) == 1
    assert len(seen["vision_encoder"]) == 2
    per_image = 2 * backbone._item_bytes((32, 32)) // backbone._prompt_bytes()
    assert sum(seen["mask_decoder"]) == 2 * 2 * len(PROMPTS)
    assert max(seen["mask_decoder"]) == min(per_image, len(PROMPTS))


def test_the_image_is_squashed_as_by_the_processor(model, tokenizer):
    """By Pillow, since the processor of SAM 3 itself needs torchvision: its sizes and colours."""
    from transformers.image_processing_backends import PilBackend

    processor = PilBackend(
        size={"height": 32, "width": 32},
        resample=UTILS.PILImageResampling.BILINEAR,
        image_mean=UTILS.IMAGENET_STANDARD_MEAN,
        image_std=UTILS.IMAGENET_STANDARD_STD,
        do_resize=True,
        do_rescale=True,
        do_normalize=True,
        rescale_factor=1 / 255,
    )
    rows, columns = np.mgrid[:70, :96]
    photo = np.stack([3 * rows, 2 * columns, (rows * columns) % 256], -1).astype(np.uint8)
    expected = processor(Image.fromarray(photo), return_tensors="pt").pixel_values
    backbone = SAM3Concepts(model, tokenizer)
    prepared = backbone._prepare(torch.from_numpy(photo).permute(2, 0, 1)[None] / 255)
    # Pillow rounds to 8 bits after each axis.
    torch.testing.assert_close(prepared, expected, atol=2.1 / 127.5, rtol=0)
    assert backbone.span((70, 96)) == (70, 96)


def test_half_precision_gives_nearly_the_same_in_float32(tokenizer, image):
    full = SAM3Concepts(tiny_model(tokenizer), tokenizer)(image, CLASSES).logits
    half = SAM3Concepts(tiny_model(tokenizer).bfloat16(), tokenizer)(image, CLASSES).logits
    assert half.dtype == torch.float32
    assert (half - full).abs().mean() < 0.02


def test_saved_and_loaded(model, tokenizer, image, tmp_path):
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    loaded = SAM3Concepts.from_pretrained(tmp_path, download=False, semantic=False)
    expected = SAM3Concepts(model, tokenizer, semantic=False)(image, CLASSES)
    torch.testing.assert_close(loaded(image, CLASSES), expected)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.1] * 3}))
    assert SAM3Concepts.from_pretrained(tmp_path)._mean == (0.1,) * 3
    assert CHECKPOINTS == {"sam3": "facebook/sam3"}


def test_what_cannot_be_used(model, tokenizer, image):
    backbone = SAM3Concepts(model, tokenizer)
    for classes, message in (
        (None, "classes: got None, expected a list of class names, since SAM 3"),
        ([], r"classes: got \[\]"),
        (["cat", "z" * 40], "classes: got the prompt 'zzz"),
        (["ñ"], "tokenizer: got one that cannot read 'ñ'"),
    ):
        with pytest.raises(InputError, match=f"^{message}"):
            backbone(image, classes)
    with pytest.raises(InputError, match=r"^model: got Sam3VisionModel, expected a transf"):
        SAM3Concepts(model.vision_encoder, tokenizer)
    with pytest.raises(InputError, match=r"^semantic: got 1"):
        SAM3Concepts(model, tokenizer, semantic=1)


def test_a_background_is_compared_with_the_probabilities_themselves(model, tokenizer, image):
    backbone = SAM3Concepts(model, tokenizer)
    logits = backbone(image[:1], CLASSES).logits
    threshold = float(logits.amax(1).median())
    segmenter = Segmenter(backbone, method="bilinear", background=threshold)
    found = segmenter(image[:1], CLASSES)
    by_hand = lpprop.add_background(lpprop.bilinear_upsample(logits, (32, 32)), threshold)
    assert torch.equal(found.scores, by_hand)
    assert 0.2 < (found.labels == 3).double().mean() < 0.8
    alone = segmenter(image[:1], CLASSES[:1])  # no other class is needed, where each is by itself
    assert alone.class_names == [found.class_names[0], "none of these"]
    torch.testing.assert_close(alone.scores[:, 0], found.scores[:, 0])
    with pytest.raises(InputError, match="background: got it beside a model of independent prob"):
        Segmenter(backbone, method="local_crf", background=0.5)
