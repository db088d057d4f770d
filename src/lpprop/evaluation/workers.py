"""Processes that work off jobs, for as long as the one that started them lives."""

from __future__ import annotations

import itertools
import multiprocessing
import pickle
import signal
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple

import torch

from lpprop._core.optional import import_cv2
from lpprop.errors import InputError

__all__ = ["WorkerError", "in_processes"]


class WorkerError(RuntimeError):
    """A process ended before its job was done; `job` is the job."""

    def __init__(self, job: Any, reason: str) -> None:
        """Keep the job."""
        super().__init__(reason)
        self.job = job


def in_processes(
    function: Callable[[Any], Any], jobs: Sequence[Any], processes: int
) -> Iterator[Any]:
    """Yield the results of the jobs, in the order in which they are done.

    The function goes to each process once. The processes end with the iterator, and also where this
    process is killed: each waits for its next job on a pipe whose other end nobody else holds.

    Args:
        function: takes a job; it, the jobs and the results are pickled.
        jobs: what to work off.
        processes: how many, with one thread of torch each.

    Raises:
        InputError: a function that cannot be sent to another process.
        WorkerError: a process that ended.
    """
    try:
        payload = pickle.dumps(function)
    except Exception as error:  # whatever the objects inside raise
        raise _unsendable(f"{type(error).__name__}: {error}") from error
    todo = iter(jobs)
    workers: dict[Connection, _Worker] = {}
    try:
        for job in itertools.islice(todo, processes):
            worker = _Worker(payload)
            workers[worker.connection] = worker
            worker.give(job)
        while workers:
            for ready in wait(list(workers)):
                assert isinstance(ready, Connection)
                yield workers[ready].take()
                for job in todo:
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
    """A process, the end of its pipe that is ours, and the job that it has."""

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
            raise self._ended() from error

    def take(self) -> Any:
        try:
            result = self.connection.recv()
        except (EOFError, OSError) as error:
            raise self._ended() from error
        if isinstance(result, _Unloadable):
            raise _unsendable(result.reason)
        return result

    def end(self) -> None:
        self.connection.close()
        self.process.join()

    def _ended(self) -> WorkerError:
        self.process.join(5)
        return WorkerError(
            self.job,
            f"its process ended with exit code {self.process.exitcode} (-9: out of memory?)",
        )


class _Unloadable(NamedTuple):
    reason: str


def _work(connection: Connection) -> None:
    """Work off jobs until the other end of the pipe is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the business of the one who started us
    torch.set_num_threads(1)
    import_cv2().setNumThreads(1)
    try:
        payload = connection.recv_bytes()
        try:
            function = pickle.loads(payload)
        except Exception as error:
            connection.send(_Unloadable(f"{type(error).__name__}: {error}"))
            return
        while True:
            connection.send(function(connection.recv()))
    except (EOFError, OSError):
        return


def _unsendable(reason: str) -> InputError:
    return InputError.of(
        "predictors",
        got=f"what cannot be sent to another process ({reason})",
        expected="objects that pickle, for processes > 1",
        fix="Define functions and classes in a module, no lambdas; or pass processes=1.",
    )
