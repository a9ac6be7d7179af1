"""Run ``wolf-async shared``, which tells whether the server that processes share can be used."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Final

import click
from rich.text import Text

from wolf_async.cli.widgets import console, listing
from wolf_async.errors import WolfConfigError

if TYPE_CHECKING:
    from wolf_async.shared import RedisTier
    from wolf_async.shared.check import ServerReport

__all__ = ["make_tier", "shared"]

_LIMIT: Final = 10.0
"""Seconds for all of it."""
_UNTRUSTED: Final = ("self-signed certificate", "unable to get local issuer certificate")
"""What OpenSSL says of a certificate whose authority is not known."""


def make_tier(url: str | None = None) -> RedisTier:
    """Return the tier of the server at ``url``, or of the one that the environment names.

    Raises `click.UsageError` if it names none.
    """
    try:
        # imported where it is asked for, since it needs an extra of its own
        from wolf_async.shared import RedisTier  # noqa: PLC0415
    except ImportError as error:
        raise click.ClickException(str(error)) from error
    url = url or os.environ.get("WOLF_SHARED")
    if not url:
        raise click.UsageError(
            "no server: put its URL into the environment as WOLF_SHARED, such as redis://host:6379/0"
        )
    try:
        return RedisTier(url)
    except WolfConfigError as error:
        raise click.UsageError(f"WOLF_SHARED: {error}") from error


@click.command(short_help="Check the server that processes share.")
def shared() -> None:
    """Say whether the server in WOLF_SHARED can be reached, and what its user may not do.

    Also its version, the time of a round trip, and how many accounts are held. The exit status is 1
    if it cannot be used. The URL may hold a password, so it comes from the environment alone.
    """
    tier = make_tier()
    try:
        report = asyncio.run(_check(tier))
    except Exception as error:  # of redis-py, or of the system
        why = str(error) or type(error).__name__
        if any(text in why for text in _UNTRUSTED):
            why += " To trust who issued it, add ?ssl_ca_certs=FILE to the URL."
        raise click.ClickException(f"{tier.where} cannot be used: {why}") from error
    _show(tier.where, report)
    if report.missing:
        raise click.ClickException(
            f"{tier.where} cannot be used: its user lacks {', '.join(report.missing)}"
        )


async def _check(tier: RedisTier) -> ServerReport:
    from wolf_async.shared.check import check_server  # noqa: PLC0415 - as in make_tier

    client = tier.connect()
    try:
        async with asyncio.timeout(_LIMIT):
            return await check_server(client)
    finally:
        await client.aclose()


def _show(where: str, report: ServerReport) -> None:
    table = listing("", "", show_header=False)
    table.add_row("server", Text(where, "cyan"))
    table.add_row("version", report.server or "not told")
    table.add_row("a round trip", f"{report.round_trip * 1000:.2f} ms")
    lacking = ", ".join(report.missing)
    table.add_row("lacking", Text(lacking, "bold red") if lacking else "nothing")
    held = "not told" if report.accounts is None else f"{report.accounts:,}"
    if report.accounts is not None and not report.has_all:
        held += " or more"
    table.add_row("accounts held", held)
    console().print(table)
