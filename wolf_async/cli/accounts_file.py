"""Read the accounts of a file, a pipe or a terminal, one at a time, from CSV or JSON Lines.

All commands read accounts here. A file whose columns are not certain is refused before anything
is asked; a row that names no account is a bad row, and never asked for. A file is read ahead, by
as much as one row may have (``--max-row``), so that a quote which is missing or too many makes bad
rows of those above it that may be the inside of a cell. Standard input and other pipes are not:
their rows are asked for as they come, and what is found wrong later cannot be taken back.
"""

from __future__ import annotations

import functools
import json
import re
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Any,
    Final,
    Generic,
    Literal,
    NamedTuple,
    Self,
    TypeAlias,
    TypeVar,
    cast,
)
from unicodedata import normalize

import click

from wolf_async.account import Account
from wolf_async.api.request import check_account
from wolf_async.cli.rows import SHOWN, CsvRows, LineRows, Row, Splitter
from wolf_async.cli.text_file import CHUNK, RefusedError, TextFile
from wolf_async.errors import WolfConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

__all__ = [
    "AccountsOptions",
    "BadRow",
    "ColumnNames",
    "Rows",
    "account_named",
    "account_of_keys",
    "accounts_options",
    "json_item",
    "read_accounts",
]

T = TypeVar("T")
F = TypeVar("F", bound="Callable[..., Any]")
Format: TypeAlias = Literal["csv", "jsonl"]

_SUFFIXES: Final[dict[str, Format]] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}
_SEPARATORS: Final = ",;\t"
_USER_NAMES: Final = frozenset(
    [
        "userid",
        "用户id",
        "账户id",
        "账号id",
        "帐户id",
        "帐号id",
        "主账户",
        "主账号",
        "主帐户",
        "主帐号",
        "主账户id",
        "主账号id",
        "主帐户id",
        "主帐号id",
        "主用户id",
        "accountid",
        "mainaccount",
        "mainaccountid",
        "mainuserid",
    ]
)
_SUB_USER_NAMES: Final = frozenset(
    [
        "subuserid",
        "子账户id",
        "子账号id",
        "子帐户id",
        "子帐号id",
        "子用户id",
        "子账户",
        "子账号",
        "子帐户",
        "子帐号",
        "subaccount",
        "subaccountid",
    ]
)
_LOOKED_AT: Final = 1000
"""Rows among which a header is looked for below the first one."""
_LONGEST_ID: Final = 256
_NOTHING: Final = frozenset(("null", r"\n", "none", "nan", "nil", "n/a", "undefined"))
_ROUNDED: Final = re.compile(r"[-+]?\d+(?:[.,]\d+)?[eE][-+]\d+")
_DECIMAL: Final = re.compile(r"[-+]?\d+\.\d+")
_FOREIGN: Final = re.compile(r"[\"\n,;\t|\uff0c\uff1b]")
"""What separates cells, here or elsewhere, and stands in no id."""
_EXPECTED: Final = 'expected an id, [id, sub-account\'s id] or {"user_id": …, "sub_user_id": …}'


class BadRow(NamedTuple):
    """Hold a row that is no account."""

    line: int
    """Number of its first line, from 1."""
    text: str
    """What stands there, shortened."""
    why: str
    """What was expected, and what came."""


class ColumnNames:
    """Know the names of the columns, or keys, that hold accounts.

    ``--user-column`` names others.
    """

    __slots__ = ("_sub_user", "_user", "given")

    def __init__(self, user: str | None = None, sub_user: str | None = None) -> None:
        self.given = [name for name in (user, sub_user) if name is not None]
        self._user = _USER_NAMES if user is None else {_normal(user)}
        self._sub_user = (_SUB_USER_NAMES if sub_user is None else {_normal(sub_user)}) - (
            self._user if user is not None else set()
        )
        if sub_user is not None and not self._sub_user:
            raise click.UsageError("--user-column and --sub-user-column are the same column")

    def count(self, cells: Iterable[str]) -> int:
        """Count the cells that are such a name."""
        return sum(_normal(cell) in self._user | self._sub_user for cell in cells)

    def find(self, names: Sequence[str]) -> tuple[int | None, int | None]:
        """Find the two columns; raise `ValueError` if there are several of one kind."""
        return (
            _only(names, self._user, "accounts", "--user-column"),
            _only(names, self._sub_user, "sub-accounts", "--sub-user-column"),
        )


