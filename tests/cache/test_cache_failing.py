"""Each waiter gets an error of its own, and a failure leaves nothing behind."""

from __future__ import annotations

import asyncio
import gc
import traceback
import weakref
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Self

import pytest
from upstream import (
    Refused,
    Unwell,
    bench,
    cancel,
    error_of,
    frames_of,
    is_unwell,
    outcome,
    settle,
    values,
)

from wolf_async.account import Account
from wolf_async.errors import WolfConfigError, WolfConnectionError, WolfError

if TYPE_CHECKING:
    from collections.abc import Callable


async def test_the_loaders_own_cancellation_is_an_error_of_this_library() -> None:
    """Callers see a failed connection, for it was not they who were cancelled."""
    b = bench()
    callers = [await b.waiting() for _ in range(5)]
    b.calls[0].cancel_itself()
    await settle()
    errors = [error_of(caller) for caller in callers]
    assert all(isinstance(error, WolfConnectionError) for error in errors)
    assert len(set(map(id, errors))) == 5
    assert b.cache.stats().entries == 0
    b.upstream.always = ...
    assert await b.at_once() == "a#2"
    b.assert_balanced(values=1)


class UncopiedError(WolfError):
    def __copy__(self) -> Self:
        raise TypeError("there is one of me")


class OtherError(WolfError):
    def __copy__(self) -> Any:
        return KeyError("not at all the same")


class ForeignError(WolfError):
    def __new__(cls, message: str, *, key: str) -> Self:
        return super().__new__(cls, message)

    def __init__(self, message: str, *, key: str) -> None:
        super().__init__(message)


@pytest.mark.parametrize(
    "error",
    [UncopiedError("no"), OtherError("no"), ForeignError("no", key="a")],
    ids=lambda e: type(e).__name__,
)
async def test_an_error_that_does_not_copy_reaches_all_who_wait(error: WolfError) -> None:
    b = bench()
    callers = [await b.waiting() for _ in range(3)]
    late = await b.waiting(max_age=0)
    b.calls[0].fail(error)
    await settle()
    errors = [error_of(caller) for caller in callers]
    assert all(isinstance(each, WolfError) and each.__cause__ is error for each in errors)
    assert len(set(map(id, errors))) == 3
    b.calls[1].answer()
    await settle()
    assert outcome(late) == "a#2"


def old_style(loop: asyncio.AbstractEventLoop, coroutine: Any) -> asyncio.Task[Any]:
    """Make a task as factories did before tasks had a ``context``."""
    return asyncio.Task(coroutine, loop=loop)


async def test_a_load_that_cannot_be_started_leaves_nothing_behind() -> None:
    b = bench(ttl=10, stale_while_revalidate=10)
    loop = asyncio.get_running_loop()
    loop.set_task_factory(old_style)
    try:
        with pytest.raises(TypeError, match="context"):
            await b.cache.get("a")
    finally:
        loop.set_task_factory(None)
    stats = b.cache.stats()
    assert (stats.loads, stats.in_flight) == (0, 0)
    assert await b.hold() == "a#1"


async def test_who_waits_for_the_next_load_hears_that_it_cannot_be_started() -> None:
    b = bench()
    first = await b.waiting()
    late = [await b.waiting(max_age=0) for _ in range(2)]
    loop = asyncio.get_running_loop()
    b.calls[0].answer()
    loop.set_task_factory(old_style)
    try:
        await settle()
    finally:
        loop.set_task_factory(None)
    assert outcome(first) == "a#1"
    assert [type(error_of(caller)) for caller in late] == [TypeError, TypeError]
    b.assert_balanced(values=1)
    fresh = b.get(max_age=0)
    await settle()
    b.calls[1].answer()
    await settle()
    assert outcome(fresh) == "a#2"


@pytest.mark.parametrize("begun", [True, False])
@pytest.mark.parametrize("error_ttl", [0, 60])
async def test_a_load_that_is_cancelled_from_outside_is_an_error_too(
    begun: bool, error_ttl: float
) -> None:
    """It makes no difference to callers whether the load had begun when it was cancelled."""
    b = bench(error_ttl=error_ttl)
    caller = b.get()
    await asyncio.sleep(0)
    if begun:
        await settle()
    (load,) = asyncio.all_tasks() - {asyncio.current_task(), caller}
    load.cancel()
    await settle()
    assert isinstance(error_of(caller), WolfConnectionError)
    assert bool(b.calls) == begun
    b.clock.advance(61)
    b.upstream.always = ...
    assert await b.at_once() == f"a#{len(b.calls)}"


