"""The structs against the documented sample: no key lost or misspelt, nothing can be changed."""

from __future__ import annotations

import copy
import gc
import json
import pickle
from datetime import datetime
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, TypeGuard, get_args, get_origin, get_type_hints

import msgspec
import pytest
from docstrings import told_fields

from wolf_async import models
from wolf_async.models import (
    Background,
    BridgeGroup,
    Configs,
    DraftProblem,
    EndActions,
    Holiday,
    Line,
    TaskDraft,
    TaskExtras,
    TaskInit,
    TaskLine,
    dec_hook,
)
from wolf_async.models.frozen import FrozenDict, freeze

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SAMPLE_FILE = Path(__file__).parent / "data" / "task-init.sample.json"
SAMPLE: dict[str, Any] = json.loads(SAMPLE_FILE.read_bytes())["data"]
ALL_STRUCTS: list[type[msgspec.Struct]] = [
    value
    for value in (getattr(models, name) for name in models.__all__)
    if isinstance(value, type) and issubclass(value, msgspec.Struct)
]
TAKEN = {TaskDraft, TaskExtras, TaskLine, Holiday, DraftProblem}
"""What goes the other way: what the API takes, and what is said of it."""
STRUCTS = [struct for struct in ALL_STRUCTS if struct not in TAKEN]
DECODER = msgspec.json.Decoder(TaskInit, dec_hook=dec_hook)


def decode_sample(**changes: Any) -> TaskInit:
    return DECODER.decode(json.dumps(SAMPLE | changes).encode())


@pytest.fixture
def init() -> TaskInit:
    return decode_sample()


# The sample's keys and the structs' fields


def nested_struct(hint: Any) -> type[msgspec.Struct] | None:
    """Return the struct that a field's annotation holds, directly, in a tuple or in a union."""
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return hint
    found = (nested_struct(arg) for arg in get_args(hint))
    return next((struct for struct in found if struct is not None), None)


def is_list(value: Any) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


def is_dict(value: Any) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)


def is_tuple(value: Any) -> TypeGuard[tuple[Any, ...]]:
    return isinstance(value, tuple)


def objects_in(values: list[Any]) -> list[dict[str, Any]]:
    """Return the objects among `values` and among the items of the lists in `values`."""
    flat = [item for value in values for item in (value if is_list(value) else [value])]
    return [item for item in flat if is_dict(item)]


def key_differences(
    struct: type[msgspec.Struct], items: list[dict[str, Any]], path: str = "$"
) -> Iterator[str]:
    """Yield the path of each key that only the sample or only the struct has, in all items."""
    keys = {key for item in items for key in item}
    for name in sorted(keys ^ set(struct.__struct_encode_fields__)):
        yield f"{path}.{name}"
    for name, hint in get_type_hints(struct).items():
        objects = objects_in([item[name] for item in items if name in item])
        inner = nested_struct(hint)
        if inner is not None:
            yield from key_differences(inner, objects, f"{path}.{name}")
        elif objects and hint not in (Configs, EndActions):
            yield f"{path}.{name}"


def test_the_keys_of_the_sample_are_exactly_the_fields_of_the_structs() -> None:
    assert list(key_differences(TaskInit, [SAMPLE])) == []


def struct_paths(
    struct: type[msgspec.Struct], path: tuple[str, ...] = ()
) -> Iterator[tuple[str, ...]]:
    for name, hint in get_type_hints(struct).items():
        yield (*path, name)
        inner = nested_struct(hint)
        if inner is not None:
            yield from struct_paths(inner, (*path, name))


def rename_everywhere(value: Any, path: tuple[str, ...], new: str | None) -> Any:
    """Return `value` with the key at `path` renamed, or left out, in all items."""
    if is_list(value):
        return [rename_everywhere(item, path, new) for item in value]
    if not is_dict(value):
        return value
    head, *rest = path
    if rest:
        return {
            k: rename_everywhere(v, tuple(rest), new) if k == head else v for k, v in value.items()
        }
    changed = {k: v for k, v in value.items() if k != head}
    return changed if new is None else changed | {new: value.get(head)}


