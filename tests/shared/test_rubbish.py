"""Whatever somebody else has put into the server: no caller gets it, and none waits for it."""

from __future__ import annotations

import asyncio
import gc
import math
import sys
import time
import tracemalloc
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from shared.servers import until
from shared.sharing import Counter, cache_on, slow
from shared.upstream import TOKEN
from wolf_async import WolfClient
from wolf_async.errors import WolfError, WolfRateLimitError
from wolf_async.shared import RedisTier
from wolf_async.shared.codec import Names, decode_error, encode_error, encode_key

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from shared.servers import Server
    from shared.upstream import Upstream
    from wolf_async.cache import LoadingCache

QUICK = 2.0
"""Seconds, within which a load of no time at all has ended on a busy machine."""
POLICY: dict[str, Any] = {"jitter": 0.5, "stale_if_error": 60, "error_ttl": 20}
NOW = time.time_ns() // 1000
NUMBERS = [
    *(b"", b"x", b"\xff", b"nan", b"inf", b"-inf", b"-5", b"0", b"0.5", b"1e300", b"-1e300"),
    *(f"{NOW + seconds * 10**6}".encode() for seconds in (-40, -1, 3600, 10**9)),
]
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "v": st.sampled_from([b"", b"\x01\x02", b"\xff"]),
        "f": st.sampled_from([b"", b"\x80", b"\xff"]),
        **{name: st.sampled_from(NUMBERS) for name in ("s", "r", "ls", "le", "fa", "fs", "fb")},
        **{name: st.sampled_from([b"", b"t", b"\xff"]) for name in ("l", "w", "ft")},
    },
)


def name_of(server: Server, key: str) -> str:
    """Return the name of the hash of a key of `slow` caches."""
    names = Names("", "n", "")
    with server.client() as client:
        epoch = client.get(names.epoch_key)
    return names.key(epoch.decode(), encode_key(key))


def put(server: Server, key: str, fields: dict[str, bytes]) -> None:
    with server.client() as client:
        client.hset(name_of(server, key), mapping=fields)


@asynccontextmanager
async def two_caches(server: Server, **policy: Any) -> AsyncGenerator[list[LoadingCache[str, str]]]:
    caches = [cache_on(Counter(), slow(url=server.url), **policy) for _ in range(2)]
    try:
        yield caches
    finally:
        for cache in caches:
            await cache.aclose()


async def quickly(cache: LoadingCache[str, str], key: str) -> str:
    async with asyncio.timeout(QUICK):
        return await cache.get(key)


# --- an account -----------------------------------------------------------------------------------


