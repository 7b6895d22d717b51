"""The web configuration file: what is accepted and refused, and what it does to a running Mayday."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import subprocess
import sys
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import bcrypt
import pytest
import trustme
import yaml

from exporter.errors import ConfigError
from exporter.settings.environment import Secret
from exporter.settings.settings import from_environment
from exporter.settings.web_config import RateLimit, WebConfigError, load
from exporter.web import config_file
from exporter.web import listener as door
from exporter.web.rate_limit import TokenBucket
from tests.support.simulated import address_of, host_with, mayday_on, populate
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from exporter.app import App
    from tests.support.settings import SettingsOf

PASSWORD = "swordfish"
HASH = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()


def basic(name: str, password: str) -> dict[str, str]:
    """The header of basic authentication."""
    return {"Authorization": aiohttp.encode_basic_auth(name, password)}


USER = basic("alice", PASSWORD)


class Certificates:
    """A certificate authority, and files with a server's certificate."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = trustme.CA()
        self.authority.cert_pem.write_to_path(folder / "ca.pem")
        self.issue()

    def issue(self) -> None:
        """A new certificate in the same files."""
        issued = self.authority.issue_cert("127.0.0.1", "localhost")
        issued.private_key_pem.write_to_path(self.folder / "server.key")
        for position, part in enumerate(issued.cert_chain_pems):
            part.write_to_path(self.folder / "server.crt", append=position > 0)

    def client(self, *names: str) -> ssl.SSLContext:
        """What a client uses; with names it has a certificate of its own."""
        context = ssl.create_default_context(cafile=str(self.folder / "ca.pem"))
        if names:
            self.authority.issue_cert(*names).configure_cert(context)
        return context


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path)


def write(folder: Path, document: Any) -> Path:
    path = folder / "web.yml"
    path.write_text(document if isinstance(document, str) else yaml.safe_dump(document))
    return path


TLS = {"cert_file": "server.crt", "key_file": "server.key"}


@asynccontextmanager
async def mayday(settings_of: SettingsOf, path: Path, **changes: Any) -> AsyncIterator[App]:
    settings = replace(settings_of(APP_PORT="0", APP_HOST="127.0.0.1"), web_config_file=path, **changes)
    host = host_with(settings.policy.vpns)
    populate(host, settings, settings.policy.min_replicas)
    async with mayday_on(host, settings) as app:
        yield app


async def status(
    app: App, path: str = "/-/healthy", *, method: str = "GET", scheme: str = "http", **options: Any
) -> int:
    host, port = address_of(app)
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, f"{scheme}://{host}:{port}{path}", **options) as answer,
    ):
        await answer.read()
        return answer.status


# --- the file ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ("[", "not YAML in line"),
        ("- a", "not a mapping"),
        ({"tls_config": {}}, "'tls_config' is unknown"),
        ({"tls_server_config": {"cert_file": "server.crt"}}, "both needed"),
        ({"tls_server_config": {**TLS, "cert_file": "away.crt"}}, "cannot be used"),
        ({"tls_server_config": {**TLS, "key_file": "web.yml"}}, "cannot be used"),
        ({"tls_server_config": {**TLS, "cert": "inline"}}, "'cert' is unknown or not supported"),
        ({"tls_server_config": {**TLS, "curve_preferences": ["X25519"]}}, "not supported"),
        ({"tls_server_config": {**TLS, "min_version": "SSL3"}}, "min_version is none of TLS10"),
        ({"tls_server_config": {**TLS, "min_version": "TLS13", "max_version": "TLS12"}}, "above max_version"),
        ({"tls_server_config": {**TLS, "cipher_suites": ["TLS_NULL"]}}, "cipher_suites: TLS_NULL"),
        ({"tls_server_config": {**TLS, "client_auth_type": "RequestClientCert"}}, "client_auth_type is none of"),
        ({"tls_server_config": {**TLS, "client_auth_type": "RequireAndVerifyClientCert"}}, "need each other"),
        ({"tls_server_config": {**TLS, "client_ca_file": "ca.pem"}}, "need each other"),
        ({"tls_server_config": {**TLS, "client_allowed_sans": ["a"]}}, "needs client_auth_type"),
        ({"basic_auth_users": {"alice": "swordfish"}}, "no bcrypt hash"),
        ({"basic_auth_users": {"alice": HASH.replace("$04$", "$31$")}}, "no bcrypt hash of a cost from 4 to 16"),
        ({"basic_auth_users": {"a:b": HASH}}, "colon"),
        ({"http_server_config": {"headers": {"Server": "x"}}}, "'Server' is unknown"),
        ({"http_server_config": {"headers": {"X-Frame-Options": "maybe"}}}, "X-Frame-Options has a value"),
        ({"http_server_config": {"headers": {"X-XSS-Protection": "a\r\nb: c"}}}, "X-XSS-Protection has a value"),
        ({"http_server_config": {"http2": "yes please"}}, "http2 is neither"),
        ({"rate_limit": {"interval": "often"}}, "interval is not a duration"),
        ({"rate_limit": {"interval": "1s"}}, "would refuse every request"),
        ({"rate_limit": {"interval": "1s", "burst": -1}}, "burst is not a whole number"),
    ],
)
def test_a_file_that_cannot_be_honoured_is_refused(
    certificates: Certificates, tmp_path: Path, document: Any, words: str
) -> None:
    """The error names the key; the whole configuration is refused at start, naming the variable."""
    path = write(tmp_path, document)
    with pytest.raises(WebConfigError, match=words.replace("(", r"\(")):
        load(path)
    environment = {"GLUETUN_CONTAINER_NAME": "a", "GLUETUN_CONTAINER_NAME_2": "b", "WEB_CONFIG_FILE": str(path)}
    with pytest.raises(ConfigError, match="WEB_CONFIG_FILE: "):
        from_environment(environment)


