"""Which of several Maydays on one host acts."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from exporter.core.model import Container


def own_networks(containers: Iterable[Container], own_id: str | None) -> frozenset[str] | None:
    """Names of the Docker networks that a container of this id is on, be it by way of another container's network.

    None: there is no such container, or it is on none of its own, as with the host's network.
    """
    by_id = {container.id: container for container in containers}
    me = by_id.get(own_id or "")
    if me is not None and me.network is not None:
        me = next((c for c in by_id.values() if me.network in {c.id, c.name}), None)
    return frozenset(me.addresses) or None if me is not None else None


def elder(me: Container, others: Iterable[Container], vpns: Iterable[str]) -> Container | None:
    """The Mayday that acts in place of this one: the first created of those that watch one of its VPNs.

    None when this one acts. Ids break a tie, so that all Maydays name the same one.
    """
    rivals = [other for other in others if not other.watches.isdisjoint(vpns)]
    first = min([me, *rivals], key=lambda container: (container.created_at, container.id))
    return None if first is me else first
