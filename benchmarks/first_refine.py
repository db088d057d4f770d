"""The first `refine` of a process that has imported torch, against a later one."""

import os
import shutil
import subprocess
import sys
import weakref
from functools import partial
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import torch
from torch import Tensor

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


class Processes:
    """Processes that refine the same inputs, in a folder that goes with this object."""

    def __init__(self, device: str, options: dict[str, int], *inputs: Tensor) -> None:
        self.folder = Path(mkdtemp())
        weakref.finalize(self, shutil.rmtree, self.folder)
        self.file = self.folder / "inputs.npz"
        np.savez(self.file, *(x.numpy() for x in inputs))
        self.arguments = [str(torch.get_num_threads()), device, str(self.file), repr(options)]
        # What the first process compiles, sources and kernels, the next ones read, as they do
        # where lpprop is installed.
        places = {"PYTHONPYCACHEPREFIX": "sources", "LPPROP_CACHE": "kernels"}
        self.settings = {name: str(self.folder / place) for name, place in places.items()}
        self.settings["PYTHONDONTWRITEBYTECODE"] = ""

    def call(self, number: int) -> tuple[np.ndarray, float]:
        """Return the labels and the seconds of the call of this number in a new process."""
        subprocess.run(
            [sys.executable, "-c", CALLS, str(number), *self.arguments],
            check=True,
            env=os.environ | self.settings,
        )
        with np.load(self.folder / "result.npz") as result:
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
    inputs = merge(view.patch_logits), merge(view.patch_feats), image
    processes = Processes(device, {"k": k, "patch_size": patch_size}, *inputs)
    return Work(
        name="first refine of a process",
        sizes=sizes | {"k": k},
        tolerance=1e-6,  # they are labels
        competitors=[
            Competitor(
                "lpprop, first call",
                "refine of one view, float32, in a process that has imported torch: imports lpprop "
                "and what it needs, and finds its compiled code on disk",
                partial(processes.call, 1),
                clocked=True,
            ),
            Competitor(
                "lpprop, a later call",
                f"call number {LATER} of a process; aim: the first takes at most "
                f"{MOST_GROWTH:g} times as long",
                partial(processes.call, LATER),
                target=aim(device, 1 / MOST_GROWTH),
                clocked=True,
            ),
        ],
    )
