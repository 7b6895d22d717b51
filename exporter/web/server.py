"""The web server: routes, error answers, limits."""

from __future__ import annotations

import asyncio
import json
import logging
from datetime import UTC, datetime
from itertools import chain
from typing import TYPE_CHECKING, Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from multidict import CIMultiDict
from prometheus_client.aiohttp import make_aiohttp_handler

from exporter.core.alerts import Alert, Heard
from exporter.errors import BadRequestError, ConfigError, RefusedError
from exporter.journal.history import Kind, as_json
from exporter.settings.web_config import WebConfigError
from exporter.sources.alertmanager import is_text, parse_webhook
from exporter.web import page, views
from exporter.web.access import require
from exporter.web.guard import Guard
from exporter.web.listener import KEEPALIVE_S, Door

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from exporter.actions.cleanup import Cleanup
    from exporter.actions.provisioning import Provisioning
    from exporter.controller import Controller
    from exporter.journal.journal import Journal
    from exporter.settings.settings import Settings
    from exporter.sources.alertmanager import Selection
    from exporter.telemetry.metrics import Metrics

log = logging.getLogger("mayday")

BODY_LIMIT = 4 * 1024 * 1024
"""Bytes of a request's body at most; an alert is about 1 KiB, so that is some thousand alerts in one message."""
BODY_TIMEOUT_S = 10.0
"""How long a sender may take for its body."""
LINGER_S = 2.0
"""How long the rest of a refused body is still taken, so that its sender gets to read the refusal, seconds."""
MAX_DRILL_S = 24 * 3600
HISTORY_LIMIT = 1000
LABELS_LIMIT = 64
"""Labels that somebody may ask for on one engine."""


