"""``wolf-async watch``: the lines of several accounts as they change."""

from __future__ import annotations

import asyncio
import contextlib
import math
import sys
from contextlib import aclosing
from typing import TYPE_CHECKING, Final, Protocol

import click
from rich.live import Live

from wolf_async.account import Account
from wolf_async.api.request import check_account
from wolf_async.cli.live import Board, Journal, Pane
from wolf_async.cli.service import Service, service_options
from wolf_async.cli.widgets import console
from wolf_async.errors import WolfClosedError, WolfConfigError, WolfError
from wolf_async.policy import CachePolicy, check_seconds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wolf_async.client import WolfClient
    from wolf_async.models import TaskInit

__all__ = ["watch"]

_AGAIN: Final = 5.0
"""Seconds after which an account is asked for again whose watch has failed."""
_SILENT: Final = 5.0
"""Seconds for which the last answer stands in for a newer one before the account counts as failed."""


class _View(Protocol):
    def answer(self, pane: Pane, init: TaskInit) -> None: ...
    def failure(self, pane: Pane, error: WolfError) -> None: ...


@click.command(short_help="Show the lines of accounts as they change.")
@click.argument("accounts", metavar="USER_ID[:SUB_ID]...", nargs=-1, required=True)
@click.option(
    "--every",
    metavar="SECONDS",
    type=float,
    default=1.0,
    show_default=True,
    help="Ask so often for each account.",
)
@click.option(
    "--times",
    metavar="N",
    type=click.IntRange(0),
    help="Stop after the time of N refreshes.  [default: never]",
)
@service_options
def watch(
    accounts: tuple[str, ...],
    every: float,
    times: int | None,
    service: Service,
) -> None:
    """Show the outbound lines of accounts, what is free of them and what changes, until Ctrl-C.

    USER_ID:SUB_ID is a sub-account. In a terminal the picture is live. Anywhere else there is a line for each change: the
    time, the account, the line's id and name, and what has changed. An account that cannot be asked for shows why, and is
    tried again.

    The exit status is 130 after Ctrl-C; after --times it is 0, or 1 if an account had no answer in the end. The token comes
    from the environment: WOLF_TOKEN.
    """
    check_seconds("--every", every, above=True, finite=True)
    panes = [Pane(_account(text)) for text in dict.fromkeys(accounts)]
    policy = CachePolicy(ttl=max(_SILENT, 3 * every))
    client = service.open_client(cache=policy, max_concurrency=max(100, len(panes)))
    screen = console()
    if sys.stdout.isatty() and not screen.is_dumb_terminal:
        board = Board(panes, lasting=every)
        with Live(board, console=screen, vertical_overflow="crop"):
            asyncio.run(_watch_all(client, panes, board, every, times))
    else:
        asyncio.run(_watch_all(client, panes, Journal(_say), every, times))
    if any(pane.error is not None for pane in panes):
        raise click.exceptions.Exit(1)


def _account(text: str) -> Account:
    user_id, colon, sub_user_id = text.partition(":")
    return check_account(user_id, sub_user_id if colon else None)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def _watch_all(
    client: WolfClient, panes: Sequence[Pane], view: _View, every: float, times: int | None
) -> None:
    # half a period more, for the last refresh to come in
    lasting = math.inf if times is None else (times + 0.5) * every if times else 0.0
    async with client as wolf:
        tasks = [
            asyncio.create_task(_Watch(wolf, pane, view, every, lasting).run()) for pane in panes
        ]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


class _Watch:
    """One account, watched again and again, until ``lasting`` seconds after there was anything to show."""

    __slots__ = ("_every", "_lasting", "_limit", "_pane", "_view", "_wolf")

    def __init__(
        self, wolf: WolfClient, pane: Pane, view: _View, every: float, lasting: float
    ) -> None:
        self._wolf = wolf
        self._pane = pane
        self._view = view
        self._every = every
        self._lasting = lasting
        self._limit = asyncio.timeout(None)

    async def run(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with self._limit:
                while True:
                    await self._follow()
                    await asyncio.sleep(_AGAIN)

    async def _follow(self) -> None:
        """Show the account until it fails."""
        try:
            async with aclosing(
                self._wolf.watch(*self._pane.account, every=self._every)
            ) as answers:
                async for init in answers:
                    self._view.answer(self._pane, init)
                    self._begin_to_end()
        except (WolfClosedError, WolfConfigError):
            raise
        except WolfError as error:
            self._view.failure(self._pane, error)
            self._begin_to_end()

    def _begin_to_end(self) -> None:
        if self._limit.when() is None and self._lasting < math.inf:
            self._limit.reschedule(asyncio.get_running_loop().time() + self._lasting)
