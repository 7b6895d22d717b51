"""Interleavings that once went wrong, each played as one scenario in virtual time; the simulation found them."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from exporter.core.dependents import MADE_LABEL
from exporter.core.model import ContainerState, Mode, Phase
from exporter.core.spec import EngineSpec
from exporter.errors import RuntimeFailure
from exporter.fleet.ledger import Stage
from exporter.inspections import Inspections
from exporter.runtime.simulated import Faults
from tests.simulation.network import SECRET, Door
from tests.support.alerts import message, wire_alert
from tests.support.sidecar import Sidecar, play
from tests.support.simulated import OWN_LABELS
from tests.support.virtual_time import VirtualClock, run_virtual

if TYPE_CHECKING:
    from exporter.core.model import Container
    from exporter.runtime.simulated_host import Box


def engines(s: Sidecar, vpn: str = "gluetun") -> list[Box]:
    return [box for box in s.host.boxes.values() if box.labels.get("acestream.vpn_container") == vpn]


def starts(s: Sidecar) -> dict[str, float | None]:
    return {box.id: box.started_at for box in engines(s)}


def everything_restarts(s: Sidecar) -> None:
    """As a daemon without live-restore does: VPNs first, their engines into the new networks."""
    for network in (False, True):
        for box in [b for b in s.host.boxes.values() if (b.network is not None) is network]:
            s.host.stop(box)
            s.host.start(box)


def test_engines_that_the_daemon_restarted_are_not_restarted_again() -> None:
    """A daemon that comes back starts VPNs and engines anew: these have their network, and a restart would cut them."""

    async def scenario(s: Sidecar) -> None:
        s.runtime.daemon_down()
        await asyncio.sleep(5)
        everything_restarts(s)
        s.runtime.daemon_up()
        before = starts(s)
        await asyncio.sleep(300)
        assert starts(s) == before

    play(scenario)


def test_an_engine_that_answers_is_no_orphan_whatever_the_clock_says(tmp_path: Any) -> None:
    """The clock was set back between the starts of a VPN and its engines; a new Mayday asks before it restarts one."""

    async def main(clock: VirtualClock) -> None:
        s = Sidecar(clock, STATE_DIR=str(tmp_path))
        clock.jump(-7200)
        async with s.app:
            await asyncio.sleep(30)
        before = starts(s)
        assert len(before) == 5
        s.app = s.new_app()
        async with s.app:
            await asyncio.sleep(120)
            assert starts(s) == before

    run_virtual(main)


@pytest.mark.parametrize("own", [True, False])
def test_a_name_that_somebody_took_is_read_before_another_is_tried(own: bool) -> None:  # noqa: FBT001
    """The very engine that Mayday is about to make is made meanwhile by another Mayday, and counts, or by others, and
    Mayday makes its own under another name."""

    async def main(clock: VirtualClock) -> None:
        s = Sidecar(clock, MIN_REPLICAS="2", MAX_REPLICAS="2")
        s.runtime.faults.slow = 10.0
        async with s.app:
            await s.until(s.app.controller.ledger.names)
            labels = {**OWN_LABELS, "acestream.vpn_container": "gluetun", "acestream.http_port": "19400"}
            if not own:
                del labels[MADE_LABEL]
            box = s.host.create(EngineSpec("acestream-1", "other", s.host.find("gluetun").id, labels))
            s.host.start(box)
            await asyncio.sleep(120)
            assert s.counts() == ([1, 1] if own else [2, 1])

    run_virtual(main)


def test_the_last_port_does_not_keep_an_engine_that_fails() -> None:
    """With as many ports as engines, one that does not answer is replaced at its own port."""

    async def scenario(s: Sidecar) -> None:
        await asyncio.sleep(60)
        broken = engines(s)[0]
        broken.broken = True
        await asyncio.sleep(200)
        assert broken.id not in s.host.boxes
        assert s.counts() == [2, 2]
        assert all(s.host.answers(box.id) for box in engines(s))

    ports = {"GLUETUN_PORT_RANGE_1": "19000-19001", "GLUETUN_PORT_RANGE_2": "19100-19101"}
    play(scenario, MIN_REPLICAS="4", **ports)


def test_a_paused_engine_does_not_work() -> None:
    """It is replaced like one that has stopped: a share is of engines that work."""

    async def scenario(s: Sidecar) -> None:
        await asyncio.sleep(60)
        s.host.pause(engines(s)[0].name)
        await asyncio.sleep(200)
        assert [box.state for box in engines(s)] == [ContainerState.RUNNING] * 5

    play(scenario)


def test_nobody_is_replaced_on_old_facts() -> None:
    """An engine that was seen stopped and was started since, which no event told, is not replaced."""

    async def scenario(s: Sidecar, down_s: int) -> None:
        await asyncio.sleep(60)
        box = engines(s)[0]
        s.runtime.faults.deaf = True
        s.host.kill(box.name)
        await asyncio.sleep(down_s)
        if box.id not in s.host.boxes:
            return  # it has been down for so long that it was replaced, rightly
        s.host.start(box)
        waited.append(down_s)
        await asyncio.sleep(300)
        assert box.id in s.host.boxes, f"started after {down_s} s, and replaced"

    waited = list[int]()
    for down_s in range(1, 120):
        play(partial(scenario, down_s=down_s))
    assert waited[-1] >= 40, "it is down for two rounds at least"


def test_relief_counts_what_is_repaired_anyway() -> None:
    """An engine whose start never came is started by repair: relief fills the rest of the share and no more."""

    async def main(clock: VirtualClock) -> None:
        s = Sidecar(clock, MIN_REPLICAS="4")
        labels = {**OWN_LABELS, "acestream.vpn_container": "gluetun", "acestream.http_port": "19400"}
        s.host.create(EngineSpec("waiting", "other", s.host.find("gluetun").id, labels))
        s.host.kill("gluetun_2")
        async with s.app:
            await asyncio.sleep(60)
            assert s.app.controller.state.mode is Mode.EMERGENCY
            assert s.counts() == [2, 0]

    run_virtual(main)


def test_an_answer_that_was_asked_for_before_docker_was_lost_does_not_bring_it_back() -> None:
    """After Docker was lost only what is asked anew counts."""

    async def scenario(s: Sidecar) -> None:
        controller = s.app.controller
        listing = await s.runtime.containers()
        asked_at = s.clock.mono()
        await asyncio.sleep(0.5)
        controller.docker_lost(ConnectionError("gone"))
        controller.take_all(listing, asked_at)
        assert not controller.deciding
        controller.take_all(await s.runtime.containers(), s.clock.mono())
        assert controller.deciding

    play(scenario)


def test_a_stabilization_survives_a_jump_and_a_kill(tmp_path: Any) -> None:
    """The wall clock jumps ahead while Mayday is away: what is left of the stabilization is what was left."""

    async def main(clock: VirtualClock) -> None:
        s = Sidecar(clock, STATE_DIR=str(tmp_path))
        async with s.app:
            await asyncio.sleep(10)
            s.host.pause("gluetun_2")
            await asyncio.sleep(5)
            s.host.unpause("gluetun_2")
            await asyncio.sleep(20)
        clock.jump(7200)
        s.app = s.new_app()
        async with s.app:
            await asyncio.sleep(90)
            assert s.phase("gluetun_2") is Phase.STABILIZING
            await asyncio.sleep(20)
            assert s.phase("gluetun_2") is Phase.HEALTHY

    run_virtual(main)


def test_over_a_reboot_the_wall_clock_tells(tmp_path: Any) -> None:
    """The monotonic clock begins anew: the stabilization goes on with the time that the host was away."""

    async def main(clock: VirtualClock) -> None:
        s = Sidecar(clock, STATE_DIR=str(tmp_path))
        async with s.app:
            await asyncio.sleep(10)
            s.host.pause("gluetun_2")
            await asyncio.sleep(5)
            s.host.unpause("gluetun_2")
            await asyncio.sleep(20)
        await asyncio.sleep(40)
        clock.reboot()
        s.app = s.new_app()
        async with s.app:
            await asyncio.sleep(50)
            assert s.phase("gluetun_2") is Phase.STABILIZING
            await asyncio.sleep(20)
            assert s.phase("gluetun_2") is Phase.HEALTHY

    run_virtual(main)


@pytest.mark.parametrize("broken", [1, 2])
def test_engines_broken_before_the_start(broken: int) -> None:
    """One is replaced where its sibling answers; where none does, Mayday's way to them may be broken: all are kept."""

    async def main(clock: VirtualClock) -> None:
        s = Sidecar(clock, MIN_REPLICAS="4")
        for vpn, first in (("gluetun", 19000), ("gluetun_2", 19500)):
            for number in range(2):
                box = s.host.add_engine(vpn, first + number, f"old-{first + number}", OWN_LABELS)
                box.broken = number < broken
        before = {box.id for box in engines(s)}
        async with s.app:
            await asyncio.sleep(600)
            assert s.counts() == [2, 2]
            assert len(before & s.host.boxes.keys()) == (1 if broken == 1 else 2)
            assert all(s.host.answers(box.id) for box in engines(s)) == (broken == 1)

    run_virtual(main)


