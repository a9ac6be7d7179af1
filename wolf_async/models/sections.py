"""The items of an answer's sections, as frozen structs that keep the API's own names.

The source is the vendor's page 任务初始化 (GET /agent-api/new/user/{user_id}/task/create), called
"the vendor's page" below; Chinese words in the docstrings are its labels. The parameters named are
those of creating a task (POST /agent-api/new/user/{user_id}/task).

Fields have no defaults: the strict decode reports an absent key as a deviation. `None` stands for a
value that the server left out or sent as null. Datetimes carry no zone; Asia/Shanghai fits all
samples, but nothing states it.

The methods are pure, take a missing value for what it is, and raise `WolfConfigError` for an
argument that makes no sense. Where the vendor documents no meaning, they say what they infer.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, tzinfo
from typing import Annotated, TypeAlias

import msgspec

from wolf_async.models import hours
from wolf_async.models.mappings import Configs
from wolf_async.policy import check_count

__all__ = [
    "AutoRecycleDetail",
    "AutoRecycleRule",
    "Background",
    "BigModelOutboundGroup",
    "BridgeGroup",
    "DialTimeDay",
    "LLMIntentionConfig",
    "Line",
    "LineNode",
    "NaiveDatetime",
    "NewLine",
    "OutboundGroup",
    "OutboundGroupV2",
    "TaskDialTime",
    "TimeRange",
    "Variable",
    "carriers",
]

NaiveDatetime: TypeAlias = Annotated[datetime, msgspec.Meta(tz=False)]
"""A datetime without a zone, `YYYY-MM-DD HH:MM:SS` on the wire."""


# gc=False is safe because values built from JSON and never changed cannot form a cycle.
class TaskDialTime(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A time group: the hours of the week in which a task may call (时间组信息).

    Its `id` feeds `dial_time_id` (required). Source: the vendor's page, `task_dial_times`.

    What the server leaves out or sends as null is ``None``, and an empty tuple for a list.

    Attributes:
        id: id of the time group.
        name: name of the time group.
        user_id: id of the user (用户id).
        content: the days of the week with their hours.
        is_default: whether it is the default. The vendor's page has no label for it.
        remark: remark on the time group; null in the sample.
        created_at: when it was created, without a zone.
        updated_at: when it was last changed, without a zone.

    """

    id: int
    name: str | None
    user_id: str | None
    content: tuple[DialTimeDay, ...]
    is_default: bool | None
    remark: str | None
    created_at: NaiveDatetime | None
    updated_at: NaiveDatetime | None

    def is_open(
        self, at: datetime | None = None, *, zone: str | tzinfo = hours.ZONE, sunday: int = 0
    ) -> bool:
        """Return whether a task may call at that moment.

        Args:
            at: the moment; ``None`` is now, and a datetime without a zone is one of ``zone``.
            zone: whose wall clock the hours are read by; Asia/Shanghai fits all samples, but
                nothing states it.
            sunday: the number that `week` gives to Sunday: 0 on most of the vendor's pages, 6 on
                the one with 0 = Monday.

        Raises `WolfConfigError` for arguments that make no sense.

        Source: the vendor's page, `content`, for the shape of the hours; what `week` means stands
        on other pages of the vendor, which disagree. The rest is inferred:

        - the begin of a span belongs to it, its end does not;
        - an end at ``24:00`` or ``00:00`` is the end of the day, so that ``00:00`` to ``00:00`` is
          all of it;
        - a span that otherwise ends at its begin or before never opens: it is not taken to run past
          midnight;
        - nor does a span with a time that is missing or is not ``H:MM``, ``HH:MM`` or either with
          ``:SS``;
        - spans may overlap, and several entries for one day add up;
        - a day without an entry or without spans is closed, and `week` counts only if it is 0 to 6.

        >>> from datetime import datetime
        >>> from wolf_async.models import DialTimeDay, TaskDialTime, TimeRange
        >>> morning = TimeRange(begin_time="09:00", end_time="12:00")
        >>> group = TaskDialTime(
        ...     id=1,
        ...     name="Monday mornings",
        ...     user_id=None,
        ...     content=(DialTimeDay(week=1, times=(morning,)),),
        ...     is_default=True,
        ...     remark=None,
        ...     created_at=None,
        ...     updated_at=None,
        ... )
        >>> monday = datetime(2026, 3, 2, 11)
        >>> group.is_open(monday), group.is_open(monday.replace(hour=12))
        (True, False)
        >>> print(group.next_opening(monday.replace(hour=12)))
        2026-03-09 09:00:00+08:00

        """
        return hours.open_at(self._week(sunday), hours.moment_in(zone, at))

    def next_opening(
        self, at: datetime | None = None, *, zone: str | tzinfo = hours.ZONE, sunday: int = 0
    ) -> datetime | None:
        """Return the first moment from ``at`` on at which it is open: ``at`` if it is then.

        An aware datetime of ``zone``, or ``None`` if it does not open within eight days (8 × 24
        hours). Where the zone's clocks are put forward over a begin, that is the moment at which
        they are. ``zone``, ``sunday``, what is inferred and what is raised are as in `is_open`,
        which has an example.
        """
        week, moment = self._week(sunday), hours.moment_in(zone, at)
        return hours.first_moment(week, moment, is_open=True)

    def next_closing(
        self, at: datetime | None = None, *, zone: str | tzinfo = hours.ZONE, sunday: int = 0
    ) -> datetime | None:
        """Return the first moment from ``at`` on at which it is closed: ``at`` if it is then.

        An aware datetime of ``zone``, or ``None`` if it does not close within eight days (8 × 24
        hours). ``zone``, ``sunday``, what is inferred and what is raised are as in `is_open`.
        """
        week, moment = self._week(sunday), hours.moment_in(zone, at)
        return hours.first_moment(week, moment, is_open=False)

    def _week(self, sunday: int) -> hours.Week:
        days = ((day.week, [_span_of(times) for times in day.times]) for day in self.content)
        return hours.week_of(days, sunday)


