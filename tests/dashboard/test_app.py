"""What the dashboard answers over HTTP, to whom, and how it ends."""

from __future__ import annotations

import asyncio
import re
import socket
from base64 import b64encode
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.resources import files
from itertools import cycle, pairwise
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp import web
from fastapi import FastAPI

from wolf_async import Account, CachePolicy, WolfClient, WolfConfigError
from wolf_async.dashboard import make_app
from wolf_async.dashboard.events import KEPT
from wolf_async.testing import Sandbox, respond

from .answers import answered, init_of, line
from .serving import Stream, dashboard, serve, url_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from wolf_async.watch import AccountUpdate

PATHS = ("/", "/events", "/account", "/search", "/healthz", "/main.js", "/style.css", "/icon.svg")
STATIC = files("wolf_async.dashboard") / "static"


@pytest.fixture
async def box() -> AsyncIterator[Sandbox]:
    async with Sandbox(accounts=3, sub_accounts=1) as sandbox:
        yield sandbox


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def status(http: aiohttp.ClientSession, url: str, **request: Any) -> int:
    async with http.get(url, allow_redirects=False, **request) as response:
        return response.status


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"}


# --- the page and its files --------------------------------------------------------------------


def test_the_page_is_small_and_loads_nothing_from_elsewhere() -> None:
    texts = {file.name: file.read_text(encoding="utf-8") for file in STATIC.iterdir()}
    assert sum(len(text.encode()) for text in texts.values()) <= 60_000
    for name, text in texts.items():
        addresses = set(re.findall(r"(?:https?:)?//[\w.]+", re.sub(r"// .*", "", text)))
        assert addresses <= {"http://www.w3.org"}, name  # the name of SVG, never loaded
    page = texts["index.html"]
    assert not re.search(r"<script(?![^>]*src=)|<style|\sstyle=|\son\w+=", page)
    assert not any("innerHTML" in text for text in texts.values())


async def test_every_response_has_a_strict_policy_and_is_not_kept(
    box: Sandbox, http: aiohttp.ClientSession
) -> None:
    async with dashboard(box, allowed_hosts={"127.0.0.1"}) as url:
        for path in (*PATHS, "/nothing"):
            for headers in ({}, {"Host": "evil.example"}):
                async with http.get(url + path, headers=headers) as response:
                    policy = response.headers["Content-Security-Policy"]
                    assert "default-src 'none'" in policy
                    assert "unsafe" not in policy
                    assert not re.search(r"https?:|\*|data:|blob:", policy)
                    assert response.headers["X-Content-Type-Options"] == "nosniff"
                    assert response.headers["Cache-Control"] == "no-store"


async def test_it_can_only_be_read(box: Sandbox, http: aiohttp.ClientSession) -> None:
    async with dashboard(box) as url:
        for path in PATHS:
            for method in ("POST", "PUT", "DELETE", "PATCH"):
                async with http.request(method, url + path) as response:
                    assert response.status == 405


async def test_an_opened_account_shows_lines_scripts_hours_and_rules(
    box: Sandbox, http: aiohttp.ClientSession
) -> None:
    account = box.accounts[1]
    data = box.data_for(account)
    lines = [line("a", 3, 10), line("b", 1, 2, available_at="2020-01-01 00:00:00")]
    box.set_data(account, data | {"caller_line_list": lines})
    async with dashboard(box) as url, Stream(url) as stream:
        question = {"id": ":".join(filter(None, account))}
        shown = None
        while shown is None:  # there is nothing to show before the first answer
            await stream.next()
            async with http.get(f"{url}/account", params=question) as response:
                shown = await response.json()
        assert await status(http, f"{url}/account", params={"id": "unknown"}) == 404
    assert [(each["id"], each["free"], each["total"]) for each in shown["outbound"]] == [
        ("a", 3, 10),
        ("b", 1, 2),
    ]
    assert [each["ended"] for each in shown["outbound"]] == [False, True]
    assert shown["outbound"][0]["name"] == "line a"
    kinds = ("outbound_group", "outbound_group_v2", "big_model_outbound_group")
    assert [each["id"] for each in shown["scripts"]] == [
        str(each["id"]) for kind in kinds for each in data[kind]
    ]
    assert [each["name"] for each in shown["hours"]] == [
        each["name"] for each in data["task_dial_times"]
    ]
    assert [len(each["week"]) for each in shown["hours"]] == [7] * len(shown["hours"])
    assert [len(each["outcomes"]) for each in shown["rules"]] == [
        len(each["details"]) for each in data["auto_recycle_rules"]
    ]


async def test_the_token_is_in_nothing_that_is_sent(
    box: Sandbox, http: aiohttp.ClientSession
) -> None:
    box.script(box.accounts[0], *[respond(503, f"bad token {box.token}")] * 50)
    async with dashboard(box) as url, Stream(url) as stream:
        sent = [repr(await stream.next()) for _ in range(12)]
        for path in ("/", "/search?q=", *(f"/account?id={user}" for user in box.users)):
            async with http.get(url + path) as response:
                sent.append(await response.text())
    assert box.token not in "".join(sent)


