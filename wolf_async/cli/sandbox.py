"""Run ``wolf-async sandbox``: the endpoint on loopback, until it is stopped."""

from __future__ import annotations

import asyncio
import csv
import errno
import random
import re
import shlex
import signal
import sys
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click
from rich.text import Text

from wolf_async.cli.widgets import console
from wolf_async.testing.faults import Exchange, Step, disconnect, html, respond
from wolf_async.testing.sandbox import Sandbox

if TYPE_CHECKING:
    from wolf_async.account import Account

__all__ = ["sandbox"]

_SHOWN: Final = 3
_EVERY: Final = 1.0
_FAULT: Final = re.compile(r"(drop|[2-5]\d\d):(0?\.\d+|[01](?:\.0*)?)(?::retry-after=(\d+))?")


class _Fault(NamedTuple):
    """Do this with a share of the requests."""

    step: Step
    share: float


def _faults(ctx: Any, param: Any, values: tuple[str, ...]) -> list[_Fault]:
    """Read ``503:0.1``, ``429:0.05:retry-after=1`` or ``drop:0.01``: what, and how often."""
    faults = [_fault(value) for value in values]
    if sum(fault.share for fault in faults) > 1:
        raise click.BadParameter("the shares add up to more than 1")
    return faults


def _fault(value: str) -> _Fault:
    found = _FAULT.fullmatch(value)
    if found is None:
        raise click.BadParameter(
            f"{value!r} is none, as 503:0.1, 429:0.05:retry-after=1 or drop:0.01 are: a status"
            " from 200 to 599, or drop, and a share from 0 to 1"
        )
    kind, share, retry_after = found.groups()
    if kind == "drop":
        return _Fault(disconnect(), float(share))
    status = int(kind)
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    if status >= 500 and not headers:
        return _Fault(html(status), float(share))
    body: dict[str, Any] = {
        "code": status,
        "status": "error",
        "message": "a fault of the sandbox",
        "data": [],
    }
    return _Fault(respond(status, body if status >= 400 else b"", headers), float(share))


class _Totals:
    """Count requests, and those that were refused or dropped, and the accounts asked for."""

    __slots__ = ("accounts", "refused", "requests")

    def __init__(self) -> None:
        self.requests = 0
        self.refused = 0
        self.accounts: set[Account] = set()

    def add(self, exchange: Exchange, *, is_refused: bool) -> None:
        """Count a request."""
        self.requests += 1
        self.refused += is_refused
        if exchange.account is not None and not is_refused:
            self.accounts.add(exchange.account)

    def __str__(self) -> str:
        return f"{self.requests} requests, {self.refused} refused, {len(self.accounts)} accounts"


class _RandomFaults:
    """Give a share of the requests a fault, and count all requests."""

    __slots__ = ("_chance", "_faults", "last", "total")

    def __init__(self, faults: list[_Fault], seed: int) -> None:
        self._faults = faults
        self._chance = random.Random(seed)
        self.total = _Totals()
        self.last = _Totals()
        """What came since it was told last."""

    async def serve(self, exchange: Exchange) -> None:
        """Let the request meet its fault, if it has one, and count it."""
        step = self._drawn()
        if step is not None:
            await step.apply(exchange)
        reply = exchange.reply
        is_refused = exchange.drop is not None or (reply is not None and reply.status != 200)
        for totals in (self.total, self.last):
            totals.add(exchange, is_refused=is_refused)

    def _drawn(self) -> Step | None:
        drawn = self._chance.random()
        for step, share in self._faults:
            if drawn < share:
                return step
            drawn -= share
        return None


class _Served(Step, frozen=True):
    """Serve each request by `_RandomFaults`."""

    faults: _RandomFaults

    async def apply(self, exchange: Exchange) -> None:
        await self.faults.serve(exchange)


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
    help="The same seed gives the same accounts, token and faults.",
)
@click.option("--token", metavar="TOKEN", help="What it accepts.  [default: made from the seed]")
@click.option(
    "--latency",
    metavar="SECONDS",
    type=click.FloatRange(0, 3600),
    default=0.0,
    help="Wait so many seconds before each answer.",
)
@click.option(
    "--fault",
    "faults",
    metavar="STATUS:SHARE",
    multiple=True,
    callback=_faults,
    help="Answer a share of the requests with this status: 503:0.1, 429:0.05:retry-after=1; or"
    " close the connection: drop:0.01. Can be given several times.",
)
@click.option("--list", "is_list", is_flag=True, help="Print all ids as CSV, and end.")
@click.option("--requests", "is_telling", is_flag=True, help="Print a line of counts each second.")
def sandbox(
    *,
    port: int,
    accounts: int,
    seed: int,
    token: str | None,
    latency: float,
    faults: list[_Fault],
    is_list: bool,
    is_telling: bool,
) -> None:
    """Run the endpoint on loopback, with synthetic accounts, until Ctrl-C or SIGTERM.

    Each account has two sub-accounts; what is free of the lines moves every second. SIGUSR1 prints
    how many requests came so far. Try a worker against faults and latency:

    wolf-async sandbox --accounts 1000 --latency 0.2 --fault 503:0.1 --fault drop:0.01 --requests
    """
    box = Sandbox(accounts=accounts, seed=seed, port=port, token=token, latency=latency)
    if is_list:
        _list(box)
    else:
        asyncio.run(_serve(box, port, _RandomFaults(faults, seed), is_telling=is_telling))


def _list(box: Sandbox) -> None:
    rows = csv.writer(sys.stdout, lineterminator="\n")
    rows.writerow(("user_id", "sub_user_id"))
    rows.writerows((account.user_id, account.sub_user_id or "") for account in box.accounts)


async def _serve(box: Sandbox, port: int, faults: _RandomFaults, *, is_telling: bool) -> None:
    box.always(_Served(faults))
    try:
        await box.start()
    except OSError as error:
        raise click.ClickException(_no_port(port, error)) from error
    try:
        if number := getattr(signal, "SIGUSR1", None):
            asyncio.get_running_loop().add_signal_handler(number, _tell, "so far", faults.total)
        _explain(box)
        while True:
            await asyncio.sleep(_EVERY)
            box.reset_calls()  # nobody reads the record, and a load test would fill the memory
            if is_telling:
                _tell("last second", faults.last)
            faults.last = _Totals()
    finally:
        await box.close()


def _tell(when: str, totals: _Totals) -> None:
    sys.stdout.write(f"{time.strftime('%H:%M:%S')} {when}: {totals}\n")
    sys.stdout.flush()


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
    _block(
        "In another terminal:",
        f"export WOLF_BASE_URL={box.base_url} WOLF_TOKEN={shlex.quote(box.token)}",
    )
    _block("then", f"wolf-async init {user}", f"wolf-async init {user} --sub-user {sub_user}")
    _block("or", f'curl -H "Authorization: Bearer $WOLF_TOKEN" "{url}"')
    others = box.users[1 : 1 + _SHOWN]
    _block(f"{len(box.users)} accounts; some more of them:" if others else "1 account.", *others)
    out.file.flush()


def _block(title: str, *lines: str) -> None:
    """Print lines to copy; a terminal that wraps them still copies them whole."""
    out = console()
    out.print(Text(f"\n{title}", "dim"))
    for line in lines:
        out.print(Text(f"  {line}"), soft_wrap=True)
