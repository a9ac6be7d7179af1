"""What ``help()`` says of the public names is there, is short to begin with, and is true."""

from __future__ import annotations

import ast
import asyncio
import doctest
import importlib
import inspect
import pkgutil
import re
import textwrap
from datetime import datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from docstrings import told_fields
from shared.servers import Server

import wolf_async
from wolf_async import Account, CachePolicy, TaskInit, WolfClient
from wolf_async.cache import LoadingCache
from wolf_async.dashboard import make_app
from wolf_async.models import dec_hook
from wolf_async.otel import instrument
from wolf_async.shared import RedisTier
from wolf_async.testing import FakeClock, Sandbox, drip, quirks, respond, synthetic_task_init

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
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
    "CachePolicy",
    "CreatedTask",
    "Loaded",
    "LoadingCache",
    "RedisTier",
    "Sandbox",
    "EndActions",
    "TaskDialTime.is_open",
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
TOLD_METHODS = {
    name: found
    for name, found in METHODS.items()
    # those that a read-only dict refuses take anything
    if inspect.isfunction(found) and found.__name__ != "_read_only"
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


@pytest.mark.parametrize("module", PUBLIC)
def test_the_docstring_of_a_module_names_what_can_have_none_of_its_own(module: str) -> None:
    found = importlib.import_module(module)
    constants = set(found.__all__) - CLASSES.keys() - FUNCTIONS.keys()
    assert {name for name in constants if f"`{name}`" not in (found.__doc__ or "")} == set()


@pytest.mark.parametrize("name", CLASSES)
def test_help_tells_each_field(name: str) -> None:
    fields = [each for each in inspect.get_annotations(CLASSES[name]) if not each.startswith("_")]
    assert [field for field in fields if field not in told_fields(CLASSES[name])] == []


# of fields that a class inherits, help() shows no more than their names
@pytest.mark.parametrize("name", CLASSES)
def test_help_says_where_inherited_fields_are_told(name: str) -> None:
    bases = [base for base in CLASSES[name].__bases__ if getattr(base, "__struct_fields__", ())]
    doc = inspect.getdoc(CLASSES[name]) or ""
    assert [each.__name__ for each in bases if f".{each.__name__})`` tells" not in doc] == []


@pytest.mark.parametrize("name", CLASSES)
def test_help_tells_each_attribute_that_is_set_when_an_object_is_made(name: str) -> None:
    words = set(re.findall(r"\w+", inspect.getdoc(CLASSES[name]) or ""))
    assert [each for each in attributes_set(CLASSES[name]) if each not in words] == []


@pytest.mark.parametrize("name", CLASSES)
def test_no_meaning_of_a_field_stands_where_help_does_not_show_it(name: str) -> None:
    assert [
        ast.unparse(field)
        for field, below in pairwise(source_of(CLASSES[name]).body)
        if isinstance(field, ast.AnnAssign) and is_text(below)
    ] == []


@pytest.mark.parametrize("name", [*MADE, *FUNCTIONS, *TOLD_METHODS])
def test_help_names_each_argument(name: str) -> None:
    found = (MADE | FUNCTIONS | TOLD_METHODS)[name]
    doc = inspect.getdoc(found) or ""
    names = inspect.signature(found).parameters.keys() - {"self"}
    assert [each for each in names if not re.search(rf"\b{each}\b", doc)] == []


INIT = msgspec.convert(synthetic_task_init(0, Account("u"), lines=3), TaskInit, dec_hook=dec_hook)
LINE, GROUP, ACTIONS = INIT.caller_line_list[0], INIT.task_dial_times[0], INIT.end_actions
DRAFT = INIT.draft(
    name="n",
    script=INIT.outbound_group_v2[0],
    calls=1,
    start=datetime(2026, 3, 2, 9),
    stop=datetime(2026, 3, 3, 9),
    at=datetime(2026, 3, 1),
)
BOX, WOLF = Sandbox(), WolfClient("token")
CACHE: LoadingCache[Any, Any] = LoadingCache(asyncio.sleep)
NO: Any = object()
"""What is of no type that anybody asks for."""
WRONG: list[tuple[str, Callable[[], object]]] = [
    ("BreakerPolicy", lambda: wolf_async.BreakerPolicy(failures=0)),
    ("CachePolicy", lambda: CachePolicy(ttl=-1)),
    ("EndActions.keys_of", lambda: ACTIONS.keys_of(NO)),
    ("EndActions.label_of", lambda: ACTIONS.label_of(NO)),
    ("FakeClock.advance", lambda: FakeClock().advance(-1)),
    ("Line.can_carry", lambda: LINE.can_carry(0)),
    ("LoadingCache", lambda: LoadingCache(NO, policy=NO)),
    ("LoadingCache.get", lambda: CACHE.get([])),
    ("LoadingCache.held", lambda: CACHE.held([])),
    ("LoadingCache.invalidate", lambda: CACHE.invalidate([])),
    ("LoadingCache.peek", lambda: CACHE.peek("a", max_age=-1)),
    ("RedisTier", RedisTier),
    ("RedisTier.bind", lambda: RedisTier("redis://localhost").bind(CACHE, NO, NO)),
    ("RetryPolicy", lambda: wolf_async.RetryPolicy(attempts=0)),
    ("Sandbox", lambda: Sandbox(accounts=-1)),
    ("Sandbox.always", BOX.always),
    ("Sandbox.data_for", lambda: BOX.data_for("nobody")),
    ("Sandbox.fault_every", lambda: BOX.fault_every(0, respond())),
    ("Sandbox.body_for", lambda: BOX.body_for("nobody")),
    ("Sandbox.set_data", lambda: BOX.set_data("nobody", {})),
    ("Sandbox.wait_for_calls", lambda: BOX.wait_for_calls(1, timeout=0)),
    ("TaskDialTime.is_open", lambda: GROUP.is_open(sunday=7)),
    ("TaskDraft", lambda: msgspec.structs.replace(DRAFT, maximumcall=NO)),
    ("TaskDraft.problems", lambda: DRAFT.problems(NO)),
    ("TaskExtras", lambda: wolf_async.TaskExtras(start_time="9", stop_time="10")),
    ("TaskInit.allocate", lambda: INIT.allocate(0)),
    ("TaskInit.allocate", lambda: INIT.allocate(10**6)),
    ("TaskInit.by_id", lambda: INIT.by_id((), NO)),
    ("TaskInit.by_name", lambda: INIT.by_name((), NO)),
    ("Timeouts", lambda: wolf_async.Timeouts(total=0)),
    ("WolfClient", lambda: WolfClient("token", max_concurrency=0)),
    ("WolfClient.create_task", lambda: WOLF.create_task("u", draft=NO)),
    ("WolfClient.invalidate", lambda: WOLF.invalidate("")),
    ("WolfClient.peek", lambda: WOLF.peek("")),
    ("WolfClient.task_init", lambda: WOLF.task_init("")),
    ("WolfClient.task_init_many", lambda: WOLF.task_init_many(NO)),
    ("WolfClient.watch", lambda: WOLF.watch("u", every=0)),
    ("WolfClient.watch_many", lambda: WOLF.watch_many(["u"], every=0)),
    ("dec_hook", lambda: dec_hook(int, 3)),
    ("dec_hook", lambda: dec_hook(type(ACTIONS), 3)),
    ("drip", lambda: drip(1, 0)),
    ("instrument", lambda: instrument(NO)),
    ("make_app", lambda: make_app(WOLF, [])),
    ("quirks", quirks),
    ("respond", lambda: respond(200, NO)),
]


@pytest.mark.parametrize(("name", "call"), WRONG, ids=[name for name, _ in WRONG])
async def test_help_names_what_a_wrong_argument_raises(
    name: str, call: Callable[[], object]
) -> None:
    with pytest.raises(Exception) as raised:
        await end(call())
    assert f"`{raised.type.__name__}`" in (inspect.getdoc((OBJECTS | METHODS)[name]) or "")


async def end(result: object) -> None:
    if inspect.isawaitable(result):
        await result


def source_of(cls: type) -> ast.ClassDef:
    (found,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(found, ast.ClassDef)
    return found


def is_text(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def attributes_set(cls: type) -> list[str]:
    """Name the public attributes that the class's ``__init__`` sets."""
    made = [each for each in source_of(cls).body if getattr(each, "name", "") == "__init__"]
    set_there = [
        node.attr
        for method in made
        for node in ast.walk(method)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
    ]
    return [each for each in set_there if not each.startswith("_")]
