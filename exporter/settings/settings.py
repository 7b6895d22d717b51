"""The settings: read from the environment, checked whole, every fault in one message."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from exporter.core.dependents import ManagedLabel
from exporter.core.plan import divide
from exporter.core.policy import Capacity, Policy, Response
from exporter.errors import ConfigError
from exporter.settings.engine_template import DEFAULT_ENVIRONMENT, DEFAULT_IMAGE, EngineTemplate, unknown_placeholders
from exporter.settings.environment import Environment, Secret
from exporter.settings.matchers import Matcher, parse_matchers

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

DEFAULT_PORTS = range(19000, 20000)
"""Engine ports of acestream-orchestrator; without GLUETUN_PORT_RANGE_n the VPNs divide them evenly."""
DEFAULT_ALERT_EXPIRY_S = 5 * 3600
"""Longer than Alertmanager's default `repeat_interval` (4 h) rounded up to its `group_interval` (5 m)."""
DEFAULT_ALERT_MATCHERS = 'severity!~"info|none"'
"""An alert that only informs is no reason to remove engines; one without a severity is one."""


class VpnMode(StrEnum):
    """`VPN_MODE`."""

    SINGLE = "single"
    REDUNDANT = "redundant"


class Control(StrEnum):
    """`CONTROL`: whether Mayday acts, only logs what it would do, or only watches."""

    ON = "on"
    DRY_RUN = "dry-run"
    OFF = "off"


class LogFormat(StrEnum):
    """`LOG_FORMAT`."""

    TEXT = "text"
    JSON = "json"


class LogLevel(StrEnum):
    """`LOG_LEVEL`."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"

    @classmethod
    def _missing_(cls, value: object) -> LogLevel | None:
        """`warn`, as many programs call it."""
        return cls.WARNING if value == "warn" else None


@dataclass(frozen=True, slots=True)
class Settings:
    """Every setting, checked. Times are in seconds."""

    policy: Policy
    label: ManagedLabel = field(default_factory=lambda: ManagedLabel("orchestrator.managed", "acestream"))
    template: EngineTemplate = field(default_factory=EngineTemplate)
    control: Control = Control.ON
    poll_interval_s: float = 5.0
    resync_interval_s: float = 30.0
    engine_health_interval_s: float = 30.0
    engine_health_timeout_s: float = 5.0
    engine_health_failures: int = 3
    """Failures in a row after which an engine is replaced."""
    engine_stop_timeout_s: int = 0
    """Grace between SIGTERM and SIGKILL; 0 kills at once."""
    autoscale_interval_s: float = 30.0
    docker_timeout_s: float = 10.0
    docker_workers: int = 8
    """Docker calls at once; more gains nothing, the daemon saturates (measured, see docs/performance.md)."""
    docker_environment: Mapping[str, str] = field(default_factory=dict)
    """DOCKER_HOST, DOCKER_TLS_VERIFY and DOCKER_CERT_PATH as given."""
    gluetun_api_port: int = 8000
    gluetun_api_key: Secret | None = None
    app_host: str = "0.0.0.0"
    app_port: int = 8000
    web_config_file: Path | None = None
    """TLS and basic authentication, in the format of Prometheus' exporter toolkit."""
    api_key: Secret | None = None
    webhook_token: Secret | None = None
    alertmanager_url: str | None = field(default=None, repr=False)
    """May hold a name and a password."""
    alertmanager_interval_s: float = 60.0
    alert_vpn_label: str = "vpn"
    alert_matchers: tuple[Matcher, ...] = parse_matchers(DEFAULT_ALERT_MATCHERS)
    alert_expiry_s: float = DEFAULT_ALERT_EXPIRY_S
    state_dir: Path | None = None
    history_days: int = 30
    log_level: LogLevel = LogLevel.INFO
    log_format: LogFormat = LogFormat.TEXT


