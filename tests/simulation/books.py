"""Invariants 7 and 8: what survives a restart, and that counters, history, logs and pages tell the same."""

from __future__ import annotations

import json
import logging
import re
import sqlite3
from collections import Counter
from contextlib import closing
from datetime import datetime
from typing import TYPE_CHECKING, Any

from prometheus_client import generate_latest

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from exporter.app import App
    from tests.simulation.network import Door
    from tests.simulation.oracle import Oracle
    from tests.simulation.watch import Life

PHASE_LINE = re.compile(r"VPN '(.+)': \w+ -> (\w+) \((\w+): ")
COUNTER_LINE = re.compile(r"(\w+_total)\{(.*)\} (\S+)")
SHOWN = {
    "mayday_vpn_transitions_total": ("vpn", "phase", "reason"),
    "mayday_emergency_mode_entries_total": ("vpn", "reason"),
    "mayday_engines_removed_total": ("vpn", "reason", "result"),
    "mayday_engines_provisioned_total": ("vpn", "reason", "result"),
}
ACTIONS = (("mayday_engines_removed_total", "remove"), ("mayday_engines_provisioned_total", "provision"))
ACTION_LINE = re.compile(
    r"(remove|provision) engine '.*?' on VPN '(.+?)' \((\w+)\): (\w+)(?:: .*?)?(?: \((\d+) times since [^)]*\))?",
    re.DOTALL,
)
REPEATED = {"error", "undone"}
"""Results that may come again and again without end."""
ENTERING, EXITING, OUTAGE, OVER = "⚠️  ENTERING", "✅ EXITING", "OUTAGE: all", "OUTAGE OVER"


