"""The web server: routes, error answers, limits, and the web configuration in use."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from aiohttp import web

from exporter.actions.cleanup import NOT_OWN
from exporter.errors import BadRequestError, ConfigError, NotFoundError, RefusedError
from exporter.settings.web_config import WebConfig, WebConfigError
from exporter.web.auth import Authenticator
from exporter.web.commands import Commands
from exporter.web.config_file import ConfigFile
from exporter.web.inputs import BODY_LIMIT
from exporter.web.listener import KEEPALIVE_S, Listener
from exporter.web.queries import Queries
from exporter.web.rate_limit import TokenBucket

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from exporter.actions.cleanup import Cleanup
    from exporter.actions.provisioning import Provisioning
    from exporter.controller import Controller
    from exporter.journal.journal import Journal
    from exporter.settings.settings import Settings
    from exporter.sources.alertmanager_wire import Selection
    from exporter.telemetry.metrics import Metrics

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

log = logging.getLogger("mayday")

_OF_THE_BODY = frozenset({"Content-Type", "Content-Length"})
"""Headers that are not taken over when an error's text becomes JSON."""
LINGER_S = 2.0
"""How long the rest of a refused body is still read, so that its sender gets to read the refusal, seconds."""


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
        self._queries = Queries(settings, controller, metrics, journal)
        self._commands = Commands(settings, controller, cleanup, provisioning, metrics, selection)
        self._runner: web.AppRunner | None = None
        self._listener: Listener | None = None
        self._config_file = ConfigFile(settings.web_config_file) if settings.web_config_file else None
        self._use(WebConfig())
        self.address: tuple[str, int] | None = None
        """Where it listens, once it does: with APP_PORT=0 the port that the system chose."""

    def application(self) -> web.Application:
        """The application with all routes."""
        app = web.Application(middlewares=[self._answer_errors, self._admit], client_max_size=BODY_LIMIT)
        queries, commands = self._queries, self._commands
        app.router.add_get("/", queries.page)
        app.router.add_get("/metrics", queries.metrics)
        app.router.add_get("/-/healthy", queries.healthy)
        app.router.add_get("/-/ready", queries.ready)
        app.router.add_get("/vpn/status", queries.vpn_status)
        app.router.add_get("/engines", queries.engines)
        app.router.add_get("/history", queries.history)
        app.router.add_post("/webhook/alertmanager", commands.webhook)
        app.router.add_put("/webhook/alertmanager", commands.webhook)
        app.router.add_post("/engines", commands.create_engine)
        app.router.add_delete("/engines/{ref}", commands.remove_engine)
        app.router.add_post("/control/surplus", commands.remove_surplus)
        app.router.add_post("/control/drill", commands.start_drill)
        app.router.add_delete("/control/drill/{vpn}", commands.end_drill)
        app.router.add_post("/control/emergency/enter", commands.enter_emergency)
        app.router.add_post("/control/emergency/exit", commands.exit_emergency)
        return app

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: the port is taken, or may not be used.
            ConfigError: WEB_CONFIG_FILE cannot be used.
        """
        if self._config_file is not None:
            try:
                self._use(await self._config_file.read())
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
        self._listener = Listener(self._runner.server)
        tls = self._config.tls
        self.address = await self._listener.listen(self._settings.app_host, self._settings.app_port, tls)
        log.info("listening on http%s://%s:%d", "s" if tls else "", *self.address)

    def _use(self, config: WebConfig) -> None:
        self._config = config
        self._authenticator = Authenticator(config)
        self._bucket = TokenBucket(config.rate_limit) if config.rate_limit else None

    async def follow_config(self) -> None:
        """Follow the changes of the web configuration file for ever.

        A change that cannot be used is shown as a problem, and leaves the last usable configuration in place.
        """
        if self._config_file is None:
            return
        async for found in self._config_file.changes():
            if isinstance(found, WebConfigError):
                problem = f"WEB_CONFIG_FILE: {found}; the last usable configuration stays in use until this is mended"
                log.error("%s", problem)
                self._controller.trouble("web_config", problem)
                continue
            self._use(found)
            if self._listener is not None:
                await self._listener.replace_tls(found.tls)
            log.info("WEB_CONFIG_FILE has changed; the new web configuration is in use")
            self._controller.trouble("web_config", None)

    async def close(self) -> None:
        """Stop listening."""
        if self._listener is not None:
            self._listener.close()
        if self._runner is not None:
            await self._runner.cleanup()

    @web.middleware
    async def _answer_errors(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except NotFoundError as error:
            return web.json_response({"error": str(error)}, status=404)
        except BadRequestError as error:
            return web.json_response({"error": str(error)}, status=400)
        except RefusedError as error:
            wait = error.retry_after_s
            left = None if wait is None else round(wait, 1)
            body = {"error": str(error), "code": error.code, "retry_after_seconds": left}
            headers = {} if wait is None else _retry_after(wait)
            return web.json_response(body, status=409 if error.code == NOT_OWN else 503, headers=headers)
        except web.HTTPClientError as error:
            headers = {name: value for name, value in error.headers.items() if name not in _OF_THE_BODY}
            text = (error.text or error.reason).strip()
            return web.json_response({"error": text}, status=error.status, headers=headers)

    @web.middleware
    async def _admit(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if self._bucket is not None and (wait := self._bucket.wait_s()):
            text = "too many requests: the rate_limit of the web configuration is used up\n"
            raise web.HTTPTooManyRequests(text=text, headers=_retry_after(wait))
        if request.path.startswith("/webhook/"):
            own_secret = self._settings.webhook_token
        else:
            own_secret = None if request.method in {"GET", "HEAD"} else self._settings.api_key
        await self._authenticator.check(request, own_secret)
        response = await handler(request)
        response.headers.update(self._config.headers)
        return response


def _retry_after(wait_s: float) -> dict[str, str]:
    return {"Retry-After": str(max(1, round(wait_s)))}
