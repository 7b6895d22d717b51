"""Finds Mayday's own container on the Docker host, and by it another Mayday at work on the same VPNs.

Of several the one whose container was created first acts; the others hold until it is gone. All of them decide that
from the times in inspections, so they agree: a listing shows whole seconds, and one created in the same second as the
Mayday at work must not take its place. A Mayday that is no container there neither sees others this way nor is seen;
two on one STATE_DIR are told apart by the journal besides.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from exporter.core.dependents import SIDECAR_LABEL
from exporter.core.model import ContainerState
from exporter.core.peers import elder, own_networks
from exporter.fleet.results import OwnNetworks

if TYPE_CHECKING:
    from collections.abc import Iterable

    from exporter.controller import Controller
    from exporter.core.model import Container
    from exporter.runtime.base import Runtime

_MOUNTED_FROM = re.compile(r"containers/([0-9a-f]{64})/")
"""In `/proc/self/mountinfo`: a container's hostname and hosts files are mounted from a folder that carries its id."""


def own_container_id(mountinfo: str) -> str | None:
    """The id of the container that we run in, None when it is none."""
    found = _MOUNTED_FROM.search(mountinfo)
    return found[1] if found else None


class Siblings:
    """Looks at every full listing, before anything is decided from it."""

    def __init__(self, controller: Controller, runtime: Runtime, own_id: str | None) -> None:
        self._controller = controller
        self._runtime = runtime
        self._own_id = own_id
        self._known: dict[str, Container] = {}
        """Inspections of Maydays, by container id: when one was created and which VPNs it controls never changes."""

    async def look(self, listing: Iterable[Container]) -> None:
        """Note which networks this one is on; hold, or go on, as the listing says.

        Raises:
            RuntimeFailure: a Mayday that is new in the listing could not be inspected.
        """
        listing = list(listing)
        self._controller.note(OwnNetworks(own_networks(listing, self._own_id)))
        # One that is paused does not act, so none waits for it.
        maydays = {c.id: c for c in listing if SIDECAR_LABEL in c.labels and c.state is ContainerState.RUNNING}
        me = maydays.pop(self._own_id or "", None)
        if me is None:
            return
        known = {}
        for container in [me, *maydays.values()] if maydays else ():
            inspected = self._known.get(container.id) or await self._runtime.inspect(container.id)
            if inspected is not None:
                known[container.id] = replace(inspected, name=container.name)
        self._known = known
        others = [known[key] for key in maydays if key in known]
        first = elder(known.get(me.id, me), others, self._controller.policy.vpns)
        reason = None
        if first is not None:
            reason = f"another Mayday, in the container '{first.name}', is at work on the same VPNs; stop one of them"
        self._controller.hold("sibling", reason)
