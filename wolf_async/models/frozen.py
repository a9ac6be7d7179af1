"""A read-only dict, and `freeze`, which makes decoded JSON deeply immutable."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, NoReturn, Self, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["FrozenDict", "freeze"]

K = TypeVar("K")
V = TypeVar("V")


class FrozenDict(dict[K, V]):
    """A dict that cannot be changed: every method that would change it raises `TypeError`.

    It is a dict, so that `json.dumps` and `msgspec.json.encode` take it as it is. It is hashable if
    its values are. `copy()` and `|` return plain dicts, which can be changed. Only the mapping
    itself is read-only: values that are lists or dicts are frozen by `freeze`.
    """

    __slots__ = ()

    if not TYPE_CHECKING:  # to a type checker it is made as any dict
        # filled where it is made, since whoever has it could call __init__ once more
        def __new__(cls, *args: Any, **kwargs: Any) -> Self:
            self = super().__new__(cls)
            dict.__init__(self, *args, **kwargs)
            return self

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            """Do nothing: it is filled already."""

    def _read_only(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raise `TypeError`: this mapping is shared, and cannot be changed."""
        raise TypeError(f"{type(self).__name__} is read-only; change a copy: dict(...)")

    __setitem__ = _read_only
    __delitem__ = _read_only
    __ior__ = _read_only
    clear = _read_only
    pop = _read_only
    popitem = _read_only
    # Pyright wants the overloads of these two, which differ in the type of self.
    setdefault = _read_only  # pyright: ignore[reportAssignmentType]
    update = _read_only  # pyright: ignore[reportAssignmentType]

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({super().__repr__()})"

    # The inherited protocols fill a new, empty dict item by item, which this one refuses.
    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return type(self), (dict(self),)

    def __copy__(self) -> FrozenDict[K, V]:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> FrozenDict[K, V]:
        return type(self)(copy.deepcopy(dict(self), memo))


def freeze(value: Any) -> Any:
    """Return `value` with lists as tuples and dicts as `FrozenDict`, at all depths.

    Anything else is returned as it is. Raises `RecursionError` on nesting of several hundred
    levels.
    """
    if isinstance(value, dict):
        mapping = cast("dict[str, Any]", value)
        return FrozenDict({key: freeze(item) for key, item in mapping.items()})
    if isinstance(value, list | tuple):
        return tuple([freeze(item) for item in cast("Iterable[Any]", value)])
    return value
