"""The Docker Engine; the only importer of the docker SDK.

The SDK blocks, so every call runs in a thread of a pool of its own, with a client per thread (the SDK does not promise
that a client may be shared). The event stream has a thread and a client to itself.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

import docker
import requests
from docker import errors as sdk
from docker.utils import kwargs_from_env

from exporter.errors import ConfigError, ConflictError, MissingError, RejectedError, RuntimeFailure, UnreachableError
from exporter.runtime import docker_wire as wire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from exporter.config import Settings
    from exporter.core.model import Container
    from exporter.runtime.base import ContainerEvent, EngineSpec

log = logging.getLogger("mayday")

T = TypeVar("T")

EVENTS = ("start", "die", "stop", "destroy", "create", "rename", "pause", "unpause", "restart", "health_status")
"""Asked for by name: without a filter every health probe of every container would send three."""
EVENT_BACKLOG = 10_000
MESSAGE_LIMIT = 300
HTTP_NOT_FOUND, HTTP_CONFLICT, HTTP_FORBIDDEN, HTTP_SERVER_ERROR, HTTP_UNAVAILABLE = 404, 409, 403, 500, 503

_RESULTS: dict[type[RuntimeFailure], str] = {
    MissingError: "not_found",
    ConflictError: "conflict",
    UnreachableError: "unreachable",
}


def translated(error: Exception, what: str) -> RuntimeFailure:
    """Our error for one of the SDK's; `what` says what was tried, on what."""
    if isinstance(error, sdk.APIError):
        status = error.response.status_code if error.response is not None else 0
        text = str(error.explanation or error)[:MESSAGE_LIMIT]
        message = f"{what}: Docker answered {status}: {text}"
        if status == HTTP_NOT_FOUND or (status == HTTP_SERVER_ERROR and "No such container" in text):
            image = "No such image" in text
            advice = "; pull it, or correct ENGINE_IMAGE" if image else ""
            return MissingError(message + advice, image=image)
        if status == HTTP_CONFLICT:
            return ConflictError(message)
        if status == HTTP_UNAVAILABLE:
            return UnreachableError(message)
        if status == HTTP_FORBIDDEN:
            message += "; if a socket proxy stands in between, allow this call there"
        return RejectedError(message)
    if isinstance(error, KeyError | ValueError) and not isinstance(error, requests.RequestException):
        return RejectedError(f"{what}: Docker's answer could not be read: {error!r}"[:MESSAGE_LIMIT])
    return UnreachableError(f"{what}: no answer from Docker: {type(error).__name__}: {error}"[:MESSAGE_LIMIT])


