"""Split text into rows, of CSV or of JSON Lines, as it comes and in bounded memory.

The standard ``csv`` module is not used: it keeps all that follows a quote that never closes, and
after a field above its limit it takes the rest of that field for rows.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from wolf_async.cli.text_file import UNDECODABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["SHOWN", "CsvRows", "LineRows", "Row", "Splitter"]

SHOWN: Final = 200
"""Characters of a bad row that are repeated."""

_OF_EXCEL: Final = re.compile(r'="[^"]*"')
_UNDECODABLE: Final = "it is no text in the encoding of the file: say --encoding, or save as UTF-8"


class Row(NamedTuple):
    """Hold one row: its cells, or why it is a bad one."""

    line: int
    """Number of its first line, from 1."""
    cells: list[str]
    """The cells as they stand, without their quotes; of JSON Lines the whole line."""
    text: str
    """The beginning of what stands there."""
    fault: str | None = None
    """What is wrong with the row as a whole."""
    stray_quote: int | None = None
    """The first line, so far, where a quote stands in which none belongs."""


class Splitter(Protocol):
    """Turn text into rows."""

    def feed(self, text: str) -> Iterator[Row]:
        """Give the rows that end in this piece of text."""
        ...

    def end(self) -> Iterator[Row]:
        """Give the last row, if no line end closed it."""
        ...


class LineRows:
    """Split text at line ends alone; a line above ``max_row`` bytes is a bad row, and not kept."""

    __slots__ = ("_line", "_max_row", "_part", "_size")

    def __init__(self, max_row: int) -> None:
        self._max_row = max_row
        self._line = 0
        self._part = ""
        self._size = 0

    def feed(self, text: str) -> Iterator[Row]:
        """Give the rows that end in this piece of text."""
        *lines, rest = text.split("\n")
        for line in lines:
            self._add(line)
            yield self._take()
        self._add(rest)

    def end(self) -> Iterator[Row]:
        """Give the last row, if no line end closed it."""
        if self._size:
            yield self._take()

    def _add(self, piece: str) -> None:
        self._size += size_of(piece)
        self._part = (self._part if self._size > self._max_row else self._part + piece)[
            : max(self._max_row, SHOWN)
        ]

    def _take(self) -> Row:
        text, size = self._part, self._size
        self._line += 1
        self._part, self._size = "", 0
        fault = _fault(text, size, self._max_row)
        return Row(self._line, [] if fault else [text], text[:SHOWN], fault)


class CsvRows:
    """Split text into rows of cells, which may stand in quotes and then hold anything.

    A quote opens a cell if only blanks stand before it, and closes it if only blanks stand behind;
    two in a row are one that is meant. A row ends with the line that its last quote closes in. A
    row above ``max_row`` bytes is a bad row, and not kept.

    A quote that is open at the end of the text makes one bad row of all that follows it. So does
    one that spans lines and then closes before other text: most likely its end is missing, and
    from there on it would be wrong what is inside quotes and what is outside.
    Behind a row with text behind a closing quote, or one whose quotes span lines
    and which has not as many cells as the first row, rows are held back for as long as
    that row might go on: if a row with an odd number of quotes follows,
    those between may be the inside of a cell, and are bad rows.
    """

    __slots__ = (
        "_cell",
        "_cells",
        "_fault",
        "_has_closed",
        "_has_ended",
        "_has_quote",
        "_held",
        "_held_size",
        "_is_blank",
        "_is_lost",
        "_line",
        "_max_row",
        "_opened_at",
        "_quoted",
        "_quotes",
        "_read",
        "_separator",
        "_size",
        "_spans_lines",
        "_special",
        "_start",
        "_stray_quote",
        "_text",
        "_width",
    )

    def __init__(self, separator: str, max_row: int, first_line: int = 1) -> None:
        self._separator = separator
        self._special = re.compile(f'[{separator}"\n]')
        self._max_row = max_row
        self._line = first_line
        self._is_lost = False
        self._fault: str | None = None
        self._stray_quote: int | None = None
        self._held: list[Row] | None = None
        self._held_size = 0
        self._width = 0
        self._read: Callable[[str, int], int] = self._plain
        self._begin()

    def feed(self, text: str) -> Iterator[Row]:
        """Give the rows that end in this piece of text."""
        at = 0
        while at < len(text) and not self._is_lost:
            behind = self._simple_row(text, at) or self._read(text, at)
            self._note(text[at:behind])
            at = behind
            if self._has_ended and not self._is_lost:
                yield from self._let_through(self._take())

    def end(self) -> Iterator[Row]:
        """Give the last row, if no line end closed it."""
        if self._is_lost or self._read == self._quoted_text:
            self._fault = (
                f"the quote of line {self._opened_at} never closes: the row reaches to the end of"
                " the file, and nothing in it was asked for"
            )
        if self._size or self._is_lost:
            if self._read == self._behind_quote:
                self._close()
            self._end_cell()
            yield from self._let_through(self._take())
        yield from self._held or ()

    def _begin(self) -> None:
        self._start = self._line
        self._cells: list[str] = []
        self._text = ""
        self._size = 0
        self._quotes = 0
        self._fault = None
        self._has_closed = False
        self._spans_lines = False
        self._has_ended = False
        self._begin_cell()

    def _begin_cell(self) -> None:
        self._cell: list[str] = []
        self._quoted: str | None = None
        self._is_blank = True
        self._has_quote = False
        self._opened_at = 0

    def _note(self, piece: str) -> None:
        self._line += piece.count("\n")
        self._quotes += piece.count('"')
        self._size += size_of(piece)
        if len(self._text) < SHOWN:
            self._text += piece[:SHOWN]
        if self._size > self._max_row + self._has_ended:
            self._cells.clear()
            self._cell.clear()

    def _simple_row(self, text: str, at: int) -> int:
        """Read a row without quotes at once, as most are; return 0 if the next is no such row."""
        end = -1 if self._size else text.find("\n", at)
        row = text[at:end]
        if end < 0 or '"' in row:
            return 0
        self._cells = row.split(self._separator)
        self._has_ended = True
        return end + 1

    def _plain(self, text: str, at: int) -> int:
        """Read what is outside of quotes, up to the next character that means something."""
        found = self._special.search(text, at)
        end = found.start() if found else len(text)
        piece = text[at:end]
        self._cell.append(piece)
        self._is_blank = self._is_blank and (not piece or piece.isspace())
        if found is None:
            return end
        if text[end] == '"':
            self._quote()
        else:
            self._end_cell()
            self._has_ended = text[end] == "\n"
        return end + 1

    def _quote(self) -> None:
        """Open the cell, or take a quote for text where none can open it."""
        if self._quoted is None and self._is_blank:
            self._cell.clear()
            self._opened_at = self._line
            self._read = self._quoted_text
        else:
            self._has_quote = True
            self._is_blank = False
            self._cell.append('"')

    def _quoted_text(self, text: str, at: int) -> int:
        end = text.find('"', at)
        if end < 0:
            self._cell.append(text[at:])
            return len(text)
        self._cell.append(text[at:end])
        self._read = self._behind_quote
        return end + 1

    def _behind_quote(self, text: str, at: int) -> int:
        """Look whether a quote inside of quotes is one that is meant, or the end."""
        if text[at] == '"':
            self._cell.append('"')
            self._read = self._quoted_text
            return at + 1
        self._close()
        return at

    def _close(self) -> None:
        self._quoted = "".join(self._cell)
        self._cell = []
        self._spans_lines = self._spans_lines or self._opened_at < self._line
        self._read = self._plain

    def _end_cell(self) -> None:
        text = "".join(self._cell)
        if self._quoted is not None and text.strip():
            self._fault = f"text behind a closing quote: {text.strip()[:SHOWN]!r}"
            self._has_closed = True
            self._is_lost = self._opened_at < self._line
        is_stray = self._has_quote and not _OF_EXCEL.fullmatch(text.strip())
        if is_stray and text.count('"') % 2 and self._fault is None:
            self._fault = f"a quote in a cell that is not in quotes: {text.strip()[:SHOWN]!r}"
        if self._stray_quote is None and (self._fault or is_stray):
            self._stray_quote = self._line
        self._cells.append(text if self._quoted is None else self._quoted)
        if not self._is_lost:
            self._begin_cell()

    def _take(self) -> Row:
        size = self._size - self._has_ended
        self._check_width()
        fault = self._fault or _fault(self._text, size, self._max_row, self._cells)
        cells = [] if fault else self._cells
        return Row(self._start, cells, self._text[:SHOWN].rstrip("\n"), fault, self._stray_quote)

    def _check_width(self) -> None:
        """Compare the row, if its quotes span lines, with the first one that is not blank."""
        count = len(self._cells)
        if not self._width:
            self._width = count if any(map(str.strip, self._cells)) else 0
        elif self._spans_lines and self._cells and count != self._width and self._fault is None:
            self._fault = f"its quotes span lines, and it has {count} cells, not {self._width}"
            self._has_closed = True

    def _let_through(self, row: Row) -> Iterator[Row]:
        """Give the row, or hold it back behind one that may go on in it, and begin the next."""
        is_odd, has_closed = self._quotes % 2 == 1, self._has_closed
        size = self._size
        self._begin()
        if self._held is None:
            self._held, self._held_size = ([], 0) if has_closed else (None, 0)
            yield row
            return
        self._held.append(row)
        self._held_size += size
        if is_odd:
            yield from (_doubtful(held) for held in self._held)
            self._held, self._held_size = ([], 0) if has_closed else (None, 0)
        elif self._held_size > self._max_row:
            yield from self._held
            self._held = None


def _doubtful(row: Row) -> Row:
    why = "quotes stand in wrong places above and below: it may be the inside of a cell"
    return row if row.fault else row._replace(cells=[], fault=why)


def size_of(text: str) -> int:
    """Return how many bytes the text is in UTF-8."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _fault(text: str, size: int, max_row: int, cells: list[str] | None = None) -> str | None:
    if size > max_row:
        return f"a row has at most {max_row} bytes, not {size}: --max-row sets another limit"
    if UNDECODABLE in text or any(UNDECODABLE in cell for cell in cells or ()):
        return _UNDECODABLE
    return None
