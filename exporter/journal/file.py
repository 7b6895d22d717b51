"""The SQLite file of the journal: its schema and migrations, reading and writing, and what becomes of a corrupt one.

Everything here blocks and belongs to one thread.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict, Unpack

from exporter.journal.history import Kind, Record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

Row: TypeAlias = tuple[float, str, str | None, str, str, str]
"""A record without its id: Unix seconds, kind, VPN, reason, message, details as JSON."""
NumberedRow: TypeAlias = tuple[int, float, str, str | None, str, str, str]
"""A row with its id in front."""

MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE memory (only INTEGER PRIMARY KEY CHECK (only = 1), document TEXT NOT NULL);
    CREATE TABLE history (
        id INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, kind TEXT NOT NULL, vpn TEXT,
        reason TEXT NOT NULL, message TEXT NOT NULL, details TEXT NOT NULL
    );
    CREATE INDEX history_at ON history (at);
    """,
)
"""Step n brings a file from version n to n + 1. Steps are added, never changed."""

COLUMNS = "id, at, kind, vpn, reason, message, details"
BUSY_S = 2.0
PRUNE_BATCH = 1000
"""Records deleted in one transaction, so that a write never waits long behind it."""
WAL_LIMIT = 4_000_000
"""Bytes that the WAL file keeps at most after a checkpoint."""


class NewerSchemaError(Exception):
    """The file was written by a newer Mayday."""


class CorruptError(sqlite3.DatabaseError):
    """The file can be read, but what it holds is no journal."""


