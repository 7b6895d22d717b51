"""From containers as Docker shows them to the fleet: which is a VPN, which an engine, which an orphan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from exporter.core.model import Container, ContainerState, Engine, Orphan
from exporter.core.policy import Response
from exporter.core.texts import whole_number

if TYPE_CHECKING:
    from collections.abc import Mapping

VPN_LABEL = "acestream.vpn_container"
HTTP_PORT_LABEL = "acestream.http_port"
HTTPS_PORT_LABEL = "acestream.https_port"
HOST_PORT_LABEL = "host.http_port"
FORWARDED_LABEL = "acestream.forwarded"
FORWARDED_PORT_LABEL = "mayday.forwarded-port"
"""The forwarded port that the container was made for."""
EXPLICIT_LABEL = "mayday.requested"
MADE_LABEL = "mayday.made"
"""On the containers that Mayday made itself, with a value that no other creation has: only these are its own."""
RESPONSE_LABEL = "mayday.on-failure"
"""On a container of others: what happens to it when its VPN fails, whatever OTHERS_ON_FAILURE says."""
SUCCESSOR_LABEL = "mayday.successor-of"
"""On a container that was made anew from another's configuration: the id of that one, which goes once this one runs."""
SIDECAR_LABEL = "mayday.sidecar"
"""On the image of Mayday itself, so that one finds another."""


@dataclass(frozen=True, slots=True)
class ManagedLabel:
    """The label that marks a container as an engine; an empty `value` accepts any value."""

    key: str
    value: str = ""

    def marks(self, container: Container) -> bool:
        """Whether the container carries it."""
        found = container.labels.get(self.key)
        return found is not None and (not self.value or found == self.value)


def vpn_of(container: Container, vpns: Mapping[str, Container | None], known_ids: Mapping[str, str]) -> str | None:
    """The configured VPN whose network an engine shares, or shared before that VPN was recreated; None: none of them.

    The network id decides; the label decides only where the id is that of a container that is not remembered.
    `known_ids` maps ids of VPN containers, past ones included, to names.
    """
    if container.network is None or container.name in vpns:
        return None
    by_id = known_ids.get(container.network)
    if by_id is not None:
        return by_id
    if container.network in vpns:
        return container.network
    by_label = container.labels.get(VPN_LABEL)
    return by_label if by_label in vpns else None


Namespace = tuple[str, float]
"""One network namespace: the VPN container's id and the start (Unix seconds by Docker's clock) that made it."""


def namespace_of(vpn: Container | None) -> Namespace | None:
    """The namespace that a VPN container has now, None when it has none or its start is not known."""
    if vpn is None or vpn.state is not ContainerState.RUNNING or vpn.started_at is None:
        return None
    return vpn.id, vpn.started_at


def orphan_kind(engine: Container, vpn: Container | None, joined: Namespace | None) -> Orphan | None:
    """How the engine lost its network, or None when it has it, or when that cannot be told yet.

    Where the namespace that the engine joined is known, it decides. Otherwise times do, which a clock that was set back
    can put out of order: an engine that was created after its VPN's last start joined the present namespace, whatever
    its own start time; else its own start time decides, which a list call does not give.
    """
    if vpn is None or vpn.state is not ContainerState.RUNNING:
        return None
    if engine.network not in {vpn.id, vpn.name}:
        return Orphan.RECREATE
    if engine.state is ContainerState.CREATED:
        return Orphan.NEVER_STARTED
    if vpn.started_at is None:
        return None
    if joined is not None:
        return None if joined == namespace_of(vpn) else Orphan.RESTART
    if engine.started_at is None:
        return None
    return Orphan.RESTART if engine.started_at < vpn.started_at else None


def read_engine(
    container: Container,
    vpns: Mapping[str, Container | None],
    label: ManagedLabel,
    known_ids: Mapping[str, str],
    healthy: Mapping[str, bool],
    joined: Mapping[str, Namespace],
) -> Engine | None:
    """The engine that a container is, None when it is none.

    `known_ids` maps ids of VPN containers, past ones included, to names. By container id, `healthy` is what its own
    API last said, `joined` the namespace that it joined.
    """
    labels = container.labels
    managed = label.marks(container)
    vpn = vpn_of(container, vpns, known_ids) if managed or concerns(labels) else None
    if vpn is None:
        return None
    return Engine(
        id=container.id,
        name=container.name,
        vpn=vpn,
        state=container.state,
        port=_port(labels.get(HTTP_PORT_LABEL) or labels.get(HOST_PORT_LABEL)),
        created_at=container.created_at,
        orphan=orphan_kind(container, vpns[vpn], joined.get(container.id)),
        healthy=healthy.get(container.id),
        explicit=labels.get(EXPLICIT_LABEL) == "true",
        forwarded=labels.get(FORWARDED_LABEL) == "true",
        forwarded_port=_port(labels.get(FORWARDED_PORT_LABEL)) if MADE_LABEL in labels else None,
        successor_of=labels.get(SUCCESSOR_LABEL),
        own=managed and MADE_LABEL in labels,
        made=labels.get(MADE_LABEL),
        # One that Mayday made under another managed label is shown for its port, and otherwise left alone.
        response=response_of(container) or (None if managed else Response.LEAVE),
        managed=managed,
        docker_health=container.health,
    )


def concerns(labels: Mapping[str, str]) -> bool:
    """Whether a dependent is of interest for other labels than the managed one."""
    return RESPONSE_LABEL in labels or MADE_LABEL in labels


def response_of(container: Container) -> Response | None:
    """What a container's label says of a failure of its VPN; what cannot be read means that it is left alone."""
    word = container.labels.get(RESPONSE_LABEL)
    if word is None:
        return None
    return Response(word) if word in set(Response) else Response.LEAVE


def _port(text: str | None) -> int | None:
    return whole_number(text or "", 1, 65535)