def test_an_error_never_quotes_a_secret(tmp_path: Path) -> None:
    """A hash, or a password written by mistake, is not in the message."""
    for text in ("basic_auth_users: {alice: hunter2}", "basic_auth_users: {alice: 'hunter2", "hunter2: 1"):
        with pytest.raises(WebConfigError) as caught:
            load(write(tmp_path, text))
        assert "hunter2" not in str(caught.value) or text.startswith("hunter2")


def test_the_sample_of_the_exporter_toolkit_is_understood(certificates: Certificates, tmp_path: Path) -> None:
    """Every key of the format that can be honoured is, with its meaning."""
    document = {
        "tls_server_config": {
            **TLS,
            "client_auth_type": "RequireAndVerifyClientCert",
            "client_ca_file": "ca.pem",
            "client_allowed_sans": ["prometheus.example"],
            "min_version": "TLS12",
            "max_version": "TLS13",
            "cipher_suites": ["TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"],
            "prefer_server_cipher_suites": False,
        },
        "http_server_config": {"http2": True, "headers": {"X-Frame-Options": "deny", "X-XSS-Protection": ""}},
        "basic_auth_users": {"alice": HASH},
        "rate_limit": {"interval": "500ms", "burst": 20},
    }
    config = load(write(tmp_path, document))
    assert config.tls is not None
    assert config.tls.verify_mode is ssl.CERT_REQUIRED
    assert config.tls.minimum_version is ssl.TLSVersion.TLSv1_2
    assert {cipher["name"] for cipher in config.tls.get_ciphers() if cipher["protocol"] == "TLSv1.2"} == {
        "ECDHE-ECDSA-AES256-GCM-SHA384"
    }
    assert config.allowed_sans == {"prometheus.example"}
    assert config.headers == {"X-Frame-Options": "deny"}
    assert config.rate_limit == RateLimit(0.5, 20)
    assert {path.name for path in config.files} == {"web.yml", "server.crt", "server.key", "ca.pem"}
    assert load(write(tmp_path, "")).tls is None


# --- users ------------------------------------------------------------------------------------------------------------


async def test_without_a_users_password_nothing_is_shown(settings_of: SettingsOf, tmp_path: Path) -> None:
    """Every path asks for a user, in the same words whether the name exists or not."""
    path = write(
        tmp_path, {"basic_auth_users": {"alice": HASH}, "http_server_config": {"headers": {"X-Frame-Options": "deny"}}}
    )
    async with mayday(settings_of, path) as app:
        for page in ("/", "/metrics", "/vpn/status", "/-/healthy", "/nowhere"):
            assert await status(app, page) == 401
            assert await status(app, page, headers=basic("alice", "wrong")) == 401
            assert await status(app, page, headers=basic("bob", PASSWORD)) == 401
        assert await status(app, "/metrics", headers=USER) == 200
        assert await status(app, "/metrics", headers=USER) == 200  # from memory
        assert await status(app, "/metrics", headers=basic("alice", "x" * 100)) == 401
        assert await status(app, "/metrics", headers={"Authorization": "Basic !!!"}) == 401
        assert app.web is not None


