"""The compiled kernels against the same loops in Numba: `python -m benchmarks.compilers`.

It needs an environment with Numba (`pip install numba jsonschema`), whose releases pin llvmlite.
Both sides get the same float32 tensors, threads and pool of memory. `--avx2` keeps both compilers
from longer vectors than those of AVX2.
"""

import argparse
import ast
import io
import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import llvmlite.binding as llvm
import numpy as np
import torch
import torch.nn.functional as F

from .contract import RESULTS, Competitor, Work, document, measure, save
from .inputs import pixels
from .report import table

IMAGE, TINY = {"H": 448, "W": 597, "C": 21}, {"H": 48, "W": 64, "C": 3}
OURS, THEIRS = "lpprop, llvm", "Numba"
AVX2 = {
    "NUMBA_CPU_NAME": "haswell",
    "NUMBA_CPU_FEATURES": "+sse4.2,+popcnt,+avx,+avx2,+fma,+f16c,+bmi,+bmi2,+lzcnt",
}


def load(name):
    """The kernels of a name, compiled for AVX2 where the environment says so."""
    if features := os.environ.get("NUMBA_CPU_FEATURES"):
        llvm.get_host_cpu_name = partial(os.environ.get, "NUMBA_CPU_NAME")
        llvm.get_host_cpu_features = partial(Features, features)
    if name == THEIRS:
        from . import numba_kernels as kernels
    else:
        from lpprop.kernels import llvm as kernels
    return kernels


def vectors():
    return "vectors of AVX2" if "NUMBA_CPU_FEATURES" in os.environ else "the machine's vectors"


class Features(str):
    def flatten(self):
        return str(self)


def propagate(kernels, logits, image):
    from lpprop.inputs.colour import lab_features
    from lpprop.numerics.graphs import stencil_graph

    f = lab_features(image)[0]
    graph = stencil_graph(f, tau=0.01, r=13, sigma=0.0, distance_power=1.0, kernels=kernels)
    return graph.propagate(logits[0].flatten(1), alpha=0.95, max_iter=10, tol=1e-6)[0]


