"""Responses and the errors that they give, for the tests of what the server says."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from multidict import CIMultiDict

from wolf_async.api.response import RawResponse, find_api_error, parse
from wolf_async.errors import WolfAPIError, WolfDecodeError, WolfError

SETTINGS = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def response(body: bytes | Any, status: int = 200, **headers: str) -> RawResponse:
    """Return a response with that body, which is written as JSON if it is not bytes.

    Headers are named with ``_`` for ``-``: ``retry_after`` is the header Retry-After.
    """
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = CIMultiDict((name.replace("_", "-"), text) for name, text in headers.items())
    return RawResponse(status, named, data)


def refused(body: bytes | Any, status: int = 200, **headers: str) -> WolfAPIError:
    """Return the error of a server that says no, on which both ways to ask for it agree."""
    answer = response(body, status, **headers)
    with pytest.raises(WolfAPIError) as caught:
        parse(answer)
    again = find_api_error(answer)
    assert type(again) is type(caught.value)
    assert str(again) == str(caught.value)
    return caught.value


def undecodable(body: bytes | Any, status: int = 200) -> WolfDecodeError:
    """Return the error of an answer that makes no sense, which is no refusal."""
    answer = response(body, status)
    with pytest.raises(WolfDecodeError) as caught:
        parse(answer)
    assert find_api_error(answer) is None
    return caught.value


def error_body(
    code: Any = 6007, status: Any = "error", message: Any = "参数错误", data: Any = ()
) -> dict[str, Any]:
    return {"code": code, "status": status, "message": message, "data": data}


def check_copies(error: WolfError) -> None:
    assert isinstance(error, WolfAPIError | WolfDecodeError)
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(twin) is type(error)
        assert (str(twin), vars(twin)) == (str(error), vars(error))
