"""What a sandbox can be told to do with a request instead of simply answering it.

A step is a small frozen object that is applied to one `Exchange`. Steps add up: ``hold(gate) +
disconnect()`` waits for the gate and then closes the connection. What a step does not change stays
as it would have been, so ``hold(gate)`` alone, or `answer` without data, ends in the normal answer.

For something that is not here, derive from `Step` and override `apply`.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Mapping
from copy import deepcopy
from functools import lru_cache, partial
from types import MappingProxyType
from typing import Any, Literal, TypeAlias, TypeGuard, cast, get_args

import msgspec

from wolf_async.account import Account

__all__ = [
    "Exchange",
    "Quirk",
    "Reply",
    "Step",
    "answer",
    "delay",
    "disconnect",
    "drip",
    "empty",
    "envelope",
    "error",
    "error_reply",
    "gzip_bomb",
    "gzip_garbage",
    "hang_up",
    "hold",
    "html",
    "quirks",
    "redirect",
    "respond",
    "serve",
    "truncate",
    "unauthorized",
    "unauthorized_reply",
]

Quirk = Literal[
    "configs_as_map",
    "empty_map_as_list",
    "escaped",
    "flags_as_int",
    "flags_as_text",
    "ids_swapped",
    "ints_as_text",
    "list_as_map",
    "map_as_list",
    "missing_keys",
    "null_sections",
    "unknown_keys",
    "zero_dates",
]
"""Names of the shapes that `quirks` can give to an answer; see there."""

_Json: TypeAlias = dict[str, Any]

_NO_HEADERS: Mapping[str, str] = MappingProxyType({})


class Reply(msgspec.Struct, frozen=True):
    """What goes out.

    Attributes:
        status: the HTTP status.
        body: the bytes after the headers.
        headers: headers besides the server's own.

    """

    status: int
    body: bytes
    headers: Mapping[str, str] = _NO_HEADERS

    def __repr__(self) -> str:
        return f"Reply({self.status}, {len(self.body)} bytes, {dict(self.headers)})"


class Exchange:
    """One request on its way through its steps, which change its attributes.

    Attributes:
        account: whom it is for; ``None`` for another path than those of the API.
        reply: what to answer; ``None`` for what `serve` returns.
        serve: does what was asked and returns what to answer; called if `reply` is still ``None``.
        data: called for the `data` of a success when the answer is made; JSON types, the caller's
            own copy.
        pace: seconds between chunks and bytes in a chunk, or ``None`` to send the body in one go.
        cut: bytes of the body after which the connection is closed, or ``None`` to send all of it.
        drop: how to end the connection without an answer, ``"close"`` or ``"reset"``, or ``None``
            to answer.
        hang_up: whether the connection is closed after a complete answer.

    """

    __slots__ = ("account", "cut", "data", "drop", "hang_up", "pace", "reply", "serve")

    def __init__(
        self,
        account: Account | None,
        reply: Reply | None,
        data: Callable[[], Any],
        serve: Callable[[], Reply],
    ) -> None:
        self.account = account
        self.reply = reply
        self.pace: tuple[float, int] | None = None
        self.cut: int | None = None
        self.drop: Literal["close", "reset"] | None = None
        self.hang_up = False
        self.data = data
        self.serve = serve


class Step(msgspec.Struct, frozen=True):
    """What is done with one request; a class of your own overrides `apply`.

    ``first + second`` is a step that does both, for the same request.
    """

    async def apply(self, exchange: Exchange) -> None:
        """Wait, or change ``exchange``, the request on its way.

        It may be cancelled: the client left, or the sandbox was closed.
        """
        raise NotImplementedError

    def __add__(self, other: Step) -> Step:
        """Do this step and then the other one, for the same request."""
        if not isinstance(other, Step):  # pyright: ignore[reportUnnecessaryIsInstance]
            return NotImplemented
        return _Both(self, other)


class _Both(Step, frozen=True):
    first: Step
    second: Step

    async def apply(self, exchange: Exchange) -> None:
        await self.first.apply(exchange)
        await self.second.apply(exchange)


class _Delay(Step, frozen=True):
    seconds: float

    async def apply(self, exchange: Exchange) -> None:
        await asyncio.sleep(self.seconds)


class _Hold(Step, frozen=True):
    gate: asyncio.Event

    async def apply(self, exchange: Exchange) -> None:
        await self.gate.wait()


class _Respond(Step, frozen=True):
    reply: Reply

    async def apply(self, exchange: Exchange) -> None:
        exchange.reply = self.reply


class _Serve(Step, frozen=True):
    async def apply(self, exchange: Exchange) -> None:
        if exchange.reply is None:
            exchange.reply = exchange.serve()


class _Answer(Step, frozen=True):
    data: Any

    async def apply(self, exchange: Exchange) -> None:
        if self.data is not msgspec.UNSET:
            exchange.reply = None
            exchange.data = lambda: deepcopy(self.data)
            exchange.serve = lambda: Reply(200, msgspec.json.encode(envelope(self.data)))


class _Quirks(Step, frozen=True):
    names: tuple[Quirk, ...]

    async def apply(self, exchange: Exchange) -> None:
        if exchange.reply is not None:
            return
        data = exchange.data()
        for name in self.names:
            data = _SHAPES[name](data)
        body = msgspec.json.encode(envelope(data))
        exchange.reply = Reply(200, _escape(body) if "escaped" in self.names else body)


class _Disconnect(Step, frozen=True):
    how: Literal["close", "reset"]

    async def apply(self, exchange: Exchange) -> None:
        exchange.drop = self.how


class _HangUp(Step, frozen=True):
    async def apply(self, exchange: Exchange) -> None:
        exchange.hang_up = True


class _Truncate(Step, frozen=True):
    after: int

    async def apply(self, exchange: Exchange) -> None:
        exchange.cut = self.after


class _Drip(Step, frozen=True):
    seconds: float
    chunk: int

    async def apply(self, exchange: Exchange) -> None:
        exchange.pace = (self.seconds, self.chunk)


def envelope(data: Any) -> dict[str, Any]:
    """Put `data` into the documented envelope of a success."""
    return {"code": 200, "status": "success", "message": "返回任务初始化信息成功", "data": data}


def error_reply(code: int, message: Any, status: int) -> Reply:
    """Make the documented envelope of an error; its `data` is an empty array."""
    whole: _Json = {"code": code, "status": "error", "message": message, "data": []}
    return Reply(status, msgspec.json.encode(whole))


def unauthorized_reply() -> Reply:
    """Make what is said to a request without a good token."""
    return Reply(401, msgspec.json.encode({"message": "Unauthenticated."}))


def delay(seconds: float) -> Step:
    """Wait ``seconds`` of real time, then go on."""
    return _Delay(seconds)


def hold(gate: asyncio.Event) -> Step:
    """Wait until ``gate``, an event of asyncio, is set; then go on."""
    return _Hold(gate)


def serve() -> Step:
    """Do what was asked: make the task of a POST; what comes after strikes once that is done.

    As in ``serve() + disconnect()``: the task is made, and no answer comes.
    """
    return _Serve()


def answer(data: Any = msgspec.UNSET) -> Step:
    """Answer a success, with that ``data`` (JSON types) or, without any, the account's own."""
    return _Answer(data)


