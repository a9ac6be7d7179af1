"""The page in a real Chromium: what it shows, how it changes, and who can use it."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from importlib.resources import files
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest

from wolf_async import WolfClient
from wolf_async.dashboard import make_app
from wolf_async.testing import Sandbox, respond

from .answers import group, line
from .browser import Look, needs_chromium, open_browser
from .serving import ONCE, dashboard, serve

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from playwright.async_api import Browser

pytestmark = needs_chromium

EVERY = 0.2


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with open_browser() as opened:
        yield opened


@pytest.fixture
async def box() -> AsyncIterator[Sandbox]:
    """Three accounts with 30, 20 and 10 free calls, in that order."""
    async with Sandbox(accounts=3, sub_accounts=0) as sandbox:
        for number, user in enumerate(sandbox.users):
            give(
                sandbox,
                user,
                line(f"line-{number}", 30 - 10 * number, 100, remark=f"Note {number}"),
            )
        yield sandbox


def least_first(box: Sandbox) -> list[str]:
    return list(reversed(box.users))


def give(box: Sandbox, user: str, *lines: dict[str, Any], **sections: Any) -> None:
    """Let an account have these lines from now on."""
    box.set_data(user, box.data_for(user) | {"caller_line_list": list(lines)} | sections)


@asynccontextmanager
async def look(browser: Browser, url: str, **context: Any) -> AsyncGenerator[Look]:
    """Open the page; at the end, nothing was said on the console."""
    settings: dict[str, Any] = {"locale": "en-GB"} | context
    opened = await browser.new_context(**settings)
    page = Look(await opened.new_page())
    await page.page.goto(url)
    yield page
    await opened.close()
    assert page.said == []


@asynccontextmanager
async def looking(
    browser: Browser, box: Sandbox, query: str = "", **context: Any
) -> AsyncGenerator[Look]:
    """Open the page of a dashboard of one's own, and wait until all accounts are there."""
    async with (
        dashboard(box, every=EVERY, allowed_hosts={"127.0.0.1"}) as url,
        look(browser, f"{url}/{query}", **context) as page,
    ):
        yield page


