"""The settings and the web configuration file: whatever they hold, they are used, or refused by their names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from exporter.errors import ConfigError
from exporter.settings.settings import Settings, from_environment
from exporter.settings.web_config import WebConfig, WebConfigError, load
from tests.fuzz import strategies as sent

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.settings import SettingsOf

MARK = "hunter2"
SECRETS = ("API_KEY", "WEBHOOK_TOKEN", "GLUETUN_API_KEY", "ENGINE_ENV")
"""Variables that hold secrets, or may."""


class Asked(dict[str, str]):
    """An environment that remembers what it was asked for."""

    def __init__(self, values: dict[str, str]) -> None:
        super().__init__(values)
        self.names: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        self.names.add(name)
        return super().get(name, default)


def known_variables() -> list[str]:
    """Every variable that the program asks for, from the program itself; and those that it counts."""
    asked = Asked({"GLUETUN_CONTAINER_NAME": "a", "GLUETUN_CONTAINER_NAME_2": "b", "GLUETUN_CONTAINER_NAME_3": "c"})
    from_environment(asked)
    more = {"GLUETUN_CONTAINER_NAME_4", "GLUETUN_CONTAINER_NAME_01", "GLUETUN_CONTAINER_NAME_999", "DOCKER_HOST"}
    return sorted(asked.names | more)


VARIABLES = known_variables()
NEARLY = st.sampled_from(
    [
        *[
            "0",
            "1",
            "-1",
            "10",
            "65535",
            "65536",
            "1e3",
            "1_0",
            "٣",
            "nan",
            "inf",
            "0x10",
            "9" * 30,
            "9" * 5000,
            " 7 ",
            ".5",
        ],
        *["on", "OFF", "dry-run", "single", "redundant", "full", "text", "debug", "always"],
        *["a", "b", "c", "a b", "../x", "19000-19999", "19000-", "1-65535", "20000-19000", "19000-19999-1"],
        *["K=V", "K=V L={vpn}", "=", "K={htttp_port}", "'", '"', "\\", "/a:/b", "/a:/b:ro:z", "/a:b", "512m", "2t"],
        *['a="b"', 'a=~"("', 'a=~"a{99999999999999999999}"', 'a=~"' + "(" * 5000 + '"', "{", 'a=~"[[a]"', 'a="b",,'],
        *[
            "http://x",
            "http://u:p@x:1/y",
            "ftp://x",
            "http://x?q",
            "http://[",
            "\0",
            "\ud800",
            "a\udcff",
            "\n",
            "é" * 300,
        ],
        *["/dev/zero", "/dev/stdin", "/", "/proc/self/mem", "/does/not/exist", "/a\0b", "x" * 5000, "unix:///x"],
    ]
)
VALUES = NEARLY | st.text(max_size=30)
some = settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def judged(values: dict[str, str]) -> set[str]:
    """The variables that are refused; everything else than settings or a refusal by name is a fault of the program."""
    try:
        found: Settings | ConfigError = from_environment(values)
    except ConfigError as error:
        found = error
    if isinstance(found, Settings):
        assert MARK not in repr(found).replace(repr(found.template), "")
        return set()
    names = {fault.split(": ", 1)[0] for fault in found.faults}
    assert names, found
    assert names <= {*VARIABLES, *values}, "a fault must name its variable"
    assert MARK not in str(found)
    assert len(str(found)) < 700 * (1 + len(found.faults))
    return names


@pytest.mark.filterwarnings("ignore::FutureWarning")
@given(values=st.dictionaries(st.sampled_from(VARIABLES), VALUES, max_size=12), whole=st.booleans())
@some
def test_any_environment_is_used_or_refused_by_name(values: dict[str, str], *, whole: bool) -> None:
    """Any strings in any known variables: settings, or every fault with its variable's name; no secret in either."""
    if whole:
        values = {"GLUETUN_CONTAINER_NAME": "a", "GLUETUN_CONTAINER_NAME_2": "b", **values}
    values |= {name: f"{MARK} {values[name]}" for name in SECRETS if name in values}
    event("refused" if judged(values) else "used")