async def test_a_stale_answer_stands_in_for_a_load_that_cancelled_itself() -> None:
    """A load that ends in its own cancellation counts as an upstream that is unwell."""
    b = bench(stale_if_error=100)
    await b.hold()
    b.clock.advance(31)
    caller = await b.waiting()
    b.calls[1].cancel_itself()
    await settle()
    assert outcome(caller) == "a#1"


async def test_forty_waiters_of_one_failure_get_forty_errors_from_one_call() -> None:
    """Each caller gets an error of its own, equal to the one that the load raised."""
    b = bench()
    callers = [await b.waiting() for _ in range(40)]
    original = WolfError("down", account=Account("u"), attempts=3, body=b"busy")
    b.calls[0].fail(original)
    await settle()
    errors = [error_of(caller) for caller in callers]
    assert len(b.calls) == 1
    assert len({id(error) for error in errors}) == 40
    for error in errors:
        assert error is not original
        assert type(error) is WolfError
        assert error.__cause__ is original
        assert error.args == original.args
        assert vars(error) == vars(original)
    b.upstream.always = ...
    assert await b.at_once() == "a#2"
    b.assert_balanced(values=1)


async def test_nobodys_note_or_traceback_shows_up_in_anothers_error() -> None:
    """What a caller adds to its error stays with that caller."""
    b = bench()

    async def caller(name: str) -> None:
        try:
            await b.cache.get("a")
        except ValueError as error:
            error.add_note(f"note of {name}")
            raise

    callers = [asyncio.create_task(caller(name)) for name in ("one", "two", "three")]
    await settle()
    original = ValueError("down")
    original.add_note("the upstream's own")
    b.calls[0].fail(original)
    await settle()
    errors = [error_of(caller) for caller in callers]
    assert [error.__notes__ for error in errors] == [
        ["the upstream's own", f"note of {name}"] for name in ("one", "two", "three")
    ]
    assert original.__notes__ == ["the upstream's own"]
    assert len({id(error.__traceback__) for error in errors}) == 3
    assert len({frames_of(error) for error in errors}) == 1
    assert "".join(traceback.format_exception(errors[0])).count("in caller\n") == 1


async def test_what_one_caller_does_to_the_shared_original_shows_in_nobodys_own_error() -> None:
    class OddError(Exception):
        code = 7

    b = bench()
    seen: list[tuple[object, ...]] = []

    async def caller(name: str) -> None:
        try:
            await b.cache.get("a")
        except OddError as error:
            seen.append((error.args, error.code, getattr(error, "__notes__", [])))
            cause = error.__cause__
            assert isinstance(cause, OddError)
            cause.args, cause.code = (name,), 8
            cause.add_note(name)

    callers = [asyncio.create_task(caller(name)) for name in "xyz"]
    await settle()
    b.calls[0].fail(OddError("down"))
    await asyncio.gather(*callers)
    assert seen == [(("down",), 7, [])] * 3


async def test_an_error_of_one_caller_keeps_its_own_context() -> None:
    """What one caller was handling when it asked is not seen by the others."""
    b = bench()

    async def caller(name: str) -> None:
        try:
            raise LookupError(name)
        except LookupError:
            await b.cache.get("a")

    callers = [asyncio.create_task(caller(name)) for name in ("one", "two")]
    await settle()
    original = ValueError("down")
    b.calls[0].fail(original)
    await settle()
    contexts = [error_of(caller).__context__ for caller in callers]
    assert [str(context) for context in contexts] == ["one", "two"]
    assert original.__context__ is None


async def test_tracebacks_do_not_grow_with_the_number_of_waiters() -> None:
    """The hundredth caller's traceback is as short as the only caller's."""
    lengths: list[tuple[int, int]] = []
    for crowd in (1, 100):
        b = bench()
        callers = [await b.waiting() for _ in range(crowd)]
        b.calls[0].fail(ValueError("down"))
        await settle()
        errors = [error_of(caller) for caller in callers]
        assert errors[-1].__cause__ is not None
        lengths.append((frames_of(errors[-1]), frames_of(errors[-1].__cause__)))
    assert lengths[0] == lengths[1]
    assert sum(lengths[0]) < 12


