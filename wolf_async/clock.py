"""The clock by which ages are counted unless a caller gives another one."""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["system_clock"]


def _choose() -> Callable[[], float]:
    boot_time = getattr(time, "CLOCK_BOOTTIME", None)
    if boot_time is None:
        return time.monotonic
    return functools.partial(time.clock_gettime, boot_time)


system_clock: Final = _choose()
"""Seconds that never go back, and go on while the machine sleeps where the system can count so.

On Linux that is ``CLOCK_BOOTTIME`` (clock_gettime(2)): the monotonic clock stands still while a
machine is suspended, and an answer would be as fresh after a night as before it.
"""