def respond(
    status: int = 503, body: object = b"", headers: Mapping[str, str] | None = None
) -> Step:
    """Answer anything.

    ``status`` is the HTTP status. ``body`` is bytes, a str (sent as UTF-8), or anything else that
    can be written as JSON; `TypeError` is raised for what cannot. ``headers`` go out besides the
    server's own, as in ``respond(429, headers={"Retry-After": "2"})``.
    """
    if isinstance(body, str):
        body = body.encode()
    raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return _Respond(Reply(status, raw, MappingProxyType(dict(headers or {}))))


def error(code: int = 6007, message: Any = "参数错误", status: int = 200) -> Step:
    """Answer the documented envelope of an error, with an empty array as its `data`.

    ``code`` and ``message`` are the envelope's, ``status`` is the HTTP status.
    """
    return _Respond(error_reply(code, message, status))


def unauthorized() -> Step:
    """Answer what a request without a good token gets: HTTP 401 with a bare message."""
    return _Respond(unauthorized_reply())


def html(status: int = 200) -> Step:
    """Answer a gateway's HTML page, with that HTTP ``status``."""
    head = f"<html>\r\n<head><title>{status}</title></head>\r\n"
    body = f"<body><center><h1>{status}</h1></center><hr><center>nginx</center></body>\r\n"
    page = f"{head}{body}</html>\r\n"
    return respond(status, page, {"Content-Type": "text/html; charset=utf-8"})


