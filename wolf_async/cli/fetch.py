"""Run ``wolf-async fetch``: the answers of many accounts, as JSON Lines."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import math
import re
from collections import Counter
from contextlib import ExitStack, aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

import click

from wolf_async.cli.accounts_file import AccountsOptions, BadRow, Rows, accounts_options
from wolf_async.cli.options import (
    count_option,
    out_option,
    quiet_option,
    resume_option,
    seconds_option,
)
from wolf_async.cli.progress import Progress, say
from wolf_async.cli.results_file import (
    Done,
    Failure,
    LinesFile,
    Result,
    beside,
    failure_of,
    failure_of_row,
    note_result,
    open_errors,
)
from wolf_async.cli.service import NoAccessError, Service, explain, remedy, service_options
from wolf_async.errors import (
    WolfAuthError,
    WolfClosedError,
    WolfConfigError,
    WolfEndpointError,
    WolfError,
)
from wolf_async.models import TaskInit
from wolf_async.policy import RetryPolicy, Timeouts, check_seconds

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Coroutine

    from wolf_async.account import Account
    from wolf_async.bulk import AccountResult
    from wolf_async.cli.text_file import TextFile
    from wolf_async.client import WolfClient

__all__ = ["Tally", "fetch"]

_STDOUT: Final = Path("-")
_LAST_READ: Final = 2.0
"""Seconds for which standard input is read on to count what is not asked for any more."""


class _GivenUpError(click.ClickException):
    """Say that the service was away for longer than patience lasts."""

    exit_code = 3


def _rate(ctx: Any, param: Any, value: str | None) -> float | None:
    """Read a number of requests a second: 20, or 20/s."""
    if value is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(?:/s)?", value)
    rate = float(found[1]) if found else 0.0
    if not 0 < rate < math.inf:
        raise click.BadParameter(f"{value!r} is no number of requests a second, as 20 or 0.5/s")
    return rate


def _fields(ctx: Any, param: Any, value: str | None) -> tuple[str, ...] | None:
    """Read names of sections of the answer, with commas between."""
    if value is None:
        return None
    names = tuple(dict.fromkeys(name.strip() for name in value.split(",")))
    unknown = [name for name in names if name not in TaskInit.__struct_fields__]
    if unknown:
        sections = ", ".join(TaskInit.__struct_fields__)
        raise click.BadParameter(f"{', '.join(map(repr, unknown))}: the sections are {sections}")
    return names


class _Options(NamedTuple):
    """Hold the options of a run; see the command's help."""

    out: Path
    errors: Path | None
    resume: bool
    overwrite: bool
    concurrency: int
    rate: float | None
    attempts: int
    timeout: float
    patience: float
    fields: tuple[str, ...] | None
    fsync: bool
    progress_every: float
    quiet: bool


@click.command(short_help="Ask for many accounts, into a file of JSON Lines.")
@click.argument("accounts")
@out_option("Where the answers go; - is standard output.")
@click.option(
    "--errors",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Where the failures go.  [default: beside --out, answers.errors.jsonl for answers.jsonl]",
)
@resume_option("accounts whose answers it holds are not asked for again.")
@click.option("--overwrite", is_flag=True, help="Begin --out anew.")
@accounts_options
@click.option(
    "--fields",
    metavar="SECTION,...",
    callback=_fields,
    help="Keep only these sections of each answer, such as caller_line_list,end_actions.",
)
@count_option("--concurrency", 100, "Requests at once.")
@click.option("--rate", metavar="N[/s]", callback=_rate, help="Requests a second, at most.")
@count_option("--attempts", RetryPolicy().attempts, "Requests for one account, at most.")
@seconds_option("--timeout", Timeouts().total, "For one account, all attempts included.")
@seconds_option(
    "--patience",
    60.0,
    "Wait so many seconds for a service that is away before giving up; 0 never waits.",
)
@click.option("--fsync", is_flag=True, help="Sync answers to the disk (fsync) within a second.")
@seconds_option("--progress-every", 10.0, "How often to tell how far it is, without a terminal.")
@quiet_option("progress")
@service_options
def fetch(*, accounts: str, reading: AccountsOptions, service: Service, **options: Any) -> None:
    """Ask for all of ACCOUNTS and write each answer as a line of JSON.

    ACCOUNTS is a .csv or .jsonl file, or - for standard input. CSV has one or two columns of main
    accounts and sub-accounts, or a header that names them: user_id, sub_user_id, 用户ID, 子账户ID
    and the like. JSON Lines are strings, pairs, or objects with these keys.

    Nothing is asked for that may be no account. Where a quote of the CSV is missing or too many,
    rows above it may be the inside of a remark: they are bad rows, from the last cell in quotes
    that fits, or as far up as --max-row reaches. So is a last row that may be cut off. Rows of
    standard input are asked for before what is below them is known: name the file where its quotes
    may be wrong.

    An answer is a line {"user_id", "sub_user_id", "init": {...}} of --out, one for each account,
    however often it is named. A failure, or a row that names no account, is a line with "error"
    of the errors file, which each run writes anew. Lines are whole, but for the last one after a
    kill or a crash, which --resume takes away; it asks again for what failed.

    The exit status is 0 if all accounts were answered, 1 if some were not, 2 if the file was
    refused and nothing was asked, 3 if the service was away for longer than --patience, 4 if it
    refused the token or there is no such API. The token comes from the environment: WOLF_TOKEN.
    """
    chosen = _Options(**options)
    _check(chosen)
    client = service.open_client(
        cache=None,
        max_concurrency=chosen.concurrency,
        rate_limit=chosen.rate,
        retry=RetryPolicy(attempts=chosen.attempts),
        timeouts=_timeouts(chosen.timeout, chosen.attempts),
    )
    with reading.open(accounts) as (file, rows), _Output(chosen, file) as output:
        if file.is_chosen and file.encoding != "utf-8" and not chosen.quiet:
            say(f"{file.name} is read as {file.encoding.upper()}: --encoding says otherwise\n")
        run = _Run(client, file, rows, output, chosen)
        try:
            asyncio.run(run.run())
        except KeyboardInterrupt:
            _summarize(f"stopped after {run.tally}", chosen)
            raise
        except WolfError as error:
            raise _stopped(error, run.tally, chosen) from error
    _summarize(str(run.tally), chosen)
    if run.tally.failed:
        raise click.exceptions.Exit(1)


