"""A real Chromium that looks at the dashboard."""

from __future__ import annotations

import os
import shutil
from contextlib import asynccontextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from playwright.async_api import Browser, ConsoleMessage, Page

__all__ = ["Look", "needs_chromium", "open_browser"]

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
# without the last two lines Chromium asks the network for things of its own
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run")
QUIET = ("--disable-background-networking", "--disable-component-update", "--disable-sync")
ALONE = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
REASON = (
    "playwright is not installed"
    if find_spec("playwright") is None
    else "no Chromium: install one, or name it in CHROMIUM"
    if CHROMIUM is None
    else ""
)
needs_chromium = pytest.mark.skipif(bool(REASON), reason=REASON)


@asynccontextmanager
async def open_browser() -> AsyncGenerator[Browser]:
    """Start the system's Chromium, without a window."""
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM, args=[*FLAGS, *QUIET, ALONE], timeout=60_000
        )
        try:
            yield browser
        finally:
            await browser.close()


class Look:
    """One page of the dashboard, and what the browser said about it."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.said: list[str] = []
        page.on("console", self._note)
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.set_default_timeout(20_000)

    def _note(self, message: ConsoleMessage) -> None:
        self.said.append(f"{message.type}: {message.text}")

    async def accounts(self) -> list[dict[str, str]]:
        """Read the data attributes of all accounts, in the order shown."""
        script = "all => all.map(element => ({...element.dataset}))"
        found: list[dict[str, str]] = await self.page.locator("[data-account]").evaluate_all(script)
        return found

    async def ids(self) -> list[str]:
        return [each["account"] for each in await self.accounts()]

    async def until(self, script: str, argument: Any = None) -> None:
        """Return when a script of the page gives something true."""
        await self.page.wait_for_function(script, arg=argument)

    async def until_ids(self, ids: list[str]) -> None:
        """Return when exactly these accounts are shown, in this order."""
        script = (
            "ids => [...document.querySelectorAll('[data-account]')]"
            ".map(element => element.dataset.account).join() === ids.join()"
        )
        await self.until(script, ids)

    async def until_state(self, account: str, state: str) -> None:
        """Return when that account is in that state."""
        await self.page.locator(f'[data-account="{account}"][data-state="{state}"]').wait_for()

    async def focused(self) -> str:
        """Name what has the focus: the account, or else the id of the element or its text."""
        script = (
            "() => { const at = document.activeElement;"
            " return at.closest('[data-account]')?.dataset.account ?? (at.id || at.textContent); }"
        )
        name: str = await self.page.evaluate(script)
        return name
