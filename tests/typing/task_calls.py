"""How a task is built, checked and created: type checkers read this file, and nobody runs it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, assert_type

from wolf_async import (
    CreatedTask,
    DraftProblem,
    Holiday,
    RawResponse,
    TaskDraft,
    TaskExtras,
    TaskInit,
    TaskLine,
    WolfClient,
    WolfDraftError,
    WolfUncertainError,
)


def drafts(init: TaskInit) -> TaskDraft:
    lines = assert_type(init.allocate(20, usage=1, most_lines=3), tuple[TaskLine, ...])
    start = datetime.now(UTC)
    draft = init.draft(
        name="spring",
        script=init.outbound_group_v2[0],
        calls=20,
        start=start,
        stop=start + timedelta(hours=8),
        holidays=[(start, start + timedelta(hours=1))],
        lines=lines,
        end_action=1,
        remark="first",
        extra={"new_field": 1},
    )
    assert_type(draft, TaskDraft)
    assert_type(init.draft(name="a", script=1, calls=1, start="…", stop="…"), TaskDraft)
    assert_type(draft.body(), dict[str, Any])
    assert_type(draft.problems(init, at=start), tuple[DraftProblem, ...])
    return draft


def drafts_by_hand() -> TaskDraft:
    extras = TaskExtras(
        start_time="2026-01-01 09:00:00",
        stop_time="2026-01-01 18:00:00",
        line=(TaskLine(id="line", limit=3),),
        holiday=(Holiday(begin="2026-01-01 12:00:00", end="2026-01-01 13:00:00"),),
    )
    assert_type(extras.body(legacy=True), dict[str, Any])
    return TaskDraft(
        name="a", destination_extension=1, dial_time_id=2, maximumcall=3, task_extras=extras
    )


async def creations(wolf: WolfClient, draft: TaskDraft) -> None:
    try:
        task = await wolf.create_task("user", "sub", draft=draft, check=False)
    except WolfDraftError as error:
        assert_type(error.problems, tuple[DraftProblem, ...])
        return
    except WolfUncertainError as error:
        assert_type(error.draft_name, str)
        return
    assert_type(task, CreatedTask)
    assert_type(task.uuid, str | None)
    assert_type(task.response, RawResponse)
