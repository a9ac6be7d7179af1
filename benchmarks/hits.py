"""Parts ``hit`` and ``peek``: an answer that is held."""

from __future__ import annotations

from typing import Any

from benchmarks.harness import Effort, Figure, Variant, interleave, ratio, repeated
from benchmarks.peers import peers
from benchmarks.subjects import KEEP, SAMPLE, SUB, USER, OfflineClient, decoder
from wolf_async import Account
from wolf_async.cache import LoadingCache

__all__ = ["hit", "peek"]

BARE = "bare function, `d[user_id, sub_user_id]`"
BARE_KEY = "bare function, `d[key]` with the key ready"
CLIENT_HIT = "`await client.task_init(u, s)`"
CLIENT_PEEK = "`client.peek(u, s)`"


async def _answer(account: Account) -> bytes:
    return SAMPLE


def hit(effort: Effort) -> list[Figure]:
    """A hit, awaited."""
    init = decoder.decode(SAMPLE).data
    key = Account(USER, SUB)
    held: dict[Any, Any] = {key: init}

    async def bare(user_id: str, sub_user_id: str) -> Any:
        return held[user_id, sub_user_id]

    async def bare_key(key: Account) -> Any:
        return held[key]

    async def load(user_id: str, sub_user_id: str | None) -> Any:
        return init

    async def load_key(key: Account) -> Any:
        return init

    calls = "await call(u, s)"
    with effort.runner() as runner:
        client = OfflineClient(_answer)
        cache = LoadingCache(load_key, policy=KEEP)
        runner.run(client.task_init(USER, SUB))
        runner.run(cache.get(key))
        variants: dict[str, Variant] = {
            BARE: repeated(runner, effort.slot, calls, call=bare, u=USER, s=SUB),
            BARE_KEY: repeated(runner, effort.slot, "await call(key)", call=bare_key, key=key),
            CLIENT_HIT: repeated(
                runner, effort.slot, "await client.task_init(u, s)", client=client, u=USER, s=SUB
            ),
            "`await LoadingCache.get(key)`": repeated(
                runner, effort.slot, "await cache.get(key)", cache=cache, key=key
            ),
        }
        notes: dict[str, str] = {}
        for peer in peers():
            variants[peer.name] = repeated(
                runner, effort.slot, calls, call=peer.cached(load), u=USER, s=SUB
            )
            notes[peer.name] = peer.does
        samples = interleave(variants, effort.rounds)
        runner.run(client.aclose())
    rows = [
        Figure(
            part="hit",
            name=name,
            value=ratio(samples, name, BARE),
            against=BARE,
            reach=2.0 if name == CLIENT_HIT else None,
            note=notes.get(name, ""),
        )
        for name in variants
        if name != BARE
    ]
    rows.append(
        Figure(
            part="hit",
            name=CLIENT_HIT,
            value=ratio(samples, CLIENT_HIT, BARE_KEY),
            against=BARE_KEY,
        )
    )
    return rows + [
        Figure(
            part="hit",
            name=CLIENT_HIT,
            value=ratio(samples, CLIENT_HIT, name),
            against=name,
            reach=1.0,
        )
        for name in notes
    ]


def peek(effort: Effort) -> list[Figure]:
    """The same without suspending: plain functions."""
    key = Account(USER, SUB)
    held: dict[Any, Any] = {key: decoder.decode(SAMPLE).data}

    def bare(user_id: str, sub_user_id: str) -> Any:
        return held[user_id, sub_user_id]

    def bare_key(key: Account) -> Any:
        return held[key]

    with effort.runner() as runner:
        client = OfflineClient(_answer)
        runner.run(client.task_init(USER, SUB))
        variants = {
            BARE: repeated(runner, effort.slot, "call(u, s)", call=bare, u=USER, s=SUB),
            BARE_KEY: repeated(runner, effort.slot, "call(key)", call=bare_key, key=key),
            CLIENT_PEEK: repeated(
                runner, effort.slot, "client.peek(u, s)", client=client, u=USER, s=SUB
            ),
        }
        samples = interleave(variants, effort.rounds)
        runner.run(client.aclose())
    return [
        Figure(
            part="peek",
            name=CLIENT_PEEK,
            value=ratio(samples, CLIENT_PEEK, BARE),
            against=BARE,
            reach=3.0,
        ),
        Figure(
            part="peek",
            name=CLIENT_PEEK,
            value=ratio(samples, CLIENT_PEEK, BARE_KEY),
            against=BARE_KEY,
        ),
        Figure(part="peek", name=BARE_KEY, value=ratio(samples, BARE_KEY, BARE), against=BARE),
    ]
