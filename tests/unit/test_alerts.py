"""What is made of alerts: stories of one alert, told in the order in which Mayday hears them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from exporter.core import alerts
from exporter.core.alerts import ABSENT_S, BOOK_LIMIT, LATE_COPY_S, Alert, Heard, Incident, Listing, Origin
from exporter.core.phases import initial_state
from tests.support.memory import Memory, read, written
from tests.support.moments import moment

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exporter.core.policy import Policy

EXPIRY_S = 3600.0
F, R, X = Heard.FIRING, Heard.RESOLVED, Heard.DUPLICATE
HOUR = 3600.0
LATER = LATE_COPY_S + 1
LISTED_EVERY_S = 60.0
LOOKS = int(ABSENT_S / LISTED_EVERY_S)
"""Further looks without an alert after the first one, until it counts as ended."""


def alert(
    *,
    firing: bool = True,
    start: float = 0,
    end: float | None = None,
    fingerprint: str = "f",
    origin: Origin = Origin.ALERTMANAGER,
) -> Alert:
    ends_at = None if end is None else moment(end).wall
    return Alert(fingerprint, moment(start).wall, "gluetun", "Probe", firing, origin, ends_at)


@dataclass
class Story:
    """One Mayday's book, and the time."""

    at: float = 0.0
    origin: Origin = Origin.ALERTMANAGER

    def __post_init__(self) -> None:
        self.book: Mapping[str, Incident] = {}
        self.results: list[Heard] = []

    def says(self, at: float, item: Alert) -> None:
        self.at = at
        self.book, heard = alerts.hear(self.book, item, moment(at), EXPIRY_S)
        self.results.append(heard)

    def lists(self, at: float, listing: Listing | None, asked_at: float | None = None) -> None:
        self.at = at
        asked = moment(at - 0.1 if asked_at is None else asked_at).mono
        self.book = alerts.synchronise(self.book, listing, asked, moment(at), EXPIRY_S)

    @property
    def fires(self) -> bool:
        self.book = alerts.prune(self.book, moment(self.at))
        return bool(alerts.alert_signals(self.book, "gluetun"))


def fires(at: float, start: float) -> tuple[float, Alert]:
    return at, alert(start=start)


def ends(at: float, start: float, end: float | None = None) -> tuple[float, Alert]:
    return at, alert(firing=False, start=start, end=end)


