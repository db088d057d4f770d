"""What `lpprop doctor` looks at; each section also works where what others need is missing."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from lpprop._version import __version__

__all__ = ["SECTIONS", "Finding", "hide_paths"]


class Finding(NamedTuple):
    """A line: what was looked at, how it is, what to do, and whether something required fails."""

    name: str
    state: str
    fix: str = ""
    broken: bool = False


class Requirement(NamedTuple):
    """What the metadata asks for: a distribution, its lowest version, and for which extra."""

    name: str
    low: str
    extra: str


# What is imported, where it is not called as its distribution is.
_MODULES = {"opencv-python": "cv2", "pillow": "PIL"}
# Extras for work on the package, of which users need none.
_WORKSHOP = ("bench", "dev", "docs", "test")
# What installs an extra, where pip alone does not.
_LINES = {
    "crf": "pip install cython setuptools && pip install --no-build-isolation pydensecrf2",
    "torch-sparse": "pip install --no-build-isolation torch-scatter torch-sparse",
}
# What in the environment changes what lpprop does. None of these holds a secret.
_SETTINGS = (
    "LPPROP_CHECKS", "LPPROP_CACHE", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "HF_HUB_OFFLINE",
    "TRITON_INTERPRET",
)  # fmt: skip


def hide_paths(text: str) -> str:
    """Return a text in which the home folder and the environment's are not spelt out.

    >>> hide_paths(f"{Path.home()}/models")
    '~/models'
    """
    for folder, short in ((sys.prefix, "PREFIX"), (str(Path.home()), "~")):
        if len(folder) > 1:  # neither / nor nothing
            text = re.sub(rf"{re.escape(folder)}(?![\w.-])", short, text)
    return text


def _check_versions() -> Iterator[Finding]:
    yield Finding("lpprop", __version__)
    yield Finding("Python", f"{platform.python_version()} ({platform.python_implementation()})")
    yield Finding("system", f"{platform.system()} {platform.release()}, {platform.machine()}")
    requirements = _read_requirements()
    if requirements is None:
        yield Finding(
            "requirements", "unknown: lpprop runs from its source without being installed"
        )
        return
    for name, low, extra in requirements:
        if not extra:
            yield _check_module(name, low)


def _check_module(name: str, low: str) -> Finding:
    """Import what is required: a version says nothing of libraries that are missing."""
    try:
        module = importlib.import_module(_MODULES.get(name, name))
    except Exception as error:  # whatever a broken installation raises
        headless = "-headless" if name == "opencv-python" else ""
        fix = f"pip install {name}{headless}"
        return Finding(name, f"cannot be imported ({_shorten(error)})", fix, broken=True)
    version = getattr(module, "__version__", None) or _find_version(name) or "?"
    if _is_older(version, low):
        fix = f"pip install '{name}>={low}'"
        return Finding(name, f"{version}, older than {low}", fix, broken=True)
    return Finding(name, version + (f", {_describe_build(module)}" if name == "torch" else ""))


def _describe_build(torch: Any) -> str:
    if torch.version.cuda:
        return f"built with CUDA {torch.version.cuda}"
    return f"built with ROCm {torch.version.hip}" if torch.version.hip else "built without CUDA"


def _check_settings() -> Iterator[Finding]:
    given = {name: os.environ[name] for name in _SETTINGS if name in os.environ}
    for name, value in given.items():
        yield Finding(name, value)
    if not given:
        yield Finding("environment", f"none of {', '.join(_SETTINGS)} is set")


def _check_kernels() -> Iterator[Finding]:
    """Refine a small image by each backend, and compare the results with PyTorch's."""
    try:
        import torch

        from lpprop.refiners import propagate_pixels

        generator = torch.Generator().manual_seed(0)
        scores = torch.rand(1, 2, 16, 16, generator=generator)
        image = torch.rand(1, 3, 16, 16, generator=generator)
        expected = propagate_pixels(scores, image, r=3, backend="torch")
    except Exception as error:
        yield Finding("torch", f"does not work ({_shorten(error)})", broken=True)
        return
    yield Finding("torch", "works")
    cuda = torch.cuda.is_available()
    for backend, device in (("llvm", "cpu"), ("triton", "cuda")):
        if backend == "triton" and not cuda:
            yield Finding(backend, "not used: it runs on an NVIDIA GPU, and PyTorch sees none")
            continue
        try:
            got = propagate_pixels(scores.to(device), image.to(device), r=3, backend=backend).cpu()
        except Exception as error:
            # On a GPU PyTorch takes its place; llvmlite is required.
            yield Finding(backend, f"does not work ({_shorten(error)})", broken=backend == "llvm")
            continue
        right = torch.allclose(got, expected, rtol=1e-4, atol=1e-5)
        yield Finding(backend, "works" if right else "gives wrong results", broken=not right)
    yield _check_torch_sparse()