async def test_tracebacks_of_a_remembered_failure_do_not_grow() -> None:
    """A failure that is handed out for a minute does not collect the frames of its readers."""
    b = bench(error_ttl=60)
    b.upstream.always = Unwell
    callers = [b.get() for _ in range(2)]
    await settle()
    callers += [b.get() for _ in range(50)]
    await settle()
    errors = [error_of(caller) for caller in callers]
    assert len(b.calls) == 1
    assert len({id(error) for error in errors}) == 52
    assert len({frames_of(error) for error in errors[2:]}) == 1
    assert all(
        error.__cause__ is not None and frames_of(error.__cause__) == 0 for error in errors[2:]
    )
    assert b.cache.stats().error_hits == 50


async def test_a_failure_while_its_only_follower_is_cancelled_is_not_raised_to_a_later_call() -> (
    None
):
    """A failure belongs to the callers of its own load and to no later one."""
    b = bench()
    first = await b.waiting()
    follower = await b.waiting()
    await cancel(first)
    b.calls[0].fail(Unwell("old"))
    follower.cancel()
    await settle()
    assert follower.cancelled()
    b.clock.advance(3600)
    later = await b.waiting()
    assert len(b.calls) == 2
    b.calls[1].answer()
    await settle()
    assert outcome(later) == "a#2"


@pytest.mark.parametrize("turns", range(6))
async def test_a_failure_that_nobody_is_left_to_see_makes_no_noise(
    turns: int, loop_reports: list[Any], asyncio_errors: list[str]
) -> None:
    """At whatever point of the failure the last caller leaves, nothing is logged."""
    b = bench()
    caller = await b.waiting()
    b.calls[0].fail(Unwell("unseen"))
    for _ in range(turns):
        await asyncio.sleep(0)
    caller.cancel()
    await settle()
    if not caller.cancelled():
        error_of(caller)
    del b, caller
    gc.collect()
    await settle()
    assert not loop_reports
    assert not asyncio_errors


async def test_a_failed_refresh_makes_no_noise(
    loop_reports: list[Any], asyncio_errors: list[str]
) -> None:
    """A refresh fails in silence, since nobody waits for it."""
    b = bench(stale_while_revalidate=100)
    await b.hold()
    b.clock.advance(31)
    assert await b.at_once() == "a#1"
    b.calls[1].fail(Unwell("unseen"))
    await settle()
    del b
    gc.collect()
    await settle()
    assert not loop_reports
    assert not asyncio_errors


async def test_a_superseded_failure_makes_no_noise(loop_reports: list[Any]) -> None:
    """A failure is dropped without a word when its answer was no longer wanted."""
    b = bench(stale_while_revalidate=100)
    await b.hold()
    b.clock.advance(31)
    await b.at_once()
    b.cache.clear()
    b.calls[1].fail(Unwell("unseen"))
    await settle()
    gc.collect()
    await settle()
    assert not loop_reports


class TracedError(Exception):
    """An error that tells when it is freed."""


@pytest.mark.parametrize("max_age", [None, 5.0])
@pytest.mark.parametrize("error_ttl", [0, 60])
async def test_a_failure_is_freed_without_the_garbage_collector(
    error_ttl: float, max_age: float | None
) -> None:
    """A cycle through frames would keep the answers that those hold alive."""

    async def load(key: str) -> str:
        raise TracedError(key)

    b = bench(load, error_ttl=error_ttl)
    gc.collect()
    gc.disable()
    try:
        callers = [b.get(max_age=max_age) for _ in range(3)]
        await settle()
        errors = [error_of(caller) for caller in callers]
        originals = [
            weakref.ref(error.__cause__) for error in errors if error.__cause__ is not None
        ]
        own = [weakref.ref(error) for error in errors]
        del errors, callers
        assert [reference() for reference in own + originals] == [None] * 6
    finally:
        gc.enable()


