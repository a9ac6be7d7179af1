"""What the API answers: the sections from which a task can be built, and how to choose from them.

The source is the vendor's page 任务初始化 (GET /agent-api/new/user/{user_id}/task/create), called
"the vendor's page" below; Chinese words in the docstrings are its labels.

The methods are pure, take a missing value for what it is, and raise `WolfConfigError` for an
argument that makes no sense. Where the vendor documents no meaning, they say what they infer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, tzinfo
from typing import Any, TypeAlias, TypeVar, Unpack

import msgspec

from wolf_async.models import hours
from wolf_async.models.allocation import allocate
from wolf_async.models.arguments import id_text, name_text
from wolf_async.models.call_task import TaskDraft
from wolf_async.models.draft_rules import MOST_LINES, Script
from wolf_async.models.drafting import (
    AnyHoliday,
    OptionalFields,
    as_holidays,
    as_id,
    as_items,
    as_stamp,
    as_task_lines,
    optional_fields,
    some_of,
)
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
    Variable,
    carriers,
)
from wolf_async.models.task_extras import NO_EXTRA, TaskExtras, TaskLine, draft_error
from wolf_async.policy import check_count

__all__ = ["TaskInit"]

_NO_ACTIONS = EndActions()


# gc=False is safe because values built from JSON and never changed cannot form a cycle.
class TaskInit(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What an account can build an outbound-call task from (任务初始化).

    The vendor's words: 获取新建任务所需要的初始信息.
    A section that the answer lacks is empty. Source: the vendor's page, `data`.

    Attributes:
        task_dial_times: time groups: when a task may call (时间组信息).
        caller_line_list: lines for outbound calls (当前用户可使用2.0外呼线路信息).
        call_in_line_list: lines for inbound calls (当前用户可使用呼入线路信息).
        max_recycle_limit: not documented; 50 in the sample.
        outbound_group: regular script groups (常规外呼话术组信息).
        outbound_group_v2: scripts of version 2.0 (用户2.0话术信息).
        big_model_outbound_group: script groups for large language models (大模型外呼话术组).
        bridge_groups: groups to transfer calls to (转接分组信息).
        auto_recycle_rules: redial rules (重呼规则).
        end_actions: what a task does afterwards, label by key (2.0任务后续动作): 0 nothing,
            1 pause the task and release its concurrency. A key, as an int, feeds `end_action`.
        background: background sounds (背景音列表).
        llm_intention_configs: quality checks by a large language model (大模型质检配置).

    """

    task_dial_times: tuple[TaskDialTime, ...] = ()
    caller_line_list: tuple[Line, ...] = ()
    call_in_line_list: tuple[Line, ...] = ()
    max_recycle_limit: int | None = None
    outbound_group: tuple[OutboundGroup, ...] = ()
    outbound_group_v2: tuple[OutboundGroupV2, ...] = ()
    big_model_outbound_group: tuple[BigModelOutboundGroup, ...] = ()
    bridge_groups: tuple[BridgeGroup, ...] = ()
    auto_recycle_rules: tuple[AutoRecycleRule, ...] = ()
    end_actions: EndActions = _NO_ACTIONS
    background: tuple[Background, ...] = ()
    llm_intention_configs: tuple[LLMIntentionConfig, ...] = ()

    def lines_for(
        self,
        n: int = 1,
        *,
        inbound: bool = False,
        at: datetime | None = None,
        usage: int | None = None,
        zone: str | tzinfo = hours.ZONE,
    ) -> tuple[Line, ...]:
        """Return the lines of which each can carry ``n`` more calls, in the order of the answer.

        They come from `caller_line_list`, or with ``inbound`` from `call_in_line_list`.
        ``n`` is 1 or more. `Line.can_carry` tells what counts, what ``at``, ``usage`` and ``zone``
        mean, and what is raised.
        """
        lines = self.call_in_line_list if inbound else self.caller_line_list
        return carriers(lines, n, at=at, usage=usage, zone=zone)

    def allocate(
        self,
        calls: int,
        *,
        inbound: bool = False,
        usage: int | None = None,
        at: datetime | None = None,
        most_lines: int = MOST_LINES,
        zone: str | tzinfo = hours.ZONE,
    ) -> tuple[TaskLine, ...]:
        """Share ``calls`` at once out among the fewest lines that have room for them.

        The limits add up to exactly ``calls``, and none is above its line's `residue`; lines that
        `Line.can_carry` rules out take no part: those that have ended, those whose `residue` is
        unknown and, with ``usage``, those for another or an unknown usage. The same answer gives
        the same lines, the roomiest first.

        Args:
            calls: how many calls at once, 1 or more.
            inbound: whether to take `call_in_line_list` instead of `caller_line_list`.
            usage: as in `Line.can_carry`, and so are ``at`` and ``zone``.
            at: when the lines are needed.
            most_lines: at most so many lines; a task has at most five (the documents of the
                vendor's command-line tool).
            zone: where the ends of the lines are read.

        Raises `WolfDraftError`, which says how many calls are free on how many lines, if it cannot
        be done, and `WolfConfigError` for arguments that make no sense.

        >>> import msgspec
        >>> from datetime import datetime
        >>> from wolf_async import Account, TaskInit
        >>> from wolf_async.models import dec_hook
        >>> from wolf_async.testing import synthetic_task_init
        >>> data = synthetic_task_init(0, Account("u"), lines=3)
        >>> init = msgspec.convert(data, TaskInit, dec_hook=dec_hook)
        >>> [line.residue for line in init.caller_line_list]
        [9, 4, 11]
        >>> [line.limit for line in init.allocate(15, at=datetime(2026, 3, 1))]
        [11, 4]

        """
        check_count("calls", calls)
        check_count("most_lines", most_lines)
        free = self.lines_for(1, inbound=inbound, at=at, usage=usage, zone=zone)
        return allocate(calls, free, most_lines)

    def draft(
        self,
        *,
        name: str,
        script: Script | int | str,
        calls: int,
        start: datetime | str,
        stop: datetime | str,
        holidays: Iterable[AnyHoliday] = (),
        dial_time: TaskDialTime | int | str | None = None,
        lines: Iterable[Line | TaskLine | str] | None = None,
        legacy: bool = False,
        usage: int | None = None,
        at: datetime | None = None,
        zone: str | tzinfo = hours.ZONE,
        interval_time: int | None = None,
        task_extras: Mapping[str, Any] = NO_EXTRA,
        **optional: Unpack[OptionalFields],
    ) -> TaskDraft:
        """Build a draft of a task from items of this answer, or from their ids.

        Args:
            name: the task's name.
            script: a script group of any of the three kinds; feeds `destination_extension`.
            calls: how many calls at once; feeds `maximumcall`.
            start: when the task begins to run. A datetime without a zone is one of ``zone``, any
                other is converted; a text is as in the API, `YYYY-MM-DD HH:MM:SS`.
            stop: when it stops.
            holidays: when it does not call: `Holiday` structs, or pairs of a begin and an end.
            dial_time: a time group; ``None`` is the one that is marked as the default.
            lines: ``None`` takes lines as `allocate` does, as of the start (or of ``at``, if that
                is later); lines or their ids do the same among these alone; `TaskLine` structs are
                taken as they are, and an empty sequence means no line.
            legacy: whether the body is what older servers take: the ids of the lines alone, and
                `start` for the begin of a holiday.
            usage: what the lines have to be for, as in `Line.can_carry`.
            at: the moment that counts as now; ``None`` is now.
            zone: the zone of the times.
            interval_time: the field of `task_extras`.
            task_extras: what has no field in `TaskExtras`, merged into `task_extras`.
            **optional: the optional fields of `TaskDraft`, with items of the answer or their ids,
                and `extra`, which is merged into the body.

        Raises `WolfDraftError`, with the path, for what a draft cannot be made of, and
        `WolfConfigError` for other arguments that make no sense. `TaskDraft.problems` then finds
        what is wrong with the whole.

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
        ...     calls=15,
        ...     start=datetime(2026, 3, 2, 9),
        ...     stop=datetime(2026, 3, 9, 18),
        ...     background_id=init.background[0],
        ...     at=datetime(2026, 3, 1),
        ... )
        >>> draft.task_extras.start_time, [line.limit for line in draft.task_extras.line]
        ('2026-03-02 09:00:00', [11, 4])

        """
        fields = optional_fields(optional)
        begin = as_stamp("$.task_extras.start_time", start, zone)
        draft = TaskDraft(
            name=name,
            destination_extension=as_id("$.destination_extension", script),
            dial_time_id=self._dial_time_id(dial_time),
            maximumcall=calls,
            task_extras=TaskExtras(
                start_time=begin,
                stop_time=as_stamp("$.task_extras.stop_time", stop, zone),
                holiday=as_holidays(holidays, zone),
                interval_time=interval_time,
                extra=task_extras,
            ),
            legacy=legacy,
            zone=zone,
            **fields,
        )
        chosen = self._lines_of(draft, lines, usage, at)
        extras = msgspec.structs.replace(draft.task_extras, line=chosen)
        return msgspec.structs.replace(draft, task_extras=extras)

    def _dial_time_id(self, dial_time: TaskDialTime | int | str | None) -> int:
        path = "$.dial_time_id"
        chosen = self.default_of(self.task_dial_times) if dial_time is None else dial_time
        if chosen is None:
            message = "a time group is expected: the answer marks none as its default"
            raise draft_error(path, "no_default", message)
        return as_id(path, chosen)

    def _lines_of(
        self,
        draft: TaskDraft,
        lines: Iterable[Line | TaskLine | str] | None,
        usage: int | None,
        at: datetime | None,
    ) -> tuple[TaskLine, ...]:
        given = None if lines is None else as_items("$.task_extras.line", lines)
        limited = None if given is None else as_task_lines(given)
        if limited is not None:
            return limited
        check_count("calls", draft.maximumcall)
        start = hours.read_stamp(draft.task_extras.start_time, draft.zone)
        moment = max(start, hours.moment_in(draft.zone, at))
        section = self.call_in_line_list if draft.inbound else self.caller_line_list
        among = section if given is None else some_of(section, given)
        free = carriers(among, 1, at=moment, usage=usage, zone=draft.zone)
        return allocate(draft.maximumcall, free, MOST_LINES)

    @staticmethod
    def by_id(section: Iterable[_ItemT], id: int | str) -> _ItemT | None:
        """Return the first item of a section with that id, or ``None``.

        As in ``init.by_id(init.background, 34)``. The ``id`` is `id`, of lines `line_id`. Ids
        compare as text, ``34`` like ``"34"``, since the vendor's pages have the same id in both
        types. A ``section`` may also be the `variable` of a script. `EndActions` has methods of its
        own. Raises `WolfConfigError` for an id that is neither an int nor a str.
        """
        wanted = id_text(id)
        return next((item for item in section if str(_id_of(item)) == wanted), None)

    @staticmethod
    def by_name(section: Iterable[_ItemT], name: str) -> tuple[_ItemT, ...]:
        """Return all items of a section with exactly that name, in order.

        As in ``init.by_name(init.background, "超市大厅")``. No page says that names are unique. The
        ``name`` is `name`; of lines it is `new_line.name` (线路名称), or `name` where that is
        missing. Raises `WolfConfigError` for a name that is no str.
        """
        wanted = name_text(name)
        return tuple(item for item in section if _name_of(item) == wanted)

    @staticmethod
    def default_of(section: Iterable[_DefaultT]) -> _DefaultT | None:
        """Return the first item of a section that is marked as its default, or ``None``.

        The mark is `is_default` or `default`, by its name: the vendor's page has no label for it.
        Sections whose items have neither do not pass a type checker, and have no default.
        """
        return next((item for item in section if _is_default(item)), None)


_WithDefault: TypeAlias = (
    TaskDialTime | OutboundGroup | BigModelOutboundGroup | AutoRecycleRule | LLMIntentionConfig
)
_Item: TypeAlias = _WithDefault | Line | OutboundGroupV2 | Variable | BridgeGroup | Background
_DefaultT = TypeVar("_DefaultT", bound=_WithDefault)
_ItemT = TypeVar("_ItemT", bound=_Item)


def _id_of(item: _Item) -> int | str:
    return item.line_id if isinstance(item, Line) else item.id


def _name_of(item: _Item) -> str | None:
    own = item.new_line.name if isinstance(item, Line) and item.new_line else None
    return item.name if own is None else own


def _is_default(item: _WithDefault) -> bool:
    # Not by its class: a section without such a flag, which only an untyped caller can pass, has
    # no default.
    return bool(getattr(item, "is_default", None) or getattr(item, "default", None))
