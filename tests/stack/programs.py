"""Prometheus and Alertmanager as real processes on loopback ports, with the shipped configuration at test speed."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import aiohttp
import yaml

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from typing import Self

T = TypeVar("T")

ROOT = Path(__file__).parents[2]
INTERVAL = "1s"
"""Scrapes, evaluations and notifications: the smallest that the programs take."""
PATIENCE_S = 60.0


def free_port() -> int:
    """A loopback port that nobody uses at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def until(ask: Callable[[], Awaitable[T]], what: str) -> T:
    """Ask again and again until the answer is true; it is returned."""
    last: object = None
    with suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE_S):
            while True:
                try:
                    answer = await ask()
                except (aiohttp.ClientError, OSError) as error:
                    last = error
                else:
                    if answer:
                        return answer
                    last = answer
                await asyncio.sleep(0.05)
    raise AssertionError(f"not within {PATIENCE_S:g} s: {what}; last: {last!r}")


class Program:
    """One process, its log, and its web server."""

    def __init__(self, name: str, directory: Path, port: int) -> None:
        self.name = name
        self.directory = directory / name
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self._process: subprocess.Popen[bytes] | None = None
        self._session: aiohttp.ClientSession | None = None

    def command(self) -> list[str]:
        """What to run; the configuration is written before."""
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def start(self) -> None:
        """Start it, and wait until it is ready."""
        self.directory.mkdir(parents=True, exist_ok=True)
        command = self.command()
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.directory)
        self._session = aiohttp.ClientSession()

        async def ready() -> bool:
            assert self._process is not None
            if self._process.poll() is not None:
                raise AssertionError(f"{self.name} ended:\n{(self.directory / 'log').read_text()}")
            return (await self.get("/-/ready"))[0] == 200

        await until(ready, f"{self.name} is ready")

    async def __aexit__(self, *_error: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.terminate()
            await asyncio.to_thread(self._process.wait, 20)
            self._process = None
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def get(self, path: str, **query: str) -> tuple[int, str]:
        """Status and text of a page."""
        assert self._session is not None
        async with self._session.get(self.url + path, params=query) as response:
            return response.status, await response.text()

    async def post(self, path: str, body: Any) -> Any:
        """What the API answers to an order."""
        assert self._session is not None
        async with self._session.post(self.url + path, json=body) as response:
            text = await response.text()
            assert response.status == 200, text
            return json.loads(text) if text else None

    async def json(self, path: str, **query: str) -> Any:
        """What the API answers."""
        assert self._session is not None
        async with self._session.get(self.url + path, params=query) as response:
            return await response.json()


class Prometheus(Program):
    """The shipped configuration and rules, with addresses replaced and every wait shortened."""

    def __init__(self, directory: Path, addresses: Mapping[str, str], *, local_rules: str | None = None) -> None:
        super().__init__("prometheus", directory, free_port())
        self._addresses = {"localhost:9090": f"127.0.0.1:{self.port}", **addresses}
        self._local_rules = local_rules

    def command(self) -> list[str]:
        config = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
        config["global"] = {"scrape_interval": INTERVAL, "scrape_timeout": INTERVAL, "evaluation_interval": INTERVAL}
        for place in [*config["scrape_configs"], *config["alerting"]["alertmanagers"]]:
            place.pop("scrape_interval", None)
            for group in place["static_configs"]:
                group["targets"] = [self._addresses[target] for target in group["targets"]]
        if "probe:9115" in self._addresses:
            probe = {"job_name": "vpn-probe", "static_configs": [{"targets": [self._addresses["probe:9115"]]}]}
            config["scrape_configs"].append(probe)
        (self.directory / "prometheus.yml").write_text(yaml.safe_dump(config))
        rules = self.directory / "rules"
        shutil.copytree(ROOT / "rules", rules, dirs_exist_ok=True)
        if self._local_rules:
            (rules / "local").mkdir(exist_ok=True)
            shutil.copy(ROOT / "rules/examples" / self._local_rules, rules / "local")
        for path in rules.glob("*/*.yml"):
            if path.parent.name != "tests":
                path.write_text(yaml.safe_dump(hastened(yaml.safe_load(path.read_text()))))
        return [
            "prometheus",
            "--config.file=prometheus.yml",
            "--storage.tsdb.path=data",
            "--rules.alert.resend-delay=1s",
            f"--web.listen-address=127.0.0.1:{self.port}",
            f"--web.external-url={self.url}",
            f"--web.user-assets={rules / 'runbooks'}",
        ]

    async def query(self, expression: str) -> list[dict[str, Any]]:
        """An instant query's series."""
        answer = await self.json("/api/v1/query", query=expression)
        assert answer["status"] == "success", f"{expression}: {answer}"
        return list(answer["data"]["result"])

    async def query_range(self, expression: str, start: float, end: float, step: float) -> list[dict[str, Any]]:
        """A range query's series."""
        bounds = {"start": str(start), "end": str(end), "step": str(step)}
        answer = await self.json("/api/v1/query_range", query=expression, **bounds)
        assert answer["status"] == "success", f"{expression}: {answer}"
        return list(answer["data"]["result"])

    async def value(self, expression: str) -> float | None:
        """The value of an expression that has one series, or None."""
        series = await self.query(expression)
        return float(series[0]["value"][1]) if series else None


def hastened(document: dict[str, Any]) -> dict[str, Any]:
    """Rules that wait seconds where they would wait minutes. The expressions stay, but for the probe's window."""
    for group in document["groups"]:
        group.pop("interval", None)
        for rule in group["rules"]:
            if "for" in rule:
                rule["for"] = "2s"
            if rule.get("alert") == "VpnProbeFailing":
                rule["expr"] = rule["expr"].replace("[1m]", "[3s]")
    return document


class Alertmanager(Program):
    """The shipped configuration, with addresses and waits replaced; `operator` is where the operator is told."""

    def __init__(
        self,
        directory: Path,
        *,
        mayday: str,
        operator: str,
        token_file: Path | None = None,
        own_alerts_to_mayday: bool = False,
    ) -> None:
        super().__init__("alertmanager", directory, free_port())
        self._mayday = mayday
        self._operator = operator
        self._token_file = token_file
        self._own_alerts_to_mayday = own_alerts_to_mayday

    def command(self) -> list[str]:
        config = yaml.safe_load((ROOT / "deploy/alertmanager/alertmanager.yml").read_text())
        routes = [config["route"], *config["route"]["routes"]]
        for route in routes:
            if "group_wait" in route:
                route |= {"group_wait": "0s", "group_interval": INTERVAL, "repeat_interval": "10m"}
        if self._own_alerts_to_mayday:
            config["route"]["routes"][0]["matchers"] = ['vpn=~".+"']
        receivers = {receiver["name"]: receiver for receiver in config["receivers"]}
        receivers["operator"]["webhook_configs"] = [{"url": self._operator, "send_resolved": True}]
        webhook = receivers["mayday"]["webhook_configs"][0]
        webhook["url"] = webhook["url"].replace("mayday:8000", self._mayday)
        if self._token_file:
            webhook["http_config"]["authorization"]["credentials_file"] = str(self._token_file)
        else:
            del webhook["http_config"]
        (self.directory / "alertmanager.yml").write_text(yaml.safe_dump(config))
        return [
            "prometheus-alertmanager",
            "--config.file=alertmanager.yml",
            "--storage.path=data",
            "--cluster.listen-address=",
            f"--web.listen-address=127.0.0.1:{self.port}",
        ]

    async def alerts(self) -> list[dict[str, Any]]:
        """All alerts that it knows."""
        return list(await self.json("/api/v2/alerts"))
