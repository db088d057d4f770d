"""The picture of `lpprop demo`: coarse labels, and what each refiner makes of them."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lpprop._core.errors import InputError
from lpprop._core.measure import time_call
from lpprop.cli.common import make_folder, refuse_one_class
from lpprop.cli.messages import visible
from lpprop.comparison import Row, compare
from lpprop.compose import presets

if TYPE_CHECKING:
    from PIL import Image

    from lpprop.backbones import Backbone
    from lpprop.compose.chain import Chain

__all__ = ["DEMO_CLASSES", "run_demo"]

#: Classes of the astronaut's portrait. ImageNet has neither people nor spacesuits: what stands in
#: for the astronaut was chosen by looking at the result.
DEMO_CLASSES = ("space shuttle", "flag", "astronaut = bulletproof vest; groom")

_CLOSED_SET = "Each class is taken to be in the image; every pixel gets one of them, right or not."

# Longer side of the picture, and side of the classifier's cells, in pixels.
_SIDE, _CELL = 640, 32

# The transformer that is pointed out where it is on disk.
_TRANSFORMER = "dinov2-vits14"

_METHODS = {
    "LPOSS+, settings from the image": "auto",
    "LPOSS+, published settings": "lposs+",
    "KL divergence": "kl",
    "optimal path": "optimal_path",
    "maximum velocity": "max_velocity",
    "majority vote in the regions": "region_vote",
    "LPOSS, then that vote": "lposs+regions",
}


def run_demo(
    image_path: Path | None = None,
    classes: Sequence[str] | None = None,
    out: Path = Path("out"),
    device: str | torch.device = "cpu",
    affinity: str | Path | None = None,
) -> Path:
    """Refine an image's labels, draw them side by side, and print what each method did.

    Args:
        image_path: a picture of any size; scikit-image's portrait of an astronaut if None.
        classes: two or more classes as `lpprop.backbones.class_groups` takes them; needed with a
            picture, `DEMO_CLASSES` without one.
        out: the PNG file to write, or a folder, where it is called demo.png.
        device: where to compute.
        affinity: name or folder of the vision transformer whose features and attention tell which
            patches belong together; nothing is downloaded. None takes the classifier's features.

    Returns:
        The path of the picture, which appears there complete or not at all.

    Raises:
        InputError: a picture that cannot be read, classes that cannot be used, or weights that are
            not on disk.
        ImportError: the extra `demo`, or for an affinity `models`, is not installed.
    """
    from lpprop.backbones import EfficientNetLite0, class_groups
    from lpprop.io.images import load_image, save_image

    if classes is None and image_path is not None:
        raise InputError.of(
            "classes",
            got="none",
            expected="what to look for in your picture",
            fix='Name ImageNet classes, such as "cat; tiger cat" "sofa".',
        )
    classes = DEMO_CLASSES if classes is None else classes
    names = class_groups(classes).class_names
    refuse_one_class("classes", names)
    target = _name_file(out)
    picture = load_image(image_path) if image_path is not None else _load_astronaut()
    transformer = None if affinity is None else _load_transformer(affinity).to(device)
    make_folder(target.parent)
    width, height = (max(1, round(_SIDE / max(picture.size) * side)) for side in picture.size)
    size = height, width
    image = _whole_cells(picture, size, _CELL).to(device)
    backbone = EfficientNetLite0().to(device)
    seen, seconds = time_call(lambda: backbone(image, classes), image.device)
    assert seen.logits is not None
    logits, times = seen.logits, f"classifier: {seconds:.2f} s"
    if transformer is not None:
        image = _whole_cells(picture, size, transformer.patch_size).to(device)
        seen, seconds = time_call(lambda: transformer(image), image.device)
        times += f", {visible(str(affinity))}: {seconds:.2f} s"

    def nearest(logits: Tensor, **_: Tensor | None) -> Tensor:
        return F.interpolate(logits, size, mode="nearest-exact")

    comparison = compare(
        logits, seen.feats, image, attention=seen.attention, size=size, class_names=names,
        methods={"classifier, nearest": nearest, **_suit(transformer)},
        regions="felzenszwalb", repeats=1,
    )  # fmt: skip
    # The figures stand in the table; times would make every picture a different one.
    drawn = replace(comparison, rows=[Row(row.method) for row in comparison.rows])
    save_image(target, drawn.figure(columns=5, note=_CLOSED_SET))

    print(f"{times}, then")
    print(comparison)
    print("changed: pixels with another label than bilinear upsampling gives")
    print(f"classes: {' | '.join(classes)}")
    print(_CLOSED_SET)
    if affinity is None and _is_transformer_here():
        print(f"DINOv2 is in the cache: --affinity {_TRANSFORMER} uses it")
    print(f"picture: {visible(str(target))}")
    return target


def _whole_cells(picture: Image.Image, size: tuple[int, int], cell: int) -> Tensor:
    """Resize a picture to the whole cells nearest to a size, as a backbone sees them.

    Refined at the size that the backbone saw, patches have the pixels that they have there.
    """
    height, width = (cell * max(1, round(side / cell)) for side in size)
    return torch.from_numpy(np.array(picture.resize((width, height)))).permute(2, 0, 1)[None] / 255


def _suit(transformer: Backbone | None) -> dict[str, str | Chain]:
    """Return the methods, those of LPOSS with the settings for the transformer's features."""
    methods: dict[str, str | Chain] = dict(_METHODS)
    if transformer is None:
        return methods
    own = {"feats_from": transformer.feats_from, "patch_size": transformer.patch_size}
    options = {name: value for name, value in own.items() if value is not None}
    for name, method in _METHODS.items():
        if presets.find(method).feats_from:
            methods[name] = presets.by_name(method, **options)
    return methods


def _load_transformer(name: str | Path) -> Backbone:
    """Load a transformer from a folder or the cache, and say how to get it if it is in neither."""
    from lpprop.backbones.checkpoints import find_checkpoint
    from lpprop.backbones.hub_cache import is_on_disk
    from lpprop.backbones.vision_transformer import CHECKPOINTS, VisionTransformer

    checkpoint = find_checkpoint(name, CHECKPOINTS)
    if not is_on_disk(checkpoint):
        raise InputError.of(
            "affinity",
            got=f"{str(name)!r}, which is neither a folder nor in the cache of the hub",
            expected="weights on disk, since the demo downloads nothing",
            fix=f"Where there is a connection, run: hf download {checkpoint}",
        )
    return VisionTransformer.from_pretrained(
        name, download=False, features="token", attention="query-key"
    )


def _is_transformer_here() -> bool:
    """Tell whether transformers is installed and has the weights in its cache."""
    if importlib.util.find_spec("transformers") is None:
        return False
    from lpprop.backbones.hub_cache import is_on_disk
    from lpprop.backbones.vision_transformer import CHECKPOINTS

    return is_on_disk(CHECKPOINTS[_TRANSFORMER])


def _load_astronaut() -> Image.Image:
    from PIL import Image

    try:
        from skimage import data
    except ImportError as error:
        raise ImportError("the demo's image needs an extra: pip install 'lpprop[demo]'") from error
    return Image.fromarray(data.astronaut())  # type: ignore[no-untyped-call]


def _name_file(out: Path) -> Path:
    """Return the PNG file that `out` means."""
    from lpprop.io.images import IMAGE_SUFFIXES

    suffix = out.suffix.lower()
    if out.is_dir() or suffix not in IMAGE_SUFFIXES:
        return out / "demo.png"
    if suffix != ".png":
        raise InputError.of(
            "out", got=str(out), expected="a .png file or a folder", fix="Change its suffix."
        )
    return out
