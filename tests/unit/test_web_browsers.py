"""What a browser on the operator's machine can be made to do by a page of somebody else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support.web_client import running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.settings import SettingsOf
    from tests.support.web_client import Client

DRILL = {"vpn": "gluetun_2", "duration_seconds": 60}
CALLS = [("POST", "/control/drill"), ("POST", "/engines"), ("DELETE", "/engines/x"), ("POST", "/webhook/alertmanager")]

FOREIGN = [
    {"Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"},
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://[::1"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
]


@pytest.fixture(params=[None, "key"], ids=["no secret", "with a secret"])
async def client(request: pytest.FixtureRequest, settings_of: SettingsOf) -> AsyncIterator[Client]:
    """On this machine, without a secret and with one."""
    secrets = {"API_KEY": request.param, "WEBHOOK_TOKEN": request.param} if request.param else {}
    chosen = settings_of(APP_PORT="0", APP_HOST="127.0.0.1", **secrets)
    headers = {"Authorization": f"Bearer {request.param}"} if request.param else {}
    async with running(chosen, headers, engines=10) as client:
        yield client


@pytest.mark.parametrize(("method", "path"), CALLS)
async def test_a_page_of_another_site_changes_nothing(client: Client, method: str, path: str) -> None:
    """Although the browser runs on this machine, and although it knows the password: 403."""
    before = client.app.controller.state
    for headers in FOREIGN:
        assert (await client.call(method, path, json=DRILL, headers=headers))[0] == 403, headers
    assert client.app.controller.state is before


@pytest.mark.parametrize("client", [None], indirect=True)
async def test_a_name_that_was_made_to_point_here_changes_nothing(client: Client) -> None:
    """Where no secret is set, the address asked for has to be this machine's own, whatever the peer's is."""
    for host in ("rebound.example:8000", "rebound.example", "", "[::1", "127.0.0.1.rebound.example"):
        headers = {"Host": host, "Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"}
        assert (await client.call("POST", "/control/drill", json=DRILL, headers=headers))[0] == 403, host
    for host in ("localhost:8000", "127.0.0.1", "[::1]:8000"):
        assert (await client.call("POST", "/control/drill", json=DRILL, headers={"Host": host}))[0] == 201, host


async def test_programs_and_the_own_page_may(client: Client) -> None:
    """No browser sends these headers for another site, and programs send none."""
    own: list[dict[str, Any]] = [
        {},
        {"Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": "same-origin", "Origin": client.url},
    ]
    for headers in own:
        assert (await client.call("POST", "/control/drill", json=DRILL, headers=headers))[0] == 201
