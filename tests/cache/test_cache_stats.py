"""What a cache says about itself."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import msgspec
import pytest
from upstream import Refused, Unwell, Upstream, bench, cancel, error_of, is_unwell, outcome, settle

from wolf_async.cache.inflight import InFlightLoad, Served


async def test_all_counts_are_zero_at_first() -> None:
    assert set(msgspec.structs.asdict(bench().cache.stats()).values()) == {0}


async def test_each_kind_of_call_and_load_is_counted_as_what_it_was() -> None:
    b = bench(ttl=10, stale_while_revalidate=10, error_ttl=5, max_entries=2, is_unwell=is_unwell)
    await b.hold("a")  # miss, load
    await b.at_once("a")  # hit
    await b.at_once("a", max_age=5)  # hit
    b.clock.advance(11)
    await b.at_once("a")  # stale hit, refresh
    callers = [await b.waiting("a", max_age=5), await b.waiting("a", max_age=5)]  # joined
    callers += [b.get("b"), b.get("b")]  # miss, load; joined
    await settle()
    callers += [await b.waiting("b", max_age=0), await b.waiting("b", max_age=0)]  # miss; joined
    b.calls[1].answer()
    b.calls[2].answer()
    await settle()
    b.calls[3].fail(Refused())
    await settle()
    assert [outcome(caller) for caller in callers[:4]] == ["a#2", "a#2", "b#1", "b#1"]
    assert [type(error_of(caller)) for caller in callers[4:]] == [Refused, Refused]
    with pytest.raises(Refused):
        await b.at_once("b")  # error hit
    await cancel(await b.waiting("c"))  # miss, load, abandoned
    superseded = await b.waiting("c")  # miss, load
    b.cache.invalidate("c")
    b.calls[-1].answer()
    await settle()
    outcome(superseded)
    await b.hold("d")  # miss, load; the oldest one has to leave
    left = await b.waiting("e")  # miss, load, in flight
    counts = msgspec.structs.asdict(b.cache.stats())
    assert {name: n for name, n in counts.items() if not name.startswith("shared_")} == {
        "hits": 2,
        "stale_hits": 1,
        "error_hits": 1,
        "misses": 7,
        "joined": 4,
        "loads": 8,
        "refreshes": 1,
        "failures": 1,
        "abandoned": 1,
        "superseded": 1,
        "evictions": 1,
        "entries": 2,
        "in_flight": 1,
    }
    b.assert_balanced(values=5)
    await cancel(left)


@pytest.mark.parametrize("seed", range(20))
async def test_counts_add_up_whatever_happens(seed: int) -> None:
    chance = random.Random(seed)
    b = bench(
        ttl=4,
        stale_while_revalidate=3,
        stale_if_error=6,
        error_ttl=2,
        jitter=0.5,
        max_entries=3,
        is_unwell=is_unwell,
    )
    values = 0
    callers: list[asyncio.Task[Any]] = []
    for _ in range(300):
        match chance.randrange(12):
            case 0 | 1 | 2 | 3 | 4:
                callers.append(
                    b.get(chance.choice("abcde"), max_age=chance.choice([None, None, 0, 2]))
                )
            case 5 | 6 | 7 if pending := [call for call in b.calls if not call.ended]:
                call = chance.choice(pending)
                error = chance.choice([None, None, Unwell(), Refused()])
                if error is None:
                    call.answer()
                    values += 1
                else:
                    call.fail(error)
            case 8 if callers:
                chance.choice(callers).cancel()
            case 9:
                b.cache.invalidate(chance.choice("abcde"))
            case 10 if chance.random() < 0.1:
                b.cache.clear()
            case _:
                b.clock.advance(1)
        await settle()
        b.assert_balanced(values)
        stats = b.cache.stats()
        assert stats.entries <= 3
        assert stats.in_flight == sum(not call.ended for call in b.calls)
    await b.cache.aclose()
    await settle()
    assert all(caller.done() for caller in callers)
    await asyncio.gather(*callers, return_exceptions=True)


async def test_stats_are_a_snapshot_that_cannot_be_changed() -> None:
    b = bench()
    before = b.cache.stats()
    await b.hold()
    assert before.loads == 0
    with pytest.raises(AttributeError):
        before.loads = 5  # type: ignore[misc]


async def test_a_cache_says_in_one_line_what_it_holds_and_does() -> None:
    b = bench()
    assert (
        repr(b.cache)
        == "<LoadingCache: 0 held, 0 in flight, 0 of 0 calls served from memory, 0 loads>"
    )
    await b.hold("line\nbreak")
    await b.at_once("line\nbreak")
    left = await b.waiting("other")
    assert (
        repr(b.cache)
        == "<LoadingCache: 1 held, 1 in flight, 1 of 3 calls served from memory, 2 loads>"
    )
    await cancel(left)
    await b.cache.aclose()
    assert (
        repr(b.cache)
        == "<LoadingCache: closed, 0 held, 0 in flight, 1 of 3 calls served from memory, 2 loads>"
    )


class Silent:
    """The owner of a load who does nothing when it ends."""

    def load_done(self, load: InFlightLoad[Any, Any], task: asyncio.Task[Any]) -> None:
        pass

    def load_abandoned(self, load: InFlightLoad[Any, Any]) -> None:
        pass


async def test_a_load_says_in_one_line_what_it_is_about() -> None:
    upstream = Upstream()
    loop = asyncio.get_running_loop()
    load: InFlightLoad[str, str] = InFlightLoad(Silent(), loop, "line\nbreak")
    assert repr(load) == "<InFlightLoad 'line\\nbreak': queued, 0 waiting>"
    waiter = asyncio.create_task(load.wait(max_age=0))
    load.start(upstream, lambda: 0.0)
    await settle()
    assert repr(load) == "<InFlightLoad 'line\\nbreak': under way, 1 waiting>"
    upstream.calls[0].answer()
    await settle()
    load.resolve(Served("an answer", sent_at=0.0))
    assert (await waiter).value == "an answer"
    assert repr(load) == "<InFlightLoad 'line\\nbreak': ended, 0 waiting>"
    refresh: InFlightLoad[str, str] = InFlightLoad(Silent(), loop, "a", background=True)
    assert repr(refresh) == "<InFlightLoad 'a': background, queued, 0 waiting>"
