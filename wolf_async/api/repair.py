"""The slower path of decoding: the known quirks of the server, put right one by one.

The server looks like PHP, whose arrays serve as lists and as maps: an empty map arrives as ``[]``, a map with the
keys 0, 1, 2 … as a list, and a list with gaps as an object with numeric keys. Flags come as ``true``, ``1`` and
``"1"``, ids as numbers and as strings, unset dates as zeros, and older servers leave keys out. The models say
what each place should hold; `repair` makes it so where the value is one of these, and notes each deviation.
Anything else is left as it came, for the typed conversion to refuse with its path.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any, Final, cast

import msgspec
from msgspec import inspect

from wolf_async.models import EndActions, TaskInit

__all__ = ["Deviations", "repair"]

Deviations = dict[str, str]
"""What was put right: the place, with ``[]`` for any item of a list, and what was found there first."""

_INTEGER: Final = re.compile(r"-?[0-9]{1,20}")
_ZERO_DATE: Final = re.compile(r"(0000-00-00([ T]00:00:00)?)?")
_FLAGS: Final = {0: False, 1: True, "0": False, "1": True}
_EXACT_IN_FLOAT: Final = 2**53
# ints that are flags, by name and sample; in any other, an id or a number of calls, a bool is a wrong shape
_INT_FLAG: Final = re.compile(r"is_.*|inner|order_matching|priority_matching|usable")
# the vendor shows null and no more, so that the models' type is a guess, and another one no wrong shape
_UNDOCUMENTED: Final = frozenset({"aim_content", "custom_prompt", "tts_extension"})


def repair(data: object, path: str = "$.data") -> tuple[object, Deviations]:
    """Return ``data`` of the envelope with its quirks put right, and what they were.

    Looks no deeper than the models.
    """
    found: Deviations = {}
    return _fix(data, _task_init_type(), path, found), found


@cache
def _task_init_type() -> inspect.Type:
    # not at import: most programs never meet a quirk
    return inspect.type_info(TaskInit)


def _fix(value: Any, kind: inspect.Type, path: str, found: Deviations) -> Any:
    fix = _FIXES.get(type(kind))
    return value if fix is None else fix(value, kind, path, found)


def _note(found: Deviations, path: str, expected: str, value: object) -> None:
    found.setdefault(path, f"expected {expected}, got {_excerpt(value)}")


def _name(path: str) -> str:
    return path.rpartition(".")[2]


def _excerpt(value: object) -> str:
    if isinstance(value, (list, dict)):
        return f"{'an array' if isinstance(value, list) else 'an object'} of {len(cast('list[Any]', value))}"
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _fix_struct(value: Any, kind: inspect.StructType, path: str, found: Deviations) -> Any:
    if value == []:
        _note(found, path, "an object", value)
        value = {}
    if not isinstance(value, dict):
        return value
    fields = cast("dict[str, Any]", value)
    fixed: dict[str, Any] = {}
    for field in kind.fields:
        place = f"{path}.{field.encode_name}"
        if field.encode_name in fields:
            fixed[field.encode_name] = _fix(fields[field.encode_name], field.type, place, found)
        elif field.required and (empty := _empty(field.type)) is not msgspec.UNSET:
            found.setdefault(place, "missing")
            fixed[field.encode_name] = empty
    return fixed


def _empty(kind: inspect.Type) -> Any:
    """What stands for a missing key; an item's own id has nothing that could."""
    if isinstance(kind, inspect.VarTupleType):
        return []
    if isinstance(kind, inspect.CustomType):
        return {}
    return None if isinstance(kind, inspect.UnionType) and kind.includes_none else msgspec.UNSET


def _fix_sequence(value: Any, kind: inspect.VarTupleType, path: str, found: Deviations) -> Any:
    if value is None or (
        isinstance(value, dict) and all(_INTEGER.fullmatch(key) for key in cast("Any", value))
    ):
        _note(found, path, "an array", cast("object", value))
        value = list(cast("dict[str, Any]", value).values()) if value else []
    if not isinstance(value, list):
        return cast("Any", value)
    return [_fix(item, kind.item_type, f"{path}[]", found) for item in cast("Any", value)]


def _fix_mapping(value: Any, kind: inspect.CustomType, path: str, found: Deviations) -> Any:
    labels = kind.cls is EndActions
    if value is None or (isinstance(value, list) and (labels or value)):
        _note(found, path, "an object", cast("object", value))
        value = {str(index): item for index, item in enumerate(cast("Any", value) or [])}
    if not labels or not isinstance(value, dict):
        return cast("Any", value)
    return {
        key: _fix_str(item, kind, f"{path}.*", found)
        for key, item in cast("dict[str, Any]", value).items()
    }


def _fix_union(value: Any, kind: inspect.UnionType, path: str, found: Deviations) -> Any:
    others = [member for member in kind.types if not isinstance(member, inspect.NoneType)]
    if value is None or len(others) != 1:
        return value
    return _fix(value, others[0], path, found)


def _fix_int(value: Any, kind: inspect.Type, path: str, found: Deviations) -> Any:
    if type(value) is int:
        return value
    if (
        (isinstance(value, bool) and _INT_FLAG.fullmatch(_name(path)))
        or (isinstance(value, str) and _INTEGER.fullmatch(value))
        or (isinstance(value, float) and value.is_integer() and abs(value) < _EXACT_IN_FLOAT)
    ):
        _note(found, path, "an int", value)
        return int(value)
    return value


def _fix_str(value: Any, kind: inspect.Type, path: str, found: Deviations) -> Any:
    if type(value) is int:
        _note(found, path, "a str", value)
        return str(value)
    if not isinstance(value, str) and _name(path) in _UNDOCUMENTED:
        _note(found, path, "a str", value)
        return None
    return value


def _fix_bool(value: Any, kind: inspect.Type, path: str, found: Deviations) -> Any:
    if type(value) in (int, str) and value in _FLAGS:
        _note(found, path, "a bool", value)
        return _FLAGS[value]
    return value


def _fix_datetime(value: Any, kind: inspect.Type, path: str, found: Deviations) -> Any:
    if isinstance(value, str) and _ZERO_DATE.fullmatch(value):
        _note(found, path, "a datetime", value)
        return None
    return value


_FIXES: Final[dict[type[inspect.Type], Any]] = {
    inspect.StructType: _fix_struct,
    inspect.VarTupleType: _fix_sequence,
    inspect.CustomType: _fix_mapping,
    inspect.UnionType: _fix_union,
    inspect.IntType: _fix_int,
    inspect.StrType: _fix_str,
    inspect.BoolType: _fix_bool,
    inspect.DateTimeType: _fix_datetime,
}
