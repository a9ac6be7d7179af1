"""The README's examples run as they stand, against the sandbox."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import re
import socket
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from aiohttp import ClientSession
from aiohttp.test_utils import TestClient, TestServer
from shared.servers import Server

from wolf_async.testing import Sandbox, Step, hold, respond

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator
    from types import ModuleType

README = Path(__file__).parent.parent / "README.md"
EXAMPLES: list[str] = re.findall(
    r"^```python\n(.*?)^```$", README.read_text("utf-8"), re.MULTILINE | re.DOTALL
)
SCRIPTS = [example for example in EXAMPLES if not example.startswith("# example:")]


def example(name: str) -> str:
    (found,) = [example for example in EXAMPLES if example.startswith(f"# example: {name}\n")]
    return found


def imported(name: str, path: Path) -> ModuleType:
    """Import the example as a module, so that its annotations can be resolved."""
    file = path / f"readme_{name}.py"
    file.write_text(example(name), "utf-8")
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
    assert len(SCRIPTS) == 3
    assert len(EXAMPLES) - len(SCRIPTS) == 3


def test_the_readme_is_short() -> None:
    assert len(README.read_text("utf-8").splitlines()) <= 350


def test_what_the_readme_links_to_is_there() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README.read_text("utf-8"))
    assert links
    assert [link for link in links if not (README.parent / link).exists()] == []


def test_the_two_commands_stand_word_for_word() -> None:
    text = README.read_text("utf-8")
    for command in (
        'python3 -m venv .venv && .venv/bin/pip install -q ".[cli]" && .venv/bin/wolf-async demo',
        'python3 -m venv .venv && .venv/bin/pip install -q -e ".[test]" && .venv/bin/pytest -q',
    ):
        assert f"```sh\n{command}\n```" in text


def test_the_addresses_to_install_from_name_a_host_without_which_older_pips_refuse_them() -> None:
    found = re.finditer(r"@ git\+([^\s\"]+)", README.read_text("utf-8"))
    addresses = [match[1] for match in found]
    assert len(addresses) == 2
    assert all(urlsplit(address).netloc for address in addresses), addresses


def measured(title: str) -> str:
    """Give that row of the benchmarks' table."""
    table = (README.parent / "benchmarks" / "README.md").read_text("utf-8")
    (row,) = [row for row in table.splitlines() if row.startswith(f"| {title} |")]
    return row


def number_in(row: str, pattern: str) -> float:
    found = re.search(pattern, row)
    assert found is not None, (pattern, row)
    return float(found[1].replace(",", ""))


@pytest.mark.parametrize(
    ("title", "begins"),
    [
        ("A hit, awaited", "a hit takes"),
        ("Waiting, 1,000 callers on one load", "Of 1,000 callers who share one load each takes"),
        ("A miss over HTTP, 50 at once", "A miss takes"),
    ],
)
def test_the_figures_are_those_that_the_benchmarks_last_measured(title: str, begins: str) -> None:
    row, text = measured(title), README.read_text("utf-8")
    stated = re.search(rf"{begins} ([\d.]+) µs, ([\d.]+) times [^()]+ \(([^)]+)\)", text)
    assert stated is not None
    microseconds = number_in(row, r"\| ([\d.]+) [nµ]s") * (0.001 if " ns |" in row else 1)
    assert float(stated[1]) == pytest.approx(microseconds, rel=0.25)
    assert float(stated[2]) == pytest.approx(number_in(row, r"\| ([\d.]+) ×"), rel=0.1)
    others = re.findall(r"([a-z][a-z -]+) ([\d.]+)", stated[3])
    assert others
    for name, times in others:
        assert float(times) == pytest.approx(number_in(row, rf"{name} ([\d.,]+) ×"), rel=0.25)


def test_the_figures_at_the_top_and_in_chinese_are_the_measured_ones_too() -> None:
    text = README.read_text("utf-8")
    miss = number_in(measured("A miss over HTTP, 50 at once"), r"\| ([\d.]+) ×")
    for words in (r"a request ([\d.]+) times the CPU of raw", r"直接使用 aiohttp 的 ([\d.]+) 倍"):
        assert number_in(text, words) == pytest.approx(miss, rel=0.1)
    hit = number_in(measured("A hit, awaited"), r"\| ([\d.]+) ns")
    assert hit == pytest.approx(500, rel=0.25)  # nanoseconds, which is half a microsecond
    row = measured("8 processes, 100 callers each for 50 accounts, cold")
    ours, others = (number_in(row, rf"{words} ([\d]+) requests") for words in (r"\|", "tier"))
    assert f"made {ours:.0f} requests in place of {others:.0f}" in text


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
    # the debug mode of asyncio reports whatever takes a tenth of a second, as all does at times
    said = re.sub(r"^Executing <.*> took [0-9.]+ seconds\n", "", err.decode(), flags=re.MULTILINE)
    assert (process.returncode, said) == (0, "")
    assert out.strip()