@pytest.mark.parametrize(
    ("heard", "results", "firing"),
    [
        pytest.param([fires(1, 0)], [F], True, id="fires"),
        pytest.param([fires(1, 0), fires(2, 0)], [F, X], True, id="a repeat"),
        pytest.param([fires(1, 0), ends(9, 0, 8)], [F, R], False, id="resolved"),
        pytest.param([fires(1, 0), ends(9, 0)], [F, R], False, id="resolved, without a time of the end"),
        pytest.param([fires(1, 0), ends(9, 0, 8), ends(10, 0, 8)], [F, R, X], False, id="the end, repeated"),
        pytest.param([ends(9, 0, 8)], [R], False, id="an end alone"),
        # Late copies, which another replica of Alertmanager sends.
        pytest.param(
            [fires(1, 0), ends(9, 0, 8), fires(9 + LATE_COPY_S - 1, 0)],
            [F, R, X],
            False,
            id="a late copy",
        ),
        pytest.param([ends(9, 0, 8), fires(10, 0)], [R, X], False, id="the end comes before the beginning"),
        pytest.param(
            [fires(13, 12), ends(60, 10, 50), fires(61, 12)],
            [F, R, X],
            False,
            id="a late copy with a later start",
        ),
        pytest.param(
            [ends(60, 10, 50), fires(61, 12)], [R, X], False, id="a late copy with a start never heard, before the end"
        ),
        pytest.param(
            [fires(1, 0), ends(9, 0, 8), fires(60, 0), fires(130, 0)],
            [F, R, X, F],
            True,
            id="what is repeated beyond the time for late copies is true",
        ),
        pytest.param(
            [fires(1, 0), ends(9, 0, 8), ends(100, 0, 8), fires(131, 0)],
            [F, R, X, F],
            True,
            id="a repeated end does not prolong the time for late copies",
        ),
        pytest.param([fires(1, 0), ends(9, 0, 8), fires(61, 60)], [F, R, F], True, id="a new incident counts at once"),
        pytest.param(
            [fires(1, 0), fires(61, 60), ends(62, 0, 30)], [F, X, X], True, id="the late end of an older incident"
        ),
        pytest.param(
            [fires(61, 60), ends(62, 0)], [F, X], True, id="the end of an older incident, without a time of the end"
        ),
        pytest.param(
            [fires(1, 0), fires(61, 60), ends(62, 0, 30), ends(90, 60, 80)],
            [F, X, X, R],
            False,
            id="the end of the older incident, then that of the present one",
        ),
        # One start fires twice.
        pytest.param(
            [fires(1, 0), ends(241, 0, 240), fires(541, 0)],
            [F, R, F],
            True,
            id="timed out, then back",
        ),
        pytest.param(
            [fires(1, 0), ends(241, 0, 240), fires(541, 0), ends(600, 0, 590)],
            [F, R, F, R],
            False,
            id="and it ends as any other",
        ),
        # Two Prometheus see the same with different starts.
        pytest.param(
            [fires(13, 12), fires(14, 10), ends(60, 10, 50)], [F, X, R], False, id="merged to the earliest start"
        ),
        pytest.param([fires(13, 12), ends(60, 10, 50)], [F, R], False, id="merged without our hearing of it"),
        pytest.param([fires(13, 12), fires(14, 10), ends(60, 10)], [F, X, R], False, id="without a time of the end"),
        pytest.param([fires(13, 12), fires(14, 10), ends(60, 12, 50)], [F, X, R], False, id="the later start ends"),
        # Prometheus started anew: the start moves on while it fires.
        pytest.param([fires(1, 0), fires(100, 99), ends(200, 99, 199)], [F, X, R], False, id="the start moves on"),
        # Clocks.
        pytest.param(
            [fires(1, HOUR), ends(9, HOUR, HOUR + 8), fires(9 + LATER, 130)],
            [F, R, F],
            True,
            id="an hour ahead and over, then a real one",
        ),
        pytest.param(
            [fires(1, HOUR), ends(9, HOUR, HOUR + 8), fires(10, HOUR)],
            [F, R, X],
            False,
            id="an hour ahead, and a late copy",
        ),
        pytest.param(
            [fires(1, HOUR), fires(100, 99), ends(200, 99, 199)],
            [F, X, R],
            False,
            id="the clock is set right",
        ),
        pytest.param(
            [fires(1, -HOUR), ends(9, -HOUR, 8 - HOUR), fires(9 + LATER, -HOUR + 1)],
            [F, R, F],
            True,
            id="an hour behind all the time",
        ),
        pytest.param(
            [fires(1, 0), ends(9, 0, 8), fires(9 + LATER, -HOUR)], [F, R, F], True, id="set back after the end"
        ),
    ],
)
def test_what_is_sent_counts_in_the_order_in_which_it_is_heard(
    heard: list[tuple[float, Alert]], results: list[Heard], *, firing: bool
) -> None:
    """A firing copy fires whatever its start, unless it is a late one; an end ends it, unless it is an older one's."""
    story = Story()
    for at, item in heard:
        story.says(at, item)
    assert (story.results, story.fires) == (results, firing)


def test_two_alerts_about_one_vpn_are_two() -> None:
    """The end of one leaves the other."""
    story = Story()
    story.says(1, alert())
    story.says(2, alert(fingerprint="g"))
    story.says(3, alert(firing=False, end=3))
    assert story.fires
    assert [signal.detail for signal in alerts.alert_signals(story.book, "gluetun")] == ["Probe"]


def test_an_alert_expires_unless_it_is_repeated() -> None:
    """A repeat counts as being heard again."""
    book, _ = alerts.hear({}, alert(), moment(0), 100.0)
    book, _ = alerts.hear(book, alert(), moment(90), 100.0)
    assert alerts.prune(book, moment(150))
    assert not alerts.prune(book, moment(191))


# --- Alertmanager's list ----------------------------------------------------------------------------------------------

