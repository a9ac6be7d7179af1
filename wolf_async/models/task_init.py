"""What the API answers: the sections from which a task can be built, and how to choose from them.

The source is the vendor's page 任务初始化 (GET /agent-api/new/user/{user_id}/task/create), called
"the vendor's page" below; Chinese words in the docstrings are its labels.

The methods are pure, take a missing value for what it is, and raise `WolfConfigError` for an
argument that makes no sense. Where the vendor documents no meaning, they say what they infer.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, tzinfo
from typing import TypeAlias, TypeVar

import msgspec

from wolf_async.models import hours
from wolf_async.models.arguments import id_text, name_text
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

__all__ = ["TaskInit"]

_NO_ACTIONS = EndActions()


# gc=False is safe because values built from JSON and never changed cannot form a cycle.
class TaskInit(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What an account can build an outbound-call task from (任务初始化).

    The vendor's words: 获取新建任务所需要的初始信息.
    A section that the answer lacks is empty. Source: the vendor's page, `data`.
    """

    task_dial_times: tuple[TaskDialTime, ...] = ()
    """Time groups: when a task may call (时间组信息)."""
    caller_line_list: tuple[Line, ...] = ()
    """Lines for outbound calls (当前用户可使用2.0外呼线路信息)."""
    call_in_line_list: tuple[Line, ...] = ()
    """Lines for inbound calls (当前用户可使用呼入线路信息)."""
    max_recycle_limit: int | None = None
    """Not documented."""
    outbound_group: tuple[OutboundGroup, ...] = ()
    """Regular script groups (常规外呼话术组信息)."""
    outbound_group_v2: tuple[OutboundGroupV2, ...] = ()
    """Scripts of version 2.0 (用户2.0话术信息)."""
    big_model_outbound_group: tuple[BigModelOutboundGroup, ...] = ()
    """Script groups for large language models (大模型外呼话术组)."""
    bridge_groups: tuple[BridgeGroup, ...] = ()
    """Groups to transfer calls to (转接分组信息)."""
    auto_recycle_rules: tuple[AutoRecycleRule, ...] = ()
    """Redial rules (重呼规则)."""
    end_actions: EndActions = _NO_ACTIONS
    """What a task does afterwards, label by key (2.0任务后续动作).

    0 nothing, 1 pause the task and release its concurrency. A key, as an int, feeds `end_action`.
    """
    background: tuple[Background, ...] = ()
    """Background sounds (背景音列表)."""
    llm_intention_configs: tuple[LLMIntentionConfig, ...] = ()
    """Quality checks by a large language model (大模型质检配置)."""

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
        `Line.can_carry` tells what counts, and what the other arguments mean.
        """
        lines = self.call_in_line_list if inbound else self.caller_line_list
        return carriers(lines, n, at=at, usage=usage, zone=zone)

    @staticmethod
    def by_id(section: Iterable[_ItemT], id: int | str) -> _ItemT | None:
        """Return the first item of a section with that id, or ``None``.

        As in ``init.by_id(init.background, 34)``. The id is `id`, of lines `line_id`. Ids compare
        as text, ``34`` like ``"34"``, since the vendor's pages have the same id in both types. It
        also takes the `variable` of a script. `EndActions` has methods of its own.
        """
        wanted = id_text(id)
        return next((item for item in section if str(_id_of(item)) == wanted), None)

    @staticmethod
    def by_name(section: Iterable[_ItemT], name: str) -> tuple[_ItemT, ...]:
        """Return all items of a section with exactly that name, in order.

        As in ``init.by_name(init.background, "超市大厅")``. No page says that names are unique. The
        name is `name`; of lines it is `new_line.name` (线路名称), or `name` where that is missing.
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
