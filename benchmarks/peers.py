"""Wrap a load in the caches that others use for it, each as its documentation advises.

A peer that is not installed is left out, and the report says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple, TypeAlias

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
    cached: Callable[[Load], Load]
    coalesces: bool = True


_PEERS = (
    Peer("async-lru", _async_lru),
    Peer("cachebox", _cachebox),
    Peer("theine", _theine),
    Peer("cashews", _cashews),
    Peer("aiocache", _aiocache, coalesces=False),
)


def as_coroutines(call: Load) -> Callable[[str, str | None], Coroutine[Any, Any, Any]]:
    """Make coroutines of ``call``: theine gives all callers of a key one awaitable that is none."""
    if asyncio.iscoroutinefunction(call):  # pyright: ignore[reportDeprecated] (async-lru marks itself for it)
        return call

    async def coroutine(user_id: str, sub_user_id: str | None) -> Any:
        return await call(user_id, sub_user_id)

    return coroutine


def installed(name: str) -> bool:
    return find_spec(name.replace("-", "_")) is not None


def peers(*, coalescing: bool = False) -> list[Peer]:
    """Return those installed; with ``coalescing`` only those that share a load among callers."""
    found = [peer for peer in _PEERS if installed(peer.name)]
    return [peer for peer in found if peer.coalesces or not coalescing]
