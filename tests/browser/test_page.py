"""The page for people, in a real browser: what it says, that it keeps up, and that everybody can read it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import aiohttp
import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from tests.browser.browser import PHONE, Browser
from tests.support.waiting import until
from tests.support.watched import Watched

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

HOSTILE = '<img src=x onerror="window.pwned=1"><script>window.pwned=1</script>&amp;\'"'

CONTRASTS = """
const parse = text => text.match(/[\\d.]+/g).map(Number);
const light = text => parse(text).slice(0, 3).map(v => v / 255)
  .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const ground = node => {
  for (; node; node = node.parentElement) {
    const found = parse(getComputedStyle(node).backgroundColor);
    if (found.length < 4 || found[3] > 0) return found.join(",");
  }
  return "255,255,255";
};
const poor = [];
for (const node of document.querySelectorAll("body *")) {
  const own = [...node.childNodes].some(child => child.nodeType === 3 && child.textContent.trim());
  if (!own || ["SCRIPT", "STYLE"].includes(node.tagName)) continue;
  const [a, b] = [light(getComputedStyle(node).color), light(ground(node))].sort((x, y) => y - x);
  const ratio = (a + 0.05) / (b + 0.05);
  if (ratio < 4.5) poor.push(`${ratio.toFixed(2)}: ${node.tagName} ${node.textContent.trim().slice(0, 40)}`);
}
return poor;
"""


@pytest.fixture
async def watched() -> AsyncIterator[Watched]:
    """Two healthy VPNs with two engines each."""
    async with Watched() as running:
        yield running


@pytest.fixture
async def browser(tmp_path: Path) -> AsyncIterator[Browser]:
    """A window of its own."""
    async with Browser(tmp_path) as opened:
        yield opened


async def cells(browser: Browser, vpn: str) -> dict[str, str]:
    """One VPN's line, by column."""
    script = """
        const row = [...document.querySelectorAll("#vpns tr")].find(r => r.cells[0].innerText === arguments[0]);
        return Object.fromEntries([...row.cells].map(cell => [cell.dataset.name, cell.innerText]))
    """
    return dict(await browser.run(script, vpn))


def left(text: str) -> int:
    """The seconds of stabilization that the page says are left, 0 when it says none."""
    found = re.search(r"may be given engines in (\d+) s", text)
    return int(found[1]) if found else 0


async def test_the_page_tells_of_a_drill_from_beginning_to_end(watched: Watched, browser: Browser) -> None:
    """Normal, emergency with the VPN's name and what is done, recovery with a countdown, normal: all by itself."""
    await browser.open(watched.url)
    await browser.until(lambda text: "Normal" in text and text.count("2 of 2") == 2, "both VPNs are whole")
    await browser.run("window.untouched = true; document.querySelector('nav a').focus()")

    assert await watched.call("POST", "control/drill", {"vpn": "gluetun_2", "duration_seconds": 600}) == 201
    text = await browser.until(lambda text: "No engine is left on gluetun_2." in text, "the emergency shows")
    assert "gluetun_2 failed; gluetun carries on" in text
    assert (await browser.run("return document.title")).startswith("⚠ Emergency")
    line = await cells(browser, "gluetun_2")
    assert line["Phase"].startswith("failed")
    assert line["Why"].startswith("operator: ")
    assert line["Engines working"] == "none"
    told = await browser.text("#told")
    assert "Entered emergency mode: failed VPN gluetun_2, healthy VPN gluetun" in told
    assert told.index("remove 2 engines on VPN 'gluetun_2'") < told.index("Entered emergency mode"), (
        "the newest comes first"
    )

    assert await watched.call("DELETE", "control/drill/gluetun_2") == 200
    text = await browser.until(lambda text: left(text) > 0, "the stabilization shows")
    assert "gluetun_2 is back and stabilizes" in text
    earlier = left(text)
    await browser.until(lambda text: 0 < left(text) < earlier, "it is counted down")
    await browser.until(lambda text: "Normal" in text and text.count("2 of 2") == 2, "both VPNs are whole again")
    assert (await cells(browser, "gluetun_2"))["Stabilization left"] == "–"
    assert await browser.run("return window.untouched"), "the page was not loaded anew"
    assert await browser.run("return document.activeElement.pathname") == "/metrics", "the focus stayed where it was"
    assert await browser.complaints() == []
    assert {url for url in await browser.requested() if url.startswith(("http", "ws", "ftp"))} == {watched.url}


async def test_an_outage_and_a_docker_that_is_away_are_told_apart(watched: Watched, browser: Browser) -> None:
    """All VPNs failed is an outage; no answer from Docker is blindness, and no VPN is said to have failed."""
    await browser.open(watched.url)
    for vpn in watched.names:
        watched.host.set_truth(vpn, good=False)
    text = await browser.until(lambda text: "Outage" in text, "the outage shows")
    assert "All VPNs have failed: gluetun and gluetun_2" in text
    assert "nothing is removed" in text
    assert (await cells(browser, "gluetun"))["Engines working"].startswith("none")
    for vpn in watched.names:
        watched.host.set_truth(vpn, good=True)
    await browser.until(lambda text: "Normal" in text, "it is over")
    watched.host.up = False
    text = await browser.until(lambda text: "Blind" in text, "Docker is missed")
    assert "Docker does not answer" in text
    assert (await cells(browser, "gluetun"))["Phase"].startswith("healthy")


