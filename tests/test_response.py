"""Turn the bytes of a response into an answer or a named error."""

from __future__ import annotations

import json
import math
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import msgspec
import pytest
import strategies
from hypothesis import example, given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict
from responses import SETTINGS, check_copies, error_body, refused, response, undecodable
from strategies import SAMPLE_BYTES, sample

from wolf_async.api import response as api_response
from wolf_async.api.response import RawResponse, find_api_error, parse, unreadable_error
from wolf_async.errors import (
    BODY_KEPT,
    WolfAPIError,
    WolfAuthError,
    WolfDecodeError,
    WolfEndpointError,
    WolfError,
    WolfNotFoundError,
    WolfPermissionError,
    WolfRateLimitError,
    WolfServerError,
)
from wolf_async.models import TaskInit

BASE = "https://api.example/v1"
BOM = b"\xef\xbb\xbf"


def with_limit(value: bytes) -> bytes:
    """Return the sample with that in the place of ``max_recycle_limit``."""
    limit = b'"max_recycle_limit": '
    assert limit + b"50" in SAMPLE_BYTES
    return SAMPLE_BYTES.replace(limit + b"50", limit + value)


@pytest.mark.parametrize(
    "status", [200, 201, 203, 302, 400, 401, 403, 404, 422, 429, 500, 503, 599]
)
def test_a_success_is_an_answer_whatever_the_http_status(status: int) -> None:
    init, deviations = parse(response(SAMPLE_BYTES, status))
    assert init.caller_line_list[0].residue == 1
    assert deviations == {}
    assert find_api_error(response(SAMPLE_BYTES, status)) is None


@pytest.mark.parametrize("status", [200, 422, 500])
def test_a_success_on_the_repair_path_is_an_answer_whatever_the_http_status(status: int) -> None:
    document = sample()
    document["data"]["max_recycle_limit"] = "50"
    init, deviations = parse(response(document, status))
    assert init == parse(response(SAMPLE_BYTES))[0]
    assert set(deviations) == {"$.data.max_recycle_limit"}


@pytest.mark.parametrize(
    ("code", "http_status", "expected"),
    [
        (401, 200, WolfAuthError),
        (403, 200, WolfPermissionError),
        (404, 200, WolfNotFoundError),
        (429, 200, WolfRateLimitError),
        (500, 200, WolfServerError),
        (503, 200, WolfServerError),
        (599, 200, WolfServerError),
        (600, 200, WolfAPIError),
        (499, 200, WolfAPIError),
        (422, 200, WolfAPIError),
        (6007, 200, WolfAPIError),
        (0, 200, WolfAPIError),
        (-1, 200, WolfAPIError),
        (2**70, 200, WolfAPIError),
        # where the code has no class of its own, the HTTP status may have one
        (6007, 401, WolfAuthError),
        (6007, 403, WolfPermissionError),
        (6007, 404, WolfNotFoundError),
        (6007, 429, WolfRateLimitError),
        (422, 500, WolfServerError),
        (422, 422, WolfAPIError),
        # where both have one, the code decides
        (404, 401, WolfNotFoundError),
        (401, 503, WolfAuthError),
        (429, 403, WolfRateLimitError),
        (500, 404, WolfServerError),
    ],
)
def test_the_code_decides_on_the_error_and_then_the_http_status(
    code: int, http_status: int, expected: type[WolfAPIError]
) -> None:
    error = refused(error_body(code), http_status)
    assert type(error) is expected
    assert (error.code, error.status, error.http_status) == (code, "error", http_status)
    assert error.api_message == "参数错误"
    assert str(error) == f"the server said no (HTTP {http_status}, code {code}): 参数错误"


@pytest.mark.parametrize(
    ("code", "read", "expected"),
    [
        ("401", 401, WolfAuthError),
        ("6007", 6007, WolfAPIError),
        ("TOKEN_EXPIRED", None, WolfAPIError),
        ("", None, WolfAPIError),
        ("4e2", None, WolfAPIError),
        ("٤٠١", None, WolfAPIError),
        ("9" * 5000, None, WolfAPIError),
        ("-1", None, WolfAPIError),
    ],
)
def test_a_code_may_be_a_string(code: str, read: int | None, expected: type[WolfAPIError]) -> None:
    error = refused(error_body(code))
    assert type(error) is expected
    assert error.code == read


