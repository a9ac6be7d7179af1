"""Check ids and the base URL, and make of them the URL that is asked."""

from __future__ import annotations

from enum import Enum
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from responses import SETTINGS
from yarl import URL

from wolf_async.account import Account
from wolf_async.api import request
from wolf_async.api.request import check_account, check_base_url, request_url
from wolf_async.errors import (
    WolfConfigError,
)

BASE = "https://api.example"
VENDORS_EXAMPLE = (
    "https://api.wolfsmartcloud.com/agent-api/new/user/5832d184-dd53-42a0-8ace-0bf8d660f4cc/task/create"
    "?sub_user_id=5b55bcca-d653-4a58-8f9a-437fb0601f8e"
)


def url_of(base_url: str, account: Account) -> str:
    return request_url(urlsplit(base_url), account).geturl()


def test_the_request_is_the_one_of_the_vendors_example() -> None:
    account = check_account(
        "5832d184-dd53-42a0-8ace-0bf8d660f4cc", "5b55bcca-d653-4a58-8f9a-437fb0601f8e"
    )
    assert url_of(request.DEFAULT_BASE_URL, account) == VENDORS_EXAMPLE


def test_the_main_account_is_asked_for_without_a_query() -> None:
    assert url_of(BASE, check_account("u")) == f"{BASE}/agent-api/new/user/u/task/create"


def test_an_account_is_the_plain_tuple_of_its_ids() -> None:
    assert check_account("u", "s") == ("u", "s")
    assert type(check_account("u")) is Account
    assert check_account("u") == ("u", None)


class Known(str, Enum):  # noqa: UP042 (a StrEnum formats as its value, and would show nothing)
    MAIN = "u-1"
    ODD = "u 1"


class Loud(str):
    __slots__ = ()

    def __str__(self) -> str:
        return self.upper()

    __format__ = object.__format__


@pytest.mark.parametrize("value", [*Known, Loud("u-1"), Loud("u 1")])
def test_an_id_of_a_class_of_its_own_is_what_it_holds(value: str) -> None:
    account = check_account(value, value)
    assert list(map(type, account)) == [str, str]
    assert request_url(urlsplit(BASE), account) == request_url(
        urlsplit(BASE), check_account(value[:], value[:])
    )
    assert account.user_id == value[:]


BAD_IDS: list[Any] = [
    *["", None, 7, 0, True, 1.5, b"u", ["u"], {}, object(), ("u", None)],
    *[
        "\n",
        "u\n",
        "a\r\nHost: x",
        "\x00",
        "\t",
        "\x7f",
        "\x85",
        "\u2028",
        "\u202e",
        "\ufeff",
        "\u00a0",
    ],
    *["\ud800", "a\udfff", "\ud83d\ude00"],
    *[
        ".",
        "..",
        "../x",
        "x/..",
        "a/../b",
        "./x",
        "x/.",
        "..\\x",
        "a\\..\\b",
        "a/..\\b",
        "\\.",
        "/..",
    ],
]


@pytest.mark.parametrize("value", BAD_IDS, ids=ascii)
def test_an_id_that_cannot_be_one_is_refused_in_both_places(value: Any) -> None:
    with pytest.raises(WolfConfigError, match=r"^user_id must"):
        check_account(value)
    if value is not None:
        with pytest.raises(WolfConfigError, match=r"^sub_user_id must"):
            check_account("u", value)


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        ("a/b", "a%2Fb"),
        ("a?b=c", "a%3Fb%3Dc"),
        ("a#b", "a%23b"),
        ("%2e%2e", "%252e%252e"),
        ("%2e%2e%2fx", "%252e%252e%252fx"),
        ("a b", "a%20b"),
        ("a+b&c=d;e", "a%2Bb%26c%3Dd%3Be"),
        ("a\\b", "a%5Cb"),
        ("...", "..."),
        ("..;x", "..%3Bx"),
        ("~a_b-c.d", "~a_b-c.d"),
        ("//x", "%2F%2Fx"),
        ("https://evil.example/", "https%3A%2F%2Fevil.example%2F"),
        ("@:", "%40%3A"),
        ("用户", "%E7%94%A8%E6%88%B7"),
    ],
)
def test_an_odd_id_stays_one_segment_and_one_value(value: str, encoded: str) -> None:
    url = url_of(BASE, check_account(value, value))
    assert url == f"{BASE}/agent-api/new/user/{encoded}/task/create?sub_user_id={encoded}"


