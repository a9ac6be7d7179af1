"""Promise that a message names the remedy: the variable, the option, the host."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import pytest
import trustme
from aiohttp import web

from cli.fetching import Shell
from cli.shell import environment, one_line, service, wolf_async
from wolf_async.testing import Sandbox, html, respond, unauthorized

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


async def test_a_refused_token_names_the_host_and_the_variable(box: Sandbox) -> None:
    box.always(unauthorized())
    line = one_line(await wolf_async("init", box.users[0], env=service(box)), 1)
    assert box.base_url.removeprefix("http://") in line
    assert "put a token of that server into WOLF_TOKEN" in line


async def test_watch_names_the_variable_too(box: Sandbox) -> None:
    box.always(unauthorized())
    ended = await wolf_async("watch", box.users[0], "--times", "0", env=service(box))
    assert ended.status == 1
    (line,) = ended.out.splitlines()
    assert line.endswith(": put a token of that server into WOLF_TOKEN")


async def test_a_base_url_without_the_api_names_the_option(box: Sandbox) -> None:
    box.always(html(404))
    line = one_line(await wolf_async("init", box.users[0], env=service(box)), 1)
    assert "check --base-url or WOLF_BASE_URL" in line


async def test_too_many_requests_name_the_option(box: Sandbox) -> None:
    box.always(respond(429, b"", {"Retry-After": "600"}))
    line = one_line(await wolf_async("init", box.users[0], env=service(box)), 1)
    assert "--rate" in line


async def test_plain_http_names_the_option(box: Sandbox) -> None:
    env = environment(WOLF_TOKEN="canary-token", WOLF_BASE_URL="http://example.com")
    assert "--allow-http" in one_line(await wolf_async("init", "u1", env=env), 2)


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
async def https_url(box: Sandbox, authority: trustme.CA) -> AsyncIterator[str]:
    """Serve the sandbox's answers over TLS, by a certificate that no machine trusts."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)  # pyright: ignore[reportUnknownMemberType]

    async def answer(request: web.BaseRequest) -> web.Response:
        return web.Response(body=box.body_for(box.users[0]), content_type="application/json")

    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    yield f"https://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def test_a_certificate_that_is_not_trusted_names_the_option_which_helps(
    https_url: str, box: Sandbox, authority: trustme.CA, tmp_path: Path
) -> None:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    args = ("init", box.users[0], "--json", "--base-url", https_url)
    line = one_line(await wolf_async(*args, env=service(box)), 1)
    assert line.count("--ca-file") == 1
    ended = await wolf_async(*args, "--ca-file", str(path), env=service(box))
    assert (ended.status, ended.err) == (0, "")


async def test_fetch_names_it_too(https_url: str, box: Sandbox, shell: Shell) -> None:
    source = shell.write("a.csv", box.users[0])
    ended = await shell.fetch(source, "--base-url", https_url)
    assert ended.status == 1
    assert ended.err.count("--ca-file") == 1


async def test_a_proxy_is_used_and_named_in_what_fails(box: Sandbox) -> None:
    args = ("init", box.users[0], "--proxy", box.base_url, "--base-url", "http://example.invalid")
    ended = await wolf_async(*args, "--allow-http", "--json", env=service(box))
    assert ended.status in (0, 1)
    assert len(box.calls) == 1
    assert box.calls[0].target.startswith("http://example.invalid/agent-api/")