def from_environment(values: Mapping[str, str]) -> Settings:
    """The settings in an environment.

    Raises:
        ConfigError: naming every variable that is unusable, and why.
    """
    env = Environment(values)
    policy = _policy(env, values)
    label_key, _, label_value = env.text("CONTAINER_LABEL", "orchestrator.managed=acestream").partition("=")
    if not label_key:
        env.fault("CONTAINER_LABEL", "is not KEY=VALUE")
    url = env.text("ALERTMANAGER_URL")
    if url and not re.fullmatch(r"https?://[^/\s?#]+(/[^\s?#]*)?", url):
        env.fault("ALERTMANAGER_URL", "is not an http:// or https:// address without query")
    state_dir = env.text("STATE_DIR")
    settings = Settings(
        policy=policy,
        label=ManagedLabel(label_key, label_value),
        template=_template(env, policy),
        control=env.choice("CONTROL", Control, Control.ON),
        poll_interval_s=env.number("GLUETUN_HEALTH_CHECK_INTERVAL_S", 5, low=0.1, high=3600),
        resync_interval_s=env.number("RESYNC_INTERVAL_S", 30, low=0.1, high=3600),
        engine_health_interval_s=env.number("ENGINE_HEALTH_CHECK_INTERVAL_S", 30, low=0.1, high=3600),
        engine_health_timeout_s=env.number("ENGINE_HEALTH_CHECK_TIMEOUT_S", 5, low=0.1, high=60),
        engine_health_failures=env.integer("ENGINE_HEALTH_CHECK_FAILURES", 3, low=1, high=100),
        engine_stop_timeout_s=env.integer("ENGINE_STOP_TIMEOUT_S", 0, low=0, high=300),
        autoscale_interval_s=env.number("AUTOSCALE_INTERVAL_S", 30, low=0.1, high=3600),
        docker_timeout_s=env.number("DOCKER_TIMEOUT_S", 10, low=1, high=300),
        docker_workers=env.integer("DOCKER_WORKERS", 8, low=1, high=64),
        docker_environment={name: values[name] for name in values if name.startswith("DOCKER_")},
        gluetun_api_port=env.integer("GLUETUN_API_PORT", 8000, low=1, high=65535),
        gluetun_api_key=env.secret("GLUETUN_API_KEY"),
        app_host=env.text("APP_HOST", "0.0.0.0"),
        app_port=env.integer("APP_PORT", 8000, low=0, high=65535),
        web_config_file=_web_config(env),
        api_key=env.secret("API_KEY"),
        webhook_token=env.secret("WEBHOOK_TOKEN"),
        alertmanager_url=url.rstrip("/") or None,
        alertmanager_interval_s=env.number("ALERTMANAGER_INTERVAL_S", 60, low=0.1, high=3600),
        alert_vpn_label=env.text("ALERT_VPN_LABEL", "vpn"),
        alert_matchers=_matchers(env),
        alert_expiry_s=env.number("ALERT_EXPIRY_S", DEFAULT_ALERT_EXPIRY_S, low=1, high=30 * 86400),
        state_dir=Path(state_dir) if state_dir else None,
        history_days=env.integer("HISTORY_DAYS", 30, low=1, high=3650),
        log_level=env.choice("LOG_LEVEL", LogLevel, LogLevel.INFO),
        log_format=env.choice("LOG_FORMAT", LogFormat, LogFormat.TEXT),
    )
    if env.faults:
        raise ConfigError(env.faults)
    return settings


