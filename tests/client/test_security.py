"""Where the token may go, and where it never does."""

# pyright: reportUnknownMemberType=false
from __future__ import annotations

import asyncio
import gc
import ssl
import traceback
from enum import Enum
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import trustme

from wolf_async import (
    RawResponse,
    Timeouts,
    WolfAPIError,
    WolfClient,
    WolfConfigError,
    WolfConnectionError,
    WolfError,
)
from wolf_async.errors import iter_causes
from wolf_async.testing import Sandbox, disconnect, redirect, respond

from .conftest import FORMS, ONCE, TOKEN, Canary
from .raw_server import Line, http, in_turn, success

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import MakeClient, Serve


@pytest.mark.parametrize(
    "base_url",
    [
        "http://example.com",
        "http://10.0.0.1",
        "http://127.0.0.1.example.com",
        "http://localhost.example.com",
        "http://0.0.0.0",
        "http://[::2]",
        "ftp://example.com",
        "ws://127.0.0.1",
        "//example.com",
        "example.com",
        "https://",
        "https://user:password@example.com",
        "https://user@example.com",
        "https://example.com/?a=b",
        "https://example.com/#a",
        "https://exa mple.com",
        "https://example.com\n",
        "https://example.com:port",
        "",
        5,
    ],
)
def test_a_base_url_that_cannot_be_used_is_refused(base_url: Any) -> None:
    with pytest.raises(WolfConfigError):
        WolfClient(TOKEN, base_url=base_url)


@pytest.mark.parametrize(
    "base_url",
    [
        "http://127.0.0.1:1",
        "http://127.9.9.9",
        "http://localhost:8",
        "http://[::1]:80",
        "https://example.com/a/",
    ],
)
def test_loopback_may_be_plain_http(base_url: str) -> None:
    assert base_url.rstrip("/") in repr(WolfClient(TOKEN, base_url=base_url))


def test_allow_http_permits_plain_http_elsewhere() -> None:
    WolfClient(TOKEN, base_url="http://10.0.0.1", allow_http=True)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed_and_the_token_not_sent_there(
    box: Sandbox, client: MakeClient, status: int
) -> None:
    async with Sandbox(token=TOKEN) as elsewhere:
        box.always(redirect(elsewhere.base_url + "/agent-api/new/user/u/task/create", status))
        with pytest.raises(WolfAPIError, match="a redirect, which is not followed") as caught:
            await client(box.base_url).task_init(box.users[0])
        assert caught.value.http_status == status
        assert not elsewhere.calls
        assert len(box.calls) == 1


async def test_a_redirect_is_not_followed_by_a_session_that_was_handed_in(
    box: Sandbox, client: MakeClient
) -> None:
    box.always(redirect("/elsewhere"))
    async with aiohttp.ClientSession(raise_for_status=True) as session:
        with pytest.raises(WolfAPIError, match="not followed"):
            await client(box.base_url, session=session).task_init(box.users[0])
    assert len(box.calls) == 1


# --- TLS ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def certified(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


