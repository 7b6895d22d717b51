"""Phases of the VPNs and the mode of the fleet: how they follow from verdicts and time.

The mode is a function of the phases and is never stored beside them; stored is only what a phase cannot tell: when an
emergency was entered and why.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

from exporter.core.model import ContainerHealth, ContainerState, Mode, Moment, Phase, Reason, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exporter.core.model import Fleet
    from exporter.core.policy import Policy
    from exporter.core.verdict import Judgement

CARRYING = frozenset({Phase.HEALTHY, Phase.STABILIZING})
"""Phases in which a VPN's engines work."""
DOUBTS = frozenset({Verdict.UNKNOWN, Verdict.SUSPECT})
"""Verdicts that leave the phase as it is, and take the engines out of service."""


@dataclass(frozen=True, slots=True)
class VpnState:
    """One VPN's phase, since when and why; `deadline` (monotonic seconds) is set while it stabilizes."""

    phase: Phase
    since: Moment
    reason: Reason | None = None
    detail: str = ""
    deadline: float | None = None

    def stabilization_remaining_s(self, mono: float) -> float:
        """Seconds of stabilization left, 0 when it does not stabilize."""
        return 0.0 if self.deadline is None else max(0.0, self.deadline - mono)


@dataclass(frozen=True, slots=True)
class Emergency:
    """What is remembered of the present emergency."""

    entered: Moment
    vpn: str
    """The VPN whose failure caused it."""
    reason: Reason
    relief: str | None = None
    """The VPN that is filled to its share because the failed ones had all working engines."""


@dataclass(frozen=True)
class FleetState:
    """The state of everything that is decided; replaced whole, never changed."""

    vpns: Mapping[str, VpnState]
    redundant: bool = True
    emergency: Emergency | None = None
    doubtful: frozenset[str] = field(default=frozenset(), compare=False)
    """VPNs whose verdict is neither healthy nor unhealthy: nothing new is given to them, and they are no carriers."""
    starting_until: Mapping[str, float] = field(default_factory=dict, compare=False)
    """VPNs that have not been healthy since Mayday or Docker came up: until when they may be about to start, monotonic
    seconds. Containers of one host come up one after the other."""

    def having(self, *phases: Phase) -> tuple[str, ...]:
        """Names of the VPNs in any of these phases, in configured order."""
        return tuple(name for name, vpn in self.vpns.items() if vpn.phase in phases)

    @property
    def carrying(self) -> tuple[str, ...]:
        """Names of the VPNs that may carry engines: neither failed nor unknown."""
        return self.having(*CARRYING)

    @property
    def relief(self) -> str | None:
        """The VPN that an emergency fills although the policy adds nothing, None when there is none."""
        return self.emergency.relief if self.emergency else None

    @cached_property
    def mode(self) -> Mode:
        """The mode that these phases make."""
        failed = self.having(Phase.FAILED)
        if not failed:
            return Mode.NORMAL
        if len(failed) == len(self.vpns):
            return Mode.OUTAGE
        return Mode.EMERGENCY if self.redundant and self.carrying else Mode.NORMAL


@dataclass(frozen=True, slots=True)
class PhaseChange:
    """A VPN went from one phase to another."""

    vpn: str
    before: Phase
    after: Phase
    reason: Reason
    detail: str
    at: Moment


@dataclass(frozen=True, slots=True)
class ModeChange:
    """The fleet went from one mode to another."""

    before: Mode
    after: Mode
    vpn: str
    """The VPN whose change caused it."""
    reason: Reason
    failed: tuple[str, ...]
    carrying: tuple[str, ...]
    lasted_s: float
    """How long the emergency that ends with it lasted, 0 when none ends."""
    at: Moment


def initial_state(policy: Policy, now: Moment) -> FleetState:
    """Everything unknown."""
    return FleetState({name: VpnState(Phase.UNKNOWN, now) for name in policy.vpns}, redundant=policy.redundant)


def may_declare(state: FleetState, failed: str, carrying: str) -> bool:
    """Whether one VPN may be declared failed while another carries on."""
    return (
        state.redundant
        and failed != carrying
        and failed in state.having(Phase.HEALTHY, Phase.STABILIZING, Phase.UNKNOWN)
        and carrying in state.carrying
    )


