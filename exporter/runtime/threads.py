"""Blocking calls in threads that do not keep the process alive."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class DaemonThreads:
    """At most so many calls at once, each in a daemon thread of its own.

    Python waits at its exit for the threads of a `ThreadPoolExecutor`, and a call to a Docker that stands still lasts
    for its time-out plus a container's grace. These threads end with the process; Docker carries out a request whether
    or not the connection it came by still stands. Starting a thread costs a fifth of a millisecond, a call several.
    """

    def __init__(self, most: int) -> None:
        self._free = asyncio.Semaphore(most)
        self._closed = False

    async def run(self, call: Callable[[], T]) -> T:
        """Make the call when it is its turn. A caller that is cancelled after that leaves the call running.

        Raises:
            RuntimeError: closed, or no thread can be started; the call was not made.
        """
        await self._free.acquire()
        if self._closed:
            self._free.release()  # to the next that waits
            raise RuntimeError("the connection to Docker is closed")
        outcome: Future[T] = Future()
        outcome.set_running_or_notify_cancel()  # from here on a cancelled caller does not take the call back
        loop = asyncio.get_running_loop()

        def in_thread() -> None:
            try:
                outcome.set_result(call())
            except BaseException as error:  # noqa: BLE001 - it is raised where the result is awaited
                outcome.set_exception(error)
            with suppress(RuntimeError):  # the event loop ended before the call
                loop.call_soon_threadsafe(self._free.release)

        try:
            threading.Thread(target=in_thread, name="docker-call", daemon=True).start()
        except RuntimeError:
            self._free.release()
            raise
        return await asyncio.wrap_future(outcome)

    def close(self) -> None:
        """Begin nothing more: calls that wait for their turn are refused now, those under way are left alone."""
        self._closed = True
        self._free.release()  # to the first that waits
