"""TLS by URL: ``rediss://``, with the settings of redis-py for certificates."""

from __future__ import annotations

import asyncio
import shutil
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
import trustme
from cli.shell import environment, one_line, wolf_async

from shared.servers import PausableProxy, Server, free_port, the_binary, until
from shared.sharing import Counter, cache_on, share, slow
from wolf_async import WolfConfigError
from wolf_async.shared import RedisTier

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of an authority's certificate, and of one that it made for a server."""
    folder = tmp_path_factory.mktemp("authority")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    made = authority.issue_cert("127.0.0.1")
    made.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
    made.private_key_pem.write_to_path(str(folder / "key.pem"))
    return folder


def start_with_tls(folder: Path, authority: Path) -> tuple[Server, int] | None:
    """Start the first server here that speaks TLS; return its port for that too."""
    files = {"cert": "cert.pem", "key": "key.pem", "ca-cert": "ca.pem"}
    port = free_port()
    options = ["--tls-port", f"{port}", "--tls-auth-clients", "no"]
    for kind, name in files.items():
        options += [f"--tls-{kind}-file", str(authority / name)]
    for binary in (the_binary(), *map(shutil.which, ("redis-server", "valkey-server"))):
        with suppress(AssertionError):
            if binary is not None:
                return Server(folder, *options, binary=binary).start(), port
    return None


@pytest.fixture(scope="module")
def with_tls(tmp_path_factory: pytest.TempPathFactory, authority: Path) -> Iterator[int | None]:
    started = start_with_tls(tmp_path_factory.mktemp("server"), authority)
    yield None if started is None else started[1]
    if started is not None:
        started[0].kill()


@pytest.fixture(params=["by the server", "before the server"])
async def url(
    request: pytest.FixtureRequest, server: Server, with_tls: int | None, authority: Path
) -> AsyncIterator[str]:
    """Return the URL of a server that speaks TLS, or before which something does.

    Servers that come with Python packages do not speak it by themselves.
    """
    if request.param == "by the server":
        if with_tls is None:
            pytest.skip("no server here speaks TLS")
        yield f"rediss://127.0.0.1:{with_tls}/0"
        return
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority / "cert.pem", authority / "key.pem")
    async with PausableProxy(server.port, ssl=context) as proxy:
        yield f"rediss://127.0.0.1:{proxy.port}/0"


async def test_a_server_with_a_certificate_of_the_authority_in_the_url_is_shared(
    url: str, authority: Path
) -> None:
    await share([slow(url=f"{url}?ssl_ca_certs={authority / 'ca.pem'}") for _ in range(2)])


async def test_a_connection_that_cannot_be_closed_in_time_does_not_end_the_tier(
    url: str, authority: Path
) -> None:
    """TLS ends with a word of the other side, which a partition keeps from coming."""
    port = url.removeprefix("rediss://127.0.0.1:").removesuffix("/0")
    async with PausableProxy(int(port)) as proxy:
        way = f"rediss://127.0.0.1:{proxy.port}/0?ssl_ca_certs={authority / 'ca.pem'}"
        tier = RedisTier(way, namespace="n", timeout=0.25, connect_timeout=5.0, heartbeat=0.2)
        cache = cache_on(Counter(), tier)
        await cache.get("a")
        assert repr(tier).endswith(" up>")
        proxy.close()
        await until(lambda: repr(tier).endswith(" down>"))
        await asyncio.sleep(1)  # what it does to come up again
        proxy.open()
        await until(lambda: repr(tier).endswith(" up>"))
        await cache.aclose()


@pytest.mark.parametrize(
    ("host", "query"), [("127.0.0.1", ""), ("localhost", "?ssl_ca_certs={}/ca.pem")]
)
async def test_a_certificate_that_is_not_trusted_costs_sharing_not_answers(
    url: str, authority: Path, caplog: pytest.LogCaptureFixture, host: str, query: str
) -> None:
    """Trust neither an unknown authority nor a certificate for another host."""
    untrusted = url.replace("127.0.0.1", host) + query.format(authority)
    cache = cache_on(Counter(), slow(url=untrusted))
    assert [await cache.get(key) for key in "aab"] == ["a#1", "a#1", "b#2"]
    assert cache.stats().shared_bypassed == 2
    await cache.aclose()
    (told,) = caplog.messages
    assert "CERTIFICATE_VERIFY_FAILED" in told


async def test_the_command_says_in_one_line_that_a_certificate_is_not_trusted(url: str) -> None:
    ended = await wolf_async("shared", env=environment(WOLF_SHARED=url))
    said = one_line(ended, 1)
    assert "certificate verify failed" in said
    assert "ssl_ca_certs=FILE" in said


@pytest.mark.parametrize(
    "query", ["ssl_cert_reqs=nonsense", "ssl_ca_cert=ca.pem", "db=none", "socket_timeuot=1"]
)
def test_a_setting_that_is_none_is_refused_when_the_tier_is_made(query: str) -> None:
    with pytest.raises(WolfConfigError, match="rediss://host") as caught:
        RedisTier(f"rediss://user:pa55@host?{query}")
    assert "pa55" not in str(caught.value)
