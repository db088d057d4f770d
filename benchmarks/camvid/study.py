"""The study: evaluations, settings and reasons as one JSON document."""

import platform
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

import lpprop
from lpprop.evaluation.analyses import OracleStart, patch_oracle
from lpprop.evaluation.task import Samples

from . import intervals, reasons
from .methods import REFINERS, UPSAMPLERS, methods, pair
from .runs import Run, run
from .starts import CLASSES, PATCH, SHARE, ProbeStart, oracle, relabelled
from .sweeps import Every, swept

BASE = pair("start", "bilinear")
SEEDS = (0, 1, 2)
SEED_COLUMNS = ["bilinear", "joint bilateral"]
SIZES = (8, 16, 32)
SHARES = (0.0, 0.05, 0.1, 0.2, 0.4, 0.6)
PENALTIES = (1e-2, 1e-3, 1e-4)
CUTS = (0.05, 0.1, 0.2)
GRAPHS = {
    "k 50, γ 7": {"k": 50, "gamma": 7.0},
    "k 100, γ 3": {"k": 100, "gamma": 3.0},
    "preset: k 400, γ 3": {"k": 400, "gamma": 3.0},
}
Document = dict[str, Any]


def study(dataset: Samples, out: Path, *, tiny: bool = False) -> Document:
    """Evaluate all that is not in `out` yet; `tiny` takes one value of each option."""
    probe = ProbeStart(dataset)
    part = Every(dataset, 4)
    wrong = relabelled()
    oracle_run = run(dataset, oracle(), methods(["start"]), out / "oracle")
    wrong_run = run(dataset, wrong, methods(), out / "relabelled")
    probe_run = run(dataset, probe, methods(logits=True), out / "probe")
    true_run = run(dataset, relabelled(share=0.0), methods(upsamplers=["bilinear"]), out / "true")
    sizes = {
        size: run(dataset, oracle(size), methods(["start"]), out / f"oracle {size}")
        if size != PATCH
        else oracle_run
        for size in SIZES
    }
    runs = {"oracle": oracle_run, "relabelled": wrong_run, "probe": probe_run, "true": true_run}
    return {
        "images": len(dataset),
        "classes": list(dataset.class_names),
        "dataset": dataset.name,
        "versions": {
            "lpprop": lpprop.__version__, "torch": torch.__version__, "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "runs": {name: described(each) for name, each in runs.items()},
        "seconds": seconds(oracle_run, pair("start", "pixel step")),
        "seeds": by_seed(dataset, out, wrong_run),
        "sizes": {str(size): _short(each) for size, each in sizes.items()},
        "shares": by_share(part, out),
        "penalties": by_penalty(dataset, out),
        "part": {
            name: on_part(runs[name], part.numbers) for name in ("relabelled", "probe")
        },
        "sweeps": {
            "relabelled": swept(part, wrong, out / "sweep relabelled", logits=False, tiny=tiny),
            "probe": swept(part, probe, out / "sweep probe", logits=True, tiny=tiny),
        },
        "reasons": why(dataset, probe, runs | {"oracle, 8 px": sizes[8]}),
        "probe": {
            "folds": [
                {"trained on": probe.trained_on(fold), "gradient": fit.gradient}
                for fold, fit in enumerate(probe.fits)
            ],
            "penalty": probe.penalty,
        },
    }  # fmt: skip


def described(each: Run) -> dict[str, Document]:
    """The metrics of each method, and its gain over the bilinearly upsampled start."""
    rows = {}
    for name in each.wide:
        wide, narrow = each.wide[name], each.narrow[name]
        rows[name] = {
            "miou": wide.metrics.miou,
            "boundary_wide": wide.metrics.mean_boundary_iou,
            "boundary": narrow.metrics.mean_boundary_iou,
            "iou": plain(wide.metrics.iou),
            "gain": intervals.difference(each.wide[BASE], wide)._asdict(),
            "boundary_gain": intervals.difference(
                each.narrow[BASE], narrow, boundary=True
            )._asdict(),
        }
    return rows


def seconds(each: Run, unit: str) -> dict[str, float]:
    """Median time per image of each upsampler, as a multiple of one of them."""
    return {
        name: each.wide[pair("start", name)].seconds / each.wide[unit].seconds
        for name in UPSAMPLERS
    }


def by_seed(dataset: Samples, out: Path, first: Run) -> dict[str, list[float]]:
    """The mIoU per seed, which decides which patches are relabelled."""
    again = [
        run(dataset, relabelled(seed), methods(upsamplers=SEED_COLUMNS), out / f"relabelled {seed}")
        for seed in SEEDS[1:]
    ]
    names = [pair(refiner, column) for refiner in REFINERS for column in SEED_COLUMNS]
    return {name: [each.wide[name].metrics.miou for each in (first, *again)] for name in names}


def by_share(dataset: Samples, out: Path) -> dict[str, dict[str, Document]]:
    """Metrics per share of relabelled patches: from which on does a refiner help?"""
    chains = methods(upsamplers=["bilinear"])
    return {
        str(share): _short(run(dataset, relabelled(share=share), chains, out / f"share {share}"))
        for share in SHARES
    }


def by_penalty(dataset: Samples, out: Path) -> dict[str, float]:
    """The probe's own mIoU with other penalties, and trained without a gap to the tested frames."""
    chains = methods(["start"], ["bilinear"], logits=True)
    probes = {f"penalty {x:g}": ProbeStart(dataset, penalty=x) for x in PENALTIES}
    probes["no gap"] = ProbeStart(dataset, gap=0)
    return {
        name: run(dataset, probe, chains, out / f"probe, {name}").wide[BASE].metrics.miou
        for name, probe in probes.items()
    }


def why(dataset: Samples, probe: ProbeStart, runs: Mapping[str, Run]) -> Document:
    samples = [dataset[i] for i in range(len(dataset))]
    oracles = [patch_oracle(sample.gt, PATCH, CLASSES) for sample in samples]
    start = OracleStart(CLASSES, share=SHARE)
    upsampled = [pair("start", name) for name in UPSAMPLERS]
    bilinear = [pair(name, "bilinear") for name in REFINERS]
    return {
        "thickness": reasons.thickness(dataset),
        "purity": {
            name: reasons.purity(dataset, probe.feats, oracles, **options)
            for name, options in GRAPHS.items()
        },
        "votes": {
            name: {
                graph: reasons.votes(probe.feats, oracles, logits, **options)
                for graph, options in GRAPHS.items()
            }
            for name, logits in {
                "relabelled": [start(sample).logits[0] for sample in samples],
                "probe": [probe(sample).logits[0] for sample in samples],
            }.items()
        },
        "repairs": {
            name: reasons.repairs(
                each.labels, BASE, [*dict.fromkeys(upsampled + bilinear)], dataset
            )
            for name, each in runs.items()
            if name in ("relabelled", "probe")
        }
        | {"true": reasons.repairs(runs["true"].labels, BASE, bilinear, dataset)}
        | {"oracle": reasons.repairs(runs["oracle"].labels, BASE, upsampled, dataset)},
        "borders": {
            name: reasons.near_borders(runs[name].labels, upsampled, dataset, CUTS)
            for name in ("oracle", "oracle, 8 px", "probe")
        },
    }


def on_part(each: Run, numbers: Iterable[int]) -> Document:
    """The metrics of the start alone, on the images of the sweeps."""
    weights = np.isin(np.arange(len(each.wide[BASE].images)), list(numbers))[None].astype(int)
    return {
        "miou": float(intervals.pooled_miou(each.wide[BASE], weights)[0]),
        "boundary": float(intervals.pooled_boundary(each.narrow[BASE], weights)[0]),
    }


def _short(each: Run) -> dict[str, Document]:
    return {
        name: {
            "miou": each.wide[name].metrics.miou,
            "boundary": each.narrow[name].metrics.mean_boundary_iou,
        }
        for name in each.wide
    }


def plain(values: np.ndarray) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in values]
