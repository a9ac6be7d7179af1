"""Which requests go through a proxy; an excepted host's token reaches none."""

from __future__ import annotations

import traceback
from typing import Any

import pytest

from wolf_async import WolfClient, WolfConfigError
from wolf_async.upstream.proxies import choose_proxy

PROXY = "http://proxy.test:3128"
NAMES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "REQUEST_METHOD")


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def chosen(
    base_url: str, monkeypatch: pytest.MonkeyPatch, *, allow_http: bool = True, **environment: str
) -> str | None:
    with monkeypatch.context() as patched:
        for name, value in environment.items():
            patched.setenv(name, value)
        proxy = choose_proxy(base_url, None, trust_env=True, allow_http=allow_http)
        return None if proxy is None else str(proxy)


@pytest.mark.parametrize(
    ("base_url", "no_proxy"),
    [
        ("https://wolf.test", "wolf.test"),
        ("https://wolf.test", "WOLF.test"),
        ("https://wolf.test", "test"),
        ("https://api.wolf.test", "wolf.test"),
        ("https://api.wolf.test", ".wolf.test"),
        ("https://wolf.test", ".wolf.test"),
        ("https://api.wolf.test", "*.wolf.test"),
        ("https://wolf.test.", "wolf.test"),
        ("https://wolf.test", "wolf.test."),
        ("https://wolf.test", "*"),
        ("https://10.1.2.3", "*"),
        ("https://wolf.test", "other.test,wolf.test"),
        ("https://wolf.test", " other.test , wolf.test "),
        ("https://wolf.test", "other.test wolf.test"),
        ("https://wolf.test", ",,wolf.test"),
        ("https://wolf.test", "wolf.test:443"),
        ("http://wolf.test", "wolf.test:80"),
        ("https://wolf.test:8443", "wolf.test:8443"),
        ("https://wolf.test:8443", "wolf.test"),
        ("https://api.wolf.test:8443", ".wolf.test:8443"),
        ("https://10.1.2.3", "10.1.2.3"),
        ("https://10.1.2.3", "10.0.0.0/8"),
        ("https://10.1.2.3", "10.1.2.3/8"),
        ("https://0.1.2.3", "0.0.0.0/8"),
        ("https://10.1.2.3:8443", "10.1.2.3:8443"),
        ("https://[2001:db8::1]", "2001:db8::1"),
        ("https://[2001:db8::1]", "2001:0DB8:0::1"),
        ("https://[2001:db8::1]", "[2001:db8::1]"),
        ("https://[2001:db8::1]:8443", "[2001:db8::1]:8443"),
        ("https://[2001:db8::1]", "2001:db8::/32"),
    ],
)
def test_what_no_proxy_excepts(
    monkeypatch: pytest.MonkeyPatch, base_url: str, no_proxy: str
) -> None:
    assert chosen(base_url, monkeypatch, all_proxy=PROXY, no_proxy=no_proxy) is None
    assert chosen(base_url, monkeypatch, all_proxy=PROXY, NO_PROXY=no_proxy) is None


@pytest.mark.parametrize(
    ("base_url", "no_proxy"),
    [
        ("https://wolf.test", ""),
        ("https://wolf.test", "olf.test"),
        ("https://wolf.test", "api.wolf.test"),
        ("https://badwolf.test", "wolf.test"),
        ("https://badwolf.test", "*wolf.test"),
        ("https://wolf.test", "wolf.test:8443"),
        ("https://wolf.test:8443", "wolf.test:443"),
        ("http://wolf.test", "wolf.test:443"),
        ("https://11.1.2.3", "10.0.0.0/8"),
        ("https://10.1.2.30", "10.1.2.3"),
        ("https://10.1.2.3", "10.1.2.3:8443"),
        ("https://[2001:db9::1]", "2001:db8::/32"),
        ("https://wolf.test", "10.0.0.0/8"),
        ("https://10.1.2.3", "2.3"),
        ("https://wolf.test", "."),
    ],
)
def test_what_no_proxy_does_not_except(
    monkeypatch: pytest.MonkeyPatch, base_url: str, no_proxy: str
) -> None:
    assert chosen(base_url, monkeypatch, all_proxy=PROXY, no_proxy=no_proxy) == PROXY