# --- the stream --------------------------------------------------------------------------------


async def test_one_request_a_period_and_account_however_many_look(box: Sandbox) -> None:
    async with dashboard(box, every=0.2) as url:
        async with Stream(url) as one, Stream(url) as two, Stream(url) as three:
            streams = (one, two, three)
            for stream in streams:
                assert (await stream.next()).name == "snapshot"
            for _ in range(6):
                await asyncio.gather(*(stream.until("tick") for stream in streams))
        asked = Counter(call.account for call in box.calls)
        assert set(asked) == set(box.accounts)
        assert max(asked.values()) <= 8
        for account in box.accounts:
            times = [call.at for call in box.calls_for(account)]
            assert all(after - before > 0.1 for before, after in pairwise(times))


async def test_nobody_looks_nothing_is_asked(box: Sandbox) -> None:
    async with dashboard(box, idle=0.0) as url:
        assert not box.calls
        async with Stream(url) as stream:
            await stream.until("tick")
            await box.wait_for_calls(len(box.accounts))
        # the server notices that a browser has gone when it writes to it
        async with asyncio.timeout(10):
            while True:
                count = len(box.calls)
                await asyncio.sleep(0.5)
                if len(box.calls) == count:
                    break


async def test_an_answer_that_the_client_lets_stand_in_is_stale(box: Sandbox) -> None:
    policy = CachePolicy(ttl=0.05, stale_if_error=60.0)
    async with dashboard(box, policy) as url, Stream(url) as stream:
        await stream.until("changes")
        await box.wait_for_calls(len(box.accounts))
        box.always(respond(503))
        states: dict[int, str] = {}
        while set(states.values()) != {"stale"}:
            for patch in (await stream.until("changes")).data:
                states[patch["i"]] = patch.get("state", states.get(patch["i"], ""))
                assert patch.get("reason") in {None, "Stale"}


async def test_a_client_that_was_away_catches_up_without_a_snapshot(box: Sandbox) -> None:
    async with dashboard(box, every=1.0) as url:
        async with Stream(url) as stream:
            last = await stream.until("changes")
        async with Stream(url, after=last.id) as stream:
            event = await stream.next()
            assert event.name != "snapshot"
            epoch, _, number = event.id.partition("-")
            assert last.id == f"{epoch}-{int(number) - 1}"
        async with Stream(url, after="0-0") as stream:
            assert (await stream.next()).name == "snapshot"


async def test_the_snapshot_and_the_changes_after_it_add_up_to_what_a_newcomer_sees(
    box: Sandbox,
) -> None:
    async with dashboard(box) as url:
        async with Stream(url) as stream:
            event = await stream.next()
            rows = event.data["rows"]
            for _ in range(30):
                event = await stream.next()
                if event.name == "changes":
                    for patch in event.data:
                        rows[patch.pop("i")] |= patch
        async with Stream(url, after=event.id) as resumed, Stream(url) as fresh:
            newest = await fresh.next()
            while event.id != newest.id:
                event = await resumed.next()
                if event.name == "changes":
                    for patch in event.data:
                        rows[patch.pop("i")] |= patch
    for row, seen in zip(rows, newest.data["rows"], strict=True):
        assert row | {"course": seen["course"]} == seen


class Busy(WolfClient):
    """Brings new answers for all accounts, once a period."""

    async def watch_many(
        self, accounts: Any, *, every: float, unchanged: bool = False
    ) -> AsyncGenerator[AccountUpdate]:
        for init in cycle([init_of(line("a", 5)), init_of(line("a", 4))]):
            for account in accounts:
                yield answered(init, account)
            await asyncio.sleep(every)


