"""Synthetic accounts, shaped like the documented sample and reproducible from a seed.

Nothing here comes from a real account. Every answer has every documented key at every level; names,
counts and ids differ from account to account. `user_id` and `belong_user` hold the id of the
account that the answer is for (the sub-account's, if it is one), so that a mixed-up answer can be
recognised.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from hashlib import blake2b
from itertools import chain
from typing import Any, TypeVar
from zlib import crc32

import msgspec

from wolf_async.account import Account

__all__ = ["AnswerTemplate", "synthetic_accounts", "synthetic_task_init", "synthetic_token"]

_T = TypeVar("_T")
_Json = dict[str, Any]

_EPOCH = datetime(2024, 6, 16)
_PLACEHOLDER = 8_888_888_888_888_888_888

_DAY = (("09:00", "12:00"), ("13:00", "18:00"))
_TIME_GROUPS: tuple[tuple[str, Sequence[int], Sequence[tuple[str, str]]], ...] = (
    ("晚间外呼", range(7), (("18:00", "21:00"),)),
    ("周末时段", (0, 6), (("10:00", "12:00"), ("14:00", "17:30"))),
    ("早间回访", range(1, 6), (("9:00", "11:30"), ("13:30", "17:00"))),
    ("全天", range(7), (("00:00", "23:59"),)),
    ("工作日加夜间", range(1, 6), (*_DAY, ("20:00", "24:00"))),
)
_CITIES = (
    "杭州",
    "上海",
    "深圳",
    "北京",
    "成都",
    "武汉",
    "南京",
    "西安",
    "广州",
    "长沙",
    "合肥",
    "青岛",
)
_CARRIERS = ("移动", "联通", "电信", "铁通")
_BUSINESSES = (
    "教育",
    "汽车",
    "金融",
    "地产",
    "医美",
    "家装",
    "保险",
    "电商",
    "招聘",
    "健身",
    "旅游",
    "政务",
)
_PURPOSES = (
    "通知",
    "邀约",
    "回访",
    "催收",
    "续费",
    "满意度",
    "活动推广",
    "实名核验",
    "意向筛选",
    "会员激活",
)
_NODES = ("fs-node1", "fs-node2", "fs-node3", "节点 1(负载均衡版)", "节点 2(负载均衡版)")
_LINE_TYPES = {1: "外部线路", 2: "内部线路"}
_USAGES = (1, 1, 1, 1, 2, 2, 4)
_CONCURRENCIES = (1, 2, 5, 10, 10, 20, 20, 30, 50, 100, 200)
_VARIABLES = (
    "客户姓名",
    "公司名称",
    "预约时间",
    "产品名称",
    "金额",
    "到期日",
    "门店地址",
    "客服电话",
)
_VOICES = ("aliyunv2_siyue", "aliyunv2_aiqi", "aliyunv2_xiaoyun")
_BRIDGES = ("转人工", "售前一组", "售前二组", "售后服务", "投诉专线")
_BACKGROUNDS = ("超市大厅", "办公室", "呼叫中心", "街道", "咖啡厅", "地铁站")
_NUMBER_STATUS = {
    0: "等待呼叫",
    1: "成功",
    2: "运营商拦截",
    3: "拒接",
    4: "无应答",
    5: "空号",
    6: "关机",
    7: "停机",
    8: "占线",
    9: "呼入限制",
    10: "欠费",
    11: "黑名单",
    12: "用户屏蔽",
}
_ALIKE_IN_SCRIPTS: _Json = {
    "category_id": None,
    "deleted_at": None,
    "link_word_group_id": None,
    "tag_scene_id": None,
    "knowledge_id": None,
    "priority_matching": 0,
    "order_matching": 0,
    "usable": 0,
    "inner": 0,
    "volume": 50,
    "is_visible": 1,
    "is_edit": 1,
    "use_type": 3,
    "extension_number": None,
    "aim_content": None,
    "tts_extension": None,
    "big_model_type": "local_zhipu-api",
    "local_knowledge_base_id": None,
    "custom_prompt": None,
    "bridge_group_id": None,
    "llm_scene_id": None,
}
_RULES: tuple[tuple[str, Sequence[int]], ...] = (
    ("默认重呼规则", (6,)),
    ("未接重呼", (3, 4, 8)),
    ("全部失败重呼", (2, 3, 4, 6, 7, 8, 9, 10)),
    ("关机停机次日重呼", (6, 7)),
)


def synthetic_task_init(
    seed: int,
    account: Account,
    *,
    tick: int = 0,
    lines: int | None = None,
    groups: int | None = None,
) -> _Json:
    """Make the `data` of a successful answer for an account: a new dict of JSON types only.

    Args:
        seed: the same arguments, this among them, give an equal dict in every process.
        account: whose answer it is.
        tick: moves `residue` of every line within 0 to `line_concurrency`, and nothing else.
        lines: number of outbound lines; ``None`` is 24 to 60, by account.
        groups: number of script groups of each of the three kinds; ``None`` is 4 to 10.

    ``lines=800, groups=200`` makes a body of about 0.5 MB.

    """
    draw = _Draw(f"{seed}/{account.user_id}/{account.sub_user_id}")
    owner = account.sub_user_id or account.user_id
    lines = draw.between(24, 60) if lines is None else lines
    groups = draw.between(4, 10) if groups is None else groups
    inbound = draw.between(2, 4)
    return {
        "task_dial_times": _time_groups(draw, owner),
        "caller_line_list": [_line(draw, seed, owner, tick, number) for number in range(lines)],
        "call_in_line_list": [
            _line(draw, seed, owner, tick, -number) for number in range(1, inbound + 1)
        ],
        "max_recycle_limit": 50,
        "outbound_group": [_script(draw, owner, number) for number in range(groups)],
        "outbound_group_v2": [_script_v2(draw, number) for number in range(groups)],
        "big_model_outbound_group": [_llm_script(draw, number) for number in range(groups)],
        "bridge_groups": [_bridge(draw, name) for name in draw.some(_BRIDGES)],
        "auto_recycle_rules": _rules(draw, owner),
        "end_actions": {"1": "暂停任务释放并发", "0": "无操作"},
        "background": [_background(draw, name) for name in draw.some(_BACKGROUNDS)],
        "llm_intention_configs": [
            _check(draw, owner, number) for number in range(1, draw.between(3, 6))
        ],
    }


class AnswerTemplate:
    """An account's answer in bytes, of which only the residues are made anew at each tick.

    `wrap` puts the data into its envelope. `render` gives what encoding `synthetic_task_init` would
    give.
    """

    __slots__ = ("_lines", "_parts", "_seed")

    def __init__(self, seed: int, account: Account, wrap: Callable[[_Json], _Json]) -> None:
        data = synthetic_task_init(seed, account)
        lines = data["caller_line_list"] + data["call_in_line_list"]
        for line in lines:
            line["residue"] = _PLACEHOLDER
        self._seed = seed
        self._lines = [(line["line_id"], line["line_concurrency"]) for line in lines]
        self._parts = msgspec.json.encode(wrap(data)).split(str(_PLACEHOLDER).encode())

    def render(self, tick: int) -> bytes:
        pieces = self._parts[:1]
        for (line_id, concurrency), part in zip(self._lines, self._parts[1:], strict=True):
            pieces += (b"%d" % _residue(self._seed, line_id, concurrency, tick), part)
        return b"".join(pieces)


def synthetic_accounts(seed: int, accounts: int, sub_accounts: int) -> tuple[Account, ...]:
    """Make ``accounts`` main accounts, then ``sub_accounts`` sub-accounts of each.

    The same ``seed`` gives the same ids everywhere, and a larger set begins like a smaller one.
    """
    users = [_uuid(f"{seed}/user/{number}") for number in range(accounts)]
    subs = (
        Account(user, _uuid(f"{seed}/user/{number}/sub/{sub}"))
        for number, user in enumerate(users)
        for sub in range(sub_accounts)
    )
    return tuple(chain(map(Account, users), subs))


def synthetic_token(seed: int, generation: int = 0) -> str:
    """Make a bearer token that is good for nothing but a sandbox.

    The same ``seed`` and ``generation`` give the same token; `Sandbox.expire_token` makes the next
    generation.
    """
    return "sandbox-" + blake2b(f"{seed}/token/{generation}".encode(), digest_size=20).hexdigest()


class _Draw:
    """Choices from a seeded source. Only `Random.random` is used: its sequence never changes."""

    __slots__ = ("chance",)

    def __init__(self, seed: str) -> None:
        self.chance = random.Random(seed).random

    def between(self, low: int, high: int) -> int:
        return low + int(self.chance() * (high - low + 1))

    def one(self, choices: Sequence[_T]) -> _T:
        return choices[int(self.chance() * len(choices))]

    def some(self, choices: Sequence[_T], least: int = 2) -> Sequence[_T]:
        return choices[: self.between(least, len(choices))]

    def flag(self, chance: float) -> int:
        return int(self.chance() < chance)

    def moment(self, first_day: int = 0, last_day: int = 500) -> str:
        seconds = self.between(8 * 3600, 20 * 3600)
        return _stamp(timedelta(days=self.between(first_day, last_day), seconds=seconds))


def _stamp(since: timedelta) -> str:
    return str(_EPOCH + since)


def _uuid(name: str) -> str:
    digits = blake2b(name.encode(), digest_size=16).hexdigest()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def _time_groups(draw: _Draw, owner: str) -> list[_Json]:
    named = [("系统呼叫时间", range(7), _DAY), *draw.some(_TIME_GROUPS, 3)]
    first = draw.between(1, 9000)
    return [
        {
            "id": first + number,
            "name": name,
            "user_id": owner,
            "content": [_day(week, times) for week in weeks],
            "is_default": number == 0,
            "remark": None if number % 2 == 0 else f"{name}使用",
            "created_at": (created := draw.moment(last_day=200)),
            "updated_at": created if number == 0 else draw.moment(201),
        }
        for number, (name, weeks, times) in enumerate(named)
    ]


def _day(week: int, times: Sequence[tuple[str, str]]) -> _Json:
    return {"week": week, "times": [{"end_time": end, "begin_time": begin} for begin, end in times]}


def _line(draw: _Draw, seed: int, owner: str, tick: int, number: int) -> _Json:
    """Make a line, inbound if its number is negative.

    Now and then its details are null, as the API may have it.
    """
    inbound = number < 0
    line_id = _uuid(f"{seed}/{owner}/line/{number}")
    if number % 3 == 0:  # one of the sample's two line ids is no UUID either: it ends in "g"
        line_id = line_id[:-1] + "g"
    concurrency = draw.one(_CONCURRENCIES)
    ends = draw.between(200, 400) if number % 12 == 11 else draw.between(2000, 4000)
    return {
        "name": None if draw.flag(0.9) else f"备用线路{abs(number) + 1}",
        "remark": f"{draw.one(_BUSINESSES)}代理-{'呼入' if inbound else '外呼'}{abs(number) + 1}",
        "line_id": line_id,
        "belong_user": owner,
        "line_concurrency": concurrency,
        "residue": _residue(seed, line_id, concurrency, tick),
        "available_at": _stamp(timedelta(days=ends)),
        "new_line": None if number % 24 == 23 else _new_line(draw, inbound, number),
    }


def _new_line(draw: _Draw, inbound: bool, number: int) -> _Json:
    kind = 2 if inbound or draw.flag(0.25) else 1
    purpose = "呼入" if inbound else draw.one(_PURPOSES)
    return {
        "name": f"{draw.one(_CITIES)}{draw.one(_CARRIERS)}{purpose}{abs(number) + 1:02}",
        "type": kind,
        "bind_type_str": "IP",
        "type_str": _LINE_TYPES[kind],
        "usage": draw.one(_USAGES),
        "node": None if number % 24 == 17 else {"name": draw.one(_NODES)},
    }


def _residue(seed: int, line_id: str, concurrency: int, tick: int) -> int:
    """Return what is free of a line at a tick.

    Its load swings slowly, each line in its own rhythm, and trembles.
    """
    line = f"{seed}/{line_id}"
    rhythm = crc32(line.encode())
    period = 16 + rhythm % 48
    place = (tick + (rhythm >> 8)) % period
    swing = abs(2 * place - period) * 1000 // period
    tremble = crc32(f"{line}/{tick}".encode()) % 201 - 100
    busy = min(1000, max(0, swing + tremble))
    return concurrency - (concurrency * busy + 500) // 1000


def _script(draw: _Draw, owner: str, number: int) -> _Json:
    return {
        "id": draw.between(1, 500) + 1000 * number,
        "name": f"{draw.one(_BUSINESSES)}-{draw.one(_PURPOSES)}-{number + 1}",
        "user_id": owner,
        "debug": bool(draw.flag(0.3)),
        "created_at": draw.moment(last_day=200),
        "updated_at": draw.moment(201),
        "exclusive_asr": f"aliYun{draw.between(1, 3)}",
        "exclusive_tts": draw.one(_VOICES),
        "is_top": draw.flag(0.1),
        "nlp_threshold": draw.one((0, 60, 80)),
        "sort": number,
        "is_sync": draw.flag(0.2),
        "speed": draw.between(40, 60),
        "is_lock": draw.flag(0.1),
        "is_train": draw.flag(0.2),
        "is_active": draw.flag(0.9),
        "intention_group_id": draw.one((0, 0, 12, 31)),
        "llm_nlp_threshold": draw.one((70, 80, 90)),
        "default": number == 0,
        **_ALIKE_IN_SCRIPTS,
    }


def _script_v2(draw: _Draw, number: int) -> _Json:
    first = 141_116_018_687_787_008 + draw.between(0, 10**15) + number * 10**15
    names = draw.some(_VARIABLES) if number % 2 else ()
    return {
        "id": str(first),
        "name": f"{draw.one(_BUSINESSES)}{draw.one(_PURPOSES)}话术{number + 1}",
        "created_at": draw.moment(300, 400),
        "updated_at": draw.moment(401),
        "variable": [_variable(draw, first, order, name) for order, name in enumerate(names, 1)],
    }


def _variable(draw: _Draw, script: int, order: int, name: str) -> _Json:
    return {
        "id": script + order * 4_194_305,
        "name": name,
        "desc": "" if draw.flag(0.7) else f"{name}(必填)",
        "type": 1,
        "is_save": bool(draw.flag(0.2)),
        "is_builtin": False,
        "is_fill": order == 1 or bool(draw.flag(0.5)),
    }


def _llm_script(draw: _Draw, number: int) -> _Json:
    return {
        "id": 12_000 + draw.between(0, 99) + 100 * number,
        "name": f"大模型{draw.one(_BUSINESSES)}{draw.one(_PURPOSES)}{number + 1}",
        "is_lock": draw.flag(0.1),
        "is_active": draw.flag(0.9),
        "is_call_in": draw.flag(0.2),
        "llm_end_type": 0,
        "created_at": draw.moment(250),
        "default": number == 0,
    }


def _bridge(draw: _Draw, name: str) -> _Json:
    number = _BRIDGES.index(name) + 10 * draw.between(1, 500)
    return {"id": number, "name": name, "strategy": 1, "strategy_str": "平均"}


def _rules(draw: _Draw, owner: str) -> list[_Json]:
    first = draw.between(1, 9000)
    return [
        {
            "id": first + number,
            "user_id": owner,
            "name": name,
            "remark": name,
            "status": number == 0 or bool(draw.flag(0.7)),
            "created_at": draw.moment(last_day=200),
            "updated_at": draw.moment(201),
            "is_default": number == 0,
            "type": 1,
            "configs": [],
            "details": [_detail(draw, first + number, code) for code in codes],
        }
        for number, (name, codes) in enumerate(draw.some(_RULES))
    ]


def _detail(draw: _Draw, rule: int, code: int) -> _Json:
    return {
        "rule_id": rule,
        "number_status": code,
        "time": draw.one((0, 0, 5, 10, 30)),
        "number_status_str": _NUMBER_STATUS[code],
    }


def _background(draw: _Draw, name: str) -> _Json:
    return {"id": 34 + _BACKGROUNDS.index(name), "name": name, "created_at": draw.moment(100, 200)}


def _check(draw: _Draw, owner: str, number: int) -> _Json:
    return {
        "id": number + 10 * draw.between(0, 300),
        "name": f"质检条件{number}",
        "user_id": owner,
        "llm_type": 2,
        "is_default": int(number == 1),
        "created_at": draw.moment(150),
    }
