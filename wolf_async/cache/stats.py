"""Say what a cache has done since it was made."""

from __future__ import annotations

import msgspec

__all__ = ["CacheStats"]


class CacheStats(msgspec.Struct, frozen=True, kw_only=True):
    """What a cache has done since it was made; counts, not rates.

    Each finished call of ``get`` is one of ``hits``, ``stale_hits``, ``error_hits``, ``misses`` or
    ``joined``, unless it was refused for its arguments. Each load that was begun ends as a value,
    or is one of ``failures`` or ``abandoned``, or is still ``in_flight``: values = loads - failures
    - abandoned - in_flight.

    Attributes:
        hits: calls answered at once by a fresh value.
        stale_hits: calls answered at once by a stale value.
        error_hits: calls refused at once by a remembered failure.
        misses: calls that began a load, or that were the first to wait for the next one.
        joined: calls that waited for a load which another call had asked for.
        loads: loads begun: for a miss, or as a refresh.
        refreshes: loads begun in the background.
        failures: loads that ended in an error.
        abandoned: loads that were cancelled: the last waiter left, the cache was closed, or the
            loop ended.
        superseded: loads that an invalidation overtook, however they ended.
        evictions: values and remembered failures that could still serve, and were dropped to make
            room.
        entries: values and remembered failures held now, those included that have expired.
        in_flight: loads under way now; also those superseded or abandoned that have not ended yet.
        shared_hits: loads that another process's answer served; this and what follows is 0 without
            a tier.
        shared_waits: loads that waited for another process's load.
        shared_bypassed: loads made without the tier: it was down, or had not heard of an
            invalidation yet.
        shared_stores_refused: values that the tier refused, because an invalidation or another load
            overtook them.
        shared_invalidations: invalidations that came from other processes.
        shared_reconnects: times that the connection to the tier was lost, and made again.

    """

    hits: int
    stale_hits: int
    error_hits: int
    misses: int
    joined: int
    loads: int
    refreshes: int
    failures: int
    abandoned: int
    superseded: int
    evictions: int
    entries: int
    in_flight: int
    shared_hits: int = 0
    shared_waits: int = 0
    shared_bypassed: int = 0
    shared_stores_refused: int = 0
    shared_invalidations: int = 0
    shared_reconnects: int = 0

    def __str__(self) -> str:
        served = self.hits + self.stale_hits
        calls = served + self.error_hits + self.misses + self.joined
        held = f"{self.entries} held, {self.in_flight} in flight"
        return f"{held}, {served} of {calls} calls served from memory, {self.loads} loads"
