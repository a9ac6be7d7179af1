"""A draft of a task: what is sent to create one, and what is wrong with it.

Source of the fields: the vendor's older table and newest sample of creating a task
(POST /agent-api/new/user/{user_id}/task), called "the table" and "the sample" below. Fields keep
the API's names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, tzinfo
from itertools import chain
from typing import Any, Final, Protocol, runtime_checkable

import msgspec

from wolf_async.errors import DraftProblem, WolfConfigError
from wolf_async.models import hours
from wolf_async.models.draft_rules import Case, Script, find_problems
from wolf_async.models.mappings import EndActions
from wolf_async.models.sections import (
    AutoRecycleRule,
    Background,
    BigModelOutboundGroup,
    BridgeGroup,
    Line,
    LLMIntentionConfig,
    OutboundGroup,
    OutboundGroupV2,
    TaskDialTime,
)
from wolf_async.models.task_extras import (
    NO_EXTRA,
    TaskExtras,
    check_text,
    check_whole,
    draft_error,
    freeze_extra,
    plain,
)
from wolf_async.policy import check_type

__all__ = ["Sections", "TaskDraft"]

_REQUIRED: Final = ("destination_extension", "dial_time_id", "maximumcall")
_OPTIONAL: Final = (
    "bridge_group_id",
    "auto_recycle_rule_id",
    "background_id",
    "llm_intention_id",
    "end_action",
    "enable_type",
    "is_call_in",
    "task_type",
)
_SENT: Final = ("name", *_REQUIRED, *_OPTIONAL, "remark")
_OWN: Final = (*_SENT, "task_extras", "sub_user_id")
_INBOUND_TYPES: Final = (2, 5)


class TaskDraft(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A task before it is created; `TaskInit.draft` builds one from an answer.

    Optional fields that are ``None`` are left out of what is sent. Raises `WolfDraftError`, with
    the path, for values of another type and for what cannot be written as JSON; `problems` finds
    what else is wrong. What is marked (D) is documented, in the vendor's older table.

    Attributes:
        name: name of the task; nothing says that names are unique. Required (D).
        destination_extension: id of a script group, of any of the three kinds. Required (D).
        dial_time_id: id of a time group. Required (D).
        maximumcall: calls at once in total; the limits of the lines add up to it. Required (D).
        task_extras: the settings of version 2.0. Required (D).
        bridge_group_id: id of a group to transfer calls to (D).
        auto_recycle_rule_id: id of a redial rule (D).
        background_id: id of a background sound (D).
        llm_intention_id: id of a quality check by a large language model (D).
        end_action: a key of `end_actions`: 0 nothing, 1 pause and release the concurrency (D).
        enable_type: not documented, save its default, 0 (D).
        is_call_in: 0 outbound, the default, 1 inbound (D).
        task_type: 1 outbound, 2 inbound, 4 LLM outbound, 5 LLM inbound (D, for 1.0); 7 in the
            newest sample.
        remark: a remark of your own (D).
        extra: what has no field here, merged into the body; it may name no field, nor
            `sub_user_id`.
        legacy: whether `body` is what older servers take; not sent itself.
        zone: the zone of the times; not sent. Asia/Shanghai fits all samples, but nothing states
            it.

    """

    name: str
    destination_extension: int
    dial_time_id: int
    maximumcall: int
    task_extras: TaskExtras
    bridge_group_id: int | None = None
    auto_recycle_rule_id: int | None = None
    background_id: int | None = None
    llm_intention_id: int | None = None
    end_action: int | None = None
    enable_type: int | None = None
    is_call_in: int | None = None
    task_type: int | None = None
    remark: str | None = None
    extra: Mapping[str, Any] = NO_EXTRA
    legacy: bool = False
    zone: str | tzinfo = hours.ZONE

    def __post_init__(self) -> None:
        """Check the types, and make mappings read-only."""
        check_text("$.name", self.name)
        for field in _REQUIRED:
            check_whole(f"$.{field}", getattr(self, field))
        for field in _OPTIONAL:
            if getattr(self, field) is not None:
                check_whole(f"$.{field}", getattr(self, field))
        if self.remark is not None:
            check_text("$.remark", self.remark)
        if type(self.task_extras) is not TaskExtras:
            message = f"a TaskExtras is expected, not {self.task_extras!r}"
            raise draft_error("$.task_extras", "not_an_object", message)
        msgspec.structs.force_setattr(self, "extra", freeze_extra("$", self.extra, _OWN))
        check_type("legacy", self.legacy, bool)
        hours.moment_in(self.zone, None)
        self._check_json()

    def body(self) -> dict[str, Any]:
        """Return what is sent, as a plain dict that is the caller's own; its JSON is the body.

        `sub_user_id` is not in it: the call that creates the task sets it.
        """
        given = {name: getattr(self, name) for name in _SENT}
        body: dict[str, Any] = {name: v for name, v in given.items() if v is not None}
        body["task_extras"] = self.task_extras.body(legacy=self.legacy)
        body |= plain(self.extra)
        return body

    def problems(self, init: Sections, at: datetime | None = None) -> tuple[DraftProblem, ...]:
        """Return what is wrong or odd with the draft, as far as an answer tells; pure.

        Args:
            init: the answer, a `TaskInit`, of the account that the task is for.
            at: the moment that counts as now; ``None`` is now. A datetime without a zone is one of
                the draft's zone.

        Each problem has a `path`, a `code`, a `message` and a `severity`. Raises `WolfConfigError`
        for another answer or moment.

        >>> import msgspec
        >>> from datetime import datetime
        >>> from wolf_async import Account, TaskInit
        >>> from wolf_async.models import dec_hook
        >>> from wolf_async.testing import synthetic_task_init
        >>> data = synthetic_task_init(0, Account("u"), lines=3)
        >>> init = msgspec.convert(data, TaskInit, dec_hook=dec_hook)
        >>> draft = init.draft(
        ...     name="November",
        ...     script=init.outbound_group_v2[0],
        ...     calls=2,
        ...     start=datetime(2026, 3, 2, 9),
        ...     stop=datetime(2026, 3, 1, 9),
        ...     at=datetime(2026, 3, 1),
        ... )
        >>> for problem in draft.problems(init, at=datetime(2026, 3, 1)):
        ...     print(problem.severity, problem.path, problem.code)
        error $.task_extras.stop_time stop_before_start

        """
        if not isinstance(init, Sections):
            raise WolfConfigError(f"init must be a TaskInit, not {init!r}")
        return find_problems(self._case(init, hours.moment_in(self.zone, at)))

    @property
    def inbound(self) -> bool:
        """Whether the task takes calls instead of making them: by `is_call_in`, or `task_type`."""
        if self.is_call_in is not None:
            return self.is_call_in == 1
        return self.task_type in _INBOUND_TYPES

    def _check_json(self) -> None:
        try:
            msgspec.json.encode(self.body())
        except (ValueError, RecursionError) as error:
            raise draft_error("$", "not_json", f"JSON is expected: {error}") from None

    def _case(self, init: Sections, now: datetime) -> Case:
        scripts = self._scripts(init)
        groups = [each for each in init.task_dial_times if each.id == self.dial_time_id]
        return Case(
            name=self.name,
            maximumcall=self.maximumcall,
            task_extras=self.task_extras,
            start=hours.read_stamp(self.task_extras.start_time, self.zone),
            stop=hours.read_stamp(self.task_extras.stop_time, self.zone),
            now=now,
            is_call_in=self.is_call_in,
            inbound=self.inbound,
            lines=init.call_in_line_list if self.inbound else init.caller_line_list,
            scripts=scripts,
            time_group=groups[0] if groups else None,
            end_action=self.end_action,
            end_actions=init.end_actions,
            unknown_ids=self._unknown_ids(init, scripts),
        )

    def _scripts(self, init: Sections) -> tuple[Script, ...]:
        """Return the script groups with the draft's id; ids of version 2.0 are texts there."""
        every: Iterable[Script] = chain[Script](
            init.outbound_group, init.outbound_group_v2, init.big_model_outbound_group
        )
        return tuple(each for each in every if str(each.id) == str(self.destination_extension))

    def _unknown_ids(
        self, init: Sections, scripts: tuple[Script, ...]
    ) -> tuple[tuple[str, int], ...]:
        sections: dict[str, tuple[_WithId, ...]] = {
            "destination_extension": scripts,
            "dial_time_id": init.task_dial_times,
            "bridge_group_id": init.bridge_groups,
            "auto_recycle_rule_id": init.auto_recycle_rules,
            "background_id": init.background,
            "llm_intention_id": init.llm_intention_configs,
        }
        given = ((field, getattr(self, field), section) for field, section in sections.items())
        return tuple(
            (field, own)
            for field, own, section in given
            if own is not None and str(own) not in {str(item.id) for item in section}
        )


class _WithId(Protocol):
    @property
    def id(self) -> int | str: ...


@runtime_checkable
class Sections(Protocol):
    """What `TaskDraft.problems` reads of an answer: the sections of a `TaskInit`.

    A protocol, because `TaskInit` builds drafts and so knows this module, not the other way round.
    """

    @property
    def task_dial_times(self) -> tuple[TaskDialTime, ...]: ...
    @property
    def caller_line_list(self) -> tuple[Line, ...]: ...
    @property
    def call_in_line_list(self) -> tuple[Line, ...]: ...
    @property
    def outbound_group(self) -> tuple[OutboundGroup, ...]: ...
    @property
    def outbound_group_v2(self) -> tuple[OutboundGroupV2, ...]: ...
    @property
    def big_model_outbound_group(self) -> tuple[BigModelOutboundGroup, ...]: ...
    @property
    def bridge_groups(self) -> tuple[BridgeGroup, ...]: ...
    @property
    def auto_recycle_rules(self) -> tuple[AutoRecycleRule, ...]: ...
    @property
    def end_actions(self) -> EndActions: ...
    @property
    def background(self) -> tuple[Background, ...]: ...
    @property
    def llm_intention_configs(self) -> tuple[LLMIntentionConfig, ...]: ...
