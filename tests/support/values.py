"""Small fleets, states and signals as values, for tests of the core."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from exporter.core.dependents import ManagedLabel, Namespace, read_engine
from exporter.core.model import Container, ContainerState, Engine, Fleet, Phase, Reason, Signal, Source, Verdict
from exporter.core.phases import FleetState, VpnState
from tests.support.moments import moment

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from exporter.core.policy import Policy

NOW = moment(0)


def signal(source: Source, verdict: Verdict, **changes: Any) -> Signal:
    reason = Reason.DOCKER_HEALTHY if verdict is Verdict.HEALTHY else Reason.ALERT
    return replace(Signal("gluetun", source, verdict, reason, "", NOW), **changes)


def fleet_of(**numbers: int) -> Fleet:
    """Own engines that work, so many on each VPN."""
    engines = [
        Engine(f"{name}-{index}", f"{name}-{index}", name, ContainerState.RUNNING, 19000 + index, own=True)
        for name, count in numbers.items()
        for index in range(count)
    ]
    return Fleet.of(dict.fromkeys(numbers, None), engines)


def with_engines(fleet: Fleet, name: str, *engines: Engine) -> Fleet:
    """The fleet with these engines on one VPN instead of those it had there, told as a change."""
    before = fleet.on(name)
    return Fleet(fleet.vpns, {**fleet.groups, name: fleet.groups[name].changed(engines, before, engines)})


def state_of(policy: Policy, *phases: Phase) -> FleetState:
    return FleetState({name: VpnState(phase, NOW) for name, phase in zip(policy.vpns, phases, strict=True)})


def build_fleet(
    containers: Iterable[Container],
    names: Iterable[str],
    label: ManagedLabel,
    known_ids: Mapping[str, str],
    healthy: Mapping[str, bool],
    joined: Mapping[str, Namespace],
) -> Fleet:
    """The fleet in a set of containers; the arguments are those of `read_engine`."""
    containers = list(containers)
    vpns: dict[str, Container | None] = dict.fromkeys(names)
    for container in containers:
        if container.name in vpns:
            vpns[container.name] = container
    engines = (read_engine(container, vpns, label, known_ids, healthy, joined) for container in containers)
    return Fleet.of(vpns, (engine for engine in engines if engine is not None))
