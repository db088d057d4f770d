"""The device that a worker computes on: the one that its engine or launcher has given it."""

from __future__ import annotations

import logging
import os
import sys

import torch
import torch.utils.data

from lpprop._core.errors import InputError

__all__ = ["check_device", "find_device"]

_log = logging.getLogger("lpprop")


def check_device(device: object) -> str:
    """Return the name of a device that some machine may have, or "auto"; refuse anything else.

    It does not look for the device: where the object is made there may be none.

    >>> check_device("cuda:1"), check_device("auto")
    ('cuda:1', 'auto')
    """
    if device == "auto":
        return "auto"
    try:
        if isinstance(device, (str, torch.device)):
            return str(torch.device(device))
        reason = type(device).__name__
    except RuntimeError as error:
        reason = f"{device!r} ({str(error).splitlines()[0][:80]})"
    raise InputError.of(
        "device",
        got=reason,
        expected='"auto", or the name of a device of the workers',
        fix='Pass "cpu" or "cuda".',
    )


def find_device(device: str, rank: int | None = None) -> torch.device:
    """Return the device of this worker.

    Several workers of a machine spread over its GPUs. "auto" takes, where there are any:

    1. what Ray has given to the task or actor, the CPU if it has given no GPU;
    2. the GPU numbered by `rank`, by the environment's LOCAL_RANK (torchrun), or by the number of
       the DataLoader's worker, whichever is there first;
    3. the first GPU.

    CUDA_VISIBLE_DEVICES holds throughout: the numbers count the GPUs that are visible.

    Args:
        device: as `check_device` returns it.
        rank: the number of this worker among those of its machine.

    Raises:
        InputError: a device that this process does not have, or cannot use.
    """
    chosen = torch.device(_choose(rank) if device == "auto" else device)
    try:
        torch.zeros(1, device=chosen)
    except (RuntimeError, AssertionError) as error:  # torch built without CUDA asserts
        reason = str(error).strip().splitlines()[0]
        raise InputError.of(
            "device",
            got=f"{chosen} ({reason})",
            expected="a device that this process can use",
            fix="A process that was forked cannot use CUDA: start workers by spawn."
            if "fork" in reason
            else 'Pass device="auto", or "cpu".',
        ) from error
    return chosen


def _choose(rank: int | None) -> str:
    if not torch.cuda.is_available():
        return "cpu"
    given = _find_ray_gpus()
    if given is not None and not given:
        _log.warning("device cpu, since Ray gave this worker no GPU: pass num_gpus=1 to it")
        return "cpu"
    if given:
        return f"cuda:{_find_position(given[0])}"
    if rank is None and (local := os.environ.get("LOCAL_RANK", "")).isdigit():
        rank = int(local)
    if rank is None and (worker := torch.utils.data.get_worker_info()) is not None:
        rank = worker.id
    return f"cuda:{(rank or 0) % torch.cuda.device_count()}"


def _find_ray_gpus() -> list[str] | None:
    """Return the GPUs that Ray has given to this worker; None where this is no worker of Ray."""
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return None
    context = ray.get_runtime_context()
    if context.get_task_id() is None:  # the driver
        return None
    return list(context.get_accelerator_ids()["GPU"])


def _find_position(gpu: str) -> int:
    """Return the number that torch has for a GPU of Ray's, among the visible ones."""
    visible = [one.strip() for one in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")]
    if gpu in visible:
        return visible.index(gpu)
    return int(gpu) if gpu.isdigit() else 0
