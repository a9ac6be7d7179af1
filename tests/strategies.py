"""Hypothesis strategies for answers, documented or not, and for the quirks of the server.

The answers are generated from the structs' types, so that a field added there is tested here too.
"""

from __future__ import annotations

import itertools
import json
import string
from datetime import datetime, time, timedelta
from inspect import isclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, cast

from docstrings import told_fields
from hypothesis import strategies as st
from msgspec import inspect

from wolf_async import models
from wolf_async.models import EndActions, TaskInit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

SAMPLE_BYTES = (Path(__file__).parent / "data" / "task-init.sample.json").read_bytes()
TASK_INIT = inspect.type_info(TaskInit)

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"


def sample() -> dict[str, Any]:
    """Return a new copy of the documented sample, envelope included."""
    return cast("dict[str, Any]", json.loads(SAMPLE_BYTES))


# --- any JSON -------------------------------------------------------------------------------------

INTS = st.one_of(
    st.integers(-3, 20),
    st.integers(-(2**66), 2**66),
    st.sampled_from([2**53 - 1, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 10**30]),
)
TEXTS = st.one_of(
    st.text(max_size=8),
    st.sampled_from(
        [
            "",
            "0",
            "1",
            "2",
            "007",
            "-5",
            "141116018687787008",
            "9:00",
            "2024-06-16 14:57:12",
            "true",
        ]
    ),
    st.sampled_from(
        ["0000-00-00 00:00:00", "0000-00-00", "success", "error", "200", "1e999", " - at `$.x`"]
    ),
)
KEYS = st.one_of(
    st.sampled_from(["0", "1", "2", "id", "name", "code", "status", "data", "message"]), TEXTS
)
SCALARS = st.one_of(
    st.none(), st.booleans(), INTS, st.floats(allow_nan=False, allow_infinity=False), TEXTS
)


def _branches(inner: st.SearchStrategy[Json]) -> st.SearchStrategy[Json]:
    lists = cast("st.SearchStrategy[Json]", st.lists(inner, max_size=3))
    return lists | cast("st.SearchStrategy[Json]", st.dictionaries(KEYS, inner, max_size=3))


ANY_JSON: st.SearchStrategy[Json] = st.recursive(SCALARS, _branches, max_leaves=8)


