"""Read opening hours and moments by a zone's wall clock. Pure functions over times and spans.

What the vendor does not document is an inference here; the methods of the structs say so.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, time, timedelta, timezone, tzinfo
from typing import TYPE_CHECKING, Final, TypeAlias

from wolf_async.errors import WolfConfigError
from wolf_async.policy import check_count

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "ZONE",
    "Span",
    "Week",
    "first_moment",
    "has_passed",
    "moment_in",
    "open_at",
    "read_stamp",
    "span_of",
    "week_of",
    "write_stamp",
]

ZONE: Final = "Asia/Shanghai"
"""The zone of all times of the API, as far as its samples tell; nothing states it."""

# It has had no other offset since 1991, so that the default needs no time zone database.
_ZONE: Final = timezone(timedelta(hours=8), ZONE)
_DAY: Final = timedelta(days=1)
_HORIZON: Final = timedelta(days=8)
# compiled at first use, for the sake of those who import it and never look at hours
_STAMP: Final = r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}(:[0-9]{2})?"
_CLOCK: Final = r"([0-9]{1,2}):([0-9]{2})(?::([0-9]{2}))?"

Span: TypeAlias = tuple[timedelta, timedelta]
"""Begin (included) and end (excluded) of an open span, since midnight by the wall clock."""
Week: TypeAlias = tuple[tuple[Span, ...], ...]
"""The open spans of seven days, Sunday first."""


def moment_in(zone: object, at: object) -> datetime:
    """Return ``at``, or now, as an aware datetime of that zone; a naive one is the zone's.

    Raises `WolfConfigError` for what is no datetime of the years 2 to 9998, and for an unknown
    zone.
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
    # Through UTC, since a time that the zone's clocks skip becomes the one that they show then.
    return at.astimezone(UTC).astimezone(where)


def read_stamp(text: str, zone: str | tzinfo) -> datetime:
    """Read ``YYYY-MM-DD HH:MM:SS``, or the same without seconds, as an aware datetime of that zone.

    Raises `ValueError` for another text, and for a year that is not from 2 to 9998.
    """
    if re.fullmatch(_STAMP, text) is None:
        raise ValueError(f"not a time as YYYY-MM-DD HH:MM:SS: {text!r}")
    moment = datetime.fromisoformat(text)
    if not 1 < moment.year < 9999:
        raise ValueError(f"not a time of the years 2 to 9998: {text!r}")
    return moment_in(zone, moment)


def write_stamp(at: datetime, zone: str | tzinfo, *, seconds: bool = True) -> str:
    """Write a datetime by the zone's wall clock as ``YYYY-MM-DD HH:MM:SS``; a naive one as it is.

    Fractions of a second are dropped; without ``seconds``, seconds are too.
    """
    timespec = "seconds" if seconds else "minutes"
    return moment_in(zone, at).replace(tzinfo=None).isoformat(" ", timespec)


def _zone_of(zone: object) -> tzinfo:
    if isinstance(zone, tzinfo):
        # a zone of pytz, attached to a datetime, is minutes off (local mean time), not so by name
        return _zone_of(str(zone)) if hasattr(zone, "localize") else zone
    if zone == ZONE:
        return _ZONE
    expected = "a tzinfo or the name of a time zone that this system knows"
    if not isinstance(zone, str):
        raise WolfConfigError(f"zone must be {expected}, not {zone!r}")
    from zoneinfo import ZoneInfo  # noqa: PLC0415 (not at import: the usual zone needs none of it)

    try:
        return ZoneInfo(zone)
    except (KeyError, ValueError, OSError) as error:  # unknown; no name at all; a directory's name
        raise WolfConfigError(f"zone must be {expected}, not {zone!r}") from error


def has_passed(end: datetime | None, moment: datetime) -> bool:
    """Return whether an end, read in the zone of that moment, has come; a missing one never has."""
    if end is None:
        return False
    # Datetimes of one zone compare by their wall clocks; against UTC, an hour that comes twice
    # counts twice.
    return end.replace(tzinfo=moment.tzinfo) <= moment.astimezone(UTC)


def week_of(days: Iterable[tuple[int | None, Iterable[Span | None]]], sunday: int) -> Week:
    """Sort the open spans of numbered days into a week.

    ``sunday`` is the number that the days give to Sunday; a day that is not 0 to 6, and a span that
    is ``None``, count for nothing. Raises `WolfConfigError` if ``sunday`` is not from 0 to 6.
    """
    check_count("sunday", sunday, least=0)
    if sunday > 6:
        raise WolfConfigError(f"sunday must be a whole number from 0 to 6, not {sunday!r}")
    week: list[list[Span]] = [[] for _ in range(7)]
    for number, spans in days:
        if number is not None and number in range(7):
            week[(number - sunday) % 7] += filter(None, spans)
    return tuple(map(tuple, week))


def span_of(begin: str | None, end: str | None) -> Span | None:
    """Return when a span begins and ends, since midnight; ``None`` if that cannot be read."""
    first, last = _read_clock(begin), _read_clock(end)
    if first is None or last is None:
        return None
    # An end at 00:00 is the midnight after the day, not the one before. A span that ends before
    # its begin holds nothing.
    return first, last or _DAY


def _read_clock(clock: str | None) -> timedelta | None:
    match = re.fullmatch(_CLOCK, clock or "")
    if match is None:
        return None
    hours, minutes, seconds = (int(digits or 0) for digits in match.groups())
    since = timedelta(hours=hours, minutes=minutes, seconds=seconds)
    return since if max(minutes, seconds) < 60 and since <= _DAY else None


def open_at(week: Week, wall: datetime) -> bool:
    """Return whether the week is open when the wall clock shows that."""
    since = _since_midnight_of(wall)
    return any(begin <= since < end for begin, end in week[_day_of(wall)])


def first_moment(week: Week, start: datetime, *, is_open: bool) -> datetime | None:
    """Find the first moment from ``start`` on, within eight days, at which the week is open.

    With ``is_open=False`` find the first at which it is closed. ``start`` is aware; the hours are
    those of its zone's wall clock. Returns ``None`` if there is no such moment.
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
    """Return how long it is until a span of that day begins or ends, or until the day ends."""
    since = _since_midnight_of(wall)
    edges = (edge for span in week[_day_of(wall)] for edge in span)
    return min((edge for edge in edges if edge > since), default=_DAY) - since


def _day_of(wall: datetime) -> int:
    return wall.isoweekday() % 7


def _since_midnight_of(wall: datetime) -> timedelta:
    return wall.replace(tzinfo=None) - datetime.combine(wall, time())


def _unless_shifted(zone: tzinfo, moment: datetime, then: datetime) -> datetime:
    """Return ``then``, or the moment before it at which the clocks are put forward or back."""
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
