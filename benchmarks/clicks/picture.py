"""The picture of docs/clicks.md: one photograph, seven clicks, and what methods make of them."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from skimage import data

import lpprop
from lpprop.backbones import Backbone, EfficientNetLite0, VisionTransformer
from lpprop.io.images import save_image
from lpprop.viz.drawing import overlay, panels
from lpprop.viz.palettes import colours

FILE = Path(__file__).parents[2] / "docs" / "images" / "clicks.png"
NAMES = ["astronaut", "flag", "shuttle", "rest"]
#: Row, column and class of each click, in the photograph of 512 x 512 pixels.
CLICKS = (
    (110, 220, 0), (400, 250, 0), (180, 26, 1), (160, 440, 2), (60, 80, 3), (60, 330, 3),
    (330, 480, 3),
)  # fmt: skip
METHODS = ("region_vote", "max_velocity", "auto", "lposs+", "clicks")
SIDE = 256


def draw(weights: Path | None) -> None:
    """Draw it with the features of DINOv2, or without weights with those of the small CNN."""
    image = torch.from_numpy(np.array(data.astronaut())).movedim(-1, 0)[None] / 255
    model: Backbone = EfficientNetLite0()
    if weights is not None:
        model = VisionTransformer.from_pretrained(
            weights, dtype=torch.float32, attention="query-key"
        )
    side = model.patch_size * round(512 / model.patch_size)
    seen = model(F.interpolate(image, (side, side), mode="bilinear", antialias=True).clamp(0, 1))
    points, labels = [(r, c) for r, c, _ in CLICKS], [k for *_, k in CLICKS]
    feats = seen.feats
    assert feats is not None
    grid = (feats.shape[2], feats.shape[3])
    logits = lpprop.seed_logits(points, labels, (512, 512), classes=NAMES, grid=grid)
    pictures = [("seven clicks", marked(image))]
    for method in METHODS:
        preset = lpprop.presets.METHODS[method]
        given = {"attention": seen.attention, "regions": "slic", "feats_from": model.feats_from}
        used = {x: value for x, value in given.items() if x in (*preset.needs, *preset.options)}
        scores = lpprop.refine(logits, feats, image, method=method, **used)
        painted = overlay(image, scores.argmax(1)[0], len(NAMES))
        pictures.append((method, painted.resize((SIDE, SIDE))))
    sheet = panels(pictures, NAMES, columns=3)
    save_image(FILE, sheet.quantize(192, kmeans=3, dither=Image.Dither.NONE))


def marked(image: torch.Tensor) -> Image.Image:
    """The photograph with a dot per click, in the colour of its class."""
    small = F.interpolate(image, (SIDE, SIDE), mode="bilinear", antialias=True).clamp(0, 1)
    picture = Image.fromarray((255 * small[0].movedim(0, -1)).byte().numpy())
    pen, palette = ImageDraw.Draw(picture), colours("default", len(NAMES))
    for row, column, label in CLICKS:
        y, x = row * SIDE / 512, column * SIDE / 512
        pen.ellipse((x - 7, y - 7, x + 7, y + 7), "black")
        pen.ellipse((x - 6, y - 6, x + 6, y + 6), "white")
        pen.ellipse((x - 4, y - 4, x + 4, y + 4), tuple(palette[label].tolist()))
    return picture
