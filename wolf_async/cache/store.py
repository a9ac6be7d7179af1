"""What a cache holds: entries with their times, bounded in number and in bytes.

No operation does work in proportion to the number of entries: what has expired is reclaimed a few entries
at a time, and room is made by a walk of bounded length. That is why the entries stand in an `OrderedDict`
and in no timer, heap or second index.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, Self, TypeVar

import msgspec

from wolf_async.errors import WolfConfigError

if TYPE_CHECKING:
    from collections.abc import Hashable

    from wolf_async.policy import CachePolicy

__all__ = ["Entry", "LeafEntry", "PairStore", "Store"]

K = TypeVar("K", bound="Hashable")
V = TypeVar("V")
A = TypeVar("A", bound="Hashable")
B = TypeVar("B", bound="Hashable")

CHANCES: Final = 8
"""Entries that one eviction passes over because they were used."""
SWEPT: Final = 2
"""Entries of no more use that one `Store.put` reclaims."""
EVICTED: Final = 64
"""Entries that one `Store.put` drops at most to make room; what needs more finds it at a later try."""
LONG_AGO: Final = float("-inf")


class Entry(msgspec.Struct, Generic[V], eq=False):
    """A value with its times, or a remembered failure, which is never fresh."""

    value: V
    sent_at: float
    gone_at: float
    """When nobody can use it any more."""
    fresh_until: float = LONG_AGO
    size: int = 0
    error: BaseException | None = None
    retry_at: float = LONG_AGO
    """Until then it is not refreshed, because the last refresh failed."""
    backoff: float = 0.0
    used: bool = False
    """Whether it was used since an eviction last passed over it."""

    def is_fresh_for(self, now: float, max_age: float) -> bool:
        """Whether it is fresh and no older than that; nothing is young enough for 0, whatever the clock says."""
        return now <= self.fresh_until and self.is_at_most(max_age, now)

    def is_at_most(self, max_age: float, now: float) -> bool:
        """Whether it was sent no more than ``max_age`` seconds ago, and before the present tick for 0."""
        return max_age > 0 and now - self.sent_at <= max_age


class LeafEntry(Entry[V], Generic[V], gc=False):
    """An entry that the garbage collector never visits, and no dictionary either that holds nothing but such entries.

    For values that refer to nothing which could refer to them.
    """


class Store(Generic[K, V]):
    """Entries by key: at most ``max_entries`` of them, and of at most ``max_bytes`` together."""

    entry_type: ClassVar[type[Entry[Any]]] = Entry
    """What its entries are made of."""

    __slots__ = ("_bytes", "entries", "evictions", "max_bytes", "max_entries")

    def __init__(self, max_entries: int, max_bytes: int | None) -> None:
        self.max_entries = max_entries
        self.max_bytes = max_bytes
        self.entries: OrderedDict[K, Entry[V]] = OrderedDict()
        """For reading; this object stays the same for the life of the store."""
        self.evictions = 0
        self._bytes = 0

    @classmethod
    def of(cls, policy: CachePolicy | None) -> Self:
        """An empty store with the bounds of ``policy``; ``None`` keeps nothing."""
        return cls(0, 0) if policy is None else cls(policy.max_entries, policy.max_bytes)

    def get(self, key: K) -> Entry[V] | None:
        """The entry of ``key``, whatever its age; raises `WolfConfigError` for a key that cannot be hashed."""
        try:
            return self.entries.get(key)
        except TypeError as error:
            raise WolfConfigError(f"a key must be hashable, not {key!r}") from error

    def put(self, key: K, entry: Entry[V], now: float) -> None:
        """Keep ``entry``, unless it is larger than the whole store may get, or there is no room for it in reach."""
        self.drop(key)
        self._sweep(now)
        # room is made before the newcomer is in, or it could be the one that has to leave
        if self._make_room(entry.size):
            self._add(key, entry)

    def drop(self, key: K) -> bool:
        """Forget ``key``; tells whether it was there."""
        if key not in self.entries:
            return False
        self._remove(key)
        return True

    def clear(self) -> None:
        """Forget everything."""
        self.entries.clear()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self.entries)

    def __repr__(self) -> str:
        return f"<Store: {len(self.entries)} of {self.max_entries} entries, {self._bytes} bytes>"

    def _add(self, key: K, entry: Entry[V]) -> None:
        self.entries[key] = entry
        self._bytes += entry.size

    def _remove(self, key: K) -> None:
        self._bytes -= self.entries.pop(key).size

    def _sweep(self, now: float) -> None:
        """Reclaim a few of the oldest entries if nobody can use them any more."""
        for key in [key for key, entry in self._oldest(SWEPT) if now > entry.gone_at]:
            self.drop(key)

    def _oldest(self, count: int) -> list[tuple[K, Entry[V]]]:
        return [item for item, _ in zip(self.entries.items(), range(count), strict=False)]

    def _make_room(self, size: int) -> bool:
        if self.max_bytes is not None and size > self.max_bytes:
            return False
        for _ in range(EVICTED):
            if self._has_room(size):
                return True
            self._evict()
        return self._has_room(size)

    def _has_room(self, size: int) -> bool:
        return len(self.entries) < self.max_entries and (
            self.max_bytes is None or self._bytes + size <= self.max_bytes
        )

    def _evict(self) -> None:
        """Drop the oldest entry that was not used since it was last passed over."""
        for key, entry in self._oldest(CHANCES):
            if not entry.used:
                break
            entry.used = False
            self.entries.move_to_end(key)
        # with all chances given, the oldest leaves although it was used: the work stays bounded
        self.drop(next(iter(self.entries)))
        self.evictions += 1


class PairStore(Store[tuple[A, B], V]):
    """A store for plain data whose keys are pairs, with a second way in by the parts of a key.

    A look-up by the parts makes no tuple and hashes none, which is a seventh of a hit's time.
    """

    entry_type = LeafEntry

    __slots__ = ("by_parts",)

    def __init__(self, max_entries: int, max_bytes: int | None) -> None:
        super().__init__(max_entries, max_bytes)
        self.by_parts: dict[A, dict[B, Entry[V]]] = {}
        """For reading; this object stays the same for the life of the store."""

    def clear(self) -> None:
        """Forget everything."""
        super().clear()
        self.by_parts.clear()

    def _add(self, key: tuple[A, B], entry: Entry[V]) -> None:
        super()._add(key, entry)
        self.by_parts.setdefault(key[0], {})[key[1]] = entry

    def _remove(self, key: tuple[A, B]) -> None:
        super()._remove(key)
        first, second = key
        del self.by_parts[first][second]
        if not self.by_parts[first]:
            del self.by_parts[first]