def test_a_success_with_its_code_as_a_string_is_an_answer_and_a_deviation() -> None:
    init, deviations = parse(response(sample() | {"code": "200"}))
    assert init == parse(response(SAMPLE_BYTES))[0]
    assert deviations == {"$.code": "expected an int, got '200'"}


@pytest.mark.parametrize(
    ("code", "status", "expected"),
    [
        (200, "error", WolfAPIError),
        (200, "", WolfAPIError),
        (200, "Success", WolfAPIError),
        (200, " success", WolfAPIError),
        (500, "success", WolfServerError),
        (401, "success", WolfAuthError),
        (0, "success", WolfAPIError),
        (201, "success", WolfAPIError),
        ("OK", "success", WolfAPIError),
    ],
)
def test_an_envelope_that_contradicts_itself_is_no_success(
    code: Any, status: str, expected: type[WolfAPIError]
) -> None:
    document = sample() | {"code": code, "status": status}
    assert type(refused(document)) is expected


@pytest.mark.parametrize(
    "envelope",
    [{"code": code} for code in (None, True, 200.0, [200], {"code": 200})]
    + [{"status": status} for status in (None, True, 1, ["success"], {"": "success"})],
)
def test_a_code_or_status_of_another_type_makes_no_envelope(envelope: dict[str, Any]) -> None:
    document = sample() | envelope
    assert undecodable(document).path == "$"
    error = refused(document, 401)
    assert type(error) is WolfAuthError
    assert (error.code, error.status) == (None, None)


@pytest.mark.parametrize("missing", ["code", "status"])
def test_without_code_or_status_it_is_no_envelope(missing: str) -> None:
    document = sample()
    del document[missing]
    assert undecodable(document).path == "$"
    assert type(refused(document, 500)) is WolfServerError


@pytest.mark.parametrize("data", [[], {}, None, sample()["data"]])
def test_an_error_is_one_whatever_its_data(data: Any) -> None:
    assert type(refused(error_body(data=data))) is WolfAPIError


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("参数错误", "参数错误"),
        (None, ""),
        ("", ""),
        ([], ""),
        ({}, ""),
        ({"user_id": []}, ""),
        (["one", "two"], "one; two"),
        (
            {"user_id": ["不能为空", "无效"], "sub_user_id": ["无效"]},
            "user_id: 不能为空, 无效; sub_user_id: 无效",
        ),
        ({"user_id": "无效"}, "user_id: 无效"),
        ([{"user_id": ["无效"]}], "user_id: 无效"),
        (42, "42"),
        (False, "False"),
        ("two\r\n lines\u2028and  more\x85", "two lines and more"),
        ([[[["too deep"]]]], ""),
    ],
)
def test_a_message_of_any_shape_is_one_line(message: Any, line: str) -> None:
    error = refused(error_body(message=message))
    assert error.api_message == line
    assert str(error).endswith(f": {line or 'no message'}")


def test_a_missing_message_is_none() -> None:
    assert refused({"code": 6007, "status": "error"}).api_message == ""


def test_a_long_message_is_cut() -> None:
    error = refused(error_body(message="x" * 100_000))
    assert error.api_message == "x" * 500
    assert len(str(error)) < 600


NO_OBJECTS = [
    b"",
    b"<html>\r\n<h1>502 Bad Gateway</h1>nginx</html>",
    b"null",
    b"[]",
    b'"no"',
    b"\xff\xfe",
    b'{"code":1',
]


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (301, WolfAPIError),
        (400, WolfAPIError),
        (401, WolfAuthError),
        (403, WolfPermissionError),
        (404, WolfNotFoundError),
        (408, WolfAPIError),
        (418, WolfAPIError),
        (429, WolfRateLimitError),
        (500, WolfServerError),
        (502, WolfServerError),
        (503, WolfServerError),
        (599, WolfServerError),
        (600, WolfAPIError),
        (199, WolfAPIError),
        (999, WolfAPIError),
    ],
)
@pytest.mark.parametrize("body", [*NO_OBJECTS, b"{}", b'{"error": "no"}'])
def test_without_an_envelope_the_http_status_decides(
    body: bytes, status: int, expected: type[WolfAPIError]
) -> None:
    error = refused(body, status)
    if status == 404 and body in NO_OBJECTS:
        expected = WolfEndpointError
    assert type(error) is expected
    assert (error.code, error.status, error.api_message) == (None, None, "")
    assert (error.http_status, error.body) == (status, body)


