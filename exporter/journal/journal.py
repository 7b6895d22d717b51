"""The journal: what must outlive a restart, and the history.

One thread reads and writes; the event loop hands work over and never waits for the disk. A journal that cannot be kept
on disk goes on in memory, logs that, and tries the disk again from time to time: it never stops the program and never
changes a decision.
"""

from __future__ import annotations

import asyncio
import json
import logging
import queue
import threading
from collections import deque
from concurrent.futures import Future
from contextlib import closing
from typing import TYPE_CHECKING, Any, TypeVar, Unpack

from exporter.journal import file
from exporter.journal.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from exporter.clock import Clock
    from exporter.journal.history import Record

log = logging.getLogger("mayday")

T = TypeVar("T")

OPEN_S = 10.0
"""How long the start waits for the disk, seconds. A disk that answers later is used from then on."""
PENDING_LIMIT = 20_000
"""Records that wait for the disk at most; beyond it the oldest are dropped."""


class Journal:
    """Memory and history of one Mayday. With `path` None everything stays in memory.

    With `threaded` False everything is done in the caller's thread, for virtual time.
    """

    def __init__(
        self,
        path: Path | None,
        *,
        clock: Clock,
        retention_days: int = 30,
        max_records: int = 100_000,
        threaded: bool = True,
    ) -> None:
        self._store = Store(path, clock, retention_days * 86400.0, max_records)
        self._threaded = threaded
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._pending = threading.Lock()
        """Held for a moment, never over I/O: what is taken together is written together."""
        self._document: str | None = None
        self._rows: deque[file.Row] = deque()
        self._drain_scheduled = False
        self._overflowing = False
        self._open = self._opening = self._closed = False

    @property
    def up(self) -> bool:
        """Whether it is kept where it should be; False: in memory, though there is a STATE_DIR."""
        return self._store.up and not self._opening

    @property
    def problem(self) -> str | None:
        """What is wrong, and what to do; None: nothing."""
        if self._opening:
            return "STATE_DIR does not answer; check the disk or the mount that it is on"
        return self._store.problem

    @property
    def exclusive(self) -> bool:
        """False: another Mayday uses the same STATE_DIR. It becomes True if that one ends."""
        return self._store.exclusive

    async def open(self) -> None:
        """Open the file; whatever is wrong with it is found in `problem`, never raised."""
        if self._threaded:
            # A daemon thread: a disk that hangs for ever must not keep the process from ending.
            threading.Thread(target=self._work, name="journal", daemon=True).start()
        self._opening, self._open = True, True
        try:
            async with asyncio.timeout(OPEN_S):
                await asyncio.shield(self._call(self._begin))
        except TimeoutError:
            log.error("the journal is kept in memory only for now: %s", self.problem)  # noqa: TRY400
        self._schedule()

    def _begin(self) -> None:
        self._store.open()
        self._opening = False
        self._drain()

    async def look(self) -> None:
        """Try the disk again, if it is time to."""
        if self._usable:
            await self._call(self._store.housekeep)

    async def load(self) -> dict[str, Any] | None:
        """The document that was saved last, None when there is none."""
        return await self._call(self._store.load) if self._usable else None

    def save(self, document: Mapping[str, object]) -> None:
        """Keep the newest document."""
        try:
            text = json.dumps(dict(document))
        except (TypeError, ValueError, RecursionError) as error:
            log.error("the state cannot be written as JSON, the last one saved is kept: %s", error)  # noqa: TRY400
            return
        with self._pending:
            self._document = text
        self._schedule()

    async def settle(self, timeout_s: float = 2.0) -> None:
        """Wait until what was saved is written; no longer than that, for a disk that hangs must stop nothing."""
        if not self._usable:
            return
        try:
            async with asyncio.timeout(timeout_s):
                await self._call(lambda: self._guarded(self._drain))
        except TimeoutError:
            log.warning("the journal was not written within %g s; check the disk of STATE_DIR", timeout_s)

    def append(self, record: Record) -> None:
        """Keep a record."""
        entry = file.to_row(record)
        with self._pending:
            overflow = len(self._rows) >= PENDING_LIMIT
            if overflow:
                self._rows.popleft()
            first, self._overflowing = overflow and not self._overflowing, overflow or self._overflowing
            self._rows.append(entry)
        if first:
            log.warning(
                "the disk is too slow: more than %d entries of the history wait, the oldest are lost; check STATE_DIR",
                PENDING_LIMIT,
            )
        self._schedule()

    async def query(self, **wanted: Unpack[file.Conditions]) -> list[Record]:
        """History, newest first."""

        def read() -> list[Record]:
            self._drain()
            return self._store.read(**wanted)

        return await self._call(read) if self._usable else []

    async def close(self, timeout_s: float = 2.0) -> None:
        """Write what is left, and close; give up waiting for a disk that hangs."""
        if not self._usable:
            return

        def end() -> None:
            self._drain()
            self._store.close()

        ending = self._call(end)
        self._closed = True
        try:
            async with asyncio.timeout(timeout_s):
                await ending
        except TimeoutError:
            log.error("the journal could not be written within %g s; its last entries are lost", timeout_s)  # noqa: TRY400
        self._jobs.put(None)

    # --- in the writer thread (or inline) ----------------------------------------------------------------------------

    def _work(self) -> None:
        while True:
            try:
                job = self._jobs.get(timeout=self._store.due_in_s())
            except queue.Empty:
                job = self._store.housekeep
            if job is None:
                return
            self._guarded(job)

    def _guarded(self, job: Callable[[], None]) -> None:
        try:
            job()
        except Exception:
            log.exception("the journal's writer failed; it goes on")

    def _drain(self) -> None:
        with self._pending:
            self._drain_scheduled = self._overflowing = False
            document, self._document = self._document, None
            rows = list(self._rows)
            self._rows.clear()
        if document is not None or rows:
            self._store.write(document, rows)
        self._store.housekeep()

    # --- between the loop and the thread -----------------------------------------------------------------------------

    @property
    def _usable(self) -> bool:
        return self._open and not self._opening and not self._closed

    def _schedule(self) -> None:
        if not self._usable:
            return
        if not self._threaded:
            self._guarded(self._drain)
            return
        with self._pending:
            if self._drain_scheduled:
                return
            self._drain_scheduled = True
        self._jobs.put(self._drain)

    def _call(self, call: Callable[[], T]) -> asyncio.Future[T]:
        if not self._threaded:
            done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
            done.set_result(call())
            return done
        future: Future[T] = Future()

        def job() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(call())
            except BaseException as error:  # noqa: BLE001 - it is raised where the result is awaited
                future.set_exception(error)

        self._jobs.put(job)
        return asyncio.wrap_future(future)


def read_history(path: Path, **wanted: Unpack[file.Conditions]) -> list[Record]:
    """History, newest first, from a file that a running Mayday may write to meanwhile.

    Raises:
        sqlite3.Error: the file cannot be read.
    """
    with closing(file.connect_read_only(path)) as connection:
        return file.read(connection, **wanted)
