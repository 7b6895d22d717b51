"""Answers in JSON, made from a snapshot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from exporter.core.model import EngineState, Verdict
from exporter.core.service import not_usable_because, out_of_service

if TYPE_CHECKING:
    from exporter.core.model import Engine
    from exporter.core.snapshot import Snapshot
    from exporter.settings.settings import Settings


def vpn_status(snapshot: Snapshot, settings: Settings, mono: float) -> dict[str, Any]:
    """`GET /vpn/status`."""
    verdicts = [judgement.verdict for judgement in snapshot.judgements.values()]
    body: dict[str, Any] = {
        "mode": "redundant" if settings.policy.redundant else "single",
        "enabled": True,
        "status": snapshot.state.mode,
        "health": _overall(verdicts),
        "connected": any(verdict is Verdict.HEALTHY for verdict in verdicts),
        "control": settings.control,
        "docker_up": snapshot.docker_up,
        "events_connected": snapshot.events_connected,
        "snapshot_at": snapshot.read_at.wall.isoformat() if snapshot.read_at else None,
        "problems": list(snapshot.problems),
    }
    body["vpns"] = vpns = [_vpn(snapshot, name, mono) for name in settings.policy.vpns]
    body |= {f"vpn{number}": vpn for number, vpn in enumerate(vpns, start=1)}
    body["emergency_mode"] = snapshot.emergency_info(mono)
    return body


def _overall(verdicts: list[Verdict]) -> str:
    if all(verdict is Verdict.HEALTHY for verdict in verdicts):
        return "healthy"
    return "unhealthy" if Verdict.UNHEALTHY in verdicts else "unknown"


def _vpn(snapshot: Snapshot, name: str, mono: float) -> dict[str, Any]:
    container = snapshot.fleet.vpns.get(name)
    judgement, vpn = snapshot.judgements[name], snapshot.state.vpns[name]
    drill_s = snapshot.drill_remaining_s(name, mono)
    return {
        "container_name": name,
        "container_id": container.id if container else None,
        "status": container.state if container else "missing",
        "health": judgement.verdict,
        "connected": judgement.verdict is Verdict.HEALTHY,
        "suspect": judgement.verdict is Verdict.SUSPECT,
        "in_service": out_of_service(snapshot.state, name) is None,
        "phase": vpn.phase,
        "phase_since": vpn.since.wall.isoformat(),
        "reason": vpn.reason,
        "stabilization_remaining_seconds": round(vpn.stabilization_remaining_s(mono), 1),
        "engines": sum(1 for _ in snapshot.fleet.on(name)),
        "engines_desired": snapshot.desired.get(name, 0),
        "evacuation_deferred": snapshot.deferred.get(name),
        "forwarded_port": snapshot.forwarded.get(name),
        "drill": None if drill_s is None else {"remaining_seconds": round(drill_s, 1)},
        "signals": [
            {
                "source": signal.source,
                "verdict": signal.verdict,
                "reason": signal.reason,
                "detail": signal.detail,
                "since": signal.since.wall.isoformat(),
                "expires_in_seconds": None if signal.expires is None else round(signal.expires - mono, 1),
            }
            for signal in judgement.signals
        ],
    }


def engines(snapshot: Snapshot) -> list[dict[str, Any]]:
    """`GET /engines`: every engine, by VPN and port."""
    return [
        engine(snapshot, item) for item in sorted(snapshot.fleet.engines, key=lambda e: (e.vpn, e.port or 0, e.name))
    ]


def engine(snapshot: Snapshot, item: Engine) -> dict[str, Any]:
    """One engine, under the field names that clients of acestream-orchestrator read."""
    reason = not_usable_because(snapshot.state, item)
    health = "unknown" if item.healthy is None else "healthy" if item.healthy else "unhealthy"
    if item.counted_as is EngineState.UNHEALTHY:
        health = "unhealthy"
    return {
        "container_id": item.id,
        "container_name": item.name,
        "host": item.vpn,
        "port": item.port,
        "vpn_container": item.vpn,
        "own": item.own,
        "forwarded": item.forwarded,
        "requested": item.explicit,
        "state": item.counted_as,
        "health_status": health,
        "usable": reason is None,
        "not_usable_because": reason,
    }
