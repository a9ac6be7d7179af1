"""Tell listeners of each thing that has finished in a client, as one frozen event.

An `Event` is one of `RequestEvent`, `LoadEvent`, `WaitEvent` (which has a `WaitOutcome`),
`RepairEvent`, `EvictionEvent`, `GateEvent` and `BreakerEvent`. A `Listener` is any callable that
takes one: ``WolfClient(listeners=[print])``. It is called in the event loop, in the order in which
things end, and has to return soon. One that raises is logged once and called on; nothing else
notices. Where nobody listens, no event is made, but for the rare ones of repairs, gate and breaker,
from which their log lines and counts come.

A listener may also have a method ``capture()``. It is called in the caller's own context when a
call begins or joins a load, and what it returns comes back as ``captured`` in the events of that
load and of that call: a load runs in an empty context, and could not find its caller by itself.
What a listener returns for a `LoadEvent` comes back as ``load`` in its events of the calls that
waited for that load. And it may have a method ``is_idle()``: while all listeners return true there,
it is as if nobody listened.

>>> import asyncio
>>> from wolf_async import WolfClient
>>> from wolf_async.events import Event, LoadEvent
>>> from wolf_async.testing import Sandbox
>>> def log(event: Event) -> None:
...     if isinstance(event, LoadEvent):
...         print(event.outcome, [request.status for request in event.requests])
>>> async def main() -> None:
...     async with Sandbox() as box:
...         async with WolfClient(box.token, base_url=box.base_url, listeners=[log]) as wolf:
...             await wolf.task_init(box.users[0])
>>> asyncio.run(main())
value [200]
"""

from __future__ import annotations

import logging
from asyncio import CancelledError
from time import perf_counter, time
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, cast

import msgspec
from msgspec.structs import replace

from wolf_async.account import Account
from wolf_async.errors import WolfConfigError
from wolf_async.logs import ThrottledLogger, logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = [
    "BreakerEvent",
    "Event",
    "EvictionEvent",
    "GateEvent",
    "Listener",
    "LoadEvent",
    "RepairEvent",
    "RequestEvent",
    "WaitEvent",
    "WaitOutcome",
]


CANCELLED: Final = "CancelledError"
"""The class of error of what was cancelled."""


WaitOutcome: TypeAlias = Literal["value", "stale", "failure", "left"]
"""How a wait ended; `WaitEvent` tells what each means."""


class RequestEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One request has ended, with whatever answer or error.

    Attributes:
        account: the account that it asked for, or for which it creates a task.
        method: ``GET`` or ``POST``.
        base_url: the deployment that was asked.
        began_at: when it was sent, in seconds since the epoch.
        seconds: how many seconds it took, until the whole answer was read.
        attempt: 1 for the first request of its load or creation, 2 for the next one, and so on.
        status: status of the HTTP response; ``None`` without one.
        error: class of the error if there was no response, or ``CancelledError``; ``None``
            otherwise.

    """

    account: Account
    method: str
    base_url: str
    began_at: float
    seconds: float
    attempt: int
    status: int | None
    error: str | None


class LoadEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One load has ended: all requests for one account that were made for one or more callers.

    Attributes:
        account: the account that was loaded.
        began_at: when it began, in seconds since the epoch.
        seconds: how many seconds it took, pauses and waits for a place included.
        outcome: ``value``, ``failure``, or ``abandoned`` if it was cancelled, since its last waiter
            had left or the client was closed.
        error: class of the error of a failure; ``None`` otherwise.
        background: whether a stale hit began it, as a refresh behind it.
        requests: its requests, in order.
        captured: what the listener's ``capture()`` returned for the caller who began it. Of a load
            that had to wait for the one before, that is its first waiter.

    """

    account: Account
    began_at: float
    seconds: float
    outcome: Literal["value", "failure", "abandoned"]
    error: str | None
    background: bool
    requests: tuple[RequestEvent, ...]
    captured: Any = None


class WaitEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One call that waited for a load has got what it waited for, or has left.

    Attributes:
        account: the account that was asked for.
        began_at: when the call began to wait, in seconds since the epoch.
        seconds: how many seconds it waited.
        outcome: ``value``, ``failure``, ``stale`` if the load failed and an older answer stood in,
            or ``left`` if the call was cancelled.
        joined: whether another call had asked for the load.
        load: what the listener returned for the event of the load. ``None`` for a call that left
            before the load ended.
        captured: what the listener's ``capture()`` returned for this call.

    """

    account: Account
    began_at: float
    seconds: float
    outcome: WaitOutcome
    joined: bool
    load: Any = None
    captured: Any = None


class RepairEvent(msgspec.Struct, frozen=True, kw_only=True):
    """A quirk in an answer was put right.

    Attributes:
        account: the account whose answer it was.
        path: where it was, as in ``$.data.caller_line_list[].residue``; ``[]`` is any item of a
            list.
        found: what was expected there, and what came.
        number: 1 for the first quirk of its answer, 2 for the next one, and so on.

    """

    account: Account
    path: str
    found: str
    number: int = 1


class EvictionEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An answer, or a remembered failure, that still had a use was dropped to make room.

    Attributes:
        account: the account whose answer it was.

    """

    account: Account


class GateEvent(msgspec.Struct, frozen=True, kw_only=True):
    """The gate for all accounts was closed by a 429, met one more, or opened.

    Attributes:
        is_closed: whether it is closed now.
        seconds: for how many seconds no request is sent; 0 if it opened.
        refused: whether a request of this client got the 429; ``False`` if another process told of
            one, or if the gate opened.

    """

    is_closed: bool
    seconds: float
    refused: bool = False


class BreakerEvent(msgspec.Struct, frozen=True, kw_only=True):
    """The circuit breaker opened, stays open for longer, or closed.

    Attributes:
        is_open: whether it is open now, so that nothing is sent.
        seconds: for how many seconds no request is sent; 0 if it closed.
        failures: failed requests in a row; 0 if it closed.
        probed: whether it stays open because the request that probed has failed.

    """

    is_open: bool
    seconds: float
    failures: int
    probed: bool = False


Event: TypeAlias = (
    RequestEvent | LoadEvent | WaitEvent | RepairEvent | EvictionEvent | GateEvent | BreakerEvent
)
"""What a listener is told: any of these."""
Listener: TypeAlias = "Callable[[Event], object]"
"""A function that is told of each event; it may have the methods ``capture`` and ``is_idle``."""


class Dispatcher:
    """Give each event to every listener; count those that are rare, and write their log lines."""

    __slots__ = ("_broken", "_log", "breaker_opened", "listeners", "repaired", "throttled")

    def __init__(
        self, listeners: Iterable[Listener] = (), log: ThrottledLogger | None = None
    ) -> None:
        self.listeners = _check_listeners(listeners)
        """Who is told."""
        self.repaired = 0
        """Answers that were decoded after quirks in them had been put right."""
        self.throttled = 0
        """Requests that the server refused as too many (429)."""
        self.breaker_opened = 0
        """How often the breaker has opened; a probe that fails does not count."""
        self._log = ThrottledLogger() if log is None else log
        self._broken: set[int] = set()

    def add(self, listener: Listener) -> None:
        """Tell one more listener, of what begins from now on."""
        self.listeners += _check_listeners([listener])

    def is_heard(self) -> bool:
        """Tell whether somebody listens now; else only the events for `note` need to be made."""
        return any(not self._is_idle(listener) for listener in self.listeners)

    def _is_idle(self, listener: Listener) -> bool:
        is_idle = getattr(listener, "is_idle", None)
        try:
            return is_idle is not None and bool(is_idle())
        except (Exception, CancelledError) as error:
            self._log_broken(listener, error)
            return False

    def capture(self) -> tuple[object, ...]:
        """Return what each listener captures of the running context."""
        captured: list[object] = []
        for listener in self.listeners:
            capture = getattr(listener, "capture", None)
            try:
                captured.append(None if capture is None else capture())
            except (Exception, CancelledError) as error:
                self._log_broken(listener, error)
                captured.append(None)
        return tuple(captured)

    def emit(
        self, event: Event, captured: tuple[object, ...] = (), load: tuple[object, ...] = ()
    ) -> tuple[object, ...]:
        """Give ``event`` to each listener, and return what each of them returned.

        ``captured`` is what `capture` returned for it, ``load`` what this returned for the load
        that it is about; each listener gets its own of them.
        """
        returned: list[object] = []
        for index, listener in enumerate(self.listeners):
            heard = event
            if index < len(load) and index < len(captured):
                heard = replace(event, captured=captured[index], load=load[index])
            elif index < len(captured):  # who has come meanwhile has captured nothing
                heard = replace(event, captured=captured[index])
            try:
                returned.append(listener(heard))
            except (Exception, CancelledError) as error:
                self._log_broken(listener, error)
                returned.append(None)
        return tuple(returned)

    def _log_broken(self, listener: Listener, error: BaseException) -> None:
        if id(listener) not in self._broken:
            self._broken.add(id(listener))
            message = "a listener has raised an error, which is logged this once: %r"
            logger.error(message, listener, exc_info=error)

    def evicted(self, key: Any) -> None:
        """Tell who listens that the answer of ``key`` was dropped to make room."""
        if self.is_heard():
            self.emit(EvictionEvent(account=Account(*key)))

    def note(self, event: RepairEvent | GateEvent | BreakerEvent) -> None:
        """Count a rare event, write its log line, and give it to each listener.

        The counts and the lines come from here alone, so that they agree with what is told.
        """
        match event:
            case RepairEvent():
                self._note_repair(event)
            case GateEvent():
                self._note_gate(event)
            case BreakerEvent():
                self._note_breaker(event)
        self.emit(event)

    def _note_repair(self, event: RepairEvent) -> None:
        self.repaired += event.number == 1
        message = "repaired an answer for %s: %s: %s"
        self._log(logging.WARNING, event.path, message, event.account, event.path, event.found)

    def _note_gate(self, event: GateEvent) -> None:
        self.throttled += event.refused
        if event.is_closed:
            message = "the server refuses requests as too many (429): none is sent for %.3g s"
            self._log(logging.WARNING, "gate", message, event.seconds)

    def _note_breaker(self, event: BreakerEvent) -> None:
        if event.is_open:
            self.breaker_opened += not event.probed
            message = "%d requests in a row have failed: none is sent for %.3g s"
            self._log(logging.WARNING, "breaker opened", message, event.failures, event.seconds)
        else:
            self._log(logging.WARNING, "breaker closed", "the upstream answers again")

    def __repr__(self) -> str:
        return f"<Dispatcher: {len(self.listeners)} listeners>"


