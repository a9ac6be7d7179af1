"""Many accounts in one stream: results as they complete, in memory that does not grow with their number."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable, Sized
from typing import Any, NamedTuple, Self, TypeAlias, cast

from wolf_async.account import Account
from wolf_async.errors import WolfClosedError, WolfConfigError, WolfError
from wolf_async.models import TaskInit

__all__ = ["AccountLike", "AccountResult", "Accounts", "as_account", "results"]

AccountLike: TypeAlias = Account | tuple[str, str | None] | str
"""An account, a pair of ids, or the id of a main account."""
Accounts: TypeAlias = Iterable[AccountLike] | AsyncIterable[AccountLike]


class AccountResult(NamedTuple):
    """What came of one account: exactly one of ``init`` and ``error`` is set."""

    account: Account
    """The account, with the ids as they were given."""
    init: TaskInit | None
    """The answer."""
    error: WolfError | None
    """What went wrong instead."""


class _End(NamedTuple):
    """A worker has no more to do."""

    error: BaseException | None


async def results(
    accounts: Accounts, ask: Callable[[Account], Awaitable[TaskInit]], concurrency: int
) -> AsyncGenerator[AccountResult, None]:
    """What ``ask`` gives for each of ``accounts``, as it completes, with that many workers.

    The workers are all the tasks there are, however many accounts come. What they have ready and nobody has taken
    yet is bounded, so that a slow reader slows them down; and since they wait for room, a long run of answers
    that need no waiting still lets the loop do other work.

    An error of the source is raised after the results of what was under way. `WolfClosedError` ends the stream.
    """
    feed = _Feed(accounts)
    ready: asyncio.Queue[AccountResult | _End] = asyncio.Queue()
    room = asyncio.Semaphore(concurrency)
    left = min(concurrency, len(accounts)) if isinstance(accounts, Sized) else concurrency
    workers = [asyncio.create_task(_work(feed, ask, ready, room)) for _ in range(left)]
    result: AccountResult | _End | None = None
    failure: BaseException | None = None
    try:
        while left:
            result = await ready.get()
            if isinstance(result, AccountResult):
                room.release()
                yield result
            else:
                left -= 1
                failure = failure or result.error
        if failure is not None:
            raise failure
    finally:
        result = failure = None  # or they would hold this frame, which holds them
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)


async def _work(
    feed: _Feed,
    ask: Callable[[Account], Awaitable[TaskInit]],
    ready: asyncio.Queue[AccountResult | _End],
    room: asyncio.Semaphore,
) -> None:
    """Ask for what the feed gives. Results wait for room; the end does not, so that it is told however it comes."""
    try:
        async for item in feed:
            result = await _result(item, ask)
            await room.acquire()
            ready.put_nowait(result)
    except BaseException as error:
        # also where this task was cancelled: a timeout or a group within the source knows no other task to cancel
        ready.put_nowait(_End(_as_the_sources(error)))
        if not isinstance(error, Exception):
            raise
    else:
        ready.put_nowait(_End(None))


def _as_the_sources(error: BaseException) -> BaseException:
    if not isinstance(error, asyncio.CancelledError):
        return error
    # raised as it is, it would look as if whoever reads the results had been cancelled
    ours = WolfError("the source of the accounts was cancelled, not by who reads the results")
    ours.__cause__ = error
    return ours


async def _result(
    item: AccountLike, ask: Callable[[Account], Awaitable[TaskInit]]
) -> AccountResult:
    account = Account(cast("str", item))
    try:
        account = as_account(item)
        return AccountResult(account, await ask(account), None)
    except WolfClosedError:
        raise
    except WolfError as error:
        if error.account is None:
            error.account = account
        return AccountResult(account, None, error)


def as_account(item: Any) -> Account:
    """Return the account that ``item`` names; raise `WolfConfigError` if it cannot name one."""
    if isinstance(item, str):
        return Account(item)
    if isinstance(item, tuple) and len(cast("tuple[object, ...]", item)) == 2:
        return Account(*cast("tuple[str, str | None]", item))
    raise WolfConfigError(
        f"an account must be an Account, a pair of ids or a main account's id, not {item!r}"
    )


class _Feed:
    """The accounts, one at a time, to whichever worker asks next."""

    def __init__(self, accounts: Accounts) -> None:
        self._next = _aiter(accounts).__anext__
        # an async source must not be asked for its next item while it is still at the last one
        self._turn = asyncio.Lock()
        self._ended = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> AccountLike:
        async with self._turn:
            if self._ended:
                raise StopAsyncIteration
            try:
                return await self._next()
            except BaseException:
                self._ended = True
                raise


def _aiter(accounts: Accounts) -> AsyncGenerator[AccountLike, None]:
    async def one_by_one() -> AsyncGenerator[AccountLike, None]:
        if isinstance(accounts, AsyncIterable):
            async for account in accounts:
                yield account
        else:
            for account in accounts:
                yield account

    return one_by_one()


def check_accounts(accounts: object) -> None:
    """Raise `WolfConfigError` for what is no collection of accounts, a single one above all."""
    if isinstance(accounts, (str, bytes, Account)) or not isinstance(
        accounts, (Iterable, AsyncIterable)
    ):
        raise WolfConfigError(f"accounts must be an iterable of accounts, not {accounts!r}")
