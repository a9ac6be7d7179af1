"""Hold what ``wolf-async demo`` counts, and say whether that is what it promises."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import msgspec

from wolf_async.account import Account

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wolf_async.models import TaskInit
    from wolf_async.testing.sandbox import Call

__all__ = ["Outcome", "Task", "answers", "count_wrong", "is_for", "judge"]


class Task(msgspec.Struct, frozen=True):
    """Whom the callers ask for; the environment names token, base URL and server."""

    asked: list[Account]


class Outcome(msgspec.Struct, frozen=True):
    """What came of the callers of one process."""

    answered: int
    wrong: int
    """Answers for another account."""
    began: float
    ended: float
    """When they began, and when the last one had its answer, on the machine's clock."""


def answers(
    asked: Sequence[Account], outcomes: Sequence[TaskInit | BaseException]
) -> list[tuple[Account, TaskInit]]:
    """Return who got an answer, and which."""
    pairs = zip(asked, outcomes, strict=True)
    return [(account, init) for account, init in pairs if not isinstance(init, BaseException)]


def count_wrong(answered: Sequence[tuple[Account, TaskInit]]) -> int:
    """Count the answers that are not for the account that was asked for."""
    return sum(not is_for(account, init) for account, init in answered)


def is_for(account: Account, init: TaskInit) -> bool:
    """Return whether every owner that the answer names is this account."""
    owners = {line.belong_user for line in init.caller_line_list + init.call_in_line_list}
    owners |= {group.user_id for group in init.task_dial_times}
    return owners == {account.sub_user_id or account.user_id}


def judge(
    asked: Sequence[Account], calls: Sequence[Call], *, answered: int, wrong: int
) -> tuple[bool, str]:
    """Return whether all is as it should be, and the counts in one line.

    Args:
        asked: whom each caller asked for.
        calls: what reached the server.
        answered: how many callers got an answer.
        wrong: how many of these answers are for another account.

    """
    accounts = set(asked)
    counts = f"{len(asked)} callers, {len(accounts)} accounts, {len(calls)} requests"
    if unanswered := len(asked) - answered:
        return False, f"{counts}: {unanswered} callers without an answer"
    if wrong:
        return False, f"{counts}: {wrong} answers for another account"
    if Counter(call.account for call in calls) != Counter(accounts):
        return False, f"{counts}: not one per account"
    return True, f"{counts}: one per account"
