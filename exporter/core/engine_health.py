"""Which engines fail their health check often enough to be replaced.

An engine that gives no answer, or that Docker calls unhealthy, may be no worse than Mayday's own way to it, or than the
tunnel: that counts only while another engine of its VPN works in the same round. That a container has ended, or is
started again and again, is Docker's own word, and needs no such proof.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from exporter.core.model import ContainerHealth, ContainerState
from exporter.core.plan import may_create_on, may_replace_on

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from exporter.core.model import Engine, Fleet
    from exporter.core.phases import FleetState

REPLACEMENTS_AT_MOST = 6
"""Engines replaced on one VPN within `REPLACEMENTS_WITHIN_S`. Where that many did not help, another one does not."""
REPLACEMENTS_WITHIN_S = 3600.0

STOPPED = frozenset({ContainerState.EXITED, ContainerState.DEAD, ContainerState.PAUSED})
"""States in which an engine cannot answer; in others it may be on its way."""


class Failure(StrEnum):
    """How an engine failed a round."""

    SILENT = "silent"
    """It was asked and gave no answer."""
    UNHEALTHY = "unhealthy"
    """Docker's health check of the container itself fails."""
    STOPPED = "stopped"
    RESTARTING = "restarting"
    """Docker is about to start it again, because it has just ended."""


DOCKERS_WORD = frozenset({Failure.STOPPED, Failure.RESTARTING})
"""Failures that can be no fault of Mayday's way to the engines, nor of the tunnel."""


@dataclass(frozen=True, slots=True)
class HealthBook:
    """What the rounds so far have shown."""

    failures: Mapping[str, int] = field(default_factory=dict)
    """Failures in a row, by container id."""
    by_docker: Mapping[str, int] = field(default_factory=dict)
    """How many of them are Docker's own word."""
    failed: Mapping[str, Failure] = field(default_factory=dict)
    """Who failed in the newest round, and how: what is held against an engine must still be so."""
    working: frozenset[str] = frozenset()
    """VPNs on which an engine answered in the newest round, and nothing was held against it."""
    silent: Mapping[str, int] = field(default_factory=dict)
    """By VPN, for how many rounds in a row engines were asked and none of them answered."""
    reached: frozenset[str] = frozenset()
    """VPNs on which an engine has ever answered: that there is something to reach, and a way to it, was once so."""
    replaced: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """By VPN, when engines were replaced, monotonic seconds."""


def askable(state: FleetState, fleet: Fleet) -> list[Engine]:
    """The engines that can be asked: running, with a known port, on a VPN in phase healthy that can be reached."""
    return [
        engine
        for engine in fleet.engines
        if may_create_on(state, engine.vpn)
        and engine.state is ContainerState.RUNNING
        and engine.orphan is None
        and engine.port is not None
        and fleet.address(engine.vpn) is not None
    ]


def shown_failure(engine: Engine) -> Failure | None:
    """What Docker shows to be wrong with an engine, None when nothing is."""
    if engine.state is ContainerState.RESTARTING:
        return Failure.RESTARTING
    if engine.state in STOPPED:
        return Failure.STOPPED
    unhealthy = engine.state is ContainerState.RUNNING and engine.docker_health is ContainerHealth.UNHEALTHY
    return Failure.UNHEALTHY if unhealthy else None


def after_round(book: HealthBook, state: FleetState, fleet: Fleet, answers: Mapping[str, bool]) -> HealthBook:
    """The book after one round. `answers` says, by container id, who answered; who was not asked keeps its count.

    Of an engine without a network, or whose VPN is not healthy beyond doubt, nothing is held against the engine. One
    that is gone is forgotten.
    """
    failures, by_docker, failed = {}, {}, {}
    for engine in fleet.engines:
        if engine.orphan is not None or not may_create_on(state, engine.vpn) or engine.vpn in state.doubtful:
            continue
        failure, answered = shown_failure(engine), answers.get(engine.id)
        if failure is None and answered is False:
            failure = Failure.SILENT
        if failure is not None:
            failures[engine.id] = book.failures.get(engine.id, 0) + 1
            by_docker[engine.id] = book.by_docker.get(engine.id, 0) + (failure in DOCKERS_WORD)
            failed[engine.id] = failure
        elif not answered:  # it was not asked, and may be between two starts
            failures[engine.id] = book.failures.get(engine.id, 0)
            by_docker[engine.id] = book.by_docker.get(engine.id, 0)
    heard = {engine.vpn for engine in fleet.engines if answers.get(engine.id)}
    asked = {engine.vpn for engine in fleet.engines if engine.id in answers}
    return replace(
        book,
        failures=failures,
        by_docker=by_docker,
        failed=failed,
        working=frozenset(e.vpn for e in fleet.engines if answers.get(e.id) and e.id not in failed),
        silent={vpn: book.silent.get(vpn, 0) + 1 for vpn in asked - heard},
        reached=book.reached | heard,
    )


def known_unhealthy(book: HealthBook, engine: Engine, limit: int) -> bool:
    """Whether an engine is to be shown, and counted, as unhealthy."""
    looping = book.failed.get(engine.id) is Failure.RESTARTING and book.by_docker.get(engine.id, 0) >= limit
    return looping or (engine.vpn in book.reached and book.failures.get(engine.id, 0) >= limit)


def after_replacing(book: HealthBook, engines: Iterable[Engine], mono: float) -> HealthBook:
    """The book after these engines were to be replaced: one that is still there has its next turn after the others."""
    engines = list(engines)
    anew = {engine.id: 0 for engine in engines}
    replaced = {engine.vpn: (*_recent(book, engine.vpn, mono), mono) for engine in engines}
    return replace(
        book,
        failures={**book.failures, **anew},
        by_docker={**book.by_docker, **anew},
        replaced={**book.replaced, **replaced},
    )


def replaceable(book: HealthBook, state: FleetState, fleet: Fleet, limit: int) -> list[Engine]:
    """The engines that ought to be replaced: own ones, at most one on each VPN, the one that has failed longest."""
    worst: dict[str, Engine] = {}
    for engine in fleet.engines:
        if not engine.own or engine.orphan is not None or not may_replace_on(state, engine.vpn):
            continue
        if not _surely_failed(book, engine, limit):
            continue
        known = worst.get(engine.vpn)
        if known is None or book.failures[engine.id] > book.failures[known.id]:
            worst[engine.vpn] = engine
    return list(worst.values())


def exhausted(book: HealthBook, vpn: str, mono: float) -> bool:
    """Whether so many engines of a VPN were replaced within the last hour that no more are."""
    return len(_recent(book, vpn, mono)) >= REPLACEMENTS_AT_MOST


def _surely_failed(book: HealthBook, engine: Engine, limit: int) -> bool:
    """Whether an engine has failed often enough, it still does, and it cannot be its surroundings that fail."""
    failure = book.failed.get(engine.id)
    still = engine.state is ContainerState.RUNNING if failure is Failure.SILENT else shown_failure(engine) is failure
    if failure is None or not still:
        return False
    if failure in DOCKERS_WORD:
        return book.by_docker[engine.id] >= limit
    return engine.vpn in book.working and book.failures[engine.id] >= limit


def _recent(book: HealthBook, vpn: str, mono: float) -> tuple[float, ...]:
    return tuple(at for at in book.replaced.get(vpn, ()) if mono - at < REPLACEMENTS_WITHIN_S)
