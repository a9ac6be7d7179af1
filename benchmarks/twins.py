"""Derive the same models for pydantic and attrs from the structs, field by field.

Lists take the place of tuples, as one would write them there, and plain dictionaries that of
read-only ones.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from importlib import import_module
from typing import Annotated, Any, Union, get_args, get_origin

import msgspec

from benchmarks.subjects import Envelope
from wolf_async.models.frozen import FrozenDict

Make = Callable[[str, dict[str, tuple[Any, bool]]], Any]
"""Makes a class of its name, and of the type of each field and whether it is required."""


def pydantic_envelope() -> Any:
    """Return `Envelope` as a pydantic model."""
    create_model = import_module("pydantic").create_model

    def make(name: str, fields: dict[str, tuple[Any, bool]]) -> Any:
        definitions = {
            key: (kind, ... if needed else None) for key, (kind, needed) in fields.items()
        }
        return create_model(name, **definitions)

    return _twin(Envelope, make)


def attrs_envelope() -> Any:
    """Return `Envelope` as an attrs class, which cattrs knows best."""
    attrs = import_module("attrs")

    def make(name: str, fields: dict[str, tuple[Any, bool]]) -> Any:
        definitions = {
            key: attrs.field(type=kind, default=attrs.NOTHING if needed else None)
            for key, (kind, needed) in fields.items()
        }
        return attrs.make_class(name, definitions, slots=True)

    return _twin(Envelope, make)


def _twin(kind: Any, make: Make) -> Any:
    args: list[Any] = [
        _twin(arg, make) for arg in get_args(kind) if isinstance(arg, type) or get_origin(arg)
    ]
    origin = get_origin(kind)
    if origin is Annotated:
        return args[0]
    if origin is tuple:
        return list[args[0]]  # type: ignore[valid-type]
    if origin in {Union, types.UnionType}:
        return Union[*args]
    if issubclass(kind, FrozenDict):
        return Any
    if not issubclass(kind, msgspec.Struct):
        return kind
    fields = sorted(msgspec.structs.fields(kind), key=lambda field: not field.required)
    return make(
        kind.__name__, {each.name: (_twin(each.type, make), each.required) for each in fields}
    )
