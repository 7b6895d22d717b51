"""What operators declare: drills, and emergencies of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.core.decision import drills_to_end, judge
from exporter.core.model import Phase, Reason, Source, Verdict
from exporter.core.phases import may_declare
from exporter.errors import BadRequestError, RefusedError

if TYPE_CHECKING:
    from exporter.controller import Controller
    from exporter.core.model import Moment, Signal

DECLARED_S = 3600.0
"""How long `enter` declares a VPN failed, seconds: a forgotten declaration ends by itself."""


class Declarations:
    """Checks what is declared and hands it to the controller. A part of the controller: only that calls it."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._operator = controller.operator

    def start_drill(self, vpn: str, duration_s: float, detail: str) -> None:
        """Declare a VPN failed for a limited time; errors as `Controller.start_drill`."""
        controller, now = self._controller, self._controller.clock.now()
        if vpn not in controller.state.vpns:
            raise BadRequestError(f"there is no VPN '{vpn}'; there are {', '.join(controller.policy.vpns)}")
        drill = self._operator.drill(vpn, duration_s, detail, now)
        if drills_to_end(controller.policy.vpns, [*controller.signals(now), drill], now):
            raise RefusedError(
                f"no drill on VPN '{vpn}' now: it is needed, as no other VPN is known to be healthy", code="vpn_needed"
            )
        self._operator.drills[vpn] = drill
        self._tell(vpn, f"is declared failed for {duration_s:g} s")

    def end_drill(self, vpn: str) -> bool:
        """Take the declaration back; False: there was none."""
        if not self._operator.end_drill(vpn):
            return False
        self._tell(vpn, "is no longer declared failed")
        return True

    def end_needed(self, signals: list[Signal], now: Moment) -> list[Signal]:
        """The signals, after drills on VPNs that are needed have been ended: a drill makes no real failure worse."""
        if not self._operator.drills:
            return signals
        needed = drills_to_end(self._controller.policy.vpns, signals, now)
        for vpn in needed:
            self._operator.end_drill(vpn)
            self._tell(vpn, "is needed, as no other VPN is known to be healthy; its drill has ended")
        return self._controller.signals(now) if needed else signals

    def enter(self, failed_vpn: str, healthy_vpn: str) -> bool:
        """Declare a VPN failed while another carries on. False: nothing changed."""
        controller = self._controller
        if not controller.deciding or not may_declare(controller.state, failed_vpn, healthy_vpn):
            return False
        try:
            controller.start_drill(failed_vpn, DECLARED_S, f"declared failed; {healthy_vpn} carries on")
        except RefusedError:
            return False
        return controller.is_emergency_mode()

    def exit(self) -> bool:
        """Take back all declarations, if that ends the emergency. False: nothing changed."""
        controller = self._controller
        if not controller.deciding or not controller.is_emergency_mode():
            return False
        now = controller.clock.now()
        others = [signal for signal in controller.signals(now) if signal.source is not Source.OPERATOR]
        judgements = judge(controller.policy.vpns, others, now)
        if any(judgements[name].verdict is not Verdict.HEALTHY for name in controller.state.having(Phase.FAILED)):
            return False
        for name in list(self._operator.drills):
            controller.end_drill(name)
        return not controller.is_emergency_mode()

    def _tell(self, vpn: str, what: str) -> None:
        self._controller.recorder.signalled(Reason.DRILL, f"Drill: VPN '{vpn}' {what}", vpn, {})
