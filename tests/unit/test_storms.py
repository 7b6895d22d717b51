"""What achieves nothing slows down, is told with its number, and pushes nothing else out of sight."""

from __future__ import annotations

import asyncio
import os
import threading
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from exporter.actions.backoff import BackOff
from exporter.core import balance, plan
from exporter.core.model import ContainerState, Engine, Fleet, Moment, Phase
from exporter.core.phases import FleetState, VpnState
from exporter.core.policy import Policy
from exporter.jobs import Jobs
from exporter.journal.history import Kind, Record
from exporter.journal.journal import Journal
from exporter.telemetry.metrics import Metrics
from exporter.telemetry.repeats import Repeats, alike
from exporter.web.words import told
from exporter.work import Work
from tests.support.virtual_time import VirtualClock, run_virtual

if TYPE_CHECKING:
    from pathlib import Path

START = datetime(2025, 11, 7, 22, tzinfo=UTC)
VPNS = ("gluetun", "gluetun_2")


class HandClock:
    """A clock that a test moves."""

    boot = "test"

    def __init__(self) -> None:
        self.passed = 0.0

    def mono(self) -> float:
        return self.passed

    def wall(self) -> datetime:
        return START + timedelta(seconds=self.passed)

    def now(self) -> Moment:
        return Moment(self.mono(), self.wall())


def record(number: int, kind: Kind, message: str = "") -> Record:
    return Record(START + timedelta(seconds=number), kind, "max_replicas", message or f"entry {number}", id=number)


# --- retries ---------------------------------------------------------------------------------------------------------


def test_pauses_double_up_to_five_minutes_for_each_thing_on_its_own() -> None:
    """Another thing does not wait, and after a success the first pause is short again."""
    clock = HandClock()
    back_off = BackOff(clock)
    pauses = []
    for _ in range(12):
        back_off.failed("a")
        assert not back_off.is_due("a")
        assert back_off.is_due("b")
        wait = back_off.wait_s(["a"])
        assert wait is not None
        pauses.append(wait)
        clock.passed += wait
        assert back_off.is_due("a")
    assert pauses == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]
    assert back_off.wait_s(["a", "b"]) == 0
    back_off.succeeded("a")
    back_off.failed("a")
    assert back_off.wait_s(["a"]) == 1
    assert back_off.wait_s([]) is None


def test_a_job_that_fails_is_tried_every_five_minutes_and_at_once_after_news() -> None:
    """A dozen tries an hour at the end, whatever asks for it; news begin anew."""

    async def main(clock: VirtualClock) -> None:
        tries: list[float] = []

        async def fails(_vpn: str | None) -> float:
            tries.append(clock.mono())
            return 1.0

        jobs = Jobs(clock, Metrics(VPNS, Work))
        jobs.on_request(Work.REPAIR, fails)
        jobs.start()
        jobs.request(Work.REPAIR, None, 0)
        for _ in range(7200):
            await asyncio.sleep(1)
            jobs.request(Work.REPAIR, None, 0)
        assert 15 <= len(tries) <= 40
        assert max(later - one for one, later in pairwise(tries)) == pytest.approx(300, abs=1)
        await asyncio.sleep(10)
        before = len(tries)
        jobs.hurry()
        await asyncio.sleep(8)
        assert len(tries) - before == 4, "at once, and after 1 s, 2 s and 4 s"
        await jobs.close(1)

    run_virtual(main)


# --- telling ---------------------------------------------------------------------------------------------------------


def test_what_is_alike_is_told_at_doubling_numbers() -> None:
    """Numbers and ids make no difference; after an hour of silence it is new."""
    repeats, clock = Repeats(), HandClock()
    shown = []
    for number in range(100):
        clock.passed += 300
        repeat = repeats.note(alike(f"create acestream-{number} 0a1b2c3d4e5f{number:03}: no such image"), clock.now())
        if repeat.told:
            shown.append(repeat.count)
    assert shown == [1, 2, 4, 8, 16, 32, 64]
    assert (repeat.count, repeat.suffix) == (100, " (100 times since 2025-11-07 22:05:00)")
    assert repeats.note(alike("create acestream-1 refused"), clock.now()).count == 1
    clock.passed += 3601
    assert repeats.note(alike("create acestream-0 0a1b2c3d4e5f000: no such image"), clock.now()).count == 1


