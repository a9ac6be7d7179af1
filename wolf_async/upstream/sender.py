"""One load: a token, a place within the limits, attempts, and one deadline over all of it."""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, TypeVar

import msgspec

from wolf_async.account import Account
from wolf_async.api.redact import read_redacted, redact_error
from wolf_async.api.response import RawResponse
from wolf_async.cache.inflight import loading
from wolf_async.cache.loading import check_ended
from wolf_async.errors import WolfAuthError, WolfError
from wolf_async.logs import ThrottledLogger, logger
from wolf_async.upstream.auth import Credential, TokenProvider, Tokens
from wolf_async.upstream.deadline import Deadline
from wolf_async.upstream.limits import Limits, RateLimit
from wolf_async.upstream.retry import Retry
from wolf_async.upstream.transport import Transport

if TYPE_CHECKING:
    from collections.abc import Callable
    from ssl import SSLContext
    from urllib.parse import SplitResult

    import aiohttp

    from wolf_async.policy import RetryPolicy, Timeouts

__all__ = ["Sender"]

T = TypeVar("T")


class _Load(msgspec.Struct):
    """One load on its way: what is asked, by when, and how often it was asked so far."""

    account: Account
    url: SplitResult
    deadline: Deadline
    attempts: int = 0
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
        timeouts: Timeouts,
        max_concurrency: int,
        rate_limit: RateLimit | None,
        session: aiohttp.ClientSession | None,
        ssl: SSLContext | None,
        trust_env: bool,
        max_body: int,
        clock: Callable[[], float],
        log: ThrottledLogger,
    ) -> None:
        self.requests = 0
        """Requests sent."""
        self.retries = 0
        """Requests sent because an earlier one of the same load failed; part of ``requests``."""
        self._base_url = base_url
        self._tokens = Tokens(token)
        self._retry = Retry(retry, log)
        self._timeouts = timeouts
        self._max_concurrency = max_concurrency
        self._rate_limit = rate_limit
        self._session = session
        self._ssl = ssl
        self._trust_env = trust_env
        self._max_body = max_body
        self._clock = clock
        self._wiring: _Wiring | None = None

    async def send(
        self, account: Account, url: SplitResult, read: Callable[[RawResponse], T]
    ) -> tuple[RawResponse, T]:
        """Ask ``url`` for ``account`` until there is an answer, or an error that no other attempt would mend.

        ``read`` turns a response into what is wanted, or raises. Return the response and what ``read`` made of it.
        Raise any `WolfError`, with its ``account`` and ``attempts``; this is the one way up for all of them.
        """
        wiring = self._wire()
        load = _Load(account, url, Deadline(wiring.loop, self._timeouts.total))
        try:
            return await self._retry.call(lambda: self._attempt(wiring, load, read), load.deadline)
        except WolfError as error:
            error.account = account
            error.attempts = load.attempts
            traceback.clear_frames(error.__traceback__)  # they hold what the server sent
            raise

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
        return await self._exchange(wiring, load, credential, read)

    async def _exchange(
        self, wiring: _Wiring, load: _Load, credential: Credential, read: Callable[[RawResponse], T]
    ) -> tuple[RawResponse, T]:
        """Send one request and read its answer; an error that comes of it is free of the token."""
        await wiring.limits.acquire(load.deadline)
        if load.deadline.remaining() <= 0:
            wiring.limits.release()
            raise load.deadline.timeout_error("waiting to send a request")
        load.attempts += 1
        self.requests += 1
        self.retries += load.attempts > 1
        debug = logger.isEnabledFor(logging.DEBUG)
        begun = time.perf_counter() if debug else 0.0
        outcome: object = "cancelled"
        # What a request starts besides, in a middleware or a trace of a session that was handed in, is not waited for by the
        # load, and may ask for the same account. And a kept connection keeps the context that it was opened in.
        within = loading.set(None)
        try:
            response = await wiring.transport.get(load.url, credential.headers, load.deadline)
            outcome = response.status
        except WolfError as error:
            outcome = type(error).__name__
            redact_error(credential.token, error)
            raise
        finally:
            loading.reset(within)
            wiring.limits.release()
            if debug:
                milliseconds = (time.perf_counter() - begun) * 1000
                logger.debug(
                    "%s attempt %d: %s in %.1f ms",
                    load.account,
                    load.attempts,
                    outcome,
                    milliseconds,
                )
        if load.attempts > 1:
            response = msgspec.structs.replace(response, attempts=load.attempts)
        return read_redacted(credential.token, response, read)

    def _wire(self) -> _Wiring:
        """Return the transport and the limits of the running loop; made without a pause, so that there is one of each."""
        loop = asyncio.get_running_loop()
        if self._wiring is None or self._wiring.loop is not loop:
            self.check_loop()
            transport = Transport(
                self._base_url,
                self._timeouts,
                clock=self._clock,
                max_body=self._max_body,
                session=self._session,
                ssl=self._ssl,
                trust_env=self._trust_env,
            )
            self._wiring = _Wiring(loop, transport, Limits(self._max_concurrency, self._rate_limit))
        return self._wiring

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