class DockerRuntime:
    """A container runtime over the Docker Engine's API. The constructor touches no network."""

    def __init__(
        self,
        environment: Mapping[str, str],
        *,
        timeout_s: float = 10.0,
        workers: int = 8,
        on_request: Callable[[str, str, float], None] = lambda _operation, _result, _seconds: None,
    ) -> None:
        self._connection = kwargs_from_env(environment={"DOCKER_HOST": "", **environment})
        self._timeout_s = timeout_s
        self._on_request = on_request
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="docker")
        self._local = threading.local()
        self._version: str | None = None
        self._streams: set[DockerEventStream] = set()

    @classmethod
    def from_settings(cls, settings: Settings, on_request: Callable[[str, str, float], None]) -> DockerRuntime:
        """The runtime that the settings name.

        Raises:
            ConfigError: DOCKER_HOST, DOCKER_TLS_VERIFY or DOCKER_CERT_PATH cannot be used.
        """
        try:
            return cls(
                settings.docker_environment,
                timeout_s=settings.docker_timeout_s,
                workers=settings.docker_workers,
                on_request=on_request,
            )
        except sdk.DockerException as error:
            raise ConfigError([f"DOCKER_HOST, DOCKER_TLS_VERIFY, DOCKER_CERT_PATH: {error}"]) from error

    # --- calls -------------------------------------------------------------------------------------------------------

    async def containers(self) -> list[Container]:
        """All containers, in one call."""

        def call(api: Any) -> list[Container]:
            return [wire.listed(item) for item in api.containers(all=True)]

        return await self._run("list", "list containers", call)

    async def inspect(self, ref: str) -> Container | None:
        """One container by id or exact name."""
        try:
            container = wire.inspected(await self._inspect(ref))
        except MissingError:
            return None
        # Docker also accepts the beginning of an id: a name that happens to look like one must not find a stranger.
        return container if ref in {container.name, container.id} else None

    async def _inspect(self, ref: str) -> dict[str, Any]:
        return await self._run("inspect", f"inspect '{ref}'", lambda api: api.inspect_container(ref))

    async def create(self, spec: EngineSpec) -> str:
        """Create a container."""
        body = wire.create_body(spec)
        made = await self._run(
            "create", f"create '{spec.name}'", lambda api: api.create_container_from_config(body, spec.name)
        )
        return str(made["Id"])

    async def start(self, container_id: str) -> None:
        """Start a container."""
        await self._run("start", f"start '{container_id[:12]}'", lambda api: api.start(container_id))

    async def stop(self, container_id: str, grace_s: int) -> None:
        """Stop a container."""
        await self._run("stop", f"stop '{container_id[:12]}'", lambda api: api.stop(container_id, timeout=grace_s))

    async def restart(self, container_id: str, grace_s: int) -> None:
        """Restart a container."""
        what = f"restart '{container_id[:12]}'"
        await self._run("restart", what, lambda api: api.restart(container_id, timeout=grace_s))

    async def remove(self, container_id: str) -> None:
        """Kill and remove a container, keeping its volumes."""
        what = f"remove '{container_id[:12]}'"
        await self._run("remove", what, lambda api: api.remove_container(container_id, force=True))

    async def blueprint(self, container_id: str) -> EngineSpec:
        """A container's own configuration."""
        return wire.blueprint(await self._inspect(container_id))

    async def events(self) -> DockerEventStream:
        """Open the event stream."""
        stream = DockerEventStream(asyncio.get_running_loop(), self._streams.discard)
        self._streams.add(stream)
        try:
            await self._run("events", "open the event stream", lambda _api: stream.open(self._client(None)))
        except RuntimeFailure:
            await stream.close()
            raise
        return stream

    async def close(self) -> None:
        """Give up all connections. A call that hangs is left to its own time-out and keeps nobody waiting."""
        for stream in list(self._streams):
            await stream.close()
        self._pool.shutdown(wait=False, cancel_futures=True)

    # --- how a call is made ------------------------------------------------------------------------------------------

    async def _run(self, operation: str, what: str, call: Callable[[Any], T]) -> T:
        def in_thread() -> tuple[T | None, RuntimeFailure | None, float]:
            began = time.perf_counter()
            try:
                return call(self._api()), None, time.perf_counter() - began
            except (sdk.DockerException, requests.RequestException, OSError, KeyError, ValueError) as error:
                failure = translated(error, what)
                failure.__cause__ = error
                if isinstance(failure, RejectedError) and "client version" in str(failure):
                    self._version, self._local = None, threading.local()
                return None, failure, time.perf_counter() - began

        try:
            result, failure, seconds = await asyncio.get_running_loop().run_in_executor(self._pool, in_thread)
        except RuntimeError as error:  # the pool is shut down: Mayday ends
            raise UnreachableError(f"{what}: the connection to Docker is closed") from error
        self._on_request(operation, _RESULTS.get(type(failure), "error") if failure else "ok", seconds)
        if failure is not None:
            raise failure
        return result  # type: ignore[return-value]  # no failure: it is what `call` returned

    def _api(self) -> Any:
        api = getattr(self._local, "api", None)
        if api is None or self._local.version != self._version:
            api = self._client(self._timeout_s)
            self._local.api, self._local.version = api, self._version
        return api

    def _client(self, timeout_s: float | None) -> Any:
        """A new client; the first one asks the daemon for its API version, which all others then use."""
        client = docker.APIClient(
            version=self._version or "auto", timeout=timeout_s or self._timeout_s, **self._connection
        )
        client.trust_env = False
        self._version = client.api_version
        return client


class DockerEventStream:
    """One connection to `GET /events`, read by a thread of its own."""

    def __init__(self, loop: asyncio.AbstractEventLoop, on_close: Callable[[DockerEventStream], None]) -> None:
        self._loop = loop
        self._on_close = on_close
        self._queue: asyncio.Queue[ContainerEvent | None] = asyncio.Queue()
        self._response: Any = None
        self._client: Any = None
        self._closed = False

    def open(self, client: Any) -> None:
        """Connect, in a thread; events are delivered from then on. Raises what the SDK raises."""
        self._client = client
        url = client._url("/events")  # noqa: SLF001 - the SDK's own call checks the status only at the first event
        filters = json.dumps({"type": ["container"], "event": list(EVENTS)})
        response = client._get(url, params={"filters": filters}, stream=True, timeout=(client.timeout, None))  # noqa: SLF001
        client._raise_for_status(response)  # noqa: SLF001
        self._response = response
        threading.Thread(target=self._read, name="docker-events", daemon=True).start()

    def _read(self) -> None:
        try:
            for body in self._client._stream_helper(self._response, decode=True):  # noqa: SLF001
                event = wire.event(body)
                if event is not None:
                    self._loop.call_soon_threadsafe(self._deliver, event)
        except Exception as error:  # noqa: BLE001 - however a stream ends, it has ended
            log.debug("the event stream ended: %r", error)
        try:
            self._loop.call_soon_threadsafe(self._queue.put_nowait, None)
        except RuntimeError:
            log.debug("the event stream ended after the event loop")

    def _deliver(self, event: ContainerEvent) -> None:
        if self._queue.qsize() >= EVENT_BACKLOG:
            # Nobody reads: what is lost here is found by the re-reading that follows the end of a stream.
            self._shut()
            return
        self._queue.put_nowait(event)

    async def __aiter__(self) -> AsyncIterator[ContainerEvent]:
        """Events until the connection is gone."""
        while not self._closed:
            event = await self._queue.get()
            if event is None:
                return
            yield event

    async def close(self) -> None:
        """Drop the connection; the thread and a pending iteration end."""
        self._shut()
        self._on_close(self)

    def _shut(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._queue.put_nowait(None)
        if self._response is not None:
            try:
                socket = self._client._get_raw_response_socket(self._response)  # noqa: SLF001
                getattr(socket, "_sock", socket).shutdown(2)
            except Exception as error:  # noqa: BLE001 - the connection may be gone in many ways already
                log.debug("closing the event stream: %r", error)
            self._response.close()