@pytest.mark.filterwarnings("ignore::FutureWarning")
@given(
    first=st.tuples(st.sampled_from(VARIABLES), VALUES),
    second=st.tuples(st.sampled_from(VARIABLES), VALUES),
)
@some
def test_every_faulty_variable_is_named_at_once(first: tuple[str, str], second: tuple[str, str]) -> None:
    """Two variables that are refused each alone are both named when both are set."""
    base = {"GLUETUN_CONTAINER_NAME": "a", "GLUETUN_CONTAINER_NAME_2": "b"}
    related = ("GLUETUN_", "VPN_MODE", "ENGINE_HTTPS", "ENGINE_P2P")
    if first[0] == second[0] or any(name.startswith(related) or "REPLICAS" in name for name, _ in (first, second)):
        return
    if first[0].removesuffix("_FILE") == second[0].removesuffix("_FILE"):
        return
    alone = judged({**base, first[0]: first[1]}) | judged({**base, second[0]: second[1]})
    assert judged({**base, first[0]: first[1], second[0]: second[1]}) == alone


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param("API_KEY_FILE", "/dev/zero", id="a secret's file without an end"),
        pytest.param("API_KEY_FILE", "/a\0b", id="a path with a zero byte"),
        pytest.param("API_KEY", "a\udcff", id="a secret that is not UTF-8"),
        pytest.param("ENGINE_IMAGE", "\udcff", id="a text that is not UTF-8"),
        pytest.param("ALERT_MATCHERS", 'a=~"(a{1000}){1000}"', id="an expression too large to compile"),
        pytest.param("ALERT_MATCHERS", 'a=~"' + "(" * 5000 + '"', id="an expression nested too deeply"),
        pytest.param("ALERT_MATCHERS", 'a=~"(a)\\1*"', id="an expression with a back-reference"),
        pytest.param("ALERT_MATCHERS", 'a=~"(?=a+)a"', id="an expression with a look-around"),
        pytest.param("VPN_STABILIZATION_PERIOD_S", "1_0", id="a number as only Python writes it"),
        pytest.param("VPN_STABILIZATION_PERIOD_S", "٣", id="digits that are not ASCII"),
        pytest.param("ENGINE_LABELS", "a={htttp_port}", id="a placeholder in a label that is none"),
        pytest.param("WEB_CONFIG_FILE", "/dev/zero", id="a web configuration without an end"),
    ],
)
def test_what_the_fuzzer_found_is_refused_by_name(settings_of: SettingsOf, name: str, value: str) -> None:
    """Each of these once crashed, hung, or was taken for something else."""
    with pytest.raises(ConfigError) as refused:
        settings_of(**{name: value})
    assert [fault.split(":")[0] for fault in refused.value.faults] == [name]


def test_a_word_of_the_engines_environment_is_not_shown(settings_of: SettingsOf) -> None:
    """ENGINE_ENV may hold secrets: a word that is not KEY=VALUE is told by its position."""
    with pytest.raises(ConfigError, match="ENGINE_ENV: word 2 is not KEY=VALUE") as refused:
        settings_of(ENGINE_ENV=f"A=b {MARK}")
    assert MARK not in str(refused.value)


# --- the web configuration file ---------------------------------------------------------------------------------------

HASH = "$2b$04$" + "a" * 53
SCALARS = sent.TEXTS.filter(lambda text: text.isprintable()) | st.sampled_from(
    [True, 0, -1, 10**400, 1.5, None, "1s", "10ms", HASH]
)
WEB_CONFIG = sent.shape(
    {
        "tls_server_config": sent.shape(
            {"cert_file": SCALARS, "key_file": SCALARS},
            client_auth_type=st.sampled_from(["NoClientCert", "RequireAndVerifyClientCert"]) | SCALARS,
            client_ca_file=SCALARS,
            min_version=st.sampled_from(["TLS10", "TLS12", "TLS13"]) | SCALARS,
            max_version=st.sampled_from(["TLS10", "TLS12", "TLS13"]) | SCALARS,
            cipher_suites=st.lists(SCALARS, max_size=2),
            client_allowed_sans=st.lists(SCALARS, max_size=2),
            prefer_server_cipher_suites=SCALARS,
        ),
        "basic_auth_users": st.dictionaries(SCALARS, SCALARS, max_size=2),
        "http_server_config": sent.shape({"http2": SCALARS, "headers": st.dictionaries(SCALARS, SCALARS, max_size=2)}),
        "rate_limit": sent.shape({"interval": SCALARS, "burst": SCALARS}),
    }
)
PIECES = st.sampled_from(
    [
        *[
            "rate_limit: ",
            "interval: ",
            "burst: ",
            "basic_auth_users: ",
            "tls_server_config: ",
            "cert_file: ",
            "headers: ",
        ],
        *[
            "\n",
            "  ",
            "- ",
            "{",
            "}",
            "[",
            "]",
            ", ",
            ": ",
            "? ",
            "|\n",
            ">\n",
            "'",
            '"',
            "#",
            "---\n",
            "...\n",
            "%YAML 1.1\n",
        ],
        *[
            "&a ",
            "*a",
            "<<: ",
            "!!bool ",
            "!!int ",
            "!!float ",
            "!!timestamp ",
            "!!binary ",
            "!!set ",
            "!!omap ",
            "!!null ",
        ],
        *[
            "!!python/object/apply:os.system ",
            "2001-99-99",
            "0001-01-01T00:00:00+23:59",
            "1:2:3",
            "0x",
            "0o9",
            ".inf",
            "~",
            "x",
        ],
        *["\t", "\ufeff", "\x85", "\u2028", MARK],
    ]
)


