"""Ask for many accounts in one stream, in memory that does not grow with their number.

A run goes on through an outage. A failure that may be the upstream's fault is no result: the
account is held back, and asked for again when the gate opens or an answer ends the row of failures.
A row that opened the breaker was an outage and counts nothing; two failures in others, which means
that other accounts were answered after each, are the account's own. Where no other account is left
to show that, one that was answered before is asked for once more. An account that failed in three
outages is asked for right after such a one, since many that fail for reasons of their own look like
an outage together. All this ends with the patience.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Sized
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, Self, TypeAlias, cast

from wolf_async.account import Account
from wolf_async.errors import (
    WolfAuthError,
    WolfCircuitOpenError,
    WolfClosedError,
    WolfConfigError,
    WolfEndpointError,
    WolfError,
    WolfRateLimitError,
    WolfTimeoutError,
)
from wolf_async.policy import check_count, check_seconds
from wolf_async.upstream.failures import is_answer, is_local, lacks_token

if TYPE_CHECKING:
    from wolf_async.answer import Ask
    from wolf_async.models import TaskInit

__all__ = [
    "AccountLike",
    "AccountResult",
    "Accounts",
    "Upstream",
    "as_account",
    "check_run",
    "results",
]

AccountLike: TypeAlias = Account | tuple[str, str | None] | str
"""An account, a pair of ids, or the id of a main account."""
Accounts: TypeAlias = Iterable[AccountLike] | AsyncIterable[AccountLike]
"""Any number of accounts, which are read as they are needed."""

_PAUSE: Final = 1.0
"""Seconds to the next try where neither gate nor breaker says how long to wait."""
_OUTAGES: Final = 3
"""Outages after which an account that failed in each is compared with one that was answered."""
_NO_API: Final = 3
"""Accounts without a success after which the base URL is wrong, not the accounts."""


class AccountResult(NamedTuple):
    """What came of one account: exactly one of ``init`` and ``error`` is set.

    `WolfClient.task_init_many` yields it.

    Attributes:
        account: the account, with the ids as they were given.
        init: the answer.
        error: what went wrong instead.

    >>> import asyncio
    >>> from wolf_async import WolfClient
    >>> from wolf_async.testing import Sandbox
    >>> async def main() -> None:
    ...     async with Sandbox() as box, WolfClient(box.token, base_url=box.base_url) as wolf:
    ...         results = wolf.task_init_many([box.users[0], "nobody"], concurrency=1)
    ...         async for account, init, error in results:
    ...             print("lines" if init else type(error).__name__)
    >>> asyncio.run(main())
    lines
    WolfNotFoundError

    """

    account: Account
    init: TaskInit | None
    error: WolfError | None


class Upstream(Protocol):
    """What a run asks about all requests of the client."""

    def is_shut(self) -> bool:
        """Tell whether the gate that a 429 closes, or the breaker, holds requests back."""
        ...

    def opens_in(self) -> float:
        """Return the seconds that this lasts, or 0 if nobody knows."""
        ...

    def refusal(self) -> WolfError:
        """Return what a request would raise now."""
        ...

    async def wait_for_change(self, seconds: float) -> None:
        """Wait until this may have changed, but no longer than ``seconds``."""
        ...

    @property
    def is_failing(self) -> bool:
        """Whether the last requests have failed in a row."""
        ...

    @property
    def breaker_opened(self) -> int:
        """How often such a row has opened the breaker."""
        ...

    @property
    def said_no(self) -> int:
        """How many requests the API has answered with a no, which shows that it is up."""
        ...

    def is_held_up(self, error: BaseException) -> bool:
        """Tell whether a load that has failed so may say nothing about its account."""
        ...


class _End(NamedTuple):
    """A worker has no more to do."""

    error: BaseException | None


class _Job(NamedTuple):
    """An account to ask for."""

    item: AccountLike
    max_age: float | None
    """As in `Ask`; 0 once it has failed, so that no remembered failure is the answer."""
    is_probe: bool = False
    """Whether it was answered before, and is asked for only to see whether anything is."""
    failure: AccountResult | None = None
    """What came of it the last time, if that was in a row of failures."""
    failures: int = 0
    """How often that was so, and the row ended without having opened the breaker."""
    answers: int = -1
    """How many answers the run had then: more mean that the row has ended."""
    opened: int = -1
    """How often the breaker had opened then: more mean that the row was an outage."""
    outages: int = 0
    """In how many outages it has failed."""
    is_compared: bool = False
    """Whether the upstream has answered for another account just before."""


async def results(
    accounts: Accounts,
    ask: Ask,
    *,
    concurrency: int,
    max_age: float | None,
    patience: float,
    upstream: Upstream,
    clock: Callable[[], float],
) -> AsyncGenerator[AccountResult, None]:
    """Yield what ``ask`` gives for each of ``accounts``, as it completes.

    As many workers as ``concurrency`` are all the tasks there are, however many accounts come. What
    they have ready and nobody has taken yet is bounded, so that a slow reader slows them down; and
    since they wait for room, a long run of answers that need no waiting still lets the loop do
    other work.

    An error of the source, and what ends the run, is raised after the results of what was under
    way. `WolfClosedError` ends the run. ``clock`` is that of the answers' ages.
    """
    run = _Run(accounts, ask, max_age, _Patience(patience, upstream), upstream, clock=clock)
    ready: asyncio.Queue[AccountResult | _End] = asyncio.Queue()
    room = asyncio.Semaphore(concurrency)
    left = min(concurrency, len(accounts)) if isinstance(accounts, Sized) else concurrency
    workers = [asyncio.create_task(_work(run, ready, room)) for _ in range(left)]
    result: AccountResult | _End | None = None
    failure: BaseException | None = None
    is_empty = True
    try:
        while left:
            result = await ready.get()
            if isinstance(result, AccountResult):
                room.release()
                is_empty = False
                yield result
            else:
                left -= 1
                failure = failure or result.error
        if failure is not None:
            raise failure
        for result in run.rest(is_all=is_empty):
            yield result
    finally:
        result = failure = None  # or they would hold this frame, which holds them
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)


async def _work(
    run: _Run, ready: asyncio.Queue[AccountResult | _End], room: asyncio.Semaphore
) -> None:
    """Ask for what the run gives.

    Results wait for room; the end does not, so that it is told however it comes.
    """
    try:
        async for job in run:
            for result in await run.results_of(job):
                await room.acquire()
                ready.put_nowait(result)
    except BaseException as error:
        # also where this task was cancelled: a timeout or a group within the source knows no other
        # task to cancel
        ready.put_nowait(_End(run.reason_of(error)))
        if not isinstance(error, Exception):
            raise
    else:
        ready.put_nowait(_End(None))


class _Run:
    """The accounts of a run, to whichever worker asks next, and what their failures mean."""

    def __init__(
        self,
        accounts: Accounts,
        ask: Ask,
        max_age: float | None,
        patience: _Patience,
        upstream: Upstream,
        *,
        clock: Callable[[], float],
    ) -> None:
        self._source = _Feed(accounts)
        self._ask = ask
        self._max_age = max_age
        self._patience = patience
        self._upstream = upstream
        self._clock = clock
        self._held_back: deque[_Job] = deque()
        self._no_api: list[AccountResult] = []
        """Failures that are results only if some other account succeeds."""
        self._asking = 0
        """Workers that wait for an answer."""
        self._waiting: set[asyncio.Task[Any] | None] = set()
        """Workers that wait for an account, or until it may be asked for."""
        self._answers = 0
        self._has_succeeded = False
        """Whether any account was answered."""
        self._witness: _Job | None = None
        """An account that was answered, as long as asking for it shows anything."""
        self._has_ended = False
        # one comparison at a time, or two that fail in it would look like an outage
        self._comparison = asyncio.Lock()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> _Job:
        if self._has_ended:
            raise StopAsyncIteration
        task = asyncio.current_task()
        self._waiting.add(task)
        try:
            had_to_wait = await self._wait_until_open()
            return await self._next(is_over=had_to_wait)
        finally:
            self._waiting.discard(task)

    async def _wait_until_open(self) -> bool:
        try:
            return await self._patience.wait_until_open()
        except WolfError:
            self._end()
            raise

    async def _next(self, *, is_over: bool) -> _Job:
        """Return the next account, or one that was held back if what did so is over.

        While a row of failures lasts, new accounts show whether the upstream is at fault. Where
        none can come before those held back have their results, and when requests fail again or
        the breaker wants a probe, that is shown by asking once more for one that was answered.
        """
        while self._held_back and not (is_over or self._row_has_ended()):
            if not self._asking and self._source.is_of_no_help:
                return self._probe()
            if self._source.has_ended:  # others are asking
                await self._upstream.wait_for_change(_PAUSE)
                continue
            with contextlib.suppress(StopAsyncIteration):
                return _Job(await anext(self._source), self._max_age)
        if not self._held_back:
            return _Job(await anext(self._source), self._max_age)
        return self._probe() if self._upstream.is_failing else self._release()

    def _row_has_ended(self) -> bool:
        return not self._upstream.is_failing or self._held_back[0].answers < self._answers

    def _probe(self) -> _Job:
        return self._witness or self._release()

    def _release(self) -> _Job:
        job = self._held_back.popleft()
        was_outage = job.failure is not None and job.opened < self._upstream.breaker_opened
        return job._replace(failures=0, outages=job.outages + 1) if was_outage else job

    async def results_of(self, job: _Job) -> list[AccountResult]:
        """Ask for an account; return what is a result now, of it or of earlier ones.

        Raises what ends the run.
        """
        if job.failure is not None and job.failures > 1:
            return [job.failure]
        if job.outages < _OUTAGES:
            return await self._ask_once(job)
        async with self._comparison:
            return await self._compare(job)

    async def _compare(self, job: _Job) -> list[AccountResult]:
        """Ask for an account right after one that was answered, to tell whose fault a failure is.

        Accounts that always fail would open the breaker together each time that they are asked for.
        """
        if self._has_ended:
            return []
        if self._witness is None:
            return await self._ask_once(job)
        answers = self._answers
        await self._ask_once(self._witness)
        if self._answers > answers:
            return await self._ask_once(job._replace(is_compared=True))
        self._held_back.append(job._replace(answers=answers))
        return []

    async def _ask_once(self, job: _Job) -> list[AccountResult]:
        self._asking += 1
        try:
            result, is_new = await self._ask_for(job)
            if is_new:
                self._answers += 1
                self._patience.renew()
            found = self._judge(job, result)
        except WolfError:
            self._end()
            raise
        finally:
            self._asking -= 1
        if not found and _ends_unannounced(result.error):
            await asyncio.sleep(min(_PAUSE, self._patience.left()))
        return found

    async def _ask_for(self, job: _Job) -> tuple[AccountResult, bool]:
        """Return what comes of an account, and whether a request was sent for it and answered."""
        account = Account(cast("str", job.item))
        began, said_no = self._clock(), self._upstream.said_no
        try:
            account = as_account(job.item)
            served = await self._ask(account, job.max_age)
            return AccountResult(account, served.value.init, None), served.sent_at >= began
        except WolfClosedError:
            raise
        except WolfError as error:
            if error.account is None:
                error.account = account
            # a no that the cache remembers shows nothing of now
            is_new = is_answer(error) and self._upstream.said_no > said_no
            return AccountResult(account, None, error), is_new

    def _judge(self, job: _Job, result: AccountResult) -> list[AccountResult]:
        """Return what is a result now; hold the account back, or raise what ends the run."""
        error = result.error
        if error is None:
            self._has_succeeded = True
            self._witness = _Job(job.item, max_age=0, is_probe=True)
            found, self._no_api = [*self._no_api, result], []
            return [] if job.is_probe else found
        if isinstance(error, WolfAuthError) and not lacks_token(error):
            raise error  # the token is refused, whatever the account
        if isinstance(error, WolfEndpointError) and not self._has_succeeded:
            self._no_api.append(result)
            if len(self._no_api) == _NO_API:
                raise error
            return []
        if self._is_its_own(job, error):
            if job.is_probe and not is_answer(error):
                self._witness = None  # or it would be asked for again at once, without an end
            return [] if job.is_probe else [result]
        self._hold_back(job, result, error)
        return []

    def _is_its_own(self, job: _Job, error: WolfError) -> bool:
        """Tell whether a failure is the account's own, not the upstream's or this machine's."""
        if self._patience.is_none or lacks_token(error):
            return self._patience.is_none
        return not self._upstream.is_held_up(error) or (job.is_compared and not _is_nobodys(error))

    def _hold_back(self, job: _Job, result: AccountResult, error: WolfError) -> None:
        self._patience.use(error)
        if job.is_probe:
            return
        if _is_nobodys(error):
            # to be asked for as soon as requests may be sent
            opened = self._upstream.breaker_opened  # it has not failed in what opened it
            self._held_back.append(job._replace(max_age=0, answers=-1, opened=opened))
            return
        is_outage = self._upstream.is_shut()
        self._held_back.append(
            _Job(
                job.item,
                max_age=0,
                failure=result,
                failures=job.failures if is_outage else job.failures + 1,
                answers=self._answers,
                opened=self._upstream.breaker_opened,
                outages=job.outages + is_outage,
            )
        )

    def rest(self, *, is_all: bool) -> list[AccountResult]:
        """Return the results that are left at the end; raise what was wrong with all accounts."""
        if self._no_api and is_all:
            error = self._no_api[-1].error
            assert error is not None
            raise error
        return self._no_api

    def reason_of(self, error: BaseException) -> BaseException | None:
        """Return what to tell the reader of a worker that ended in ``error``."""
        if not isinstance(error, asyncio.CancelledError):
            return error
        if self._has_ended:
            return None  # the worker that has ended the run tells why
        # raised as it is, it would look as if whoever reads the results had been cancelled
        ours = WolfError("the source of the accounts was cancelled, not by who reads the results")
        ours.__cause__ = error
        return ours

    def _end(self) -> None:
        """Let no worker ask for more, also none that waits to."""
        self._has_ended = True
        for task in self._waiting - {asyncio.current_task()}:
            if task is not None:
                task.cancel()