def empty(status: int = 200) -> Step:
    """Answer that HTTP ``status`` without any body."""
    return respond(status)


def redirect(url: str, status: int = 302) -> Step:
    """Answer a redirect to ``url``, with that HTTP ``status``."""
    return respond(status, b"", {"Location": url})


def gzip_garbage() -> Step:
    """Answer a body that says it is gzip and is not."""
    return respond(200, b"this is not gzip" * 8, {"Content-Encoding": "gzip"})


def gzip_bomb(size: int) -> Step:
    """Answer a small gzip body that becomes ``size`` bytes of white space."""
    return respond(200, _bomb(size), {"Content-Encoding": "gzip"})


def disconnect(*, reset: bool = False) -> Step:
    """Close the connection without an answer; with ``reset``, by a TCP reset."""
    return _Disconnect("reset" if reset else "close")


def hang_up() -> Step:
    """Send the answer as if the connection stayed open, then close it."""
    return _HangUp()


def truncate(after_bytes: int) -> Step:
    """Announce the whole body, send ``after_bytes`` of it, and close the connection."""
    return _Truncate(after_bytes)


def drip(seconds: float, chunk: int = 64) -> Step:
    """Send the body ``chunk`` bytes at a time, with ``seconds`` of real time after each.

    Raises `ValueError` for a chunk of less than one byte.
    """
    if chunk < 1:
        raise ValueError(f"a chunk has at least one byte, not {chunk!r}")
    return _Drip(seconds, chunk)


def quirks(*names: Quirk) -> Step:
    """Give the answer shapes that the server is known or expected to produce; it looks like PHP.

    These leave the meaning as it is: `map_as_list` (keys 0, 1, … become a list), `list_as_map` (a
    list becomes a map with the keys 0, 2, …), `flags_as_int` (0 and 1 for false and true),
    `flags_as_text` ("0" and "1"), `ints_as_text` (ints other than ids), `ids_swapped` (int ids as
    strings, digit strings as ints), `escaped` (non-ASCII and slashes escaped, as PHP does),
    `unknown_keys` (a new key in objects with an id). These change it: `empty_map_as_list`
    (`end_actions` is empty, `[]`), `configs_as_map` (a redial rule's `configs` has something in
    it), `zero_dates` (`0000-00-00 00:00:00`), `missing_keys` (as older versions lack them),
    `null_sections` (null instead of a list).

    ``names`` are applied in the order given, to a success with data only. Raises `ValueError` for
    another name, or none.
    """
    if not names or not set(names) <= set(get_args(Quirk)):
        raise ValueError(
            f"quirks are {', '.join(get_args(Quirk))}; not {', '.join(names) or 'none'}"
        )
    return _Quirks(names)