def test_all_engines_broken_is_no_engine() -> None:
    """The healthy VPN of an emergency has engines, and none of them works: it is given relief."""

    async def scenario(s: Sidecar) -> None:
        await asyncio.sleep(60)
        s.host.set_truth("gluetun_2", good=False)
        await asyncio.sleep(30)
        for box in engines(s):
            box.broken = True
        await asyncio.sleep(200)
        assert sum(s.host.answers(box.id) for box in engines(s)) == 5

    play(scenario, MAX_REPLICAS="20")


@pytest.mark.parametrize("away_s", [0.5, 30.0])
def test_an_engine_that_works_is_not_undone_because_docker_was_lost(away_s: float) -> None:
    """Docker goes away in the middle of a fill: what was started stays."""

    async def main(clock: VirtualClock) -> None:
        s = Sidecar(clock, MIN_REPLICAS="10")
        s.runtime.faults.slow = 5.0
        async with s.app:
            await s.until(lambda: any(box.state is ContainerState.RUNNING for box in engines(s)))
            first = {box.id for box in engines(s) if box.state is ContainerState.RUNNING}
            s.runtime.daemon_down()
            await asyncio.sleep(away_s)
            s.runtime.daemon_up()
            await asyncio.sleep(120)
            assert first <= s.host.boxes.keys()
            assert s.counts() == [5, 5]

    run_virtual(main)


