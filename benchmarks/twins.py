"""Derive the same models for pydantic and attrs from the structs, field by field.

Lists take the place of tuples, as one would write them there, and plain dictionaries that of
read-only ones.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from functools import reduce
from importlib import import_module
from typing import Annotated, Any, Union, get_args, get_origin

import msgspec

from benchmarks.subjects import Envelope
from wolf_async.models.frozen import FrozenDict

Make = Callable[[str, list[msgspec.structs.FieldInfo], list[Any]], Any]


def pydantic_envelope() -> Any:
    """Return `Envelope` as a pydantic model."""
    create_model = import_module("pydantic").create_model

    def make(name: str, fields: list[msgspec.structs.FieldInfo], kinds: list[Any]) -> Any:
        definitions = {
            field.name: (kind, ... if field.required else None)
            for field, kind in zip(fields, kinds, strict=True)
        }
        return create_model(name, **definitions)

    return _twin(Envelope, make)


def attrs_envelope() -> Any:
    """Return `Envelope` as an attrs class, which cattrs knows best."""
    attrs = import_module("attrs")

    def make(name: str, fields: list[msgspec.structs.FieldInfo], kinds: list[Any]) -> Any:
        definitions = {
            field.name: attrs.field(type=kind)
            if field.required
            else attrs.field(type=kind, default=None)
            for field, kind in zip(fields, kinds, strict=True)
        }
        return attrs.make_class(name, definitions, slots=True)

    return _twin(Envelope, make)


def _twin(kind: Any, make: Make) -> Any:
    args: list[Any] = [
        _twin(arg, make) for arg in get_args(kind) if isinstance(arg, type) or get_origin(arg)
    ]
    match get_origin(kind):
        case origin if origin is Annotated:
            return args[0]
        case origin if origin is tuple:
            return list[args[0]]  # type: ignore[valid-type]
        case origin if origin is Union or origin is types.UnionType:
            return reduce(_either, args)
        case _:
            return _twin_of_class(kind, make)


def _either(one: Any, other: Any) -> Any:
    return one | other


def _twin_of_class(kind: Any, make: Make) -> Any:
    if issubclass(kind, FrozenDict):
        return Any
    if issubclass(kind, msgspec.Struct):
        fields = sorted(msgspec.structs.fields(kind), key=lambda field: not field.required)
        return make(kind.__name__, fields, [_twin(field.type, make) for field in fields])
    return kind
