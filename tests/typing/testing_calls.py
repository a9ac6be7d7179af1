"""The testing module as users write it: type checkers read this file, and nobody runs it."""

from __future__ import annotations

import asyncio
from typing import Any, assert_type

from wolf_async import Account
from wolf_async.testing import (
    Call,
    Exchange,
    FakeClock,
    Quirk,
    Reply,
    Sandbox,
    Step,
    Task,
    answer,
    delay,
    disconnect,
    drip,
    empty,
    error,
    gzip_bomb,
    gzip_garbage,
    hang_up,
    hold,
    html,
    quirks,
    redirect,
    respond,
    serve,
    synthetic_accounts,
    synthetic_task_init,
    synthetic_token,
    truncate,
    unauthorized,
)


async def sandboxes() -> None:
    clock = FakeClock(100.0)
    assert_type(clock(), float)
    assert_type(clock.advance(2), float)
    async with Sandbox(accounts=3, sub_accounts=1, seed=7, clock=clock, gzip=True) as box:
        assert_type(box, Sandbox)
        assert_type(box.base_url, str)
        assert_type(box.token, str)
        assert_type(box.users, tuple[str, ...])
        assert_type(box.accounts, tuple[Account, ...])
        assert_type(box.calls, list[Call])
        assert_type(box.tasks, list[Task])
        assert_type(box.calls_for("user"), list[Call])
        assert_type(box.expire_token(), str)
        assert_type(box.body_for(Account("user")), bytes)
        box.set_data("user", box.data_for("user"))
        await box.wait_for_calls(3, timeout=1)
        await box.wait_until_idle()


def scripts(box: Sandbox, gate: asyncio.Event) -> None:
    box.script("user", respond(503), respond(429, headers={"Retry-After": "2"}))
    box.script(Account("user", "sub"), hold(gate) + disconnect(reset=True))
    box.script(None, delay(0.1), error(code=6007), unauthorized(), answer({"background": []}))
    box.always(html(502), empty(204), redirect("https://example.com"))
    box.fault_every(10, truncate(100), drip(0.1, chunk=10), hang_up())
    box.always(gzip_garbage(), gzip_bomb(2**20), quirks("list_as_map"))
    box.heal()
    assert_type(respond() + hang_up(), Step)
    assert_type(serve() + disconnect(), Step)


class Teapot(Step, frozen=True):
    async def apply(self, exchange: Exchange) -> None:
        assert_type(exchange.account, Account | None)
        exchange.reply = Reply(418, b"short and stout")


def own_steps(box: Sandbox, quirk: Quirk) -> None:
    box.script(None, Teapot() + hang_up(), quirks(quirk))


def data() -> None:
    account, *_ = assert_type(synthetic_accounts(0, 3, 2), tuple[Account, ...])
    assert_type(synthetic_task_init(0, account, tick=1, lines=2, groups=1), dict[str, Any])
    assert_type(synthetic_token(0), str)
