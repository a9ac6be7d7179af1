"""The connection to the server: batches of scripts, one subscription, and whether both work.

The mutable state is the queue of operations and two facts: *heard*, the subscription is confirmed
and answers each heartbeat, and *answering*, no operation has failed since the server last answered.
The link is up while both hold.
"""

from __future__ import annotations

import asyncio
import logging
import os
import weakref
from collections import deque
from contextlib import suppress
from contextvars import Context
from typing import TYPE_CHECKING, Any, Final, Protocol

from wolf_async.shared.scripts import HELLO, Script

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from wolf_async.logs import ThrottledLogger
    from wolf_async.shared.codec import Names
    from wolf_async.shared.settings import Settings

__all__ = ["Link", "LinkError", "LinkOwner", "Operation"]

_BATCH: Final = 64
_GRACE: Final = 3
"""Turns of the loop in which a reply may still be read that a busy loop has let lie."""
_PAUSE, _MAX_PAUSE = 0.05, 0.5
"""Seconds before the subscription is made again, at first and at most."""
_PROBE, _MAX_PROBE = 0.1, 2.0
"""Seconds before a server that failed to answer is asked again, at first and at most."""
_REFUSED, _MAX_REFUSED = 1.0, 30.0
"""Seconds before a server that refuses our commands is asked again, at first and at most."""


class LinkError(Exception):
    """An operation got no usable reply; the tier does without it."""

    def __init__(self, message: str, *, refused: bool = False) -> None:
        super().__init__(message)
        self.refused = refused
        """Whether the server answered, with a no."""


class LinkOwner(Protocol):
    """Who uses a link."""

    epoch: str
    """The namespace's epoch, as far as it is known."""

    def hear(self, message: bytes) -> None:
        """Take a message of the channel."""
        ...

    def changed(self) -> None:
        """Notice that the link has come up or gone down."""
        ...

    async def reconnected(self, epoch: str) -> None:
        """Mend what may have been missed, now that the subscription is there again.

        ``epoch`` is the server's.
        """
        ...

    def epoch_is(self, epoch: str, asked: str) -> None:
        """Compare the epoch that was read when ``asked`` was known."""
        ...


class Operation:
    """One run of a script: what is asked, and the future of the reply."""

    __slots__ = ("args", "key", "reply", "script")

    def __init__(
        self, script: Script, key: str, args: tuple[Any, ...], reply: asyncio.Future[Any]
    ) -> None:
        self.script = script
        self.key = key
        self.args = args
        self.reply = reply

    def command(self, how: str) -> tuple[Any, ...]:
        """Return the command.

        ``how`` is ``EVALSHA``, which names the script by its hash, or ``EVAL``, which holds it.
        """
        name = self.script.sha if how == "EVALSHA" else self.script.text
        return (how, name, 1, self.key, *self.args)


