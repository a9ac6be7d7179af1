"""An event loop whose clock jumps to the next timer instead of waiting for it."""

from __future__ import annotations

import asyncio
import selectors
import socket
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

__all__ = ["run"]

T = TypeVar("T")

_HOPS = 8
"""More packets than open or refuse a connection, one after the other."""


class _Jump(selectors.DefaultSelector):
    now = 0.0

    def __init__(self) -> None:
        super().__init__()
        self._echo = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._echo.bind(("127.0.0.1", 0))
        self._echo.connect(self._echo.getsockname())

    def close(self) -> None:
        self._echo.close()
        super().close()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout != 0 and len(self.get_map()) > 1:  # more than the loop's own
            self._let_all_arrive()
            ready = super().select(0)
        if not ready and timeout is None:
            raise RuntimeError("nothing is ready, and nothing ever will be")
        if not ready and timeout:
            self.now += timeout
        return ready

    def _let_all_arrive(self) -> None:
        # what is sent to oneself on loopback comes after all that was sent there before it
        for _ in range(_HOPS):
            self._echo.send(b".")
            self._echo.recv(1)


class _VirtualTime(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jump = _Jump()
        super().__init__(self._jump)

    def time(self) -> float:
        return self._jump.now


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run ``main``, which may talk on loopback, in no time; fail if it leaves a task behind."""

    async def tidy() -> T:
        result = await main
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return result

    with asyncio.Runner(loop_factory=_VirtualTime) as runner:
        return runner.run(tidy())
