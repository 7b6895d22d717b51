"""The program as it is started, with every secret set: none of them is ever in what it writes, keeps or answers."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path

import bcrypt
import pytest

ROOT = Path(__file__).parents[2]
SECRETS = {
    "API_KEY": "apikey-qXz7",
    "WEBHOOK_TOKEN": "webhook-qXz7",
    "GLUETUN_API_KEY": "gluetun-qXz7",
    "ENGINE_ENV": "PASSWORD=engine-qXz7",
    "ALERTMANAGER_URL": "http://user:alertmanager-qXz7@127.0.0.1:1/",
}
MARK = b"qXz7"


def environment(folder: Path, **more: str) -> dict[str, str]:
    hashed = bcrypt.hashpw(b"user-qXz7", bcrypt.gensalt(4)).decode()
    (folder / "web.yml").write_text(f"basic_auth_users: {{alice: {hashed}}}\n")
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "GLUETUN_CONTAINER_NAME": "a",
        "GLUETUN_CONTAINER_NAME_2": "b",
        "DOCKER_HOST": f"unix://{folder}/nobody.sock",
        "APP_HOST": "127.0.0.1",
        "APP_PORT": "0",
        "LOG_LEVEL": "debug",
        "STATE_DIR": str(folder / "state"),
        "WEB_CONFIG_FILE": str(folder / "web.yml"),
        **SECRETS,
        **more,
    }


def ask(url: str, headers: dict[str, str], body: bytes | None) -> bytes:
    request = urllib.request.Request(url, data=body, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return repr(answer.headers.items()).encode() + bytes(answer.read())
    except urllib.error.HTTPError as refusal:
        with refusal:
            return repr(refusal.headers.items()).encode() + refusal.read()


def basic(name: str, password: str) -> str:
    import base64

    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_secret_is_written_kept_or_answered(tmp_path: Path, form: str) -> None:
    """Right ones, wrong ones, a Docker and an Alertmanager that nobody answers for, and rubbish, at the most talkative
    level: logs, journal and answers hold none of them."""
    output = tmp_path / "output"
    with output.open("wb") as log:
        command = [sys.executable, "-m", "exporter", "serve"]
        program = subprocess.Popen(command, env=environment(tmp_path, LOG_FORMAT=form), stdout=log, stderr=log)
    try:
        for _ in range(600):
            found = re.search(rb"listening on (http://[0-9.:]+)", output.read_bytes())
            if found or program.poll() is not None:
                break
            time.sleep(0.05)
        assert found, output.read_bytes()
        address = found[1].decode()
        wrong = [{"Authorization": f"Bearer wrong-{MARK.decode()}"}, {"X-API-Key": f"wrong-{MARK.decode()}"}]
        user = {"Authorization": basic("alice", "user-qXz7"), "X-API-Key": SECRETS["API_KEY"]}
        right = [user, {"Authorization": f"Bearer {SECRETS['WEBHOOK_TOKEN']}"}]
        seen = b""
        for headers in (*wrong, *right, {"Authorization": basic("alice", f"wrong-{MARK.decode()}")}):
            for path in ("/", "/metrics", "/vpn/status", "/history", "/engines"):
                seen += ask(address + path, headers, None)
            for path in ("/webhook/alertmanager", "/control/drill", "/engines"):
                for body in (b"{}", b"rubbish", b'{"vpn": "a", "version": "4", "alerts": []}'):
                    seen += ask(address + path, headers, body)
    finally:
        program.terminate()
        with suppress(subprocess.TimeoutExpired):
            program.wait(30)
        program.kill()
        program.wait()
    kept = b"".join(path.read_bytes() for path in (tmp_path / "state").iterdir())
    assert b"refused" in output.read_bytes()
    assert b"Alertmanager at ALERTMANAGER_URL gives no usable answer" in output.read_bytes()
    for what in (seen, kept, output.read_bytes()):
        assert MARK not in what, what[max(0, what.index(MARK) - 300) :][:600]


def test_no_secret_is_in_a_refusal_of_the_settings(tmp_path: Path) -> None:
    """Every setting wrong at once, secrets where they do not belong: the message names all and shows no secret."""
    bad = {name: f"{value} {value}" for name, value in SECRETS.items()} | {"ENGINE_ENV": "PASSWORD engine-qXz7"}
    wrong = environment(tmp_path, **bad, API_KEY_FILE=str(tmp_path / "none"), CONTROL="x")
    (tmp_path / "web.yml").write_text("basic_auth_users: {alice: user-qXz7}")
    command = [sys.executable, "-m", "exporter", "--check-config"]
    result = subprocess.run(command, env=wrong, capture_output=True, check=False)
    assert result.returncode == 1
    for name in ("API_KEY", "ENGINE_ENV", "ALERTMANAGER_URL", "CONTROL", "WEB_CONFIG_FILE"):
        assert name.encode() in result.stderr
    assert MARK not in result.stdout + result.stderr
