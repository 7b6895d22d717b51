"""Everyday events after which no engine may be missing. Each ends with both VPNs well, and removes nothing itself.

The tests play them once; `python -m tests.docker.losses` plays them often and counts.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from tests.support.lab import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.lab import Lab
    from tests.support.lab_sidecar import Sidecar

VPNS = ("gluetun", "gluetun_2")
LATER_S = 4.0
"""One VPN's first probe comes that much later than the other's: two tunnels are never up at the same moment."""


def fleet(lab: Lab, sidecar: Sidecar, share: int = 2, later_s: float = LATER_S, **environment: str) -> dict[str, str]:
    """Two VPNs that come back by themselves, one of them later, and their engines; returns the engines' ids."""
    lab.vpn("gluetun", restart="unless-stopped")
    lab.vpn("gluetun_2", restart="unless-stopped", interval_s=later_s)
    sidecar.start(**{"MIN_REPLICAS": str(2 * share), "EVACUATION_DELAY_S": "5", **environment})
    sidecar.await_whole(share)
    return lab.ids()


def await_healthy(lab: Lab, *names: str) -> None:
    """Wait until these VPNs are healthy by Docker's word."""
    wait_for(lambda: {lab.health(name) for name in names} == {"healthy"}, f"{', '.join(names)} healthy")


def await_calm(lab: Lab, sidecar: Sidecar) -> None:
    """Wait until both VPNs are well by Docker's word, Mayday has seen it, and nothing is under way any more."""
    await_healthy(lab, *VPNS)

    def calm() -> bool:
        body = sidecar.status()
        return body["status"] == "normal" and {body["vpn1"]["phase"], body["vpn2"]["phase"]} == {"healthy"}

    wait_for(calm, f"both VPNs in phase healthy; log:\n{sidecar.tail()}", 90)
    await_look(sidecar)


def await_look(sidecar: Sidecar) -> None:
    """Wait until Mayday has read everything once more."""
    before = sidecar.status()["snapshot_at"]
    wait_for(lambda: sidecar.status()["snapshot_at"] != before, "another reading")


def restart_the_daemon(lab: Lab, sidecar: Sidecar) -> None:
    """An update of Docker, with Mayday running outside of it."""
    before = sidecar.status()["snapshot_at"]
    lab.dockerd.restart()
    wait_for(
        lambda: sidecar.get("/-/ready")[0] == 200 and sidecar.status()["snapshot_at"] != before, "a reading afterwards"
    )
    await_calm(lab, sidecar)


def reboot(lab: Lab, sidecar: Sidecar, mayday: str) -> None:
    """The host goes down with everything on it, and comes up; Mayday before, between or after the VPNs."""
    down = threading.Thread(target=lab.dockerd.stop)
    down.start()
    sidecar.stop()
    down.join()
    if mayday == "before":
        sidecar.launch()
    lab.dockerd.start()
    if mayday == "between":
        await_healthy(lab, "gluetun")
        sidecar.start()
    elif mayday == "after":
        await_healthy(lab, *VPNS)
        sidecar.start()
    sidecar.await_ready()
    await_calm(lab, sidecar)


def shut_down(lab: Lab, sidecar: Sidecar, ahead_s: float, names: tuple[str, ...]) -> None:
    """VPNs are stopped, all at once as compose does it; so long after the first of them died Mayday is stopped. Later
    all are started again."""
    # A client is not to be shared by threads.
    clients = [lab.client() for _ in (*names, "events")]
    deaths = clients[-1].events(filters={"event": "die", "container": list(names)}, decode=True)
    stops = [
        threading.Thread(target=client.stop, args=(name,), kwargs={"timeout": 5})
        for client, name in zip(clients, names, strict=False)
    ]
    for stop in stops:
        stop.start()
    next(deaths)
    time.sleep(ahead_s)
    sidecar.stop()
    for stop in stops:
        stop.join()
    deaths.close()
    for client in clients:
        client.close()
    for name in names:
        lab.api.start(name)
    await_healthy(lab, *VPNS)
    sidecar.start()
    await_calm(lab, sidecar)


def fail_together(lab: Lab, sidecar: Sidecar) -> None:
    """Both tunnels fail, by one cause, and recover one after the other."""
    for name in VPNS:
        lab.fail(name)
    wait_for(lambda: sidecar.status()["status"] == "outage", f"outage; log:\n{sidecar.tail()}")
    lab.heal("gluetun")
    wait_for(lambda: sidecar.phase(1) != "failed", "the first one back")
    await_look(sidecar)
    lab.heal("gluetun_2")
    await_calm(lab, sidecar)


EVENTS: dict[str, Callable[[Lab, Sidecar], None]] = {
    "daemon restarted": restart_the_daemon,
    "host rebooted, Mayday first": lambda lab, sidecar: reboot(lab, sidecar, "before"),
    "host rebooted, Mayday between the VPNs": lambda lab, sidecar: reboot(lab, sidecar, "between"),
    "host rebooted, Mayday last": lambda lab, sidecar: reboot(lab, sidecar, "after"),
    "a VPN died 5 ms before Mayday": lambda lab, sidecar: shut_down(lab, sidecar, 0.005, VPNS[1:]),
    "a VPN died 50 ms before Mayday": lambda lab, sidecar: shut_down(lab, sidecar, 0.05, VPNS[1:]),
    "both VPNs died 50 ms before Mayday": lambda lab, sidecar: shut_down(lab, sidecar, 0.05, VPNS),
    "both VPNs fail together": fail_together,
}
