"""Share what the commands need that ask the real service: options, the client, and remedies."""

from __future__ import annotations

import functools
import os
import ssl
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

import click

from wolf_async.cli.shared import make_tier
from wolf_async.client import WolfClient
from wolf_async.errors import (
    WolfAuthError,
    WolfConfigError,
    WolfEndpointError,
    WolfError,
    WolfRateLimitError,
    iter_causes,
)
from wolf_async.policy import CachePolicy

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["NoAccessError", "Service", "explain", "remedy", "service_options"]

F = TypeVar("F", bound="Callable[..., Any]")


class NoAccessError(click.ClickException):
    """Say that no account can be asked for: a refused token, or no such API."""

    exit_code = 4


class Service(NamedTuple):
    """Hold which service is asked, and how it is reached, as the command line says it."""

    base_url: str | None = None
    allow_http: bool = False
    proxy: str | None = None
    ca_file: str | None = None
    shared: bool = False

    def open_client(self, **settings: Any) -> WolfClient:
        """Make a client with the token of the environment; ``settings`` are those of `WolfClient`.

        Raises `WolfConfigError`, in the shell's words where they differ.
        """
        if not os.environ.get("WOLF_TOKEN"):
            raise WolfConfigError("no token: put it into the environment as WOLF_TOKEN")
        if self.shared:
            settings["shared"] = make_tier()
            # what is shared is kept; a command that asks once for each keeps few
            settings["cache"] = settings.get("cache") or CachePolicy(max_entries=_FEW)
        return WolfClient(
            base_url=self.base_url,
            allow_http=self.allow_http,
            proxy=self.proxy,
            ssl=None if self.ca_file is None else _trusting(self.ca_file),
            **settings,
        )


def explain(error: WolfError) -> str:
    """Return the error in one line that names its remedy, where there is one."""
    text = str(error)
    if isinstance(error, WolfEndpointError):
        text = text.replace("check base_url or", "check --base-url or")
    if error.attempts > 1:
        text += f" (after {error.attempts} attempts)"
    found = remedy(error)
    return text if found is None else f"{text}: {found}"


def remedy(error: WolfError) -> str | None:
    """Return what somebody at a shell can do about the error."""
    if isinstance(error, WolfAuthError):
        return "put a token of that server into WOLF_TOKEN"
    if isinstance(error, WolfRateLimitError):
        return "ask more slowly, with --rate where there are many accounts"
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in iter_causes(error)):
        return "name the certificate of who issued it with --ca-file"
    return None


def service_options(command: F) -> F:
    """Add the options of the real service; the command gets them as ``service``."""

    @functools.wraps(command)
    def with_options(
        *,
        base_url: str | None,
        allow_http: bool,
        proxy: str | None,
        ca_file: str | None,
        shared: bool,
        **rest: Any,
    ) -> Any:
        service = Service(base_url, allow_http, proxy, ca_file, shared)
        try:
            return command(service=service, **rest)
        except WolfConfigError:
            raise
        except WolfError as error:
            raise click.ClickException(explain(error)) from error

    for option in _OPTIONS:
        with_options = option(with_options)
    return cast("F", with_options)


_FEW = 1_000
_OPTIONS = (
    click.option(
        "--shared",
        is_flag=True,
        help="Share answers with other processes, by the server in WOLF_SHARED.",
    ),
    click.option(
        "--ca-file", metavar="FILE", help="Trust the certificates in FILE too, which is PEM."
    ),
    click.option("--proxy", metavar="URL", help="Reach the service through this proxy."),
    click.option(
        "--allow-http", is_flag=True, help="Permit plain http to hosts other than loopback."
    ),
    click.option(
        "--base-url",
        metavar="URL",
        help="The deployment that the token belongs to."
        "  [default: WOLF_BASE_URL, else the vendor's]",
    ),
)


def _trusting(ca_file: str) -> ssl.SSLContext:
    context = ssl.create_default_context()
    try:
        context.load_verify_locations(ca_file)
    except (OSError, ssl.SSLError) as error:
        why = error.strerror or "it holds no certificate in PEM"
        raise click.UsageError(f"--ca-file {ca_file}: {why}") from error
    return context
