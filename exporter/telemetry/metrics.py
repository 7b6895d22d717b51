"""Every metric of Mayday: counters and histograms, and gauges that show the latest snapshot."""

from __future__ import annotations

import platform
from collections import Counter as Tally
from enum import StrEnum
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, GCCollector, Histogram, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from exporter import __version__
from exporter.core.alerts import Heard
from exporter.core.model import EngineState, Group, Mode, Phase, Reason, Source, Verdict
from exporter.core.parking import ParkAction
from exporter.core.plan import ProvisionReason, RemoveReason
from exporter.core.snapshot import Held
from exporter.runtime.base import CallResult, Operation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from prometheus_client.metrics_core import Metric

    from exporter.clock import Clock
    from exporter.core.snapshot import Snapshot

DETECTION_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
WORK_BUCKETS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300)
REQUEST_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
FAILURE_REASONS = tuple(reason for reason in Reason if reason not in {Reason.DOCKER_HEALTHY, Reason.STABILIZED})
WEBHOOK_RESULTS = (*Heard, "own", "no_data", "unmatched", "no_vpn", "invalid")
"""What became of an alert: what it did to the book, or why it is no signal (`Ignored` of the Alertmanager source)."""


class JobResult(StrEnum):
    """How a run of a scheduled job ended, or that there was none at its time."""

    OK = "ok"
    ERROR = "error"
    MISSED = "missed"


class Metrics:
    """All counters and histograms, on a registry of their own; series with known label values start at 0."""

    def __init__(self, vpns: Iterable[str], jobs: Iterable[str], registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry(auto_describe=False)
        self._define()
        self._initialise(tuple(vpns), tuple(jobs))

    def _define(self) -> None:
        registry = self.registry
        self.transitions = Counter(
            "mayday_vpn_transitions_total",
            "Phase changes of a VPN, by the phase entered and why.",
            ("vpn", "phase", "reason"),
            registry=registry,
        )
        self.entries = Counter(
            "mayday_emergency_mode_entries_total",
            "Times that emergency mode was entered, by the VPN that failed and why.",
            ("vpn", "reason"),
            registry=registry,
        )
        self.removed = Counter(
            "mayday_engines_removed_total",
            "Engines removed, by why and with what result.",
            ("vpn", "reason", "result"),
            registry=registry,
        )
        self.provisioned = Counter(
            "mayday_engines_provisioned_total",
            "Engines created or repaired, by why and with what result.",
            ("vpn", "reason", "result"),
            registry=registry,
        )
        self.parked = Counter(
            "mayday_engines_parked_total",
            "Containers of others stopped for a failure (park) or started again after it (unpark), with what result.",
            ("vpn", "action", "result"),
            registry=registry,
        )
        self.detection = Histogram(
            "mayday_failover_detection_seconds",
            "Time from Docker's own time of the event that showed a failure to the VPN's phase being failed.",
            buckets=DETECTION_BUCKETS,
            registry=registry,
        )
        self.cleanup = Histogram(
            "mayday_failover_cleanup_seconds",
            "Time from a VPN's failure in an emergency to the last of its engines being gone.",
            buckets=WORK_BUCKETS,
            registry=registry,
        )
        self.restore = Histogram(
            "mayday_capacity_restore_seconds",
            "Time from the end of a VPN's stabilization to its share being reached.",
            buckets=WORK_BUCKETS,
            registry=registry,
        )
        self.docker_requests = Counter(
            "mayday_docker_requests_total",
            "Calls to the Docker Engine, by operation and result.",
            ("operation", "result"),
            registry=registry,
        )
        self.docker_seconds = Histogram(
            "mayday_docker_request_duration_seconds",
            "Duration of calls to the Docker Engine.",
            ("operation", "result"),
            buckets=REQUEST_BUCKETS,
            registry=registry,
        )
        self.webhook_alerts = Counter(
            "mayday_webhook_alerts_total",
            "Alerts received by webhook, by what became of them.",
            ("result",),
            registry=registry,
        )
        self.unauthorized = Counter(
            "mayday_unauthorized_requests_total",
            "Requests refused for a missing or wrong secret.",
            ("endpoint",),
            registry=registry,
        )
        self.jobs = Counter(
            "mayday_jobs_total", "Runs of scheduled jobs, by result.", ("job_name", "result"), registry=registry
        )
        self.job_seconds = Histogram(
            "mayday_job_duration_seconds",
            "Duration of scheduled jobs.",
            ("job_name", "result"),
            buckets=WORK_BUCKETS,
            registry=registry,
        )

    def _initialise(self, vpns: tuple[str, ...], jobs: tuple[str, ...]) -> None:
        for vpn in vpns:
            for reason in FAILURE_REASONS:
                self.entries.labels(vpn, reason)
                self.transitions.labels(vpn, Phase.FAILED, reason)
            self.transitions.labels(vpn, Phase.HEALTHY, Reason.DOCKER_HEALTHY)
            self.transitions.labels(vpn, Phase.HEALTHY, Reason.STABILIZED)
            self.transitions.labels(vpn, Phase.STABILIZING, Reason.DOCKER_HEALTHY)
            for result in ("ok", "error"):
                for removed_for in RemoveReason:
                    self.removed.labels(vpn, removed_for, result)
                for provisioned_for in ProvisionReason:
                    self.provisioned.labels(vpn, provisioned_for, result)
                for action in ParkAction:
                    self.parked.labels(vpn, action, result)
        for operation in Operation:
            for call_result in CallResult:
                self.docker_requests.labels(operation, call_result)
        for webhook_result in WEBHOOK_RESULTS:
            self.webhook_alerts.labels(webhook_result)
        for endpoint in ("webhook", "api"):
            self.unauthorized.labels(endpoint)
        for job in jobs:
            for job_result in JobResult:
                self.jobs.labels(job, job_result)

    def docker_request(self, operation: Operation, result: CallResult, seconds: float) -> None:
        """Count and time one call to Docker."""
        self.docker_requests.labels(operation, result).inc()
        self.docker_seconds.labels(operation, result).observe(seconds)

    def expose(self, snapshot: Callable[[], Snapshot], clock: Clock, control: str, controls: Iterable[str]) -> None:
        """Register the gauges of the latest snapshot, and the process and platform collectors."""
        self.registry.register(SnapshotCollector(snapshot, clock, control, tuple(controls)))
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)


