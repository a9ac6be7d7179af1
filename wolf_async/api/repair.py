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
from datetime import datetime, timedelta
from functools import cache
from typing import Any, Final, cast

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

_PLAIN_DATETIME: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ]([01][0-9]|2[0-3]):[0-9]{2}:[0-9]{2}(\.[0-9]+)?"
)
_TIME: Final = (
    r"[T ]([01][0-9]|2[0-3]):[0-9]{2}(:[0-9]{2}([.,][0-9]+)?)? ?(Z|[+-][0-9]{2}(:?[0-9]{2})?)?"
)
_DATETIME: Final = re.compile(rf"[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}({_TIME})?", re.IGNORECASE)
# a date that is unset, as MySQL, PHP and JSON write it
_BEFORE_YEAR_1: Final = re.compile(
    rf"(0000|-[0-9]{{4,6}})-[0-9]{{2}}-[0-9]{{2}}({_TIME})?", re.IGNORECASE
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
    return _fix(data, _task_init_type(), path, found), found


def original_path(data: object, path: str) -> str:
    """Return where in ``data`` the place is that ``path`` names in what `repair` made of it.

    The two differ where items that were null have been left out of a list.
    """
    value, place = data, ""
    for name, index in re.findall(r"\.([^.\[\]]+)|\[([0-9]+)\]", path):
        if name:
            value = cast("Any", value).get(name) if isinstance(value, dict) else None
            place += f".{name}"
            continue
        items = _items_of(_from_column(value, place)) or []
        kept = [at for at, item in enumerate(items) if item is not None] or range(len(items))
        at = kept[int(index)] if int(index) < len(kept) else int(index)
        value = items[at] if at < len(items) else None
        place += f"[{at}]"
    return place


@cache
def _task_init_type() -> inspect.Type:
    # not at import: most programs never meet a quirk
    return inspect.type_info(TaskInit)


def _fix(value: Any, kind: inspect.Type, path: str, found: Deviations) -> Any:
    return _FIXES[type(kind)](value, kind, path, found)


def _note(found: Deviations, path: str, expected: str, value: object) -> None:
    found.setdefault(path, f"expected {expected}, got {_excerpt(value)}")


def _name(path: str) -> str:
    return path.rpartition(".")[2]


def _excerpt(value: Any) -> str:
    if isinstance(value, list):
        return f"an array of {len(cast('Any', value))}"
    if isinstance(value, dict):
        return f"an object of {len(cast('Any', value))}"
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


# --- structs, lists and mappings ------------------------------------------------------------------


def _fix_struct(value: Any, kind: inspect.StructType, path: str, found: Deviations) -> Any:
    if value == []:
        _note(found, path, "an object", value)
        value = {}
    if not isinstance(value, dict):
        return value
    fields = cast("dict[str, Any]", value)
    fixed: dict[str, Any] = {}
    for field in kind.fields:
        name = field.encode_name
        place = f"{path}.{name}"
        if name in fields:
            fixed[name] = _fix(fields[name], field.type, place, found)
            if name in _UNDOCUMENTED.get(kind.cls, ()) and not _fits(fixed[name], field.type):
                excerpt = _excerpt(fields[name])
                found.setdefault(place, f"left out, what it means is not documented: {excerpt}")
                fixed[name] = _empty(field.type)
        elif field.required and (empty := _empty(field.type)) is not UNSET:
            found.setdefault(place, "missing")
            fixed[name] = empty
    return fixed


def _empty(kind: inspect.Type) -> Any:
    """Return what stands for a missing key; an item's own id has nothing that could."""
    if isinstance(kind, inspect.VarTupleType):
        return []
    if isinstance(kind, inspect.CustomType):
        return {}
    return None if isinstance(kind, inspect.UnionType) and kind.includes_none else UNSET


def _fix_list(value: Any, kind: inspect.VarTupleType, path: str, found: Deviations) -> Any:
    decoded = _from_column(value, path)
    items = _items_of(decoded)
    if items is None:
        return value
    if items is not value:
        _note(found, path, "an array", value)
    kept = [item for item in items if item is not None]
    # a list of nothing but null is no empty one
    if kept and len(kept) < len(items):
        _note(found, f"{path}[]", "an object", None)
    return [_fix(item, kind.item_type, f"{path}[]", found) for item in kept or items]


def _from_column(value: Any, path: str) -> Any:
    """Return what a JSON column holds that arrived as a string, or else ``value`` as it is."""
    if not isinstance(value, str) or _name(path) not in _JSON_COLUMNS:
        return value
    try:
        return msgspec.json.decode(value)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return value


def _items_of(value: Any) -> list[Any] | None:
    """Return the items of a list in any of its forms, or ``None`` if it is no list."""
    if value is None:
        return []
    if isinstance(value, dict):
        fields = cast("dict[str, Any]", value)
        return list(fields.values()) if all(map(_INTEGER.fullmatch, fields)) else None
    return cast("Any", value) if isinstance(value, list) else None


def _fix_mapping(value: Any, kind: inspect.CustomType, path: str, found: Deviations) -> Any:
    labels = kind.cls is EndActions
    fixed = _from_column(value, path)
    if fixed is None or (isinstance(fixed, list) and (labels or fixed)):
        fixed = {str(index): item for index, item in enumerate(cast("Any", fixed) or [])}
    # the sample has an empty list for empty configs
    if not isinstance(fixed, dict) and fixed != []:
        return value
    if fixed is not value:
        _note(found, path, "an object", value)
    if not labels:
        return cast("Any", fixed)
    return {key: _fix_label(item, f"{path}.*", found) for key, item in cast("Any", fixed).items()}


def _fix_label(value: Any, path: str, found: Deviations) -> Any:
    if value is None:
        _note(found, path, "a str", value)
        return ""
    return _fix_scalar(value, _STR, path, found)


# --- scalars --------------------------------------------------------------------------------------


def _fix_union(value: Any, kind: inspect.UnionType, path: str, found: Deviations) -> Any:
    """Fix a value that may be null; in a number, a flag or a date, an empty text is null."""
    if value is None:
        return None
    others = [member for member in kind.types if not isinstance(member, inspect.NoneType)]
    # a text last, since a number is to stay one where both are documented
    others.sort(key=lambda member: isinstance(member, inspect.StrType))
    if isinstance(value, str) and isinstance(others[-1], inspect.StrType):
        return value
    if value == "" and type(others[0]) in _SCALARS:
        _note(found, path, _SCALARS[type(others[0])][1], value)
        return None
    return _fix(value, others[0], path, found)


def _fix_scalar(value: Any, kind: inspect.Type, path: str, found: Deviations) -> Any:
    """Return ``value`` as one of its type, or as it came where it cannot be read as that."""
    cls, expected, read = _SCALARS[type(kind)]
    if type(value) is cls:
        return value
    fixed = read(value, _name(path))
    if fixed is UNSET:
        return value
    if fixed is not value:
        _note(found, path, expected, value)
    return fixed


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
    if _PLAIN_DATETIME.fullmatch(value):
        return None if value.startswith("0000") else value
    if _BEFORE_YEAR_1.fullmatch(value):
        return None
    return _from_iso(value) if _DATETIME.fullmatch(value) else UNSET


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


def _fits(value: Any, kind: inspect.Type) -> bool:
    """Return whether a value that was fixed, or could not be, is of its type."""
    if isinstance(kind, inspect.UnionType):
        return value is None or any(_fits(value, member) for member in kind.types)
    if isinstance(kind, inspect.CustomType):
        return isinstance(value, dict) or value == []
    if isinstance(kind, inspect.DateTimeType) and isinstance(value, str):
        return bool(_PLAIN_DATETIME.fullmatch(value)) and _from_iso(value) is not UNSET
    return type(value) is _SCALARS[type(kind)][0] if type(kind) in _SCALARS else False


_STR: Final = inspect.StrType()
_SCALARS: Final[dict[type[inspect.Type], Any]] = {
    inspect.IntType: (int, "an int", _read_int),
    inspect.StrType: (str, "a str", _read_str),
    inspect.BoolType: (bool, "a bool", _read_bool),
    inspect.DateTimeType: (datetime, "a datetime", _read_datetime),
}
"""Of each kind: its class, its name, and what reads it from a value of another class."""

_FIXES: Final[dict[type[inspect.Type], Any]] = {
    inspect.StructType: _fix_struct,
    inspect.VarTupleType: _fix_list,
    inspect.CustomType: _fix_mapping,
    inspect.UnionType: _fix_union,
    **dict.fromkeys(_SCALARS, _fix_scalar),
}
