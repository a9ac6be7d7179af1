"""When accounts are asked for, and what is published: in virtual time, with scripted updates."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from client.virtual_time import run

from wolf_async import WolfClosedError
from wolf_async.dashboard.events import EventLog
from wolf_async.dashboard.feed import Feed
from wolf_async.dashboard.rows import Rows

from .answers import NOON, USER, answered, init_of, line

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from wolf_async.watch import AccountUpdate


class Source:
    """Answers every second with one more free call; counts how often asking began, and ended."""

    def __init__(self) -> None:
        self.began = 0
        self.running = 0
        self.answers = 0
        self.error: Exception | None = None

    async def updates(self) -> AsyncGenerator[AccountUpdate, None]:
        self.began += 1
        self.running += 1
        try:
            while True:
                if self.error is not None:
                    raise self.error
                self.answers += 1
                yield answered(init_of(line("a", self.answers, 1000)))
                await asyncio.sleep(1)
        finally:
            self.running -= 1


class Fed:
    """A feed with its log."""

    def __init__(self, *, every: float = 1.0, idle: float = 60.0) -> None:
        self.source = Source()
        self.rows = Rows([USER], every, wall=lambda: NOON)
        self.log = EventLog(self.rows.snapshot, keep=10_000)
        self.feed = Feed(self.source.updates, self.rows, self.log, every=every, idle=idle)

    async def aclose(self) -> None:
        self.log.close()
        await self.feed.aclose()
        assert self.source.running == 0

    def published(self, name: str, *, after: int = -1) -> list[Any]:
        """Return the data of all events of that name."""
        found: list[Any] = []
        for event in self.log.after(after)[0].decode().split("\n\n")[:-1]:
            _, kind, data = event.split("\n")
            if kind == f"event: {name}":
                found.append(json.loads(data.removeprefix("data: ")))
        return found


def test_nothing_is_asked_before_anybody_looks() -> None:
    async def main() -> None:
        fed = Fed()
        await asyncio.sleep(100)
        assert fed.source.began == 0
        await fed.aclose()

    run(main())


def test_one_source_serves_all_who_look_and_ends_a_minute_after_the_last_has_left() -> None:
    async def main() -> None:
        fed = Fed()
        with fed.feed.viewer(), fed.feed.viewer():
            with fed.feed.viewer():
                await asyncio.sleep(10)
            await asyncio.sleep(100)
        await asyncio.sleep(59.9)
        assert (fed.source.began, fed.source.running) == (1, 1)
        await asyncio.sleep(0.2)
        assert fed.source.running == 0
        await fed.aclose()

    run(main())


def test_who_comes_back_within_the_minute_finds_it_running_and_later_begins_anew() -> None:
    async def main() -> None:
        fed = Fed(idle=5)
        with fed.feed.viewer():
            await asyncio.sleep(1)
        await asyncio.sleep(4)
        with fed.feed.viewer():
            await asyncio.sleep(10)
            assert (fed.source.began, fed.source.running) == (1, 1)
        await asyncio.sleep(6)
        assert fed.source.running == 0
        with fed.feed.viewer():
            await asyncio.sleep(1)
            assert (fed.source.began, fed.source.running) == (2, 1)
        await fed.aclose()

    run(main())


def test_who_looks_after_the_feed_had_stopped_sees_the_old_answers_as_stale_at_once() -> None:
    async def main() -> None:
        fed = Fed(idle=5)
        with fed.feed.viewer():
            await asyncio.sleep(1.5)
        await asyncio.sleep(100)
        with fed.feed.viewer():
            (snapshot,) = fed.published("snapshot", after=-2)
        assert (snapshot["rows"][0]["state"], snapshot["rows"][0]["reason"]) == ("stale", "Overdue")
        await fed.aclose()

    run(main())


def test_a_change_is_published_within_a_quarter_of_a_second_and_a_tick_once_a_period() -> None:
    async def main() -> None:
        fed = Fed(every=2.0)
        with fed.feed.viewer():
            await asyncio.sleep(8.4)
        changes = [patch["free"] for event in fed.published("changes") for patch in event]
        assert changes == list(range(1, 10))
        assert len(fed.published("tick")) == 5
        assert len(fed.published("points")) == 1
        await fed.aclose()

    run(main())


def test_a_source_that_fails_is_shown_logged_and_begun_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        fed = Fed()
        fed.source.error = WolfClosedError("the client is closed")
        with fed.feed.viewer():
            await asyncio.sleep(0.5)
            assert fed.rows.all_failed
            assert fed.published("changes")[-1][0]["reason"] == "WolfClosedError"
            fed.source.error = None
            await asyncio.sleep(5)
            assert not fed.rows.all_failed
        assert fed.source.began == 2
        await fed.aclose()

    run(main())
    assert [record.getMessage() for record in caplog.records] == [
        "the dashboard cannot ask: WolfClosedError: the client is closed"
    ]


def test_closing_ends_the_source_at_once_and_nobody_begins_it_again() -> None:
    async def main() -> None:
        fed = Fed()
        with fed.feed.viewer():
            await asyncio.sleep(1)
            await fed.aclose()
            with fed.feed.viewer():
                await asyncio.sleep(1)
        assert fed.source.began == 1
        assert fed.source.running == 0

    run(main())
