"""Settings: what is accepted, what is refused, and what is never shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from exporter.errors import ConfigError
from exporter.settings.environment import Secret
from exporter.settings.matchers import all_match, parse_matchers
from exporter.settings.settings import from_environment

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.settings import SettingsOf


def test_the_defaults_are_those_of_the_contract(settings_of: SettingsOf) -> None:
    """With nothing but two names: ten engines, 120 s, ports of the orchestrator divided in two, control on."""
    settings = settings_of()
    policy = settings.policy
    assert (policy.min_replicas, policy.max_replicas, policy.stabilization_s) == (10, 20, 120.0)
    assert policy.ports == {"gluetun": range(19000, 19500), "gluetun_2": range(19500, 20000)}
    assert (settings.poll_interval_s, settings.resync_interval_s, settings.app_port) == (5.0, 30.0, 8000)
    assert (settings.label.key, settings.label.value) == ("orchestrator.managed", "acestream")
    assert settings.control == "on"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("VPN_MODE", "triple"),
        ("VPN_MODE", "single"),
        ("GLUETUN_CONTAINER_NAME_2", "gluetun"),
        ("GLUETUN_CONTAINER_NAME_2", "../x"),
        ("GLUETUN_CONTAINER_NAME_4", "gap"),
        ("GLUETUN_PORT_RANGE_1", "19000"),
        ("GLUETUN_PORT_RANGE_1", "19600-19700"),
        ("GLUETUN_PORT_RANGE_1", "0-70000"),
        ("GLUETUN_PORT_RANGE_3", "21000-21999"),
        ("GLUETUN_PORT_RANGE_02", "21000-21999"),
        ("GLUETUN_CONTAINER_NAME_1", "gluetun_one"),
        ("GLUETUN_CONTAINER_NAME_02", "gluetun_two"),
        ("GLUETUN_CONTAINER_NAME_4", "gluetun_four"),
        ("MIN_REPLICAS", "-1"),
        ("MIN_REPLICAS", "1e3"),
        ("MIN_REPLICAS", "٣"),
        ("MAX_REPLICAS", "9"),
        ("VPN_STABILIZATION_PERIOD_S", "nan"),
        ("VPN_STABILIZATION_PERIOD_S", "inf"),
        ("EMERGENCY_CAPACITY", "some"),
        ("CONTROL", "yes"),
        ("ENGINE_ENV", "HTTP_PORT"),
        ("ENGINE_ENV", "A={htttp_port}"),
        ("ENGINE_COMMAND", "'unclosed"),
        ("ENGINE_MEMORY", "lots"),
        ("ENGINE_MOUNTS", "/only-one-part"),
        ("ENGINE_RESTART_POLICY", "sometimes"),
        ("ENGINE_HTTPS_PORT_OFFSET", "60000"),
        ("ALERTMANAGER_URL", "ftp://x"),
        ("ALERT_MATCHERS", "severity=critical"),
        ("ALERT_MATCHERS", 'team=~"("'),
        ("CONTAINER_LABEL", "=x"),
        ("LOG_LEVEL", "loud"),
        ("APP_PORT", "99999"),
        ("API_KEY_FILE", "/does/not/exist"),
    ],
)
def test_a_bad_value_is_refused_by_the_name_of_its_variable(settings_of: SettingsOf, name: str, value: str) -> None:
    """Nothing that cannot be understood is guessed."""
    with pytest.raises(ConfigError) as refused:
        settings_of(**{name: value})
    related = {"MIN_REPLICAS", "MAX_REPLICAS", name} if "REPLICAS" in name else {name, "GLUETUN_PORT_RANGE_2"}
    assert {fault.split(":")[0] for fault in refused.value.faults} <= related
    assert refused.value.faults


def test_nothing_set_is_one_clear_message() -> None:
    """The name of the first VPN is all that has no default."""
    with pytest.raises(ConfigError, match="GLUETUN_CONTAINER_NAME: is not set"):
        from_environment({})


def test_an_empty_value_counts_as_unset(settings_of: SettingsOf) -> None:
    """Compose files leave empty values behind."""
    assert settings_of(MIN_REPLICAS="", API_KEY="", ALERTMANAGER_URL="").api_key is None


def test_a_secret_comes_from_a_file_and_is_never_shown(settings_of: SettingsOf, tmp_path: Path) -> None:
    """NAME_FILE works for every secret; no representation of the settings holds one."""
    path = tmp_path / "key"
    path.write_text("s3cret\n")
    url = "http://mayday:passw0rd@alertmanager:9093"
    settings = settings_of(API_KEY_FILE=str(path), WEBHOOK_TOKEN="t0ken", ALERTMANAGER_URL=url)
    assert settings.api_key == Secret("s3cret")
    assert settings.webhook_token is not None
    assert settings.webhook_token.reveal() == "t0ken"
    shown = f"{settings!r} {settings} {settings.api_key!s}"
    assert "s3cret" not in shown
    assert "t0ken" not in shown
    assert "passw0rd" not in shown


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("CONTROL", "ON", "on"),
        ("CONTROL", "Dry-Run", "dry-run"),
        ("LOG_LEVEL", "warn", "warning"),
        ("LOG_LEVEL", "WARN", "warning"),
        ("LOG_LEVEL", "Error", "error"),
    ],
)
def test_words_in_any_case(name: str, text: str, expected: str, settings_of: SettingsOf) -> None:
    """And a level of the log as other programs call it."""
    assert getattr(settings_of(**{name: text}), name.lower()) == expected


def test_which_alerts_count_by_default(settings_of: SettingsOf) -> None:
    """All but those that only inform; an empty list of matchers, which is not an empty value, selects all."""
    for severity, counts in {"": True, "critical": True, "info": False, "none": False, "information": True}.items():
        assert all_match(settings_of().alert_matchers, {"severity": severity}) is counts, severity
    assert settings_of(ALERT_MATCHERS="").alert_matchers == settings_of().alert_matchers
    assert settings_of(ALERT_MATCHERS="{}").alert_matchers == ()


def test_a_secret_given_twice_is_refused(settings_of: SettingsOf, tmp_path: Path) -> None:
    """Two sources of one secret are one too many."""
    with pytest.raises(ConfigError, match="API_KEY: is set together with API_KEY_FILE"):
        settings_of(API_KEY="a", API_KEY_FILE=str(tmp_path))


def test_the_template_fills_in_its_placeholders(settings_of: SettingsOf) -> None:
    """Ports and the VPN's name reach environment, command, labels and mounts; other braces stay."""
    settings = settings_of(
        ENGINE_COMMAND="--port {http_port} '{\"a\": 1}'",
        ENGINE_LABELS="vpn={vpn}",
        ENGINE_MOUNTS="/data/{http_port}:/cache",
        ENGINE_MEMORY="512m",
        ENGINE_CPUS="1.5",
    )
    spec = settings.template.render(
        name="e", vpn="gluetun", network="id", http_port=19001, label=settings.label, forwarded_port=40123
    )
    assert spec.command == ("--port", "19001", '{"a": 1}')
    assert spec.environment["HTTPS_PORT"] == "39001"
    assert spec.environment["P2P_PORT"] == "40123"
    assert spec.labels["vpn"] == "gluetun"
    assert spec.labels["acestream.forwarded"] == "true"
    assert spec.labels["host.http_port"] == "19001"
    host = spec.options["HostConfig"]
    assert isinstance(host, dict)
    assert (host["Binds"], host["Memory"], host["NanoCpus"]) == (["/data/19001:/cache"], 512 * 2**20, 1_500_000_000)


