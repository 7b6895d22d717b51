"""A private Docker Engine, and stand-ins for VPN and engine containers, for tests and benchmarks.

The VPN stand-in keeps what the health check of Gluetun's image says (interval, timeout, start period, retries) scaled
down, and answers on its control server's routes; the engine stand-in answers on the routes of an AceStream engine.
Both are busybox alone, imported as an image: nothing is pulled.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import signal
import socket
import subprocess
import tarfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import docker
import requests
from docker.errors import APIError, DockerException, NotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

LABEL = "orchestrator.managed"
LABEL_VALUE = "acestream"
IMAGE = "mayday-lab:latest"
SECOND = 1_000_000_000

VPN_SCRIPT = """#!/bin/sh
trap 'exit 0' TERM
httpd -p 8000 -h /www
while :; do sleep 3600 & wait $!; done
"""
ENGINE_SCRIPT = """#!/bin/sh
[ -n "$IGNORE_SIGTERM" ] && exec httpd -f -p "$HTTP_PORT" -h /www
trap 'exit 0' TERM
httpd -f -p "$HTTP_PORT" -h /www &
wait $!
"""
FILES = {
    "bin/vpn": VPN_SCRIPT,
    "bin/engine": ENGINE_SCRIPT,
    "www/v1/version": '{"version":"v3.41.1","commit":"abc1234","created":"2026-02-11T00:00:00Z"}\n',
    "www/v1/vpn/status": '{"status":"running"}\n',
    "www/v1/publicip/ip": '{"public_ip":"203.0.113.7","country":"Netherlands"}\n',
    "www/v1/portforward": '{"port":40123}\n',
    "www/webui/api/service": '{"result":{"code":3020300,"platform":"linux","version":"3.2.3"},"error":null}\n',
    "www/server/api": '{"result":{"connected":true}}\n',
}


def wait_for(condition: Callable[[], Any], what: str, timeout_s: float = 60.0) -> Any:
    """The first true value of a condition; fails after a generous time, saying what was waited for."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s:g} s: {what}")
        time.sleep(0.05)


class PrivateDockerd:
    """A Docker Engine of our own, with its own socket, data, bridge and containerd."""

    def __init__(
        self, directory: Path, *, number: int = 1, live_restore: bool = False, programs: Path | None = None
    ) -> None:
        # A daemon starts its containerd, and that its runc, by the search path.
        self._path = os.pathsep.join([*([str(programs)] if programs else []), os.environ.get("PATH", os.defpath)])
        for program in ("dockerd", "containerd", "busybox"):
            if shutil.which(program, path=self._path) is None:
                raise AssertionError(f"{program} is not installed; `make setup-test` installs it")
        self.directory = directory
        self.socket = directory / "d.sock"
        self.url = f"unix://{self.socket}"
        # Daemons that shared the usual bridge would change its address under each other's containers.
        self._bridge = f"mayday{number}"
        self.gateway = f"172.31.{200 + number}.1"
        """Where containers reach this network."""
        self._live_restore = live_restore
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Process id of the daemon."""
        if self._process is None:
            raise AssertionError("the daemon is not running")
        return self._process.pid

    def start(self) -> None:
        """Start the daemon and wait until it answers."""
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / "pid").unlink(missing_ok=True)
        (self.directory / "daemon.json").write_text("{}")
        if not self._has_bridge():
            _ip("link", "add", self._bridge, "type", "bridge")
            _ip("addr", "add", f"{self.gateway}/24", "dev", self._bridge)
            _ip("link", "set", self._bridge, "up")
        arguments = [
            str(shutil.which("dockerd", path=self._path)),
            f"--host={self.url}",
            f"--data-root={self.directory / 'data'}",
            f"--exec-root={self.directory / 'exec'}",
            f"--pidfile={self.directory / 'pid'}",
            f"--bridge={self._bridge}",
            # Nothing here is reached from outside, and daemons that start at once trip over each other's rules.
            "--iptables=false",
            f"--config-file={self.directory / 'daemon.json'}",
            *(["--live-restore"] if self._live_restore else []),
        ]
        environment = {**os.environ, "PATH": self._path}
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
            )
        wait_for(self._answers, f"dockerd answering; its log:\n{self.log_tail()}")

    def _answers(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            raise AssertionError(f"dockerd ended with {self._process.returncode}:\n{self.log_tail()}")
        try:
            client = docker.APIClient(self.url, version="auto", timeout=5)
        except (DockerException, requests.RequestException, OSError):
            return False
        client.close()
        return True

    def _has_bridge(self) -> bool:
        return self._bridge in {name for _, name in socket.if_nameindex()}

    def log_tail(self) -> str:
        """The end of the daemon's log."""
        path = self.directory / "log"
        return "\n".join(path.read_text(errors="replace").splitlines()[-15:]) if path.exists() else "(none)"

    def stop(self) -> None:
        """Stop the daemon as a service manager would."""
        self._end(signal.SIGTERM)

    def restart(self) -> None:
        """Stop and start it, as an update of its package does."""
        self.stop()
        self.start()

    def kill(self) -> None:
        """Kill the daemon at once, and its containerd with it; the containers' shims live on."""
        path = self.directory / "exec/containerd/containerd.pid"
        containerd = int(path.read_text())
        self._end(signal.SIGKILL)
        # Where nobody reaps orphans its zombie would be taken for alive by the next daemon.
        with suppress(ProcessLookupError):
            os.kill(containerd, signal.SIGKILL)
        path.unlink(missing_ok=True)

    def freeze(self) -> None:
        """Let the daemon stand still: connections are accepted, nothing is answered."""
        os.kill(self.pid, signal.SIGSTOP)
        wait_for(self._stands_still, "every thread of dockerd standing still")

    def _stands_still(self) -> bool:
        states = [
            path.read_text().rpartition(")")[2].split()[0] for path in Path(f"/proc/{self.pid}/task").glob("*/stat")
        ]
        return set(states) == {"T"}

    def thaw(self) -> None:
        """Let it go on."""
        os.kill(self.pid, signal.SIGCONT)

    def _end(self, number: int) -> None:
        if self._process is None or self._process.poll() is not None:
            self._process = None
            return
        os.kill(self._process.pid, signal.SIGCONT)
        self._process.send_signal(number)
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def destroy(self) -> None:
        """Stop everything that was started, and leave nothing behind."""
        self.stop()
        for path in self.directory.glob("exec/containerd/containerd.pid"):
            with suppress(ValueError, ProcessLookupError):
                os.kill(int(path.read_text()), signal.SIGTERM)
        self._kill_shims()
        self._unmount()
        if self._has_bridge():
            _ip("link", "del", self._bridge)
        shutil.rmtree(self.directory, ignore_errors=True)

    def _kill_shims(self) -> None:
        """End shims that outlived their containerd; they are known by our exec root in their arguments."""
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            with suppress(OSError, ValueError):
                words = (entry / "cmdline").read_bytes()
                if b"containerd-shim" in words and os.fsencode(self.directory) in words:
                    os.kill(int(entry.name), signal.SIGKILL)

    def _unmount(self) -> None:
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for mount in reversed([path for path in mounts if path.startswith(f"{self.directory}/")]):
            subprocess.run(["umount", "-l", mount], check=False, capture_output=True)


