"""Label propagation against SciPy: `python -m benchmarks.label_propagation`.

The patch step is 2,940 patches of 15 windows, against faiss-cpu's exact search, CSR and
`scipy.sparse.linalg.cg` a class at a time; the pixel step is 448x597 pixels, against the same
solver. Both sides take the same float32 arrays: normalisation, graph and solve are timed.
"""

import argparse
from functools import partial
from pathlib import Path

import faiss
import torch

import lpprop

from . import scipy_reference
from .contract import RESULTS, Competitor, Work, document, measure, save
from .inputs import scene
from .report import table

PUBLISHED = {"H": 448, "W": 597, "window": 224, "stride": 112, "patch_size": 16, "C": 21, "D": 768}
TINY = {"H": 48, "W": 64, "window": 32, "stride": 16, "patch_size": 8, "C": 3, "D": 16}


def patch_step(device: str, k: int, **sizes: int) -> Work:
    inputs = scene(**sizes)
    boxes, logits, feats = inputs.boxes, inputs.patch_logits, inputs.patch_feats
    patch_size = sizes["patch_size"]
    arrays = logits.numpy(), feats.numpy(), boxes.numpy()
    faiss.omp_set_num_threads(torch.get_num_threads())
    on_device = logits.to(device), feats.to(device)
    rows = feats.movedim(1, -1).flatten(0, 2).to(device)
    return Work(
        name="patch step",
        sizes=sizes | {"k": k, "windows": len(boxes), "patches": len(rows)},
        # One neighbour of a million is a tie in float32: it falls either way, worth 3e-4.
        tolerance=1e-3,
        competitors=[
            Competitor(
                "lpprop",
                "propagate_patches, float32",
                partial(
                    lpprop.propagate_patches, *on_device, k=k, patch_size=patch_size, windows=boxes
                ),
            ),
            Competitor(
                "SciPy + faiss-cpu",
                "IndexFlatIP, CSR, scipy.sparse.linalg.cg a class at a time, float32",
                partial(scipy_reference.propagate_patches, *arrays, k=k, patch_size=patch_size),
                target=2.5 if device == "cpu" else None,
            ),
            Competitor(
                "X Xᵀ alone",
                "the similarities of all patches as one torch product, float32: a floor",
                lambda: rows @ rows.T,
                comparable=False,
            ),
        ],
    )


def pixel_step(device: str, r: int, **sizes: int) -> Work:
    inputs = scene(**sizes)
    arrays = inputs.pixel_logits[0].numpy(), inputs.image[0].numpy()
    on_device = inputs.pixel_logits.to(device), inputs.image.to(device)
    return Work(
        name="pixel step",
        sizes={name: sizes[name] for name in "HWC"} | {"r": r},
        tolerance=1e-4,
        competitors=[
            Competitor(
                "lpprop",
                "propagate_pixels, float32",
                lambda: lpprop.propagate_pixels(*on_device, r=r)[0],
            ),
            Competitor(
                "SciPy, CSR",
                "edge list, CSR, scipy.sparse.linalg.cg a class at a time, float32",
                partial(scipy_reference.propagate_pixels, *arrays, r=r, matrix="csr"),
            ),
            Competitor(
                "SciPy, diagonals",
                "dia_array, scipy.sparse.linalg.cg a class at a time, float32",
                partial(scipy_reference.propagate_pixels, *arrays, r=r, matrix="dia"),
            ),
        ],
    )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.label_propagation")
    parser.add_argument(
        "--repeats",
        type=int,
        default=11,
        help="rounds of the patch step; the pixel step takes a third",
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument(
        "--quick", action="store_true", help="tiny sizes, no memory: tests the benchmark alone"
    )
    parser.add_argument("--out", type=Path, help="default: benchmarks/results; with --quick none")
    args = parser.parse_args(arguments)

    works = []
    for step, k_or_r, repeats in (
        (patch_step, (400, 9), args.repeats),
        (pixel_step, (13, 5), -(-args.repeats // 3)),
    ):
        tiny = partial(step, args.device, k_or_r[1], **TINY)
        if args.quick:
            works.append(measure(tiny, repeats=repeats, device=args.device))
        else:
            full = partial(step, args.device, k_or_r[0], **PUBLISHED)
            works.append(measure(full, repeats=repeats, device=args.device, tiny=tiny))
    result = document(
        "label_propagation", works, quick=args.quick, packages="lpprop torch numpy scipy faiss-cpu"
    )
    if args.out or not args.quick:
        save(result, args.out or RESULTS / f"label_propagation_{args.device}.json")
    print(table(result))


if __name__ == "__main__":
    main()
