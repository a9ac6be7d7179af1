"""What ``help()`` says of the public names is there, is short to begin with, and is true."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
import re
from typing import TYPE_CHECKING, Any

import pytest
from shared.servers import Server

import wolf_async

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import ModuleType

PUBLIC = (
    "wolf_async",
    "wolf_async.cache",
    "wolf_async.client",
    "wolf_async.dashboard",
    "wolf_async.errors",
    "wolf_async.events",
    "wolf_async.models",
    "wolf_async.otel",
    "wolf_async.policy",
    "wolf_async.shared",
    "wolf_async.testing",
)
WITH_EXAMPLE = {
    "AccountResult",
    "AccountUpdate",
    "Answer",
    "CreatedTask",
    "LoadingCache",
    "RedisTier",
    "Sandbox",
    "TaskDraft.problems",
    "TaskInit.allocate",
    "TaskInit.draft",
    "WolfClient",
    "instrument",
    "make_app",
}
NOT_IMPERATIVE = re.compile(r"(?:\w*[^s\W]s|The|An?|What|How|When|From|This|That|It|Whether|On)\b")


def all_modules() -> Iterator[ModuleType]:
    for found in pkgutil.walk_packages(wolf_async.__path__, "wolf_async."):
        if not found.name.endswith(".__main__"):  # which runs the command line
            yield importlib.import_module(found.name)


def public_objects() -> dict[str, Any]:
    """Give each public name with its object, once."""
    modules = [importlib.import_module(name) for name in PUBLIC]
    return {name: getattr(module, name) for module in modules for name in module.__all__}


OBJECTS = public_objects()
CLASSES = {name: found for name, found in OBJECTS.items() if inspect.isclass(found)}
MADE = {
    name: CLASSES[name]
    for name in (
        *("BreakerPolicy", "CachePolicy", "FakeClock", "Loaded", "LoadingCache", "RedisTier"),
        *("RetryPolicy", "Sandbox", "Timeouts", "WolfClient"),
    )
}
FUNCTIONS = {name: found for name, found in OBJECTS.items() if inspect.isfunction(found)}
METHODS = {
    f"{name}.{attribute}": found
    for name, cls in CLASSES.items()
    for attribute, found in inspect.getmembers(cls)
    if not attribute.startswith("_")
    and (inspect.isfunction(found) or isinstance(found, property))
    and any(
        attribute in vars(base) for base in cls.__mro__ if base.__module__.startswith("wolf_async")
    )
}
EXAMPLES = [
    found
    for module in (wolf_async, *all_modules())
    for found in doctest.DocTestFinder(exclude_empty=True).find(module)
    if found.examples
]


@pytest.fixture
def shared_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run a server of the kind that a shared tier needs, as the environment names one."""
    server = Server(tmp_path).start()
    monkeypatch.setenv("WOLF_SHARED", server.url)
    yield
    server.kill()


@pytest.mark.parametrize("found", EXAMPLES, ids=lambda found: found.name)
def test_each_example_of_a_docstring_does_what_it_shows(
    found: doctest.DocTest, request: pytest.FixtureRequest
) -> None:
    if "WOLF_SHARED" in (found.docstring or ""):
        request.getfixturevalue("shared_server")
    # as in a session of the reader's own, who has nothing but what the example imports
    found.globs = {"__name__": "__main__"}
    said: list[str] = []
    doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(found, out=said.append)
    assert not said, "".join(said)


def test_whatever_is_not_obvious_has_an_example() -> None:
    shown = {re.sub(r"^wolf_async\.([a-z_]+\.)*", "", found.name) for found in EXAMPLES}
    assert shown >= WITH_EXAMPLE, WITH_EXAMPLE - shown


@pytest.mark.parametrize("name", [*CLASSES, *FUNCTIONS, *METHODS])
def test_each_public_name_begins_with_one_sentence(name: str) -> None:
    doc = inspect.getdoc((CLASSES | FUNCTIONS | METHODS)[name]) or ""
    first, *rest = doc.splitlines() or [""]
    assert re.fullmatch(r"[A-Z0-9].{8,}\.", first), first
    assert not re.search(r"[a-z`]{2}\. [A-Z]", first), f"more than one sentence: {first}"
    assert not rest or not rest[0], f"it goes on in the next line: {first}"


@pytest.mark.parametrize("name", [*FUNCTIONS, *METHODS])
def test_each_public_function_is_told_in_the_imperative(name: str) -> None:
    found = (FUNCTIONS | METHODS)[name]
    if not isinstance(found, property):
        first = (inspect.getdoc(found) or "").splitlines()[0]
        assert not NOT_IMPERATIVE.match(first), first


@pytest.mark.parametrize("name", CLASSES)
def test_help_tells_each_field(name: str) -> None:
    told = re.findall(r"^ {4}(\w+): .", inspect.getdoc(CLASSES[name]) or "", re.MULTILINE)
    assert [field for field in fields_of(CLASSES[name]) if field not in told] == []


# msgspec, not a reader, passes the arguments of dec_hook
@pytest.mark.parametrize("name", [*MADE, *sorted(FUNCTIONS.keys() - {"dec_hook"})])
def test_help_names_each_argument(name: str) -> None:
    found = (MADE | FUNCTIONS)[name]
    doc = inspect.getdoc(found) or ""
    names = inspect.signature(found).parameters
    assert [each for each in names if not re.search(rf"\b{each}\b", doc)] == []


def fields_of(cls: type) -> list[str]:
    """Name what a class declares; an answer's fields have docstrings, and a test of their own."""
    if cls.__module__ in ("wolf_async.models.sections", "wolf_async.models.task_init"):
        return []
    return [field for field in inspect.get_annotations(cls) if not field.startswith("_")]
