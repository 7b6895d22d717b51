"""Where the journal is kept at this moment: on disk, or in memory while the disk refuses.

Everything here blocks and belongs to one thread.
"""

from __future__ import annotations

import fcntl
import logging
import os
import sqlite3
from contextlib import closing, suppress
from typing import IO, TYPE_CHECKING, Any, Unpack

from exporter.journal import file
from exporter.journal.history import Kind, Record

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from exporter.clock import Clock

log = logging.getLogger("mayday")

LOCK = "mayday.lock"
"""Locked by the Mayday that writes to the directory."""
RETRY_FIRST_S = 1.0
RETRY_MOST_S = 60.0
PRUNE_EVERY = 500
"""Records written between two looks at what may be forgotten."""
COPIED = 10_000
"""Records carried over into memory when the disk is lost, at most."""


class Store:
    """One connection that can always be written to. Each failure moves it to memory, each recovery back to disk."""

    def __init__(
        self,
        path: Path | None,
        clock: Clock,
        retention_s: float,
        max_records: int,
    ) -> None:
        self.up = True
        self.problem: str | None = None
        self.exclusive = True
        self._path = path
        self._clock = clock
        self._retention_s = retention_s
        self._max_records = max_records
        self._connection: sqlite3.Connection | None = None
        self._lock: IO[str] | None = None
        self._inode: tuple[int, int] | None = None
        self._next = 1
        self._numbered_by_disk = False
        """Whether the ids given so far continue those on the disk; else they are given anew when it is reached."""
        self._notices: list[file.Row] = []
        self._unpruned = 0
        self._pruning = True
        self._retry_at = 0.0
        self._backoff_s = RETRY_FIRST_S

    def open(self) -> None:
        """Open the file; where that fails open in memory, and set `problem`."""
        self._connection = file.connect(None)
        if self._path is not None:
            self._try_disk(first=True)

    def write(self, document: str | None, rows: Sequence[file.Row]) -> None:
        """Keep a document (None: leave the old one) and rows, on disk or else in memory."""
        for _ in range(3):  # the disk, a new file in place of a corrupt one, memory
            try:
                self._check_place()
                file.write(self._open_connection, document, _numbered(rows, self._next))
            except (sqlite3.Error, OSError) as error:
                self._fall_back(error)
            else:
                self._next += len(rows)
                self._unpruned += len(rows)
                self._pruning = self._pruning or self._unpruned >= PRUNE_EVERY
                return
        log.error("%d entries of the history are lost: neither disk nor memory could keep them", len(rows))

    def read(self, **wanted: Unpack[file.Conditions]) -> list[Record]:
        """History, newest first; `wanted` as in `file.read`."""
        for _ in range(3):
            try:
                return file.read(self._open_connection, **wanted)
            except sqlite3.Error as error:
                self._fall_back(error)
        return []

    def load(self) -> dict[str, Any] | None:
        """The document that was saved last, None when there is none."""
        for _ in range(3):
            try:
                return file.load(self._open_connection)
            except sqlite3.Error as error:
                self._fall_back(error)
        return None

    def due_in_s(self) -> float | None:
        """Seconds until `housekeep` has something to do; None: nothing."""
        if self._connection is None:
            return None
        if self._pruning:
            return 0.0
        return None if self.up else max(0.0, self._retry_at - self._clock.mono())

    def housekeep(self) -> None:
        """Do one step of what is due: forget a batch of old records, or try the disk again."""
        if self.due_in_s() != 0.0:
            return
        if not self._pruning:
            self._try_disk()
            return
        oldest = self._clock.wall().timestamp() - self._retention_s
        self._unpruned, self._pruning = 0, False
        try:
            self._pruning = file.prune(self._open_connection, oldest, self._max_records)
        except sqlite3.Error as error:
            self._fall_back(error)

    def close(self) -> None:
        """Close the file, and release it for another Mayday."""
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    @property
    def _open_connection(self) -> sqlite3.Connection:
        if self._connection is None:
            raise sqlite3.ProgrammingError("the journal is not open")
        return self._connection

    # --- failures ----------------------------------------------------------------------------------------------------

    def _fall_back(self, error: sqlite3.Error | OSError) -> None:
        """Go on in memory after a failure, with what can still be read, and try the disk again soon."""
        if self._connection is not None:
            document, rows = file.salvage(self._connection, min(COPIED, self._max_records))
            with suppress(sqlite3.Error):
                self._connection.close()
            self._connection = _in_memory(document, rows)
        if self._path is None:
            return
        if isinstance(error, sqlite3.Error) and file.is_corrupt(error):
            try:
                self._notice(file.set_aside(self._path, self._clock.wall(), error))
            except OSError as refused:
                error = refused
            else:
                self._try_disk()
                return
        self._went_down(f"{self._path} cannot be used ({error}); check STATE_DIR: the space left, the disk, its owner")

    def _check_place(self) -> None:
        """Fail when the file was deleted or replaced: its connection would write on, to a file without a name."""
        if self._path is None or not self.up:
            return
        found = self._path.stat()
        if (found.st_dev, found.st_ino) != self._inode:
            raise OSError("another file is in its place")

    def _went_down(self, problem: str) -> None:
        if problem != self.problem:
            log.error("the journal is kept in memory only: %s", problem)
        self.up, self.problem = False, problem
        self._retry_at = self._clock.mono() + self._backoff_s
        self._backoff_s = min(2 * self._backoff_s, RETRY_MOST_S)

    def _notice(self, message: str) -> None:
        """Log a message now, and write it into the history as soon as there is one."""
        log.error("%s", message)
        self._notices.append(file.to_row(Record(self._clock.wall(), Kind.LIFE, "journal_set_aside", message)))

    # --- to the disk -------------------------------------------------------------------------------------------------

    def _try_disk(self, *, first: bool = False) -> None:
        """Move to the disk; where that fails log why, and try again later."""
        try:
            self._move_to_disk()
        except file.NewerSchemaError as error:
            self._went_down(
                f"{self._path} is from a newer version ({error}) and was left as it is; "
                "run that version, or move the file out of STATE_DIR"
            )
        except BlockingIOError:
            self.exclusive = False
            self._went_down(
                f"another Mayday uses STATE_DIR {self._directory}; stop it, or give each Mayday a STATE_DIR of its own"
            )
        except (OSError, ValueError, sqlite3.Error) as error:
            if first:
                self._begin_with_what_is_readable()
            self._went_down(
                f"{self._path} cannot be used ({error}); check STATE_DIR: that it exists, its owner, its space"
            )
        else:
            was_up, self.up, self.problem, self._backoff_s = self.up, True, None, RETRY_FIRST_S
            if not was_up:
                log.info("the journal is kept on disk again: %s", self._path)

    @property
    def _directory(self) -> Path:
        assert self._path is not None  # noqa: S101 - asked for with a path only
        return self._path.parent

    def _move_to_disk(self) -> None:
        """Open the file, add what only memory holds, and go on there."""
        assert self._path is not None  # noqa: S101 - asked for with a path only
        self._directory.mkdir(parents=True, exist_ok=True)
        for path in (self._path, self._directory / LOCK):
            if path.exists() and not path.is_file():  # to open a named pipe might take for ever
                raise OSError(f"{path.name} is no regular file")
        self._take_lock()
        disk = file.open_or_replace(self._path, self._clock.wall(), self._notice)
        try:
            newest = file.newest_id(disk)
            known = newest if self._numbered_by_disk else 0
            document, kept = file.salvage(self._open_connection, self._max_records, after=known)
            if not self._numbered_by_disk:
                kept = _numbered([entry[1:] for entry in kept], newest + 1)
            following = max(newest + 1, kept[-1][0] + 1 if kept else 1, self._next if self._numbered_by_disk else 1)
            file.write(disk, document, [*kept, *_numbered(self._notices, following)])
            found = self._path.stat()
        except BaseException:
            disk.close()
            raise
        self._open_connection.close()
        self._connection, self._inode = disk, (found.st_dev, found.st_ino)
        self._next, self._numbered_by_disk = following + len(self._notices), True
        self._notices.clear()

    def _take_lock(self) -> None:
        path = self._directory / LOCK
        if self._lock is not None:
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(self._lock.fileno()), path.stat()):
                    return
            self._lock.close()
            self._lock = None
        handle = path.open("a", encoding="utf-8")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BaseException:
            handle.close()
            raise
        self._lock, self.exclusive = handle, True

    def _begin_with_what_is_readable(self) -> None:
        """Begin, on a disk that cannot be written to, with what it remembers: that is still true."""
        if self._path is None or not self._path.is_file():
            return
        with suppress(OSError, sqlite3.Error), closing(file.connect_read_only(self._path)) as disk:
            if disk.execute("PRAGMA user_version").fetchone()[0] != len(file.MIGRATIONS):
                return
            document, rows = file.salvage(disk, min(COPIED, self._max_records))
            self._next = file.newest_id(disk) + 1
            self._open_connection.close()
            self._connection = _in_memory(document, rows)
            self._numbered_by_disk = True


def _numbered(rows: Sequence[file.Row], first: int) -> list[file.NumberedRow]:
    return [(number, *entry) for number, entry in enumerate(rows, start=first)]


def _in_memory(document: str | None, rows: Sequence[file.NumberedRow]) -> sqlite3.Connection:
    connection = file.connect(None)
    file.write(connection, document, rows)
    return connection