@pytest.mark.parametrize("path", list(struct_paths(TaskInit)), ids=".".join)
def test_a_misspelt_or_missing_field_anywhere_would_be_found(path: tuple[str, ...]) -> None:
    misspelt = rename_everywhere(SAMPLE, path, path[-1] + "_x")
    where = ".".join(("$", *path))
    assert {where, where + "_x"} <= set(key_differences(TaskInit, [misspelt]))
    missing = rename_everywhere(SAMPLE, path, None)
    assert where in set(key_differences(TaskInit, [missing]))


def test_every_struct_is_reached_from_the_answer() -> None:
    def reach(struct: type[msgspec.Struct]) -> set[type[msgspec.Struct]]:
        inner = (nested_struct(hint) for hint in get_type_hints(struct).values())
        return {struct}.union(*(reach(item) for item in inner if item is not None))

    assert reach(TaskInit) == set(STRUCTS)


def test_the_fields_stand_in_the_order_of_the_sample() -> None:
    assert TaskInit.__struct_fields__ == tuple(SAMPLE)
    assert models.OutboundGroup.__struct_fields__ == tuple(SAMPLE["outbound_group"][0])


def test_every_documented_key_arrives_with_its_value(init: TaskInit) -> None:
    expected = json.loads(json.dumps(SAMPLE))
    expected["auto_recycle_rules"][0]["configs"] = {}
    plain = msgspec.to_builtins(init, builtin_types=[datetime])
    assert json.loads(json.dumps(plain, default=str)) == expected


# Types


def test_each_scalar_but_an_items_own_id_is_optional_and_required() -> None:
    own_ids = {"id", "line_id"}
    for struct in set(STRUCTS) - {TaskInit}:
        hints = get_type_hints(struct)
        for field in msgspec.structs.fields(struct):
            where = f"{struct.__name__}.{field.name}"
            assert field.required, where
            hint = hints[field.name]
            mapping_or_sequence = get_origin(hint) is tuple or hint in (Configs, EndActions)
            optional = NoneType in get_args(hint)
            assert optional != (mapping_or_sequence or field.name in own_ids), where


def test_an_absent_section_is_empty() -> None:
    init = DECODER.decode(b"{}")
    assert init == TaskInit()
    for name in set(TaskInit.__struct_fields__) - {"max_recycle_limit", "end_actions"}:
        assert getattr(init, name) == ()
    assert init.max_recycle_limit is None
    assert init.end_actions == FrozenDict()
    assert type(init.end_actions) is EndActions


def test_an_absent_key_of_an_item_fails_the_strict_decode_with_its_path() -> None:
    with pytest.raises(
        msgspec.ValidationError, match=r"missing required field `strategy`.*\$\.bridge_groups\[0\]"
    ):
        DECODER.decode(b'{"bridge_groups":[{"id":1,"name":"a","strategy_str":"b"}]}')


def test_unknown_keys_are_ignored(init: TaskInit) -> None:
    assert decode_sample(brand_new_section=[{"a": 1}]) == init


def test_datetimes_are_naive_and_null_is_none(init: TaskInit) -> None:
    assert init.caller_line_list[0].available_at == datetime(2025, 11, 28)
    assert init.outbound_group[0].deleted_at is None
    assert init.caller_line_list[0].name is None
    with pytest.raises(msgspec.ValidationError, match="timezone"):
        DECODER.decode(b'{"background":[{"id":1,"name":null,"created_at":"2024-10-25T13:25:43Z"}]}')


