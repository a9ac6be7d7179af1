"""Create tasks: in turn, checked, and each at most once.

The state is the set of creations under way. A creation runs in a task of its own, so that a request
that is out goes to its end whatever becomes of its caller. `_Creation.is_out` decides everything
about leaving and closing: before that, nothing was sent, and after it, only an answer tells.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import SplitResult

import msgspec

from wolf_async.account import Account
from wolf_async.answer import Ask
from wolf_async.api.request import task_request
from wolf_async.api.response import RawResponse, read_data
from wolf_async.errors import (
    WolfAPIError,
    WolfClosedError,
    WolfConfigError,
    WolfDraftError,
    WolfError,
    WolfUncertainError,
    deciding,
)
from wolf_async.logs import logger
from wolf_async.models import TaskDraft
from wolf_async.models.frozen import FrozenDict
from wolf_async.turns import LocalTurns, Turn, Turns
from wolf_async.upstream.sender import Post, Sender

__all__ = ["CreatedTask", "TaskCreator"]

_TASK_NAME: Final = "wolf_async: a task is created"
_REQUEST_TIMEOUT: Final = 408
_CUT_OFF: Final = {
    True: "the client was closed before there was an answer",
    False: "its request was cancelled before there was an answer",
}


class CreatedTask(msgspec.Struct, frozen=True, kw_only=True):
    """A task that was created, as far as the answer tells; what it holds is documented nowhere.

    `WolfClient.create_task` returns it.

    Attributes:
        data: `data` of the answer as it came, deeply read-only.
        response: the whole response.

    >>> import asyncio
    >>> from datetime import UTC, datetime, timedelta
    >>> from wolf_async import WolfClient
    >>> from wolf_async.testing import Sandbox
    >>> async def main() -> None:
    ...     start = datetime.now(UTC) + timedelta(minutes=5)
    ...     stop = start + timedelta(days=7)
    ...     async with Sandbox() as box, WolfClient(box.token, base_url=box.base_url) as wolf:
    ...         init = await wolf.task_init(box.users[0])
    ...         script = init.outbound_group_v2[0]
    ...         draft = init.draft(name="November", script=script, calls=2, start=start, stop=stop)
    ...         task = await wolf.create_task(box.users[0], draft=draft)
    ...         print(task.uuid == box.tasks[0].uuid, sum(box.tasks[0].limits.values()))
    >>> asyncio.run(main())
    True 2

    """

    data: Any
    response: RawResponse

    @property
    def uuid(self) -> str | None:
        """The task's id where the answer has one: `uuid`, by analogy with the lists of tasks."""
        data: Any = self.data
        uuid = data.get("uuid") if isinstance(data, FrozenDict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        return uuid if isinstance(uuid, str) else None


class _TurnLostError(Exception):
    """Somebody else may have got the turn, and nothing was sent yet."""


class _Creation:
    """One task on its way, and how far it is."""

    __slots__ = (
        "account",
        "check",
        "created",
        "draft",
        "is_closing",
        "is_left",
        "is_out",
        "task",
        "was_out",
    )

    def __init__(self, account: Account, draft: TaskDraft, *, check: bool) -> None:
        self.account = account
        self.draft = draft
        self.check = check
        self.is_out = False
        """Whether the first byte may have left, and no answer said that nothing was created."""
        self.was_out = False
        """Whether that was so at any time."""
        self.is_left = False
        """Whether its caller was cancelled."""
        self.is_closing = False
        """Whether the client that is closed has ended it."""
        self.created: CreatedTask | None = None
        self.task: asyncio.Task[CreatedTask]

    def uncertain_error(self, what: str, **context: Any) -> WolfUncertainError:
        return WolfUncertainError(
            f"the task {self.draft.name!r} may or may not have been created: {what}",
            draft_name=self.draft.name,
            account=self.account,
            **context,
        )

    def closed_error(self) -> WolfClosedError:
        return WolfClosedError(
            f"the client was closed before the task {self.draft.name!r} was sent",
            account=self.account,
        )


class TaskCreator:
    """Create the tasks of one client, one after the other for each main account.

    ``invalidate`` forgets the answer of an account that is held. ``attempt`` is how many seconds
    `aclose` waits for requests that are out.
    """

    def __init__(
        self,
        sender: Sender,
        base: SplitResult,
        *,
        ask: Ask,
        invalidate: Callable[[Account], object],
        attempt: float,
        turns: Turns | None = None,
    ) -> None:
        self._sender = sender
        self._base = base
        self._ask = ask
        self._invalidate = invalidate
        self._attempt = attempt
        self._turns: Turns = turns or LocalTurns()
        self._under_way: set[_Creation] = set()
        self._is_closed = False

    async def create(self, account: Account, draft: object, *, check: bool) -> CreatedTask:
        """Create a task once, in turn; see `WolfClient.create_task`."""
        if not isinstance(draft, TaskDraft):
            raise WolfConfigError(f"draft must be a TaskDraft, not {draft!r}")
        self._sender.check_loop()
        if self._is_closed:
            raise WolfClosedError("the client is closed", account=account)
        creation = _Creation(account, draft, check=check)
        task = creation.task = asyncio.create_task(self._run(creation), name=_TASK_NAME)
        self._under_way.add(creation)
        task.add_done_callback(lambda _: self._under_way.discard(creation))
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            self._leave(creation)
            raise
        return task.result()

    def _leave(self, creation: _Creation) -> None:
        """Let a caller go who was cancelled: with nothing sent, or with a word in the log."""
        creation.is_left = True
        creation.task.add_done_callback(lambda task: _log_outcome(creation, task))
        if not creation.is_out:
            creation.task.cancel()

    async def _run(self, creation: _Creation) -> CreatedTask:
        try:
            while True:
                try:
                    return await self._take_turn(creation)
                except _TurnLostError:
                    logger.info(
                        "the turn to create %r was lost: it queues again", creation.draft.name
                    )
        except asyncio.CancelledError:
            return self._end_cut_off(creation)

    def _end_cut_off(self, creation: _Creation) -> CreatedTask:
        """Say what is known of a creation that was cancelled, by whomever."""
        if creation.created is not None:
            return creation.created
        if creation.is_out:
            self._invalidate(creation.account)
            raise creation.uncertain_error(_CUT_OFF[creation.is_closing]) from None
        if creation.is_closing and not creation.is_left:
            raise creation.closed_error() from None
        raise asyncio.CancelledError

    async def _take_turn(self, creation: _Creation) -> CreatedTask:
        turn = self._turns.turn(creation.account.user_id)
        try:
            await turn.acquire()
            if creation.check:
                await self._check(creation)
            return await self._send(creation, turn)
        finally:
            await self._give_on(creation, turn)

    async def _give_on(self, creation: _Creation, turn: Turn) -> None:
        try:
            if creation.created is not None and not await turn.still_mine():
                logger.warning(
                    "the turn to create %r was lost while it was sent", creation.draft.name
                )
            await turn.release()
        except Exception as error:
            # whatever a turn does in the end, its caller has to know what became of the task
            logger.warning("the turn to create %r: %s", creation.draft.name, error)

    async def _check(self, creation: _Creation) -> None:
        init = (await self._ask(creation.account, 0)).value.init
        # errors first: the text tells the first of them
        problems = sorted(creation.draft.problems(init), key=lambda each: each.severity != "error")
        if problems and problems[0].severity == "error":
            raise WolfDraftError(
                f"the task {creation.draft.name!r} cannot be created as it is: "
                f"{problems[0].path}: {problems[0].message}",
                problems=tuple(problems),
                account=creation.account,
            )

    async def _send(self, creation: _Creation, turn: Turn) -> CreatedTask:
        async def ready() -> None:
            if not await turn.still_mine():
                raise _TurnLostError

        def about_to_send() -> None:
            self._refuse_if_ended(creation)
            creation.is_out = creation.was_out = True

        def may_repeat(error: Exception) -> bool:
            return not (creation.is_out or self._is_closed)

        url, body = task_request(self._base, creation.account, creation.draft)
        post = Post(body, ready, about_to_send, may_repeat)
        try:
            _, created = await self._sender.send(
                creation.account, url, lambda response: self._read(creation, response), post=post
            )
        except WolfError as error:
            if not creation.is_out or _is_certain(error):
                creation.is_out = False
                raise
            self._invalidate(creation.account)
            what = str(error.args[0]) if error.args else type(error).__name__
            raise creation.uncertain_error(
                what, attempts=error.attempts, body=error.body
            ) from error
        self._invalidate(creation.account)
        creation.created = created
        return created

    def _refuse_if_ended(self, creation: _Creation) -> None:
        """Stop a request that nobody waits for any more at the last moment at which that can be."""
        if creation.is_left:
            raise asyncio.CancelledError
        if self._is_closed:
            raise creation.closed_error()

    def _read(self, creation: _Creation, response: RawResponse) -> CreatedTask:
        try:
            data = read_data(response, self._base.geturl())
        except WolfAPIError as error:
            # a 401 or 429 is sent again: in between, nothing is out
            creation.is_out = not _is_certain(error)
            raise
        return CreatedTask(data=data, response=response)

    # --- closing ----------------------------------------------------------------------------------

    def refuse(self) -> None:
        """Refuse new creations from now on."""
        self._is_closed = True

    async def aclose(self) -> None:
        """End the creations that have not been sent, and wait for those that are out.

        Whose request was not sent gets `WolfClosedError`. Requests that are out have the seconds of
        one attempt to end; after that, or if whoever closes is cancelled meanwhile, their callers
        get `WolfUncertainError`.
        """
        self.refuse()
        loop = asyncio.get_running_loop()
        # those of a loop that was closed in the middle of them never end
        self._under_way = {each for each in self._under_way if each.task.get_loop() is loop}
        tasks = {creation.task for creation in self._under_way}
        self._end(lambda creation: not creation.is_out)
        try:
            if tasks:
                timeout = None if math.isinf(self._attempt) else self._attempt
                await asyncio.wait(tasks, timeout=timeout)
        finally:
            self._end(lambda creation: True)
        if tasks:
            await asyncio.wait(tasks)

    def _end(self, which: Callable[[_Creation], bool]) -> None:
        for creation in list(filter(which, self._under_way)):
            creation.is_closing = True
            creation.task.cancel()


def _is_certain(error: Exception) -> bool:
    """Tell whether an error says that nothing was created: a no that is neither 408 nor 5xx."""
    if not isinstance(error, WolfAPIError):
        return False
    status = deciding(error.code, error.http_status)
    return status != _REQUEST_TIMEOUT and not 500 <= status < 600


def _log_outcome(creation: _Creation, task: asyncio.Task[CreatedTask]) -> None:
    """Log how a creation ended whose caller is gone: nobody else will tell."""
    name, account = creation.draft.name, creation.account
    if task.cancelled():
        if creation.was_out:
            logger.warning("the task %r for %s was not created; its caller had left", name, account)
        return
    error = task.exception()
    if error is None:
        uuid = task.result().uuid
        logger.warning(
            "the task %r for %s was created (%s); its caller had left", name, account, uuid
        )
    else:
        logger.warning("the task %r for %s, whose caller had left: %s", name, account, error)