async def test_no_kind_of_record_pushes_another_out(tmp_path: Path) -> None:
    """Thousands of refusals and failures later the emergency is still there, and each kind has its newest."""
    journal = Journal(tmp_path / "mayday.db", clock=HandClock(), max_records=1000, threaded=False)
    await journal.open()
    journal.append(record(0, Kind.MODE, "Entered emergency mode"))
    for number in range(1, 6001):
        journal.append(record(number, Kind.REFUSAL if number % 2 else Kind.ACTION))
    for _ in range(10):
        await journal.look()
    assert [found.message for found in await journal.query(kind="mode")] == ["Entered emergency mode"]
    for kind in ("refusal", "action"):
        kept = await journal.query(kind=kind, limit=10_000)
        assert 1000 <= len(kept) <= 1500
        assert int(kept[0].message.split()[1]) >= 5999
    await journal.close()


def test_ten_refusals_leave_the_emergency_on_the_page() -> None:
    """Of refusals the page shows the newest, and the newest change of the mode always."""
    refusals = [record(number, Kind.REFUSAL) for number in range(30, 20, -1)]
    signals = [record(number, Kind.SIGNAL) for number in range(20, 2, -1)]
    mode = record(1, Kind.MODE, "Entered emergency mode")
    assert [message for _, message in told([*refusals, mode], 10)] == ["entry 30", "Entered emergency mode"]
    lines = [message for _, message in told([*refusals, *signals, mode], 10)]
    assert len(lines) == 10
    assert (lines[0], lines[-1]) == ("entry 30", "Entered emergency mode")


# --- a STATE_DIR that does not answer --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mayday.db", "mayday.lock"])
async def test_a_pipe_in_place_of_the_journal_is_a_journal_that_is_down(tmp_path: Path, name: str) -> None:
    """It is not opened, which might take for ever; once it is gone the journal is kept on disk."""
    os.mkfifo(tmp_path / name)
    clock = HandClock()
    journal = Journal(tmp_path / "mayday.db", clock=clock)
    async with asyncio.timeout(5):
        await journal.open()
    assert not journal.up
    assert f"{name} is no regular file" in (journal.problem or "")
    (tmp_path / name).unlink()
    clock.passed += 120
    await journal.look()
    assert (journal.up, journal.problem) == (True, None)
    await journal.close()


