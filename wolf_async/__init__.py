"""Asyncio client for Wolf Smart Cloud's outbound-call API (云蝠智能).

It answers one question, *what can this account build a call task from right now?*, and keeps the
answer for a while::

    async with WolfClient(token="…") as wolf:
        init = await wolf.task_init(user_id)

`WolfClient` is the door; `TaskInit` is what comes out; `WolfError` is the root of what goes wrong.
"""

from wolf_async._version import __version__
from wolf_async.account import Account
from wolf_async.answer import Answer
from wolf_async.api.response import RawResponse
from wolf_async.bulk import AccountResult
from wolf_async.client import ClientStats, WolfClient
from wolf_async.create import CreatedTask
from wolf_async.errors import (
    DraftProblem,
    WolfAPIError,
    WolfAuthError,
    WolfCircuitOpenError,
    WolfClosedError,
    WolfConfigError,
    WolfConnectionError,
    WolfDecodeError,
    WolfDraftError,
    WolfEndpointError,
    WolfError,
    WolfNotFoundError,
    WolfPermissionError,
    WolfRateLimitError,
    WolfServerError,
    WolfTimeoutError,
    WolfUncertainError,
)
from wolf_async.models import (
    AutoRecycleDetail,
    AutoRecycleRule,
    Background,
    BigModelOutboundGroup,
    BridgeGroup,
    Configs,
    DialTimeDay,
    EndActions,
    Holiday,
    Line,
    LineNode,
    LLMIntentionConfig,
    NewLine,
    OutboundGroup,
    OutboundGroupV2,
    TaskDialTime,
    TaskDraft,
    TaskExtras,
    TaskInit,
    TaskLine,
    TimeRange,
    Variable,
)
from wolf_async.policy import BreakerPolicy, CachePolicy, RetryPolicy, Timeouts
from wolf_async.watch import AccountUpdate

__all__ = [
    "Account",
    "AccountResult",
    "AccountUpdate",
    "Answer",
    "AutoRecycleDetail",
    "AutoRecycleRule",
    "Background",
    "BigModelOutboundGroup",
    "BreakerPolicy",
    "BridgeGroup",
    "CachePolicy",
    "ClientStats",
    "Configs",
    "CreatedTask",
    "DialTimeDay",
    "DraftProblem",
    "EndActions",
    "Holiday",
    "LLMIntentionConfig",
    "Line",
    "LineNode",
    "NewLine",
    "OutboundGroup",
    "OutboundGroupV2",
    "RawResponse",
    "RetryPolicy",
    "TaskDialTime",
    "TaskDraft",
    "TaskExtras",
    "TaskInit",
    "TaskLine",
    "TimeRange",
    "Timeouts",
    "Variable",
    "WolfAPIError",
    "WolfAuthError",
    "WolfCircuitOpenError",
    "WolfClient",
    "WolfClosedError",
    "WolfConfigError",
    "WolfConnectionError",
    "WolfDecodeError",
    "WolfDraftError",
    "WolfEndpointError",
    "WolfError",
    "WolfNotFoundError",
    "WolfPermissionError",
    "WolfRateLimitError",
    "WolfServerError",
    "WolfTimeoutError",
    "WolfUncertainError",
    "__version__",
]
