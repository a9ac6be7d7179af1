"""What the API returns and takes, as frozen structs that keep the API's own names.

So the vendor's page is the reference of their fields. What each field of an answer means stands
beside it in the source, where editors show it; ``help()`` names these with their types, and tells
all of what a task is made of.
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
