"""An upstream whose answers carry the number of their request.

The test slows it down or breaks it.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any, Self

import msgspec
from aiohttp import web

from wolf_async.account import Account

SAMPLE = Path(__file__).parent.parent / "data" / "task-init.sample.json"
TOKEN = "sk-secret-of-the-shared-tests"


class Upstream:
    """Answer ``GET …/task/create`` with the vendor's sample.

    A number in it counts the requests.
    """

    def __init__(self) -> None:
        self.arrived: list[float] = []
        """When each request arrived, on the machine's monotonic clock; answers count from 1."""
        self.accounts: list[Account] = []
        self.at_once = 0
        """The most requests of one account that were under way together."""
        self.latency = 0.0
        self.status = 200
        self.retry_after: int | None = None
        self.padding = 0
        """Bytes by which answers are longer than the sample."""
        self.gate = asyncio.Event()
        """Requests wait for it."""
        self.gate.set()
        self.base_url = ""
        self._busy: dict[str, int] = {}
        self._runner: web.AppRunner | None = None
        self._sample: dict[str, Any] = msgspec.json.decode(SAMPLE.read_bytes())

    @property
    def calls(self) -> int:
        """Requests so far."""
        return len(self.arrived)

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_get("/agent-api/new/user/{user}/task/create", self._answer)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.base_url = f"http://{host}:{port}"
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        assert self._runner is not None
        self.gate.set()
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        self.arrived.append(time.monotonic())
        serial, user = self.calls, request.match_info["user"]
        self.accounts.append(Account(user, request.query.get("sub_user_id")))
        self._busy[user] = self._busy.get(user, 0) + 1
        self.at_once = max(self.at_once, self._busy[user])
        try:
            await asyncio.sleep(self.latency)
            await self.gate.wait()
        finally:
            self._busy[user] -= 1
        return self._response(serial)

    def _response(self, serial: int) -> web.Response:
        if self.status != 200:
            envelope = {"code": self.status, "status": "error", "message": f"no {self.status}"}
            wait = {} if self.retry_after is None else {"Retry-After": f"{self.retry_after}"}
            return web.json_response(envelope, status=self.status, headers=wait)
        data = self._sample["data"] | {"max_recycle_limit": serial, "padding": "x" * self.padding}
        return web.json_response(self._sample | {"data": data})