def test_a_removal_asks_again_whether_it_is_wanted() -> None:
    """The VPN comes back while its engines are being stopped: none is removed any more."""

    async def scenario(s: Sidecar) -> None:
        stop, before = s.runtime.stop, {box.id for box in engines(s, "gluetun_2")}

        async def stop_slowly(container_id: str, grace_s: int | None) -> None:
            if s.host.find("gluetun_2").state is ContainerState.PAUSED:
                s.host.unpause("gluetun_2")
            await s.until(lambda: s.phase("gluetun_2") is Phase.STABILIZING)
            await stop(container_id, grace_s)

        s.runtime.stop = stop_slowly  # type: ignore[method-assign]
        s.host.pause("gluetun_2")
        await s.until(lambda: any(box.state is ContainerState.EXITED for box in engines(s, "gluetun_2")))
        await asyncio.sleep(20)
        assert {box.id for box in engines(s, "gluetun_2")} == before

    play(scenario, ENGINE_STOP_TIMEOUT_S="10")


def test_a_removal_that_is_refused_is_tried_with_a_back_off() -> None:
    """Docker refuses every removal for a minute: it is tried again and again, and not hundreds of times."""

    async def scenario(s: Sidecar) -> None:
        s.runtime.faults.refused = 1.0
        s.host.kill("gluetun_2")
        await asyncio.sleep(60)
        labels = {"vpn": "gluetun_2", "reason": "vpn_failed", "result": "error"}
        tries = s.metric("mayday_engines_removed_total", **labels) or 0.0
        assert 5 * 5 <= tries <= 5 * 15

    play(scenario)


@pytest.mark.parametrize(("capacity", "expected"), [("reduced", 4), ("share", 5), ("full", 10)])
def test_an_engine_lost_in_an_emergency(capacity: str, expected: int) -> None:
    """Reduced capacity is accepted where the policy says so; otherwise the VPN is kept at what it should carry."""

    async def scenario(s: Sidecar) -> None:
        s.host.set_truth("gluetun_2", good=False)
        await asyncio.sleep(120)
        s.host.remove(engines(s)[0])
        await asyncio.sleep(120)
        assert s.counts() == [expected, 0]

    play(scenario, EMERGENCY_CAPACITY=capacity)


