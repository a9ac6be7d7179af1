"""For tests that use wolf_async: a sandbox that behaves, or misbehaves, like the service.

A real HTTP server on loopback answers for synthetic accounts, and does to a request what a test
asks for::

    from wolf_async import WolfClient
    from wolf_async.testing import Sandbox, hold, respond

    async with Sandbox(accounts=3) as box, WolfClient(box.token, base_url=box.base_url) as wolf:
        box.script(box.users[0], respond(503))      # the first request fails, the next does not
        init = await wolf.task_init(box.users[0])
        assert [call.status for call in box.calls] == [503, 200]

        gate = asyncio.Event()
        box.script(None, hold(gate))                # the next request waits for the gate
        waiting = asyncio.create_task(wolf.task_init(box.users[1]))
        await box.wait_for_calls(3)
        gate.set()
        await waiting

A POST makes a task, which takes its limits off the `residue` of its lines (`Sandbox.tasks`). A step
strikes before the task is made, or after it: ``serve() + disconnect()`` makes it, and answers
nothing.

No step sleeps unless it says so. Steps add up (``hold(gate) + disconnect()``), go to single
requests (`Sandbox.script`), to every n-th (`Sandbox.fault_every`) or to all of them
(`Sandbox.always`, until `Sandbox.heal`). `FakeClock` stands in for `time.monotonic`, here and in
the client's own cache.
"""

from __future__ import annotations

from wolf_async.testing.accounts import synthetic_accounts, synthetic_task_init, synthetic_token
from wolf_async.testing.clock import FakeClock
from wolf_async.testing.faults import (
    Exchange,
    Quirk,
    Reply,
    Step,
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
    truncate,
    unauthorized,
)
from wolf_async.testing.sandbox import Call, Sandbox
from wolf_async.testing.tasks import Task

__all__ = [
    "Call",
    "Exchange",
    "FakeClock",
    "Quirk",
    "Reply",
    "Sandbox",
    "Step",
    "Task",
    "answer",
    "delay",
    "disconnect",
    "drip",
    "empty",
    "error",
    "gzip_bomb",
    "gzip_garbage",
    "hang_up",
    "hold",
    "html",
    "quirks",
    "redirect",
    "respond",
    "serve",
    "synthetic_accounts",
    "synthetic_task_init",
    "synthetic_token",
    "truncate",
    "unauthorized",
]
