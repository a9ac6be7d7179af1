"""What the page shows of each account, and how that changes with answers, errors and time."""

from __future__ import annotations

from typing import Any

import pytest

from wolf_async import Account, WolfAuthError, WolfServerError
from wolf_async.dashboard.rows import POINT_SECONDS, POINTS, Rows
from wolf_async.testing import FakeClock

from .answers import NOON, USER, answered, failed, group, init_of, line

OTHER = Account("other")
ALL_DAY = ("00:00", "24:00")


class Watched:
    """Two accounts on a clock that the test moves; `shown` is what a browser knows of the first."""

    def __init__(self, every: float = 1.0) -> None:
        self.clock = FakeClock(1000.0)
        self.wall = FakeClock(NOON)
        self.rows = Rows([USER, OTHER], every, clock=self.clock, wall=self.wall)
        self.shown: dict[str, Any] = self.rows.snapshot()["rows"][0]
        self.rows.begin()

    def after(self, seconds: float) -> dict[str, Any]:
        """Let time pass, and look."""
        self.clock.advance(seconds)
        self.wall.advance(seconds)
        return self.look()

    def look(self) -> dict[str, Any]:
        for patch in self.rows.changes():
            if patch["i"] == 0:
                self.shown |= patch
        return self.shown

    def state(self, seconds: float = 0.0) -> tuple[str, str | None]:
        shown = self.after(seconds)
        return shown["state"], shown["reason"]


@pytest.fixture
def watched() -> Watched:
    return Watched()


# --- states ------------------------------------------------------------------------------------


def test_an_account_waits_for_its_first_answer_however_long_that_takes(watched: Watched) -> None:
    assert watched.state() == ("waiting", None)
    assert watched.state(60) == ("waiting", None)
    watched.rows.hear(answered(init_of(line("a"))))
    assert watched.state() == ("ok", None)


def test_an_account_is_stale_at_once_and_failing_after_five_seconds_of_errors(
    watched: Watched,
) -> None:
    watched.rows.hear(answered(init_of(line("a"))))
    assert watched.state(1) == ("ok", None)
    watched.rows.hear(failed())
    assert watched.state() == ("stale", "WolfServerError")
    assert watched.shown["text"] == "the server said no"
    for _ in range(4):
        watched.clock.advance(1)
        watched.rows.hear(failed())
    assert watched.state(0.9)[0] == "stale"
    assert watched.state(0.1) == ("failing", "WolfServerError")
    watched.rows.hear(answered(init_of(line("a"))))
    assert watched.state() == ("ok", None)
    assert watched.shown["text"] is None


def test_an_account_that_never_answered_waits_with_a_reason_before_it_fails(
    watched: Watched,
) -> None:
    watched.rows.hear(failed(error=WolfAuthError("401")))
    assert watched.state() == ("waiting", "WolfAuthError")
    assert watched.state(5) == ("failing", "WolfAuthError")


def test_an_answer_that_is_overdue_by_two_periods_makes_stale_and_then_failing(
    watched: Watched,
) -> None:
    watched.rows.hear(answered(init_of(line("a"))))
    assert watched.state(3.0) == ("ok", None)
    assert watched.state(0.1) == ("stale", "Overdue")
    assert watched.state(2.8) == ("stale", "Overdue")
    assert watched.state(0.2) == ("failing", "Overdue")


def test_an_account_that_fails_for_want_of_an_answer_goes_on_failing_when_the_error_comes(
    watched: Watched,
) -> None:
    watched.rows.hear(answered(init_of(line("a"))))
    assert watched.state(6.1) == ("failing", "Overdue")
    watched.rows.hear(failed())
    assert watched.state() == ("failing", "WolfServerError")
    watched.rows.hear(answered(init_of(line("a"))))
    assert watched.state() == ("ok", None)


def test_with_long_periods_an_account_fails_after_three_of_them() -> None:
    watched = Watched(every=10.0)
    watched.rows.hear(answered(init_of(line("a"))))
    watched.rows.hear(failed())
    assert watched.state(29.9)[0] == "stale"
    assert watched.state(0.1)[0] == "failing"


def test_an_answer_that_stands_in_is_stale_and_keeps_the_reason_that_is_known(
    watched: Watched,
) -> None:
    watched.rows.hear(answered(init_of(line("a", 3)), is_stale=True))
    assert watched.state() == ("stale", "Stale")
    assert watched.shown["free"] == 3
    watched.rows.hear(failed())
    watched.rows.hear(answered(init_of(line("a", 3)), is_stale=True))
    assert watched.state() == ("stale", "WolfServerError")


def test_when_asking_begins_again_the_old_answer_is_stale_and_does_not_fail_at_once(
    watched: Watched,
) -> None:
    watched.rows.hear(answered(init_of(line("a"))))
    watched.clock.advance(3600)
    watched.rows.begin()
    assert watched.state() == ("stale", "Overdue")
    assert watched.state(4.9) == ("stale", "Overdue")
    watched.rows.hear(answered(init_of(line("a"))))
    assert watched.state() == ("ok", None)


def test_all_have_failed_only_if_the_newest_question_about_each_did(watched: Watched) -> None:
    watched.rows.hear(failed())
    assert not watched.rows.all_failed
    watched.rows.hear(failed(OTHER))
    assert watched.rows.all_failed
    watched.rows.hear(answered(init_of(line("a")), is_stale=True))
    assert watched.rows.all_failed
    watched.rows.hear(answered(init_of(line("a"))))
    assert not watched.rows.all_failed


