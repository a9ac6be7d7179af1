"""Caches that others use for the same job, each as its own documentation advises for an async function.

A peer that is not installed is left out, and the report says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple, TypeAlias

__all__ = ["Peer", "as_coroutines", "installed", "peers"]

Load: TypeAlias = Callable[[str, str | None], Awaitable[Any]]

_ENTRIES = 10_000
_TTL = 86_400


def _async_lru(load: Load) -> Load:
    return import_module("async_lru").alru_cache(maxsize=_ENTRIES, ttl=_TTL)(load)  # type: ignore[no-any-return]


def _cachebox(load: Load) -> Load:
    cachebox = import_module("cachebox")
    return cachebox.cached(cachebox.TTLCache(_ENTRIES, _TTL))(load)  # type: ignore[no-any-return]


def _theine(load: Load) -> Load:
    cached = import_module("theine").Memoize(_ENTRIES, timedelta(seconds=_TTL))(load)

    def key(user_id: str, sub_user_id: str | None) -> str:
        return f"{user_id}:{sub_user_id}"

    cached.key(key)  # "the recommended way"
    return cached  # type: ignore[no-any-return]


def _aiocache(load: Load) -> Load:
    return import_module("aiocache").cached(ttl=_TTL)(load)  # type: ignore[no-any-return]


def _cashews(load: Load) -> Load:
    cache = import_module("cashews").Cache()
    cache.setup("mem://", size=_ENTRIES)
    return cache(ttl=timedelta(seconds=_TTL), key="init:{user_id}:{sub_user_id}")(load)  # type: ignore[no-any-return]


class Peer(NamedTuple):
    name: str
    module: str
    cached: Callable[[Load], Load]
    coalesces: bool
    does: str
    """What a caller gets from it beside a held value, or does not."""


_PEERS = (
    Peer("async-lru", "async_lru", _async_lru, True, "coalesces; a timer for each entry"),
    Peer("cachebox", "cachebox", _cachebox, True, "coalesces by a lock per key; expires on access"),
    Peer("theine", "theine", _theine, True, "coalesces; no load of its own; expires by a thread"),
    Peer("cashews", "cashews", _cashews, True, "coalesces, not against cancellation; expires"),
    Peer(
        "aiocache", "aiocache", _aiocache, False, "no coalescing, no bound; a timer for each entry"
    ),
)


def as_coroutines(call: Load) -> Callable[[str, str | None], Coroutine[Any, Any, Any]]:
    """``call`` for a crowd of tasks: theine gives all callers of a key one awaitable, which is no coroutine."""
    if asyncio.iscoroutinefunction(call):  # pyright: ignore[reportDeprecated] (async-lru marks itself for it)
        return call

    async def coroutine(user_id: str, sub_user_id: str | None) -> Any:
        return await call(user_id, sub_user_id)

    return coroutine


def installed(module: str) -> bool:
    return find_spec(module) is not None


def peers(*, coalescing: bool = False) -> list[Peer]:
    """Those that are installed; only those that share one load among its callers with ``coalescing``."""
    return [
        peer for peer in _PEERS if installed(peer.module) and (peer.coalesces or not coalescing)
    ]