def judged_file(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    try:
        found: WebConfig | WebConfigError = load(path)
    except WebConfigError as error:
        found = error
    event(type(found).__name__)
    assert isinstance(found, WebConfig) or len(str(found)) < 2000


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@given(value=WEB_CONFIG)
@some
def test_any_values_in_the_web_configuration(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    """Its own keys, with values that are nearly right: used, or refused with a reason."""
    judged_file(tmp_path_factory.getbasetemp() / "values.yml", yaml.safe_dump(value).encode("utf-8", "surrogatepass"))


@given(text=st.lists(PIECES, max_size=25).map("".join).map(str.encode) | st.binary(max_size=60))
@some
def test_any_text_as_web_configuration(tmp_path_factory: pytest.TempPathFactory, text: bytes) -> None:
    """Pieces of YAML in any order, and bytes that are no text."""
    judged_file(tmp_path_factory.getbasetemp() / "text.yml", text)


def laughs(reference: str) -> str:
    lines = ["a0: &a0 [x, x]"] + [f"a{n}: &a{n} {reference.format(n - 1)}" for n in range(1, 60)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param(laughs("[*a{0}, *a{0}]") + "\nrate_limit: {interval: *a59}", "unknown", id="a billion laughs"),
        pytest.param(
            "rate_limit:\n  interval: &a0 [[[x]]]\n  burst: 1\n", "interval is not a duration", id="a list as interval"
        ),
        pytest.param(
            "rate_limit:\n  burst: [&a [x, x], "
            + ", ".join(
                f"&{b} [*{a}, *{a}]"
                for a, b in zip("abcdefghijklmnopqrstuvwxyzABCDEFGH", "bcdefghijklmnopqrstuvwxyzABCDEFGHI", strict=True)
            )
            + "]\n  interval: *I\n",
            "interval is not a duration",
            id="a billion laughs as interval",
        ),
        pytest.param("basic_auth_users: {<<: {a: b}}", "merging", id="a merge"),
        pytest.param(
            "rate_limit: {burst: 1, burst: 2}", "names a key twice in the mapping in line 1", id="a key twice"
        ),
        pytest.param("rate_limit: {burst: !!bool x}", "is not YAML", id="a tag that does not fit"),
        pytest.param("rate_limit: {burst: !!int ''}", "is not YAML", id="a number without digits"),
        pytest.param("rate_limit: {burst: !!timestamp x}", "is not YAML", id="a time that is none"),
        pytest.param("rate_limit: {burst: 1, interval: 1_0}", "interval is not a duration", id="a number as interval"),
        pytest.param("? 0001-01-01T00:00:00+23:00\n: x", "not a mapping|not YAML", id="a key before all time"),
        pytest.param("http_server_config: {headers: []}", "not a mapping", id="an empty list where a mapping belongs"),
    ],
)
def test_what_the_fuzzer_found_in_web_configurations(tmp_path: Path, text: str, words: str) -> None:
    """Each of these once crashed, hung, or was taken for something else."""
    path = tmp_path / "web.yml"
    path.write_text(text)
    with pytest.raises(WebConfigError, match=words):
        load(path)