async def test_the_configured_headers_are_sent(settings_of: SettingsOf, tmp_path: Path) -> None:
    """With every answer."""
    path = write(tmp_path, {"http_server_config": {"headers": {"X-Frame-Options": "deny"}}})
    async with mayday(settings_of, path) as app, aiohttp.ClientSession() as session:
        host, port = address_of(app)
        async with session.get(f"http://{host}:{port}/-/healthy") as answer:
            assert answer.headers["X-Frame-Options"] == "deny"


async def test_an_endpoints_own_secret_opens_its_outer_door_too(settings_of: SettingsOf, tmp_path: Path) -> None:
    """Alertmanager has one Authorization header: the webhook's token is enough there, and only there."""
    path = write(tmp_path, {"basic_auth_users": {"alice": HASH}})
    secrets = {"webhook_token": Secret("token"), "api_key": Secret("key")}
    async with mayday(settings_of, path, **secrets) as app:
        body = {"version": "4", "alerts": []}
        for headers in ({"Authorization": "Bearer token"}, basic("x", "token")):
            assert await status(app, "/webhook/alertmanager", method="POST", json=body, headers=headers) == 200
            assert await status(app, "/metrics", headers=headers) == 401
            assert await status(app, "/control/drill", method="POST", json={}, headers=headers) == 401
        # A user who is let in is not thereby allowed to change anything.
        assert await status(app, "/webhook/alertmanager", method="POST", json=body, headers=USER) == 401
        drill = {"vpn": "gluetun", "duration_seconds": 1}
        assert await status(app, "/control/drill", method="POST", json=drill, headers=USER) == 401
        both = {**USER, "X-API-Key": "key"}
        assert await status(app, "/control/drill", method="POST", json=drill, headers=both) == 201


# --- TLS --------------------------------------------------------------------------------------------------------------