def _ip(*words: str) -> None:
    subprocess.run(["busybox", "ip", *words], check=True)


class Lab:
    """Containers on a private engine."""

    def __init__(self, dockerd: PrivateDockerd) -> None:
        self.dockerd = dockerd
        self.api = self.client()
        if not self.api.images(IMAGE):
            self.api.import_image_from_data(_root_file_system(), repository="mayday-lab", tag="latest")

    def client(self, timeout_s: float = 60) -> Any:
        """A client of the engine; threads want one each."""
        return docker.APIClient(self.dockerd.url, version="auto", timeout=timeout_s)

    @property
    def version(self) -> tuple[int, ...]:
        """The engine's version."""
        return tuple(int(part) for part in re.findall(r"\d+", str(self.api.version()["Version"]))[:2])

    def vpn(
        self,
        name: str,
        *,
        interval_s: float = 1.0,
        retries: int = 1,
        healthcheck: bool = True,
        wait: bool = True,
        restart: str = "no",
    ) -> str:
        """Create and start a VPN; returns its id once it is healthy (or at once, without `wait`)."""
        body: dict[str, Any] = {
            "Image": IMAGE,
            "Cmd": ["/bin/vpn"],
            "HostConfig": {"RestartPolicy": {"Name": restart}},
        }
        if healthcheck:
            body["Healthcheck"] = {
                "Test": ["CMD", "/bin/sh", "-c", "! test -e /bad"],
                "Interval": int(interval_s * SECOND),
                "Timeout": 5 * SECOND,
                "StartPeriod": SECOND,
                # Newer engines make the first probe after this; its default would be 5 s.
                "StartInterval": int(interval_s * SECOND),
                "Retries": retries,
            }
        container = str(self.api.create_container_from_config(body, name)["Id"])
        self.api.start(container)
        if wait and healthcheck:
            wait_for(lambda: self.health(name) == "healthy", f"{name} healthy")
        return container

    def health(self, name: str) -> str:
        """Docker's word for the health of a container."""
        return str((self.api.inspect_container(name)["State"].get("Health") or {}).get("Status", "none"))

    def fail(self, name: str) -> None:
        """Let the health check of a VPN fail from now on."""
        self._run(name, ["/bin/touch", "/bad"])

    def heal(self, name: str) -> None:
        """Let it pass again."""
        self._run(name, ["/bin/rm", "-f", "/bad"])

    def break_engine(self, ref: str) -> None:
        """Let an engine's HTTP API answer 404."""
        self._run(ref, ["/bin/rm", "-r", "/www/webui"])

    def _run(self, ref: str, command: list[str]) -> None:
        made = self.api.exec_create(ref, command)
        self.api.exec_start(made["Id"])

    def engine(
        self,
        vpn: str,
        port: int,
        name: str,
        *,
        ignore_sigterm: bool = False,
        start: bool = True,
        own: bool = False,
        labels: Mapping[str, str] | None = None,
        image: str = IMAGE,
        restart: str = "no",
    ) -> str:
        """Create and start an engine in the namespace of a VPN; `own`: as if Mayday had made it."""
        known = {"acestream.vpn_container": vpn, "acestream.http_port": str(port), "host.http_port": str(port)}
        body = {
            "Image": image,
            "Cmd": ["/bin/engine"],
            "Env": [f"HTTP_PORT={port}", *(["IGNORE_SIGTERM=1"] if ignore_sigterm else [])],
            "Labels": {
                LABEL: LABEL_VALUE,
                **(known if labels is None else labels),
                **({"mayday.made": "true"} if own else {}),
            },
            "HostConfig": {"NetworkMode": f"container:{vpn}", "RestartPolicy": {"Name": restart}},
        }
        container = str(self.api.create_container_from_config(body, name)["Id"])
        if start:
            self.api.start(container)
        return container

    def engines(self, vpn: str | None = None, *, running: bool = False) -> list[str]:
        """Names of the engines, by Docker's own word."""
        labels = [f"{LABEL}={LABEL_VALUE}", *([f"acestream.vpn_container={vpn}"] if vpn else [])]
        listed = self.api.containers(all=not running, filters={"label": labels})
        return sorted(item["Names"][0].removeprefix("/") for item in listed)

    def ids(self, *, running: bool = False) -> dict[str, str]:
        """The containers with the managed label: their ids, by name."""
        listed = self.api.containers(all=not running, filters={"label": f"{LABEL}={LABEL_VALUE}"})
        return {item["Names"][0].removeprefix("/"): item["Id"] for item in listed}

    def connected(self, ref: str) -> bool:
        """Whether a container runs in a network namespace that has a way out."""
        try:
            return "eth0" in self.network_of(ref)
        except APIError:  # it does not run, or is gone
            return False

    def all_work(self, engines: Mapping[str, str]) -> bool:
        """Whether these engines run, the same containers as before, with a network each."""
        return engines.items() <= self.ids(running=True).items() and all(self.connected(name) for name in engines)

    def image(self, tag: str, *changes: str) -> str:
        """The lab's image with lines of a Dockerfile on top, under a tag of its own."""
        name = f"mayday-lab:{tag}"
        if not self.api.images(name):
            self.api.import_image_from_data(
                _root_file_system(), repository="mayday-lab", tag=tag, changes=list(changes)
            )
        return name

    def volumes(self) -> set[str]:
        """Names of all volumes."""
        return {item["Name"] for item in self.api.volumes()["Volumes"] or []}

    def recreate(self, name: str, **options: Any) -> str:
        """Remove a VPN and create another under its name."""
        self.api.remove_container(name, force=True)
        return self.vpn(name, **options)

    def network_of(self, ref: str) -> list[str]:
        """Names of the network interfaces that a container sees."""
        made = self.api.exec_create(ref, ["/bin/ls", "/sys/class/net"])
        return str(self.api.exec_start(made["Id"]).decode()).split()

    def purge(self) -> None:
        """Remove every container, and every volume."""
        for item in self.api.containers(all=True):
            with suppress(NotFound, APIError):
                self.api.remove_container(item["Id"], force=True, v=True)
        for name in self.volumes():
            with suppress(NotFound, APIError):
                self.api.remove_volume(name)

    def health_events(self, since: float) -> Iterator[dict[str, Any]]:
        """Health events since a Unix time, from the daemon's memory."""
        stream = self.api.events(since=f"{since:.9f}", until=f"{time.time():.9f}", decode=True)
        return (event for event in stream if event["Action"].startswith("health_status"))


def _root_file_system() -> bytes:
    busybox = shutil.which("busybox")
    if busybox is None:
        raise AssertionError("busybox is not installed; `make setup-test` installs busybox-static")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for directory in ("bin", "tmp", "proc", "sys", "dev", "etc"):
            entry = tarfile.TarInfo(directory)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(entry)
        _add(archive, "bin/busybox", Path(busybox).read_bytes())
        for applet in ("sh", "httpd", "sleep", "touch", "rm", "ls", "test", "cat", "kill"):
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(link)
        for name, text in FILES.items():
            _add(archive, name, text.encode())
    return buffer.getvalue()


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), 0o755
    archive.addfile(entry, io.BytesIO(content))
