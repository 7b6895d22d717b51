"""What the coverage-guided fuzzer begins with: good inputs for each harness, and words that matter to them."""

from __future__ import annotations

import json
from typing import Any

from exporter.core.alerts import Alert, hear
from exporter.core.model import Phase, Reason, Signal, Source, Verdict
from exporter.core.phases import Emergency, FleetState, VpnState
from exporter.core.policy import Policy
from tests.support.alerts import wire_alert
from tests.support.memory import Memory, written
from tests.support.moments import START, moment


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _alert(**changes: Any) -> dict[str, Any]:
    return {**wire_alert(severity="page"), **changes}


def _memory() -> dict[str, Any]:
    policy = Policy(("gluetun", "gluetun_2"))
    state = FleetState(
        {
            "gluetun": VpnState(Phase.STABILIZING, moment(-5), Reason.DOCKER_HEALTHY, "up", moment(60).mono),
            "gluetun_2": VpnState(Phase.FAILED, moment(-9), Reason.ALERT, "ProbeFailed"),
        },
        emergency=Emergency(moment(-9), "gluetun_2", Reason.ALERT, "gluetun"),
    )
    book, _ = hear({}, Alert("f", START, "gluetun_2", "ProbeFailed", firing=True), moment(-9), 3600.0)
    drill = Signal("gluetun", Source.OPERATOR, Verdict.UNHEALTHY, Reason.DRILL, "declared", moment(-1), moment(30).mono)
    assert set(state.vpns) == set(policy.vpns)
    return written(Memory(state, book, {"gluetun": drill}, 12.5), policy, moment(0), "boot")


_LISTED = {
    "Id": "c0ffee",
    "Names": ["/other/alias", "/gluetun"],
    "State": "running",
    "Status": "Up About an hour (health: starting)",
    "Labels": {"orchestrator.managed": "acestream"},
    "Created": 1762553013,
    "HostConfig": {"NetworkMode": "container:c0ffee"},
    "NetworkSettings": {"Networks": {"bridge": {"IPAddress": "192.0.2.1"}}},
}
_INSPECTED = {
    "Id": "c0ffee",
    "Name": "/gluetun",
    "Created": "2025-11-07T22:03:33.123456789Z",
    "State": {
        "Status": "running",
        "StartedAt": "2025-11-07T22:03:33Z",
        "Health": {"Status": "healthy", "Log": [{"End": "2025-11-07T22:03:34.5+01:00"}]},
    },
    "Config": {"Image": "x", "Env": ["A=b", "C"], "Cmd": ["run"], "Healthcheck": {"Interval": 5000000000}},
    "HostConfig": {"NetworkMode": "container:c0ffee", "Memory": 1, "Dns": []},
}
_EVENT = {
    "Type": "container",
    "Action": "health_status: healthy",
    "Actor": {"ID": "c0ffee", "Attributes": {"name": "x"}},
    "timeNano": 1762553013000000000,
}

SEEDS: dict[str, list[bytes]] = {
    "webhook": [
        _json({"version": "4", "alerts": [_alert(), _alert(status="resolved", labels={})], "truncatedAlerts": 0}),
        _json({"version": "1", "alerts": [_alert(values=None, orgId=1)], "state": "alerting"}),
    ],
    "alertmanager": [
        _json([_alert(status={"state": "active", "silencedBy": [], "inhibitedBy": []})]),
        _json([_alert(status={"state": "suppressed", "silencedBy": ["a"], "inhibitedBy": []})]),
    ],
    "matchers": [
        b'a=~"(a+b*)+c|(?i:ab)*?(x)\\1"',
        b'a!~"(ab|ba)*[^ab]{2,40}(?=x).*"',
        b'{severity="critical",team=~"net|vpn", a!="x\\"y" , b!~"z+"}',
    ],
    "config": [
        (
            b"GLUETUN_CONTAINER_NAME=a\nGLUETUN_CONTAINER_NAME_2=b\nGLUETUN_PORT_RANGE_1=19000-19499\nMIN_REPLICAS=7\n"
            b"ENGINE_ENV=A={http_port} 'B=c d'\nENGINE_MEMORY=512m\nCONTROL=dry-run\nVPN_MODE=redundant\n"
            b'ALERT_MATCHERS=a=~"b"\nENGINE_MOUNTS=/a:/b:ro\nVPN_STABILIZATION_PERIOD_S=1.5\nAPI_KEY=x\n'
            b"ALERTMANAGER_URL=http://x:9093/y"
        )
    ],
    "web_config": [
        b"rate_limit: {interval: 10ms, burst: 2}\nhttp_server_config:\n  http2: true\n  headers:\n"
        b"    X-Frame-Options: deny\nbasic_auth_users:\n  alice: $2b$04$" + b"a" * 53 + b"\n",
        b"rate_limit: &a\n  ? interval\n  : !!str 1s\n  burst: 0x1F\nbasic_auth_users: {}\n",
    ],
    "docker": [
        b"l" + _json(_LISTED),
        b"i" + _json(_INSPECTED),
        b"b" + _json(_INSPECTED),
        b"e" + _json(_EVENT),
        b'f404\n{"message": "No such container: x"}',
        b"f502\n<html><h1>Bad gateway</h1>",
        b"f409\nconflict: cannot join network of a non running container",
    ],
    "gluetun": [b'{"port": 40123}', b'{"ports": [40123, 5], "port": 0}', b'{"ports": null, "port": 1}'],
    "memory": [_json(_memory())],
}
WORDS = [
    *["version", "alerts", "status", "labels", "startsAt", "fingerprint", "firing", "resolved", "alertname", "vpn"],
    *["NaN", "Infinity", "-1e999", "null", "true", "[]", "{}", "9223372036854775808", "0001-01-01T00:00:00+14:00"],
    *[
        "in_s",
        "deadline",
        "expires",
        "emergency",
        "relief",
        "stabilizing",
        "Health",
        "Status",
        "Up 3 weeks",
        "container:",
    ],
    *["!!bool ", "!!int ", "!!timestamp ", "<<: *a", "&a ", "---", "=~", "!~", "\\x00", "\\xed\\xa0\\x80", "\\\\ud800"],
]


def dictionary() -> str:
    """The words as libFuzzer reads them."""
    return "\n".join('"' + word.replace('"', '\\"') + '"' for word in WORDS) + "\n"
