"""Share the options and the client of the commands that ask the real service."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, TypeVar

import click

from wolf_async.client import WolfClient
from wolf_async.errors import WolfConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["open_client", "service_options"]

F = TypeVar("F", bound="Callable[..., Any]")


def service_options(command: F) -> F:
    """Add ``--base-url`` and ``--allow-http``, which `open_client` takes."""
    command = click.option(
        "--allow-http", is_flag=True, help="Permit plain http to hosts other than loopback."
    )(command)
    return click.option(
        "--base-url",
        metavar="URL",
        help="The deployment that the token belongs to."
        "  [default: WOLF_BASE_URL, else the vendor's]",
    )(command)


def open_client(base_url: str | None, allow_http: bool, **settings: Any) -> WolfClient:
    """Make a client with the token of the environment; ``settings`` are those of `WolfClient`.

    Raises `WolfConfigError`, in the shell's words where they differ.
    """
    if not os.environ.get("WOLF_TOKEN"):
        raise WolfConfigError("no token: put it into the environment as WOLF_TOKEN")
    return WolfClient(base_url=base_url, allow_http=allow_http, **settings)
