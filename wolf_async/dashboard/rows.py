"""Keep what the page shows of each account, as it changes with answers, errors and time."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import msgspec

from wolf_async.dashboard.summary import Hours, Lines, hours_at, labels_of, lines_at
from wolf_async.models.hours import ZONE, moment_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from wolf_async.account import Account
    from wolf_async.answer import Answer
    from wolf_async.models import TaskInit
    from wolf_async.watch import AccountUpdate

__all__ = ["POINTS", "POINT_SECONDS", "AccountRow", "Rows", "View", "label_of"]

POINT_SECONDS: Final = 15.0
"""Seconds between two points of an account's course: 60 of them are 15 minutes."""
POINTS: Final = 59
"""Points that are kept; what is free now is the sixtieth."""

_OVERDUE: Final = 2
"""Periods after which a question that has no answer makes the account stale."""
_FAILING: Final = 3
_FAILING_SECONDS: Final = 5.0
"""An account in trouble counts as failing after the longer of three periods and this."""
_TEXT: Final = 400
"""Characters of an error's text that the page gets."""

State: TypeAlias = Literal["waiting", "ok", "stale", "failing"]
Patch: TypeAlias = dict[str, Any]


class View(msgspec.Struct, frozen=True):
    """What the page shows of an account without opening it; the names are those of its JSON."""

    state: State = "waiting"
    reason: str | None = None
    """Why it is not ok: the error's class, ``Stale`` (an answer stands in) or ``Overdue``."""
    text: str | None = None
    """The error's own words."""
    free: int | None = None
    total: int | None = None
    lines: int | None = None
    open: bool | None = None
    until: int | None = None
    """When it closes, or opens; seconds since 1970."""
    names: int = 0
    """Goes up when names or remarks of lines change."""


class AccountRow:
    """Keep one account: its last answer, the trouble it is in, and the course of what was free."""

    __slots__ = (
        "_confirmed",
        "_due",
        "_every",
        "_failed_at",
        "_groups",
        "_hours",
        "_lines",
        "_names",
        "_reason",
        "_text",
        "account",
        "answer",
        "course",
        "label",
        "labels",
    )

    def __init__(self, account: Account, every: float) -> None:
        self.account = account
        self.label = label_of(account)
        self.answer: Answer | None = None
        self.labels: tuple[str | None, ...] = ()
        self.course: deque[int | None] = deque(maxlen=POINTS)
        self._every = every
        self._names = 0
        self._lines: Lines | None = None
        self._groups: tuple[Any, ...] | None = None
        self._hours = Hours(None, None)
        self._failed_at: float | None = None
        self._reason: str | None = None
        self._text: str | None = None
        self._confirmed = False
        self._due = 0.0

    @property
    def failed(self) -> bool:
        """Whether the newest question failed."""
        return self._failed_at is not None

    def begin(self, now: float) -> None:
        """Count from now on: nobody asked before, so nothing is overdue and nothing is sure."""
        self._confirmed = False
        self._due = now
        if self.failed:
            self._failed_at = now

    def hear(self, update: AccountUpdate, now: float) -> None:
        """Take an answer or an error."""
        if update.answer is None:
            self.fail(type(update.error).__name__, str(update.error), now)
            return
        self._take(update.answer)
        if update.answer.is_stale:
            self.fail("Stale", None, now)
        else:
            self._failed_at = self._reason = self._text = None
            self._confirmed = True
            self._due = now + self._every

    def fail(self, reason: str, text: str | None, now: float) -> None:
        """Note that the newest question failed."""
        if self._failed_at is None:
            # the trouble began before its error came if the answer was overdue
            self._failed_at = self._trouble_since(now) or now
        if self._reason is None or reason != "Stale":  # an answer that stands in does not say why
            self._reason, self._text = reason, text and text[:_TEXT]

    def _take(self, answer: Answer) -> None:
        before, self.answer = self.answer, answer
        if before is not None and before.init is answer.init:
            return
        self._lines = None
        labels = labels_of(answer.init)
        if labels != self.labels:
            self.labels = labels
            self._names += 1
        if answer.init.task_dial_times != self._groups:
            self._groups = None

    def view(self, now: float, moment: datetime) -> View:
        """Show the account as it is at ``now`` of the monotonic clock, which is ``moment``."""
        state, reason = self._state(now)
        text = self._text if reason else None
        if self.answer is None:
            return View(state, reason, text)
        lines, hours = self._summary(self.answer.init, moment)
        until = None if hours.until is None else int(hours.until.timestamp())
        return View(
            state,
            reason,
            text,
            lines.free,
            lines.total,
            lines.count,
            hours.is_open,
            until,
            self._names,
        )

    def _state(self, now: float) -> tuple[State, str | None]:
        since = self._trouble_since(now)
        if since is None:
            return ("waiting" if self.answer is None else "ok"), None
        reason = self._reason or "Overdue"
        if now - since >= max(_FAILING_SECONDS, _FAILING * self._every):
            return "failing", reason
        return ("waiting" if self.answer is None else "stale"), reason

    def _trouble_since(self, now: float) -> float | None:
        if self._failed_at is not None:
            return self._failed_at
        if self.answer is None:  # the first answer takes as long as it takes, or fails
            return None
        is_late = not self._confirmed or now > self._due + _OVERDUE * self._every
        return self._due if is_late else None

    def _summary(self, init: TaskInit, moment: datetime) -> tuple[Lines, Hours]:
        """Sum up the answer, again only if it is new, a line ended or the hours changed."""
        if self._lines is None or (self._lines.until and self._lines.until <= moment):
            self._lines = lines_at(init, moment)
        if self._groups is None or (self._hours.until and self._hours.until <= moment):
            self._groups = init.task_dial_times
            self._hours = hours_at(self._groups, moment)
        return self._lines, self._hours