@pytest.fixture
def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.fixture
async def quiet(loop_reports: list[dict[str, Any]]) -> None:
    """Let asyncio's reports of handshakes that the other side breaks off pass.

    It makes them in debug mode, and here the client is what breaks off.
    """

    def report(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if not context["message"].startswith("Error on transport creation for incoming connection"):
            loop_reports.append(context)

    asyncio.get_running_loop().set_exception_handler(report)


@pytest.mark.usefixtures("quiet")
async def test_an_unknown_certificate_is_refused(
    serve: Serve, client: MakeClient, certified: ssl.SSLContext
) -> None:
    server = await serve(in_turn(http(success())), ssl=certified)
    with pytest.raises(WolfConnectionError, match="CERTIFICATE_VERIFY_FAILED") as caught:
        await client(server.base_url).task_init("u")
    assert not server.requests
    # another attempt would see the same certificate
    assert caught.value.attempts == 1
    assert "ssl:" not in str(caught.value)


async def test_a_context_of_the_users_own_is_used(
    serve: Serve, client: MakeClient, certified: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    server = await serve(in_turn(http(success())), ssl=certified)
    assert await client(server.base_url, ssl=trusting).task_init("u")
    connector = aiohttp.TCPConnector(ssl=trusting)
    async with aiohttp.ClientSession(connector=connector) as session:
        assert await client(server.base_url, session=session).task_init("u")
    assert len(server.requests) == 2


@pytest.mark.usefixtures("quiet")
async def test_a_certificate_for_another_host_is_refused(
    serve: Serve, client: MakeClient, authority: trustme.CA, trusting: ssl.SSLContext
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("example.com").configure_cert(context)
    server = await serve(in_turn(http(success())), ssl=context)
    with pytest.raises(WolfConnectionError, match=r"(?i)certificate") as caught:
        await client(server.base_url, ssl=trusting).task_init("u")
    assert not server.requests
    assert caught.value.attempts == 1
    assert "SSLContext" not in str(caught.value)


async def test_plain_http_where_tls_is_expected_is_a_named_error(
    serve: Serve, client: MakeClient
) -> None:
    async def script(line: Line) -> None:
        await line.send(http(success()))

    server = await serve(script)
    with pytest.raises(WolfConnectionError, match="SSL") as caught:
        await client(server.base_url.replace("http:", "https:")).task_init("u")
    assert caught.value.attempts == 1


@pytest.mark.usefixtures("quiet")
async def test_a_connection_that_is_lost_within_the_handshake_is_tried_again(
    serve: Serve, client: MakeClient
) -> None:
    async def script(line: Line) -> None:
        line.reset()

    server = await serve(script)
    with pytest.raises(WolfConnectionError) as caught:
        await client(server.base_url.replace("http:", "https:")).task_init("u")
    assert caught.value.attempts == 3


# --- the environment ------------------------------------------------------------------------------


async def test_the_environments_proxy_is_used_only_on_demand(
    serve: Serve, box: Sandbox, client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = await serve(in_turn(http(success("by proxy"))))
    monkeypatch.setenv("http_proxy", proxy.base_url)
    direct = await client(box.base_url).task_init(box.users[0])
    assert (len(box.calls), proxy.requests) == (1, [])
    assert direct.caller_line_list
    init = await client("http://wolf.invalid", allow_http=True, trust_env=True).task_init("u")
    assert init.background[0].name == "by proxy"
    assert proxy.requests[0].startswith(
        b"GET http://wolf.invalid/agent-api/new/user/u/task/create HTTP/1.1\r\n"
    )
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    await client(box.base_url, trust_env=True).task_init(box.users[0])
    assert (len(box.calls), len(proxy.requests)) == (2, 1)


async def test_a_proxy_that_is_given_is_used(serve: Serve, client: MakeClient) -> None:
    proxy = await serve(in_turn(http(success("by proxy"))))
    wolf = client("http://wolf.invalid", allow_http=True, proxy=proxy.base_url)
    assert (await wolf.task_init("u")).background[0].name == "by proxy"
    assert proxy.requests[0].startswith(b"GET http://wolf.invalid/agent-api/")


async def test_a_proxy_that_breaks_the_connection_leaves_its_password_in_no_error(
    serve: Serve, client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = await serve(in_turn(b"HTTP/1.1 200 Connection established\r\n\r\nrubbish"))
    monkeypatch.setenv("https_proxy", proxy.base_url.replace("//", "//us:secret@"))
    with pytest.raises(WolfConnectionError) as caught:
        await client("https://wolf.invalid", trust_env=True, retry=ONCE).task_init("u")
    behind = list(iter_causes(caught.value))
    assert any(isinstance(link, aiohttp.ClientConnectorError) for link in behind)
    assert not any("secret" in f"{link!r}{link.args!r}{vars(link)!r}" for link in behind)


async def test_a_proxy_that_refuses_is_a_named_error_without_its_password(
    serve: Serve, client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = await serve(in_turn(http(b"", "407 Proxy Authentication Required")))
    monkeypatch.setenv("https_proxy", proxy.base_url.replace("//", "//us:secret@"))
    with pytest.raises(
        WolfConnectionError, match="the proxy refused to connect: HTTP 407"
    ) as caught:
        await client("https://wolf.invalid", trust_env=True).task_init("u")
    # it would refuse another attempt as well
    assert caught.value.attempts == len(proxy.requests) == 1
    assert proxy.requests[0].startswith(b"CONNECT wolf.invalid:443 ")
    assert "secret" not in "".join(traceback.format_exception(caught.value))
    assert "secret" not in repr(vars(caught.value.__cause__))


@pytest.mark.parametrize("trust_env", [False, True])
async def test_netrc_is_never_used(
    serve: Serve,
    client: MakeClient,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    trust_env: bool,
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login somebody password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    server = await serve(in_turn(http(success())))
    assert await client(server.base_url, trust_env=trust_env).task_init("u")
    assert _authorizations(server.requests) == [f"Bearer {TOKEN}"]


async def test_a_session_that_would_use_netrc_is_refused_by_name(
    serve: Serve, client: MakeClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login somebody password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    server = await serve(in_turn(http(success())))
    async with aiohttp.ClientSession(trust_env=True) as session:
        with pytest.raises(
            WolfConfigError, match="the session that was handed in cannot be used here"
        ):
            await client(server.base_url, session=session).task_init("u")
    assert not server.requests


async def test_cookies_are_not_kept(serve: Serve, client: MakeClient) -> None:
    server = await serve(in_turn(http(success(), Set_Cookie="a=b")))
    # by name: aiohttp keeps no cookies of a bare address anyway
    wolf = client(server.base_url.replace("127.0.0.1", "localhost"), cache=None)
    await wolf.task_init("u")
    await wolf.task_init("u")
    assert len(server.requests) == 2
    assert not any(b"\r\ncookie:" in request.lower() for request in server.requests)


# --- ids ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "user_id", ["a/b", "a?b=c", "a#b", "%2e%2e", "a;b", "a b", "用户", "a%", "a\\b", "a&b=c", "..a"]
)
async def test_an_odd_user_id_is_one_segment(
    serve: Serve, client: MakeClient, user_id: str
) -> None:
    server = await serve(in_turn(http(success())))
    wolf = client(server.base_url)
    await wolf.task_init(user_id, user_id)
    target = server.requests[0].split(b" ")[1].decode()
    path, _, query = target.partition("?")
    assert path.count("/") == 6
    assert query.startswith("sub_user_id=")
    assert not set("&?#/ ") & set(query.partition("=")[2])


@pytest.mark.parametrize(
    "user_id", ["", ".", "..", "../x", "a/../b", "a\nb", "a\0", "a\\..\\b", None, 5, b"u"]
)
async def test_an_id_that_cannot_be_one_is_refused_before_any_request(
    box: Sandbox, client: MakeClient, user_id: Any
) -> None:
    wolf = client(box.base_url)
    for call in (
        wolf.task_init(user_id),
        wolf.raw_task_init(user_id),
        wolf.task_init(user_id, max_age=0),
    ):
        with pytest.raises(WolfConfigError):
            await call
    for ask in (wolf.peek, wolf.invalidate):
        with pytest.raises(WolfConfigError):
            ask(user_id)
    assert not box.calls


async def test_an_enums_member_asks_for_its_value_and_shares_with_it(
    box: Sandbox, client: MakeClient
) -> None:
    class User(str, Enum):  # noqa: UP042 (a StrEnum formats as its value, and would show nothing)
        MAIN = box.users[0]

    user = User.MAIN
    wolf = client(box.base_url)
    init = await wolf.task_init(user)
    assert await wolf.task_init(box.users[0]) is init is await wolf.task_init(user)
    assert wolf.peek(user) is init
    assert len(box.calls) == 1
    assert wolf.invalidate(user)
    assert wolf.peek(box.users[0]) is None


# --- the canary -----------------------------------------------------------------------------------


def test_the_canary_sings(canary: Canary) -> None:
    for error in (WolfError(f"Bearer {TOKEN}"), WolfError("", body=TOKEN.encode())):
        canary.check_error(error)
        assert canary.heard
        canary.heard.clear()
    hidden = WolfError("outside")
    hidden.__cause__ = RuntimeError("inside")
    hidden.__cause__.__context__ = OSError(FORMS[0])
    canary.check_error(hidden)
    assert canary.heard
    canary.heard.clear()


async def test_a_server_that_echoes_the_token_makes_no_error_show_it(
    serve: Serve, client: MakeClient, canary: Canary
) -> None:
    echoes = [
        b"%s",
        b"HTTP/1.1 200 OK\r\nX-Echo: %s\r\n",
        b"HTTP/1.1 200 %s\r\n\r\n",
        b"HTTP/1.1 200 %s\r\nContent-Length: 9\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n%s\x00: a\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: %s\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%s\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nX-Echo: %s\r\nContent-Length: 4\r\n\r\nabcd",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: %s\r\nContent-Length: 4\r\n\r\nabcd",
        b"HTTP/1.1 400 %s\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 302 Found\r\nLocation: http://[%s\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nSet-Cookie: %s\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 429 Slow\r\nRetry-After: %s\r\nContent-Length: 2\r\n\r\n{}",
        http(b'{"message": "%s"}', "401 Unauthorized", Content_Length="999"),
        b"HTTP/1.1 500 Oops\r\nTransfer-Encoding: chunked\r\n\r\n7d0\r\n%s" + b"x" * 1960,
        b"HTTP/1.1 500 Oops\r\nX-Request-Id: %s\r\nContent-Length: 2000\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-Request-Id: %s\r\nContent-Length: 2000\r\n\r\n",
    ]
    for echo in echoes:

        async def script(line: Line, echo: bytes = echo) -> None:
            authorization = _authorizations([await line.request()])[0]
            await line.send(echo.replace(b"%s", authorization.encode()))

        server = await serve(script)
        with pytest.raises(WolfError) as caught:
            await client(
                server.base_url, retry=ONCE, timeouts=Timeouts(attempt=0.5), max_body=1000
            ).task_init("u")
        canary.check_error(caught.value)
        assert not canary.heard, echo


@pytest.mark.parametrize("form", [TOKEN, TOKEN.replace("/", "\\/"), TOKEN.replace("/", "%2F")])
async def test_a_body_that_echoes_the_token_makes_no_error_show_it(
    box: Sandbox, client: MakeClient, canary: Canary, form: str
) -> None:
    bodies: list[Any] = [
        {"code": 6007, "status": "error", "message": f"no such token: {form}"},
        {"message": form},
        f"<html>{form}</html>",
        {"code": 200, "status": form, "data": []},
        {"code": 200, "status": "success", "data": {"background": [{"id": form}]}},
        {"code": 200, "status": "success", "data": {"max_recycle_limit": form}},
        {"code": 200, "status": "success", "data": form},
    ]
    for status in (200, 401, 500):
        for body in bodies:
            text = body if isinstance(body, str) else _json(body, form)
            box.script(None, respond(status, text))
            with pytest.raises(WolfError) as caught:
                await client(box.base_url, retry=ONCE).task_init(box.users[0])
            canary.check_error(caught.value)
            assert not canary.heard, (status, body)


async def test_no_object_of_the_library_shows_the_token(
    box: Sandbox, client: MakeClient, canary: Canary
) -> None:
    async def provider() -> str:
        return TOKEN

    box.script(box.users[1], disconnect())
    for token in (TOKEN, provider):
        wolf = client(box.base_url, token=token)
        await wolf.task_init(box.users[0])
        await wolf.task_init(box.users[1])
        await wolf.raw_task_init(box.users[0])
    ours = [thing for thing in gc.get_objects() if type(thing).__module__.startswith("wolf_async")]
    kinds = {type(thing).__name__ for thing in ours}
    assert {
        "WolfClient",
        "Tokens",
        "Credential",
        "Transport",
        "Retry",
        "Limits",
        "LoadingCache",
    } <= kinds
    for thing in ours:
        canary.check(type(thing).__name__, repr(thing) + str(thing))
    response = RawResponse(200, {"Authorization": TOKEN}, TOKEN.encode())
    canary.check("RawResponse", repr(response))


def _authorizations(requests: list[bytes]) -> list[str]:
    lines = [line.decode() for request in requests for line in request.split(b"\r\n")]
    return [line.partition(": ")[2] for line in lines if line.lower().startswith("authorization:")]


def _json(body: dict[str, Any], form: str) -> str:
    import msgspec

    plain = msgspec.json.encode(body).decode()
    # a form that is escaped already must not be escaped again
    return plain.replace(form.replace("\\", "\\\\"), form)