LISTED = Listing((alert(),))
SILENCED = Listing(silent=frozenset({"f"}))
EMPTY = Listing()


def test_what_is_listed_fires() -> None:
    """A webhook that never came is made up for."""
    story = Story()
    story.lists(1, LISTED)
    assert story.fires


def test_what_is_not_listed_for_long_enough_has_ended() -> None:
    """Neither before the time has passed nor by fewer looks: right after a restart Alertmanager lists nothing."""
    story = Story()
    story.says(1, alert())
    for look in range(LOOKS):
        story.lists(60 + LISTED_EVERY_S * look, EMPTY)
        assert story.fires, look
    story.lists(60 + LISTED_EVERY_S * LOOKS, EMPTY)
    assert not story.fires


def test_one_look_after_a_long_time_ends_nothing() -> None:
    """Between two looks Alertmanager may have been anything."""
    story = Story()
    story.says(1, alert())
    story.lists(1 + 2 * ABSENT_S, EMPTY)
    assert story.fires


@pytest.mark.parametrize(
    "between",
    [
        pytest.param(None, id="no answer"),
        pytest.param(LISTED, id="it is listed"),
        pytest.param(SILENCED, id="it is silenced"),
        pytest.param(Listing(whole=False), id="a list with an alert that shows no fingerprint"),
    ],
)
def test_absence_counts_only_without_a_gap(between: Listing | None) -> None:
    """Alertmanager may have been started anew in the gap, and then lists nothing for a while once more."""
    story = Story()
    story.says(1, alert())
    for look in range(LOOKS):
        story.lists(60 + LISTED_EVERY_S * look, EMPTY)
    story.lists(60 + LISTED_EVERY_S * LOOKS, between)
    for look in range(LOOKS):
        story.lists(60 + LISTED_EVERY_S * (LOOKS + 1 + look), EMPTY)
        assert story.fires, look


def test_a_webhook_that_repeats_it_ends_the_absence() -> None:
    """Of two replicas one may know of it and the other not."""
    story = Story()
    story.says(1, alert())
    for look in range(LOOKS):
        story.lists(60 + LISTED_EVERY_S * look, EMPTY)
    story.says(61 + LISTED_EVERY_S * (LOOKS - 1), alert())
    story.lists(60 + LISTED_EVERY_S * LOOKS, EMPTY)
    assert story.fires


def test_a_restart_of_alertmanager_changes_nothing() -> None:
    """For two minutes it lists nothing, then the same alert with the same start, and sends it again."""
    story = Story()
    story.says(1, alert())
    story.lists(30, LISTED)
    story.lists(90, EMPTY)
    story.lists(150, EMPTY)
    story.says(200, alert())
    story.lists(210, LISTED)
    assert (story.results, story.fires) == ([F, X], True)


def test_a_listed_alert_fires_again_after_its_end() -> None:
    """Without the webhook: the same start, listed beyond the time for late copies, whatever the end was."""
    story = Story()
    story.says(1, alert())
    story.says(241, alert(firing=False, end=240))
    story.lists(300, LISTED)
    assert not story.fires, "another replica may not have heard of the end yet"
    story.lists(241 + LATE_COPY_S + 1, LISTED)
    assert story.fires


def test_a_list_that_was_asked_for_before_the_end_says_nothing_about_it() -> None:
    """The answer took long, and the end came meanwhile."""
    story = Story()
    story.says(1, alert())
    story.says(100, alert(firing=False, end=99))
    story.lists(100 + LATE_COPY_S + 5, LISTED, asked_at=99.0)
    assert not story.fires


def test_a_newer_incident_is_listed_while_the_end_of_the_older_one_is_on_its_way() -> None:
    """What starts after that end is another incident."""
    story = Story()
    story.says(1, alert())
    story.says(100, alert(firing=False, end=50))
    story.lists(101, Listing((alert(start=60),)), asked_at=99.0)
    assert story.fires