@lru_cache(maxsize=4)
def _bomb(size: int) -> bytes:
    packer = zlib.compressobj(9, wbits=31)
    block = b" " * 65_536
    pieces = [packer.compress(block) for _ in range(size // len(block))]
    pieces += (packer.compress(block[: size % len(block)]), packer.flush())
    return b"".join(pieces)


def _escape(body: bytes) -> bytes:
    # JSON has non-ASCII characters and slashes in strings only, where both escapes are allowed.
    units = body.decode().encode("utf-16-be")
    pairs = (int.from_bytes(units[at : at + 2], "big") for at in range(0, len(units), 2))
    text = "".join(chr(unit) if unit < 128 else f"\\u{unit:04x}" for unit in pairs)
    return text.replace("/", "\\/").encode()


_DATES = frozenset({"available_at", "created_at", "deleted_at", "updated_at"})
_LATER_KEYS = frozenset(
    {
        "background",
        "default",
        "desc",
        "is_default",
        "llm_intention_configs",
        "new_line",
        "remark",
        "updated_at",
    }
)


def _is_id(key: str) -> bool:
    return key == "id" or key.endswith("_id")


def _is_table(value: Any) -> TypeGuard[_Json]:
    return isinstance(value, dict)


def _is_series(value: Any) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


def _same(key: str, value: Any) -> Any:
    return value


def _rebuild(
    value: Any,
    key: str = "",
    *,
    leaf: Callable[[str, Any], Any] = _same,
    table: Callable[[_Json], Any] = dict,
    series: Callable[[list[Any]], Any] = list,
) -> Any:
    """Change every scalar, object and array of a value by its function, innermost first."""
    if _is_table(value):
        return table(
            {k: _rebuild(v, k, leaf=leaf, table=table, series=series) for k, v in value.items()}
        )
    if _is_series(value):
        return series([_rebuild(v, key, leaf=leaf, table=table, series=series) for v in value])
    return leaf(key, value)


def _map_as_list(table: _Json) -> Any:
    keys = [str(number) for number in range(len(table))]
    return [table[key] for key in keys] if table and set(table) == set(keys) else table


def _list_as_map(series: list[Any]) -> Any:
    return {str(2 * at): item for at, item in enumerate(series)} if series else series


def _flags_as_int(key: str, value: Any) -> Any:
    return int(value) if isinstance(value, bool) else value


def _flags_as_text(key: str, value: Any) -> Any:
    return str(int(value)) if isinstance(value, bool) else value


def _ints_as_text(key: str, value: Any) -> Any:
    return str(value) if type(value) is int and not _is_id(key) else value


def _ids_swapped(key: str, value: Any) -> Any:
    if not _is_id(key):
        return value
    if type(value) is int:
        return str(value)
    return int(value) if isinstance(value, str) and value.isdecimal() else value


def _zero_dates(key: str, value: Any) -> Any:
    return "0000-00-00 00:00:00" if key in _DATES and value is not None else value


def _unknown_keys(table: _Json) -> Any:
    return {**table, "added_later": {"anything": [1, None]}} if "id" in table else table


def _configs_as_map(table: _Json) -> Any:
    return {**table, "configs": {"limit": 3}} if "configs" in table else table


def _older(table: _Json) -> Any:
    return {key: value for key, value in table.items() if key not in _LATER_KEYS}


def _missing_keys(data: Any) -> Any:
    rest = _rebuild(data, table=_older)
    groups: Any = rest.get("task_dial_times") or []
    if isinstance(groups, dict):  # the quirk of a list that became a map came first
        groups = list(cast("_Json", groups).values())
    for group in groups[:1]:
        group.pop("name", None)
    return rest


def _null_sections(data: Any) -> Any:
    return {key: None if isinstance(section, list) else section for key, section in data.items()}


_SHAPES: dict[str, Callable[[Any], Any]] = {
    "configs_as_map": partial(_rebuild, table=_configs_as_map),
    "empty_map_as_list": lambda data: {**data, "end_actions": []},
    "escaped": lambda data: data,  # its work is on the encoded bytes
    "flags_as_int": partial(_rebuild, leaf=_flags_as_int),
    "flags_as_text": partial(_rebuild, leaf=_flags_as_text),
    "ids_swapped": partial(_rebuild, leaf=_ids_swapped),
    "ints_as_text": partial(_rebuild, leaf=_ints_as_text),
    "list_as_map": partial(_rebuild, series=_list_as_map),
    "map_as_list": partial(_rebuild, table=_map_as_list),
    "missing_keys": _missing_keys,
    "null_sections": _null_sections,
    "unknown_keys": partial(_rebuild, table=_unknown_keys),
    "zero_dates": partial(_rebuild, leaf=_zero_dates),
}
