"""Emergency mode, from its state to the whole sidecar on a simulated fleet, in virtual time."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import Any

import pytest

from exporter.core.evacuation import Evacuation
from exporter.core.model import Mode, Phase
from exporter.errors import RefusedError
from tests.support.sidecar import Sidecar, play
from tests.support.simulated import OWN_LABELS
from tests.support.virtual_time import VirtualClock, run_virtual

OTHERS_LABELS = {"orchestrator.managed": "acestream"}
"""What an engine that Mayday did not make carries, besides the labels of its place."""


class TestEmergencyModeState:
    """The state interface."""

    def test_it_is_inactive_at_first(self) -> None:
        """No emergency: inactive, no names, duration 0."""

        async def scenario(s: Sidecar) -> None:
            assert not s.app.controller.is_emergency_mode()
            assert s.info == {
                "active": False,
                "failed_vpn": None,
                "healthy_vpn": None,
                "duration_seconds": 0.0,
                "entered_at": None,
            }

        play(scenario)

    def test_entering_says_whether_something_changed(self) -> None:
        """The first entry is True, the same again False; the info names both VPNs and counts the time."""

        async def scenario(s: Sidecar) -> None:
            assert s.app.controller.enter_emergency_mode("gluetun_2", "gluetun") is True
            assert s.app.controller.enter_emergency_mode("gluetun_2", "gluetun") is False
            await asyncio.sleep(30)
            assert s.info["active"] is True
            assert (s.info["failed_vpn"], s.info["healthy_vpn"]) == ("gluetun_2", "gluetun")
            assert s.info["duration_seconds"] == pytest.approx(30.0)

        play(scenario)

    @pytest.mark.parametrize("names", [("gluetun", "gluetun"), ("nobody", "gluetun"), ("gluetun", "nobody")])
    def test_an_impossible_entry_changes_nothing(self, names: tuple[str, str]) -> None:
        """A VPN cannot fail and carry on at once, and both have to exist."""

        async def scenario(s: Sidecar) -> None:
            assert s.app.controller.enter_emergency_mode(*names) is False
            assert s.app.controller.state.mode is Mode.NORMAL

        play(scenario)

    def test_leaving_takes_a_declaration_back(self) -> None:
        """Leaving a declared emergency is True and starts the stabilization; leaving again is False."""

        async def scenario(s: Sidecar) -> None:
            s.app.controller.enter_emergency_mode("gluetun_2", "gluetun")
            assert s.app.controller.exit_emergency_mode() is True
            assert s.phase("gluetun_2") is Phase.STABILIZING
            assert s.app.controller.exit_emergency_mode() is False

        play(scenario)

    def test_a_real_failure_cannot_be_talked_away(self) -> None:
        """While Docker says unhealthy, leaving is False and the emergency stays."""

        async def scenario(s: Sidecar) -> None:
            s.host.set_truth("gluetun_2", good=False)
            await asyncio.sleep(30)
            assert s.app.controller.exit_emergency_mode() is False
            assert s.app.controller.is_emergency_mode()

        play(scenario)


class TestEmergencyModeIntegration:
    """Failure, cleanup and recovery of a whole fleet."""

    def test_five_and_five_to_five_and_none_and_back(self, caplog: pytest.LogCaptureFixture) -> None:
        """One VPN fails: its engines go, the others stay; it recovers: 120 s later it has its share again."""

        async def scenario(s: Sidecar) -> None:
            assert s.counts() == [5, 5]
            kept = {box.id for box in s.host.boxes.values() if box.labels.get("acestream.vpn_container") == "gluetun"}
            s.host.set_truth("gluetun_2", good=False)
            await asyncio.sleep(30)
            assert s.counts() == [5, 0]
            assert s.info["failed_vpn"] == "gluetun_2"
            await asyncio.sleep(100)
            s.host.set_truth("gluetun_2", good=True)
            await asyncio.sleep(10)
            assert not s.app.controller.is_emergency_mode()
            assert s.phase("gluetun_2") is Phase.STABILIZING
            await asyncio.sleep(100)
            assert s.counts() == [5, 0], "engines came before the stabilization had ended"
            await asyncio.sleep(30)
            assert s.counts() == [5, 5]
            assert kept <= s.host.boxes.keys(), "failover touched the healthy VPN's engines"
            assert s.metric("mayday_emergency_mode_entries_total", vpn="gluetun_2", reason="docker_unhealthy") == 1
            assert s.metric("mayday_failover_cleanup_seconds_count") == 1
            assert s.metric("mayday_capacity_restore_seconds_count") == 1

        with caplog.at_level(logging.INFO, "mayday"):
            play(scenario)
        lines = [record.getMessage() for record in caplog.records]
        entry = lines.index("⚠️  ENTERING EMERGENCY MODE ⚠️")
        assert lines[entry + 1 : entry + 6] == [
            "Failed VPN: gluetun_2",
            "Healthy VPN: gluetun",
            "System will operate with reduced capacity on single VPN until recovery",
            "Removing 5 engines from failed VPN 'gluetun_2'",
            "Emergency mode active: operating with 5 engines on 'gluetun'",
        ]
        leaving = lines.index("✅ EXITING EMERGENCY MODE ✅")
        assert lines[leaving + 1].startswith("VPN 'gluetun_2' has recovered after ")
        assert lines[leaving + 2] == "System will restore full capacity and resume normal operations"
        assert sum(line == "Health manager is paused during emergency" for line in lines) == 1
        assert sum(line == "Autoscaler is paused during emergency" for line in lines) == 1

    def test_both_fail_and_recover_in_either_order(self) -> None:
        """When the last VPN fails too nothing more is removed; the first to recover makes it an emergency again."""

        async def scenario(s: Sidecar) -> None:
            s.host.kill("gluetun_2")
            await asyncio.sleep(10)
            s.host.kill("gluetun")
            await asyncio.sleep(60)
            assert s.app.controller.state.mode is Mode.OUTAGE
            assert s.counts() == [5, 0]
            s.host.start(s.host.find("gluetun"))
            await asyncio.sleep(30)
            assert (s.info["failed_vpn"], s.info["healthy_vpn"]) == ("gluetun_2", "gluetun")
            s.host.start(s.host.find("gluetun_2"))
            await asyncio.sleep(300)
            assert s.counts() == [5, 5]
            assert all(s.host.connected(box) for box in s.host.boxes.values() if box.network), "orphans were left"

        play(scenario)

    def test_a_swap_ends_with_the_right_one_failed(self) -> None:
        """The failed VPN recovers while the other fails."""

        async def scenario(s: Sidecar) -> None:
            s.host.pause("gluetun_2")
            await asyncio.sleep(5)
            s.host.unpause("gluetun_2")
            s.host.pause("gluetun")
            await asyncio.sleep(5)
            assert (s.info["failed_vpn"], s.info["healthy_vpn"]) == ("gluetun", "gluetun_2")

        play(scenario)

    def test_a_vpn_that_is_down_at_the_start_is_an_emergency(self) -> None:
        """Unknown goes to failed at the first look; its own engine goes once another VPN carries, the others' stays.

        At a boot containers come up one after the other, so that a VPN which does not run yet has VPN_START_TIMEOUT_S.
        """

        async def main(clock: VirtualClock) -> None:
            s = Sidecar(clock)
            s.host.add_engine("gluetun_2", 19500, "old", OWN_LABELS)
            theirs = s.host.add_engine("gluetun_2", 19501, "theirs", OTHERS_LABELS)
            s.host.kill("gluetun_2")
            async with s.app:
                await asyncio.sleep(4)
                assert s.info["failed_vpn"] == "gluetun_2"
                await asyncio.sleep(110)
                assert s.counts() == [5, 2], "it was removed while its VPN might have been about to start"
                await asyncio.sleep(11)
                assert s.counts() == [5, 1]
                assert theirs.id in s.host.boxes

        run_virtual(main)

    def test_engines_that_come_back_are_swept_again(self) -> None:
        """While the emergency lasts no own engine stays on the failed VPN; what others made is not removed."""

        async def scenario(s: Sidecar) -> None:
            s.host.set_truth("gluetun_2", good=False)
            await asyncio.sleep(30)
            s.host.add_engine("gluetun_2", 19777, "back", OWN_LABELS)
            theirs = s.host.add_engine("gluetun_2", 19778, "by-hand", OTHERS_LABELS)
            await asyncio.sleep(5)
            assert s.counts() == [5, 1]
            assert theirs.id in s.host.boxes

        play(scenario)

    @pytest.mark.parametrize("lasts_s", [4.0, 6.0])
    def test_a_failure_shorter_than_the_delay_costs_no_engine(self, lasts_s: float) -> None:
        """EVACUATION_DELAY_S: before it has passed the engines are only out of service; after it they go."""

        async def scenario(s: Sidecar) -> None:
            before = set(s.host.boxes)
            s.host.pause("gluetun_2")
            await asyncio.sleep(lasts_s)
            assert s.app.controller.is_emergency_mode()
            s.host.unpause("gluetun_2")
            await asyncio.sleep(200)
            assert s.counts() == [5, 5]
            assert (before <= s.host.boxes.keys()) == (lasts_s < 5)

        play(scenario)

    def test_without_a_delay_the_engines_go_at_once(self) -> None:
        """EVACUATION_DELAY_S=0 is allowed."""

        async def scenario(s: Sidecar) -> None:
            s.host.pause("gluetun_2")
            await asyncio.sleep(2)
            assert s.counts() == [5, 0]

        play(scenario, EVACUATION_DELAY_S="0")

    @pytest.mark.parametrize("first", ["gluetun", "gluetun_2"])
    def test_one_false_alarm_about_both_costs_no_engine(self, first: str) -> None:
        """Both VPNs fail and one comes back alone: until it has stabilized nothing carries, so all engines stay."""

        async def scenario(s: Sidecar) -> None:
            before = set(s.host.boxes)
            last = "gluetun_2" if first == "gluetun" else "gluetun"
            s.host.pause(last)
            s.host.pause(first)
            await asyncio.sleep(60)
            s.host.unpause(first)
            await asyncio.sleep(100)
            assert s.app.controller.snapshot.deferred == {last: Evacuation.NO_CARRIER}
            assert s.counts() == [5, 5]
            s.host.unpause(last)
            await asyncio.sleep(300)
            assert s.app.controller.snapshot.deferred == {}
            assert s.host.boxes.keys() == before

        play(scenario)

    def test_where_nobody_wants_an_engine_no_carrier_is_needed(self) -> None:
        """MIN_REPLICAS is 0: the only engines there are were asked for, and go with their VPN after the delay."""

        async def scenario(s: Sidecar) -> None:
            await s.app.provisioning.provision_one("gluetun_2", {})
            s.host.pause("gluetun_2")
            await asyncio.sleep(4)
            assert s.counts()[1] == 1
            await asyncio.sleep(10)
            assert s.counts()[1] == 0

        play(scenario, MIN_REPLICAS="0", MAX_REPLICAS="4")

    def test_a_drill_ends_when_its_vpn_is_needed(self) -> None:
        """The other VPN fails while one is drilled: the drill ends at once, and the drilled VPN carries again."""

        async def scenario(s: Sidecar) -> None:
            s.app.controller.start_drill("gluetun_2", 3600.0, "practice")
            await asyncio.sleep(2)
            s.host.pause("gluetun")
            await asyncio.sleep(1)
            assert (s.phase("gluetun"), s.phase("gluetun_2")) == (Phase.FAILED, Phase.STABILIZING)
            with pytest.raises(RefusedError):
                s.app.controller.start_drill("gluetun_2", 3600.0, "again")
            await asyncio.sleep(200)
            assert s.phase("gluetun_2") is Phase.HEALTHY
            assert s.counts() == [0, 5]

        play(scenario)

    def test_a_wall_clock_that_jumps_neither_ends_nor_stretches_a_stabilization(self) -> None:
        """Durations are monotonic."""

        async def scenario(s: Sidecar) -> None:
            s.host.pause("gluetun_2")
            await asyncio.sleep(5)
            s.host.unpause("gluetun_2")
            await asyncio.sleep(1)
            s.clock.jump(7200)
            await asyncio.sleep(60)
            assert s.phase("gluetun_2") is Phase.STABILIZING
            s.clock.jump(-14400)
            await asyncio.sleep(61)
            assert s.phase("gluetun_2") is Phase.HEALTHY

        play(scenario)

    def test_a_restart_of_mayday_changes_nothing(self, tmp_path: Any) -> None:
        """The emergency keeps the time of its entry, the stabilization what is left of it, and nothing is touched."""

        async def main(clock: VirtualClock) -> None:
            s = Sidecar(clock, STATE_DIR=str(tmp_path))
            async with s.app:
                await asyncio.sleep(10)
                s.host.set_truth("gluetun_2", good=False)
                await asyncio.sleep(40)
                entered = s.info["entered_at"]
            s.app = s.new_app()
            async with s.app:
                await asyncio.sleep(20)
                assert s.info["entered_at"] == entered
                assert s.metric("mayday_emergency_mode_entries_total", vpn="gluetun_2", reason="docker_unhealthy") == 0
                s.host.set_truth("gluetun_2", good=True)
                await asyncio.sleep(60)
            s.app = s.new_app()
            async with s.app:
                await asyncio.sleep(30)
                assert s.phase("gluetun_2") is Phase.STABILIZING
                await asyncio.sleep(60)
                assert s.phase("gluetun_2") is Phase.HEALTHY
                assert s.counts() == [5, 5]

        run_virtual(main)

    def test_while_docker_is_away_nothing_changes(self) -> None:
        """A VPN that fails while Docker is unreachable is seen only after it is back."""

        async def scenario(s: Sidecar) -> None:
            s.runtime.daemon_down()
            s.host.set_truth("gluetun_2", good=False)
            await asyncio.sleep(120)
            assert s.app.controller.state.mode is Mode.NORMAL
            assert s.counts() == [5, 5]
            assert not s.app.controller.snapshot.ready
            s.runtime.daemon_up()
            await asyncio.sleep(10)
            assert s.info["failed_vpn"] == "gluetun_2"
            assert s.counts() == [5, 0]

        play(scenario)

    @pytest.mark.parametrize("control", ["dry-run", "off"])
    def test_without_control_nothing_is_touched(self, control: str) -> None:
        """dry-run and off see the emergency and leave every container alone; dry-run counts what it would do."""

        async def main(clock: VirtualClock) -> None:
            s = Sidecar(clock, CONTROL=control)
            s.host.add_engine("gluetun", 19000, "carries", OWN_LABELS)
            for index in range(3):
                s.host.add_engine("gluetun_2", 19500 + index, f"old-{index}", OWN_LABELS)
            s.host.add_engine("gluetun_2", 19503, "theirs", OTHERS_LABELS)
            async with s.app:
                await asyncio.sleep(10)
                s.host.set_truth("gluetun_2", good=False)
                await asyncio.sleep(300)
                assert s.app.controller.is_emergency_mode()
                assert s.counts() == [1, 4]
                labels = {"vpn": "gluetun_2", "reason": "vpn_failed", "result": "dry_run"}
                told = s.metric("mayday_engines_removed_total", **labels)
                assert told == (3 if control == "dry-run" else None)

        run_virtual(main)

    def test_nothing_new_begins_once_the_end_has_begun(self) -> None:
        """When the host shuts down its VPNs stop too: that is no emergency."""

        async def scenario(s: Sidecar) -> None:
            s.app.controller.close()
            s.host.kill("gluetun_2")
            await asyncio.sleep(60)
            assert s.app.controller.state.mode is Mode.NORMAL
            assert s.counts() == [5, 5]

        play(scenario)


class TestEmergencyModeProvisioning:
    """Who is provisioned to, and how much."""

    @pytest.mark.parametrize(("capacity", "expected"), [("reduced", [5, 0]), ("share", [5, 0]), ("full", [10, 0])])
    def test_the_policy_says_what_reduced_capacity_means(self, capacity: str, expected: list[int]) -> None:
        """Reduced and share keep a share; full moves everything to the VPN that is left."""

        async def scenario(s: Sidecar) -> None:
            s.host.set_truth("gluetun_2", good=False)
            await asyncio.sleep(120)
            assert s.counts() == expected

        play(scenario, EMERGENCY_CAPACITY=capacity)

    def test_reduced_never_means_none(self) -> None:
        """Where the failed VPN had every engine, the healthy one is filled to its share, whole."""

        async def main(clock: VirtualClock) -> None:
            s = Sidecar(clock)
            s.settings = replace(s.settings, autoscale_interval_s=3600.0)
            s.app = s.new_app()
            for index in range(5):
                s.host.add_engine("gluetun_2", 19500 + index, f"old-{index}", OWN_LABELS)
            s.host.kill("gluetun_2")
            async with s.app:
                await asyncio.sleep(60)
                assert s.counts() == [5, 5]
                await asyncio.sleep(70)
                assert s.counts() == [5, 0]

        run_virtual(main)

    def test_an_explicit_engine_goes_to_the_healthy_vpn_and_comes_on_top(self) -> None:
        """During an emergency a request is served on the VPN that is left, beyond its share."""

        async def scenario(s: Sidecar) -> None:
            s.host.set_truth("gluetun_2", good=False)
            await asyncio.sleep(30)
            place = await s.app.provisioning.provision_one(None, {})
            assert place.vpn == "gluetun"
            assert s.counts() == [6, 0]

        play(scenario)

    def test_a_request_is_refused_in_an_outage_and_says_how_long_a_stabilization_takes(self) -> None:
        """Nobody to provision to is a clear refusal, with the seconds that are left where they are known."""

        async def scenario(s: Sidecar) -> None:
            s.host.pause("gluetun")
            s.host.pause("gluetun_2")
            await asyncio.sleep(5)
            with pytest.raises(RefusedError) as outage:
                await s.app.provisioning.provision_one(None, {})
            assert (outage.value.code, outage.value.retry_after_s) == ("outage", None)
            s.host.unpause("gluetun")
            s.host.unpause("gluetun_2")
            await asyncio.sleep(20)
            with pytest.raises(RefusedError) as stabilizing:
                await s.app.provisioning.provision_one(None, {})
            assert stabilizing.value.code == "stabilizing"
            assert stabilizing.value.retry_after_s == pytest.approx(100.0, abs=1.0)

        play(scenario)

    def test_the_limit_holds(self) -> None:
        """MAX_REPLICAS is never exceeded, however many ask at once."""

        async def scenario(s: Sidecar) -> None:
            asked = [s.app.provisioning.provision_one(None, {}) for _ in range(6)]
            results = await asyncio.gather(*asked, return_exceptions=True)
            assert sum(isinstance(result, RefusedError) for result in results) == 4
            assert sum(s.counts()) == 12

        play(scenario, MAX_REPLICAS="12")

    def test_a_creation_that_a_failure_overtook_is_undone(self) -> None:
        """Both VPNs fail between creation and start: an outage removes nothing, but these engines never were."""

        async def main(clock: VirtualClock) -> None:
            s = Sidecar(clock, MIN_REPLICAS="4")
            s.runtime.faults.slow = 20.0
            async with s.app:
                await s.until(lambda: any(s.counts()))
                s.host.pause("gluetun")
                s.host.pause("gluetun_2")
                await asyncio.sleep(60)
                assert s.app.controller.state.mode is Mode.OUTAGE
                assert s.counts() == [0, 0]

        run_virtual(main)

    @pytest.mark.parametrize("chance", range(5))
    def test_a_creation_whose_answer_was_lost_is_not_made_twice(self, chance: int) -> None:
        """Calls that take effect after Mayday has given up on them never lead beyond the limit."""

        async def main(clock: VirtualClock) -> None:
            s = Sidecar(clock, MIN_REPLICAS="4", MAX_REPLICAS="4")
            s.host.rng.seed(chance)
            s.runtime.faults.late = 1.0
            seen = [0]
            s.host.listeners.append(lambda _event: seen.append(sum(s.counts())))
            async with s.app:
                await asyncio.sleep(5)
                s.runtime.faults.late = 0.0
                await asyncio.sleep(200)
                assert max(seen) == 4
                assert s.counts() == [2, 2]

        run_virtual(main)

    def test_a_removal_that_fails_is_tried_again_soon(self) -> None:
        """Docker refuses for a while: the ghosts are gone seconds after it no longer does, not at the next audit."""

        async def scenario(s: Sidecar) -> None:
            s.runtime.faults.refused = 1.0
            s.host.kill("gluetun_2")
            await asyncio.sleep(8)
            assert s.counts() == [5, 5]
            s.runtime.faults.refused = 0.0
            await asyncio.sleep(6)
            assert s.counts() == [5, 0]

        play(scenario, RESYNC_INTERVAL_S="3600")


def test_a_stabilization_of_no_time_needs_no_audit_to_end() -> None:
    """With VPN_STABILIZATION_PERIOD_S=0 a VPN that is back is healthy, and filled, at once."""

    async def scenario(s: Sidecar) -> None:
        s.host.set_truth("gluetun_2", good=False)
        await asyncio.sleep(60)
        assert s.counts() == [5, 0]
        s.host.set_truth("gluetun_2", good=True)
        await s.until(lambda: s.phase("gluetun_2") is not Phase.FAILED, every_s=0.001)
        await asyncio.sleep(0.01)
        assert s.phase("gluetun_2") is Phase.HEALTHY

    play(scenario, VPN_STABILIZATION_PERIOD_S="0", RESYNC_INTERVAL_S="3600", AUTOSCALE_INTERVAL_S="3600")
