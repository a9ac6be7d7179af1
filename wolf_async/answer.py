"""Turn a response into the answer that is kept, and keep the same object while nothing changes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Final

import msgspec

from wolf_async.account import Account
from wolf_async.api.response import RawResponse, parse
from wolf_async.events import Dispatcher, RepairEvent
from wolf_async.models import TaskInit

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Answer", "AnswerCodec", "AnswerReader", "CachedAnswer"]

_BYTES_PER_BODY_BYTE: Final = 3
"""Structs and texts hold two to three times as many bytes as the body that they come from."""


class Answer(msgspec.Struct, frozen=True):
    """What an account can build a call task from, with how old that is."""

    init: TaskInit
    """The answer itself."""
    fetched_at: datetime
    """When the request that brought it was sent: aware, in UTC, by this machine's clock."""
    age: float
    """Seconds since then, when this was returned."""
    is_stale: bool
    """Whether it is older than the policy's ``ttl`` allows, and stands in for a fresh one."""

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
    fetched_at: datetime
    """As in `Answer`."""

    def sizeof(self) -> int:
        """Estimate the bytes that this answer holds."""
        return _BYTES_PER_BODY_BYTE * self.body_size


class AnswerReader:
    """Decode responses, and report those that had to be repaired."""

    __slots__ = ("_base_url", "_clock", "_digests", "_dispatcher", "repaired")

    def __init__(
        self,
        dispatcher: Dispatcher,
        *,
        base_url: str,
        digests: bool,
        clock: Callable[[], float],
    ) -> None:
        self._dispatcher = dispatcher
        self._clock = clock
        self._base_url = base_url
        """What an answer that comes from no such API is told as."""
        self._digests = digests
        """Whether answers are kept, so that an equal one can come."""
        self.repaired = 0
        """Answers that were decoded after quirks in them had been put right."""

    def read(
        self, account: Account, response: RawResponse, held: CachedAnswer | None
    ) -> CachedAnswer:
        """Return the answer in ``response``, with the init of ``held`` if their bytes are equal."""
        # by way of the age, since that counts on a clock which nobody sets
        age = timedelta(seconds=self._clock() - response.sent_at)
        fetched_at = datetime.now(UTC) - age
        digest = sha256(response.body).digest() if self._digests else b""
        if held is not None and held.digest == digest:
            return msgspec.structs.replace(held, fetched_at=fetched_at)
        init, deviations = parse(response, self._base_url)
        if deviations:
            self._note_repair(account, deviations)
        return CachedAnswer(init, digest, len(response.body), fetched_at)

    def _note_repair(self, account: Account, deviations: dict[str, str]) -> None:
        self.repaired += 1
        for path, found in deviations.items():
            self._dispatcher.emit(RepairEvent(account=account, path=path, found=found))


class AnswerCodec:
    """What a shared tier holds of an answer: its body, which each process decodes for itself."""

    __slots__ = ("_held", "_reader")

    def __init__(
        self,
        reader: AnswerReader,
        held: Callable[[tuple[str, str | None]], CachedAnswer | None],
    ) -> None:
        self._reader = reader
        self._held = held

    def encode(self, value: CachedAnswer) -> bytes:
        """Refuse: an answer does not keep its body, which each load brings along instead."""
        raise TypeError(f"no body came with {value!r}")

    def decode(self, key: tuple[str, str | None], body: bytes) -> CachedAnswer:
        """Return the answer in ``body``, or the one that is held if they are the same."""
        response = RawResponse(status=200, headers={}, body=body)
        return self._reader.read(Account(*key), response, self._held(key))