@settings(
    max_examples=60,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(examples=st.lists(FIELDS.filter(bool), min_size=5, max_size=20))
def test_no_field_of_an_account_is_served_or_waited_for(
    server: Server, examples: list[dict[str, bytes]]
) -> None:
    async def ask() -> None:
        async with two_caches(server, **POLICY) as caches:
            await caches[0].get("first")
            for number, fields in enumerate(examples, 2):
                put(server, f"{number}", fields)
                found = [await quickly(cache, f"{number}") for cache in caches]
                assert found == [f"{number}#{number}"] * 2, fields
            assert caches[0].stats().shared_bypassed == 0

    with server.client() as client:
        client.flushall()
    asyncio.run(ask())


@pytest.mark.parametrize("jitter", [b"-1e9", b"nan", b"2", b"inf"])
async def test_no_jitter_makes_a_value_fresh_for_longer(server: Server, jitter: bytes) -> None:
    async with two_caches(server, **POLICY) as (one, two):
        await one.get("a")
        put(server, "a", {"r": jitter})
        assert await quickly(two, "a") == "a#1"
        assert two.stats().shared_hits == 0


async def test_another_type_in_an_accounts_place_costs_the_others_nothing(server: Server) -> None:
    async with two_caches(server) as (one, two):
        await one.get("a")
        with server.client() as client:
            client.set(name_of(server, "b"), "text")
        assert [await quickly(cache, "b") for cache in (one, two)] == ["b#2", "b#1"]
        assert await quickly(two, "a") == "a#1", "it is shared still"
        assert two.stats().shared_hits == 1
        one.invalidate("b")
        assert await one.settled()
        assert [await quickly(cache, "b") for cache in (one, two)] == ["b#3"] * 2
        assert two.stats().shared_hits == 2


async def test_another_type_in_the_epochs_place_is_replaced(server: Server) -> None:
    with server.client() as client:
        client.hset(Names("", "n", "").epoch_key, "text", "1")
    async with two_caches(server) as (one, two):
        assert [await quickly(cache, "a") for cache in (one, two)] == ["a#1"] * 2
        assert two.stats().shared_hits == 1


@pytest.mark.parametrize("size", [2**30, None])
async def test_a_small_value_that_is_worth_gigabytes_is_not_decompressed(
    server: Server, upstream: Upstream, size: int | None
) -> None:
    """It may state its size, or not, as a stream does."""
    options: dict[str, Any] = {"base_url": upstream.base_url, "max_body": 2**20}
    tiers = [RedisTier(server.url, timeout=2.0, connect_timeout=5.0) for _ in range(2)]
    async with (
        WolfClient(TOKEN, shared=tiers[0], **options) as one,
        WolfClient(TOKEN, shared=tiers[1], **options) as two,
    ):
        await one.task_init("u1")
        with server.client() as client:
            (key,) = (key for key in client.keys("wolf1:*:*") if client.type(key) == b"hash")
            client.hset(key, "v", b"\x01" + bomb(size))
        gc.collect()
        tracemalloc.start()
        try:
            assert (await two.task_init("u1")).max_recycle_limit == 2
            assert tracemalloc.get_traced_memory()[1] < 2**25
        finally:
            tracemalloc.stop()


def bomb(size: int | None) -> bytes:
    compressor = zstd.ZstdCompressor(1)
    if size is not None:
        compressor.set_pledged_input_size(size)
    piece = bytes(2**20)
    return b"".join([compressor.compress(piece) for _ in range(2**10)]) + compressor.flush()


# --- an error -------------------------------------------------------------------------------------


def shared_error(**fields: Any) -> bytes:
    return msgspec.msgpack.encode(["WolfRateLimitError", "no", None, b"", fields])


@pytest.mark.parametrize(
    "fields",
    [
        {"attempts": "many"},
        {"attempts": None},
        {"http_status": "429"},
        {"code": "429"},
        {"code": 4.5},
        {"status": 1},
        {"api_message": None},
        {"request_id": 1},
        {"retry_after": "soon"},
        {"retry_after": -1.0},
        {"retry_after": math.nan},
        {"retry_after": True},
    ],
)
def test_an_error_whose_fields_have_other_types_is_none(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="an error that cannot be decoded"):
        decode_error(shared_error(**fields))


def test_an_error_takes_no_field_that_it_does_not_have() -> None:
    error = decode_error(shared_error(args=1, body=2, account=3, __class__=4, path="$"))
    assert str(error) == "no"
    assert (error.body, error.account) == (b"", None)
    assert not hasattr(error, "path")


def test_an_error_comes_back_with_all_its_fields() -> None:
    fields: dict[str, Any] = {
        "attempts": 3,
        "body": b"body",
        "http_status": 429,
        "code": 429,
        "status": "error",
        "api_message": "slower",
        "request_id": "id",
        "retry_after": 2.5,
    }
    error = decode_error(encode_error(WolfRateLimitError("text", **fields)))
    assert isinstance(error, WolfRateLimitError)
    assert vars(error) == fields | {"account": None}


async def test_such_an_error_is_not_raised_but_loaded_anew(server: Server) -> None:
    now = f"{time.time_ns() // 1000}".encode()
    failed = {"fa": now, "fs": now, "fb": b"1", "ft": b"t"}
    async with two_caches(server, error_ttl=30) as (cache, _):
        await cache.get("first")
        put(server, "good", failed | {"f": shared_error(attempts=1)})
        with pytest.raises(WolfError, match="no"):
            await quickly(cache, "good")
        put(server, "bad", failed | {"f": shared_error(attempts="1")})
        assert await quickly(cache, "bad") == "bad#2"


# --- messages -------------------------------------------------------------------------------------


async def test_messages_that_are_none_change_nothing(server: Server, upstream: Upstream) -> None:
    tier = RedisTier(server.url, timeout=2.0, connect_timeout=5.0)
    async with WolfClient(TOKEN, base_url=upstream.base_url, shared=tier) as wolf:
        await wolf.task_init("u1")
        with server.client() as client:
            channel = client.pubsub_channels("wolf1:*")[0]
            for pause in (b"", b"-5", b"nan", b"inf", b"1e3", b"1.5", b"9" * 400, b"9" * 5000):
                client.publish(channel, b"tsender00" + pause)
            for rubbish in (b"", b"i", b"\xff", b"isender00", b"xsender00\xc1", b"isender00\x80"):
                client.publish(channel, rubbish)
            client.publish(
                channel, b"isender00" + msgspec.msgpack.encode(msgspec.msgpack.Ext(5, b""))
            )
            client.publish(channel, b"isender00" + encode_key(("u1", None)))
        await until(lambda: wolf.peek("u1") is None)  # the last one is one
        assert "gate closed" not in repr(wolf)
        stats = wolf.stats()
        assert (stats.shared_invalidations, stats.shared_reconnects) == (1, 0)


async def test_no_pause_that_is_heard_of_is_longer_than_an_hour(
    server: Server, upstream: Upstream
) -> None:
    tier = RedisTier(server.url, timeout=2.0, connect_timeout=5.0)
    async with WolfClient(TOKEN, base_url=upstream.base_url, shared=tier) as wolf:
        await wolf.task_init("u1")
        with server.client() as client:
            client.publish(client.pubsub_channels("wolf1:*")[0], b"tsender00" + b"9" * 300)
        await until(lambda: "gate closed" in repr(wolf))
        with pytest.raises(WolfRateLimitError) as caught:
            await wolf.task_init("u2")
        assert caught.value.retry_after is not None
        assert caught.value.retry_after <= 3600
