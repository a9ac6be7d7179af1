"""How old an answer is, and whether it stands in for a fresh one."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from wolf_async import Answer, CachePolicy, RetryPolicy, WolfConfigError, WolfServerError
from wolf_async.testing import FakeClock, hold, respond

if TYPE_CHECKING:
    from wolf_async.testing import Sandbox

    from .conftest import MakeClient

ONCE = RetryPolicy(attempts=1)


async def test_an_answer_tells_its_age_and_when_it_was_asked_for(
    box: Sandbox, client: MakeClient
) -> None:
    clock = FakeClock()
    wolf = client(box.base_url, clock=clock)
    user = box.users[0]
    before = datetime.now(UTC)
    first = await wolf.answer(user)
    assert before <= first.fetched_at <= datetime.now(UTC)
    assert (first.age, first.is_stale) == (0.0, False)
    clock.advance(12.5)
    second = await wolf.answer(user)
    assert second.init is first.init
    assert (second.fetched_at, second.age, second.is_stale) == (first.fetched_at, 12.5, False)
    assert len(box.calls) == 1
    assert second.fetched_at.utcoffset() == timedelta(0)


async def test_an_answer_that_was_loaded_again_has_a_new_time_and_the_same_object(
    box: Sandbox, client: MakeClient
) -> None:
    clock = FakeClock()
    wolf = client(box.base_url, clock=clock)
    user = box.users[0]
    first = await wolf.answer(user)
    clock.advance(5)
    second = await wolf.answer(user, max_age=0)
    assert second.init is first.init
    assert second.fetched_at > first.fetched_at
    assert second.age == 0


@pytest.mark.parametrize("how", ["while it is refreshed", "for an error", "in the back-off"])
async def test_an_answer_that_stands_in_is_stale_also_for_those_who_joined(
    how: str, box: Sandbox, client: MakeClient
) -> None:
    clock = FakeClock()
    policy = CachePolicy(ttl=10, stale_if_error=60)
    if how == "while it is refreshed":
        policy = CachePolicy(ttl=10, stale_while_revalidate=60)
    wolf = client(box.base_url, clock=clock, cache=policy, retry=ONCE)
    user = box.users[0]
    first = await wolf.answer(user)
    clock.advance(20)
    box.script(None, respond(503))
    answers = list(await asyncio.gather(*(wolf.answer(user) for _ in range(3))))
    if how == "in the back-off":
        answers = [await wolf.answer(user)]
    assert [answer.is_stale for answer in answers] == [True] * len(answers)
    assert {answer.age for answer in answers} == {20.0}
    assert {answer.fetched_at for answer in answers} == {first.fetched_at}


async def test_what_a_load_has_brought_is_never_stale_however_long_that_took(
    box: Sandbox, client: MakeClient
) -> None:
    clock = FakeClock()
    wolf = client(box.base_url, clock=clock, cache=CachePolicy(ttl=10, stale_if_error=60))
    user = box.users[0]
    gate = asyncio.Event()
    box.script(None, hold(gate))
    asked = asyncio.create_task(wolf.answer(user))
    await box.wait_for_calls(1)
    clock.advance(30)
    gate.set()
    answer = await asked
    assert (answer.age, answer.is_stale) == (30.0, False)


async def test_peek_shows_a_stale_answer_to_who_asks_for_it(
    box: Sandbox, client: MakeClient
) -> None:
    clock = FakeClock()
    wolf = client(box.base_url, clock=clock, cache=CachePolicy(ttl=10, stale_if_error=60))
    user = box.users[0]
    init = await wolf.task_init(user)
    clock.advance(20)
    assert wolf.peek(user) is None
    assert wolf.peek(user, stale=True) is init
    assert wolf.peek(user, stale=True, max_age=100) is None, "max_age knows no stale windows"
    clock.advance(51)
    assert wolf.peek(user, stale=True) is None
    assert len(box.calls) == 1


async def test_a_bad_id_is_refused_before_anything_is_asked(
    box: Sandbox, client: MakeClient
) -> None:
    wolf = client(box.base_url)
    with pytest.raises(WolfConfigError, match="user_id"):
        await wolf.answer("")
    assert not box.calls


def test_an_answer_says_in_one_line_how_old_it_is() -> None:
    when = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    answer = Answer(init=None, fetched_at=when, age=1.25, is_stale=True)  # type: ignore[arg-type]
    assert repr(answer) == "<Answer of 2026-01-02 03:04:05 UTC, 1.2 s old, stale>"


async def test_while_no_request_may_go_a_stale_answer_is_served_at_once(
    box: Sandbox, client: MakeClient
) -> None:
    """A load that cannot succeed is not even begun where an old answer may stand in."""
    clock = FakeClock()
    wolf = client(box.base_url, clock=clock, cache=CachePolicy(ttl=10, stale_if_error=600))
    first, other = box.users[:2]
    init = await wolf.task_init(first)
    clock.advance(20)
    box.script(None, respond(429, headers={"Retry-After": "3600"}))
    with pytest.raises(Exception, match="429"):
        await wolf.task_init(other)
    loads = wolf.stats().loads
    answer = await wolf.answer(first)
    assert (answer.init, answer.is_stale) == (init, True)
    assert (wolf.stats().loads, len(box.calls)) == (loads, 2)
    with pytest.raises(Exception, match="no request was sent"):
        await wolf.answer(first, max_age=30)


async def test_an_error_without_a_stand_in_is_raised(box: Sandbox, client: MakeClient) -> None:
    wolf = client(box.base_url, retry=ONCE)
    box.script(None, respond(503))
    with pytest.raises(WolfServerError):
        await wolf.answer(box.users[0])
