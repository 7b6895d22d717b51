"""The bare daemon: the same work done by nothing but API calls, so many at a time."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import docker

from tests.support.lab import IMAGE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tests.support.lab import Lab


class Bare:
    """Creates and removes engines on a VPN that Mayday does not know, with engines that carry no label of its."""

    def __init__(self, lab: Lab, *, environment: tuple[str, ...] = (), grace_s: int = 0) -> None:
        self._lab = lab
        self._environment = environment
        self._grace_s = grace_s
        self._vpn = lab.vpn("bare", healthcheck=False)
        self._made = 0

    def create(self, count: int, at_once: int) -> tuple[list[str], float]:
        """Create and start engines; their ids, and the seconds it took."""
        self._made += count

        def create(api: Any, number: int) -> str:
            port = 21000 + number % 1000
            body = {
                "Image": IMAGE,
                "Cmd": ["/bin/engine"],
                "Env": [f"HTTP_PORT={port}", *self._environment],
                # As many labels as Mayday gives: the daemon writes them down.
                "Labels": {f"bare.{key}": str(port) for key in ("managed", "vpn", "http", "https", "host")},
                "HostConfig": {"NetworkMode": f"container:{self._vpn}", "RestartPolicy": {"Name": "unless-stopped"}},
            }
            made = str(api.create_container_from_config(body, f"bare-{number}")["Id"])
            api.start(made)
            return made

        return self._in_parallel(create, range(self._made - count, self._made), at_once)

    def remove(self, ids: Iterable[str], at_once: int) -> float:
        """Remove them, after their grace where there is one; seconds."""

        def remove(api: Any, ref: str) -> None:
            if self._grace_s:
                api.stop(ref, timeout=self._grace_s)
            api.remove_container(ref, force=True)

        return self._in_parallel(remove, ids, at_once)[1]

    def _in_parallel(
        self, call: Callable[[Any, Any], Any], items: Iterable[Any], at_once: int
    ) -> tuple[list[Any], float]:
        local = threading.local()
        url, version = self._lab.dockerd.url, self._lab.api.api_version

        def run(item: Any) -> Any:
            if not hasattr(local, "api"):
                local.api = docker.APIClient(url, version=version, timeout=60)
            return call(local.api, item)

        with ThreadPoolExecutor(at_once) as pool:
            began = time.perf_counter()
            results = list(pool.map(run, items))
            return results, time.perf_counter() - began
