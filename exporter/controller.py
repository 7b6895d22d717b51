"""The controller: the only writer of state.

Facts and signals come in, the core decides, work is asked for, a snapshot is published. Every method here runs in the
event loop and none waits, so each is one atomic step.
"""

from __future__ import annotations

import logging
from enum import StrEnum
from typing import TYPE_CHECKING

from exporter.core import plan
from exporter.core.alerts import Alert, Heard
from exporter.core.model import Mode, Phase, Reason, Verdict
from exporter.core.phases import CARRYING, ModeChange, PhaseChange, initial_state, step
from exporter.core.snapshot import Snapshot
from exporter.core.verdict import Judgement
from exporter.errors import BadRequestError
from exporter.fleet.echoes import Echoes
from exporter.fleet.facts import Facts
from exporter.fleet.leftovers import Leftovers
from exporter.journal.memory import Memory, from_document, to_document
from exporter.settings.settings import Control
from exporter.sources.book import SignalBook
from exporter.telemetry.durations import Stopwatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from exporter.clock import Clock
    from exporter.core.model import Container, Fleet, Moment
    from exporter.journal.memory import Memories
    from exporter.settings.settings import Settings
    from exporter.telemetry.recorder import Recorder

log = logging.getLogger("mayday")

DECLARED_S = 3600.0
"""How long `enter_emergency_mode` declares a VPN failed, seconds: a forgotten declaration ends by itself."""


class Work(StrEnum):
    """What the controller asks to be done; also the names of the jobs."""

    RESYNC = "resync"
    POLL = "poll"
    CLEANUP = "cleanup"
    PROVISION = "provision"
    REPAIR = "repair"
    ENGINE_HEALTH = "engine_health"
    STABILIZATION = "stabilization"
    ALERTS = "alerts"


