"""What an operator declares: a drill makes a VPN count as failed for a limited time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from exporter.core.model import Reason, Signal, Source, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable

    from exporter.core.model import Moment
    from exporter.journal.memory import Reading, Writing


class OperatorSource:
    """At most one drill on each VPN."""

    key = "drills"

    def __init__(self, vpns: Iterable[str]) -> None:
        self._vpns = frozenset(vpns)
        self.drills: dict[str, Signal] = {}

    def drill(self, vpn: str, duration_s: float, detail: str, now: Moment) -> Signal:
        """The signal of a drill of so many seconds."""
        expires = now.mono + duration_s
        return Signal(vpn, Source.OPERATOR, Verdict.UNHEALTHY, Reason.DRILL, detail, now, expires)

    def end_drill(self, vpn: str) -> bool:
        """Take the declaration back; False: there was none."""
        return self.drills.pop(vpn, None) is not None

    def signals(self, now: Moment) -> list[Signal]:
        """The drills that go on."""
        self.drills = {vpn: drill for vpn, drill in self.drills.items() if (drill.expires or 0.0) > now.mono}
        return list(self.drills.values())

    def next_change(self, now: Moment) -> float | None:
        """When the next drill ends."""
        ends = [drill.expires for drill in self.drills.values() if drill.expires is not None]
        return min((end for end in ends if end > now.mono), default=None)

    def remember(self, times: Writing) -> Any:
        """The drills."""
        return [
            {
                "vpn": drill.vpn,
                "detail": drill.detail,
                "since": times.moment(drill.since),
                "expires": None if drill.expires is None else times.relative(drill.expires),
            }
            for drill in self.drills.values()
        ]

    def restore(self, saved: Any, times: Reading) -> None:
        """Go on with the drills of an earlier run."""
        drills = {}
        for item in saved:
            vpn = item["vpn"]
            if vpn in self._vpns:
                since, expires = times.moment(item["since"]), times.mono(item["expires"])
                detail = str(item["detail"])
                drills[vpn] = Signal(vpn, Source.OPERATOR, Verdict.UNHEALTHY, Reason.DRILL, detail, since, expires)
        self.drills = drills
