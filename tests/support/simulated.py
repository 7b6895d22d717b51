"""A whole Mayday on a simulated fleet: how every test that has one makes its host, its engines and its program."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from exporter.app import App
from exporter.clock import SystemClock
from exporter.core.dependents import MADE_LABEL
from exporter.runtime.simulated import SimulatedRuntime
from exporter.runtime.simulated_host import SimulatedHost

if TYPE_CHECKING:
    from collections.abc import Iterable

    from exporter.clock import Clock
    from exporter.core.model import Engine
    from exporter.runtime.base import OnRequest
    from exporter.settings.settings import Settings

OWN_LABELS = {"orchestrator.managed": "acestream", MADE_LABEL: "true"}
"""What an engine that Mayday made carries, besides the labels of its place."""


def host_with(vpns: Iterable[str], clock: Clock | None = None, **health: Any) -> SimulatedHost:
    """A host on which these VPNs run; `health` is what `add_vpn` takes."""
    host = SimulatedHost(clock or SystemClock(), random.Random(1))
    for vpn in vpns:
        host.add_vpn(vpn, **health)
    return host


def populate(host: SimulatedHost, settings: Settings, engines: int) -> None:
    """Put engines of Mayday's own there, evenly on all VPNs, with names and ports as Mayday gives them."""
    vpns = settings.policy.vpns
    for number in range(engines):
        vpn = vpns[number % len(vpns)]
        port = settings.policy.ports[vpn][number // len(vpns)]
        host.add_engine(vpn, port, f"acestream-{number + 1}", OWN_LABELS)


def mayday_on(host: SimulatedHost, settings: Settings, runtime: SimulatedRuntime | None = None, **options: Any) -> App:
    """A Mayday whose probes ask the host; `runtime` where one with a life of its own is needed, `options` are App's."""

    async def probe(engine: Engine, _address: str, /) -> bool:
        return host.answers(engine.id)

    def make_runtime(_settings: Settings, on_request: OnRequest) -> SimulatedRuntime:
        return runtime or SimulatedRuntime(host, on_request=on_request)

    return App(settings, make_runtime, probe=probe, **options)


def address_of(app: App) -> tuple[str, int]:
    """Where its web server listens."""
    assert app.web is not None
    assert app.web.address is not None
    return app.web.address
