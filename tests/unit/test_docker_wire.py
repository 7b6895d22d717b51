"""Docker's JSON as it is read and written, and its refusals as our errors."""

from __future__ import annotations

from typing import Any

import pytest

from exporter.core.model import ContainerHealth, ContainerState
from exporter.core.spec import EngineSpec
from exporter.errors import ConflictError, MissingError, RejectedError, UnreachableError
from exporter.runtime import docker_wire as wire

ID = "a" * 64
VPN = "b" * 64
MINUTE, HOUR, DAY = 60, 3600, 86400


def item(**more: Any) -> dict[str, Any]:
    """One item of a list call, as Engine 20.10 gives it."""
    return {
        "Id": ID,
        "Names": ["/engine-1"],
        "Image": "engine",
        "Created": 1767323045,
        "Labels": {"orchestrator.managed": "acestream"},
        "State": "running",
        "Status": "Up 5 minutes",
        "HostConfig": {"NetworkMode": f"container:{VPN}"},
        "NetworkSettings": {"Networks": {}},
        **more,
    }


def inspection(state: dict[str, Any] | None = None, config: dict[str, Any] | None = None) -> dict[str, Any]:
    """An inspection of a container with a health check of one second and five."""
    return {
        "Id": ID,
        "Name": "/gluetun",
        "Created": "2026-01-02T03:04:05.123456789Z",
        "State": {
            "Status": "running",
            "StartedAt": "2026-01-02T03:04:06.5Z",
            "Health": {
                "Status": "healthy",
                "Log": [
                    {"End": "2026-01-02T03:04:10Z", "ExitCode": 0},
                    {"End": "2026-01-02T04:04:15.999999999+01:00", "ExitCode": 0},
                ],
            },
            **(state or {}),
        },
        "Config": {
            "Image": "gluetun",
            "Labels": None,
            "Healthcheck": {"Test": ["CMD", "true"], "Interval": 1_000_000_000, "Timeout": 5_000_000_000},
            **(config or {}),
        },
        "HostConfig": {"NetworkMode": "default"},
        "NetworkSettings": {"Networks": {"bridge": {"IPAddress": "172.17.0.2"}}},
    }


def human_duration(seconds: float) -> str:
    """docker/go-units, duration.go, HumanDuration: what Docker writes for a time."""
    whole, minutes, hours = int(seconds), int(seconds / 60), int(seconds / 3600 + 0.5)
    if whole < 1:
        return "Less than a second"
    if whole == 1:
        return "1 second"
    if whole < 60:
        return f"{whole} seconds"
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    if hours == 1:
        return "About an hour"
    if hours < 48:
        return f"{hours} hours"
    if hours < 24 * 7 * 2:
        return f"{hours // 24} days"
    if hours < 24 * 30 * 2:
        return f"{hours // 24 // 7} weeks"
    if hours < 24 * 365 * 2:
        return f"{hours // 24 // 30} months"
    return f"{int(seconds / 3600) // 24 // 365} years"


def test_the_uptime_is_never_above_its_bound() -> None:
    """For any running time up to five years, the bound read from Docker's text is not below it, and at most about
    twice it (a second more for the shortest)."""
    seconds = 0.1
    while seconds < 5 * 365 * DAY:
        bound = wire.uptime_at_most(f"Up {human_duration(seconds)} (healthy)")
        assert bound is not None, human_duration(seconds)
        assert seconds <= bound <= 2 * seconds + 1, human_duration(seconds)
        seconds *= 1.003


@pytest.mark.parametrize(
    ("text", "bound"),
    [
        ("Up Less than a second", 1),
        ("Up 1 second", 2),
        ("Up 59 seconds (health: starting)", 60),
        ("Up About a minute", 2 * MINUTE),
        ("Up 59 minutes (Paused)", HOUR),
        ("Up About an hour (healthy)", 2 * HOUR),
        ("Up 47 hours", 48 * HOUR),
        ("Up 2 days", 3 * DAY),
        ("Up 3 weeks", 28 * DAY),
        ("Up 2 months", 90 * DAY),
        ("Up 2 years", 3 * 365 * DAY),
        ("Exited (0) 5 minutes ago", None),
        ("Restarting (1) 5 seconds ago", None),
        ("Created", None),
        ("", None),
    ],
)
def test_uptime_texts(text: str, bound: float | None) -> None:
    """Each form of Docker's status text has its bound; one that is not about running has none."""
    assert wire.uptime_at_most(text) == bound


