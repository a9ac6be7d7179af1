"""Tell who listens to a client what has ended, in the order in which it ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from wolf_async import (
    Account,
    BreakerPolicy,
    CachePolicy,
    TaskInit,
    WolfCircuitOpenError,
    WolfClient,
    WolfClosedError,
    WolfError,
    WolfRateLimitError,
    WolfServerError,
    events,
)
from wolf_async.cache import loading
from wolf_async.events import (
    BreakerEvent,
    Event,
    EvictionEvent,
    GateEvent,
    LoadEvent,
    RepairEvent,
    RequestEvent,
    WaitEvent,
)
from wolf_async.testing import FakeClock, Sandbox, hold, respond, serve
from wolf_async.upstream import sender

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
        GateEvent(is_closed=True, seconds=0.0, refused=True),
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


async def test_each_429_is_an_event_and_the_count_is_theirs(
    box: Sandbox, client: MakeClient, caplog: pytest.LogCaptureFixture
) -> None:
    """Whether it closes the gate, makes it longer, or comes when a longer pause is known."""
    heard: list[Event] = []
    wolf = client(box.base_url, retry=ONCE, listeners=[heard.append])
    release = asyncio.Event()
    for user, pause in zip(box.users, ("20", "5", "20"), strict=False):
        box.script(user, hold(release) + respond(429, headers={"Retry-After": pause}))
    calls = [asyncio.create_task(wolf.task_init(user)) for user in box.users[:3]]
    await box.wait_for_calls(3)
    release.set()
    await asyncio.wait(calls)
    assert all(isinstance(call.exception(), WolfRateLimitError) for call in calls)
    assert [(event.is_closed, event.refused) for event in of(heard, GateEvent)] == [
        (True, True)
    ] * 3
    assert wolf.stats().throttled == 3
    assert caplog.text.count("the server refuses requests") == 1


async def test_a_failed_probe_is_an_event_and_no_further_opening(
    box: Sandbox, client: MakeClient
) -> None:
    heard: list[Event] = []
    policy = BreakerPolicy(failures=1, pause=0.001)
    wolf = client(box.base_url, retry=ONCE, breaker=policy, listeners=[heard.append])
    box.always(respond(503))
    async with asyncio.timeout(5):
        while not of(heard, BreakerEvent)[1:]:
            with contextlib.suppress(WolfCircuitOpenError, WolfServerError):
                await wolf.task_init(box.users[0])
    assert of(heard, BreakerEvent) == [
        BreakerEvent(is_open=True, seconds=0.001, failures=1),
        BreakerEvent(is_open=True, seconds=0.002, failures=2, probed=True),
    ]
    assert wolf.stats().breaker_opened == 1


async def test_the_quirks_of_one_answer_are_numbered_and_one_repair_is_counted(
    box: Sandbox, client: MakeClient
) -> None:
    heard: list[Event] = []
    user = box.users[0]
    odd: dict[str, object] = {"max_recycle_limit": "50", "end_actions": []}
    box.set_data(user, box.data_for(user) | odd)
    wolf = client(box.base_url, listeners=[heard.append])
    await wolf.task_init(user)
    assert [event.number for event in of(heard, RepairEvent)] == [1, 2]
    assert wolf.stats().repaired == 1


async def test_nothing_is_told_while_all_who_listen_are_idle(
    box: Sandbox, client: MakeClient
) -> None:
    class Sleeper:
        def __init__(self) -> None:
            self.heard: list[Event] = []
            self.is_asleep = True

        def __call__(self, event: Event) -> None:
            self.heard.append(event)

        def is_idle(self) -> bool:
            return self.is_asleep

    one, other = Sleeper(), Sleeper()
    wolf = client(box.base_url, cache=None, listeners=[one, other])
    gate = asyncio.Event()
    box.script(box.users[1], hold(gate))
    await wolf.task_init(box.users[0])
    begun_asleep = asyncio.create_task(wolf.task_init(box.users[1]))
    await box.wait_for_calls(2)
    assert one.heard == []
    other.is_asleep = False
    gate.set()
    await begun_asleep
    assert [type(event) for event in one.heard] == [RequestEvent]
    await wolf.task_init(box.users[2])
    assert [type(event) for event in one.heard[1:]] == [RequestEvent, LoadEvent, WaitEvent]
    assert other.heard == one.heard


async def test_a_listener_that_cannot_tell_whether_it_is_idle_is_told(
    box: Sandbox, client: MakeClient, caplog: pytest.LogCaptureFixture
) -> None:
    class Confused:
        def __init__(self) -> None:
            self.heard: list[Event] = []

        def __call__(self, event: Event) -> None:
            self.heard.append(event)

        def is_idle(self) -> bool:
            raise RuntimeError("who knows")

    confused = Confused()
    await client(box.base_url, listeners=[confused]).task_init(box.users[0])
    assert [type(event) for event in confused.heard] == [RequestEvent, LoadEvent, WaitEvent]
    assert caplog.text.count("a listener has raised an error") == 1


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


# --- loads, and those who wait for them -----------------------------------------------------------

caller: ContextVar[str] = ContextVar("caller", default="nobody")


class Tracer:
    """A listener that captures who calls, and numbers the loads."""

    def __init__(self) -> None:
        self.loads: list[LoadEvent] = []
        self.waits: list[WaitEvent] = []

    def capture(self) -> str:
        return caller.get()

    def __call__(self, event: Event) -> int | None:
        if isinstance(event, WaitEvent):
            self.waits.append(event)
        if isinstance(event, LoadEvent):
            self.loads.append(event)
            return len(self.loads)
        return None


async def call(wolf: WolfClient, name: str, user: str, **settings: Any) -> TaskInit:
    caller.set(name)
    return await wolf.task_init(user, **settings)


async def test_a_load_is_an_event_with_its_caller_and_its_requests(
    box: Sandbox, client: MakeClient
) -> None:
    tracer, user = Tracer(), box.users[0]
    heard: list[Event] = []
    wolf = client(box.base_url, retry=AT_ONCE, listeners=[tracer, heard.append])
    box.script(user, respond(503))
    began = time.time()
    await asyncio.create_task(call(wolf, "one", user))
    (load,) = tracer.loads
    assert (load.account, load.outcome, load.error) == ((user, None), "value", None)
    assert (load.captured, load.background) == ("one", False)
    assert load.requests == tuple(of(heard, RequestEvent))
    assert [request.status for request in load.requests] == [503, 200]
    assert began - 1 < load.began_at < time.time() + 1
    assert load.seconds >= sum(request.seconds for request in load.requests)
    assert [type(event) for event in heard[-2:]] == [LoadEvent, WaitEvent]
    assert of(heard, LoadEvent)[0].captured is None


async def test_who_begins_a_load_and_who_joins_it_wait_for_the_same_one(
    box: Sandbox, client: MakeClient
) -> None:
    tracer, user, gate = Tracer(), box.users[0], asyncio.Event()
    wolf = client(box.base_url, listeners=[tracer])
    box.script(user, hold(gate))
    calls = [asyncio.create_task(call(wolf, name, user)) for name in ("one", "two", "three")]
    await box.wait_for_calls(1)
    gate.set()
    await asyncio.gather(*calls)
    assert [(wait.captured, wait.joined, wait.load, wait.outcome) for wait in tracer.waits] == [
        ("one", False, 1, "value"),
        ("two", True, 1, "value"),
        ("three", True, 1, "value"),
    ]
    assert len(tracer.loads) == 1


async def test_a_load_in_the_queue_belongs_to_its_first_waiter(
    box: Sandbox, client: MakeClient
) -> None:
    tracer, user, gate = Tracer(), box.users[0], asyncio.Event()
    wolf = client(box.base_url, listeners=[tracer])
    box.script(user, hold(gate))
    calls = [asyncio.create_task(call(wolf, "one", user, max_age=0))]
    await box.wait_for_calls(1)
    names = ("two", "three")
    calls += [asyncio.create_task(call(wolf, name, user, max_age=0)) for name in names]
    await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(*calls)
    assert [load.captured for load in tracer.loads] == ["one", "two"]
    assert [(wait.captured, wait.joined, wait.load) for wait in tracer.waits] == [
        ("one", False, 1),
        ("two", False, 2),
        ("three", True, 2),
    ]


async def test_a_call_that_leaves_before_the_end_has_no_load_and_the_last_one_ends_it(
    box: Sandbox, client: MakeClient
) -> None:
    tracer, user = Tracer(), box.users[0]
    wolf = client(box.base_url, listeners=[tracer])
    box.script(user, hold(asyncio.Event()))
    calls = [asyncio.create_task(call(wolf, name, user)) for name in ("one", "two")]
    await box.wait_for_calls(1)
    for task in calls:
        task.cancel()
    await asyncio.wait(calls)
    await box.wait_until_idle()
    assert [(wait.outcome, wait.load) for wait in tracer.waits] == [("left", None)] * 2
    (load,) = tracer.loads
    assert (load.outcome, load.error, load.captured) == ("abandoned", None, "one")
    assert [request.error for request in load.requests] == ["CancelledError"]


async def test_a_failure_is_one_of_the_load_and_of_each_who_waits(
    box: Sandbox, client: MakeClient
) -> None:
    tracer, user = Tracer(), box.users[0]
    wolf = client(box.base_url, retry=ONCE, listeners=[tracer])
    box.always(respond(503))
    calls = [asyncio.create_task(call(wolf, name, user)) for name in ("one", "two")]
    await asyncio.wait(calls)
    assert all(isinstance(task.exception(), WolfServerError) for task in calls)
    assert [(load.outcome, load.error) for load in tracer.loads] == [("failure", "WolfServerError")]
    assert [wait.outcome for wait in tracer.waits] == ["failure"] * 2


async def test_a_refresh_behind_a_stale_hit_belongs_to_its_caller_who_does_not_wait(
    box: Sandbox, client: MakeClient
) -> None:
    tracer, user, clock = Tracer(), box.users[0], FakeClock()
    policy = CachePolicy(ttl=1, stale_while_revalidate=100)
    wolf = client(box.base_url, cache=policy, clock=clock, listeners=[tracer])
    await asyncio.create_task(call(wolf, "one", user))
    clock.advance(5)
    await asyncio.create_task(call(wolf, "two", user))
    await asyncio.create_task(call(wolf, "three", user, max_age=1))
    assert [(load.captured, load.background) for load in tracer.loads] == [
        ("one", False),
        ("two", True),
    ]
    assert [(wait.captured, wait.joined) for wait in tracer.waits] == [
        ("one", False),
        ("three", True),
    ]


async def test_a_stale_answer_that_stands_in_is_told(box: Sandbox, client: MakeClient) -> None:
    tracer, user, clock = Tracer(), box.users[0], FakeClock()
    policy = CachePolicy(ttl=1, stale_if_error=100)
    wolf = client(box.base_url, cache=policy, clock=clock, retry=ONCE, listeners=[tracer])
    await wolf.task_init(user)
    clock.advance(5)
    box.always(respond(503))
    await wolf.task_init(user)
    assert [load.outcome for load in tracer.loads] == ["value", "failure"]
    assert [wait.outcome for wait in tracer.waits] == ["value", "stale"]


async def test_a_hit_is_no_event(box: Sandbox, client: MakeClient) -> None:
    heard: list[Event] = []
    wolf = client(box.base_url, listeners=[heard.append])
    await wolf.task_init(box.users[0])
    seen = len(heard)
    for _ in range(3):
        await wolf.task_init(box.users[0])
        wolf.peek(box.users[0])
    assert len(heard) == seen


async def test_closing_tells_how_each_load_and_each_wait_ended(
    box: Sandbox, client: MakeClient
) -> None:
    tracer, user = Tracer(), box.users[0]
    wolf = client(box.base_url, listeners=[tracer])
    box.script(user, hold(asyncio.Event()))
    task = asyncio.create_task(wolf.task_init(user))
    await box.wait_for_calls(1)
    await wolf.aclose()
    with pytest.raises(WolfClosedError):
        await task
    assert [load.outcome for load in tracer.loads] == ["abandoned"]
    assert [wait.outcome for wait in tracer.waits] == ["failure"]


async def test_a_raw_call_is_a_load_too(box: Sandbox, client: MakeClient) -> None:
    tracer = Tracer()
    await client(box.base_url, listeners=[tracer]).raw_task_init(box.users[0])
    assert [load.account for load in tracer.loads] == [(box.users[0], None)]
    assert [wait.outcome for wait in tracer.waits] == ["value"]


async def test_an_eviction_is_an_event_with_its_account(box: Sandbox, client: MakeClient) -> None:
    heard: list[Event] = []
    wolf = client(box.base_url, cache=CachePolicy(max_entries=2), listeners=[heard.append])
    for user in box.users[:3]:
        await wolf.task_init(user)
    assert of(heard, EvictionEvent) == [EvictionEvent(account=Account(box.users[0]))]


async def test_nothing_is_made_where_nobody_listens(
    box: Sandbox, client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **settings: object) -> None:
        raise AssertionError("made for nobody")

    logging.getLogger("wolf_async").setLevel(logging.INFO)
    for name in ("RequestEvent", "LoadEvent", "WaitEvent", "EvictionEvent", "LoadRecord"):
        for module in (events, loading, sender):
            monkeypatch.setattr(module, name, refuse, raising=False)
    wolf = client(box.base_url, cache=CachePolicy(max_entries=1))
    for user in box.users[:3]:
        await asyncio.gather(wolf.task_init(user), wolf.task_init(user))


async def test_a_listener_may_use_the_client(box: Sandbox, client: MakeClient) -> None:
    def forget(event: Event) -> None:
        if isinstance(event, LoadEvent):
            wolf.invalidate(*event.account)
            wolf.stats()

    wolf = client(box.base_url, listeners=[forget])
    for _ in range(2):
        await asyncio.gather(*[wolf.task_init(box.users[0]) for _ in range(3)])
    assert len(box.calls) == 2


@pytest.mark.parametrize("status", [200, 429, 503])
async def test_what_a_listener_starts_may_ask_for_the_account_that_is_asked_for(
    box: Sandbox, client: MakeClient, status: int
) -> None:
    started: list[asyncio.Task[TaskInit]] = []

    def ask_as_well(event: Event) -> None:
        if len(started) < 2:  # the request, and the gate or the breaker
            started.append(asyncio.create_task(wolf.task_init(box.users[0])))

    breaker = BreakerPolicy(failures=1, pause=0.01)
    wolf = client(box.base_url, listeners=[ask_as_well], retry=AT_ONCE, breaker=breaker)
    box.script(None, serve() if status == 200 else respond(status))
    init = await wolf.task_init(box.users[0])
    assert await asyncio.gather(*started) == [init, init]