class Ear(logging.Handler):
    """Counts the log lines that tell of transitions and actions."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.heard: Counter[tuple[str, ...]] = Counter()

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        match = PHASE_LINE.match(text)
        if match:
            self.heard["phase", *match.groups()] += 1
        for beginning in (ENTERING, EXITING, OUTAGE, OVER):
            if text.startswith(beginning):
                self.heard["mode", beginning] += 1
        match = ACTION_LINE.fullmatch(text)
        if match:
            self.heard["action", *match.groups(default="1")] += 1
        if record.levelno >= logging.ERROR and "unexpected" in text:
            self.heard["unexpected", text] += 1


def counters(app: App) -> dict[str, Counter[tuple[str, ...]]]:
    """The counters that Mayday shows, by name and by the values of their labels, without those that are 0."""
    found: dict[str, Counter[tuple[str, ...]]] = {name: Counter() for name in SHOWN}
    for line in generate_latest(app.metrics.registry).decode().splitlines():
        match = COUNTER_LINE.fullmatch(line)
        if match and match[1] in SHOWN and float(match[3]):
            labels = dict(re.findall(r'(\w+)="([^"]*)"', match[2]))
            found[match[1]][tuple(labels[name] for name in SHOWN[match[1]])] = int(float(match[3]))
    return found


def check_books(oracle: Oracle, life: Life, heard: Counter[tuple[str, ...]]) -> None:
    """One reason, one log block and one counter step for each transition that was shown; the same for each action."""
    shown_now = counters(life.app)
    counted = shown_now["mayday_vpn_transitions_total"]
    logged = Counter({key[1:]: n for key, n in heard.items() if key[0] == "phase"})
    oracle.require(counted == life.changes, f"counted {counted}, shown {life.changes} (invariant 8)")
    oracle.require(logged == life.changes, f"logged {logged}, shown {life.changes} (invariant 8)")
    entries = shown_now["mayday_emergency_mode_entries_total"]
    oracle.require(entries == life.entries, f"entries counted {entries}, shown {life.entries} (invariant 8)")
    blocks = {
        ENTERING: sum(n for key, n in life.modes.items() if key.endswith("-> emergency")),
        EXITING: life.modes["emergency -> normal"],
        OUTAGE: sum(n for key, n in life.modes.items() if key.endswith("-> outage")),
        OVER: life.modes["outage -> normal"],
    }
    for beginning, shown in blocks.items():
        told = heard["mode", beginning]
        oracle.require(
            told == shown, f"{told} log blocks {beginning!r}, {shown} such changes {life.modes} (invariant 8)"
        )
    for metric, word in ACTIONS:
        lines = [(key[2:5], int(key[5]), n) for key, n in heard.items() if key[:2] == ("action", word)]
        _check_actions(oracle, metric, shown_now[metric], lines, "logged")
    unexpected = [key for key in heard if key[0] == "unexpected"]
    oracle.require(not unexpected, f"logged {unexpected}")


def _check_actions(
    oracle: Oracle,
    metric: str,
    counted: Counter[tuple[str, ...]],
    told: Iterable[tuple[tuple[str, ...], int, int]],
    where: str,
) -> None:
    """Each step of a counter was told.

    What fails again and again the same way is told the 1st, 2nd, 4th, 8th … time, with that number: of these, no more
    steps are untold than were told. `told` has the labels, the number, and how often it was told with it.
    """
    least, most = Counter[tuple[str, ...]](), Counter[tuple[str, ...]]()
    for labels, number, times in told:
        least[labels] += max(1, number // 2) * times
        most[labels] += (number if labels[2] in REPEATED else 1) * times
    for labels in {*counted, *least}:
        steps, low, high = counted[labels], least[labels], most[labels]
        oracle.require(
            low <= steps <= high, f"{steps} counted as {metric} {labels}, {low} to {high} {where} (invariant 8)"
        )


def check_history(oracle: Oracle, life: Life, path: Path) -> None:
    """The history holds one record for each of them."""
    rows = _rows(path)
    last_start = max(number for number, kind, _vpn, reason, _d in rows if (kind, reason) == ("life", "started"))
    own = [row for row in rows if row[0] > last_start]
    phases = Counter((vpn, details["after"], reason) for _n, kind, vpn, reason, details in own if kind == "phase")
    oracle.require(phases == life.changes, f"history {phases}, shown {life.changes} (invariant 8)")
    modes = Counter(f"{d['before']} -> {d['after']}" for _n, kind, _v, _r, d in own if kind == "mode")
    oracle.require(modes == life.modes, f"history {modes}, shown {life.modes} (invariant 8)")
    shown_now = counters(life.app)
    for metric, word in ACTIONS:
        told = [
            ((vpn, reason, str(d["result"])), int(d.get("count", 1)), 1)
            for _n, kind, vpn, reason, d in own
            if kind == "action" and d["action"] == word
        ]
        _check_actions(oracle, metric, shown_now[metric], told, "in the history")


def _rows(path: Path) -> list[tuple[int, str, str, str, dict[str, Any]]]:
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute("SELECT id, kind, vpn, reason, details FROM history ORDER BY id").fetchall()
    return [(number, kind, vpn, reason, json.loads(details)) for number, kind, vpn, reason, details in found]


def document(path: Path) -> dict[str, Any] | None:
    """What the journal remembers on disk, read without the program."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            found = connection.execute("SELECT document FROM memory").fetchone()
    except sqlite3.Error:
        return None
    return json.loads(found[0]) if found else None


def check_restored(oracle: Oracle, app: App, remembered: dict[str, Any] | None) -> None:
    """Invariant 7: phases, the time of entry and what is left of a stabilization are as they were written down."""
    state, clock = app.controller.snapshot.state, app.clock
    if remembered is None:
        phases = {str(vpn.phase) for vpn in state.vpns.values()}
        oracle.require(phases == {"unknown"}, f"nothing is remembered, and the phases are {phases}")
        oracle.healthy_from.clear()
        return
    written = remembered["written"]
    if written["boot"] == clock.boot:
        away_s = clock.mono() - written["mono"]
    else:
        away_s = max(0.0, (clock.wall() - datetime.fromisoformat(written["wall"])).total_seconds())
    for name, vpn in state.vpns.items():
        was = remembered["vpns"][name]
        oracle.require(str(vpn.phase) == was["phase"], f"{name} was {was['phase']}, and is {vpn.phase} (invariant 7)")
        if was["phase"] == "stabilizing":
            left = min(was["deadline"] - away_s, oracle.settings.policy.stabilization_s)
            shown = (vpn.deadline or 0.0) - clock.mono()
            oracle.require(abs(left - shown) < 1e-3, f"{name} has {shown} s of stabilization, not {left} (invariant 7)")
            oracle.healthy_from[name] = oracle.clock.age() + left
        else:
            oracle.healthy_from.pop(name, None)
    entered = (remembered["emergency"] or {"entered": {"wall": None}})["entered"]["wall"]
    emergency = state.emergency
    shown_wall = emergency.entered.wall.isoformat() if emergency else None
    oracle.require(entered == shown_wall, f"entered at {entered}, shown after the start {shown_wall} (invariant 7)")


