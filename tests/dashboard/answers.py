"""Make answers, errors and updates of accounts from the vendor's sample."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from wolf_async import Account, Answer, TaskInit, WolfServerError
from wolf_async.models import dec_hook
from wolf_async.watch import AccountUpdate

if TYPE_CHECKING:
    from wolf_async import WolfError

__all__ = ["NOON", "USER", "answered", "failed", "group", "init_of", "line"]

USER = Account("main", "sub")
NOON = datetime(2026, 11, 25, 4, tzinfo=UTC).timestamp()
"""A Wednesday, at noon in China."""
SAMPLE = json.loads(
    (Path(__file__).parents[1] / "data" / "task-init.sample.json").read_text(encoding="utf-8")
)["data"]


def line(id: str, free: int | None = 5, total: int | None = 10, **changes: Any) -> dict[str, Any]:
    """Make an outbound line that does not end, as the server sends it."""
    first: dict[str, Any] = SAMPLE["caller_line_list"][0]
    numbers = {"line_id": id, "residue": free, "line_concurrency": total, "available_at": None}
    named = {"new_line": first["new_line"] | {"name": f"line {id}"}}
    return first | numbers | named | changes


def group(*spans: tuple[str, str], days: tuple[int, ...] = tuple(range(7))) -> dict[str, Any]:
    """Make a time group with the same hours on all of these days; 0 is Sunday."""
    times = [{"begin_time": begin, "end_time": end} for begin, end in spans]
    first: dict[str, Any] = SAMPLE["task_dial_times"][0]
    return first | {"content": [{"week": day, "times": times} for day in days]}


def init_of(*lines: dict[str, Any], **sections: Any) -> TaskInit:
    """Decode an answer with these lines, and the sample's sections but for those that are given."""
    data = SAMPLE | {"caller_line_list": list(lines)} | sections
    return msgspec.convert(data, TaskInit, dec_hook=dec_hook)


def answered(
    init: TaskInit, account: Account = USER, *, at: float = NOON, is_stale: bool = False
) -> AccountUpdate:
    """Make the update that brings an answer."""
    fetched_at = datetime.fromtimestamp(at, UTC)
    answer = Answer(init=init, fetched_at=fetched_at, age=0.0, is_stale=is_stale)
    return AccountUpdate(account, answer, None)


def failed(account: Account = USER, error: WolfError | None = None) -> AccountUpdate:
    """Make the update that brings an error."""
    return AccountUpdate(account, None, error or WolfServerError("the server said no"))
