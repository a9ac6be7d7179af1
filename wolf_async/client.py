"""Answer what an account can build a call task from: `WolfClient`, the one door."""

from __future__ import annotations

import warnings
from contextlib import AsyncExitStack
from ssl import SSLContext
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

import aiohttp
import msgspec

from wolf_async.account import Account
from wolf_async.answer import Answer, AnswerLoader, CachedAnswer, Key, as_answer
from wolf_async.api.request import check_ids
from wolf_async.api.response import RawResponse
from wolf_async.bulk import AccountLike, AccountResult, Accounts, check_run, results
from wolf_async.cache import LoadingCache
from wolf_async.clock import system_clock
from wolf_async.create import CreatedTask, TaskCreator
from wolf_async.errors import WolfError
from wolf_async.events import Dispatcher, Listener
from wolf_async.logs import ThrottledLogger
from wolf_async.models import TaskDraft, TaskInit
from wolf_async.policy import (
    BreakerPolicy,
    CachePolicy,
    RetryPolicy,
    Timeouts,
    check_seconds,
    check_type,
)
from wolf_async.settings import ClientSettings
from wolf_async.stats import ClientStats
from wolf_async.turns import LocalTurns
from wolf_async.upstream.auth import TokenProvider
from wolf_async.upstream.failures import is_unwell
from wolf_async.upstream.limits import RateLimit
from wolf_async.upstream.sender import Sender
from wolf_async.watch import AccountUpdate, Sleep, check_watched, watch, watch_many

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable

    from wolf_async.cache.inflight import Served
    from wolf_async.shared import RedisTier

__all__ = ["ClientStats", "WolfClient"]