def _normal(name: str) -> str:
    """Return a name without case, width, spaces and punctuation."""
    return "".join(filter(str.isalnum, normalize("NFKC", name).casefold()))


def _only(names: Sequence[str], known: Iterable[str], what: str, option: str) -> int | None:
    found = [number for number, name in enumerate(names) if _normal(name) in known]
    if len(found) > 1:
        several = ", ".join(names[number] for number in found)
        raise ValueError(f"several columns of {what} ({several}): choose one with {option}")
    return found[0] if found else None


class Rows(Generic[T]):
    """Give what ``parse`` makes of each row, or a `BadRow`; rows without content give nothing.

    ``parse`` returns ``None`` for such a row, and raises `ValueError` or `WolfConfigError` for one
    that makes no sense. To be iterated over once.
    """

    __slots__ = ("_file", "_is_over", "_parse", "_ready", "_splitter")

    def __init__(
        self,
        file: TextFile,
        splitter: Splitter,
        parse: Callable[[Row], T | None],
        head: Iterable[Row],
    ) -> None:
        self._file = file
        self._splitter = splitter
        self._parse = parse
        self._ready = self._items(head)
        self._is_over = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T | BadRow:
        # no generator: whoever is cancelled here can go on later with what is left
        while (item := next(self._ready, None)) is None:
            if self._is_over:
                raise StopAsyncIteration
            self._feed(await self._file.read_more())
        return item

    def at_once(self) -> Iterator[T | BadRow]:
        """Iterate without a loop, over what does not have to be waited for."""
        yield from self._ready
        while not self._is_over:
            self._feed(self._file.read_more_at_once())
            yield from self._ready

    def _feed(self, text: str | None) -> None:
        self._is_over = text is None
        self._ready = self._items(
            self._splitter.end() if text is None else self._splitter.feed(text)
        )

    def _items(self, rows: Iterable[Row]) -> Iterator[T | BadRow]:
        for row in rows:
            item = self._item(row)
            if item is not None:
                yield item

    def _item(self, row: Row) -> T | BadRow | None:
        try:
            if row.fault is not None:
                raise ValueError(row.fault)  # noqa: TRY301 - one place makes bad rows
            return self._parse(row)
        except (ValueError, WolfConfigError) as error:
            return BadRow(row.line, _writable(row.text[:SHOWN]), _writable(str(error)))


def _writable(text: str) -> str:
    """Return ``text`` with marks in place of halves of pairs, which no file of UTF-8 can hold."""
    return re.sub("[\ud800-\udfff]", "\ufffd", text)


class AccountsOptions(NamedTuple):
    """Hold how accounts are to be read, as the command line says it."""

    form: Format | None = None
    encoding: str | None = None
    user_column: str | None = None
    sub_user_column: str | None = None
    max_row: int = 2**20

    @contextmanager
    def open(
        self, path: str, *, spool: bool = False
    ) -> Generator[tuple[TextFile, Rows[Account]], None, None]:
        """Open the accounts of a file, or of standard input for ``-``.

        Raises `click.UsageError` if the file's name does not say what it holds, and
        `RefusedError` if it cannot be read with certainty.
        """
        form = self.form or _format_of(path)
        names = ColumnNames(self.user_column, self.sub_user_column)
        with TextFile(path, self.encoding, head=self.max_row + CHUNK, spool=spool) as file:
            yield file, read_accounts(file, form, names, self.max_row)


