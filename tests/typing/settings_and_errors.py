"""Settings and errors as users write them: type checkers read this file, and nobody runs it."""

from __future__ import annotations

import copy
import math
from typing import assert_type

from wolf_async import (
    Account,
    BreakerPolicy,
    CachePolicy,
    RetryPolicy,
    Timeouts,
    WolfAPIError,
    WolfAuthError,
    WolfCircuitOpenError,
    WolfClient,
    WolfClosedError,
    WolfConfigError,
    WolfConnectionError,
    WolfDecodeError,
    WolfEndpointError,
    WolfError,
    WolfNotFoundError,
    WolfPermissionError,
    WolfRateLimitError,
    WolfServerError,
    WolfTimeoutError,
)


def settings() -> None:
    cache = CachePolicy(
        ttl=30,
        stale_while_revalidate=5,
        stale_if_error=300,
        refresh_backoff=0.5,
        error_ttl=1,
        jitter=0.1,
        max_entries=1_000,
        max_bytes=None,
    )
    assert_type(cache.ttl, float)
    assert_type(cache.max_bytes, int | None)
    retry = RetryPolicy(attempts=3, backoff=0.1, max_backoff=1, max_retry_after=5, budget=math.inf)
    assert_type(retry.attempts, int)
    breaker = BreakerPolicy(failures=3, pause=0.5, max_pause=10)
    assert_type((breaker.failures, breaker.pause), tuple[int, float])
    assert_type(Timeouts(total=math.inf, attempt=5, connect=1).total, float)


async def errors(wolf: WolfClient) -> None:
    try:
        await wolf.task_init("user")
    except WolfCircuitOpenError as error:
        assert_type(error.retry_after, float)
    except (WolfConfigError, WolfClosedError, WolfConnectionError) as error:
        assert_type(error.account, Account | None)
    except WolfDecodeError as error:
        assert_type(error.path, str)
    except WolfRateLimitError as error:
        assert_type(error.retry_after, float | None)
    except WolfEndpointError as error:
        assert_type(error.http_status, int)
    except (WolfAuthError, WolfPermissionError, WolfNotFoundError, WolfServerError) as error:
        assert_type(error.http_status, int)
    except WolfAPIError as error:
        assert_type(error.code, int | None)
        assert_type(error.status, str | None)
        assert_type(error.api_message, str)
        assert_type(error.request_id, str | None)
    except WolfError as error:
        assert_type(error.attempts, int)
        assert_type(error.body, bytes)
        assert_type(copy.copy(error), WolfError)


def a_timeout_is_a_timeout(error: WolfTimeoutError) -> TimeoutError:
    return error