class SnapshotCollector:
    """The gauges. A scrape only formats the latest snapshot; it makes no call to Docker or anything else."""

    def __init__(self, snapshot: Callable[[], Snapshot], clock: Clock, control: str, controls: tuple[str, ...]) -> None:
        self._snapshot = snapshot
        self._clock = clock
        self._control = control
        self._controls = controls

    def describe(self) -> Iterator[Metric]:
        """The families, by which the registry notices a name that is used twice."""
        return self.collect()

    def collect(self) -> Iterator[Metric]:
        """All families of the latest snapshot."""
        snapshot = self._snapshot()
        yield from self._fleet(snapshot)
        yield from self._vpns(snapshot)
        yield from self._self(snapshot)

    def _fleet(self, snapshot: Snapshot) -> Iterator[Metric]:
        mono = self._clock.mono()
        yield _gauge("mayday_emergency_mode_active", "1 while emergency mode is active.", snapshot.emergency_active)
        emergency = snapshot.state.emergency
        yield _gauge(
            "mayday_emergency_mode_entered_timestamp_seconds",
            "When the present emergency was entered, 0 when there is none.",
            emergency.entered.wall.timestamp() if emergency else 0,
        )
        yield CounterMetricFamily(
            "mayday_emergency_mode_seconds", "Time spent in emergency mode.", value=snapshot.emergency_total_s(mono)
        )
        mode = GaugeMetricFamily("mayday_mode", "1 for the mode that the fleet is in.", labels=("mode",))
        for value in Mode:
            mode.add_metric((value,), snapshot.state.mode is value)
        yield mode
        engines = GaugeMetricFamily("mayday_engines", "Engines by VPN and state.", labels=("vpn", "state"))
        desired = GaugeMetricFamily(
            "mayday_engines_desired", "Engines that a VPN should carry in the present mode.", labels=("vpn",)
        )
        for vpn in snapshot.state.vpns:
            desired.add_metric((vpn,), snapshot.desired.get(vpn, 0))
            for state in EngineState:
                engines.add_metric((vpn, state), snapshot.counts.get((vpn, state), 0))
        yield engines
        yield desired
        yield _dependents(snapshot)

    def _vpns(self, snapshot: Snapshot) -> Iterator[Metric]:
        mono = self._clock.mono()
        healthy = GaugeMetricFamily(
            "mayday_vpn_healthy", "1 while all signals say that the VPN is healthy.", labels=("vpn",)
        )
        phase = GaugeMetricFamily("mayday_vpn_phase", "1 for the phase that the VPN is in.", labels=("vpn", "phase"))
        signal = GaugeMetricFamily(
            "mayday_vpn_signal", "1 while the source says that the VPN is unhealthy.", labels=("vpn", "source")
        )
        remaining = GaugeMetricFamily(
            "mayday_vpn_stabilization_remaining_seconds",
            "Stabilization that is left, 0 when the VPN does not stabilize.",
            labels=("vpn",),
        )
        suspect = GaugeMetricFamily("mayday_vpn_suspect", "1 while whether the VPN works is in doubt.", labels=("vpn",))
        drill = GaugeMetricFamily(
            "mayday_drill", "1 while a drill, and nothing else, has the VPN declared failed.", labels=("vpn",)
        )
        deferred = GaugeMetricFamily(
            "mayday_evacuation_deferred", "1 while the evacuation of the failed VPN waits.", labels=("vpn",)
        )
        forwarded = GaugeMetricFamily(
            "mayday_vpn_forwarded_port", "The port that the VPN forwards, 0 when none is known.", labels=("vpn",)
        )
        for name, vpn in snapshot.state.vpns.items():
            judgement = snapshot.judgements[name]
            suspect.add_metric((name,), judgement.verdict is Verdict.SUSPECT)
            drill.add_metric((name,), snapshot.only_drilled(name))
            deferred.add_metric((name,), name in snapshot.deferred)
            forwarded.add_metric((name,), snapshot.forwarded.get(name, 0))
            healthy.add_metric((name,), judgement.verdict is Verdict.HEALTHY)
            for value in Phase:
                phase.add_metric((name, value), vpn.phase is value)
            unhealthy = {item.source for item in judgement.signals if item.verdict is Verdict.UNHEALTHY}
            for source in Source:
                signal.add_metric((name, source), source in unhealthy)
            remaining.add_metric((name,), vpn.stabilization_remaining_s(mono))
        yield from (healthy, suspect, phase, signal, remaining, drill, deferred, forwarded)

    def _self(self, snapshot: Snapshot) -> Iterator[Metric]:
        yield _gauge("mayday_docker_up", "1 while the Docker Engine answers.", snapshot.docker_up)
        yield _gauge(
            "mayday_docker_events_connected", "1 while Docker's event stream is connected.", snapshot.events_connected
        )
        yield _gauge(
            "mayday_snapshot_timestamp_seconds",
            "When Docker was last read whole, 0 when it was not yet.",
            snapshot.read_at.wall.timestamp() if snapshot.read_at else 0,
        )
        yield _gauge("mayday_containers_unreadable", "Containers that Docker fails to tell about.", snapshot.unreadable)
        yield _gauge("mayday_journal_up", "1 while the journal is kept on disk.", snapshot.journal_up)
        if snapshot.alertmanager_up is not None:
            yield _gauge("mayday_alertmanager_up", "1 while Alertmanager's API answers.", snapshot.alertmanager_up)
        held = GaugeMetricFamily(
            "mayday_held", "1 while this is why no container is touched, whatever the need.", labels=("reason",)
        )
        for reason in Held:
            held.add_metric((reason,), reason in snapshot.holds)
        yield held
        control = GaugeMetricFamily("mayday_control", "1 for the value of CONTROL.", labels=("control",))
        for value in self._controls:
            control.add_metric((value,), value == self._control)
        yield control
        build = GaugeMetricFamily(
            "mayday_build_info", "Always 1; its labels tell what runs.", labels=("version", "python_version")
        )
        build.add_metric((__version__, platform.python_version()), 1)
        yield build


def _dependents(snapshot: Snapshot) -> GaugeMetricFamily:
    family = GaugeMetricFamily(
        "mayday_dependents",
        "Engines, and what has a response of its own, by VPN, owner (mayday or others) and state.",
        labels=("vpn", "owner", "state"),
    )
    for vpn in snapshot.state.vpns:
        group = snapshot.fleet.groups.get(vpn, Group())
        counts = Tally((engine.own, engine.counted_as) for engine in (*group.engines, *group.guests))
        for state in EngineState:
            family.add_metric((vpn, "mayday", state), counts[True, state])
            family.add_metric((vpn, "others", state), counts[False, state])
    return family


def _gauge(name: str, help_text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, help_text, value=float(value))
