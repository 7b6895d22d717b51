"""Where everything that happened is told: one log block, one history record and one counter step for each.

Nothing else in Mayday logs a transition, an action or a refusal, so logs, history and metrics cannot disagree.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

from exporter.core.model import Mode, Phase, Reason
from exporter.core.parking import ParkAction
from exporter.core.plan import Outcome
from exporter.journal.history import Kind, Record
from exporter.telemetry.repeats import Repeats, alike

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exporter.clock import Clock
    from exporter.core.alerts import Alert
    from exporter.core.phases import FleetState, ModeChange, PhaseChange
    from exporter.telemetry.metrics import Metrics

log = logging.getLogger("mayday")


class History(Protocol):
    """Where records are kept."""

    def append(self, record: Record) -> None:
        """Keep one record; never blocks."""


class Recorder:
    """Tells what happened, everywhere at once."""

    def __init__(self, metrics: Metrics, history: History, clock: Clock) -> None:
        self.metrics = metrics
        self._history = history
        self._clock = clock
        self._paused: dict[str, Mode] = {}
        self._repeats = Repeats()

    def phase_changed(self, change: PhaseChange, signals: Mapping[str, object]) -> None:
        """A VPN entered a phase."""
        self.metrics.transitions.labels(change.vpn, change.after, change.reason).inc()
        message = f"VPN '{change.vpn}': {change.before} -> {change.after} ({change.reason}: {change.detail})"
        log.log(logging.WARNING if change.after is Phase.FAILED else logging.INFO, "%s", message)
        details = {"before": change.before, "after": change.after, "detail": change.detail, **signals}
        self._append(Kind.PHASE, change.reason, message, change.vpn, details)

    def mode_changed(self, change: ModeChange, engines: Mapping[str, int], held: str | None = None) -> None:
        """The fleet entered a mode. `engines` are the present numbers by VPN; `held` is why no container is touched."""
        if change.after is Mode.NORMAL:
            self._paused.clear()
        details: dict[str, object] = {
            "before": change.before,
            "after": change.after,
            "failed": list(change.failed),
            "healthy": list(change.carrying),
            "lasted_s": round(change.lasted_s, 3),
            "engines": dict(engines),
        }
        if change.after is Mode.EMERGENCY:
            self.metrics.entries.labels(change.vpn, change.reason).inc()
            message = self._log_entry(change, engines, held)
        elif change.after is Mode.OUTAGE:
            message = "OUTAGE: all VPNs have failed; nothing is removed and nothing is provisioned"
            log.error("%s", message)
            log.error("Failed VPNs: %s", ", ".join(change.failed))
        else:
            message = self._log_exit(change)
        self._append(Kind.MODE, change.reason, message, change.vpn, details)

    def _log_entry(self, change: ModeChange, engines: Mapping[str, int], held: str | None) -> str:
        failed, carrying = ", ".join(change.failed), ", ".join(change.carrying)
        log.warning("⚠️  ENTERING EMERGENCY MODE ⚠️")
        log.warning("Failed VPN: %s", failed)
        log.warning("Healthy VPN: %s", carrying)
        log.warning("System will operate with reduced capacity on single VPN until recovery")
        for vpn in change.failed:
            verb = "Removing" if held is None else "No container is touched now, leaving alone"
            why = "" if held is None else f": {held}"
            log.warning("%s %d engines from failed VPN '%s'%s", verb, engines.get(vpn, 0), vpn, why)
        for vpn in change.carrying:
            log.warning("Emergency mode active: operating with %d engines on '%s'", engines.get(vpn, 0), vpn)
        return f"Entered emergency mode: failed VPN {failed}, healthy VPN {carrying}"

    def _log_exit(self, change: ModeChange) -> str:
        if change.before is Mode.OUTAGE:
            message = f"OUTAGE OVER: VPN '{change.vpn}' has recovered"
            log.info("%s", message)
            return message
        log.info("✅ EXITING EMERGENCY MODE ✅")
        log.info("VPN '%s' has recovered after %.1fs", change.vpn, change.lasted_s)
        log.info("System will restore full capacity and resume normal operations")
        return f"Left emergency mode: VPN {change.vpn} has recovered after {change.lasted_s:.1f}s"

    def removed(self, vpn: str, name: str, reason: str, result: str, note: str = "") -> None:
        """An engine was removed, or could not be."""
        self.metrics.removed.labels(vpn, reason, result).inc()
        self._action("remove", vpn, name, reason, result, note)

    def provisioned(self, vpn: str, name: str, reason: str, result: str, note: str = "") -> None:
        """An engine was created or repaired, or could not be."""
        self.metrics.provisioned.labels(vpn, reason, result).inc()
        self._action("provision", vpn, name, reason, result, note)

    def parked(self, vpn: str, name: str, action: ParkAction, result: str, note: str = "") -> None:
        """A container of others was stopped for a failure or started again after it, or could not be."""
        self.metrics.parked.labels(vpn, action, result).inc()
        reason = "vpn_failed" if action is ParkAction.PARK else "vpn_healthy"
        self._action(action, vpn, name, reason, result, note)

    def _action(self, action: str, vpn: str, name: str, reason: str, result: str, note: str) -> None:
        message = f"{action} engine '{name}' on VPN '{vpn}' ({reason}): {result}" + (f": {note}" if note else "")
        level = logging.WARNING if result == Outcome.ERROR else logging.INFO
        details = {"action": action, "engine": name, "result": result}
        if result in {Outcome.ERROR, Outcome.UNDONE}:
            self._tell_repeatedly(level, Kind.ACTION, reason, message, vpn, details)
        else:
            log.log(level, "%s", message)
            self._append(Kind.ACTION, reason, message, vpn, details)

    def refused(self, reason: str, message: str, vpn: str | None = None) -> None:
        """A request was refused."""
        self._tell_repeatedly(logging.INFO, Kind.REFUSAL, reason, message, vpn, {}, "Refused: ")

    def _tell_repeatedly(
        self,
        level: int,
        kind: Kind,
        reason: str,
        message: str,
        vpn: str | None,
        details: Mapping[str, object],
        word: str = "",
    ) -> None:
        """Tell what may happen again and again without end: the 1st, 2nd, 4th, 8th … time, with the number."""
        repeat = self._repeats.note((kind, reason, vpn, alike(message)), self._clock.now())
        if repeat.told:
            message += repeat.suffix
            log.log(level, "%s%s", word, message)
            self._append(kind, reason, message, vpn, {**details, **repeat.details})

    def alert_changed(self, alert: Alert) -> None:
        """An alert fires, or is resolved."""
        word = "fires" if alert.firing else "is resolved"
        details = {"alert": alert.name, "fingerprint": alert.fingerprint, "firing": alert.firing}
        self.signalled(Reason.ALERT, f"Alert '{alert.name}' about VPN '{alert.vpn}' {word}", alert.vpn, details)

    def signalled(self, reason: str, message: str, vpn: str | None, details: Mapping[str, object]) -> None:
        """An alert or a drill began or ended."""
        log.info("%s", message)
        self._append(Kind.SIGNAL, reason, message, vpn, details)

    def lived(self, reason: str, message: str, level: int = logging.INFO) -> None:
        """Mayday itself began, ended, or met something that its operator should know."""
        log.log(level, "%s", message)
        self._append(Kind.LIFE, reason, message, None, {})

    def paused(self, service: str, state: FleetState) -> None:
        """A service does nothing in the present mode; told once, however often it is asked to work meanwhile."""
        if self._paused.get(service) != state.mode:
            log.info("%s is paused during %s", service, state.mode)
        self._paused[service] = state.mode

    def _append(self, kind: Kind, reason: str, message: str, vpn: str | None, details: Mapping[str, object]) -> None:
        self._history.append(Record(self._clock.wall(), kind, reason, message, vpn, details))
