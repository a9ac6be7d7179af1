"""The README's examples run as they stand, against the sandbox."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import re
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp.test_utils import TestClient, TestServer

from wolf_async import Account, WolfCircuitOpenError, WolfServerError, WolfTimeoutError
from wolf_async.testing import Sandbox, hold, html, respond

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from types import ModuleType

    from wolf_async.testing import Step

README = Path(__file__).parent.parent / "README.md"
EXAMPLES: list[str] = re.findall(
    r"^```python\n(.*?)^```$", README.read_text("utf-8"), re.MULTILINE | re.DOTALL
)
SCRIPTS = [example for example in EXAMPLES if not example.startswith("# example:")]


def example(name: str) -> str:
    (found,) = [example for example in EXAMPLES if example.startswith(f"# example: {name}\n")]
    return found


def imported(name: str, path: Path, *, port: int = 8080) -> ModuleType:
    """Import the example as a module, so that its annotations can be resolved."""
    file = path / f"readme_{name}.py"
    file.write_text(example(name).replace("8080", str(port)), "utf-8")
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
async def box(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Sandbox]:
    async with Sandbox(accounts=3, period=0.2) as sandbox:
        monkeypatch.setenv("WOLF_TOKEN", sandbox.token)
        monkeypatch.setenv("WOLF_BASE_URL", sandbox.base_url)
        monkeypatch.setenv("USER_ID", sandbox.users[0])
        yield sandbox


def test_the_readme_has_its_examples() -> None:
    assert len(SCRIPTS) >= 8
    assert len(EXAMPLES) - len(SCRIPTS) == 5


def test_the_two_commands_stand_word_for_word() -> None:
    text = README.read_text("utf-8")
    for command in (
        'python3 -m venv .venv && .venv/bin/pip install -q ".[cli]" && .venv/bin/wolf-async demo',
        'python3 -m venv .venv && .venv/bin/pip install -q -e ".[test]" && .venv/bin/pytest -q',
    ):
        assert f"```sh\n{command}\n```" in text


@pytest.mark.parametrize("number", range(len(SCRIPTS)))
async def test_each_script_of_the_readme_runs_and_says_something(number: int, box: Sandbox) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-X",
        "dev",
        "-W",
        "error",
        "-c",
        SCRIPTS[number],
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert (process.returncode, err.decode()) == (0, "")
    assert out.strip()


async def test_concurrent_requests_to_the_aiohttp_example_share_one_upstream_request(
    box: Sandbox, tmp_path: Path
) -> None:
    gate = asyncio.Event()
    box.script(None, hold(gate))
    module = imported("aiohttp", tmp_path)
    async with TestClient(TestServer(module.make_app())) as web:

        async def free() -> Any:
            async with web.get(f"/accounts/{box.users[0]}/free") as response:
                return await response.json()

        asked = [asyncio.create_task(free()) for _ in range(20)]
        await box.wait_for_calls(1)
        gate.set()
        answers = await asyncio.gather(*asked)
    assert len(box.calls) == 1
    assert answers[0]
    assert all(answer == answers[0] for answer in answers)


async def test_concurrent_requests_to_the_fastapi_example_share_one_upstream_request(
    box: Sandbox, tmp_path: Path
) -> None:
    httpx = pytest.importorskip("httpx")
    gate = asyncio.Event()
    box.script(None, hold(gate))
    app = imported("fastapi", tmp_path).app
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as web,
    ):
        asked = [asyncio.create_task(web.get(f"/accounts/{box.users[0]}/free")) for _ in range(20)]
        await box.wait_for_calls(1)
        gate.set()
        answers = await asyncio.gather(*asked)
        assert len(box.calls) == 1
        assert {answer.status_code for answer in answers} == {200}
        assert answers[0].json()
        assert all(answer.json() == answers[0].json() for answer in answers)
        missing = await web.get("/accounts/nobody/free")
        assert (missing.status_code, missing.json()["detail"]) == (404, "用户不存在")


@pytest.mark.parametrize(
    ("path", "fault", "status", "wait"),
    [
        ("/accounts/{user}/free?sub=nobody", None, 404, None),
        ("/accounts/{user}/free?sub=..", None, 400, None),
        ("/accounts/{user}/free", respond(429, headers={"Retry-After": "61"}), 429, "61"),
        ("/accounts/{user}/free", html(404), 502, None),
        ("/accounts/{user}/free", respond(403), 502, None),
    ],
)
async def test_the_fastapi_example_gives_each_error_its_status_and_a_log_line(
    box: Sandbox,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    path: str,
    fault: Step | None,
    status: int,
    wait: str | None,
) -> None:
    httpx = pytest.importorskip("httpx")
    app = imported("fastapi", tmp_path).app
    if fault is not None:
        box.always(fault)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as web,
    ):
        answer = await web.get(path.format(user=box.users[0]))
    assert answer.status_code == status
    assert int(answer.headers.get("Retry-After", 0)) == int(wait or 0)
    (line,) = [record for record in caplog.records if record.name == "readme_fastapi"]
    assert f"gives {status}: " in line.getMessage()
    assert f"account {box.users[0]}" in line.getMessage() or status == 400


async def test_the_fastapi_example_tells_an_open_breaker_and_a_timeout_apart(
    tmp_path: Path,
) -> None:
    app = imported("fastapi", tmp_path)
    errors = {
        503: WolfCircuitOpenError("open", retry_after=1.0),
        504: WolfTimeoutError("late"),
        502: WolfServerError("down", http_status=500),
    }
    assert {status: app.status_of(error) for status, error in errors.items()} == {
        status: status for status in errors
    }


async def test_the_metrics_example_counts_and_is_healthy(box: Sandbox, tmp_path: Path) -> None:
    httpx = pytest.importorskip("httpx")
    app = imported("metrics", tmp_path).app
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as web,
    ):
        await app.state.wolf.task_init(box.users[0])
        text = (await web.get("/metrics")).text
        health = (await web.get("/health")).json()
    assert "wolf_cache_calls_total{otel_scope" in text
    assert "http_client_request_duration_seconds_count" in text
    assert box.users[0] not in text
    assert (health["requests"], health["failures"]) == (1, 0)


async def test_the_dashboard_example_serves_the_page_beside_fastapi_and_ends_with_it(
    box: Sandbox, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    app = imported("dashboard", tmp_path, port=port).app
    async with app.router.lifespan_context(app), aiohttp.ClientSession() as http:
        async with http.get(f"http://127.0.0.1:{port}/") as page:
            assert "<title>Free lines</title>" in await page.text()
        async with http.get(f"http://127.0.0.1:{port}/events") as stream:
            async for line in stream.content:
                if b'"state":"ok"' in line:
                    break
    assert {call.account for call in box.calls} == {Account(box.users[0])}


async def test_the_pytest_example_passes_as_a_test_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "test_example.py").write_text(example("pytest"), "utf-8")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider"),
        *(
            "-o",
            "asyncio_mode=auto",
            "-o",
            "asyncio_default_fixture_loop_scope=function",
            str(tmp_path),
        ),
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    assert b"1 passed" in out, out.decode()
