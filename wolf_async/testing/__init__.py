"""For tests that use wolf_async: a sandbox that behaves, or misbehaves, like the service.

A real HTTP server on loopback answers for synthetic accounts, and does to a request what a test
asks for; `Sandbox` has an example.

A POST makes a task, which takes its limits off the `residue` of its lines (`Sandbox.tasks`). A step
strikes before the task is made, or after it: ``serve() + disconnect()`` makes it, and answers
nothing.

No step sleeps unless it says so. Steps add up (``hold(gate) + disconnect()``), go to single
requests (`Sandbox.script`), to every n-th (`Sandbox.fault_every`) or to all of them
(`Sandbox.always`, until `Sandbox.heal`). `FakeClock` stands in for `time.monotonic`, here and in
the client's own cache. `Quirk` has the names that `quirks` takes.
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
