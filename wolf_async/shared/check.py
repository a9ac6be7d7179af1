"""Look at a server as a tier would use it.

Can it be reached, how fast is it, and what does it forbid?
"""

from __future__ import annotations

import secrets
import statistics
import time
from typing import Any, Final

import msgspec

__all__ = ["ServerReport", "check_server"]

_ROUNDS: Final = 20
_KEY: Final = "wolf1:check:"
_CHANNEL: Final = "wolf1:check"
_SECOND: Final = 1000
_PAGE: Final = 1000
_PAGES: Final = 100
"""Pages of keys that are looked at, to count accounts: a server may hold millions of others."""


class ServerReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was found."""

    server: str
    """Name and version, such as ``redis 7.0.15``; empty if that is not told."""
    round_trip: float
    """Seconds, the median of several."""
    missing: tuple[str, ...]
    """The commands that the user may not call, of those that a tier needs."""
    accounts: int | None
    """Accounts found in all namespaces; ``None`` if they may not be counted."""
    has_all: bool
    """Whether all keys were looked at for that."""


async def check_server(client: Any) -> ServerReport:
    """Try out what a tier needs on ``client``, an asyncio client.

    Write one key of its own, and remove it. Raises what ``client`` raises where that fails.
    """
    trips: list[float] = []
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        await client.ping()
        trips.append(time.perf_counter() - began)
    server, missing = await _server(client), await _missing(client)
    accounts, has_all = await _accounts(client)
    return ServerReport(
        server=server,
        round_trip=statistics.median(trips),
        missing=missing,
        accounts=accounts,
        has_all=has_all,
    )


async def _server(client: Any) -> str:
    try:
        info = await client.info("server")
    except Exception as error:
        if _is_refused(error):
            return ""
        raise
    name = info.get("server_name", "redis")
    return f"{name} {info.get(f'{name}_version', info.get('redis_version', ''))}"


async def _missing(client: Any) -> tuple[str, ...]:
    key = _KEY + secrets.token_hex(8)
    commands: tuple[tuple[Any, ...], ...] = (
        ("SET", key, "1", "PX", _SECOND),
        ("GET", key),
        ("DEL", key),
        ("HSET", key, "field", "1"),
        ("PEXPIRE", key, _SECOND),
        ("PTTL", key),
        ("HGET", key, "field"),
        ("HMGET", key, "field"),
        ("HDEL", key, "field"),
        ("TIME",),
        ("PUBLISH", _CHANNEL, "h"),
        ("EVAL", "return 1", 1, key),
        ("EVALSHA", "0" * 40, 1, key),
    )
    refused = [str(command[0]) for command in commands if not await _may(client, command)]
    if not await _may_subscribe(client):
        refused.append("SUBSCRIBE")
    return tuple(refused)


async def _may(client: Any, command: tuple[Any, ...]) -> bool:
    try:
        await client.execute_command(*command)
    except Exception as error:
        if _is_refused(error):
            return False
        if type(error).__name__ != "NoScriptError":
            raise
    return True


async def _may_subscribe(client: Any) -> bool:
    pubsub = client.pubsub()
    try:
        await pubsub.subscribe(_CHANNEL)
        await pubsub.get_message(timeout=1.0)
    except Exception as error:
        if _is_refused(error):
            return False
        raise
    finally:
        await pubsub.aclose()
    return True


async def _accounts(client: Any) -> tuple[int | None, bool]:
    """Count the hashes of accounts among the first keys; tell whether those were all.

    A user needs ``SCAN`` for that.
    """
    found = cursor = 0
    for _ in range(_PAGES):
        try:
            cursor, keys = await client.scan(cursor, "wolf1:*:*:*", _PAGE, "hash")
        except Exception as error:
            if _is_refused(error):
                return None, False
            raise
        found += sum(b":turn:" not in key for key in keys)
        if not cursor:
            return found, True
    return found, False


def _is_refused(error: Exception) -> bool:
    return type(error).__name__ == "NoPermissionError" or "permission" in str(error).lower()
