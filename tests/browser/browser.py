"""A real Chromium, headless, driven by its own driver; it can reach nothing but this machine."""

from __future__ import annotations

import asyncio
import json
import shutil
from typing import TYPE_CHECKING, Any, TypeVar

from selenium import webdriver
from selenium.webdriver.chrome.service import Service

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Self

T = TypeVar("T")
PATIENCE_S = 40.0
FLAGS = (
    "--headless=new",
    "--no-sandbox",  # the tests may run as root
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
PHONE = {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}
"""A small one, in CSS pixels."""


class Browser:
    """One window. Its calls wait for a real program, and so are made in a thread. `async with` opens and ends it."""

    def __init__(self, directory: Path, *, scripts: bool = True) -> None:
        self._directory = directory
        self._scripts = scripts
        self.driver: webdriver.Chrome

    async def __aenter__(self) -> Self:
        self.driver = await asyncio.to_thread(self._open)
        return self

    def _open(self) -> webdriver.Chrome:
        programs = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
        assert all(programs.values()), f"missing: {[name for name, path in programs.items() if not path]}"
        options = webdriver.ChromeOptions()
        options.binary_location = str(programs["chromium"])
        for flag in (*FLAGS, f"--user-data-dir={self._directory / 'profile'}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        if not self._scripts:
            options.add_experimental_option("prefs", {"profile.managed_default_content_settings.javascript": 2})
        return webdriver.Chrome(options=options, service=Service(str(programs["chromedriver"])))

    async def __aexit__(self, *_error: object) -> None:
        await asyncio.to_thread(self.driver.quit)

    async def open(self, url: str) -> None:
        """Go to a page."""
        await asyncio.to_thread(self.driver.get, url)

    async def run(self, script: str, *arguments: object) -> Any:
        """What a script in the page returns."""
        return await asyncio.to_thread(self.driver.execute_script, script, *arguments)

    async def text(self, selector: str = "body") -> str:
        """What can be read in the first element that the selector finds."""
        return str(await self.run("return document.querySelector(arguments[0]).innerText", selector))

    async def tell(self, command: str, **parameters: object) -> Any:
        """One command of the DevTools protocol."""
        return await asyncio.to_thread(self.driver.execute_cdp_cmd, command, parameters)

    async def scheme(self, name: str) -> None:
        """Prefer a light or a dark page."""
        await self.tell("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])

    async def complaints(self) -> list[str]:
        """What the console has said since it was last asked, at any level."""
        entries = await asyncio.to_thread(self.driver.get_log, "browser")
        return [entry["message"] for entry in entries]

    async def requested(self) -> list[str]:
        """Every address that was asked for since it was last asked."""
        entries = await asyncio.to_thread(self.driver.get_log, "performance")
        messages = [json.loads(entry["message"])["message"] for entry in entries]
        return [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]

    async def roles(self) -> dict[str, list[str]]:
        """The names of everything that a screen reader is told of, by role."""
        found: dict[str, list[str]] = {}
        for node in (await self.tell("Accessibility.getFullAXTree"))["nodes"]:
            if not node.get("ignored"):
                found.setdefault(node["role"]["value"], []).append(node.get("name", {}).get("value", ""))
        return found

    async def until(self, condition: Callable[[str], bool], what: str) -> str:
        """Wait until the page's text is such, without touching the page; the text."""
        text = ""
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not condition(text):
                    await asyncio.sleep(0.1)
                    text = await self.text()
        except TimeoutError:
            raise AssertionError(f"not within {PATIENCE_S:g} s: {what}; the page says: {text}") from None
        return text
