"""Part ``dashboard``: 500 accounts that 200 browsers look at, each asked for once a second.

The upstream and the browsers are processes of their own; the CPU and the memory are those of the
process that asks and serves. Every answer has other numbers than the one before.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from time import process_time

from aiohttp import web

from benchmarks.harness import Effort, Figure, spread
from benchmarks.server import upstream
from wolf_async import CachePolicy, WolfClient
from wolf_async.dashboard import make_app

_ACCOUNTS = 500
_STREAMS = 200
_SECONDS = 5
_ROUNDS = 3


def dashboard(effort: Effort) -> list[Figure]:
    """Measure the share of a core, for many browsers and for one, and how memory grows."""
    accounts = [f"user-{number}" for number in range(effort.count(_ACCOUNTS))]
    many = effort.count(_STREAMS)
    seconds = _SECONDS if effort.shrink == 1 else 0.2
    with upstream() as url, effort.runner() as runner:
        one, _ = runner.run(_served(url, accounts, 1, seconds))
        all_, memory = runner.run(_served(url, accounts, many, seconds))
    asked = f"{len(accounts)} accounts once a second"
    return [
        _share(f"{asked}, {many} browsers", all_, title=f"Dashboard: {asked}, {many} browsers"),
        _share(f"{asked}, one browser", one),
        Figure(
            who="dashboard, memory after the last round",
            case=f"{asked}, {many} browsers",
            value=spread([memory[-1] / memory[0]] * 2),
            against="itself after the first round",
            cost=memory[-1] / 1e6,
            cost_unit="MB",
            reach=1.1,
            title="Dashboard: memory after the last round",
        ),
    ]


def _share(case: str, shares: list[float], title: str = "") -> Figure:
    value = spread(shares)
    return Figure(
        who="dashboard, CPU in a second",
        case=case,
        value=value,
        against="a core, for all of it",
        cost=value.median,
        note="the requests included",
        title=title,
    )


async def _served(
    url: str, accounts: list[str], streams: int, seconds: float
) -> tuple[list[float], list[float]]:
    """Return the share of a core and the memory in bytes, of each round."""
    shares: list[float] = []
    memory: list[float] = []
    async with WolfClient("token", base_url=f"{url}/changing", cache=CachePolicy(ttl=5)) as client:
        runner = web.AppRunner(make_app(client, accounts), access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        with _browsers(runner.addresses[0][1], streams):
            for _ in range(_ROUNDS + 1):
                begin = process_time()
                await asyncio.sleep(seconds)
                shares.append((process_time() - begin) / seconds)
                memory.append(_resident())
        await runner.cleanup()
    return shares[1:], memory[1:]  # the first round connects, and asks for all at once


def _resident() -> float:
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * 4096.0


@contextmanager
def _browsers(port: int, streams: int) -> Generator[None]:
    command = [sys.executable, "-m", "benchmarks.dashboard", str(port), str(streams)]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        yield
        process.communicate()


async def _read(port: int, streams: int) -> None:
    """Be the browsers, which throw away what they get, until standard input ends."""

    async def look() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        while await reader.read(2**16):
            pass

    browsers = [asyncio.create_task(look()) for _ in range(streams)]
    await asyncio.to_thread(sys.stdin.read)
    for browser in browsers:
        browser.cancel()
    await asyncio.gather(*browsers, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(_read(int(sys.argv[1]), int(sys.argv[2])))