class Link:
    """Run scripts and hear messages, for one owner on one event loop of one process.

    It ends with its owner: when that is collected, the tasks and the connections go too.
    """

    def __init__(
        self,
        owner: LinkOwner,
        client: Any,
        settings: Settings,
        names: Names,
        *,
        log: ThrottledLogger,
        owns_client: bool,
    ) -> None:
        self.pid = os.getpid()
        self.loop = asyncio.get_running_loop()
        self.reconnects = 0
        """Times that the subscription was made anew."""
        self._owner = weakref.ref(owner, self._orphaned)
        self._client = client
        self._settings = settings
        self._names = names
        self._log = log
        self._owns_client = owns_client
        self._heard = self._answering = self._closed = self._ending = False
        self._refusals = 0
        """Refusals in a row, for the length of the pause after the next one."""
        self._recoveries = 0
        """Times that the link came up, so that what fails late is told from what fails now."""
        self._queue: deque[Operation] = deque()
        self._workers: set[asyncio.Task[None]] = set()
        self._tried = asyncio.Event()
        self._probing: asyncio.Task[None] | None = None
        self._keeper = self.spawn(self._keep())

    @property
    def is_current(self) -> bool:
        """Whether it belongs to this process and to the running loop."""
        return self.pid == os.getpid() and self.loop is asyncio.get_running_loop()

    @property
    def up(self) -> bool:
        """Whether messages are heard and operations answered."""
        return self._heard and self._answering

    async def ready(self) -> bool:
        """Wait for the end of the first try to connect, and tell whether the link is up."""
        if not self._tried.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(self._settings.connect_timeout):
                    await self._tried.wait()
            self._tried.set()  # one call waits for a server that hangs, not each
        return self.up

    # --- operations ------------------------------------------------------------------------------

    def submit(self, script: Script, key: str, *args: Any) -> asyncio.Future[Any]:
        """Run ``script`` with the others of this tick.

        The future gets the reply, or a `LinkError`.
        """
        reply: asyncio.Future[Any] = self.loop.create_future()
        reply.add_done_callback(_retrieve)
        if self._closed:
            reply.set_exception(LinkError("closed"))
            return reply
        self._queue.append(Operation(script, key, args, reply))
        if len(self._workers) < self._settings.max_connections - 1:  # one is the subscription's
            task = self.spawn(self._work())
            self._workers.add(task)
            task.add_done_callback(self._workers.discard)
        return reply

    async def reply(self, reply: asyncio.Future[Any]) -> Any:
        """Wait for the reply of `submit`, for the tier's ``timeout`` at most.

        Raises `LinkError`.
        """
        await asyncio.wait((reply,), timeout=self._settings.timeout)
        for _ in range(_GRACE):
            if not reply.done():
                await asyncio.sleep(0)
        if not reply.done():
            error = LinkError(f"no answer within {self._settings.timeout:g} s")
            self._failed(error)
            raise error
        return reply.result()

    async def _work(self) -> None:
        while self._queue:
            _heed_cancellation()
            size = min(_BATCH, len(self._queue))
            await self._exchange([self._queue.popleft() for _ in range(size)])

    async def _exchange(self, batch: list[Operation]) -> None:
        """Send a batch, and once more in full what the server does not know by its hash."""
        recoveries = self._recoveries
        try:
            replies = await self._pipeline("EVALSHA", batch)
            unknown = [i for i, reply in enumerate(replies) if _is_unknown(reply)]
            if unknown:
                again = await self._pipeline("EVAL", [batch[i] for i in unknown])
                for i, reply in zip(unknown, again, strict=True):
                    replies[i] = reply
        except Exception as error:  # of redis-py, of valkey-py, or of the system
            if recoveries == self._recoveries:  # or a connection that hung says what is over
                self._failed(error)
            replies = [LinkError(str(error))] * len(batch)
        except asyncio.CancelledError:
            _answer(batch, [LinkError("closed")] * len(batch))
            raise
        self._note_refusals(batch, replies)
        _answer(batch, replies)

    async def _pipeline(self, how: str, batch: list[Operation]) -> list[Any]:
        pipeline = self._client.pipeline(transaction=False)
        for operation in batch:
            pipeline.execute_command(*operation.command(how))
        # a client that was handed in may have no limit of its own, and keep a worker for good;
        # longer than an operation's, since a late reply is still read, to give a lease back
        async with asyncio.timeout(2 * self._settings.timeout):
            return list(await pipeline.execute(raise_on_error=False))

    # --- whether it works ------------------------------------------------------------------------

    def _note_refusals(self, batch: list[Operation], replies: list[Any]) -> None:
        refused = [r for r in replies if isinstance(r, Exception) and not isinstance(r, LinkError)]
        # a full server still reads, so that hits stay shared; it refuses the rest one by one
        told = [error for error in refused if not (_is_full(error) or _is_of_one_key(error))]
        if refused:
            self._warn("refuses a command", refused[0])
        if told:
            self._refusals += 1
            self._down(self._refused_pause())
        elif not refused and any(operation.script is not HELLO for operation in batch):
            # a heartbeat only reads, and says nothing of what was refused
            self._refusals = 0

    def _refused_pause(self) -> float:
        return min(_MAX_REFUSED, _REFUSED * 2.0 ** min(self._refusals - 1, 10))

    def _failed(self, error: Exception) -> None:
        if not self._closed:
            self._warn("does not answer", error)
            self._down(_PROBE)

    def _down(self, pause: float) -> None:
        if self._answering:
            self._answering = False
            self._tell_changed()
        # done, not cleared by itself: a probe that is cancelled before it begins clears nothing
        if self._heard and (self._probing is None or self._probing.done()):
            self._probing = self.spawn(self._probe(pause))

    async def _probe(self, pause: float) -> None:
        """Ask the server until it answers."""
        while True:
            await asyncio.sleep(pause)
            try:
                await self._forget_idle()
                async with asyncio.timeout(self._settings.timeout):
                    await self._client.ping()
                break
            except Exception:
                _heed_cancellation()
                pause = min(_MAX_PROBE, max(_PROBE, pause * 2))
        self._answering = True
        self._recoveries += 1
        self._tell_changed()

    async def _forget_idle(self) -> None:
        """Drop pooled connections, which may be dead without knowing it."""
        pool = getattr(self._client, "connection_pool", None)
        if pool is not None:
            # those of TLS wait for the other side's goodbye, and say if it did not come in time
            with suppress(Exception):
                await pool.disconnect(inuse_connections=False)

    def _tell_changed(self) -> None:
        owner = self._owner()
        if owner is not None:
            owner.changed()

    def _warn(self, what: str, error: Exception) -> None:
        text = "the shared tier %s (%s): %s; loads go on without it"
        self._log(logging.WARNING, "shared", text, what, type(error).__name__, error)

    # --- the subscription ------------------------------------------------------------------------

    async def _keep(self) -> None:
        """Keep the subscription for as long as the link lives, and close the client at the end."""
        pause, tries = _PAUSE, 0
        try:
            while True:
                try:
                    await self._session()
                except Exception as error:
                    _heed_cancellation()
                    tries = 1 if self._heard else tries + 1
                    pause = self._lost(error, tries)
                self._tried.set()
                await asyncio.sleep(pause)
                await self._forget_idle()
        finally:
            # before the client is closed, which makes fail what is under way
            self._heard = self._answering = False
            self._closed = True
            if self._owns_client:
                with suppress(Exception):  # nothing is left to be told
                    await self._client.aclose()

    def _lost(self, error: Exception, tries: int) -> float:
        """Count the subscription as gone; return the seconds after which it is tried again."""
        self._heard = self._answering = False
        if self._probing is not None:
            self._probing.cancel()
        self._warn("cannot be heard", error)
        self._tell_changed()
        if _is_refusal(error):
            # those of operations are counted where they are answered
            self._refusals += _is_denial(error)
            return self._refused_pause()
        return min(_MAX_PAUSE, _PAUSE * 2.0 ** min(tries - 1, 10))

    async def _session(self) -> None:
        """Subscribe, mend what was missed, and listen until something goes wrong."""
        pubsub = self._client.pubsub()
        try:
            async with asyncio.timeout(self._settings.connect_timeout):
                # a cluster's client learns of its nodes by its first command alone
                await self._client.ping()
                await pubsub.subscribe(self._names.channel)
                await self._confirmation(pubsub)
                epoch = await self._hello()
            owner = self._living_owner()
            # before the link counts as up: nobody may be served what a lost message has taken back
            await owner.reconnected(epoch)
            self._heard = self._answering = True
            self._recoveries += 1
            self._tried.set()
            owner.changed()
            del owner
            await self._listen(pubsub)
        finally:
            self.reconnects += self._heard
            with suppress(Exception):
                await pubsub.aclose()

    async def _confirmation(self, pubsub: Any) -> None:
        while True:
            message = await pubsub.get_message(timeout=self._settings.connect_timeout)
            if message is not None and message["type"] == "subscribe":
                return

    async def _hello(self) -> str:
        _heed_cancellation()
        owner = self._living_owner()
        epoch = await self.submit(HELLO, self._names.epoch_key, owner.epoch, self._names.channel)
        return _text_of(epoch)

    async def _listen(self, pubsub: Any) -> None:
        """Hand on messages.

        Raises `LinkError` after a heartbeat without any message, its own answer included.
        """
        while True:
            await pubsub.ping()
            _heed_cancellation()
            self._ask_epoch()
            ends = self.loop.time() + self._settings.heartbeat
            heard = False
            while (left := ends - self.loop.time()) > 0:
                heard |= self._take(await pubsub.get_message(timeout=left))
            # once more, for what a busy loop has let lie
            heard = self._take(await pubsub.get_message(timeout=0.001)) or heard
            if not heard:
                raise LinkError(f"nothing was heard for {self._settings.heartbeat:g} s")

    def _take(self, message: dict[str, Any] | None) -> bool:
        if message is None:
            return False
        if message["type"] == "subscribe":
            # the client has subscribed again by itself, and says nothing of what was lost
            raise LinkError("the subscription was lost meanwhile")
        if message["type"] == "message":
            self._living_owner().hear(message["data"])
        return True

    def _ask_epoch(self) -> None:
        asked = self._living_owner().epoch
        reply = self.submit(HELLO, self._names.epoch_key, asked, "")
        reply.add_done_callback(lambda done: self._compare_epoch(done, asked))

    def _compare_epoch(self, reply: asyncio.Future[Any], asked: str) -> None:
        owner = self._owner()
        if owner is not None and not reply.cancelled() and reply.exception() is None:
            owner.epoch_is(_text_of(reply.result()), asked)

    def _living_owner(self) -> LinkOwner:
        owner = self._owner()
        if owner is None:
            raise asyncio.CancelledError
        return owner

    # --- the end ---------------------------------------------------------------------------------

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Begin a task that ends before this link does."""
        # no caller's context, least of all the load in whose task this is begun
        return self.loop.create_task(coroutine, context=Context())

    def _orphaned(self, _: object) -> None:
        if not self.loop.is_closed() and self.pid == os.getpid():
            self.loop.call_soon_threadsafe(self._end)

    def _end(self) -> list[asyncio.Task[None]]:
        self._closed = True
        tasks = [*self._workers, self._keeper]
        if self._probing is not None:
            tasks.append(self._probing)
        # once: the second time would interrupt the clean-up, and leave connections open
        for task in () if self._ending else tasks:
            task.cancel()
        self._ending = True
        self._heard = self._answering = False
        return tasks

    async def aclose(self) -> None:
        """Give what is queued one try, and end every task and connection.

        The try takes the tier's ``timeout`` at most.
        """
        if self._workers and self.up:
            await asyncio.wait(set(self._workers), timeout=self._settings.timeout)
        await asyncio.wait(self._end())
        _answer(list(self._queue), [LinkError("closed")] * len(self._queue))
        self._queue.clear()

    def __repr__(self) -> str:
        return f"<Link: {'up' if self.up else 'down'}, {len(self._queue)} queued>"


def _answer(batch: list[Operation], replies: list[Any]) -> None:
    for operation, reply in zip(batch, replies, strict=True):
        if operation.reply.done():
            continue
        if isinstance(reply, Exception):
            refused = not isinstance(reply, LinkError)
            operation.reply.set_exception(LinkError(str(reply), refused=refused))
        else:
            operation.reply.set_result(reply)


def _text_of(epoch: bytes) -> str:
    """Return an epoch, which is one whatever somebody else has put in its place."""
    return epoch.decode("ascii", "backslashreplace")


def _retrieve(reply: asyncio.Future[Any]) -> None:
    """Mark the error of an operation as seen, which nobody may be left to see."""
    if not reply.cancelled():
        reply.exception()


def _heed_cancellation() -> None:
    """End this task if it was cancelled and the client has swallowed that.

    Clients wait with `asyncio.wait_for`, which did so before Python 3.12 where what it waited for
    had just been done.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def _kinds(error: object) -> set[str]:
    return {cls.__name__ for cls in type(error).__mro__}


def _is_unknown(reply: object) -> bool:
    return "NoScriptError" in _kinds(reply)


def _is_full(error: object) -> bool:
    # before Redis 7, a script's error says so in its text alone
    return "OutOfMemoryError" in _kinds(error) or "OOM" in str(error)


def _is_of_one_key(error: object) -> bool:
    """Tell whether something else stands in the key's place, which says nothing of the others."""
    return "WRONGTYPE" in str(error)


def _is_refusal(error: Exception) -> bool:
    if isinstance(error, LinkError):
        return error.refused
    return "ResponseError" in _kinds(error) or _is_denial(error)


def _is_denial(error: Exception) -> bool:
    """Tell whether it is for good, unlike what a cluster says that is down for the moment."""
    return not _kinds(error).isdisjoint(("NoPermissionError", "AuthenticationError"))