def places(value: Json, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield the path of ``value`` and of everything in it."""
    yield path
    if isinstance(value, dict):
        for key, item in value.items():
            yield from places(item, (*path, key))
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from places(item, (*path, index))


def found(value: Any, path: Sequence[str | int]) -> Any:
    """Return whatever stands at ``path`` in ``value``."""
    for key in path:
        value = value[key]
    return value


def as_text(path: Sequence[str | int]) -> str:
    """Write ``path`` within ``data`` as errors name it."""
    return "$.data" + "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path)


def replaced(value: Any, path: Sequence[str | int], new: Json) -> Any:
    """Replace what stands at ``path`` in ``value``, if there is such a place."""
    if not path:
        return new
    head, *rest = path
    if isinstance(value, dict):
        fields = cast("dict[str | int, Any]", value)
        return {
            key: replaced(item, rest, new) if key == head else item for key, item in fields.items()
        }
    if isinstance(value, list):
        items = enumerate(cast("Any", value))
        return [replaced(item, rest, new) if index == head else item for index, item in items]
    return value


@st.composite
def damaged_samples(draw: st.DrawFn) -> Json:
    """Replace up to three subtrees of the documented sample by any JSON."""
    document: Json = sample()
    for _ in range(draw(st.integers(1, 3))):
        document = replaced(document, draw(st.sampled_from(list(places(document)))), draw(ANY_JSON))
    return document


@st.composite
def damaged_bytes(draw: st.DrawFn) -> bytes:
    """Replace, leave out or cut off some bytes of the documented sample."""
    body = SAMPLE_BYTES
    start = draw(st.integers(0, len(body)))
    end = draw(st.one_of(st.just(len(body)), st.integers(start, min(start + 20, len(body)))))
    return body[:start] + draw(st.binary(max_size=6)) + body[end:]


def envelopes() -> st.SearchStrategy[dict[str, Json]]:
    """Objects with the keys of the envelope, and any JSON or what comes close behind them."""
    return st.fixed_dictionaries(
        {},
        optional={
            "code": st.one_of(
                st.sampled_from([200, "200", 401, 422, 6007, 500, None, True, 200.0]), ANY_JSON
            ),
            "status": st.one_of(st.sampled_from(["success", "error", "", None]), ANY_JSON),
            "message": ANY_JSON,
            "data": st.one_of(st.just([]), st.just(sample()["data"]), ANY_JSON),
        },
    )


STATUSES = st.one_of(
    st.just(200),
    st.sampled_from([204, 302, 401, 403, 404, 422, 429, 500, 503]),
    st.integers(100, 999),
)
DOCUMENTS = st.one_of(ANY_JSON, envelopes(), damaged_samples())
BODIES = st.builds(json.dumps, DOCUMENTS, ensure_ascii=st.booleans()).map(str.encode)


# --- documented answers ---------------------------------------------------------------------------

_SECONDS = st.datetimes().map(lambda moment: moment.replace(microsecond=0))
_MINUTES = st.datetimes().map(lambda moment: moment.replace(second=0, microsecond=0))
_DAYS = st.dates().map(lambda day: datetime.combine(day, time()))
DATETIMES = st.one_of(_SECONDS, _MINUTES, _DAYS).map(lambda moment: moment.isoformat(sep=" "))
STRINGS = st.one_of(
    st.text(max_size=6),
    st.integers(0, 10**19).map(str),
    st.text(string.hexdigits + "-", min_size=36, max_size=36),
)
LABELS = st.one_of(st.text(max_size=6), st.integers(0, 99).map(str))
END_ACTIONS = st.one_of(
    st.lists(LABELS, max_size=3).map(
        lambda labels: {str(index): label for index, label in enumerate(labels)}
    ),
    st.dictionaries(st.text(max_size=3), LABELS, max_size=3),
)
CONFIGS: st.SearchStrategy[Any] = st.one_of(
    st.just([]),
    st.dictionaries(KEYS, ANY_JSON, max_size=2),
    st.lists(ANY_JSON, max_size=2).map(
        lambda items: {str(index): item for index, item in enumerate(items)}
    ),
)
_SCALARS: dict[type[inspect.Type], st.SearchStrategy[Any]] = {
    inspect.IntType: INTS,
    inspect.StrType: STRINGS,
    inspect.BoolType: st.booleans(),
    inspect.DateTimeType: DATETIMES,
    inspect.NoneType: st.none(),
}


def _documented(kind: inspect.Type) -> st.SearchStrategy[Any]:
    """JSON of that type to the letter."""
    match kind:
        case inspect.StructType():
            return st.fixed_dictionaries(
                {field.encode_name: _documented(field.type) for field in kind.fields}
            )
        case inspect.VarTupleType():
            return st.lists(_documented(kind.item_type), max_size=2)
        case inspect.UnionType():
            return st.one_of(*map(_documented, kind.types))
        case inspect.CustomType():
            return END_ACTIONS if kind.cls is EndActions else CONFIGS
        case _:
            return _SCALARS[type(kind)]


DOCUMENTED: st.SearchStrategy[dict[str, Any]] = _documented(TASK_INIT)
"""``data`` of an answer with all its sections."""


# --- quirks ---------------------------------------------------------------------------------------


class _Missing:
    def __repr__(self) -> str:
        return "MISSING"


MISSING = _Missing()
INT_FLAGS = frozenset(
    [
        "inner",
        "is_active",
        "is_call_in",
        "is_default",
        "is_edit",
        "is_lock",
        "is_sync",
        "is_top",
        "is_train",
        "is_visible",
        "order_matching",
        "priority_matching",
        "usable",
    ]
)
JSON_COLUMNS = frozenset(["configs", "content", "variable"])
SHANGHAI = timedelta(hours=8)


def _undocumented() -> frozenset[tuple[str, str]]:
    """Return struct and name of all fields that the structs' docstrings call not documented."""
    structs = [found for found in map(models.__dict__.get, models.__all__) if isclass(found)]
    return frozenset(
        (struct.__name__, field)
        for struct in structs
        for field, text in told_fields(struct).items()
        if text.startswith("not documented")
    )


UNDOCUMENTED = _undocumented()


def is_undocumented(path: Sequence[str | int]) -> bool:
    """Return whether the models do not know what the field at ``path`` within ``data`` means."""
    kind: inspect.Type = TASK_INIT
    owner = ""
    for key in path:
        kind = _without_none(kind)
        if isinstance(kind, inspect.VarTupleType):
            kind = kind.item_type
        elif isinstance(kind, inspect.StructType):
            owner = kind.cls.__name__
            kind = next(field.type for field in kind.fields if field.encode_name == key)
    return (owner, path[-1]) in UNDOCUMENTED


class Place(NamedTuple):
    """Where in an answer, as deviations name it."""

    path: str
    name: str = ""
    may_be_missing: bool = False
    is_undocumented: bool = False

    def within(self, suffix: str) -> Place:
        return Place(self.path + suffix)


Choose: TypeAlias = "Callable[[Place, list[Any]], Any]"
"""Picks one of the forms that the server may give a value; the first is the value's own."""


def with_quirks(value: Any, kind: inspect.Type, place: Place, choose: Choose) -> Any:
    """Make of ``value`` what a server with quirks may send, each place as ``choose`` says."""
    inner = _inside(value, kind, place, choose)
    return choose(place, [inner, *_forms(value, inner, kind, place)])


def _inside(value: Any, kind: inspect.Type, place: Place, choose: Choose) -> Any:
    kind = _without_none(kind)
    if value is None:
        return None
    if isinstance(kind, inspect.StructType):
        return _fields(value, kind, place, choose)
    if isinstance(kind, inspect.VarTupleType):
        items = [with_quirks(item, kind.item_type, place.within("[]"), choose) for item in value]
        nulls = ([None, *items], [*items, None, None]) if items else ()
        return choose(place.within("[]"), [items, *nulls])
    if isinstance(kind, inspect.CustomType) and kind.cls is EndActions:
        return {
            key: choose(place.within(".*"), [label, *_as_int(label), *([] if label else [None])])
            for key, label in value.items()
        }
    return value


def _fields(
    value: dict[str, Any], kind: inspect.StructType, place: Place, choose: Choose
) -> dict[str, Any]:
    fixed: dict[str, Any] = {}
    for field in kind.fields:
        name = field.encode_name
        undocumented = (kind.cls.__name__, name) in UNDOCUMENTED
        inner = Place(f"{place.path}.{name}", name, field.required, undocumented)
        form = with_quirks(value[name], field.type, inner, choose)
        if form is not MISSING:
            fixed[name] = form
    return fixed


def _without_none(kind: inspect.Type) -> inspect.Type:
    """Return the type beside None; leave a union of more, which is documented as such."""
    if not isinstance(kind, inspect.UnionType):
        return kind
    others = [member for member in kind.types if not isinstance(member, inspect.NoneType)]
    return others[0] if len(others) == 1 else kind


def _forms(value: Any, inner: Any, kind: inspect.Type, place: Place) -> Iterator[Any]:
    """Yield what else may stand for ``value``, whose insides are ``inner`` by now."""
    optional = isinstance(kind, inspect.UnionType)
    if place.may_be_missing and (value is None if optional else value in ([], {})):
        yield MISSING
    kind = _without_none(kind)
    if place.is_undocumented and value in (None, {}):
        yield from (0.5, "{", False) if value == {} else (0.5, [], {"a": 1}, ["x"])
    if place.name in JSON_COLUMNS:
        yield json.dumps(inner)
    yield from _null_forms(kind) if value is None else _value_forms(value, inner, kind, place)


def _value_forms(value: Any, inner: Any, kind: inspect.Type, place: Place) -> Iterator[Any]:
    match kind:
        case inspect.StructType() if not inner:
            yield []
        case inspect.VarTupleType():
            yield from _list_forms(inner)
        case inspect.CustomType(cls=cls):
            yield from _map_forms(inner, labels=cls is EndActions)
        case inspect.DateTimeType():
            yield from _date_forms(datetime.fromisoformat(value))
        case inspect.StrType():
            yield from _as_int(value)
        case inspect.IntType():
            yield from _int_forms(value, flag=place.name in INT_FLAGS)
        case inspect.BoolType():
            yield from (int(value), str(int(value)), str(value).lower())
        case _:
            pass


def _null_forms(kind: inspect.Type) -> Iterator[Any]:
    if isinstance(kind, inspect.DateTimeType):
        yield from ("0000-00-00 00:00:00", "0000-00-00", "0000-00-00T00:00:00.000000Z", 0, "0")
        yield from ("-0001-11-30 00:00:00", "-000001-11-30T00:00:00.000000Z")
    if isinstance(kind, inspect.DateTimeType | inspect.IntType | inspect.BoolType):
        yield ""


def _date_forms(moment: datetime) -> Iterator[Any]:
    """Yield how else a server may write a moment of Asia/Shanghai."""
    text = moment.isoformat()
    yield from (f"{text}+08:00", f"{text}.000000+0800", f"{text.replace('T', ' ')} +08")
    if not moment.second:
        yield text[:-3]
    if moment.time() == time():
        yield text[:10]
    if moment.year > 1:
        utc = moment - SHANGHAI
        yield from (f"{utc.isoformat()}.000000Z", f"{(utc - SHANGHAI).isoformat()}-08:00")
    seconds = (moment - datetime(1970, 1, 1) - SHANGHAI) // timedelta(seconds=1)
    if seconds:
        yield from (seconds, str(seconds), f"{seconds}.0")


def _list_forms(items: list[Any]) -> Iterator[Any]:
    yield {str(3 * index): item for index, item in enumerate(items)}
    if not items:
        yield None


def _map_forms(fields: Any, *, labels: bool) -> Iterator[Any]:
    keys = list(fields)
    if not fields:
        yield None
    # an empty array is what the sample has for configs
    if keys == [str(index) for index in range(len(keys))] and (labels or fields):
        yield list(fields.values())


def _int_forms(value: int, *, flag: bool) -> Iterator[Any]:
    if len(str(abs(value))) <= 20:
        yield from (str(value), f"{value}.0")
    if abs(value) < 2**53:
        yield float(value)
    if flag and value in (0, 1):
        yield from (bool(value), str(bool(value)).lower())


def _as_int(text: str) -> Iterator[int]:
    """Yield the int that a server may send for a string, if no character of it is lost."""
    if text.isascii() and text.isdigit() and str(int(text)) == text:
        yield int(text)


class Quirky(NamedTuple):
    """A documented answer, the same with quirks, and where these are."""

    plain: dict[str, Any]
    quirky: dict[str, Any]
    paths: set[str]


@st.composite
def quirky_answers(draw: st.DrawFn) -> Quirky:
    """Draw any documented answer, and the same with quirks at any of its places.

    What is left out, because such an answer says something else or can be read in two ways:
    - ``data`` as ``[]``, or without any section, which is what an error has;
    - an int for a str, or the other way round, where the structs take both;
    - a string of digits with leading zeros as an int, and an int beyond 2^53 as a float,
      which have lost something;
    - a map as a list if its keys are not 0, 1, 2 … in that order;
    - the moment at which Unix seconds begin as a number, since 0 stands for a date that is unset.
    """
    plain = draw(DOCUMENTED)
    where = _where_forms_differ(plain)
    some = st.sets(st.sampled_from(where), min_size=1) if where else st.nothing()
    chosen = draw(some | st.none())
    which = draw(st.integers(0, 11))
    calls = itertools.count()
    paths: set[str] = set()

    def choose(place: Place, forms: list[Any]) -> Any:
        index = next(calls)
        if len(forms) == 1 or (chosen is not None and index not in chosen):
            return forms[0]
        paths.add(place.path)
        return forms[1 + (which + index) % (len(forms) - 1)]

    quirky = with_quirks(plain, TASK_INIT, Place("$.data"), choose)
    empty = [name for name, value in plain.items() if value in ([], {}, None)]
    absent = draw(st.sets(st.sampled_from(empty), max_size=len(plain) - 1)) if empty else set[str]()
    kept = {name: value for name, value in quirky.items() if name not in absent}
    return Quirky(plain, kept, paths - {f"$.data.{name}" for name in absent})


def _where_forms_differ(plain: Any) -> list[int]:
    seen: list[int] = []

    def look(place: Place, forms: list[Any]) -> Any:
        seen.append(len(forms))
        return forms[0]

    with_quirks(plain, TASK_INIT, Place("$.data"), look)
    return [index for index, count in enumerate(seen) if count > 1]
