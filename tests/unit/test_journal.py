"""The journal on a healthy disk: order, paging, retention, migrations, and what survives SIGKILL."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from exporter.core.model import Moment
from exporter.journal import file as journal_file
from exporter.journal.history import Kind, Record
from exporter.journal.journal import PENDING_LIMIT, Journal, read_history

START = datetime(2025, 11, 7, 22, 3, 33, 157001, tzinfo=UTC)


class HandClock:
    """A clock that a test moves."""

    boot = "test"

    def __init__(self) -> None:
        self.passed = 0.0

    def mono(self) -> float:
        return 1000.0 + self.passed

    def wall(self) -> datetime:
        return START + timedelta(seconds=self.passed)

    def now(self) -> Moment:
        return Moment(self.mono(), self.wall())


def entry(number: int, **more: Any) -> Record:
    return Record(**{"at": START, "kind": Kind.ACTION, "reason": "fill", "message": f"entry {number}", **more})


def messages(records: list[Record]) -> list[str]:
    return [record.message for record in records]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "mayday.db"


@pytest.mark.parametrize("threaded", [True, False])
@pytest.mark.parametrize("on_disk", [True, False])
async def test_what_was_written_is_read_again(path: Path, *, threaded: bool, on_disk: bool) -> None:
    """Records come back whole and newest first, the document as it was; in each way of keeping them."""
    journal = Journal(path if on_disk else None, clock=HandClock(), threaded=threaded)
    await journal.open()
    assert await journal.load() is None
    written = [
        entry(1, vpn="gluetun", details={"engines": ["a", "b"], "n": 1.5, "none": None}),
        entry(2, kind=Kind.MODE, at=START + timedelta(microseconds=1)),
    ]
    for record in written:
        journal.append(record)
    journal.save({"mode": "emergency", "at": [1, 2.5, "ü"]})
    found = await journal.query()
    assert [(r.at, r.kind, r.reason, r.message, r.vpn, r.details) for r in reversed(found)] == [
        (r.at, r.kind, r.reason, r.message, r.vpn, r.details) for r in written
    ]
    assert [record.id for record in found] == [2, 1]
    assert await journal.load() == {"mode": "emergency", "at": [1, 2.5, "ü"]}
    assert (journal.up, journal.problem, journal.exclusive) == (True, None, True)
    await journal.close()
    if on_disk:
        assert read_history(path) == found


async def test_it_is_there_after_a_restart(path: Path) -> None:
    """A new life reads the last document and the whole history, and numbers on."""
    for life in range(3):
        journal = Journal(path, clock=HandClock())
        await journal.open()
        assert await journal.load() == ({"life": life - 1} if life else None)
        journal.save({"life": -1})
        journal.save({"life": life})
        journal.append(entry(life))
        await journal.close()
    assert [(r.id, r.message) for r in read_history(path)] == [(3, "entry 2"), (2, "entry 1"), (1, "entry 0")]


async def test_filters_and_paging(path: Path) -> None:
    """Filters combine; paging by id visits every match exactly once, while new records keep coming."""
    journal = Journal(path, clock=HandClock())
    await journal.open()
    for number in range(250):
        vpn, kind = f"vpn{number % 2}", Kind.PHASE if number % 5 == 0 else Kind.ACTION
        journal.append(entry(number, vpn=vpn, kind=kind, at=START + timedelta(seconds=number)))
    pages: list[Record] = []
    before = None
    while page := await journal.query(vpn="vpn1", limit=40, before=before):
        assert len(page) <= 40
        pages, before = pages + page, page[-1].id
        journal.append(entry(1000, vpn="vpn1"))
    assert messages(pages) == [f"entry {number}" for number in range(249, 0, -2)]
    since, until = START + timedelta(seconds=20), START + timedelta(seconds=40)
    between = await journal.query(vpn="vpn0", kind="phase", since=since, until=until)
    assert messages(between) == ["entry 40", "entry 30", "entry 20"]
    assert await journal.query(limit=0) == []
    assert await journal.query(vpn="nobody'; DROP TABLE history; --") == []
    assert await journal.query(vpn="\udcff", before=2**70) == []
    assert await journal.query(until=datetime.min.replace(tzinfo=UTC)) == []
    await journal.close()
    filtered = read_history(path, vpn="vpn0", kind="phase", since=since, until=until, before=between[0].id, limit=1)
    assert messages(filtered) == ["entry 30"]


async def test_retention(path: Path) -> None:
    """What is too old or too many is forgotten, in batches until none is left over; ids are never used again."""
    clock = HandClock()
    journal = Journal(path, clock=clock, retention_days=30, max_records=2000, threaded=False)
    await journal.open()
    for number in range(4000):
        journal.append(entry(number))
    assert len(await journal.query(limit=10_000)) <= 2000 + 500
    clock.passed = 31 * 86400.0
    for number in range(4000, 4600):
        journal.append(entry(number, at=clock.wall()))
    left = await journal.query(limit=10_000)
    assert 600 <= len(left) < 600 + 500
    assert left[-1].at > clock.wall() - timedelta(days=30)
    newest = left[0].id
    clock.passed = 400 * 86400.0
    await journal.close()
    journal = Journal(path, clock=clock, retention_days=30)
    await journal.open()
    deadline = time.monotonic() + 60
    while await journal.query():  # the writer prunes by itself, with nothing to write
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
    journal.append(entry(1, at=clock.wall()))
    assert [record.id for record in await journal.query()] == [newest + 1]
    await journal.close()


async def test_what_json_cannot_say_breaks_nothing(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Odd details, lone surrogates and a document that cannot be written harm neither caller nor neighbours."""
    journal = Journal(path, clock=HandClock(), threaded=False)
    await journal.open()
    circle: dict[str, object] = {}
    circle["self"] = circle
    odd: list[dict[Any, Any]] = [{"set": {1}}, circle, {(1, 2): 3}, {"at": START}]
    for number, details in enumerate(odd):
        journal.append(entry(number, details=details))
    journal.append(entry(4, message="entry \udcff", vpn="\udcff"))
    journal.save({"good": 1})
    journal.save({"bad": {1, 2}})
    found = await journal.query()
    assert len(found) == 5
    assert found[0].message == "entry ?"
    assert found[-1].details == {"set": "{1}"}
    assert await journal.load() == {"good": 1}
    assert "the state cannot be written as JSON" in caplog.text
    await journal.close()


