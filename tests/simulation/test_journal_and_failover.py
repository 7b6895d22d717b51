"""A journal in any trouble changes no decision: the whole sidecar fails over and recovers, and says what is wrong."""

from __future__ import annotations

import asyncio
import sqlite3
from typing import TYPE_CHECKING

import pytest

from exporter.core.model import Phase
from tests.support.sidecar import Sidecar
from tests.support.virtual_time import VirtualClock, run_virtual

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def _newer(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()


def _document(text: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        from exporter.journal import file as journal_file

        connection = journal_file.connect(path)
        journal_file.write(connection, text, [])
        connection.close()

    return write


TROUBLES: dict[str, tuple[Callable[[Path], object], int, str]] = {
    "no journal yet": (lambda path: None, 1, "started"),
    "no database": (lambda path: path.write_text("rubbish " * 1000), 1, "journal_set_aside"),
    "empty file": (lambda path: path.write_text(""), 1, "started"),
    "a directory in its place": (lambda path: path.mkdir(), 0, "started"),
    "from a newer version": (_newer, 0, "started"),
    "a document of another format": (_document('{"format": 7}'), 1, "memory_unusable"),
    "a document without its parts": (_document('{"format": 1}'), 1, "memory_unusable"),
    "a document that is no JSON": (_document('{"format"'), 1, "journal_set_aside"),
}
"""By what is wrong: how it is made, `mayday_journal_up` then, and what the history tells of it."""


@pytest.mark.parametrize(("make", "up", "told"), TROUBLES.values(), ids=TROUBLES.keys())
def test_failover_goes_on(tmp_path: Path, make: Callable[[Path], object], up: int, told: str) -> None:
    """Nothing crashes, a VPN that fails is evacuated, and it is filled again after its stabilization."""
    make(tmp_path / "mayday.db")

    async def main(clock: VirtualClock) -> None:
        s = Sidecar(clock, STATE_DIR=str(tmp_path))
        async with s.app:
            await asyncio.sleep(10)
            assert s.metric("mayday_journal_up") == up
            assert told in {record.reason for record in await s.app.journal.query(kind="life")}
            s.host.set_truth("gluetun_2", good=False)
            await asyncio.sleep(60)
            assert s.counts() == [5, 0]
            s.host.set_truth("gluetun_2", good=True)
            await asyncio.sleep(200)
            assert s.counts() == [5, 5]

    run_virtual(main)


def test_what_docker_shows_wins_over_what_was_remembered(tmp_path: Path) -> None:
    """Mayday remembers one VPN as failed; while it was away that one recovered and the other failed. The engines of the
    other are kept until the recovered one has stabilized, and carries."""

    async def main(clock: VirtualClock) -> None:
        s = Sidecar(clock, STATE_DIR=str(tmp_path))
        async with s.app:
            await asyncio.sleep(10)
            s.host.pause("gluetun_2")
            await asyncio.sleep(10)
        s.host.unpause("gluetun_2")
        s.host.pause("gluetun")
        s.app = s.new_app()
        async with s.app:
            await asyncio.sleep(10)
            assert (s.phase("gluetun"), s.phase("gluetun_2")) == (Phase.FAILED, Phase.STABILIZING)
            assert s.info["failed_vpn"] == "gluetun"
            assert s.counts() == [5, 0]
            await asyncio.sleep(130)
            assert s.counts() == [0, 5]

    run_virtual(main)


@pytest.mark.parametrize("steps", range(1, 40, 3))
def test_a_restart_after_any_step_of_a_failover(tmp_path: Path, steps: int) -> None:
    """Stopped after so many looks at what happened, and started again: one entry in all, and the same end."""

    async def main(clock: VirtualClock) -> None:
        s = Sidecar(clock, STATE_DIR=str(tmp_path))
        async with s.app:
            await asyncio.sleep(10)
            s.host.kill("gluetun_2")
            for _ in range(steps):
                await asyncio.sleep(0.02)
        s.app = s.new_app()
        async with s.app:
            await asyncio.sleep(30)
            assert s.info["failed_vpn"] == "gluetun_2"
            assert s.counts() == [5, 0]
            modes = await s.app.journal.query(kind="mode")
            assert [record.details["after"] for record in modes] == ["emergency"]
            assert s.info["entered_at"] == modes[0].at.isoformat()

    run_virtual(main)
