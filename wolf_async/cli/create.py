"""Run ``wolf-async create``: check drafts of tasks, or create each of them once."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, Self

import click
import msgspec

from wolf_async.cli.accounts_file import AccountsOptions, BadRow, accounts_options
from wolf_async.cli.drafts_file import DraftRow, make_draft, read_drafts
from wolf_async.cli.options import count_option, out_option, quiet_option, resume_option
from wolf_async.cli.progress import say
from wolf_async.cli.results_file import (
    Failure,
    LinesFile,
    Result,
    beside,
    failure_of,
    failure_of_row,
    open_errors,
)
from wolf_async.cli.service import NoAccessError, Service, explain, service_options
from wolf_async.cli.text_file import RefusedError
from wolf_async.cli.threads import to_the_end
from wolf_async.cli.widgets import plain
from wolf_async.errors import (
    DraftProblem,
    WolfAuthError,
    WolfClosedError,
    WolfConfigError,
    WolfDraftError,
    WolfEndpointError,
    WolfError,
    WolfUncertainError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wolf_async.client import WolfClient
    from wolf_async.models import TaskDraft

__all__ = ["create"]

_START: Final = b'{"key":'
_TO_BE_FOUND: Final = "what was sent must be found again"
_OUTCOMES: Final = (
    "created",
    "created before",
    "checked",
    "problems",
    "failed",
    "uncertain",
    "bad",
)


class _Result(msgspec.Struct, omit_defaults=True):
    """A line of the results: what became of the row with that key."""

    key: str | int
    user_id: str
    sub_user_id: str | None
    outcome: Literal["checked", "created", "problems", "failed", "uncertain"]
    uuid: str | msgspec.UnsetType | None = msgspec.UNSET
    data: Any = msgspec.UNSET
    problems: tuple[DraftProblem, ...] | msgspec.UnsetType = msgspec.UNSET
    error: Failure | msgspec.UnsetType = msgspec.UNSET


class _Noted(msgspec.Struct):
    """What resuming needs of a line of the results."""

    key: str | int
    outcome: Literal["checked", "created", "problems", "failed", "uncertain"]


class _Sent(msgspec.Struct):
    """A line of the journal: what is known of the task with that key.

    ``sending`` is noted before its request is sent, the others when that has ended; ``nothing``
    is certain not to have created it.
    """

    key: str | int
    state: Literal["sending", "created", "uncertain", "nothing"]


class _Options(NamedTuple):
    """Hold the options of a run; see the command's help."""

    out: Path
    send: bool
    resume: bool
    retry_uncertain: tuple[str, ...]
    concurrency: int
    quiet: bool


@click.command(short_help="Check drafts of tasks, or create them, each once.")
@click.argument("drafts")
@out_option("Where the results go.")
@click.option(
    "--send/--dry-run", help="Create the tasks, or only check the drafts.  [default: check]"
)
@resume_option("what it says was created, or left uncertain, is not sent again.")
@click.option(
    "--retry-uncertain",
    metavar="KEY",
    multiple=True,
    help="Send this row again although its task may exist. Can be given several times.",
)
@count_option(
    "--concurrency", 10, "Main accounts at once; the tasks of one come one after the other."
)
@accounts_options
@quiet_option("what is wrong with rows")
@service_options
def create(*, drafts: str, reading: AccountsOptions, service: Service, **options: Any) -> None:
    """Check all of DRAFTS, a file of JSON Lines, or create their tasks with --send.

    A row is {"key", "user_id", "sub_user_id", "draft"}: a key of your own, unique in the file; the
    account; and the draft, which is an object with the arguments of `TaskInit.draft` (name, script,
    calls, start, stop, ...; ids for items), or the finished body of the request.

    A result is {"key", "user_id", "sub_user_id", "outcome", ...}. The outcome is checked; created,
    with "uuid" and "data"; problems, with what is wrong with the draft; failed, with the "error",
    and then there is no task; or uncertain: the task may exist, and it is for you to look.

    Beside results.jsonl stands results.sending.jsonl. It has the key of each row before that is
    sent, so that a row is never sent twice, whatever ends the run. Keep the two together. Rows that
    are no draft are listed in results.errors.jsonl.

    Runs that create for the same accounts at once, on one machine or several, need --shared: else
    each of them may use what is free for itself.

    There is no patience here as in fetch, since tasks have times of their own: while the service is
    away, rows become failed after their attempts, and nobody sends them hours later unseen. With
    --resume they are tried again, as are those with problems.

    The exit status is 0 if all went well, 1 if a row did not, 2 if the file was refused and nothing
    was done, 4 if the token was refused or there is no such API. The token comes from the
    environment: WOLF_TOKEN.
    """
    chosen = _Options(**options)
    _check(chosen, reading)
    rows = read_drafts(drafts, reading)
    client = service.open_client(max_concurrency=chosen.concurrency)
    tally: Counter[str] = Counter()
    with _Files(chosen, rows) as files:
        run = _Run(client, files, chosen, tally, checks_again=service.shared)
        try:
            asyncio.run(run.run(rows))
        except KeyboardInterrupt:
            _summarize(f"stopped after {_said(tally)}", chosen)
            raise
        except (WolfAuthError, WolfEndpointError) as error:
            left = len(rows) - tally.total()
            why = explain(error)
            raise NoAccessError(
                f"{why}; {_said(tally)}, {left} not asked; continue with --resume"
            ) from error
    _summarize(_said(tally), chosen)
    if tally.total() > tally["created"] + tally["checked"] + tally["created before"]:
        raise click.exceptions.Exit(1)


