"""What stands around a client in a service: type checkers read this file, and nobody runs it."""

from __future__ import annotations

from typing import Literal, assert_type

from aiohttp import web
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from redis.asyncio import Redis

from wolf_async import Account, WolfClient
from wolf_async.cache import LoadingCache
from wolf_async.dashboard import LOOPBACK, make_app
from wolf_async.events import (
    BreakerEvent,
    Event,
    EvictionEvent,
    GateEvent,
    Listener,
    LoadEvent,
    RepairEvent,
    RequestEvent,
    WaitEvent,
    WaitOutcome,
)
from wolf_async.otel import instrument
from wolf_async.shared import RedisTier


def listen(event: Event) -> None:
    match event:
        case RequestEvent():
            assert_type(event.status, int | None)
        case LoadEvent():
            assert_type(event.requests, tuple[RequestEvent, ...])
            assert_type(event.outcome, Literal["value", "failure", "abandoned"])
        case WaitEvent():
            outcome: WaitOutcome = event.outcome
            assert_type((event.joined, outcome), tuple[bool, WaitOutcome])
        case RepairEvent() | EvictionEvent():
            assert_type(event.account, Account)
        case GateEvent():
            assert_type((event.is_closed, event.seconds), tuple[bool, float])
        case BreakerEvent():
            assert_type((event.is_open, event.failures), tuple[bool, int])


class Tracer:
    def is_idle(self) -> bool:
        return False

    def capture(self) -> str:
        return "caller"

    def __call__(self, event: Event) -> object:
        return None


def listeners() -> None:
    WolfClient("token", listeners=[listen, Tracer(), lambda event: None])
    by_hand: Listener = Tracer()
    WolfClient("token", listeners=(by_hand,))


async def tiers() -> None:
    tier = RedisTier("redis://cache:6379/0", namespace="eu", timeout=0.1, lease=5)
    wolf = WolfClient("token", shared=tier)
    assert_type(await wolf.settled(), bool)
    given = RedisTier(client=Redis(), connect_timeout=1, heartbeat=2, max_connections=5)
    assert_type(given.where, str)


def shared_caches(cache_tier: RedisTier, loads: LoadingCache[str, bytes]) -> None:
    cache = LoadingCache(length, shared=cache_tier, codec=IntCodec())
    assert_type(cache, LoadingCache[str, int])
    assert_type(loads.stats().shared_invalidations, int)


async def length(key: str) -> int:
    return len(key)


class IntCodec:
    def encode(self, value: int) -> bytes:
        return str(value).encode()

    def decode(self, key: str, body: bytes, sent_at: float) -> int:
        return int(body)


def instrumented(wolf: WolfClient) -> None:
    instrument(wolf)
    instrument(wolf, TracerProvider(), MeterProvider(), account_ids=True)


def pages(wolf: WolfClient) -> web.Application:
    app = web.Application()
    page = make_app(wolf, ["user", Account("user", "sub")], every=2, password="secret")
    make_app(wolf, ["user"], allowed_hosts=LOOPBACK, idle=10)
    app.add_subapp("/dashboard", assert_type(page, web.Application))
    return app


def caches(cache: LoadingCache[str, int]) -> None:
    assert_type(cache.peek("key", stale=True), int | None)
