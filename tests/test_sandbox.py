"""The sandbox over real HTTP, by plain aiohttp and, where the bytes matter, plain sockets."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import itertools
import json
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, cast, get_args

import aiohttp
import msgspec
import pytest

from wolf_async.account import Account
from wolf_async.models import TaskInit, dec_hook
from wolf_async.testing import (
    Exchange,
    FakeClock,
    Quirk,
    Reply,
    Sandbox,
    Step,
    answer,
    delay,
    disconnect,
    drip,
    empty,
    error,
    gzip_bomb,
    gzip_garbage,
    hang_up,
    hold,
    html,
    quirks,
    redirect,
    respond,
    synthetic_accounts,
    synthetic_task_init,
    synthetic_token,
    truncate,
    unauthorized,
)
from wolf_async.testing.accounts import AnswerTemplate
from wolf_async.testing.faults import envelope

SAMPLE = Path(__file__).parent / "data" / "task-init.sample.json"
SECTIONS = {
    "task_dial_times",
    "caller_line_list",
    "call_in_line_list",
    "max_recycle_limit",
    "outbound_group",
    "outbound_group_v2",
    "big_model_outbound_group",
    "bridge_groups",
    "auto_recycle_rules",
    "end_actions",
    "background",
    "llm_intention_configs",
}


class Answer:
    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def data(self) -> Any:
        assert (self.status, self.json["code"], self.json["status"]) == (200, 200, "success")
        return self.json["data"]


class Driver:
    """What a client does, and no more."""

    def __init__(self, box: Sandbox, session: aiohttp.ClientSession) -> None:
        self.box = box
        self.session = session

    async def get(
        self,
        account: Account | str | None = None,
        *,
        token: str | None = None,
        headers: dict[str, str] | None = None,
        method: str = "GET",
        target: str | None = None,
    ) -> Answer:
        whom = self.box.accounts[0] if account is None else account
        url = self.box.base_url + (path_of(whom) if target is None else target)
        sent = {"Authorization": f"Bearer {token or self.box.token}", **(headers or {})}
        async with self.session.request(
            method, url, headers=sent, allow_redirects=False
        ) as response:
            return Answer(response.status, dict(response.headers), await response.read())


def path_of(account: Account | str) -> str:
    user, sub = (account, None) if isinstance(account, str) else account
    return f"/agent-api/new/user/{user}/task/create" + (f"?sub_user_id={sub}" if sub else "")


@pytest.fixture(autouse=True)
def nothing_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    assert [record for record in caplog.records if record.levelname != "DEBUG"] == []


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(1000.0)


@pytest.fixture
async def box(clock: FakeClock) -> AsyncIterator[Sandbox]:
    async with Sandbox(accounts=3, clock=clock) as running:
        yield running


@pytest.fixture
async def http(box: Sandbox) -> AsyncIterator[Driver]:
    async with aiohttp.ClientSession() as session:
        yield Driver(box, session)


async def on_the_wire(box: Sandbox, target: str) -> bytes:
    """All bytes that the server sends until it closes the connection."""
    host, port = box.base_url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        f"GET {target} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {box.token}\r\n\r\n".encode()
    )
    try:
        async with asyncio.timeout(5):
            return await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()


def content_length(raw: bytes) -> int:
    head = raw.partition(b"\r\n\r\n")[0].decode().lower()
    return int(head.split("content-length: ")[1].split("\r\n")[0])


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def keys_at_every_level(value: Any, path: str = "$") -> set[str]:
    if isinstance(value, dict):
        inner = {f"{path}.{key}": item for key, item in cast("dict[str, Any]", value).items()}
        return set(inner).union(*(keys_at_every_level(item, key) for key, item in inner.items()))
    members = cast("list[Any]", value) if isinstance(value, list) else []  # type: ignore[redundant-cast]
    return set[str]().union(*(keys_at_every_level(item, f"{path}[]") for item in members))


class TestEndpoint:
    async def test_a_main_account_gets_its_data_in_the_documented_envelope(
        self, http: Driver
    ) -> None:
        got = await http.get(http.box.users[0])
        assert got.status == 200
        assert got.headers["Content-Type"] == "application/json"
        assert got.json == {
            "code": 200,
            "status": "success",
            "message": "返回任务初始化信息成功",
            "data": http.box.data_for(http.box.users[0]),
        }
        assert got.body == http.box.body_for(http.box.users[0])

    async def test_every_account_gets_its_own_data(self, http: Driver) -> None:
        owners: list[str] = []
        for account in http.box.accounts:
            data = (await http.get(account)).data
            assert data == http.box.data_for(account)
            owners.append(data["task_dial_times"][0]["user_id"])
        assert owners == [account.sub_user_id or account.user_id for account in http.box.accounts]
        assert len(set(owners)) == 3 + 3 * 2

    async def test_an_empty_sub_user_id_means_the_main_account(self, http: Driver) -> None:
        user = http.box.users[0]
        got = await http.get(target=f"{path_of(user)}?sub_user_id=")
        assert got.data == http.box.data_for(user)
        assert http.box.calls[0].account == Account(user)

    async def test_a_prefix_that_it_was_not_told_of_is_a_page_that_says_404(
        self, http: Driver
    ) -> None:
        for prefix in ("/partner/v1", "/x"):
            got = await http.get(target=prefix + path_of(http.box.users[1]))
            assert (got.status, http.box.calls[-1].account) == (404, None)
            assert b"<html>" in got.body

    @pytest.mark.parametrize("prefix", ["/", "v1", "/v1/", "/a b", "/a?b", "https://x/v1"])
    def test_a_prefix_that_is_no_path_is_refused(self, prefix: str) -> None:
        with pytest.raises(ValueError, match="prefix is a path"):
            Sandbox(prefix=prefix)

    @pytest.mark.parametrize(
        "sent", ["Bearer wrong", "Bearer", "Basic {}", "{}", "Bearer x{}", "Bearer {}x"]
    )
    async def test_a_bad_token_gets_a_bare_401(self, http: Driver, sent: str) -> None:
        got = await http.get(headers={"Authorization": sent.format(http.box.token)})
        assert (got.status, got.json) == (401, {"message": "Unauthenticated."})
        assert not http.box.calls[0].authorized

    async def test_no_token_gets_a_bare_401(self, http: Driver) -> None:
        async with http.session.get(http.box.base_url + path_of(http.box.users[0])) as response:
            assert response.status == 401
        assert not http.box.calls[0].authorized
        assert "authorization" not in http.box.calls[0].headers

    async def test_the_scheme_may_be_in_lower_case(self, http: Driver) -> None:
        assert (await http.get(headers={"Authorization": f"bearer {http.box.token}"})).status == 200

    async def test_an_unknown_user_gets_a_documented_error(self, http: Driver) -> None:
        got = await http.get("nobody")
        assert got.status == 404
        assert got.json == {"code": 404, "status": "error", "message": "用户不存在", "data": []}

    async def test_a_sub_account_of_another_user_gets_a_documented_error(
        self, http: Driver
    ) -> None:
        stranger = next(
            a for a in http.box.accounts if a.sub_user_id and a.user_id == http.box.users[1]
        )
        got = await http.get(Account(http.box.users[0], stranger.sub_user_id))
        assert got.status == 200
        assert (got.json["code"], got.json["status"], got.json["data"]) == (6007, "error", [])

    async def test_another_path_is_not_found_and_recorded_without_an_account(
        self, http: Driver
    ) -> None:
        got = await http.get(target="/agent-api/new/user/x/task")
        assert (got.status, got.json["code"]) == (404, 404)
        assert http.box.calls[0].account is None

    async def test_another_method_is_refused(self, http: Driver) -> None:
        assert (await http.get(method="POST")).status == 405

    async def test_bodies_are_compressed_only_if_asked_and_accepted(self, clock: FakeClock) -> None:
        async with (
            Sandbox(accounts=1, gzip=True, clock=clock) as box,
            aiohttp.ClientSession(auto_decompress=False) as session,
        ):
            driver = Driver(box, session)
            packed = await driver.get(headers={"Accept-Encoding": "gzip"})
            plain = await driver.get(headers={"Accept-Encoding": "identity"})
        assert packed.headers["Content-Encoding"] == "gzip"
        assert len(packed.body) < len(plain.body) / 3
        assert gzip.decompress(packed.body) == plain.body == box.body_for(box.users[0])

    async def test_bodies_are_not_compressed_by_default(self, http: Driver) -> None:
        assert (
            "Content-Encoding" not in (await http.get(headers={"Accept-Encoding": "gzip"})).headers
        )

    async def test_the_old_token_is_refused_once_it_has_expired(self, http: Driver) -> None:
        old = http.box.token
        new = http.box.expire_token()
        assert new == http.box.token != old
        assert (await http.get(token=old)).status == 401
        assert (await http.get(token=new)).status == 200
        assert http.box.expire_token("mine") == "mine"
        assert (await http.get(token=new)).status == 401
        assert (await http.get(token="mine")).status == 200

    async def test_own_data_are_answered_until_they_are_taken_back(self, http: Driver) -> None:
        user = http.box.users[0]
        own: dict[str, Any] = {"caller_line_list": [], "max_recycle_limit": 7}
        http.box.set_data(user, own)
        own["max_recycle_limit"] = 8
        assert (await http.get(user)).data == {"caller_line_list": [], "max_recycle_limit": 7}
        assert http.box.data_for(user) == {"caller_line_list": [], "max_recycle_limit": 7}
        http.box.set_data(user, None)
        assert set((await http.get(user)).data) == SECTIONS

    async def test_data_of_an_account_that_it_does_not_have(self, box: Sandbox) -> None:
        for ask in (box.data_for, box.body_for):
            with pytest.raises(KeyError):
                ask(Account(box.users[0], "nobody"))
        with pytest.raises(KeyError):
            box.set_data("nobody", {})


class TestRecord:
    async def test_a_call_is_recorded_as_it_was_on_the_wire(
        self, http: Driver, clock: FakeClock
    ) -> None:
        clock.advance(5)
        target = "/agent-api/new/user/a%2Fb/task/create?sub_user_id=x%20y&sub_user_id=z&e="
        host, port = http.box.base_url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(
            f"GET {target} HTTP/1.1\r\nHost: h\r\nX-One: 1\r\nConnection: close\r\n\r\n".encode()
        )
        await reader.read()
        writer.close()
        await writer.wait_closed()
        [call] = http.box.calls
        assert call.target == target
        assert call.path == "/agent-api/new/user/a%2Fb/task/create"
        assert call.query == {"sub_user_id": "z", "e": ""}
        assert call.account == Account("a/b", "z")
        assert (call.method, call.at, call.number, call.status) == ("GET", 1005.0, 1, 401)
        assert call.headers == {"host": "h", "x-one": "1", "connection": "close"}

    async def test_the_token_is_in_no_record(self, http: Driver) -> None:
        await http.get()
        await http.get(token="a-wrong-secret")
        seen = (
            repr(http.box.calls)
            + repr(http.box)
            + "".join(str(dict(c.headers)) for c in http.box.calls)
        )
        assert http.box.token not in seen
        assert "a-wrong-secret" not in seen
        assert [call.authorized for call in http.box.calls] == [True, False]
        assert {call.headers["authorization"] for call in http.box.calls} == {"***"}

    async def test_a_record_is_read_only(self, http: Driver) -> None:
        await http.get()
        with pytest.raises(TypeError):
            http.box.calls[0].headers["x"] = "y"  # type: ignore[index]
        with pytest.raises(AttributeError):
            http.box.calls[0].status = 200  # type: ignore[misc]

    async def test_calls_are_told_apart_by_account(self, http: Driver) -> None:
        first, other = http.box.users[:2]
        sub = next(account for account in http.box.accounts if account.sub_user_id)
        for account in (first, other, first, sub):
            await http.get(account)
        assert [call.number for call in http.box.calls_for(first)] == [1, 3]
        assert [call.number for call in http.box.calls_for(Account(other))] == [2]
        assert [call.number for call in http.box.calls_for(sub)] == [4]

    async def test_a_call_is_recorded_on_arrival_and_its_status_once_it_is_answered(
        self, http: Driver
    ) -> None:
        gate = asyncio.Event()
        http.box.script(None, hold(gate))
        asking = asyncio.create_task(http.get())
        await http.box.wait_for_calls(1)
        assert http.box.calls[0].status is None
        assert not asking.done()
        gate.set()
        assert (await asking).status == http.box.calls[0].status == 200

    async def test_reset_forgets_calls_and_a_held_one_does_not_come_back(
        self, http: Driver
    ) -> None:
        gate = asyncio.Event()
        http.box.script(None, hold(gate), respond(503))
        asking = asyncio.create_task(http.get())
        await http.box.wait_for_calls(1)
        http.box.reset_calls()
        assert http.box.calls == []
        await http.get(http.box.users[1])
        gate.set()
        await asking
        assert [(call.number, call.status) for call in http.box.calls] == [(1, 503)]

    async def test_the_peak_counts_what_is_served_at_once(self, http: Driver) -> None:
        for _ in range(3):
            await http.get()
        assert http.box.concurrency_peak == 1
        gate = asyncio.Event()
        http.box.script(None, *[hold(gate)] * 4)
        asking = [asyncio.create_task(http.get()) for _ in range(4)]
        await http.box.wait_for_calls(7)
        assert (http.box.concurrency, http.box.concurrency_peak) == (4, 4)
        gate.set()
        await asyncio.gather(*asking)
        await http.get()
        assert (http.box.concurrency, http.box.concurrency_peak) == (0, 4)
        http.box.reset_calls()
        await http.get()
        assert http.box.concurrency_peak == 1

    async def test_a_client_that_leaves_is_no_longer_served(self, http: Driver) -> None:
        http.box.script(None, hold(asyncio.Event()))
        asking = asyncio.create_task(http.get())
        await http.box.wait_for_calls(1)
        asking.cancel()
        await http.box.wait_until_idle()
        assert http.box.concurrency == 0
        assert http.box.calls[0].status is None

    async def test_waiting_in_vain_ends_in_a_timeout(self, http: Driver) -> None:
        with pytest.raises(TimeoutError, match="0 calls, 0 being served"):
            await http.box.wait_for_calls(1, timeout=0.01)
        await http.get()
        await http.box.wait_for_calls(1)
        await http.box.wait_until_idle()

    async def test_repr_says_where_it_is(self, box: Sandbox) -> None:
        assert repr(box) == f"<Sandbox {box.base_url}, 9 accounts, 0 calls>"
        assert repr(Sandbox(accounts=1)) == "<Sandbox not running, 3 accounts, 0 calls>"


class TestSteps:
    async def test_respond(self, http: Driver) -> None:
        http.box.script(
            None, respond(429, b"slow down", {"Retry-After": "3", "content-type": "text/plain"})
        )
        http.box.script(None, respond(200, "文"), respond(200, {"a": [1]}))
        got = await http.get()
        assert (got.status, got.body, got.headers["Retry-After"]) == (429, b"slow down", "3")
        assert got.headers["Content-Type"] == "text/plain"
        assert (await http.get()).body == "文".encode()
        assert (await http.get()).json == {"a": [1]}
        assert [call.status for call in http.box.calls] == [429, 200, 200]

    async def test_error(self, http: Driver) -> None:
        http.box.script(None, error(), error(422, {"sub_user_id": ["无效"]}, 422))
        got = await http.get()
        assert (got.status, got.json) == (
            200,
            {"code": 6007, "status": "error", "message": "参数错误", "data": []},
        )
        got = await http.get()
        assert (got.status, got.json["code"], got.json["message"]) == (
            422,
            422,
            {"sub_user_id": ["无效"]},
        )

    async def test_unauthorized(self, http: Driver) -> None:
        http.box.script(None, unauthorized())
        got = await http.get()
        assert (got.status, got.json) == (401, {"message": "Unauthenticated."})
        assert http.box.calls[0].authorized

    async def test_html(self, http: Driver) -> None:
        http.box.script(None, html(), html(502))
        got = await http.get()
        assert got.status == 200
        assert got.headers["Content-Type"].startswith("text/html")
        assert got.body.startswith(b"<html>")
        assert (await http.get()).status == 502

    async def test_empty(self, http: Driver) -> None:
        http.box.script(None, empty(), empty(204))
        assert [((got := await http.get()).status, got.body) for _ in range(2)] == [
            (200, b""),
            (204, b""),
        ]

    async def test_redirect(self, http: Driver) -> None:
        http.box.script(None, redirect("http://elsewhere.invalid/x"), redirect("/y", 307))
        got = await http.get()
        assert (got.status, got.headers["Location"]) == (302, "http://elsewhere.invalid/x")
        assert (await http.get()).status == 307

    async def test_answer_with_own_data(self, http: Driver) -> None:
        own = {"max_recycle_limit": 1}
        http.box.script(None, answer(own), answer(None), answer())
        assert (await http.get()).data == own
        assert (await http.get()).data is None
        assert set((await http.get()).data) == SECTIONS

    async def test_answer_takes_the_place_of_an_error(self, http: Driver) -> None:
        http.box.script("nobody", answer({"x": 1}))
        assert (await http.get("nobody")).data == {"x": 1}

    async def test_hold_answers_as_things_are_when_the_gate_opens(
        self, http: Driver, clock: FakeClock
    ) -> None:
        gate = asyncio.Event()
        before = http.box.body_for(http.box.users[0])
        http.box.script(None, hold(gate))
        asking = asyncio.create_task(http.get())
        await http.box.wait_for_calls(1)
        clock.advance(30)
        gate.set()
        got = await asking
        assert got.body == http.box.body_for(http.box.users[0]) != before

    async def test_delay_keeps_the_answer_back(self, http: Driver) -> None:
        http.box.script(None, delay(0.02), delay(3600))
        begun = asyncio.get_running_loop().time()
        assert (await http.get()).status == 200
        assert asyncio.get_running_loop().time() - begun >= 0.02
        asking = asyncio.create_task(http.get())
        await http.box.wait_for_calls(2)
        assert http.box.concurrency == 1
        asking.cancel()
        await http.box.wait_until_idle()

    async def test_latency_keeps_every_answer_back(self, clock: FakeClock) -> None:
        async with Sandbox(latency=0.02, clock=clock) as box, aiohttp.ClientSession() as session:
            begun = asyncio.get_running_loop().time()
            await Driver(box, session).get()
        assert asyncio.get_running_loop().time() - begun >= 0.02

    async def test_disconnect_ends_the_connection_without_a_byte(self, http: Driver) -> None:
        http.box.script(None, disconnect())
        assert await on_the_wire(http.box, path_of(http.box.users[0])) == b""
        assert http.box.calls[0].status is None

    async def test_disconnect_by_reset_is_seen_as_one(self, http: Driver) -> None:
        http.box.script(None, disconnect(reset=True))
        with pytest.raises(ConnectionResetError):
            await on_the_wire(http.box, path_of(http.box.users[0]))
        assert http.box.calls[0].status is None

    async def test_every_disconnect_is_one_call_however_the_client_repeats_itself(
        self, http: Driver
    ) -> None:
        http.box.script(
            None, disconnect(), disconnect()
        )  # aiohttp sends an idempotent request once more
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await http.get()
        assert [call.status for call in http.box.calls] == [None, None]
        assert (await http.get()).status == 200

    @pytest.mark.parametrize("after", [0, 1, 1000])
    async def test_truncate_sends_so_many_bytes_of_an_announced_body(
        self, http: Driver, after: int
    ) -> None:
        http.box.script(None, truncate(after))
        raw = await on_the_wire(http.box, path_of(http.box.users[0]))
        whole = http.box.body_for(http.box.users[0])
        assert content_length(raw) == len(whole)
        assert raw.partition(b"\r\n\r\n")[2] == whole[:after]
        assert http.box.calls[0].status is None

    async def test_a_truncated_answer_is_an_error_to_a_client(self, http: Driver) -> None:
        http.box.script(None, truncate(100))
        with pytest.raises(aiohttp.ClientPayloadError):
            await http.get()

    async def test_truncate_beyond_the_end_is_a_complete_answer(self, http: Driver) -> None:
        http.box.script(None, truncate(10**9))
        assert set((await http.get()).data) == SECTIONS
        assert http.box.calls[0].status == 200

    async def test_drip_sends_the_body_in_chunks(self, http: Driver) -> None:
        whole = http.box.body_for(http.box.users[0])
        http.box.script(None, drip(0, 100))
        assert (await http.get()).body == whole
        assert http.box.calls[0].status == 200
        with pytest.raises(ValueError, match="at least one byte"):
            drip(1, 0)

    async def test_drip_waits_after_each_chunk(self, http: Driver) -> None:
        http.box.script(None, drip(3600, 100))
        url = http.box.base_url + path_of(http.box.users[0])
        headers = {"Authorization": f"Bearer {http.box.token}"}
        async with http.session.get(url, headers=headers) as response:
            assert await response.content.readany() == http.box.body_for(http.box.users[0])[:100]
            assert http.box.concurrency == 1
            response.close()
        await http.box.wait_until_idle()
        assert http.box.calls[0].status is None

    async def test_drip_and_truncate_together(self, http: Driver) -> None:
        http.box.script(None, drip(0, 64) + truncate(150))
        raw = await on_the_wire(http.box, path_of(http.box.users[0]))
        assert raw.partition(b"\r\n\r\n")[2] == http.box.body_for(http.box.users[0])[:150]

    async def test_hang_up_closes_after_a_complete_answer_that_does_not_say_so(
        self, http: Driver
    ) -> None:
        http.box.script(None, hang_up())
        raw = await on_the_wire(http.box, path_of(http.box.users[0]))
        head, _, body = raw.partition(b"\r\n\r\n")
        assert b"connection: close" not in head.lower()
        assert body == http.box.body_for(http.box.users[0])
        assert http.box.calls[0].status == 200

    async def test_without_it_the_connection_stays_open(self, http: Driver) -> None:
        asking = asyncio.create_task(on_the_wire(http.box, path_of(http.box.users[0])))
        await http.box.wait_for_calls(1)
        await http.get()
        assert not asking.done()
        asking.cancel()
        await asyncio.wait({asking})

    async def test_gzip_garbage_cannot_be_decoded(self, http: Driver) -> None:
        http.box.script(None, gzip_garbage())
        with pytest.raises((aiohttp.ClientPayloadError, aiohttp.ContentTypeError)):
            await http.get()

    async def test_gzip_bomb_is_small_on_the_wire(self, http: Driver) -> None:
        http.box.script(None, gzip_bomb(10_000_001), gzip_bomb(10_000_001) + hang_up())
        assert (await http.get()).body == b" " * 10_000_001
        raw = await on_the_wire(http.box, path_of(http.box.users[0]))
        assert len(raw) < 20_000

    async def test_steps_add_up_in_order(self, http: Driver) -> None:
        gate = asyncio.Event()
        http.box.script(None, hold(gate) + respond(503) + hang_up())
        asking = asyncio.create_task(http.get())
        await http.box.wait_for_calls(1)
        gate.set()
        assert (await asking).status == 503

    async def test_hold_then_disconnect(self, http: Driver) -> None:
        gate = asyncio.Event()
        http.box.script(None, hold(gate) + disconnect())
        asking = asyncio.create_task(on_the_wire(http.box, path_of(http.box.users[0])))
        await http.box.wait_for_calls(1)
        assert not asking.done()
        gate.set()
        assert await asking == b""

    async def test_users_write_steps_of_their_own(self, http: Driver) -> None:
        class Teapot(Step, frozen=True):
            async def apply(self, exchange: Exchange) -> None:
                name = exchange.data()["task_dial_times"][0]["name"]
                exchange.reply = Reply(418, f"{exchange.account}: {name}".encode())

        http.box.script(None, Teapot())
        got = await http.get()
        assert (got.status, got.body.decode()) == (418, f"{http.box.accounts[0]}: 系统呼叫时间")

    async def test_a_step_does_not_print_its_body(self) -> None:
        step = respond(200, b"x" * 10**6, {"X-One": "1"})
        assert repr(step) == "_Respond(reply=Reply(200, 1000000 bytes, {'X-One': '1'}))"


class TestScript:
    async def statuses(
        self, http: Driver, count: int, account: Account | str | None = None
    ) -> list[int]:
        return [(await http.get(account)).status for _ in range(count)]

    async def test_steps_go_to_one_request_each_and_then_all_is_well(self, http: Driver) -> None:
        http.box.script(None, respond(500), respond(502))
        assert await self.statuses(http, 4) == [500, 502, 200, 200]

    async def test_an_accounts_own_queue_comes_before_anybodys(self, http: Driver) -> None:
        mine, other = http.box.users[:2]
        http.box.script(mine, respond(501))
        http.box.script(None, respond(502), respond(503))
        assert await self.statuses(http, 2, mine) == [501, 502]
        assert await self.statuses(http, 2, other) == [503, 200]

    async def test_a_sub_account_has_a_queue_of_its_own(self, http: Driver) -> None:
        sub = next(account for account in http.box.accounts if account.sub_user_id)
        http.box.script(sub, respond(501))
        assert await self.statuses(http, 1, sub.user_id) == [200]
        assert await self.statuses(http, 1, sub) == [501]

    async def test_an_outage_lasts_until_it_is_healed(self, http: Driver) -> None:
        http.box.always(respond(503), respond(502))
        http.box.script(None, answer())
        assert await self.statuses(http, 4) == [200, 503, 502, 503]
        http.box.heal()
        assert await self.statuses(http, 2) == [200, 200]

    async def test_every_nth_request_fails_in_turn(self, http: Driver) -> None:
        http.box.fault_every(3, respond(500), respond(502))
        assert await self.statuses(http, 9) == [200, 200, 500, 200, 200, 502, 200, 200, 500]
        http.box.heal()
        assert await self.statuses(http, 3) == [200, 200, 200]

    async def test_healing_forgets_the_queue(self, http: Driver) -> None:
        http.box.script(None, respond(500))
        http.box.heal()
        assert await self.statuses(http, 1) == [200]

    async def test_nonsense_is_refused(self, box: Sandbox) -> None:
        with pytest.raises(ValueError, match="1 or more"):
            box.fault_every(0, respond())
        with pytest.raises(ValueError, match="at least one step"):
            box.always()
        for settings in ({"accounts": -1}, {"latency": -1}, {"period": 0}):
            with pytest.raises(ValueError, match="at least 0"):
                Sandbox(**settings)  # type: ignore[arg-type]


class TestQuirks:
    async def data(self, http: Driver, *names: Quirk) -> Any:
        http.box.script(None, quirks(*names))
        return (await http.get()).data

    def plain(self, http: Driver) -> Any:
        return http.box.data_for(http.box.users[0])

    async def test_any_two_in_any_order(self, http: Driver) -> None:
        for pair in itertools.permutations(get_args(Quirk), 2):
            assert SECTIONS & (await self.data(http, *pair)).keys(), pair

    async def test_empty_map_as_list(self, http: Driver) -> None:
        assert await self.data(http, "empty_map_as_list") == {**self.plain(http), "end_actions": []}

    async def test_map_as_list(self, http: Driver) -> None:
        own = ["无操作", "暂停任务释放并发"]
        assert await self.data(http, "map_as_list") == {**self.plain(http), "end_actions": own}

    async def test_list_as_map(self, http: Driver) -> None:
        got, plain = await self.data(http, "list_as_map"), self.plain(http)
        sounds = {str(2 * at): sound for at, sound in enumerate(plain["background"])}
        assert got["background"] == sounds
        assert got["task_dial_times"]["0"]["content"]["2"]["times"]["0"]["end_time"] == "12:00"
        assert got["auto_recycle_rules"]["0"]["configs"] == []
        assert got["end_actions"] == plain["end_actions"]

    @pytest.mark.parametrize("name", ["flags_as_int", "flags_as_text"])
    async def test_flags(self, http: Driver, name: Quirk) -> None:
        forms: dict[bool, int | str] = (
            {False: 0, True: 1} if name == "flags_as_int" else {False: "0", True: "1"}
        )
        got, plain = await self.data(http, name), self.plain(http)
        for section, key in (
            ("task_dial_times", "is_default"),
            ("outbound_group", "debug"),
            ("auto_recycle_rules", "status"),
        ):
            assert json.dumps([item[key] for item in got[section]]) == json.dumps(
                [forms[item[key]] for item in plain[section]]
            )
        assert got["outbound_group"][0]["is_top"] == plain["outbound_group"][0]["is_top"]

    async def test_ints_as_text_except_ids(self, http: Driver) -> None:
        got, plain = await self.data(http, "ints_as_text"), self.plain(http)
        assert got["max_recycle_limit"] == "50"
        assert got["caller_line_list"][0]["residue"] == str(plain["caller_line_list"][0]["residue"])
        assert got["task_dial_times"][0]["id"] == plain["task_dial_times"][0]["id"]
        assert got["task_dial_times"][0]["is_default"] is True

    async def test_ids_swapped(self, http: Driver) -> None:
        got, plain = await self.data(http, "ids_swapped"), self.plain(http)
        assert got["background"][0]["id"] == str(plain["background"][0]["id"])
        assert got["outbound_group_v2"][0]["id"] == int(plain["outbound_group_v2"][0]["id"])
        variable = got["outbound_group_v2"][1]["variable"][0]["id"]
        assert variable == str(plain["outbound_group_v2"][1]["variable"][0]["id"])
        assert got["caller_line_list"][0]["line_id"] == plain["caller_line_list"][0]["line_id"]
        assert got["outbound_group"][0]["category_id"] is None

    async def test_zero_dates(self, http: Driver) -> None:
        got = await self.data(http, "zero_dates")
        assert got["caller_line_list"][0]["available_at"] == "0000-00-00 00:00:00"
        assert got["background"][0]["created_at"] == "0000-00-00 00:00:00"
        assert got["outbound_group"][0]["deleted_at"] is None

    async def test_missing_keys(self, http: Driver) -> None:
        got = await self.data(http, "missing_keys")
        assert "background" not in got
        assert "name" not in got["task_dial_times"][0]
        assert "name" in got["task_dial_times"][1]
        assert "new_line" not in got["caller_line_list"][0]
        assert got["caller_line_list"][0]["line_id"]

    async def test_null_sections(self, http: Driver) -> None:
        got = await self.data(http, "null_sections")
        assert {key for key, section in got.items() if section is None} == SECTIONS - {
            "max_recycle_limit",
            "end_actions",
        }

    async def test_unknown_keys(self, http: Driver) -> None:
        got = await self.data(http, "unknown_keys")
        assert got["background"][0].pop("added_later")
        assert got["background"][0] == self.plain(http)["background"][0]

    async def test_configs_as_map(self, http: Driver) -> None:
        got = await self.data(http, "configs_as_map")
        assert all(rule["configs"] == {"limit": 3} for rule in got["auto_recycle_rules"])

    async def test_escaped(self, http: Driver) -> None:
        http.box.script(None, answer({"name": "é云/😀"}) + quirks("escaped"))
        got = await http.get()
        assert b'{"name":"\\u00e9\\u4e91\\/\\ud83d\\ude00"}' in got.body
        assert got.data == {"name": "é云/😀"}

    async def test_several_at_once(self, http: Driver) -> None:
        got = await self.data(http, "map_as_list", "list_as_map", "flags_as_text", "escaped")
        assert got["end_actions"] == {"0": "无操作", "2": "暂停任务释放并发"}
        assert got["task_dial_times"]["0"]["is_default"] == "1"

    async def test_an_error_keeps_its_shape(self, http: Driver) -> None:
        http.box.script(None, error() + quirks("map_as_list"))
        assert (await http.get()).json["data"] == []

    def test_an_unknown_quirk_is_refused(self) -> None:
        with pytest.raises(ValueError, match="not nonsense"):
            quirks("nonsense")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="none"):
            quirks()

    @pytest.mark.parametrize("name", get_args(Quirk))
    async def test_each_changes_the_body_and_not_the_account(
        self, http: Driver, name: Quirk
    ) -> None:
        before = http.box.body_for(http.box.users[0])
        http.box.script(None, quirks(name))
        assert (await http.get()).body != before
        assert (await http.get()).body == before == http.box.body_for(http.box.users[0])


class TestAccounts:
    def test_every_documented_key_is_there_at_every_level(self) -> None:
        documented = json.loads(SAMPLE.read_text(encoding="utf-8"))["data"]
        assert keys_at_every_level(synthetic_task_init(0, Account("u"))) == keys_at_every_level(
            documented
        )

    @pytest.mark.parametrize("account", synthetic_accounts(3, 4, 2))
    def test_lists_have_a_real_accounts_sizes(self, account: Account) -> None:
        data = synthetic_task_init(3, account)
        sizes = {key: len(data[key]) for key in SECTIONS - {"max_recycle_limit", "end_actions"}}
        assert 24 <= sizes["caller_line_list"] <= 60
        assert 2 <= sizes["call_in_line_list"] <= 4
        assert min(sizes.values()) >= 2
        for section, key in (
            ("caller_line_list", "line_id"),
            ("outbound_group", "id"),
            ("bridge_groups", "id"),
        ):
            ids = [item[key] for item in data[section]]
            assert len(set(ids)) == len(ids)

    def test_data_fit_the_structs_without_repair(self) -> None:
        decoder = msgspec.json.Decoder(TaskInit, dec_hook=dec_hook)
        for account in synthetic_accounts(0, 20, 1):
            data = synthetic_task_init(0, account)
            init = decoder.decode(msgspec.json.encode(data))
            assert len(init.caller_line_list) == len(data["caller_line_list"])

    def test_ids_are_of_the_documented_kinds(self) -> None:
        data = synthetic_task_init(0, Account("u"))
        variables = [item for script in data["outbound_group_v2"] for item in script["variable"]]
        assert all(
            len(script["id"]) == 18 and script["id"].isdigit()
            for script in data["outbound_group_v2"]
        )
        assert all(len(str(item["id"])) == 18 and item["id"] > 2**53 for item in variables)
        assert {line["line_id"][-1] == "g" for line in data["caller_line_list"]} == {True, False}
        assert any(line["new_line"] is None for line in data["caller_line_list"])

    def test_times_come_in_all_forms(self) -> None:
        groups = [
            group
            for account in synthetic_accounts(0, 20, 0)
            for group in synthetic_task_init(0, account)["task_dial_times"]
        ]
        times = {
            (span["begin_time"], span["end_time"])
            for group in groups
            for day in group["content"]
            for span in day["times"]
        }
        assert {
            ("9:00", "11:30"),
            ("00:00", "23:59"),
            ("20:00", "24:00"),
            ("18:00", "21:00"),
        } <= times
        assert {tuple(day["week"] for day in group["content"]) for group in groups} >= {
            (0, 6),
            tuple(range(7)),
        }

    def test_the_same_seed_gives_the_same_everywhere(self) -> None:
        account = Account("u", "s")
        assert synthetic_task_init(7, account) == synthetic_task_init(7, account)
        assert synthetic_task_init(7, account) != synthetic_task_init(8, account)
        assert synthetic_task_init(7, account) != synthetic_task_init(7, Account("u"))
        assert synthetic_task_init(0, Account("u"))["task_dial_times"][0]["id"] == 4220
        assert synthetic_accounts(0, 1, 0)[0].user_id == "aa939b8e-3687-592a-40f4-cfafeb38b419"

    def test_accounts_are_main_ones_first_and_a_larger_set_begins_like_a_smaller_one(self) -> None:
        few, many = synthetic_accounts(1, 2, 1), synthetic_accounts(1, 5, 2)
        assert [account.sub_user_id is None for account in few] == [True, True, False, False]
        assert many[:2] == few[:2]
        assert set(few) < set(many)
        assert len(set(many)) == 5 + 10
        box = Sandbox(accounts=5, sub_accounts=2, seed=1)
        assert box.accounts == many
        assert box.users == tuple(account.user_id for account in many[:5])
        assert box.token == Sandbox(seed=1).token != Sandbox(seed=2).token
        assert box.token == synthetic_token(1)
        assert Sandbox(token="t").token == "t"

    def test_only_residue_moves_and_stays_within_the_line(self) -> None:
        account = Account("u")
        first, moved = synthetic_task_init(0, account), False
        for tick in range(100):
            data = synthetic_task_init(0, account, tick=tick)
            for line in data["caller_line_list"] + data["call_in_line_list"]:
                assert 0 <= line["residue"] <= line["line_concurrency"]
            moved |= data != first
            for section in ("caller_line_list", "call_in_line_list"):
                for line, original in zip(data[section], first[section], strict=True):
                    line["residue"] = original["residue"]
            assert data == first
        assert moved

    def test_lines_are_sometimes_full_and_sometimes_free(self) -> None:
        seen: set[float] = set()
        for tick in range(100):
            for line in synthetic_task_init(0, Account("u"), tick=tick)["caller_line_list"]:
                seen.add(line["residue"] / line["line_concurrency"])
        assert {0.0, 1.0} < seen

    def test_a_body_of_half_a_megabyte(self) -> None:
        data = synthetic_task_init(0, Account("u"), lines=800, groups=200)
        assert [
            len(data[key]) for key in ("caller_line_list", "outbound_group", "outbound_group_v2")
        ] == [
            800,
            200,
            200,
        ]
        assert 450_000 < len(msgspec.json.encode(data)) < 700_000

    def test_a_template_gives_what_encoding_gives(self) -> None:
        for account in synthetic_accounts(0, 2, 1):
            template = AnswerTemplate(0, account, envelope)
            for tick in (0, 1, 50, -3):
                data = synthetic_task_init(0, account, tick=tick)
                assert template.render(tick) == msgspec.json.encode(envelope(data))


class TestClock:
    async def test_residue_stands_still_with_the_clock_and_moves_with_it(
        self, http: Driver, clock: FakeClock
    ) -> None:
        first = (await http.get()).body
        clock.advance(0.999)
        assert (await http.get()).body == first
        clock.advance(0.001)
        assert (await http.get()).body != first

    async def test_the_period_is_a_setting(self, clock: FakeClock) -> None:
        box = Sandbox(clock=clock, period=60)
        first = box.body_for(box.users[0])
        clock.advance(19)
        assert box.body_for(box.users[0]) == first
        clock.advance(1)
        assert box.body_for(box.users[0]) != first

    def test_it_moves_forward_only_and_only_when_told(self) -> None:
        clock = FakeClock()
        assert clock() == clock() == 0.0
        assert clock.advance(2.5) == clock() == 2.5
        assert clock.advance(0) == 2.5
        for nonsense in (-0.1, float("nan"), float("inf")):
            with pytest.raises(ValueError, match="forward"):
                clock.advance(nonsense)
        assert repr(clock) == "FakeClock(2.5)"


class TestRunning:
    async def test_it_listens_on_loopback_only_while_it_runs(self, clock: FakeClock) -> None:
        box = Sandbox(clock=clock)
        await box.start()
        assert box.base_url.startswith("http://127.0.0.1:")
        port = int(box.base_url.rpartition(":")[2])
        await box.close()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)

    async def test_it_restarts_on_the_same_port_with_its_record(self, http: Driver) -> None:
        url = http.box.base_url
        await http.get()
        await http.box.close()
        with pytest.raises(aiohttp.ClientConnectorError):
            await http.get()
        await http.box.start()
        assert http.box.base_url == url
        assert (await http.get()).status == 200
        assert len(http.box.calls) == 2

    async def test_starting_twice_is_an_error_and_closing_twice_is_not(self, box: Sandbox) -> None:
        with pytest.raises(RuntimeError, match="running already"):
            await box.start()
        await box.close()
        await box.close()
        await Sandbox().close()

    async def test_a_taken_port_is_an_error_after_which_it_can_start_elsewhere(
        self, box: Sandbox
    ) -> None:
        other = Sandbox(port=int(box.base_url.rpartition(":")[2]))
        with pytest.raises(OSError, match="address already in use"):
            await other.start()
        await box.close()
        await other.start()
        await other.close()

    async def test_it_can_listen_on_ipv6(self) -> None:
        with socket.socket(socket.AF_INET6) as probe:
            try:
                probe.bind(("::1", 0))
            except OSError:
                pytest.skip("no IPv6 loopback")
        async with Sandbox(host="::1") as box, aiohttp.ClientSession() as session:
            assert box.base_url.startswith("http://[::1]:")
            assert (await Driver(box, session).get()).status == 200

    @pytest.mark.parametrize(
        "step",
        [hold(asyncio.Event()), delay(3600), drip(3600, 10), hold(asyncio.Event()) + disconnect()],
        ids=str,
    )
    async def test_closing_breaks_requests_that_are_held(self, http: Driver, step: Step) -> None:
        http.box.always(step)
        asking = [asyncio.create_task(http.get()) for _ in range(3)]
        await http.box.wait_for_calls(3)
        async with asyncio.timeout(5):
            await http.box.close()
        for result in await asyncio.gather(*asking, return_exceptions=True):
            assert isinstance(result, aiohttp.ClientError)
        assert [call.status for call in http.box.calls] == [None] * 3
        assert http.box.concurrency == 0

    async def test_closing_does_not_wait_for_a_client_that_does_not_read(
        self, box: Sandbox
    ) -> None:
        box.script(None, respond(200, b"x" * 20_000_000))
        host, port = box.base_url.removeprefix("http://").split(":")
        target = path_of(box.users[0])
        with socket.create_connection((host, int(port))) as client:
            request = (
                f"GET {target} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {box.token}\r\n\r\n"
            )
            client.settimeout(5)
            client.sendall(request.encode())
            await box.wait_for_calls(1)
            async with asyncio.timeout(5):
                await box.close()
            received = 0
            with contextlib.suppress(ConnectionResetError):
                while chunk := client.recv(1 << 20):
                    received += len(chunk)
            assert received < 20_000_000

    @pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts descriptors by /proc")
    async def test_no_descriptor_is_left(self, clock: FakeClock) -> None:
        async def go_round() -> int:
            async with aiohttp.ClientSession() as session:
                async with Sandbox(clock=clock) as box:
                    driver = Driver(box, session)
                    box.script(None, answer(), disconnect(), truncate(5), hold(asyncio.Event()))
                    asking = [asyncio.create_task(driver.get()) for _ in range(4)]
                    await box.wait_for_calls(4)
                await asyncio.gather(*asking, return_exceptions=True)
            for _ in range(5):  # uvloop closes in its next rounds
                await asyncio.sleep(0)
            return open_descriptors()

        assert await go_round() == await go_round()  # uvloop opens one of its own in the first

    async def test_a_crowd_is_answered(self, http: Driver) -> None:
        async def ask(number: int) -> None:
            account = http.box.accounts[number % 9]
            owner = (await http.get(account)).data["task_dial_times"][0]["user_id"]
            assert owner == (account.sub_user_id or account.user_id)

        await asyncio.gather(*(ask(number) for number in range(300)))
        assert len(http.box.calls) == 300
        assert {call.status for call in http.box.calls} == {200}
        assert http.box.concurrency_peak <= 100

    async def test_it_needs_only_what_the_client_needs(self) -> None:
        code = (
            "import sys, wolf_async.testing;"
            "others = {'pytest', 'click', 'rich', 'hypothesis', 'aioresponses'};"
            "print(others & set(sys.modules) or 'none')"
        )
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            code,
            stdout=asyncio.subprocess.PIPE,
            cwd=Path(__file__).parents[1],
        )
        out, _ = await process.communicate()
        assert out.strip() == b"none"