def _check(options: _Options, reading: AccountsOptions) -> None:
    if reading.form == "csv":
        raise click.UsageError("drafts are JSON Lines, not CSV")
    if options.out == Path("-"):
        raise click.UsageError(f"--out - is no file: {_TO_BE_FOUND}")
    if options.retry_uncertain and not (options.send and options.resume):
        raise click.UsageError("--retry-uncertain goes with --send and --resume")


def _said(tally: Counter[str]) -> str:
    rows = tally.total()
    counts = ", ".join(f"{count} {outcome}" for outcome in _OUTCOMES if (count := tally[outcome]))
    return f"{rows} row{'s' * (rows != 1)}{': ' if counts else ''}{counts}"


def _summarize(text: str, options: _Options) -> None:
    if not options.quiet:
        say(f"{text}\n")


class _Files:
    """Hold the results, the journal of what is being sent, and the list of bad rows.

    The journal is synced before a request is sent, and the results before the journal says that
    it has ended: whatever a crash leaves of the two, a row that was sent is never taken for one
    that was not. A row that was created by the journal, and has no such result, is uncertain: its
    result was lost.
    """

    __slots__ = ("_journal", "_outcomes", "_retried", "_sent", "_stack", "errors", "results")

    def __init__(self, options: _Options, rows: list[DraftRow | BadRow]) -> None:
        # by the text of the key: 7 and "7" are one key, whatever wrote the file the next time
        self._outcomes: dict[str, str] = {}
        # keys whose tasks were created, or may have been, by the journal
        self._sent: set[str] = set()
        self._retried: frozenset[str] = frozenset()
        journal_path = beside(options.out, "sending")
        _check_both(options, journal_path)
        with ExitStack() as stack:
            self.results = stack.enter_context(
                LinesFile(
                    options.out,
                    note=self._note_result,
                    start=_START,
                    resume=options.resume,
                    remedy="--resume continues it",
                )
            )
            if not self.results.is_regular:
                raise RefusedError(f"--out {options.out} is no file: {_TO_BE_FOUND}")
            self._journal = stack.enter_context(
                LinesFile(journal_path, note=self._note_sent, start=_START, resume=True)
            )
            self._check_journal(journal_path)
            others = [self.results.stat, self._journal.stat]
            self.errors = stack.enter_context(open_errors(beside(options.out, "errors"), others))
            self._retried = self._uncertain_keys(options.retry_uncertain, rows)
            self.results.sync_folder()
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    def state(self, key: str | int) -> Literal["created", "uncertain", "open"]:
        """Return whether the row was created, may have been, or is to be done."""
        name = str(key)
        if self._outcomes.get(name) == "created":
            return "created"
        if name in self._retried:
            return "open"
        # what was created by the journal alone has lost its result
        is_uncertain = name in self._sent or self._outcomes.get(name) == "uncertain"
        return "uncertain" if is_uncertain else "open"

    def is_retried(self, key: str | int) -> bool:
        """Return whether the row was uncertain before this run, and is tried again."""
        return str(key) in self._retried

    def is_noted(self, key: str | int) -> bool:
        """Return whether the results say already that the row is uncertain."""
        return self._outcomes.get(str(key)) == "uncertain"

    async def begin(self, key: str | int) -> None:
        """Sync the key of a row to the disk, before the row is sent."""
        await self._journal.append(_Sent(key, "sending"))
        await self._journal.sync()

    async def end(self, result: _Result) -> None:
        """Note what came of a row that was sent."""
        await self.results.append(result)
        await self.results.sync()
        outcome = result.outcome
        state = outcome if outcome in ("created", "uncertain") else "nothing"
        await self._journal.append(_Sent(result.key, state))

    async def withdraw(self, key: str | int) -> None:
        """Note that the request for a row is certain to have created nothing."""
        if not self.is_retried(key):
            await self._journal.append(_Sent(key, "nothing"))

    def _note_result(self, line: bytes) -> bool:
        try:
            noted = msgspec.json.decode(line, type=_Noted)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return False
        if noted.outcome == "created" or self.state(noted.key) == "open":
            self._outcomes[str(noted.key)] = noted.outcome
        return True

    def _note_sent(self, line: bytes) -> bool:
        try:
            noted = msgspec.json.decode(line, type=_Sent)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return False
        if noted.state == "nothing":
            self._sent.discard(str(noted.key))
        else:
            self._sent.add(str(noted.key))
        return True

    def _check_journal(self, path: Path) -> None:
        if not self._sent and {"created", "uncertain"} & set(self._outcomes.values()):
            raise RefusedError(f"{path} is missing or empty, which says what was sent: put it back")

    def _uncertain_keys(
        self, named: tuple[str, ...], rows: list[DraftRow | BadRow]
    ) -> frozenset[str]:
        keys = {str(row.key) for row in rows if isinstance(row, DraftRow)}
        for name in named:
            if name not in keys or self.state(name) != "uncertain":
                raise RefusedError(f"--retry-uncertain {name}: no row of that key is uncertain")
        return frozenset(named)


