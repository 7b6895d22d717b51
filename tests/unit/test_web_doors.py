"""Small things at the door: who is on this machine, and what may be packed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aiohttp
import pytest

from exporter.web.auth import _is_loopback
from exporter.web.packing import coding
from tests.support.web_client import running

if TYPE_CHECKING:
    from tests.support.settings import SettingsOf


@pytest.mark.parametrize(
    ("remote", "local"),
    [
        ("127.0.0.1", True),
        ("127.8.9.10", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("::ffff:7f00:1", True),
        ("::ffff:192.0.2.7", False),
        ("::127.0.0.1", False),
        ("192.0.2.7", False),
        ("::", False),
        ("", False),
        ("localhost", False),
        (None, False),
    ],
)
def test_who_is_on_this_machine(remote: str | None, *, local: bool) -> None:
    """A socket that listens on :: shows an IPv4 address as one of IPv6."""
    assert _is_loopback(remote) is local


@pytest.mark.parametrize(
    ("header", "packed"),
    [
        ("", None),
        ("identity", None),
        ("br, zstd", None),
        ("*", None),
        ("gzip", "gzip"),
        ("GZIP", "gzip"),
        ("deflate, gzip", "gzip"),
        ("deflate", "deflate"),
        ("gzip;q=0", None),
        ("gzip; q=0.0, identity", None),
        ("gzip;q=0.1", "gzip"),
        ("gzip;q=0, deflate", "deflate"),
        ("gzip, deflate;q=0", "gzip"),
        ("gzip;q=nonsense", "gzip"),
        ("x-gzip-like", None),
        (",,,", None),
    ],
)
def test_what_a_scraper_takes(header: str, packed: str | None) -> None:
    """A refusal is no consent."""
    found = coding(header)
    assert (found.value if found else None) == packed


async def test_on_every_address_this_machine_is_this_machine(settings_of: SettingsOf) -> None:
    """APP_HOST=:: and no secret: the webhook is taken from the IPv4 loopback, and metrics are packed as asked for."""
    async with (
        running(settings_of(APP_PORT="0", APP_HOST="::", CONTROL="off")) as client,
        aiohttp.ClientSession(auto_decompress=False) as session,
    ):
        assert client.app.web is not None
        assert client.app.web.address is not None
        port = client.app.web.address[1]
        url = f"http://127.0.0.1:{port}"
        async with session.post(f"{url}/webhook/alertmanager", json={"version": "4", "alerts": []}) as answer:
            assert answer.status == 200, await answer.text()
        for asked, packed in {"gzip": "gzip", "gzip;q=0": None, "identity": None}.items():
            async with session.get(f"{url}/metrics", headers={"Accept-Encoding": asked}) as answer:
                assert answer.headers.get("Content-Encoding") == packed, asked
                body = await answer.read()
                assert body.startswith(b"\x1f\x8b" if packed else b"# HELP")