async def test_tls_is_spoken_and_a_new_certificate_is_used(
    settings_of: SettingsOf, certificates: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HTTPS instead of HTTP; when the certificate's file changes, new connections see the new one."""
    monkeypatch.setattr(config_file, "LOOK_S", 0.05)
    path = write(tmp_path, {"tls_server_config": TLS})
    async with mayday(settings_of, path) as app:
        assert await status(app, scheme="https", ssl=certificates.client()) == 200
        with pytest.raises(aiohttp.ClientError):
            await status(app)
        assert app.web is not None
        assert app.web.address is not None
        address = app.web.address
        first = await asyncio.to_thread(ssl.get_server_certificate, address)
        certificates.issue()
        async with asyncio.timeout(30):
            while await asyncio.to_thread(ssl.get_server_certificate, address) == first:
                await asyncio.sleep(0.05)
        assert await status(app, scheme="https", ssl=certificates.client()) == 200


async def test_a_broken_change_keeps_what_was_there_and_shows(
    settings_of: SettingsOf, certificates: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that cannot be used changes nothing and is told of; the next good one is used, here: no TLS any more."""
    monkeypatch.setattr(config_file, "LOOK_S", 0.05)
    path = write(tmp_path, {"tls_server_config": TLS})
    async with mayday(settings_of, path) as app:
        path.write_text("tls_server_config: {cert_file: away, key_file: away}")
        await until(lambda: any("WEB_CONFIG_FILE" in problem for problem in app.controller.snapshot.problems))
        assert await status(app, scheme="https", ssl=certificates.client()) == 200
        path.unlink()
        await asyncio.sleep(0.2)
        assert await status(app, scheme="https", ssl=certificates.client()) == 200
        write(tmp_path, {"basic_auth_users": {"alice": HASH}})
        await until(lambda: not app.controller.snapshot.problems)
        assert await status(app, headers=USER) == 200
        assert await status(app) == 401
        assert not app.failed.is_set()


async def test_a_clients_certificate_is_asked_for(
    settings_of: SettingsOf, certificates: Certificates, tmp_path: Path
) -> None:
    """No certificate: no handshake. One of another name: refused. The right one: let in."""
    options = {
        **TLS,
        "client_auth_type": "RequireAndVerifyClientCert",
        "client_ca_file": "ca.pem",
        "client_allowed_sans": ["prometheus.example"],
    }
    async with mayday(settings_of, write(tmp_path, {"tls_server_config": options})) as app:
        with pytest.raises(aiohttp.ClientError):
            await status(app, scheme="https", ssl=certificates.client())
        assert await status(app, scheme="https", ssl=certificates.client("other.example")) == 403
        assert await status(app, scheme="https", ssl=certificates.client("prometheus.example")) == 200


def check(port: int, **environment: str) -> int:
    command = [sys.executable, "-m", "exporter", "health"]
    root = str(Path(__file__).parents[2])
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": root, "APP_PORT": str(port), **environment}
    return subprocess.run(command, env=env, cwd=root, capture_output=True, check=False).returncode


async def test_the_health_command_knows_a_living_mayday(
    settings_of: SettingsOf, certificates: Certificates, tmp_path: Path
) -> None:
    """0 over TLS, with users, and with client certificates; 1 where nobody listens."""
    required = {**TLS, "client_auth_type": "RequireAndVerifyClientCert", "client_ca_file": "ca.pem"}
    for document in ({"tls_server_config": TLS}, {"basic_auth_users": {"a": HASH}}, {"tls_server_config": required}):
        path = write(tmp_path, document)
        async with mayday(settings_of, path) as app:
            assert app.web is not None
            assert app.web.address is not None
            port = app.web.address[1]
            assert await asyncio.to_thread(check, port, WEB_CONFIG_FILE=str(path)) == 0
    assert await asyncio.to_thread(check, port) == 1


# --- limits -----------------------------------------------------------------------------------------------------------


def test_a_bucket_lets_a_burst_pass_and_then_one_per_interval() -> None:
    """In virtual time: three at once, then none, then one after each interval; it never holds more than the burst."""
    now = [0.0]
    bucket = TokenBucket(RateLimit(2.0, 3), lambda: now[0])
    assert [bucket.wait_s() for _ in range(3)] == [0, 0, 0]
    assert bucket.wait_s() == 2.0
    now[0] = 2.0
    assert bucket.wait_s() == 0
    assert bucket.wait_s() == 2.0
    now[0] = 1000.0
    assert [bucket.wait_s() for _ in range(4)] == [0, 0, 0, 2.0]


async def test_the_rate_limit_answers_429(settings_of: SettingsOf, tmp_path: Path) -> None:
    """Beyond the burst: 429, and when to come again."""
    path = write(tmp_path, {"rate_limit": {"interval": "1h", "burst": 2}})
    async with mayday(settings_of, path) as app:
        assert [await status(app) for _ in range(4)] == [200, 200, 429, 429]


async def test_too_many_connections_are_closed_at_once(
    settings_of: SettingsOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connections that stand go on; one more is closed; when one ends there is room again."""
    monkeypatch.setattr(door, "CONNECTIONS_LIMIT", 3)
    async with mayday(settings_of, write(tmp_path, "")) as app:
        assert app.web is not None
        assert app.web.address is not None
        address = app.web.address
        held = [await asyncio.open_connection(*address) for _ in range(3)]
        await asyncio.sleep(0.1)
        reader, writer = await asyncio.open_connection(*address)
        async with asyncio.timeout(10):
            with suppress(ConnectionResetError):
                assert await reader.read() == b""
        writer.close()
        for _, other in held:
            other.close()
        async with asyncio.timeout(30):
            while True:
                try:
                    assert await status(app) == 200
                    break
                except aiohttp.ClientError:
                    await asyncio.sleep(0.05)


async def test_whoever_sends_its_head_slowly_is_cut(
    settings_of: SettingsOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A byte now and then does not keep a connection open for ever."""
    monkeypatch.setattr("exporter.web.server.KEEPALIVE_S", 1.0)
    async with mayday(settings_of, write(tmp_path, "")) as app:
        assert app.web is not None
        assert app.web.address is not None

        def dribble() -> bool:
            with socket.create_connection(app.web.address, timeout=20) as connection:  # type: ignore[union-attr,arg-type]
                connection.settimeout(0.1)
                for byte in "GET /-/healthy HTTP/1.1\r\nX-Slow: " + "a" * 200:
                    try:
                        connection.sendall(byte.encode())
                        if connection.recv(1) == b"":
                            return True
                    except TimeoutError:
                        continue
                    except OSError:
                        return True
            return False

        assert await asyncio.to_thread(dribble)
