"""Stop a command at once and well: on a signal as on Ctrl-C, or for what no account can mend."""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Generator
    from types import FrameType

__all__ = ["StopSignals"]

_NAMES: Final = ("SIGTERM", "SIGHUP")


class StopSignals:
    """Let SIGTERM and SIGHUP do what Ctrl-C does, and remember which of them came.

    A signal that is ignored from the start, as under ``nohup``, stays ignored.
    """

    __slots__ = ("received",)

    received: int | None
    """The number of the last one that came."""

    def __init__(self) -> None:
        self.received = None

    @contextlib.contextmanager
    def handled(self) -> Generator[None, None, None]:
        """Handle them meanwhile, where this is the thread that can."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before: dict[int, Any] = {}
        for name in _NAMES:
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) is signal.SIG_DFL:
                before[number] = signal.signal(number, self._stop)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        interrupt = signal.getsignal(signal.SIGINT)
        if not callable(interrupt):  # a shell's background job ignores Ctrl-C
            raise KeyboardInterrupt
        # asyncio's own handler while a loop runs, which ends what is under way first
        interrupt(signal.SIGINT, frame)
