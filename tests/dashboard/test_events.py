"""The log from which browsers read: what comes next, or a snapshot for who is far behind."""

from __future__ import annotations

import asyncio

from wolf_async.dashboard.events import EventLog


def log_of(keep: int = 3) -> EventLog:
    return EventLog(lambda: {"all": True}, keep=keep)


def kinds(events: bytes) -> list[str]:
    lines = events.decode().splitlines()
    return [line.removeprefix("event: ") for line in lines if line.startswith("event: ")]


def id_of(events: bytes) -> str:
    return events.decode().rpartition("id: ")[2].splitlines()[0]


def test_an_event_is_written_as_the_standard_asks() -> None:
    log = log_of()
    log.add("tick", {"text": "a\nb\r\u2028"})
    events, newest = log.after(-1)
    assert events.endswith(b'\nevent: tick\ndata: {"text":"a\\nb\\r\xe2\x80\xa8"}\n\n')
    assert newest == 0


def test_who_has_nothing_gets_a_snapshot_and_then_what_follows() -> None:
    log = log_of()
    events, number = log.after(None)
    assert kinds(events) == ["snapshot"]
    assert log.after(number) == (b"", number)
    log.add("one", 1)
    log.add("two", 2)
    events, number = log.after(number)
    assert kinds(events) == ["one", "two"]
    assert log.after(number) == (b"", number)


def test_who_was_away_catches_up_and_who_was_away_too_long_gets_a_snapshot() -> None:
    log = log_of(keep=3)
    _, number = log.after(None)
    for name in "abc":
        log.add(name, None)
    assert kinds(log.after(number)[0]) == ["a", "b", "c"]
    log.add("d", None)
    assert kinds(log.after(number)[0]) == ["snapshot"]
    assert kinds(log.after(number + 1)[0]) == ["b", "c", "d"]


def test_the_snapshot_carries_the_number_of_the_newest_event() -> None:
    log = log_of()
    log.add("a", None)
    events, newest = log.after(None)
    assert log.number_of(id_of(events)) == newest == 0


def test_a_snapshot_is_made_once_for_all_who_need_it_at_that_moment() -> None:
    made: list[int] = []
    log = EventLog(lambda: made.append(1))
    log.add("a", None)
    assert log.after(None) == log.after(None)
    assert len(made) == 1
    log.add("b", None)
    log.after(None)
    assert len(made) == 2


def test_an_id_of_another_server_or_of_no_server_is_not_known() -> None:
    log, other = log_of(), log_of()
    for each in (log, other):
        each.add("a", None)
    seen = id_of(log.after(None)[0])
    assert log.number_of(seen) == 0
    assert other.number_of(seen) is None
    epoch = seen.partition("-")[0]
    for bad in (
        None,
        "",
        "5",
        epoch,
        f"{epoch}-",
        f"{epoch}--1",
        f"{epoch}-x",
        f"{epoch}-{'9' * 5000}",
    ):
        assert log.number_of(bad) is None
    assert kinds(log.after(log.number_of(f"{epoch}-99"))[0]) == ["snapshot"]


async def test_who_waits_is_woken_by_an_event_and_by_the_end() -> None:
    log = log_of()
    waiting = [asyncio.create_task(log.wait()) for _ in range(2)]
    await asyncio.sleep(0)
    log.add("a", None)
    await asyncio.gather(*waiting)
    ending = asyncio.create_task(log.wait())
    await asyncio.sleep(0)
    log.close()
    await ending
    assert log.closed