def accounts_options(command: F) -> F:
    """Add the options of files of accounts; the command gets them as ``reading``."""

    @functools.wraps(command)
    def with_options(
        *,
        form: Format | None,
        encoding: str | None,
        user_column: str | None,
        sub_user_column: str | None,
        max_row: int,
        **rest: Any,
    ) -> Any:
        reading = AccountsOptions(form, encoding, user_column, sub_user_column, max_row)
        return command(reading=reading, **rest)

    for option in reversed(_OPTIONS):
        with_options = option(with_options)
    return cast("F", with_options)


_OPTIONS: Final = (
    click.option(
        "--format",
        "form",
        type=click.Choice(("csv", "jsonl")),
        help="What the file of accounts holds.  [default: as its name ends]",
    ),
    click.option(
        "--encoding",
        metavar="NAME",
        help="Its encoding.  [default: UTF-8, UTF-16 by its mark, else GB18030]",
    ),
    click.option("--user-column", metavar="NAME", help="The column of main accounts."),
    click.option("--sub-user-column", metavar="NAME", help="The column of sub-accounts."),
    click.option(
        "--max-row",
        metavar="BYTES",
        type=click.IntRange(1),
        default=2**20,
        show_default=True,
        help="A longer row is a bad row; so are the rows that far above a quote that does not fit.",
    ),
)


def _format_of(path: str) -> Format:
    form = _SUFFIXES.get(Path(path).suffix.lower())
    if form is None:
        name = "standard input" if path == "-" else path
        raise click.UsageError(f"is {name} CSV or JSON Lines? Say --format csv or --format jsonl")
    return form


def account_named(text: str) -> Account:
    """Return the account of ``USER_ID[:SUB_ID]``; raise `WolfConfigError` for a bad id."""
    user_id, colon, sub_user_id = text.partition(":")
    return check_account(user_id, sub_user_id if colon else None)


def read_accounts(file: TextFile, form: Format, names: ColumnNames, max_row: int) -> Rows[Account]:
    """Return the accounts of the file; raise `RefusedError` if its columns are not certain."""
    if form == "csv":
        return _csv_accounts(file, names, max_row)
    splitter = LineRows(max_row)

    def parse(row: Row) -> Account | None:
        return _account_of_json(json_item(row), names) if row.cells[0].strip() else None

    return Rows(file, splitter, parse, splitter.feed(file.head))


# --- CSV ----------------------------------------------------------------------------------------


class _Columns(NamedTuple):
    """Hold where the accounts stand in a row."""

    user: int = 0
    sub_user: int | None = 1
    width: int = 2
    """How many cells the first row has."""
    header: int = 0
    """Number of the header's line; 0 if there is none."""


def _csv_accounts(file: TextFile, names: ColumnNames, max_row: int) -> Rows[Account]:
    try:
        behind, separator = _said_separator(file.head)
        text, first_line = file.head[behind:], 2 if behind else 1
        separator = separator or _likely_separator(text, names, max_row)
        rows = _rows_with_content(CsvRows(separator, max_row, first_line), text)
        first = list(islice(rows, _LOOKED_AT))
        columns = _columns(first, names)
    except ValueError as error:
        raise RefusedError(f"{file.name}: {error}") from error
    splitter = CsvRows(separator, max_row, first_line, looks_ahead=not file.waits)

    def parse(row: Row) -> Account | None:
        return _account_of_cells(row, columns, names)

    return Rows(file, splitter, parse, splitter.feed(text))


def _said_separator(head: str) -> tuple[int, str]:
    """Return the length of a first line such as ``sep=;``, and what it says."""
    said = re.match(r'[ ]*"?sep=(.?)"?[ ]*(?:\n|$)', head, re.IGNORECASE)
    if said is None:
        return 0, ""
    if said[1] not in tuple(_SEPARATORS):
        raise ValueError(f"{said[0].strip()}: expected a comma, a semicolon or a tab")
    return said.end(), said[1]


