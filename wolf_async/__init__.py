"""Asyncio client for Wolf Smart Cloud's outbound-call API (云蝠智能).

It answers one question, *what can this account build a call task from right now?*, and keeps the
answer for a while::

    async with WolfClient(token="…") as wolf:
        init = await wolf.task_init(user_id)

`WolfClient` asks, `TaskInit` is the answer, and whatever goes wrong is a `WolfError`. The settings
are `CachePolicy`, `RetryPolicy`, `BreakerPolicy` and `Timeouts`. To create a task, build a
`TaskDraft` with `TaskInit.draft` and give it to `WolfClient.create_task`. All times are in seconds.
The README has a quick start in English and in Chinese (快速开始). ``__version__`` is the version.

Public are the names here, which are those of `wolf_async.client`, `wolf_async.models`,
`wolf_async.errors` and `wolf_async.policy`, and what these export:

- `wolf_async.cache`: `LoadingCache`, which keeps and shares what any async loader brings;
- `wolf_async.events`: what a client tells its listeners;
- `wolf_async.shared`: a tier on Redis or Valkey (extra ``redis``);
- `wolf_async.otel`: spans and metrics (extra ``otel``);
- `wolf_async.dashboard`: a live web page (extra ``dashboard``);
- `wolf_async.testing`: a server for tests that fails on demand, and a clock to set.
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