class Controller:
    """State, signals and facts of one fleet."""

    def __init__(self, settings: Settings, clock: Clock, recorder: Recorder, memories: Memories) -> None:
        self.settings = settings
        self.policy = settings.policy
        self.recorder = recorder
        self.request: Callable[[Work, str | None, float], None] = lambda _work, _vpn, _in_s: None
        """Asks for work (on one VPN, or None) to begin in so many seconds. Set by whoever schedules."""
        self.facts = Facts(self.policy.vpns, settings.label)
        self.leftovers = Leftovers()
        self.echoes = Echoes(clock)
        self.clock = clock
        self._memories = memories
        now = clock.now()
        self.state = initial_state(self.policy, now)
        self._signals = SignalBook(self.policy, settings.alert_expiry_s)
        self._judgements: dict[str, Judgement] = dict.fromkeys(self.policy.vpns, Judgement())
        self._emergency_s = 0.0
        self._docker_up, self._docker_lost_at = False, 0.0
        self._events_connected = False
        self._alertmanager_up: bool | None = False if settings.alertmanager_url else None
        self._read_at: Moment | None = None
        self._closing = False
        self._held: dict[str, str] = {}
        self._stopwatch = Stopwatch(recorder.metrics, self.policy)
        self._problems: dict[str, str] = {}
        self.snapshot = self._picture(now)

    # --- what others ask before they act -----------------------------------------------------------------------------

    @property
    def fleet(self) -> Fleet:
        """The fleet as last read."""
        return self.facts.fleet()

    @property
    def deciding(self) -> bool:
        """Whether anything may be decided: Docker is there, its facts are fresh, and Mayday is not about to end."""
        return self._docker_up and not self._closing

    @property
    def acting(self) -> bool:
        """Whether containers may be touched."""
        return self.deciding and self.settings.control is Control.ON and not self._held

    def hold(self, part: str, reason: str | None) -> None:
        """Touch no container and save nothing from now on, and show why: another Mayday is at work here.

        None: as far as this part of Mayday knows, it is not any more.
        """
        if reason == self._held.get(part):
            return
        if reason is None:
            del self._held[part]
            log.warning("Nothing is held back any more on account of another Mayday")
            self._save()
        else:
            self._held[part] = reason
            log.error("No container is touched: %s", reason)
        self.trouble(part, f"No container is touched: {reason}" if reason else None)

    def trouble(self, part: str, problem: str | None) -> None:
        """Show what is wrong with a part of Mayday; None: nothing is any more."""
        self._problems.pop(part, None)
        self._problems |= {} if problem is None else {part: problem}
        self.publish()

    def take_all(
        self,
        listing: Iterable[Container],
        asked_at: float,
        inspected: Iterable[tuple[str, Container | None, float]] = (),
    ) -> set[str]:
        """A full reading, with VPNs that were inspected besides (name, container, when asked): Docker is there.

        Returns the VPNs that are not as they were known.
        """
        now = self.clock.now()
        before = self.facts.vpn_shapes()
        self.facts.take_all(listing, asked_at, now)
        for name, container, inspected_at in inspected:
            self.facts.take_vpn(name, container, inspected_at, now)
        changed = {name for name, shape in self.facts.vpn_shapes().items() if shape != before[name]}
        self._signals.observe(self.policy.vpns, self.facts, now)
        if not self._docker_up and asked_at >= self._docker_lost_at:
            self._docker_up = True
            log.info("Docker answers; facts are read")
        self._read_at = now
        self.evaluate()
        return changed

    def take_vpn(self, name: str, container: Container | None, asked_at: float, event_at: float | None = None) -> None:
        """A reading of one VPN; `event_at` is Docker's time of the event that led to it, Unix seconds."""
        now = self.clock.now()
        self.facts.take_vpn(name, container, asked_at, now)
        self._signals.observe((name,), self.facts, now)
        self.evaluate(event_at)

    def docker_lost(self, error: Exception) -> None:
        """Docker gave no answer: from now on nothing is known, decided or done until it is read whole again."""
        if self._docker_up or self._read_at is None:
            log.warning("Docker gives no answer, nothing is changed until it does: %s", error)
        self._docker_up = False
        self._docker_lost_at = self.clock.mono()
        self.publish()

    def stream_connected(self, *, connected: bool) -> None:
        """The event stream came or went."""
        if connected is not self._events_connected and not self._closing:
            level, word = (logging.INFO, "connected") if connected else (logging.WARNING, "down, polling takes over")
            log.log(level, "Docker's event stream is %s", word)
        self._events_connected = connected
        self.publish()

    # --- signals -----------------------------------------------------------------------------------------------------

    def hear(self, alert: Alert) -> Heard:
        """An alert by webhook."""
        return self.hear_all([alert])[0]

    def hear_all(self, alerts: Iterable[Alert]) -> list[Heard]:
        """All alerts of one message, as one step: what became of each."""
        results = [(alert, self._signals.hear(alert, self.clock.now())) for alert in alerts]
        for alert, heard in results:
            if heard in {Heard.FIRING, Heard.RESOLVED}:
                self.recorder.alert_changed(alert)
        if {heard for _, heard in results} - {Heard.REJECTED}:
            self._save()
        self.evaluate()
        return [heard for _, heard in results]

    def synchronise(self, active: Iterable[Alert] | None, asked_at: float) -> None:
        """What Alertmanager's API says is active; None: it gave no answer, which changes nothing."""
        self._alertmanager_up = active is not None
        if active is not None:
            for alert in self._signals.synchronise(active, asked_at, self.clock.now()):
                self.recorder.alert_changed(alert)
            self._save()
        self.evaluate()

    def start_drill(self, vpn: str, duration_s: float, detail: str) -> None:
        """Declare a VPN failed for a limited time.

        Raises:
            BadRequestError: there is no such VPN.
        """
        if vpn not in self.state.vpns:
            raise BadRequestError(f"there is no VPN '{vpn}'; there are {', '.join(self.policy.vpns)}")
        self._signals.start_drill(vpn, duration_s, detail, self.clock.now())
        self.recorder.signalled(Reason.DRILL, f"Drill: VPN '{vpn}' is declared failed for {duration_s:g} s", vpn, {})
        self._save()
        self.evaluate()

    def end_drill(self, vpn: str) -> bool:
        """Take the declaration back; False: there was none."""
        if not self._signals.end_drill(vpn):
            return False
        self.recorder.signalled(Reason.DRILL, f"Drill: VPN '{vpn}' is no longer declared failed", vpn, {})
        self._save()
        self.evaluate()
        return True

    # --- the state interface -----------------------------------------------------------------------------------------

    def enter_emergency_mode(self, failed_vpn: str, healthy_vpn: str) -> bool:
        """Declare a VPN failed, as a drill does, while another carries on. False: nothing changed."""
        state = self.state
        possible = (
            self.deciding
            and state.redundant
            and failed_vpn != healthy_vpn
            and failed_vpn in state.having(Phase.HEALTHY, Phase.STABILIZING, Phase.UNKNOWN)
            and healthy_vpn in state.having(*CARRYING)
        )
        if not possible:
            return False
        self.start_drill(failed_vpn, DECLARED_S, f"declared failed; {healthy_vpn} carries on")
        return self.is_emergency_mode()

    def exit_emergency_mode(self) -> bool:
        """Take back all declarations, if that ends the emergency. False: nothing changed."""
        if not self.deciding or not self.is_emergency_mode():
            return False
        now = self.clock.now()
        for name in self.state.having(Phase.FAILED):
            if self._signals.judge_without_drill(name, self.facts, now).verdict is not Verdict.HEALTHY:
                return False
        for name in list(self._signals.drills):
            self.end_drill(name)
        return not self.is_emergency_mode()

    def is_emergency_mode(self) -> bool:
        """Whether the mode is emergency."""
        return self.state.mode is Mode.EMERGENCY

    def get_emergency_mode_info(self) -> dict[str, object]:
        """The emergency as `/vpn/status` shows it."""
        return self.snapshot.emergency_info(self.clock.mono())

    # --- deciding ----------------------------------------------------------------------------------------------------

    def restore(self, document: Mapping[str, object]) -> None:
        """Take over what an earlier run remembered. What Docker shows is read after it, and wins.

        Raises:
            ValueError: the document is unusable; nothing was taken over.
        """
        memory = from_document(document, self.policy, self.clock.now(), self.clock.boot)
        self.state = memory.state
        self._emergency_s = memory.emergency_s
        known = [name for name, vpn in self.state.vpns.items() if vpn.phase is not Phase.UNKNOWN]
        self._signals.restore(memory.alerts, memory.drills, known)
        self.publish()

    def evaluate(self, event_at: float | None = None) -> None:
        """Decide from the facts and signals as they are now. Nothing is decided without fresh facts."""
        if self.deciding:
            now = self.clock.now()
            self._judgements = self._signals.judge(self.facts, now)
            before = self.state
            state, changes = step(before, self._judgements, self.policy, now)
            self.state = plan.with_relief(state, self.fleet)
            for change in changes:
                self._tell(change, event_at)
            if self.state is not before:
                self._save()
            self.leftovers.find(self.fleet)
            self._ask_for_work(changes, relief_new=self.state.relief not in {None, before.relief})
            self._stopwatch.look(self.state, self.fleet, now)
        self.publish()

    def _tell(self, change: PhaseChange | ModeChange, event_at: float | None) -> None:
        if isinstance(change, ModeChange):
            if change.before is Mode.EMERGENCY:
                self._emergency_s += change.lasted_s
            engines = {vpn: len(group.engines) for vpn, group in self.fleet.groups.items()}
            self.recorder.mode_changed(change, engines, acting=self.acting)
            return
        signals = [f"{s.source}: {s.verdict} ({s.reason}: {s.detail})" for s in self._judgements[change.vpn].signals]
        self.recorder.phase_changed(change, {"signals": signals})
        self._stopwatch.phase_changed(change, event_at)

    def _ask_for_work(self, changes: tuple[PhaseChange | ModeChange, ...], *, relief_new: bool) -> None:
        now = self.clock.mono()
        ghosts = set(plan.haunted(self.state, self.fleet))
        for vpn in sorted(ghosts | self.leftovers.vpns):
            self.request(Work.CLEANUP, vpn, 0)
        if plan.orphans(self.state, self.fleet):
            self.request(Work.REPAIR, None, 0)
        if relief_new or any(isinstance(c, ModeChange) or c.after is Phase.HEALTHY for c in changes):
            self.request(Work.PROVISION, None, 0)
        new = {c.vpn for c in changes}  # a stabilization of no time at all is over by now, and nobody has looked yet
        vpns = self.state.vpns.items()
        ends = [v.deadline for k, v in vpns if v.deadline is not None and (v.deadline > now or k in new)]
        ends += [] if (expiry := self._signals.next_change()) is None else [expiry]
        if ends:
            self.request(Work.STABILIZATION, None, max(0.0, min(ends) - now))

    def _save(self) -> None:
        if self._held:
            return
        memory = Memory(self.state, self._signals.alerts, self._signals.drills, self._emergency_s)
        self._memories.save(to_document(memory, self.clock.now(), self.clock.boot))

    def close(self) -> None:
        """Begin nothing new from now on."""
        self._closing = True
        self.publish()

    def publish(self) -> None:
        """Make the present picture the latest snapshot."""
        self.snapshot = self._picture(self.clock.now())

    def _picture(self, now: Moment) -> Snapshot:
        fleet = self.fleet
        return Snapshot(
            at=now,
            state=self.state,
            fleet=fleet,
            judgements=dict(self._judgements),
            desired=plan.desired(self.state, self.policy),
            counts=fleet.counts,
            docker_up=self._docker_up,
            events_connected=self._events_connected,
            read_at=self._read_at,
            emergency_s=self._emergency_s,
            alertmanager_up=self._alertmanager_up,
            journal_up=self._memories.up,
            closing=self._closing,
            problems=tuple(self._problems.values()),
        )
