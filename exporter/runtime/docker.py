"""The Docker Engine; the only importer of the docker SDK.

The SDK blocks, so every call runs in a thread of its own, with a client that no other thread uses meanwhile (the SDK
does not promise that one may be shared). The event stream has a thread and a client to itself.
"""

from __future__ import annotations

import asyncio
import importlib.util
import re
import time
from collections import deque
from typing import TYPE_CHECKING, Any, TypeVar

import requests
from docker import APIClient
from docker import errors as sdk
from docker.constants import DEFAULT_DOCKER_API_VERSION
from docker.utils import kwargs_from_env

from exporter.errors import ConfigError, MissingError, RuntimeFailure, UnreachableError
from exporter.runtime import docker_wire as wire
from exporter.runtime.base import READS, CallResult, Operation
from exporter.runtime.docker_stream import DockerEventStream
from exporter.runtime.threads import DaemonThreads

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from exporter.core.model import Container
    from exporter.core.spec import EngineSpec
    from exporter.runtime.base import OnRequest
    from exporter.settings.settings import Settings

T = TypeVar("T")

_REFERENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
"""What Docker allows as a name; anything else must not become a part of a path."""
STOPS_AT_ONCE = 64
"""For nearly all of its time a stop only waits for a container's grace to pass, which costs the daemon nothing; were it
one of a few calls at once, every grace would wait for the one before (measured, see docs/performance.md)."""
READS_AT_ONCE = 4
"""Reads wait for no change: a VPN that fails is looked at while dozens of changes wait."""


def translated(error: Exception, what: str, *, creating: bool = False) -> RuntimeFailure:
    """Our error for one of the SDK's; `what` names the call and the container."""
    answer = _answer(error)
    if answer is not None:
        return wire.failure(answer.status_code, answer.text, what, creating=creating)
    # An answer that is not Docker's, or was cut off, tells as little about containers as none.
    unread = isinstance(error, requests.JSONDecodeError) or not isinstance(error, OSError | sdk.DockerException)
    trouble = "Docker's answer could not be read" if unread else "no answer from Docker"
    return UnreachableError(f"{what}: {trouble}: {type(error).__name__}: {str(error)[: wire.MESSAGE_LIMIT]}")


def _answer(error: BaseException | None) -> requests.Response | None:
    """The answer with an error status that led to an exception, if there was one.

    The SDK fails itself (KeyError, TypeError) on an error whose JSON is not the daemon's; the answer is in its context.
    """
    while error is not None:
        response = getattr(error, "response", None)
        if isinstance(response, requests.Response) and response.status_code >= requests.codes.bad_request:
            return response
        error = error.__cause__ or error.__context__
    return None


