"""Split text into rows, of CSV or of JSON Lines, as it comes and in bounded memory.

The standard ``csv`` module is not used: it keeps all that follows a quote that never closes, and
after a field above its limit it takes the rest of that field for rows.
"""

from __future__ import annotations

import re
from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from wolf_async.cli.text_file import UNDECODABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["SHOWN", "CsvRows", "LineRows", "Row", "Splitter"]

SHOWN: Final = 200
"""Characters of a bad row that are repeated."""

_OF_EXCEL: Final = re.compile(r'="[^"]*"')
_REMEDY: Final = (
    "add the quote that is missing; or write a quote that belongs to the text as two, in a cell in"
    ' quotes, as in "screen 5"""; or keep only the columns of accounts'
)
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
    """Split text at line ends alone; a line above ``max_row`` bytes is a bad row, and not kept.

    Behind a line that begins a value and leaves it open, as in JSON that is written over lines,
    all rows are bad ones: a text or a number that stands alone there may be anything.
    """

    __slots__ = ("_line", "_max_row", "_open_line", "_part", "_size")

    def __init__(self, max_row: int) -> None:
        self._max_row = max_row
        self._line = 0
        self._open_line = 0
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
        fault = _fault(text, size, self._max_row) or self._inside(text.strip())
        return Row(self._line, [] if fault else [text], text[:SHOWN], fault)

    def _inside(self, text: str) -> str | None:
        """Return why the row may be a part of a value, if it may."""
        if not text:
            return None
        if not self._open_line:
            self._open_line = self._line if _is_open_value(text) else 0
            return None
        return (
            f"it may be a part of the value that begins in line {self._open_line}: each stands on"
            " one line of JSON Lines, as jq -c writes them"
        )


class CsvRows:
    """Split text into rows of cells, which may stand in quotes and then hold anything.

    A quote opens a cell if only blanks stand before it, and closes it if only blanks stand behind;
    two in a row are one that is meant. A row ends with the line that its last quote closes in. A
    row above ``max_row`` bytes is a bad row, and not kept.

    A quote that is open at the end of the text makes one bad row of all that follows it. So does
    one that spans lines and then closes before other text: most likely its end is missing, and
    from there on it would be wrong what is inside quotes and what is outside.

    Each row is judged by its quotes, and then passes through `_HeldRows`, which may make it a bad
    row for what stands below it.
    """

    __slots__ = (
        "_cell",
        "_cells",
        "_fault",
        "_fits",
        "_has_closed",
        "_has_ended",
        "_has_quote",
        "_held",
        "_is_blank",
        "_is_certain",
        "_is_first",
        "_is_lost",
        "_is_whole",
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
        "_text_first",
        "_text_last",
        "_width",
    )

    def __init__(
        self, separator: str, max_row: int, first_line: int = 1, *, looks_ahead: bool = False
    ) -> None:
        self._separator = separator
        self._special = re.compile(f'[{separator}"\n]')
        around, text = rf'(?:"|[^\S{separator}\n])*', rf'[^"{separator}\s]'
        self._text_first = re.compile(around + text)
        self._text_last = re.compile(rf"{text}{around}\Z")
        self._max_row = max_row
        self._line = first_line
        self._is_lost = False
        self._fault: str | None = None
        self._stray_quote: int | None = None
        self._held = _HeldRows(max_row, looks_ahead=looks_ahead)
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
                yield from self._end_row()

    def end(self) -> Iterator[Row]:
        """Give the last row, if no line end closed it, and those that are held."""
        if self._is_lost or self._read == self._quoted_text:
            self._never_closes()
        if self._size or self._is_lost:
            if self._read == self._behind_quote:
                self._close()
            self._end_cell()
            yield from self._end_row()
        yield from self._held.release()

    def _never_closes(self) -> None:
        self._fault = (
            f"the quote of line {self._opened_at} never closes: the row reaches to the end of"
            " the file, and nothing in it was asked for"
        )
        self._is_lost = True
        self._judge(is_certain=self._text_first.match("".join(self._cell)) is not None)

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
        self._is_certain: bool | None = None
        self._is_whole = False
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
            self._forget()

    def _forget(self) -> None:
        """Keep nothing of a row that is too long but what its quotes tell."""
        is_open = self._read in (self._quoted_text, self._behind_quote)
        if is_open and self._text_first.match("".join(self._cell)):
            self._judge(is_certain=True)
        self._cells.clear()
        # what comes now is not how the cell begins
        self._cell = [self._separator] if is_open else []

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
        self._is_whole = self._quoted is not None and self._is_proof(self._quoted)
        if self._is_whole:
            self._judge(is_certain=True)
        if self._quoted is not None and text.strip():
            self._fault = f"text behind a closing quote: {text.strip()[:SHOWN]!r}: {_REMEDY}"
            self._has_closed = True
            self._is_lost = self._opened_at < self._line
            self._judge(is_certain=False)
        is_stray = self._has_quote and not _OF_EXCEL.fullmatch(text.strip())
        if is_stray and text.count('"') % 2:
            self._fault = self._fault or (
                f"a quote in a cell that is not in quotes: {text.strip()[:SHOWN]!r}: {_REMEDY}"
            )
            if text.rstrip().endswith('"'):
                self._judge(is_certain=False)
        if self._stray_quote is None and (self._fault or is_stray):
            self._stray_quote = self._line
        self._cells.append(text if self._quoted is None else self._quoted)
        if not self._is_lost:
            self._begin_cell()

    def _is_proof(self, quoted: str) -> bool:
        """Return whether the quotes around this would not fit if one were missing above."""
        return bool(self._text_first.match(quoted) or self._text_last.search(quoted))

    def _judge(self, *, is_certain: bool) -> None:
        """Note whether the rows above are certain, by the first quotes of this one that tell."""
        if self._is_certain is None:
            self._is_certain = is_certain

    def _end_row(self) -> Iterator[Row]:
        """Begin the next row; return those that are certain or bad now that this one has ended."""
        size = self._size
        self._check_width()
        row, judgement = self._row(), self._judgement()
        self._begin()
        return self._held.add(row, size, judgement)

    def _row(self) -> Row:
        size = self._size - self._has_ended
        fault = self._fault or _fault(self._text, size, self._max_row, self._cells)
        cells = [] if fault else self._cells
        return Row(self._start, cells, self._text[:SHOWN].rstrip("\n"), fault, self._stray_quote)

    def _judgement(self) -> _Judgement:
        # short of cells, it may end where a quote was put in
        is_full = self._is_whole and len(self._cells) >= self._width
        return _Judgement(
            above_is_certain=self._is_certain,
            is_odd=self._is_lost or not self._fits or self._quotes % 2 == 1,
            leaves_doubt=self._has_closed,
            is_whole=self._is_first or is_full,
        )

    def _check_width(self) -> None:
        """Compare a row of many lines, and the last one, with the first that is not blank."""
        count, has_content = len(self._cells), any(map(str.strip, self._cells))
        self._is_first = not self._width
        self._fits = count == self._width or not (has_content or self._quotes)
        if not self._width:
            self._width = count if has_content else 0
        elif self._fault is not None or not has_content or count == self._width:
            return
        elif self._spans_lines:
            self._fault = f"its quotes span lines, and it has {count} cells, not {self._width}"
            self._has_closed = True
            self._judge(is_certain=False)
        elif not self._has_ended and count < self._width:
            self._fault = (
                f"the file ends in this row, which has {count} cells, not {self._width}: it may be"
                " cut off; end it with a line break if it is not"
            )