async def test_a_row_that_makes_no_sense_is_left_out(path: Path) -> None:
    """A kind from another version or a broken row neither breaks the history nor shortens its pages."""
    journal = Journal(path, clock=HandClock())
    await journal.open()
    for number in range(6):
        journal.append(entry(number))
    await journal.close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE history SET kind = 'later' WHERE id = 6")
        connection.execute("UPDATE history SET details = '{' WHERE id = 5")
        connection.execute("UPDATE history SET details = '[]' WHERE id = 4")
        connection.execute("UPDATE history SET at = 9e99 WHERE id = 3")
        connection.execute("UPDATE history SET message = CAST(x'ff41' AS TEXT) WHERE id = 2")
    connection.close()
    assert messages(read_history(path, limit=2)) == ["\ufffdA", "entry 0"]


# --- not blocking ----------------------------------------------------------------------------------------------------


async def test_appending_never_waits_for_the_disk(path: Path) -> None:
    """While the writer is stalled on a lock, 10,000 records and documents are taken; later all are there, in order."""
    journal = Journal(path, clock=HandClock())
    await journal.open()
    loop_thread, stalled, release = threading.get_ident(), threading.Event(), threading.Event()
    real = journal_file.write

    def stalling(*arguments: Any) -> None:
        assert threading.get_ident() != loop_thread
        stalled.set()
        assert release.wait(60)
        real(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal_file, "write", stalling)
        journal.append(entry(0))
        await asyncio.to_thread(stalled.wait, 60)
        for number in range(1, 10_000):
            journal.append(entry(number))
            journal.save({"newest": number})
        assert not release.is_set()
        release.set()
        found = await journal.query(limit=20_000)
    assert messages(found) == [f"entry {number}" for number in range(9_999, -1, -1)]
    assert await journal.load() == {"newest": 9_999}
    assert journal.up
    await journal.close()


async def test_another_program_holds_the_write_lock(path: Path) -> None:
    """A real SQLite lock held beyond the busy timeout neither blocks the loop nor loses a record."""
    journal = Journal(path, clock=(clock := HandClock()))
    await journal.open()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    ticks = 0
    for number in range(10_000):
        journal.append(entry(number))
    answer = asyncio.ensure_future(journal.query(limit=20_000))
    while not answer.done():
        await asyncio.sleep(0.05)
        ticks += 1
    assert ticks > 5  # the loop went on while the writer waited
    assert len(answer.result()) == 10_000
    assert not journal.up
    assert "locked" in (journal.problem or "")
    other.execute("ROLLBACK")
    other.close()
    clock.passed += 100
    await journal.query(limit=1)
    assert journal.up
    assert messages(read_history(path, limit=20_000)) == [f"entry {number}" for number in range(9_999, -1, -1)]
    await journal.close()