class DockerRuntime:
    """A container runtime over the Docker Engine's API.

    The constructor touches no network; the API version is negotiated by the first call that is answered, and again when
    the daemon refuses it. `environment` holds `DOCKER_HOST`, `DOCKER_TLS_VERIFY` and `DOCKER_CERT_PATH`; proxies and
    settings of the docker command line are ignored. `timeout_s` bounds connecting and each wait for an answer.
    `on_request` is called in the thread that made the call, also where the caller was cancelled: such a call runs on.

    Raises:
        docker.errors.DockerException: the environment cannot be used.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        *,
        timeout_s: float = 10.0,
        workers: int = 8,
        on_request: OnRequest = lambda _operation, _result, _seconds: None,
    ) -> None:
        # Without any entry the SDK would read the process's own environment instead.
        self._connection = kwargs_from_env(environment={"DOCKER_HOST": "", **environment})
        self._timeout_s = timeout_s
        self._on_request = on_request
        self._workers = workers
        self._changes = DaemonThreads(workers)
        self._stops = DaemonThreads(STOPS_AT_ONCE)
        self._reads = DaemonThreads(READS_AT_ONCE)
        self._closed = False
        self._version: str | None = None
        self._idle: deque[APIClient] = deque()
        self._streams: set[DockerEventStream] = set()
        if self._connection.get("base_url", "").startswith("ssh://"):
            if importlib.util.find_spec("paramiko") is None:
                raise sdk.DockerException("ssh:// needs the package paramiko, which is not installed")
        else:
            self._idle.append(self._bare_client(DEFAULT_DOCKER_API_VERSION))

    @classmethod
    def from_settings(cls, settings: Settings, on_request: OnRequest) -> DockerRuntime:
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
        except (sdk.DockerException, OSError, ValueError) as error:
            raise ConfigError([f"DOCKER_HOST, DOCKER_TLS_VERIFY, DOCKER_CERT_PATH: {error}"]) from error

    # --- calls -------------------------------------------------------------------------------------------------------

    async def containers(self) -> list[Container]:
        """All containers, in one call."""

        def call(api: APIClient) -> list[Container]:
            return [wire.listed(item) for item in api.containers(all=True)]

        return await self._run(Operation.LIST, "list containers", call)

    async def inspect(self, ref: str) -> Container | None:
        """One container by id or exact name."""
        if not _REFERENCE.fullmatch(ref):
            return None
        try:
            container = await self._inspect(ref, wire.inspected)
        except MissingError:
            return None
        # Docker also accepts the beginning of an id: a name that looks like one must not find another container.
        return container if ref in {container.name, container.id} else None

    async def _inspect(self, ref: str, read: Callable[[dict[str, Any]], T]) -> T:
        return await self._run(Operation.INSPECT, f"inspect '{ref}'", lambda api: read(api.inspect_container(ref)))

    async def create(self, spec: EngineSpec) -> str:
        """Create a container."""
        body = wire.create_body(spec)
        what = f"create '{spec.name}'"
        return await self._run(
            Operation.CREATE, what, lambda api: str(api.create_container_from_config(body, spec.name)["Id"])
        )

    async def start(self, container_id: str) -> None:
        """Start a container."""
        await self._run(Operation.START, f"start '{container_id[:12]}'", lambda api: api.start(container_id))

    async def stop(self, container_id: str, grace_s: int | None) -> None:
        """Stop a container. The SDK adds the grace to the time-out, so a container's own is asked for."""

        def call(api: APIClient) -> None:
            own = api.inspect_container(container_id)["Config"].get("StopTimeout") if grace_s is None else grace_s
            # Without a time the SDK counts on Docker's default; a negative one means that Docker never kills.
            api.stop(container_id, timeout=own if own is None or own >= 0 else None)

        await self._run(Operation.STOP, f"stop '{container_id[:12]}'", call)

    async def restart(self, container_id: str, grace_s: int) -> None:
        """Restart a container. The SDK adds the grace to the time-out."""
        what = f"restart '{container_id[:12]}'"
        await self._run(Operation.RESTART, what, lambda api: api.restart(container_id, timeout=grace_s))

    async def remove(self, container_id: str, *, volumes: bool = False) -> None:
        """Kill and remove a container; its named volumes always stay."""
        what = f"remove '{container_id[:12]}'"
        await self._run(Operation.REMOVE, what, lambda api: api.remove_container(container_id, v=volumes, force=True))

    async def blueprint(self, container_id: str) -> EngineSpec:
        """A container's own configuration."""
        return await self._inspect(container_id, wire.blueprint)

    async def events(self) -> DockerEventStream:
        """Open the event stream."""
        stream = DockerEventStream(asyncio.get_running_loop(), self._streams.discard)
        self._streams.add(stream)
        try:
            # `_api` only settles the version; the stream is given a client of its own.
            await self._run(Operation.EVENTS, "open the event stream", lambda _api: stream.open(self._client()))
        except BaseException:  # a cancelled opening goes on in its thread, and gives up when it finds the stream closed
            await stream.close()
            raise
        return stream

    async def close(self) -> None:
        """Close all connections, without waiting for calls under way: one that hangs ends by its own time-out."""
        for stream in list(self._streams):
            await stream.close()
        self._closed = True
        for threads in (self._changes, self._stops, self._reads):
            threads.close()
        while self._idle:
            self._idle.pop().close()

    # --- how a call is made ------------------------------------------------------------------------------------------

    async def _run(self, operation: Operation, what: str, call: Callable[[APIClient], T]) -> T:
        def in_thread() -> T:
            began = time.perf_counter()
            result = CallResult.OK
            try:
                return self._attempt(call)
            except Exception as error:
                failure = translated(error, what, creating=operation is Operation.CREATE)
                result = CallResult.of(failure)
                raise failure from error
            finally:
                self._on_request(operation, result, time.perf_counter() - began)

        threads = self._changes
        if operation in READS:
            threads = self._reads
        elif operation is Operation.STOP:
            threads = self._stops
        try:
            return await threads.run(in_thread)
        except RuntimeError as error:
            raise UnreachableError(f"{what}: {error}") from error

    def _attempt(self, call: Callable[[APIClient], T]) -> T:
        api = self._borrow()
        try:
            return call(api)
        except sdk.APIError as error:
            if not wire.wrong_version(str(error.explanation)):
                raise
            # Another daemon answers on this address now. It refused before doing anything, so the call is repeated.
            self._version = None
            api = self._client()
            return call(api)
        finally:
            if self._closed or len(self._idle) >= self._workers:
                api.close()
            else:
                self._idle.append(api)

    def _borrow(self) -> APIClient:
        """A client for this thread alone, until it is put back; the last one used first, for its connection."""
        while True:
            try:
                api = self._idle.pop()
            except IndexError:
                return self._client()
            if api.api_version == self._version:
                return api
            api.close()

    def _client(self) -> APIClient:
        """A new client of the daemon's API version, which is asked for when it is not known."""
        version = self._version
        api = self._bare_client(version or DEFAULT_DOCKER_API_VERSION)
        if version is None:
            try:
                version = str(api.version(api_version=False)["ApiVersion"])
            except BaseException:
                api.close()
                raise
            self._version = api._version = version  # noqa: SLF001 - the SDK would ask in its constructor, by way of proxies
        return api

    def _bare_client(self, version: str) -> APIClient:
        api = APIClient(version=version, timeout=self._timeout_s, **self._connection)
        api.trust_env = False
        api._general_configs = {}  # noqa: SLF001 - ~/.docker/config.json may add headers, which are not meant for us
        return api