def _check(options: _Options) -> None:
    if options.resume and options.overwrite:
        raise click.UsageError("--resume and --overwrite exclude each other")
    if options.out == _STDOUT and options.resume:
        raise click.UsageError("--out - is no file that --resume could continue")
    check_seconds("--timeout", options.timeout, above=True)
    check_seconds("--patience", options.patience)
    check_seconds("--progress-every", options.progress_every, above=True, finite=True)


def _timeouts(total: float, attempts: int) -> Timeouts:
    """Let an attempt take its share of the time, but no less than a usual attempt."""
    usual = Timeouts()
    attempt = min(total, max(usual.attempt, total / attempts))
    return Timeouts(total=total, attempt=attempt, connect=min(total, usual.connect))


def _summarize(text: str, options: _Options) -> None:
    if not options.quiet:
        say(f"{text}\n")


def _stopped(error: WolfError, tally: Tally, options: _Options) -> Exception:
    """Return why the run ends before its end, with what became of the accounts."""
    if isinstance(error, (WolfClosedError, WolfConfigError)):
        return error
    is_refused = isinstance(error, (WolfAuthError, WolfEndpointError))
    stopped = NoAccessError if is_refused else _GivenUpError
    # standard output cannot be continued
    remedy = "" if options.out == _STDOUT else "; continue with --resume"
    return stopped(f"{explain(error)}; {tally.of_all}{remedy}")


class Tally:
    """Count what has become of the rows so far."""

    __slots__ = ("answered", "failures", "has_all", "kept", "remedies", "repeated", "seen")

    def __init__(self) -> None:
        self.seen = 0
        """Accounts that the rows named, each once."""
        self.has_all = True
        """Whether those are all accounts, when the run ends before its end."""
        self.answered = 0
        self.kept = 0
        """Accounts whose answers were in the file already."""
        self.repeated = 0
        """Rows that named an account again."""
        self.failures: Counter[str] = Counter()
        self.remedies: dict[str, None] = {}
        """What helps against some of the failures, each once, in the order that they came."""

    @property
    def failed(self) -> int:
        """How many accounts and bad rows have no answer."""
        return self.failures.total()

    @property
    def done(self) -> int:
        """How many rows are through, those left out that the file held already."""
        return self.answered + self.failed + self.repeated

    @property
    def of_all(self) -> str:
        """What has become of all accounts of the file, when the run ends before its end."""
        answered = self.kept + self.answered
        bad_rows = self.failures["BadRow"]
        failed = self.failed - bad_rows
        left = f"{'' if self.has_all else 'at least '}{self.seen - answered - failed}"
        counts = f"{answered} answered, {failed} failed, {left} not asked"
        if bad_rows:
            counts += f", {bad_rows} bad row{'s' * (bad_rows != 1)}"
        return counts

    def __str__(self) -> str:
        rows = self.kept + self.answered + self.failed
        parts = [f"{self.kept} in the file already"] if self.kept else []
        parts.append(f"{self.answered} answered")
        parts += [f"{number} {kind}" for kind, number in self.failures.most_common()]
        if self.repeated:
            parts.append(f"{self.repeated} named again")
        counts = f"{rows} account{'s' * (rows != 1)}: {', '.join(parts)}"
        return "; ".join((counts, *self.remedies))


