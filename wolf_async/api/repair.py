"""Put the known quirks of the server right, one by one, on the slower path of decoding.

The server looks like PHP, whose arrays serve as lists and as maps: an empty map arrives as ``[]``,
a map with the keys 0, 1, 2 … as a list, and a list with gaps as an object with numeric keys. Flags
come as ``true``, ``1`` and ``"1"``, ids as numbers and as strings, dates in several forms, and
older servers leave keys out. The models say what each place should hold; `repair` makes it so where
the value is one of these, and notes each deviation. Anything else is left as it came, for the typed
conversion to refuse with its path, unless the vendor does not document what the field means.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import cache
from typing import Any, Final, NamedTuple, TypeAlias, cast

import msgspec
from msgspec import UNSET, inspect

from wolf_async.models import (
    AutoRecycleDetail,
    AutoRecycleRule,
    BigModelOutboundGroup,
    EndActions,
    Line,
    LLMIntentionConfig,
    NewLine,
    OutboundGroup,
    TaskInit,
    Variable,
)

__all__ = ["Deviations", "original_path", "repair"]

Deviations = dict[str, str]
"""What was put right: the place, with ``[]`` for any item of a list, and what came there first."""

_UNDOCUMENTED: Final[dict[type, frozenset[str]]] = {
    TaskInit: frozenset({"max_recycle_limit"}),
    Line: frozenset({"name"}),
    NewLine: frozenset({"bind_type_str"}),
    OutboundGroup: frozenset(OutboundGroup.__struct_fields__)
    - {"id", "name", "user_id", "created_at", "updated_at", "default"},
    Variable: frozenset({"type", "is_save", "is_builtin", "is_fill"}),
    BigModelOutboundGroup: frozenset({"is_lock", "is_active", "is_call_in", "llm_end_type"}),
    AutoRecycleRule: frozenset({"status", "type", "configs"}),
    AutoRecycleDetail: frozenset({"time"}),
    LLMIntentionConfig: frozenset({"llm_type"}),
}
"""The fields whose meaning the vendor does not document: an odd value there costs nothing else."""

_INTEGER: Final = re.compile(r"(-?[0-9]{1,20})(\.0+)?")
_FLAGS: Final = {0: False, 1: True, "0": False, "1": True, "false": False, "true": True}
_EXACT_IN_FLOAT: Final = 2**53
# ints that are flags, by name and sample; in any other, an id or a count, a flag is a wrong shape
_INT_FLAG: Final = re.compile(r"is_.*|inner|order_matching|priority_matching|usable")
_JSON_COLUMNS: Final = frozenset({"configs", "content", "variable"})

_HOUR: Final = r"(?:[01]\d|2[0-3])"
# as the API documents it
_PLAIN_DATETIME: Final = re.compile(rf"\d{{4}}-\d\d-\d\d[Tt ]{_HOUR}:\d\d:\d\d(?:\.\d+)?", re.ASCII)
_DATETIME: Final = re.compile(
    r"(\d{4}|-\d{4,6})-\d\d-\d\d"
    rf"(?:[Tt ]{_HOUR}:\d\d(?::\d\d(?:[.,]\d+)?)? ?(?:[Zz]|[+-]\d\d(?::?\d\d)?)?)?",
    re.ASCII,
)
# China has one zone; its summer times, up to 1991, are older than any of this
_SHANGHAI: Final = timedelta(hours=8)
_EPOCH: Final = datetime(1970, 1, 1) + _SHANGHAI
_LAST: Final = datetime(9999, 12, 31, 23, 59, 59)


def repair(data: object, path: str = "$.data") -> tuple[object, Deviations]:
    """Return ``data`` of the envelope with its quirks put right, and what they were.

    Looks no deeper than the models.
    """
    found: Deviations = {}
    return _task_init_fixer()(data, path, found), found


def original_path(data: object, path: str) -> str:
    """Return where in ``data`` the place is that ``path`` names in what `repair` made of it.

    The two differ where items that were null have been left out of a list.
    """
    value, place, column = data, "", ""
    for name, index in re.findall(r"\.([^.\[\]]+)|\[([0-9]+)\]", path):
        if name:
            value = cast("Any", value).get(name) if isinstance(value, dict) else None
            place, column = f"{place}.{name}", name
            continue
        items = _items_of(_from_column(value, column)) or []
        kept = [at for at, item in enumerate(items) if item is not None] or range(len(items))
        at = kept[int(index)] if int(index) < len(kept) else int(index)
        value = items[at] if at < len(items) else None
        place += f"[{at}]"
    return place


def _note(found: Deviations, path: str, expected: str, value: object) -> None:
    found.setdefault(path, f"expected {expected}, got {_excerpt(value)}")


def _excerpt(value: Any) -> str:
    if isinstance(value, list):
        return f"an array of {len(cast('Any', value))}"
    if isinstance(value, dict):
        return f"an object of {len(cast('Any', value))}"
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


# --- fixers: one for each place of the models, made once ------------------------------------------

_Fixer: TypeAlias = "Callable[[Any, str, Deviations], Any]"
"""Return a value as its place should hold it, or as it came; note what was put right."""


@cache
def _task_init_fixer() -> _Fixer:
    # not at import: most programs never meet a quirk
    return _fixer(inspect.type_info(TaskInit), "", undocumented=False)


def _fixer(kind: inspect.Type, name: str, *, undocumented: bool) -> _Fixer:
    types = kind.types if isinstance(kind, inspect.UnionType) else (kind,)
    members = [member for member in types if not isinstance(member, inspect.NoneType)]
    match members[0]:
        case inspect.StructType() as struct:
            return _struct_fixer(struct)
        case inspect.VarTupleType(item_type=item_type):
            return _list_fixer(name, _fixer(item_type, "", undocumented=False))
        case inspect.CustomType(cls=cls) if cls is EndActions:
            return _labels_fixer()
        case inspect.CustomType():
            return _mapping_fixer(name, undocumented=undocumented)
        case _:
            scalar, optional = _SCALARS[frozenset(map(type, members))], len(types) > len(members)
            return _scalar_fixer(scalar, name, optional=optional, undocumented=undocumented)


def _struct_fixer(kind: inspect.StructType) -> _Fixer:
    undocumented = _UNDOCUMENTED.get(kind.cls, frozenset())
    fields = [
        (
            field.encode_name,
            _fixer(field.type, field.encode_name, undocumented=field.encode_name in undocumented),
            _empty(field.type) if field.required else UNSET,
        )
        for field in kind.fields
    ]

    def fix(value: Any, path: str, found: Deviations) -> Any:
        if value == []:
            _note(found, path, "an object", value)
            value = {}
        if not isinstance(value, dict):
            return value
        given = cast("dict[str, Any]", value)
        fixed: dict[str, Any] = {}
        for name, fix_field, empty in fields:
            place = f"{path}.{name}"
            if name in given:
                fixed[name] = fix_field(given[name], place, found)
            elif empty is not UNSET:
                found.setdefault(place, "missing")
                fixed[name] = empty
        return fixed

    return fix


def _empty(kind: inspect.Type) -> Any:
    """Return what stands for a missing key; an item's own id has nothing that could."""
    if isinstance(kind, inspect.VarTupleType):
        return []
    if isinstance(kind, inspect.CustomType):
        return {}
    return None if isinstance(kind, inspect.UnionType) and kind.includes_none else UNSET


