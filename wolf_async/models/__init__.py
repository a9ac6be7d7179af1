"""What the API returns, as frozen structs that keep the API's own names."""

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
from wolf_async.models.task_init import TaskInit

__all__ = [
    "AutoRecycleDetail",
    "AutoRecycleRule",
    "Background",
    "BigModelOutboundGroup",
    "BridgeGroup",
    "Configs",
    "DialTimeDay",
    "EndActions",
    "LLMIntentionConfig",
    "Line",
    "LineNode",
    "NaiveDatetime",
    "NewLine",
    "OutboundGroup",
    "OutboundGroupV2",
    "TaskDialTime",
    "TaskInit",
    "TimeRange",
    "Variable",
    "dec_hook",
]