def _is_nobodys(error: WolfError) -> bool:
    """Tell whether an error says nothing of the account, nor that its request has failed."""
    unsent = (WolfCircuitOpenError, WolfRateLimitError)
    return isinstance(error, unsent) or _ends_unannounced(error)


def _ends_unannounced(error: WolfError | None) -> bool:
    """Tell whether neither gate nor breaker says when asking again makes sense.

    So it is where the pace, or the place, would have come too late for a request to be sent.
    """
    if error is None:
        return False
    is_late = isinstance(error, (WolfRateLimitError, WolfTimeoutError)) and not error.attempts
    return is_late or is_local(error) or lacks_token(error)


class _Patience:
    """How long a run waits for an upstream that answers nothing: since its last answer."""

    def __init__(self, seconds: float, upstream: Upstream) -> None:
        self._seconds = seconds
        self._upstream = upstream
        self._since: float | None = None
        """When the first failure came after the last answer."""
        self._error: WolfError | None = None

    @property
    def is_none(self) -> bool:
        """Whether every failure is a result at once."""
        return self._seconds == 0

    def left(self) -> float:
        """Return the seconds that are left, counted from now if it was not in use."""
        now = asyncio.get_running_loop().time()
        if self._since is None:
            self._since = now
        return self._since + self._seconds - now

    def use(self, error: WolfError) -> None:
        """Note a failure that is no account's; raise it if no patience is left."""
        if self._error is None or not isinstance(error, WolfCircuitOpenError):
            self._error = error  # which request failed says more than that none was sent
        if self.left() <= 0:
            raise self._error

    def renew(self) -> None:
        """Start anew, since a request was answered."""
        self._since = self._error = None

    async def wait_until_open(self) -> bool:
        """Wait while no request is let through; tell whether there was anything to wait for.

        Raises what is wrong if that lasts longer than the patience.
        """
        had_to_wait = False
        while self._upstream.is_shut() and not self.is_none:
            had_to_wait = True
            left, opens_in = self.left(), self._upstream.opens_in()
            refusal = self._upstream.refusal()
            is_gate = isinstance(refusal, WolfRateLimitError)
            # a gate is waited for to its very end, and what comes then decides
            if opens_in > max(left, 0) if is_gate else left <= 0:
                raise refusal if is_gate else self._error or refusal
            pause = opens_in or _PAUSE
            await self._upstream.wait_for_change(min(left, pause) if left > 0 else pause)
        return had_to_wait


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
    """The accounts of the source, one at a time, to whichever worker asks next."""

    def __init__(self, accounts: Accounts) -> None:
        self._next = _aiter(accounts).__anext__
        # an async source must not be asked for its next item while it is still at the last one
        self._turn = asyncio.Lock()
        self._may_wait = isinstance(accounts, AsyncIterable)
        self.has_ended = False

    @property
    def is_of_no_help(self) -> bool:
        """Whether the next account may come only after some result, or never."""
        return self.has_ended or self._may_wait or self._turn.locked()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> AccountLike:
        async with self._turn:
            if self.has_ended:
                raise StopAsyncIteration
            try:
                return await self._next()
            except BaseException:
                self.has_ended = True
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


def check_run(accounts: object, concurrency: object, max_age: object, patience: object) -> None:
    """Raise `WolfConfigError` for what makes no sense: a single account in place of many, say."""
    if isinstance(accounts, (str, bytes, Account)) or not isinstance(
        accounts, (Iterable, AsyncIterable)
    ):
        raise WolfConfigError(f"accounts must be an iterable of accounts, not {accounts!r}")
    if concurrency is not None:
        check_count("concurrency", concurrency)
    if max_age is not None:
        check_seconds("max_age", max_age)
    check_seconds("patience", patience)
