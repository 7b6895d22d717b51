"""A whole Mayday on a simulated fleet in virtual time, and scenarios played on it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from exporter.runtime.simulated import SimulatedRuntime
from tests.support.settings import two_vpns
from tests.support.simulated import host_with, mayday_on
from tests.support.virtual_time import VirtualClock, run_virtual
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from exporter.app import App
    from exporter.core.model import Phase


class Sidecar:
    """The program, its host, and short words for what scenarios ask of both."""

    def __init__(self, clock: VirtualClock, **environment: str) -> None:
        self.settings = two_vpns(**environment)
        self.clock = clock
        self.host = host_with(self.settings.policy.vpns, clock)
        self.runtime = SimulatedRuntime(self.host)
        self.app = self.new_app()

    def new_app(self, own_id: str | None = None) -> App:
        """Another Mayday on the same host, as after a restart."""
        return mayday_on(
            self.host, self.settings, self.runtime, clock=self.clock, serve=False, threaded=False, own_id=own_id
        )

    async def until(self, condition: Callable[[], object], every_s: float = 0.01) -> None:
        """Wait until something is so, at most a minute of virtual time."""
        await until(condition, 60, every_s)

    @property
    def info(self) -> dict[str, object]:
        return self.app.controller.get_emergency_mode_info()

    def phase(self, vpn: str) -> Phase:
        return self.app.controller.state.vpns[vpn].phase

    def counts(self) -> list[int]:
        """How many engines each VPN has, in whatever state."""
        return [
            sum(box.labels.get("acestream.vpn_container") == vpn for box in self.host.boxes.values())
            for vpn in self.settings.policy.vpns
        ]

    def metric(self, name: str, **labels: str) -> float | None:
        return self.app.metrics.registry.get_sample_value(name, labels)


def play(scenario: Callable[[Sidecar], Awaitable[None]], **environment: str) -> None:
    """Run a scenario from ten seconds after Mayday's start."""

    async def main(clock: VirtualClock) -> None:
        sidecar = Sidecar(clock, **environment)
        async with sidecar.app:
            await asyncio.sleep(10)
            await scenario(sidecar)

    run_virtual(main)
