"""Tasks that are created once, in turn, and never beyond what is free."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import msgspec
import pytest

from wolf_async import (
    Account,
    BreakerPolicy,
    CreatedTask,
    RetryPolicy,
    TaskDraft,
    TaskInit,
    Timeouts,
    WolfAPIError,
    WolfAuthError,
    WolfCircuitOpenError,
    WolfClient,
    WolfClosedError,
    WolfConfigError,
    WolfConnectionError,
    WolfDecodeError,
    WolfDraftError,
    WolfEndpointError,
    WolfError,
    WolfNotFoundError,
    WolfPermissionError,
    WolfRateLimitError,
    WolfServerError,
    WolfTimeoutError,
    WolfUncertainError,
)
from wolf_async.answer import CachedAnswer
from wolf_async.cache.inflight import Served
from wolf_async.create import TaskCreator
from wolf_async.models import dec_hook
from wolf_async.testing import (
    Call,
    Sandbox,
    Step,
    disconnect,
    empty,
    error,
    gzip_garbage,
    hold,
    html,
    redirect,
    respond,
    serve,
    truncate,
    unauthorized,
)
from wolf_async.turns import LocalTurns, Turn
from wolf_async.upstream.sender import Sender

from . import virtual_time
from .conftest import AT_ONCE, TOKEN, Canary, MakeClient, Serve
from .raw_server import Line, http

Create = Callable[..., Awaitable[CreatedTask]]


def room(box: Sandbox, account: Account | str, **rooms: int) -> None:
    """Give an account lines with so much room, and a time group that is always open."""
    data = box.data_for(account)
    line = data["caller_line_list"][0]
    lines = [
        line | {"line_id": name, "residue": free, "available_at": None}
        for name, free in rooms.items()
    ]
    always = [
        {"week": day, "times": [{"begin_time": "00:00", "end_time": "24:00"}]} for day in range(7)
    ]
    group = data["task_dial_times"][0] | {"content": always}
    box.set_data(account, data | {"caller_line_list": lines, "task_dial_times": [group]})


@pytest.fixture
async def box() -> AsyncIterator[Sandbox]:
    async with Sandbox(accounts=3, sub_accounts=1, token=TOKEN, period=1e9) as sandbox:
        for account in sandbox.accounts:
            number = sandbox.users.index(account.user_id) or ""
            room(sandbox, account, **{f"a{number}": 5, f"b{number}": 3})
        yield sandbox


def user_of(box: Sandbox, number: int = 0) -> str:
    return box.users[number]


def sub_of(box: Sandbox, number: int = 0) -> Account:
    user = user_of(box, number)
    return next(a for a in box.accounts if a.user_id == user and a.sub_user_id)


def make_draft(init: TaskInit, calls: int = 1, **changes: Any) -> TaskDraft:
    now = datetime.now(UTC)
    given: dict[str, Any] = {
        "name": "回访",
        "script": init.outbound_group_v2[0],
        "calls": calls,
        "start": datetime(now.year, 1, 1),
        "stop": datetime(now.year + 2, 1, 1),
    }
    return init.draft(**given | changes)


async def draft_for(wolf: WolfClient, user: str, calls: int = 1, **changes: Any) -> TaskDraft:
    """Make a draft from an earlier answer, which is asked for here and leaves no other trace."""
    return make_draft(await wolf.task_init(user), calls, **changes)


def posts(box: Sandbox) -> list[Call]:
    return [call for call in box.calls if call.method == "POST"]


def methods(box: Sandbox) -> list[str]:
    return [call.method for call in box.calls]


# What is sent, and what comes back


async def test_a_task_is_created_from_its_draft(box: Sandbox, client: MakeClient) -> None:
    wolf = client(box.base_url)
    draft = await draft_for(wolf, user_of(box), 2, remark="x", extra={"is_group_switch": 2})
    created = await wolf.create_task(user_of(box), draft=draft)
    [task] = box.tasks
    assert task.account == Account(user_of(box))
    assert task.body == draft.body()
    assert task.limits == {"a": 2}
    assert created.uuid == task.uuid
    assert created.data == {"uuid": task.uuid, "name": "回访"}
    assert json.loads(created.response.body)["data"] == created.data
    with pytest.raises(TypeError, match="read-only"):
        created.data["uuid"] = "x"
    with pytest.raises(AttributeError):
        created.data = None  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


async def test_a_sub_account_is_named_in_the_body(box: Sandbox, client: MakeClient) -> None:
    wolf, sub = client(box.base_url), sub_of(box)
    draft = make_draft(await wolf.task_init(*sub))
    await wolf.create_task(*sub, draft=draft)
    assert box.tasks[0].account == sub
    assert box.tasks[0].body == draft.body() | {"sub_user_id": sub.sub_user_id}


@pytest.mark.parametrize(
    ("data", "uuid"),
    [
        ({"uuid": "u-1"}, "u-1"),
        ({"id": 5}, None),
        ({"uuid": 5}, None),
        ([], None),
        (None, None),
        ("x", None),
    ],
)
async def test_an_answer_of_any_shape_is_kept_as_it_came(
    box: Sandbox, client: MakeClient, data: Any, uuid: str | None
) -> None:
    wolf = client(box.base_url)
    draft = await draft_for(wolf, user_of(box))
    success = {"code": 200, "status": "success", "message": "ok", "data": data}
    box.script(None, respond(200, success))
    created = await wolf.create_task(user_of(box), draft=draft, check=False)
    assert created.uuid == uuid
    assert created.data == (() if data == [] else data)


async def test_the_held_answer_is_forgotten(box: Sandbox, client: MakeClient) -> None:
    wolf = client(box.base_url)
    draft = await draft_for(wolf, user_of(box), 4)
    await wolf.create_task(user_of(box), draft=draft)
    assert wolf.peek(user_of(box)) is None
    after = await wolf.task_init(user_of(box))
    assert [line.residue for line in after.caller_line_list] == [1, 3]


# Asking and checking


async def test_the_answer_of_before_is_not_trusted(box: Sandbox, client: MakeClient) -> None:
    wolf = client(box.base_url)
    draft = await draft_for(wolf, user_of(box), 2)
    box.reset_calls()
    await wolf.create_task(user_of(box), draft=draft)
    assert methods(box) == ["GET", "POST"]
    room(box, user_of(box), a=1)
    with pytest.raises(WolfDraftError):
        await wolf.create_task(user_of(box), draft=draft)
    assert methods(box) == ["GET", "POST", "GET"]


async def test_a_draft_with_errors_is_not_sent_and_the_error_tells_all(
    box: Sandbox, client: MakeClient
) -> None:
    wolf = client(box.base_url)
    init = await wolf.task_init(user_of(box))
    past: Any = {"start": "2024-01-01 00:00:00", "stop": "2025-01-01 00:00:00"}
    draft = make_draft(init, script=init.outbound_group_v2[1], **past)
    with pytest.raises(WolfDraftError) as caught:
        await wolf.create_task(user_of(box), draft=draft)
    warning, wrong = draft.problems(init)
    assert (warning.severity, wrong.severity) == ("warning", "error")
    assert caught.value.problems == (wrong, warning)
    assert f"{wrong.path}: {wrong.message}" in str(caught.value)
    assert caught.value.account == Account(user_of(box))
    assert posts(box) == []


async def test_a_warning_stops_nothing(box: Sandbox, client: MakeClient) -> None:
    wolf = client(box.base_url)
    init = await wolf.task_init(user_of(box))
    draft = make_draft(init, script=init.outbound_group_v2[1])
    assert {problem.severity for problem in draft.problems(init)} == {"warning"}
    await wolf.create_task(user_of(box), draft=draft)
    assert len(box.tasks) == 1


async def test_without_a_check_nothing_is_asked(box: Sandbox, client: MakeClient) -> None:
    wolf = client(box.base_url)
    draft = await draft_for(wolf, user_of(box), 2)
    box.reset_calls()
    await wolf.create_task(user_of(box), draft=draft, check=False)
    assert methods(box) == ["POST"]
    room(box, user_of(box), a=1)
    with pytest.raises(WolfAPIError) as caught:
        await wolf.create_task(user_of(box), draft=draft, check=False)
    assert caught.value.code == 422


async def test_if_nobody_answers_what_is_free_nothing_is_sent(
    box: Sandbox, client: MakeClient
) -> None:
    wolf = client(box.base_url)
    draft = await draft_for(wolf, user_of(box))
    box.always(respond(503))
    with pytest.raises(WolfServerError):
        await wolf.create_task(user_of(box), draft=draft)
    assert posts(box) == []


BAD_ARGUMENTS: list[tuple[Any, Any, str]] = [
    (("",), {}, "user_id must not be empty"),
    ((5,), {}, "user_id must be a str"),
    (("u", 5), {}, "sub_user_id must be a str"),
    (("u",), {"draft": None}, "draft must be a TaskDraft, not None"),
    (("u",), {"draft": {"name": "x"}}, "draft must be a TaskDraft"),
    (("u",), {"check": None}, "check must be of type bool"),
]


@pytest.mark.parametrize(("ids", "changes", "message"), BAD_ARGUMENTS)
async def test_arguments_that_make_no_sense_are_refused(
    box: Sandbox, client: MakeClient, ids: Any, changes: Any, message: str
) -> None:
    wolf = client(box.base_url)
    draft = await draft_for(wolf, user_of(box))
    box.reset_calls()
    with pytest.raises(WolfConfigError, match=message):
        await wolf.create_task(*ids, **{"draft": draft, **changes})
    assert box.calls == []


# A no is a no, and everything else is not known

NO: list[tuple[Step, type[WolfError]]] = [
    (respond(403, {"message": "no"}), WolfPermissionError),
    (respond(404, {"message": "no"}), WolfNotFoundError),
    (
        respond(422, {"code": 422, "status": "error", "message": {"name": ["x"]}, "data": []}),
        WolfAPIError,
    ),
    (error(6007), WolfAPIError),
    (error(403, status=500), WolfPermissionError),
    (redirect("/elsewhere"), WolfAPIError),
    (html(404), WolfEndpointError),
    (html(405), WolfEndpointError),
]


@pytest.mark.parametrize(("step", "kind"), NO, ids=str)
async def test_a_plain_no_is_that_error_and_nothing_was_created(
    box: Sandbox, client: MakeClient, step: Step, kind: type[WolfError]
) -> None:
    wolf = client(box.base_url)
    draft = await draft_for(wolf, user_of(box))
    box.reset_calls()
    box.script(None, step)
    with pytest.raises(kind) as caught:
        await wolf.create_task(user_of(box), draft=draft, check=False)
    assert type(caught.value) is kind
    assert caught.value.account == Account(user_of(box))
    assert len(box.calls) == 1
    assert box.tasks == []


OPEN: list[tuple[Step, type[WolfError]]] = [
    (disconnect(), WolfConnectionError),
    (disconnect(reset=True), WolfConnectionError),
    (serve() + disconnect(), WolfConnectionError),
    (truncate(5), WolfConnectionError),
    (truncate(0), WolfConnectionError),
    (respond(408, {"message": "late"}), WolfAPIError),
    (serve() + respond(500, {"message": "broken"}), WolfServerError),
    (respond(502), WolfServerError),
    (html(503), WolfServerError),
    (respond(504), WolfServerError),
    (error(500), WolfServerError),
    (error(503, status=404), WolfServerError),
    (error(408), WolfAPIError),
    (serve() + html(200), WolfDecodeError),
    (serve() + empty(200), WolfDecodeError),
    (serve() + empty(204), WolfDecodeError),
    (respond(201, {"uuid": "no envelope"}), WolfDecodeError),
    (respond(200, b'{"code":200,"status":"success","data":'), WolfDecodeError),
    (gzip_garbage(), WolfDecodeError),
]


@pytest.mark.parametrize(("step", "kind"), OPEN, ids=str)
async def test_an_end_that_tells_nothing_is_uncertain_and_never_repeated(
    box: Sandbox, client: MakeClient, step: Step, kind: type[WolfError]
) -> None:
    wolf = client(box.base_url)
    draft = await draft_for(wolf, user_of(box))
    box.reset_calls()
    box.script(None, step)
    with pytest.raises(WolfUncertainError) as caught:
        await wolf.create_task(user_of(box), draft=draft, check=False)
    assert caught.value.account == Account(user_of(box))
    assert caught.value.draft_name == "回访"
    assert "'回访' may or may not have been created" in str(caught.value)
    assert isinstance(caught.value.__cause__, kind)
    assert caught.value.attempts == 1
    assert len(box.calls) == 1
    assert wolf.peek(user_of(box)) is None


@pytest.mark.parametrize("depth", [300, 700, 950, 5000])
async def test_an_answer_of_any_depth_is_kept_or_uncertain(
    box: Sandbox, client: MakeClient, depth: int
) -> None:
    wolf = client(box.base_url)
    draft = await draft_for(wolf, user_of(box))
    data = b'{"a":' * depth + b"1" + b"}" * depth
    box.script(None, respond(200, b'{"code":200,"status":"success","data":' + data + b"}"))
    with contextlib.suppress(WolfUncertainError):
        created = await wolf.create_task(user_of(box), draft=draft, check=False)
        assert created.data.keys() == {"a"}
    assert wolf.peek(user_of(box)) is None


def test_a_request_without_an_answer_in_time_is_uncertain() -> None:
    async def main() -> None:
        async with Sandbox(accounts=1, token=TOKEN) as box:
            room(box, user_of(box), a=5)
            timeouts = Timeouts(attempt=3.0, total=10.0)
            async with WolfClient(TOKEN, base_url=box.base_url, timeouts=timeouts) as wolf:
                draft = await draft_for(wolf, user_of(box))
                box.script(None, hold(asyncio.Event()))
                began = asyncio.get_running_loop().time()
                with pytest.raises(WolfUncertainError) as caught:
                    await wolf.create_task(user_of(box), draft=draft, check=False)
                assert isinstance(caught.value.__cause__, WolfTimeoutError)
                assert asyncio.get_running_loop().time() - began == pytest.approx(3.0)
                assert len(posts(box)) == 1

    virtual_time.run(main())


async def test_an_answer_that_is_too_large_is_uncertain(box: Sandbox, client: MakeClient) -> None:
    draft = await draft_for(client(box.base_url), user_of(box))
    wolf = client(box.base_url, max_body=1000)
    box.script(None, serve() + respond(200, b"x" * 1001))
    with pytest.raises(WolfUncertainError):
        await wolf.create_task(user_of(box), draft=draft, check=False)
    assert len(box.tasks) == 1


# What is sent again


async def test_a_token_that_expired_is_renewed_and_the_task_created_once(
    box: Sandbox, client: MakeClient
) -> None:
    tokens = [TOKEN]

    async def provider() -> str:
        return tokens[-1]

    wolf = client(box.base_url, token=provider)
    draft = await draft_for(wolf, user_of(box))
    tokens.append(box.expire_token(TOKEN + "2"))
    box.reset_calls()
    await wolf.create_task(user_of(box), draft=draft, check=False)
    assert [call.status for call in posts(box)] == [401, 200]
    assert len(box.tasks) == 1


async def test_a_fixed_token_that_expired_is_a_plain_no(box: Sandbox, client: MakeClient) -> None:
    wolf = client(box.base_url)
    draft = await draft_for(wolf, user_of(box))
    box.expire_token(TOKEN + "2")
    with pytest.raises(WolfAuthError):
        await wolf.create_task(user_of(box), draft=draft, check=False)
    assert len(posts(box)) == 1


def test_a_429_is_waited_for() -> None:
    async def main() -> None:
        async with Sandbox(accounts=1, token=TOKEN) as box:
            room(box, user_of(box), a=5)
            async with WolfClient(TOKEN, base_url=box.base_url) as wolf:
                draft = await draft_for(wolf, user_of(box))
                box.script(None, respond(429, {"message": "slow"}, {"Retry-After": "2"}))
                began = asyncio.get_running_loop().time()
                await wolf.create_task(user_of(box), draft=draft, check=False)
                assert asyncio.get_running_loop().time() - began >= 2
                assert [call.status for call in posts(box)] == [429, 200]
                assert len(box.tasks) == 1

    virtual_time.run(main())


async def test_a_429_that_lasts_too_long_is_a_plain_no(box: Sandbox, client: MakeClient) -> None:
    wolf = client(box.base_url)
    draft = await draft_for(wolf, user_of(box))
    box.script(None, respond(429, {"message": "slow"}, {"Retry-After": "9999"}))
    with pytest.raises(WolfRateLimitError):
        await wolf.create_task(user_of(box), draft=draft, check=False)
    assert len(posts(box)) == 1


async def test_a_connection_that_cannot_be_opened_is_tried_again(
    box: Sandbox, client: MakeClient
) -> None:
    wolf = client(box.base_url)
    draft = await draft_for(wolf, user_of(box))
    await box.close()
    with pytest.raises(WolfConnectionError) as caught:
        await wolf.create_task(user_of(box), draft=draft, check=False)
    assert caught.value.attempts == AT_ONCE.attempts
    assert posts(box) == []


async def test_while_the_breaker_is_open_nothing_is_sent(box: Sandbox, client: MakeClient) -> None:
    wolf = client(
        box.base_url, retry=RetryPolicy(attempts=1), breaker=BreakerPolicy(failures=1, pause=30)
    )
    draft = await draft_for(wolf, user_of(box))
    box.script(user_of(box, 1), respond(503))
    with pytest.raises(WolfServerError):
        await wolf.task_init(user_of(box, 1))
    with pytest.raises(WolfCircuitOpenError):
        await wolf.create_task(user_of(box), draft=draft, check=False)
    assert posts(box) == []


# A connection of its own


async def each_request_on_its_own(line: Line, seen: list[list[bytes]]) -> None:
    heads: list[bytes] = []
    seen.append(heads)
    while True:
        head = await line.request()
        heads.append(head.split(b" ", 1)[0])
        body = {"code": 200, "status": "success", "message": "", "data": {"uuid": "u"}}
        if head.startswith(b"GET"):
            await line.send(http(ANSWERS.body_for(ANSWERS.users[0])))
        else:
            await line.send(http(json.dumps(body).encode()))


ANSWERS = Sandbox(accounts=1)
room(ANSWERS, ANSWERS.users[0], a=50)


@pytest.mark.parametrize("handed_in", [False, True])
async def test_each_creation_has_a_connection_of_its_own(
    serve: Serve, client: MakeClient, handed_in: bool
) -> None:
    seen: list[list[bytes]] = []
    server = await serve(lambda line: each_request_on_its_own(line, seen))
    async with aiohttp.ClientSession() as session:
        wolf = client(server.base_url, session=session if handed_in else None)
        draft = await draft_for(wolf, "u")
        for _ in range(3):
            await wolf.create_task("u", draft=draft)
        await wolf.task_init("u")
        assert [heads for heads in seen if b"POST" in heads] == [[b"POST"]] * 3
        assert len(seen) == 4
        assert not session.closed


async def test_settings_of_a_session_that_was_handed_in_hold_for_creations(
    box: Sandbox, client: MakeClient
) -> None:
    passed: list[str] = []

    async def note(request: aiohttp.ClientRequest, handler: Any) -> aiohttp.ClientResponse:
        passed.append(request.method)
        answer: aiohttp.ClientResponse = await handler(request)
        return answer

    async with aiohttp.ClientSession(headers={"X-Mine": "1"}, middlewares=(note,)) as session:
        wolf = client(box.base_url, session=session)
        draft = await draft_for(wolf, user_of(box))
        await wolf.create_task(user_of(box), draft=draft)
        assert passed == ["GET", "GET", "POST"]
        assert posts(box)[0].headers["x-mine"] == "1"


async def test_a_session_that_its_owner_closed_creates_nothing(
    box: Sandbox, client: MakeClient
) -> None:
    async with aiohttp.ClientSession() as session:
        wolf = client(box.base_url, session=session)
        draft = await draft_for(wolf, user_of(box))
    with pytest.raises(WolfClosedError, match="the session is closed"):
        await wolf.create_task(user_of(box), draft=draft, check=False)
    assert posts(box) == []


async def test_what_would_send_it_twice_is_stopped(box: Sandbox, client: MakeClient) -> None:
    async def eager(request: aiohttp.ClientRequest, handler: Any) -> aiohttp.ClientResponse:
        answer: aiohttp.ClientResponse = await handler(request)
        return answer if request.method == "GET" else await handler(request)

    async with aiohttp.ClientSession(middlewares=(eager,)) as session:
        wolf = client(box.base_url, session=session)
        draft = await draft_for(wolf, user_of(box))
        with pytest.raises(WolfUncertainError, match="twice"):
            await wolf.create_task(user_of(box), draft=draft)
        await box.wait_until_idle()
        assert len(box.tasks) == len(posts(box)) == 1


# One after the other


async def test_creations_for_one_main_account_come_one_after_the_other(
    box: Sandbox, client: MakeClient
) -> None:
    wolf, user, sub = client(box.base_url), user_of(box), sub_of(box)
    first, second = await draft_for(wolf, user), make_draft(await wolf.task_init(*sub))
    gate = asyncio.Event()
    box.reset_calls()
    box.script(user, respond(200, box.body_for(user)), hold(gate))
    one = asyncio.create_task(wolf.create_task(user, draft=first))
    await box.wait_for_calls(2)
    two = asyncio.create_task(wolf.create_task(*sub, draft=second))
    other = await draft_for(wolf, user_of(box, 1))
    await wolf.create_task(user_of(box, 1), draft=other)  # another main account does not wait
    assert box.calls_for(sub) == []
    gate.set()
    await asyncio.gather(one, two)
    kept = [call for call in box.calls if call.account in (Account(user), sub)]
    assert [(call.method, call.account) for call in kept] == [
        ("GET", Account(user)),
        ("POST", Account(user)),
        ("GET", sub),
        ("POST", sub),
    ]


async def test_the_second_sees_what_the_first_has_taken(box: Sandbox, client: MakeClient) -> None:
    wolf, user = client(box.base_url), user_of(box)
    drafts = [await draft_for(wolf, user, calls, lines=["a"]) for calls in (4, 2, 1)]
    results = await asyncio.gather(
        *(wolf.create_task(user, draft=draft) for draft in drafts), return_exceptions=True
    )
    assert [type(result) for result in results] == [CreatedTask, WolfDraftError, CreatedTask]
    assert "at most 1 is expected" in str(results[1])
    assert {call.status for call in posts(box)} == {200}


async def test_a_failure_gives_the_turn_on(box: Sandbox, client: MakeClient) -> None:
    wolf, user = client(box.base_url), user_of(box)
    draft = await draft_for(wolf, user)
    box.script(user, disconnect(), error(6007))
    results = await asyncio.gather(
        *(wolf.create_task(user, draft=draft, check=False) for _ in range(3)),
        return_exceptions=True,
    )
    assert [type(result) for result in results] == [WolfUncertainError, WolfAPIError, CreatedTask]


@pytest.mark.parametrize("seed", range(3))
async def test_twenty_workers_use_all_that_is_free_and_never_more(
    box: Sandbox, client: MakeClient, seed: int
) -> None:
    """A sub-account has the lines of its main account here: eight calls at once for each pair."""
    draw = random.Random(seed)
    wolf = client(box.base_url, timeouts=Timeouts(total=60.0), max_concurrency=2)
    promised = 0

    async def find_room() -> tuple[Account, TaskInit] | None:
        for account in draw.sample(box.accounts, len(box.accounts)):
            init = await wolf.task_init(*account, max_age=draw.choice([None, 0]))
            if any(line.residue for line in init.caller_line_list):
                return account, init
            if any(
                line.residue
                for line in (await wolf.task_init(*account, max_age=0)).caller_line_list
            ):
                return account, await wolf.task_init(*account)
        return None

    async def work() -> None:
        nonlocal promised
        while (found := await find_room()) is not None:
            account, init = found
            try:
                draft = make_draft(init, draw.randint(1, 2))
                await wolf.create_task(*account, draft=draft)
            except WolfDraftError:
                continue
            promised += draft.maximumcall

    async with asyncio.timeout(60):
        await asyncio.gather(*(work() for _ in range(20)))
    assert {call.status for call in posts(box)} == {200}  # a limit above what was free is a 422
    assert promised == sum(sum(task.limits.values()) for task in box.tasks) == 3 * 8


# Leaving


async def begin_held(
    box: Sandbox, wolf: WolfClient, user: str, draft: TaskDraft
) -> tuple[asyncio.Event, asyncio.Task[CreatedTask]]:
    """Have a creation out as the second call; return what lets the server answer, and its task."""
    gate = asyncio.Event()
    box.script(user, hold(gate))
    creating = asyncio.create_task(wolf.create_task(user, draft=draft, check=False))
    await box.wait_for_calls(2)
    return gate, creating


async def test_who_leaves_while_waiting_for_the_turn_sends_nothing(
    box: Sandbox, client: MakeClient
) -> None:
    wolf, user = client(box.base_url), user_of(box)
    draft = await draft_for(wolf, user)
    gate, first = await begin_held(box, wolf, user, draft)
    second = asyncio.create_task(wolf.create_task(user, draft=draft, check=False))
    third = asyncio.create_task(wolf.create_task(user, draft=draft, check=False))
    await asyncio.sleep(0)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    gate.set()
    await asyncio.gather(first, third)
    assert len(posts(box)) == 2


async def test_who_leaves_while_asking_sends_nothing_and_gives_the_turn_on(
    box: Sandbox, client: MakeClient
) -> None:
    wolf, user = client(box.base_url), user_of(box)
    draft = await draft_for(wolf, user)
    box.script(user, hold(asyncio.Event()))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await wolf.create_task(user, draft=draft)
    assert posts(box) == []
    await wolf.create_task(user, draft=draft)
    assert len(box.tasks) == 1


async def test_who_leaves_while_a_connection_is_opened_sends_nothing(
    box: Sandbox, client: MakeClient, serve: Serve, canary: Canary
) -> None:
    """A server that never answers the TLS handshake: no byte of a request can have left."""
    opening = asyncio.Event()

    async def silent(line: Line) -> None:
        opening.set()
        await line.gone()

    server = await serve(silent)
    draft = await draft_for(client(box.base_url), user_of(box))
    wolf = client(server.base_url.replace("http:", "https:"))
    creating = asyncio.create_task(wolf.create_task("u", draft=draft, check=False))
    await opening.wait()
    creating.cancel()
    with pytest.raises(asyncio.CancelledError):
        await creating
    async with asyncio.timeout(5):
        await wolf.aclose()  # it does not wait: nothing is out
    assert canary.messages(logging.WARNING) == []


async def test_who_leaves_while_it_is_out_does_not_cut_it_off(
    box: Sandbox, client: MakeClient, canary: Canary
) -> None:
    wolf, user = client(box.base_url), user_of(box)
    draft = await draft_for(wolf, user)
    gate, creating = await begin_held(box, wolf, user, draft)
    creating.cancel()
    with pytest.raises(asyncio.CancelledError):
        await creating
    second = asyncio.create_task(wolf.create_task(user, draft=draft, check=False))
    await asyncio.sleep(0.02)
    assert len(posts(box)) == 1  # it keeps the turn
    gate.set()
    await second
    assert [call.status for call in posts(box)] == [200, 200]
    [message] = canary.messages(logging.WARNING)
    assert "'回访'" in message
    assert box.tasks[0].uuid in message


async def test_what_becomes_of_one_that_was_left_is_logged(
    box: Sandbox, client: MakeClient, canary: Canary
) -> None:
    wolf, user = client(box.base_url), user_of(box)
    draft = await draft_for(wolf, user)
    gate = asyncio.Event()
    box.script(user, hold(gate) + disconnect())
    creating = asyncio.create_task(wolf.create_task(user, draft=draft, check=False))
    await box.wait_for_calls(2)
    creating.cancel()
    with pytest.raises(asyncio.CancelledError):
        await creating
    gate.set()
    await wolf.create_task(user, draft=draft, check=False)  # in turn, after the one that was left
    [message] = canary.messages(logging.WARNING)
    assert "'回访' may or may not have been created" in message


async def test_one_that_was_left_is_not_sent_again_after_a_refusal(
    box: Sandbox, client: MakeClient, canary: Canary
) -> None:
    wolf, user = client(box.base_url), user_of(box)
    draft = await draft_for(wolf, user)
    gate = asyncio.Event()
    box.script(user, hold(gate) + respond(429, {"message": "slow"}, {"Retry-After": "0"}))
    creating = asyncio.create_task(wolf.create_task(user, draft=draft, check=False))
    await box.wait_for_calls(2)
    creating.cancel()
    with pytest.raises(asyncio.CancelledError):
        await creating
    gate.set()
    await wolf.create_task(user, draft=draft, check=False)  # in turn, after the one that was left
    assert any("'回访'" in message for message in canary.messages(logging.WARNING))
    assert [call.status for call in posts(box)] == [429, 200]
    assert len(box.tasks) == 1


def refusing(box: Sandbox) -> tuple[asyncio.Event, Callable[[], Awaitable[str]]]:
    """Hold the next request at a gate, and then refuse its token with a 401.

    Return the gate, and a provider of the token that is good after that.
    """
    gate, tokens = asyncio.Event(), [TOKEN]
    box.script(None, hold(gate) + unauthorized())

    async def provider() -> str:
        return tokens[0] if not gate.is_set() else TOKEN

    return gate, provider


async def test_one_that_was_left_is_not_sent_again_with_another_token(
    box: Sandbox, client: MakeClient, canary: Canary
) -> None:
    user = user_of(box)
    draft = await draft_for(client(box.base_url), user)
    gate, provider = refusing(box)
    wolf = client(box.base_url, token=provider)
    creating = asyncio.create_task(wolf.create_task(user, draft=draft, check=False))
    await box.wait_for_calls(2)
    creating.cancel()
    with pytest.raises(asyncio.CancelledError):
        await creating
    gate.set()
    await wolf.create_task(user, draft=draft, check=False)
    assert [call.status for call in posts(box)] == [401, 200]
    [message] = canary.messages(logging.WARNING)
    assert "'回访'" in message
    assert "was not created" in message


# Closing


async def test_what_is_refused_while_the_client_is_closed_is_not_sent_again(
    box: Sandbox, client: MakeClient
) -> None:
    user = user_of(box)
    draft = await draft_for(client(box.base_url), user)
    gate, provider = refusing(box)
    wolf = client(box.base_url, token=provider)
    creating = asyncio.create_task(wolf.create_task(user, draft=draft, check=False))
    await box.wait_for_calls(2)
    closing = asyncio.create_task(wolf.aclose())
    await asyncio.sleep(0)
    gate.set()
    with pytest.raises(WolfClosedError):
        await creating
    await closing
    assert [call.status for call in posts(box)] == [401]


def test_a_429_that_comes_while_the_client_is_closed_is_not_waited_for() -> None:
    async def main() -> None:
        async with Sandbox(accounts=1, token=TOKEN) as box:
            room(box, user_of(box), a=5)
            wolf = WolfClient(TOKEN, base_url=box.base_url)
            draft = await draft_for(wolf, user_of(box))
            gate = asyncio.Event()
            box.script(None, hold(gate) + respond(429, {"message": "slow"}, {"Retry-After": "5"}))
            creating = asyncio.create_task(wolf.create_task(user_of(box), draft=draft, check=False))
            await box.wait_for_calls(2)
            closing = asyncio.create_task(wolf.aclose())
            await asyncio.sleep(0)
            began = asyncio.get_running_loop().time()
            gate.set()
            with pytest.raises(WolfRateLimitError):
                await creating
            await closing
            assert asyncio.get_running_loop().time() - began < 1

    virtual_time.run(main())


async def test_after_closing_nothing_is_created(box: Sandbox, client: MakeClient) -> None:
    wolf = client(box.base_url)
    draft = await draft_for(wolf, user_of(box))
    await wolf.aclose()
    for check in (True, False):
        with pytest.raises(WolfClosedError):
            await wolf.create_task(user_of(box), draft=draft, check=check)
    assert posts(box) == []


async def test_while_closing_waits_for_what_is_out_no_other_call_is_taken(
    box: Sandbox, client: MakeClient
) -> None:
    wolf, user = client(box.base_url), user_of(box)
    draft = await draft_for(wolf, user)
    gate, out = await begin_held(box, wolf, user, draft)
    closing = asyncio.create_task(wolf.aclose())
    await asyncio.sleep(0)
    for call in (wolf.task_init(user), wolf.raw_task_init(user)):
        with pytest.raises(WolfClosedError):
            await call
    gate.set()
    assert isinstance(await out, CreatedTask)
    await closing
    assert len(box.calls) == 2


async def test_closing_ends_those_that_wait_and_lets_what_is_out_end(
    box: Sandbox, client: MakeClient
) -> None:
    wolf, user = client(box.base_url), user_of(box)
    draft = await draft_for(wolf, user)
    gate, out = await begin_held(box, wolf, user, draft)
    waiting = asyncio.create_task(wolf.create_task(user, draft=draft, check=False))
    await asyncio.sleep(0)
    closing = asyncio.create_task(wolf.aclose())
    with pytest.raises(WolfClosedError) as caught:
        await waiting
    assert caught.value.account == Account(user)
    assert not out.done()
    assert not closing.done()
    with pytest.raises(WolfClosedError):
        await wolf.create_task(user_of(box, 1), draft=draft, check=False)
    gate.set()
    await closing
    assert (await out).uuid == box.tasks[0].uuid
    assert len(posts(box)) == 1


def test_what_is_out_longer_than_an_attempt_is_uncertain_when_the_client_is_closed() -> None:
    async def main() -> None:
        async with Sandbox(accounts=1, token=TOKEN) as box:
            room(box, user_of(box), a=5)
            wolf = WolfClient(TOKEN, base_url=box.base_url, timeouts=Timeouts(attempt=3.0))
            draft = await draft_for(wolf, user_of(box))
            box.script(None, hold(asyncio.Event()))
            creating = asyncio.create_task(wolf.create_task(user_of(box), draft=draft, check=False))
            await box.wait_for_calls(2)
            await asyncio.sleep(1)
            began = asyncio.get_running_loop().time()
            await wolf.aclose()
            assert asyncio.get_running_loop().time() - began <= 3.0
            with pytest.raises(WolfUncertainError) as caught:
                await creating
            assert caught.value.draft_name == "回访"

    virtual_time.run(main())


async def test_whoever_closes_and_is_cancelled_leaves_nobody_without_an_answer(
    box: Sandbox, client: MakeClient
) -> None:
    wolf, user = client(box.base_url), user_of(box)
    draft = await draft_for(wolf, user)
    box.script(user, hold(asyncio.Event()))
    creating = asyncio.create_task(wolf.create_task(user, draft=draft, check=False))
    await box.wait_for_calls(2)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await wolf.aclose()
    async with asyncio.timeout(5):
        with pytest.raises(WolfUncertainError, match="the client was closed"):
            await creating


def test_a_loop_that_ends_while_it_is_out_tells_its_caller() -> None:
    outcomes: list[BaseException] = []

    async def main() -> None:
        box = Sandbox(accounts=1, token=TOKEN)
        await box.start()
        room(box, user_of(box), a=5)
        wolf = WolfClient(TOKEN, base_url=box.base_url)
        draft = await draft_for(wolf, user_of(box))
        box.script(None, hold(asyncio.Event()))

        async def create() -> None:
            try:
                await wolf.create_task(user_of(box), draft=draft, check=False)
            except BaseException as error:
                outcomes.append(error)
                raise

        creating = asyncio.create_task(create())
        await box.wait_for_calls(2)
        for task in asyncio.all_tasks():
            if task.get_name() == "wolf_async: a task is created":
                task.cancel()
        with pytest.raises(WolfUncertainError):
            await creating
        await wolf.aclose()
        await box.close()

    asyncio.run(main())
    assert [type(outcome) for outcome in outcomes] == [WolfUncertainError]


async def test_a_second_loop_creates_too(box: Sandbox) -> None:
    wolf = WolfClient(TOKEN, base_url=box.base_url)

    async def main() -> None:
        draft = await draft_for(wolf, user_of(box))
        await wolf.create_task(user_of(box), draft=draft)

    await asyncio.to_thread(asyncio.run, main())
    await asyncio.to_thread(asyncio.run, main())
    await wolf.aclose()
    assert len(box.tasks) == 2


class Stuck(Sender):
    """A sender whose requests are out for as long as the test wants."""

    def __init__(self) -> None:
        self.is_out = asyncio.Event()

    async def send(self, *args: Any, **kwargs: Any) -> Any:
        kwargs["post"].about_to_send()
        self.is_out.set()
        await asyncio.get_running_loop().create_future()

    def check_loop(self) -> None:
        """Take any loop: the one before has been closed."""


async def never_asked(account: Account, max_age: float | None) -> Served[CachedAnswer]:
    raise AssertionError("a creation without a check asks for nothing")


def test_a_loop_that_was_closed_in_the_middle_keeps_no_turn() -> None:
    """Creations that a closed loop has left are waited for by nobody."""
    sender, account = Stuck(), Account(ANSWERS.users[0])
    creator = TaskCreator(
        sender,
        urlsplit("http://127.0.0.1:1"),
        ask=never_asked,
        invalidate=lambda account: None,
        attempt=0.0,
    )
    draft = make_draft(msgspec.convert(ANSWERS.data_for(account), TaskInit, dec_hook=dec_hook))

    async def begin() -> asyncio.Task[CreatedTask]:
        creating = asyncio.create_task(creator.create(account, draft, check=False))
        await sender.is_out.wait()
        return creating

    loop = asyncio.new_event_loop()
    loop.run_until_complete(begin())
    left = asyncio.all_tasks(loop)
    for task in left:  # nothing but this test is to blame for them
        task._log_destroy_pending = False  # type: ignore[attr-defined]
    loop.close()
    sender.is_out = asyncio.Event()

    async def again() -> None:
        async with asyncio.timeout(5):
            creating = await begin()
            await creator.aclose()
            with pytest.raises(WolfUncertainError):
                await creating

    asyncio.run(again())


# A turn that may be lost


class Losing:
    """Turns that are lost as a script says."""

    def __init__(self, *mine: bool) -> None:
        self.mine = list(mine)
        self.log: list[str] = []
        self.local = LocalTurns()

    def turn(self, user_id: str) -> Turn:
        return _LosingTurn(self, self.local.turn(user_id))


class _LosingTurn:
    def __init__(self, turns: Losing, local: Turn) -> None:
        self.turns = turns
        self.local = local

    async def acquire(self) -> None:
        self.turns.log.append("acquire")
        await self.local.acquire()

    async def still_mine(self) -> bool:
        return self.turns.mine.pop(0)

    async def release(self) -> None:
        self.turns.log.append("release")
        await self.local.release()


class TierOf:
    """A tier that gives these turns, and shares nothing."""

    def __init__(self, turns: Losing) -> None:
        self._turns = turns
        self.load: Any

    def scoped_to(self, *args: object, **settings: object) -> TierOf:
        return self

    def bind(self, cache: object, load: object, codec: object) -> TierOf:
        self.load = load
        return self

    def turns(self, local: object, attempt: float) -> Losing:
        return self._turns

    def announce_pause(self, seconds: float) -> None: ...

    def void(self, key: object) -> None: ...

    def stats(self) -> dict[str, int]:
        return {}

    async def aclose(self) -> None: ...


async def test_who_has_lost_the_turn_before_sending_queues_and_checks_anew(
    box: Sandbox, client: MakeClient
) -> None:
    turns = Losing(False, True, True)
    wolf = client(box.base_url, shared=TierOf(turns))
    draft = await draft_for(wolf, user_of(box))
    box.reset_calls()
    await wolf.create_task(user_of(box), draft=draft)
    assert methods(box) == ["GET", "GET", "POST"]
    assert turns.log == ["acquire", "release"] * 2


class Slow(_LosingTurn):
    """A turn that takes its time after the request, and then fails."""

    asked = 0

    async def still_mine(self) -> bool:
        self.asked += 1
        if self.asked > 1:
            self.turns.log.append("asked")
            await asyncio.sleep(0.01)
        return True

    async def release(self) -> None:
        await super().release()
        raise WolfConnectionError("the server with the turns is gone")


class SlowTurns(Losing):
    def turn(self, user_id: str) -> Turn:
        return Slow(self, self.local.turn(user_id))


async def test_a_task_that_was_created_is_told_whatever_becomes_of_its_turn(
    box: Sandbox, client: MakeClient, canary: Canary
) -> None:
    wolf = client(box.base_url, shared=TierOf(SlowTurns()))
    draft = await draft_for(wolf, user_of(box))
    created = await wolf.create_task(user_of(box), draft=draft)
    assert created.uuid == box.tasks[0].uuid
    [message] = canary.messages(logging.WARNING)
    assert "the server with the turns is gone" in message
    box.script(None, disconnect())
    with pytest.raises(WolfUncertainError):
        await wolf.create_task(user_of(box), draft=draft, check=False)


@pytest.mark.parametrize("how", ["leave", "close"])
async def test_a_task_that_was_created_is_told_while_its_turn_is_given_on(
    box: Sandbox, client: MakeClient, canary: Canary, how: str
) -> None:
    turns = SlowTurns()
    wolf = client(box.base_url, shared=TierOf(turns))
    draft = await draft_for(wolf, user_of(box))
    creating = asyncio.create_task(wolf.create_task(user_of(box), draft=draft))
    while "asked" not in turns.log:  # noqa: ASYNC110 - nothing else tells of it
        await asyncio.sleep(0)
    if how == "leave":
        creating.cancel()
        with pytest.raises(asyncio.CancelledError):
            await creating
        await wolf.aclose()
        assert any(box.tasks[0].uuid in text for text in canary.messages(logging.WARNING))
    else:
        await wolf.aclose()
        assert (await creating).uuid == box.tasks[0].uuid


async def test_what_goes_wrong_after_the_caller_has_left_makes_no_noise(
    box: Sandbox, client: MakeClient, canary: Canary
) -> None:
    """A turn that cannot be given up in good order is told in the log, and nowhere else."""
    gate = asyncio.Event()

    class Failing(_LosingTurn):
        async def acquire(self) -> None:
            try:
                await gate.wait()
            except asyncio.CancelledError:
                raise WolfConnectionError("the server with the turns is gone") from None

    class FailingTurns(Losing):
        def turn(self, user_id: str) -> Turn:
            return Failing(self, self.local.turn(user_id))

    wolf = client(box.base_url, shared=TierOf(FailingTurns()))
    draft = await draft_for(wolf, user_of(box))
    creating = asyncio.create_task(wolf.create_task(user_of(box), draft=draft, check=False))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    creating.cancel()
    with pytest.raises(asyncio.CancelledError):
        await creating
    await wolf.aclose()
    [message] = canary.messages(logging.WARNING)
    assert "the server with the turns is gone" in message
    assert posts(box) == []


async def test_who_has_lost_the_turn_while_it_was_out_is_warned(
    box: Sandbox, client: MakeClient, canary: Canary
) -> None:
    wolf = client(box.base_url, shared=TierOf(Losing(True, False)))
    draft = await draft_for(wolf, user_of(box))
    created = await wolf.create_task(user_of(box), draft=draft)
    assert created.uuid == box.tasks[0].uuid
    [message] = canary.messages(logging.WARNING)
    assert "'回访'" in message
    assert "lost" in message