async def unread_stream(url: str) -> socket.socket:
    """Ask for the stream on a socket with a small buffer, and read nothing."""
    host, _, port = url.removeprefix("http://").partition(":")
    browser = socket.socket()
    browser.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    browser.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(browser, (host, int(port)))
    await loop.sock_sendall(browser, b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return browser


async def test_a_browser_that_does_not_read_is_not_buffered_for_and_holds_up_nothing() -> None:
    accounts = [f"user-{number}" for number in range(1000)]
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as server:
        url = await server.enter_async_context(serve(make_app(Busy("token"), accounts, every=0.02)))
        with await unread_stream(url) as slow, await unread_stream(url):
            async with Stream(url) as stream:
                while int((await stream.next()).id.partition("-")[2]) < 3 * KEPT:
                    pass
            received = b""
            async with asyncio.timeout(10):
                while received.count(b"event: snapshot") < 2:
                    received += await loop.sock_recv(slow, 65536)
            ids = [int(each) for each in re.findall(rb"id: \w+-(\d+)\nevent", received)]
            assert max(after - before for before, after in pairwise(ids)) > KEPT
            begun = loop.time()
            await server.aclose()
            assert loop.time() - begun < 1


# --- who is answered ---------------------------------------------------------------------------


async def test_only_the_allowed_names_are_answered_whatever_the_port(
    box: Sandbox, http: aiohttp.ClientSession
) -> None:
    async with dashboard(box, allowed_hosts=("localhost", "::1", "Dash.example")) as url:
        for host in (
            "localhost",
            "localhost:1234",
            "[::1]:80",
            "[::1]",
            "DASH.example.",
            "dash.example:80",
        ):
            assert await status(http, url, headers={"Host": host}) == 200, host
        for host in (
            "127.0.0.1",
            "evil.example",
            "localhost.evil.example",
            "dash.example@evil",
            "",
            "[::2]",
        ):
            for path in PATHS:
                assert await status(http, url + path, headers={"Host": host}) == 421, host


async def test_without_allowed_hosts_every_name_is_answered(
    box: Sandbox, http: aiohttp.ClientSession
) -> None:
    async with dashboard(box) as url:
        assert await status(http, url, headers={"Host": "any.example"}) == 200


async def test_a_password_is_needed_on_every_path_but_healthz(
    box: Sandbox, http: aiohttp.ClientSession
) -> None:
    async with dashboard(box, password="pässword:1") as url:
        for path in (*PATHS, "/nothing"):
            if path == "/healthz":
                assert await status(http, url + path) == 200
                continue
            for headers in ({}, basic("any", "wrong"), basic("pässword:1", ""), basic("any", "")):
                async with http.get(url + path, headers=headers) as response:
                    assert response.status == 401
                    assert response.headers["WWW-Authenticate"].startswith("Basic ")
        for bad in ("Basic", "Basic !", "Basic YQ==", "Bearer p%C3%A4ssword:1"):
            assert await status(http, url, headers={"Authorization": bad}) == 401
        for user in ("", "anybody"):
            assert await status(http, url, headers=basic(user, "pässword:1")) == 200


async def test_healthz_fails_only_if_the_newest_question_about_every_account_did(
    box: Sandbox, http: aiohttp.ClientSession
) -> None:
    async with dashboard(box) as url, Stream(url) as stream:
        assert await status(http, f"{url}/healthz") == 200
        await stream.until("changes")
        box.always(respond(503))
        while await status(http, f"{url}/healthz") == 200:
            await stream.next()
        box.heal()
        while await status(http, f"{url}/healthz") == 503:
            await stream.next()


@pytest.mark.parametrize(
    ("accounts", "settings", "message"),
    [
        ([], {}, "at least one account"),
        ("user", {}, "accounts must be an iterable"),
        ([""], {}, "must not be empty"),
        (["a:b", Account("a", "b")], {}, "USER_ID:SUB_ID"),
        (["a"], {"every": 0}, "every must be"),
        (["a"], {"every": float("inf")}, "every must be"),
        (["a"], {"idle": -1}, "idle must be"),
        (["a"], {"allowed_hosts": "localhost"}, "allowed_hosts must be"),
        (["a"], {"password": ""}, "password must not be empty"),
    ],
)
def test_arguments_that_make_no_sense_are_refused_with_what_was_expected(
    accounts: Any, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(WolfConfigError, match=message):
        make_app(WolfClient("token"), accounts, **settings)


# --- mounted, and beside another framework ------------------------------------------------------


async def test_it_can_be_mounted_and_every_address_in_it_is_relative(
    box: Sandbox, http: aiohttp.ClientSession
) -> None:
    async with WolfClient(box.token, base_url=box.base_url) as wolf:
        app = web.Application()
        app.add_subapp(
            "/lines/", make_app(wolf, box.accounts, every=0.1, allowed_hosts={"127.0.0.1"})
        )
        async with serve(app) as url:
            async with http.get(f"{url}/lines?q=a%26b&sort=name") as response:
                assert response.url.path_qs == "/lines/?q=a%26b&sort=name"
                page = await response.text()
            for address in re.findall(r'(?:href|src)="([^"#]+)"', page):
                assert await status(http, f"{url}/lines/{address}") == 200
            assert await status(http, f"{url}/lines/", headers={"Host": "evil.example"}) == 421
            async with Stream(f"{url}/lines") as stream:
                await stream.until("changes")
                begun = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - begun < 1


async def test_beside_fastapi_it_runs_on_a_port_of_its_own_and_ends_with_it(box: Sandbox) -> None:
    addresses: list[str] = []

    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        async with WolfClient(box.token, base_url=box.base_url) as wolf:
            runner = web.AppRunner(make_app(wolf, box.accounts, every=0.1))
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            addresses.append(url_of(runner))
            yield
            await runner.cleanup()

    app = FastAPI(lifespan=asynccontextmanager(lifespan))
    async with app.router.lifespan_context(app), Stream(addresses[0]) as stream:
        await stream.until("changes")
        begun = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - begun < 1
