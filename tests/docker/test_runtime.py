"""The Docker runtime against a real engine: what it reads, what its errors are, and what it outlives."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from exporter.core.model import ContainerHealth, ContainerState
from exporter.core.spec import EngineSpec
from exporter.errors import ConflictError, MissingError, RejectedError
from exporter.runtime.docker_wire import unix_time
from tests.docker.runtimes import GENEROUS_S, NOBODY, drained, eventually, first
from tests.support.lab import IMAGE, wait_for

if TYPE_CHECKING:
    from collections import Counter

    from exporter.runtime.base import ContainerEvent
    from exporter.runtime.docker import DockerRuntime
    from tests.support.lab import Lab


def spec(vpn: str, name: str = "engine-new", **more: Any) -> EngineSpec:
    return EngineSpec(name, IMAGE, vpn, environment={"HTTP_PORT": "19001"}, command=("/bin/engine",), **more)


async def test_what_is_read_is_dockers_truth(lab: Lab, runtime: DockerRuntime) -> None:
    """List and inspection agree with the engine's own words, for a VPN, an engine and a container that never ran."""
    vpn = lab.vpn("gluetun")
    engine = lab.engine("gluetun", 19000, "engine-1")
    idle = lab.engine("gluetun", 19001, "engine-2", start=False)
    listing = {container.name: container for container in await runtime.containers()}
    assert {name: box.id for name, box in listing.items()} == {"gluetun": vpn, "engine-1": engine, "engine-2": idle}
    for name, listed in listing.items():
        truth = lab.api.inspect_container(name)
        shown = await runtime.inspect(name)
        assert shown is not None
        assert listed.state == shown.state == truth["State"]["Status"]
        assert listed.health is shown.health
        assert listed.labels == shown.labels == truth["Config"]["Labels"]
        assert listed.network == shown.network == (vpn if name != "gluetun" else None)
        assert int(shown.created_at) == int(listed.created_at)
        assert shown.started_at == unix_time(truth["State"]["StartedAt"])
        assert listed.address == shown.address == (truth["NetworkSettings"]["IPAddress"] or None)
    gluetun = await runtime.inspect(vpn)
    assert gluetun is not None
    assert gluetun.health is ContainerHealth.HEALTHY
    assert gluetun.probe_period_s == 6
    assert gluetun.probed_at is not None
    assert gluetun.started_at is not None
    assert gluetun.started_at < gluetun.probed_at <= time.time() + 1
    assert gluetun.address
    bound = listing["gluetun"].uptime_at_most_s
    assert bound is not None
    assert listing["engine-2"].uptime_at_most_s is None
    assert listing["engine-2"].state is ContainerState.CREATED


async def test_only_the_whole_name_or_id_is_found(lab: Lab, runtime: DockerRuntime) -> None:
    """Docker finds a container by the beginning of its id; the runtime does not, and no name becomes a path."""
    vpn = lab.vpn("gluetun", healthcheck=False)
    assert lab.api.inspect_container(vpn[:10])["Id"] == vpn
    for ref in (vpn[:10], "glue", NOBODY, "../info", "gluetun/json?x=", "x/../gluetun", ""):
        assert await runtime.inspect(ref) is None, ref
    found = await runtime.inspect("gluetun")
    assert found is not None
    assert found.health is ContainerHealth.NONE
    assert found.probe_period_s is None


async def test_a_health_event_reaches_the_loop(lab: Lab, runtime: DockerRuntime) -> None:
    """A VPN that turns unhealthy is told with its name; the probes' own events are not told at all."""
    lab.vpn("gluetun")
    stream = await runtime.events()
    lab.fail("gluetun")
    seen: list[ContainerEvent] = []

    def wanted(event: ContainerEvent) -> bool:
        seen.append(event)
        return event.action == "health_status: unhealthy"

    event = await first(stream, wanted)
    assert event.name == "gluetun"
    assert abs(event.at - time.time()) < GENEROUS_S
    assert not [other.action for other in seen if other.action.startswith("exec_")]
    await stream.close()


