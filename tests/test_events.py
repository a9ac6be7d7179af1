"""Tell each listener of what has finished, whatever the others do with it."""

from __future__ import annotations

import asyncio
import logging
from contextvars import ContextVar, copy_context
from typing import TYPE_CHECKING, Any

import pytest

from wolf_async import events
from wolf_async.account import Account
from wolf_async.errors import WolfConfigError
from wolf_async.events import (
    BreakerEvent,
    Dispatcher,
    Event,
    EvictionEvent,
    GateEvent,
    LoadEvent,
    RepairEvent,
    WaitEvent,
)

if TYPE_CHECKING:
    pass

ACCOUNT = Account("u", "s")
EVICTED = EvictionEvent(account=ACCOUNT)
GATE = GateEvent(is_closed=True, seconds=2.0)
REPAIRED = RepairEvent(account=ACCOUNT, path="$.data.end_actions", found="expected an object")
current: ContextVar[str] = ContextVar("current", default="nobody")


def loaded(**fields: Any) -> LoadEvent:
    given: dict[str, Any] = {
        "account": ACCOUNT,
        "began_at": 1.0,
        "seconds": 0.5,
        "outcome": "value",
        "error": None,
        "background": False,
        "requests": (),
    }
    return LoadEvent(**given | fields)


def waited(**fields: Any) -> WaitEvent:
    given: dict[str, Any] = {
        "account": ACCOUNT,
        "began_at": 1.0,
        "seconds": 0.5,
        "outcome": "value",
        "joined": True,
    }
    return WaitEvent(**given | fields)


class Tracer:
    """A listener that captures the caller, and gives each load a name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.heard: list[Event] = []

    def capture(self) -> str:
        return f"{self.name} saw {current.get()}"

    def __call__(self, event: Event) -> str:
        self.heard.append(event)
        return f"load of {self.name}"


def test_every_listener_hears_every_event_in_order() -> None:
    first: list[Event] = []
    second: list[Event] = []
    dispatcher = Dispatcher([first.append, second.append])
    dispatcher.emit(EVICTED)
    dispatcher.emit(GATE)
    assert first == second == [EVICTED, GATE]


def test_a_listener_that_comes_later_hears_what_ends_from_then_on() -> None:
    tracer, late = Tracer("first"), Tracer("late")
    dispatcher = Dispatcher([tracer])
    assert dispatcher.listeners == (tracer,)
    captured = dispatcher.capture()
    dispatcher.add(late)
    load = dispatcher.emit(loaded(), captured)
    dispatcher.emit(waited(), captured, load)
    assert late.heard == [loaded(), waited()]
    with pytest.raises(WolfConfigError, match="must be a function"):
        dispatcher.add(5)  # type: ignore[arg-type]


@pytest.mark.parametrize("raised", [ValueError("broken"), asyncio.CancelledError()])
def test_a_listener_that_raises_is_logged_once_and_harms_nobody(
    raised: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[Event] = []
    heard: list[Event] = []

    def broken(event: Event) -> None:
        calls.append(event)
        raise raised

    dispatcher = Dispatcher([broken, heard.append])
    for _ in range(3):
        dispatcher.emit(EVICTED)
    assert len(calls) == len(heard) == 3
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "a listener has raised an error" in caplog.text


def test_each_of_two_broken_listeners_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def one(event: Event) -> None:
        raise ValueError

    def other(event: Event) -> None:
        raise KeyError

    dispatcher = Dispatcher([one, other])
    dispatcher.emit(EVICTED)
    dispatcher.emit(EVICTED)
    assert len(caplog.records) == 2


def test_a_capture_that_raises_is_logged_once_and_gives_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken(Tracer):
        def capture(self) -> str:
            raise ValueError

    broken, good = Broken("broken"), Tracer("good")
    dispatcher = Dispatcher([broken, good])
    assert dispatcher.capture() == (None, "good saw nobody") == dispatcher.capture()
    assert len(caplog.records) == 1


def test_each_listener_gets_what_it_captured_itself_and_returned_for_the_load() -> None:
    one, other, plain = Tracer("one"), Tracer("other"), list[Event]()
    dispatcher = Dispatcher([one, other, plain.append])
    caller = copy_context()
    caller.run(current.set, "a caller")
    captured = caller.run(dispatcher.capture)
    load = dispatcher.emit(loaded(), captured)
    dispatcher.emit(waited(), captured, load)
    for tracer in (one, other):
        assert tracer.heard == [
            loaded(captured=f"{tracer.name} saw a caller"),
            waited(captured=f"{tracer.name} saw a caller", load=f"load of {tracer.name}"),
        ]
    assert plain == [loaded(), waited()]


@pytest.mark.parametrize("name", [name for name in events.__all__ if name.endswith("Event")])
def test_events_are_frozen_and_say_what_each_of_their_fields_is(name: str) -> None:
    if name == "Event":
        return
    cls = getattr(events, name)
    assert cls.__struct_config__.frozen
    assert cls.__doc__
    with pytest.raises(AttributeError):
        EVICTED.account = Account("other")  # type: ignore[misc]


class NoCapture:
    capture = "no function"

    def __call__(self, event: Event) -> None: ...


@pytest.mark.parametrize("listeners", [None, 5, print, [5], [print, None], [NoCapture()]], ids=repr)
def test_what_cannot_listen_is_refused(listeners: Any) -> None:
    with pytest.raises(WolfConfigError, match="must be a"):
        Dispatcher(listeners)


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (REPAIRED, "repaired an answer for Account(user_id='u', sub_user_id='s'): $.data.end_act"),
        (GATE, "the server refuses requests as too many (429): none is sent for 2 s"),
        (
            BreakerEvent(is_open=True, seconds=1.0, failures=10),
            "10 requests in a row have failed: none is sent for 1 s",
        ),
        (BreakerEvent(is_open=False, seconds=0.0, failures=0), "the upstream answers again"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_rare_events_are_logged_whether_anybody_listens_or_not(
    event: RepairEvent | GateEvent | BreakerEvent, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    Dispatcher().note(event)
    Dispatcher([print]).note(event)
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    assert all(text in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize("event", [EVICTED, loaded(), waited()], ids=["eviction", "load", "wait"])
def test_frequent_events_are_not_logged(event: Event, caplog: pytest.LogCaptureFixture) -> None:
    Dispatcher().emit(event)
    assert caplog.records == []
