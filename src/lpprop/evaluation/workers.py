"""Processes that work on jobs, and end when the process that started them ends."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

import torch

from lpprop._core.errors import InputError
from lpprop._core.optional import import_cv2
from lpprop._core.progress import hide_progress

__all__ = ["WorkerError", "run_in_processes"]


class WorkerError(RuntimeError):
    """A process ended before its job was done; `job` is that job."""

    def __init__(self, job: Any, reason: str) -> None:
        super().__init__(reason)
        self.job = job


def run_in_processes(
    function: Callable[[Any], Any], jobs: Sequence[Any], processes: int
) -> Iterator[Any]:
    """Yield the results of the jobs, in the order in which they are done.

    Each process gets the function once, and one job at a time. The processes end with the iterator,
    and also when this process is killed. (The standard library's pool does neither tell which job a
    killed process had, nor its exit code, and its processes outlive a parent that is killed.)

    Args:
        function: a function of a job. The function, the jobs and the results are pickled.
        jobs: the jobs.
        processes: the number of processes; torch has one thread in each.

    Raises:
        InputError: a function that cannot be sent to another process.
        WorkerError: a process that ended before its job was done.
    """
    try:
        payload = pickle.dumps(function)
    except Exception as error:  # objects may raise anything when they are pickled
        raise _unsendable(f"{type(error).__name__}: {error}") from error
    pending = iter(jobs)
    workers: dict[Connection, _Worker] = {}
    try:
        for job in itertools.islice(pending, processes):
            worker = _Worker(payload)
            workers[worker.connection] = worker
            worker.give(job)
        while workers:
            for ready in wait(list(workers)):
                assert isinstance(ready, Connection)
                yield workers[ready].take()
                for job in pending:
                    workers[ready].give(job)
                    break
                else:
                    workers.pop(ready).end()
    finally:
        for worker in workers.values():
            worker.process.terminate()
        for worker in workers.values():
            worker.end()


class _Worker:
    """A process, our end of its pipe, and its job."""

    def __init__(self, payload: bytes) -> None:
        context = multiprocessing.get_context("spawn")  # CUDA and threads do not survive a fork
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()
        self.job: Any = None
        self.payload: bytes | None = payload

    def give(self, job: Any) -> None:
        self.job = job
        try:
            if self.payload is not None:
                self.connection.send_bytes(self.payload)
                self.payload = None
            self.connection.send(job)
        except OSError as error:
            raise self._died() from error

    def take(self) -> Any:
        try:
            result = self.connection.recv()
        except (EOFError, OSError) as error:
            raise self._died() from error
        if isinstance(result, InputError):
            raise result
        return result

    def end(self) -> None:
        self.connection.close()
        self.process.join()

    def _died(self) -> WorkerError:
        self.process.join(5)
        return WorkerError(
            self.job,
            f"its process ended with exit code {self.process.exitcode} (-9: out of memory?)",
        )


def _work(connection: Connection) -> None:
    """Do jobs until the other end of the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C, and ends this process
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    hide_progress()
    with contextlib.suppress(ImportError):
        import_cv2().setNumThreads(1)
    try:
        payload = connection.recv_bytes()
        try:
            function = pickle.loads(payload)
        except Exception as error:
            connection.send(_unsendable(f"{type(error).__name__}: {error}"))
            return
        while True:
            connection.send(function(connection.recv()))
    except (EOFError, OSError):
        return


def _end_with_parent() -> None:
    """End this process as soon as its parent is gone, even in the middle of a job."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _unsendable(reason: str) -> InputError:
    return InputError.of(
        "predictors",
        got=f"an object that cannot be sent to another process ({reason})",
        expected="objects that pickle, for processes > 1",
        fix="Define functions and classes in a module, without lambdas; or pass processes=1.",
    )