def test_which_variable_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    wolf = "https://wolf.test"
    assert chosen(wolf, monkeypatch) is None
    assert chosen(wolf, monkeypatch, http_proxy=PROXY) is None
    assert chosen(wolf, monkeypatch, https_proxy=PROXY) == PROXY
    assert chosen(wolf, monkeypatch, HTTPS_PROXY=PROXY) == PROXY
    assert chosen(wolf, monkeypatch, ALL_PROXY=PROXY) == PROXY
    assert chosen(wolf, monkeypatch, all_proxy="http://other.test", https_proxy=PROXY) == PROXY
    assert chosen(wolf, monkeypatch, HTTPS_PROXY="http://other.test", https_proxy=PROXY) == PROXY
    assert chosen(wolf, monkeypatch, https_proxy="") is None
    assert chosen(wolf, monkeypatch, https_proxy="", all_proxy=PROXY) == PROXY
    assert chosen(wolf, monkeypatch, https_proxy="proxy.test:3128") == PROXY
    assert chosen(wolf, monkeypatch, all_proxy=PROXY, no_proxy="", NO_PROXY="wolf.test") is None
    assert chosen("http://wolf.test", monkeypatch, HTTP_PROXY=PROXY) == PROXY


def test_what_a_web_server_puts_into_the_environment_is_no_proxy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A request with a header ``Proxy`` sets HTTP_PROXY for a CGI script ("httpoxy")."""
    cgi: dict[str, Any] = {"REQUEST_METHOD": "GET", "HTTP_PROXY": PROXY}
    assert chosen("http://wolf.test", monkeypatch, **cgi) is None
    assert chosen("http://wolf.test", monkeypatch, **cgi, http_proxy=PROXY) == PROXY


@pytest.mark.parametrize("host", ["localhost:5", "127.0.0.1", "[::1]:80"])
def test_plain_http_goes_through_a_proxy_only_if_it_is_allowed(
    monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    base_url = f"http://{host}"
    # to loopback it may go without, but not to whatever stands between
    assert chosen(base_url, monkeypatch, allow_http=False, http_proxy=PROXY) is None
    assert chosen(base_url, monkeypatch, allow_http=True, http_proxy=PROXY) == PROXY
    with pytest.raises(WolfConfigError, match="allow_http=True"):
        WolfClient("token", base_url=base_url, proxy=PROXY)
    WolfClient("token", base_url=base_url, proxy=PROXY, allow_http=True)


def test_a_proxy_that_is_given_is_used_whatever_the_environment_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("https_proxy", "http://other.test")
    monkeypatch.setenv("no_proxy", "*")
    for trust_env in (False, True):
        proxy = choose_proxy("https://wolf.test", PROXY, trust_env=trust_env, allow_http=False)
        assert str(proxy) == PROXY


@pytest.mark.parametrize(
    "proxy",
    [
        "socks5://us:secret@127.0.0.1:1",
        "socks5h://us:secret@127.0.0.1:1",
        "ftp://us:secret@127.0.0.1:1",
        "http://us:secret@127.0.0.1:abc",
        "http://us:secret@[::1",
        "http://",
        b"http://us:secret@127.0.0.1",
        5,
        "",
    ],
)
def test_a_proxy_that_cannot_be_used_is_refused_without_its_password(
    monkeypatch: pytest.MonkeyPatch, proxy: object
) -> None:
    with pytest.raises(WolfConfigError, match=r"^proxy must be like http://host\[:port\]") as given:
        WolfClient("token", proxy=proxy)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    errors = [given.value]
    if isinstance(proxy, str) and proxy:
        monkeypatch.setenv("ALL_PROXY", proxy)
        with pytest.raises(WolfConfigError, match="the environment's proxy must be") as found:
            WolfClient("token", trust_env=True)
        errors.append(found.value)
        assert ("SOCKS is not supported" in str(found.value)) == proxy.startswith("socks")
    assert "secret" not in "".join("".join(traceback.format_exception(error)) for error in errors)
