"""Coverage-guided fuzzing of everything that reads what others wrote: `python -m tests.fuzz.guided HARNESS -runs=N`.

Each harness hands bytes to one parser. A parser may return a value or raise the errors it names; anything else, and
anything that takes longer than `-timeout`, is a bug, and libFuzzer writes the input down. `python -m
tests.fuzz.guided HARNESS FILE` runs one input again. Further arguments are libFuzzer's own.
"""

from __future__ import annotations

import json
import math
import sys
from typing import TYPE_CHECKING, Any

import atheris  # type: ignore[import-untyped,unused-ignore]  # it ships no types

with atheris.instrument_imports(include=["exporter"]):
    from exporter.core.alerts import Alert
    from exporter.core.model import Container
    from exporter.core.policy import Policy
    from exporter.errors import BadRequestError, ConfigError, RuntimeFailure
    from exporter.runtime import docker_wire as wire
    from exporter.settings import web_config as webconfig
    from exporter.settings.matchers import all_match, parse_matchers
    from exporter.settings.settings import Settings, from_environment
    from exporter.sources.alertmanager_wire import Ignored, Selection, parse_listing, parse_webhook
    from exporter.sources.gluetun import first_port
    from tests.support.memory import Memory, read, written

from tests.support.moments import moment

if TYPE_CHECKING:
    from collections.abc import Callable

SELECTION = Selection(("gluetun", "gluetun_2"), "vpn", parse_matchers('severity=~"critical|page",team!="x"'))
POLICY = Policy(("gluetun", "gluetun_2"), ports={"gluetun": range(1, 9), "gluetun_2": range(9, 17)})
NOW = moment(0)
NOT_DOCKERS = (AttributeError, KeyError, IndexError, OverflowError, RecursionError, TypeError, ValueError)
"""What the Docker runtime turns into its own errors, whatever the parsers raise of them."""


def webhook(data: bytes) -> None:
    """Alerts, or a refusal; every text can be written down."""
    try:
        found = parse_webhook(data, SELECTION)
    except BadRequestError:
        return
    for item in found:
        assert isinstance(item, Alert | Ignored)
        if isinstance(item, Alert):
            f"{item.fingerprint}{item.name}{item.vpn}".encode()
            assert item.starts_at.utcoffset() is not None


def alertmanager(data: bytes) -> None:
    """Alerts about our VPNs, or a refusal."""
    try:
        found = parse_listing(data, SELECTION)
    except BadRequestError:
        return
    assert all(alert.vpn in SELECTION.vpns and alert.firing for alert in found.firing)
    for text in (*found.silent, *(alert.name for alert in found.firing)):
        text.encode()


def matchers(data: bytes) -> None:
    """Matchers that have soon decided on any label, or a ValueError."""
    try:
        found = parse_matchers(data.decode(errors="surrogateescape"))
    except ValueError:
        return
    for matcher in found:
        all_match([matcher], {matcher.label: "ab" * 100 + "c"})


def config(data: bytes) -> None:
    """Lines of NAME=VALUE as an environment: settings, or a refusal."""
    lines = [line.partition("=") for line in data.decode(errors="surrogateescape").split("\n")]
    # No files: what is on this machine is not the fuzzer's to read.
    values = {name: value for name, _, value in lines if not name.endswith("_FILE")}
    try:
        found = from_environment(values)
    except ConfigError:
        return
    assert isinstance(found, Settings)


def web_config(data: bytes) -> None:
    """A web configuration without files, or a refusal."""
    try:
        top = webconfig._mapping(webconfig.parse(data.decode(errors="surrogateescape")), "the file")
        for read, key in ((webconfig._users, "basic_auth_users"), (webconfig._headers, "http_server_config")):
            read(top.get(key))
        webconfig._rate_limit(top.get("rate_limit"))
    except webconfig.WebConfigError:
        return


def docker(data: bytes) -> None:
    """Docker's answers: values of the right kind, or an error that the runtime turns into one of ours."""
    kind, data = data[:1], data[1:]
    if kind == b"f":
        status, _, body = data.partition(b"\n")
        code = int(status) if status.isdigit() and len(status) < 4 else 500
        for creating in (False, True):
            failure = wire.failure(code, body.decode(errors="replace"), "what", creating=creating)
            assert isinstance(failure, RuntimeFailure)
            assert len(str(failure)) < 600
        return
    try:
        value = json.loads(data)
        if kind == b"l":
            found: object = wire.listed(value)
        elif kind == b"i":
            found = wire.inspected(value)
        elif kind == b"b":
            found = wire.create_body(wire.blueprint(value))
        else:
            found = wire.event(value)
    except NOT_DOCKERS:
        return
    if isinstance(found, Container):
        assert isinstance(found.created_at, float)
        assert found.started_at is None or math.isfinite(found.started_at)


def gluetun(data: bytes) -> None:
    """A port, 0 for none, or a ValueError."""
    try:
        port = first_port(data)
    except ValueError:
        return
    assert 0 <= port < 65536


def memory(data: bytes) -> None:
    """What an earlier run remembered: a memory that can be written down again and read as the same, or a ValueError."""
    try:
        document = json.loads(data)
        if not isinstance(document, dict):
            return
        found = read(document, POLICY, NOW, "boot")
    except (ValueError, RecursionError):
        return
    assert isinstance(found, Memory)
    deadlines = [vpn.deadline for vpn in found.state.vpns.values() if vpn.deadline is not None]
    assert all(deadline <= NOW.mono + POLICY.stabilization_s for deadline in deadlines)
    times = [incident.expires for incident in found.alerts.values()]
    times += [drill.expires or 0.0 for drill in found.drills.values()]
    assert all(map(math.isfinite, [*deadlines, *times, found.emergency_s]))
    again = json.loads(json.dumps(written(found, POLICY, NOW, "boot")))
    read(again, POLICY, NOW, "boot")


HARNESSES: dict[str, Callable[[bytes], None]] = {
    harness.__name__: harness
    for harness in (webhook, alertmanager, matchers, config, web_config, docker, gluetun, memory)
}


def main(arguments: list[str]) -> None:
    """Fuzz; does not return."""
    name, *options = arguments
    atheris.Setup([f"guided {name}", *options], HARNESSES[name])
    atheris.Fuzz()


if __name__ == "__main__":
    known: Any = sys.argv[1:2]
    if not known or known[0] not in HARNESSES:
        sys.exit(f"usage: python -m tests.fuzz.guided HARNESS [FILE … | -runs=N …]; there are {', '.join(HARNESSES)}")
    main(sys.argv[1:])
