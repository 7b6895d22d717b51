"""The only wiring: builds, starts and stops every part."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
from prometheus_client import disable_created_metrics

from exporter.actions.autoscaler import Autoscaler
from exporter.actions.calls import Calls
from exporter.actions.cleanup import Cleanup
from exporter.actions.forwarding import FOLLOW_S, Forwarding
from exporter.actions.health_manager import HealthManager
from exporter.actions.parking import Parking
from exporter.actions.provisioning import Provisioning
from exporter.actions.rehearsal import Rehearsal
from exporter.actions.repair import Repair
from exporter.clock import SystemClock
from exporter.controller import Controller
from exporter.errors import RuntimeFailure
from exporter.jobs import Jobs
from exporter.journal.journal import Journal
from exporter.lives import Lives
from exporter.news import News
from exporter.observer import Observer
from exporter.peers.host import Siblings, own_container_id
from exporter.settings.settings import Control
from exporter.sources.alertmanager import AlertmanagerApi
from exporter.sources.alertmanager_wire import Selection
from exporter.sources.engines import HttpEngineProbe
from exporter.sources.gluetun import GluetunApi
from exporter.telemetry.deferrals import Deferrals
from exporter.telemetry.metrics import Metrics
from exporter.telemetry.recorder import Recorder
from exporter.web.server import WebServer
from exporter.work import Work

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any, Self

    from exporter.actions.provisioning import ForwardedPort
    from exporter.clock import Clock
    from exporter.runtime.base import OnRequest, Runtime
    from exporter.settings.settings import Settings
    from exporter.sources.engines import EngineProbe

log = logging.getLogger("mayday")

DRAIN_S = 5.0
"""How long work in flight may take to end after SIGTERM, seconds; Docker itself waits 10 before it kills."""


class App:
    """One Mayday, from settings to a running sidecar. `async with` starts and stops it."""

    def __init__(
        self,
        settings: Settings,
        make_runtime: Callable[[Settings, OnRequest], Runtime],
        *,
        clock: Clock | None = None,
        probe: EngineProbe | None = None,
        session: aiohttp.ClientSession | None = None,
        serve: bool = True,
        threaded: bool = True,
        own_id: str | None = None,
        forwarded_port: ForwardedPort | None = None,
    ) -> None:
        """`session` makes HTTP requests; None: one of its own. `probe` asks engines, `forwarded_port` VPNs, without it.

        `own_id` is the id of the container that this Mayday runs in; None: it is found out.
        """
        self.settings = settings
        self.clock = clock or SystemClock()
        self.failed = asyncio.Event()
        """Set when a part that should run for ever has died: the process should end, loudly."""
        disable_created_metrics()  # type: ignore[no-untyped-call]  # the library leaves it untyped
        self.metrics = Metrics(settings.policy.vpns, Work)
        path = settings.state_dir / "mayday.db" if settings.state_dir else None
        self.journal = Journal(path, clock=self.clock, retention_days=settings.history_days, threaded=threaded)
        self.recorder = Recorder(self.metrics, self.journal, self.clock)
        self.controller = Controller(settings, self.clock, self.recorder, self.journal)
        self.lives = Lives(self.controller, self.journal)
        deferrals = Deferrals(settings.policy.evacuation_delay_s, lambda: self.controller.acting)
        self.controller.subscribe(deferrals.watch)
        self.runtime = make_runtime(settings, self.metrics.docker_request)
        siblings = Siblings(self.controller, self.runtime, own_id or _own_container_id())
        self.observer = Observer(self.controller, self.runtime, siblings)
        self.jobs = Jobs(self.clock, self.metrics)
        self._probe = probe
        self._forwarded_port = forwarded_port
        self._serve = serve
        self._tasks: list[asyncio.Task[None]] = []
        self._session = session
        self.web: WebServer | None = None
        self.metrics.expose(lambda: self.controller.snapshot, self.clock, settings.control, Control)

    async def __aenter__(self) -> Self:
        """Start every part, the web server first: a probe for readiness is answered from the beginning."""
        await self.lives.begin()
        if self._session is None and (self._probe is None or self._serve):
            self._session = aiohttp.ClientSession()
        self._build_workers()
        if self._serve:
            self.web = WebServer(
                self.settings,
                self.controller,
                self.cleanup,
                self.provisioning,
                self.metrics,
                self.journal,
                self.selection,
            )
            await self.web.start()
            if self.settings.web_config_file:
                self._spawn("web configuration", self.web.follow_config())
        self.recorder.lived("started", f"Mayday started, CONTROL is {self.settings.control}")
        self.jobs.start()
        self._spawn("event stream", self.observer.follow())
        self._spawn("journal", self.lives.follow())
        return self

    def _build_workers(self) -> None:
        settings, controller, jobs = self.settings, self.controller, self.jobs
        forwarded, probe = self._forwarded_port, self._probe
        if self._session is not None and probe is None:
            key = settings.gluetun_api_key.reveal() if settings.gluetun_api_key else None
            gluetun = GluetunApi(self._session, settings.gluetun_api_port, key)
            probe = HttpEngineProbe(self._session, settings.engine_health_timeout_s)

            async def forwarded(vpn: str) -> int | None:
                address = controller.fleet.address(vpn)
                return None if address is None else await gluetun.forwarded_port(address)

        if probe is None:
            raise ValueError("a probe is needed where no network is used")
        calls, rehearsal = Calls(controller, self.runtime, self.observer.audit), Rehearsal(controller)
        self.cleanup = Cleanup(calls, rehearsal)
        self.provisioning = Provisioning(calls, self.cleanup, rehearsal, forwarded)
        parking = Parking(calls, rehearsal)
        autoscaler = Autoscaler(calls, self.cleanup, self.provisioning, rehearsal)
        repair = Repair(calls, self.cleanup, self.provisioning, rehearsal, probe)
        health = HealthManager(controller, repair, probe, self.observer.audit)
        self.selection = Selection(settings.policy.vpns, settings.alert_vpn_label, settings.alert_matchers)
        if forwarded is not None:
            follower = Forwarding(calls, self.cleanup, self.provisioning, rehearsal)
            jobs.every(Work.FORWARDED_PORT, FOLLOW_S, follower.follow)
            controller.subscribe(follower.watch)
        jobs.every(Work.RESYNC, settings.resync_interval_s, lambda _vpn: _nothing(self.observer.audit()))
        jobs.on_request(Work.POLL, lambda _vpn: self.observer.poll())
        jobs.on_request(Work.STABILIZATION, lambda _vpn: self._look())
        if settings.control is not Control.OFF:
            jobs.on_request(Work.CLEANUP, lambda vpn: _nothing(self.cleanup.clean_up(vpn or "")))
            jobs.on_request(Work.PARKING, lambda vpn: parking.park(vpn or ""))
            jobs.every(Work.PROVISION, settings.autoscale_interval_s, lambda _vpn: _nothing(autoscaler.provision()))
            jobs.on_request(Work.REPAIR, lambda _vpn: repair.repair())
            jobs.every(Work.ENGINE_HEALTH, settings.engine_health_interval_s, lambda _vpn: health.check())
        if settings.alertmanager_url and self._session is not None:
            api = AlertmanagerApi(self._session, settings.alertmanager_url, self.selection)
            jobs.every(Work.ALERTS, settings.alertmanager_interval_s, lambda _vpn: self._ask_alertmanager(api))
            jobs.request(Work.ALERTS, None, 0)
        controller.request = jobs.request
        controller.subscribe(News(jobs.hurry).look)

    async def _look(self) -> None:
        self.controller.evaluate()

    async def _ask_alertmanager(self, api: AlertmanagerApi) -> None:
        asked_at = self.clock.mono()
        self.controller.synchronise(await api.listing(), asked_at)

    async def __aexit__(self, *_error: object) -> None:
        """Begin nothing new, let what is under way end, close every part."""
        self.controller.close()
        await self.jobs.close(DRAIN_S)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.observer.close()
        if self.web is not None:
            await self.web.close()
        if self._session is not None:
            await self._session.close()
        await self.runtime.close()
        self.recorder.lived("stopped", "Mayday stopped; no container was touched by stopping")
        with suppress(RuntimeFailure):
            await self.journal.close()

    def _spawn(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Run something that never ends; its end, however it comes, ends the process."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        task.add_done_callback(self._ended)
        self._tasks.append(task)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            return
        log.critical("%s has ended, which it never should; Mayday stops", task.get_name(), exc_info=task.exception())
        self.failed.set()


def _own_container_id() -> str | None:
    try:
        return own_container_id(Path("/proc/self/mountinfo").read_text())
    except OSError:
        return None


async def _nothing(work: Coroutine[Any, Any, None]) -> None:
    await work
