"""From the steps of one image to ten million: what is counted, what is assumed, what follows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from lpprop.refiners import PatchPropagation, PixelPropagation

IMAGES = 10_000_000
GPUS = (8, 64)


@dataclass(frozen=True)
class Assumed:
    """What nobody has measured here, and what the plan takes in its place.

    Attributes:
        peak: operations per second of a GPU by the precision of the networks, NVIDIA's figures for
            an H100 SXM without sparsity.
        network_share: the share of that peak that a vision transformer reaches.
        refiner_share: the share of the peak in float32 that the refiners reach.
        gpu_hour: price of an hour of a GPU with its share of the machine, in dollars.
        core_hour: price of an hour of a core, in dollars.
        node_gpus: GPUs of a machine.
        node_network: bytes per second that a machine receives.
    """

    peak: tuple[tuple[str, float], ...] = (("float32", 67e12), ("bfloat16", 989e12))
    network_share: float = 0.4
    refiner_share: float = 0.1
    gpu_hour: float = 3.0
    core_hour: float = 0.04
    node_gpus: int = 8
    node_network: float = 25e9 / 8


def count_operations(measured: dict[str, Any]) -> dict[str, float]:
    """Count the operations of an image by step, two per multiply-add."""
    patches, pixels = measured["patches"], math.prod(measured["size"])
    patch, pixel = PatchPropagation().config, PixelPropagation().config
    products = 2 * patches**2 * 768
    steps = 2 * patch["max_iter"] * 2 * patch["k"] * patches * measured["classes"]
    neighbours = pixel["r"] ** 2 - 1
    return {
        "networks": float(sum(measured["flops"].values())),
        "patch step": float(products + steps),
        "pixel step": 2.0 * pixel["max_iter"] * neighbours * pixels * measured["classes"],
    }


def seconds_on_gpu(measured: dict[str, Any], assumed: Assumed, precision: str) -> dict[str, float]:
    """Return the seconds of an image by step, with the networks in a precision."""
    operations, peak = count_operations(measured), dict(assumed.peak)
    refining = peak["float32"] * assumed.refiner_share
    return {
        "networks": operations["networks"] / (peak[precision] * assumed.network_share),
        "patch step": operations["patch step"] / refining,
        "pixel step": operations["pixel step"] / refining,
        "decode and encode": measured["seconds"]["decode"] + measured["seconds"]["encode"],
    }


def plan(measured: dict[str, Any], assumed: Assumed, precision: str, gpus: int) -> dict[str, float]:
    """Return what a job of `IMAGES` takes on so many GPUs, one worker each, nothing overlapping."""
    seconds = sum(seconds_on_gpu(measured, assumed, precision).values())
    rate, nodes = gpus / seconds, gpus / assumed.node_gpus
    size = measured["bytes"]
    return {
        "images per second": rate,
        "hours": IMAGES / rate / 3600,
        "read": rate * size["image"],
        "written": rate * size["labels"],
        "share of the network": rate * size["image"] / nodes / assumed.node_network,
        "with features": rate * size["features"] / nodes / assumed.node_network,
        "dollars per million": 1e6 * seconds / 3600 * assumed.gpu_hour,
    }


def plan_on_cores(measured: dict[str, Any], assumed: Assumed) -> dict[str, float]:
    """Return what a million images take on cores like the measured one."""
    hours = 1e6 * sum(measured["seconds"].values()) / 3600
    return {"core hours per million": hours, "dollars per million": hours * assumed.core_hour}