@pytest.mark.parametrize(
    ("more", "health"),
    [
        ({"Status": "Up 2 minutes (healthy)"}, ContainerHealth.HEALTHY),
        ({"Status": "Up 2 minutes (unhealthy)"}, ContainerHealth.UNHEALTHY),
        ({"Status": "Up 2 minutes (health: starting)"}, ContainerHealth.STARTING),
        ({"Status": "Up 2 minutes"}, ContainerHealth.NONE),
        ({"Status": "Up 2 minutes (Paused)"}, ContainerHealth.NONE),
        ({"Status": "Up 2 minutes", "Health": {"Status": "unhealthy", "FailingStreak": 3}}, ContainerHealth.UNHEALTHY),
        ({"Status": "Up 2 minutes", "Health": {"Status": "none"}}, ContainerHealth.NONE),
        ({"Status": "Up 2 minutes", "Health": {"Status": "puzzled"}}, ContainerHealth.NONE),
    ],
)
def test_health_in_a_list(more: dict[str, Any], health: ContainerHealth) -> None:
    """Health comes from the object of newer engines, else from the words in parentheses; an unknown word is none."""
    assert wire.listed(item(**more)).health is health


def test_a_listed_engine() -> None:
    """Every field that a list call has."""
    engine = wire.listed(item())
    assert (engine.id, engine.name, engine.state) == (ID, "engine-1", ContainerState.RUNNING)
    assert engine.labels == {"orchestrator.managed": "acestream"}
    assert engine.network == VPN
    assert engine.created_at == 1767323045
    assert engine.uptime_at_most_s == 6 * MINUTE
    assert engine.address is None
    assert (engine.started_at, engine.probed_at, engine.probe_period_s) == (None, None, None)


@pytest.mark.parametrize(
    ("names", "name"),
    [(["/other/alias", "/own"], "own"), (["/own", "/other/alias"], "own"), ([], ""), (None, "")],
)
def test_the_own_name_is_chosen(names: list[str] | None, name: str) -> None:
    """A name with a second slash is an alias in another container's links; a container may have no name at all."""
    assert wire.listed(item(Names=names)).name == name


@pytest.mark.parametrize("mode", ["bridge", "default", "host", "none", "", None])
def test_other_networks_are_no_vpns(mode: str | None) -> None:
    """Only `container:` joins somebody."""
    assert wire.listed(item(HostConfig={"NetworkMode": mode})).network is None


def test_sparse_answers_are_read() -> None:
    """What an engine leaves out or sets to null does not stop the reading of a list."""
    sparse = {"Id": ID, "Names": None, "Labels": None, "State": "dead", "Status": None, "NetworkSettings": None}
    container = wire.listed({**sparse, "HostConfig": None, "Created": None})
    assert container.state is ContainerState.DEAD
    assert container.labels == {}
    assert wire.listed(item(State="levitating")).state is ContainerState.DEAD


def test_an_address_on_each_network() -> None:
    """By the network's name, in a list as in an inspection; a network that gives no address is left out."""
    networks = {
        "media": {"IPAddress": "10.2.0.2"},
        "backend": {"IPAddress": "10.1.0.2", "GlobalIPv6Address": "fd00::2"},
        "host": {"IPAddress": ""},
        "stopped": None,
    }
    settings = {"NetworkSettings": {"Networks": networks}}
    expected = {"media": "10.2.0.2", "backend": "10.1.0.2"}
    assert wire.listed(item(**settings)).addresses == expected
    assert wire.inspected({**inspection(), **settings}).addresses == expected
    for nothing in ({}, {"NetworkSettings": None}, {"NetworkSettings": {"Networks": None}}):
        assert wire.listed({**item(), "NetworkSettings": {}, **nothing}).addresses == {}


