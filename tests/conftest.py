"""Every test ends with no leftover task, and nothing at the loop's exception handler or in its log.

``--loop=uvloop`` or ``WOLF_TEST_LOOP=uvloop`` runs all tests on uvloop, ``PYTHONASYNCIODEBUG=1``
in debug mode.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import logging
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping

LOOPS = ("asyncio", "uvloop")


def pytest_addoption(parser: pytest.Parser) -> None:
    default = os.environ.get("WOLF_TEST_LOOP") or "asyncio"
    parser.addoption(
        "--loop", choices=LOOPS, default=default, help="event loop that the tests run on"
    )


# what is slow on a busy machine is no failure
settings.register_profile(
    "suite", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("suite")


def pytest_configure(config: pytest.Config) -> None:
    # pytest-asyncio sets the loop's debug flag by its own option, over the environment's
    if config.option.asyncio_debug is None and (
        os.environ.get("PYTHONASYNCIODEBUG") or sys.flags.dev_mode
    ):
        config.option.asyncio_debug = True


def pytest_report_header(config: pytest.Config) -> str:
    return f"event loop: {config.getoption('--loop')}"


def pytest_collection_finish() -> None:
    freeze()


def freeze() -> None:
    # each test ends with a full collection, which need not look at what stays
    gc.collect()
    gc.freeze()


def new_loop_of(config: pytest.Config) -> Callable[[], asyncio.AbstractEventLoop]:
    if config.getoption("--loop") == "asyncio":
        return asyncio.new_event_loop
    import uvloop

    return uvloop.new_event_loop


def pytest_asyncio_loop_factories(
    config: pytest.Config,
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {str(config.getoption("--loop")): new_loop_of(config)}


@pytest.fixture
def new_loop(request: pytest.FixtureRequest) -> Callable[[], asyncio.AbstractEventLoop]:
    """Make event loops of the chosen kind, for tests that run their own."""
    return new_loop_of(request.config)


@pytest.fixture(scope="module", autouse=True)
def what_a_module_imports_is_frozen() -> Iterator[None]:
    yield
    freeze()


@pytest.fixture(scope="session", autouse=True)
def children_as_from_a_shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Give the processes that tests start what they have in a terminal, wherever the suite runs.

    Under ``nohup`` and in a script's background, signals are ignored, and whoever is started
    there ignores them as well. A handler that does nothing ignores them for this process alone.
    And where Python must not write beside the source, what is compiled is kept for the suite.
    """
    names = ("SIGINT", "SIGHUP")
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    ignored = [number for number in numbers if signal.getsignal(number) is signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, do_nothing)
    with pytest.MonkeyPatch.context() as patch:
        if os.environ.get("PYTHONDONTWRITEBYTECODE"):
            patch.delenv("PYTHONDONTWRITEBYTECODE")
            patch.setenv("PYTHONPYCACHEPREFIX", str(tmp_path_factory.mktemp("compiled")))
        yield
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)


def do_nothing(number: int, frame: object) -> None:
    """Take a signal without an effect."""


class ErrorMessages(logging.Handler):
    """Keep the text of each error that is logged."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


@pytest.fixture
def asyncio_errors() -> Iterator[list[str]]:
    """Collect what asyncio logs as an error; fail if any is left when the test ends."""
    errors = ErrorMessages()
    logger = logging.getLogger("asyncio")
    logger.addHandler(errors)
    yield errors.said
    logger.removeHandler(errors)
    assert not errors.said


@pytest.fixture
async def loop_reports() -> AsyncIterator[list[dict[str, Any]]]:
    """Collect what the loop's exception handler gets; fail if any is left at the end."""
    loop = asyncio.get_running_loop()
    reports: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: reports.append(context))
    yield reports
    for _ in range(3):  # callbacks of what ended with the test
        await asyncio.sleep(0)
    gc.collect()  # errors that nobody retrieved are reported by the collector
    leftover = asyncio.all_tasks() - {asyncio.current_task()}
    loop.set_exception_handler(None)
    assert not leftover
    assert not reports


@pytest.fixture(autouse=True)
def tidy(request: pytest.FixtureRequest) -> None:
    request.getfixturevalue("asyncio_errors")
    if inspect.iscoroutinefunction(getattr(request, "function", None)):
        request.getfixturevalue("loop_reports")
