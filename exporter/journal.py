"""The journal: what must outlive a restart, and the history.

One thread writes; the event loop hands over and never waits for the disk. A journal that cannot be kept on disk goes on
in memory, says so, and tries the disk again from time to time: it never stops the program and never changes a decision.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import sqlite3
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import IO, TYPE_CHECKING, Any, TypeVar

from exporter import journal_file as file

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from exporter.clock import Clock
    from exporter.core.record import Record

log = logging.getLogger("mayday")

T = TypeVar("T")

PENDING_LIMIT = 20_000
"""Records that wait for the disk at most; beyond it the oldest are dropped, and counted."""
PRUNE_EVERY = 500
RETRY_DISK_S = 30.0


class Journal:
    """Memory and history of one Mayday. With `path` None everything stays in memory."""

    def __init__(
        self,
        path: Path | None,
        *,
        clock: Clock,
        retention_days: int = 30,
        max_records: int = 100_000,
        threaded: bool = True,
        migrations: Sequence[str] = file.MIGRATIONS,
    ) -> None:
        self.up = True
        """Whether it is kept as it should be; False: on disk it is not."""
        self.problem: str | None = None
        """What is wrong, and what to do; None: nothing."""
        self.dropped = 0
        self._path = path
        self._clock = clock
        self._retention = timedelta(days=retention_days)
        self._max_records = max_records
        self._migrations = migrations
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="journal") if threaded else None
        self._connection: sqlite3.Connection | None = None
        self._lock: IO[str] | None = None
        self._documents: deque[Mapping[str, object]] = deque(maxlen=1)
        self._records: deque[Record] = deque()
        self._written = 0
        self._retry_at = 0.0
        self._drain_scheduled = False
        self._futures: set[asyncio.Future[None]] = set()

    async def open(self) -> None:
        """Open the file; whatever is wrong with it is told in `problem`, never raised."""
        await self._in_thread(self._open)

    async def load(self) -> dict[str, Any] | None:
        """The document that was saved last, None when there is none."""

        def read() -> dict[str, Any] | None:
            return file.load(self._connection) if self._connection else None

        return await self._in_thread(read)

    def save(self, document: Mapping[str, object]) -> None:
        """Keep the newest document."""
        self._documents.append(document)
        self._schedule()

    def append(self, record: Record) -> None:
        """Keep a record."""
        if len(self._records) >= PENDING_LIMIT:
            self._records.popleft()
            self.dropped += 1
        self._records.append(record)
        self._schedule()

    async def query(self, **conditions: Any) -> list[Record]:
        """History, newest first; conditions as `journal_file.read`."""
        await self.flush()
        return await self._in_thread(lambda: file.read(self._connection, **conditions) if self._connection else [])

    async def flush(self) -> None:
        """Wait until everything so far is written, as far as it can be."""
        await self._in_thread(self._drain)

    async def close(self, timeout_s: float = 2.0) -> None:
        """Write what is left, and close. A disk that hangs is not waited for."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._in_thread(self._close)
        except TimeoutError:
            log.error("the journal could not be written within %g s; its last entries are lost", timeout_s)  # noqa: TRY400
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    # --- in the writer thread ----------------------------------------------------------------------------------------

    def _open(self) -> None:
        if self._path is None:
            self._connection = file.connect(None)
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._take_lock(self._path.with_name("mayday.lock"))
            self._connection = file.opened(self._path, self._clock.wall(), self._say, self._migrations)
        except file.NewerSchemaError as error:
            self._fall_back(f"{self._path} is from a newer version ({error}); run that version, or move the file away")
        except BlockingIOError:
            self._fall_back(f"another Mayday uses {self._path.parent}; give each a STATE_DIR of its own")
        except (OSError, sqlite3.Error) as error:
            self._fall_back(f"{self._path} cannot be used ({error}); check STATE_DIR, its owner, and the space left")

    def _take_lock(self, path: Path) -> None:
        handle = path.open("a", encoding="utf-8")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BaseException:
            handle.close()
            raise
        self._lock = handle

    def _fall_back(self, problem: str) -> None:
        self.up = False
        self.problem = problem
        log.error("the journal is kept in memory only: %s", problem)
        self._connection = file.connect(None)

    def _drain(self) -> None:
        self._drain_scheduled = False
        documents, records = _taken(self._documents), _taken(self._records)
        if not documents and not records:
            return
        if self._connection is None:
            return
        try:
            file.write(self._connection, documents, records)
        except sqlite3.Error as error:
            self._lost_disk(error, documents, records)
            return
        self._written += len(records)
        if self._written >= PRUNE_EVERY:
            self._written = 0
            file.prune(self._connection, (self._clock.wall() - self._retention).timestamp(), self._max_records)
        if not self.up and self._lock is not None and self._clock.mono() >= self._retry_at:
            self._try_disk()

    def _lost_disk(
        self, error: sqlite3.Error, documents: Sequence[Mapping[str, object]], records: Sequence[Record]
    ) -> None:
        """Go on in memory, with what could still be read from the disk, and with what was to be written."""
        broken, self._connection = self._connection, None
        kept: list[Record] = []
        if broken is not None:
            try:
                kept = file.read(broken, limit=1000)[::-1]
            except sqlite3.Error:
                kept = []
            broken.close()
        self._fall_back(f"{self._path} cannot be written ({error}); check the space left and the disk")
        self._retry_at = self._clock.mono() + RETRY_DISK_S
        if self._connection is not None:
            file.write(self._connection, documents, [*kept, *records])

    def _try_disk(self) -> None:
        """After trouble: write to the disk again, beginning with what was kept in memory meanwhile."""
        self._retry_at = self._clock.mono() + RETRY_DISK_S
        if self._path is None or self._connection is None:
            return
        try:
            disk = file.opened(self._path, self._clock.wall(), self._say, self._migrations)
            last = file.read(disk, limit=1)
            fresh = [
                r for r in file.read(self._connection, limit=self._max_records)[::-1] if not last or r.at > last[0].at
            ]
            document = file.load(self._connection)
            file.write(disk, [document] if document else [], fresh)
        except (OSError, sqlite3.Error, file.NewerSchemaError):
            return
        self._connection.close()
        self._connection, self.up, self.problem = disk, True, None
        log.info("the journal is kept on disk again")

    def _close(self) -> None:
        self._drain()
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._lock is not None:
            self._lock.close()

    def _say(self, message: str) -> None:
        log.error("%s", message)

    # --- between the loop and the thread -----------------------------------------------------------------------------

    def _schedule(self) -> None:
        if self._pool is None:
            self._drain()
            return
        if self._drain_scheduled:
            return
        self._drain_scheduled = True
        try:
            self._pool.submit(self._drain)
        except RuntimeError:
            log.debug("the journal is closed already")

    async def _in_thread(self, call: Callable[[], T]) -> T:
        if self._pool is None:
            return call()
        return await asyncio.get_running_loop().run_in_executor(self._pool, call)


def _taken(queue: deque[T]) -> list[T]:
    """Everything in the queue, taken one by one: the event loop may be adding to it."""
    taken = []
    while queue:
        taken.append(queue.popleft())
    return taken


def read_history(path: Path, *, vpn: str | None = None, kind: str | None = None, limit: int = 100) -> list[Record]:
    """History from a file that a running Mayday may be writing, newest first.

    Raises:
        sqlite3.Error: the file cannot be read.
    """
    connection = sqlite3.connect(f"file:{os.fspath(path)}?mode=ro", uri=True, timeout=2.0)
    try:
        return file.read(connection, vpn=vpn, kind=kind, limit=limit)
    finally:
        connection.close()
