"""Docker's JSON, read into values and written from them; its refusals, read into errors. Pure."""

from __future__ import annotations

import json
import re
from typing import Any

from exporter.core.dependents import SIDECAR_LABEL
from exporter.core.model import Container, ContainerHealth, ContainerState
from exporter.core.spec import EngineSpec
from exporter.core.texts import utc_time
from exporter.errors import ConflictError, MissingError, RejectedError, RuntimeFailure, UnreachableError
from exporter.runtime.base import ContainerEvent

DEFAULT_PROBE_S = 30.0
"""Docker's default for both the interval and the timeout of a health check."""
NANOSECONDS = 1e9
MESSAGE_LIMIT = 300
"""Characters of Docker's or a proxy's text that are passed on at most."""

_UPTIME_UNITS = {
    "second": 1,
    "minute": 60,
    "hour": 3600,
    "day": 86400,
    "week": 7 * 86400,
    "month": 30 * 86400,
    "year": 365 * 86400,
}
_UPTIME = re.compile(r"Up (?:(Less than a second)|(?:About )?(an?|\d+) (second|minute|hour|day|week|month|year)s?)")
_HEALTH_TEXT = re.compile(r"\((healthy|unhealthy|health: starting)\)")
_MARKUP = re.compile(r"<[^<>]*>")
_VPN_NAME_SETTING = re.compile(r"GLUETUN_CONTAINER_NAME(_\d+)?")

_DROPPED_HOST_KEYS = frozenset(
    # What Docker refuses together with `network_mode: container:…`, and what is not configuration.
    {
        "NetworkMode",
        "PortBindings",
        "PublishAllPorts",
        "Links",
        "Dns",
        "DnsOptions",
        "DnsSearch",
        "ExtraHosts",
        "ContainerIDFile",
    }
)
_CARRIED_KEYS = (
    "User",
    "WorkingDir",
    "Healthcheck",
    "Shell",
    "StopSignal",
    "StopTimeout",
    "Tty",
    "OpenStdin",
    "StdinOnce",
    "Volumes",
)

_GATEWAY_STATUSES = frozenset({502, 503, 504})
_DAEMON_STATUSES = frozenset({404, 409, 500})


def error_text(body: str) -> str:
    """The text of an error answer: the daemon's JSON message, or a proxy's page without its markup; shortened."""
    try:
        message = json.loads(body)["message"]
    except (ValueError, LookupError, TypeError):
        message = _MARKUP.sub(" ", body)
    return " ".join(str(message).split())[:MESSAGE_LIMIT]


def failure(status: int, body: str, what: str, *, creating: bool = False) -> RuntimeFailure:
    """The error for an answer with an error status; `what` names the call and the container.

    The class of a refusal differs between versions of Docker (a VPN that is gone: 404, 409 or 500), so its words count
    as well. A 404 without them is not about a container: a web server or an unknown path answered, and an existing
    container must not be taken for gone.
    """
    text = error_text(body)
    words = text.lower()
    message = f"{what}: Docker answered {status}: {text}"
    if status in _DAEMON_STATUSES and "no such container" in words:
        return MissingError(message)
    if status == 404 and creating and body.lstrip().startswith("{") and "page not found" not in words:
        return MissingError(f"{message}; pull the image, or correct ENGINE_IMAGE", image=True)
    if status == 409 or (status == 500 and ("non running container" in words or "is restarting, wait" in words)):
        return ConflictError(message)
    if status in _GATEWAY_STATUSES:
        return UnreachableError(message)
    if status in {401, 403}:
        message += "; if a socket proxy is in between, allow this call there"
    return RejectedError(message)


def wrong_version(text: str) -> bool:
    """Whether Docker refused a call for nothing but its API version."""
    words = text.lower()
    return "client version" in words and ("too old" in words or "too new" in words)


def unix_time(text: str | None) -> float | None:
    """Docker's RFC 3339 time (up to nine fraction digits) as Unix seconds; None for none and for the zero time."""
    if not text or text.startswith("0001-01-01"):
        return None
    return utc_time(text).timestamp()


def uptime_at_most(status: str) -> float | None:
    """The longest time, seconds, that a status text such as "Up About an hour (healthy)" can stand for.

    The texts are those of HumanDuration in docker/go-units, which rounds hours to the nearest and all else down.
    """
    match = _UPTIME.match(status)
    if match is None:
        return None
    if match[1]:
        return 1.0
    count = 1 if match[2] in {"a", "an"} else int(match[2])
    return float((count + 1) * _UPTIME_UNITS[match[3]])


def _addresses(body: dict[str, Any]) -> dict[str, str]:
    networks = (body.get("NetworkSettings") or {}).get("Networks") or {}
    return {name: network["IPAddress"] for name, network in networks.items() if network and network.get("IPAddress")}


def _network(body: dict[str, Any]) -> str | None:
    mode = (body.get("HostConfig") or {}).get("NetworkMode") or ""
    return mode.removeprefix("container:") if mode.startswith("container:") else None


def _state(text: str) -> ContainerState:
    try:
        return ContainerState(text)
    except ValueError:
        return ContainerState.DEAD


def _health(text: str, state: ContainerState) -> ContainerHealth:
    """None unless it runs: an inspection still tells the last one of a container that ended, and a list does not."""
    if state is not ContainerState.RUNNING:
        return ContainerHealth.NONE
    try:
        return ContainerHealth(text)
    except ValueError:
        return ContainerHealth.NONE