ODD_TEXT = st.one_of(
    st.text(min_size=1),
    st.text("./\\%2eEfF?#&=+;:@ \n\x00\u202e", min_size=1, max_size=8),
    st.text(st.characters(categories=["Cs", "Cc", "Lo", "Po"]), min_size=1, max_size=4),
)


@settings(SETTINGS, max_examples=300)
@given(
    ODD_TEXT,
    st.none() | ODD_TEXT,
    st.sampled_from([BASE, "https://h:8443/a/b%2Fc", "http://[::1]:1"]),
)
def test_any_accepted_id_comes_back_from_the_url_as_one_segment_or_one_value(
    user_id: str, sub_user_id: str | None, base: str
) -> None:
    try:
        account = check_account(user_id, sub_user_id)
    except WolfConfigError:
        assume(False)
        raise
    base = check_base_url(base, allow_http=False)
    url = url_of(base, account)
    assert url.isascii()
    assert url.isprintable()
    parts = urlsplit(url)
    assert parts.path.count("/") == urlsplit(base).path.count("/") + 6
    assert unquote(parts.path.split("/")[-3], errors="strict") == user_id
    query = [] if sub_user_id is None else [("sub_user_id", sub_user_id)]
    assert parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(query)) == query
    assert parts.fragment == ""
    # as the transport hands it to aiohttp
    sent = URL(request_url(urlsplit(base), account), encoded=True)
    assert str(sent.raw_path_qs) == url.removeprefix(f"{parts.scheme}://{parts.netloc}")
    assert unquote(sent.raw_parts[-3]) == user_id


# --- the base URL ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given_url", "used"),
    [
        ("https://api.wolfsmartcloud.com", "https://api.wolfsmartcloud.com"),
        ("https://api.example/", "https://api.example"),
        ("https://api.example//", "https://api.example"),
        ("https://api.example:8443/prefix/v1/", "https://api.example:8443/prefix/v1"),
        ("https://api.example?", "https://api.example"),
        ("https://api.example/#", "https://api.example"),
        ("HTTPS://API.example", "HTTPS://API.example"),
        ("https://10.0.0.7", "https://10.0.0.7"),
        ("https://[2001:db8::1]:8443", "https://[2001:db8::1]:8443"),
        ("http://localhost:8080/", "http://localhost:8080"),
        ("http://LOCALHOST", "http://LOCALHOST"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://127.8.9.10", "http://127.8.9.10"),
        ("http://[::1]:8080/x", "http://[::1]:8080/x"),
        ("http://[0:0:0:0:0:0:0:1]", "http://[0:0:0:0:0:0:0:1]"),
    ],
)
def test_a_base_url_is_used_without_its_end(given_url: str, used: str) -> None:
    assert check_base_url(given_url, allow_http=False) == used
    path = urlsplit(used).path
    assert (
        URL(request_url(urlsplit(used), Account("u")), encoded=True).raw_path
        == f"{path}/agent-api/new/user/u/task/create"
    )


NOT_LOOPBACK = [
    "api.wolfsmartcloud.com",
    "127.0.0.1.evil.example",
    "localhost.evil.example",
    "localhost.",
    "evil-localhost",
    "127.0.0.1-evil.example",
    "evil.example/127.0.0.1",
    "127.0.0.999",
    "127.1",
    "2130706433",
    "0x7f.0.0.1",
    "128.0.0.1",
    "0.0.0.0",
    "10.0.0.1",
    "192.168.1.1",
    "[::2]",
    "[::]",
    "[fe80::1]",
    "[2001:db8::1]",
]


@pytest.mark.parametrize("host", NOT_LOOPBACK)
def test_plain_http_is_refused_but_for_loopback_or_with_leave(host: str) -> None:
    with pytest.raises(WolfConfigError, match="plain http would show the token"):
        check_base_url(f"http://{host}", allow_http=False)
    assert check_base_url(f"http://{host}", allow_http=True) == f"http://{host}"
    assert check_base_url(f"https://{host}", allow_http=False) == f"https://{host}"


ENDPOINT = "/agent-api/new/user/u-1/task/create"


