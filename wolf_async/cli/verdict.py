"""Say whether what ``wolf-async demo`` counted is what it promises."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wolf_async.account import Account
    from wolf_async.models import TaskInit
    from wolf_async.testing.sandbox import Call

__all__ = ["is_for", "judge"]


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