class WolfClient:
    """Ask the API for the init info of accounts, keep the answers for a while, and share requests.

    Methods name an account by its ``user_id``, and a sub-account by its ``sub_user_id`` too.
    A client belongs to the event loop of its first request. Once that loop is closed it starts
    over on the next one, keeping its answers; while it is open, a call from another loop that
    needs a request raises `WolfConfigError`.

    Args:
        token: the partner's bearer token, an async callable that gives one (called again once after
            a 401), or ``None`` for the environment's ``WOLF_TOKEN``.
        base_url: the deployment that the token belongs to; ``None`` means ``WOLF_BASE_URL`` or else
            ``https://api.wolfsmartcloud.com``.
        cache: how long answers are kept; ``None`` keeps none and still shares requests.
        retry: which failures are tried again.
        breaker: when to stop sending; ``None`` sends requests however many have failed.
        timeouts: how long requests may take, in seconds.
        max_concurrency: at most so many requests are under way at once.
        rate_limit: at most so many requests per second, or a pair of that and how many of them may
            be sent in one burst; ``None`` sets no bound.
        session: an aiohttp session to use, which is not closed; ``None`` makes one.
        allow_http: whether plain http is permitted to hosts other than loopback.
        ssl: a context for TLS; ``None`` is aiohttp's default, which checks certificates.
        trust_env: whether the proxy is taken from the environment as curl does, read once;
            ``.netrc`` is never read.
        proxy: the URL of a proxy to use in place of the environment's; ``None`` leaves that to
            ``trust_env``.
        max_body: most bytes of a response, after decompression; a larger one is an error.
        clock: a function that gives seconds, for the ages of answers alone; tests pass a
            `wolf_async.testing.FakeClock`.
        shared: a `wolf_async.shared.RedisTier`, by which processes share answers and requests;
            ``None`` shares within this client alone.
        listeners: functions that take an event of `wolf_async.events`.

    Raises `WolfConfigError` for settings that make no sense.

    >>> import asyncio
    >>> from wolf_async import WolfClient
    >>> from wolf_async.testing import Sandbox
    >>> async def main() -> None:
    ...     async with Sandbox() as box, WolfClient(box.token, base_url=box.base_url) as wolf:
    ...         first = await wolf.task_init(box.users[0])
    ...         again = await wolf.task_init(box.users[0])
    ...         print(again is first, len(box.calls))
    >>> asyncio.run(main())
    True 1

    """

    def __init__(
        self,
        token: str | TokenProvider | None = None,
        *,
        base_url: str | None = None,
        cache: CachePolicy | None = CachePolicy(),
        retry: RetryPolicy = RetryPolicy(),
        breaker: BreakerPolicy | None = BreakerPolicy(),
        timeouts: Timeouts = Timeouts(),
        max_concurrency: int = 100,
        rate_limit: RateLimit | None = None,
        session: aiohttp.ClientSession | None = None,
        allow_http: bool = False,
        ssl: SSLContext | None = None,
        trust_env: bool = False,
        proxy: str | None = None,
        max_body: int = 16 * 2**20,
        clock: Callable[[], float] = system_clock,
        shared: RedisTier | None = None,
        listeners: Iterable[Listener] = (),
    ) -> None:
        settings = ClientSettings.choose(
            token=token,
            base_url=base_url,
            cache=cache,
            retry=retry,
            breaker=breaker,
            timeouts=timeouts,
            max_concurrency=max_concurrency,
            rate_limit=rate_limit,
            session=session,
            allow_http=allow_http,
            ssl=ssl,
            trust_env=trust_env,
            proxy=proxy,
            max_body=max_body,
            clock=clock,
            shared=shared,
        )
        self._settings = settings
        self._log = ThrottledLogger()
        self._dispatcher = Dispatcher(listeners, self._log)
        self._sender = Sender(settings, self._log, self._dispatcher)
        tier = None if shared is None else self._scope(shared)
        self._loader = self._new_loader(keeps_body=shared is not None)
        self._cache = self._new_cache(tier)
        self._raw = self._new_raw_cache()
        self._creator = self._new_creator(tier)
        self._sleep = Sleep()

    def _new_loader(self, *, keeps_body: bool) -> AnswerLoader:
        return AnswerLoader(
            self._sender,
            self._settings,
            self._dispatcher,
            self._log,
            held=lambda key: self._cache.held(key),  # noqa: PLW0108 (the cache is made later)
            keeps_body=keeps_body,
        )

    def _new_cache(self, tier: RedisTier | None) -> LoadingCache[Key, CachedAnswer]:
        return LoadingCache(
            self._loader.load,
            policy=self._settings.cache,
            sizeof=CachedAnswer.sizeof,
            clock=self._settings.clock,
            is_unwell=self._loader.is_unwell,
            is_shut=self._sender.admission.is_shut,
            name_error=_name_account,
            dispatcher=self._dispatcher,
            marks_sent=True,
            shared=tier,
            codec=None if tier is None else self._loader,
        )

    def _new_raw_cache(self) -> LoadingCache[Key, RawResponse]:
        """Return what shares raw answers among those who ask at once, and keeps none."""
        return LoadingCache(
            self._loader.load_raw,
            policy=None,
            clock=self._settings.clock,
            name_error=_name_account,
            marks_sent=True,
            dispatcher=self._dispatcher,
        )

    def _new_creator(self, tier: RedisTier | None) -> TaskCreator:
        attempt = self._settings.timeouts.attempt
        return TaskCreator(
            self._sender,
            urlsplit(self._settings.base_url),
            ask=self._ask,
            invalidate=self._cache.invalidate,
            attempt=attempt,
            turns=None if tier is None else tier.turns(LocalTurns(), attempt),
        )

    async def task_init(
        self, user_id: str, sub_user_id: str | None = None, *, max_age: float | None = None
    ) -> TaskInit:
        """Return what the account can build a call task from.

        Args:
            user_id: id of the main account.
            sub_user_id: id of the sub-account that the question is about; ``None`` asks about the
                main account itself.
            max_age: the answer was at most so many seconds old when this call began; 0 always asks
                the upstream. ``None`` takes what the client's `CachePolicy` calls good enough.

        Raises `WolfAPIError` or a subclass if the server said no; `WolfConnectionError`,
        `WolfTimeoutError` or `WolfDecodeError` if there was no usable answer; `WolfConfigError`
        for an id or a ``max_age`` that cannot be one; and `WolfClosedError` if the client is
        closed or gets closed meanwhile.

        Source: the vendor's page 任务初始化.

        """
        # what is held or in flight by plain calls first: its ids were checked when it began
        if max_age is None:
            key = (user_id, sub_user_id)
            entry = self._cache.fresh(key)
            if entry is not None:
                return entry.value.init
            found = self._cache.joinable(key) or self._cache.find(check_ids(*key))
        else:
            found = self._cache.find(check_ids(user_id, sub_user_id), max_age)
        return (await found.wait(max_age)).value.init

    async def _ask(self, account: Account, max_age: float | None) -> Served[CachedAnswer]:
        """Return the answer of an account, as `task_init` does, with what is known of its age."""
        return await self._cache.find(check_ids(*account), max_age).wait(max_age)

    async def answer(
        self, user_id: str, sub_user_id: str | None = None, *, max_age: float | None = None
    ) -> Answer:
        """Return what `task_init` returns, with when it was asked for and whether it is stale.

        ``user_id``, ``sub_user_id`` and ``max_age`` are as in `task_init`. It never costs a request
        more, and raises as `task_init` does. `Answer` has an example.
        """
        served = await self._ask(Account(user_id, sub_user_id), max_age)
        return as_answer(served, self._settings.clock())

    async def raw_task_init(self, user_id: str, sub_user_id: str | None = None) -> RawResponse:
        """Return the response as it came: never an older one than this call; nothing is kept.

        ``user_id`` and ``sub_user_id`` are as in `task_init`. Raises as that does, but a response
        that is no refusal is returned even if it cannot be decoded.
        """
        return await self._raw.get(check_ids(user_id, sub_user_id), max_age=0)

    def peek(
        self,
        user_id: str,
        sub_user_id: str | None = None,
        *,
        max_age: float | None = None,
        stale: bool = False,
    ) -> TaskInit | None:
        """Return the answer that is held, if it is fresh or within ``stale_while_revalidate``.

        Never asks the upstream, never suspends, and counts nothing. ``None`` means that no such
        answer is held.

        Args:
            user_id: id of the main account.
            sub_user_id: id of the sub-account, if it is about one.
            max_age: only a fresh answer counts that is at most so many seconds old.
            stale: whether an answer within ``stale_if_error`` counts too, for callers who would
                rather have an old answer than wait.

        Raises `WolfConfigError` for an id or a ``max_age`` that cannot be one.

        """
        answer = self._cache.peek((user_id, sub_user_id), max_age=max_age, stale=stale)
        if answer is None:
            check_ids(user_id, sub_user_id)
            return None
        return answer.init

    def invalidate(self, user_id: str, sub_user_id: str | None = None) -> bool:
        """Forget the account's answer; a request under way serves only those who wait for it.

        ``user_id`` and ``sub_user_id`` are as in `task_init`; the answers of other accounts stay,
        those of the same main account too. Returns whether there was anything to forget. Raises
        `WolfConfigError` for an id that cannot be one.
        """
        return self._cache.invalidate(check_ids(user_id, sub_user_id))

    def clear(self) -> None:
        """Forget all answers, as `invalidate` does for one account."""
        self._cache.clear()

    async def settled(self) -> bool:
        """Wait until the shared tier has all invalidations of this client; at once without a tier.

        Returns ``False`` if the tier cannot be reached within its timeout.
        """
        return await self._cache.settled()

    def task_init_many(
        self,
        accounts: Accounts,
        *,
        concurrency: int | None = None,
        max_age: float | None = None,
        patience: float = 60.0,
    ) -> AsyncGenerator[AccountResult, None]:
        """Yield a result for each of any number of accounts, as it completes.

        Args:
            accounts: an iterable or an asynchronous one, of accounts, pairs of ids, or ids of main
                accounts; it is read as results are taken, and never held.
            concurrency: at most so many accounts are asked for at once; ``None`` is nine tenths of
                ``max_concurrency``.
            max_age: as in `task_init`, in seconds.
            patience: seconds that the run waits through an outage without an answer; 0 makes each
                failure a result at once.

        Accounts that are named twice share what can be shared. Leaving early ends everything that
        was begun; use `contextlib.aclosing` to have that happen at once.

        While an outage lasts, what fails by it (no connection, timeout, 5xx, 429) is asked for
        again, and is no result until it has failed twice while others were answered. A 429 is about
        the token and no result: one that lasts longer than the patience is raised.

        Raises `WolfConfigError` for arguments that make no sense, and after the results of what
        was under way what says nothing about any account: whatever ``accounts`` raises, an outage
        that outlasts the patience, `WolfAuthError` if the token is refused, `WolfEndpointError` if
        three accounts get it before one succeeds, and `WolfClosedError` if the client is or gets
        closed. All else is in the results. `AccountResult` has an example.

        """
        check_run(accounts, concurrency, max_age, patience)
        return results(
            accounts,
            self._ask,
            concurrency=concurrency or self._settings.stream_concurrency,
            max_age=max_age,
            patience=patience,
            upstream=self._sender.admission,
            clock=self._settings.clock,
        )

    def watch(
        self, user_id: str, sub_user_id: str | None = None, *, every: float
    ) -> AsyncGenerator[TaskInit, None]:
        """Yield the account's answer now, and then each that differs, asking ``every`` seconds.

        ``user_id`` and ``sub_user_id`` are as in `task_init`; ``every`` is above 0. An answer that
        equals the one before is no change. However many watch one account with the same period, one
        request a period serves them all, as long as an answer stays fresh for half of that
        (`CachePolicy`'s ``ttl``).

        While the upstream is unwell the watch goes on with the last answer, as long as that is
        within the policy's stale windows; after that, and at once if the server says no, it raises
        as `task_init` does. Raises `WolfConfigError` for arguments that make no sense.
        `watch_many` also tells the age of each answer, and goes on after errors.
        """
        account = Account(*check_ids(user_id, sub_user_id))
        check_seconds("every", every, above=True, finite=True)
        return watch(
            account,
            self._ask,
            every=every,
            clock=self._settings.clock,
            sleep=self._sleep,
            policy=self._settings.cache,
        )

    async def create_task(
        self,
        user_id: str,
        sub_user_id: str | None = None,
        *,
        draft: TaskDraft,
        check: bool = True,
    ) -> CreatedTask:
        """Create a task once, in turn among the creations for the main account.

        The draft is checked against an answer that is asked for when its turn has come, so that the
        tasks of one client never promise more than what is free of a line together. That rests on
        the server taking concurrency off when it creates, which is inferred. The account's answer
        is forgotten afterwards.

        Args:
            user_id: id of the main account.
            sub_user_id: id of the sub-account that the task is for; ``None`` is the main account
                itself.
            draft: what to create; `TaskInit.draft` builds one.
            check: ``False`` leaves out asking and checking, not the turn.

        The request is sent once, on a connection of its own; again only after a 401 or 429, which
        say that nothing was created. Once it is out it has the time of an attempt. A caller who is
        cancelled before it is sent leaves; after that it goes to its end, and its outcome is
        logged.

        Raises `WolfDraftError` with nothing sent if the draft has errors; `WolfUncertainError` if
        the task may or may not have been created; `WolfAPIError` or a subclass if the server said
        no, and then nothing was created; `WolfConfigError` for arguments that make no sense; and
        else as `task_init`, with nothing sent.

        Source: the vendor's table for POST /agent-api/new/user/{user_id}/task. `CreatedTask` has an
        example.

        """
        check_type("check", check, bool)
        account = Account(*check_ids(user_id, sub_user_id))
        return await self._creator.create(account, draft, check=check)

    def watch_many(
        self, accounts: Iterable[AccountLike], *, every: float, unchanged: bool = False
    ) -> AsyncGenerator[AccountUpdate, None]:
        """Yield the first answer or error of each account, then each change of it.

        Args:
            accounts: an iterable of accounts, pairs of ids, or ids of main accounts.
            every: seconds in which each is asked for once, the first time at once and then spread
                evenly.
            unchanged: whether each confirmation is yielded too.

        Whoever reads slowly gets only the newest update of each account. An answer that becomes
        stale, or is so no longer, has changed; an error is the same one if class, status, code and
        message are.

        It goes on after errors: while an answer is within the policy's stale windows, that stands
        in for the error, marked as stale. Raises `WolfConfigError` for arguments that make no
        sense, and `WolfClosedError` when the client is closed. `AccountUpdate` has an example.

        """
        check_seconds("every", every, above=True, finite=True)
        return watch_many(
            check_watched(accounts),
            self._answer_or_stale,
            every=every,
            unchanged=unchanged,
            concurrency=self._settings.stream_concurrency,
            sleep=self._sleep,
        )

    async def _answer_or_stale(self, account: Account, max_age: float) -> Answer:
        try:
            return await self.answer(*account, max_age=max_age)
        except WolfError:
            stale = self._cache.stand_in((account.user_id, account.sub_user_id))
            if stale is None:
                raise
            return as_answer(stale, self._settings.clock())

    def stats(self) -> ClientStats:
        """Return what this client has done since it was made; `ClientStats` tells each count."""
        return ClientStats(
            **msgspec.structs.asdict(self._cache.stats()),
            requests=self._sender.requests,
            retries=self._sender.retries,
            repaired=self._dispatcher.repaired,
            throttled=self._dispatcher.throttled,
            breaker_opened=self._dispatcher.breaker_opened,
        )

    async def aclose(self) -> None:
        """Refuse new calls, end what is under way, and close the session if it is the client's own.

        Who waits gets `WolfClosedError`. Twice is once; a client that was never used has nothing
        to close. Raises `WolfConfigError` on another event loop than the client's, if that is
        still open, and closes nothing then.
        """
        self._sender.check_loop()
        self._creator.refuse()
        self._raw.refuse()
        try:
            await self._cache.end_loads()
        finally:
            # also if whoever closes is cancelled meanwhile, but not if it was refused
            if self._cache.is_closed:
                await self._close_rest()

    async def _close_rest(self) -> None:
        """End what stands beside the cache; only now, so that who wakes finds that closed."""
        self._sleep.close()
        self._sender.admission.close()
        async with AsyncExitStack() as steps:  # each of them, whatever becomes of the others
            # last: a creation that ends invalidates, and gives its turn on
            steps.push_async_callback(self._cache.leave_tier)
            steps.push_async_callback(self._sender.aclose)
            # waits for creations that are out: only when every other call is refused
            steps.push_async_callback(self._creator.aclose)
            steps.push_async_callback(self._raw.aclose)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        shut = self._sender.admission.describe()
        told = f"{self._sender.requests} requests sent, {self.stats()}"
        return f"<WolfClient for {self._settings.base_url}: {told}{shut and ', '}{shut}>"

    def __del__(self) -> None:
        sender = getattr(self, "_sender", None)
        if sender is not None and sender.is_open:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)

    def _scope(self, shared: RedisTier) -> RedisTier:
        """Return the tier for this deployment and credential, which also tells of each 429."""
        admission = self._sender.admission
        tier = shared.scoped_to(
            self._settings.base_url,
            self._settings.token,
            max_body=self._settings.max_body,
            is_unwell=is_unwell,
            on_pause=admission.hold,
        )
        admission.announce = tier.announce_pause
        return tier


def _name_account(error: BaseException, key: Key) -> None:
    """Name the account in an error of a cache, which knows of none."""
    if isinstance(error, WolfError) and error.account is None:
        error.account = Account(*key)
