"""Run ``wolf-async dashboard``: the page that shows live what is free, until it is stopped."""

from __future__ import annotations

import asyncio
import errno
import os
from typing import TYPE_CHECKING, Final, NamedTuple

import click
from aiohttp import web
from rich.text import Text

from wolf_async.api.request import is_loopback
from wolf_async.cli.accounts_file import (
    AccountsOptions,
    BadRow,
    account_named,
    accounts_options,
)
from wolf_async.cli.options import every_option, seconds_option
from wolf_async.cli.service import Service, service_options
from wolf_async.cli.widgets import console
from wolf_async.dashboard import LOOPBACK, make_app
from wolf_async.policy import CachePolicy, check_seconds

if TYPE_CHECKING:
    from wolf_async.account import Account

__all__ = ["dashboard"]

_PASSWORD: Final = "WOLF_DASHBOARD_PASSWORD"  # noqa: S105 - the variable's name
_KEPT: Final = 5.0
"""Seconds for which an answer is kept at least; the watch asks for newer ones all the time."""


@click.command(short_help="Show live in a browser what is free.")
@click.argument("accounts", metavar="[USER_ID[:SUB_ID]]...", nargs=-1)
@click.option("--accounts", "path", metavar="FILE", help="Show the accounts of FILE too.")
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help=f"Where to listen; any but loopback needs {_PASSWORD}.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8080,
    show_default=True,
    help="Where to listen; 0 is any free port.",
)
@every_option()
@seconds_option("--idle", 60.0, "Stop asking so many seconds after the last browser has gone.")
@accounts_options
@service_options
def dashboard(
    *,
    accounts: tuple[str, ...],
    path: str | None,
    host: str,
    port: int,
    every: float,
    idle: float,
    reading: AccountsOptions,
    service: Service,
) -> None:
    """Show in a browser what is free of the lines of accounts, as it changes, until Ctrl-C.

    USER_ID:SUB_ID is a sub-account. Nothing is asked while nobody looks. The token comes from the
    environment (WOLF_TOKEN) and stays in this process.

    Only this machine is answered. Any other --host needs a password in the environment
    (WOLF_DASHBOARD_PASSWORD), which the browser asks for, with any user name; put a proxy with TLS
    in front.
    """
    check_seconds("--every", every, above=True, finite=True)
    check_seconds("--idle", idle, finite=True)
    where = _Where(host, port, os.environ.get(_PASSWORD) or None)
    if where.password is None and where.is_public:
        raise click.UsageError(
            f"--host {host} lets others in: put a password for them into {_PASSWORD}"
        )
    named = list(map(account_named, accounts))
    asyncio.run(_run(named, path, reading, service, every=every, idle=idle, where=where))


class _Where(NamedTuple):
    """Where to listen, and what lets others in."""

    host: str
    port: int
    password: str | None

    @property
    def is_public(self) -> bool:
        return not is_loopback(self.host)

    @property
    def allowed_hosts(self) -> frozenset[str] | None:
        return None if self.password else LOOPBACK | {self.host}


async def _run(
    named: list[Account],
    path: str | None,
    reading: AccountsOptions,
    service: Service,
    *,
    every: float,
    idle: float,
    where: _Where,
) -> None:
    accounts = named + ([] if path is None else await _accounts_of(path, reading))
    if not accounts:
        raise click.UsageError("no account: name one, or a file of them with --accounts")
    cache = CachePolicy(ttl=max(_KEPT, 3 * every), max_entries=max(10_000, len(accounts)))
    async with service.open_client(cache=cache, max_concurrency=max(100, len(accounts))) as wolf:
        app = make_app(
            wolf,
            accounts,
            every=every,
            allowed_hosts=where.allowed_hosts,
            password=where.password,
            idle=idle,
        )
        await _serve(app, where)


async def _accounts_of(path: str, reading: AccountsOptions) -> list[Account]:
    """Read the accounts of a file; a row that is none ends it, since nobody would miss it later."""
    accounts: list[Account] = []
    with reading.open(path) as (_, rows):
        async for row in rows:
            if isinstance(row, BadRow):
                raise click.UsageError(f"{path}, line {row.line}: {row.why} ({row.text})")
            accounts.append(row)
    return accounts


async def _serve(app: web.Application, where: _Where) -> None:
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, where.host, where.port).start()
        _explain(where, runner.addresses[0][1])
        await asyncio.Event().wait()  # a signal cancels this
    except OSError as error:
        raise click.ClickException(_no_port(where, error)) from error
    finally:
        await runner.cleanup()


def _no_port(where: _Where, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {where.port} is in use: choose another one with --port"
    return f"cannot listen on {where.host} port {where.port}: {error.strerror or error}"


def _explain(where: _Where, port: int) -> None:
    out = console()
    name = f"[{where.host}]" if ":" in where.host else where.host
    address = (f"http://{name}:{port}/", "bold cyan")
    out.print(Text.assemble(("Dashboard ", "bold"), address, "  Ctrl-C stops it."), soft_wrap=True)
    if where.is_public:
        out.print("There is no TLS here, and the password is sent with every request:")
        out.print("put a proxy with TLS in front.")
    out.file.flush()
