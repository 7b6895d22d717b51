"""The journal in trouble: no directory, a full or read-only disk, a corrupt file, a second Mayday. Nothing raises."""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from exporter.core.model import Moment
from exporter.journal import file as journal_file
from exporter.journal.history import Kind, Record
from exporter.journal.journal import Journal, read_history
from exporter.journal.store import RETRY_MOST_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

START = datetime(2025, 11, 7, 22, 3, 33, tzinfo=UTC)


class HandClock:
    """A clock that a test moves."""

    boot = "test"

    def __init__(self) -> None:
        self.passed = 0.0
        self.wall_jump = 0.0

    def mono(self) -> float:
        return 1000.0 + self.passed

    def wall(self) -> datetime:
        return START + timedelta(seconds=self.passed + self.wall_jump)

    def now(self) -> Moment:
        return Moment(self.mono(), self.wall())


def entry(number: int, at: datetime = START, pad: int = 0) -> Record:
    return Record(at, Kind.ACTION, "fill", f"entry {number}", details={"pad": "x" * pad})


def messages(records: list[Record]) -> list[str]:
    return [record.message for record in records if record.kind is not Kind.LIFE]


def expected(count: int) -> list[str]:
    return [f"entry {number}" for number in range(count - 1, -1, -1)]


class Watched(Journal):
    """A journal in the test's own thread, with a clock in the test's hand."""

    def __init__(self, path: Path) -> None:
        self.clock = HandClock()
        super().__init__(path, clock=self.clock, threaded=False)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "mayday.db"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, half a megabyte in size."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", disk], check=True)
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


async def _filled(path: Path, count: int) -> None:
    journal = Journal(path, clock=HandClock())
    await journal.open()
    for number in range(count):
        journal.append(entry(number, pad=100))
    journal.save({"newest": count - 1})
    await journal.close()


# --- the directory ---------------------------------------------------------------------------------------------------


