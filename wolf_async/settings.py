"""Check what a client is made with, once, and keep it frozen."""

from __future__ import annotations

from ssl import SSLContext
from types import NoneType
from typing import TYPE_CHECKING, Self

import aiohttp
import msgspec

from wolf_async.api.request import choose_base_url
from wolf_async.cache.tier import check_shared
from wolf_async.errors import WolfConfigError
from wolf_async.policy import (
    BreakerPolicy,
    CachePolicy,
    RetryPolicy,
    Timeouts,
    check_count,
    check_type,
)
from wolf_async.upstream.auth import TokenProvider, choose_token
from wolf_async.upstream.limits import RateLimit, check_limits
from wolf_async.upstream.proxies import choose_proxy

if TYPE_CHECKING:
    from collections.abc import Callable

    from yarl import URL

__all__ = ["ClientSettings"]


class ClientSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of one client; `WolfClient` tells what each means."""

    base_url: str
    token: str | TokenProvider
    cache: CachePolicy | None
    retry: RetryPolicy
    breaker: BreakerPolicy | None
    timeouts: Timeouts
    max_concurrency: int
    rate_limit: RateLimit | None
    session: aiohttp.ClientSession | None
    ssl: SSLContext | None
    proxy: URL | None
    max_body: int
    clock: Callable[[], float]

    @property
    def stream_concurrency(self) -> int:
        """How many requests at once a stream makes; the others are left to single calls."""
        return max(1, self.max_concurrency * 9 // 10)

    def __repr__(self) -> str:
        # the token, and perhaps the proxy's URL, are secrets
        return f"<ClientSettings for {self.base_url}>"

    @classmethod
    def choose(
        cls,
        *,
        base_url: str | None,
        token: str | TokenProvider | None,
        proxy: str | None,
        trust_env: bool,
        allow_http: bool,
        shared: object,
        cache: CachePolicy | None,
        **others: object,
    ) -> Self:
        """Return what was given, or what the environment says; refuse what makes no sense."""
        check_type("allow_http", allow_http, bool)
        check_type("trust_env", trust_env, bool)
        check_type("cache", cache, CachePolicy, NoneType)
        _check(**others)
        if shared is not None:
            check_shared(shared, cache)
        url = choose_base_url(base_url, allow_http)
        return cls(
            base_url=url,
            token=choose_token(token),
            proxy=choose_proxy(url, proxy, trust_env=trust_env, allow_http=allow_http),
            cache=cache,
            **others,  # type: ignore[arg-type]  # checked above
        )


def _check(
    *,
    retry: object,
    breaker: object,
    timeouts: object,
    session: object,
    ssl: object,
    max_concurrency: object,
    rate_limit: object,
    max_body: object,
    clock: object,
) -> None:
    check_limits(max_concurrency, rate_limit)
    check_count("max_body", max_body)
    check_type("retry", retry, RetryPolicy)
    check_type("breaker", breaker, BreakerPolicy, NoneType)
    check_type("timeouts", timeouts, Timeouts)
    check_type("session", session, aiohttp.ClientSession, NoneType)
    check_type("ssl", ssl, SSLContext, NoneType)
    if not callable(clock):
        raise WolfConfigError(f"clock must be a function that gives seconds, not {clock!r}")