def test_where_nothing_can_be_asked_every_account_says_why(watched: Watched) -> None:
    watched.rows.fail_all(WolfServerError("gone"))
    assert watched.rows.all_failed
    assert watched.state(5) == ("failing", "WolfServerError")


# --- lines and hours ---------------------------------------------------------------------------


def test_the_sums_are_of_the_outbound_lines_that_have_not_ended(watched: Watched) -> None:
    lines = (
        line("a", 3, 10),
        line("b", None, 7),
        line("c", 9, 9, available_at="2020-01-01 00:00:00"),
    )
    watched.rows.hear(answered(init_of(*lines, call_in_line_list=[line("in", 50, 50)])))
    assert (watched.look()["free"], watched.shown["total"], watched.shown["lines"]) == (3, 17, 2)


def test_a_line_leaves_the_sums_when_it_ends_without_a_new_answer(watched: Watched) -> None:
    lines = (line("a", 3, 10), line("b", 4, 10, available_at="2026-11-25 12:00:02"))
    watched.rows.hear(answered(init_of(*lines)))
    assert watched.after(1.9)["free"] == 7
    assert watched.after(0.1)["free"] == 3


@pytest.mark.parametrize(
    ("groups", "is_open", "until"),
    [
        ([], None, None),
        ([group(("09:00", "12:30"))], True, "04:30"),
        ([group(("09:00", "12:30")), group(("12:20", "15:00"))], True, "07:00"),
        ([group(("13:00", "15:00")), group(("12:10", "15:00"))], False, "04:10"),
        ([group(ALL_DAY)], True, None),
        ([group(("09:00", "12:00")), group(ALL_DAY)], True, None),
        ([group()], False, None),
    ],
)
def test_an_account_is_open_while_any_time_group_is(
    watched: Watched, groups: list[dict[str, Any]], is_open: bool | None, until: str | None
) -> None:
    watched.rows.hear(answered(init_of(line("a"), task_dial_times=groups)))
    shown = watched.look()
    assert shown["open"] is is_open
    hour, minute = map(int, (until or "04:00").split(":"))
    assert shown["until"] == (None if until is None else NOON + (hour - 4) * 3600 + minute * 60)


def test_the_hours_change_when_their_time_comes_without_a_new_answer(watched: Watched) -> None:
    hours = [group(("09:00", "12:01"), ("13:00", "18:00"))]
    watched.rows.hear(answered(init_of(line("a"), task_dial_times=hours)))
    assert watched.look()["open"] is True
    assert watched.after(60)["open"] is False
    assert watched.shown["until"] == NOON + 3600


# --- what is sent ------------------------------------------------------------------------------


def test_only_what_changed_is_sent(watched: Watched) -> None:
    watched.rows.hear(answered(init_of(line("a", 5))))
    watched.look()
    watched.rows.hear(answered(init_of(line("a", 5))))
    assert watched.rows.changes() == []
    watched.rows.hear(answered(init_of(line("a", 4))))
    assert watched.rows.changes() == [{"i": 0, "free": 4}]


def test_new_names_are_told_apart_from_new_numbers(watched: Watched) -> None:
    watched.rows.hear(answered(init_of(line("a", 5))))
    before = watched.look()["names"]
    watched.rows.hear(answered(init_of(line("a", 5, remark="new"))))
    assert watched.rows.changes() == [{"i": 0, "names": before + 1}]


def test_a_tick_has_the_age_of_every_answer_in_seconds(watched: Watched) -> None:
    watched.rows.hear(answered(init_of(line("a")), at=NOON - 2.5))
    assert watched.rows.tick() == {"now": int(NOON), "ages": [3, None]}


def test_the_course_has_a_point_every_15_seconds_for_15_minutes_and_gaps_where_nobody_knew(
    watched: Watched,
) -> None:
    watched.rows.hear(answered(init_of(line("a", 5))))
    watched.look()
    assert watched.rows.points() == [5, None]
    assert watched.rows.points() is None
    watched.after(POINT_SECONDS)  # nothing was heard meanwhile
    assert watched.shown["state"] == "failing"
    assert watched.rows.points() == [None, None]
    watched.rows.hear(answered(init_of(line("a", 4))))
    watched.after(0)
    watched.clock.advance(2 * POINT_SECONDS)  # nobody looked
    assert watched.rows.points() == [4, None]
    assert watched.rows.snapshot()["rows"][0]["course"] == [5, None, None, 4]
    for _ in range(100):
        watched.clock.advance(POINT_SECONDS)
        watched.rows.points()
    assert len(watched.rows.snapshot()["rows"][0]["course"]) == POINTS < 60


def test_the_filter_looks_into_ids_and_names_and_remarks_of_lines_whatever_the_case(
    watched: Watched,
) -> None:
    init = init_of(line("a", remark="Straße"), call_in_line_list=[line("b", remark="来电")])
    watched.rows.hear(answered(init))
    for text in ("MAIN", "n:su", "Line A", "STRASSE", "来电", "line b"):
        assert watched.rows.matching(text) == [0], text
    assert watched.rows.matching("OTHER") == [1]
    assert watched.rows.matching("") == [0, 1]
    assert watched.rows.matching("line c") == []
