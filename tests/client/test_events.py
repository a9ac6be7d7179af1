"""Tell who listens to a client what has ended, in the order in which it ends."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, TypeVar

import pytest

from wolf_async import BreakerPolicy, WolfCircuitOpenError, WolfError, WolfServerError
from wolf_async.events import BreakerEvent, Event, GateEvent, RepairEvent, RequestEvent
from wolf_async.testing import Sandbox, hold, respond

from .conftest import AT_ONCE, ONCE

if TYPE_CHECKING:
    from .conftest import MakeClient


E = TypeVar("E", bound=Event)


def of(heard: list[Event], kind: type[E]) -> list[E]:
    return [event for event in heard if isinstance(event, kind)]


async def test_each_request_is_an_event_with_its_attempt_and_outcome(
    box: Sandbox, client: MakeClient
) -> None:
    heard: list[Event] = []
    wolf, account = client(box.base_url, retry=AT_ONCE, listeners=[heard.append]), box.accounts[-1]
    box.script(account, respond(503), respond(502))
    began = time.time()
    await wolf.task_init(*account)
    requests = of(heard, RequestEvent)
    assert [(event.attempt, event.status, event.error) for event in requests] == [
        (1, 503, None),
        (2, 502, None),
        (3, 200, None),
    ]
    for event in requests:
        assert (event.account, event.method, event.base_url) == (account, "GET", box.base_url)
        assert began - 1 < event.began_at < time.time() + 1
        assert 0 < event.seconds < 5


async def test_a_request_without_an_answer_names_its_error(
    box: Sandbox, client: MakeClient
) -> None:
    heard: list[Event] = []
    refused = client("http://127.0.0.1:1", retry=ONCE, listeners=[heard.append])
    with pytest.raises(WolfError):
        await refused.task_init("u")
    wolf, user = client(box.base_url, listeners=[heard.append]), box.users[0]
    box.script(user, hold(asyncio.Event()))
    caller = asyncio.create_task(wolf.task_init(user))
    await box.wait_for_calls(1)
    caller.cancel()
    await asyncio.wait([caller])
    await box.wait_until_idle()
    errors = [(event.status, event.error) for event in of(heard, RequestEvent)]
    assert errors == [(None, "WolfConnectionError"), (None, "CancelledError")]


async def test_a_repair_is_an_event_with_its_place(box: Sandbox, client: MakeClient) -> None:
    heard: list[Event] = []
    user = box.users[0]
    box.set_data(user, box.data_for(user) | {"max_recycle_limit": "50"})
    await client(box.base_url, listeners=[heard.append]).task_init(user)
    assert [(event.path, event.account) for event in of(heard, RepairEvent)] == [
        ("$.data.max_recycle_limit", (user, None))
    ]


async def test_the_gate_is_an_event_when_it_closes_and_when_it_opens(
    box: Sandbox, client: MakeClient
) -> None:
    heard: list[Event] = []
    wolf = client(box.base_url, retry=AT_ONCE, listeners=[heard.append])
    box.script(box.users[0], respond(429, headers={"Retry-After": "0"}))
    await wolf.task_init(box.users[0])
    assert of(heard, GateEvent) == [
        GateEvent(is_closed=True, seconds=0.0),
        GateEvent(is_closed=False, seconds=0.0),
    ]


async def test_the_breaker_is_an_event_when_it_opens_and_when_it_closes(
    box: Sandbox, client: MakeClient
) -> None:
    heard: list[Event] = []
    policy = BreakerPolicy(failures=2, pause=0.001)
    wolf = client(box.base_url, retry=ONCE, breaker=policy, listeners=[heard.append])
    box.always(respond(503))
    for user in box.users[:2]:
        with pytest.raises(WolfServerError):
            await wolf.task_init(user)
    box.heal()
    async with asyncio.timeout(5):
        while not of(heard, BreakerEvent)[1:]:
            with contextlib.suppress(WolfCircuitOpenError):
                await wolf.task_init(box.users[3])
    assert of(heard, BreakerEvent) == [
        BreakerEvent(is_open=True, seconds=0.001, failures=2),
        BreakerEvent(is_open=False, seconds=0.0, failures=0),
    ]


async def test_a_listener_that_raises_costs_no_answer(
    box: Sandbox, client: MakeClient, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(event: Event) -> None:
        raise ValueError(type(event).__name__)

    heard: list[Event] = []
    wolf = client(box.base_url, cache=None, listeners=[broken, heard.append])
    for user in box.users:
        await wolf.task_init(user)
    assert len(of(heard, RequestEvent)) == len(box.users)
    assert [record.levelname for record in caplog.records].count("ERROR") == 1