async def test_too_much_at_once_drops_the_oldest(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The queue is bounded, and what is dropped is told once per episode."""
    journal = Journal(path, clock=HandClock())
    for number in range(PENDING_LIMIT + 50):
        journal.append(entry(number))
    await journal.open()
    found = await journal.query(limit=PENDING_LIMIT + 50)
    assert len(found) == PENDING_LIMIT
    assert found[-1].message == "entry 50"
    assert caplog.text.count("too slow") == 1
    await journal.close()


async def test_a_disk_that_hangs_is_not_waited_for(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Closing gives up after its time; a cancelled question and calls after the end are harmless."""
    journal = Journal(path, clock=HandClock())
    await journal.open()
    release = threading.Event()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal_file, "write", lambda *_arguments: release.wait(60))
        journal.append(entry(0))
        question = asyncio.ensure_future(journal.query())
        await asyncio.sleep(0)
        question.cancel()
        await journal.close(timeout_s=0.2)
        assert "could not be written within 0.2 s" in caplog.text
        release.set()
        await journal.close()
    journal.append(entry(1))
    journal.save({})
    await journal.query(limit=1)
    assert await journal.query() == []
    assert await journal.load() is None


async def test_a_hanging_disk_does_not_keep_the_process(tmp_path: Path) -> None:
    """The process ends after close although the writer never comes back."""
    program = """
import asyncio, sys, threading
from pathlib import Path
from exporter.journal import file as journal_file
from exporter.clock import SystemClock
from exporter.journal.journal import Journal
async def main():
    journal = Journal(Path(sys.argv[1]), clock=SystemClock())
    await journal.open()
    journal_file.write = lambda *_: threading.Event().wait()
    journal.save({})
    await journal.close(timeout_s=0.2)
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", program, tmp_path / "mayday.db"], timeout=60, check=False)
    assert done.returncode == 0


async def test_a_fault_in_the_writer_is_seen_and_survived(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An exception nobody foresaw is logged with its trace, and the writer goes on."""
    journal = Journal(path, clock=HandClock())
    await journal.open()
    broken = threading.Event()

    def break_(*_arguments: Any) -> None:
        broken.set()
        raise ZeroDivisionError("unforeseen")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal_file, "write", break_)
        journal.append(entry(0))
        await asyncio.to_thread(broken.wait, 60)
    journal.append(entry(1))
    assert "entry 1" in messages(await journal.query())
    assert "unforeseen" in caplog.text
    await journal.close()


# --- versions --------------------------------------------------------------------------------------------------------


