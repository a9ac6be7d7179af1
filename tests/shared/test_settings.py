"""What a tier is told, what it refuses, and what it shows of itself."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import redis.asyncio

from shared.fake import FakeNetwork, FakeTier, TextCodec
from shared.upstream import TOKEN
from wolf_async import WolfClient
from wolf_async.cache import LoadingCache
from wolf_async.errors import WolfConfigError
from wolf_async.shared import RedisTier
from wolf_async.testing import FakeClock

if TYPE_CHECKING:
    from shared.servers import Server

URL = "redis://127.0.0.1:1/0"


async def load(key: object) -> str:
    return repr(key)


async def provider() -> str:
    return TOKEN


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"url": URL, "client": redis.asyncio.Redis()},
        {"url": "http://127.0.0.1"},
        {"url": "127.0.0.1:6379"},
        {"url": b"redis://127.0.0.1"},
        {"url": "redis://127.0.0.1:port"},
        {"url": "redis://[::1"},
        {"url": "redis://127.0.0.1/0?retry=x"},
        {"url": "redis://127.0.0.1/0?socket_timeout=soon"},
        {"url": "redis://127.0.0.1/0?decode_responses=True"},
        {"url": "redis://127.0.0.1/0?max_connections=1"},
        {"client": object()},
        {"client": redis.asyncio.Redis(decode_responses=True)},
        {"url": URL, "namespace": ""},
        {"url": URL, "namespace": 7},
        {"url": URL, "timeout": 0},
        {"url": URL, "timeout": "1"},
        {"url": URL, "connect_timeout": -1},
        {"url": URL, "lease": float("inf")},
        {"url": URL, "heartbeat": float("nan")},
        {"url": URL, "compress_from": -1},
        {"url": URL, "max_connections": 1},
    ],
)
def test_settings_that_make_no_sense_are_refused_when_the_tier_is_made(
    settings: dict[str, Any],
) -> None:
    with pytest.raises(WolfConfigError):
        RedisTier(**settings)


def test_no_error_and_no_repr_shows_a_password() -> None:
    tier = RedisTier("rediss://user:pa55word@cache.example:6380/2?client_name=pa55word")
    assert repr(tier) == "<RedisTier rediss://cache.example:6380/2: not in use>"
    for url in ("redis://user:pa55word@127.0.0.1:port/0", "redis://user:pa55word@h\u2100st"):
        with pytest.raises(WolfConfigError) as caught:
            RedisTier(url)
        error: BaseException | None = caught.value
        while error is not None:
            assert "pa55word" not in repr(error)
            error = error.__cause__


async def test_a_client_with_a_provider_of_tokens_needs_a_namespace() -> None:
    with pytest.raises(WolfConfigError, match="namespace"):
        WolfClient(provider, base_url="http://127.0.0.1:1", shared=RedisTier(URL))
    tier = RedisTier(URL, namespace="partner-17")
    async with WolfClient(provider, base_url="http://127.0.0.1:1", shared=tier) as wolf:
        assert wolf.stats().shared_hits == 0


def test_a_cache_of_ones_own_needs_a_namespace_and_a_codec() -> None:
    with pytest.raises(WolfConfigError, match="namespace"):
        LoadingCache(load, shared=RedisTier(URL), codec=TextCodec())
    with pytest.raises(WolfConfigError, match="codec"):
        LoadingCache(load, shared=RedisTier(URL, namespace="prices-1"))
    tier = RedisTier(URL, namespace="prices-1")
    with pytest.raises(WolfConfigError, match="policy"):
        LoadingCache(load, policy=None, shared=tier, codec=TextCodec())


def test_a_client_that_keeps_nothing_has_nothing_to_share() -> None:
    with pytest.raises(WolfConfigError, match="cache=None"):
        WolfClient(TOKEN, cache=None, shared=RedisTier(URL))
    with pytest.raises(WolfConfigError, match="RedisTier"):
        WolfClient(TOKEN, shared=URL)  # type: ignore[arg-type]


async def test_a_key_that_is_not_the_same_in_every_process_is_refused() -> None:
    cache: LoadingCache[Any, str] = LoadingCache(
        load, shared=FakeTier(FakeNetwork(FakeClock())), codec=TextCodec()
    )
    for bad in (object(), frozenset({"a"}), 2**70, ("a", object())):
        with pytest.raises(WolfConfigError, match="key"):
            await cache.get(bad)
    for good in ("a", b"a", 1, ("a", None), (1.5, ("x", b"y"))):
        assert await cache.get(good) == repr(good)
    await cache.aclose()


async def test_the_tier_shows_whether_it_is_up(own_server: Server) -> None:
    tier = RedisTier(own_server.url, namespace="n")
    cache: LoadingCache[str, str] = LoadingCache(load, shared=tier, codec=TextCodec())
    await cache.get("a")
    assert repr(tier).endswith(": up>")
    own_server.kill()
    await cache.get("b")
    assert repr(tier).endswith(": down>")
    await cache.aclose()


async def test_without_a_tier_everything_has_settled_and_nothing_was_shared() -> None:
    async with WolfClient(TOKEN, base_url="http://127.0.0.1:1") as wolf:
        wolf.invalidate("u1")
        assert await wolf.settled()
        shared = [name for name in type(wolf.stats()).__struct_fields__ if "shared" in name]
        assert len(shared) == 6
        assert {getattr(wolf.stats(), name) for name in shared} == {0}


def test_the_client_imports_nothing_of_the_tier() -> None:
    check = (
        "import sys, wolf_async\n"
        "print([m for m in sys.modules if 'redis' in m or 'wolf_async.shared' in m])"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, check=True, text=True)
    assert done.stdout.strip() == "[]"


def test_a_missing_package_is_named_with_the_extra_that_brings_it() -> None:
    check = (
        "import sys; sys.modules['redis'] = None; sys.modules['redis.asyncio'] = None\n"
        "from wolf_async.shared import RedisTier\n"
        f"RedisTier({URL!r})"
    )
    done = subprocess.run(
        [sys.executable, "-c", check], capture_output=True, check=False, text=True
    )
    assert 'pip install "wolf-async[redis]"' in done.stderr