def _likely_separator(text: str, names: ColumnNames, max_row: int) -> str:
    """Choose the separator that finds most known names in the first row, then most cells."""

    def found(separator: str) -> tuple[int, int]:
        first = next(_rows_with_content(CsvRows(separator, max_row), text), None)
        return (0, 0) if first is None else (names.count(first.cells), len(first.cells))

    return max(_SEPARATORS, key=found)


def _rows_with_content(splitter: CsvRows, text: str) -> Iterator[Row]:
    for rows in (splitter.feed(text), splitter.end()):
        for row in rows:
            if row.fault is not None or _has_content(row):
                yield row


def _has_content(row: Row) -> bool:
    return any(_bare(cell).strip(f"{_SEPARATORS} ") for cell in row.cells)


def _columns(rows: Sequence[Row], names: ColumnNames) -> _Columns:
    """Find the columns by the first of ``rows``, which are those of the beginning of the file.

    Raises `ValueError` if they are not certain.
    """
    if not rows or rows[0].fault:
        return _columns_of_fault(rows)
    first, cells = rows[0], [_bare(cell) for cell in rows[0].cells]
    if not names.count(cells):
        _check_above(rows, cells, names)
    if any(cell and (names.count([cell]) or not _has_digit(cell)) for cell in cells):
        return _named_columns(first.line, cells, names)
    if names.given:
        raise ValueError(f"{_no_column(cells)}: there is no column {' or '.join(names.given)}")
    if any(cells[2:]):
        raise ValueError(
            f"{len(cells)} columns without a header: name them in a first row, as in"
            " user_id,sub_user_id"
        )
    return _Columns(width=min(2, len(cells)))


def _columns_of_fault(rows: Sequence[Row]) -> _Columns:
    """Take the accounts from the only column, if there is no more than one."""
    if not rows:
        return _Columns()
    has_more = any(any(map(_bare, row.cells[1:])) or not _has_digit(row.text) for row in rows[1:])
    if has_more or (rows[0].stray_quote is not None and rows[1:]):
        raise ValueError(f"the first row names the columns, and is a bad one: {rows[0].fault}")
    return _Columns(sub_user=None, width=1)


def _check_above(rows: Sequence[Row], cells: Sequence[str], names: ColumnNames) -> None:
    """Raise `ValueError` if the first row is something that stands above a header, or is JSON."""
    first = rows[0]
    if cells[0].startswith(("{", "[")):
        raise ValueError(f"line {first.line} looks like JSON Lines: say --format jsonl")
    for row in rows[1:]:
        if names.count(map(_bare, row.cells)):
            raise ValueError(
                f"line {first.line} stands above the header of line {row.line}: remove what is"
                " above the header"
            )
    if cells[0].startswith("#"):
        raise ValueError(f"line {first.line} is a comment: remove it")


def _named_columns(line: int, cells: Sequence[str], names: ColumnNames) -> _Columns:
    for cell in cells:
        if not names.count([cell]) and names.count(_FOREIGN.split(cell)):
            raise ValueError(
                f"line {line} names the columns, and one of its cells holds several names:"
                f" {cell[:SHOWN]!r}: separate them by commas, semicolons or tabs, or add the quote"
                " that is missing"
            )
    user, sub_user = names.find(cells)
    if user is None:
        raise ValueError(f"no column of accounts: {_no_column(cells)}: name it with --user-column")
    return _Columns(user, sub_user, len(cells), line)


def _no_column(cells: Sequence[str]) -> str:
    return f"the columns are {', '.join(filter(None, cells))[:SHOWN]}"


def _account_of_cells(row: Row, columns: _Columns, names: ColumnNames) -> Account | None:
    if row.line == columns.header or not _has_content(row):
        return None
    cells = row.cells
    if any(map(_bare, cells[columns.width :])):
        raise ValueError(
            f"expected at most {columns.width} cells as in the first row, not {len(cells)}"
        )
    # beside a stray quote a line may be the inside of a cell: only whole rows are certain
    if row.stray_quote is not None and len(cells) != columns.width:
        raise ValueError(
            f"expected {columns.width} cells behind the stray quote of line {row.stray_quote},"
            f" not {len(cells)}"
        )
    return _account(_at(cells, columns.user), _at(cells, columns.sub_user), names)


