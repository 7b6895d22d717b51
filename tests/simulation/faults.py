"""Every fault that the simulation promises, by the words that it is counted under."""

from __future__ import annotations

FAULTS: dict[str, tuple[str, ...]] = {
    "fleets": (
        *(f"fleet: {count} VPNs" for count in (2, 3, 4, 5)),
        *(f"fleet: EMERGENCY_CAPACITY {word}" for word in ("reduced", "share", "full")),
        "fleet: MIN_REPLICAS leaves a remainder",
        "fleet: few ports",
        "fleet: ALERTMANAGER_URL is set",
    ),
    "VPNs": (
        "VPN: health flaps",
        *(f"VPN: {word}" for word in ("kill", "stop", "start", "pause", "unpause", "restart", "recreate", "remove")),
        "VPN: made again",
    ),
    "orders": (
        "mode: normal -> emergency with 2 VPNs",
        "mode: emergency -> outage with 2 VPNs",
        "mode: outage -> emergency with 2 VPNs",
        "mode: normal -> outage with 2 VPNs",
        "mode: outage -> normal with 2 VPNs",
        "mode: emergency -> normal with 2 VPNs",
        "mode: emergency -> outage with 3 VPNs",
        "outage: the first to fail recovers first",
        "outage: the last to fail recovers first",
        "emergency: the failed VPN and the other change places",
        "phase: failure while stabilizing",
        "phase: stabilized",
    ),
    "events": (
        "event: lost",
        "event: late",
        "event: repeated",
        "event: overtaken by a later one",
        "event: not told by a half-open stream",
    ),
    "Docker": (
        "Docker: restarted, live-restore",
        "Docker: restarted, without live-restore",
        "Docker: restarted, health checks end",
        "call: slow",
        "call: unanswered",
        "call: refused",
        "call: a reading is answered with an error",
        "call: the daemon is away",
        "call: the daemon went away under it",
        "call: took effect after the caller had given up",
        "call: the image is missing",
        "creation: overtaken by a phase change",
    ),
    "engines": (
        *(f"engine: {word}" for word in ("crash", "break", "vanish", "comes back", "start", "stubborn", "pause")),
        "call: remove of one container fails",
        "call: remove of one container conflict",
        "engine: never becomes healthy",
        "probe: no way to the VPN",
        "probe: the engine does not answer",
        "by hand: labelled",
        "by hand: no port label",
        "by hand: no label but the managed one",
        "by hand: not managed",
        "by hand: elsewhere",
    ),
    "alerts": (
        "alert: fires",
        "alert: is resolved",
        "alert: is repeated",
        "alert: contradicts Docker",
        "alert: expires unheard",
        "alert: Mayday's own",
        "webhook: lost",
        "webhook: late",
        "webhook: sent twice",
        "webhook: overtaken by a later one",
        "webhook: nobody there",
        "Alertmanager's API: away",
        "Alertmanager's API: slow",
        "Alertmanager's API: rubbish",
        "Alertmanager's API: answers",
        "drill: declared",
    ),
    "clocks and ends": (
        "clock: jumps ahead",
        "clock: jumps back",
        "Mayday: stopped",
        "Mayday: killed",
        "Mayday: killed in the middle of its work",
        "host: shut down and booted",
        "host: power lost and booted",
    ),
    "journal": (
        "journal: the disk goes away",
        "journal: last writes lost at a kill",
    ),
    "doors": (
        "API: POST engines answered 201",
        "API: POST engines answered 503",
        "API: DELETE engines answered 200",
        "input: refused",
        "pages: compared",
    ),
}


FIELD_FAULTS: tuple[str, ...] = (
    *(f"common cause: {how}" for how in ("health", "process", "alerts")),
    "probe: the way breaks for long",
    "one container: hangs",
    "one container: fails",
    "call: inspect of one container hangs",
    "call: inspect of one container fails",
    "call: remove of one container conflict",
    "engine: restart loop",
    "engine: unhealthy for Docker",
    "engine: stuck in its removal",
    "Docker: restarted, health begins anew",
    "Docker: restarted, containers end",
    "host: Mayday is told last",
    "image: missing for long",
    *(f"owner: {word}" for word in ("stop", "start", "remove", "recreate")),
    "compose: makes an engine",
    "compose: makes a dependent",
    "name: taken by a stranger",
    "settings: another MIN_REPLICAS",
    "drill: refused",
)
"""What was met in the field, by the words that it is counted under."""


def table(struck: dict[str, int]) -> str:
    """How often each has struck, for people."""
    lines = []
    for group, faults in FAULTS.items():
        lines.append(f"{group}:")
        lines += [f"  {struck.get(fault, 0):>9}  {fault}" for fault in faults]
    lines.append("the field:")
    lines += [f"  {struck.get(fault, 0):>9}  {fault}" for fault in FIELD_FAULTS]
    return "\n".join(lines)
