"""One load: a token, a place within the limits, attempts, and one deadline over all of it."""

from __future__ import annotations

import asyncio
import logging
import traceback
from contextlib import AsyncExitStack, suppress
from time import perf_counter, time
from typing import TYPE_CHECKING, TypeVar

import msgspec

from wolf_async.account import Account
from wolf_async.api.redact import read_redacted, redact_error, redact_response
from wolf_async.api.response import RawResponse
from wolf_async.cache.inflight import current_load, mark_sent
from wolf_async.cache.loading import check_ended
from wolf_async.errors import WolfAuthError, WolfError
from wolf_async.events import CANCELLED, Dispatcher, LoadRecord, RequestEvent
from wolf_async.logs import ThrottledLogger, logger
from wolf_async.upstream.admission import Admission
from wolf_async.upstream.auth import Credential, Tokens
from wolf_async.upstream.deadline import Deadline
from wolf_async.upstream.retry import Retry
from wolf_async.upstream.signals import loop_time
from wolf_async.upstream.transport import Transport

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from urllib.parse import SplitResult

    from wolf_async.settings import ClientSettings

__all__ = ["Post", "Sender"]

T = TypeVar("T")


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
    redacts: bool = False
    """Whether its answer is to be free of the token too."""
    attempts: int = 0
    sent_at: float = 0.0
    """When its last request was sent: `loop_time`."""
    failed: WolfError | None = None
    """The error of its last request."""
    renewed: bool = False
    """Whether the token was renewed for it, which is worth a try once."""
    record: LoadRecord | None = None
    """What is gathered of the cache's load that it is, where somebody listens."""


