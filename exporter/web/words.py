"""The status page's sentences about the fleet: plain text, not yet escaped for HTML."""

from __future__ import annotations

from itertools import groupby, islice
from typing import TYPE_CHECKING

from exporter.core.evacuation import Evacuation
from exporter.core.model import EngineState, Mode, Phase, Verdict
from exporter.core.policy import Capacity
from exporter.journal.history import Kind
from exporter.settings.settings import Control

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime

    from exporter.core.snapshot import Snapshot
    from exporter.journal.history import Record
    from exporter.settings.settings import Settings


CAPACITIES = {
    Capacity.REDUCED: "Reduced capacity is accepted: no engine is added automatically until the emergency is over.",
    Capacity.SHARE: "The VPNs that are left are kept at their own share.",
    Capacity.FULL: "The VPNs that are left also take over the failed VPN's share.",
}


WAITS = {
    Evacuation.DELAY: "the failure has not lasted long enough yet",
    Evacuation.DOUBT: "no source says any more that the VPN is unhealthy",
    Evacuation.NO_CARRIER: "no other VPN that is healthy has an engine that works",
}


def duration(seconds: float) -> str:
    """A duration in words, in the units that matter at its length."""
    whole = max(0, round(seconds))
    if whole < 120:
        return f"{whole} s"
    if whole < 7200:
        return f"{whole // 60} min"
    if whole < 48 * 3600:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} days"


def listed(names: Sequence[str]) -> str:
    """Names as a sentence lists them: `a, b and c`."""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]])) if names else "none"


def headline(snapshot: Snapshot, mono: float) -> tuple[str, str, str]:
    """The state: its kind (a CSS class), its word, and a sentence that names the VPNs."""
    state = snapshot.state
    if not snapshot.ready:
        if snapshot.closing:
            return "unready", "Stopping", "Mayday starts no new work. Stopping it touches no container."
        return (
            "unready",
            "Blind",
            "Docker does not answer, or has not been read yet. Mayday decides nothing until it has been read.",
        )
    failed, stabilizing = state.having(Phase.FAILED), state.having(Phase.STABILIZING)
    if state.mode is Mode.EMERGENCY:
        lasted = duration(snapshot.emergency_duration_s(mono))
        carrying = state.carrying
        carry = "carries on" if len(carrying) == 1 else "carry on"
        return (
            "emergency",
            "Emergency",
            f"{listed(failed)} failed; {listed(carrying)} {carry}. It has lasted for {lasted}.",
        )
    if state.mode is Mode.OUTAGE:
        subject = f"{failed[0]} has failed" if len(failed) == 1 else f"All VPNs have failed: {listed(failed)}"
        return "outage", "Outage", f"{subject}. No engine can be reached until one recovers."
    if stabilizing:
        verb = "is back and stabilizes" if len(stabilizing) == 1 else "are back and stabilize"
        return "recovering", "Recovering", f"{listed(stabilizing)} {verb}."
    if unknown := state.having(Phase.UNKNOWN):
        return "unready", "Waiting", f"The health of {listed(unknown)} is not known yet."
    if state.doubtful:
        doubtful = [vpn for vpn in state.vpns if vpn in state.doubtful]
        return "unready", "In doubt", f"Whether {listed(doubtful)} works is in doubt; nothing is removed for that."
    return "normal", "Normal", "Every VPN is healthy."


def drills(snapshot: Snapshot, mono: float) -> Iterator[str]:
    """The drills that go on, one sentence each."""
    for vpn in snapshot.state.vpns:
        left_s = snapshot.drill_remaining_s(vpn, mono)
        if left_s is not None:
            real = "" if snapshot.only_drilled(vpn) else " Besides, it has really failed."
            yield f"Drill: {vpn} is declared failed for another {duration(left_s)}, to try what happens then.{real}"


def folded(records: Iterable[Record]) -> Iterator[tuple[datetime, str]]:
    """Records as times and lines; the same action on several engines in a row is one line."""

    def alike(record: Record) -> object:
        if record.kind is not Kind.ACTION:
            return object()  # like nothing else
        return record.vpn, record.reason, record.details.get("action"), record.details.get("result")

    for _, group in groupby(records, alike):
        same = list(group)
        first = same[0]
        if len(same) == 1:
            yield first.at, first.message
        else:
            action, result = first.details.get("action"), first.details.get("result")
            yield first.at, f"{action} {len(same)} engines on VPN '{first.vpn}' ({first.reason}): {result}"


def told(records: Sequence[Record], most: int) -> list[tuple[datetime, str]]:
    """The newest lines, at most so many: the newest change of the mode always, and of refusals the newest alone."""
    refusal = next((record for record in records if record.kind is Kind.REFUSAL), None)
    lines = list(islice(folded(r for r in records if r.kind is not Kind.REFUSAL or r is refusal), most))
    mode = next((record for record in records if record.kind is Kind.MODE), None)
    if mode is not None and (mode.at, mode.message) not in lines:
        lines[most - 1 :] = [(mode.at, mode.message)]
    return lines


def doing(snapshot: Snapshot, settings: Settings, mono: float) -> Iterator[str]:
    """What Mayday is doing or waiting for at the moment, one sentence each."""
    if settings.control is not Control.ON:
        yield f"CONTROL is {settings.control}: Mayday touches no container, whatever this page says."
    if not snapshot.ready:
        return
    state = snapshot.state
    if state.mode is Mode.OUTAGE:
        yield "Engines stay where they are: nothing is removed and nothing is created until a VPN recovers."
        return
    if state.mode is Mode.EMERGENCY:
        for vpn in state.having(Phase.FAILED):
            yield _evacuation(snapshot, vpn)
        yield CAPACITIES[settings.policy.capacity]
    for vpn in state.having(Phase.STABILIZING):
        left_s = state.vpns[vpn].stabilization_remaining_s(mono)
        yield f"{vpn} may be given engines in {duration(left_s)}, if it stays healthy."
    for vpn in state.having(Phase.HEALTHY):
        if snapshot.judgements[vpn].verdict is Verdict.SUSPECT:
            yield f"{vpn} is suspect: its engines are out of service until that is over, and stay where they are."
        working, desired = snapshot.counts.get((vpn, EngineState.WORKING), 0), snapshot.desired.get(vpn, 0)
        if working < desired and state.mode is Mode.NORMAL:
            yield f"{vpn} is being filled: {working} of {desired} engines work."


def _evacuation(snapshot: Snapshot, vpn: str) -> str:
    engines = snapshot.fleet.on(vpn)
    own = sum(engine.own for engine in engines)
    if vpn in snapshot.deferred:
        return f"{len(engines)} engines of {vpn} are out of service; evacuation waits: {WAITS[snapshot.deferred[vpn]]}."
    if own:
        return f"{own} engines of {vpn} are being removed."
    return f"{len(engines)} engines of others are left on {vpn}." if engines else f"No engine is left on {vpn}."
