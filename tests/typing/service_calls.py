"""What stands around a client in a service: type checkers read this file, and nobody runs it."""

from __future__ import annotations

from typing import assert_type

from aiohttp import web

from wolf_async import Account, WolfClient
from wolf_async.cache import LoadingCache
from wolf_async.dashboard import make_app
from wolf_async.events import Event, Listener, LoadEvent, RequestEvent
from wolf_async.otel import instrument
from wolf_async.shared import RedisTier


def listen(event: Event) -> None:
    match event:
        case RequestEvent():
            assert_type(event.status, int | None)
        case LoadEvent():
            assert_type(event.requests, tuple[RequestEvent, ...])
        case _:
            pass


class Tracer:
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


def instrumented(wolf: WolfClient) -> None:
    instrument(wolf)


def pages(wolf: WolfClient) -> web.Application:
    app = web.Application()
    page = make_app(wolf, ["user", Account("user", "sub")], every=2, password="secret")
    app.add_subapp("/dashboard", assert_type(page, web.Application))
    return app


def caches(cache: LoadingCache[str, int]) -> None:
    assert_type(cache.peek("key", stale=True), int | None)