def test_a_list_that_was_asked_for_before_the_beginning_says_nothing_about_it() -> None:
    """An alert heard by webhook after the question is not missing from the answer."""
    story = Story()
    for look in range(LOOKS + 2):
        at = 60 + LISTED_EVERY_S * look
        story.says(at, alert(start=at))
        story.lists(at + 0.1, EMPTY, asked_at=at - 0.1)
    assert story.fires


def test_grafanas_alerts_are_not_looked_for_in_alertmanagers_list() -> None:
    """They are not there, and have not ended for that."""
    story = Story()
    story.says(1, alert(origin=Origin.GRAFANA))
    for look in range(LOOKS + 2):
        story.lists(60 + LISTED_EVERY_S * look, EMPTY)
    assert story.fires


def test_a_silenced_alert_that_fires_goes_on_firing() -> None:
    """For however long, and beyond the time after which an unheard alert expires."""
    story = Story()
    story.says(1, alert())
    looks = int(2 * EXPIRY_S / LISTED_EVERY_S)
    for look in range(looks):
        story.lists(60 + LISTED_EVERY_S * look, SILENCED)
        assert story.fires, look


def test_a_silenced_alert_does_not_begin() -> None:
    """What is known as suppressed only is no signal, and one that has ended stays ended."""
    story = Story()
    story.lists(1, SILENCED)
    assert not story.fires
    story.says(2, alert(firing=False, end=1))
    story.lists(10 + LATE_COPY_S, SILENCED)
    assert not story.fires


def test_a_silence_that_ends_makes_a_true_alert_fire() -> None:
    """Also where Mayday had not known of it before."""
    story = Story()
    story.lists(60, SILENCED)
    story.lists(120, LISTED)
    assert story.fires


def test_a_silenced_alert_that_vanishes_has_ended() -> None:
    """Alertmanager sends no end of what is silenced; the list tells."""
    story = Story()
    story.says(1, alert())
    story.lists(60, SILENCED)
    for look in range(LOOKS + 1):
        assert story.fires
        story.lists(120 + LISTED_EVERY_S * look, EMPTY)
    assert not story.fires


# --- bounds and memory ------------------------------------------------------------------------------------------------


def test_the_book_is_bounded() -> None:
    """Ended incidents make room; when all fire, the next is refused and nothing is lost."""
    book: Mapping[str, Incident] = {}
    for number in range(BOOK_LIMIT):
        book, _ = alerts.hear(book, alert(fingerprint=str(number)), moment(0), EXPIRY_S)
    full, result = alerts.hear(book, alert(fingerprint="one too many"), moment(0), EXPIRY_S)
    assert (full, result) == (book, Heard.REJECTED)
    book, _ = alerts.hear(book, alert(fingerprint="7", firing=False), moment(0), EXPIRY_S)
    book, result = alerts.hear(book, alert(fingerprint="now it fits"), moment(0), EXPIRY_S)
    assert (len(book), result) == (BOOK_LIMIT, Heard.FIRING)


def kept(book: Mapping[str, Incident], policy: Policy, *, without: str | None = None) -> Mapping[str, Incident]:
    document = written(Memory(initial_state(policy, moment(10)), book), policy, moment(10), "boot")
    for item in document["alerts"]:
        item.pop(without, None)
    return read(document, policy, moment(20), "boot").alerts


def test_a_late_copy_is_late_over_a_restart_of_mayday(policy: Policy) -> None:
    """What tells late copies from new incidents is remembered."""
    book, _ = alerts.hear({}, alert(firing=False, start=0, end=8), moment(9), EXPIRY_S)
    again, heard = alerts.hear(kept(book, policy), alert(start=7), moment(21), EXPIRY_S)
    assert (heard, again["f"].alert.firing) == (X, False)
    _, heard = alerts.hear(kept(book, policy), alert(start=9), moment(21), EXPIRY_S)
    assert heard is F


def test_what_an_earlier_version_remembered_is_read(policy: Policy) -> None:
    """Its incidents had one start each, and nothing besides."""
    book, _ = alerts.hear({}, alert(start=3), moment(9), EXPIRY_S)
    found = kept(book, policy, without="reach")
    assert found["f"].reach == moment(3).wall
    _, heard = alerts.hear(found, alert(firing=False, start=3), moment(21), EXPIRY_S)
    assert heard is R