class Sender:
    """Send the requests of one client, each load until there is an answer or a final error.

    It owns the tokens, the retry budget, the admission of requests, and the transport of the
    running event loop. Once that loop is closed it starts over on the next one; while it is open,
    a call from another loop raises `WolfConfigError`.
    """

    def __init__(
        self, settings: ClientSettings, log: ThrottledLogger, dispatcher: Dispatcher
    ) -> None:
        self.requests = 0
        """Requests sent."""
        self.retries = 0
        """Requests sent because an earlier one of the same load failed; part of ``requests``."""
        self._settings = settings
        self._tokens = Tokens(settings.token)
        self._dispatcher = dispatcher
        self.admission = Admission(
            retry=settings.retry,
            breaker=settings.breaker,
            max_concurrency=settings.max_concurrency,
            rate_limit=settings.rate_limit,
            dispatcher=dispatcher,
        )
        self._retry = Retry(settings.retry, log, sleep=self.admission.pause)
        self._transport: Transport | None = None

    async def send(
        self,
        account: Account,
        url: SplitResult,
        read: Callable[[RawResponse], T],
        *,
        post: Post | None = None,
        redacts: bool = False,
    ) -> tuple[RawResponse, T]:
        """Send requests until there is an answer, or an error that no other attempt would mend.

        ``url`` asks for ``account``; with ``post`` it creates something. ``read`` turns a response
        into what is wanted, or raises. Return the response and what ``read`` made of it; with
        ``redacts`` both are free of the token, even where the server echoed it.

        Raise any `WolfError` with its ``account`` and ``attempts``: this is the one way up for all.
        """
        transport = self._enter_loop()
        deadline = Deadline(transport.loop, self._settings.timeouts.total)
        load = _Load(account, url, deadline, post, redacts)
        in_flight = current_load.get()
        load.record = None if in_flight is None else in_flight.record
        try:
            return await self._retry.call(
                lambda: self._attempt(transport, load, read),
                deadline,
                lambda error: self._may_repeat(load, error),
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

    def _may_repeat(self, load: _Load, error: Exception) -> bool:
        """Tell whether another request can be sent after that error."""
        if self.admission.is_late(load):
            return False
        return load.post is None or load.post.may_repeat(error)

    async def _attempt(
        self, transport: Transport, load: _Load, read: Callable[[RawResponse], T]
    ) -> tuple[RawResponse, T]:
        """Send one request, and once more with another token if the server refused this one."""
        credential = self._tokens.at_hand()
        if credential is None:
            async with load.deadline.enforce("waiting for the token provider"):
                credential = await self._tokens.get()
        try:
            return await self._exchange(transport, load, credential, read)
        except WolfAuthError:
            if load.renewed or not self._tokens.renewable:
                raise
        load.renewed = True
        async with load.deadline.enforce("waiting for the token provider"):
            credential = await self._tokens.renew(credential)
        load.failed = None
        return await self._exchange(transport, load, credential, read)

    async def _exchange(
        self,
        transport: Transport,
        load: _Load,
        credential: Credential,
        read: Callable[[RawResponse], T],
    ) -> tuple[RawResponse, T]:
        """Send one request when it may go, and read its answer; an error holds no token."""
        await self.admission.acquire(load)
        mark_sent(self._settings.clock())
        # What a request starts besides, in a listener, or in a middleware or a trace of a session
        # that was handed in, is not waited for by the load, and may ask for the same account. And a
        # kept connection keeps the context that it was opened in.
        within = current_load.set(None)
        try:
            return await self._answer(transport, load, credential, read)
        finally:
            with suppress(ValueError):  # dropped with its loop, it ends in another context
                current_load.reset(within)

    async def _answer(
        self,
        transport: Transport,
        load: _Load,
        credential: Credential,
        read: Callable[[RawResponse], T],
    ) -> tuple[RawResponse, T]:
        """Send one request that may go, read its answer, and give its place back."""
        try:
            response = await self._request(transport, load, credential)
            if load.redacts:
                response = redact_response(credential.token, response)
            answer = read_redacted(credential.token, response, read)
        except BaseException as error:
            if transport.loop.is_closed():
                # dropped with its loop, whose places are gone: what its clean-up meets says nothing
                raise GeneratorExit from error
            self.admission.release(load, error)
            if isinstance(error, WolfError):
                # they hold what the server sent; and the load may wait for long with its last error
                traceback.clear_frames(error.__traceback__)
                load.failed = error
            raise
        self.admission.release(load, None)
        return answer

    async def _request(
        self, transport: Transport, load: _Load, credential: Credential
    ) -> RawResponse:
        """Send one request that may go, and return its response, whatever its status."""
        if load.post is not None:
            await load.post.ready()
        load.attempts += 1
        load.sent_at = loop_time()
        self.requests += 1
        self.retries += load.attempts > 1
        started = perf_counter()
        status: int | None = None
        failure: str | None = CANCELLED
        try:
            response = await self._send_one(transport, load, credential)
            status, failure = response.status, None
        except WolfError as error:
            failure = type(error).__name__
            redact_error(credential.token, error)
            raise
        finally:
            self._report(load, perf_counter() - started, status, failure)
        if load.attempts > 1:
            response = msgspec.structs.replace(response, attempts=load.attempts)
        return response

    def _report(self, load: _Load, seconds: float, status: int | None, failure: str | None) -> None:
        """Tell who listens, and the log, that a request has ended.

        ``failure`` is the class of its error.
        """
        if self._dispatcher.is_heard():
            self._emit(load, seconds, status, failure)
        if logger.isEnabledFor(logging.DEBUG):
            outcome = "cancelled" if failure == CANCELLED else status or failure
            message = "%s attempt %d: %s in %.1f ms"
            logger.debug(message, load.account, load.attempts, outcome, seconds * 1000)

    def _emit(self, load: _Load, seconds: float, status: int | None, failure: str | None) -> None:
        event = RequestEvent(
            account=load.account,
            method="GET" if load.post is None else "POST",
            base_url=self._settings.base_url,
            began_at=time() - seconds,
            seconds=seconds,
            attempt=load.attempts,
            status=status,
            error=failure,
        )
        if load.record is not None:
            load.record.requests.append(event)
        self._dispatcher.emit(event)

    async def _send_one(
        self, transport: Transport, load: _Load, credential: Credential
    ) -> RawResponse:
        if load.post is None:
            return await transport.get(load.url, credential.headers, load.deadline)
        return await transport.post(
            load.url, credential.headers, load.post.body, load.post.about_to_send
        )

    def _enter_loop(self) -> Transport:
        """Return the running loop's transport; made without a pause, so that there is one."""
        if self._transport is None or self._transport.loop is not asyncio.get_running_loop():
            self.check_loop()
            self.admission.enter_loop()
            self._transport = Transport(
                self._settings.base_url,
                self._settings.timeouts,
                clock=self._settings.clock,
                max_body=self._settings.max_body,
                session=self._settings.session,
                ssl=self._settings.ssl,
                proxy=self._settings.proxy,
            )
        return self._transport

    def check_loop(self) -> None:
        """Raise `WolfConfigError` on another event loop than its own, if that is still open."""
        if self._transport is not None and self._transport.loop is not asyncio.get_running_loop():
            check_ended(self._transport.loop)

    @property
    def is_open(self) -> bool:
        """Whether there is something that wants closing."""
        return self._transport is not None

    async def aclose(self) -> None:
        """End a call of the token provider, and close the session if it is ours.

        To be called when no load is under way any more.
        """
        transport, self._transport = self._transport, None
        async with AsyncExitStack() as steps:  # both of them, whatever becomes of the other
            if transport is not None and not transport.loop.is_closed():
                steps.push_async_callback(transport.close)
            await self._tokens.aclose()
