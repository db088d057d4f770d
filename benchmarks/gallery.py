"""`python -m benchmarks.gallery`: the lines and the pictures of docs/gallery.md.

    python -m benchmarks.gallery --weights DINOV2

draws a picture per preset, with the trained weights of DINOv2 ViT-S/14, and renews the page; it
takes seconds. Without --weights the page alone is renewed. Order, sources and needs of the methods
are those of the table of presets; the code of the page is the code that draws the pictures.
"""

import argparse
import re
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image, ImageDraw
from torch import Tensor

import lpprop
from lpprop.io.atomic import atomic_write
from lpprop.viz import colours, overlay, panels
from lpprop.viz.drawing import cut_labels, framed

from .marked import renew

PAGE = Path(__file__).parents[1] / "docs" / "gallery.md"
PICTURES = PAGE.parent / "images" / "gallery"
CLASSES = ("coffee", "cup", "saucer", "spoon", "table")
CHECKPOINT, SIDES = '"dinov2-vits14"', "(588, 392)"

# Run as it stands on the page, but for the name of the weights.
SCENE = f"""\
import torch
import torch.nn.functional as F
from PIL import Image
from skimage import data

import lpprop
from lpprop.backbones import VisionTransformer

model = VisionTransformer.from_pretrained(
    {CHECKPOINT}, features="token", attention="query-key", dtype=torch.float32
)
image = Image.fromarray(data.coffee()).resize({SIDES})
_, _, feats, attention = model(image)

# Clicks: row and column among 28 x 42 patches, for each class.
clicks = {{
    "coffee": [(10, 20), (12, 18)],
    "cup": [(5, 15), (16, 20), (19, 15)],
    "saucer": [(17, 9), (24, 23), (13, 30)],
    "spoon": [(19, 25), (5, 29)],
    "table": [(4, 7), (23, 36), (9, 37), (25, 3)],
}}
labels = torch.full((1, 28, 42), -1)
for number, places in enumerate(clicks.values()):
    for row, column in places:
        labels[0, row, column] = number
prototypes = lpprop.prototypes(feats, labels, classes=len(clicks))
logits = (50 * lpprop.prototype_logits(feats, prototypes)).softmax(1)

# A fifth of the patches get a class by chance.
random = torch.Generator().manual_seed(0)
wrong = torch.rand(logits.shape[-2:], generator=random) < 0.2
chance = torch.randint(len(clicks), (int(wrong.sum()),), generator=random)
logits[0, :, wrong] = F.one_hot(chance, len(clicks)).T.float()

# The clicks themselves, for the method that starts from them.
marked = labels[0] >= 0
seeds = lpprop.seed_logits(marked.nonzero(), labels[0][marked], (28, 42), grid=feats.shape[-2:])
"""


class Shown(NamedTuple):
    """What the gallery has of a preset.

    Attributes:
        arguments: of `lpprop.refine`, behind the start.
        seen: what one sees in the picture.
        start: what the scene calls the scores that are refined.
    """

    arguments: str
    seen: str
    start: str = "logits"


