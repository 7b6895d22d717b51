"""The words of the page for people, and a page that comes though the disk hangs."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import aiohttp
import pytest

from exporter.fleet.results import Forwarded
from exporter.journal.history import Kind, Record
from exporter.web.page import page
from exporter.web.words import duration, folded, listed
from tests.support.moments import START
from tests.support.waiting import until
from tests.support.watched import Watched

if TYPE_CHECKING:
    from typing import NoReturn


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0 s"),
        (0.4, "0 s"),
        (119.4, "119 s"),
        (120, "2 min"),
        (7199, "119 min"),
        (7200, "2 h 0 min"),
        (93784, "26 h 3 min"),
        (200000, "2 days"),
    ],
)
def test_a_duration_in_words(seconds: float, text: str) -> None:
    """In the units that matter at that length."""
    assert duration(seconds) == text


def test_names_in_a_sentence() -> None:
    """With commas and one `and`."""
    assert [listed(names) for names in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == [
        "none",
        "a",
        "a and b",
        "a, b and c",
    ]


def action(at: float, vpn: str = "gluetun", *, result: str = "ok") -> Record:
    details = {"action": "remove", "engine": f"acestream-{at:g}", "result": result}
    when = START + timedelta(seconds=at)
    return Record(when, Kind.ACTION, "vpn_failed", f"remove engine 'acestream-{at:g}'", vpn, details)


def test_what_was_done_to_many_engines_is_one_line() -> None:
    """Neighbours that are alike become one; another VPN, another result, or anything else stays a line of its own."""
    entered = Record(START, Kind.MODE, "alert", "Entered emergency mode", "gluetun")
    records = [action(9), action(8), action(7, result="error"), action(6, "b"), entered, entered, action(1), action(0)]
    assert [message for _, message in folded(records)] == [
        "remove 2 engines on VPN 'gluetun' (vpn_failed): ok",
        "remove engine 'acestream-7'",
        "remove engine 'acestream-6'",
        "Entered emergency mode",
        "Entered emergency mode",
        "remove 2 engines on VPN 'gluetun' (vpn_failed): ok",
    ]
    assert next(folded(records))[0] == START + timedelta(seconds=9)


async def test_a_disk_that_hangs_does_not_hold_up_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an answer from the journal the page tells the state all the same, and nothing of the past."""

    async def hangs(**_options: object) -> NoReturn:
        await asyncio.Event().wait()
        raise AssertionError

    async with Watched() as watched:
        monkeypatch.setattr(watched.app.journal, "query", hangs)
        async with aiohttp.ClientSession() as session, session.get(watched.url) as response:
            text = await response.text()
    assert response.status == 200
    assert "gluetun_2" in text
    assert "The history is empty, or cannot be read." in text


async def test_the_page_and_the_list_of_engines_agree_on_what_is_in_service() -> None:
    """In an outage containers run and none is usable: the page counts none, and how many are out of service."""
    async with Watched() as watched, aiohttp.ClientSession() as session:
        for vpn in watched.names:
            watched.host.set_truth(vpn, good=False)
        await until(lambda: watched.app.controller.snapshot.state.mode == "outage")
        async with session.get(watched.url) as response:
            text = await response.text()
        async with session.get(f"{watched.url}engines") as response:
            engines = await response.json()
    assert text.count("none; 2 out of service") == 2
    assert [engine["usable"] for engine in engines] == [False] * 4


async def test_a_drill_shows_on_the_page_as_one_with_the_time_left() -> None:
    """Beside the emergency that it is; with why the evacuation waits, and the port that a VPN forwards."""
    async with Watched() as watched, aiohttp.ClientSession() as session:
        controller = watched.app.controller
        controller.take(Forwarded(watched.names[1], 41000))
        controller.start_drill(watched.names[0], 600, "for a test")
        async with session.get(watched.url) as response:
            text = await response.text()
        controller.end_drill(watched.names[0])
        async with session.get(watched.url) as response:
            after = await response.text()
    assert f"Drill: {watched.names[0]} is declared failed for another 10 min" in text
    assert "evacuation waits: the failure has not lasted long enough yet" in text
    assert text.count("forwards port 41000") == 1
    assert "Drill:" not in after.split("What happened last")[0]


async def test_a_doubt_shows_on_the_page() -> None:
    """A VPN of which nothing is known at the moment is not called healthy without more."""
    async with Watched() as watched:
        controller = watched.app.controller
        doubtful = replace(controller.state, doubtful=frozenset(watched.names[:1]))
        snapshot = replace(controller.snapshot, state=doubtful)
        text = page(snapshot, controller.settings, controller.clock.now())
    assert f"Whether {watched.names[0]} works is in doubt" in text
    assert text.count(">in doubt</span>") == 1
