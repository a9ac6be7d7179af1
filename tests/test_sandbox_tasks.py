"""The sandbox's endpoint for creating a task, over real HTTP by plain aiohttp."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import aiohttp
import pytest

from wolf_async import Account
from wolf_async.testing import (
    FakeClock,
    Sandbox,
    disconnect,
    error,
    hold,
    respond,
    serve,
    truncate,
)

FORMAT = "%Y-%m-%d %H:%M:%S"


class Answer:
    def __init__(self, status: int, body: bytes) -> None:
        self.status = status
        self.json: Any = json.loads(body) if body else None


class Driver:
    """What a client does, and no more."""

    def __init__(self, box: Sandbox, session: aiohttp.ClientSession) -> None:
        self.box = box
        self.session = session
        self.user = box.users[0]

    async def post(self, body: object, *, user: str | None = None, token: str = "") -> Answer:
        url = f"{self.box.base_url}/agent-api/new/user/{user or self.user}/task"
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {token or self.box.token}"}
        async with self.session.post(url, data=raw, headers=headers) as response:
            return Answer(response.status, await response.read())

    async def data(self, account: Account | None = None) -> Any:
        user, sub = account or Account(self.user)
        url = f"{self.box.base_url}/agent-api/new/user/{user}/task/create"
        headers = {"Authorization": f"Bearer {self.box.token}"}
        query = {"sub_user_id": sub} if sub else {}
        async with self.session.get(url, headers=headers, params=query) as response:
            return (await response.json())["data"]

    async def residues(self) -> dict[str, int]:
        lines = (await self.data())["caller_line_list"]
        return {line["line_id"]: line["residue"] for line in lines}


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(1000.0)


@pytest.fixture
async def http(clock: FakeClock) -> AsyncIterator[Driver]:
    async with (
        Sandbox(accounts=2, sub_accounts=1, clock=clock, period=1e9) as box,
        aiohttp.ClientSession() as session,
    ):
        box.set_data(box.users[0], two_lines(box))
        yield Driver(box, session)


def two_lines(box: Sandbox) -> Any:
    data = box.data_for(box.users[0])
    for line, line_id, residue in zip(data["caller_line_list"], "ab", (5, 3), strict=False):
        line.update(line_id=line_id, residue=residue)
    return data | {"caller_line_list": data["caller_line_list"][:2]}


def good_body(box: Sandbox, limits: dict[str, int] | None = None, **changes: Any) -> dict[str, Any]:
    data = box.data_for(box.users[0])
    lines = {"a": 2} if limits is None else limits
    return {
        "name": "回访",
        "destination_extension": int(data["outbound_group_v2"][0]["id"]),
        "dial_time_id": data["task_dial_times"][0]["id"],
        "maximumcall": sum(lines.values()),
        "task_extras": {
            "start_time": box.now.strftime(FORMAT),
            "stop_time": (box.now + timedelta(hours=1)).strftime(FORMAT),
            "line": [{"id": line_id, "limit": limit} for line_id, limit in lines.items()],
            "holiday": [],
        },
    } | changes


def extras(box: Sandbox, **changes: Any) -> dict[str, Any]:
    body = good_body(box)
    return body | {"task_extras": body["task_extras"] | changes}


async def test_a_task_gets_an_id_and_is_kept_with_what_was_sent(http: Driver) -> None:
    sent = good_body(http.box)
    got = await http.post(sent)
    assert got.status == 200
    [task] = http.box.tasks
    assert got.json["data"] == {"uuid": task.uuid, "name": "回访"}
    assert (got.json["code"], got.json["status"]) == (200, "success")
    assert (task.account, task.body, task.limits) == (Account(http.user), sent, {"a": 2})
    assert task.name == "回访"
    assert task.created_at == http.box.now
    [call] = http.box.calls
    assert (call.method, call.status, json.loads(call.body)) == ("POST", 200, sent)
    second = await http.post(sent)
    assert second.json["data"]["uuid"] != task.uuid


async def test_its_limits_are_taken_off_the_lines_until_it_stops(
    http: Driver, clock: FakeClock
) -> None:
    await http.post(good_body(http.box, {"a": 2, "b": 1}))
    assert await http.residues() == {"a": 3, "b": 2}
    await http.post(good_body(http.box, {"a": 3}))
    assert await http.residues() == {"a": 0, "b": 2}
    clock.advance(3599)
    assert await http.residues() == {"a": 0, "b": 2}
    clock.advance(2)
    assert await http.residues() == {"a": 5, "b": 3}


async def test_accounts_that_share_a_line_share_its_room(http: Driver) -> None:
    sub = next(account for account in http.box.accounts if account.sub_user_id)
    http.box.set_data(sub, two_lines(http.box))
    sent = good_body(http.box, {"a": 4}) | {"sub_user_id": sub.sub_user_id}
    assert (await http.post(sent, user=sub.user_id)).status == 200
    assert http.box.tasks[0].account == http.box.calls[0].account == sub
    assert await http.residues() == {"a": 1, "b": 3}
    assert (await http.data(sub))["caller_line_list"][0]["residue"] == 1


async def test_what_is_free_of_a_synthetic_account_goes_down_too(http: Driver) -> None:
    user = http.box.users[1]
    data = http.box.data_for(user)
    line = max(data["caller_line_list"], key=lambda line: line["residue"])
    body = good_body(http.box, {line["line_id"]: line["residue"]}) | {
        "destination_extension": data["outbound_group"][0]["id"],
        "dial_time_id": data["task_dial_times"][0]["id"],
    }
    assert (await http.post(body, user=user)).status == 200
    after = {
        each["line_id"]: each["residue"] for each in http.box.data_for(user)["caller_line_list"]
    }
    assert after.pop(line["line_id"]) == 0
    assert all(
        each["residue"] == after.get(each["line_id"], 0) or each is line
        for each in data["caller_line_list"]
    )


BAD: list[tuple[Any, str]] = [
    ({"name": ""}, "name"),
    ({"name": 5}, "name"),
    ({"name": None}, "name"),
    ({"destination_extension": "141116018687787008"}, "destination_extension"),
    ({"destination_extension": 1}, "destination_extension"),
    ({"dial_time_id": 1}, "dial_time_id"),
    ({"dial_time_id": None}, "dial_time_id"),
    ({"maximumcall": 0}, "maximumcall"),
    ({"maximumcall": 3}, "maximumcall"),
    ({"maximumcall": True}, "maximumcall"),
    ({"bridge_group_id": 999_999}, "bridge_group_id"),
    ({"auto_recycle_rule_id": 999_999}, "auto_recycle_rule_id"),
    ({"background_id": 999_999}, "background_id"),
    ({"llm_intention_id": 999_999}, "llm_intention_id"),
    ({"end_action": 7}, "end_action"),
    ({"is_call_in": 2}, "is_call_in"),
    ({"task_extras": None}, "task_extras"),
    ({"task_extras": []}, "task_extras"),
]


@pytest.mark.parametrize(("changes", "field"), BAD)
async def test_a_bad_field_is_refused_by_its_name(http: Driver, changes: Any, field: str) -> None:
    got = await http.post(good_body(http.box, **changes))
    assert (got.status, got.json["code"], got.json["status"]) == (422, 422, "error")
    assert got.json["data"] == []
    message, *_ = got.json["message"][field]
    assert message.startswith(field)
    assert set(got.json["message"]) == {field}
    assert http.box.tasks == []


BAD_EXTRAS: list[tuple[Any, str]] = [
    ({"start_time": None}, "task_extras.start_time"),
    ({"stop_time": "2025-01-01"}, "task_extras.stop_time"),
    ({"stop_time": "2025-01-01 00:00:00"}, "task_extras.stop_time"),
    ({"line": None}, "task_extras.line"),
    ({"line": "a"}, "task_extras.line"),
    ({"line": [{"id": "x", "limit": 2}]}, "task_extras.line.0.id"),
    ({"line": [{"id": "a", "limit": 6}]}, "task_extras.line.0.limit"),
    ({"line": [{"id": "a", "limit": "2"}]}, "task_extras.line.0.limit"),
    ({"line": [{"id": "a", "limit": 2}, 5]}, "task_extras.line.1"),
    ({"line": [{"id": "a", "limit": 2}, {"id": "a", "limit": 2}]}, "task_extras.line.1.id"),
    ({"line": [{"id": "a", "limit": 2}] * 6}, "task_extras.line"),
    ({"holiday": [5]}, "task_extras.holiday.0"),
    ({"holiday": [{"begin": "2025-01-01 00:00"}]}, "task_extras.holiday.0"),
]


@pytest.mark.parametrize(("changes", "field"), BAD_EXTRAS)
async def test_a_bad_setting_is_refused_by_its_name(http: Driver, changes: Any, field: str) -> None:
    got = await http.post(extras(http.box, **changes))
    assert got.status == 422
    assert field in got.json["message"]
    assert http.box.tasks == []


async def test_limits_above_what_earlier_tasks_left_are_refused(http: Driver) -> None:
    await http.post(good_body(http.box, {"a": 4}))
    got = await http.post(good_body(http.box, {"a": 2}))
    assert got.json["message"] == {
        "task_extras.line.0.limit": ["task_extras.line.0.limit 并发数异常, 剩余1"]
    }
    assert (await http.post(good_body(http.box, {"a": 1}))).status == 200


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff"])
async def test_a_body_that_is_no_object_lacks_every_required_field(
    http: Driver, body: bytes
) -> None:
    got = await http.post(body)
    assert got.status == 422
    assert {"name", "destination_extension", "dial_time_id", "maximumcall", "task_extras"} == set(
        got.json["message"]
    )


async def test_older_bodies_are_taken_too(http: Driver) -> None:
    body = extras(
        http.box,
        line=["a", "b"],
        holiday=[{"start": "2025-01-01 00:00", "end": "2025-01-01 12:00"}],
    )
    assert (await http.post(body | {"maximumcall": 7})).status == 200
    assert http.box.tasks[0].limits == {"a": 5, "b": 2}
    got = await http.post(body | {"maximumcall": 2})
    assert got.json["message"] == {"maximumcall": ["maximumcall 并发数异常"]}


async def test_an_inbound_task_needs_no_line_and_an_outbound_one_does(http: Driver) -> None:
    nothing = extras(http.box, line=[])
    assert (await http.post(nothing)).status == 422
    assert (await http.post(nothing | {"is_call_in": 1, "maximumcall": 4})).status == 200


async def test_who_may_not_is_refused_before_anything_is_looked_at(http: Driver) -> None:
    assert (await http.post({}, token="wrong")).status == 401
    assert (await http.post({}, user="nobody")).status == 404
    assert (await http.post({"sub_user_id": "nobody"})).json["code"] == 6007
    async with http.session.get(f"{http.box.base_url}/agent-api/new/user/x/task") as response:
        assert response.status == 404
    assert http.box.tasks == []


async def test_a_fault_strikes_before_the_task_is_made(http: Driver) -> None:
    for step in (disconnect(), respond(503), error(6007)):
        http.box.script(http.user, step)
        if step == disconnect():
            with pytest.raises(aiohttp.ClientError):
                await http.post(good_body(http.box))
        else:
            await http.post(good_body(http.box))
    assert http.box.tasks == []


async def test_a_fault_after_serving_strikes_when_the_task_is_made(http: Driver) -> None:
    http.box.script(http.user, serve() + disconnect())
    with pytest.raises(aiohttp.ClientError):
        await http.post(good_body(http.box))
    assert len(http.box.tasks) == 1
    http.box.script(http.user, serve() + respond(502))
    assert (await http.post(good_body(http.box))).status == 502
    assert len(http.box.tasks) == 2
    http.box.script(http.user, truncate(5))  # it cuts the answer, which comes after the task
    with pytest.raises(aiohttp.ClientError):
        await http.post(good_body(http.box, {"a": 1}))
    assert len(http.box.tasks) == 3


async def test_what_is_served_first_is_not_served_again(http: Driver) -> None:
    gate = asyncio.Event()
    http.box.script(http.user, serve() + hold(gate))
    waiting = asyncio.create_task(http.post(good_body(http.box)))
    await http.box.wait_for_calls(1)
    assert len(http.box.tasks) == 1
    gate.set()
    assert (await waiting).json["data"]["uuid"] == http.box.tasks[0].uuid
    assert len(http.box.tasks) == 1
    http.box.script(http.user, serve())
    assert set(await http.residues()) == {"a", "b"}


async def test_the_wall_clock_moves_with_the_clock(clock: FakeClock) -> None:
    box = Sandbox(clock=clock)
    before = box.now
    assert before.tzinfo is None
    assert isinstance(before, datetime)
    clock.advance(90)
    assert box.now - before == timedelta(seconds=90)