def test_an_inspection() -> None:
    """Every field of an inspection; the newest probe is the last of the log, in whatever time zone."""
    vpn = wire.inspected(inspection())
    assert (vpn.id, vpn.name, vpn.state, vpn.health) == (ID, "gluetun", ContainerState.RUNNING, ContainerHealth.HEALTHY)
    assert vpn.created_at == pytest.approx(1767323045.123456, abs=1e-6)
    assert vpn.started_at == 1767323046.5
    assert vpn.probed_at == pytest.approx(1767323056, abs=1e-5)
    assert vpn.probe_period_s == 6
    assert vpn.address == "172.17.0.2"
    assert vpn.labels == {}
    assert vpn.network is None


@pytest.mark.parametrize("check", [None, {}, {"Interval": 0, "Timeout": 0}, {"Interval": None}])
def test_the_defaults_of_a_health_check(check: dict[str, Any] | None) -> None:
    """An interval or timeout that is absent or zero is Docker's 30 seconds."""
    assert wire.inspected(inspection(config={"Healthcheck": check})).probe_period_s == 60


def test_without_a_health_check() -> None:
    """No health, no probes, no period; a container that never started has no start."""
    vpn = wire.inspected(inspection({"Status": "created", "Health": None, "StartedAt": "0001-01-01T00:00:00Z"}))
    assert vpn.health is ContainerHealth.NONE
    assert (vpn.started_at, vpn.probed_at, vpn.probe_period_s) == (None, None, None)


def test_a_health_event() -> None:
    """Action and actor are read, not the old fields of older engines; the time has its fraction."""
    body = {
        "status": "old",
        "id": "old",
        "Type": "container",
        "Action": "health_status: unhealthy",
        "Actor": {"ID": ID, "Attributes": {"name": "gluetun", "image": "x", "label": "y"}},
        "time": 1767323045,
        "timeNano": 1767323045123456789,
    }
    event = wire.event(body)
    assert event is not None
    assert (event.id, event.name, event.action) == (ID, "gluetun", "health_status: unhealthy")
    assert event.labels["label"] == "y"
    assert event.at == pytest.approx(1767323045.123456, abs=1e-6)


def test_events_of_other_things_are_dropped() -> None:
    """A network's event is nobody's business; one without attributes is read."""
    assert wire.event({"Type": "network", "Action": "connect"}) is None
    bare = wire.event({"Type": "container", "Action": "die", "Actor": {"ID": ID, "Attributes": None}, "time": 5})
    assert bare is not None
    assert (bare.name, bare.at) == ("", 5.0)


def test_the_body_of_a_create_call() -> None:
    """Options are merged over the rest, and the network cannot be overridden by them."""
    spec = EngineSpec(
        "e",
        "image",
        VPN,
        labels={"a": "b"},
        environment={"X": "1", "NOTHING": None, "EMPTY": ""},
        command=("run", "it"),
        options={"User": "1000", "HostConfig": {"NetworkMode": "host", "Memory": 5}},
    )
    assert wire.create_body(spec) == {
        "Image": "image",
        "Labels": {"a": "b"},
        "Env": ["X=1", "NOTHING", "EMPTY="],
        "Cmd": ["run", "it"],
        "User": "1000",
        "HostConfig": {"Memory": 5, "NetworkMode": f"container:{VPN}"},
    }


def test_without_a_command_the_images_own_is_used() -> None:
    """None as a command leaves the field out."""
    assert "Cmd" not in wire.create_body(EngineSpec("e", "image", VPN))


