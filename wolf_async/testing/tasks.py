"""The tasks of a sandbox: what is refused, what is made, and what they take off the lines.

It follows what is documented of creating a task, and not the client's own checks, so that the two
can disagree. The response of the real server is not documented; here its `data` has a `uuid`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from hashlib import blake2b
from typing import Any, TypeGuard, cast

import msgspec

from wolf_async.account import Account
from wolf_async.testing.faults import Reply, error_reply

__all__ = ["Task", "TaskStore"]

_Json = dict[str, Any]
_LINE_SECTIONS = ("caller_line_list", "call_in_line_list")
_IDS: Mapping[str, tuple[str, ...]] = {
    "destination_extension": ("outbound_group", "outbound_group_v2", "big_model_outbound_group"),
    "dial_time_id": ("task_dial_times",),
    "bridge_group_id": ("bridge_groups",),
    "auto_recycle_rule_id": ("auto_recycle_rules",),
    "background_id": ("background",),
    "llm_intention_id": ("llm_intention_configs",),
}
_REQUIRED = ("name", "destination_extension", "dial_time_id", "maximumcall", "task_extras")
_MOST_LINES = 5


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """A task that was made.

    Attributes:
        uuid: its id, which the answer to the POST told.
        account: the account that it is for.
        body: what was sent, decoded.
        limits: what it takes off the `residue` of each line until it stops, by line id.
        created_at: when it was made, by the sandbox's wall clock.
        stops_at: its `stop_time`, by the same clock.

    """

    uuid: str
    account: Account
    body: Mapping[str, Any]
    limits: Mapping[str, int]
    created_at: datetime
    stops_at: datetime

    @property
    def name(self) -> str:
        """The name of the task, as it was sent."""
        return str(self.body["name"])


class TaskStore:
    """The tasks that were made, in order, on a wall clock."""

    __slots__ = ("_now", "_seed", "tasks")

    def __init__(self, seed: int, now: Callable[[], datetime]) -> None:
        self._seed = seed
        self._now = now
        self.tasks: list[Task] = []

    def create(self, account: Account, data: Any, raw: bytes) -> Reply:
        """Make the task that a body asks for, or refuse it with 422 and messages by field.

        ``data`` is what the account would be answered now.
        """
        try:
            body = msgspec.json.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError):
            body = None
        check = _Check(body if _is_object(body) else {}, data)
        if check.errors:
            return error_reply(422, check.errors, 422)
        task = self._task(account, check)
        self.tasks.append(task)
        done = {"uuid": task.uuid, "name": task.name}
        envelope = {"code": 200, "status": "success", "message": "创建任务成功", "data": done}
        return Reply(200, msgspec.json.encode(envelope))

    def _task(self, account: Account, check: _Check) -> Task:
        digits = blake2b(f"{self._seed}/task/{len(self.tasks)}".encode(), digest_size=16)
        return Task(
            uuid=digits.hexdigest(),
            account=account,
            body=check.body,
            limits=check.limits,
            created_at=self._now(),
            stops_at=datetime.fromisoformat(check.body["task_extras"]["stop_time"]),
        )

    def taken(self) -> dict[str, int]:
        """Return what is taken off each line now, by line id."""
        taken: dict[str, int] = {}
        for task in self.tasks:
            if self._now() < task.stops_at:
                for line_id, limit in task.limits.items():
                    taken[line_id] = taken.get(line_id, 0) + limit
        return taken

    def take_from(self, data: Any) -> Any:
        """Lower each `residue` in ``data`` by what is taken off its line; return ``data``."""
        taken = self.taken()
        for line in _lines_in(data, _LINE_SECTIONS):
            if isinstance(line.get("residue"), int):
                line["residue"] = max(0, line["residue"] - taken.get(str(line.get("line_id")), 0))
        return data


class _Check:
    """What is wrong with a body, by field, and what it takes off each line."""

    __slots__ = ("_data", "body", "errors", "limits")

    def __init__(self, body: _Json, data: Any) -> None:
        self.body = body
        self.errors: dict[str, list[str]] = {}
        self.limits: dict[str, int] = {}
        self._data: _Json = data if _is_object(data) else {}
        for field in _REQUIRED:
            if body.get(field) in (None, ""):
                self._refuse(field, "必填")
        self._check_scalars()
        for field, sections in _IDS.items():
            self._check_id(field, sections)
        if self._is("task_extras", body.get("task_extras"), dict, "对象"):
            self._check_extras(body["task_extras"])

    def _refuse(self, field: str, message: str) -> None:
        self.errors.setdefault(field, []).append(f"{field} {message}")

    def _is(self, field: str, value: Any, kind: type, name: str) -> bool:
        """Return whether it is of that kind; refuse it if it is there and is not."""
        if isinstance(value, kind) and not isinstance(value, bool):
            return True
        if value is not None:
            self._refuse(field, f"必须是{name}")
        return False

    def _check_scalars(self) -> None:
        self._is("name", self.body.get("name"), str, "字符串")
        for field in ("enable_type", "task_type"):
            self._is(field, self.body.get(field), int, "整数")
        calls = self.body.get("maximumcall")
        if self._is("maximumcall", calls, int, "整数") and cast("int", calls) < 1:
            self._refuse("maximumcall", "至少为1")
        if self.body.get("is_call_in", 0) not in (0, 1):
            self._refuse("is_call_in", "必须是0或1")
        action = self.body.get("end_action")
        actions: Any = self._data.get("end_actions") or {}
        if self._is("end_action", action, int, "整数") and str(action) not in actions:
            self._refuse("end_action", "不存在")

    def _check_id(self, field: str, sections: tuple[str, ...]) -> None:
        value = self.body.get(field)
        if self._is(field, value, int, "整数"):
            known = {str(item.get("id")) for item in _lines_in(self._data, sections)}
            if str(value) not in known:
                self._refuse(field, "不存在")

    def _check_extras(self, extras: _Json) -> None:
        times = [self._read_time(extras, name) for name in ("start_time", "stop_time")]
        if None not in times and cast("datetime", times[0]) >= cast("datetime", times[1]):
            self._refuse("task_extras.stop_time", "必须晚于start_time")
        if extras.get("line") is None:
            self._refuse("task_extras.line", "必填")
        if self._is("task_extras.line", extras.get("line"), list, "数组"):
            self._check_lines(extras["line"])
        if self._is("task_extras.holiday", extras.get("holiday"), list, "数组"):
            for at, holiday in enumerate(extras["holiday"]):
                self._check_holiday(f"task_extras.holiday.{at}", holiday)

    def _read_time(self, extras: _Json, name: str) -> datetime | None:
        field, text = f"task_extras.{name}", extras.get(name)
        if text is None:
            self._refuse(field, "必填")
            return None
        try:
            return datetime.strptime(text, "%Y-%m-%d %H:%M:%S")  # noqa: DTZ007 (it has no zone)
        except (TypeError, ValueError):
            self._refuse(field, "格式必须是YYYY-MM-DD HH:MM:SS")
            return None

    def _check_holiday(self, field: str, holiday: Any) -> None:
        if self._is(field, holiday, dict, "对象"):
            begin = holiday.get("begin", holiday.get("start"))
            if not isinstance(begin, str) or not isinstance(holiday.get("end"), str):
                self._refuse(field, "缺少begin或end")

    def _check_lines(self, lines: list[Any]) -> None:
        inbound = self.body.get("is_call_in") == 1
        section = _LINE_SECTIONS[int(inbound)]
        free = {
            line["line_id"]: line.get("residue") or 0 for line in _lines_in(self._data, (section,))
        }
        if len(lines) > _MOST_LINES:
            self._refuse("task_extras.line", "最多5条线路")
        older = all(isinstance(line, str) for line in lines)
        named = self._share(lines, free) if older else lines
        for at, line in enumerate(named):
            self._check_line(f"task_extras.line.{at}", line, free)
        total = sum(self.limits.values())
        if total != self.body.get("maximumcall") and not (inbound and not lines):
            self._refuse("maximumcall", "并发数异常")

    def _share(self, line_ids: list[str], free: Mapping[str, int]) -> Iterator[_Json]:
        """Share the calls out, as an older server has to whose lines come without limits."""
        left = self.body.get("maximumcall")
        for line_id in line_ids:
            limit = min(free.get(line_id, 0), left if isinstance(left, int) else 0)
            left = (left - limit) if isinstance(left, int) else 0
            yield {"id": line_id, "limit": limit}

    def _check_line(self, field: str, line: Any, free: Mapping[str, int]) -> None:
        if not self._is(field, line, dict, "对象"):
            return
        line_id, limit = line.get("id"), line.get("limit")
        if line_id not in free or line_id in self.limits:
            self._refuse(f"{field}.id", "不存在或重复")
        elif not isinstance(limit, int) or isinstance(limit, bool) or limit < 0:
            self._refuse(f"{field}.limit", "必须是整数")
        else:
            self.limits[line_id] = limit
            if limit > free[line_id]:
                self._refuse(f"{field}.limit", f"并发数异常, 剩余{free[line_id]}")


def _lines_in(data: Any, sections: tuple[str, ...]) -> Iterator[_Json]:
    """Yield the items of sections, which may be absent or, in a test of quirks, of any shape."""
    for section in sections:
        items: Any = data.get(section) if _is_object(data) else None
        if isinstance(items, list):
            yield from filter(_is_object, cast("Any", items))


def _is_object(value: Any) -> TypeGuard[_Json]:
    return isinstance(value, dict)
