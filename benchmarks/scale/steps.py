"""The steps of one image on one core of a CPU, with networks of the real sizes.

The networks have random weights, which take as long as trained ones. The photograph comes with
scikit-image; the size of a label map is that of its segmentation by the recipe "offline".
"""

from __future__ import annotations

import io
import statistics
import string
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

import lpprop
from lpprop._core.measure import time_call
from lpprop.backbones.clip import MaskCLIP
from lpprop.backbones.prompts import PLAIN
from lpprop.backbones.vision_transformer import VisionTransformer
from lpprop.batch import Segment
from lpprop.io.label_maps import label_image
from lpprop.models.segmenter import Segmenter

from ..contract import machine

# The 20 classes of PASCAL VOC.
CLASSES = [
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "dining table", "dog", "horse", "motorbike", "person", "potted plant", "sheep", "sofa",
    "train", "tvmonitor",
]  # fmt: skip
SIZE = (448, 597)
WINDOW, STRIDE = 224, 112
REPEATS = 3


def measure() -> dict[str, Any]:
    """Return seconds and bytes of an image, by step, and the machine that gave them."""
    torch.set_num_threads(1)
    stored, pixels = photograph()
    segmenter = build_segmenter()
    seconds: dict[str, list[float]] = {"scores": [], "features": []}
    outputs: dict[str, Any] = {}

    def call_model(model: Any, *inputs: Any) -> Any:
        name = "scores" if model is segmenter.backbone else "features"
        outputs[name], elapsed = time_call(lambda: model(*inputs))
        seconds[name].append(elapsed)
        return outputs[name]

    segmenter.call_model = call_model
    segmenter.backbone.text_embeddings(CLASSES)  # once per worker, not per image
    for _ in range(REPEATS):
        unrefined = segmenter.prepare(pixels, CLASSES)
    arguments = unrefined.arguments
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("error", lpprop.InputWarning)
        given = {**arguments, "method": "lposs"}
        seconds["patch step"] = timed(lambda: lpprop.refine(**given))
        both = timed(lambda: lpprop.refine(**{**given, "method": "lposs+"}))
    seconds["pixel step"] = [a - b for a, b in zip(both, seconds["patch step"], strict=True)]
    labels = segment(stored)
    seconds["decode"] = timed(lambda: decode(stored))
    seconds["encode"] = timed(lambda: encode(labels))
    features = [x for x in (outputs["scores"].feats, outputs["features"].feats) if x is not None]
    return {
        "machine": machine(),
        "size": list(SIZE),
        "classes": len(CLASSES),
        "windows": len(arguments["windows"]),
        "patches": int(np.prod(arguments["feats"].shape) // arguments["feats"].shape[1]),
        "flops": {
            name: count_flops(model, arguments["windows"].split(as_batch(pixels)), *given)
            for name, model, given in (
                ("scores", segmenter.backbone, (CLASSES,)),
                ("features", segmenter.affinity, ()),
            )
        },
        "seconds": {name: statistics.median(values) for name, values in seconds.items()},
        "bytes": {
            "image": len(stored),
            "pixels": int(pixels.nbytes),
            "features": sum(x.nbytes for x in features),
            "scores": 4 * len(CLASSES) * SIZE[0] * SIZE[1],
            "labels": len(encode(labels)),
        },
    }


def timed(call: Callable[[], object]) -> list[float]:
    call()
    return [time_call(call)[1] for _ in range(REPEATS)]


def photograph() -> tuple[bytes, np.ndarray[Any, Any]]:
    """Return a photograph as a JPEG, and its pixels."""
    from skimage.data import stereo_motorcycle

    image = Image.fromarray(stereo_motorcycle()[0]).resize((SIZE[1], SIZE[0]))
    with io.BytesIO() as file:
        image.save(file, "JPEG", quality=90)
        return file.getvalue(), decode(file.getvalue())


def decode(stored: bytes) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(io.BytesIO(stored)).convert("RGB"))


def encode(labels: np.ndarray[Any, Any]) -> bytes:
    with io.BytesIO() as file:
        label_image(torch.from_numpy(labels.astype(np.int64)), len(CLASSES)).save(file, "PNG")
        return file.getvalue()


def segment(stored: bytes) -> np.ndarray[Any, Any]:
    found = Segment(["motorcycle; moped", "car", "park bench"], "offline").process(
        {"image": stored}
    )
    if found["error"]:
        raise RuntimeError(found["error"])
    labels: np.ndarray[Any, Any] = found["labels"]
    return labels


def build_segmenter() -> Segmenter:
    """Return the recipe "clip-dino" without its weights."""
    from transformers import CLIPConfig, CLIPModel, CLIPTokenizer, ViTConfig, ViTModel

    letters = [*string.ascii_lowercase, "."]
    tokens = [*letters, *(f"{x}</w>" for x in letters), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=[])
    ends: Any = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id")}
    clip = CLIPConfig(text_config=ends, vision_config={"patch_size": 16}, projection_dim=512)
    torch.manual_seed(0)
    return Segmenter(
        MaskCLIP(CLIPModel(clip).eval(), tokenizer, scores="cosine", templates=PLAIN),
        VisionTransformer(ViTModel(ViTConfig(), add_pooling_layer=False).eval()),
        method="lposs+",
        shorter_side=SIZE[0],
        antialias=False,
        windows=(WINDOW, STRIDE),
    )


def as_batch(pixels: np.ndarray[Any, Any]) -> torch.Tensor:
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255


def count_flops(model: Any, *inputs: Any) -> int:
    """Count the operations of the products in a network: two per multiply-add."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(*inputs)
    return counter.get_total_flops()