async def test_the_error_of_a_caller_with_max_age_does_not_keep_the_stale_answer() -> None:
    class Answer:
        pass

    b = bench(stale_if_error=100)
    reference = weakref.ref(await b.hold("a", Answer()))
    b.calls.clear()
    b.clock.advance(31)
    strict = await b.waiting(max_age=5)
    b.calls[0].fail(Unwell("down"))
    await settle()
    error = error_of(strict)
    b.cache.clear()
    gc.collect()
    assert reference() is None
    assert isinstance(error, Unwell)


async def test_an_answer_is_freed_without_the_garbage_collector() -> None:
    class Answer:
        pass

    b = bench()
    caller = await b.waiting()
    gc.collect()
    gc.disable()
    try:
        b.calls[0].answer(Answer())
        await settle()
        answer = weakref.ref(outcome(caller))
        b.calls.clear()
        del caller
        assert answer() is not None
        b.cache.clear()
        assert answer() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_a_loader_that_ends_the_program_leaves_no_caller_waiting(
    kind: type[BaseException], new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    b = bench()
    callers: list[asyncio.Task[Any]] = []

    async def load() -> None:
        callers.append(b.get())
        await settle()
        b.calls[0].fail(kind())
        await settle()

    async def later() -> str:
        b.upstream.always = ...
        return str(await b.cache.get("a"))

    with asyncio.Runner(loop_factory=new_loop) as runner:
        with nullcontext() if kind is GeneratorExit else pytest.raises(kind):
            runner.run(load())
        assert runner.run(later()) == "a#2"
    assert isinstance(error_of(callers[0]), WolfConnectionError)


async def test_a_remembered_failure_is_raised_without_asking_again_until_its_time_is_over() -> None:
    b = bench(error_ttl=8)
    b.upstream.always = Unwell
    for _ in range(3):
        with pytest.raises(Unwell):
            await b.at_once()
    b.clock.advance(8)
    with pytest.raises(Unwell):
        await b.at_once()
    assert len(b.calls) == 1
    b.clock.advance(0.5)
    b.upstream.always = ...
    assert await b.at_once() == "a#2"
    assert await b.at_once() == "a#2"
    b.assert_balanced(values=1)


async def test_without_error_ttl_no_failure_is_remembered() -> None:
    b = bench()
    b.upstream.always = Unwell
    for count in range(1, 4):
        with pytest.raises(Unwell):
            await b.at_once()
        assert len(b.calls) == count
        assert b.cache.stats().entries == 0


async def test_a_remembered_failure_counts_from_when_it_happened() -> None:
    b = bench(error_ttl=8)
    caller = await b.waiting()
    b.clock.advance(5)
    b.calls[0].fail(Unwell("slow"))
    await settle()
    error_of(caller)
    b.clock.advance(8)
    with pytest.raises(Unwell):
        await b.at_once()
    assert len(b.calls) == 1


async def test_no_failure_is_remembered_where_a_stale_answer_stands_in() -> None:
    b = bench(error_ttl=60, stale_if_error=100)
    await b.hold()
    b.clock.advance(31)
    b.upstream.always = Unwell
    assert await b.at_once() == "a#1"
    b.clock.advance(2)
    assert await b.at_once() == "a#1"
    assert len(b.calls) == 3
    assert b.cache.stats().error_hits == 0


async def test_a_remembered_failure_is_not_for_callers_who_want_something_younger() -> None:
    b = bench(error_ttl=60)
    b.upstream.always = Unwell
    with pytest.raises(Unwell):
        await b.at_once()
    b.clock.advance(10)
    with pytest.raises(Unwell):
        await b.at_once(max_age=10)
    assert len(b.calls) == 1
    with pytest.raises(Unwell):
        await b.at_once(max_age=9)
    assert len(b.calls) == 2
    with pytest.raises(Unwell):
        await b.at_once(max_age=0)
    assert len(b.calls) == 3


@pytest.mark.parametrize("forget", ["invalidate", "clear"])
async def test_a_remembered_failure_is_forgotten_on_demand_and_never_peeked(forget: str) -> None:
    b = bench(error_ttl=60)
    b.upstream.always = Unwell
    with pytest.raises(Unwell):
        await b.at_once()
    assert b.cache.stats().entries == 1
    assert b.cache.peek("a") is None
    assert b.cache.held("a") is None
    if forget == "clear":
        b.cache.clear()
    else:
        assert b.cache.invalidate("a")
        assert not b.cache.invalidate("a")
    b.upstream.always = ...
    assert await b.at_once() == "a#2"


async def test_a_remembered_failure_keeps_none_of_the_loads_frames_alive() -> None:
    class Big:
        pass

    seen: list[weakref.ref[Big]] = []

    async def load(key: str) -> str:
        big = Big()
        seen.append(weakref.ref(big))
        raise Unwell(key)

    b = bench(load, error_ttl=60)
    gc.collect()
    gc.disable()
    try:
        caller = b.get()
        await settle()
        error_of(caller)
        del caller
        assert seen[0]() is None
    finally:
        gc.enable()


async def test_a_success_after_a_remembered_failure_is_kept() -> None:
    b = bench(error_ttl=60)
    b.upstream.always = Unwell
    with pytest.raises(Unwell):
        await b.at_once()
    b.upstream.always = ...
    assert await b.at_once(max_age=0) == "a#2"
    assert await b.at_once() == "a#2"


def broken(*_: object) -> Any:
    raise ZeroDivisionError


@pytest.mark.parametrize("size", [broken, None, "big", -1, 2.5], ids=repr)
async def test_a_broken_sizeof_is_an_error_for_the_callers_and_leaves_none_waiting(
    size: Any,
) -> None:
    def sizeof(value: object) -> Any:
        return broken() if size is broken else size

    b = bench(sizeof=sizeof, max_bytes=100)
    callers = [await b.waiting() for _ in range(3)]
    b.calls[0].answer()
    await settle()
    assert {type(error_of(caller)) for caller in callers} <= {
        ZeroDivisionError,
        TypeError,
        WolfConfigError,
    }
    assert b.cache.stats().in_flight == 0
    assert b.cache.stats().entries == 0


async def test_a_broken_is_unwell_leaves_no_caller_waiting_and_is_reported(
    loop_reports: list[Any],
) -> None:
    b = bench(is_unwell=broken, stale_if_error=100)
    await b.hold()
    b.clock.advance(31)
    callers = [await b.waiting() for _ in range(3)]
    queued = await b.waiting(max_age=0)
    b.calls[1].fail(Unwell())
    await settle()
    assert [type(error_of(caller)) for caller in callers] == [Unwell] * 3
    b.calls[2].answer()
    await settle()
    assert outcome(queued) == "a#3"
    assert [type(report["exception"]) for report in loop_reports] == [ZeroDivisionError]
    loop_reports.clear()


async def test_a_failure_that_cannot_be_printed_or_copied_leaves_nobody_waiting() -> None:
    class AwkwardError(Exception):
        def __str__(self) -> str:
            raise ZeroDivisionError

        def __copy__(self) -> AwkwardError:
            raise ZeroDivisionError

    b = bench(error_ttl=60)
    callers = [await b.waiting() for _ in range(2)]
    original = AwkwardError()
    b.calls[0].fail(original)
    await settle()
    for caller in callers:
        error = error_of(caller)
        assert isinstance(error, WolfError)
        assert "AwkwardError" in str(error)
        assert error.__cause__ is original


async def test_refused_callers_see_their_error_while_unwell_ones_get_the_stale_answer() -> None:
    b = bench(is_unwell=is_unwell, stale_if_error=100)
    await b.hold("a")
    await b.hold("b")
    b.clock.advance(31)
    callers = [await b.waiting("a"), await b.waiting("b")]
    b.calls[2].fail(Unwell())
    b.calls[3].fail(Refused())
    await settle()
    assert outcome(callers[0]) == "a#1"
    assert isinstance(error_of(callers[1]), Refused)


async def test_a_failure_of_the_load_does_not_disturb_the_next_one_that_others_wait_for() -> None:
    b = bench(error_ttl=60)
    first = await b.waiting()
    queued = [await b.waiting(max_age=0) for _ in range(3)]
    b.calls[0].fail(Unwell())
    await settle()
    assert isinstance(error_of(first), Unwell)
    b.calls[1].answer()
    await settle()
    assert values(queued) == ["a#2"] * 3
