"""Random calls in several processes while the server fails in every way.

It is killed, stopped, flushed, cut off and restarted.
``WOLF_SOAK_SECONDS=60`` makes it longer, and ``WOLF_SOAK_SEED`` chooses another course.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import Counter
from typing import TYPE_CHECKING

from shared.servers import PausableProxy
from shared.worker import Answer, Failed, Worker

if TYPE_CHECKING:
    from shared.conftest import Fleet

SECONDS = float(os.environ.get("WOLF_SOAK_SECONDS", "6"))
SEED = int(os.environ.get("WOLF_SOAK_SEED", "1"))
TTL = 0.8
USERS = [f"u{number}" for number in range(5)]
TIER = {"timeout": 0.5, "lease": 0.8, "heartbeat": 0.3}


class Caller:
    """Calls in one process, and what may never be seen in it."""

    def __init__(self, fleet: Fleet, chance: random.Random, url: str) -> None:
        self._fleet = fleet
        self._chance = chance
        self._url = url
        self._invalidated: dict[str, float] = {}
        self._deaths = 0
        self.seen: Counter[str] = Counter()

    async def run(self, until: float) -> None:
        worker = await self._new_worker()
        while time.monotonic() < until:
            await asyncio.sleep(self._chance.random() * 0.03)
            what = self._chance.random()
            if what < 0.01:
                worker = await self._die(worker)
            elif what < 0.1:
                await self._invalidate(worker)
            elif what < 0.2:
                await self._leave(worker)
            else:
                await self._call(worker)

    async def _new_worker(self) -> Worker:
        return await self._fleet.worker(url=self._url, tier=TIER, ttl=TTL, jitter=0.1)

    async def _die(self, worker: Worker) -> Worker:
        self.seen["deaths"] += 1
        call = asyncio.create_task(worker.get("u0"))
        await asyncio.sleep(0.01)
        worker.signal(self._chance.choice([signal.SIGKILL, signal.SIGSTOP]))
        call.cancel()
        # what it had not told when it died is forgotten, and so is what it had seen
        self._invalidated.clear()
        return await self._new_worker()

    async def _invalidate(self, worker: Worker) -> None:
        user = self._chance.choice(USERS)
        self.seen["invalidations"] += 1
        self._invalidated[user] = time.monotonic()
        if self._chance.random() < 0.1:
            await worker.call("clear")
        else:
            await worker.call("invalidate", user=user)

    async def _leave(self, worker: Worker) -> None:
        call = asyncio.create_task(worker.get(self._chance.choice(USERS)))
        await asyncio.sleep(self._chance.random() * 0.02)
        call.cancel()

    async def _call(self, worker: Worker) -> None:
        users = self._chance.sample(USERS, self._chance.randint(1, 3))
        max_age = self._chance.choice([None, None, None, 0, 0.3])
        try:
            answers = await asyncio.gather(*(worker.get(u, max_age=max_age) for u in users))
        except Failed as error:
            raise AssertionError(f"an error after {self.seen}") from error
        for user, answer in zip(users, answers, strict=True):
            self.seen["answers"] += 1
            self._check(user, answer, TTL if max_age is None else max_age)

    def _check(self, user: str, answer: Answer, oldest: float) -> None:
        arrived = self._fleet.upstream.arrived[answer.serial - 1]
        assert self._fleet.upstream.accounts[answer.serial - 1].user_id == user
        assert answer.began - arrived <= oldest, "older than allowed"
        assert arrived >= self._invalidated.get(user, 0.0), "an invalidation of its own is undone"


async def disturb(fleet: Fleet, chance: random.Random, proxy: PausableProxy, until: float) -> None:
    """Make the server fail in ways in which servers fail, one after the other."""
    server = fleet.server
    while time.monotonic() < until:
        await asyncio.sleep(0.3 + chance.random() * 0.5)
        what = chance.choice(["kill", "stop", "flush", "cut", "unsubscribe", "save"])
        pause = chance.random() * 0.8
        if what == "kill":
            server.kill()
            await asyncio.sleep(pause)
            await asyncio.to_thread(server.start)
        elif what == "stop":
            server.stop()
            await asyncio.sleep(pause)
            server.go_on()
        elif what == "cut":
            proxy.close()
            await asyncio.sleep(pause)
            proxy.open()
        else:
            await asyncio.to_thread(command, fleet, what)


def command(fleet: Fleet, what: str) -> None:
    with fleet.server.client() as client:
        if what == "flush":
            client.flushall()
        elif what == "save":
            client.save()
        else:
            client.client_kill_filter(_type="pubsub")


async def test_whatever_happens_nobody_gets_an_error_or_too_old_an_answer(
    own_fleet: Fleet,
) -> None:
    chance = random.Random(SEED)
    own_fleet.upstream.latency = 0.02
    until = time.monotonic() + SECONDS
    async with PausableProxy(own_fleet.server.port) as proxy:
        urls = [own_fleet.server.url] * 2 + [f"redis://127.0.0.1:{proxy.port}/0"] * 2
        callers = [Caller(own_fleet, random.Random(chance.random()), url) for url in urls]
        async with asyncio.TaskGroup() as group:
            group.create_task(disturb(own_fleet, chance, proxy, until))
            for caller in callers:
                group.create_task(caller.run(until))
        seen = sum((caller.seen for caller in callers), Counter[str]())
        print(SEED, dict(seen), own_fleet.upstream.calls, "requests")
        assert seen["answers"] > 20 * SECONDS
        proxy.open()
        await own_fleet.aclose()