@pytest.mark.parametrize(
    ("text", "labels", "expected"),
    [
        ("", {}, True),
        ('a="x"', {"a": "x"}, True),
        ('{a="x",b!="y"}', {"a": "x", "b": "z"}, True),
        ('a="x", b=~"p|q",', {"a": "x", "b": "q"}, True),
        ('a=~"x"', {"a": "xx"}, False),
        ('a!~"x.*"', {"a": "xx"}, False),
        ('a=~"(net|vpn)-[a-z]+.*[0-9]{2,4}"', {"a": "vpn-abc-0042"}, True),
        ('a=~"(?i)[ab]+|c?"', {"a": "ABBA"}, True),
        ('a=""', {}, True),
        (r'a="q\"uote"', {"a": 'q"uote'}, True),
    ],
)
def test_matchers_match_as_alertmanagers_do(text: str, labels: dict[str, str], *, expected: bool) -> None:
    """Anchored expressions; a missing label is empty."""
    assert all_match(parse_matchers(text), labels) is expected


@pytest.mark.timeout(60)
@pytest.mark.parametrize("expression", ["(a+)+b", "(a|aa)*b", "(a*)*b", ".*.*.*.*b"])
def test_no_expression_takes_for_ever_on_a_label_that_others_choose(expression: str) -> None:
    """A million characters on which a backtracking engine would take hours, or years."""
    matchers = parse_matchers(f'a=~"{expression}"')
    assert not all_match(matchers, {"a": "a" * 1_000_000})
    assert all_match(matchers, {"a": "a" * 1_000_000 + "b"})


def test_an_expression_is_read_as_prometheus_reads_it() -> None:
    """RE2's syntax, not Python's: what only Python knows is refused, with the reason."""
    assert all_match(parse_matchers(r'a=~"\pL+\z"'), {"a": "Größe"})
    with pytest.raises(ValueError, match=r"RE2's syntax.*invalid escape sequence: \\Z"):
        parse_matchers(r'a=~"x\Z"')


def test_a_label_that_utf8_cannot_hold_is_matched_all_the_same() -> None:
    """Half of a surrogate pair is one character like any other, and no error."""
    assert all_match(parse_matchers('a=~"x.y",a!~"xy"'), {"a": "x\ud800y"})