@pytest.mark.parametrize("spoilt", [{"status": "odd"}, {"startsAt": "soon"}, {"labels": 7}, {"fingerprint": 7}])
def test_one_bad_alert_does_not_spoil_the_message(spoilt: dict[str, Any]) -> None:
    """What cannot be read is skipped alone: the good alert beside a bad one counts."""

    async def scenario(s: Sidecar) -> None:
        alert = wire_alert(starts_at="2025-11-07T22:00:00Z")
        status, answer = await Door(s.app).call("POST", "/webhook/alertmanager", message(alert, {**alert, **spoilt}))
        assert (status, answer) == (200, {"alerts": {"firing": 1, "invalid": 1}})
        assert s.app.controller.state.mode is Mode.EMERGENCY

    play(scenario, WEBHOOK_TOKEN=SECRET)


def test_an_inspection_that_fails_is_that_containers_trouble_alone() -> None:
    """Of several inspections one is refused: the others are heard all the same."""

    async def scenario(s: Sidecar) -> None:
        inspect = s.runtime.inspect

        async def inspect_but_one(ref: str) -> Container | None:
            if ref == "gluetun_2":
                raise RuntimeFailure("no such luck")
            return await inspect(ref)

        s.runtime.inspect = inspect_but_one  # type: ignore[method-assign]
        inspections = Inspections(s.runtime, s.clock)
        heard = await inspections.ask(["gluetun_2", "gluetun"])
        assert [inspection.ref for inspection in heard] == ["gluetun"]
        assert (inspections.failing("gluetun_2"), inspections.failing("gluetun")) == (True, False)

    play(scenario)


@pytest.mark.parametrize("port", [True, False])
def test_failures_of_an_engine_that_stood_still_do_not_count_once_it_runs(port: bool) -> None:  # noqa: FBT001
    """It was down for many rounds and runs again, whether or not anybody knows the port at which it could be asked."""

    async def scenario(s: Sidecar) -> None:
        box = engines(s)[0]
        if not port:
            box.labels = {key: value for key, value in box.labels.items() if not key.endswith("http_port")}
        s.runtime.faults = Faults(refused=1.0)
        s.host.stop(box)
        await asyncio.sleep(200)
        s.host.start(box)
        await s.app.observer.audit()
        s.runtime.faults = Faults()
        await asyncio.sleep(200)
        assert box.id in s.host.boxes

    play(scenario)


def test_a_docker_that_answers_with_errors_is_as_good_as_none() -> None:
    """What is known grows old: Mayday is not ready, decides nothing, and goes on as soon as it can read."""

    async def scenario(s: Sidecar) -> None:
        s.host.pause("gluetun_2")
        await asyncio.sleep(1)
        s.host.unpause("gluetun_2")
        await asyncio.sleep(1)
        assert s.phase("gluetun_2") is Phase.STABILIZING
        s.runtime.faults = Faults(misread=1.0)
        await asyncio.sleep(200)
        assert not s.app.controller.snapshot.ready
        assert s.phase("gluetun_2") is Phase.STABILIZING
        s.runtime.faults = Faults()
        await asyncio.sleep(10)
        assert s.app.controller.snapshot.ready
        assert s.phase("gluetun_2") is Phase.HEALTHY

    play(scenario)


def test_a_creation_that_comes_about_late_is_undone_in_an_outage_too() -> None:
    """Creations get no answer, then both VPNs fail, and only then the engines appear: nobody was to have them."""

    async def main(clock: VirtualClock) -> None:
        s = Sidecar(clock, MIN_REPLICAS="6", DOCKER_TIMEOUT_S="3")
        s.runtime.faults.late = 1.0
        async with s.app:
            await s.until(lambda: any(e.stage is Stage.UNSURE for e in s.app.controller.ledger._entries))
            for vpn in ("gluetun", "gluetun_2"):
                s.host.stop(s.host.find(vpn))
            s.runtime.faults.late = 0.0
            appeared = set[str]()
            for _ in range(900):
                appeared |= {box.id for vpn in ("gluetun", "gluetun_2") for box in engines(s, vpn)}
                await asyncio.sleep(0.1)
            assert s.app.controller.state.mode is Mode.OUTAGE
            assert appeared
            assert s.counts() == [0, 0]

    run_virtual(main)
