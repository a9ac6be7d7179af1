"""Every test here uses one token, a canary, and fails if it is seen outside a request's header."""

from __future__ import annotations

import asyncio
import logging
import pickle
import traceback
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import aiohttp
import pytest

from wolf_async import RetryPolicy, WolfClient, WolfError
from wolf_async.testing import Sandbox
from wolf_async.upstream.sender import Sender

from .raw_server import RawServer, Script

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator

    NewLoop = Callable[[], asyncio.AbstractEventLoop]

T = TypeVar("T")

TOKEN = "canary/sings-0xFEEDFACE.in+the=mine"
FORMS = ("canary/sings", "canary%2Fsings", "canary\\/sings", "0xFEEDFACE")
AT_ONCE = RetryPolicy(backoff=0.0)
"""Tries again without a pause."""
ONCE = RetryPolicy(attempts=1)
HELD_ERRORS = 50
_LOGGERS = ("", "wolf_async", "aiohttp", "asyncio")


class Canary(logging.Handler):
    """Listens to what the library lets others see: log records, and the errors that it makes."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.heard: list[str] = []
        """Where the token was seen."""
        self.records: list[logging.LogRecord] = []
        """What the library logged."""
        self.errors: list[WolfError] = []
        """The first errors that left a client; a test that measures memory empties it."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == "wolf_async":
            self.records.append(record)
        self.check("log", record.getMessage() + repr(record.args))
        if record.exc_info:
            self.check("log", self.format(record))

    def check(self, where: str, text: str) -> None:
        if any(form in text for form in FORMS):
            self.heard.append(f"{where}: {text[:2000]}")

    def check_error(self, error: BaseException) -> None:
        """Look at an error and at all that led to it."""
        seen: set[int] = set()
        chain: list[BaseException | None] = [error]
        while chain:
            link = chain.pop()
            if link is None or id(link) in seen:
                continue
            seen.add(id(link))
            for text in (str(link), repr(link), repr(link.args), repr(vars(link))):
                self.check(type(link).__name__, text)
            self.check("pickle", _pickled(link))
            chain += (link.__cause__, link.__context__)
        self.check("traceback", "".join(traceback.format_exception(error)))

    def messages(self, level: int) -> list[str]:
        """Return what the library logged at that level."""
        return [record.getMessage() for record in self.records if record.levelno == level]


def _pickled(thing: object) -> str:
    try:
        return pickle.dumps(thing, protocol=0).decode("latin-1")
    except (TypeError, AttributeError, pickle.PicklingError):
        return ""  # errors of others need not be picklable


@pytest.fixture(autouse=True)
def canary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Canary]:
    bird = Canary()
    send = Sender.send

    async def noted(*args: Any, **kwargs: Any) -> Any:
        try:
            return await send(*args, **kwargs)
        except WolfError as error:
            if len(bird.errors) < HELD_ERRORS:
                bird.errors.append(error)
            raise

    monkeypatch.setattr(Sender, "send", noted)
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
    loggers[0].addHandler(bird)
    yield bird
    loggers[0].removeHandler(bird)
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
    for error in bird.errors:
        bird.check_error(error)
    bird.errors.clear()
    assert not bird.heard


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WOLF_TOKEN", "WOLF_BASE_URL", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def descriptors() -> int:
    """How many file descriptors this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def run(main: Coroutine[Any, Any, T], new_loop: NewLoop) -> T:
    """Run as `asyncio.run` does, on a loop of the chosen kind."""
    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(main)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[aiohttp.ClientSession]:
    """Note the sessions that are made during the test."""
    sessions: list[aiohttp.ClientSession] = []
    make = aiohttp.ClientSession.__init__

    def noted(self: aiohttp.ClientSession, *args: Any, **settings: Any) -> None:
        sessions.append(self)
        make(self, *args, **settings)

    monkeypatch.setattr(aiohttp.ClientSession, "__init__", noted)
    return sessions


class MakeClient(Protocol):
    def __call__(self, base_url: str, **settings: Any) -> WolfClient: ...


class Serve(Protocol):
    async def __call__(self, script: Script, *, ssl: ssl.SSLContext | None = None) -> RawServer: ...


@pytest.fixture
async def box() -> AsyncIterator[Sandbox]:
    async with Sandbox(accounts=20, token=TOKEN) as sandbox:
        yield sandbox


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Start raw servers, which end with the test."""
    async with AsyncExitStack() as stack:

        async def start(script: Script, *, ssl: ssl.SSLContext | None = None) -> RawServer:
            return await stack.enter_async_context(RawServer(script, ssl=ssl))

        yield start


@pytest.fixture
async def client(canary: Canary) -> AsyncIterator[MakeClient]:
    """Make clients that are closed with the test, and by default try again without pauses."""
    made: list[WolfClient] = []

    def make(base_url: str, **settings: Any) -> WolfClient:
        settings = {"token": TOKEN, "retry": AT_ONCE, **settings}
        made.append(WolfClient(base_url=base_url, **settings))
        return made[-1]

    yield make
    for wolf in made:
        await wolf.aclose()
        canary.check("repr", repr(wolf) + repr(wolf.stats()))