def connect(path: Path | None) -> sqlite3.Connection:
    """Open the file and bring its schema up to date; None: a journal in memory.

    Raises:
        NewerSchemaError: the file is from a newer version; it was not changed.
        sqlite3.DatabaseError: the file is corrupt, or cannot be opened or written.
    """
    if path is not None and path.exists():
        # Through a connection that cannot write: merely closing a writing one would already move the WAL into the file.
        with closing(connect_read_only(path)) as looking:
            _known_version(looking)
    connection = _configured(
        sqlite3.connect(path or ":memory:", timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    )
    try:
        if path is not None:
            # In WAL mode NORMAL survives the process; power loss may cost the last moments, never the file.
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute(f"PRAGMA journal_size_limit={WAL_LIMIT}")
            found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            if found != "ok":
                raise CorruptError(f"quick_check: {found}")  # noqa: TRY301 - the connection is closed below
        version = _known_version(connection)
        for number, script in enumerate(MIGRATIONS[version:], start=version + 1):
            connection.executescript(f"BEGIN IMMEDIATE; {script}; PRAGMA user_version={number}; COMMIT;")
        try:
            connection.execute(f"SELECT {COLUMNS}, only, document FROM history, memory LIMIT 0")  # noqa: S608 - fixed
        except sqlite3.OperationalError as error:
            raise CorruptError(f"not the tables of a journal: {error}") from error
    except BaseException:
        connection.close()
        raise
    return connection


def connect_read_only(path: Path) -> sqlite3.Connection:
    """Open for reading only, also while a Mayday writes, and where nothing can be written.

    Raises:
        sqlite3.Error: the file cannot be opened.
    """
    uri = f"{path.absolute().as_uri()}?mode=ro"
    connection = sqlite3.connect(uri, uri=True, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA user_version")
    except sqlite3.OperationalError:
        connection.close()
        wal = path.with_name(path.name + "-wal")
        if not path.is_file() or (wal.exists() and wal.stat().st_size):
            raise
        # A WAL file beside it cannot be made. There is none, so the file alone holds everything.
        connection = sqlite3.connect(f"{uri}&immutable=1", uri=True, isolation_level=None, check_same_thread=False)
    except BaseException:
        connection.close()
        raise
    return _configured(connection)


def _configured(connection: sqlite3.Connection) -> sqlite3.Connection:
    connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
    return connection


def _known_version(connection: sqlite3.Connection) -> int:
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > len(MIGRATIONS):
        raise NewerSchemaError(f"schema version {version}, this Mayday knows {len(MIGRATIONS)}")
    if version < 0:
        raise CorruptError(f"schema version {version}")
    return version


def open_or_replace(path: Path, now: datetime, notice: Callable[[str], None]) -> sqlite3.Connection:
    """Open the file; rename a corrupt one and begin a new one, and say so by `notice`.

    Raises:
        NewerSchemaError, sqlite3.DatabaseError: as `connect`.
        OSError: a corrupt file cannot be renamed.
    """
    try:
        connection = connect(path)
        try:
            load(connection)
        except BaseException:
            # SQLite asks that no file is renamed under an open connection.
            connection.close()
            raise
    except sqlite3.DatabaseError as error:
        if not is_corrupt(error):
            raise
        notice(set_aside(path, now, error))
        return connect(path)
    return connection


def set_aside(path: Path, now: datetime, error: sqlite3.Error) -> str:
    """Rename a corrupt file, with its WAL, and return what was done, for people. No connection to it may be open."""
    kept = path.with_name(f"{path.name}.corrupt-{now:%Y%m%dT%H%M%S%fZ}")
    for suffix in ("-wal", "-shm", ""):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(kept.with_name(kept.name + suffix))
    return f"the journal {path} was corrupt ({error}); it is kept as {kept.name}, and a new one is begun"


def is_corrupt(error: sqlite3.Error) -> bool:
    """Whether the file's content is broken, rather than the disk or its permissions."""
    primary = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return isinstance(error, CorruptError) or primary in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def to_row(record: Record) -> Row:
    """A record as it is written. Never fails: details that JSON cannot hold are written as text."""
    try:
        details = json.dumps(dict(record.details), default=str)
    except (TypeError, ValueError, RecursionError):
        details = json.dumps({"unreadable": f"{record.details!r:.1000}"})
    vpn = None if record.vpn is None else _clean(record.vpn)
    return record.at.timestamp(), str(record.kind), vpn, _clean(record.reason), _clean(record.message), details


def write(connection: sqlite3.Connection, document: str | None, rows: Sequence[NumberedRow]) -> None:
    """Write a document (None: leave the old one) and rows in one transaction; when it raises, nothing is written."""
    with _transaction(connection):
        if document is not None:
            connection.execute("INSERT OR REPLACE INTO memory VALUES (1, ?)", (document,))
        connection.executemany(f"INSERT INTO history ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)", rows)  # noqa: S608 - fixed


def prune(connection: sqlite3.Connection, oldest: float, most: int) -> bool:
    """Delete a batch of records older than `oldest` (Unix seconds) or beyond the newest `most` of their kind.

    No number of refusals or failures pushes a change of mode out. True: call again.
    """
    forgotten = 0
    with _transaction(connection):
        forgotten += connection.execute(
            "DELETE FROM history WHERE id IN (SELECT id FROM history WHERE at < ? LIMIT ?)", (oldest, PRUNE_BATCH)
        ).rowcount
        counted = connection.execute("SELECT kind, count(*) FROM history GROUP BY kind HAVING count(*) > ?", (most,))
        for kind, number in counted.fetchall():
            batch = min(number - most, PRUNE_BATCH - forgotten)
            if batch > 0:
                forgotten += connection.execute(
                    "DELETE FROM history WHERE id IN (SELECT id FROM history WHERE kind = ? ORDER BY id LIMIT ?)",
                    (kind, batch),
                ).rowcount
    return forgotten >= PRUNE_BATCH


def load(connection: sqlite3.Connection) -> dict[str, Any] | None:
    """The document that was saved last.

    Raises:
        CorruptError: it is no JSON object.
    """
    found = connection.execute("SELECT CAST(document AS BLOB) FROM memory").fetchone()
    if found is None:
        return None
    try:
        document = json.loads(found[0].decode())
    except (ValueError, RecursionError) as error:
        raise CorruptError(f"malformed document: {error}") from error
    if not isinstance(document, dict):
        raise CorruptError("malformed document: no object")
    return document


def newest_id(connection: sqlite3.Connection) -> int:
    """The highest id ever given, even if its record was deleted since; 0 before the first."""
    found = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'history'").fetchone()
    return found[0] if found else 0


def salvage(connection: sqlite3.Connection, most: int, after: int = 0) -> tuple[str | None, list[NumberedRow]]:
    """Document and newest rows above an id, oldest first, as far as they can be read."""
    document: str | None = None
    rows: list[NumberedRow] = []
    with suppress(sqlite3.Error):
        loaded = load(connection)
        document = None if loaded is None else json.dumps(loaded)
    with suppress(sqlite3.Error):
        query = f"SELECT {COLUMNS} FROM history WHERE id > ? ORDER BY id DESC LIMIT ?"  # noqa: S608 - fixed
        for found in connection.execute(query, (after, most)):
            rows.append(found)  # noqa: PERF402 - what was read before an error is kept
    return document, rows[::-1]


class Conditions(TypedDict, total=False):
    """Which records of the history are wanted; all of these together."""

    vpn: str | None
    kind: str | None
    since: datetime | None
    until: datetime | None
    limit: int
    """How many records at most (100)."""
    before: int | None
    """Only records with a lower id, to page back."""


def read(connection: sqlite3.Connection, **wanted: Unpack[Conditions]) -> list[Record]:
    """History, newest first.

    A row that cannot be read (a kind from another version, broken text) is left out and does not count towards `limit`,
    so a short page always means the end.
    """
    conditions: list[tuple[str, object]] = [
        ("vpn = ?", _clean(vpn) if (vpn := wanted.get("vpn")) is not None else None),
        ("kind = ?", wanted.get("kind")),
        ("at >= ?", since.timestamp() if (since := wanted.get("since")) else None),
        ("at <= ?", until.timestamp() if (until := wanted.get("until")) else None),
        ("id < ?", min(before, 2**63 - 1) if (before := wanted.get("before")) is not None else None),
    ]
    used = [(text, value) for text, value in conditions if value is not None]
    where = " AND ".join(text for text, _ in used) or "1"
    query = f"SELECT {COLUMNS} FROM history WHERE {where} ORDER BY id DESC"  # noqa: S608 - fixed texts
    limit, records = wanted.get("limit", 100), list[Record]()
    with closing(connection.execute(query, [value for _, value in used])) as rows:
        while len(records) < limit and (found := rows.fetchone()) is not None:
            record = _record(found)
            if record is not None:
                records.append(record)
    return records


def _record(found: NumberedRow) -> Record | None:
    number, at, kind, vpn, reason, message, details = found
    try:
        known = json.loads(details)
        if not isinstance(known, dict):
            return None
        return Record(datetime.fromtimestamp(at, UTC), Kind(kind), reason, message, vpn, known, number)
    except (TypeError, ValueError, OverflowError, OSError, RecursionError):
        return None


def _clean(text: str) -> str:
    """The text without what UTF-8 cannot hold (lone surrogates, from undecodable bytes)."""
    return text.encode("utf-8", "replace").decode()


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        raise