async def test_a_mayday_that_is_gone_leaves_its_last_words(watched: Watched, browser: Browser) -> None:
    """While nobody answers, the page stays and says since when; when a Mayday is back, it goes on."""
    await browser.open(watched.url)
    await watched.stop()
    text = await browser.until(lambda text: "Mayday has not answered since" in text, "the silence shows")
    assert "gluetun_2" in text
    await watched.start()
    await browser.until(lambda text: "has not answered" not in text, "the page goes on")


async def test_hostile_text_is_only_text(watched: Watched, browser: Browser) -> None:
    """An alert whose name is HTML with a script shows as that text, everywhere, and nothing of it runs."""
    await watched.alert(HOSTILE, "gluetun_2")
    await browser.open(watched.url)
    await browser.until(lambda text: "Emergency" in text, "the alert counts")
    assert HOSTILE in (await cells(browser, "gluetun_2"))["Why"]
    assert HOSTILE in await browser.text("#told")
    assert await browser.run("return document.querySelectorAll('img, body script').length") == 1
    script = "const s = document.createElement('script'); s.textContent = 'window.pwned = 1'; document.body.append(s)"
    await browser.run(script)
    assert await browser.run("return window.pwned") is None, "a script that was smuggled in does not run"
    assert any("Content Security Policy" in complaint for complaint in await browser.complaints())


async def test_the_page_says_what_a_browser_may_do(watched: Watched) -> None:
    """Nothing is loaded from elsewhere, nobody frames it, nothing inline runs but what its hash is given for."""
    async with aiohttp.ClientSession() as session, session.get(watched.url) as response:
        headers = response.headers
    policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"


@pytest.mark.parametrize("state", ["normal", "emergency", "outage"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_every_word_can_be_read(state: str, scheme: str, watched: Watched, browser: Browser) -> None:
    """In every state, light or dark, on a phone too: contrast of at least 4.5 to 1, and nothing beyond the edge."""
    for vpn in {"normal": [], "emergency": ["gluetun_2"], "outage": watched.names}[state]:
        watched.host.set_truth(vpn, good=False)
    await until(lambda: watched.app.controller.snapshot.state.mode == state)
    await browser.scheme(scheme)
    await browser.open(watched.url)
    grounds = await browser.run("return getComputedStyle(document.body).backgroundColor")
    assert (grounds == "rgb(255, 255, 255)") is (scheme == "light")
    assert await browser.run(CONTRASTS) == []
    await browser.tell("Emulation.setDeviceMetricsOverride", **PHONE)
    await browser.open(watched.url)
    assert await browser.run(CONTRASTS) == []
    assert await browser.run("return [document.documentElement.scrollWidth, window.innerWidth]") == [360, 360]


@pytest.mark.parametrize("phone", [False, True], ids=["desk", "phone"])
async def test_who_listens_or_types_finds_everything(*, phone: bool, watched: Watched, browser: Browser) -> None:
    """Language, title, landmarks, headings of the table, a status that is announced; every link by the tab key."""
    if phone:
        await browser.tell("Emulation.setDeviceMetricsOverride", **PHONE)
    await browser.open(watched.url)
    assert await browser.run("return document.documentElement.lang") == "en"
    assert await browser.run("return document.title") == "✓ Normal – Mayday"
    roles = await browser.roles()
    assert len(roles["main"]) == len(roles["status"]) == len(roles["banner"]) == len(roles["contentinfo"]) == 1
    assert roles["navigation"] == ["More"]
    assert roles["columnheader"][:5] == ["VPN", "Phase", "Why", "Stabilization left", "Engines working"]
    assert [name for name in roles["rowheader"] if name] == ["gluetun", "gluetun_2"]
    assert roles["table"] == ["VPNs", "What happened last (UTC)"]
    reached = []
    for _ in range(6):
        ActionChains(browser.driver).send_keys(Keys.TAB).perform()
        reached.append(await browser.run("return document.activeElement.pathname"))
        assert await browser.run("return getComputedStyle(document.activeElement).outlineStyle") != "none"
    assert reached == ["/metrics", "/vpn/status", "/engines", "/history", "/-/healthy", "/-/ready"]
    async with aiohttp.ClientSession() as session:
        for path in reached:
            async with session.get(watched.url.rstrip("/") + path) as response:
                assert response.status == 200, path


async def test_without_scripts_it_keeps_up_too(watched: Watched, tmp_path: Path) -> None:
    """A browser that runs no scripts loads the page anew every few seconds."""
    async with Browser(tmp_path, scripts=False) as browser:
        await browser.open(watched.url)
        await browser.until(lambda text: "Normal" in text, "the page is there")
        watched.host.set_truth("gluetun_2", good=False)
        await browser.until(lambda text: "gluetun_2 failed" in text, "the emergency shows")
