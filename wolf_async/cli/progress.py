"""Show on stderr how far a long run is: one line that is drawn anew, or a line now and then."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Progress", "say"]

_DRAWN_EVERY: Final = 0.25
_ERASE: Final = "\r\x1b[K"
_MINUTE: Final = 60
_HOUR: Final = 3600


def say(text: str) -> None:
    """Write to stderr, if there is anybody."""
    if sys.stderr is None:
        return
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(text)
        sys.stderr.flush()


class Progress:
    """Tell until it is cancelled what ``done`` and ``failed`` say, of ``total`` where it is known.

    A terminal gets a line that is drawn anew, never longer than half of a common one: a terminal
    that is made narrower would break a longer line in two, of which one would stay. Anything else
    gets a line every ``every`` seconds.
    """

    __slots__ = ("_begun", "_done", "_every", "_failed", "_total")

    def __init__(
        self,
        done: Callable[[], int],
        failed: Callable[[], int],
        total: int | None,
        *,
        every: float,
    ) -> None:
        self._done = done
        self._failed = failed
        self._total = total
        self._every = every
        self._begun = time.monotonic()

    async def run(self) -> None:
        """Tell it until cancelled."""
        is_drawn = _is_terminal()
        try:
            while True:
                await asyncio.sleep(_DRAWN_EVERY if is_drawn else self._every)
                say(self._drawn() if is_drawn else f"{self}\n")
        finally:
            if is_drawn:
                say(f"{self._drawn()}{_ERASE}")

    def __str__(self) -> str:
        done, total = self._done(), self._total
        rate = done / max(time.monotonic() - self._begun, 1e-3)
        parts = [f"{done}" if total is None else f"{done}/{max(total, done)}", f"{rate:,.0f}/s"]
        parts.append(f"{self._failed()} failed")
        if total is not None and rate:
            parts.append(f"{_duration(max(total - done, 0) / rate)} left")
        return " ".join(parts)

    def _drawn(self) -> str:
        return f"{_ERASE}{str(self)[: max(_width() - 1, 1)]}"


def _is_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def _width() -> int:
    """Return the columns of the terminal; 80 where it says none."""
    try:
        columns = os.get_terminal_size(sys.stderr.fileno()).columns
    except (OSError, ValueError):
        columns = 0
    said = os.environ.get("COLUMNS", "")
    return columns or (int(said) if said.isdecimal() else 0) or 80


def _duration(seconds: float) -> str:
    whole = round(seconds)
    if whole < _HOUR:
        return f"{whole // _MINUTE}:{whole % _MINUTE:02}"
    return f"{whole // _HOUR}:{whole % _HOUR // _MINUTE:02}:{whole % _MINUTE:02}"