def _at(cells: Sequence[str], index: int | None) -> str:
    return cells[index] if index is not None and index < len(cells) else ""


# --- JSON Lines ---------------------------------------------------------------------------------


def json_item(row: Row) -> Any:
    """Decode the row; raise `ValueError` if it is no JSON.

    A key that comes twice in one object is refused: which of them counts would be chance.
    """
    (text,) = row.cells
    try:
        return json.loads(text, object_pairs_hook=_as_dict, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise ValueError(f"it is no JSON: {error.msg} at character {error.pos + 1}") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _as_dict(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key comes twice in one object")
    return found


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def account_of_keys(item: dict[str, Any], names: ColumnNames) -> Account:
    """Return the account of an object with the keys of ``names``; raise `ValueError` if none."""
    keys = list(item)
    user, sub_user = names.find(keys)
    if user is None:
        raise ValueError(f"{_EXPECTED}: there is no key of an account")
    return _account(item[keys[user]], None if sub_user is None else item[keys[sub_user]], names)


def _account_of_json(item: Any, names: ColumnNames) -> Account:
    if isinstance(item, dict):
        return account_of_keys(cast("dict[str, Any]", item), names)
    pair: list[Any] = item if isinstance(item, list) else [item]  # pyright: ignore[reportUnknownVariableType]
    if len(pair) not in (1, 2):
        raise ValueError(f"{_EXPECTED}, not {len(pair)} elements")
    return _account(pair[0], pair[1] if len(pair) == 2 else None, names)


# --- cells --------------------------------------------------------------------------------------


def _account(user: Any, sub_user: Any, names: ColumnNames) -> Account:
    sub = None if sub_user is None else _id("sub_user_id", sub_user, names)
    return check_account(_id("user_id", user, names), sub or None)


def _id(column: str, value: Any, names: ColumnNames) -> str:
    """Return the id in a cell; raise `ValueError` for what a spreadsheet made of one."""
    if isinstance(value, float):
        raise ValueError(f"{column} {value!r} is a rounded number: write ids as text")  # noqa: TRY004 - a bad row
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return str(value)
    if not isinstance(value, str):
        raise ValueError(f"{_EXPECTED}: {column} is {json.dumps(value)[:SHOWN]}")  # noqa: TRY004
    text = _bare(value)
    _check_id(column, text, names)
    return text


def _bare(cell: str) -> str:
    """Return a cell without blanks around it, and without Excel's marks for text."""
    text = cell.strip()
    if text.startswith('="') and text.endswith('"') and len(text) > 2:
        return text[2:-1].strip()
    return text.removeprefix("'").strip()


def _check_id(column: str, text: str, names: ColumnNames) -> None:
    shown = text[:SHOWN]
    if len(text) > _LONGEST_ID:
        raise ValueError(f"{column} has {len(text)} characters: no id has above {_LONGEST_ID}")
    if text.casefold() in _NOTHING:
        raise ValueError(
            f"{column} {shown} stands for nothing: leave the cell empty, or name an id"
        )
    if _ROUNDED.fullmatch(text) or _DECIMAL.fullmatch(text):
        raise ValueError(
            f"{column} {shown} is a number that a spreadsheet has rounded: format the column as"
            " text, and save it anew"
        )
    if found := _FOREIGN.search(text):
        raise ValueError(f"{column} {shown!r} holds {found[0]!r}: expected one id in a cell")
    if text.startswith(("#", "=", "{", "[")):
        raise ValueError(f"{column} {shown!r} is a comment, a formula or JSON, and no id")
    if not _has_digit(text) and names.count([text]):
        raise ValueError(f"{column} {shown!r} is a column's name: a header again?")


def _has_digit(text: str) -> bool:
    return any(map(str.isdigit, text))
