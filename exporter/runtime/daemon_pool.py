"""A pool of threads that do not keep the process alive."""

from __future__ import annotations

import threading
from concurrent.futures import Executor, Future
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import ParamSpec

    P = ParamSpec("P")

T = TypeVar("T")


class DaemonPool(Executor):
    """Threads that do not keep the process alive.

    Python waits at its exit for every thread of a `ThreadPoolExecutor`, and a call to a daemon that stands still lasts
    for its time-out plus a container's grace. These threads just end with the process: by then nobody waits for the
    answer, and Docker carries out a request whether or not the connection it came by still stands.

    A thread that had nothing to do for `linger_s` seconds ends; with None it stays.
    """

    def __init__(self, workers: int, *, linger_s: float | None = None) -> None:
        self._workers = workers
        self._linger_s = linger_s
        self._jobs: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._idle = threading.Semaphore(0)
        self._threads = 0
        self.closed = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run something in a thread. RuntimeError: the pool is shut down."""
        future: Future[T] = Future()
        with self._lock:
            if self.closed:
                raise RuntimeError("the pool is shut down")
            self._jobs.put((future, partial(fn, *args, **kwargs)))
            if not self._idle.acquire(blocking=False) and self._threads < self._workers:
                self._threads += 1
                threading.Thread(target=self._work, name=f"docker-{self._threads}", daemon=True).start()
        return future

    def _work(self) -> None:
        while True:
            try:
                job = self._jobs.get(timeout=self._linger_s)
            except Empty:
                with self._lock:
                    if not self._idle.acquire(blocking=False):
                        continue  # somebody counts on this thread for a job that comes right now
                    self._threads -= 1
                    return
            if job is None:
                return
            future, run = job
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(run())
                except BaseException as error:  # noqa: BLE001 - whoever waits gets it
                    future.set_exception(error)
            del job, future, run  # an idle thread holds nothing
            self._idle.release()

    def shutdown(self, wait: bool = False, *, cancel_futures: bool = True) -> None:  # noqa: ARG002, FBT001, FBT002 - the base's
        """Begin nothing more: what waits for a thread fails with RuntimeError, what runs is left alone."""
        with self._lock:
            self.closed = True
            try:
                while (job := self._jobs.get_nowait()) is not None:
                    if job[0].set_running_or_notify_cancel():
                        job[0].set_exception(RuntimeError("the pool is shut down"))
            except Empty:
                pass
            for _ in range(self._threads):
                self._jobs.put(None)
