"""The pixel step: its backends, SciPy and other methods; large images; the first call."""

import io
import math
import os
import subprocess
import sys
from collections.abc import Mapping
from functools import partial

import numpy as np
import torch
from torch import Tensor

import lpprop

from . import scipy_reference
from .inputs import pixels
from .peers import pixel_peers
from .work import Competitor, Work, aim

# The largest peak beyond inputs and output, 1.5 GB, in MiB; and the most time per pixel and class
# of a large image, relative to a small one: its weights may have to be made anew for each product.
MOST_MEMORY, MOST_GROWTH = 1.5e9 / 2**20, 2

# backend="auto" takes the first, which is "lpprop" in the tables.
BACKENDS = {"cpu": ("llvm", "torch"), "cuda": ("triton", "torch")}


def pixel_step(device: str, r: int, **sizes: int) -> Work:
    inputs = pixels(**sizes)
    logits, image = inputs.pixel_logits.to(device), inputs.image.to(device)
    arrays = inputs.pixel_logits[0].numpy(), inputs.image[0].numpy()
    return Work(
        name="pixel step",
        sizes=sizes | {"r": r, "steps": 10},
        tolerance=1e-4,
        competitors=[
            *(
                Competitor(
                    f"lpprop, {backend}",
                    f'propagate_pixels, backend="{backend}", float32',
                    partial(propagate, logits, image, r=r, backend=backend),
                )
                for backend in BACKENDS[device]
            ),
            *(
                Competitor(
                    f"SciPy, {name}",
                    f"{note}, scipy.sparse.linalg.cg a class at a time, one thread",
                    partial(scipy_reference.propagate_pixels, *arrays, r=r, matrix=matrix),
                    target=target,
                )
                for name, matrix, note, target in (
                    ("CSR", "csr", "edge list, CSR", aim(device, 30)),
                    ("diagonals", "dia", "dia_array", None),
                )
            ),
            *pixel_peers(device, inputs.pixel_logits[0], inputs.image[0]),
        ],
    )


def propagate(logits: Tensor, image: Tensor, r: int, backend: str) -> Tensor:
    return lpprop.propagate_pixels(logits, image, r=r, backend=backend)[0]


def large_image(device: str, r: int, base: Mapping[str, int], **sizes: int) -> Work:
    larger = math.prod(sizes.values()) / math.prod(base.values())
    backend = BACKENDS[device][0]

    def call(of: Mapping[str, int]) -> partial[Tensor]:
        inputs = pixels(**of)
        on_device = inputs.pixel_logits.to(device), inputs.image.to(device)
        return partial(propagate, *on_device, r=r, backend=backend)

    small = "H {H}, W {W}, C {C}".format(**base)
    return Work(
        name="pixel step of a large image",
        sizes=sizes | {"r": r, "steps": 10},
        tolerance=1e-4,
        competitors=[
            Competitor(
                f"lpprop, {backend}",
                f'propagate_pixels, backend="{backend}", float32',
                call(sizes),
                limit=MOST_MEMORY if device == "cpu" else None,
            ),
            Competitor(
                "the same of a small image",
                f"{small}, its time multiplied by {larger:.3g} as the pixels x classes are; aim: "
                f"those of the large image take at most {MOST_GROWTH:g} times as long each",
                call(base),
                target=aim(device, 1 / MOST_GROWTH),
                comparable=False,
                times=larger,
            ),
        ],
    )


# A process that makes one call of lpprop, as a script for one image does.
FIRST_CALL = """
import io
import sys

import numpy as np
import torch

import lpprop

backend, r, threads, device = sys.argv[1:]
torch.set_num_threads(int(threads))
file = io.BytesIO(sys.stdin.buffer.read())
logits, image = (torch.from_numpy(np.load(file)).to(device) for _ in range(2))
if backend != "none":
    refined = lpprop.propagate_pixels(logits, image, r=int(r), backend=backend)
    np.save(sys.stdout.buffer, refined[0].cpu().numpy())
"""


def first_call(device: str, r: int, **sizes: int) -> Work:
    inputs, file = pixels(**sizes), io.BytesIO()
    for x in (inputs.pixel_logits, inputs.image):
        np.save(file, x.numpy())

    def run(backend: str) -> np.ndarray | None:
        arguments = [backend, str(r), str(torch.get_num_threads()), device]
        process = subprocess.run(
            [sys.executable, "-c", FIRST_CALL, *arguments],
            input=file.getvalue(),
            stdout=subprocess.PIPE,
            check=True,
            env=os.environ | {"LPPROP_CACHE": ""},
        )
        return np.load(io.BytesIO(process.stdout)) if process.stdout else None

    compiled, plain = BACKENDS[device]
    note = 'imports, inputs read, propagate_pixels, backend="{}", result written'
    return Work(
        name="first call, a process from start to end",
        sizes=sizes | {"r": r, "steps": 10},
        tolerance=1e-4,
        competitors=[
            Competitor(
                f"lpprop, {compiled}",
                note.format(compiled) + ", compiling included",
                partial(run, compiled),
            ),
            Competitor(
                f"lpprop, {plain}", note.format(plain), partial(run, plain), target=aim(device, 1)
            ),
            Competitor(
                "no call",
                "imports, inputs read: a floor",
                partial(run, "none"),
                comparable=False,
            ),
        ],
    )