def _check_torch_sparse() -> Finding:
    import torch

    from lpprop.kernels.torch_sparse import is_installed
    from lpprop.refiners import propagate_patches

    if not is_installed():
        return Finding("torch-sparse", "not installed, and needed by storage='torch-sparse' alone")
    logits, feats = torch.rand(1, 2, 4, 4), torch.rand(1, 8, 4, 4)
    try:
        propagate_patches(logits, feats, k=4, storage="torch-sparse")
    except Exception as error:
        return Finding("torch-sparse", f"does not work ({_shorten(error)})")
    return Finding("torch-sparse", "works")


def _check_devices() -> Iterator[Finding]:
    try:
        import torch

        from lpprop._core.memory import available_bytes
    except Exception:  # which the versions tell
        yield Finding("cpu", f"{os.cpu_count()} cores")
        return
    free = available_bytes(torch.device("cpu"))
    memory = "" if free is None else f", {free / 2**30:.1f} GiB free"
    yield Finding("cpu", f"{os.cpu_count()} cores, {torch.get_num_threads()} threads{memory}")
    for number in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(number)
        capability = f"compute capability {about.major}.{about.minor}"
        size = f"{about.total_memory / 2**30:.1f} GiB"
        yield Finding(f"cuda:{number}", f"{about.name}, {capability}, {size}")
    if torch.backends.mps.is_available():
        yield Finding("mps", "Apple silicon")


def _check_extras() -> Iterator[Finding]:
    wanted: dict[str, list[str]] = {}
    for name, low, extra in _read_requirements() or ():
        if extra and extra not in _WORKSHOP:
            missing = wanted.setdefault(extra, [])
            version = _find_version(name)
            if version is None:
                missing.append(name)
            elif _is_older(version, low):
                missing.append(f"{name} >= {low} (it is {version})")
    for extra, missing in wanted.items():
        line = _LINES.get(extra, f"pip install 'lpprop[{extra}]'")
        state = f"lacks {', '.join(missing)}" if missing else "installed"
        yield Finding(extra, state, line if missing else "")


def _check_recipes() -> Iterator[Finding]:
    """Look for the weights of each recipe; `lpprop segment` downloads those that are missing."""
    try:
        from lpprop.models.recipes import RECIPES
        from lpprop.models.weights import find_missing
    except Exception as error:
        yield Finding("recipes", f"unknown ({_shorten(error)})")
        return
    for name, recipe in RECIPES.items():
        models = [model for model in (recipe.backbone, recipe.affinity) if model is not None]
        missing = dict.fromkeys(filter(None, map(find_missing, models)))
        yield Finding(name, f"lacks {', '.join(missing)}" if missing else "here")
    fix = "lpprop segment downloads what a recipe lacks, and so does hf download REPOSITORY"
    yield Finding("their cache", _find_cache(), fix)


def _find_cache() -> str:
    try:
        from huggingface_hub import constants
    except ImportError:
        return "none, since huggingface_hub is not installed"
    folder = hide_paths(str(constants.HF_HUB_CACHE))
    # Elsewhere, names of people and projects may be part of the path.
    return folder if folder.startswith("~") else "where HF_HOME or HF_HUB_CACHE says"


def _read_requirements() -> list[Requirement] | None:
    """Read what the installed package asks for; None where it is not installed."""
    try:
        lines = importlib.metadata.requires("lpprop") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    found = []
    for line in lines:
        name = re.match(r"[\w.-]+", line)
        low = re.search(r">=([\d.]+)", line.partition(";")[0])
        extra = re.search(r"extra == ['\"]([\w-]+)['\"]", line)
        if name:
            found.append(Requirement(name[0], low[1] if low else "", extra[1] if extra else ""))
    return found


def _find_version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _is_older(version: str, low: str) -> bool:
    """Tell whether a version's numbers come before those of another.

    >>> _is_older("2.5.1+cpu", "2.6"), _is_older("2.13", "2.6"), _is_older("3", "")
    (True, False, False)
    """
    numbers = [
        [int(part) for part in re.findall(r"\d+", text.partition("+")[0])]
        for text in (version, low)
    ]
    return numbers[0] < numbers[1]


def _shorten(error: Exception) -> str:
    first = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {first[:100]}" if first else type(error).__name__


#: The sections by their titles, in the order of the output.
SECTIONS: Mapping[str, Callable[[], Iterator[Finding]]] = {
    "versions": _check_versions,
    "settings": _check_settings,
    "backends of the hot loops": _check_kernels,
    "devices": _check_devices,
    "extras": _check_extras,
    "recipes of lpprop segment": _check_recipes,
}