SHOWN: Mapping[str, Shown] = {
    "bilinear": Shown(
        'image=image, method="bilinear"',
        "Every wrong patch is still there, as a round spot; borders are as coarse as the patches.",
    ),
    "joint_bilateral": Shown(
        'image=image, method="joint_bilateral"',
        "Borders follow the colours, and most spots on the table are gone; what is wrong over "
        "several patches stays, such as the rim of the cup, which counts as a spoon.",
    ),
    "auto": Shown(
        'feats, image, feats_from="dinov2"',
        "The spots are gone and the borders sharp. Most of what filled a region stays: the rim, "
        "and the shadow that the spoon has taken from the cup.",
    ),
    "lposs": Shown(
        'feats, image, method="lposs", feats_from="dinov2", k=50',
        "Patches that look alike agree, over any distance: the rim is the cup's again, but the "
        "handle goes to the saucer. Borders are those of patches. The published k of 400 is for "
        "the patches of fifteen windows; here the saucer would take the spoon and much of the cup.",
    ),
    "lposs+": Shown(
        'feats, image, method="lposs+", feats_from="dinov2", k=50',
        "The same, and then pixels agree with neighbours of their colour: the borders of cup, "
        "saucer and spoon are sharp.",
    ),
    "clicks": Shown(
        'feats, image, method="clicks", feats_from="dinov2"',
        "From the fourteen clicks alone: whole objects with sharp borders, but for the base of the "
        "cup, which no click marks, and which the spoon has taken.",
        start="seeds",
    ),
    "optimal_path": Shown(
        'attention=attention, image=image, method="optimal_path"',
        "No spot is left on the saucer, and few on the table. Each class is spread from its "
        "surest patches, as far as the attention reaches: the spoon takes the base of the cup.",
    ),
    "max_velocity": Shown(
        'attention=attention, image=image, method="max_velocity"',
        "The table and the saucer are clean and their border is sharp. Some wrong patches of the "
        "cup are left, since each class arrives first where it was.",
    ),
    "kl": Shown(
        'image=image, method="kl"',
        "The wrong patches have grown. At the other patches no class was sure enough to be kept, "
        "so that the upsampling alone decides. It is there for study.",
    ),
    "fusion": Shown(
        'attention=attention, image=image, method="fusion"',
        "Between the two maps that it adds. It is there for study.",
    ),
    "guided_filter": Shown(
        'image=image, method="guided_filter"',
        "The spots are smaller and follow the grain of the wood; the borders are a little sharper.",
    ),
    "pamr": Shown(
        'image=image, method="pamr"',
        "The spots are gone without any features, and the labels follow every edge of the image. "
        "Where colours are alike, as at the base of the cup, they dissolve into single pixels.",
    ),
    "dense_crf": Shown(
        'image=image, method="dense_crf"',
        "The spots shrink, and most of those on the table are dots now.",
    ),
    "local_crf": Shown(
        'image=image, method="local_crf"',
        "Borders are a little sharper, and nothing else changes: a wrong patch is wider than the "
        "square of pixels that it looks at. It is the gentlest of all.",
    ),
    "attention_pool": Shown(
        'attention=attention, image=image, method="attention_pool"',
        "Each patch has the mean of what it attends to: the spots are gone, and so are the handle "
        "and a strip of the cup, which the saucer has taken. Borders are those of patches.",
    ),
    "clip_dinoiser": Shown(
        'feats, image, method="clip_dinoiser", threshold=0.7',
        "The mean over all patches of similar features, near or far: small classes lose theirs, "
        "and the spoon is gone. With its own threshold of 0.2, for features of DINO, these "
        "features would have nearly the whole image in each mean.",
    ),
    "region_vote": Shown(
        'image=image, regions="felzenszwalb", method="region_vote"',
        "The spots are gone without any features, since each region of one colour has one "
        "answer. Slivers of glare and grain are regions too, with an answer of their own.",
    ),
    "lposs+regions": Shown(
        'feats, image, regions="felzenszwalb", method="lposs+regions", feats_from="dinov2", k=50',
        "LPOSS decides, and the regions draw the borders: fewer slivers than by the vote alone, "
        "and a whole spoon.",
    ),
}

# The detail, left, upper, right and lower edge in pixels of the scene, and its side on the page.
BOX, SIDE = (250, 186, 410, 346), 320


def line(name: str) -> str:
    """The line of code that refines the scene by a preset, broken as ruff breaks a long one."""
    inputs = f"{SHOWN[name].start}, {SHOWN[name].arguments}"
    whole = f"scores = lpprop.refine({inputs})"
    return whole if len(whole) <= 100 else f"scores = lpprop.refine(\n    {inputs}\n)"


def file(name: str) -> str:
    """The name of a preset's picture."""
    return f"{lpprop.presets.find(name).python_name}.webp"


