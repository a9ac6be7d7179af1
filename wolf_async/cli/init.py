"""Run ``wolf-async init``: one account's answer from the real service."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

import click
import msgspec

from wolf_async.account import Account
from wolf_async.cli.report import Report
from wolf_async.cli.service import Service, service_options
from wolf_async.cli.widgets import console

if TYPE_CHECKING:
    from wolf_async.client import WolfClient
    from wolf_async.models import TaskInit

__all__ = ["init"]


@click.command(short_help="Show what an account can build a call task from.")
@click.argument("user_id")
@click.option("--sub-user", metavar="ID", help="Ask for this sub-account of USER_ID.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document, with the API's own names."
)
@service_options
def init(user_id: str, sub_user: str | None, as_json: bool, service: Service) -> None:
    """Show what the account USER_ID can build a call task from, right now.

    Lines with their free concurrency, scripts, time groups, redial rules and the rest. The token
    comes from the environment: WOLF_TOKEN.
    """
    account = Account(user_id, sub_user)
    answer = asyncio.run(_ask(service.open_client(), account))
    if as_json:
        _print_json(answer)
    else:
        console().print(Report(account, answer))


async def _ask(client: WolfClient, account: Account) -> TaskInit:
    async with client as wolf:
        return await wolf.task_init(*account)


def _print_json(answer: TaskInit) -> None:
    stdout = sys.stdout.buffer
    document = msgspec.json.encode(answer)
    # always UTF-8, which is what JSON is, whatever the terminal's charset
    stdout.write(msgspec.json.format(document, indent=2) if stdout.isatty() else document)
    stdout.write(b"\n")