@pytest.mark.parametrize(
    "number", [2**53 + 1, 172135971469836288 + 1, 2**63 - 1, 2**64 - 1, -(2**53) - 1]
)
def test_ints_above_2_to_the_53_stay_intact(number: int) -> None:
    item = f'{{"id":{number},"name":null,"created_at":null}}'.encode()
    init = DECODER.decode(b'{"background":[' + item + b"]}")
    assert init.background[0].id == number
    assert DECODER.decode(msgspec.json.encode(init)) == init


def test_ids_keep_the_types_of_the_sample(init: TaskInit) -> None:
    assert init.outbound_group_v2[0].id == "141116018687787008"
    assert init.outbound_group_v2[1].variable[0].id == 172135971469836288


# The read-only mappings


def test_end_actions_are_a_read_only_mapping_of_labels(init: TaskInit) -> None:
    assert init.end_actions == {"1": "暂停任务释放并发", "0": "无操作"}
    assert type(init.end_actions) is EndActions


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "Expected `object`, got `array`"),
        (["无操作"], "Expected `object`, got `array`"),
        (None, "Expected `object`, got `null`"),
        ("0", "Expected `object`, got `str`"),
        ({"1": 2}, "Expected `str`, got `int` for key '1'"),
        ({"0": "a", "1": None}, "Expected `str`, got `null` for key '1'"),
        ({"1": {}}, "Expected `str`, got `object` for key '1'"),
        ({"1": ["a"]}, "Expected `str`, got `array` for key '1'"),
    ],
)
def test_end_actions_of_another_shape_are_refused_with_their_path(value: Any, message: str) -> None:
    with pytest.raises(msgspec.ValidationError) as caught:
        decode_sample(end_actions=value)
    assert str(caught.value) == message + " - at `$.end_actions`"


def with_configs(value: Any) -> list[dict[str, Any]]:
    return [SAMPLE["auto_recycle_rules"][0] | {"configs": value}]


@pytest.mark.parametrize("value", [[], {}])
def test_configs_written_as_an_empty_list_are_an_empty_map(value: Any) -> None:
    rule = decode_sample(auto_recycle_rules=with_configs(value)).auto_recycle_rules[0]
    assert rule.configs == {}
    assert type(rule.configs) is Configs


def test_configs_are_frozen_at_all_depths() -> None:
    value: dict[str, Any] = {"a": [1, {"b": [None, 2.5]}], "c": {"d": []}}
    rule = decode_sample(auto_recycle_rules=with_configs(value)).auto_recycle_rules[0]
    assert rule.configs == {"a": (1, {"b": (None, 2.5)}), "c": {"d": ()}}
    assert_deeply_immutable(rule)
    hash(rule)


@pytest.mark.parametrize(
    ("value", "kind"), [([1], "array"), (None, "null"), ("", "str"), (0, "int"), (False, "bool")]
)
def test_configs_of_another_shape_are_refused_with_their_path(value: Any, kind: str) -> None:
    with pytest.raises(msgspec.ValidationError) as caught:
        decode_sample(auto_recycle_rules=with_configs(value))
    assert (
        str(caught.value)
        == f"Expected `object`, got `{kind}` - at `$.auto_recycle_rules[0].configs`"
    )


def test_decoded_json_converts_as_the_bytes_decode(init: TaskInit) -> None:
    assert msgspec.convert(SAMPLE, TaskInit, dec_hook=dec_hook) == init


def test_the_hook_refuses_types_that_are_not_its_own() -> None:
    with pytest.raises(NotImplementedError, match="complex"):
        dec_hook(complex, 1)


# Immutability


def assert_deeply_immutable(value: Any) -> None:
    if isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            with pytest.raises(AttributeError):
                setattr(value, name, getattr(value, name))
            with pytest.raises(AttributeError):
                delattr(value, name)
            assert_deeply_immutable(getattr(value, name))
    elif is_tuple(value):
        for item in value:
            assert_deeply_immutable(item)
    elif is_dict(value):
        assert isinstance(value, FrozenDict)
        for item in value.values():
            assert_deeply_immutable(item)
    else:
        assert type(value) in (int, float, str, bool, NoneType, datetime)


