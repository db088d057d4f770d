"""500 generated images on a cluster with one worker and with two, and some in a plain loop."""

from __future__ import annotations

import io
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from lpprop.batch import Segment
from lpprop.cluster import map_images

from ..contract import machine
from .steps import photograph

IMAGES, SHARD, WORKERS = 500, 25, (1, 2)
# A plain loop takes as long for each: fewer tell.
LOOP = 100
SIZE = (256, 341)
CLASSES = ["motorcycle; moped", "car", "park bench"]


def measure() -> dict[str, Any]:
    """Return the seconds of each way, and of the work in it."""
    torch.set_num_threads(1)  # as in a worker
    with tempfile.TemporaryDirectory() as folder:
        images = generate(Path(folder, "images"))
        segment = Segment(CLASSES, "offline")
        segment.load()
        start = time.perf_counter()
        for path in images[:LOOP]:
            segment.process({"image": path.read_bytes()})
        loop = time.perf_counter() - start
        ways = [{"workers": 0, "images": LOOP, "seconds": loop, "work": loop}]
        ways += [on_cluster(segment, images[0].parent, count) for count in WORKERS]
    return {"machine": machine(), "size": list(SIZE), "ways": ways}


def on_cluster(segment: Segment, images: Path, workers: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as out:
        done = map_images(
            segment, str(images), out, workers=workers, images_per_shard=SHARD, progress=False
        )
        if (done.images, done.failed, done.stopped) != (IMAGES, 0, ""):
            raise RuntimeError(f"the job was not done: {done}")
        lines = Path(out, "finished.jsonl").read_text().splitlines()
        work = sum(json.loads(line)["seconds"] for line in lines)
    return {"workers": workers, "images": IMAGES, "seconds": done.seconds, "work": work}


def generate(folder: Path) -> list[Path]:
    """Write parts of a photograph, each another one."""
    folder.mkdir()
    whole = Image.open(io.BytesIO(photograph()[0]))
    rng = np.random.default_rng(0)
    paths = []
    for number in range(IMAGES):
        scale = rng.uniform(0.4, 0.9)
        width, height = (int(scale * length) for length in whole.size)
        left = int(rng.integers(whole.width - width + 1))
        top = int(rng.integers(whole.height - height + 1))
        part = whole.crop((left, top, left + width, top + height)).resize(SIZE[::-1])
        paths.append(folder / f"{number:03d}.jpg")
        part.save(paths[-1], quality=90)
    return paths
