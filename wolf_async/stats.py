"""Say what a client has done since it was made."""

from __future__ import annotations

from wolf_async.cache import CacheStats

__all__ = ["ClientStats"]


class ClientStats(CacheStats, frozen=True, kw_only=True):
    """What a client has done since it was made: the counts of `CacheStats`, and these.

    ``help(wolf_async.cache.CacheStats)`` tells those counts.

    Attributes:
        requests: requests sent, raw ones included.
        retries: requests sent because an earlier one failed; part of ``requests``.
        repaired: answers that were decoded after quirks in them had been put right.
        throttled: requests that the server refused as too many (429).
        breaker_opened: how often the circuit breaker has opened; a probe that fails does not count.

    """

    requests: int
    retries: int
    repaired: int
    throttled: int
    breaker_opened: int