@pytest.mark.parametrize("status", [404, 405])
@pytest.mark.parametrize("body", NO_OBJECTS)
def test_a_404_or_405_without_a_json_object_says_that_there_is_no_such_api(
    body: bytes, status: int
) -> None:
    answer = response(body, status)
    unread = unreadable_error(answer, "too large", BASE)
    with pytest.raises(WolfEndpointError) as caught:
        parse(answer, BASE)
    for error in (caught.value, find_api_error(answer, BASE), unread):
        assert type(error) is WolfEndpointError
        assert str(error) == (
            f"no Wolf Smart Cloud API at {BASE}: check base_url or WOLF_BASE_URL (HTTP {status})"
        )


@pytest.mark.parametrize(
    ("body", "status", "expected"),
    [
        ({"message": "No query results for model"}, 404, WolfNotFoundError),
        ({"message": ""}, 404, WolfNotFoundError),
        ({}, 405, WolfAPIError),
        (error_body(6007), 404, WolfNotFoundError),
        (error_body(404), 405, WolfNotFoundError),
        (error_body(6007, message="账户").__repr__().encode("gbk"), 404, WolfEndpointError),
        (json.dumps({"message": "账户"}, ensure_ascii=False).encode("gbk"), 404, WolfNotFoundError),
    ],
)
def test_a_404_or_405_with_a_json_object_comes_from_the_api(
    body: Any, status: int, expected: type[WolfAPIError]
) -> None:
    assert type(refused(body, status)) is expected


def test_an_answer_is_one_even_under_a_404() -> None:
    assert parse(response(SAMPLE_BYTES, 404))[0].caller_line_list


def test_a_body_with_a_message_alone_gives_the_error_its_words() -> None:
    error = refused({"message": "Unauthenticated."}, 401)
    assert type(error) is WolfAuthError
    assert error.api_message == "Unauthenticated."
    assert str(error) == "the server said no (HTTP 401): Unauthenticated."


@pytest.mark.parametrize("status", [200, 201, 204, 205])
@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "an empty body"),
        (b"<html><h1>Welcome to nginx!</h1></html>", "not JSON: JSON is malformed"),
        (b'{"code":200,"status":"success","da', "not JSON: Input data was truncated"),
        (SAMPLE_BYTES[:-20], "not JSON: Input data was truncated"),
        (SAMPLE_BYTES + b"}", "not JSON: JSON is malformed: trailing characters"),
        (with_limit(b"NaN"), "not JSON: JSON is malformed"),
        (with_limit(b"1e999"), "not JSON: Number out of range"),
        (with_limit(b"9" * 5000), "not JSON: Integer value out of range"),
        (
            SAMPLE_BYTES.replace(b"fs-node1", b"fs\xffnode"),
            "not UTF-8: invalid start byte at byte ",
        ),
        (SAMPLE_BYTES.decode().encode("gbk", "replace"), "not UTF-8: "),
        (SAMPLE_BYTES.decode().encode("utf-16"), "not JSON: JSON is malformed"),
        (b'{"message":"Unauthenticated."}', "no envelope with code and status at $"),
        (b"[]", "no envelope with code and status at $"),
        (b"null", "no envelope with code and status at $"),
        (b"\xef\xbb\xbf", "not JSON: Input data was truncated"),
    ],
)
def test_a_body_that_makes_no_sense_under_a_2xx_is_an_undecodable_answer(
    body: bytes, reason: str, status: int
) -> None:
    error = undecodable(body, status)
    assert error.path == "$"
    assert f"(HTTP {status}): {reason}" in str(error)
    assert error.body == body[:BODY_KEPT]


@pytest.mark.parametrize("http_status", [200, 500])
def test_an_error_in_another_charset_is_still_that_error(http_status: int) -> None:
    body = json.dumps(error_body(401), ensure_ascii=False).encode("gbk")
    error = refused(body, http_status)
    assert type(error) is WolfAuthError
    assert (error.code, error.status, error.api_message) == (401, "error", "")
    assert type(refused(b"\xef\xbb\xbf" + body, http_status)) is WolfAuthError


