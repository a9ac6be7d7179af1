"""Keep a token that the server echoes out of every error."""

from __future__ import annotations

import html
import pickle
import time
from typing import Any

import pytest
import strategies
from hypothesis import given, settings
from hypothesis import strategies as st
from responses import SETTINGS, check_copies, error_body, response
from strategies import SAMPLE_BYTES, sample

from wolf_async.api.redact import read_redacted
from wolf_async.api.response import parse
from wolf_async.errors import (
    WolfAPIError,
    WolfAuthError,
    WolfError,
    WolfServerError,
)

TOKEN = "eyJhbGciOi/JIUzI1+NiJ9.SENTINEL_t0ken-abc=="
WORDS = [TOKEN[:8], TOKEN[-12:], "SENTINEL"]


def with_token(
    body: bytes | Any, status: int = 200, token: str = TOKEN, **headers: str
) -> WolfError:
    """Return the error of a body that holds the token, as a caller gets it."""
    with pytest.raises(WolfError) as caught:
        read_redacted(token, response(body, status, **headers), parse)
    return caught.value


def everything_in(error: BaseException | None) -> str:
    """All text that can be got out of an error, its causes included."""
    said = ""
    while error is not None:
        body: bytes = getattr(error, "body", b"")
        said += f"{error}{error!r}{error.args}{vars(error)}{body.decode(errors='replace')}"
        said += pickle.dumps(error).decode("latin-1")
        error = error.__cause__ or error.__context__
    return said


FORMS = {
    "as it is": TOKEN,
    "as PHP writes a slash": TOKEN.replace("/", "\\/"),
    "as PHP writes a slash, twice": TOKEN.replace("/", "\\\\\\/"),
    "as Java writes an equals sign": TOKEN.replace("=", "\\u003d"),
    "as .NET writes a plus": TOKEN.replace("+", "\\u002B"),
    "in a URL": TOKEN.replace("/", "%2F").replace("+", "%2B").replace("=", "%3D"),
    "in a URL, in small letters": TOKEN.replace("/", "%2f").replace("+", "%2b").replace("=", "%3d"),
    "in a URL in a URL": TOKEN.replace("/", "%252F").replace("+", "%252B").replace("=", "%253D"),
    "in a URL's path": TOKEN.replace("+", "%2B").replace("=", "%3D"),
    "in HTML": TOKEN.replace("=", "&#61;").replace("+", "&#x2B;").replace("/", "&#47;"),
    "all ways at once": TOKEN.replace("/", "\\/").replace("+", "%2B").replace("=", "\\u003D"),
}
echoes = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)


def assert_clean(error: WolfError) -> None:
    said = everything_in(error)
    assert [word for word in WORDS if word in said] == []
    assert "***" in said


@echoes
def test_a_token_in_the_message_is_in_no_error(form: str) -> None:
    error = with_token(
        f'{{"code":401,"status":"error","message":"bad: Bearer {form}, ok"}}'.encode(), 401
    )
    assert_clean(error)
    assert isinstance(error, WolfAuthError)
    assert error.api_message == "bad: Bearer ***, ok"
    assert (error.code, error.http_status) == (401, 401)


@echoes
def test_a_token_in_a_page_is_in_no_error(form: str) -> None:
    for status in (200, 502):
        assert_clean(with_token(f"<html><pre>Authorization: Bearer {form}</pre>".encode(), status))


@echoes
@pytest.mark.parametrize("before", [2048 - 60, 2048 - 20, 2048 - 8, 2048 - 1])
def test_a_token_across_the_cut_of_the_body_is_not_there_in_part(form: str, before: int) -> None:
    body = b"<" + b"x" * (before - 1) + form.encode() + b"y" * 100
    assert_clean_but_for_the_cut(with_token(body, 502))


@pytest.mark.parametrize("before", [500 - 30, 500 - 8, 500 - 1])
def test_a_token_across_the_cut_of_the_message_is_not_there_in_part(before: int) -> None:
    body = {"code": 6007, "status": "error", "message": "x" * before + TOKEN}
    assert_clean_but_for_the_cut(with_token(body))


def assert_clean_but_for_the_cut(error: WolfError) -> None:
    said = everything_in(error)
    assert [word for word in (*WORDS, TOKEN[:4]) if word in said] == []