async def test_a_directory_that_cannot_be_made(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With a file where STATE_DIR should be, history goes on in memory, the disk is tried with growing pauses, and
    once the way is free everything is written there, in order and under growing ids.
    """
    blocking = tmp_path / "state"
    blocking.write_text("in the way")
    journal = Watched(blocking / "mayday.db")
    await journal.open()
    assert not journal.up
    assert "STATE_DIR" in (journal.problem or "")
    assert journal.exclusive
    for number in range(5):
        journal.append(entry(number))
    journal.save({"newest": 4})
    assert messages(await journal.query()) == expected(5)
    assert await journal.load() == {"newest": 4}
    tries = 0
    real = journal._store._move_to_disk

    def counting() -> None:
        nonlocal tries
        tries += 1
        real()

    journal._store._move_to_disk = counting  # type: ignore[method-assign]
    for _ in range(3600):
        journal.clock.passed += 1.0
        await journal.query(limit=1)
    assert 3600 / RETRY_MOST_S - 1 <= tries <= 3600 / RETRY_MOST_S + 10
    assert sum(record.levelno >= logging.ERROR for record in caplog.records) == 1
    blocking.unlink()
    journal.clock.passed += RETRY_MOST_S
    await journal.query(limit=1)
    assert (journal.up, journal.problem) == (True, None)
    journal.append(entry(5))
    await journal.close()
    found = read_history(blocking / "mayday.db")
    assert messages(found) == expected(6)
    assert [record.id for record in found] == [6, 5, 4, 3, 2, 1]


async def test_beginning_in_memory_beside_an_old_file(path: Path) -> None:
    """Records made before the disk was reached come after those that were there, whatever the wall clock says."""
    await _filled(path, 3)
    away = path.parent.rename(path.parent.with_name("away"))
    path.parent.write_text("in the way")
    journal = Watched(path)
    await journal.open()
    journal.append(entry(3, at=START - timedelta(days=2)))
    path.parent.unlink()
    away.rename(path.parent)
    journal.clock.passed += RETRY_MOST_S
    journal.append(entry(4, at=START - timedelta(days=1)))
    assert journal.up
    assert [(record.id, record.message) for record in await journal.query()] == [
        (number + 1, f"entry {number}") for number in range(4, -1, -1)
    ]
    assert await journal.load() == {"newest": 2}
    await journal.close()


async def test_the_file_is_a_directory(path: Path) -> None:
    """A directory where the file should be is told, and left alone."""
    path.mkdir(parents=True)
    journal = Watched(path)
    await journal.open()
    journal.append(entry(0))
    assert not journal.up
    assert str(path) in (journal.problem or "")
    assert messages(await journal.query()) == expected(1)
    await journal.close()
    assert path.is_dir()


async def test_the_file_is_deleted_while_in_use(path: Path) -> None:
    """A deleted file is noticed at the next write, not at the next start; what was in it is written again."""
    journal = Watched(path)
    await journal.open()
    journal.save({"newest": 1})
    journal.append(entry(0))
    for part in path.parent.iterdir():
        part.unlink()
    path.parent.rmdir()
    journal.append(entry(1))
    assert not journal.up
    journal.clock.passed += RETRY_MOST_S
    await journal.query(limit=1)
    assert journal.up
    assert messages(read_history(path)) == expected(2)
    assert await journal.load() == {"newest": 1}
    await journal.close()


# --- the disk --------------------------------------------------------------------------------------------------------


async def test_a_disk_that_fills_up(small_disk: Path, caplog: pytest.LogCaptureFixture) -> None:
    """On a really full disk the history stays whole in memory; with space again it is whole on disk, nothing twice."""
    journal = Watched(small_disk / "mayday.db")
    await journal.open()
    count = 0
    while journal.up:
        assert count < 2000
        journal.append(entry(count, pad=1000))
        journal.save({"newest": count})
        count += 1
    assert "full" in (journal.problem or "")
    for _ in range(20):
        journal.append(entry(count))
        count += 1
        journal.clock.passed += RETRY_MOST_S
        await journal.query(limit=1)
        assert not journal.up
    # Back to the last document: a full disk must not bring an older one up again.
    journal.save({"newest": count})
    assert messages(await journal.query(limit=5000)) == expected(count)
    assert sum(record.levelno >= logging.ERROR for record in caplog.records) <= 2
    subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
    # The wall clock going back in between must lose nothing.
    journal.clock.wall_jump = -86400.0
    journal.append(entry(count, at=journal.clock.wall()))
    journal.clock.passed += RETRY_MOST_S
    await journal.query(limit=1)
    assert journal.up
    found = await journal.query(limit=5000)
    assert messages(found) == expected(count + 1)
    assert [record.id for record in found] == list(range(count + 1, 0, -1))
    assert await journal.load() == {"newest": count}
    await journal.close()
    assert messages(read_history(small_disk / "mayday.db", limit=5000)) == expected(count + 1)


async def test_starting_on_a_read_only_disk(small_disk: Path) -> None:
    """What a disk that cannot be written remembers is still used: the emergency keeps its time of entry."""
    path = small_disk / "mayday.db"
    await _filled(path, 3)
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    journal = Watched(path)
    await journal.open()
    assert not journal.up
    assert "Read-only" in (journal.problem or "")
    assert await journal.load() == {"newest": 2}
    journal.append(entry(3))
    assert messages(await journal.query()) == expected(4)
    assert messages(read_history(path)) == expected(3)
    subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)
    journal.clock.passed += RETRY_MOST_S
    await journal.query(limit=1)
    assert journal.up
    await journal.close()
    assert messages(read_history(path)) == expected(4)


async def test_a_disk_that_becomes_read_only(small_disk: Path) -> None:
    """A disk remounted read-only under a running Mayday is told, and used again when it can be."""
    path = small_disk / "mayday.db"
    journal = Watched(path)
    await journal.open()
    journal.append(entry(0))
    with sqlite3.connect(path) as connection:
        # A trigger fails each write from within, as a disk does; a busy file system cannot be remounted read-only.
        connection.execute("CREATE TRIGGER no BEFORE INSERT ON history BEGIN SELECT RAISE(ABORT, 'I/O error'); END")
    connection.close()
    journal.append(entry(1))
    assert not journal.up
    assert "I/O error" in (journal.problem or "")
    assert messages(await journal.query()) == expected(2)
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TRIGGER no")
    connection.close()
    journal.clock.passed += RETRY_MOST_S
    journal.append(entry(2))
    await journal.close()
    assert messages(read_history(path)) == expected(3)


# --- corruption ------------------------------------------------------------------------------------------------------


def _flip(path: Path, first: int, last: int) -> None:
    raw = bytearray(path.read_bytes())
    for index in range(first, min(last, len(raw))):
        raw[index] ^= 0xA5
    path.write_bytes(raw)


def _no_json(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("""UPDATE memory SET document = '{"phase": '""")
    connection.close()


def _other_tables(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE cats (name)")
        connection.execute("PRAGMA user_version = 1")
    connection.close()


CORRUPTIONS: dict[str, Callable[[Path], object]] = {
    "header": lambda path: _flip(path, 0, 100),
    "schema page": lambda path: _flip(path, 100, 4096),
    "pages of the history": lambda path: _flip(path, 3 * 4096, 12 * 4096),
    "truncated within a page": lambda path: os.truncate(path, 5000),
    "truncated within the header": lambda path: os.truncate(path, 50),
    "text": lambda path: path.write_text("this is no database at all\n" * 100),
    "document that is no JSON": _no_json,
    "tables of another program": _other_tables,
}


@pytest.mark.parametrize("corrupt", CORRUPTIONS.values(), ids=CORRUPTIONS.keys())
async def test_a_corrupt_file_is_kept_aside(
    path: Path, corrupt: Callable[[Path], object], caplog: pytest.LogCaptureFixture
) -> None:
    """A broken file is renamed, byte for byte; a new one is begun, says so in its history, and outlives a restart."""
    await _filled(path, 500)
    corrupt(path)
    before = path.read_bytes()
    journal = Watched(path)
    await journal.open()
    assert (journal.up, journal.problem) == (True, None)
    assert await journal.load() is None
    kept = [found for found in path.parent.glob("mayday.db.corrupt-*") if not found.name.endswith(("-wal", "-shm"))]
    assert [found.name for found in kept] == ["mayday.db.corrupt-20251107T220333000000Z"]
    if corrupt not in {_no_json, _other_tables}:  # sound for SQLite, which may have written its own header
        assert kept[0].read_bytes() == before
    assert kept[0].name in caplog.text
    journal.append(entry(0))
    told = await journal.query(kind="life")
    assert [record.reason for record in told] == ["journal_set_aside"]
    assert kept[0].name in told[0].message
    # Read by another process, while it is open: the new file's WAL must be where its name says.
    program = "import sys; from pathlib import Path; from exporter.journal.journal import read_history\n"
    program += "print(len(read_history(Path(sys.argv[1]))))"
    done = subprocess.run(
        [sys.executable, "-c", program, path], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )
    assert done.stdout.strip() == "2"
    await journal.close()
    again = Watched(path)
    await again.open()
    assert messages(await again.query()) == ["entry 0"]
    await again.close()


async def test_a_file_set_aside_is_told_once(path: Path) -> None:
    """Its record is written once, however often the disk goes and comes afterwards."""
    path.parent.mkdir()
    path.write_text("this is no database at all\n" * 100)
    journal = Watched(path)
    await journal.open()
    journal.append(entry(0))
    for part in path.parent.glob("mayday.db*"):
        part.unlink()
    journal.append(entry(1))
    journal.clock.passed += RETRY_MOST_S
    await journal.query(limit=1)
    assert journal.up
    assert [record.message for record in await journal.query(kind="action")] == expected(2)
    assert len(await journal.query(kind="life")) == 1
    await journal.close()


async def test_a_file_that_breaks_while_in_use(path: Path) -> None:
    """Corruption met while running sets the file aside, and what could be read of it goes on in the new one."""
    await _filled(path, 2000)
    journal = Watched(path)
    await journal.open()
    assert journal.up
    raw = path.read_bytes()
    with path.open("r+b") as handle:
        handle.seek(4096 * 3)
        handle.write(b"\xa5" * (len(raw) - 4096 * 3 - 4096 * 8))
    journal._store._open_connection.execute("PRAGMA shrink_memory")  # what was read before is not asked again
    found = await journal.query(limit=5000)
    journal.append(entry(2000))
    assert journal.up
    assert list(path.parent.glob("mayday.db.corrupt-*"))
    assert messages(await journal.query(limit=1)) == ["entry 2000"]
    kept = messages(found)
    assert kept
    assert kept == expected(2000)[: len(kept)]
    await journal.close()
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


# --- two at once -----------------------------------------------------------------------------------------------------

HOLDER = """
import asyncio, sys
from pathlib import Path
from exporter.clock import SystemClock
from exporter.journal.journal import Journal
async def main():
    journal = Journal(Path(sys.argv[1]), clock=SystemClock())
    await journal.open()
    journal.save({"of": "the first"})
    await journal.query(limit=1)
    print(journal.exclusive, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await journal.close()
asyncio.run(main())
"""


async def test_a_second_mayday_notices(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A second process on one STATE_DIR is told so, writes and reads nothing of the first's, and gets the directory
    when the first has been killed.
    """
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    ) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "True\n"
        second = Watched(path)
        await second.open()
        assert (second.up, second.exclusive) == (False, False)
        assert "another Mayday uses STATE_DIR" in (second.problem or "")
        assert await second.load() is None
        second.append(entry(0))
        second.clock.passed += RETRY_MOST_S
        await second.query(limit=1)
        assert not second.exclusive
        assert read_history(path) == []
        first.kill()
    second.clock.passed += RETRY_MOST_S
    await second.query(limit=1)
    assert (second.up, second.exclusive) == (True, True)
    assert messages(read_history(path)) == expected(1)
    await second.close()
    assert caplog.text.count("another Mayday") == 1


async def test_the_writer_comes_back_by_itself(path: Path) -> None:
    """With a thread of its own and a real clock the journal recovers without being asked."""
    from exporter.clock import SystemClock

    path.parent.write_text("in the way")
    journal = Journal(path, clock=SystemClock(), retention_days=100_000)
    await journal.open()
    assert not journal.up
    journal.append(entry(0))
    path.parent.unlink()
    deadline = time.monotonic() + 60
    while not journal.up or messages(read_history(path)) != expected(1):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
    await journal.close()


def test_only_what_is_broken_counts_as_corrupt() -> None:
    """A full, locked or forbidden file is never taken for a corrupt one."""
    assert journal_file.is_corrupt(journal_file.CorruptError("x"))
    for text in ("database or disk is full", "database is locked", "malformed"):
        assert not journal_file.is_corrupt(sqlite3.OperationalError(text))
