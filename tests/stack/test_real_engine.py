"""The whole chain once with nothing simulated: Docker, Mayday, Prometheus, Alertmanager."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tests.stack.programs import Alertmanager, Prometheus, until
from tests.stack.stack import TOKEN, Neighbours

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.lab import Lab
    from tests.support.lab_sidecar import Sidecar


async def test_a_dead_vpn_container_is_told_to_the_operator(lab: Lab, sidecar: Sidecar, tmp_path: Path) -> None:
    """A VPN container is killed: the operator is told which; it is started again: the operator hears the end of it."""
    lab.vpn("gluetun")
    lab.vpn("gluetun_2")
    sidecar.start(WEBHOOK_TOKEN=TOKEN, MIN_REPLICAS="4")
    sidecar.await_whole(2)
    neighbours = Neighbours()
    runner = await neighbours.listen()
    mayday = urlsplit(sidecar.url).netloc
    alertmanager = Alertmanager(tmp_path, mayday=mayday, operator=f"http://127.0.0.1:{neighbours.port}/operator")
    addresses = {"mayday:8000": mayday, "alertmanager:9093": f"127.0.0.1:{alertmanager.port}"}
    prometheus = Prometheus(tmp_path, addresses)
    try:
        async with alertmanager, prometheus:

            async def seen() -> bool:
                return await prometheus.value('sum(mayday_engines{state="working"})') == 4

            await until(seen, "Prometheus sees four engines")
            lab.api.kill("gluetun_2")
            told = await neighbours.hears("firing", "MaydayEmergencyMode")
            assert told.labels["vpn"] == "gluetun_2"
            lab.api.start("gluetun_2")
            await neighbours.hears("resolved", "MaydayEmergencyMode")
    finally:
        await runner.cleanup()
