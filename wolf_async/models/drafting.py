"""Read what callers pass to `TaskInit.draft`: items or their ids, times, holidays, lines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, tzinfo
from typing import Any, TypeAlias, TypedDict, cast

from wolf_async.errors import WolfConfigError
from wolf_async.models import hours
from wolf_async.models.sections import (
    AutoRecycleRule,
    Background,
    BridgeGroup,
    Line,
    LLMIntentionConfig,
)
from wolf_async.models.task_extras import Holiday, TaskLine, as_tuple, draft_error

__all__ = [
    "AnyHoliday",
    "OptionalFields",
    "as_holidays",
    "as_id",
    "as_items",
    "as_stamp",
    "as_task_lines",
    "optional_fields",
    "some_of",
]

AnyHoliday: TypeAlias = Holiday | tuple[datetime | str, datetime | str]
"""A holiday, or its begin and its end."""


class OptionalFields(TypedDict, total=False):
    """The optional fields of a draft, with items of the answer or their ids."""

    bridge_group_id: BridgeGroup | int | str | None
    auto_recycle_rule_id: AutoRecycleRule | int | str | None
    background_id: Background | int | str | None
    llm_intention_id: LLMIntentionConfig | int | str | None
    end_action: int | str | None
    enable_type: int | None
    is_call_in: int | None
    task_type: int | None
    remark: str | None
    extra: Mapping[str, Any]


def optional_fields(given: OptionalFields) -> dict[str, Any]:
    """Return the optional fields with ids in the place of items.

    Raises `WolfConfigError` for a name that is none of them.
    """
    unknown = set(given) - OptionalFields.__annotations__.keys()
    if unknown:
        names = ", ".join(OptionalFields.__annotations__)
        raise WolfConfigError(
            f"optional fields are {names}; not {', '.join(sorted(unknown))}: "
            "what has no field goes into extra"
        )
    fields: dict[str, Any] = dict(given)
    for name, value in fields.items():
        if value is not None and (name.endswith("_id") or name == "end_action"):
            fields[name] = as_id(f"$.{name}", value)
    return fields


def as_id(path: str, item: object) -> int:
    """Return the id of an item, or an id, as the int that the API takes."""
    own = getattr(item, "id", item)
    if isinstance(own, str) and own.isascii() and own.isdigit():
        return int(own)
    if isinstance(own, bool) or not isinstance(own, int):
        raise draft_error(path, "not_an_id", f"an item or its id is expected, not {item!r}")
    return int(own)


def as_stamp(path: str, at: object, zone: str | tzinfo, *, seconds: bool = True) -> str:
    """Return a moment as the text that the API takes; a text stays as it is.

    Without ``seconds`` a datetime has to be at a full minute.
    """
    if isinstance(at, str):
        return at
    if not isinstance(at, datetime):
        message = f"a datetime or a text as YYYY-MM-DD HH:MM:SS is expected, not {at!r}"
        raise draft_error(path, "not_a_time", message)
    if not seconds and (at.second or at.microsecond):
        raise draft_error(path, "not_a_full_minute", f"a full minute is expected, not {at}")
    return hours.write_stamp(at, zone, seconds=seconds)


def as_items(path: str, value: object) -> tuple[Any, ...]:
    """Return what can be iterated over as a tuple; a text and a mapping count as no list."""
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
        raise draft_error(path, "not_a_list", f"a list is expected, not {value!r}")
    return tuple(cast("Any", value))


def as_holidays(spans: Iterable[AnyHoliday], zone: str | tzinfo) -> tuple[Holiday, ...]:
    """Return holidays, made of pairs where they are pairs."""
    path = "$.task_extras.holiday"
    items = enumerate(as_items(path, spans))
    return tuple(_as_holiday(f"{path}[{at}]", each, zone) for at, each in items)


def _as_holiday(path: str, span: Any, zone: str | tzinfo) -> Holiday:
    if isinstance(span, Holiday):
        return span
    pair = as_tuple(span)
    if pair is None or len(pair) != 2:
        message = f"a Holiday or a pair of times is expected, not {span!r}"
        raise draft_error(path, "not_a_holiday", message)
    return Holiday(
        begin=as_stamp(f"{path}.begin", pair[0], zone, seconds=False),
        end=as_stamp(f"{path}.end", pair[1], zone, seconds=False),
    )


def as_task_lines(lines: Iterable[object]) -> tuple[TaskLine, ...] | None:
    """Return lines whose limits the caller has set, or ``None`` if there are lines without one.

    Raises `WolfConfigError` for a mixture.
    """
    given = tuple(lines)
    limited = tuple(line for line in given if isinstance(line, TaskLine))
    if limited and len(limited) < len(given):
        raise WolfConfigError("lines must be all TaskLine, or all Line or ids, not a mixture")
    return limited if len(limited) == len(given) else None


def some_of(lines: tuple[Line, ...], wanted: Iterable[object]) -> tuple[Line, ...]:
    """Return those of an answer's lines that the caller names, as items or by their ids."""
    chosen: list[Line] = []
    for at, item in enumerate(wanted):
        wanted_id = getattr(item, "line_id", item)
        line = next((line for line in lines if line.line_id == wanted_id), None)
        if line is None:
            message = f"the answer has no such line in that direction: {item!r}"
            raise draft_error(f"$.task_extras.line[{at}].id", "unknown_id", message)
        chosen.append(line)
    return tuple(chosen)
