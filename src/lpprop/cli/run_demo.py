"""The demo: an image, a classifier's coarse labels, and what each refiner makes of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from lpprop._core.errors import InputError
from lpprop.backbones import EfficientNetLite0, class_groups
from lpprop.compose import presets
from lpprop.io.files import IMAGE_SUFFIXES, load_image, save_image
from lpprop.refiners import bilinear_upsample, propagate_patches, propagate_pixels
from lpprop.viz import drawing

__all__ = ["DEMO_CLASSES", "run_demo"]

#: Classes of the astronaut's portrait. ImageNet has neither people nor spacesuits: what stands in
#: for the astronaut was chosen by looking at the result.
DEMO_CLASSES = ("space shuttle", "flag", "astronaut = bulletproof vest; groom")

CLOSED_SET = "Each class is taken to be in the image; every pixel gets one of them, right or not."

# Longer side of the picture in pixels.
_SIDE = 640

# Title and preset of the methods that share the one line of code.
_DISCREPANCIES = {
    "KL divergence": "kl",
    "optimal path": "optimal_path",
    "maximum velocity": "max_velocity",
    "path + velocity": "fusion",
}

_T = TypeVar("_T")


def run_demo(
    image_path: Path | None = None,
    classes: Sequence[str] | None = None,
    out: Path = Path("out"),
    device: str | torch.device = "cpu",
) -> Path:
    """Refine an image's labels, draw them side by side, and print what each step did.

    Args:
        image_path: a picture of any size; scikit-image's portrait of an astronaut if None.
        classes: two or more classes as `lpprop.backbones.class_groups` takes them; needed with a
            picture, `DEMO_CLASSES` without one.
        out: the PNG file to write, or a folder, where it is called demo.png.
        device: where to compute.

    Returns:
        The path of the picture, which appears there complete or not at all.

    Raises:
        InputError: a picture that cannot be read, or classes that cannot be used.
        ImportError: the extra `demo` is not installed.
    """
    if classes is None and image_path is not None:
        raise InputError.of(
            "classes",
            got="none",
            expected="what to look for in your picture",
            fix='Name ImageNet classes, such as "cat; tiger cat" "sofa".',
        )
    classes = DEMO_CLASSES if classes is None else classes
    labels = class_groups(classes).class_names
    device = torch.device(device)
    if len(labels) < 2:
        raise InputError.of(
            "classes",
            got=f"only {labels[0]!r}",
            expected="two or more",
            fix="Every pixel gets one of them, so a single one would get all.",
        )
    target = _target(out)
    picture = _sized(load_image(image_path) if image_path is not None else _astronaut())
    target.parent.mkdir(parents=True, exist_ok=True)
    image = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].to(device) / 255
    size = (picture.height, picture.width)
    backbone = EfficientNetLite0().to(device)

    seen, model_time = _timed(device, lambda: backbone(image, classes))
    logits, feats = seen.logits, seen.feats
    assert logits is not None
    assert feats is not None
    refined = {"LPOSS": _timed(device, lambda: _lposs(logits, feats, size))}
    lposs, lposs_time = refined["LPOSS"]
    plus, pixel_time = _timed(device, lambda: propagate_pixels(lposs, image))
    refined["LPOSS+"] = plus, lposs_time + pixel_time
    for title, method in _DISCREPANCIES.items():
        refined[title] = _timed(
            device, partial(presets.by_name(method), logits, feats=feats, image=image)
        )

    initial = F.interpolate(logits, size, mode="nearest-exact")
    scores = {"classifier, centred": initial} | {name: item for name, (item, _) in refined.items()}
    steps = {name: item[0].argmax(0).cpu() for name, item in scores.items()}
    drawn = [(name, drawing.overlay(picture, step, len(labels))) for name, step in steps.items()]
    save_image(target, drawing.panels([("image", picture), *drawn], labels, CLOSED_SET))

    coarse, *_ = steps.values()
    print(f"{'method':<24}{'seconds':>8}{'pixels changed':>17}")
    print(f"{'classifier':<24}{model_time:>8.2f}")
    for name, (_, seconds) in refined.items():
        changed = float((steps[name] != coarse).float().mean())
        print(f"{name:<24}{seconds:>8.2f}{changed:>17.1%}")
    print(f"classes: {' | '.join(classes)}")
    print(CLOSED_SET)
    print(f"picture: {target}")
    return target


def _lposs(
    logits: Float[Tensor, "1 C h/2 w/2"], feats: Float[Tensor, "1 D h w"], size: tuple[int, int]
) -> Float[Tensor, "1 C H W"]:
    # In the pixels that the backbone saw, whose sides are multiples of 32, a patch has exactly 16.
    on_patches = bilinear_upsample(logits, (feats.shape[-2], feats.shape[-1]))
    return bilinear_upsample(propagate_patches(on_patches, feats), size)


def _timed(device: torch.device, work: Callable[[], _T]) -> tuple[_T, float]:
    start = time.perf_counter()
    result = work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return result, time.perf_counter() - start


def _astronaut() -> Image.Image:
    try:
        from skimage import data
    except ImportError as error:
        raise ImportError("the demo's image needs an extra: pip install 'lpprop[demo]'") from error
    return Image.fromarray(data.astronaut())  # type: ignore[no-untyped-call]


def _sized(picture: Image.Image) -> Image.Image:
    """Bring the longer side to `_SIDE` pixels."""
    scale = _SIDE / max(picture.size)
    width, height = (max(1, round(scale * side)) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.BICUBIC)


def _target(out: Path) -> Path:
    """Return the PNG file that `out` means."""
    suffix = out.suffix.lower()
    if out.is_dir() or suffix not in IMAGE_SUFFIXES:
        return out / "demo.png"
    if suffix != ".png":
        raise InputError.of(
            "out", got=str(out), expected="a .png file or a folder", fix="Change its suffix."
        )
    return out