def _list_fixer(name: str, fix_item: _Fixer) -> _Fixer:
    def fix(value: Any, path: str, found: Deviations) -> Any:
        items = _items_of(_from_column(value, name))
        if items is None:
            return value
        if items is not value:
            _note(found, path, "an array", value)
        kept = [item for item in items if item is not None]
        # a list of nothing but null is no empty one
        if kept and len(kept) < len(items):
            _note(found, f"{path}[]", "an object", None)
        return [fix_item(item, f"{path}[]", found) for item in kept or items]

    return fix


def _items_of(value: Any) -> list[Any] | None:
    """Return the items of a list in any of its forms, or ``None`` if it is no list."""
    if value is None:
        return []
    if isinstance(value, dict):
        fields = cast("dict[str, Any]", value)
        return list(fields.values()) if all(map(_INTEGER.fullmatch, fields)) else None
    return cast("Any", value) if isinstance(value, list) else None


def _labels_fixer() -> _Fixer:
    fix_label = _scalar_fixer(_SCALARS[frozenset({inspect.StrType})], "")

    def fix(value: Any, path: str, found: Deviations) -> Any:
        fields = _fields_of(value)
        if fields is None:
            return value
        if fields is not value:
            _note(found, path, "an object", value)
        if None in fields.values():
            _note(found, f"{path}.*", "a str", None)
        return {
            key: "" if label is None else fix_label(label, f"{path}.*", found)
            for key, label in fields.items()
        }

    return fix


