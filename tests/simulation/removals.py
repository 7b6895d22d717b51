"""What must hold at every removal and every stop by Mayday, judged when the call is made: invariants 3, 4, 7 and 11."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from tests.simulation.engines import MANAGED, ON_FAILURE, own
from tests.simulation.steps import AFTERMATH_S, PATIENCE_S, Steps, even
from tests.simulation.truth import REQUESTED

if TYPE_CHECKING:
    from exporter.runtime.simulated_host import Box

FORWARDED, SUCCESSOR = "mayday.forwarded-port", "mayday.successor-of"
MAKES_WAY_EVERY_S = 599.0
"""A port is worth an engine each ten minutes at most."""
BY_LABEL = {"remove": ("remove", "move"), "stop": ("park", "remove", "move")}
"""What a container's owner asks for by `mayday.on-failure`, for each of these calls."""


class Removals(Steps):
    """The rules of removals."""

    def before_change(self, operation: str, vpn: str | None) -> tuple[str, str]:
        """What holds for every such call; returns the phase of the VPN and the mode, as Mayday shows them."""
        self.look()
        life = self.life
        assert life is not None
        snapshot = life.app.controller.snapshot
        lost = life.lost_at is not None and self.clock.age() > life.lost_at
        self.require(snapshot.docker_up, f"{operation} while Docker was shown as unreachable (invariant 5)")
        self.require(
            not lost, f"{operation}, and nothing was read since Docker was lost at {life.lost_at} (invariant 5)"
        )
        self.require(life.read, f"{operation} before everything was read (invariant 5)")
        self.require(not snapshot.closing, f"{operation} after the end had begun (invariant 7)")
        phase = str(snapshot.state.vpns[vpn].phase) if vpn is not None and vpn in snapshot.state.vpns else "none"
        return phase, str(snapshot.state.mode)

    def before_remove(self, container_id: str) -> None:
        """Whatever is removed: whose it is, why it must go, and who carries on."""
        box = self.host.boxes.get(container_id)
        if box is None:
            return
        vpn = self.truth.vpn_of(box)
        phase, mode = self.before_change("remove", vpn)
        works = self.truth.engines_are.works(box)
        self.tell(f"remove {box.name} on {vpn} ({phase}, {mode}, {'works' if works else 'does not work'})")
        life = self.life
        assert life is not None
        asked = bool({box.name, box.id} & self.asked_to_remove)
        if not own(box):
            self._require_others(box, "remove", phase)
            return
        self.require(vpn is not None, f"removal of {box.name}, which is no engine of ours")
        if phase == "healthy":
            self.credit.setdefault(str(vpn), []).append(self.clock.age())
        if box.name in life.making or box.name in life.undo or asked:
            return
        if phase == "failed":
            self._require_safe(box, str(vpn), mode)
            return
        self.require(mode != "outage", f"{box.name} was removed in an outage (invariant 4)")
        self.require(phase == "healthy", f"{box.name} was removed from {vpn} in phase {phase} (invariant 3)")
        if self.truth.orphaned(box):
            return
        self.require(mode == "normal", f"{box.name} was replaced in mode {mode} (section 4)")
        if self._in_the_way(box, str(vpn)):
            return
        if self._makes_way(box, str(vpn)):
            return
        idle_s = self.clock.age() - self.truth.engines_are.idle_at[box.id]
        self.require(
            idle_s < AFTERMATH_S + 5, f"a working engine, {box.name}, was removed from {vpn} in phase {phase} (4)"
        )

    def before_stop(self, container_id: str) -> None:
        """A stop is the beginning of a removal, or parks what somebody else made."""
        box = self.host.boxes.get(container_id)
        if box is None or own(box):
            self.before_remove(container_id)
            return
        vpn = self.truth.vpn_of(box) or self._any_vpn_of(box)
        phase, mode = self.before_change("stop", vpn)
        self.tell(f"stop {box.name} on {vpn} ({phase}, {mode})")
        self._require_others(box, "stop", phase)
        self.parked.add(box.id)

    def _require_others(self, box: Box, operation: str, phase: str) -> None:
        """Invariant 11: what somebody else made."""
        forced = bool({box.name, box.id} & self.asked_with_force)
        if forced:
            return
        response = box.labels.get(ON_FAILURE, "park" if MANAGED in box.labels else "leave")
        asked_for = response in BY_LABEL[operation]
        self.require(asked_for, f"{operation} of {box.name}, which Mayday did not make (invariant 11)")
        self.require(box.id not in self.owners_again, f"{operation} of {box.name}, which its owner took back (11)")
        vpn = self.truth.vpn_of(box) or self._any_vpn_of(box)
        self.require(phase == "failed", f"{operation} of {box.name} on {vpn} in phase {phase} (invariant 3)")
        self._require_safe(box, str(vpn), str(self.life.app.controller.snapshot.state.mode) if self.life else "")

    def _require_safe(self, box: Box, vpn: str, mode: str) -> None:
        """Invariant 4: evacuation only where it is proven needed now, and another carries."""
        age, truth = self.clock.age(), self.truth
        self.require(mode == "emergency", f"{box.name} was removed from a failed VPN in mode {mode} (invariant 4)")
        lasted = age - self.failed_since.get(vpn, age)
        self.require(
            lasted >= self.evacuation_delay_s - 0.01,
            f"{box.name} was evacuated {lasted:.1f} s after {vpn} had failed (section 4)",
        )
        expiry_s = self.settings.alert_expiry_s + PATIENCE_S
        self.require(
            truth.accused(vpn, self.grace_s, expiry_s),
            f"{box.name} was evacuated, and nothing speaks against {vpn} any more (section 0)",
        )
        if self.settings.policy.min_replicas == 0:
            return
        assert self.life is not None
        snapshot = self.life.app.controller.snapshot
        healthy = {name for name, state in snapshot.state.vpns.items() if str(state.phase) == "healthy"}
        carriers = healthy.intersection(truth.carriers(vpn, self.grace_s))
        # An engine that could not be asked yet is taken to work until it was.
        unasked = {e.vpn for e in snapshot.fleet.engines if e.healthy is None} & healthy - {vpn}
        self.require(
            bool(carriers | unasked), f"{box.name} was evacuated from {vpn}, and nobody else carries (invariant 4)"
        )

    def _in_the_way(self, box: Box, vpn: str) -> bool:
        """Whether it is surplus in the way of another VPN's share, as after an emergency at full capacity."""
        policy = self.settings.policy
        share = even(policy.min_replicas, policy.vpns)
        planned = {name: self._planned(name) for name in policy.vpns}
        surplus = box.labels.get(REQUESTED) != "true" and planned[vpn] > share[vpn]
        short = [name for name in policy.vpns if planned[name] <= share[name]]
        full = str(policy.capacity) == "full" or len(self.truth.own_engines()) >= policy.max_replicas
        return surplus and bool(short) and full

    def _makes_way(self, box: Box, vpn: str) -> bool:
        """Whether it goes for an engine on the forwarded port: that one is there, or is to be, and not often."""
        truth, own_there = self.truth, self.truth.own_engines(vpn)
        if any(b.labels.get(SUCCESSOR) == box.id and truth.engines_are.serves(b) for b in own_there if b is not box):
            return FORWARDED not in box.labels
        if self.making_way.get(vpn) == box.id:  # it was stopped for that already
            return True
        there = any(FORWARDED in other.labels for other in own_there if other is not box)
        often = self.clock.age() - self.made_way_at.get(vpn, -math.inf) <= MAKES_WAY_EVERY_S
        if vpn not in self.forwards or there or often:
            return False
        self.making_way[vpn], self.made_way_at[vpn] = box.id, self.clock.age()
        return True

    def _planned(self, vpn: str) -> int:
        return sum(box.labels.get(REQUESTED) != "true" for box in self.truth.own_engines(vpn))

    def _any_vpn_of(self, box: Box) -> str | None:
        return self.truth.ids.get(box.network or "")