def _loop_time() -> float:
    return asyncio.get_running_loop().time()


class Rows:
    """Keep all accounts as they were last published, and tell what has changed since.

    ``clock`` is monotonic, the running loop's unless given, and ``wall`` counts from 1970; both
    are in seconds.
    """

    __slots__ = ("_clock", "_every", "_last_point", "_of", "_rows", "_views", "_wall")

    def __init__(
        self,
        accounts: Iterable[Account],
        every: float,
        *,
        clock: Callable[[], float] = _loop_time,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._rows = [AccountRow(account, every) for account in accounts]
        self._of = {row.account: row for row in self._rows}
        self._views = [View()] * len(self._rows)
        self._every = every
        self._clock = clock
        self._wall = wall
        self._last_point: int | None = None

    def begin(self) -> None:
        """Count from now on, because asking begins, or begins again."""
        for row in self._rows:
            row.begin(self._clock())

    def hear(self, update: AccountUpdate) -> None:
        """Take an answer or an error of one account."""
        self._of[update.account].hear(update, self._clock())

    def fail_all(self, error: Exception) -> None:
        """Note that nothing can be asked at all."""
        for row in self._rows:
            row.fail(type(error).__name__, str(error), self._clock())

    @property
    def all_failed(self) -> bool:
        """Whether the newest question about every account failed."""
        return all(row.failed for row in self._rows)

    def changes(self) -> list[Patch]:
        """Give what has changed since the last call: an account's number and the fields."""
        now, moment = self._clock(), self.moment()
        patches: list[Patch] = []
        for number, row in enumerate(self._rows):
            before, view = self._views[number], row.view(now, moment)
            if view != before:
                self._views[number] = view
                patches.append({"i": number} | _difference(before, view))
        return patches

    def tick(self) -> dict[str, Any]:
        """Give the time, and the age in seconds of each account's answer."""
        now = int(self._wall())
        return {"now": now, "ages": [_age(row.answer, now) for row in self._rows]}

    def points(self) -> list[int | None] | None:
        """Add a point to each course, and give these; ``None`` if it is not yet time for one."""
        number = int(self._clock() / POINT_SECONDS)
        if number == self._last_point:
            return None
        missed = 0 if self._last_point is None else min(number - self._last_point - 1, POINTS)
        self._last_point = number
        points = [_point(view) for view in self._views]
        for row, point in zip(self._rows, points, strict=True):
            row.course.extend([None] * missed)
            row.course.append(point)
        return points

    def snapshot(self) -> dict[str, Any]:
        """Give all that was published so far."""
        pairs = zip(self._rows, self._views, strict=True)
        rows = [
            {"id": row.label, "course": list(row.course)} | msgspec.structs.asdict(view)
            for row, view in pairs
        ]
        return {"every": self._every, "rows": rows} | self.tick()

    def matching(self, text: str) -> list[int]:
        """Find the accounts with ``text`` in their id, or in a line's name or remark.

        Upper and lower case are the same.
        """
        wanted = text.casefold()
        return [
            number
            for number, row in enumerate(self._rows)
            if any(wanted in label.casefold() for label in (row.label, *row.labels) if label)
        ]

    def named(self, label: str) -> AccountRow | None:
        """Find an account by the way it is written on the page."""
        return next((row for row in self._rows if row.label == label), None)

    def moment(self) -> datetime:
        """Tell the time in the API's zone."""
        return moment_in(ZONE, datetime.fromtimestamp(self._wall(), UTC))


def label_of(account: Account) -> str:
    """Write the account as on the command line: ``USER_ID[:SUB_ID]``."""
    return ":".join(filter(None, account))


def _difference(before: View, view: View) -> Patch:
    new = msgspec.structs.asdict(view)
    return {name: value for name, value in new.items() if value != getattr(before, name)}


def _age(answer: Answer | None, now: int) -> int | None:
    return None if answer is None else max(0, now - int(answer.fetched_at.timestamp()))


def _point(view: View) -> int | None:
    """Leave a gap in the course where nobody knows."""
    return None if view.state == "failing" else view.free
