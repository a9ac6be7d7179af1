"""Draw the README's pictures from the sandbox: ``python -m benchmarks.pictures``.

Needs the extra ``test`` and the system's Chromium, named in ``CHROMIUM`` where it is not found.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from pathlib import Path
from typing import Final

from aiohttp import web
from playwright.async_api import async_playwright
from rich.console import Console

from wolf_async import Account, WolfClient
from wolf_async.cli.report import Report
from wolf_async.dashboard import make_app
from wolf_async.testing import Sandbox

HERE: Final = Path(__file__).parent
FLAGS: Final = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking")
WATCHED: Final = 15 * 60.0
"""Seconds for which the dashboard is watched, so that its lines have their whole course."""


async def draw_init(wolf: WolfClient, account: Account) -> None:
    console = Console(record=True, width=110, file=Path(os.devnull).open("w"), force_terminal=True)  # noqa: ASYNC230, SIM115
    console.print(Report(account, await wolf.task_init(*account), limit=3))
    svg = console.export_svg(title=f"wolf-async init {account.user_id}")
    # the fonts stand elsewhere, and a picture loads nothing
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    (HERE / "init.svg").write_text(svg, "utf-8")


async def draw_dashboard(wolf: WolfClient, accounts: list[Account]) -> None:
    runner = web.AppRunner(make_app(wolf, accounts, every=1.0), shutdown_timeout=0.5)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        page = await browser.new_page(viewport={"width": 1200, "height": 470})
        await page.goto(f"{site.name}/?lang=en")
        await asyncio.sleep(WATCHED)
        await page.screenshot(path=HERE / "dashboard.png")
        await browser.close()
    await runner.cleanup()


async def main() -> None:
    async with (
        Sandbox(accounts=5, sub_accounts=1, seed=7, period=4.0) as box,
        WolfClient(box.token, base_url=box.base_url) as wolf,
    ):
        await draw_init(wolf, Account(box.users[0]))
        await draw_dashboard(wolf, list(box.accounts))


if __name__ == "__main__":
    asyncio.run(main())
