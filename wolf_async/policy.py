"""Settings: frozen, and checked when they are made.

A setting that makes no sense raises `WolfConfigError` at once, with what was expected and what
came, rather than showing up later as a cache that keeps nothing or a retry that never ends.
"""

from __future__ import annotations

import math
from types import NoneType

import msgspec

from wolf_async.errors import WolfConfigError

__all__ = ["BreakerPolicy", "CachePolicy", "RetryPolicy", "Timeouts"]


def check_seconds(
    name: str, value: object, *, least: float = 0.0, finite: bool = False, above: bool = False
) -> None:
    """Refuse ``value`` unless it is a number from ``least``; ``above`` excludes that one."""
    expected = f"{'a finite' if finite else 'a'} number {'above' if above else 'from'} {least:g}"
    number = _as_float(value)
    if (
        math.isnan(number)
        or number < least
        or (above and number == least)
        or (finite and math.isinf(number))
    ):
        raise WolfConfigError(f"{name} must be {expected}, not {value!r}")


def _as_float(value: object) -> float:
    """``value`` if it is a number that a float can hold, else NaN."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.nan


def check_count(name: str, value: object, *, least: int = 1) -> None:
    """Refuse ``value`` unless it is an integer from ``least``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise WolfConfigError(f"{name} must be a whole number from {least}, not {value!r}")


def check_type(name: str, value: object, *expected: type) -> None:
    """Refuse ``value`` unless it is of one of the expected types; ``NoneType`` permits ``None``."""
    if not isinstance(value, expected):
        names = " or ".join("None" if kind is NoneType else kind.__name__ for kind in expected)
        raise WolfConfigError(f"{name} must be of type {names}, not {value!r}")


def check_fraction(name: str, value: object) -> None:
    """Refuse ``value`` unless it is a number from 0 to 1."""
    check_seconds(name, value)
    if not isinstance(value, (int, float)) or value > 1:
        raise WolfConfigError(f"{name} must be a number from 0 to 1, not {value!r}")


class CachePolicy(msgspec.Struct, frozen=True):
    """Set how long answers are kept, and what may stand in for a fresh one.

    All times are in seconds. An answer's age counts from the moment the request that brought it was
    sent (RFC 9111 §4.2.3). The two stale windows both begin where the answer's ttl ends (RFC 5861)
    and are for callers without ``max_age``.

    Attributes:
        ttl: age up to which an answer is fresh. 0 keeps an answer for no longer than the clock
            stands still.
        stale_while_revalidate: for that long past ``ttl`` an answer is returned at once while one
            background load refreshes it.
        stale_if_error: for that long past ``ttl`` an answer stands in for a load that failed
            because the upstream is unwell: no connection, a timeout, a 5xx, a 429, an open breaker,
            no such API, no token from its provider, or an answer that cannot be decoded.
        refresh_backoff: pause after a failed refresh in which stale answers are served without
            asking the upstream; doubled at each further failure, up to a minute.
        error_ttl: for that long a failure is remembered where no stale answer stands in; 0
            remembers none.
        jitter: each answer's ttl is shortened by a random part of up to this fraction (0 to 1), so
            that accounts loaded together do not expire together.
        max_entries: at most so many answers are kept; the ones not used lately leave first.
        max_bytes: at most about so many bytes of answers are kept; ``None`` sets no such bound.

    Raises `WolfConfigError` for settings that make no sense.

    A minute later the answer is too old, but the server fails, and so it stands in:

    >>> import asyncio
    >>> from wolf_async import CachePolicy, RetryPolicy, WolfClient
    >>> from wolf_async.testing import FakeClock, Sandbox, respond
    >>> async def main() -> None:
    ...     settings = {
    ...         "cache": CachePolicy(ttl=30, stale_if_error=300),
    ...         "retry": RetryPolicy(attempts=1),
    ...         "clock": FakeClock(),
    ...     }
    ...     async with Sandbox() as box:
    ...         async with WolfClient(box.token, base_url=box.base_url, **settings) as wolf:
    ...             await wolf.task_init(box.users[0])
    ...             box.always(respond(503))
    ...             settings["clock"].advance(60)
    ...             answer = await wolf.answer(box.users[0])
    ...             print(answer.age, answer.is_stale)
    >>> asyncio.run(main())
    60.0 True

    """

    ttl: float = 30.0
    stale_while_revalidate: float = 0.0
    stale_if_error: float = 0.0
    refresh_backoff: float = 1.0
    error_ttl: float = 0.0
    jitter: float = 0.0
    max_entries: int = 10_000
    max_bytes: int | None = None

    def __post_init__(self) -> None:
        for name in ("ttl", "stale_while_revalidate", "stale_if_error", "error_ttl"):
            check_seconds(name, getattr(self, name))
        check_seconds("refresh_backoff", self.refresh_backoff, finite=True)
        check_fraction("jitter", self.jitter)
        check_count("max_entries", self.max_entries)
        if self.max_bytes is not None:
            check_count("max_bytes", self.max_bytes)
        if self.ttl == 0 and (self.stale_while_revalidate or self.stale_if_error):
            raise WolfConfigError(
                "stale windows need a ttl above 0; cache=None turns the keeping of answers off"
            )


