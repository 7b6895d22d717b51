"""What must hold at every call of Mayday that makes, starts or restarts a container, checked from outside."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.core.model import ContainerState
from tests.simulation.engines import MADE, MANAGED, NEVER
from tests.simulation.removals import FORWARDED, SUCCESSOR, Removals
from tests.simulation.steps import AFTERMATH_S, PATIENCE_S
from tests.simulation.truth import REQUESTED, VPN

if TYPE_CHECKING:
    from exporter.core.spec import EngineSpec
    from exporter.runtime.simulated_host import Box


class Oracle(Removals):
    """All rules: those of each step, and those of each call."""

    def before_create(self, spec: EngineSpec) -> None:
        """Invariants 1 and 6."""
        vpn = self.truth.ids.get(spec.network, spec.labels.get(VPN, ""))
        phase, mode = self.before_change("create", vpn)
        self.tell(f"create {spec.name} on {vpn} ({phase}, {mode})")
        labelled = MANAGED in spec.labels and spec.labels.get(VPN) in {vpn, None}
        self.require(labelled, f"{spec.name} is made on {vpn} with labels {spec.labels}")
        self.require(MADE in spec.labels, f"{spec.name} is made without the label that makes it Mayday's own")
        self.require(phase == "healthy", f"creation on {vpn} in phase {phase} (invariant 1)")
        self.require(mode != "outage", "creation in an outage")
        life, truth = self.life, self.truth
        assert life is not None
        total = sum(map(self._holds_a_place, truth.known(truth.own_engines(), life.made, AFTERMATH_S)))
        total += sum(life.under_way.values())
        maximum = self.settings.policy.max_replicas
        if spec.labels.get(REQUESTED) == "true":
            good = (self.requests > 0 and total < maximum) or self._made_good(vpn) or self._repairs(vpn)
            self.require(good, f"{spec.name} is created as requested, beside {total} of {maximum} (invariant 6)")
            return
        before = self.host.boxes.get(spec.labels.get(SUCCESSOR, ""))
        if before is not None and FORWARDED in spec.labels and not truth.orphaned(before):
            served = any(box.labels.get(FORWARDED) == spec.labels[FORWARDED] for box in truth.own_engines(vpn))
            good = mode == "normal" and vpn in self.forwards and not served and total < maximum
            self.require(good, f"{spec.name} is made for a forwarded port, beside {total} of {maximum} (section 4)")
            return
        there = truth.known(truth.own_engines(vpn), life.made, AFTERMATH_S)
        carried = [b for b in there if b.labels.get(REQUESTED) != "true" and self._holds_a_place(b)]
        target = max(asked[vpn] for _, asked in self.targets)
        if mode == "emergency":
            emergency = life.app.controller.snapshot.state.emergency
            assert emergency is not None
            entered = self.clock.age() - (self.clock.mono() - emergency.entered.mono)
            if self.no_engine_at >= entered - PATIENCE_S:
                # One that does not work does not count then, because nobody replaces it during an emergency.
                carried = [b for b in carried if b.state is ContainerState.RUNNING and not self._silent(b)]
                # Without an engine a VPN carries nobody, so that one is made even where the share is none.
                target = max(target, int(self.settings.policy.min_replicas > 0))
            elif vpn == emergency.relief and self._all_doubted(vpn):
                target = max(target, int(self.settings.policy.min_replicas > 0))
            elif str(self.settings.policy.capacity) == "reduced" and self.clock.age() - self.changed_at() > AFTERMATH_S:
                target = 0
        count = len(carried) + life.under_way[vpn]
        self.require(
            (count < target and total < maximum) or self._made_good(vpn) or self._repairs(vpn),
            f"creation on {vpn}, which carries {[b.name for b in carried]} and {life.under_way[vpn]} under way, "
            f"and should carry {target}; in all {total} of {maximum} (invariant 6)",
        )

    def _all_doubted(self, vpn: str) -> bool:
        """Whether Mayday doubts all VPNs in phase healthy but this one, and relief looks past them."""
        assert self.life is not None
        state = self.life.app.controller.snapshot.state
        others = [name for name, one in state.vpns.items() if str(one.phase) == "healthy" and name != vpn]
        return all(name in self.unreachable or name in state.doubtful for name in others)

    def _repairs(self, vpn: str) -> bool:
        """Whether an engine lost its network with its VPN's container, and has no successor yet."""
        truth, life = self.truth, self.life
        assert life is not None
        engines = truth.own_engines(vpn)
        orphans = sum(map(truth.orphaned, engines))
        young = sum(self.clock.age() - truth.appeared[b.id] < PATIENCE_S for b in engines if not truth.orphaned(b))
        return orphans > life.under_way[vpn] + young

    def _holds_a_place(self, box: Box) -> bool:
        """Whether no other may be made in an engine's place: it serves, or has just been made and is on its way.

        One that does not is repaired by a successor that is there before it goes.
        """
        truth = self.truth
        young = self.clock.age() - truth.appeared[box.id] < AFTERMATH_S and box.state is not ContainerState.EXITED
        return young or truth.engines_are.serves(box)

    def _made_good(self, vpn: str) -> bool:
        """Whether Mayday removed an engine there a moment ago to make it anew."""
        removals = [at for at in self.credit.get(vpn, []) if self.clock.age() - at < AFTERMATH_S]
        self.credit[vpn] = removals[1:]
        return bool(removals)

    def before_restart(self, container_id: str) -> None:
        """A restart cuts streams: only engines without a network are restarted."""
        box = self.host.boxes.get(container_id)
        if box is None:
            return
        vpn = self.truth.vpn_of(box)
        phase, mode = self.before_change("restart", vpn)
        connected = self.host.connected(box)
        self.tell(f"restart {box.name} on {vpn} ({phase}, {mode}, connected {connected})")
        self.require(vpn is not None, f"restart of {box.name}, which is no engine of ours (invariant 11)")
        self.require(box.id not in self.stopped_by_owner, f"{box.name} was restarted; its owner had stopped it")
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
        # An engine without a network stays until its successor runs; the two are one.
        total = sum(not self.truth.orphaned(box) for box in self.truth.own_engines())
        maximum = self.settings.policy.max_replicas
        if total > maximum + self.beyond:
            self.note(f"{total} engines of Mayday's own, the limit is {maximum} (invariant 6)")
