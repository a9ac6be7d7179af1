"""The one door: `WolfClient` answers what an account can build a call task from right now."""

from __future__ import annotations

import asyncio
import logging
import os
import time
import warnings
from hashlib import sha256
from ssl import SSLContext
from types import NoneType
from typing import TYPE_CHECKING, Final, Self, TypeAlias, TypeVar
from urllib.parse import urlsplit

import aiohttp
import msgspec

from wolf_async.account import Account
from wolf_async.api.request import DEFAULT_BASE_URL, check_account, check_base_url, request_url
from wolf_async.api.response import RawResponse, find_api_error, parse
from wolf_async.bulk import AccountResult, Accounts, check_accounts, results
from wolf_async.cache.inflight import Flight, loading
from wolf_async.cache.loading import CacheStats, Loaded, LoadingCache
from wolf_async.cache.store import PairStore
from wolf_async.errors import (
    WolfConfigError,
)
from wolf_async.events import Dispatcher, Listener, RepairEvent
from wolf_async.logs import ThrottledLogger
from wolf_async.models import TaskInit
from wolf_async.policy import (
    BreakerPolicy,
    CachePolicy,
    RetryPolicy,
    Timeouts,
    check_count,
    check_seconds,
)
from wolf_async.upstream.auth import TokenProvider, check_token
from wolf_async.upstream.failures import is_unwell
from wolf_async.upstream.limits import RateLimit, check_limits
from wolf_async.upstream.sender import Sender
from wolf_async.watch import Sleep, watch

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable

__all__ = ["ClientStats", "WolfClient"]

T = TypeVar("T")

_Key: TypeAlias = tuple[str, str | None]
"""An account as the cache's key: a plain tuple, since the garbage collector visits every named one."""

_loading: Final = loading.get
_BYTES_PER_BODY_BYTE: Final = 3


class ClientStats(CacheStats, frozen=True, kw_only=True):
    """What a client has done since it was made: the counts of its cache, and these."""

    requests: int
    """Requests sent, raw ones included."""
    retries: int
    """Requests sent because an earlier one failed; part of ``requests``."""
    repaired: int
    """Answers that were decoded after quirks in them had been put right."""
    throttled: int
    """Requests that the server refused as too many (429)."""
    breaker_opened: int
    """How often the circuit breaker has opened; a probe that fails does not count."""


class _Answer(msgspec.Struct, frozen=True, gc=False):
    """A decoded answer with what tells an equal one."""

    init: TaskInit
    digest: bytes
    """SHA-256 of the body: that is a third of what the cache would hold."""
    size: int
    """Bytes of the body."""