def _policy(env: Environment, values: Mapping[str, str]) -> Policy:
    mode = env.choice("VPN_MODE", VpnMode, VpnMode.REDUNDANT)
    vpns = _vpn_names(env, values)
    if mode is VpnMode.REDUNDANT and len(vpns) == 1:
        env.fault("GLUETUN_CONTAINER_NAME_2", "is not set; VPN_MODE=redundant needs two VPN containers or more")
    if mode is VpnMode.SINGLE and len(vpns) > 1:
        env.fault("VPN_MODE", f"is single, but {len(vpns)} VPN containers are named; name one, or set redundant")
    minimum = env.integer("MIN_REPLICAS", 10, low=0, high=10000)
    maximum = env.integer("MAX_REPLICAS", 2 * minimum, low=0, high=20000)
    if maximum < minimum:
        env.fault("MAX_REPLICAS", f"{maximum} is less than MIN_REPLICAS, {minimum}")
    policy = Policy(
        vpns=vpns,
        redundant=mode is VpnMode.REDUNDANT,
        min_replicas=minimum,
        max_replicas=maximum,
        ports=_port_ranges(env, values, vpns),
        capacity=env.choice("EMERGENCY_CAPACITY", Capacity, Capacity.REDUCED),
        evacuation_delay_s=env.number("EVACUATION_DELAY_S", 5, low=0, high=3600),
        others=env.choice("OTHERS_ON_FAILURE", Response, Response.PARK, but=Response.REMOVE),
        stabilization_s=env.number("VPN_STABILIZATION_PERIOD_S", 120, low=0, high=86400),
        start_timeout_s=env.number("VPN_START_TIMEOUT_S", 120, low=1, high=86400),
    )
    _refuse_shares_beyond_ports(env, policy)
    return policy


def _vpn_names(env: Environment, values: Mapping[str, str]) -> tuple[str, ...]:
    names = [env.required("GLUETUN_CONTAINER_NAME", "the name of the first VPN container")]
    numbers = sorted(
        int(match[1])
        for name in values
        if (match := re.fullmatch(r"GLUETUN_CONTAINER_NAME_([2-9]|[1-9][0-9]{1,2})", name)) and env.text(name)
    )
    first = "GLUETUN_CONTAINER_NAME"
    _refuse_other_numbers(env, values, first, numbers, f"number them from {first}_2 on; the first has no number")
    for expected, number in enumerate(numbers, start=2):
        variable = f"GLUETUN_CONTAINER_NAME_{number}"
        if number != expected:
            env.fault(variable, f"is set, but GLUETUN_CONTAINER_NAME_{expected} is not; number them without a gap")
            break
        names.append(env.text(variable))
    for position, name in enumerate(names, start=1):
        variable = "GLUETUN_CONTAINER_NAME" if position == 1 else f"GLUETUN_CONTAINER_NAME_{position}"
        if name and not re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*", name):
            env.fault(variable, f"{name!r} is not a name that Docker gives to containers")
        if name and name in names[: position - 1]:
            env.fault(variable, f"{name!r} is named twice")
    return tuple(names)


def _refuse_other_numbers(
    env: Environment, values: Mapping[str, str], name: str, used: Iterable[int], hint: str
) -> None:
    """Refuse numbered variables that belong to no VPN: ignoring them would hide a mistake."""
    for variable in sorted(values.keys() - {f"{name}_{number}" for number in used}):
        if variable.startswith(f"{name}_") and env.text(variable):
            env.fault(variable, f"belongs to no VPN; {hint}")


def _port_ranges(env: Environment, values: Mapping[str, str], vpns: tuple[str, ...]) -> dict[str, range]:
    size = len(DEFAULT_PORTS) // len(vpns)
    ranges: dict[str, range] = {}
    for index, vpn in enumerate(vpns):
        name = f"GLUETUN_PORT_RANGE_{index + 1}"
        ports = env.ports(name, DEFAULT_PORTS[index * size : (index + 1) * size])
        for other in ranges.values():
            if ports.start < other.stop and other.start < ports.stop:
                env.fault(
                    name, f"{ports.start}-{ports.stop - 1} overlaps {other.start}-{other.stop - 1} of another VPN"
                )
        ranges[vpn] = ports
    used = range(1, len(vpns) + 1)
    _refuse_other_numbers(env, values, "GLUETUN_PORT_RANGE", used, f"there are {len(vpns)} VPNs, numbered from 1 on")
    return ranges


def _refuse_shares_beyond_ports(env: Environment, policy: Policy) -> None:
    """Refuse a share that the VPN has no ports for: the fleet would stay below it for ever."""
    for number, (vpn, share) in enumerate(divide(policy.min_replicas, policy.vpns).items(), start=1):
        ports = len(policy.ports[vpn])
        if share > ports:
            env.fault(
                f"GLUETUN_PORT_RANGE_{number}",
                f"has {ports} ports, and the share of '{vpn}' is {share} of MIN_REPLICAS, {policy.min_replicas}; "
                "widen the range, or lower MIN_REPLICAS",
            )


