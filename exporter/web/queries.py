"""The endpoints that only read: the page, metrics, probes, status, engines, history."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web
from multidict import CIMultiDict
from prometheus_client.aiohttp import make_aiohttp_handler

from exporter.errors import BadRequestError
from exporter.journal.history import Kind, as_json
from exporter.web import page, views
from exporter.web.inputs import known_parameters, time_parameter, truth_parameter, whole_parameter
from exporter.web.packing import coding

if TYPE_CHECKING:
    from exporter.controller import Controller
    from exporter.journal.journal import Journal
    from exporter.settings.settings import Settings
    from exporter.telemetry.metrics import Metrics

HISTORY_LIMIT = 1000
"""Records in one answer of `/history` at most."""


class Queries:
    """Answers from the controller's latest snapshot and from the journal."""

    def __init__(self, settings: Settings, controller: Controller, metrics: Metrics, journal: Journal) -> None:
        self._settings = settings
        self._controller = controller
        self._metrics = metrics
        self._journal = journal

    async def page(self, _request: web.Request) -> web.Response:
        """`GET /`."""
        return await page.answer(self._controller, self._settings, self._journal)

    async def metrics(self, request: web.Request) -> web.StreamResponse:
        """`GET /metrics`."""
        handler = make_aiohttp_handler(self._metrics.registry, disable_compression=True)
        try:
            response = await handler(request)
        except (TypeError, ValueError, LookupError):
            # The library fails on an Accept header with a malformed version: answer as if there were no such header.
            others = [(name, value) for name, value in request.headers.items() if name.lower() != "accept"]
            response = await handler(request.clone(headers=CIMultiDict(others)))
        if (packed := coding(",".join(request.headers.getall("Accept-Encoding", [])))) is not None:
            response.enable_compression(packed)
        return response

    async def healthy(self, _request: web.Request) -> web.Response:
        """`GET /-/healthy`."""
        return web.Response(text="Mayday is healthy.\n")

    async def ready(self, _request: web.Request) -> web.Response:
        """`GET /-/ready`."""
        snapshot = self._controller.snapshot
        if snapshot.ready:
            held = "; ".join(snapshot.holds.values())
            note = f"No container is touched: {held}.\n" if held else ""
            return web.Response(text=f"Mayday is ready.\n{note}")
        reason = "it is stopping" if snapshot.closing else "Docker does not answer, or has not been read yet"
        return web.Response(text=f"Mayday is not ready: {reason}.\n", status=503)

    async def vpn_status(self, request: web.Request) -> web.Response:
        """`GET /vpn/status`."""
        known_parameters(request.query, ())
        controller = self._controller
        return web.json_response(views.vpn_status(controller.snapshot, self._settings, controller.clock.mono()))

    async def engines(self, request: web.Request) -> web.Response:
        """`GET /engines`."""
        known_parameters(request.query, ("usable",))
        wanted = truth_parameter(request.query.get("usable"), "usable")
        listed = views.engines(self._controller.snapshot)
        return web.json_response([engine for engine in listed if wanted in {None, engine["usable"]}])

    async def history(self, request: web.Request) -> web.Response:
        """`GET /history`."""
        query = request.query
        known_parameters(query, ("vpn", "kind", "since", "until", "limit", "before"))
        kind = query.get("kind")
        if kind is not None and kind not in set(Kind):
            raise BadRequestError(f"kind must be one of {', '.join(Kind)}")
        limit = whole_parameter(query.get("limit", "100"), "limit", HISTORY_LIMIT)
        before = query.get("before")
        records = await self._journal.query(
            vpn=query.get("vpn"),
            kind=kind,
            since=time_parameter(query.get("since"), "since"),
            until=time_parameter(query.get("until"), "until"),
            limit=limit,
            before=None if before is None else whole_parameter(before, "before", 2**53),
        )
        following = records[-1].id if len(records) == limit else None
        return web.json_response({"records": [as_json(item) for item in records], "next_before": following})
