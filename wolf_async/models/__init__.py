"""What the API returns and takes, as frozen structs that keep the API's own names.

So the vendor's page 任务初始化 is the reference of their fields, and ``help()`` of each struct says
what the page says of each of them. Fields that begin with "not documented" have no meaning there;
an odd value in one of them becomes ``None``. Times of the API carry no zone
(`NaiveDatetime`): Asia/Shanghai fits all samples, but nothing states it.

An answer is a `TaskInit`. What a task is made of is a `TaskDraft` with its `TaskExtras`.
"""

from wolf_async.errors import DraftProblem
from wolf_async.models.call_task import TaskDraft
from wolf_async.models.mappings import Configs, EndActions, dec_hook
from wolf_async.models.sections import (
    AutoRecycleDetail,
    AutoRecycleRule,
    Background,
    BigModelOutboundGroup,
    BridgeGroup,
    DialTimeDay,
    Line,
    LineNode,
    LLMIntentionConfig,
    NaiveDatetime,
    NewLine,
    OutboundGroup,
    OutboundGroupV2,
    TaskDialTime,
    TimeRange,
    Variable,
)
from wolf_async.models.task_extras import Holiday, TaskExtras, TaskLine
from wolf_async.models.task_init import TaskInit

__all__ = [
    "AutoRecycleDetail",
    "AutoRecycleRule",
    "Background",
    "BigModelOutboundGroup",
    "BridgeGroup",
    "Configs",
    "DialTimeDay",
    "DraftProblem",
    "EndActions",
    "Holiday",
    "LLMIntentionConfig",
    "Line",
    "LineNode",
    "NaiveDatetime",
    "NewLine",
    "OutboundGroup",
    "OutboundGroupV2",
    "TaskDialTime",
    "TaskDraft",
    "TaskExtras",
    "TaskInit",
    "TaskLine",
    "TimeRange",
    "Variable",
    "dec_hook",
]