class _Judgement(NamedTuple):
    """Say what the quotes and the cells of a row tell about the rows around it."""

    above_is_certain: bool | None
    """Whether the rows above are rows, and not the inside of a cell; ``None`` if it is unknown."""
    is_odd: bool
    """Whether its quotes are odd in number, or its cells are not as many as in the first row."""
    leaves_doubt: bool
    """Whether the rows below it may be the inside of a cell."""
    is_whole: bool
    """Whether it is certain to be a row, whatever stands below it."""


class _HeldRows:
    """Hold rows back until what stands below them tells whether they are rows.

    If a quote is missing or too many, what look like rows may be the inside of a cell. So if a row
    comes whose quotes do not fit, all rows that are held become bad rows. Rows are held

    - with ``looks_ahead``: each one, until ``max_row`` bytes have come behind it, which is as far
      as a cell can reach. The first row is not held: nothing stands above it.
    - with and without: those behind a row that leaves a doubt, which is one with text behind a
      closing quote, or one over several lines of another number of cells than the first row. Here
      an odd row is enough to make them bad rows.

    Quotes do not fit if one ends a cell that it did not begin, never closes, has text behind it, or
    makes a row over several lines of another number of cells than the first row. A quote between
    the characters of a cell, as in ``5" wide``, makes its own row a bad one and no other.

    A cell in quotes that begins or ends with text lets go of all rows held: with a quote missing
    above it, its own quotes would not fit.
    """

    __slots__ = ("_is_in_doubt", "_looks_ahead", "_max_row", "_rows", "_size")

    def __init__(self, max_row: int, *, looks_ahead: bool) -> None:
        self._max_row = max_row
        self._looks_ahead = looks_ahead
        self._is_in_doubt = False
        self._rows: deque[tuple[Row, int]] = deque()
        self._size = 0

    def add(self, row: Row, size: int, judgement: _Judgement) -> Iterator[Row]:
        """Give the rows held that this one decides on, and hold it, if need be."""
        if judgement.above_is_certain is False or (judgement.is_odd and self._is_in_doubt):
            yield from self._spoil(row.line)
        elif judgement.above_is_certain and not self._is_in_doubt:
            yield from self.release()
        self._is_in_doubt = self._is_in_doubt or judgement.leaves_doubt
        self._rows.append((row, size))
        self._size += size
        if judgement.is_whole and not self._is_in_doubt:
            yield from self.release()
        yield from self._let_go()

    def release(self) -> Iterator[Row]:
        """Give all rows held, as they are."""
        while self._rows:
            yield self._rows.popleft()[0]
        self._size = 0

    def _let_go(self) -> Iterator[Row]:
        """Give the rows that nothing below can make bad ones any more."""
        while self._size > self._max_row:
            self._is_in_doubt = False
            row, size = self._rows.popleft()
            self._size -= size
            yield row
        if not self._looks_ahead and not self._is_in_doubt:
            yield from self.release()

    def _spoil(self, line: int) -> Iterator[Row]:
        """Give all rows held as bad ones, for the quotes of the row of that line."""
        fault = (
            f"it may be the inside of a cell, since the quotes of line {line} do not fit: {_REMEDY}"
        )
        for row in self.release():
            yield row if row.fault else row._replace(cells=[], fault=fault)
        self._is_in_doubt = False


def size_of(text: str) -> int:
    """Return how many bytes the text is in UTF-8."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _is_open_value(text: str) -> bool:
    """Return whether a line of JSON leaves a list or an object open, as far as its ends tell."""
    return text.endswith(("{", "[")) or (
        text.startswith(("{", "[")) and text.endswith(",") and not text.endswith(("},", "],"))
    )


def _fault(text: str, size: int, max_row: int, cells: list[str] | None = None) -> str | None:
    if size > max_row:
        return f"a row has at most {max_row} bytes, not {size}: --max-row sets another limit"
    if UNDECODABLE in text or any(UNDECODABLE in cell for cell in cells or ()):
        return _UNDECODABLE
    return None
