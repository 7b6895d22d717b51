"""What must hold after every step of Mayday, checked from outside: the rules of the contract, stated anew.

Nothing of the program's rules is used here. What Mayday shows is read from its snapshots, and what is so from the
simulated host.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulation.engines import NEVER, own
from tests.simulation.truth import START_TIMEOUT_S
from tests.simulation.watch import Life, Watch

if TYPE_CHECKING:
    from exporter.core.snapshot import Snapshot
    from exporter.runtime.simulated_host import Box

PATIENCE_S = 60.0
"""How long Mayday may take, while its calls are answered, to see what Docker shows and to sweep what must go: an audit,
one round of stops with their grace, and the longest back-off between two tries."""
AFTERMATH_S = 30.0
"""How long what was decided before a change may still be carried out, when calls are slow."""
CRISP_S = 2.0
"""How old may be what Mayday goes by, while Docker answers at once and tells every event, seconds."""
HOLD_MOST_S = 1800.0
"""How long a VPN that has failed again and again may be well before it counts as recovered, seconds."""
REMEMBERED_S = 3600.0
"""How long a failure is held against a VPN, seconds."""
LEGAL = {
    ("unknown", "healthy"),
    ("unknown", "failed"),
    ("healthy", "failed"),
    ("stabilizing", "failed"),
    ("failed", "stabilizing"),
    ("stabilizing", "healthy"),
}


class Steps(Watch):
    """The rules of each step."""

    @property
    def grace_s(self) -> float:
        """How old may be what Mayday goes by."""
        return CRISP_S if self.crisp() else PATIENCE_S

    # --- every step --------------------------------------------------------------------------------------------------

    def look(self) -> None:
        """Called after each step of Mayday. Never raises: it is called from within Mayday."""
        self.truth.look()
        life = self.life
        if life is None or life.dead:
            return
        snapshot, before = life.app.controller.snapshot, life.shown
        life.shown = snapshot
        if before is None or before.state is not snapshot.state:
            self._phases(life, before, snapshot)
        self._modes(life, before, snapshot)
        self._carried(snapshot)
        self._levels(life, snapshot)
        lost = self.capacity.look(self.clock.age(), self._stated, self._enough)
        if lost:
            self.note(f"{lost} (invariant 4)")

    def _phases(self, life: Life, before: Snapshot | None, now: Snapshot) -> None:
        """Section 3, and invariants 5 and 7: who may change, when, and why."""
        age = self.clock.age()
        for name, vpn in now.state.vpns.items():
            phase = str(vpn.phase)
            was = str(before.state.vpns[name].phase) if before else phase
            if was == phase:
                continue
            self.tell(f"{name}: {was} -> {phase} ({vpn.reason}), mode {now.state.mode}")
            self.episode[name] += 1
            self.phase_since[name] = age
            life.changes[name, phase, str(vpn.reason)] += 1
            if (was, phase) not in LEGAL:
                self.note(f"{name} went from {was} to {phase}")
            if life.lost_at is not None and age > life.lost_at:
                self.note(f"{name} became {phase} while Docker was unreachable (invariant 5)")
            if not life.read:
                self.note(f"{name} became {phase} before anything was read (invariant 5)")
            if now.closing:
                self.note(f"{name} became {phase} after the end had begun (invariant 7)")
            if phase == "stabilizing":
                self.healthy_from[name] = age + self.settings.policy.stabilization_s
            if was == "stabilizing":
                self.tally["phase: failure while stabilizing" if phase == "failed" else "phase: stabilized"] += 1
                if phase == "healthy" and age < self.healthy_from.get(name, NEVER) - 1e-6:
                    self.note(f"{name} was stabilized {self.healthy_from[name] - age:.1f} s too early (invariant 7)")
            if phase == "failed":
                self._justify(name, str(vpn.reason))
                self.failed_since[name] = age
                self.failed_wall[name] = self.clock.wall().timestamp()
                self.failures.setdefault(name, []).append(age)
        self._overtake(life)

    def _justify(self, vpn: str, reason: str) -> None:
        """A phase is failed only because a source said so lately; Mayday's own alerts are none (invariant 10)."""
        age, truth = self.clock.age(), self.truth
        if reason == "alert":
            said = truth.alert_said(vpn, self.settings.alert_expiry_s)
        elif reason == "drill":
            said = truth.drill_said(vpn)
        else:
            said = age - truth.bad_at[vpn] <= self.grace_s
        if not said:
            self.note(f"{vpn} failed for {reason}, and nobody said so (section 2)")

    def _overtake(self, life: Life) -> None:
        """Invariant 1: creations under way on a VPN that left phase healthy must be undone."""
        for name, (vpn, episode) in life.making.items():
            if episode != self.episode[vpn] and name not in life.undo:
                self.tally["creation: overtaken by a phase change"] += 1
                life.undo[name] = self.clock.age()

    def _modes(self, life: Life, before: Snapshot | None, now: Snapshot) -> None:
        """Section 3: the mode follows from the phases; an emergency is entered once, and shown with that moment."""
        phases = {name: str(vpn.phase) for name, vpn in now.state.vpns.items()}
        failed = [name for name, phase in phases.items() if phase == "failed"]
        mode = "normal"
        if len(failed) == len(phases):
            mode = "outage"
        elif failed and {"healthy", "stabilizing"} & set(phases.values()):
            mode = "emergency"
        if str(now.state.mode) != mode:
            self.note(f"the mode is {now.state.mode} with phases {phases} (section 3)")
        was = str(before.state.mode) if before else mode
        emergency = now.state.emergency
        if (emergency is not None) != (mode == "emergency"):
            self.note(f"the mode is {mode}, and the emergency is {emergency} (section 3)")
        if was == mode:
            if before and emergency and before.state.emergency and before.state.emergency.entered != emergency.entered:
                self.note("the time of entry changed during an emergency (invariant 7)")
        elif emergency is not None:
            life.entries[emergency.vpn, str(emergency.reason)] += 1
            if emergency.entered.wall != self.clock.wall() or phases.get(emergency.vpn) != "failed":
                self.note(f"an emergency begins as {emergency}")
        if was != mode:
            life.modes[f"{was} -> {mode}"] += 1
            self.tally[f"mode: {was} -> {mode} with {len(phases)} VPNs"] += 1
        self._order(was, mode, phases)
        self._targets(mode, phases)

    def _order(self, was: str, mode: str, phases: dict[str, str]) -> None:
        """Which orders of failure and recovery have come about."""
        failed = next((vpn for vpn, phase in phases.items() if phase == "failed"), "")
        if mode == "emergency" and len(phases) == 2 and failed != self.last_failed:
            self.tally["emergency: the failed VPN and the other change places"] += self.last_failed != ""
            self.last_failed = failed
        if was == "outage":
            back = [vpn for vpn in self.failing_order if phases[vpn] != "failed"]
            order = self.failing_order
            if len(back) == 1 and back[0] in {order[0], order[-1]}:
                self.tally[f"outage: the {'first' if back[0] == order[0] else 'last'} to fail recovers first"] += 1
        self.failing_order = [vpn for vpn in self.failing_order if phases[vpn] == "failed"]

    def _targets(self, mode: str, phases: dict[str, str]) -> None:
        """Section 4: how many engines automatic provisioning may bring each VPN to."""
        self.failing_order += [v for v, p in phases.items() if p == "failed" and v not in self.failing_order]
        policy = self.settings.policy
        share = even(policy.min_replicas, policy.vpns)
        asked = dict(share)
        capacity = str(policy.capacity)
        if mode == "outage":
            asked = dict.fromkeys(share, 0)
        elif mode == "emergency" and capacity == "full":
            asked = even(policy.min_replicas, [v for v in policy.vpns if phases[v] in {"healthy", "stabilizing"}])
        healthy = [vpn for vpn in policy.vpns if phases[vpn] == "healthy"]
        # One in doubt is looked past.
        carrying = [box for vpn in healthy if self.truth.says[vpn] == "good" for box in self.truth.engines(vpn)]
        if healthy and not any(self.truth.engines_are.serves(box) and not self._silent(box) for box in carrying):
            self.no_engine_at = self.clock.age()
        asked = {v: min(asked.get(v, 0), len(policy.ports[v])) if phases[v] == "healthy" else 0 for v in policy.vpns}
        now = self.clock.age()
        if not self.targets or self.targets[-1][1] != asked:
            self.targets.append((now, asked))
        while len(self.targets) > 1 and self.targets[1][0] < now - AFTERMATH_S:
            self.targets.pop(0)

    def _silent(self, box: Box) -> bool:
        """Whether Mayday may take an engine for one that does not work: it is broken, or did not answer lately."""
        vpn = self.truth.vpn_of(box)
        return (
            vpn in self.unreachable
            or not self.truth.engines_are.serves(box)
            or self.clock.age() - self.truth.silent_at[box.id] < 2 * PATIENCE_S
        )

    def _levels(self, life: Life, now: Snapshot) -> None:
        """Decisions follow the state as it is, whatever edges were missed, as long as Docker answers."""
        age = self.clock.age()
        for vpn in self.truth.vpns:
            phase = str(now.state.vpns[vpn].phase)
            expiry = self.settings.alert_expiry_s
            objector = self.truth.must_object(vpn, life.number, expiry - PATIENCE_S)
            if objector and phase != "failed" and now.docker_up and life.read and not now.closing:
                self.note(f"{objector} speaks against {vpn}, and its phase is {phase} (section 2)")
        answers = self.answering_since is not None and age - self.answering_since >= PATIENCE_S
        if not answers or not self.host.up or life.lost_at is not None or now.closing:
            return
        for vpn in self.truth.vpns:
            phase = str(now.state.vpns[vpn].phase)
            since = self.phase_since.get(vpn, age)
            if self.truth.steady(vpn, "bad", PATIENCE_S) and phase != "failed":
                self.note(f"{vpn} is down for {PATIENCE_S:g} s, and its phase is {phase} (section 2)")
            objected = self.truth.may_object(vpn, self.settings.alert_expiry_s + PATIENCE_S)
            patience_s = PATIENCE_S + (HOLD_MOST_S if self._flaps(vpn) else 0.0)
            behind = phase in {"failed", "unknown"} and age - since > patience_s
            excused = objected or vpn in self.unreachable
            if self.truth.steady(vpn, "good", patience_s) and behind and not excused:
                self.note(f"{vpn} is well for {patience_s:g} s, and its phase is {phase} (section 2)")
            ripe = age - since > PATIENCE_S + self.evacuation_delay_s and self._carried_s(vpn) > PATIENCE_S
            # What does not run when Mayday or Docker comes up may be about to start.
            came_up = max(self.truth.life_began, life.last_loss, self.answering_since or age)
            ripe = ripe and age - came_up > START_TIMEOUT_S + 2 * PATIENCE_S
            if phase == "failed" and str(now.state.mode) == "emergency" and ripe:
                there = [b for b in self.truth.own_engines(vpn) if self.truth.traceable(b)]
                left = [
                    b.name
                    for b in there
                    if age - self.truth.appeared[b.id] > PATIENCE_S and not self.truth.engines_are.hopeless(b)
                ]
                must = self.truth.must_object(vpn, life.number, expiry - PATIENCE_S)
                accused = must is not None or self.truth.steady(vpn, "bad", PATIENCE_S)
                if left and accused and self._emergency_lasts(now) > PATIENCE_S:
                    self.note(
                        f"{vpn} stays failed, {self.truth.carriers(vpn, 0)} carry, and it has {left} (invariant 2)"
                    )
        for name, since in life.undo.items():
            box = next((b for b in self.host.boxes.values() if b.name == name), None)
            if box and own(box) and age - max(since, self.truth.appeared[box.id]) > PATIENCE_S and not box.troubles:
                self.note(f"{name}, whose creation was overtaken, was not undone (invariant 1)")

    def _flaps(self, vpn: str) -> bool:
        """Whether a VPN has failed more than once lately."""
        return sum(self.clock.age() - at < REMEMBERED_S for at in self.failures.get(vpn, [])) > 1

    def _carried(self, now: Snapshot) -> None:
        """Note beside which failed VPNs another carries that nobody can doubt."""
        for vpn in self.truth.vpns:
            carriers = self.truth.carriers(vpn, 0.0, strict=True)
            # One that cannot be inspected is unknown by itself, until it is asked again.
            sure = any(
                str(now.state.vpns[c].phase) == "healthy" and c not in self.unreachable and c not in self.uninspected
                for c in carriers
            )
            if not sure:
                self.carried_since.pop(vpn, None)
                self.truth.needed(vpn)
            else:
                self.carried_since.setdefault(vpn, self.clock.age())

    def refused_drill(self, vpn: str) -> None:
        """A drill was refused: only where its VPN is needed, or nothing can be done at that moment."""
        answers = self.answering_since is not None and self.clock.age() - self.answering_since >= PATIENCE_S
        self.require(
            not answers or self._carried_s(vpn) < PATIENCE_S, f"a drill on {vpn} was refused, and others carry"
        )

    def _carried_s(self, vpn: str) -> float:
        age = self.clock.age()
        return age - self.carried_since.get(vpn, age)

    def _stated(self, vpn: str) -> bool:
        """Whether the contract itself says why nobody works in the place of an engine that was taken from a VPN."""
        life, age = self.life, self.clock.age()
        if life is None or self.answering_since is None or age - self.answering_since < PATIENCE_S:
            return True
        state, policy = life.app.controller.snapshot.state, self.settings.policy
        since = self.phase_since.get(vpn, age)
        if str(state.vpns[vpn].phase) != "healthy" or age - since < PATIENCE_S or age - self.changed_at() < PATIENCE_S:
            return True
        reduced = str(state.mode) == "emergency" and str(policy.capacity) == "reduced"
        engines = self.truth.engines()
        if reduced and any(self.truth.engines_are.works(box) for box in engines):
            return True
        taken = {box.labels.get("acestream.http_port") for box in self.truth.engines(vpn)}
        no_port = all(str(port) in taken for port in policy.ports[vpn])
        return sum(map(own, engines)) >= policy.max_replicas or no_port or str(state.mode) == "outage"

    def _enough(self, vpn: str) -> bool:
        """Whether a VPN has its share all the same."""
        return self.capacity.own_on(vpn) >= even(self.settings.policy.min_replicas, self.settings.policy.vpns)[vpn]

    def changed_at(self) -> float:
        """When any VPN last changed its phase."""
        return max(self.phase_since.values(), default=NEVER)

    def _emergency_lasts(self, now: Snapshot) -> float:
        emergency = now.state.emergency
        return self.clock.mono() - emergency.entered.mono if emergency else 0.0


def even(total: int, names: tuple[str, ...] | list[str]) -> dict[str, int]:
    """Divided evenly, the remainder to the first."""
    names = list(names)
    return {name: total // len(names) + (index < total % len(names)) for index, name in enumerate(names)}
