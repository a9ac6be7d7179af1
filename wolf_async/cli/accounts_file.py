"""The accounts of a file, a pipe or a terminal, one at a time: CSV or JSON Lines, in bounded memory."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import os
import stat
import threading
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias

import click
import msgspec

from wolf_async.account import Account
from wolf_async.api.request import check_account
from wolf_async.errors import WolfConfigError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator

__all__ = ["BadRow", "Format", "Rows", "count"]

Format: TypeAlias = Literal["csv", "jsonl"]

CHUNK: Final = 64 * 1024
LONGEST: Final = 64 * 1024
"""Bytes from which a line is no account, whatever is in it."""
SHOWN: Final = 200
"""Characters of a bad row that are repeated."""

_BOM: Final = b"\xef\xbb\xbf"
_EXPECTED: Final = 'expected a string, a pair, or {"user_id": …, "sub_user_id": …}'


class BadRow(NamedTuple):
    """A row that is no account."""

    line: int
    """Its number, from 1."""
    text: str
    """What stands there, shortened."""
    why: str
    """What was expected, and what came."""


class Rows:
    """What ``fd`` holds, as accounts or bad rows; blank lines and a header are none. To be iterated over once.

    A file is read as its rows are taken. What may have to be waited for is read in a thread, so that requests go on
    meanwhile. Raises `click.UsageError` for what cannot be read.
    """

    __slots__ = ("_fd", "_line", "_parse")

    def __init__(self, fd: int, form: Format) -> None:
        self._fd = fd
        self._line = 0
        self._parse: Callable[[bytes], Account | None] = (
            _Csv().parse if form == "csv" else _from_json
        )

    async def __aiter__(self) -> AsyncGenerator[Account | BadRow, None]:
        rest = b""
        async for chunk in _chunks(self._fd):
            *lines, rest = (rest + chunk).split(b"\n")
            rest = rest[:LONGEST]
            for row in self._rows(lines):
                yield row
        for row in self._rows([rest]):
            yield row

    def _rows(self, lines: list[bytes]) -> Iterator[Account | BadRow]:
        for line in lines:
            self._line += 1
            text = (line.removeprefix(_BOM) if self._line == 1 else line).strip(b" \t\r")
            if text and (row := self._row(text)) is not None:
                yield row

    def _row(self, text: bytes) -> Account | BadRow | None:
        try:
            if len(text) >= LONGEST:
                raise ValueError(f"a row is shorter than {LONGEST} bytes")  # noqa: TRY301 - one place makes bad rows
            return self._parse(text)
        except UnicodeDecodeError:
            why = "expected UTF-8"
        except (ValueError, WolfConfigError) as error:
            why = str(error)
        return BadRow(self._line, text[: 4 * SHOWN].decode(errors="replace")[:SHOWN], why)


class _Csv:
    """Rows of one or two columns, or with a header the columns named ``user_id`` and ``sub_user_id``."""

    __slots__ = ("_begun", "_named", "_sub_user", "_user")

    def __init__(self) -> None:
        self._begun = False
        self._named = False
        self._user = 0
        self._sub_user: int | None = 1

    def parse(self, line: bytes) -> Account | None:
        # line by line, since no id spans lines: a quote that is not closed spoils one row, not all that follow
        try:
            (cells,) = csv.reader([line.decode()], strict=True)
        except csv.Error as error:
            raise ValueError(f"expected user_id[,sub_user_id]: {error}") from error
        cells = [cell.strip() for cell in cells]
        first, self._begun = not self._begun, True
        if first and self._is_header(cells):
            return None
        if not self._named and len(cells) > 2:
            raise ValueError(
                f"expected user_id[,sub_user_id], not {len(cells)} columns without a header"
            )
        return check_account(_at(cells, self._user), _at(cells, self._sub_user) or None)

    def _is_header(self, cells: list[str]) -> bool:
        names = [cell.lower() for cell in cells]
        if "user_id" not in names:
            return False
        self._named = True
        self._user = names.index("user_id")
        self._sub_user = names.index("sub_user_id") if "sub_user_id" in names else None
        return True


def _at(cells: list[str], index: int | None) -> str:
    return cells[index] if index is not None and index < len(cells) else ""


class _Named(msgspec.Struct):
    user_id: str
    sub_user_id: str | None = None


_item: Final = msgspec.json.Decoder[str | list[str | None] | _Named](
    str | list[str | None] | _Named
)


def _from_json(line: bytes) -> Account:
    try:
        item = _item.decode(line)
    except msgspec.DecodeError as error:
        raise ValueError(f"{_EXPECTED}: {error}") from error
    if isinstance(item, str):
        return check_account(item)
    if isinstance(item, _Named):
        return check_account(item.user_id, item.sub_user_id)
    if len(item) != 2:
        raise ValueError(f"{_EXPECTED}, not {len(item)} elements")
    return check_account(*item)


def is_regular(fd: int) -> bool:
    """Whether it is a file that can be read again, and never has to be waited for."""
    return stat.S_ISREG(os.fstat(fd).st_mode)


def count(fd: int) -> int | None:
    """How many lines ``fd`` still holds, at the cost of reading it; ``None`` for what can be read only once."""
    if not is_regular(fd):
        return None
    start = os.lseek(fd, 0, os.SEEK_CUR)
    lines, last = 0, b"\n"
    while chunk := os.read(fd, 16 * CHUNK):
        lines += chunk.count(b"\n")
        last = chunk[-1:]
    os.lseek(fd, start, os.SEEK_SET)
    return lines + (last != b"\n")


async def _chunks(fd: int) -> AsyncGenerator[bytes, None]:
    waits = not is_regular(fd)
    while True:
        try:
            chunk = await _read_in_thread(fd) if waits else os.read(fd, CHUNK)
        except OSError as error:
            raise click.UsageError(
                f"cannot read the accounts: {error.strerror or error}"
            ) from error
        if not chunk:
            return
        yield chunk
        # a long run of rows that need no request would keep Ctrl-C and all else waiting
        await asyncio.sleep(0)


async def _read_in_thread(fd: int) -> bytes:
    """A read in a thread of its own that nobody waits for at the end, unlike one of the loop's executor."""
    loop = asyncio.get_running_loop()
    read: asyncio.Future[bytes] = loop.create_future()

    def tell(chunk: bytes, error: OSError | None) -> None:
        if read.done():
            return
        if error is None:
            read.set_result(chunk)
        else:
            read.set_exception(error)

    def run() -> None:
        chunk, failure = b"", None
        try:
            # not through sys.stdin: at its end the interpreter would want the lock that a blocked read holds
            chunk = os.read(fd, CHUNK)
        except OSError as error:
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody asks any more
            loop.call_soon_threadsafe(tell, chunk, failure)

    threading.Thread(target=run, daemon=True).start()
    return await read