class LoadRecord:
    """What a load gathers for its event, and for the events of those who wait for it.

    Make it in the context of the caller who begins the load, or who waits first for a queued one.
    """

    __slots__ = (
        "_account",
        "_background",
        "_captured",
        "_dispatcher",
        "_first",
        "_returned",
        "_started",
        "requests",
    )

    def __init__(self, dispatcher: Dispatcher, key: Any, *, background: bool) -> None:
        self.requests: list[RequestEvent] = []
        """The requests of the load so far."""
        self._dispatcher = dispatcher
        self._account = Account(*key)
        self._background = background
        self._captured = dispatcher.capture()
        self._started = 0.0
        self._first = not background
        """Whether the next one to wait is the caller for whom this was made."""
        self._returned: tuple[object, ...] = ()
        """What the listeners returned for the load's event."""

    def start(self) -> None:
        """Note that the load begins now."""
        self._started = perf_counter()

    def end(self, error: BaseException | None, *, abandoned: bool) -> None:
        """Tell who listens that the load has ended, in ``error`` or with a value."""
        seconds = perf_counter() - self._started
        failed = error is not None and not abandoned
        event = LoadEvent(
            account=self._account,
            began_at=time() - seconds,
            seconds=seconds,
            outcome="abandoned" if abandoned else "failure" if failed else "value",
            error=type(error).__name__ if failed else None,
            background=self._background,
            requests=tuple(self.requests),
        )
        self._returned = self._dispatcher.emit(event, self._captured)

    def new_wait(self) -> Callable[[WaitOutcome], None]:
        """Begin a wait for the load, in the caller's context; call what is returned at its end."""
        joined, self._first = not self._first, False
        captured = self._dispatcher.capture() if joined else self._captured
        started = perf_counter()

        def end(outcome: WaitOutcome) -> None:
            seconds = perf_counter() - started
            event = WaitEvent(
                account=self._account,
                began_at=time() - seconds,
                seconds=seconds,
                outcome=outcome,
                joined=joined,
            )
            self._dispatcher.emit(event, captured, self._returned)

        return end


def _check_listeners(listeners: object) -> tuple[Listener, ...]:
    try:
        checked = tuple(cast("Iterable[Listener]", listeners))
    except TypeError:
        raise WolfConfigError(f"listeners must be a list of functions, not {listeners!r}") from None
    for listener in checked:
        methods = [getattr(listener, name, None) for name in ("capture", "is_idle")]
        if not callable(listener) or not all(each is None or callable(each) for each in methods):
            raise WolfConfigError(
                f"a listener must be a function that takes an event, not {listener!r}"
            )
    return checked
