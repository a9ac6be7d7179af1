"""``wolf-async sandbox``: the endpoint on loopback, until it is stopped."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import signal
from typing import Final

import click
from rich.text import Text

from wolf_async.cli.widgets import console
from wolf_async.testing.sandbox import Sandbox

__all__ = ["sandbox"]

_SHOWN: Final = 3
_FORGET_EVERY: Final = 60.0


@click.command(short_help="Run a server with synthetic accounts on loopback.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    help="Where to listen.  [default: any free port]",
)
@click.option(
    "--accounts",
    type=click.IntRange(1, 100_000),
    default=10,
    show_default=True,
    help="Main accounts.",
)
@click.option(
    "--seed",
    type=int,
    default=0,
    show_default=True,
    help="The same seed gives the same accounts and token.",
)
def sandbox(port: int, accounts: int, seed: int) -> None:
    """Run the endpoint on loopback, with synthetic accounts, until Ctrl-C or SIGTERM.

    Each account has two sub-accounts; what is free of the lines moves every second.
    """
    asyncio.run(_serve(Sandbox(accounts=accounts, seed=seed, port=port), port))


async def _serve(box: Sandbox, port: int) -> None:
    stop = asyncio.Event()
    with contextlib.suppress(
        NotImplementedError
    ):  # Windows has no handlers for signals, and no SIGTERM to speak of
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    try:
        await box.start()
    except OSError as error:
        raise click.ClickException(_no_port(port, error)) from error
    try:
        _explain(box)
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), _FORGET_EVERY)
            box.reset_calls()  # nobody reads the record here, and a load test would fill the memory with it
    finally:
        await box.close()


def _no_port(port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} is in use: choose another one with --port"
    return f"cannot listen on port {port}: {error.strerror or error}"


def _explain(box: Sandbox) -> None:
    user = box.users[0]
    sub_user = next(
        account.sub_user_id
        for account in box.accounts
        if account.user_id == user and account.sub_user_id
    )
    url = f"$WOLF_BASE_URL/agent-api/new/user/{user}/task/create"
    out = console()
    out.print(
        Text.assemble(("Sandbox ", "bold"), (box.base_url, "bold cyan"), "  Ctrl-C stops it.")
    )
    _block("In another terminal:", f"export WOLF_BASE_URL={box.base_url} WOLF_TOKEN={box.token}")
    _block("then", f"wolf-async init {user}", f"wolf-async init {user} --sub-user {sub_user}")
    _block("or", f'curl -H "Authorization: Bearer $WOLF_TOKEN" "{url}"')
    others = box.users[1 : 1 + _SHOWN]
    _block(f"{len(box.users)} accounts; some more of them:" if others else "1 account.", *others)
    out.file.flush()


def _block(title: str, *lines: str) -> None:
    """Lines to copy: never wrapped by us, a terminal that wraps them still copies them whole."""
    out = console()
    out.print(Text(f"\n{title}", "dim"))
    for line in lines:
        out.print(Text(f"  {line}"), soft_wrap=True)