async def test_a_disk_that_hangs_at_the_start_is_gone_on_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The start goes on, nothing waits for it; what was told meanwhile is written when the disk answers."""
    answers = threading.Event()
    monkeypatch.setattr("exporter.journal.journal.OPEN_S", 0.05)
    journal = Journal(tmp_path / "mayday.db", clock=HandClock())
    opened = journal._store.open

    def hangs() -> None:
        answers.wait(30)
        opened()

    monkeypatch.setattr(journal._store, "open", hangs)
    await journal.open()
    assert not journal.up
    assert "does not answer" in (journal.problem or "")
    assert await journal.load() is None
    assert await journal.query() == []
    journal.append(record(1, Kind.LIFE, "told while it hung"))
    answers.set()
    async with asyncio.timeout(30):
        while not journal.up:
            await asyncio.sleep(0.01)
    assert [found.message for found in await journal.query()] == ["told while it hung"]
    await journal.close()


# --- surplus ---------------------------------------------------------------------------------------------------------


def state(*phases: Phase) -> FleetState:
    now = Moment(0.0, START)
    return FleetState({vpn: VpnState(phase, now) for vpn, phase in zip(VPNS, phases, strict=True)})


def fleet(first: int, second: int, *, asked_for: int = 0, idle: frozenset[int] = frozenset()) -> Fleet:
    def engine(vpn: str, number: int) -> Engine:
        container = ContainerState.EXITED if number in idle else ContainerState.RUNNING
        explicit = vpn == VPNS[0] and number >= first - asked_for
        return Engine(
            f"{vpn}-{number}", f"{vpn}-{number}", vpn, container, number, float(number), explicit=explicit, own=True
        )

    engines = [engine(vpn, number) for vpn, count in zip(VPNS, (first, second), strict=True) for number in range(count)]
    return Fleet.of(dict.fromkeys(VPNS), engines)


def policy(low: int, high: int) -> Policy:
    return Policy(VPNS, min_replicas=low, max_replicas=high, ports={vpn: range(50) for vpn in VPNS})


HEALTHY = Phase.HEALTHY


@pytest.mark.parametrize(
    ("present", "phases", "limits", "expected"),
    [
        pytest.param(fleet(10, 0), (HEALTHY, HEALTHY), (10, 10), "gluetun-9", id="the newest goes"),
        pytest.param(fleet(10, 0, idle=frozenset({3})), (HEALTHY, HEALTHY), (10, 10), "gluetun-3", id="an idle one"),
        pytest.param(fleet(10, 0, asked_for=2), (HEALTHY, HEALTHY), (10, 10), "gluetun-7", id="none asked for"),
        pytest.param(fleet(10, 2), (HEALTHY, HEALTHY), (10, 12), "gluetun-9", id="at the limit"),
        pytest.param(fleet(10, 0), (HEALTHY, HEALTHY), (10, 12), None, id="successors first while there is room"),
        pytest.param(fleet(8, 2, idle=frozenset({0})), (HEALTHY, HEALTHY), (10, 10), None, id="its engines must work"),
        pytest.param(fleet(5, 5), (HEALTHY, HEALTHY), (10, 10), None, id="nothing is missing"),
        pytest.param(fleet(10, 0), (HEALTHY, Phase.STABILIZING), (10, 10), None, id="not yet healthy"),
        pytest.param(fleet(10, 0), (HEALTHY, Phase.FAILED), (10, 10), None, id="not in an emergency"),
        pytest.param(fleet(5, 4, asked_for=1), (HEALTHY, HEALTHY), (9, 9), None, id="no VPN has more than its share"),
    ],
)
def test_what_makes_room_for_a_recovered_vpn(
    present: Fleet, phases: tuple[Phase, Phase], limits: tuple[int, int], expected: str | None
) -> None:
    """One engine above the share, only where a VPN lacks its share and there is no room."""
    move = balance.to_move(state(*phases), present, policy(*limits), {})
    assert (move and move.engine.id) == expected
    assert balance.to_move(state(*phases), present, policy(*limits), {VPNS[1]: 1}) is None


def test_surplus_is_what_is_above_the_share() -> None:
    """The newest first, never below the share, on healthy VPNs alone, and none that was asked for."""
    few = policy(4, 20)
    both = state(HEALTHY, HEALTHY)
    assert [e.id for e in balance.surplus(both, fleet(5, 3), few)] == [
        "gluetun-4",
        "gluetun-3",
        "gluetun-2",
        "gluetun_2-2",
    ]
    assert [e.id for e in balance.surplus(both, fleet(5, 3), few, VPNS[1])] == ["gluetun_2-2"]
    assert [e.id for e in balance.surplus(both, fleet(5, 1, asked_for=3), few)] == []
    assert balance.surplus(state(Phase.STABILIZING, Phase.UNKNOWN), fleet(5, 3), few) == []


def test_a_fill_is_needed_up_to_the_share_and_within_the_limit() -> None:
    """The engine itself, shown already, is not counted against itself."""
    both, reason = state(HEALTHY, HEALTHY), plan.ProvisionReason.FILL
    assert balance.still_needed(both, fleet(1, 2), policy(4, 8), {}, VPNS[0], "new", reason)
    assert balance.still_needed(both, fleet(2, 2), policy(4, 8), {}, VPNS[0], "gluetun-1", reason)
    assert not balance.still_needed(both, fleet(2, 2), policy(4, 8), {}, VPNS[0], "new", reason)
    assert not balance.still_needed(both, fleet(1, 2), policy(4, 8), {VPNS[0]: 1}, VPNS[0], "new", reason)
    assert not balance.still_needed(both, fleet(1, 3), policy(4, 4), {}, VPNS[0], "new", reason)
