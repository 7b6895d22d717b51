"""The condition of Mayday itself: whether it may decide, whether it may act, and what is wrong with it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from exporter.core.snapshot import Held
from exporter.settings.settings import Control

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from exporter.core.model import Container, Moment

log = logging.getLogger("mayday")


class Condition:
    """What is known of Mayday's surroundings. Owned by the controller."""

    def __init__(self, control: Control, *, alertmanager: bool) -> None:
        self._control = control
        self.docker_up = False
        self._docker_lost_at = 0.0
        self.events_connected = False
        self.alertmanager_up: bool | None = False if alertmanager else None
        """None: no ALERTMANAGER_URL is set."""
        self.read_at: Moment | None = None
        """When the facts were last read whole; None: not yet."""
        self.closing = False
        self._held: dict[str, str] = {}
        self._problems: dict[str, str] = {}

    @property
    def deciding(self) -> bool:
        """Whether anything may be decided: Docker is there, its facts are fresh, and Mayday is not about to end."""
        return self.docker_up and not self.closing

    @property
    def acting(self) -> bool:
        """Whether containers may be touched."""
        return self.deciding and self._control is Control.ON and not self._held

    @property
    def held(self) -> bool:
        """Whether another Mayday is at work here."""
        return bool(self._held)

    @property
    def holds(self) -> Mapping[Held, str]:
        """Why no container is touched, each with its sentence; empty: containers are touched where there is need."""
        holds = dict.fromkeys([Held.SIBLING] if self._held else [], "; ".join(self._held.values()))
        if self._control is not Control.ON:
            holds[Held.OFF if self._control is Control.OFF else Held.DRY_RUN] = f"CONTROL is {self._control}"
        return holds

    @property
    def why_not(self) -> str:
        """Why no container may be touched at the moment, while none may."""
        why = "Docker does not answer" if not self.docker_up else "Mayday is stopping"
        return "; ".join(self.holds.values()) or why

    @property
    def problems(self) -> tuple[str, ...]:
        """What an operator should know and act on, one sentence each."""
        return tuple(self._problems.values())

    def hold(self, part: str, reason: str | None) -> bool:
        """Begin to hold, or, with None, go on as far as this part of Mayday is concerned; whether that is news."""
        if reason == self._held.get(part):
            return False
        if reason is None:
            del self._held[part]
            log.warning("The other Mayday is gone (%s); this one acts again unless another reason is shown", part)
        else:
            self._held[part] = reason
            log.error("No container is touched: %s", reason)
        self.trouble(part, f"No container is touched: {reason}" if reason else None)
        return True

    def trouble(self, part: str, problem: str | None) -> None:
        """Note what is wrong with a part of Mayday; None: nothing is any more."""
        self._problems.pop(part, None)
        if problem is not None:
            self._problems[part] = problem

    def strayed(self, containers: Iterable[Container]) -> None:
        """Note the containers with the managed label that have lost the network of a VPN that is not known."""
        names = sorted(container.name for container in containers)
        problem = None
        if names:
            shown = ", ".join(f"'{name}'" for name in names[:5]) + (f" and {len(names) - 5} more" if names[5:] else "")
            problem = f"{shown}: the container whose network they shared is gone, and was no known VPN; recreate them"
        self.trouble("strays", problem)

    def docker_read(self, asked_at: float, now: Moment) -> None:
        """Everything was read, by questions asked at `asked_at` (monotonic seconds) and later."""
        if not self.docker_up and asked_at >= self._docker_lost_at:
            self.docker_up = True
            log.info("Docker answers; facts are read")
        self.read_at = now

    def docker_lost(self, error: Exception, mono: float) -> None:
        """Docker gave no answer."""
        if self.docker_up or self.read_at is None:
            log.warning("Docker gives no answer, nothing is changed until it does: %s", error)
        self.docker_up = False
        self._docker_lost_at = mono

    def stream_connected(self, *, connected: bool) -> None:
        """The event stream came or went."""
        if connected is not self.events_connected and not self.closing:
            level, word = (logging.INFO, "connected") if connected else (logging.WARNING, "down, polling takes over")
            log.log(level, "Docker's event stream is %s", word)
        self.events_connected = connected