def test_nothing_in_an_answer_can_be_changed(init: TaskInit) -> None:
    assert_deeply_immutable(init)


MUTATORS: dict[str, Callable[[Any], Any]] = {
    "__setitem__": lambda d: d.__setitem__("a", 2),
    "__delitem__": lambda d: d.__delitem__("a"),
    "__ior__": lambda d: d.__ior__({"b": 2}),
    "clear": lambda d: d.clear(),
    "pop": lambda d: d.pop("a"),
    "popitem": lambda d: d.popitem(),
    "setdefault": lambda d: d.setdefault("b", 2),
    "update": lambda d: d.update(b=2),
}


@pytest.mark.parametrize("mutate", MUTATORS.values(), ids=MUTATORS)
def test_a_frozen_dict_refuses_to_be_changed(mutate: Callable[[Any], Any]) -> None:
    frozen = FrozenDict({"a": 1})
    with pytest.raises(TypeError, match="FrozenDict is read-only"):
        mutate(frozen)
    assert frozen == {"a": 1}


def test_a_frozen_dict_is_not_filled_a_second_time() -> None:
    for frozen in (
        FrozenDict({"a": 1}),
        FrozenDict[str, int](),
        TaskInit().end_actions,
        TaskInit().end_actions,
    ):
        before = dict(frozen)
        frozen.__init__({"b": 2}, c=3)  # type: ignore[misc]
        assert frozen == before
    assert TaskInit().end_actions == {}
    assert FrozenDict([("a", 1)], b=2) == {"a": 1, "b": 2}


def test_every_mutator_of_dict_is_refused() -> None:
    harmless = {"copy", "fromkeys", "get", "items", "keys", "values"}
    public = {name for name in vars(dict) if not name.startswith("_")}
    assert public - harmless | {"__setitem__", "__delitem__", "__ior__"} == set(MUTATORS)


def test_a_frozen_dict_is_written_as_json_like_a_dict() -> None:
    frozen = FrozenDict({"a": FrozenDict({"b": 1})})
    assert json.dumps(frozen) == '{"a": {"b": 1}}'
    assert msgspec.json.encode(frozen) == b'{"a":{"b":1}}'


def test_a_frozen_dict_hashes_by_its_items() -> None:
    assert hash(FrozenDict({"a": 1, "b": 2})) == hash(FrozenDict({"b": 2, "a": 1}))
    with pytest.raises(TypeError, match="unhashable"):
        hash(FrozenDict[str, Any]({"a": []}))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_frozen_dict_survives_pickling(protocol: int) -> None:
    frozen = freeze({"a": {"b": [1]}})
    back = pickle.loads(pickle.dumps(frozen, protocol))
    assert back == frozen
    assert type(back) is type(back["a"]) is FrozenDict


def test_copies_of_a_frozen_dict() -> None:
    frozen = FrozenDict[str, Any]({"a": [1]})
    assert copy.copy(frozen) is frozen
    deep = copy.deepcopy(frozen)
    assert deep == frozen
    assert type(deep) is FrozenDict
    assert deep["a"] is not frozen["a"]
    assert type(frozen.copy()) is dict
    assert type(frozen | {"b": 2}) is dict


def test_the_repr_of_a_frozen_dict_names_its_class() -> None:
    assert repr(FrozenDict({"a": 1})) == "FrozenDict({'a': 1})"


def test_a_frozen_dict_has_no_attributes_of_its_own() -> None:
    with pytest.raises(AttributeError):
        FrozenDict({"a": 1}).extra = 1  # type: ignore[attr-defined]


def test_freeze_leaves_scalars_alone_and_no_list_or_dict_behind() -> None:
    assert freeze({"a": [1, (2, [3])], "b": None}) == {"a": (1, (2, (3,))), "b": None}
    assert freeze([]) == ()
    assert freeze("text") == "text"


