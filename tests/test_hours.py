"""Opening hours, against a model that looks at every minute of eight days by the wall clock."""

from __future__ import annotations

import sys
import zoneinfo
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from typing import TYPE_CHECKING, Any, NamedTuple
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import sample

from wolf_async import Account, DialTimeDay, TaskDialTime, TaskInit, TimeRange, WolfConfigError
from wolf_async.models import dec_hook
from wolf_async.testing import synthetic_task_init

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SHANGHAI = timezone(timedelta(hours=8))
MINUTE = timedelta(minutes=1)
MONDAY = datetime(2025, 11, 24)
THE_MONDAY = MONDAY.date()
DAY_NAMES = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
WEEKDAYS = (*DAY_NAMES[1:], "Sunday")  # as datetime.weekday() counts them


def span(begin: str | None, end: str | None) -> TimeRange:
    return TimeRange(begin_time=begin, end_time=end)


def group(days: dict[int | None, list[tuple[str | None, str | None]]]) -> TaskDialTime:
    return group_of([(week, [span(*times) for times in spans]) for week, spans in days.items()])


def group_of(days: list[tuple[int | None, list[TimeRange]]]) -> TaskDialTime:
    return TaskDialTime(
        id=1,
        name=None,
        user_id=None,
        content=tuple(DialTimeDay(week=week, times=tuple(times)) for week, times in days),
        is_default=None,
        remark=None,
        created_at=None,
        updated_at=None,
    )


def every_day(*spans: tuple[str | None, str | None]) -> TaskDialTime:
    return group({week: list(spans) for week in range(7)})


ALWAYS = every_day(("00:00", "24:00"))
NEVER = group({})


def monday(clock: str) -> datetime:
    return datetime.fromisoformat(f"{MONDAY.date()} {clock}")


def open_minutes(hours: TaskDialTime) -> list[str]:
    """Return the runs of open minutes of the Monday, as ``HH:MM-HH:MM``: first and last minute."""
    minutes = [MONDAY + number * MINUTE for number in range(1440)]
    found = {at for at in minutes if hours.is_open(at)}
    firsts = sorted(at for at in found if at - MINUTE not in found)
    lasts = sorted(at for at in found if at + MINUTE not in found)
    return [f"{first:%H:%M}-{last:%H:%M}" for first, last in zip(firsts, lasts, strict=True)]


def runs(hours: TaskDialTime, day: date) -> list[str]:
    """Write a day's hours as ``HH:MM-HH:MM``, opening to closing; 00:00 is the next midnight."""
    found: list[str] = []
    opening = hours.next_opening(datetime(day.year, day.month, day.day))
    while opening and opening.date() == day:
        closing = hours.next_closing(opening)
        assert closing is not None
        found.append(f"{opening:%H:%M}-{closing:%H:%M}")
        opening = hours.next_opening(closing)
    return found


# The model


class Written(NamedTuple):
    """A span as it is written, and the minutes of the day that it opens."""

    span: TimeRange
    minutes: range


MINUTES = st.integers(0, 1439) | st.integers(0, 240) | st.integers(1380, 1439)
UNREADABLE = st.sampled_from(
    [
        None,
        "",
        "9",
        "9:5",
        "9:00pm",
        "24:01",
        "25:00",
        "12:60",
        "-1:00",
        "9\uff1a00",
        "九点",
        " 9:00",
        "09:00\n",
        "9:00:",
    ]
)