class DialTimeDay(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One day of the week in a time group (时间组信息).

    It feeds no parameter by itself. Source: the vendor's page, `task_dial_times[].content`.

    What the server leaves out or sends as null is ``None``, and an empty tuple for a list.

    Attributes:
        week: day of the week, 0 to 6. Most of the vendor's pages have 0 = Sunday … 6 = Saturday;
            one has 0 = Monday.
        times: the hours of that day.

    """

    week: int | None
    times: tuple[TimeRange, ...]


class TimeRange(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A span of hours within a day (时间组信息).

    It feeds no parameter by itself. Source: the vendor's page, `task_dial_times[].content[].times`.

    What the server leaves out or sends as null is ``None``.

    Attributes:
        end_time: end, `HH:MM` or `H:MM`; whether it is included is not documented.
        begin_time: begin, `HH:MM` or `H:MM`.

    """

    end_time: str | None
    begin_time: str | None


def _span_of(times: TimeRange) -> hours.Span | None:
    return hours.span_of(times.begin_time, times.end_time)


class Line(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A line, outbound (当前用户可使用2.0外呼线路信息) or inbound (当前用户可使用呼入线路信息).

    Its `line_id` feeds `task_extras.line[].id` (older: the id alone), with a `limit` of at most
    `residue`. Source: the vendor's page, `caller_line_list` and `call_in_line_list`.

    What the server leaves out or sends as null is ``None``.

    Attributes:
        name: not documented; null in the sample. The line's name is `new_line.name`.
        remark: remark on the line (线路备注).
        line_id: id of the line (线路id). Not always a valid UUID.
        belong_user: id of the user it belongs to (所属用户).
        line_concurrency: calls that the line can carry at once, in total (线路总量并发数).
        residue: calls at once that are still free on the line (线路剩余可使用并发数).
        available_at: when the line's allocation ends, without a zone. That is inferred: it equals
            the deadline on the vendor's line page.
        new_line: the line that is allocated: its name, kind and node.

    """

    name: str | None
    remark: str | None
    line_id: str
    belong_user: str | None
    line_concurrency: int | None
    residue: int | None
    available_at: NaiveDatetime | None
    new_line: NewLine | None

    def can_carry(
        self,
        n: int = 1,
        *,
        at: datetime | None = None,
        usage: int | None = None,
        zone: str | tzinfo = hours.ZONE,
    ) -> bool:
        """Return whether the line can carry ``n`` more calls then, as far as this answer tells.

        That is so if all of these hold:

        - `residue` (线路剩余可使用并发数) is known and at least ``n``, which is 1 or more;
        - `available_at` is missing or still to come: that it is the end of the allocation is
          inferred, and so is that the line is gone at that very second;
        - ``usage`` is ``None``, or shares a bit with `new_line.usage` (线路用途): 1 regular, 2 LLM,
          4 end-to-end, ``1 | 2`` either of two. That the values are bit flags is inferred. A line
          of unknown usage is then out.

        Args:
            n: how many more calls at once, 1 or more.
            at: the moment; ``None`` is now, and a datetime without a zone is one of ``zone``.
            usage: what the line has to be for, by the numbers above; ``None`` takes any.
            zone: where `available_at` is read; Asia/Shanghai fits all samples, but nothing states
                it.

        Raises `WolfConfigError` for arguments that make no sense.

        """
        return bool(carriers((self,), n, at=at, usage=usage, zone=zone))


def carriers(
    lines: Iterable[Line],
    n: int,
    *,
    at: datetime | None,
    usage: int | None,
    zone: str | tzinfo,
) -> tuple[Line, ...]:
    """Return those of the lines that can carry ``n`` more calls each; see `Line.can_carry`."""
    check_count("n", n)
    if usage is not None:
        check_count("usage", usage)
    moment = hours.moment_in(zone, at)
    return tuple(
        line
        for line in lines
        if line.residue is not None
        and line.residue >= n
        and _is_for(line, usage)
        and not hours.has_passed(line.available_at, moment)
    )


def _is_for(line: Line, usage: int | None) -> bool:
    if usage is None:
        return True
    return line.new_line is not None and bool((line.new_line.usage or 0) & usage)


class NewLine(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The line that is allocated by a `Line`: its name, kind and node.

    It feeds no parameter and has no label. Source: the vendor's page,
    `caller_line_list[].new_line`.

    What the server leaves out or sends as null is ``None``.

    Attributes:
        name: name of the line (线路名称).
        type: kind of the line (线路类型): 1 external (外部线路), 2 internal (内部线路).
        bind_type_str: not documented; `IP` in the sample.
        type_str: label of `type`, in Chinese.
        usage: what the line is for (线路用途 1-常规 2-大模型 4-端到端): 1 regular, 2 LLM,
            4 end-to-end. The values look like bit flags, so that sums are possible.
        node: the node that serves the line.

    """

    name: str | None
    type: int | None
    bind_type_str: str | None
    type_str: str | None
    usage: int | None
    node: LineNode | None


class LineNode(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The node that serves a line.

    It feeds no parameter and has no section label. Source: the vendor's page,
    `caller_line_list[].new_line.node`.

    What the server leaves out or sends as null is ``None``.

    Attributes:
        name: name of the node (节点名称).

    """

    name: str | None


class OutboundGroup(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A regular script group (常规外呼话术组信息).

    Its `id` feeds `destination_extension` (required; the id of a script group of any of the three
    kinds). Source: the vendor's page, `outbound_group`.

    What the server leaves out or sends as null is ``None``.

    Attributes:
        id: id of the script group.
        name: name of the script group.
        user_id: id of the user (用户id).
        category_id: not documented, nor is its type; null in the sample.
        debug: not documented; true in the sample.
        deleted_at: not documented, nor is its type, taken from `created_at`; null in the sample.
        created_at: when it was created, without a zone.
        updated_at: when it was last changed, without a zone.
        link_word_group_id: not documented, nor is its type; null in the sample.
        tag_scene_id: not documented, nor is its type; null in the sample.
        knowledge_id: not documented, nor is its type; null in the sample.
        exclusive_asr: not documented; `aliYun1` in the sample.
        exclusive_tts: not documented; `aliyunv2_siyue` in the sample.
        priority_matching: not documented; 0 in the sample.
        is_top: not documented; 0 in the sample.
        nlp_threshold: not documented; 0 in the sample.
        order_matching: not documented; 0 in the sample.
        sort: not documented; 0 in the sample.
        usable: not documented; 0 in the sample.
        inner: not documented; 0 in the sample.
        is_sync: not documented; 0 in the sample.
        speed: not documented, nor is its unit; 50 in the sample.
        volume: not documented, nor is its unit; 50 in the sample.
        is_lock: not documented; 0 in the sample.
        is_train: not documented; 0 in the sample.
        is_visible: not documented; 1 in the sample.
        is_edit: not documented; 1 in the sample.
        is_active: not documented; 1 in the sample.
        use_type: not documented; 3 in the sample.
        extension_number: not documented, nor is its type; null in the sample.
        aim_content: not documented, nor is its type; null in the sample.
        intention_group_id: not documented; 0 in the sample.
        tts_extension: not documented, nor is its type; null in the sample.
        big_model_type: not documented; `local_zhipu-api` in the sample.
        local_knowledge_base_id: not documented, nor is its type; null in the sample.
        custom_prompt: not documented, nor is its type; null in the sample.
        bridge_group_id: not documented, nor is its type; null in the sample.
        llm_nlp_threshold: not documented; 80 in the sample.
        llm_scene_id: not documented, nor is its type; null in the sample.
        default: whether it is the default. The vendor's page has no label for it.

    """

    id: int
    name: str | None
    user_id: str | None
    category_id: int | str | None
    debug: bool | None
    deleted_at: NaiveDatetime | None
    created_at: NaiveDatetime | None
    updated_at: NaiveDatetime | None
    link_word_group_id: int | str | None
    tag_scene_id: int | str | None
    knowledge_id: int | str | None
    exclusive_asr: str | None
    exclusive_tts: str | None
    priority_matching: int | None
    is_top: int | None
    nlp_threshold: int | None
    order_matching: int | None
    sort: int | None
    usable: int | None
    inner: int | None
    is_sync: int | None
    speed: int | None
    volume: int | None
    is_lock: int | None
    is_train: int | None
    is_visible: int | None
    is_edit: int | None
    is_active: int | None
    use_type: int | None
    extension_number: int | str | None
    aim_content: str | None
    intention_group_id: int | None
    tts_extension: str | None
    big_model_type: str | None
    local_knowledge_base_id: int | str | None
    custom_prompt: str | None
    bridge_group_id: int | str | None
    llm_nlp_threshold: int | None
    llm_scene_id: int | str | None
    default: bool | None


class OutboundGroupV2(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A script of version 2.0 (用户2.0话术信息).

    Its `id` feeds `destination_extension` (required; the id of a script group of any of the three
    kinds). Source: the vendor's page, `outbound_group_v2`.

    What the server leaves out or sends as null is ``None``, and an empty tuple for a list.

    Attributes:
        id: id of the script: a string of 18 digits in the sample.
        name: name of the script.
        created_at: when it was created, without a zone.
        updated_at: when it was last changed, without a zone.
        variable: the script's variables.

    """

    id: str
    name: str | None
    created_at: NaiveDatetime | None
    updated_at: NaiveDatetime | None
    variable: tuple[Variable, ...]

    def variables_to_fill(self) -> tuple[Variable, ...]:
        """Return the variables that need a value before the script can call, in order.

        They are those with `is_fill`, which is inferred from its name. `is_builtin`, which is
        documented no better, takes none of them out; a variable whose `is_fill` is missing is not
        among them.
        """
        return tuple(variable for variable in self.variable if variable.is_fill)


class Variable(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A variable of a script of version 2.0 (用户2.0话术信息).

    It feeds no parameter that is documented. Source: the vendor's page,
    `outbound_group_v2[].variable`.

    What the server leaves out or sends as null is ``None``.

    Attributes:
        id: id of the variable; above 2^53 in the sample.
        name: name of the variable.
        desc: description of the variable; empty in the sample.
        type: not documented; 1 in the sample.
        is_save: not documented; false in the sample.
        is_builtin: not documented; false in the sample.
        is_fill: not documented; by its name, whether a value has to be filled in; true in the
            sample.

    """

    id: int
    name: str | None
    desc: str | None
    type: int | None
    is_save: bool | None
    is_builtin: bool | None
    is_fill: bool | None


class BigModelOutboundGroup(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A script group for large language models (大模型外呼话术组).

    Its `id` feeds `destination_extension` (required; the id of a script group of any of the three
    kinds). Source: the vendor's page, `big_model_outbound_group`.

    What the server leaves out or sends as null is ``None``.

    Attributes:
        id: id of the script group.
        name: name of the script group.
        is_lock: not documented; 0 in the sample.
        is_active: not documented; 1 in the sample.
        is_call_in: not documented; 0 in the sample.
        llm_end_type: not documented; 0 in the sample.
        created_at: when it was created, without a zone.
        default: whether it is the default. The vendor's page has no label for it.

    """

    id: int
    name: str | None
    is_lock: int | None
    is_active: int | None
    is_call_in: int | None
    llm_end_type: int | None
    created_at: NaiveDatetime | None
    default: bool | None


class BridgeGroup(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A group to transfer calls to (转接分组信息).

    Its `id` feeds `bridge_group_id`. Source: the vendor's page, `bridge_groups`.

    What the server leaves out or sends as null is ``None``.

    Attributes:
        id: id of the group.
        name: name of the group.
        strategy: how calls are spread over the group: 1 average (平均); other values are not
            documented.
        strategy_str: label of `strategy`, in Chinese.

    """

    id: int
    name: str | None
    strategy: int | None
    strategy_str: str | None


class AutoRecycleRule(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A redial rule (重呼规则).

    Its `id` feeds `auto_recycle_rule_id`. Source: the vendor's page, `auto_recycle_rules`.

    What the server leaves out or sends as null is ``None``, and an empty tuple for a list.

    Attributes:
        id: id of the rule.
        user_id: id of the user (用户id).
        name: name of the rule.
        remark: remark on the rule.
        status: not documented; true in the sample.
        created_at: when it was created, without a zone.
        updated_at: when it was last changed, without a zone.
        is_default: whether it is the default. The vendor's page has no label for it.
        type: not documented; 1 in the sample.
        configs: not documented. Empty in the sample, where it is written `[]`; deeply read-only.
        details: which outcomes of a call are called again.

    """

    id: int
    user_id: str | None
    name: str | None
    remark: str | None
    status: bool | None
    created_at: NaiveDatetime | None
    updated_at: NaiveDatetime | None
    is_default: bool | None
    type: int | None
    configs: Configs
    details: tuple[AutoRecycleDetail, ...]


class AutoRecycleDetail(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One outcome of a call in a redial rule (重呼规则).

    It feeds no parameter by itself. Source: the vendor's page, `auto_recycle_rules[].details`.

    What the server leaves out or sends as null is ``None``.

    Attributes:
        rule_id: id of the rule that it belongs to.
        number_status: outcome of the call: 0 waiting, 1 success, 2 blocked by the carrier,
            3 rejected, 4 no answer, 5 no such number, 6 powered off (关机), 7 out of service,
            8 busy, 9 incoming calls restricted, 10 in arrears, 11 blacklisted, 12 blocked by the
            user.
        time: not documented, nor is its unit; 0 in the sample.
        number_status_str: label of `number_status`, in Chinese.

    """

    rule_id: int | None
    number_status: int | None
    time: int | None
    number_status_str: str | None


class Background(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A background sound (背景音列表).

    Its `id` feeds `background_id`. Source: the vendor's page, `background`.

    What the server leaves out or sends as null is ``None``.

    Attributes:
        id: id of the sound.
        name: name of the sound.
        created_at: when it was created, without a zone.

    """

    id: int
    name: str | None
    created_at: NaiveDatetime | None


class LLMIntentionConfig(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A quality check by a large language model (大模型质检配置).

    Its `id` feeds `llm_intention_id`. Source: the vendor's page, `llm_intention_configs`.

    What the server leaves out or sends as null is ``None``.

    Attributes:
        id: id of the check.
        name: name of the check.
        user_id: id of the user (用户id).
        llm_type: not documented; 2 in the sample.
        is_default: whether it is the default, as 0 or 1. The vendor's page has no label for it.
        created_at: when it was created, without a zone.

    """

    id: int
    name: str | None
    user_id: str | None
    llm_type: int | None
    is_default: int | None
    created_at: NaiveDatetime | None
