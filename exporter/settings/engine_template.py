"""The template of an engine: image, environment, command, labels, mounts and resources, with placeholders for ports."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING

from exporter.core.dependents import (
    EXPLICIT_LABEL,
    FORWARDED_LABEL,
    FORWARDED_PORT_LABEL,
    HOST_PORT_LABEL,
    HTTP_PORT_LABEL,
    HTTPS_PORT_LABEL,
    MADE_LABEL,
    VPN_LABEL,
    ManagedLabel,
)
from exporter.core.spec import EngineSpec

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

PLACEHOLDERS = ("http_port", "https_port", "p2p_port", "vpn")
DEFAULT_IMAGE = "ghcr.io/krinkuto11/acestream-http-proxy:latest"
DEFAULT_ENVIRONMENT = "HTTP_PORT={http_port} HTTPS_PORT={https_port} P2P_PORT={p2p_port} BIND_ALL=1"
"""The variables that the AceStream HTTP proxy image's entry point reads (its repository, commit 3a20fac)."""


@dataclass(frozen=True, slots=True)
class EngineTemplate:
    """The template; `{http_port}`, `{https_port}`, `{p2p_port}` and `{vpn}` are filled in wherever they occur."""

    image: str = DEFAULT_IMAGE
    name_prefix: str = "acestream"
    environment: Mapping[str, str] = field(default_factory=dict)
    command: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    mounts: tuple[str, ...] = ()
    """Docker's bind syntax: SOURCE:TARGET[:OPTIONS]."""
    memory_bytes: int = 0
    """0: no limit."""
    cpus: float = 0.0
    """0: no limit."""
    restart_policy: str = "unless-stopped"
    https_offset: int = 20000
    """HTTPS port = HTTP port + this: as unique in a namespace as the HTTP port is."""
    p2p_offset: int = 30000
    """P2P port = HTTP port + this, unless the VPN forwards a port."""

    def render(
        self,
        *,
        name: str,
        vpn: str,
        network: str,
        http_port: int,
        label: ManagedLabel,
        explicit: bool = False,
        forwarded_port: int | None = None,
        extra_labels: Mapping[str, str] | None = None,
    ) -> EngineSpec:
        """The specification of one engine in the namespace of container `network`."""
        values = {
            "http_port": str(http_port),
            "https_port": str(http_port + self.https_offset),
            "p2p_port": str(forwarded_port or http_port + self.p2p_offset),
            "vpn": vpn,
        }
        labels = {
            **{key: fill_in(value, values) for key, value in self.labels.items()},
            **(extra_labels or {}),
            label.key: label.value or "true",
            MADE_LABEL: "true",
            VPN_LABEL: vpn,
            HTTP_PORT_LABEL: values["http_port"],
            HTTPS_PORT_LABEL: values["https_port"],
            HOST_PORT_LABEL: values["http_port"],
        }
        if forwarded_port:
            labels |= {FORWARDED_LABEL: "true", FORWARDED_PORT_LABEL: str(forwarded_port)}
        if explicit:
            labels[EXPLICIT_LABEL] = "true"
        host: dict[str, object] = {"RestartPolicy": {"Name": self.restart_policy}}
        if self.mounts:
            host["Binds"] = [fill_in(mount, values) for mount in self.mounts]
        if self.memory_bytes:
            host["Memory"] = self.memory_bytes
        if self.cpus:
            host["NanoCpus"] = round(self.cpus * 1e9)
        return EngineSpec(
            name=name,
            image=self.image,
            network=network,
            labels=labels,
            environment={key: fill_in(value, values) for key, value in self.environment.items()},
            command=tuple(fill_in(word, values) for word in self.command) or None,
            options={"HostConfig": host},
        )

    def free_names(self, taken: Collection[str]) -> Iterator[str]:
        """Every name PREFIX-N that is not taken, the lowest number first."""
        return (name for number in count(1) if (name := f"{self.name_prefix}-{number}") not in taken)


def fill_in(text: str, values: Mapping[str, str]) -> str:
    """The text with every known placeholder replaced; other braces stay as they are."""
    return re.sub(r"\{(\w+)\}", lambda match: values.get(match[1], match[0]), text)


def unknown_placeholders(text: str) -> list[str]:
    """Words in braces that look like a placeholder but are none."""
    return [word for word in re.findall(r"\{(\w+)\}", text) if word.endswith("_port") and word not in PLACEHOLDERS]