def came_up(state: FleetState, fleet: Fleet, policy: Policy, now: Moment, *, booted: bool) -> FleetState:
    """The state after Docker has come up; `booted`: nothing is known of before, but by memories of another boot.

    VPNs that do not run yet, or are `starting`, may be about to start. Those that had failed before are known to have.
    """
    starting = {
        name: now.mono + policy.start_timeout_s
        for name, vpn in fleet.vpns.items()
        if (booted or state.vpns[name].phase is not Phase.FAILED)
        and (vpn is None or vpn.state is not ContainerState.RUNNING or vpn.health is ContainerHealth.STARTING)
    }
    return replace(state, starting_until={**state.starting_until, **starting})


def next_phase(vpn: VpnState, judgement: Judgement, policy: Policy, now: Moment) -> VpnState:
    """One VPN's state under a verdict; the same object when nothing changes."""
    deciding = judgement.deciding
    if judgement.verdict in DOUBTS or deciding is None:
        return vpn
    if judgement.verdict is Verdict.UNHEALTHY:
        if vpn.phase is Phase.FAILED:
            return vpn
        return VpnState(Phase.FAILED, now, deciding.reason, deciding.detail)
    if vpn.phase is Phase.UNKNOWN:
        return VpnState(Phase.HEALTHY, now, deciding.reason, deciding.detail)
    if vpn.phase is Phase.FAILED:
        deadline = now.mono + policy.stabilization_s
        return VpnState(Phase.STABILIZING, now, deciding.reason, deciding.detail, deadline)
    if vpn.phase is Phase.STABILIZING and vpn.stabilization_remaining_s(now.mono) <= 0:
        return VpnState(Phase.HEALTHY, now, Reason.STABILIZED, f"stable for {now.mono - vpn.since.mono:.0f} s")
    return vpn


def step(
    state: FleetState, judgements: Mapping[str, Judgement], policy: Policy, now: Moment
) -> tuple[FleetState, tuple[PhaseChange | ModeChange, ...]]:
    """The state after one look at all verdicts, and what changed: phases first, then the mode."""
    vpns = {name: next_phase(vpn, judgements[name], policy, now) for name, vpn in state.vpns.items()}
    changes = tuple(
        PhaseChange(name, state.vpns[name].phase, vpn.phase, vpn.reason, vpn.detail, now)
        for name, vpn in vpns.items()
        if vpn is not state.vpns[name] and vpn.reason is not None
    )
    doubtful = frozenset(name for name in vpns if judgements[name].verdict in DOUBTS)
    starting = {
        name: until
        for name, until in state.starting_until.items()
        if until > now.mono and judgements[name].verdict is not Verdict.HEALTHY
    }
    if (doubtful, starting) != (state.doubtful, state.starting_until):
        state = replace(state, doubtful=doubtful, starting_until=starting)
    if not changes:
        return state, ()
    after = replace(state, vpns=vpns)
    change = _mode_change(state, after, changes, now)
    if change is None:
        return after, changes
    emergency = Emergency(now, change.vpn, change.reason) if change.after is Mode.EMERGENCY else None
    return replace(after, emergency=emergency), (*changes, change)


def _mode_change(
    before: FleetState, after: FleetState, changes: tuple[PhaseChange, ...], now: Moment
) -> ModeChange | None:
    if before.mode is after.mode:
        return None
    failed = after.having(Phase.FAILED)
    wanted = {Phase.FAILED} if after.mode is not Mode.NORMAL else CARRYING
    cause = next((change for change in changes if change.after in wanted), changes[-1])
    if after.mode is Mode.EMERGENCY and cause.vpn not in failed:
        # An outage became an emergency because one VPN came back: what makes it one is the VPN still failed.
        vpn, reason = failed[0], after.vpns[failed[0]].reason or cause.reason
    else:
        vpn, reason = cause.vpn, cause.reason
    lasted_s = now.mono - before.emergency.entered.mono if before.emergency else 0.0
    return ModeChange(before.mode, after.mode, vpn, reason, failed, after.carrying, lasted_s, now)