class WolfClient:
    """Asks the API for the init info of accounts, keeps the answers for a while, and shares each request.

    ``token`` is the partner's bearer token, an async callable that gives one (called again once after a 401), or
    ``None`` for the environment's ``WOLF_TOKEN``. ``base_url`` is the deployment that the token belongs to; ``None``
    means ``WOLF_BASE_URL`` or else ``https://api.wolfsmartcloud.com``. ``cache=None`` keeps no answers and still shares
    requests. ``max_concurrency`` requests at most are under way at once. ``rate_limit`` is requests per second, or a
    pair of that and how many may be sent in one burst. ``session`` is an aiohttp session to use; it is not closed.
    ``allow_http`` permits plain http to hosts other than loopback. ``ssl`` is a context for TLS in place of the
    default one. ``trust_env`` takes the proxy from the environment, read once; ``.netrc`` is never read. ``max_body``
    bounds a response in bytes, after decompression. ``clock`` gives seconds for the ages of answers.

    A client belongs to the event loop of its first request. Once that loop is closed it starts over on the next
    one, keeping its answers; while it is open, a call from another loop that needs a request raises
    `WolfConfigError`.

    Raises `WolfConfigError` for settings that make no sense.
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
        max_body: int = 16 * 2**20,
        clock: Callable[[], float] = time.monotonic,
        listeners: Iterable[Listener] = (),
    ) -> None:
        check_limits(max_concurrency, rate_limit)
        check_count("max_body", max_body)
        _check_type("cache", cache, CachePolicy, NoneType)
        _check_type("retry", retry, RetryPolicy)
        _check_type("breaker", breaker, BreakerPolicy, NoneType)
        _check_type("timeouts", timeouts, Timeouts)
        _check_type("session", session, aiohttp.ClientSession, NoneType)
        _check_type("ssl", ssl, SSLContext, NoneType)
        _check_type("allow_http", allow_http, bool)
        _check_type("trust_env", trust_env, bool)
        if not callable(clock):
            raise WolfConfigError(f"clock must be a function that gives seconds, not {clock!r}")
        self._base_url = _check_base_url(base_url, allow_http)
        self._base = urlsplit(self._base_url)
        self._policy = cache
        self._max_concurrency = max_concurrency
        self._clock = clock
        self._log = ThrottledLogger()
        self._dispatcher = Dispatcher(listeners, self._log)
        self._sender = Sender(
            self._base_url,
            _token(token),
            retry=retry,
            breaker=breaker,
            timeouts=timeouts,
            max_concurrency=max_concurrency,
            rate_limit=rate_limit,
            session=session,
            ssl=ssl,
            trust_env=trust_env,
            max_body=max_body,
            clock=clock,
            log=self._log,
            dispatcher=self._dispatcher,
        )
        store = PairStore[str, str | None, _Answer].of(cache)
        self._held = store.by_parts
        self._cache = LoadingCache(
            self._load,
            policy=cache,
            sizeof=_sizeof,
            clock=clock,
            is_unwell=self._is_unwell,
            store=store,
        )
        self._flights = self._cache.flights
        # raw answers are shared among those who ask at once, and never kept
        self._raw: LoadingCache[Account, RawResponse] = LoadingCache(
            self._load_raw, policy=None, clock=clock
        )
        self._sleep = Sleep()
        self._hits = 0
        self._joined = 0
        self._repaired = 0

    # --- the callers' side -------------------------------------------------------------------------------------

    async def task_init(
        self, user_id: str, sub_user_id: str | None = None, *, max_age: float | None = None
    ) -> TaskInit:
        """What the account can build a call task from.

        ``user_id`` is the main account; with ``sub_user_id`` the question is about that sub-account. With ``max_age``
        (seconds) the answer was at most that old when this call began; 0 always asks the upstream.

        Raises `WolfAPIError` or a subclass if the server said no, `WolfConnectionError`, `WolfTimeoutError` or
        `WolfDecodeError` if there was no usable answer, `WolfConfigError` for an id that cannot be one, and
        `WolfClosedError` if the client is closed or gets closed meanwhile.

        Source: the vendor's page 任务初始化.
        """
        # A hit and the wait for a load under way stand here in full, not in the layers below: one method call more is a
        # tenth of a hit's time, and the way down would make a crowd that waits cost half as much again.
        flight = None
        try:
            entries = self._held.get(user_id)
            entry = None if entries is None else entries.get(sub_user_id)
            if max_age is None:
                if entry is not None:
                    # self._clock() would be looked for in the class first: a twelfth of a hit
                    clock = self._clock
                    if clock() <= entry.fresh_until:
                        self._hits += 1
                        if not entry.used:  # to look is cheaper than to set it each time
                            entry.used = True
                        return entry.value.init
                is_gone = entry is None or self._clock() > entry.gone_at
                flight = self._flights.get((user_id, sub_user_id)) if is_gone else None
        except TypeError:  # this cannot be an id: the way down says so
            pass
        if flight is not None and _loading() is None:
            self._joined += 1
            try:
                landing = await flight.board()
            except (asyncio.CancelledError, GeneratorExit):
                flight.leave()
                raise
            except RuntimeError:
                # How asyncio says that the load is another loop's, of which the way down tells. To look at the running loop
                # before each wait would be a twentieth of what a caller who waits costs.
                flight.unboard()
                self._joined -= 1
            else:
                return (
                    landing.value if landing.error is None else await flight.wait(None, landing)
                ).init
        account = check_account(user_id, sub_user_id)
        found = self._cache.find((account.user_id, account.sub_user_id), max_age)
        return (await found.wait(max_age) if isinstance(found, Flight) else found.value).init

    async def raw_task_init(self, user_id: str, sub_user_id: str | None = None) -> RawResponse:
        """The response as it came: never an older one than this call; nothing of it is kept.

        Raises as `task_init`, but returns a response that is no refusal even if it cannot be decoded.
        """
        return await self._raw.get(check_account(user_id, sub_user_id), max_age=0)

    def peek(
        self, user_id: str, sub_user_id: str | None = None, *, max_age: float | None = None
    ) -> TaskInit | None:
        """The answer that is held for the account, if it is fresh or within ``stale_while_revalidate``.

        Never asks the upstream, never suspends, and counts nothing. With ``max_age`` (seconds) only a fresh answer of
        at most that age. Raises `WolfConfigError` for an id that cannot be one.
        """
        try:  # as in task_init
            entries = self._held.get(user_id)
            entry = None if entries is None else entries.get(sub_user_id)
        except TypeError:
            entry = None
        clock = self._clock
        if entry is not None and max_age is None and clock() <= entry.fresh_until:
            return entry.value.init
        answer = self._cache.peek(check_account(user_id, sub_user_id), max_age=max_age)
        return None if answer is None else answer.init

    def invalidate(self, user_id: str, sub_user_id: str | None = None) -> bool:
        """Forget the account's answer; a request under way serves those who wait for it, and nobody after them.

        Returns whether there was anything to forget. Raises `WolfConfigError` for an id that cannot be one.
        """
        return self._cache.invalidate(check_account(user_id, sub_user_id))

    def clear(self) -> None:
        """Forget all answers, as `invalidate` does for one account."""
        self._cache.clear()

    def task_init_many(
        self, accounts: Accounts, *, concurrency: int | None = None, max_age: float | None = None
    ) -> AsyncGenerator[AccountResult, None]:
        """Results for any number of accounts as they complete, each with its answer or its error.

        ``accounts`` is an iterable or an asynchronous one, of accounts, pairs of ids, or ids of main accounts; it is read
        as results are taken, and never held. At most ``concurrency`` accounts (``max_concurrency`` by default) are
        asked for at once. ``max_age`` is that of `task_init`. Accounts that are named twice share what can be shared.
        Leaving early ends everything that was begun; use `contextlib.aclosing` to have that happen at once.

        Raises `WolfConfigError` for arguments that make no sense, `WolfClosedError` if the client is or gets closed, and
        whatever ``accounts`` raises, after the results of what was under way. All else is in the results.
        """
        check_accounts(accounts)
        if concurrency is not None:
            check_count("concurrency", concurrency)
        if max_age is not None:
            check_seconds("max_age", max_age)

        def ask(account: Account) -> Awaitable[TaskInit]:
            return self.task_init(*account, max_age=max_age)

        return results(accounts, ask, concurrency or self._max_concurrency)

    def watch(
        self, user_id: str, sub_user_id: str | None = None, *, every: float
    ) -> AsyncGenerator[TaskInit, None]:
        """The account's answer now, and then each that differs, asked for ``every`` so many seconds.

        An answer that equals the one before is no change. However many watch one account with the same period, one
        request a period serves them all, as long as an answer stays fresh for half of that (`CachePolicy`'s ``ttl``).

        While the upstream is unwell the watch goes on with the last answer, as long as that is within the policy's
        stale windows; after that, and at once if the server says no, it raises as `task_init` does.
        """
        account = check_account(user_id, sub_user_id)
        check_seconds("every", every, above=True, finite=True)

        async def ask(max_age: float) -> tuple[TaskInit, float]:
            began = self._clock()
            init = await self.task_init(*account, max_age=max_age)
            return init, self._cache.sent_at(account, began)

        return watch(
            ask, every=every, clock=self._clock, sleep=self._sleep, outlives=self._outlives
        )

    def stats(self) -> ClientStats:
        """What this client has done since it was made."""
        cache = self._cache.stats()
        return ClientStats(
            **msgspec.structs.asdict(cache)
            | {"hits": cache.hits + self._hits, "joined": cache.joined + self._joined},
            requests=self._sender.requests,
            retries=self._sender.retries,
            repaired=self._repaired,
            throttled=self._sender.throttled,
            breaker_opened=self._sender.breaker_opened,
        )

    async def aclose(self) -> None:
        """Refuse new calls, end what is under way, and close the session if it is the client's own.

        Who waits gets `WolfClosedError`. Twice is once; a client that was never used has nothing to close. Raises
        `WolfConfigError` on another event loop than the client's, if that is still open, and closes nothing then.
        """
        self._sender.check_loop()
        try:
            await self._cache.aclose()
        finally:
            # also if whoever closes is cancelled meanwhile, but not if it was refused
            if self._cache.is_closed:
                await self._let_go()

    async def _let_go(self) -> None:
        """End what stands beside the cache; only now, so that who wakes finds that closed."""
        self._sleep.close()
        try:
            await self._raw.aclose()
        finally:
            await self._sender.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<WolfClient for {self._base_url}: {self._sender.requests} requests sent, {self.stats()}>"

    def __del__(self) -> None:
        sender = getattr(self, "_sender", None)
        if sender is not None and sender.is_open:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)

    # --- a load ------------------------------------------------------------------------------------------------

    async def _load(self, key: _Key) -> Loaded[_Answer]:
        account = Account(*key)
        response, answer = await self._ask(account, lambda response: self._read(account, response))
        return Loaded(answer, response.sent_at)

    def _read(self, account: Account, response: RawResponse) -> _Answer:
        """The answer in ``response``, or the one that is held if they are the same byte for byte."""
        digest = b"" if self._policy is None else sha256(response.body).digest()
        held = self._cache.held(account)
        if held is not None and held.digest == digest:
            return held
        init, deviations = parse(response, self._base_url)
        if deviations:
            self._note_repair(account, deviations)
        return _Answer(init, digest, len(response.body))

    async def _load_raw(self, account: Account) -> RawResponse:
        def read(response: RawResponse) -> None:
            refused = find_api_error(response, self._base_url)
            if refused is not None:
                raise refused

        response, _ = await self._ask(account, read)
        return response

    async def _ask(
        self, account: Account, read: Callable[[RawResponse], T]
    ) -> tuple[RawResponse, T]:
        return await self._sender.send(account, request_url(self._base, account), read)

    # --- what is worth a word ----------------------------------------------------------------------------------

    def _is_unwell(self, error: BaseException) -> bool:
        """Asked by the cache when a load failed for which an answer is held."""
        unwell = is_unwell(error)
        if unwell:
            # as text: a record outlives the call, and an error holds its frames
            message = "answers that are held stand in, the upstream is unwell: %s"
            self._log(logging.WARNING, "stale", message, str(error))
        return unwell

    def _outlives(self, error: Exception, age: float) -> bool:
        """Whether an answer of that age may stay what a watcher has, although a newer one could not be got."""
        policy = self._policy
        window = max(policy.stale_while_revalidate, policy.stale_if_error) if policy else 0.0
        return policy is not None and is_unwell(error) and age <= policy.ttl + window

    def _note_repair(self, account: Account, deviations: dict[str, str]) -> None:
        self._repaired += 1
        for path, found in deviations.items():
            self._dispatcher.emit(RepairEvent(account=account, path=path, found=found))


def _sizeof(answer: _Answer) -> int:
    """Bytes that an answer holds, about: structs and texts, of two to three times its body's size."""
    return _BYTES_PER_BODY_BYTE * answer.size


def _check_base_url(given: str | None, allow_http: bool) -> str:
    if given is not None:
        return check_base_url(given, allow_http)
    # empty counts as unset
    variable = os.environ.get("WOLF_BASE_URL") or DEFAULT_BASE_URL
    return check_base_url(variable, allow_http, name="WOLF_BASE_URL")


def _token(given: str | TokenProvider | None) -> str | TokenProvider:
    if given is not None:
        return given
    variable = os.environ.get("WOLF_TOKEN")
    if not variable:
        raise WolfConfigError("no token: pass one, or set WOLF_TOKEN")
    return check_token(variable, name="the token in WOLF_TOKEN")


def _check_type(name: str, value: object, *expected: type) -> None:
    if not isinstance(value, expected):
        names = " or ".join("None" if kind is NoneType else kind.__name__ for kind in expected)
        raise WolfConfigError(f"{name} must be of type {names}, not {value!r}")
