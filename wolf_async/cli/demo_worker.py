"""Run one of the processes of ``wolf-async demo --processes``.

It reads one line, its `Task`, and says ``ready``. At each further line, ``alone`` or ``shared``, it
lets its callers ask at once, and says in one line what came of them, its `Outcome`.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from typing import TYPE_CHECKING, Final

import msgspec

from wolf_async.account import Account
from wolf_async.cli.verdict import Outcome, Task, answers, count_wrong
from wolf_async.client import WolfClient
from wolf_async.policy import RetryPolicy
from wolf_async.shared import RedisTier

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

_TIMEOUT: Final = 2.0
_CONNECT_TIMEOUT: Final = 5.0
_LEASE: Final = 10.0
"""Seconds for the tier: whatever else this machine does must not look like a fault."""


def _patient_tier() -> RedisTier:
    url = os.environ["WOLF_SHARED"]
    return RedisTier(url, timeout=_TIMEOUT, connect_timeout=_CONNECT_TIMEOUT, lease=_LEASE)


async def _ask(asked: Sequence[Account], *, shared: bool) -> Outcome:
    tier = _patient_tier() if shared else None
    async with WolfClient(shared=tier, retry=RetryPolicy(attempts=1)) as wolf:
        began = time.time()
        outcomes = await asyncio.gather(
            *(wolf.task_init(*account) for account in asked), return_exceptions=True
        )
        ended = time.time()
    answered = answers(asked, outcomes)
    return Outcome(len(answered), count_wrong(answered), began, ended)


def main() -> None:
    """Do as `sys.stdin` says until it ends."""
    task = msgspec.json.decode(sys.stdin.buffer.readline(), type=Task)
    asked = [Account(*account) for account in task.asked]
    _say(b"ready")
    for line in sys.stdin.buffer:
        outcome = asyncio.run(_ask(asked, shared=line.strip() == b"shared"))
        _say(msgspec.json.encode(outcome))


def _say(line: bytes) -> None:
    sys.stdout.buffer.write(line + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
