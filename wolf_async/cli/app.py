"""Group the commands, and turn an error into one line on stderr and an exit status."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
from typing import TYPE_CHECKING, Any, Final, TextIO

import click
from aiohttp.http_exceptions import HttpProcessingError

from wolf_async._version import __version__
from wolf_async.cli.create import create
from wolf_async.cli.dashboard import dashboard
from wolf_async.cli.demo import demo
from wolf_async.cli.fetch import fetch
from wolf_async.cli.init import init
from wolf_async.cli.sandbox import sandbox
from wolf_async.cli.shared import shared
from wolf_async.cli.stopping import StopSignals
from wolf_async.cli.watch import watch
from wolf_async.cli.widgets import plain
from wolf_async.errors import WolfConfigError, WolfError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["cli", "run"]

FAILED: Final = 1
USAGE: Final = 2
INTERRUPTED: Final = 130
"""128 and the number of SIGINT, as shells count."""
NO_READER: Final = 141
"""128 and the number of SIGPIPE."""
_SIGNALLED: Final = 128

_LEAST_SECRET: Final = 6
"""Characters of the shortest token that is replaced; a shorter one is part of many words."""


class _Group(click.Group):
    """End a command on a signal, or when the reader has gone, without a word from click."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except KeyboardInterrupt:
            raise click.exceptions.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            raise click.exceptions.Exit(NO_READER) from None
        return result


@click.group(
    cls=_Group,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="The token comes from the environment (WOLF_TOKEN), never from an argument:"
    " arguments show in process lists.",
)
@click.version_option(__version__, prog_name="wolf-async")
def cli() -> None:
    """Show what an account of Wolf Smart Cloud (云蝠智能) can build a call task from, right now."""


for _command in (init, fetch, create, watch, dashboard, shared, sandbox, demo):
    cli.add_command(_command)


def run(args: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status; print errors, and raise none.

    ``args`` are those of the process unless given.
    """
    if sys.stdout is None:  # started with a closed one
        sys.stdout = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    if reconfigure := getattr(sys.stdout, "reconfigure", None):
        reconfigure(errors="replace")  # a "?" where the terminal's charset lacks a character
    logging.getLogger("aiohttp.server").addFilter(_without_traceback)
    signals = StopSignals()
    try:
        with signals.handled():
            status = _outcome(args, signals)
    except KeyboardInterrupt:  # a second one, while the first one's end was on its way
        status = INTERRUPTED
    finally:
        _settle(sys.stdout, 1)
        _settle(sys.stderr, 2)
    return status if signals.received is None else _SIGNALLED + signals.received


def _outcome(args: Sequence[str] | None, signals: StopSignals) -> int:
    try:
        status = cli.main(args, prog_name="wolf-async", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return USAGE
    except click.Abort:  # Ctrl-C before a command was reached
        return INTERRUPTED
    except Exception as error:
        line, status = _explained(error)
        if signals.received is None:  # a terminal that has gone takes no more, and that is no news
            _complain(line)
    return status if isinstance(status, int) else 0


def _explained(error: Exception) -> tuple[str, int]:
    if isinstance(error, click.UsageError):
        return _usage_line(error), USAGE
    if isinstance(error, click.ClickException):
        return error.format_message(), error.exit_code
    if isinstance(error, WolfConfigError):
        return str(error).replace("allow_http=True", "--allow-http"), USAGE
    if isinstance(error, WolfError):
        return str(
            error
        ) if error.attempts < 2 else f"{error} (after {error.attempts} attempts)", FAILED
    if isinstance(error, OSError):
        return error.strerror or str(error), FAILED
    # a bug of this package; in a shell a line helps more than its traceback
    return f"unexpected {type(error).__name__}: {error}", FAILED


def _without_traceback(record: logging.LogRecord) -> bool:
    """Let a server of aiohttp tell an error in one line, and not at all who sends it no HTTP."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, Exception):
        record.msg, record.args = "wolf-async: %s", (_explained(error)[0],)
        record.exc_info = None
    return not isinstance(error, HttpProcessingError)


def _settle(stream: TextIO | None, fd: int) -> None:
    """Flush the stream, or drop what cannot be written.

    Otherwise the interpreter would try again at its end, print why that failed, and choose the
    exit status itself.
    """
    if stream is None:
        return
    try:
        stream.flush()
    except (OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, fd)
        os.close(null)


def _usage_line(error: click.UsageError) -> str:
    command = error.ctx.command_path.removeprefix("wolf-async").strip() if error.ctx else ""
    help_line = " ".join(("wolf-async", *command.split(), "--help"))
    return f"{error.format_message().rstrip('.')} (see {help_line})"


def _complain(message: str) -> None:
    """Print the message as one line, without the token and without control characters."""
    token = os.environ.get("WOLF_TOKEN", "")
    if len(token) >= _LEAST_SECRET:
        message = message.replace(token, "***")
    with contextlib.suppress(OSError):  # there is nobody to tell
        click.echo(f"wolf-async: {' '.join(plain(message).split())}", err=True)
