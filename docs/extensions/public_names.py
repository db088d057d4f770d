"""Every public name of the package, by the path that a user writes."""

from __future__ import annotations

import importlib
import re
from functools import cache
from types import ModuleType

import lpprop

__all__ = ["documented_name", "public_names", "role"]

# The modules beside the face whose `__all__` is public.
_MODULES = (
    "presets", "batch", "comparison", "regions", "backbones", "models", "evaluation",
    "evaluation.tuning", "evaluation.analyses", "evaluation.datasets", "integrations",
    "integrations.huggingface", "integrations.mmsegmentation", "tiled", "video", "viz",
)  # fmt: skip

# Of files that hold parts of other files too, what a user calls.
_CHOSEN = {
    "io.arrays": ("find_arrays", "load_array"),
    "io.images": ("find_images", "load_image", "open_image", "save_image"),
    "io.label_maps": ("label_image", "load_labels"),
    "io.videos": ("VideoFrame", "VideoInfo", "describe_video", "read_video", "write_video"),
    "numerics.cg": ("CGResult", "cg"),
    "numerics.ipf": ("IPFResult", "ipf"),
    "numerics.sinkhorn": ("SinkhornResult", "sinkhorn"),
}


@cache
def public_names() -> dict[str, object]:
    """Return the objects by path; what has several paths is under the shortest, and once."""
    found = {f"lpprop.{name}": getattr(lpprop, name) for name in lpprop.__all__}
    del found["lpprop.__version__"], found["lpprop.presets"]
    chosen = {name: _module(name).__all__ for name in _MODULES} | _CHOSEN
    seen = {id(value) for value in found.values()}
    for module, names in chosen.items():
        for name in names:
            value = getattr(_module(module), name)
            if id(value) not in seen:
                found[f"lpprop.{module}.{name}"] = value
                seen.add(id(value))
    return found


def _module(name: str) -> ModuleType:
    return lpprop.presets if name == "presets" else importlib.import_module(f"lpprop.{name}")


@cache
def _by_identity() -> dict[int, str]:
    return {id(value): path for path, value in public_names().items()}


def documented_name(text: str) -> str | None:
    """Return the path under which the reference has what a text names, or None.

    Raises:
        LookupError: a path in the package that leads nowhere.

    >>> documented_name("lpprop.models.segmenter.Segmenter"), documented_name("propagate_pixels")
    ('lpprop.models.Segmenter', 'lpprop.propagate_pixels')
    >>> documented_name("lpprop.fuse_masks(masks, threshold=0.9)")
    'lpprop.fuse_masks'
    >>> documented_name("show"), documented_name("x + y")
    (None, None)
    """
    text = re.sub(r"^([\w.]+)\(.*\)$", r"\1", text)  # of a call, the function
    if re.fullmatch(r"lpprop(\.\w+)+", text):
        return _by_identity().get(id(_resolve(text)))
    # A word alone is linked if nothing else can be meant.
    if re.fullmatch(r"[A-Z]\w*[a-z]\w*|[a-z]+_\w+", text):
        paths = [path for path in public_names() if path.rpartition(".")[2] == text]
        return min(paths, key=len) if paths and ".presets." not in min(paths, key=len) else None
    return None


def _resolve(path: str) -> object:
    """Return what a path leads to; None for a file that needs a package that is not installed."""
    value: object = lpprop
    names = path.split(".")
    for index, name in enumerate(names[1:], 2):
        try:
            value = getattr(value, name)
        except AttributeError:
            module = ".".join(names[:index])
            try:
                value = importlib.import_module(module)
            except ModuleNotFoundError as error:
                if (error.name or "").startswith("lpprop"):
                    raise LookupError(f"{path} leads nowhere") from None
                return None
    return value


def role(text: str) -> str:
    """Write code as a link to its page of the reference if it has one, or as it is."""
    path = documented_name(text)
    return f":py:obj:`{text} <{path}>`" if path else f"``{text}``"