def check_same(oracle: Oracle, before: Life, after: App) -> None:
    """Invariant 7, where nothing was lost between the two: what was last shown is what is shown again."""
    assert before.shown is not None
    old, new = before.shown.state, after.controller.snapshot.state
    known = {name: vpn for name, vpn in old.vpns.items() if str(vpn.phase) != "unknown"}
    if not known:
        return  # It had learnt nothing, and on a disk that was away all its life there is more than it knew.
    for name, vpn in known.items():
        same = (vpn.phase, vpn.reason, vpn.since.wall) == (
            new.vpns[name].phase,
            new.vpns[name].reason,
            new.vpns[name].since.wall,
        )
        oracle.require(same, f"{name} was {vpn}, and is {new.vpns[name]} after the start (invariant 7)")
    was, now = (state.emergency.entered.wall if state.emergency else None for state in (old, new))
    oracle.require(was == now, f"the emergency was entered at {was}, after the start at {now} (invariant 7)")


async def check_pages(oracle: Oracle, door: Door, app: App) -> None:
    """`/metrics`, `/vpn/status` and `/history` never disagree."""
    _, status = await door.call("GET", "/vpn/status")
    _, text = await door.call("GET", "/metrics")
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))

    def same(metric: str, shown: float, claim: str) -> None:
        oracle.require(abs(float(values[metric]) - shown) < 0.2, f"{claim}: {metric} {values[metric]}, {shown}")

    emergency = status["emergency_mode"]
    same("mayday_emergency_mode_active", emergency["active"], "the pages disagree (invariant 8)")
    entered = datetime.fromisoformat(emergency["entered_at"]).timestamp() if emergency["entered_at"] else 0.0
    same("mayday_emergency_mode_entered_timestamp_seconds", entered, "the pages disagree (invariant 8)")
    same(f'mayday_mode{{mode="{status["status"]}"}}', 1, "the pages disagree (invariant 8)")
    for index, name in enumerate(app.settings.policy.vpns, start=1):
        vpn = status[f"vpn{index}"]
        same(f'mayday_vpn_phase{{phase="{vpn["phase"]}",vpn="{name}"}}', 1, "the pages disagree (invariant 8)")
        left = vpn["stabilization_remaining_seconds"]
        same(f'mayday_vpn_stabilization_remaining_seconds{{vpn="{name}"}}', left, "the pages disagree (invariant 8)")
        counted = sum(float(v) for k, v in values.items() if k.startswith("mayday_engines{") and f'vpn="{name}"' in k)
        oracle.require(counted == vpn["engines"], f"{name}: {counted} engines counted, {vpn['engines']} shown")
    _, page = await door.call("GET", "/history?kind=phase&limit=1000")
    newest = {record["vpn"]: record["details"]["after"] for record in reversed(page["records"])}
    for index, name in enumerate(app.settings.policy.vpns, start=1):
        told, phase = newest.get(name), status[f"vpn{index}"]["phase"]
        agree = told == phase or (told is None and phase == "unknown")
        lost = oracle.tally["journal: last writes lost at a kill"] or oracle.tally["journal: the disk goes away"]
        oracle.require(agree or bool(lost), f"{name} is {phase}, the history says {told} (invariant 8)")