def test_a_blueprint_leaves_out_what_a_joined_network_forbids() -> None:
    """Host name, ports, DNS and the like stay behind; environment, labels, limits and health check are carried."""
    body = inspection(
        config={
            "Image": "engine:1",
            "Hostname": "x",
            "Domainname": "y",
            "MacAddress": "02:42:ac:11:00:02",
            "ExposedPorts": {"80/tcp": {}},
            "Env": ["A=b=c", "BARE", "EMPTY="],
            "Cmd": ["/bin/engine"],
            "Entrypoint": None,
            "Labels": {"l": "m"},
            "User": "1000",
            "StopTimeout": 3,
        }
    )
    body["HostConfig"] = {
        "NetworkMode": f"container:{VPN}",
        "Memory": 1 << 28,
        "PortBindings": {},
        "Dns": [],
        "DnsOptions": None,
        "DnsSearch": [],
        "ExtraHosts": None,
        "Links": None,
        "PublishAllPorts": False,
    }
    spec = wire.blueprint(body)
    assert (spec.name, spec.image, spec.network) == ("gluetun", "engine:1", VPN)
    assert spec.environment == {"A": "b=c", "BARE": None, "EMPTY": ""}
    assert spec.command == ("/bin/engine",)
    assert spec.labels == {"l": "m"}
    assert spec.options["HostConfig"] == {"Memory": 1 << 28}
    assert set(spec.options) == {"User", "Healthcheck", "StopTimeout", "Entrypoint", "HostConfig"}
    assert spec.options["Entrypoint"] == [], "no entry point means none, not the image's"
    assert wire.create_body(spec)["Env"] == ["A=b=c", "BARE", "EMPTY="]


def message(text: str) -> str:
    return f'{{"message":"{text}"}}'


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (404, message("No such container: x"), MissingError),
        (500, message("Cannot restart container x: No such container: y"), MissingError),
        (409, message("No such container: y"), MissingError),
        (500, message("joining network namespace of container: No such container: y"), MissingError),
        (404, message("page not found"), RejectedError),
        (404, "<html><h1>404 Not Found</h1></html>", RejectedError),
        (409, message("removal of container x is already in progress"), ConflictError),
        (409, message("cannot join network of a non running container: y"), ConflictError),
        (500, message("Cannot restart container x: cannot join network of a non running container: y"), ConflictError),
        (500, message("Container y is restarting, wait until the container is running"), ConflictError),
        (500, message("driver failed"), RejectedError),
        (400, message("conflicting options"), RejectedError),
        (403, "<html><body><h1>403 Forbidden</h1></body></html>", RejectedError),
        (503, "<html><body><h1>503 Service Unavailable</h1></body></html>", UnreachableError),
        (502, "", UnreachableError),
        (500, "null", RejectedError),
        (500, '{"cause":"x"}', RejectedError),
    ],
)
def test_refusals(status: int, body: str, expected: type[Exception]) -> None:
    """Status and words together decide the class; the text names the operation, the container and Docker's words."""
    error = wire.failure(status, body, "start 'e'")
    assert type(error) is expected
    assert str(error).startswith(f"start 'e': Docker answered {status}: ")
    assert "<" not in str(error)


def test_a_missing_image_is_told_with_its_remedy() -> None:
    """A 404 at a creation is the image's, unless it names a container or is not Docker's."""
    error = wire.failure(404, message("No such image: e:1"), "create 'e'", creating=True)
    assert isinstance(error, MissingError)
    assert error.image
    assert "pull" in str(error)
    joined = wire.failure(404, message("No such container: v"), "create 'e'", creating=True)
    assert isinstance(joined, MissingError)
    assert not joined.image
    assert isinstance(wire.failure(404, "<html>", "create 'e'", creating=True), RejectedError)


def test_a_proxys_refusal_says_where_to_look() -> None:
    """A 403 tells of the proxy's switches."""
    assert "proxy" in str(wire.failure(403, "", "list containers"))


def test_foreign_text_is_capped() -> None:
    """A page of any length does not fill the log."""
    assert len(str(wire.failure(500, "x" * 100_000, "start 'e'"))) < wire.MESSAGE_LIMIT + 100


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("client version 1.23 is too old. Minimum supported API version is 1.44", True),
        ("client version 1.52 is too new. Maximum supported API version is 1.41", True),
        ("invalid reference format", False),
    ],
)
def test_a_refused_version_is_known(text: str, *, wrong: bool) -> None:
    """Both ways a daemon refuses a version, and nothing else."""
    assert wire.wrong_version(text) is wrong
