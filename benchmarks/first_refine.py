"""The first `refine` of a process that has imported torch, against a later one."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

import lpprop

from .inputs import scene
from .work import Competitor, Work, aim

# The most time of a first call, relative to a later one, and which later one.
MOST_GROWTH, LATER = 1.5, 4

# Python examines what the import of torch has left before the clock starts: it would do so at the
# next import, whatever that is.
CALLS = """
import gc
import sys
import time

import numpy as np
import torch

calls, threads, device, file, options = sys.argv[1:]
torch.set_num_threads(int(threads))
inputs = [torch.from_numpy(x).to(device) for x in np.load(file).values()]
gc.collect()
for _ in range(int(calls)):
    start = time.perf_counter()
    import lpprop

    labels = lpprop.refine(*inputs, **eval(options)).argmax(1)[0].cpu().numpy()
    seconds = time.perf_counter() - start
np.savez(file.replace("inputs", "result"), labels=labels, seconds=seconds)
"""


def call_in_process(
    number: int, folder: TemporaryDirectory[str], device: str, options: str
) -> tuple[np.ndarray, float]:
    """Return the labels and the seconds of the call of this number in a process of its own."""
    # What the first process compiles, sources and kernels, the next ones read, as they do where
    # lpprop is installed.
    places = {"PYTHONPYCACHEPREFIX": "sources", "LPPROP_CACHE": "kernels"}
    caches = {name: str(Path(folder.name, place)) for name, place in places.items()}
    file = str(Path(folder.name, "inputs.npz"))
    arguments = [str(number), str(torch.get_num_threads()), device, file, options]
    subprocess.run(
        [sys.executable, "-c", CALLS, *arguments],
        check=True,
        env=os.environ | caches | {"PYTHONDONTWRITEBYTECODE": ""},
    )
    with np.load(Path(folder.name, "result.npz")) as result:
        return result["labels"], float(result["seconds"])


def first_refine(device: str, k: int, **sizes: int) -> Work:
    patch_size = sizes["patch_size"]
    grid = h, w = sizes["H"] // patch_size, sizes["W"] // patch_size
    side = min(grid)
    view = scene(H=h, W=w, window=side, stride=side, patch_size=1, D=sizes["D"], C=sizes["C"])
    merge = lpprop.SlidingWindows(grid, side, side).merge
    image = scene(
        H=h * patch_size, W=w * patch_size, window=side, stride=side, patch_size=side, D=1, C=1
    ).image
    folder = TemporaryDirectory()
    inputs = merge(view.patch_logits), merge(view.patch_feats), image
    np.savez(Path(folder.name, "inputs.npz"), *(x.numpy() for x in inputs))
    options = repr({"k": k, "patch_size": patch_size})
    call = partial(call_in_process, folder=folder, device=device, options=options)
    return Work(
        name="first refine of a process",
        sizes=sizes | {"k": k},
        tolerance=0.0,
        competitors=[
            Competitor(
                "lpprop, first call",
                "refine of one view, float32, in a process that has imported torch: imports lpprop "
                "and what it needs, and finds its compiled code on disk",
                partial(call, 1),
                clocked=True,
            ),
            Competitor(
                "lpprop, a later call",
                f"call number {LATER} of a process; aim: the first takes at most "
                f"{MOST_GROWTH:g} times as long",
                partial(call, LATER),
                target=aim(device, 1 / MOST_GROWTH),
                clocked=True,
            ),
        ],
    )