@pytest.mark.parametrize(
    "path", ["/agent-api", "/agent-api/", "/agent-api/new", "/agent-api/new/user/", ENDPOINT]
)
@pytest.mark.parametrize("base", [BASE, f"{BASE}/v1", "http://127.0.0.1:8080"])
def test_a_base_url_with_the_endpoints_own_path_is_refused_with_the_one_it_should_be(
    base: str, path: str
) -> None:
    with pytest.raises(WolfConfigError) as caught:
        check_base_url(base + path, allow_http=False)
    assert f"base_url must end before the endpoint's own path: {base}, not " in str(caught.value)


@pytest.mark.parametrize("path", ["/agent-api-2", "/agent-api/v2", "/my-agent-api", "/x/task"])
def test_a_prefix_that_only_looks_like_the_endpoint_is_one(path: str) -> None:
    assert check_base_url(BASE + path, allow_http=False) == BASE + path


BAD_BASE_URLS: list[Any] = [
    *[None, 7, b"https://api.example", URL("https://api.example"), ["https://api.example"]],
    *[
        "",
        "api.example",
        "api.example:443",
        "//api.example",
        "/prefix",
        "https://",
        "https:///x",
        "https:api.example",
    ],
    *[
        "ftp://api.example",
        "file:///etc/passwd",
        "ws://api.example",
        "httpss://api.example",
        "javascript:alert(1)",
    ],
    *[
        "https://user@api.example",
        "https://user:pw@api.example",
        "https://@api.example",
        "https://:@api.example",
    ],
    *[
        "https://127.0.0.1:80@evil.example",
        "http://127.0.0.1\\@evil.example",
        "https://api.example\\.evil.example",
    ],
    *[
        "https://api.example?x=1",
        "https://api.example/?x",
        "https://api.example#x",
        "https://api.example/??x",
    ],
    *[
        "https://api.example:99999",
        "https://api.example:-1",
        "https://api.example:x",
        "https://api.example:8 0",
    ],
    *["https://[::1", "https://::1]", "https://[api.example]", "https://[1.2.3.4]"],
    *[
        "https://api.example\n",
        "\thttps://api.example",
        "https://api. example",
        "https://api.example/a\r\nX: y",
    ],
    *[
        "https://bücher.example",
        "https://api.example/é",
        "https://api。example",
        "https://api\u2100example",
    ],
    *["https://api.example/\ud800", "https://api.example/\x00", "https://api.example\u202e"],
]


@pytest.mark.parametrize("base_url", BAD_BASE_URLS, ids=ascii)
@pytest.mark.parametrize("allow_http", [False, True])
def test_a_base_url_that_cannot_be_used_is_refused(base_url: Any, allow_http: bool) -> None:
    with pytest.raises(WolfConfigError, match=r"^base_url must be like https://"):
        check_base_url(base_url, allow_http)


@pytest.mark.parametrize(
    "base_url",
    [
        "https://user:hunter2@api.example",
        "https://hunter2@api.example:x",
        "https://u:hunter2@h\u2100",
        "http://u:hunter2@a b",
        "https://api.example/?token=hunter2",
        "https://api.example/#hunter2",
        "https://[x?hunter2",
    ],
)
def test_no_error_shows_what_a_base_url_holds_besides_host_and_path(base_url: str) -> None:
    with pytest.raises(WolfConfigError) as caught:
        check_base_url(base_url, allow_http=False)
    chain = [caught.value, caught.value.__cause__, caught.value.__context__]
    assert "hunter2" not in "".join(map(repr, chain))


@settings(SETTINGS, max_examples=300)
@given(
    st.one_of(st.text(), st.text("htps:/.?#@[]%\\ 127aé0", max_size=30).map("https://".__add__)),
    st.booleans(),
)
def test_any_text_as_a_base_url_is_refused_or_can_be_sent(base_url: str, allow_http: bool) -> None:
    try:
        used = check_base_url(base_url, allow_http)
    except WolfConfigError:
        return
    url = URL(request_url(urlsplit(used), Account("u", "s")), encoded=True)
    assert url.raw_path.endswith("/agent-api/new/user/u/task/create")
    assert url.raw_query_string == "sub_user_id=s"
    assert (url.user, url.password, url.raw_fragment) == (None, None, "")
    assert url.host
    assert str(url).isascii()
