"""``wolf-async fetch``: the answers of many accounts, as JSON Lines."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import stat
import sys
from collections import Counter
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import click
import msgspec
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from wolf_async.cli.accounts_file import BadRow, Rows, count
from wolf_async.cli.results_file import Failure, Line, Outfile
from wolf_async.cli.service import open_client, service_options
from wolf_async.cli.widgets import console
from wolf_async.errors import WolfAPIError, WolfError
from wolf_async.policy import CachePolicy, check_seconds

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

    from rich.progress import Task

    from wolf_async.account import Account
    from wolf_async.bulk import AccountResult
    from wolf_async.cli.accounts_file import Format
    from wolf_async.client import WolfClient

__all__ = ["Tally", "fetch"]

_SUFFIXES: Final[dict[str, Format]] = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}
_HELD_BYTES: Final = 64 * 2**20
"""Answers are held only for accounts that are named twice."""
_TTL: Final = 30.0


@click.command(short_help="Ask for many accounts, into a file of JSON Lines.")
@click.argument("accounts")
@click.option(
    "--out",
    required=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Where the lines go.",
)
@click.option(
    "--resume",
    is_flag=True,
    help="Continue FILE: accounts whose answers it holds are not asked for again.",
)
@click.option("--overwrite", is_flag=True, help="Begin FILE anew.")
@click.option(
    "--format",
    "form",
    type=click.Choice(("csv", "jsonl")),
    help="What ACCOUNTS holds.  [default: as its name ends]",
)
@click.option(
    "--concurrency",
    metavar="N",
    type=click.IntRange(1),
    default=100,
    show_default=True,
    help="Requests at once.",
)
@click.option(
    "--max-age",
    metavar="SECONDS",
    type=float,
    help=f"For an account that is named again: how old an answer may be.  [default: {_TTL:g}]",
)
@click.option("-q", "--quiet", is_flag=True, help="Show neither progress nor the summary.")
@service_options
def fetch(
    *,
    accounts: str,
    out: Path,
    resume: bool,
    overwrite: bool,
    form: Format | None,
    concurrency: int,
    max_age: float | None,
    quiet: bool,
    base_url: str | None,
    allow_http: bool,
) -> None:
    """Ask for all of ACCOUNTS, a .csv or .jsonl file or - for standard input, and write a line for each to FILE.

    CSV has one or two columns, user_id and sub_user_id, or a header that names them. JSON Lines are strings, pairs, or
    objects with these keys. Rows are read as they are needed, and lines come in the order of the answers.

    A line is {"user_id", "sub_user_id", "init": {...}}, or the same with "error": {"type", "message", ...}. A row that is
    no account makes an error line too. Lines are whole, but for the last one after a kill or a crash, which --resume
    takes away. With --resume, accounts that failed are asked for again: of an account with several lines the last one counts.

    The exit status is 0 if all accounts were answered, 1 if some were not. The token comes from the environment:
    WOLF_TOKEN.
    """
    if resume and overwrite:
        raise click.UsageError("--resume and --overwrite exclude each other")
    if out == Path("-"):
        raise click.UsageError(
            "--out - is no file: standard output is --out /dev/stdout --overwrite"
        )
    if max_age is not None:
        check_seconds("--max-age", max_age)
    policy = CachePolicy(ttl=max(_TTL, max_age or 0), max_bytes=_HELD_BYTES)
    client = open_client(base_url, allow_http, cache=policy, max_concurrency=concurrency)
    form = form or _form_of(accounts)
    with (
        _open(accounts) as fd,
        Outfile(out, source=fd, resume=resume, overwrite=overwrite) as outfile,
    ):
        tally = Tally()
        silent = quiet or sys.stderr is None or not sys.stderr.isatty()
        try:
            with _Bar(tally, None if silent else count(fd), disable=silent) as bar:
                asyncio.run(_Run(client, Rows(fd, form), outfile, tally, bar).run(max_age))
        except KeyboardInterrupt:
            _say(f"stopped after {tally}", quiet)
            raise
    _say(str(tally), quiet)
    if tally.failed:
        raise click.exceptions.Exit(1)


def _form_of(accounts: str) -> Format:
    form = _SUFFIXES.get(Path(accounts).suffix.lower())
    if form is None:
        name = "standard input" if accounts == "-" else accounts
        raise click.UsageError(f"is {name} CSV or JSON Lines? Say --format csv or --format jsonl")
    return form


@contextmanager
def _open(accounts: str) -> Generator[int, None, None]:
    try:
        fd = 0 if accounts == "-" else os.open(accounts, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        if stat.S_ISDIR(os.fstat(fd).st_mode):  # raises where standard input is closed
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    except OSError as error:
        name = "standard input" if accounts == "-" else accounts
        raise click.UsageError(f"cannot read {name}: {error.strerror or error}") from error
    try:
        yield fd
    finally:
        if fd:
            os.close(fd)


def _say(text: str, quiet: bool) -> None:
    if not quiet:
        with contextlib.suppress(OSError):  # there is nobody to tell
            click.echo(text, err=True)


class Tally:
    """What has become of the rows so far."""

    __slots__ = ("answered", "failures", "kept")

    def __init__(self) -> None:
        self.answered = 0
        self.kept = 0
        """Rows whose answers were in the file already."""
        self.failures: Counter[str] = Counter()

    @property
    def failed(self) -> int:
        """Rows without an answer."""
        return self.failures.total()

    @property
    def rows(self) -> int:
        """All that are through."""
        return self.kept + self.answered + self.failed

    def __str__(self) -> str:
        parts = [f"{self.kept} in the file already"] if self.kept else []
        parts.append(f"{self.answered} answered")
        parts += [f"{number} {kind}" for kind, number in self.failures.most_common()]
        return f"{self.rows} account{'s' * (self.rows != 1)}: {', '.join(parts)}"


class _Run:
    """One run: the accounts of the rows to the client, its results to the file."""

    __slots__ = ("_bar", "_client", "_outfile", "_rows", "_tally")

    def __init__(
        self, client: WolfClient, rows: Rows, outfile: Outfile, tally: Tally, bar: _Bar
    ) -> None:
        self._client = client
        self._rows = rows
        self._outfile = outfile
        self._tally = tally
        self._bar = bar

    async def run(self, max_age: float | None) -> None:
        async with (
            self._client as wolf,
            aclosing(self._accounts()) as accounts,
            aclosing(wolf.task_init_many(accounts, max_age=max_age)) as results,
        ):
            async for result in results:
                self._write(result)

    async def _accounts(self) -> AsyncGenerator[Account, None]:
        async for row in self._rows:
            if isinstance(row, BadRow):
                failure = Failure(
                    "BadRow", f"line {row.line}: {row.why}", line=row.line, row=row.text
                )
                self._fail(None, None, failure)
            elif row in self._outfile.done:
                self._tally.kept += 1
            else:
                yield row

    def _write(self, result: AccountResult) -> None:
        account, init, error = result
        if error is not None:
            self._fail(*account, _failure(error))
        elif init is not None:
            self._outfile.write(Line(*account, init=init))
            self._tally.answered += 1
            self._bar.show()

    def _fail(self, user_id: str | None, sub_user_id: str | None, failure: Failure) -> None:
        self._outfile.write(Line(user_id, sub_user_id, error=failure))
        self._tally.failures[failure.type] += 1
        self._bar.show()


def _failure(error: WolfError) -> Failure:
    failure = Failure(type(error).__name__, str(error))
    if isinstance(error, WolfAPIError):
        failure.http_status = error.http_status
        failure.code = msgspec.UNSET if error.code is None else error.code
    return failure


class _Bar:
    """The progress on stderr: how far it is, how fast, what failed and how long it may take; nothing with ``disable``.

    ``total`` is the number of rows, where that is known: about, since blank lines and a header may be among them.
    """

    __slots__ = ("_progress", "_tally", "_task", "_total")

    def __init__(self, tally: Tally, total: int | None, *, disable: bool) -> None:
        self._tally = tally
        self._total = total
        self._progress = Progress(
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(),
            TextColumn("{task.fields[failed]} failed"),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=console(stderr=True),
            transient=True,
            disable=disable,
        )
        self._task = self._progress.add_task("", total=total, failed=0)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._progress.stop()

    def show(self) -> None:
        """Show where the tally is now."""
        if self._progress.disable:
            return
        # rows that are in the file already are no work: with them the rate would be far too high for a while
        kept, failed = self._tally.kept, self._tally.failed
        self._progress.update(
            self._task,
            completed=self._tally.rows - kept,
            total=None if self._total is None else max(self._total, self._tally.rows) - kept,
            failed=failed,
        )


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:,.0f}/s", "cyan")
