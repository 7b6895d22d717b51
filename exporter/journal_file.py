"""The SQLite file behind the journal: schema, migrations, and what is done with a file that cannot be used.

Everything here blocks and belongs to one thread.
"""

from __future__ import annotations

import json
import sqlite3
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from exporter.core.record import Kind, Record

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

SCHEMA_VERSION = 1
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
"""Step n brings a file from version n to n + 1. Steps are only ever added."""


class NewerSchemaError(Exception):
    """The file was written by a newer Mayday."""


def connect(path: Path | None, migrations: Sequence[str] = MIGRATIONS) -> sqlite3.Connection:
    """Open and bring up to date; None: in memory.

    Raises:
        NewerSchemaError: the file is from a newer version; it was not changed.
        sqlite3.DatabaseError: the file is corrupt, or cannot be opened or written.
    """
    connection = sqlite3.connect(path or ":memory:", timeout=2.0, isolation_level=None, check_same_thread=False)
    try:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > len(migrations):
            raise NewerSchemaError(  # noqa: TRY301 - the connection is closed below
                f"schema version {version}, this Mayday knows {len(migrations)}"
            )
        if path is not None:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            if found != "ok":
                raise sqlite3.DatabaseError(f"quick_check: {found}")  # noqa: TRY301 - as SQLite itself would
        for number, script in enumerate(migrations[version:], start=version + 1):
            connection.executescript(f"BEGIN IMMEDIATE; {script}; PRAGMA user_version={number}; COMMIT;")
    except BaseException:
        connection.close()
        raise
    return connection


def set_aside(path: Path, now: datetime) -> Path:
    """Rename a corrupt file, with its WAL, and return its new name."""
    kept = path.with_name(f"{path.name}.corrupt-{now:%Y%m%dT%H%M%S%f}")
    for suffix in ("", "-wal", "-shm"):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(kept.with_name(kept.name + suffix))
    return kept


def is_corrupt(error: sqlite3.Error) -> bool:
    """Whether the file's content is at fault, not the disk or its permissions."""
    text = str(error)
    return not isinstance(error, sqlite3.OperationalError) or "malformed" in text or "quick_check" in text


def write(connection: sqlite3.Connection, documents: Sequence[Mapping[str, object]], records: Sequence[Record]) -> None:
    """Write the newest document and all records, as one transaction."""
    with _transaction(connection):
        if documents:
            text = json.dumps(documents[-1])
            connection.execute("INSERT OR REPLACE INTO memory VALUES (1, ?)", (text,))
        connection.executemany(
            "INSERT INTO history (at, kind, vpn, reason, message, details) VALUES (?, ?, ?, ?, ?, ?)",
            [(r.at.timestamp(), r.kind, r.vpn, r.reason, r.message, json.dumps(dict(r.details))) for r in records],
        )


def prune(connection: sqlite3.Connection, oldest: float, most: int) -> None:
    """Forget history from before `oldest` (Unix seconds) and beyond the newest `most` records."""
    with _transaction(connection):
        connection.execute("DELETE FROM history WHERE at < ?", (oldest,))
        connection.execute("DELETE FROM history WHERE id <= (SELECT MAX(id) FROM history) - ?", (most,))


def load(connection: sqlite3.Connection) -> dict[str, Any] | None:
    """The document that was saved last.

    Raises:
        sqlite3.DatabaseError: it is no JSON object.
    """
    row = connection.execute("SELECT document FROM memory").fetchone()
    if row is None:
        return None
    try:
        document = json.loads(row[0])
    except ValueError as error:
        raise sqlite3.DatabaseError(f"malformed document: {error}") from error
    if not isinstance(document, dict):
        raise sqlite3.DatabaseError("malformed document: no object")
    return document


def read(
    connection: sqlite3.Connection,
    *,
    vpn: str | None = None,
    kind: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    limit: int = 100,
    before: int | None = None,
) -> list[Record]:
    """History, newest first; `before` is the id below which to go on."""
    conditions: list[tuple[str, object]] = [
        ("vpn = ?", vpn),
        ("kind = ?", kind),
        ("at >= ?", since.timestamp() if since else None),
        ("at <= ?", until.timestamp() if until else None),
        ("id < ?", before),
    ]
    used = [(text, value) for text, value in conditions if value is not None]
    where = " AND ".join(text for text, _ in used) or "1"
    query = f"SELECT id, at, kind, vpn, reason, message, details FROM history WHERE {where} ORDER BY id DESC LIMIT ?"  # noqa: S608 - fixed texts
    rows = connection.execute(query, [*(value for _, value in used), limit])
    return [
        Record(datetime.fromtimestamp(at, UTC), Kind(kind_), reason, message, vpn_, json.loads(details), number)
        for number, at, kind_, vpn_, reason, message, details in rows
    ]


class _transaction:  # noqa: N801 - used as a statement
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: object, *_rest: object) -> None:
        if kind is None:
            self._connection.execute("COMMIT")
        elif self._connection.in_transaction:
            self._connection.execute("ROLLBACK")


def opened(
    path: Path, now: datetime, say: Callable[[str], None], migrations: Sequence[str] = MIGRATIONS
) -> sqlite3.Connection:
    """Open the file; a corrupt one is kept aside under another name and begun anew. Raises as `connect`."""
    try:
        connection = connect(path, migrations)
        try:
            load(connection)
        except sqlite3.DatabaseError:
            connection.close()
            raise
    except sqlite3.DatabaseError as error:
        if not is_corrupt(error):
            raise
        kept = set_aside(path, now)
        say(f"the journal {path} was corrupt ({error}); it is kept as {kept.name}, and a new one is begun")
        return connect(path, migrations)
    return connection
