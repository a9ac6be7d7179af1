"""One load: a token, a place within the limits, attempts, and one deadline over all of it."""

from __future__ import annotations

import asyncio
import logging
import math
import traceback
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from wolf_async.account import Account
from wolf_async.api.redact import read_redacted, redact_error, redact_response
from wolf_async.api.response import RawResponse
from wolf_async.cache.inflight import current_load, mark_sent
from wolf_async.cache.loading import check_ended
from wolf_async.errors import WolfAuthError, WolfCircuitOpenError, WolfError, WolfRateLimitError
from wolf_async.events import CANCELLED, Dispatcher, RequestEvent, Stopwatch
from wolf_async.logs import ThrottledLogger, logger
from wolf_async.upstream.auth import Credential, TokenProvider, Tokens
from wolf_async.upstream.breaker import Breaker
from wolf_async.upstream.deadline import Deadline
from wolf_async.upstream.failures import is_local, is_outage, is_transient
from wolf_async.upstream.limits import Limits, RateLimit
from wolf_async.upstream.retry import Retry
from wolf_async.upstream.signals import Signal, loop_time
from wolf_async.upstream.throttle import Pacer, Throttle
from wolf_async.upstream.transport import Transport

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from ssl import SSLContext
    from urllib.parse import SplitResult

    import aiohttp
    from yarl import URL

    from wolf_async.policy import BreakerPolicy, RetryPolicy, Timeouts

__all__ = ["Post", "Sender"]

T = TypeVar("T")

_COURTESY: Final = 0.005
"""Seconds by which a load lets others go first for each attempt it had, or it would use up all alone."""


class Post(msgspec.Struct, frozen=True):
    """What a request that creates something takes beside its URL."""

    body: bytes
    """Its body, JSON."""
    ready: Callable[[], Awaitable[None]]
    """Awaited each time that it may go; raises if it is not to go after all."""
    about_to_send: Callable[[], None]
    """Called when its connection is there and no byte has left; raises likewise."""
    may_repeat: Callable[[Exception], bool]
    """Whether it may be sent again after that error."""


class _Load(msgspec.Struct):
    """One load on its way: what is asked, by when, and how often it was asked so far."""

    account: Account
    url: SplitResult
    deadline: Deadline
    post: Post | None = None
    attempts: int = 0
    sent_at: float = 0.0
    """When its last request was sent: `loop_time`."""
    failed: WolfError | None = None
    """The error of its last request."""
    renewed: bool = False
    """Whether the token was renewed for it, which is worth a try once."""


class _Wiring:
    """What belongs to one event loop."""

    __slots__ = ("limits", "loop", "transport")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, transport: Transport, limits: Limits
    ) -> None:
        self.loop = loop
        self.transport = transport
        self.limits = limits


