"""What stands behind the methods of the structs: lines with room, opening hours, moments. Pure functions.

What the vendor does not document is an inference here, and named as one in the methods' docstrings.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, time, timedelta, timezone, tzinfo
from typing import TYPE_CHECKING, Final, TypeAlias

from wolf_async.errors import WolfConfigError
from wolf_async.policy import check_count

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wolf_async.models import DialTimeDay, Line, TimeRange

__all__ = [
    "ZONE",
    "carriers",
    "first_moment",
    "id_text",
    "moment_in",
    "name_text",
    "open_at",
    "week_of",
]

ZONE: Final = "Asia/Shanghai"
"""The zone of all times of the API, as far as its samples tell; nothing states it."""

# It has had no other offset since 1991, so that the default needs no time zone database.
_ZONE: Final = timezone(timedelta(hours=8), ZONE)
_DAY: Final = timedelta(days=1)
_HORIZON: Final = timedelta(days=8)
# compiled at first use, for the sake of those who import it and never look at hours
_CLOCK: Final = r"([0-9]{1,2}):([0-9]{2})(?::([0-9]{2}))?"

Span: TypeAlias = tuple[timedelta, timedelta]
"""Begin (included) and end (excluded) of an open span, since midnight by the wall clock."""
Week: TypeAlias = tuple[tuple[Span, ...], ...]
"""The open spans of seven days, Sunday first."""


def moment_in(zone: object, at: object) -> datetime:
    """``at``, or now, as an aware datetime of that zone; a naive one is taken as being in the zone.

    Raises `WolfConfigError` for what is no datetime of the years 2 to 9998, and for an unknown zone.
    """
    where = _zone_of(zone)
    if at is None:
        return datetime.now(where)
    if not isinstance(at, datetime) or not 1 < at.year < 9999:
        raise WolfConfigError(
            f"at must be a datetime of the years 2 to 9998, or None for now, not {at!r}"
        )
    if at.utcoffset() is None:
        at = at.replace(tzinfo=where)
    # Through UTC, since a time that the zone's clocks skip has to become the one that they show then.
    return at.astimezone(UTC).astimezone(where)


def _zone_of(zone: object) -> tzinfo:
    if isinstance(zone, tzinfo):
        # one of pytz's attached to a datetime is at its local mean time, minutes off; by name it is right
        return _zone_of(str(zone)) if hasattr(zone, "localize") else zone
    if zone == ZONE:
        return _ZONE
    expected = "a tzinfo or the name of a time zone that this system knows"
    if not isinstance(zone, str):
        raise WolfConfigError(f"zone must be {expected}, not {zone!r}")
    from zoneinfo import ZoneInfo  # noqa: PLC0415 (not at import: the usual zone needs none of it)

    try:
        return ZoneInfo(zone)
    except (
        KeyError,
        ValueError,
        OSError,
    ) as error:  # unknown; no name at all; the name of a directory
        raise WolfConfigError(f"zone must be {expected}, not {zone!r}") from error


def id_text(id: object) -> str:
    """An id as text, since the API has the same id as an int in one place and as a string in another."""
    if isinstance(id, bool) or not isinstance(id, (int, str)):
        raise WolfConfigError(f"id must be an int or a str, not {id!r}")
    # what it holds: str() of an enum's member is its name
    return str.__str__(id) if isinstance(id, str) else int.__repr__(id)


def name_text(name: object) -> str:
    """A name, or `WolfConfigError` for what is no string."""
    if not isinstance(name, str):
        raise WolfConfigError(f"name must be a str, not {name!r}")
    return name


def carriers(
    lines: Iterable[Line], n: int, *, at: datetime | None, usage: int | None, zone: str | tzinfo
) -> tuple[Line, ...]:
    """Those of the lines that can carry ``n`` more calls each; see `Line.can_carry`."""
    check_count("n", n)
    if usage is not None:
        check_count("usage", usage)
    moment = moment_in(zone, at)
    return tuple(
        line
        for line in lines
        if line.residue is not None
        and line.residue >= n
        and _is_for(line, usage)
        and not _has_ended(line, moment)
    )


def _is_for(line: Line, usage: int | None) -> bool:
    if usage is None:
        return True
    return line.new_line is not None and bool((line.new_line.usage or 0) & usage)


def _has_ended(line: Line, moment: datetime) -> bool:
    if line.available_at is None:
        return False
    # Datetimes of one zone compare by their wall clocks; against UTC, an hour that comes twice counts twice.
    return line.available_at.replace(tzinfo=moment.tzinfo) <= moment.astimezone(UTC)


def week_of(content: Iterable[DialTimeDay], sunday: int) -> Week:
    """The open spans of a time group, by day; ``sunday`` is the number that `week` gives to Sunday.

    Raises `WolfConfigError` if that is no number from 0 to 6.
    """
    check_count("sunday", sunday, least=0)
    if sunday > 6:
        raise WolfConfigError(f"sunday must be a whole number from 0 to 6, not {sunday!r}")
    week: list[list[Span]] = [[] for _ in range(7)]
    for day in content:
        if day.week is not None and day.week in range(7):
            week[(day.week - sunday) % 7] += filter(None, map(span_of, day.times))
    return tuple(map(tuple, week))


def span_of(times: TimeRange) -> Span | None:
    """When it begins and ends, since midnight; ``None`` if that cannot be read."""
    begin, end = _read_clock(times.begin_time), _read_clock(times.end_time)
    if begin is None or end is None:
        return None
    # An end at 00:00 is the midnight after the day, not the one before. A span that ends before its begin holds nothing.
    return begin, end or _DAY


def _read_clock(clock: str | None) -> timedelta | None:
    match = re.fullmatch(_CLOCK, clock or "")
    if match is None:
        return None
    hours, minutes, seconds = (int(digits or 0) for digits in match.groups())
    since = timedelta(hours=hours, minutes=minutes, seconds=seconds)
    return since if max(minutes, seconds) < 60 and since <= _DAY else None


def open_at(week: Week, wall: datetime) -> bool:
    """Whether the week is open when the wall clock shows that."""
    since = _since_midnight_of(wall)
    return any(begin <= since < end for begin, end in week[_day_of(wall)])


def first_moment(week: Week, start: datetime, *, is_open: bool) -> datetime | None:
    """The first moment from ``start`` on, within eight days, at which the week is open, or is closed.

    ``start`` is aware; the hours are those of its zone's wall clock.
    """
    zone = start.tzinfo
    assert zone is not None
    moment = start.astimezone(UTC)
    last = moment + _HORIZON
    while moment <= last:
        wall = moment.astimezone(zone)
        if open_at(week, wall) is is_open:
            return wall
        moment = _unless_shifted(zone, moment, moment + _to_next_edge(week, wall))
    return None


def _to_next_edge(week: Week, wall: datetime) -> timedelta:
    """How long until a span of that day begins or ends, or until the day does."""
    since = _since_midnight_of(wall)
    edges = (edge for span in week[_day_of(wall)] for edge in span)
    return min((edge for edge in edges if edge > since), default=_DAY) - since


def _day_of(wall: datetime) -> int:
    return wall.isoweekday() % 7


def _since_midnight_of(wall: datetime) -> timedelta:
    return wall.replace(tzinfo=None) - datetime.combine(wall, time())


def _unless_shifted(zone: tzinfo, moment: datetime, then: datetime) -> datetime:
    """``then``, or the moment before it at which the zone's clocks are put forward or back."""
    before = moment.astimezone(zone).utcoffset()
    if then.astimezone(zone).utcoffset() == before:
        return then
    while then - moment > timedelta.resolution:
        middle = moment + (then - moment) / 2
        if middle.astimezone(zone).utcoffset() == before:
            moment = middle
        else:
            then = middle
    return then