class WebServer:
    """Every endpoint. Reads the controller's latest snapshot; what changes something is asked of the controller."""

    def __init__(
        self,
        settings: Settings,
        controller: Controller,
        cleanup: Cleanup,
        provisioning: Provisioning,
        metrics: Metrics,
        journal: Journal,
        selection: Selection,
    ) -> None:
        self._settings = settings
        self._controller = controller
        self._cleanup = cleanup
        self._provisioning = provisioning
        self._metrics = metrics
        self._journal = journal
        self._selection = selection
        self._runner: web.AppRunner | None = None
        self._door: Door | None = None
        self._guard = Guard(settings.web_config_file)
        self.address: tuple[str, int] | None = None
        """Where it listens, once it does: with APP_PORT=0 the port that the system chose."""

    def application(self) -> web.Application:
        """The application with all routes."""
        app = web.Application(middlewares=[self._answer_errors, self._admit], client_max_size=BODY_LIMIT)
        app.router.add_get("/", self._page)
        app.router.add_get("/metrics", self._exposition)
        app.router.add_get("/-/healthy", self._healthy)
        app.router.add_get("/-/ready", self._ready)
        app.router.add_get("/vpn/status", self._vpn_status)
        app.router.add_get("/engines", self._engines)
        app.router.add_get("/history", self._history)
        app.router.add_post("/webhook/alertmanager", self._webhook)
        app.router.add_put("/webhook/alertmanager", self._webhook)
        app.router.add_post("/engines", self._create_engine)
        app.router.add_delete("/engines/{ref}", self._remove_engine)
        app.router.add_post("/control/drill", self._start_drill)
        app.router.add_delete("/control/drill/{vpn}", self._end_drill)
        app.router.add_post("/control/emergency/enter", self._enter_emergency)
        app.router.add_post("/control/emergency/exit", self._exit_emergency)
        return app

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: the port is taken, or may not be used.
            ConfigError: WEB_CONFIG_FILE cannot be used.
        """
        try:
            await self._guard.open()
        except WebConfigError as error:
            raise ConfigError([f"WEB_CONFIG_FILE: {error}"]) from error
        self._runner = web.AppRunner(
            self.application(),
            access_log=None,
            handle_signals=False,
            shutdown_timeout=2.0,
            keepalive_timeout=KEEPALIVE_S,
            lingering_time=LINGER_S,
        )
        await self._runner.setup()
        assert self._runner.server is not None  # noqa: S101 - set up makes it
        self._door = Door(self._runner.server)
        tls = self._guard.config.tls
        self.address = await self._door.open(self._settings.app_host, self._settings.app_port, tls)
        log.info("listening on http%s://%s:%d", "s" if tls else "", *self.address)

    async def follow_config(self) -> None:
        """Follow the changes of the web configuration file for ever."""
        await self._guard.follow(self._config_changed)

    async def _config_changed(self, problem: str | None) -> None:
        if self._door is not None and problem is None:
            await self._door.swap(self._guard.config.tls)
        self._controller.trouble("web_config", problem)

    async def close(self) -> None:
        """Stop listening."""
        if self._door is not None:
            self._door.close()
        if self._runner is not None:
            await self._runner.cleanup()

    @web.middleware
    async def _answer_errors(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        try:
            return await handler(request)
        except BadRequestError as error:
            return web.json_response({"error": str(error)}, status=400)
        except RefusedError as error:
            wait = error.retry_after_s
            body = {"error": str(error), "code": error.code, "retry_after_seconds": wait}
            headers = {} if wait is None else {"Retry-After": str(max(1, round(wait)))}
            return web.json_response(body, status=503, headers=headers)

    @web.middleware
    async def _admit(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        settings = self._settings
        if request.path.startswith("/webhook/"):
            own_secret = settings.webhook_token
        else:
            own_secret = None if request.method in {"GET", "HEAD"} else settings.api_key
        await self._guard.check(request, own_secret)
        response = await handler(request)
        response.headers.update(self._guard.config.headers)
        return response

    # --- reading -----------------------------------------------------------------------------------------------------

    async def _page(self, _request: web.Request) -> web.Response:
        return await page.answer(self._controller, self._settings, self._journal)

    async def _exposition(self, request: web.Request) -> web.StreamResponse:
        handler = make_aiohttp_handler(self._metrics.registry)
        try:
            return await handler(request)
        except (TypeError, ValueError, LookupError):
            # An Accept header with a version that is none: as if there were no such header.
            others = [(name, value) for name, value in request.headers.items() if name.lower() != "accept"]
            return await handler(request.clone(headers=CIMultiDict(others)))

    async def _healthy(self, _request: web.Request) -> web.Response:
        return web.Response(text="Mayday is healthy.\n")

    async def _ready(self, _request: web.Request) -> web.Response:
        snapshot = self._controller.snapshot
        if snapshot.ready:
            return web.Response(text="Mayday is ready.\n")
        reason = "it is stopping" if snapshot.closing else "Docker gives no answer, or was not read yet"
        return web.Response(text=f"Mayday is not ready: {reason}.\n", status=503)

    async def _vpn_status(self, _request: web.Request) -> web.Response:
        controller = self._controller
        return web.json_response(views.vpn_status(controller.snapshot, self._settings, controller.clock.mono()))

    async def _engines(self, request: web.Request) -> web.Response:
        listed = views.engines(self._controller.snapshot)
        if request.query.get("usable") == "true":
            listed = [engine for engine in listed if engine["usable"]]
        return web.json_response(listed)

    async def _history(self, request: web.Request) -> web.Response:
        query = request.query
        kind = query.get("kind")
        if kind is not None and kind not in set(Kind):
            raise BadRequestError(f"kind is none of {', '.join(Kind)}")
        limit = _whole(query.get("limit", "100"), "limit", HISTORY_LIMIT)
        before = query.get("before")
        records = await self._journal.query(
            vpn=query.get("vpn"),
            kind=kind,
            since=_time(query.get("since"), "since"),
            until=_time(query.get("until"), "until"),
            limit=limit,
            before=None if before is None else _whole(before, "before", 2**53),
        )
        following = records[-1].id if len(records) == limit else None
        return web.json_response({"records": [as_json(item) for item in records], "next_before": following})

    # --- changing ----------------------------------------------------------------------------------------------------

    async def _webhook(self, request: web.Request) -> web.Response:
        require(request, self._settings.webhook_token, "webhook", self._metrics)
        results: dict[str, int] = {}
        try:
            items = parse_webhook(await _body(request), self._selection)
        except BadRequestError:
            self._metrics.webhook_alerts.labels("rejected").inc()
            raise
        # Ends before beginnings: an alert that moved from one VPN to another needs no second place.
        alerts = sorted((item for item in items if isinstance(item, Alert)), key=lambda alert: alert.firing)
        for heard in (*self._controller.hear_all(alerts), *(item for item in items if not isinstance(item, Alert))):
            self._metrics.webhook_alerts.labels(heard).inc()
            results[heard] = results.get(heard, 0) + 1
        status = 503 if results.get(Heard.REJECTED) else 200
        return web.json_response({"alerts": results}, status=status)

    async def _create_engine(self, request: web.Request) -> web.Response:
        require(request, self._settings.api_key, "api", self._metrics)
        body = await _json_object(request, {"vpn", "labels"})
        vpn, labels = body.get("vpn"), body.get("labels") or {}
        if vpn is not None and not isinstance(vpn, str):
            raise BadRequestError("vpn is not a text")
        if not isinstance(labels, dict) or len(labels) > LABELS_LIMIT or not all(map(is_text, chain(*labels.items()))):
            raise BadRequestError(f"labels is not an object of at most {LABELS_LIMIT} short texts")
        place = await self._provisioning.provision_one(vpn, labels)
        answer = {"container_name": place.name, "vpn_container": place.vpn, "host": place.vpn, "port": place.port}
        return web.json_response(answer, status=201)

    async def _remove_engine(self, request: web.Request) -> web.Response:
        require(request, self._settings.api_key, "api", self._metrics)
        engine = await self._cleanup.remove_one(request.match_info["ref"])
        return web.json_response({"container_id": engine.id, "container_name": engine.name})

    async def _start_drill(self, request: web.Request) -> web.Response:
        require(request, self._settings.api_key, "api", self._metrics)
        body = await _json_object(request, {"vpn", "duration_seconds"})
        vpn, duration = body.get("vpn"), body.get("duration_seconds", 300)
        if not isinstance(vpn, str):
            raise BadRequestError("vpn is not a text")
        if isinstance(duration, bool) or not isinstance(duration, int | float) or not 0 < duration <= MAX_DRILL_S:
            raise BadRequestError(f"duration_seconds is not a number above 0 and up to {MAX_DRILL_S}")
        self._controller.start_drill(vpn, float(duration), "declared by an operator")
        return web.json_response({"vpn": vpn, "duration_seconds": duration}, status=201)

    async def _end_drill(self, request: web.Request) -> web.Response:
        require(request, self._settings.api_key, "api", self._metrics)
        vpn = request.match_info["vpn"]
        if not self._controller.end_drill(vpn):
            raise BadRequestError("there is no drill on that VPN")
        return web.json_response({"vpn": vpn})

    async def _enter_emergency(self, request: web.Request) -> web.Response:
        require(request, self._settings.api_key, "api", self._metrics)
        body = await _json_object(request, {"failed_vpn", "healthy_vpn"})
        names = body.get("failed_vpn"), body.get("healthy_vpn")
        if not all(isinstance(name, str) and name in self._settings.policy.vpns for name in names):
            raise BadRequestError("failed_vpn and healthy_vpn are not both configured VPNs")
        changed = self._controller.enter_emergency_mode(str(names[0]), str(names[1]))
        return web.json_response({"changed": changed})

    async def _exit_emergency(self, request: web.Request) -> web.Response:
        require(request, self._settings.api_key, "api", self._metrics)
        return web.json_response({"changed": self._controller.exit_emergency_mode()})


async def _body(request: web.Request) -> bytes:
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            return await request.read()
    except (web.RequestPayloadError, HttpProcessingError) as error:
        raise BadRequestError("the body is not in the coding or the chunks that its head says") from error
    except ConnectionError as error:  # nobody will read this
        raise BadRequestError("the connection was lost before the body had come") from error
    except TimeoutError as error:
        raise web.HTTPRequestTimeout(text=f"the body took longer than {BODY_TIMEOUT_S:g} s\n") from error


async def _json_object(request: web.Request, known: set[str]) -> dict[str, Any]:
    body = await _body(request)
    try:
        value = json.loads(body) if body else {}
    except (ValueError, RecursionError) as error:
        raise BadRequestError("the body is not JSON") from error
    if not isinstance(value, dict):
        raise BadRequestError("the body is not a JSON object")
    if unknown := value.keys() - known:
        raise BadRequestError(f"unknown fields {sorted(unknown)!r:.200}; there are {', '.join(sorted(known))}")
    return value


def _whole(text: str, name: str, most: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20 and 1 <= int(text) <= most):
        raise BadRequestError(f"{name} is not a whole number from 1 to {most}")
    return int(text)


def _time(text: str | None, name: str) -> datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise BadRequestError(f"{name} is not a time such as 2025-11-07T22:03:33Z") from error