class _Output:
    """Hold the file of answers and, where there is one, the file of failures."""

    __slots__ = ("answers", "done", "errors", "files")

    def __init__(self, options: _Options, source: TextFile) -> None:
        self.done = Done()
        """The accounts whose answers are in the file already."""
        with ExitStack() as stack:
            self.answers = stack.enter_context(self._open_answers(options, source))
            path = options.errors
            # /dev/stdout may be a file, and yet it has nothing beside it
            if path is None and self.answers.is_regular and options.out.parts[:2] != ("/", "dev"):
                path = beside(options.out, "errors")
            self.errors = (
                None
                if path is None
                else stack.enter_context(open_errors(path, [source.stat, self.answers.stat]))
            )
            if options.fsync:
                self.answers.sync_folder()
            self.files = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.files.close()

    def _open_answers(self, options: _Options, source: TextFile) -> LinesFile:
        return LinesFile(
            options.out,
            note=functools.partial(note_result, done=self.done),
            others=[source.stat],
            resume=options.resume,
            overwrite=options.overwrite,
        )


class _Run:
    """Give the accounts of the rows to the client, and its results to the files."""

    __slots__ = ("_client", "_file", "_options", "_output", "_rows", "_seen", "tally")

    def __init__(
        self,
        client: WolfClient,
        file: TextFile,
        rows: Rows[Account],
        output: _Output,
        options: _Options,
    ) -> None:
        self._client = client
        self._file = file
        self._rows = rows
        self._output = output
        self._options = options
        self._seen = Done()
        self.tally = Tally()

    async def run(self) -> None:
        """Ask for all accounts; raise what ends the run before its end."""
        async with contextlib.AsyncExitStack() as stack:
            wolf = await stack.enter_async_context(self._client)
            for job in self._jobs():
                stack.push_async_callback(_end, asyncio.create_task(job))
            try:
                await self._ask(wolf)
            except WolfError:
                await self._count_rest()
                raise

    def _jobs(self) -> list[Coroutine[Any, Any, None]]:
        """Return what goes on beside: telling how far it is, and syncing."""
        jobs: list[Coroutine[Any, Any, None]] = []
        if not self._options.quiet:
            tally, lines = self.tally, self._file.lines
            total = None if lines is None else lines - len(self._output.done)
            every = self._options.progress_every
            jobs.append(
                Progress(lambda: tally.done, lambda: tally.failed, total, every=every).run()
            )
        if self._options.fsync:
            jobs.append(self._output.answers.keep_synced())
        return jobs

    async def _ask(self, wolf: WolfClient) -> None:
        patience, concurrency = self._options.patience, self._options.concurrency
        async with aclosing(self._accounts()) as accounts:
            results = wolf.task_init_many(accounts, concurrency=concurrency, patience=patience)
            async with aclosing(results):
                async for result in results:
                    await self._write(result)

    async def _accounts(self) -> AsyncGenerator[Account, None]:
        """Give each account of the rows once, but for those that have their answers."""
        async for row in self._rows:
            if isinstance(row, BadRow):
                await self._fail(None, None, failure_of_row(row))
            elif row in self._seen:
                self.tally.repeated += 1
            else:
                self._seen.add(*row)
                self.tally.seen += 1
                if row not in self._output.done:
                    yield row
                else:
                    self.tally.kept += 1

    async def _count_rest(self) -> None:
        """Read what is left, so that all accounts are counted; of a pipe what comes soon."""
        self.tally.has_all = False
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_READ if self._file.waits else None):
                async for _ in self._accounts():
                    pass
            self.tally.has_all = True

    async def _write(self, result: AccountResult) -> None:
        account, init, error = result
        if error is not None:
            if (found := remedy(error)) is not None:
                self.tally.remedies[found] = None
            await self._fail(*account, failure_of(error))
        elif init is not None:
            await self._output.answers.append(Result(*account, init=self._chosen(init)))
            self.tally.answered += 1

    def _chosen(self, init: TaskInit) -> Any:
        fields = self._options.fields
        return init if fields is None else {name: getattr(init, name) for name in fields}

    async def _fail(self, user_id: str | None, sub_user_id: str | None, failure: Failure) -> None:
        if self._output.errors is not None:
            await self._output.errors.append(Result(user_id, sub_user_id, error=failure))
        self.tally.failures[failure.type] += 1


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled() and (error := task.exception()):
        raise error
