"""What the oracle keeps in mind: the story, the lives of Mayday, what came about and how often."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.simulation.capacity import Capacity
from tests.simulation.engines import NEVER

if TYPE_CHECKING:
    from collections.abc import Callable

    from exporter.app import App
    from exporter.core.snapshot import Snapshot
    from exporter.runtime.simulated_host import SimulatedHost
    from exporter.settings.settings import Settings
    from tests.simulation.truth import Truth
    from tests.support.virtual_time import VirtualClock


class ViolationError(AssertionError):
    """An invariant does not hold."""


@dataclass
class Life:
    """One run of Mayday, from its start to its end."""

    app: App
    number: int
    dead: bool = False
    read: bool = False
    """It has read everything at least once."""
    lost_at: float | None = None
    """It was told that Docker gives no answer, and has read nothing whole since."""
    last_loss: float = NEVER
    changes: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """Phase changes that it showed: VPN, phase, reason."""
    entries: Counter[tuple[str, str]] = field(default_factory=Counter)
    modes: Counter[str] = field(default_factory=Counter)
    shown: Snapshot | None = None
    making: dict[str, tuple[str, int]] = field(default_factory=dict)
    """Creations that are not finished: by name, the VPN and its episode at the beginning."""
    undo: dict[str, float] = field(default_factory=dict)
    """Names that must vanish, and since when: overtaken, or their creation got no answer."""
    under_way: Counter[str] = field(default_factory=Counter)
    """Creations by automatic provisioning that were sent and not answered yet, by VPN."""
    made: set[str] = field(default_factory=set)
    """Names that it created."""


@dataclass
class Watch:
    """Watches one fleet through all lives of Mayday."""

    host: SimulatedHost
    clock: VirtualClock
    settings: Settings
    truth: Truth
    capacity: Capacity = field(init=False)
    story: list[str] = field(default_factory=list)
    """What happened, for people."""
    tally: Counter[str] = field(default_factory=Counter)
    """How often each fault, and each turn of events, has really come about."""
    life: Life | None = None
    calls: int = 0
    changes: int = 0
    """Calls that change a container."""
    violation: ViolationError | None = None
    episode: Counter[str] = field(default_factory=Counter)
    """Counts the phase changes of each VPN."""
    phase_since: dict[str, float] = field(default_factory=dict)
    healthy_from: dict[str, float] = field(default_factory=dict)
    """When a VPN's stabilization has passed."""
    targets: list[tuple[float, dict[str, int]]] = field(default_factory=list)
    """What section 4 asked for of each VPN, newest last."""
    credit: dict[str, list[float]] = field(default_factory=dict)
    """Removals by Mayday that a creation may make good."""
    beyond: int = 0
    """Engines that may come on top of the limit: those that were made by hand and replaced one for one, and those whose
    creation was under way when Mayday was killed, which Docker carries out and nobody can know of."""
    no_engine_at: float = NEVER
    """When no VPN in phase healthy had a working engine."""
    requests: int = 0
    """Requests for an engine through the API that are open."""
    asked_to_remove: set[str] = field(default_factory=set)
    asked_with_force: set[str] = field(default_factory=set)
    """Containers that Mayday did not make, and that somebody had it remove all the same."""
    forwards: set[str] = field(default_factory=set)
    """VPNs that have told of a forwarded port."""
    made_way_at: dict[str, float] = field(default_factory=dict)
    """When an engine of a VPN last made way for one on the forwarded port."""
    making_way: dict[str, str] = field(default_factory=dict)
    """By VPN, the engine that goes for one on the forwarded port."""
    stopped_by_owner: set[str] = field(default_factory=set)
    parked: set[str] = field(default_factory=set)
    """Containers of others that Mayday stopped and has to bring back."""
    owners_again: set[str] = field(default_factory=set)
    """Those that their owner touched meanwhile."""
    failed_since: dict[str, float] = field(default_factory=dict)
    """When each VPN failed, through all lives of Mayday."""
    failed_wall: dict[str, float] = field(default_factory=dict)
    """The same on the wall clock, right or wrong, Unix seconds."""
    carried_since: dict[str, float] = field(default_factory=dict)
    """Since when, beside a failed VPN, another carries that nobody can doubt."""
    failures: dict[str, list[float]] = field(default_factory=dict)
    """When each VPN has failed."""
    evacuation_delay_s: float = 5.0
    crisp: Callable[[], bool] = lambda: False
    """Whether Docker has answered every call at once, and told every event, for a while."""
    answering_since: float | None = None
    """Since when Docker has answered every call, quickly and without error; None: it does not."""
    unreachable: set[str] = field(default_factory=set)
    """VPNs whose engines Mayday cannot ask."""
    uninspected: set[str] = field(default_factory=set)
    """Containers whose newest inspection failed."""
    last_failed: str = ""
    """The VPN of the last emergency of two VPNs."""
    failing_order: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.capacity = Capacity(self.truth.engines_are)

    def tell(self, text: str) -> None:
        """Add to the story."""
        self.story.append(f"{self.clock.age():12.3f}  {text}")

    def require(self, holds: bool, claim: str) -> None:  # noqa: FBT001
        """Stop if a claim is false. A job catches what is raised in it, so the violation is kept as well."""
        if not holds:
            self.note(claim)
            assert self.violation is not None
            raise self.violation

    def note(self, claim: str) -> None:
        """A claim is false: the simulation stops at its next step."""
        self.tell(f"VIOLATED: {claim}")
        self.violation = self.violation or ViolationError(claim)