# Values


def test_equal_answers_are_equal_and_hash_alike(init: TaskInit) -> None:
    other = decode_sample()
    assert other is not init
    assert other == init
    assert hash(other) == hash(init)
    assert decode_sample(max_recycle_limit=51) != init


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_an_answer_survives_pickling(init: TaskInit, protocol: int) -> None:
    back = pickle.loads(pickle.dumps(init, protocol))
    assert back == init
    assert_deeply_immutable(back)


def test_an_answer_survives_copying(init: TaskInit) -> None:
    for copied in (copy.copy(init), copy.deepcopy(init)):
        assert copied == init
        assert_deeply_immutable(copied)


def test_an_answer_encodes_to_json_that_decodes_to_an_equal_answer(init: TaskInit) -> None:
    assert DECODER.decode(msgspec.json.encode(init)) == init


def structs_in(value: Any) -> Iterator[msgspec.Struct]:
    if isinstance(value, msgspec.Struct):
        yield value
        for name in value.__struct_fields__:
            yield from structs_in(getattr(value, name))
    elif is_tuple(value):
        for item in value:
            yield from structs_in(item)


def test_the_garbage_collector_tracks_no_struct(init: TaskInit) -> None:
    found = list(structs_in(init))
    assert {type(struct) for struct in found} == set(STRUCTS)
    assert [struct for struct in found if gc.is_tracked(struct)] == []


def test_every_struct_is_frozen_and_takes_keywords_only() -> None:
    for struct in ALL_STRUCTS:
        config = struct.__struct_config__
        assert config.frozen, struct
        assert not config.gc, struct
    with pytest.raises(TypeError):
        BridgeGroup(1, "a", 1, "b")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


# Docstrings


def test_every_struct_of_an_answer_tells_each_of_its_fields_in_order() -> None:
    for struct in STRUCTS:
        assert tuple(told_fields(struct)) == struct.__struct_fields__


def test_every_struct_of_an_answer_names_its_source() -> None:
    for struct in STRUCTS:
        words = " ".join((struct.__doc__ or "").split())
        assert "Source: the vendor's page" in words, struct


LABELS = {
    "TaskInit.task_dial_times": "时间组信息",
    "TaskInit.caller_line_list": "当前用户可使用2.0外呼线路信息",
    "TaskInit.call_in_line_list": "当前用户可使用呼入线路信息",
    "TaskInit.outbound_group": "常规外呼话术组信息",
    "TaskInit.outbound_group_v2": "用户2.0话术信息",
    "TaskInit.big_model_outbound_group": "大模型外呼话术组",
    "TaskInit.bridge_groups": "转接分组信息",
    "TaskInit.auto_recycle_rules": "重呼规则",
    "TaskInit.end_actions": "2.0任务后续动作",
    "TaskInit.background": "背景音列表",
    "TaskInit.llm_intention_configs": "大模型质检配置",
    "TaskDialTime.user_id": "用户id",
    "Line.remark": "线路备注",
    "Line.line_id": "线路id",
    "Line.belong_user": "所属用户",
    "Line.line_concurrency": "线路总量并发数",
    "Line.residue": "线路剩余可使用并发数",
    "NewLine.name": "线路名称",
    "NewLine.type": "线路类型",
    "NewLine.usage": "线路用途 1-常规 2-大模型 4-端到端",
    "LineNode.name": "节点名称",
}


def test_the_vendors_labels_stand_in_the_docstrings() -> None:
    told = {
        f"{struct.__name__}.{field}": text
        for struct in STRUCTS
        for field, text in told_fields(struct).items()
    }
    assert {where for where, label in LABELS.items() if f"({label})" not in told[where]} == set()


def test_all_names_exported_exist_and_are_sorted() -> None:
    assert models.__all__ == sorted(models.__all__)
    assert {Line, Background} <= set(STRUCTS)
