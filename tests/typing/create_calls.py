"""The way to a task as users write it: type checkers read this file, and nobody runs it."""

from __future__ import annotations

from datetime import UTC, datetime
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


def allocate(init: TaskInit) -> None:
    assert_type(init.allocate(20), tuple[TaskLine, ...])
    init.allocate(20, inbound=True, usage=2, at=datetime.now(UTC), most_lines=3, zone="UTC")


def draft(init: TaskInit) -> TaskDraft:
    script = init.outbound_group_v2[0]
    start, stop = datetime(2026, 1, 5, 9), "2026-01-05 18:00:00"
    made = init.draft(name="one", script=script, calls=20, start=start, stop=stop)
    assert_type(made, TaskDraft)
    init.draft(
        name="two",
        script=34,
        calls=3,
        start=start,
        stop=stop,
        holidays=[(start, stop), Holiday(begin="2026-01-05 12:00", end="2026-01-05 13:00")],
        dial_time=init.task_dial_times[0],
        lines=[TaskLine(id="a", limit=3)],
        legacy=True,
        interval_time=5,
        task_extras={"pop_mode": 1},
        bridge_group_id=init.bridge_groups[0],
        background_id="34",
        end_action=1,
        is_call_in=0,
        remark="x",
        extra={"is_group_switch": 2},
    )
    return made


def by_hand() -> TaskDraft:
    extras = TaskExtras(
        start_time="2026-01-05 09:00:00",
        stop_time="2026-01-05 18:00:00",
        line=(TaskLine(id="a", limit=1),),
        holiday=(Holiday(begin="2026-01-05 12:00", end="2026-01-05 13:00"),),
    )
    assert_type(extras.body(legacy=True), dict[str, Any])
    return TaskDraft(
        name="three", destination_extension=1, dial_time_id=1, maximumcall=1, task_extras=extras
    )


def check(made: TaskDraft, init: TaskInit) -> None:
    assert_type(made.body(), dict[str, Any])
    assert_type(made.problems(init, at=datetime.now(UTC)), tuple[DraftProblem, ...])
    for problem in made.problems(init):
        if problem.severity == "error":
            print(problem.path, problem.code, problem.message)


async def create(wolf: WolfClient, made: TaskDraft) -> str | None:
    try:
        created = await wolf.create_task("user", "sub", draft=made)
    except WolfDraftError as error:
        assert_type(error.problems, tuple[DraftProblem, ...])
        return None
    except WolfUncertainError as error:
        return error.draft_name
    assert_type(created, CreatedTask)
    assert_type(created.uuid, str | None)
    assert_type(created.response, RawResponse)
    await wolf.create_task("user", draft=made, check=False)
    return created.uuid