@pytest.fixture
def free_port(monkeypatch: pytest.MonkeyPatch) -> int:
    """Name a free port for the dashboard of an example."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    monkeypatch.setenv("DASHBOARD_PORT", str(port))
    return port


async def test_the_aiohttp_example_serves_metrics_health_and_the_dashboard(
    box: Sandbox, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module = imported("aiohttp", tmp_path)
    async with TestClient(TestServer(module.make_app())) as web:  # noqa: SIM117 (it stays open)
        async with web.get("/dashboard/events") as stream:
            await stream.content.readuntil(b"\n\n")
            await box.wait_for_calls(1)
            async with web.get("/dashboard/") as page:
                assert (page.status, page.content_type) == (200, "text/html")
            async with web.get("/health") as health:
                assert (await health.json())["loads"] >= 1
            async with web.get("/metrics") as metrics:
                text = await metrics.text()
    assert "wolf_loads" in text
    assert f"{box.users[0]} value" in capsys.readouterr().out
    assert "http_client_request_duration" in text


@asynccontextmanager
async def fastapi_example(tmp_path: Path) -> AsyncGenerator[Any]:
    """Run the example as a server would, and yield a client of it."""
    httpx = pytest.importorskip("httpx")
    app = imported("fastapi", tmp_path).app
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as web,
    ):
        yield web


async def test_concurrent_requests_to_the_fastapi_example_share_one_upstream_request(
    box: Sandbox, tmp_path: Path, free_port: int
) -> None:
    gate = asyncio.Event()
    box.script(None, hold(gate))
    async with fastapi_example(tmp_path) as web:
        asked = [asyncio.create_task(web.get(f"/accounts/{box.users[0]}/free")) for _ in range(20)]
        await box.wait_for_calls(1)
        gate.set()
        answers = await asyncio.gather(*asked)
        assert len(box.calls) == 1
        assert {(answer.status_code, answer.headers["Age"]) for answer in answers} == {(200, "0")}
        assert answers[0].json()
        assert all(answer.json() == answers[0].json() for answer in answers)
        async with (
            ClientSession() as browser,
            browser.get(f"http://127.0.0.1:{free_port}/") as page,
        ):
            assert (page.status, page.content_type) == (200, "text/html")


@pytest.mark.parametrize(
    ("step", "status", "header"),
    [
        (None, 404, None),
        (respond(200, {"code": 6007, "status": "error", "message": "no", "data": []}), 404, None),
        (respond(429, headers={"Retry-After": "3600"}), 429, "3600"),
        (respond(400), 502, None),
    ],
    ids=["unknown account", "unknown sub-account", "429", "another no"],
)
async def test_the_fastapi_example_turns_each_error_into_a_status_and_a_log_line(
    step: Step | None,
    status: int,
    header: str | None,
    box: Sandbox,
    tmp_path: Path,
    free_port: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    if step is not None:
        box.script(None, step)
    async with fastapi_example(tmp_path) as web:
        user = "nobody" if step is None else box.users[0]
        answer = await web.get(f"/accounts/{user}/free")
    assert (answer.status_code, answer.headers.get("Retry-After")) == (status, header)
    lines = [record for record in caplog.records if record.name == "root"]
    assert len(lines) == 1
    assert user in lines[0].getMessage()


async def test_an_id_that_cannot_be_one_is_a_400_of_the_fastapi_example(
    box: Sandbox, tmp_path: Path, free_port: int
) -> None:
    async with fastapi_example(tmp_path) as web:
        answer = await web.get("/accounts/%0A/free")
    assert answer.status_code == 400
    assert not box.calls


async def test_each_worker_of_the_fastapi_example_starts_and_one_of_them_has_the_dashboard(
    box: Sandbox, tmp_path: Path, free_port: int
) -> None:
    async with fastapi_example(tmp_path) as first, fastapi_example(tmp_path) as second:
        for web in (first, second):
            assert (await web.get(f"/accounts/{box.users[0]}/free")).status_code == 200
        async with (
            ClientSession() as browser,
            browser.get(f"http://127.0.0.1:{free_port}/healthz") as health,
        ):
            assert health.status == 200


async def test_two_of_the_fastapi_example_share_one_answer_through_a_real_server(
    box: Sandbox, tmp_path: Path, free_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server(tmp_path).start()
    monkeypatch.setenv("WOLF_SHARED", server.url)
    try:
        for _ in range(2):  # one after the other, each with a client of its own
            async with fastapi_example(tmp_path) as web:
                answer = await web.get(f"/accounts/{box.users[0]}/free")
                assert answer.status_code == 200
    finally:
        server.kill()
    assert len(box.calls) == 1


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
