"""VisionTransformer with trained weights of DINOv2 against the paper's equations in float64.

The weights are not part of the repository: without them in `../shared` these tests are skipped.
"""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from lpprop.backbones import VisionTransformer

FOLDER = Path(__file__).parents[2] / "shared" / "dinov2-small"

pytest.importorskip("transformers")
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="no trained weights")


@pytest.fixture(scope="module")
def weights():
    states = load_file(FOLDER / "model.safetensors")
    return {name: tensor.double() for name, tensor in states.items()}


def linear(weights, name, x):
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def norm(weights, name, x):
    return F.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], 1e-6)


def by_hand(weights, pixels):
    """Tokens of the patches, and the last block's attention between them, without resizing."""
    patches = "embeddings.patch_embeddings.projection"
    x = F.conv2d(pixels, weights[f"{patches}.weight"], weights[f"{patches}.bias"], stride=14)
    x = torch.cat([weights["embeddings.cls_token"][0], x[0].flatten(1).T])
    x = x + weights["embeddings.position_embeddings"][0]
    for number in range(12):
        block = f"encoder.layer.{number}"
        normed = norm(weights, f"{block}.norm1", x)
        query, key, value = (
            linear(weights, f"{block}.attention.attention.{name}", normed)
            .unflatten(-1, (6, 64))
            .transpose(0, 1)
            for name in ("query", "key", "value")
        )
        attention = (query @ key.mT / 8).softmax(-1)
        mixed = linear(weights, f"{block}.attention.output.dense",
                       (attention @ value).transpose(0, 1).flatten(1))  # fmt: skip
        x = x + weights[f"{block}.layer_scale1.lambda1"] * mixed
        hidden = F.gelu(linear(weights, f"{block}.mlp.fc1", norm(weights, f"{block}.norm2", x)))
        x = x + weights[f"{block}.layer_scale2.lambda1"] * linear(
            weights, f"{block}.mlp.fc2", hidden
        )
    rows = attention.mean(0)[1:, 1:]
    return norm(weights, "layernorm", x)[1:], rows / rows.sum(-1, keepdim=True)


def test_tokens_and_attention_at_the_trained_grid(weights):
    backbone = VisionTransformer.from_pretrained(
        FOLDER, dtype=torch.float32, features="token", attention="query-key"
    )
    assert backbone.feats_from == "dinov2"
    image = torch.rand(1, 3, 518, 518, generator=torch.Generator().manual_seed(0))
    mean, std = (
        torch.tensor(values, dtype=torch.float64)[:, None, None]
        for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    tokens, rows = by_hand(weights, (image.double() - mean) / std)
    grid, _, feats, attention = backbone(image)
    assert grid == (37, 37)
    found = feats[0].flatten(1).T.double()
    assert float((found - tokens).norm() / tokens.norm()) < 1e-5
    assert float((attention[0].double() - rows).abs().sum(-1).max()) < 1e-4
    # Even the tokens of noise differ by far more than that.
    assert float((tokens - tokens.mean(0)).norm() / tokens.norm()) > 0.05
