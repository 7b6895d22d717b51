"""The controller: the only writer of everything that is shared.

Facts, signals and the results of calls come in, the core decides, work is asked for, a snapshot is published to those
who subscribed. Every method here runs in the event loop and none waits, so each is one atomic step.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from exporter.condition import Condition
from exporter.core import evacuation, plan
from exporter.core.alerts import Heard
from exporter.core.decision import decide, judge
from exporter.core.model import Mode, Source
from exporter.core.phases import ModeChange, PhaseChange, came_up, initial_state
from exporter.core.snapshot import Snapshot
from exporter.core.verdict import Judgement
from exporter.declarations import Declarations
from exporter.earlier import EarlierSettings
from exporter.fleet.facts import Facts
from exporter.fleet.ledger import Ledger
from exporter.fleet.results import Inspected, StartedElsewhere
from exporter.journal.keeper import Keeper
from exporter.sources.alertmanager import AlertSource
from exporter.sources.docker import DockerSource
from exporter.sources.operator import OperatorSource
from exporter.telemetry.durations import Durations
from exporter.work import asked_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from exporter.clock import Clock
    from exporter.core.alerts import Alert, Listing
    from exporter.core.model import Container, Fleet, Moment, Signal
    from exporter.fleet.results import Result
    from exporter.journal.memory import Memories
    from exporter.runtime.base import ContainerEvent
    from exporter.settings.settings import Settings
    from exporter.sources.base import SignalSource
    from exporter.telemetry.recorder import Recorder
    from exporter.work import Work

log = logging.getLogger("mayday")


class Controller:
    """State, signals and facts of one fleet."""

    def __init__(self, settings: Settings, clock: Clock, recorder: Recorder, memories: Memories) -> None:
        self.settings = settings
        self.policy = policy = settings.policy
        self.recorder = recorder
        self.request: Callable[[Work, str | None, float], None] = lambda _work, _vpn, _in_s: None
        """Asks for work (on one VPN, or None) to begin in so many seconds; set by the scheduler's owner."""
        self.facts = Facts(policy.vpns, settings.label)
        """Read by all, changed here alone."""
        self.ledger = Ledger()
        """Read by all, changed here alone."""
        self.clock = clock
        self.docker = DockerSource(policy.vpns, policy.start_timeout_s)
        self.alerts = AlertSource(policy.vpns, settings.alert_expiry_s)
        self.operator = OperatorSource(policy.vpns)
        self.sources: tuple[SignalSource, ...] = (self.docker, self.alerts, self.operator)
        self._declarations = Declarations(self)
        self.state = initial_state(policy, clock.now())
        self.earlier = EarlierSettings(settings)
        self._keeper = Keeper(memories, (*self.sources, self.facts, self.ledger.parked, self.earlier), policy, clock)
        self._judgements: Mapping[str, Judgement] = dict.fromkeys(policy.vpns, Judgement())
        self._deferred: Mapping[str, evacuation.Evacuation] = {}
        self._emergency_s = 0.0
        self._condition = Condition(settings.control, alertmanager=bool(settings.alertmanager_url))
        self._durations = Durations(recorder.metrics, policy)
        self._subscribers: list[Callable[[Snapshot], None]] = []
        self.snapshot = self._picture(clock.now())

    # --- what others ask before they act -----------------------------------------------------------------------------

    @property
    def fleet(self) -> Fleet:
        """The fleet as last read."""
        return self.facts.fleet()

    @property
    def deciding(self) -> bool:
        """Whether anything may be decided: Docker is there, its facts are fresh, and Mayday is not about to end."""
        return self._condition.deciding

    @property
    def acting(self) -> bool:
        """Whether containers may be touched."""
        return self._condition.acting

    def subscribe(self, subscriber: Callable[[Snapshot], None]) -> None:
        """Have each snapshot from now on; the subscriber must not wait."""
        self._subscribers.append(subscriber)

    # --- what keeps Mayday from acting -------------------------------------------------------------------------------

    def hold(self, part: str, reason: str | None) -> None:
        """Touch no container and save nothing, and show why: another Mayday is at work; None: it is not any more."""
        if self._condition.hold(part, reason):
            self._save()
            self.publish()

    def trouble(self, part: str, problem: str | None) -> None:
        """Show what is wrong with a part of Mayday; None: nothing is any more."""
        self._condition.trouble(part, problem)
        self.publish()

    def close(self) -> None:
        """Begin nothing new from now on."""
        self._condition.closing = True
        self.publish()

    # --- facts -------------------------------------------------------------------------------------------------------

    def take_all(
        self,
        listing: Iterable[Container],
        asked_at: float,
        inspected: Iterable[tuple[str, Container | None, float]] = (),
        unreadable: Iterable[str] = (),
    ) -> set[str]:
        """Take a full reading, with VPNs that were inspected besides (name, container, when asked).

        Those of `unreadable` could not be. Docker is there. Returns the VPNs that are not as they were known.
        """
        inspected = list(inspected)
        now = self.clock.now()
        before = self.facts.vpn_shapes()
        self.facts.take_all(listing, asked_at, now)
        for name, container, inspected_at in inspected:
            self.facts.take_vpn(name, container, inspected_at, now)
        changed = {name for name, shape in self.facts.vpn_shapes().items() if shape != before[name]}
        self.docker.read(self.fleet.vpns, now, [name for name, _, _ in inspected], unreadable)
        booted = self._condition.read_at is None and not self._keeper.same_boot
        if self._condition.docker_read(asked_at, now):
            self.state = came_up(self.state, self.fleet, self.policy, now, booted=booted)
        self._condition.strayed(self.facts.strays)
        self.evaluate()
        return changed

    def take_vpn(self, name: str, container: Container | None, asked_at: float, event_at: float | None = None) -> None:
        """Take a reading of one VPN; `event_at` is Docker's time of the event that led to it, Unix seconds."""
        now = self.clock.now()
        self.facts.take_vpn(name, container, asked_at, now)
        self.docker.read({name: self.facts.vpn(name)}, now, [name])
        self.evaluate(event_at)

    def vpn_unreadable(self, name: str) -> None:
        """The inspection of one VPN failed: nothing is concluded but from what a list shows of it."""
        self.docker.read({}, self.clock.now(), (), [name])
        self.evaluate()

    def vpn_told_to_stop(self, name: str) -> None:
        """A VPN was sent a signal that ends it."""
        self.docker.told_to_stop(name, self.clock.now())
        self.evaluate()

    def take_event(self, event: ContainerEvent) -> bool:
        """Take an event about a container that is no VPN's; whether the engines have to be read again for it."""
        facts, now = self.facts, self.clock.mono()
        known = facts.container(event.id) is not None
        if not known and not facts.may_concern(event.labels):
            return False
        if event.action == "destroy":
            gone = Inspected(event.id, None, now)
            self.take(gone) if known else self.note(gone)
            return False
        if self.ledger.caused(event, now):
            return False
        if event.action in {"start", "restart"}:
            self.note(StartedElsewhere(event.id))
        return True

    def take(self, *results: Result) -> None:
        """Take results of readings and calls, and decide anew."""
        self.note(*results)
        self.evaluate()

    def note(self, *results: Result) -> None:
        """Take results that decide nothing."""
        now = self.clock.now()
        for result in results:
            result.apply(self.facts, self.ledger, now)

    def docker_lost(self, error: Exception) -> None:
        """Docker gave no answer: from now on nothing is known, decided or done until it is read whole again."""
        now = self.clock.now()
        self._condition.docker_lost(error, now.mono)
        others = (signal for signal in self.signals(now) if signal.source is not Source.DOCKER)
        self._judgements = judge(self.policy.vpns, others, now)
        self.state = replace(self.state, doubtful=frozenset(self.policy.vpns))
        self.publish()

    def stream_connected(self, *, connected: bool) -> None:
        """The event stream came or went."""
        self._condition.stream_connected(connected=connected)
        self.publish()

    # --- signals -----------------------------------------------------------------------------------------------------

    def hear_all(self, alerts: Iterable[Alert]) -> list[Heard]:
        """Take all alerts of one message, as one step: what became of each."""
        results = [(alert, self.alerts.hear(alert, self.clock.now())) for alert in alerts]
        for alert, heard in results:
            if heard in {Heard.FIRING, Heard.RESOLVED}:
                self.recorder.alert_changed(alert)
        if {heard for _, heard in results} - {Heard.REJECTED}:
            self._save()
        self.evaluate()
        return [heard for _, heard in results]

    def synchronise(self, listing: Listing | None, asked_at: float) -> None:
        """Take what Alertmanager's API lists; None: it gave no answer, which changes nothing."""
        self._condition.alertmanager_up = listing is not None
        for alert in self.alerts.synchronise(listing, asked_at, self.clock.now()):
            self.recorder.alert_changed(alert)
        if listing is not None:
            self._save()
        self.evaluate()

    def start_drill(self, vpn: str, duration_s: float, detail: str) -> None:
        """Declare a VPN failed for a limited time.

        Raises:
            BadRequestError: there is no such VPN.
            RefusedError: it is needed, as no other VPN is known to be healthy.
        """
        self._declarations.start_drill(vpn, duration_s, detail)
        self._save()
        self.evaluate()

    def end_drill(self, vpn: str) -> bool:
        """Take the declaration back; False: there was none."""
        ended = self._declarations.end_drill(vpn)
        if ended:
            self._save()
            self.evaluate()
        return ended

    def signals(self, now: Moment) -> list[Signal]:
        """What all sources say now."""
        return [signal for source in self.sources for signal in source.signals(now)]

    # --- the state interface -----------------------------------------------------------------------------------------

    def enter_emergency_mode(self, failed_vpn: str, healthy_vpn: str) -> bool:
        """Declare a VPN failed, as a drill does, while another carries on. False: nothing changed."""
        return self._declarations.enter(failed_vpn, healthy_vpn)

    def exit_emergency_mode(self) -> bool:
        """Take back all declarations, if that ends the emergency. False: nothing changed."""
        return self._declarations.exit()

    def is_emergency_mode(self) -> bool:
        """Whether the mode is emergency."""
        return self.state.mode is Mode.EMERGENCY

    def get_emergency_mode_info(self) -> dict[str, object]:
        """The emergency as `/vpn/status` shows it."""
        return self.snapshot.emergency_info(self.clock.mono())

    # --- deciding ----------------------------------------------------------------------------------------------------

    def evaluate(self, event_at: float | None = None) -> None:
        """Decide from the facts and signals as they are now. Nothing is decided without fresh facts."""
        if self.deciding:
            now, fleet, before = self.clock.now(), self.fleet, self.state
            changes_at = [at for source in self.sources if (at := source.next_change(now)) is not None]
            signals = self._declarations.end_needed(self.signals(now), now)
            taken_back = self.ledger.parked.taken_back
            decision = decide(before, fleet, signals, self.policy, now, min(changes_at, default=None), taken_back)
            self._judgements, self.state, self._deferred = decision.judgements, decision.state, decision.deferred
            for change in decision.changes:
                self._tell(change, fleet, event_at)
            if self.state is not before:
                self._save()
            due = self.ledger.look(self.state, self.facts, now.mono)
            for work, vpn, in_s in asked_for(decision, self.ledger.vpns_to_undo_on, due, now.mono):
                self.request(work, vpn, in_s)
            self._durations.look(self.state, fleet, now)
        self.publish()

    def _tell(self, change: PhaseChange | ModeChange, fleet: Fleet, event_at: float | None) -> None:
        if isinstance(change, ModeChange):
            if change.before is Mode.EMERGENCY:
                self._emergency_s += change.lasted_s
            engines = {vpn: len(group.engines) for vpn, group in fleet.groups.items()}
            self.recorder.mode_changed(change, engines, None if self.acting else self._condition.why_not)
            return
        signals = [f"{s.source}: {s.verdict} ({s.reason}: {s.detail})" for s in self._judgements[change.vpn].signals]
        self.recorder.phase_changed(change, {"signals": signals})
        self._durations.phase_changed(change, event_at)

    # --- memory and snapshot -----------------------------------------------------------------------------------------

    def restore(self, document: Mapping[str, object]) -> None:
        """Take over what an earlier run remembered; errors as `Keeper.restore`."""
        self.state, self._emergency_s = self._keeper.restore(document)
        self._save()
        self.publish()

    async def remember(self) -> None:
        """Save what has to outlive a restart, and wait until that is written."""
        self._save()
        await self._keeper.settle()

    def _save(self) -> None:
        if not self._condition.held:
            self._keeper.save(self.state, self._emergency_s)

    def publish(self) -> None:
        """Make the present picture the latest snapshot, and hand it to the subscribers."""
        self.snapshot = self._picture(self.clock.now())
        for subscriber in self._subscribers:
            try:
                subscriber(self.snapshot)
            except Exception:
                log.exception("a reader of snapshots failed; the decision stands")

    def _picture(self, now: Moment) -> Snapshot:
        fleet, condition = self.fleet, self._condition
        return Snapshot(
            at=now,
            state=self.state,
            fleet=fleet,
            judgements=self._judgements,
            deferred=self._deferred,
            forwarded=dict(self.facts.forwarded),
            desired=plan.desired(self.state, self.policy),
            counts=fleet.counts,
            docker_up=condition.docker_up,
            events_connected=condition.events_connected,
            read_at=condition.read_at,
            emergency_s=self._emergency_s,
            alertmanager_up=condition.alertmanager_up,
            journal_up=self._keeper.up,
            holds=condition.holds,
            closing=condition.closing,
            unreadable=self.facts.unreadable,
            problems=(*condition.problems, *self.facts.problems, *self.ledger.parked.problems),
        )