class Sender:
    """Send the requests of one client, each load until there is an answer or a final error.

    It owns the tokens, the retry budget, the limits, and the transport of the running event loop. Once that loop is
    closed it starts over on the next one; while it is open, a call from another loop raises `WolfConfigError`.
    """

    def __init__(
        self,
        base_url: str,
        token: str | TokenProvider,
        *,
        retry: RetryPolicy,
        breaker: BreakerPolicy | None,
        timeouts: Timeouts,
        max_concurrency: int,
        rate_limit: RateLimit | None,
        session: aiohttp.ClientSession | None,
        ssl: SSLContext | None,
        proxy: URL | None,
        max_body: int,
        clock: Callable[[], float],
        log: ThrottledLogger,
        dispatcher: Dispatcher,
    ) -> None:
        self.requests = 0
        """Requests sent."""
        self.retries = 0
        """Requests sent because an earlier one of the same load failed; part of ``requests``."""
        self.announce: Callable[[float], object] | None = None
        """Told after each 429 for how many seconds the gate is closed, for other processes."""
        self._base_url = base_url
        self._tokens = Tokens(token)
        self._signal = Signal()
        self._dispatcher = dispatcher
        self._throttle = Throttle(retry, Pacer(rate_limit), self._signal, dispatcher.emit)
        self._breaker = Breaker(breaker, self._signal, dispatcher.emit)
        self._retry = Retry(retry, log, sleep=self._throttle.pause)
        self._timeouts = timeouts
        self._max_concurrency = max_concurrency
        self._session = session
        self._ssl = ssl
        self._proxy = proxy
        self._max_body = max_body
        self._clock = clock
        self._wiring: _Wiring | None = None

    async def send(
        self,
        account: Account,
        url: SplitResult,
        read: Callable[[RawResponse], T],
        *,
        post: Post | None = None,
    ) -> tuple[RawResponse, T]:
        """Ask ``url`` for ``account`` until there is an answer, or an error that no other attempt would mend.

        ``read`` turns a response into what is wanted, or raises. Return the response and what ``read`` made of it.
        Raise any `WolfError`, with its ``account`` and ``attempts``; this is the one way up for all of them.
        """
        wiring = self._wire()
        load = _Load(account, url, Deadline(wiring.loop, self._timeouts.total), post)
        may_repeat = is_transient if post is None else post.may_repeat
        try:
            return await self._retry.call(
                lambda: self._attempt(wiring, load, read), load.deadline, may_repeat
            )
        except WolfError as error:
            error.account = account
            error.attempts = load.attempts
            if isinstance(error, WolfAuthError):
                error.args = (f"{error.args[0]} ({url.netloc})",)
            traceback.clear_frames(error.__traceback__)
            raise
        finally:
            load.failed = None  # or it holds its own error in a circle

    async def _attempt(
        self, wiring: _Wiring, load: _Load, read: Callable[[RawResponse], T]
    ) -> tuple[RawResponse, T]:
        """Send one request, and once more with another token if the server refused this one."""
        credential = self._tokens.at_hand()
        if credential is None:
            async with load.deadline.enforce("waiting for the token provider"):
                credential = await self._tokens.get()
        try:
            return await self._exchange(wiring, load, credential, read)
        except WolfAuthError:
            if load.renewed or not self._tokens.renewable:
                raise
        load.renewed = True
        async with load.deadline.enforce("waiting for the token provider"):
            credential = await self._tokens.renew(credential)
        load.failed = None
        return await self._exchange(wiring, load, credential, read)

    async def _exchange(
        self, wiring: _Wiring, load: _Load, credential: Credential, read: Callable[[RawResponse], T]
    ) -> tuple[RawResponse, T]:
        """Send one request when it may go, and read its answer; an error of it is free of the token."""
        await self._admit(wiring, load)
        try:
            response = await self._request(wiring.transport, load, credential)
            answer = read_redacted(credential.token, response, read)
        except BaseException as error:
            self._settle(load, error)
            raise
        else:
            self._settle(load, None)
            return answer
        finally:
            wiring.limits.release()

    async def _admit(self, wiring: _Wiring, load: _Load) -> None:
        """Take a place for a request, at a moment at which the gate and the breaker let it go."""
        try:
            while True:
                # before a place is taken, or those who wait here would keep others from sending
                await self._wait_for_turn(load)
                await wiring.limits.acquire(load.deadline)
                # after a wait for the place this may have changed
                if load.deadline.remaining() > 0 and self._may_go(load):
                    return
                wiring.limits.release()
                self._give_turn_on(load)
        except BaseException:
            self._give_turn_on(load)
            raise

    async def _wait_for_turn(self, load: _Load) -> None:
        """Wait until the gate and the breaker let a request go, or raise what they say."""
        while not self._may_go(load):
            remaining = load.deadline.remaining()
            wait = self._breaker.wait_time(load)
            if wait and load.failed is None:
                raise self._breaker.error()
            # its own last error says more than that the breaker is open
            if wait and load.failed and self._breaker.opens_in() >= remaining:
                raise load.failed
            self._throttle.check(load.deadline)
            if remaining <= 0:
                raise load.deadline.timeout_error("waiting for the server to take requests again")
            wait = max(wait, self._throttle.wait_time(load)) + load.attempts * _COURTESY
            await self._signal.wait(min(wait, remaining))
        if load.deadline.remaining() <= 0:
            raise load.deadline.timeout_error("waiting to send a request")

    def _may_go(self, load: _Load) -> bool:
        """Tell whether the gate and the breaker let a request go now, and take its turn if so."""
        throttle, breaker = self._throttle, self._breaker
        if not (throttle.is_closed or breaker.is_open):
            return True
        if throttle.wait_time(load) or breaker.wait_time(load):
            return False
        throttle.enter(load)
        breaker.enter(load)
        return True

    def _give_turn_on(self, load: _Load) -> None:
        self._throttle.leave(load)
        self._breaker.leave(load)

    def _settle(self, load: _Load, error: BaseException | None) -> None:
        """Tell the gate and the breaker how a request ended."""
        if isinstance(error, WolfError):
            # they hold what the server sent; and the load may wait for long with its last error
            traceback.clear_frames(error.__traceback__)
            load.failed = error
        self._throttle.settle(load, load.sent_at, error)
        if self.announce is not None and isinstance(error, WolfRateLimitError):
            self.announce(self._throttle.opens_in())
        self._breaker.settle(load, error)

    async def _request(
        self, transport: Transport, load: _Load, credential: Credential
    ) -> RawResponse:
        """Send one request that may go, and return its response, whatever its status."""
        if load.post is not None:
            await load.post.ready()
        load.attempts += 1
        load.sent_at = loop_time()
        mark_sent(self._clock())
        self.requests += 1
        self.retries += load.attempts > 1
        stopwatch = Stopwatch() if self._is_heard() else None
        status: int | None = None
        failure: str | None = CANCELLED
        # What a request starts besides, in a middleware or a trace of a session that was handed in, is not waited for by
        # the load, and may ask for the same account. And a kept connection keeps the context that it was opened in.
        within = current_load.set(None)
        try:
            response = await self._send_one(transport, load, credential)
            status, failure = response.status, None
        except WolfError as error:
            failure = type(error).__name__
            redact_error(credential.token, error)
            raise
        finally:
            current_load.reset(within)
            if stopwatch is not None:
                self._report(load, stopwatch, status, failure)
        if load.attempts > 1:
            response = msgspec.structs.replace(response, attempts=load.attempts)
        return response

    def _is_heard(self) -> bool:
        return bool(self._dispatcher.listeners) or logger.isEnabledFor(logging.DEBUG)

    def _report(
        self, load: _Load, stopwatch: Stopwatch, status: int | None, failure: str | None
    ) -> None:
        """Tell who listens that a request has ended; ``failure`` is the class of its error."""
        event = RequestEvent(
            account=load.account,
            method="GET" if load.post is None else "POST",
            base_url=self._base_url,
            began_at=stopwatch.began_at,
            seconds=stopwatch.seconds,
            attempt=load.attempts,
            status=status,
            error=failure,
        )
        in_flight = current_load.get()
        if in_flight is not None and in_flight.record is not None:
            in_flight.record.requests.append(event)
        self._dispatcher.emit(event)
        if logger.isEnabledFor(logging.DEBUG):
            outcome = "cancelled" if failure == CANCELLED else status or failure
            message = "%s attempt %d: %s in %.1f ms"
            logger.debug(message, load.account, load.attempts, outcome, event.seconds * 1000)

    async def _send_one(
        self, transport: Transport, load: _Load, credential: Credential
    ) -> RawResponse:
        if load.post is None:
            return await transport.get(load.url, credential.headers, load.deadline)
        return await transport.post(
            load.url, credential.headers, load.post.body, load.post.about_to_send
        )

    def hold(self, seconds: float) -> None:
        """Close the gate, as for a 429: another process with this token got one."""
        self._throttle.hold(seconds)

    def redact(self, response: RawResponse) -> RawResponse:
        """Return ``response`` without the token, even where the server echoed it."""
        credential = self._tokens.at_hand()
        return response if credential is None else redact_response(credential.token, response)

    def _wire(self) -> _Wiring:
        """Return the transport and the limits of the running loop; made without a pause, so that there is one of each."""
        loop = asyncio.get_running_loop()
        if self._wiring is None or self._wiring.loop is not loop:
            self.check_loop()
            if self._wiring is not None:
                self._start_over()
            transport = Transport(
                self._base_url,
                self._timeouts,
                clock=self._clock,
                max_body=self._max_body,
                session=self._session,
                ssl=self._ssl,
                proxy=self._proxy,
            )
            self._wiring = _Wiring(loop, transport, Limits(self._max_concurrency, self._throttle))
        return self._wiring

    def _start_over(self) -> None:
        """Forget who waited on an event loop that has ended; the gate and the breaker stay as they are."""
        self._signal.forget()
        self._throttle.start_over()
        self._breaker.start_over()

    # --- what the client, its cache and a bulk run ask ------------------------------------------------------

    @property
    def throttled(self) -> int:
        """Count the requests that the server refused as too many (429)."""
        return self._throttle.refused

    @property
    def breaker_opened(self) -> int:
        """Count how often the breaker has opened."""
        return self._breaker.opened

    def is_shut(self) -> bool:
        """Tell whether a request would not be sent at once, since the gate or the breaker is shut.

        So a load makes no sense now for who has a stale answer that may stand in, and a bulk run takes
        no further account. False again as soon as one request may go first, or probe.
        """
        return self._throttle.is_shut() or self._breaker.is_shut()

    def opens_in(self) -> float:
        """Return the seconds for which the gate or the breaker is shut; 0 if none is.

        Also 0 while one request goes first, or probes: what comes of it, nobody knows.
        """
        return max(self._throttle.opens_in(), self._breaker.opens_in())

    def describe(self) -> str:
        """Return what is shut and for how long, as in ``gate closed for 2.0 s more``; empty if nothing is."""
        shut = (self._throttle.describe(), self._breaker.describe())
        return ", ".join(filter(None, shut))

    def refusal(self) -> WolfError:
        """Return the error of a request that is not sent, since the gate or the breaker is shut."""
        if self._throttle.is_shut():
            return self._throttle.error(self._throttle.opens_in())
        return self._breaker.error()

    @property
    def is_failing(self) -> bool:
        """Whether requests fail in a row (no connection, timeout, 5xx), the breaker open or not yet.

        False as soon as the API has answered anything; always False with ``breaker=None``.
        """
        return self._breaker.row > 0

    def is_held_up(self, error: BaseException) -> bool:
        """Tell whether a failed load may say nothing about its account.

        It failed in a row of failures, of the breaker, of the gate or its pace, or of what this
        machine lacks. So a bulk run may keep the account and ask again when that is over.
        """
        if isinstance(error, (WolfCircuitOpenError, WolfRateLimitError)) or is_local(error):
            return True
        return self._breaker.is_on and is_outage(error)

    async def wait_for_change(self, seconds: float = math.inf) -> None:
        """Wait until the gate or the breaker opens, shuts or lets one request go, or a row of failures ends.

        No longer than ``seconds``; then look again. A pause that is over by the clock is no change:
        wait no longer than `opens_in`.
        """
        await self._signal.wait(seconds)

    def check_loop(self) -> None:
        """Raise `WolfConfigError` if this belongs to another event loop than the running one, and that is still open."""
        if self._wiring is not None and self._wiring.loop is not asyncio.get_running_loop():
            check_ended(self._wiring.loop)

    @property
    def is_open(self) -> bool:
        """Whether there is something that wants closing."""
        return self._wiring is not None

    async def aclose(self) -> None:
        """End a call of the token provider, and close the session if it is ours; no load is under way any more."""
        wiring, self._wiring = self._wiring, None
        async with AsyncExitStack() as steps:  # both of them, whatever becomes of the other
            if wiring is not None and not wiring.loop.is_closed():
                steps.push_async_callback(wiring.transport.close)
            await self._tokens.aclose()
