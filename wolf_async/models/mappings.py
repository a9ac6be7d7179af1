"""The two read-only mappings of an answer, and how msgspec decodes them."""

from __future__ import annotations

from typing import Any, cast

from wolf_async.models.arguments import id_text, name_text
from wolf_async.models.frozen import FrozenDict, freeze

__all__ = ["Configs", "EndActions", "dec_hook"]


class EndActions(FrozenDict[str, str]):
    """What a task does afterwards, label by key; a read-only dict.

    Source: the vendor's page, `end_actions` (2.0任务后续动作).

    >>> from wolf_async.models import EndActions
    >>> actions = EndActions({"1": "暂停任务释放并发", "0": "无操作"})
    >>> actions.label_of(0), actions.keys_of("暂停任务释放并发")
    ('无操作', ('1',))

    """

    __slots__ = ()

    def label_of(self, key: int | str) -> str | None:
        """Return the label of ``key``, or ``None`` without such a key; ``1`` and ``"1"`` are one.

        Raises `WolfConfigError` for a key that is neither an int nor a str.
        """
        return self.get(id_text(key))

    def keys_of(self, label: str) -> tuple[str, ...]:
        """Return all keys with that ``label``, as they were sent.

        One of them, as an int, feeds `end_action`. Raises `WolfConfigError` for a label that is no
        str.
        """
        wanted = name_text(label)
        return tuple(key for key, text in self.items() if text == wanted)


class Configs(FrozenDict[str, Any]):
    """What a redial rule is set to, any JSON by key; a deeply read-only dict.

    What it means is not documented. Source: the vendor's page, `auto_recycle_rules[].configs`.
    """

    __slots__ = ()


_new_actions: Any = dict[str, str].__new__
_fill_actions: Any = dict[str, str].__init__
_NO_CONFIGS = Configs()


def dec_hook(expected: type, obj: Any) -> Any:
    """Decode the read-only mappings: msgspec's `dec_hook` for `TaskInit` and all it holds.

    For answers that you keep yourself, in a database or a file of test data. msgspec calls it with
    the type ``expected`` and the decoded value ``obj``. Raises `TypeError` for another value, which
    msgspec turns into a `ValidationError` with the field's path, and `NotImplementedError` for
    another type.

    >>> import msgspec
    >>> from wolf_async import TaskInit
    >>> from wolf_async.models import dec_hook
    >>> kept = b'{"end_actions": {"0": "do nothing"}}'
    >>> msgspec.json.decode(kept, type=TaskInit, dec_hook=dec_hook).end_actions.label_of(0)
    'do nothing'
    """
    if expected is Configs:
        return _decode_configs(obj)
    if expected is EndActions:
        return _decode_end_actions(obj)
    raise NotImplementedError(f"cannot decode {expected!r}")


def _decode_configs(obj: Any) -> Configs:
    if isinstance(obj, dict):
        return Configs(freeze(obj))
    if obj == []:
        return _NO_CONFIGS
    raise TypeError(f"Expected `object`, got `{_json_name(obj)}`")


def _decode_end_actions(obj: Any) -> EndActions:
    if not isinstance(obj, dict):
        raise TypeError(f"Expected `object`, got `{_json_name(obj)}`")
    actions = cast("dict[str, Any]", obj)
    for key, label in actions.items():
        if not isinstance(label, str):
            raise TypeError(f"Expected `str`, got `{_json_name(label)}` for key {key!r}")
    # as EndActions(actions), without the two calls of Python that making one goes through
    made: EndActions = _new_actions(EndActions)
    _fill_actions(made, actions)
    return made


def _json_name(obj: Any) -> str:
    """Name a decoded value's type as msgspec's own messages do."""
    if obj is None:
        return "null"
    if isinstance(obj, dict):
        return "object"
    return "array" if isinstance(obj, list | tuple) else type(obj).__name__