def listed(body: dict[str, Any]) -> Container:
    """One item of `GET /containers/json`."""
    names = body.get("Names") or []
    own = next((name for name in names if name.count("/") == 1), names[0] if names else "")
    status = body.get("Status") or ""
    health = (body.get("Health") or {}).get("Status") or ""
    if not health:
        match = _HEALTH_TEXT.search(status)
        health = match[1].removeprefix("health: ") if match else "none"
    state = _state(body.get("State") or "")
    return Container(
        id=body["Id"],
        name=own.removeprefix("/"),
        state=state,
        health=_health(health, state),
        labels=body.get("Labels") or {},
        network=_network(body),
        created_at=float(body.get("Created") or 0),
        uptime_at_most_s=uptime_at_most(status),
        addresses=_addresses(body),
    )


def inspected(body: dict[str, Any]) -> Container:
    """The answer of `GET /containers/{id}/json`."""
    state = body["State"]
    config = body.get("Config") or {}
    health = state.get("Health") or {}
    status = health.get("Status") or "none"
    shown = _state(state.get("Status") or "")
    probes = health.get("Log") or []
    check = config.get("Healthcheck") or {}
    period = None
    if status != "none":
        period = sum((check.get(key) or 0) / NANOSECONDS or DEFAULT_PROBE_S for key in ("Interval", "Timeout"))
    return Container(
        id=body["Id"],
        name=body["Name"].removeprefix("/"),
        state=shown,
        health=_health(status, shown),
        labels=config.get("Labels") or {},
        network=_network(body),
        created_at=unix_time(body.get("Created")) or 0.0,
        started_at=unix_time(state.get("StartedAt")),
        probed_at=unix_time(probes[-1].get("End")) if probes else None,
        probe_period_s=period,
        addresses=_addresses(body),
        watches=_watches(config),
    )


def _watches(config: dict[str, Any]) -> frozenset[str]:
    """The VPNs that a Mayday with this configuration acts on; only a Mayday's environment is read."""
    if SIDECAR_LABEL not in (config.get("Labels") or {}):
        return frozenset()
    pairs = dict(entry.partition("=")[::2] for entry in config.get("Env") or [])
    if pairs.get("CONTROL", "").strip().lower() not in {"", "on"}:
        return frozenset()
    names = {value.strip() for key, value in pairs.items() if _VPN_NAME_SETTING.fullmatch(key)}
    return frozenset(names - {""})


def event(body: dict[str, Any]) -> ContainerEvent | None:
    """One event; None: it is not about a container."""
    if body.get("Type", "container") != "container":
        return None
    actor = body.get("Actor") or {}
    attributes = actor.get("Attributes") or {}
    at = body.get("timeNano", 0) / NANOSECONDS or float(body.get("time", 0))
    return ContainerEvent(actor.get("ID", ""), attributes.get("name", ""), body.get("Action", ""), attributes, at)


def create_body(spec: EngineSpec) -> dict[str, Any]:
    """The body of `POST /containers/create`."""
    body: dict[str, Any] = {
        "Image": spec.image,
        "Labels": dict(spec.labels),
        "Env": [key if value is None else f"{key}={value}" for key, value in spec.environment.items()],
        **{key: value for key, value in spec.options.items() if key != "HostConfig"},
    }
    if spec.command is not None:
        body["Cmd"] = list(spec.command)
    host = spec.options.get("HostConfig")
    body["HostConfig"] = {**(host if isinstance(host, dict) else {}), "NetworkMode": f"container:{spec.network}"}
    return body


def _anonymous_volumes(body: dict[str, Any]) -> list[dict[str, Any]]:
    """The volumes that the container has without its configuration naming them, as mounts that name them."""
    host = body["HostConfig"]
    named = {bind.split(":")[1] for bind in host.get("Binds") or [] if bind.count(":")}
    named |= {mount.get("Target") for mount in host.get("Mounts") or [] if mount.get("Source")}
    return [
        {
            "Type": "volume",
            "Source": mount["Name"],
            "Target": mount["Destination"],
            "ReadOnly": not mount.get("RW", True),
        }
        for mount in body.get("Mounts") or []
        if mount.get("Type") == "volume" and mount.get("Name") and mount["Destination"] not in named
    ]


def blueprint(body: dict[str, Any]) -> EngineSpec:
    """An inspected container's own configuration, without what cannot go with another container's network."""
    config = body["Config"]
    host = {key: value for key, value in body["HostConfig"].items() if key not in _DROPPED_HOST_KEYS}
    if anonymous := _anonymous_volumes(body):
        host["Mounts"] = [*(host.get("Mounts") or []), *anonymous]
    environment: dict[str, Any] = {}
    for entry in config.get("Env") or []:
        key, equals, value = entry.partition("=")
        environment[key] = value if equals else None
    options = {key: config[key] for key in _CARRIED_KEYS if config.get(key) is not None}
    # An empty list: without it the new container would get the image's entry point, which this one may lack.
    options["Entrypoint"] = config.get("Entrypoint") or []
    return EngineSpec(
        name=body["Name"].removeprefix("/"),
        image=config["Image"],
        network=_network(body) or "",
        labels=config.get("Labels") or {},
        environment=environment,
        command=tuple(config["Cmd"]) if config.get("Cmd") else None,
        options={**options, "HostConfig": host},
    )
