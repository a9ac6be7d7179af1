"""A loader that does as the test says, and the steps that a test takes with a cache over it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, TypeVar

from wolf_async.cache import LoadingCache
from wolf_async.errors import WolfError
from wolf_async.policy import CachePolicy
from wolf_async.testing.clock import FakeClock

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Hashable, Iterable
    from types import EllipsisType

T = TypeVar("T")

SETTLED: Final = 30
"""Turns of the loop after which nothing moves any more, unless a gate is opened."""


class Call:
    """One call of the loader; it waits until the test decides how it ends."""

    def __init__(self, key: Hashable, number: int) -> None:
        self.key = key
        self.default = f"{key}#{number}"
        """What `answer` returns unless told otherwise: the key and the call's number, from 1."""
        self.cancelled = False
        self.ended = False
        self._gate = asyncio.Event()
        self._outcome: object = None

    def answer(self, value: object = ...) -> None:
        self._end(self.default if value is ... else value)

    def fail(self, error: BaseException) -> None:
        self._end(error)

    def cancel_itself(self) -> None:
        self._end(asyncio.CancelledError())

    def _end(self, outcome: object) -> None:
        self._outcome = outcome
        self._gate.set()

    async def outcome(self) -> Any:
        await self._gate.wait()
        if isinstance(self._outcome, BaseException):
            raise self._outcome
        return self._outcome


class Upstream:
    """A loader with one gate and one record per call, all held until the test ends them."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.always: type[BaseException] | EllipsisType | None = None
        """Calls end at once: in an error of that kind or, with ``...``, in their default value."""
        self.clean_up: asyncio.Event | None = None
        """What a cancelled call waits for before it ends."""

    async def __call__(self, key: Hashable) -> Any:
        call = Call(key, 1 + sum(call.key == key for call in self.calls))
        self.calls.append(call)
        if isinstance(self.always, type):
            call.fail(self.always("down"))
        elif self.always is not None:
            call.answer()
        try:
            return await call.outcome()
        except asyncio.CancelledError:
            call.cancelled = True
            if self.clean_up is not None:
                await self.clean_up.wait()
            raise
        finally:
            call.ended = True

    @property
    def keys(self) -> list[Hashable]:
        """The keys of all calls so far."""
        return [call.key for call in self.calls]


class Bench:
    """A cache with its upstream and its clock."""

    def __init__(self, policy: CachePolicy | None, **options: Any) -> None:
        self.clock = FakeClock(1000.0)
        self.upstream = Upstream()
        self.cache: LoadingCache[Any, Any] = LoadingCache(
            options.pop("load", self.upstream), policy=policy, clock=self.clock, **options
        )
        self.started = 0
        """Calls of `get` so far."""

    @property
    def calls(self) -> list[Call]:
        return self.upstream.calls

    def get(self, key: Any = "a", *, max_age: float | None = None) -> asyncio.Task[Any]:
        """Start a caller in a task; it takes its first step when the test next waits."""
        self.started += 1
        return asyncio.create_task(self.cache.get(key, max_age=max_age))

    async def waiting(self, key: Any = "a", *, max_age: float | None = None) -> asyncio.Task[Any]:
        """Start a caller that then waits for a load."""
        task = self.get(key, max_age=max_age)
        await settle()
        assert not task.done(), "it was answered at once"
        return task

    async def at_once(self, key: Any = "a", *, max_age: float | None = None) -> Any:
        """Return what a caller gets with nothing else happening."""
        task = self.get(key, max_age=max_age)
        await settle()
        return outcome(task)

    async def hold(self, key: Any = "a", value: object = ...) -> Any:
        """Load a value and keep it."""
        task = await self.waiting(key)
        self.calls[-1].answer(value)
        await settle()
        return outcome(task)

    def assert_balanced(self, values: int) -> None:
        """Check that every call so far is counted once, and so is every load."""
        stats = self.cache.stats()
        calls = stats.hits + stats.stale_hits + stats.error_hits + stats.misses + stats.joined
        assert calls == self.started
        assert stats.loads == values + stats.failures + stats.abandoned + stats.in_flight


def bench(load: Any = None, **options: Any) -> Bench:
    """Make a cache from settings of `CachePolicy` and arguments of `LoadingCache`."""
    own: dict[str, Any] = {
        name: options.pop(name) for name in ("sizeof", "is_unwell") if name in options
    }
    if load is not None:
        own["load"] = load
    return Bench(CachePolicy(**options), **own)


async def settle() -> None:
    """Let everything that can run, run."""
    for _ in range(SETTLED):
        await asyncio.sleep(0)


async def turn_until(happened: Callable[[], bool]) -> None:
    """Let the loop run for as few turns as it takes."""
    for _ in range(SETTLED):
        if happened():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never happened")


def outcome(task: asyncio.Task[T]) -> T:
    """Return what a task ended in; fail if it still waits, so that nothing hangs."""
    if not task.done():
        task.cancel()
        raise AssertionError("it still waits")
    return task.result()


def error_of(task: asyncio.Task[Any]) -> BaseException:
    """Return the error that a task ended in."""
    assert task.done(), "it still waits"
    assert not task.cancelled(), "it was cancelled"
    error = task.exception()
    assert error is not None, f"it got {task.result()!r}"
    return error


async def soon(coroutine: Coroutine[Any, Any, T]) -> T:
    """Return what a coroutine returns with nothing else happening."""
    task = asyncio.create_task(coroutine)
    await settle()
    return outcome(task)


async def cancel(*tasks: asyncio.Task[Any]) -> None:
    """Cancel them all in one tick, and see that they were."""
    for task in tasks:
        task.cancel()
    await settle()
    assert all(task.cancelled() for task in tasks)


def values(tasks: Iterable[asyncio.Task[T]]) -> list[T]:
    return [outcome(task) for task in tasks]


def frames_of(error: BaseException) -> int:
    """How many frames its traceback has."""
    count, traceback = 0, error.__traceback__
    while traceback is not None:
        count, traceback = count + 1, traceback.tb_next
    return count


class Unwell(WolfError):  # noqa: N818 - a state, as the policy speaks of it
    """The upstream is not well."""


class Refused(WolfError):  # noqa: N818
    """The upstream said no."""


def is_unwell(error: BaseException) -> bool:
    return not isinstance(error, Refused)