def test_a_token_in_every_other_place_is_in_no_error() -> None:
    bodies: list[Any] = [
        error_body(status=TOKEN),
        error_body(code=TOKEN),
        error_body(message={TOKEN: [TOKEN]}),
        error_body(message=[TOKEN, {"headers": [f"Bearer {TOKEN}"]}]),
        {"message": TOKEN},
        sample() | {"data": {"end_actions": {TOKEN: {}}}},
        sample() | {"data": {"caller_line_list": TOKEN}},
        sample() | {"data": {"background": [{"id": TOKEN, "name": TOKEN, "created_at": TOKEN}]}},
        TOKEN,
        [TOKEN],
        TOKEN.encode() + b"\xff",
        b"\xff" + TOKEN.encode() * 100,
    ]
    for body in bodies:
        for status in (200, 401, 500):
            assert_clean(with_token(body, status))


def test_a_token_in_the_request_id_is_in_no_error() -> None:
    error = with_token(b"", 502, X_Request_Id=f"r-{TOKEN}")
    assert_clean(error)
    assert isinstance(error, WolfServerError)
    assert error.request_id == "r-***"
    assert with_token(error_body(429, message=TOKEN), Retry_After="5").retry_after == 5  # type: ignore[attr-defined]


def test_what_holds_no_token_is_left_as_it_is() -> None:
    answer = response(SAMPLE_BYTES)
    same, (init, _) = read_redacted(TOKEN, answer, parse)
    assert same is answer
    assert init.caller_line_list
    error = with_token(error_body(message="bad"), X_Request_Id="r-1")
    assert error.body == response(error_body(message="bad")).body


def test_an_answer_that_holds_the_token_is_kept_as_it_came() -> None:
    document = sample()
    document["data"]["background"][0]["name"] = TOKEN
    answer = response(document)
    same, (init, _) = read_redacted(TOKEN, answer, parse)
    assert same is answer
    assert init.background[0].name == TOKEN


@pytest.mark.parametrize("token", ["t", "e", "2", "00", "err", "token", "ata", "succes", "error."])
def test_a_short_token_does_not_turn_one_error_into_another(token: str) -> None:
    error = with_token(error_body(message=f"bad token {token}"), token=token)
    assert type(error) is WolfAPIError
    assert error.code == 6007
    assert error.api_message in {"bad token ***", "bad *** ***"}


def test_a_token_of_special_characters_is_found() -> None:
    for token in (".*+?^$()[]{}|", "\\\\//\\\\//", "%2F%2F%2F%2F", "((((((((", '"quoted""'):
        error = with_token(error_body(message=f"bad {token} !"), token=token)
        assert isinstance(error, WolfAPIError)
        assert error.api_message == "bad *** !"


@pytest.mark.parametrize("token", ['ab12&cd<34"ef>gh', "it's&amp;mine"])
def test_a_token_with_names_for_its_characters_in_html_is_found(token: str) -> None:
    error = with_token(f"<html><pre>Bearer {html.escape(token)}</pre>".encode(), 502, token=token)
    assert error.body == b"<html><pre>Bearer ***</pre>"


def test_a_token_whose_letters_the_decoder_unescapes_is_in_no_text() -> None:
    form = "".join(f"\\u{ord(char):04x}" for char in TOKEN)
    error = with_token(f'{{"code":6007,"status":"error","message":"bad: {form}"}}'.encode())
    assert str(error).endswith("bad: ***")
    assert isinstance(error, WolfAPIError)
    assert error.api_message == "bad: ***"


@pytest.mark.parametrize("filler", [b"\\", b"%25", b"eyJ", b"/", b"&#0"])
def test_a_large_body_is_searched_in_no_time(filler: bytes) -> None:
    body = filler * (2**22 // len(filler))
    begun = time.perf_counter()
    for token in (TOKEN, "/" + TOKEN):
        without_secret_error = with_token(body, 502, token=token)
        assert without_secret_error.body == body[:2048]
    assert time.perf_counter() - begun < 5  # a search that goes back over it takes hours


# --- anything at all ------------------------------------------------------------------------------


@settings(SETTINGS, max_examples=100)
@given(
    strategies.BODIES | strategies.damaged_bytes(),
    strategies.STATUSES,
    st.sampled_from(["s", "00", "success", "error", TOKEN, '"', "{"]),
)
def test_cleaning_an_error_never_makes_it_something_else_than_an_error(
    body: bytes, status: int, token: str
) -> None:
    try:
        read_redacted(token, response(body, status), parse)
    except WolfError as error:
        check_copies(error)