@pytest.mark.parametrize("http_status", [200, 302, 401, 500])
def test_a_success_in_another_charset_is_undecodable_or_an_answer_but_no_refusal(
    http_status: int,
) -> None:
    body = json.dumps(sample(), ensure_ascii=False).encode("gbk")
    assert undecodable(body, http_status).path == "$"
    # here it matters in the message alone, which is not looked at
    message = json.dumps("成功", ensure_ascii=False).encode("gbk")
    body = json.dumps(sample() | {"message": "?"}).encode().replace(b'"?"', message)
    answer = response(body, http_status)
    assert parse(answer)[0] == parse(response(SAMPLE_BYTES))[0]
    assert find_api_error(answer) is None


def test_an_undecodable_answer_names_the_byte_that_is_not_utf_8() -> None:
    body = SAMPLE_BYTES.replace(b"fs-node1", b"fs\xff")
    for marks in (b"", b"\xef\xbb\xbf", b"\n\xef\xbb\xbf"):
        broken = marks + body
        assert str(undecodable(broken)).endswith(f"at byte {broken.index(0xFF)}")


@pytest.mark.parametrize(
    "body", [SAMPLE_BYTES.replace(b"fs-node1", b"\xff"), b"\xff", b'{"data":{"background":0}}']
)
def test_no_error_keeps_the_whole_body(body: bytes) -> None:
    big = body + b" " * 5000
    error: BaseException | None = undecodable(big)
    assert isinstance(error, WolfDecodeError)
    assert error.body == big[:BODY_KEPT]
    while error is not None:
        assert not isinstance(error, UnicodeDecodeError)
        assert len(str(error)) < 500
        error = error.__cause__ or error.__context__


def nested_in(where: str, opened: bytes, depth: int, closed: bytes) -> bytes:
    nested = opened * depth + b"1" + closed * depth
    return {
        "configs": SAMPLE_BYTES.replace(b'"configs": []', b'"configs": {"a":' + nested + b"}"),
        "configs, and a quirk": with_limit(b'"50"').replace(
            b'"configs": []', b'"configs": {"a":' + nested + b"}"
        ),
        "an unknown key": SAMPLE_BYTES.replace(b'"code"', b'"new":' + nested + b',"code"'),
        "a message": b'{"code":401,"status":"error","message":' + nested + b"}",
        "an int": SAMPLE_BYTES.replace(b'"residue": 1', b'"residue":' + nested),
    }[where]


@pytest.mark.parametrize(
    "where", ["configs", "configs, and a quirk", "an unknown key", "a message", "an int"]
)
@pytest.mark.parametrize(
    ("opened", "closed"), [(b"[", b"]"), (b'{"a":', b"}")], ids=["arrays", "objects"]
)
def test_deep_nesting_is_an_answer_or_an_error_but_no_crash(
    where: str, opened: bytes, closed: bytes
) -> None:
    with pytest.raises(WolfDecodeError, match=r"nested too deeply"):
        parse(response(nested_in(where, opened, 1_000_000, closed)))
    # how deep is too deep depends on the version: since 3.14 it is what the stack has room for
    reasons = {"nested too deeply"}
    for depth in (*range(20, 1000, 20), 3000, 100_000):
        try:
            parse(response(nested_in(where, opened, depth, closed)))
        except WolfAPIError as error:
            reasons.add(error.api_message)
        except WolfDecodeError as error:
            reasons.add("nested too deeply" if "nested too deeply" in str(error) else error.path)
    expected = {"a message": {""}, "an int": {"$.data.caller_line_list[0].residue"}}
    assert reasons == {"nested too deeply"} | expected.get(where, set())


@pytest.mark.parametrize("before", [BOM, BOM + BOM, b"\n" + BOM, BOM + b" \r\n\t" + BOM + b"\n"])
def test_a_byte_order_mark_is_a_deviation(before: bytes) -> None:
    init, deviations = parse(response(before + SAMPLE_BYTES))
    assert init == parse(response(SAMPLE_BYTES))[0]
    assert set(deviations) == {"$"}
    assert type(refused(before + json.dumps(error_body(404)).encode())) is WolfNotFoundError


