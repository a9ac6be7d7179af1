"""The library's logger, and a way to say a thing once instead of a thousand times."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ThrottledLogger", "logger"]

logger: Final = logging.getLogger("wolf_async")
logger.addHandler(logging.NullHandler())

_PAUSE: Final = 60.0


class ThrottledLogger:
    """Logs each kind of message at most once a minute, and then says how many were left out."""

    __slots__ = ("_clock", "_logged")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._logged: dict[str, tuple[float, int]] = {}

    def __call__(self, level: int, kind: str, message: str, *args: object) -> None:
        now = self._clock()
        until, left_out = self._logged.get(kind, (now, 0))
        if now < until:
            self._logged[kind] = until, left_out + 1
            return
        self._logged[kind] = now + _PAUSE, 0
        if left_out:
            message, args = (
                f"{message} (%d more of this kind since the last time)",
                (*args, left_out),
            )
        logger.log(level, message, *args)