def _template(env: Environment, policy: Policy) -> EngineTemplate:
    template = EngineTemplate(
        image=env.text("ENGINE_IMAGE", DEFAULT_IMAGE),
        name_prefix=env.text("ENGINE_NAME_PREFIX", "acestream"),
        environment=env.pairs("ENGINE_ENV", DEFAULT_ENVIRONMENT),
        command=env.words("ENGINE_COMMAND"),
        labels=env.pairs("ENGINE_LABELS"),
        mounts=env.words("ENGINE_MOUNTS"),
        memory_bytes=_bytes(env, "ENGINE_MEMORY"),
        cpus=env.number("ENGINE_CPUS", 0, low=0, high=1024),
        restart_policy=env.text("ENGINE_RESTART_POLICY", "unless-stopped"),
        https_offset=env.integer("ENGINE_HTTPS_PORT_OFFSET", 20000, low=1, high=65000),
        p2p_offset=env.integer("ENGINE_P2P_PORT_OFFSET", 30000, low=1, high=65000),
    )
    if not re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*", template.name_prefix):
        env.fault("ENGINE_NAME_PREFIX", f"{template.name_prefix!r} cannot begin a container's name")
    if template.restart_policy not in {"no", "always", "unless-stopped", "on-failure"}:
        env.fault(
            "ENGINE_RESTART_POLICY", f"{template.restart_policy!r} is none of no, always, unless-stopped, on-failure"
        )
    if template.https_offset == template.p2p_offset:
        env.fault("ENGINE_P2P_PORT_OFFSET", "is the same as ENGINE_HTTPS_PORT_OFFSET")
    highest = max(ports.stop - 1 for ports in policy.ports.values())
    for name, offset in (
        ("ENGINE_HTTPS_PORT_OFFSET", template.https_offset),
        ("ENGINE_P2P_PORT_OFFSET", template.p2p_offset),
    ):
        if highest + offset > 65535:
            env.fault(name, f"{offset} added to engine port {highest} is beyond port 65535")
    for mount in template.mounts:
        if mount.count(":") not in {1, 2} or not mount.split(":")[1].startswith("/"):
            env.fault("ENGINE_MOUNTS", f"{mount!r} is not SOURCE:TARGET[:OPTIONS]")
    texts = {
        "ENGINE_ENV": template.environment.values(),
        "ENGINE_COMMAND": template.command,
        "ENGINE_LABELS": template.labels.values(),
        "ENGINE_MOUNTS": template.mounts,
    }
    for name, values in texts.items():
        for word in (word for text in values for word in unknown_placeholders(text)):
            env.fault(
                name, f"{{{word}}} is no placeholder; there are {{http_port}}, {{https_port}}, {{p2p_port}}, {{vpn}}"
            )
    return template


def _bytes(env: Environment, name: str) -> int:
    value = env.text(name, "0").lower()
    match = re.fullmatch(r"([0-9]{1,12})([bkmg]?)", value)
    if match is None:
        env.fault(name, f"{value!r} is not a size such as 512m or 2g")
        return 0
    return int(match[1]) << 10 * "bkmg".index(match[2] or "b")


def _web_config(env: Environment) -> Path | None:
    name = env.text("WEB_CONFIG_FILE")
    if not name:
        return None
    from exporter.settings.web_config import WebConfigError, load  # noqa: PLC0415 - most have no such file, and need no YAML

    try:
        load(Path(name))
    except (WebConfigError, ValueError) as error:
        env.fault("WEB_CONFIG_FILE", str(error))
    return Path(name)


def _matchers(env: Environment) -> tuple[Matcher, ...]:
    try:
        return parse_matchers(env.text("ALERT_MATCHERS", DEFAULT_ALERT_MATCHERS))
    except ValueError as error:
        env.fault("ALERT_MATCHERS", str(error))
        return ()
