"""Which engines fail their health check often enough to be replaced."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from exporter.core.model import ContainerState
from exporter.core.plan import health_manager_runs, may_create_on

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from exporter.core.model import Engine, Fleet
    from exporter.core.phases import FleetState

NOT_ANSWERING = frozenset({ContainerState.EXITED, ContainerState.DEAD, ContainerState.PAUSED})
"""States in which an engine cannot answer; in others it may be on its way."""


@dataclass(frozen=True, slots=True)
class HealthBook:
    """What the rounds so far have shown."""

    failures: Mapping[str, int] = field(default_factory=dict)
    """Failures in a row, by container id."""
    failed: Mapping[str, ContainerState] = field(default_factory=dict)
    """Who failed in the newest round, and in which state: what is held against an engine must still be so."""
    proven: frozenset[str] = frozenset()
    """VPNs on which some engine has answered: that Mayday can reach engines there is proven."""
    tried: frozenset[str] = frozenset()
    """VPNs on which one engine was replaced although none had ever answered."""


def askable(state: FleetState, fleet: Fleet) -> list[Engine]:
    """The engines that can be asked: those running on a VPN in phase healthy, with a network and a known port."""
    return [
        engine
        for engine in fleet.engines
        if may_create_on(state, engine.vpn)
        and engine.state is ContainerState.RUNNING
        and engine.orphan is None
        and engine.port is not None
    ]


def after_round(book: HealthBook, fleet: Fleet, answers: Mapping[str, bool]) -> HealthBook:
    """The book after one round. `answers` says, by container id, who answered; who was not asked keeps its count.

    A stopped or paused engine cannot be asked and has failed; one whose port is not known has not, as long as it runs.
    An engine that is gone is forgotten.
    """
    failures, failed = {}, {}
    proven = set(book.proven)
    for engine in fleet.engines:
        answered = answers.get(engine.id)
        if answered:
            proven.add(engine.vpn)
            failures[engine.id] = 0
        elif answered is False or engine.state in NOT_ANSWERING:
            failures[engine.id] = book.failures.get(engine.id, 0) + 1
            failed[engine.id] = engine.state
        elif engine.state is ContainerState.RUNNING and engine.port is None:
            failures[engine.id] = 0
        else:
            failures[engine.id] = book.failures.get(engine.id, 0)
    return replace(book, failures=failures, failed=failed, proven=frozenset(proven))


def known_unhealthy(book: HealthBook, engine: Engine, limit: int) -> bool:
    """Whether an engine is to be shown, and counted, as unhealthy."""
    return engine.vpn in book.proven and book.failures.get(engine.id, 0) >= limit


def after_replacing(book: HealthBook, engines: Iterable[Engine]) -> HealthBook:
    """The book after these engines were chosen to be replaced."""
    return replace(book, tried=book.tried | {engine.vpn for engine in engines})


def replaceable(book: HealthBook, state: FleetState, fleet: Fleet, limit: int) -> list[Engine]:
    """The engines to replace now: at most one on each VPN, the one that has failed longest.

    Where no engine has ever answered, it may be Mayday's way to them that is broken, and replacing engines that work
    would cut their streams for nothing. There one is replaced, once: if its successor answers, the way is proven.
    """
    if not health_manager_runs(state):
        return []
    worst: dict[str, Engine] = {}
    for engine in fleet.engines:
        count = book.failures.get(engine.id, 0)
        if count < limit or engine.orphan is not None or not may_create_on(state, engine.vpn):
            continue
        if book.failed.get(engine.id) is not engine.state:
            continue
        if engine.state is ContainerState.RUNNING and engine.vpn not in book.proven | book.tried:
            if count < limit * 2:
                continue
        elif engine.state is ContainerState.RUNNING and engine.vpn not in book.proven:
            continue
        known = worst.get(engine.vpn)
        if known is None or count > book.failures[known.id]:
            worst[engine.vpn] = engine
    return list(worst.values())
