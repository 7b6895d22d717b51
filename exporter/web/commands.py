"""The endpoints that change something: the webhook, engines, drills, emergency mode."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from aiohttp import web

from exporter.core.alerts import Alert, Heard
from exporter.errors import BadRequestError, NotFoundError
from exporter.sources.alertmanager_wire import LABEL_LIMIT, is_text, parse_webhook
from exporter.web.auth import require
from exporter.web.inputs import read_body, read_json_object

if TYPE_CHECKING:
    from exporter.actions.cleanup import Cleanup
    from exporter.actions.provisioning import Provisioning
    from exporter.controller import Controller
    from exporter.settings.settings import Settings
    from exporter.sources.alertmanager_wire import Selection
    from exporter.telemetry.metrics import Metrics

MAX_DRILL_S = 24 * 3600
LABELS_LIMIT = 64
"""Labels that a request may ask for on one engine."""


class Commands:
    """Asks the controller, cleanup and provisioning for what authorized requests want."""

    def __init__(
        self,
        settings: Settings,
        controller: Controller,
        cleanup: Cleanup,
        provisioning: Provisioning,
        metrics: Metrics,
        selection: Selection,
    ) -> None:
        self._settings = settings
        self._controller = controller
        self._cleanup = cleanup
        self._provisioning = provisioning
        self._metrics = metrics
        self._selection = selection

    def _require_api_key(self, request: web.Request) -> None:
        require(request, self._settings.api_key, "api", self._metrics)

    async def webhook(self, request: web.Request) -> web.Response:
        """`POST /webhook/alertmanager`."""
        require(request, self._settings.webhook_token, "webhook", self._metrics)
        results: dict[str, int] = {}
        try:
            items = parse_webhook(await read_body(request), self._selection)
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

    async def create_engine(self, request: web.Request) -> web.Response:
        """`POST /engines`."""
        self._require_api_key(request)
        body = await read_json_object(request, {"vpn", "labels"})
        vpn, labels = body.get("vpn"), body.get("labels") or {}
        if vpn is not None and not isinstance(vpn, str):
            raise BadRequestError("vpn must be a string")
        if not isinstance(labels, dict) or len(labels) > LABELS_LIMIT or not all(map(is_text, chain(*labels.items()))):
            raise BadRequestError(
                f"labels must be an object of at most {LABELS_LIMIT} strings of at most {LABEL_LIMIT} characters"
            )
        place = await self._provisioning.provision_one(vpn, labels)
        answer = {
            "container_id": place.container_id,
            "container_name": place.name,
            "vpn_container": place.vpn,
            "host": place.vpn,
            "port": place.port,
        }
        return web.json_response(answer, status=201)

    async def remove_engine(self, request: web.Request) -> web.Response:
        """`DELETE /engines/{ref}`."""
        self._require_api_key(request)
        force = request.query.get("force", "false")
        if force not in {"true", "false"}:
            raise BadRequestError("force must be true or false")
        engine = await self._cleanup.remove_one(request.match_info["ref"], force=force == "true")
        return web.json_response({"container_id": engine.id, "container_name": engine.name})

    async def remove_surplus(self, request: web.Request) -> web.Response:
        """`POST /control/surplus`."""
        self._require_api_key(request)
        body = await read_json_object(request, {"vpn", "dry_run"})
        vpn, dry_run = body.get("vpn"), body.get("dry_run", False)
        if vpn is not None and not isinstance(vpn, str):
            raise BadRequestError("vpn must be a string")
        if not isinstance(dry_run, bool):
            raise BadRequestError("dry_run must be true or false")
        engines = [
            {"container_id": engine.id, "container_name": engine.name, "vpn_container": engine.vpn, "result": outcome}
            for engine, outcome in await self._cleanup.remove_surplus(vpn, dry_run=dry_run)
        ]
        return web.json_response({"dry_run": dry_run, "engines": engines})

    async def start_drill(self, request: web.Request) -> web.Response:
        """`POST /control/drill`."""
        self._require_api_key(request)
        body = await read_json_object(request, {"vpn", "duration_seconds"})
        vpn, duration = body.get("vpn"), body.get("duration_seconds", 300)
        if not isinstance(vpn, str):
            raise BadRequestError("vpn must be a string")
        if isinstance(duration, bool) or not isinstance(duration, int | float) or not 0 < duration <= MAX_DRILL_S:
            raise BadRequestError(f"duration_seconds must be a number above 0 and at most {MAX_DRILL_S}")
        self._controller.start_drill(vpn, float(duration), "declared by an operator")
        return web.json_response({"vpn": vpn, "duration_seconds": duration}, status=201)

    async def end_drill(self, request: web.Request) -> web.Response:
        """`DELETE /control/drill/{vpn}`."""
        self._require_api_key(request)
        vpn = request.match_info["vpn"]
        if not self._controller.end_drill(vpn):
            raise NotFoundError(f"no drill is running on VPN '{vpn:.80}'")
        return web.json_response({"vpn": vpn})

    async def enter_emergency(self, request: web.Request) -> web.Response:
        """`POST /control/emergency/enter`."""
        self._require_api_key(request)
        body = await read_json_object(request, {"failed_vpn", "healthy_vpn"})
        failed, healthy = body.get("failed_vpn"), body.get("healthy_vpn")
        vpns = self._settings.policy.vpns
        if failed not in vpns or healthy not in vpns:
            raise BadRequestError(f"failed_vpn and healthy_vpn must both be configured VPNs: {', '.join(vpns)}")
        return web.json_response({"changed": self._controller.enter_emergency_mode(failed, healthy)})

    async def exit_emergency(self, request: web.Request) -> web.Response:
        """`POST /control/emergency/exit`."""
        self._require_api_key(request)
        return web.json_response({"changed": self._controller.exit_emergency_mode()})
