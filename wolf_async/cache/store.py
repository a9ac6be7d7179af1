"""Hold entries on a cachetools cache, bounded in number and in bytes.

No operation does work in proportion to the number of entries: an entry that has expired stays until
its place is needed, and room is made in a bounded number of steps. The entries carry their own
times, since stale answers have uses that a TTL cache would hide.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import msgspec
from cachetools import FIFOCache

from wolf_async.errors import WolfConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

__all__ = ["Entry", "EntryStore"]

K = TypeVar("K", bound="Hashable")
V = TypeVar("V")

MAX_CHANCES: Final = 8
"""Entries that one eviction spares because they were used."""
MAX_EVICTIONS: Final = 64
"""Entries that one `EntryStore.put` evicts at most."""
LONG_AGO: Final = float("-inf")


class Entry(msgspec.Struct, Generic[V], eq=False):
    """A value or a remembered failure, with its times on the cache's clock."""

    value: V
    sent_at: float
    fresh_until: float = LONG_AGO
    revalidate_until: float = LONG_AGO
    """Until then it is served although stale, while a background load refreshes it."""
    stand_in_until: float = LONG_AGO
    """Until then it stands in for a load that fails because the upstream is unwell."""
    retry_at: float = LONG_AGO
    """Until then no load begins for callers whom it can serve, because the last load failed."""
    backoff: float = 0.0
    """Seconds of the last pause after a failed load."""
    size: int = 0
    """Bytes."""
    error: BaseException | None = None
    """The failure that is remembered in place of a value, until ``retry_at``."""
    used: bool = False
    """Whether it was used since an eviction last spared it."""

    def has_use(self, now: float) -> bool:
        """Tell whether it may still serve any caller."""
        until = max(self.fresh_until, self.revalidate_until, self.stand_in_until)
        return now <= (until if self.error is None else self.retry_at)

    def is_at_most(self, max_age: float, now: float) -> bool:
        """Tell whether it is at most ``max_age`` seconds old; nothing is young enough for 0."""
        return max_age > 0 and now - self.sent_at <= max_age

    def is_fresh_for(self, max_age: float | None, now: float) -> bool:
        """Tell whether it is fresh, and no older than ``max_age`` where that is given."""
        return now <= self.fresh_until and (max_age is None or self.is_at_most(max_age, now))


class EntryStore(FIFOCache[K, Entry[V]]):
    """Entries by key: the oldest leaves first, but once more goes to the end if it was used.

    Each load puts its entry at the end again, so that first in is first out by age. The second
    chance keeps the keys that many ask for when a great number of others are read once.
    """

    def __init__(
        self,
        max_entries: int,
        max_bytes: int | None = None,
        *,
        on_evict: Callable[[K], object] | None = None,
    ) -> None:
        super().__init__(max_entries)
        self._on_evict = on_evict
        self._max_bytes = float("inf") if max_bytes is None else max_bytes
        # counted here, since `getsizeof` would evict in an unbounded loop
        self._bytes = 0
        self.evictions = 0
        """Entries that had to leave although they could still serve a caller."""

    def __missing__(self, key: K) -> Any:
        """Return ``None`` for a key that is not here: that is no exception in a cache."""

    def find(self, key: K) -> Entry[V] | None:
        """Return the entry of ``key``, whatever its age.

        Raises `WolfConfigError` for a key that cannot be hashed.
        """
        try:
            return self[key]
        except TypeError as error:
            raise WolfConfigError(f"a key must be hashable, not {key!r}") from error

    def put(self, key: K, entry: Entry[V], now: float) -> None:
        """Keep ``entry``, unless it is too large, or room would take more than bounded work."""
        self.discard(key)
        # room is made before the newcomer is in, or it could be the one that has to leave
        if entry.size <= self._max_bytes and self._make_room(entry.size, now):
            self[key] = entry
            self._bytes += entry.size

    def discard(self, key: K) -> bool:
        """Forget ``key``, and tell whether it was there."""
        entry = self.pop(key, None)
        if entry is None:
            return False
        self._bytes -= entry.size
        return True

    def clear(self) -> None:
        """Forget everything."""
        super().clear()
        self._bytes = 0

    def _make_room(self, size: int, now: float) -> bool:
        for _ in range(MAX_EVICTIONS):
            if len(self) < self.maxsize and self._bytes + size <= self._max_bytes:
                return True
            key, evicted = self.popitem()
            self._bytes -= evicted.size
            if evicted.has_use(now):
                self.evictions += 1
                if self._on_evict is not None:
                    self._on_evict(key)
        return len(self) < self.maxsize and self._bytes + size <= self._max_bytes

    def popitem(self) -> tuple[K, Entry[V]]:
        """Remove and return the oldest entry that was not used since it was last spared."""
        for _ in range(MAX_CHANCES):
            key, entry = super().popitem()
            if not entry.used:
                return key, entry
            entry.used = False
            self[key] = entry
        # with all chances given, the oldest leaves although it was used: the work stays bounded
        return super().popitem()

    def __repr__(self) -> str:
        return f"<EntryStore: {len(self)} of {self.maxsize:g} entries, {self._bytes} bytes>"