async def violations(page: Look) -> list[str]:
    """Check the page with axe-core; evaluated, since the page's policy blocks script tags."""
    axe = (files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")
    await page.page.evaluate(f"{axe}; undefined")
    found = await page.page.evaluate("axe.run().then(({ violations }) => violations)")
    return [f"{each['id']}: {[node['html'] for node in each['nodes']]}" for each in found]


async def test_the_first_picture_has_all_accounts_least_free_first(
    browser: Browser, box: Sandbox
) -> None:
    async with looking(browser, box) as page:
        await page.until_ids(least_first(box))
        await page.until_state(box.users[0], "ok")
        accounts = await page.accounts()
        assert [(each["free"], each["total"], each["state"]) for each in accounts] == [
            ("10", "100", "ok"),
            ("20", "100", "ok"),
            ("30", "100", "ok"),
        ]
        first = page.page.locator("[data-account]").first
        text = await first.inner_text()
        for words in (box.users[2], "of 100 free", "as of "):
            assert words in text
        assert await page.page.locator("#sum-free").inner_text() == "60 of 300"
        assert await page.page.title() == "Free lines"


async def test_a_change_is_shown_and_highlighted_as_it_comes_and_moves_the_account(
    browser: Browser, box: Sandbox
) -> None:
    async with looking(browser, box) as page:
        await page.until_ids(least_first(box))
        give(box, box.users[0], line("line-0", 7, 100))
        changed = page.page.locator(f'[data-account="{box.users[0]}"][data-changed="down"]')
        await changed.wait_for()
        assert "▼ 23" in await changed.inner_text()
        await page.until_ids([box.users[0], box.users[2], box.users[1]])
        await page.until("() => !document.querySelector('[data-changed]')")


async def test_the_filter_finds_ids_names_and_remarks_and_stands_in_the_address(
    browser: Browser, box: Sandbox
) -> None:
    async with looking(browser, box) as page:
        await page.until_ids(least_first(box))
        field = page.page.get_by_role("searchbox", name="Filter")
        for wanted in (box.users[1][4:].upper(), "LINE line-1", "note 1"):
            await field.fill(wanted)
            await page.until_ids([box.users[1]])
            assert parse_qs(urlsplit(page.page.url).query) == {"q": [wanted]}
        await field.fill("nobody has this")
        await page.page.get_by_text("No account matches.").wait_for()
        await field.fill("")
        await page.until_ids(least_first(box))
        assert urlsplit(page.page.url).query == ""


async def test_filter_and_order_are_taken_from_the_address_and_follow_new_names(
    browser: Browser, box: Sandbox
) -> None:
    async with looking(browser, box, "?q=Note&sort=name&lang=en") as page:
        await page.until_ids(sorted(box.users))
        give(box, box.users[0], line("line-0", 30, 100, remark="renamed"))
        await page.until_ids(sorted(box.users[1:]))
        await page.page.get_by_label("Order").select_option("free")
        await page.until_ids(least_first(box)[:2])
        assert parse_qs(urlsplit(page.page.url).query) == {"q": ["Note"], "lang": ["en"]}


async def test_an_account_that_fails_comes_first_and_says_why_until_it_recovers(
    browser: Browser, box: Sandbox
) -> None:
    user = box.users[0]
    async with looking(browser, box) as page:
        await page.until_ids(least_first(box))
        box.script(user, *[respond(503, "down")] * 1000)
        await page.until_state(user, "stale")
        assert (await page.ids())[-1] == user
        await page.until_state(user, "failing")
        await page.until_ids([user, box.users[2], box.users[1]])
        failing = page.page.locator(f'[data-account="{user}"]')
        assert "the server failed" in await failing.inner_text()
        assert await page.page.locator("#sum-failing").inner_text() == "1"
        await page.page.get_by_text("Failing accounts: 1").wait_for(state="attached")
        box.heal()
        await page.until_state(user, "ok")
        await page.until_ids(least_first(box))


async def test_a_page_that_loses_the_server_says_so_marks_all_stale_and_comes_back(
    browser: Browser, box: Sandbox
) -> None:
    async with AsyncExitStack() as stack:
        client = WolfClient(box.token, base_url=box.base_url, retry=ONCE)
        wolf = await stack.enter_async_context(client)
        first = AsyncExitStack()
        url = await first.enter_async_context(serve(make_app(wolf, box.accounts, every=EVERY)))
        opened = await stack.enter_async_context(await browser.new_context(locale="en-GB"))
        page = Look(await opened.new_page())
        await page.page.goto(url)
        await page.until_ids(least_first(box))
        await first.aclose()
        await page.page.get_by_text("Connection lost; trying again").wait_for()
        assert {each["state"] for each in await page.accounts()} == {"stale"}
        give(box, box.users[2], line("line-2", 60, 100))
        port = int(url.rpartition(":")[2])
        await stack.enter_async_context(serve(make_app(wolf, box.accounts, every=EVERY), port))
        await page.page.get_by_text("Live", exact=True).wait_for()
        await page.until_ids([box.users[1], box.users[0], box.users[2]])
        assert all("net::ERR_" in said for said in page.said)  # the browser's own words


async def test_it_can_be_used_by_keyboard_alone_and_the_focus_stays_while_accounts_move(
    browser: Browser, box: Sandbox
) -> None:
    async with looking(browser, box) as page:
        await page.until_ids(least_first(box))
        press = page.page.keyboard.press
        stops: list[str] = []
        for _ in range(6):
            await press("Tab")
            stops.append(await page.focused())
        skip, *controls, first, second = stops
        assert skip == "Skip to the accounts"
        assert controls == ["filter", "sort", "language"]
        assert [first, second] == least_first(box)[:2]
        await press("ArrowDown")
        assert await page.focused() == box.users[0]
        await press("Enter")
        opened = page.page.locator(f'[data-account="{box.users[0]}"]')
        await opened.get_by_role("heading", name="Outbound lines 1").wait_for()
        give(box, box.users[0], line("line-0", 3, 100))
        await page.until_ids([box.users[0], box.users[2], box.users[1]])
        assert await page.focused() == box.users[0]
        give(box, box.users[0], line("line-0", 90, 100))
        await page.until_ids([box.users[2], box.users[1], box.users[0]])
        assert await page.focused() == box.users[0]
        await press("Escape")
        assert await opened.get_by_role("button").get_attribute("aria-expanded") == "false"
        await press("Home")
        assert await page.focused() == box.users[2]


async def test_an_opened_account_shows_its_parts_follows_changes_and_shows_texts_as_they_are(
    browser: Browser, box: Sandbox
) -> None:
    user = box.users[2]
    evil = "<img src=x onerror=document.title='evil'>"
    hours = [group(("09:00", "12:00"), days=(1, 2, 3, 4, 5)) | {"name": "Office"}]
    give(box, user, line("line-2", 10, 100, remark=evil), task_dial_times=hours)
    async with looking(browser, box) as page:
        account = page.page.locator(f'[data-account="{user}"]')
        await account.click()
        await account.get_by_text(evil).wait_for()
        for words in ("10 of 100", "Office", "Mon–Fri", "09:00–12:00", "Sat–Sun"):
            assert await account.get_by_text(words).count(), words
        for heading in (
            "Outbound lines",
            "Inbound lines",
            "Time groups",
            "Scripts",
            "Redial rules",
        ):
            assert await account.get_by_role("heading", name=heading).count() == 1
        give(box, user, line("line-2", 9, 100, remark=evil), task_dial_times=hours)
        await account.get_by_text("9 of 100", exact=True).wait_for()
        assert await page.page.title() == "Free lines"


async def test_the_language_is_the_browsers_and_can_be_switched(
    browser: Browser, box: Sandbox
) -> None:
    async with looking(browser, box, locale="zh-CN") as page:
        await page.page.get_by_role("heading", name="线路并发看板").wait_for()
        await page.until_state(box.users[0], "ok")
        text = await page.page.inner_text("body")
        assert "正常" in text
        assert "截至" in text
        assert await page.page.get_attribute("html", "lang") == "zh-CN"
        await page.page.get_by_role("button", name="English").click()
        await page.page.get_by_role("heading", name="Free lines").wait_for()
        assert "lang=en" in page.page.url
        await page.page.reload()
        await page.page.get_by_role("heading", name="Free lines").wait_for()
        assert await page.page.get_attribute("html", "lang") == "en"


@pytest.mark.parametrize("in_address", [True, False])
async def test_with_a_password_the_page_works_as_without(
    browser: Browser, box: Sandbox, in_address: bool
) -> None:
    async with dashboard(box, every=EVERY, password="p") as url:
        context: dict[str, Any] = {"http_credentials": {"username": "u", "password": "p"}}
        address = url.replace("//", "//u:p@") if in_address else url
        async with look(browser, address, **({} if in_address else context)) as page:
            await page.until_ids(least_first(box))
            await page.page.get_by_role("searchbox").fill("Note 1")
            await page.until_ids([box.users[1]])
            await page.page.get_by_role("button", name=box.users[1]).click()
            await page.page.get_by_role("heading", name="Redial rules").wait_for()


async def test_a_hidden_tab_closes_its_stream_and_opens_it_again_when_it_is_seen(
    browser: Browser, box: Sandbox
) -> None:
    hide = """hidden => {
        Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
        document.dispatchEvent(new Event("visibilitychange"));
    }"""
    async with looking(browser, box) as page:
        await page.until_ids(least_first(box))
        async with page.page.expect_event("requestfailed") as closed:
            await page.page.evaluate(hide, True)
        assert "/events" in (await closed.value).url
        give(box, box.users[0], line("line-0", 1, 100))
        await page.page.wait_for_timeout(1000)
        assert await page.ids() == least_first(box)
        await page.page.evaluate(hide, False)
        await page.until_ids([box.users[0], box.users[2], box.users[1]])


async def test_axe_finds_nothing_wrong_and_nothing_is_wider_than_the_screen(
    browser: Browser, box: Sandbox
) -> None:
    box.script(box.users[0], *[respond(503, "down")] * 1000)
    async with looking(browser, box, reduced_motion="reduce") as page:
        await page.until_state(box.users[1], "ok")
        await page.page.locator(f'[data-account="{box.users[2]}"]').click()
        await page.page.get_by_role("heading", name="Redial rules").wait_for()
        await page.until_state(box.users[0], "failing")
        for width in (360, 1440, 3840):
            await page.page.set_viewport_size({"width": width, "height": 900})
            assert await page.page.evaluate("document.documentElement.scrollWidth") <= width
            for scheme in ("light", "dark"):
                await page.page.emulate_media(color_scheme=scheme)
                assert await violations(page) == [], (width, scheme)
