"""One decision: from the signals and one fleet value to the next state, and to the work that follows from it.

Verdicts, phases, relief and work are all made from the same frozen fleet, so that they agree with each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from exporter.core import evacuation, plan
from exporter.core.model import Phase, Reason, Verdict
from exporter.core.parking import to_park
from exporter.core.phases import ModeChange, step
from exporter.core.verdict import combine

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from exporter.core.model import Fleet, Moment, Signal
    from exporter.core.phases import FleetState, PhaseChange
    from exporter.core.policy import Policy
    from exporter.core.verdict import Judgement


@dataclass(frozen=True, slots=True)
class Decision:
    """What follows from one look at everything."""

    judgements: Mapping[str, Judgement]
    state: FleetState
    changes: tuple[PhaseChange | ModeChange, ...]
    """Phases first, then the mode."""
    cleanup: tuple[str, ...]
    """VPNs on which engines are to be removed now."""
    park: tuple[str, ...]
    """VPNs on which dependents owned by others are to be stopped now."""
    deferred: Mapping[str, evacuation.Evacuation]
    """VPNs whose evacuation waits, and why."""
    repair: bool
    """Whether there are orphans to repair."""
    provision: bool
    """Whether automatic provisioning has to look at the fleet at once."""
    look_again_at: float | None
    """When time alone changes the decision, monotonic seconds."""


def judge(vpns: Iterable[str], signals: Iterable[Signal], now: Moment) -> dict[str, Judgement]:
    """The verdict on every VPN."""
    by_vpn: dict[str, list[Signal]] = {vpn: [] for vpn in vpns}
    for signal in signals:
        by_vpn[signal.vpn].append(signal)
    return {vpn: combine(about, now) for vpn, about in by_vpn.items()}


def drills_to_end(vpns: Iterable[str], signals: Iterable[Signal], now: Moment) -> list[str]:
    """The drilled VPNs that are needed: no VPN without a drill is known to be healthy."""
    signals = list(signals)
    drilled = {signal.vpn for signal in signals if signal.reason is Reason.DRILL}
    judgements = judge(vpns, signals, now)
    if any(judgements[vpn].verdict is Verdict.HEALTHY for vpn in judgements.keys() - drilled):
        return []
    return [vpn for vpn in judgements if vpn in drilled]


def decide(
    before: FleetState,
    fleet: Fleet,
    signals: Iterable[Signal],
    policy: Policy,
    now: Moment,
    signals_change_at: float | None = None,
    taken_back: Collection[str] = (),
) -> Decision:
    """The decision at this moment; `signals_change_at` is when the signals change by time alone.

    `taken_back` are the dependents, by container id, that their owners started again after they had been parked.
    """
    judgements = judge(before.vpns, signals, now)
    state, changes = step(before, judgements, policy, now)
    state = plan.with_relief(state, fleet, policy)
    relief_new = state.relief not in {None, before.relief}
    # A stabilization of no time at all is over by now, and was not looked at yet.
    new = {change.vpn for change in changes}
    ends = [
        vpn.deadline
        for name, vpn in state.vpns.items()
        if vpn.deadline is not None and (vpn.deadline > now.mono or name in new)
    ]
    if signals_change_at is not None:
        ends.append(signals_change_at)
    evacuations = {
        vpn: evacuation.assess(state, fleet, policy, now.mono, vpn, taken_back) for vpn in state.having(Phase.FAILED)
    }
    safe = [vpn for vpn, e in evacuations.items() if e is evacuation.Evacuation.SAFE]
    ends += [evacuation.due_at(state, policy, vpn) for vpn, e in evacuations.items() if e in evacuation.TIMED]
    return Decision(
        judgements,
        state,
        changes,
        cleanup=tuple(
            vpn
            for vpn in state.vpns
            if (vpn in safe and evacuation.ghosts(fleet, vpn)) or evacuation.wrecks(state, fleet, vpn)
        ),
        park=tuple(vpn for vpn in safe if to_park(state, fleet, policy, vpn, taken_back)),
        deferred={vpn: e for vpn, e in evacuations.items() if e not in {None, evacuation.Evacuation.SAFE}},
        repair=bool(plan.orphans(state, fleet) or plan.superseded(state, fleet)),
        provision=relief_new or any(isinstance(c, ModeChange) or c.after is Phase.HEALTHY for c in changes),
        look_again_at=min(ends, default=None),
    )