def scene(weights: Path) -> dict[str, Any]:
    """Run the page's code up to the logits, and return its names."""
    names: dict[str, Any] = {}
    exec(SCENE.replace(CHECKPOINT, repr(str(weights))), names)
    return names


def refined(names: Mapping[str, Any], name: str) -> Tensor:
    """The labels (H, W) of a preset."""
    found = dict(names)
    exec(line(name), found)
    labels: Tensor = found["scores"].argmax(1)[0]
    return labels


def picture(image: Image.Image, labels: Tensor) -> Image.Image:
    """Labels over the scene, with a frame around the detail, beside the detail enlarged."""
    width = round(SIDE * image.width / image.height)
    array = labels.numpy()
    left, upper, right, lower = BOX
    whole = overlay(image, array, len(CLASSES)).resize((width, SIDE), Image.Resampling.LANCZOS)
    ratio = SIDE / image.height
    both = Image.new("RGB", (width + 8 + SIDE, SIDE), "white")
    both.paste(framed(whole, (left * ratio, upper * ratio, right * ratio, lower * ratio)))
    cut = cut_labels(array, (upper, left, lower, right), (SIDE, SIDE))
    near = image.crop(BOX).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    both.paste(overlay(near, cut, len(CLASSES)), (width + 8, 0))
    return both


def opening(names: Mapping[str, Any]) -> Image.Image:
    """The scene with its clicks, the labels of the start as they are, and the legend."""
    image = names["image"]
    marked = image.copy()
    draw = ImageDraw.Draw(marked)
    patch = image.width // 42
    for colour, places in zip(
        colours("default", len(CLASSES)).tolist(), names["clicks"].values(), strict=True
    ):
        for row, column in places:
            box = (column * patch, row * patch, (column + 1) * patch, (row + 1) * patch)
            draw.ellipse(box, tuple(colour), "white", 2)
    start = names["logits"].argmax(1)[0].numpy()
    coarse = cut_labels(start, (0, 0, *start.shape), image.size)
    pictures = [
        ("the photograph, and the clicks", marked),
        ("the start, patch by patch", overlay(image, coarse, len(CLASSES), outline=0)),
    ]
    page = panels(pictures, CLASSES, columns=2)
    return page.resize((page.width * 2 // 3, page.height * 2 // 3), Image.Resampling.LANCZOS)


def encoded(drawn: Image.Image) -> bytes:
    """A picture as the file that the page shows."""
    stream = BytesIO()
    drawn.save(stream, "WEBP", quality=80, method=6)
    return stream.getvalue()


def draw(weights: Path, folder: Path = PICTURES) -> None:
    """Draw every picture."""
    names = scene(weights)
    made = {"scene.webp": opening(names)}
    for name in SHOWN:
        made[file(name)] = picture(names["image"], refined(names, name))
    folder.mkdir(parents=True, exist_ok=True)
    for each, drawn in made.items():
        with atomic_write(folder / each) as out:
            out.write(encoded(drawn))


def page() -> dict[str, str]:
    """What the page's marks enclose: the code of the scene, and a section per preset."""
    sections = []
    for name, preset in lpprop.presets.METHODS.items():
        needs = ", ".join("attention or feats" if x == "attention" else x for x in preset.needs)
        what = f"{preset.note[0].upper()}{preset.note[1:]}"
        source = f" Source: {preset.paper}." if re.search(r"\d{4}", preset.paper) else ""
        sections += [
            f"### `{name}`",
            f"{what}.{source} Needs: {needs or 'nothing but the scores'}.",
            f"![{what}: the labels over the scene, and a detail](images/gallery/{file(name)})",
            f"<!-- no-run -->\n```python\n{line(name)}\n```",
            SHOWN[name].seen,
        ]
    return {
        "scene": f"<!-- no-run -->\n```python\n{SCENE}```",
        "gallery": "\n\n".join(sections),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gallery")
    parser.add_argument("--weights", type=Path, help="folder of DINOv2 ViT-S/14, to draw with")
    given = parser.parse_args()
    if given.weights is not None:
        draw(given.weights)
    renew(PAGE, page())