async def test_no_event_is_lost_before_the_iteration_begins(lab: Lab, runtime: DockerRuntime) -> None:
    """What happens between the opening of a stream and its first reader is delivered, in order."""
    stream = await runtime.events()
    vpn = lab.vpn("gluetun", healthcheck=False)
    lab.api.remove_container(vpn, force=True)
    seen: list[str] = []

    def last(event: ContainerEvent) -> bool:
        seen.append(event.action)
        return event.action == "destroy"

    await first(stream, last)
    assert [action for action in seen if action in {"create", "start", "die", "destroy"}] == [
        "create",
        "start",
        "die",
        "destroy",
    ]


async def test_closing_a_stream_ends_a_pending_iteration(runtime: DockerRuntime) -> None:
    """`close` from the loop ends the iteration, and the reading thread; twice is once."""
    stream = await runtime.events()
    reading = asyncio.create_task(drained(stream))
    await asyncio.sleep(0)
    await stream.close()
    await stream.close()
    await asyncio.wait_for(reading, GENEROUS_S)
    wait_for(lambda: "docker-events" not in {t.name for t in threading.enumerate()}, "the end of the thread")


async def test_a_backlog_nobody_reads_ends_the_stream(
    lab: Lab, runtime: DockerRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events beyond the bound end the stream instead of filling the memory or being lost unseen."""
    monkeypatch.setattr("exporter.runtime.docker_stream.EVENT_BACKLOG", 2)
    stream = await runtime.events()
    for _ in range(2):
        lab.api.remove_container(lab.vpn("gluetun", healthcheck=False), force=True)
    await eventually(_ended, "the end of the reading thread")
    await asyncio.wait_for(drained(stream), GENEROUS_S)


async def _ended() -> bool:
    return "docker-events" not in {thread.name for thread in threading.enumerate()}


async def test_an_engine_is_created_and_started(
    lab: Lab, runtime: DockerRuntime, requests: Counter[tuple[str, str]]
) -> None:
    """The new container joins the VPN's network; starting it twice is fine, as is stopping it twice."""
    vpn = lab.vpn("gluetun")
    made = await runtime.create(spec(vpn))
    await runtime.start(made)
    await runtime.start(made)
    assert "eth0" in lab.network_of(made)
    await runtime.stop(made, 1)
    await runtime.stop(made, 1)
    await runtime.restart(made, 1)
    assert "eth0" in lab.network_of(made)
    await runtime.remove(made)
    assert requests["create", "ok"] == 1
    assert requests["start", "ok"] == requests["stop", "ok"] == 2
    assert requests["restart", "ok"] == requests["remove", "ok"] == 1


@pytest.mark.parametrize(
    ("vpn_is", "expected"), [("missing", MissingError), ("stopped", ConflictError), ("paused", None)]
)
async def test_a_start_beside_a_vpn_that_does_not_run(
    lab: Lab, runtime: DockerRuntime, vpn_is: str, expected: type[Exception] | None
) -> None:
    """Creating works whatever the VPN is; the start says whether the VPN is gone or does not run. A paused one is
    joined."""
    vpn = lab.vpn("gluetun")
    if vpn_is == "missing":
        lab.api.remove_container(vpn, force=True)
    elif vpn_is == "stopped":
        lab.api.stop(vpn, timeout=1)
    else:
        lab.api.pause(vpn)
    made = await runtime.create(spec(vpn))
    if expected is None:
        await runtime.start(made)
        lab.api.unpause(vpn)
        return
    with pytest.raises(expected, match=made[:12]):
        await runtime.start(made)
    shown = await runtime.inspect(made)
    assert shown is not None
    assert shown.state is not ContainerState.RUNNING


async def test_both_kinds_of_orphans(lab: Lab, runtime: DockerRuntime) -> None:
    """A restart repairs an engine whose VPN was restarted; where the VPN was recreated it says Missing; where the VPN
    does not run, Conflict."""
    lab.vpn("gluetun")
    engine = lab.engine("gluetun", 19000, "engine-1")
    lab.api.restart("gluetun", timeout=1)
    assert "eth0" not in lab.network_of(engine)
    await runtime.restart(engine, 1)
    assert "eth0" in lab.network_of(engine)
    lab.api.stop("gluetun", timeout=1)
    with pytest.raises(ConflictError):
        await runtime.restart(engine, 1)
    lab.recreate("gluetun")
    with pytest.raises(MissingError):
        await runtime.restart(engine, 1)


async def test_a_removal_is_done_once(lab: Lab, runtime: DockerRuntime, requests: Counter[tuple[str, str]]) -> None:
    """Of many removals at once one succeeds and the others say that it is under way or done; a later one says gone."""
    lab.vpn("gluetun")
    engine = lab.engine("gluetun", 19000, "engine-1", ignore_sigterm=True)
    results = await asyncio.gather(*(runtime.remove(engine) for _ in range(4)), return_exceptions=True)
    assert all(result is None or isinstance(result, ConflictError | MissingError) for result in results), results
    assert results.count(None) >= 1
    for call in (runtime.remove, runtime.start, runtime.blueprint):
        with pytest.raises(MissingError):
            await call(engine)
    with pytest.raises(MissingError):
        await runtime.stop(engine, 1)
    assert requests["remove", "not_found"] >= 1


async def test_names_and_images(lab: Lab, runtime: DockerRuntime) -> None:
    """A name that is taken is a conflict; an image that is not there is missing, with the advice to pull it; a body
    that Docker does not accept is rejected with Docker's words."""
    vpn = lab.vpn("gluetun", healthcheck=False)
    lab.engine("gluetun", 19000, "engine-1")
    with pytest.raises(ConflictError, match="engine-1"):
        await runtime.create(spec(vpn, "engine-1"))
    with pytest.raises(MissingError, match="pull") as missing:
        await runtime.create(replace(spec(vpn), image="mayday-lab:absent"))
    assert missing.value.image
    with pytest.raises(RejectedError, match="400"):
        await runtime.create(spec(vpn, options={"Hostname": "h"}))
    assert await runtime.inspect("engine-new") is None


async def test_a_twin_has_the_originals_configuration(lab: Lab, runtime: DockerRuntime) -> None:
    """A container made from a blueprint differs from its original in id, name and network only."""
    first_vpn, second_vpn = lab.vpn("gluetun"), lab.vpn("gluetun_2")
    config = {
        "Image": IMAGE,
        "Entrypoint": ["/bin/sh", "-c"],
        "Cmd": ["/bin/engine"],
        "Env": ["HTTP_PORT=19000", "EMPTY=", "SUM=1+1=2"],
        "Labels": {"orchestrator.managed": "acestream", "other": "kept"},
        "User": "0:0",
        "WorkingDir": "/tmp",
        "StopSignal": "SIGINT",
        "StopTimeout": 3,
        "Healthcheck": {"Test": ["CMD", "/bin/test", "-e", "/tmp"], "Interval": 7_000_000_000, "Retries": 2},
        "HostConfig": {
            "NetworkMode": f"container:{first_vpn}",
            "Memory": 64 << 20,
            "NanoCpus": 500_000_000,
            "RestartPolicy": {"Name": "unless-stopped", "MaximumRetryCount": 0},
            "Binds": ["/tmp:/host:ro"],
            "Tmpfs": {"/run": "size=1m"},
            "CapDrop": ["NET_RAW"],
            "Ulimits": [{"Name": "nofile", "Soft": 1024, "Hard": 2048}],
            "LogConfig": {"Type": "json-file", "Config": {"max-size": "1m"}},
            "ReadonlyRootfs": True,
        },
    }
    original = lab.api.create_container_from_config(config, "engine-1")["Id"]
    lab.api.start(original)
    blueprint = await runtime.blueprint(original)
    assert (blueprint.name, blueprint.image, blueprint.network) == ("engine-1", IMAGE, first_vpn)
    twin = await runtime.create(replace(blueprint, name="engine-2", network=second_vpn))
    await runtime.start(twin)
    assert "eth0" in lab.network_of(twin)
    one, two = lab.api.inspect_container(original), lab.api.inspect_container(twin)
    # The host name is the VPN's, copied at the start.
    assert two["Config"].pop("Hostname") != one["Config"].pop("Hostname")
    assert sorted(one["Config"].pop("Env")) == sorted(two["Config"].pop("Env"))
    assert two["HostConfig"].pop("NetworkMode") == f"container:{second_vpn}"
    del one["HostConfig"]["NetworkMode"]
    assert _said(one["Config"]) == _said(two["Config"])
    assert _said(one["HostConfig"]) == _said(two["HostConfig"])


def _said(config: dict[str, Any]) -> dict[str, Any]:
    """Without what means nothing: null, and empty."""
    return {key: value for key, value in config.items() if value not in (None, [], {})}
