"""Ray, started or found; and work that Ray Data maps over actors, one call per unit of work."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from lpprop._core.errors import InputError
from lpprop._core.optional import import_hint
from lpprop._core.options import check_integer, check_number

__all__ = ["ClusterError", "Workers", "connect", "count_workers", "map_units", "run_everywhere"]

# Seconds in which a cluster has to answer.
_ANSWER = 10
_HEALTH = 30
# Ray makes one object per block of units, and a call of an actor takes a block.
_BLOCKS = 10_000


class ClusterError(RuntimeError):
    """The cluster has failed, in a way that it does not mend itself."""


@dataclass(frozen=True)
class Workers:
    """Which workers a job has.

    Attributes:
        address: of the cluster, such as "10.0.0.1:6379", or "auto" for that of this machine; None
            for the one that RAY_ADDRESS names, or else one that is started here for the job.
        count: how many workers; None for as many as fit, at most one per unit of work.
        gpus: GPUs per worker, such as 1 or 0.5; 0 for CPUs alone, of which a worker has one.
    """

    address: str | None = None
    count: int | None = None
    gpus: float = 0.0

    def check(self) -> None:
        """Refuse what no cluster could give.

        Raises:
            InputError: fewer than one worker, or a negative number of GPUs.
        """
        if self.count is not None:
            check_integer("workers", self.count)
        check_number("gpus_per_worker", self.gpus, low=0)
        if self.address is not None and self.address.startswith("ray://"):
            raise InputError.of(
                "address",
                got=self.address,
                expected="the address of the cluster itself, such as 10.0.0.1:6379",
                fix="Run the command on a machine of the cluster: ray job submit -- lpprop ...",
            )


@contextmanager
def connect(workers: Workers) -> Iterator[None]:
    """Be connected to Ray within the block; a connection that is there already is taken, and stays.

    Raises:
        ImportError: Ray is not installed.
        InputError: an address that does not answer.
    """
    workers.check()
    ray = _import_ray()
    if ray.is_initialized():
        yield
        return
    address = workers.address or os.environ.get("RAY_ADDRESS") or "local"
    if address not in ("local", "auto"):
        _require_answer(address)
    given: dict[str, Any] = {} if address != "local" else {"include_dashboard": False}
    try:
        # Ray's own log names every retry; what this job has to say, it says itself.
        ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL, **given)
    except (ConnectionError, SystemExit) as error:
        raise _no_answer(address, str(error).splitlines()[0]) from error
    try:
        yield
    finally:
        ray.shutdown()


def _import_ray() -> Any:
    # Ray would send usage reports, hide GPUs from workers that ask for none, and name each retry.
    for name in ("RAY_USAGE_STATS_ENABLED", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"):
        os.environ.setdefault(name, "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    with import_hint("--engine ray needs the extra ray: pip install 'lpprop[ray]'"):
        import ray
        import ray.data
        import ray.exceptions
    return ray


def _require_answer(address: str) -> None:
    """Refuse an address at which no cluster answers: Ray itself would try for five minutes."""
    host, colon, port = address.rpartition(":")
    if not (colon and port.isdigit() and 0 < int(port) < 2**16):
        raise InputError.of(
            "address",
            got=repr(address),
            expected="HOST:PORT of the cluster's head, or auto",
            fix="ray status on the head tells it; its port is 6379 unless told otherwise.",
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER).close()
    except OSError as error:
        raise _no_answer(address, str(error)) from error
    check = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", address]
    reason = "it is no cluster of this version of Ray"
    with suppress(subprocess.TimeoutExpired):
        if not subprocess.run(check, capture_output=True, timeout=_HEALTH, check=False).returncode:
            return
        reason = "something answers that is no cluster of this version of Ray"
    raise _no_answer(address, reason)


def _no_answer(address: str, reason: str) -> InputError:
    return InputError.of(
        "address",
        got=f"{address}, where no cluster answers ({reason})",
        expected="the address of a running cluster",
        fix="Start it by ray start --head, or leave the address out to work on this machine.",
    )


def count_workers(workers: Workers, units: int) -> int:
    """Return how many workers a job gets on the cluster that is connected.

    Raises:
        InputError: more than fit, which would be waited for without end.
    """
    ray = _import_ray()
    fit = 0
    for node in ray.nodes():
        if node["Alive"]:
            has = node["Resources"]
            cpus = int(has.get("CPU", 0))
            fit += min(cpus, int(has.get("GPU", 0) / workers.gpus)) if workers.gpus else cpus
    if fit < (workers.count or 1):
        what = f"{workers.count or 1} workers of one CPU"
        what += f" and {workers.gpus:g} GPUs" if workers.gpus else ""
        raise InputError.of(
            "workers",
            got=what,
            expected=f"at most the {fit} that fit on the machines of the cluster",
            fix="Ask for fewer, or add machines to the cluster first.",
        )
    return min(workers.count or fit, units)


def run_everywhere(function: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
    """Return what a function returns on each machine of the cluster, by the machine's name.

    A machine that is lost meanwhile is left out, as Ray leaves it out.

    Raises:
        InputError: a machine on which the function fails, such as one without this package.
    """
    ray = _import_ray()
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    task = ray.remote(num_cpus=0)(function)
    asked = {}
    for node in ray.nodes():
        if node["Alive"]:
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            name = f"{node['NodeManagerHostname']} ({node['NodeID'][:6]})"
            asked[name] = task.options(scheduling_strategy=there).remote(*arguments)
    found = {}
    for name, answer in asked.items():
        try:
            found[name] = ray.get(answer)
        except ray.exceptions.RayTaskError as error:
            raise InputError.of(
                "address",
                got=f"a cluster whose machine {name} cannot do the work "
                f"({str(error).strip().splitlines()[-1][:200]})",
                expected="this version of lpprop, with the extra ray, on every machine",
                fix="Install it there.",
            ) from error
        except ray.exceptions.RayError:  # the machine is lost
            continue
    return found


def map_units(
    function: type,
    arguments: Sequence[Any],
    units: Mapping[str, Sequence[Any]],
    workers: Workers,
    **options: Any,
) -> Generator[dict[str, Any], None, None]:
    """Map units of work over actors by Ray Data, and yield the rows of the results as they come.

    What goes through Ray's object store is these rows, so they have to be small. A worker that is
    lost is started again, and so are the calls that it had, as often as it takes.

    Args:
        function: a class whose objects map a batch of one unit to columns.
        arguments: what its objects are made with, once per worker.
        units: columns with an entry per unit.
        workers: how many, and with what.
        options: Ray's options of the actors.

    Raises:
        InputError: more workers than fit.
        ClusterError: the cluster has failed.
    """
    ray = _import_ray()
    (column,) = units.values()
    count = count_workers(workers, len(column))
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    rows = [dict(zip(units, values, strict=True)) for values in zip(*units.values(), strict=True)]
    blocks = ray.data.from_items(rows, override_num_blocks=min(len(rows), _BLOCKS))
    with warnings.catch_warnings():
        # Ray 2.64 takes options of the actors otherwise; the extra ends before it.
        warnings.simplefilter("ignore", DeprecationWarning)
        mapped = blocks.map_batches(
            function,
            fn_constructor_args=list(arguments),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=count),
            num_cpus=1,
            num_gpus=workers.gpus or None,
            **options,
        )
    try:
        yield from mapped.iter_rows()
    except ray.exceptions.RayError as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ClusterError(f"{type(error).__name__}: {lines[0]}") from error
    finally:
        # What runs on after a disconnection would start a cluster of its own.
        for thread in threading.enumerate():
            if thread.name.startswith("StreamingExecutor"):
                thread.join(_ANSWER)