def test_of_duplicate_keys_the_last_one_counts() -> None:
    twice = SAMPLE_BYTES.replace(b'"residue": 1', b'"residue": 7, "residue": 8')
    assert parse(response(twice))[0].caller_line_list[0].residue == 8
    assert type(refused(SAMPLE_BYTES.rstrip()[:-1] + b',"code":500}')) is WolfServerError
    first_is_wrong = SAMPLE_BYTES.replace(b'"residue": 1', b'"residue": {}, "residue": 8')
    assert parse(response(first_is_wrong))[0].caller_line_list[0].residue == 8


@pytest.mark.parametrize("number", [2**53 + 1, 2**63, 2**64 - 1, 2**64, 2**64 + 1, 10**30 + 1])
@pytest.mark.parametrize("quirk", [False, True])
def test_ints_of_any_size_stay_intact_on_both_paths(number: int, quirk: bool) -> None:
    document = sample()
    document["data"]["background"][0]["id"] = number
    if quirk:
        document["data"]["max_recycle_limit"] = "50"
    init, deviations = parse(response(document))
    assert init.background[0].id == number
    assert bool(deviations) is quirk


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_an_error_that_says_so(status: int) -> None:
    error = refused(b"<html>moved</html>", status, Location="https://evil.example/")
    assert type(error) is WolfAPIError
    assert "a redirect, which is not followed" in str(error)
    assert "evil" not in str(error)


def test_a_redirect_with_words_of_its_own_keeps_them() -> None:
    assert refused({"message": "moved"}, 302).api_message == "moved"


def test_an_error_has_the_gateways_request_id() -> None:
    assert refused(error_body(), X_Request_ID="r-17").request_id == "r-17"
    assert refused(error_body()).request_id is None


def test_an_error_keeps_the_first_2_kib_of_the_body() -> None:
    body = json.dumps(error_body(data=["x" * 5000])).encode()
    assert refused(body).body == body[:2048]


def test_a_response_shows_no_body_in_its_repr() -> None:
    assert repr(response(b"secret", 502)) == "<RawResponse: status 502, 6 bytes, 1 attempts>"


# --- Retry-After ----------------------------------------------------------------------------------

NOW = 1_700_000_000.0


def after(text: str, date: str | None = None) -> float | None:
    headers = {"Retry-After": text} | ({} if date is None else {"Date": date})
    return api_response.parse_retry_after(CIMultiDict(headers), now=NOW)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("7", 7.0),
        (" 7 ", 7.0),
        ("1.5", 1.5),
        ("007", 7.0),
        ("86400", 86400.0),
        ("9" * 30, 1e30),
    ],
)
def test_retry_after_in_seconds(text: str, seconds: float) -> None:
    assert after(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "-1",
        "-0",
        "+5",
        "1e999",
        "1e3",
        "nan",
        "inf",
        "Infinity",
        "0x10",
        "1_000",
        "1,5",
        "5 s",
        "٣",
        "soon",
        "Wed, 99 Nov 2023 22:13:20 GMT",
        "Wed, 15 Nov 99999 22:13:20 GMT",
        "Wed",
        ",",
        "99999999999999999999 Jan 1 1:1:1",
        "Wed, 15 Nov 2023 22:13:20 +99999999999",
        "0 0 0 0:0:0",
        "1 Jan , 1:1:1 GMT",
        "\x00",
    ],
)
def test_nonsense_in_retry_after_is_as_none(text: str) -> None:
    assert after(text) is None
    assert after(text, date=text) is None


def test_no_retry_after_is_none() -> None:
    assert api_response.parse_retry_after({}, now=NOW) is None


def test_a_number_without_end_is_for_ever_and_not_at_once() -> None:
    seconds = after("9" * 5000)
    assert seconds is not None
    assert seconds > 1e300


def http_date(seconds: float) -> str:
    return format_datetime(datetime.fromtimestamp(seconds, UTC), usegmt=True)


def test_a_date_in_retry_after_counts_from_the_servers_own_date() -> None:
    # the server's clock is a day off
    assert after(http_date(NOW + 86_430), date=http_date(NOW + 86_400)) == 30.0


@pytest.mark.parametrize("date", [None, "", "yesterday", "-1"])
def test_a_date_in_retry_after_counts_from_now_where_the_server_names_no_date(
    date: str | None,
) -> None:
    assert after(http_date(NOW + 30), date=date) == 30.0


def test_a_date_that_has_passed_is_at_once() -> None:
    assert after(http_date(NOW - 30)) == 0.0