def upsample(kernels, logits, image):
    """From a grid of a sixteenth of the pixels, at the defaults of joint_bilateral_upsample."""
    size = image.shape[-2:]
    grid = tuple(side // 16 for side in size)
    x, guide = F.adaptive_avg_pool2d(logits, grid)[0], image / 0.1**0.5
    points = F.interpolate(guide, grid, mode="bilinear")[0]
    rows, columns = (axis(*pair) for pair in zip(size, grid, strict=True))
    return kernels.upsample(x, points, guide[0], rows, columns)


def axis(pixels, points, radius=3):
    place = ((2 * torch.arange(pixels) + 1) * points - pixels).double() / (2 * pixels)
    centre = place.round().long().clamp(0, points - 1)
    around = centre[:, None] + torch.arange(-radius, radius + 1)
    outside = (around < 0) | (around >= points)
    return centre, (-((place[:, None] - around) ** 2)).masked_fill(outside, -torch.inf).float()


STEPS = {"pixel step": propagate, "upsampling": upsample}


def steady_state(step, **sizes):
    inputs = pixels(**sizes)
    call = partial(STEPS[step], logits=inputs.pixel_logits, image=inputs.image)
    return Work(
        name=f"{step}, compiled",
        sizes=sizes,
        tolerance=1e-5,
        competitors=[
            Competitor(name, f"float32, compiled already, {vectors()}", partial(call, load(name)))
            for name in (OURS, THEIRS)
        ],
    )


FIRST_CALL = """
import io, sys
import numpy as np, torch
from benchmarks import compilers

name, step, threads = sys.argv[1:]
torch.set_num_threads(int(threads))
file = io.BytesIO(sys.stdin.buffer.read())
logits, image = (torch.from_numpy(np.load(file)) for _ in range(2))
result = compilers.STEPS[step](compilers.load(name), logits, image)
np.save(sys.stdout.buffer, result.numpy())
"""


def first_call(step, folder, **sizes):
    inputs, file = pixels(**sizes), io.BytesIO()
    for x in (inputs.pixel_logits, inputs.image):
        np.save(file, x.numpy())

    def run(name, **settings):
        arguments = [name, step, str(torch.get_num_threads())]
        process = subprocess.run(
            [sys.executable, "-c", FIRST_CALL, *arguments],
            input=file.getvalue(),
            stdout=subprocess.PIPE,
            check=True,
            cwd=Path(__file__).parents[1],
            env=os.environ | {"LPPROP_CACHE": ""} | settings,
        )
        return np.load(io.BytesIO(process.stdout))

    cached = {"LPPROP_NUMBA_CACHE": "1", "NUMBA_CACHE_DIR": folder}
    return Work(
        name=f"{step}, first call: a process from start to end",
        sizes=sizes,
        tolerance=1e-5,
        competitors=[
            Competitor(OURS, f"imports, compiles, calls once, {vectors()}", partial(run, OURS)),
            Competitor(
                "lpprop, cached",
                "the same, but what it needs was compiled before and lies on disk",
                partial(run, OURS, LPPROP_CACHE=folder),
            ),
            Competitor(THEIRS, "the same", partial(run, THEIRS)),
            Competitor(
                "Numba, cached",
                "the same, but what it needs was compiled before and lies on disk",
                partial(run, THEIRS, **cached),
            ),
        ],
    )


def lines_of_code(*files):
    """Lines of files that are neither blank, nor comments, nor docstrings."""
    count = 0
    for file in files:
        tree = ast.parse(file.read_text())
        kinds = ast.Module | ast.ClassDef | ast.FunctionDef
        nodes = [node for node in ast.walk(tree) if isinstance(node, kinds)]
        spans = [node.body[0] for node in nodes if ast.get_docstring(node) is not None]
        skipped = {n for node in spans for n in range(node.lineno, node.end_lineno + 1)}
        count += sum(
            bool(line.strip()) and not line.strip().startswith("#") and number not in skipped
            for number, line in enumerate(file.read_text().splitlines(), 1)
        )
    return count


def sizes():
    """Lines of code, and what is installed, on either side."""
    import numba

    own = Path(load(OURS).__file__).parent
    names = ("builder", "jit", "stencil", "stencil_loops", "stencil_weights", "upsampling")
    lines = lines_of_code(*(own / f"{name}.py" for name in names))
    theirs = lines_of_code(Path(__file__).parent / "numba_kernels.py")
    packages = [Path(package.__file__).parents[depth] for package, depth in ((llvm, 1), (numba, 0))]
    needs, more = (
        sum(file.stat().st_size for file in package.rglob("*") if file.is_file()) / 1e6
        for package in packages
    )
    return (
        f"{OURS}: {lines} lines of code, {needs:.0f} MB installed; "
        f"{THEIRS}: {theirs} lines, {needs + more:.0f} MB"
    )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compilers")
    parser.add_argument("--repeats", type=int, default=9, help="rounds; first calls take a third")
    parser.add_argument("--avx2", action="store_true", help="no longer vectors than AVX2's")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: tests the benchmark")
    parser.add_argument("--out", type=Path, help="default: benchmarks/results; with --quick none")
    args = parser.parse_args(arguments)
    os.environ |= AVX2 if args.avx2 else {}

    image, few = TINY if args.quick else IMAGE, -(-args.repeats // 3)
    with tempfile.TemporaryDirectory() as folder:
        works = [
            work
            for step in STEPS
            for work in (
                measure(partial(steady_state, step, **image), repeats=args.repeats),
                measure(partial(first_call, step, folder, **image), repeats=few),
            )
        ]
    name = "compilers_avx2" if args.avx2 else "compilers"
    packages = "lpprop torch numpy llvmlite numba"
    result = document(name, works, quick=args.quick, packages=packages)
    if args.out or not args.quick:
        save(result, args.out or RESULTS / f"{name}_cpu.json")
    print(table(result), sizes(), sep="\n\n")


if __name__ == "__main__":
    main()