def written(minute: int, padded: bool) -> str:
    hour = f"{minute // 60:02}" if padded else str(minute // 60)
    return f"{hour}:{minute % 60:02}"


@st.composite
def spans(draw: st.DrawFn) -> Written:
    begin, end = draw(MINUTES), draw(MINUTES | st.just(1440) | st.just(0))
    text, until = written(begin, draw(st.booleans())), written(end, draw(st.booleans()))
    match draw(st.integers(0, 9)):
        case 0:
            return Written(span(draw(UNREADABLE), until), range(0))
        case 1:
            return Written(span(text, draw(UNREADABLE)), range(0))
        case _:
            return Written(span(text, until), range(begin, end or 1440))


class Case(NamedTuple):
    """A time group, the days and minutes at which it is open, and how to ask for it."""

    hours: TaskDialTime
    open: set[tuple[str, int]]
    at: datetime
    zone: ZoneInfo
    sunday: int

    def ask(self, question: Callable[..., Any]) -> Any:
        return question(self.at, zone=self.zone, sunday=self.sunday)

    def model(self) -> Iterator[tuple[datetime, bool]]:
        """Each minute of eight days, in UTC, and whether it is open."""
        for number in range(8 * 1440 + 1):
            moment = self.at + number * MINUTE
            yield moment, self.is_open(moment)

    def is_open(self, moment: datetime) -> bool:
        wall = moment.astimezone(self.zone)
        return (WEEKDAYS[wall.weekday()], wall.hour * 60 + wall.minute) in self.open

    def first(self, wanted: bool) -> datetime | None:
        return next((moment for moment, is_open in self.model() if is_open is wanted), None)


# a day near which the zone's clocks are put forward or back
SHIFTS = [
    ("Asia/Shanghai", "2025-11-22"),
    ("Europe/Berlin", "2025-03-30"),
    ("Europe/Berlin", "2025-10-26"),
    ("America/New_York", "2025-03-09"),
    ("America/New_York", "2025-11-02"),
    ("Australia/Lord_Howe", "2025-04-06"),  # by half an hour
    ("Australia/Lord_Howe", "2025-10-05"),
    ("Africa/Casablanca", "2025-02-23"),
    ("America/Santiago", "2025-09-07"),  # over midnight
    ("America/Havana", "2025-11-02"),
    ("Pacific/Apia", "2011-12-30"),  # by a whole day
]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    sunday = draw(st.integers(0, 6))
    numbers = {name: (number + sunday) % 7 for number, name in enumerate(DAY_NAMES)}
    days = draw(
        st.lists(st.tuples(st.sampled_from(DAY_NAMES), st.lists(spans(), max_size=3)), max_size=5)
    )
    if draw(st.booleans()):  # the same hours every day, so that closings and shifts are met often
        days = [(name, days[0][1] if days else []) for name in DAY_NAMES]
    content: list[tuple[int | None, list[TimeRange]]] = [
        (numbers[name], [each.span for each in times]) for name, times in days
    ]
    if draw(st.booleans()):
        content.append((draw(st.sampled_from([None, -1, 7, 8])), [span("00:00", "24:00")]))
    zone, day = draw(st.sampled_from(SHIFTS))
    offset = timedelta(minutes=draw(st.integers(-10 * 1440, 2 * 1440) | st.integers(-1440, 1440)))
    at = datetime.fromisoformat(day).replace(tzinfo=UTC) + offset
    is_open = {(name, minute) for name, times in days for each in times for minute in each.minutes}
    return Case(group_of(content), is_open, at, ZoneInfo(zone), sunday)


@given(cases())
@settings(max_examples=60, deadline=None)
def test_a_group_is_open_when_the_model_is(case: Case) -> None:
    for moment in (case.at + number * 61 * MINUTE for number in range(200)):
        assert case._replace(at=moment).ask(case.hours.is_open) is case.is_open(moment), moment


@given(cases())
@settings(max_examples=60, deadline=None)
def test_the_next_opening_is_the_models_first_open_minute(case: Case) -> None:
    found = case.ask(case.hours.next_opening)
    expected = case.first(wanted=True)
    assert (found and found.astimezone(UTC)) == expected
    assert found is None or found.tzinfo is case.zone


@given(cases())
@settings(max_examples=60, deadline=None)
def test_the_next_closing_is_the_models_first_closed_minute(case: Case) -> None:
    found = case.ask(case.hours.next_closing)
    expected = case.first(wanted=False)
    assert (found and found.astimezone(UTC)) == expected
    assert found is None or found.tzinfo is case.zone


@given(cases(), st.integers(1, 59_999_999))
@settings(max_examples=100, deadline=None)
def test_within_a_minute_nothing_changes(case: Case, microseconds: int) -> None:
    later = case._replace(at=case.at + timedelta(microseconds=microseconds))
    is_open = case.ask(case.hours.is_open)
    assert later.ask(case.hours.is_open) is is_open
    now, other = (case.hours.next_opening, case.hours.next_closing)[:: 1 if is_open else -1]
    assert later.ask(now).astimezone(UTC) == later.at
    found, expected = later.ask(other), case.ask(other)
    if expected is not None:
        assert found.astimezone(UTC) == expected.astimezone(UTC)


# The documented sample and the synthetic accounts


def test_the_sample_is_open_twice_a_day() -> None:
    init = msgspec.convert(sample()["data"], TaskInit, dec_hook=dec_hook)
    hours = init.task_dial_times[0]
    for number in range(7):
        day = THE_MONDAY + timedelta(days=number)
        assert runs(hours, day) == ["09:00-12:00", "13:00-18:00"]
    assert hours.next_opening(monday("12:00")) == datetime(2025, 11, 24, 13, tzinfo=SHANGHAI)
    assert hours.next_opening(monday("18:00")) == datetime(2025, 11, 25, 9, tzinfo=SHANGHAI)
    assert hours.next_closing(monday("09:00")) == datetime(2025, 11, 24, 12, tzinfo=SHANGHAI)


def test_the_groups_of_synthetic_accounts_open_when_their_names_say() -> None:
    working_days, weekend = DAY_NAMES[1:6], ("Saturday", "Sunday")
    expected: dict[str | None, tuple[tuple[str, ...], list[str]]] = {
        "系统呼叫时间": (DAY_NAMES, ["09:00-12:00", "13:00-18:00"]),
        "晚间外呼": (DAY_NAMES, ["18:00-21:00"]),
        "周末时段": (weekend, ["10:00-12:00", "14:00-17:30"]),
        "早间回访": (working_days, ["09:00-11:30", "13:30-17:00"]),
        "全天": (DAY_NAMES, ["00:00-23:59"]),
        "工作日加夜间": (working_days, ["09:00-12:00", "13:00-18:00", "20:00-00:00"]),
    }
    seen: set[str | None] = set()
    for number in range(20):
        init = msgspec.convert(
            synthetic_task_init(number, Account("u")), TaskInit, dec_hook=dec_hook
        )
        for hours in init.task_dial_times:
            if hours.name not in seen:
                seen.add(hours.name)
                days, spans = expected[hours.name]
                for day in (THE_MONDAY + timedelta(days=offset) for offset in range(7)):
                    assert runs(hours, day) == (spans if f"{day:%A}" in days else []), hours.name
    assert seen == set(expected)


# What is written, and what it means


@pytest.mark.parametrize(
    ("spans", "expected"),
    [
        ([("9:00", "9:30")], ["09:00-09:29"]),
        ([("09:00", "12:00"), ("12:00", "13:00")], ["09:00-12:59"]),
        ([("10:00", "11:00"), ("09:00", "10:30")], ["09:00-10:59"]),
        ([("00:00", "24:00")], ["00:00-23:59"]),
        ([("0:00", "0:01")], ["00:00-00:00"]),
        ([("22:00", "24:00")], ["22:00-23:59"]),
        ([("22:00", "00:00")], ["22:00-23:59"]),
        ([("22:00", "0:00")], ["22:00-23:59"]),
        ([("00:00", "00:00")], ["00:00-23:59"]),
        ([("24:00", "24:00")], []),
        ([("24:00", "00:00")], []),
        ([("22:00", "06:00")], []),
        ([("09:00", "09:00")], []),
        ([("09:00:00", "09:30:00")], ["09:00-09:29"]),
        ([], []),
        ([(None, "12:00")], []),
        ([("09:00", None)], []),
        ([(None, None), ("13:00", "14:00")], ["13:00-13:59"]),
        ([("09:00", "25:00")], []),
        ([("09:00", "12:60")], []),
        ([("09:00", "24:01")], []),
        ([("09:00", "")], []),
        ([("09:00", "12.00")], []),
        ([("९:००", "12:00")], []),
    ],
)
def test_a_span_opens_the_minutes_that_it_says(
    spans: list[tuple[str | None, str | None]], expected: list[str]
) -> None:
    assert open_minutes(group({1: spans})) == expected


def test_a_begin_belongs_to_its_span_and_an_end_does_not() -> None:
    hours = group({1: [("09:00", "12:00")]})
    tick = timedelta.resolution
    at = [monday("09:00") - tick, monday("09:00"), monday("12:00") - tick, monday("12:00")]
    assert [hours.is_open(moment) for moment in at] == [False, True, True, False]
    assert hours.next_opening(at[0]) == at[1].replace(tzinfo=SHANGHAI)
    assert hours.next_closing(at[2]) == at[3].replace(tzinfo=SHANGHAI)


def test_seconds_count_where_they_are_written() -> None:
    hours = group({1: [("09:00:15", "09:00:45")]})
    assert [hours.is_open(monday(f"09:00:{second}")) for second in (14, 15, 44, 45)] == [
        False,
        True,
        True,
        False,
    ]


def test_a_span_to_midnight_and_one_from_midnight_have_no_closed_moment_between() -> None:
    for end in ("24:00", "00:00"):
        hours = group({1: [("22:00", end)], 2: [("00:00", "01:00")]})
        assert hours.next_closing(monday("23:00")) == datetime(2025, 11, 25, 1, tzinfo=SHANGHAI)


def test_entries_for_the_same_day_add_up() -> None:
    hours = group_of([(1, [span("09:00", "10:00")]), (2, []), (1, [span("11:00", "12:00")])])
    assert open_minutes(hours) == ["09:00-09:59", "11:00-11:59"]


@pytest.mark.parametrize("week", [None, -1, 7, 8, -6])
def test_a_day_that_is_none_never_opens(week: int | None) -> None:
    hours = group({week: [("00:00", "24:00")]})
    assert hours.next_opening(MONDAY) is None


def test_a_group_without_a_day_never_opens_and_is_closed_now() -> None:
    for hours in (NEVER, every_day(), group({1: []})):
        assert not hours.is_open()
        assert hours.next_opening() is None
        assert hours.next_closing(MONDAY) == MONDAY.replace(tzinfo=SHANGHAI)


def test_a_group_that_is_always_open_does_not_close() -> None:
    assert ALWAYS.next_closing(MONDAY) is None
    assert ALWAYS.next_opening(MONDAY) == MONDAY.replace(tzinfo=SHANGHAI)


@pytest.mark.parametrize(
    ("sunday", "name"), [(0, "Monday"), (6, "Tuesday"), (1, "Sunday"), (5, "Wednesday")]
)
def test_the_number_of_sunday_says_which_day_is_meant(sunday: int, name: str) -> None:
    found = group({1: [("09:00", "10:00")]}).next_opening(MONDAY, sunday=sunday)
    assert found is not None
    assert f"{found:%A %H:%M}" == f"{name} 09:00"


def test_the_opening_of_next_week_is_found_and_one_that_is_farther_is_not() -> None:
    hours = group({1: [("09:00", "09:01")]})
    assert hours.next_opening(monday("09:01")) == datetime(2025, 12, 1, 9, tzinfo=SHANGHAI)
    skipped = group({0: [("02:10", "02:50")]})  # on 30 March 2025 Berlin's clocks skip it
    assert skipped.next_opening(datetime(2025, 3, 23, 3), zone="Europe/Berlin") is None
    eight_days_before = datetime(2025, 3, 29, 0, 10, tzinfo=UTC)
    assert (
        skipped.next_opening(eight_days_before - timedelta.resolution, zone="Europe/Berlin") is None
    )
    found = skipped.next_opening(eight_days_before, zone="Europe/Berlin")
    assert found == datetime(2025, 4, 6, 2, 10, tzinfo=ZoneInfo("Europe/Berlin"))


# Zones


def test_a_moment_without_a_zone_is_one_of_the_zone_and_any_other_is_converted() -> None:
    hours = group({1: [("09:00", "10:00")]})
    assert hours.is_open(monday("09:30"))
    assert not hours.is_open(monday("09:30").replace(tzinfo=UTC))
    assert hours.is_open(monday("01:30").replace(tzinfo=UTC))
    assert hours.is_open(monday("09:30"), zone="Europe/Berlin")
    assert hours.is_open(monday("09:30"), zone=timezone(timedelta(hours=-3)))
    assert hours.is_open(monday("08:30").replace(tzinfo=UTC), zone="Europe/Berlin")


class LikePytz(tzinfo):
    """A zone as pytz has them: at local mean time, unless ``localize`` has chosen another."""

    def localize(self, at: datetime) -> datetime:
        raise NotImplementedError

    def utcoffset(self, at: datetime | None) -> timedelta:
        return timedelta(hours=8, minutes=6)

    def dst(self, at: datetime | None) -> timedelta:
        return timedelta()

    def tzname(self, at: datetime | None) -> str:
        return "LMT"

    def __str__(self) -> str:
        return "Asia/Shanghai"


def test_a_zone_of_pytz_is_taken_by_its_name() -> None:
    hours = group({1: [("09:00", "10:00")]})
    assert hours.is_open(monday("09:00"), zone=LikePytz())
    assert not hours.is_open(monday("10:00"), zone=LikePytz())
    assert hours.next_opening(monday("08:00"), zone=LikePytz()) == monday("09:00").replace(
        tzinfo=SHANGHAI
    )


@pytest.mark.parametrize(
    ("zone", "offset"),
    [
        ("Asia/Shanghai", 8),
        ("Europe/Berlin", 1),
        (ZoneInfo("Asia/Tokyo"), 9),
        (timezone(timedelta(hours=-3)), -3),
    ],
)
def test_what_comes_back_is_aware_and_in_the_zone(zone: str | tzinfo, offset: int) -> None:
    for found in (ALWAYS.next_opening(MONDAY, zone=zone), NEVER.next_closing(MONDAY, zone=zone)):
        assert found is not None
        assert found.utcoffset() == timedelta(hours=offset)
        assert found.replace(tzinfo=None) == MONDAY
        assert str(found.tzinfo) == str(zone)


def test_without_a_moment_it_is_now() -> None:
    before = datetime.now(UTC)
    found = [
        ALWAYS.next_opening(),
        NEVER.next_closing(zone="Europe/Berlin"),
        ALWAYS.next_opening(None),
    ]
    after = datetime.now(UTC)
    assert all(moment is not None and before <= moment <= after for moment in found)
    assert ALWAYS.is_open()


def test_where_the_clocks_skip_a_begin_it_opens_when_they_are_put_forward() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    hours = every_day(("02:30", "04:00"))
    found = hours.next_opening(datetime(2025, 3, 30, 1), zone=berlin)
    assert found == datetime(2025, 3, 30, 3, tzinfo=berlin)
    # a time that does not exist is the one that the clocks show then
    assert hours.next_opening(datetime(2025, 3, 30, 2, 10), zone=berlin) == datetime(
        2025, 3, 30, 3, 10, tzinfo=berlin
    )
    assert not every_day(("02:00", "03:00")).is_open(datetime(2025, 3, 30, 2, 30), zone=berlin)


def test_where_an_hour_comes_twice_it_opens_twice() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    hours = every_day(("02:10", "02:20"))
    first = datetime(2025, 10, 26, 2, 10, tzinfo=berlin)
    second = first.replace(fold=1)
    found = [
        hours.next_opening(datetime(2025, 10, 26, 1), zone=berlin),
        hours.next_opening(datetime(2025, 10, 26, 2, 20), zone=berlin),
    ]
    assert [moment and moment.astimezone(UTC) for moment in found] == [
        first.astimezone(UTC),
        second.astimezone(UTC),
    ]
    # open from the shift on: the first hour ended beyond the span, the second begins within it
    reopened = every_day(("00:30", "02:15")).next_opening(
        datetime(2025, 10, 26, 2, 30), zone=berlin
    )
    assert reopened is not None
    assert reopened.astimezone(UTC) == datetime(2025, 10, 26, 1, tzinfo=UTC)


@pytest.fixture
def no_zone_database(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = zoneinfo.TZPATH
    zoneinfo.reset_tzpath(to=())
    ZoneInfo.clear_cache()
    monkeypatch.setitem(sys.modules, "tzdata", None)
    yield
    zoneinfo.reset_tzpath(to=before)


@pytest.mark.usefixtures("no_zone_database")
def test_the_default_zone_needs_no_time_zone_database() -> None:
    assert every_day(("09:00", "10:00")).is_open(monday("09:30"))
    assert ALWAYS.is_open(MONDAY, zone="Asia/Shanghai")
    with pytest.raises(WolfConfigError, match="'Europe/Berlin'"):
        ALWAYS.is_open(MONDAY, zone="Europe/Berlin")


# What makes no sense

LIMITS = [datetime(1, 12, 31), datetime(9999, 1, 1)]
QUESTIONS = [ALWAYS.is_open, ALWAYS.next_opening, ALWAYS.next_closing]


@pytest.mark.parametrize("ask", QUESTIONS)
@pytest.mark.parametrize(
    "zone",
    [
        "Mars/Olympus",
        "",
        "Asia",
        "../etc/passwd",
        "/etc/localtime",
        "a\0b",
        "\udc80",
        8,
        None,
        b"UTC",
    ],
)
def test_an_unknown_zone_is_refused(ask: Callable[..., Any], zone: Any) -> None:
    with pytest.raises(WolfConfigError) as caught:
        ask(MONDAY, zone=zone)
    expected = "zone must be a tzinfo or the name of a time zone that this system knows, not "
    assert str(caught.value) == f"{expected}{zone!r}"


@pytest.mark.parametrize("ask", QUESTIONS)
@pytest.mark.parametrize("at", ["2025-11-24", 0, 1.5, date(2025, 11, 24), *LIMITS, False])
def test_what_is_no_moment_is_refused(ask: Callable[..., Any], at: Any) -> None:
    with pytest.raises(WolfConfigError) as caught:
        ask(at)
    expected = "at must be a datetime of the years 2 to 9998, or None for now, not "
    assert str(caught.value) == f"{expected}{at!r}"


@pytest.mark.parametrize("ask", QUESTIONS)
@pytest.mark.parametrize("sunday", [-1, 7, True, 0.0, "0", None])
def test_a_number_of_sunday_that_is_none_is_refused(ask: Callable[..., Any], sunday: Any) -> None:
    with pytest.raises(WolfConfigError, match=r"^sunday must be a whole number from 0.*, not "):
        ask(MONDAY, sunday=sunday)


@pytest.mark.parametrize("zone", ["Asia/Shanghai", "America/New_York", "Pacific/Kiritimati"])
@pytest.mark.parametrize("at", [datetime(2, 1, 1), datetime(9998, 12, 31, 23, 59)])
def test_the_first_and_the_last_years_work(zone: str, at: datetime) -> None:
    assert ALWAYS.next_closing(at, zone=zone) is None
    assert NEVER.next_opening(at, zone=zone) is None