async def test_an_older_file_is_migrated(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps run from the version found, each once, and what was in the file is kept."""
    path.parent.mkdir()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE old (message TEXT)")
        connection.execute("INSERT INTO old VALUES ('from version 0')")
    connection.close()
    to_1 = f"""{journal_file.MIGRATIONS[0]} CREATE TABLE IF NOT EXISTS old (message TEXT);
        INSERT INTO history (at, kind, reason, message, details)
        SELECT 0, 'life', 'started', message, '{{}}' FROM old; DROP TABLE old;"""
    to_2 = "ALTER TABLE history ADD COLUMN seed INTEGER; UPDATE history SET message = message || ', by way of 1';"
    for migrations in ([to_1], [to_1, to_2], [to_1, to_2]):
        monkeypatch.setattr(journal_file, "MIGRATIONS", migrations)
        journal = Journal(path, clock=HandClock(), retention_days=100_000)
        await journal.open()
        assert journal.problem is None
        await journal.close()
        assert sqlite3.connect(path).execute("PRAGMA user_version").fetchone() == (len(migrations),)
    assert messages(read_history(path)) == ["from version 0, by way of 1"]


async def test_a_migration_that_fails_changes_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step is one transaction: after a failure in its middle the file is as before, and Mayday goes on in memory."""
    journal = Journal(path, clock=HandClock())
    await journal.open()
    journal.append(entry(1))
    await journal.close()
    bad = """CREATE TABLE kept AS SELECT * FROM history; DELETE FROM history;
        CREATE TABLE checked (records CHECK (records = 0)); INSERT INTO checked SELECT count(*) FROM kept;"""
    monkeypatch.setattr(journal_file, "MIGRATIONS", [*journal_file.MIGRATIONS, bad])
    journal = Journal(path, clock=HandClock())
    await journal.open()
    assert not journal.up
    assert "records = 0" in (journal.problem or "")
    await journal.close()
    assert messages(read_history(path)) == ["entry 1"]
    assert sqlite3.connect(path).execute("PRAGMA user_version").fetchone() == (1,)


async def test_a_newer_file_is_left_as_it_is(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file of a later version, killed with its WAL, keeps every byte; the problem names both versions."""
    path.parent.mkdir()
    program = f"""
import os, signal, sqlite3
c = sqlite3.connect({str(path)!r}, isolation_level=None)
c.execute("PRAGMA journal_mode=WAL"); c.execute("CREATE TABLE later (x)"); c.execute("PRAGMA user_version=7")
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", program], check=False, timeout=60)
    wal = path.with_name("mayday.db-wal")
    before = path.read_bytes(), wal.read_bytes()
    assert before[1]
    journal = Journal(path, clock=HandClock())
    await journal.open()
    journal.append(entry(1))
    assert messages(await journal.query()) == ["entry 1"]
    assert not journal.up
    assert "schema version 7, this Mayday knows 1" in (journal.problem or "")
    assert "move the file out of STATE_DIR" in (journal.problem or "")
    await journal.close()
    assert (path.read_bytes(), wal.read_bytes()) == before
    assert caplog.text.count("newer version") == 1


# --- killed ----------------------------------------------------------------------------------------------------------

WRITER = """
import asyncio, itertools, sys
from pathlib import Path
from exporter.clock import SystemClock
from exporter.journal.history import Kind, Record
from exporter.journal.journal import Journal
async def main():
    clock = SystemClock()
    journal = Journal(Path(sys.argv[1]), clock=clock)
    await journal.open()
    for number in itertools.count(int(sys.argv[2])):
        journal.append(Record(clock.wall(), Kind.ACTION, "fill", f"entry {number}", details={"pad": "x" * 200}))
        journal.save({"newest": number})
        if number % 100 == 0:
            await journal.query(limit=1)
            print(number, flush=True)
asyncio.run(main())
"""


def _killed_after(path: Path, first: int, count: int) -> int:
    """Let a process write, kill it in the middle, and return the last number it knew to be written."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), str(first)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    ) as process:
        assert process.stdout is not None
        flushed = first
        for line in process.stdout:
            flushed = int(line)
            if flushed >= first + count:
                break
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read().split()
    assert process.returncode == -signal.SIGKILL
    return int(rest[-1]) if rest else flushed


async def test_sigkill_while_writing(path: Path) -> None:
    """After SIGKILL in the middle of thousands of records the file is sound: every flushed record is there, without a
    gap, and the document is the one that belongs to the newest record.
    """
    first = 0
    for _ in range(4):
        flushed = _killed_after(path, first, 3000)
        journal = Journal(path, clock=HandClock(), retention_days=100_000)
        await journal.open()
        assert (journal.up, journal.problem) == (True, None)
        found = await journal.query(limit=1_000_000)
        document = await journal.load()
        await journal.close()
        last = len(found) - 1
        assert messages(found) == [f"entry {number}" for number in range(last, -1, -1)]
        assert last >= flushed
        # A record and the document saved after it may fall into two writes, with the kill between them.
        assert document in ({"newest": last}, {"newest": last - 1})
        assert not list(path.parent.glob("*.corrupt-*"))
        first = last + 1


async def test_history_is_read_while_mayday_writes(path: Path) -> None:
    """The command line reads what is written so far, changes nothing, and does not disturb the writer."""
    journal = Journal(path, clock=HandClock())
    await journal.open()
    for number in range(2000):
        journal.append(entry(number))
        if number % 100 == 99:
            await journal.query(limit=1)
            assert read_history(path, limit=1)[0].message == f"entry {number}"
    assert journal.up
    await journal.close()
    with pytest.raises(sqlite3.OperationalError):
        read_history(path.with_name("nothing.db"))
    assert not path.with_name("nothing.db").exists()


async def test_history_at_an_odd_place(tmp_path: Path) -> None:
    """A path with the signs of a URI is a path."""
    path = tmp_path / "a?b#c%20d" / "mayday.db"
    journal = Journal(path, clock=HandClock())
    await journal.open()
    journal.append(entry(1))
    await journal.close()
    assert messages(read_history(path)) == ["entry 1"]


async def test_nothing_is_left_open(path: Path) -> None:
    """Opening and closing leaves no file descriptor and no thread behind."""

    async def once() -> None:
        journal = Journal(path, clock=HandClock())
        await journal.open()
        journal.append(entry(1))
        await journal.close()

    def counted() -> tuple[int, int]:
        threads = sum(thread.name == "journal" for thread in threading.enumerate())
        return len(os.listdir("/proc/self/fd")), threads  # noqa: PTH208

    await once()
    deadline = time.monotonic() + 60
    before = counted()
    for _ in range(10):
        await once()
    while counted()[0] > before[0] or counted()[1]:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
