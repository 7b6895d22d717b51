"""All signals about the VPNs: what Docker's facts say, what alerts say, what operators declared."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from exporter.core import alerts
from exporter.core.model import Reason, Signal, Source, Verdict
from exporter.core.verdict import Judgement, Sighting, combine, docker_signal, observe

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from exporter.core.model import Moment, Policy
    from exporter.fleet.facts import Facts


class SignalBook:
    """Every signal in force, by VPN. Owned by the controller."""

    def __init__(self, policy: Policy, alert_expiry_s: float) -> None:
        self.alerts: Mapping[str, alerts.Incident] = {}
        self.drills: dict[str, Signal] = {}
        self._policy = policy
        self._alert_expiry_s = alert_expiry_s
        self._sightings = dict.fromkeys(policy.vpns, Sighting())
        self._docker: dict[str, Signal] = {}

    def restore(
        self, incidents: Mapping[str, alerts.Incident], drills: Mapping[str, Signal], known: Iterable[str]
    ) -> None:
        """Take over what an earlier run remembered; `known` are the VPNs that it had judged."""
        self.alerts, self.drills = incidents, dict(drills)
        for name in known:
            self._sightings[name] = replace(self._sightings[name], seen_healthy=True)

    def observe(self, names: Iterable[str], facts: Facts, now: Moment) -> None:
        """VPN containers were read."""
        for name in names:
            self._sightings[name] = observe(self._sightings[name], facts.vpn(name), now)

    def hear(self, alert: alerts.Alert, now: Moment) -> alerts.Heard:
        """An alert came by webhook."""
        self.alerts, heard = alerts.hear(self.alerts, alert, now, self._alert_expiry_s)
        return heard

    def synchronise(self, active: Iterable[alerts.Alert], asked_at: float, now: Moment) -> list[alerts.Alert]:
        """Alertmanager listed its active alerts; returns those that began or ended for us by that."""
        before = self.alerts
        self.alerts = alerts.synchronise(before, active, asked_at, now, self._alert_expiry_s)
        return [
            incident.alert
            for key, incident in self.alerts.items()
            if incident.alert != (before[key].alert if key in before else replace(incident.alert, firing=False))
        ]

    def start_drill(self, vpn: str, duration_s: float, detail: str, now: Moment) -> None:
        """An operator declares a VPN failed."""
        expires = now.mono + duration_s
        self.drills[vpn] = Signal(vpn, Source.OPERATOR, Verdict.UNHEALTHY, Reason.DRILL, detail, now, expires)

    def end_drill(self, vpn: str) -> bool:
        """The declaration is taken back; False: there was none."""
        return self.drills.pop(vpn, None) is not None

    def judge(self, facts: Facts, now: Moment) -> dict[str, Judgement]:
        """The verdict on every VPN; what has expired is forgotten."""
        self.alerts = alerts.prune(self.alerts, now)
        self.drills = {vpn: drill for vpn, drill in self.drills.items() if (drill.expires or 0.0) > now.mono}
        return {name: combine(self._about(name, facts, now), now) for name in self._policy.vpns}

    def judge_without_drill(self, name: str, facts: Facts, now: Moment) -> Judgement:
        """The verdict on one VPN as it would be had no operator said anything."""
        return combine([s for s in self._about(name, facts, now) if s.source is not Source.OPERATOR], now)

    def next_change(self) -> float | None:
        """When the next alert or drill expires, monotonic seconds; None: none does."""
        ends = [i.expires for i in self.alerts.values() if i.alert.firing]
        ends += [drill.expires for drill in self.drills.values() if drill.expires is not None]
        return min(ends, default=None)

    def _about(self, name: str, facts: Facts, now: Moment) -> list[Signal]:
        said = docker_signal(name, facts.vpn(name), self._sightings[name], self._policy.start_timeout_s, now)
        known = self._docker.pop(name, None)
        if said is not None:
            if known is not None and (known.verdict, known.reason) == (said.verdict, said.reason):
                said = replace(said, since=known.since)
            self._docker[name] = said
        drill = self.drills.get(name)
        signals = [said, *alerts.alert_signals(self.alerts, name), drill]
        return [signal for signal in signals if signal is not None]