class RetryPolicy(msgspec.Struct, frozen=True):
    """Set which failures are tried again, and when.

    All times are in seconds. Tried again: no connection, an attempt's timeout, a truncated answer,
    408, 429, 500, 502, 503 and 504. Between two attempts there is a random pause of up to
    ``backoff`` doubled per attempt ("full jitter"), or the pause that the server asked for with
    ``Retry-After`` (RFC 9110 §10.2.3).

    Attributes:
        attempts: at most so many requests for one answer, and one more where a 401 made the token
            be renewed; 1 never tries again.
        backoff: upper end of the random pause before the second attempt.
        max_backoff: upper end of any random pause.
        max_retry_after: a longer ``Retry-After`` is not waited for: the error is raised at once,
            with ``retry_after`` set.
        budget: further attempts of the whole client as a fraction of its first attempts, after a
            small reserve: an outage under load does not multiply the load. Those after a 429 do not
            count, since the gate spaces them. ``math.inf`` sets no such bound.

    Raises `WolfConfigError` for settings that make no sense.

    """

    attempts: int = 3
    backoff: float = 0.2
    max_backoff: float = 5.0
    max_retry_after: float = 30.0
    budget: float = 0.1

    def __post_init__(self) -> None:
        check_count("attempts", self.attempts)
        for name in ("backoff", "max_backoff", "max_retry_after"):
            check_seconds(name, getattr(self, name), finite=True)
        check_seconds("budget", self.budget)


class BreakerPolicy(msgspec.Struct, frozen=True):
    """Set when no more requests are sent to an upstream that fails, and when one tries again.

    A request has failed if there was no connection, no answer in time, or a 5xx. Any other answer
    of the API ends the row, a refusal too; a 429, and what does not come from this API or cannot be
    decoded, neither counts nor ends it. While the breaker is open, calls that need a request raise
    `WolfCircuitOpenError` at once.

    Attributes:
        failures: failed requests in a row, of the whole client, that open the breaker.
        pause: seconds after which one request probes; doubled each time a probe fails.
        max_pause: upper end of that pause.

    Raises `WolfConfigError` for settings that make no sense.

    """

    failures: int = 10
    pause: float = 1.0
    max_pause: float = 30.0

    def __post_init__(self) -> None:
        check_count("failures", self.failures)
        check_seconds("pause", self.pause, above=True, finite=True)
        check_seconds("max_pause", self.max_pause, least=self.pause, finite=True)


class Timeouts(msgspec.Struct, frozen=True):
    """Set how long requests may take, in seconds; each bound may be ``math.inf``.

    The error is `WolfTimeoutError`; what the last two bounds end may be tried again, as
    `RetryPolicy` tells.

    Attributes:
        total: for a whole load: waiting for a free place and for the rate limit, all attempts, and
            the pauses between.
        attempt: for one request, from making a connection to the last byte of the answer.
        connect: for making one connection.

    Raises `WolfConfigError` for settings that make no sense.

    """

    total: float = 30.0
    attempt: float = 10.0
    connect: float = 5.0

    def __post_init__(self) -> None:
        for name in ("total", "attempt", "connect"):
            check_seconds(name, getattr(self, name), above=True)
