"""Which of several Maydays on one host acts."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from exporter.core.model import Container


def elder(me: Container, others: Iterable[Container], vpns: Iterable[str]) -> Container | None:
    """The Mayday that acts in place of this one: the first created of those that watch one of its VPNs.

    None when this one acts. Ids break a tie, so that all Maydays name the same one.
    """
    rivals = [other for other in others if not other.watches.isdisjoint(vpns)]
    first = min([me, *rivals], key=lambda container: (container.created_at, container.id))
    return None if first is me else first
