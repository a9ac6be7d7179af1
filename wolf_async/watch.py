"""Tell the answers of one or many accounts over time: the first, then each change."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from wolf_async.account import Account
from wolf_async.bulk import as_account
from wolf_async.errors import (
    WolfAPIError,
    WolfCircuitOpenError,
    WolfClosedError,
    WolfConfigError,
    WolfError,
)
from wolf_async.upstream.failures import is_unwell
from wolf_async.upstream.signals import Signal

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence

    from wolf_async.answer import Answer, Ask
    from wolf_async.bulk import AccountLike
    from wolf_async.models import TaskInit
    from wolf_async.policy import CachePolicy

__all__ = ["AccountUpdate", "Sleep", "check_watched", "watch", "watch_many"]


class AccountUpdate(NamedTuple):
    """What is new of one account: exactly one of ``answer`` and ``error`` is set.

    `WolfClient.watch_many` yields it. Closing the stream, as here, ends its requests at once.

    Attributes:
        account: the account.
        answer: the answer, with its age when it was asked for.
        error: what went wrong instead; the account is asked for again in the next period.

    >>> import asyncio
    >>> from contextlib import aclosing
    >>> from wolf_async import WolfClient
    >>> from wolf_async.testing import Sandbox
    >>> async def main() -> None:
    ...     async with Sandbox() as box, WolfClient(box.token, base_url=box.base_url) as wolf:
    ...         async with aclosing(wolf.watch_many([box.users[0]], every=1.0)) as updates:
    ...             async for account, answer, error in updates:
    ...                 print(account == (box.users[0], None), answer is not None, error)
    ...                 break
    >>> asyncio.run(main())
    True True None

    """

    account: Account
    answer: Answer | None
    error: WolfError | None


class Sleep:
    """Sleep for some seconds, or until the client is closed."""

    __slots__ = ("_closing", "_is_closed")

    def __init__(self) -> None:
        self._is_closed = False
        self._closing = Signal()

    async def __call__(self, seconds: float) -> None:
        """Return when the time is over, or `close` is called, or at once after that."""
        if not self._is_closed:
            await self._closing.wait(seconds)

    def close(self) -> None:
        """End all sleep, that to come included."""
        self._is_closed = True
        self._closing.wake()


async def watch(
    account: Account,
    ask: Ask,
    *,
    every: float,
    clock: Callable[[], float],
    sleep: Callable[[float], Awaitable[None]],
    policy: CachePolicy | None,
) -> AsyncGenerator[TaskInit, None]:
    """Yield the first answer that ``ask`` gives for the account, then each that differs."""
    served = await ask(account, every)
    yield served.value.init
    # counted from when the answer was sent, not from when this watcher got it: all watchers of an
    # account wake at the same time, and the first one's request serves them all
    pause = served.sent_at + every - clock()
    while True:
        await sleep(max(0.0, pause))
        old = served.value.init
        try:
            served = await ask(account, every / 2)
        except Exception as error:
            if not _outlives(policy, error, clock() - served.sent_at):
                raise
            pause = every
            continue
        new = served.value.init
        # an equal one is another object where the cache no longer held the older one
        if new is not old and new != old:
            yield new
        pause = served.sent_at + every - clock()


def _outlives(policy: CachePolicy | None, error: Exception, age: float) -> bool:
    """Tell whether an answer of that age stays good enough although asking again has failed."""
    window = max(policy.stale_while_revalidate, policy.stale_if_error) if policy else 0.0
    return policy is not None and is_unwell(error) and age <= policy.ttl + window


async def watch_many(
    accounts: Sequence[Account],
    ask: Callable[[Account, float], Awaitable[Answer]],
    *,
    every: float,
    unchanged: bool,
    concurrency: int,
    sleep: Callable[[float], Awaitable[None]],
) -> AsyncGenerator[AccountUpdate, None]:
    """Yield the first answer or error of each account, then each change of it.

    ``ask(account, max_age)`` gives an answer of at most that age, in seconds, or a stale one that
    stands in for it, or raises a `WolfError`. `WolfClosedError` ends the stream. The workers are
    all the tasks there are, and one of them at a time sleeps until an account is due.
    """
    news = _News(unchanged=unchanged)
    turns = _Turns(accounts, every, sleep)
    workers = [
        asyncio.create_task(_ask_in_turn(turns, ask, every / 2, news))
        for _ in range(min(concurrency, len(accounts)))
    ]
    for worker in workers:
        worker.add_done_callback(news.note_end)
    try:
        while workers:
            yield await news.take()
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)


def check_watched(accounts: Iterable[AccountLike]) -> list[Account]:
    """Return the accounts to watch, each once; raise `WolfConfigError` for what cannot be one."""
    if not isinstance(accounts, (str, bytes, Account)):
        try:
            return list(dict.fromkeys(map(as_account, accounts)))
        except TypeError:  # no iterable, or one of what cannot be an id
            pass
    raise WolfConfigError(f"accounts must be an iterable of accounts, not {accounts!r}")


async def _ask_in_turn(
    turns: _Turns, ask: Callable[[Account, float], Awaitable[Answer]], max_age: float, news: _News
) -> None:
    while True:
        account = await turns.take()
        try:
            update = AccountUpdate(account, await ask(account, max_age), None)
        except WolfClosedError:
            raise
        except WolfError as error:
            if error.account is None:
                error.account = account
            update = AccountUpdate(account, None, error)
        finally:
            turns.give_back(account)
        news.note(update)


class _Turns:
    """Whose turn it is to be asked: the first time at once, then evenly over the period.

    An account that is still being asked for is passed over. Turns that come late are caught up
    with, but for those later than a tenth of a period, so that a pause does not end in a burst.
    """

    __slots__ = ("_accounts", "_asked", "_due", "_every", "_lock", "_number", "_sleep")

    def __init__(
        self, accounts: Sequence[Account], every: float, sleep: Callable[[float], Awaitable[None]]
    ) -> None:
        self._accounts = accounts
        self._every = every
        self._sleep = sleep
        self._number = 0
        self._due = asyncio.get_running_loop().time() + every
        self._asked: set[Account] = set()
        # only one worker at a time may wait for the next turn: one timer for all accounts
        self._lock = asyncio.Lock()

    async def take(self) -> Account:
        """Return the next account as soon as it is due; it is then asked for until given back."""
        async with self._lock:
            while True:
                account = self._accounts[self._number % len(self._accounts)]
                if self._number >= len(self._accounts):
                    await self._until_due()
                self._number += 1
                if account not in self._asked:
                    self._asked.add(account)
                    return account

    def give_back(self, account: Account) -> None:
        self._asked.discard(account)

    async def _until_due(self) -> None:
        clock = asyncio.get_running_loop().time
        wait = self._due - clock()
        if wait > 0:
            await self._sleep(wait)
        step = self._every / len(self._accounts)
        self._due = max(self._due + step, clock() - self._every / 10)


class _News:
    """What the reader has not seen yet, of each account the newest update."""

    __slots__ = ("_ended", "_ready", "_seen", "_unchanged", "_unseen")

    def __init__(self, *, unchanged: bool) -> None:
        self._unchanged = unchanged
        self._seen: dict[Account, AccountUpdate] = {}
        self._unseen: dict[Account, AccountUpdate] = {}
        self._ready = asyncio.Event()
        self._ended: asyncio.Task[None] | None = None

    def note(self, update: AccountUpdate) -> None:
        """Keep an update for the reader, unless it says what the reader has seen last."""
        seen = self._seen.get(update.account)
        if self._unchanged or seen is None or not _is_same(seen, update):
            self._unseen[update.account] = update
            self._ready.set()
        else:  # it was otherwise for a while, of which the reader took no notice
            self._unseen.pop(update.account, None)

    def note_end(self, worker: asyncio.Task[None]) -> None:
        """Keep the end of a worker for the reader, after the updates."""
        self._ended = worker
        self._ready.set()

    async def take(self) -> AccountUpdate:
        """Return the update that has waited longest; raise what ended a worker."""
        while not self._unseen:
            if self._ended is not None:
                self._ended.result()
            self._ready.clear()
            await self._ready.wait()
        account = next(iter(self._unseen))
        update = self._seen[account] = self._unseen.pop(account)
        return update


def _is_same(old: AccountUpdate, new: AccountUpdate) -> bool:
    if old.error is not None and new.error is not None:
        return _nature(old.error) == _nature(new.error)
    if old.answer is None or new.answer is None or old.answer.is_stale != new.answer.is_stale:
        return False
    # an equal one is another object where the cache no longer held the older one
    return old.answer.init is new.answer.init or old.answer.init == new.answer.init


def _nature(error: WolfError) -> tuple[object, ...]:
    """Return what tells an error from another one: not its attempts, body or times."""
    if isinstance(error, WolfAPIError):
        return type(error), error.http_status, error.status, error.code, error.api_message
    if isinstance(error, WolfCircuitOpenError):  # its text tells the seconds that are left
        return (type(error),)
    return type(error), str(error)
