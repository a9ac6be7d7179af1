"""Load answers: from a response to what is kept, and the same object while nothing changes."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar
from urllib.parse import urlsplit

import msgspec

from wolf_async.account import Account
from wolf_async.api.request import request_url
from wolf_async.api.response import RawResponse, find_api_error, parse
from wolf_async.cache import Loaded
from wolf_async.cache.inflight import Served
from wolf_async.events import Dispatcher, RepairEvent
from wolf_async.models import TaskInit
from wolf_async.upstream.failures import is_unwell

if TYPE_CHECKING:
    from wolf_async.logs import ThrottledLogger
    from wolf_async.settings import ClientSettings
    from wolf_async.upstream.sender import Sender

__all__ = ["Answer", "AnswerLoader", "Ask", "CachedAnswer", "Key", "as_answer"]

T = TypeVar("T")

Key: TypeAlias = tuple[str, str | None]
"""An account as a cache's key: a plain tuple, which equals an `Account`."""

_BYTES_PER_BODY_BYTE: Final = 3
"""Structs and texts hold two to three times as many bytes as the body that they come from."""


class Answer(msgspec.Struct, frozen=True):
    """What an account can build a call task from, with how old that is.

    `WolfClient.answer` returns it, and `WolfClient.watch_many` yields it.

    Attributes:
        init: the answer itself.
        fetched_at: when the request that brought it was sent: aware, in UTC, by this machine's
            clock.
        age: seconds since then, when this was returned.
        is_stale: whether it is older than the policy's ``ttl`` allows, and stands in for a fresh
            one.

    >>> import asyncio
    >>> from wolf_async import WolfClient
    >>> from wolf_async.testing import FakeClock, Sandbox
    >>> async def main() -> None:
    ...     clock = FakeClock()
    ...     async with Sandbox() as box:
    ...         async with WolfClient(box.token, base_url=box.base_url, clock=clock) as wolf:
    ...             await wolf.answer(box.users[0])
    ...             clock.advance(12)
    ...             answer = await wolf.answer(box.users[0])
    ...             print(answer.age, answer.is_stale, answer.fetched_at.tzinfo)
    >>> asyncio.run(main())
    12.0 False UTC

    """

    init: TaskInit
    fetched_at: datetime
    age: float
    is_stale: bool

    def __repr__(self) -> str:
        stale = ", stale" if self.is_stale else ""
        return f"<Answer of {self.fetched_at:%Y-%m-%d %H:%M:%S} UTC, {self.age:.1f} s old{stale}>"


class CachedAnswer(msgspec.Struct, frozen=True, gc=False):
    """A decoded answer with what tells an equal one."""

    init: TaskInit
    digest: bytes
    """SHA-256 of the body, which is much smaller than the body."""
    body_size: int
    """Bytes of the body."""
    fetched_at: float
    """When its request was sent, in seconds since the epoch."""

    def sizeof(self) -> int:
        """Estimate the bytes that this answer holds."""
        return _BYTES_PER_BODY_BYTE * self.body_size


Ask: TypeAlias = Callable[[Account, float | None], Awaitable[Served[CachedAnswer]]]
"""Gives the answer of an account, of a ``max_age``, with what the cache knows of its age."""


def as_answer(served: Served[CachedAnswer], now: float) -> Answer:
    """Return what is served to a caller at ``now``, in seconds on the cache's clock."""
    fetched_at = datetime.fromtimestamp(served.value.fetched_at, UTC)
    age = max(0.0, now - served.sent_at)
    return Answer(served.value.init, fetched_at, age, served.is_stale)


class AnswerLoader:
    """What a client's caches load, and what they share: answers, and raw responses."""

    __slots__ = ("_base", "_dispatcher", "_held", "_keeps_body", "_log", "_sender", "_settings")

    def __init__(
        self,
        sender: Sender,
        settings: ClientSettings,
        dispatcher: Dispatcher,
        log: ThrottledLogger,
        *,
        held: Callable[[Key], CachedAnswer | None],
        keeps_body: bool,
    ) -> None:
        self._sender = sender
        self._settings = settings
        self._dispatcher = dispatcher
        self._log = log
        self._held = held
        self._keeps_body = keeps_body
        """Whether a tier wants the body of each answer."""
        self._base = urlsplit(settings.base_url)

    async def load(self, key: Key) -> Loaded[CachedAnswer]:
        """Return the answer for the account ``key``, as the upstream has it now."""
        account = Account(*key)
        response, answer = await self._send(
            account, partial(self._read, account), redacts=self._keeps_body
        )
        body = response.body if self._keeps_body else None
        return Loaded(answer, response.sent_at, body=body)

    def _read(self, account: Account, response: RawResponse) -> CachedAnswer:
        """Return the answer in ``response``, with the init that is held if their bytes are equal.

        Report what had to be repaired.
        """
        # by way of the age, since that counts on a clock which nobody sets
        fetched_at = time.time() - (self._settings.clock() - response.sent_at)
        # where none is kept, no equal one can come
        digest = sha256(response.body).digest() if self._settings.cache is not None else b""
        held = self._held(account)
        if held is not None and held.digest == digest:
            return CachedAnswer(held.init, digest, held.body_size, fetched_at)
        init, deviations = parse(response, self._settings.base_url)
        for number, (path, found) in enumerate(deviations.items(), 1):
            event = RepairEvent(account=account, path=path, found=found, number=number)
            self._dispatcher.note(event)
        return CachedAnswer(init, digest, len(response.body), fetched_at)

    async def load_raw(self, key: Key) -> RawResponse:
        """Return the response for the account ``key``; raise only if it is a refusal."""

        def read(response: RawResponse) -> None:
            error = find_api_error(response, self._settings.base_url)
            if error is not None:
                raise error

        response, _ = await self._send(Account(*key), read)
        return response

    async def _send(
        self, account: Account, read: Callable[[RawResponse], T], *, redacts: bool = False
    ) -> tuple[RawResponse, T]:
        url = request_url(self._base, account)
        return await self._sender.send(account, url, read, redacts=redacts)

    def is_unwell(self, error: BaseException) -> bool:
        """Tell the cache, which holds an answer, whether that may stand in for ``error``."""
        unwell = is_unwell(error)
        if unwell:
            # as text: a record outlives the call, and an error holds its frames
            message = "answers that are held stand in, the upstream is unwell: %s"
            self._log(logging.WARNING, "stale", message, str(error))
        return unwell

    def encode(self, value: CachedAnswer) -> bytes:
        """Refuse: an answer does not keep its body, which each load brings along instead."""
        raise TypeError(f"no body came with {value!r}")

    def decode(self, key: Key, body: bytes, sent_at: float) -> CachedAnswer:
        """Return the answer in ``body``, which another process has loaded."""
        response = RawResponse(status=200, headers={}, body=body, sent_at=sent_at)
        return self._read(Account(*key), response)