@pytest.mark.parametrize(
    "text",
    [
        "Tuesday, 14-Nov-23 22:13:50 GMT",
        "Tue Nov 14 22:13:50 2023",
        "Tue, 14 Nov 2023 22:13:50 -0000",
    ],
)
def test_the_older_forms_of_a_date_are_in_utc(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Shanghai")
    time.tzset()
    try:
        assert after(text) == 30.0
        assert after(text, date=http_date(NOW)) == 30.0
    finally:
        monkeypatch.undo()
        time.tzset()


def test_an_error_counts_a_date_from_the_clock_on_the_wall() -> None:
    until = datetime.now(UTC) + timedelta(seconds=100)
    waited = refused(error_body(429), retry_after=format_datetime(until, usegmt=True)).retry_after
    assert waited is not None
    assert 50 < waited <= 100


def test_every_error_of_the_server_carries_retry_after() -> None:
    for status in (429, 500, 503, 403):
        assert refused(b"", status, retry_after="12").retry_after == 12.0
    assert refused(error_body(429), 200, retry_after="12").retry_after == 12.0
    assert refused(error_body(429)).retry_after is None


@settings(SETTINGS, max_examples=300)
@given(
    st.text(max_size=40) | st.text("0123456789 :,+-GMTJanWed", max_size=40),
    st.text("0123456789 :+-Jan", max_size=30),
)
@example("0 0 0 0:0:0 +", "1 1 1 1:1:1 1")
def test_any_text_in_retry_after_is_some_time_or_none(text: str, date: str) -> None:
    seconds = after(text, date)
    assert seconds is None or seconds >= 0
    assert seconds is None or not math.isnan(seconds)


# --- anything at all ------------------------------------------------------------------------------

HEADERS = st.fixed_dictionaries(
    {}, optional={"Retry-After": st.text(max_size=12), "X-Request-Id": st.text(max_size=4)}
)


class Head(msgspec.Struct):
    code: int | str
    status: str
    data: msgspec.Raw


def check(answer: RawResponse) -> None:
    """Check what holds for any response: it is an answer, or an error that says all it should."""
    try:
        init, deviations = parse(answer)
    except WolfError as error:
        check_error(error, answer)
    else:
        check_answer(init, answer)
        assert all(path.startswith("$") and text for path, text in deviations.items())
        assert find_api_error(answer) is None


def check_error(error: WolfError, answer: RawResponse) -> None:
    assert isinstance(error, WolfAPIError | WolfDecodeError)
    assert error.body == answer.body[:BODY_KEPT]
    assert "\n" not in str(error)
    said_no = find_api_error(answer)
    assert (said_no is None) == isinstance(error, WolfDecodeError)
    if isinstance(error, WolfAPIError):
        assert error.http_status == answer.status
    else:
        assert 200 <= answer.status < 300 or b"success" in answer.body
    check_copies(error)


def check_answer(init: TaskInit, answer: RawResponse) -> None:
    # not the whole document: what is skipped, such as the message, need not be UTF-8
    read = msgspec.json.decode(answer.body.removeprefix(b"\xef\xbb\xbf"), type=Head)
    assert (int(read.code), read.status) == (200, "success")
    assert any(f'"{name}"'.encode() in bytes(read.data) for name in TaskInit.__struct_fields__)
    written = msgspec.json.encode(init)
    again, deviations = parse(response(b'{"code":200,"status":"success","data":' + written + b"}"))
    assert again == init
    assert deviations == {}


@settings(SETTINGS, max_examples=250)
@given(strategies.BODIES, strategies.STATUSES, HEADERS)
def test_any_json_is_an_answer_or_an_error_of_ours(
    body: bytes, status: int, headers: dict[str, str]
) -> None:
    check(RawResponse(status, CIMultiDict(headers), body))


@settings(SETTINGS, max_examples=150)
@given(strategies.damaged_samples())
def test_a_damaged_sample_is_an_answer_or_an_error_of_ours(document: Any) -> None:
    check(response(document))


@settings(SETTINGS, max_examples=300)
@given(st.binary() | strategies.damaged_bytes(), strategies.STATUSES)
def test_any_bytes_are_an_answer_or_an_error_of_ours(body: bytes, status: int) -> None:
    check(response(body, status))
