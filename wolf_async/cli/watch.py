"""Run ``wolf-async watch``: the lines of accounts as they change."""

from __future__ import annotations

import asyncio
import contextlib
import math
import sys
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import click
from rich.live import Live

from wolf_async.account import Account
from wolf_async.cli.account_view import AccountView, ChangeLog
from wolf_async.cli.accounts_file import (
    AccountsOptions,
    BadRow,
    account_named,
    accounts_options,
)
from wolf_async.cli.live import LiveScreen, Sorting
from wolf_async.cli.options import every_option
from wolf_async.cli.progress import say
from wolf_async.cli.service import Service, service_options
from wolf_async.cli.widgets import console, plain
from wolf_async.policy import CachePolicy, check_seconds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from wolf_async.client import WolfClient
    from wolf_async.watch import AccountUpdate

__all__ = ["watch"]

_KEPT: Final = 5.0
"""Seconds for which an answer is kept at least, for those who watch less often than that."""
_DRAWN_EVERY: Final = 0.5


class _Screen(Protocol):
    def show(self, view: AccountView, update: AccountUpdate) -> None: ...


class _Options(NamedTuple):
    """Hold the options of a run; see the command's help."""

    every: float
    times: int | None
    sorting: Sorting


@click.command(short_help="Show the lines of accounts as they change.")
@click.argument("accounts", metavar="[USER_ID[:SUB_ID]]...", nargs=-1)
@click.option("--accounts", "path", metavar="FILE", help="Watch the accounts of FILE too.")
@every_option()
@click.option(
    "--times",
    metavar="N",
    type=click.IntRange(0),
    help="Stop after the time of N refreshes.  [default: never]",
)
@click.option(
    "--sort",
    "sorting",
    type=click.Choice(("free", "account", "given")),
    default="free",
    show_default=True,
    help="Order of many accounts: those that fail and then the least free first, or by id, or as"
    " they were named.",
)
@accounts_options
@service_options
def watch(
    *,
    accounts: tuple[str, ...],
    path: str | None,
    reading: AccountsOptions,
    service: Service,
    **options: Any,
) -> None:
    """Show the outbound lines of accounts, what is free of them and what changes, until Ctrl-C.

    USER_ID:SUB_ID is a sub-account. In a terminal the picture is live: the lines of each account,
    or where they do not fit a row for each account. Anywhere else there is a line for each change:
    the time, the account, the line's id and name, and what has changed. An account that cannot be
    asked for shows why at once, with its last answer marked as stale, and is asked for again.

    The exit status is 130 after Ctrl-C; after --times it is 0, or 1 if an account had no answer in
    the end. The token comes from the environment: WOLF_TOKEN.
    """
    chosen = _Options(**options)
    check_seconds("--every", chosen.every, above=True, finite=True)
    named, bad_rows = _named(accounts, path, reading)
    views = {account: AccountView(account) for account in named}
    # no window for stale answers: an error is told at once, and the view keeps the last answer
    policy = CachePolicy(ttl=max(_KEPT, chosen.every), max_entries=max(10_000, len(views)))
    client = service.open_client(cache=policy)
    screen = console()
    if sys.stdout.isatty() and not screen.is_dumb_terminal:
        _watch_on_screen(client, views, screen, chosen)
    else:
        asyncio.run(_watch(client, views, ChangeLog(_print_line), chosen))
    if bad_rows or any(view.fails for view in views.values()):
        raise click.exceptions.Exit(1)


def _named(
    accounts: Sequence[str], path: str | None, reading: AccountsOptions
) -> tuple[list[Account], int]:
    """Return all accounts, each once, and the number of bad rows, of which stderr is told."""
    named, bad_rows = list(map(account_named, accounts)), 0
    if path is not None:
        with reading.open(path, spool=True) as (file, rows):
            for row in rows.at_once():
                if isinstance(row, BadRow):
                    bad_rows += 1
                    say(f"{plain(f'{file.name}, line {row.line}: {row.why}')}\n")
                else:
                    named.append(row)
    if not named:
        raise click.UsageError("no account: name one, or a file of them with --accounts")
    return list(dict.fromkeys(named)), bad_rows


def _print_line(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _watch_on_screen(
    client: WolfClient, views: dict[Account, AccountView], screen: Console, options: _Options
) -> None:
    """Draw on the terminal's other screen, which a resize cannot spoil, and leave the last picture.

    What has gone wrong in the end of the terminal, such as its window being closed, is no reason
    to keep the command.
    """
    picture = LiveScreen(list(views.values()), lasting=options.every, sorting=options.sorting)
    live = Live(picture, console=screen, screen=True, auto_refresh=False)
    try:
        with live:
            asyncio.run(_watch_drawn(client, views, picture, live, options))
    finally:
        with contextlib.suppress(OSError):
            screen.print(picture)
            screen.show_cursor(show=True)


async def _watch_drawn(
    client: WolfClient,
    views: dict[Account, AccountView],
    picture: LiveScreen,
    live: Live,
    options: _Options,
) -> None:
    async def draw() -> None:
        while True:
            live.refresh()
            await asyncio.sleep(_DRAWN_EVERY)

    watching = _watch(client, views, picture, options)
    tasks = [asyncio.create_task(draw()), asyncio.create_task(watching)]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _watch(
    client: WolfClient, views: dict[Account, AccountView], screen: _Screen, options: _Options
) -> None:
    """Show each update until the time is over, which begins when all accounts have had one."""
    times, every = options.times, options.every
    # half a period more, for the last refresh to come in
    lasting = math.inf if times is None else (times + 0.5) * every if times else 0.0
    unseen = set(views)
    async with client as wolf:
        updates = wolf.watch_many(list(views), every=every, unchanged=True)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None) as limit, aclosing(updates):
                async for update in updates:
                    screen.show(views[update.account], update)
                    unseen.discard(update.account)
                    if not unseen and limit.when() is None and lasting < math.inf:
                        limit.reschedule(asyncio.get_running_loop().time() + lasting)