def _mapping_fixer(name: str, *, undocumented: bool) -> _Fixer:
    def fix(value: Any, path: str, found: Deviations) -> Any:
        if value == []:  # as the sample has it
            return value
        fields = _fields_of(_from_column(value, name))
        if fields is None:
            return _leave_out(found, path, value, {}) if undocumented else value
        if fields is not value:
            _note(found, path, "an object", value)
        return fields

    return fix


def _fields_of(value: Any) -> dict[str, Any] | None:
    """Return the fields of an object in any of its forms, or ``None`` if it is no object."""
    if value is None:
        return {}
    if isinstance(value, list):
        return {str(index): item for index, item in enumerate(cast("Any", value))}
    return cast("Any", value) if isinstance(value, dict) else None


def _from_column(value: Any, name: str) -> Any:
    """Return what a JSON column holds that arrived as a string, or else ``value`` as it is."""
    if not isinstance(value, str) or name not in _JSON_COLUMNS:
        return value
    try:
        return msgspec.json.decode(value)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return value


def _leave_out(found: Deviations, path: str, value: object, empty: object) -> Any:
    found.setdefault(path, f"left out, what it means is not documented: {_excerpt(value)}")
    return empty


# --- scalars --------------------------------------------------------------------------------------


def _scalar_fixer(
    scalar: _Scalar, name: str, *, optional: bool = False, undocumented: bool = False
) -> _Fixer:
    classes, expected, read = scalar
    # an empty text, where it is none, is null
    nulls = (None, "") if optional else ()

    def fix(value: Any, path: str, found: Deviations) -> Any:
        if type(value) in classes:
            return value
        fixed = None if value in nulls else read(value, name)
        if fixed is UNSET:
            return _leave_out(found, path, value, None) if undocumented else value
        if fixed is not value:
            _note(found, path, expected, value)
        return fixed

    return fix


def _read_int(value: Any, name: str) -> Any:
    if isinstance(value, str) and (match := _INTEGER.fullmatch(value)):
        return int(match[1])
    if _INT_FLAG.fullmatch(name) and value in (True, False, "true", "false"):
        return int(_FLAGS[value])
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT_IN_FLOAT:
        return int(value)
    return UNSET


def _read_str(value: Any, name: str) -> Any:
    return str(value) if type(value) is int else UNSET


def _read_bool(value: Any, name: str) -> Any:
    return _FLAGS.get(value, UNSET) if type(value) in (int, str) else UNSET


def _read_datetime(value: Any, name: str) -> Any:
    """Return a datetime of Asia/Shanghai without its zone, or ``None`` for a date that is unset."""
    if not isinstance(value, str) or _INTEGER.fullmatch(value):
        seconds = value if type(value) is int else _read_int(value, "")
        return seconds if seconds is UNSET else _from_unix(seconds)
    match = _DATETIME.fullmatch(value)
    if match is None:
        return UNSET
    if match[1] == "0000" or match[1].startswith("-"):
        # a date that is unset, as MySQL, PHP and JSON write it
        return None
    moment = _from_iso(value)
    return value if moment is not UNSET and _PLAIN_DATETIME.fullmatch(value) else moment


def _from_unix(seconds: int) -> Any:
    try:
        return _EPOCH + timedelta(seconds=seconds) if seconds else None
    except OverflowError:
        return None if seconds < 0 else UNSET


def _from_iso(text: str) -> Any:
    try:
        day, time = text[:10], text[11:].replace(" ", "").upper() or "00:00"
        moment = datetime.fromisoformat(f"{day}T{time}")
    except ValueError:
        return UNSET
    offset = moment.utcoffset()
    moment = moment.replace(tzinfo=None)
    if offset is None:
        return moment
    try:
        return moment + (_SHANGHAI - offset)
    except OverflowError:
        # before year 1, or as far off as "never ends" can be
        return None if offset > _SHANGHAI else _LAST


class _Scalar(NamedTuple):
    """What is neither list nor object."""

    classes: tuple[type, ...]
    """Those whose values fit as they are."""
    expected: str
    read: Callable[[Any, str], Any]
    """Read a value of another class, by the field's name; return ``UNSET`` if that cannot be."""


_SCALARS: Final[dict[frozenset[type], _Scalar]] = {
    frozenset({inspect.IntType}): _Scalar((int,), "an int", _read_int),
    frozenset({inspect.StrType}): _Scalar((str,), "a str", _read_str),
    frozenset({inspect.BoolType}): _Scalar((bool,), "a bool", _read_bool),
    frozenset({inspect.DateTimeType}): _Scalar((), "a datetime", _read_datetime),
    frozenset({inspect.IntType, inspect.StrType}): _Scalar((int, str), "an int", _read_int),
}
