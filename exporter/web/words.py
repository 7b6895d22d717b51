"""What the page says of the fleet, in words: plain text, to be escaped by whoever shows it."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from exporter.core.model import Capacity, EngineState, Mode, Phase
from exporter.journal.history import Kind
from exporter.settings.settings import Control

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime

    from exporter.core.snapshot import Snapshot
    from exporter.journal.history import Record
    from exporter.settings.settings import Settings


CAPACITIES = {
    Capacity.REDUCED: "Reduced capacity is accepted: nothing is added automatically until it is over.",
    Capacity.SHARE: "The other VPNs are kept at their own share.",
    Capacity.FULL: "The other VPNs are filled for the failed one as well.",
}


def duration(seconds: float) -> str:
    """So long, in the two units that matter."""
    whole = max(0, round(seconds))
    if whole < 120:
        return f"{whole} s"
    if whole < 7200:
        return f"{whole // 60} min"
    if whole < 48 * 3600:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} days"


def listed(names: Sequence[str]) -> str:
    """Names as a sentence has them."""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]])) if names else "none"


def headline(snapshot: Snapshot, mono: float) -> tuple[str, str, str]:
    """The state: its kind, its word, and a sentence that tells which VPN."""
    state = snapshot.state
    if not snapshot.ready:
        if snapshot.closing:
            return "unready", "Stopping", "Nothing new is begun. Stopping touches no container."
        return "unready", "Blind", "Docker gives no answer, or was not read yet. Nothing is decided until it is."
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
        return "unready", "Waiting", f"Nothing is known yet of {listed(unknown)}."
    return "normal", "Normal", "Every VPN is healthy."


def folded(records: Iterable[Record]) -> Iterator[tuple[datetime, str]]:
    """Records as lines, with their times: what was done to several engines in a row is one line."""

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


def doing(snapshot: Snapshot, settings: Settings, mono: float) -> Iterator[str]:
    """What Mayday does at the moment, or waits for; one sentence each."""
    if settings.control is not Control.ON:
        yield f"CONTROL is {settings.control}: containers are not touched, whatever is said here."
    if not snapshot.ready:
        return
    state = snapshot.state
    if state.mode is Mode.OUTAGE:
        yield "Engines are left where they are; nothing is removed and nothing is created."
        return
    if state.mode is Mode.EMERGENCY:
        for vpn in state.having(Phase.FAILED):
            left = sum(1 for _ in snapshot.fleet.on(vpn))
            yield f"{left} engines of {vpn} are being removed." if left else f"No engine is left on {vpn}."
        yield CAPACITIES[settings.policy.capacity]
    for vpn in state.having(Phase.STABILIZING):
        left_s = state.vpns[vpn].stabilization_remaining_s(mono)
        yield f"{vpn} may be given engines in {duration(left_s)}, if it stays healthy."
    for vpn in state.having(Phase.HEALTHY):
        working, desired = snapshot.counts.get((vpn, EngineState.WORKING), 0), snapshot.desired.get(vpn, 0)
        if working < desired and state.mode is Mode.NORMAL:
            yield f"{vpn} is filled: {working} of {desired} engines work."
