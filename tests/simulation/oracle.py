"""What must hold at every call of Mayday that changes a container, checked from outside."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.core.model import ContainerState
from tests.simulation.steps import AFTERMATH_S, PATIENCE_S, Steps
from tests.simulation.truth import BY_HAND, MANAGED, NEVER, REQUESTED, VPN

if TYPE_CHECKING:
    from exporter.core.spec import EngineSpec


class Oracle(Steps):
    """All rules: those of each step, and those of each call."""

    # --- before each call that changes something ---------------------------------------------------------------------

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

    def before_create(self, spec: EngineSpec) -> None:
        """Invariants 1 and 6."""
        vpn = self.truth.ids.get(spec.network, spec.labels.get(VPN, ""))
        phase, mode = self.before_change("create", vpn)
        self.tell(f"create {spec.name} on {vpn} ({phase}, {mode})")
        labelled = MANAGED in spec.labels and spec.labels.get(VPN) in {vpn, None}
        self.require(labelled, f"{spec.name} is made on {vpn} with labels {spec.labels}")
        self.require(phase == "healthy", f"creation on {vpn} in phase {phase} (invariant 1)")
        self.require(mode != "outage", "creation in an outage")
        life, truth = self.life, self.truth
        assert life is not None
        total = len(truth.known(truth.engines(), life.made, AFTERMATH_S)) + sum(life.under_way.values())
        maximum = self.settings.policy.max_replicas
        if spec.labels.get(REQUESTED) == "true":
            good = (self.requests > 0 and total < maximum) or self._made_good(vpn)
            self.require(good, f"{spec.name} is created as requested, beside {total} of {maximum} (invariant 6)")
            return
        carried = [
            b for b in truth.known(truth.engines(vpn), life.made, AFTERMATH_S) if b.labels.get(REQUESTED) != "true"
        ]
        target = max(asked[vpn] for _, asked in self.targets)
        if mode == "emergency":
            emergency = life.app.controller.snapshot.state.emergency
            assert emergency is not None
            entered = self.clock.age() - (self.clock.mono() - emergency.entered.mono)
            if self.no_engine_at >= entered - PATIENCE_S:
                # One that does not work does not count then, because nobody replaces it during an emergency.
                carried = [b for b in carried if b.state is ContainerState.RUNNING and not self._silent(b)]
            elif str(self.settings.policy.capacity) == "reduced" and self.clock.age() - self.changed_at() > AFTERMATH_S:
                target = 0
        count = len(carried) + life.under_way[vpn]
        self.require(
            (count < target and total < maximum) or self._made_good(vpn),
            f"creation on {vpn}, which carries {[b.name for b in carried]} and {life.under_way[vpn]} under way, "
            f"and should carry {target}; in all {total} of {maximum} (invariant 6)",
        )

    def changed_at(self) -> float:
        """When any VPN last changed its phase."""
        return max(self.phase_since.values(), default=NEVER)

    def _made_good(self, vpn: str) -> bool:
        """Whether Mayday removed an engine there a moment ago to make it anew."""
        removals = [at for at in self.credit.get(vpn, []) if self.clock.age() - at < AFTERMATH_S]
        self.credit[vpn] = removals[1:]
        return bool(removals)

    def before_remove(self, container_id: str) -> None:
        """Invariants 3 and 4."""
        box = self.host.boxes.get(container_id)
        if box is None:
            return
        vpn = self.truth.vpn_of(box)
        phase, mode = self.before_change("remove", vpn)
        works = self.host.answers(box.id)
        if not works:
            self.truth.silent_at[box.id] = self.clock.age()
        self.tell(f"remove {box.name} on {vpn} ({phase}, {mode}, {'works' if works else 'does not work'})")
        life = self.life
        assert life is not None
        self.require(vpn is not None, f"removal of {box.name}, which is no engine of ours")
        if phase == "healthy":
            self.beyond += box.name.startswith(BY_HAND)
            self.credit.setdefault(str(vpn), []).append(self.clock.age())
        if box.name in life.making or box.name in life.undo or {box.name, box.id} & self.asked_to_remove:
            return
        self.require(mode != "outage", f"{box.name} was removed in an outage (invariant 4)")
        if phase == "failed":
            self.require(mode == "emergency", f"{box.name} was removed from a failed VPN in mode {mode}")
            return
        self.require(phase == "healthy", f"{box.name} was removed from {vpn} in phase {phase} (invariant 3)")
        if self.truth.orphaned(box):
            return
        self.require(mode == "normal", f"{box.name} was replaced in mode {mode} (section 4)")
        recently = self.clock.age() - self.truth.silent_at[box.id] < AFTERMATH_S + 5
        self.require(not works or recently, f"a working engine was removed from {vpn} in phase {phase} (invariant 3)")

    def before_restart(self, container_id: str) -> None:
        """A restart cuts streams: only engines without a network are restarted."""
        box = self.host.boxes.get(container_id)
        if box is None:
            return
        vpn = self.truth.vpn_of(box)
        phase, mode = self.before_change("restart", vpn)
        connected = self.host.connected(box)
        self.tell(f"restart {box.name} on {vpn} ({phase}, {mode}, connected {connected})")
        self.require(vpn is not None, f"restart of {box.name}, which is no engine of ours")
        self.require(phase == "healthy" and mode != "outage", f"repair on a VPN in phase {phase}, mode {mode}")
        running_s = self.clock.age() - self.truth.started[box.id]
        # Times on Docker's clock are all that tells a new Mayday who was started first, and a clock set back puts them
        # out of order: then the engine itself can tell, if it answers and is the only one at its port.
        back = self.truth.set_back_at > self.truth.started.get(box.network or "", NEVER)
        # A second start moments after the creation looks like the first.
        early = self.truth.started[box.id] - self.truth.appeared[box.id] < AFTERMATH_S
        port = box.labels.get("acestream.http_port")
        alone = sum(other.labels.get("acestream.http_port") == port for other in self.truth.engines(vpn)) == 1
        dumb = not self.host.answers(box.id) or port is None or not alone or str(vpn) in self.unreachable
        self.require(
            not connected or running_s < PATIENCE_S or ((back or early) and dumb),
            f"{box.name} was restarted, and had its network for {running_s:.0f} s",
        )

    def count(self) -> None:
        """The total stays within its bound at every moment, whatever is late or lost. Never raises."""
        total = sum(not box.name.startswith(BY_HAND) for box in self.truth.engines())
        maximum = self.settings.policy.max_replicas
        if total > maximum + self.beyond:
            self.note(f"{total} engines, the limit is {maximum} (invariant 6)")
