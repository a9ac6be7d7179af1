"""Say what a client has done since it was made."""

from __future__ import annotations

from wolf_async.cache import CacheStats

__all__ = ["ClientStats"]


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