def _check_both(options: _Options, journal: Path) -> None:
    """Raise `RefusedError` if a journal is there that is not to be continued, or cannot be."""
    if not journal.exists():
        return
    if not options.resume:
        raise RefusedError(f"{journal} is there already: --resume continues it")
    if journal.stat().st_size and not options.out.exists():
        raise RefusedError(f"{options.out} is missing, which says what was created: put it back")


class _Run:
    """Check each row, create its task with ``--send``, and note its result."""

    __slots__ = ("_checks_again", "_client", "_files", "_options", "_tally")

    def __init__(
        self,
        client: WolfClient,
        files: _Files,
        options: _Options,
        tally: Counter[str],
        *,
        checks_again: bool,
    ) -> None:
        self._client = client
        self._files = files
        self._options = options
        self._tally = tally
        # another machine may create for the account between our check and our turn
        self._checks_again = checks_again

    async def run(self, rows: list[DraftRow | BadRow]) -> None:
        """Do all rows; raise what ends the run before its end."""
        groups = _by_account(rows)
        feed = iter(groups)
        async with self._client as wolf:
            workers = [
                asyncio.create_task(self._work(wolf, feed))
                for _ in range(min(self._options.concurrency, len(groups)))
            ]
            try:
                await asyncio.gather(*workers)
            finally:
                for worker in workers:
                    worker.cancel()
                await asyncio.gather(*workers, return_exceptions=True)

    async def _work(self, wolf: WolfClient, feed: Iterator[list[DraftRow | BadRow]]) -> None:
        # a draft is made for what is free now: after the creation before, and not beside it
        for row in chain.from_iterable(feed):
            if isinstance(row, BadRow):
                await self._list_bad(row)
            else:
                await self._do(wolf, row)

    async def _list_bad(self, row: BadRow) -> None:
        await self._files.errors.append(Result(None, None, error=failure_of_row(row)))
        self._tally["bad"] += 1

    async def _do(self, wolf: WolfClient, row: DraftRow) -> None:
        state = self._files.state(row.key)
        if state == "created":
            self._tally["created before"] += 1
        elif state == "uncertain":
            self._tally["uncertain"] += 1
            if not self._files.is_noted(row.key):
                await self._files.end(_result(row, "uncertain"))
        else:
            await self._check_and_send(wolf, row)

    async def _check_and_send(self, wolf: WolfClient, row: DraftRow) -> None:
        try:
            draft, problems = await self._checked(wolf, row)
        except (WolfAuthError, WolfEndpointError, WolfConfigError, WolfClosedError):
            raise
        except WolfDraftError as error:
            result, texts = self._wrong(row, error.problems)
        except WolfError as error:
            result, texts = self._failed(row, "failed", error)
        else:
            texts = _texts_of(problems)
            if self._options.send:
                self._tell(row, texts)
                # what came of it is noted even if the run is stopped meanwhile
                await to_the_end(self._send(wolf, row, draft))
                return
            result = _result(row, "checked", problems=problems or msgspec.UNSET)
        await self._files.results.append(result)
        self._tally[result.outcome] += 1
        self._tell(row, texts)

    async def _checked(
        self, wolf: WolfClient, row: DraftRow
    ) -> tuple[TaskDraft, tuple[DraftProblem, ...]]:
        """Return the draft and what is odd with it; raise `WolfDraftError` if it is wrong."""
        init = await wolf.task_init(*row.account, max_age=0 if self._options.send else None)
        draft = make_draft(row, init)
        problems = draft.problems(init)
        if any(problem.severity == "error" for problem in problems):
            raise WolfDraftError("the draft has problems", problems=problems)
        return draft, problems

    async def _send(self, wolf: WolfClient, row: DraftRow, draft: TaskDraft) -> None:
        await self._files.begin(row.key)
        try:
            # checked just now, against an answer that was asked for after our creation before
            created = await wolf.create_task(*row.account, draft=draft, check=self._checks_again)
            result = _result(row, "created", uuid=created.uuid, data=created.data)
            texts: list[str] = []
        except WolfUncertainError as error:
            result, texts = self._failed(row, "uncertain", error)
        except WolfDraftError as error:
            result, texts = self._wrong(row, error.problems)
        except WolfError as error:
            # certain to be none: nothing was created
            if isinstance(error, (WolfAuthError, WolfEndpointError)):
                await self._files.withdraw(row.key)
                raise
            result, texts = self._failed(row, "failed", error)
        await self._files.end(result)
        self._tally[result.outcome] += 1
        # after it is noted: the reader of these lines may have gone, and that ends the run
        self._tell(row, texts)

    def _failed(
        self, row: DraftRow, outcome: Literal["failed", "uncertain"], error: WolfError
    ) -> tuple[_Result, list[str]]:
        texts = [f"{outcome}: {explain(error)}"]
        # what an earlier run may have created is not known any better for that
        outcome = "uncertain" if self._files.is_retried(row.key) else outcome
        return _result(row, outcome, error=failure_of(error)), texts

    def _wrong(
        self, row: DraftRow, problems: tuple[DraftProblem, ...]
    ) -> tuple[_Result, list[str]]:
        is_retried = self._files.is_retried(row.key)
        result = _result(row, "uncertain" if is_retried else "problems", problems=problems)
        return result, _texts_of(problems)

    def _tell(self, row: DraftRow, texts: list[str]) -> None:
        for text in () if self._options.quiet else texts:
            click.echo(" ".join(plain(f"{row.key}: {text}").split()))


def _texts_of(problems: tuple[DraftProblem, ...]) -> list[str]:
    return [f"{each.severity}: {each.path}: {each.message}" for each in problems]


def _by_account(rows: list[DraftRow | BadRow]) -> list[list[DraftRow | BadRow]]:
    """Return the rows of each main account, and the bad ones, in the order of the file."""
    groups: defaultdict[str | None, list[DraftRow | BadRow]] = defaultdict(list)
    for row in rows:
        groups[None if isinstance(row, BadRow) else row.account.user_id].append(row)
    return list(groups.values())


def _result(
    row: DraftRow,
    outcome: Literal["checked", "created", "problems", "failed", "uncertain"],
    **more: Any,
) -> _Result:
    return _Result(row.key, *row.account, outcome, **more)
