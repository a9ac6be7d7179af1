"""Read a file, a pipe or a terminal as text, in an encoding that is chosen before the first row."""

from __future__ import annotations

import asyncio
import codecs
import io
import os
import select
import stat
import sys
import tempfile
from typing import Final, Self

import click

from wolf_async.cli.threads import in_thread, retrieve

__all__ = ["CHUNK", "UNDECODABLE", "RefusedError", "TextFile", "is_regular"]

CHUNK: Final = 64 * 1024
"""Bytes that are read at once."""
UNDECODABLE: Final = "\udcff"
"""What stands in the text for bytes that cannot be decoded; no decoder gives this character."""

_GRACE: Final = 0.1
"""Seconds for which a pipe is silent before its beginning is taken to be all there is for now."""
_BINARY: Final[int] = getattr(os, "O_BINARY", 0)
_NO_TEXT: Final = {
    b"PK\x03\x04": "a spreadsheet or an archive",
    b"\xd0\xcf\x11\xe0": "a spreadsheet",
    b"\x1f\x8b": "a compressed file",
}
_BOMS: Final = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_HANDLER: Final = "wolf_async.undecodable"


def _mark(error: UnicodeError) -> tuple[str, int]:
    if isinstance(error, UnicodeDecodeError):
        return UNDECODABLE, error.end
    raise error


codecs.register_error(_HANDLER, _mark)


class RefusedError(click.ClickException):
    """Say why a file is not used at all: nothing was asked, and the message names the remedy."""

    exit_code = 2


class TextFile:
    """Text of the file at ``path``, or of standard input for ``-``; CR and CRLF come as LF.

    A file is decoded once as a whole to choose its encoding: by its byte order mark, else UTF-8,
    else GB18030, which Chinese offices save. Standard input is copied to a temporary file for
    that, but only where its beginning is not ASCII, or with ``spool``. Otherwise it is read as it
    comes, and later bytes that are no text stand as `UNDECODABLE`. ``encoding`` says otherwise.

    Raises `RefusedError` for what cannot be read, or is no text in the encoding.
    """

    __slots__ = (
        "_decoder",
        "_fd",
        "_is_over",
        "_reading",
        "_waits",
        "encoding",
        "head",
        "is_chosen",
        "lines",
        "name",
    )

    name: str
    """What to call it in messages."""
    encoding: str
    """The encoding that it is read in."""
    is_chosen: bool
    """Whether the encoding was found out, and not given."""
    lines: int | None
    """How many lines there are; ``None`` for what is read as it comes."""
    head: str
    """The beginning, of ``head`` bytes: of a pipe what there was when it first fell silent."""

    def __init__(
        self, path: str, encoding: str | None = None, *, head: int = CHUNK, spool: bool = False
    ) -> None:
        self.name = "standard input" if path == "-" else path
        self.is_chosen = encoding is None
        if encoding is not None:
            _check_encoding(encoding)
        self._fd = _open(path, self.name)
        try:
            self._begin(encoding, head, spool)
        except OSError as error:
            self.close()
            raise self._unreadable(error) from error
        except BaseException:
            self.close()
            raise

    def _begin(self, encoding: str | None, size: int, spool: bool) -> None:
        self._waits = not is_regular(self._fd)
        head = _read_head(self._fd, size)
        _check_head(head, self.name, encoding)
        if self._waits and (spool or (encoding is None and not head[:CHUNK].isascii())):
            self._spool(head)
        elif not self._waits:
            os.lseek(self._fd, -len(head), os.SEEK_CUR)
        self.lines = None
        self._reading: asyncio.Task[bytes] | None = None
        self._is_over = False
        self.encoding = encoding or "utf-8"
        if not self._waits:
            self._choose([encoding] if encoding else _candidates(head))
            head = _read_head(self._fd, size)
        decoder = codecs.getincrementaldecoder(self.encoding)(_HANDLER)
        self._decoder = io.IncrementalNewlineDecoder(decoder, translate=True)
        try:
            self.head = self._decoder.decode(head).removeprefix("\ufeff")
        except UnicodeError as error:  # of UTF-16 without its mark, which no handler mends
            raise self._no_text([self.encoding]) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file, but not standard input."""
        if self._fd:
            os.close(self._fd)

    @property
    def stat(self) -> os.stat_result:
        """What the system says of the open file."""
        return os.fstat(self._fd)

    @property
    def waits(self) -> bool:
        """Whether its end may be a long time off."""
        return self._waits

    async def read_more(self) -> str | None:
        """Read some of the text behind `head`; ``None`` at its end.

        A pipe is read in a thread: requests go on meanwhile. A cancelled read loses nothing: the
        next one gets what it would have got.
        """
        if not self._waits:
            # many rows that need no request would keep Ctrl-C and all else waiting
            await asyncio.sleep(0)
            return self.read_more_at_once()
        try:
            # not through sys.stdin: at its end the interpreter wants the lock of a blocked read
            reading = self._reading = self._reading or self._begin_read()
            await asyncio.wait([reading])
            self._reading = None
            return self._decoded(reading.result())
        except OSError as error:
            raise click.ClickException(self._unreadable(error).message) from error

    def read_more_at_once(self) -> str | None:
        """Do the same for what never has to be waited for."""
        try:
            return self._decoded(self._read())
        except OSError as error:
            raise click.ClickException(self._unreadable(error).message) from error

    def _decoded(self, chunk: bytes) -> str | None:
        if self._is_over:
            return None
        self._is_over = not chunk
        return self._decoder.decode(chunk, final=not chunk)

    def _begin_read(self) -> asyncio.Task[bytes]:
        reading = asyncio.create_task(in_thread(self._read))
        reading.add_done_callback(retrieve)  # whoever asked may have gone when it fails
        return reading

    def _read(self) -> bytes:
        return os.read(self._fd, CHUNK)

    def _choose(self, encodings: list[str]) -> None:
        for encoding in encodings:
            lines = _count_lines(self._fd, encoding)
            if lines is not None:
                self.encoding, self.lines = encoding, lines
                return
        raise self._no_text(encodings)

    def _spool(self, head: bytes) -> None:
        # a descriptor of our own: the file object closes its own, and the system forgets the name
        with tempfile.TemporaryFile() as file:
            file.write(head)
            while chunk := os.read(self._fd, CHUNK):
                file.write(chunk)
            file.flush()
            self._fd = os.dup(file.fileno())
        os.lseek(self._fd, 0, os.SEEK_SET)
        self._waits = False

    def _no_text(self, encodings: list[str]) -> RefusedError:
        tried = " or ".join(encoding.upper() for encoding in encodings)
        return RefusedError(f"{self.name} is no text in {tried}: name its encoding with --encoding")

    def _unreadable(self, error: OSError) -> RefusedError:
        return RefusedError(f"cannot read {self.name}: {error.strerror or error}")


def is_regular(fd: int) -> bool:
    """Return whether it is a file that can be read again, and never has to be waited for."""
    return stat.S_ISREG(os.fstat(fd).st_mode)


def _open(path: str, name: str) -> int:
    try:
        fd = 0 if path == "-" else os.open(path, os.O_RDONLY | _BINARY)
        if stat.S_ISDIR(os.fstat(fd).st_mode):  # raises where standard input is closed
            os.close(fd)
            raise RefusedError(f"cannot read {name}: it is a directory")
    except OSError as error:
        raise RefusedError(f"cannot read {name}: {error.strerror or error}") from error
    return fd


def _check_encoding(encoding: str) -> None:
    try:
        io.TextIOWrapper(io.BytesIO(), encoding)  # raises for codecs that are not about text
        codecs.getincrementaldecoder(encoding)(_HANDLER).decode(b"")  # some take no handler
    except (LookupError, ValueError):
        raise RefusedError(
            f"--encoding {encoding} is none: utf-8, utf-16, gb18030, big5 are examples"
        ) from None


def _check_head(head: bytes, name: str, encoding: str | None) -> None:
    """Raise `RefusedError` for what begins like no text, or in an encoding that is not told."""
    for magic, kind in _NO_TEXT.items():
        if head.startswith(magic):
            raise RefusedError(f"{name} is {kind}: save it as CSV (UTF-8), or unpack it")
    if encoding is None and b"\0" in head[:4] and not head.startswith(tuple(_BOMS)):
        raise RefusedError(
            f"{name} begins like UTF-16 without its mark: name its encoding with --encoding, such"
            " as utf-16-le"
        )


def _candidates(head: bytes) -> list[str]:
    for bom, encoding in _BOMS.items():
        if head.startswith(bom):
            return [encoding]
    return ["utf-8", "gb18030"]


def _count_lines(fd: int, encoding: str) -> int | None:
    """Return how many lines ``fd`` still holds, or ``None`` if it is no text in that encoding."""
    start = os.lseek(fd, 0, os.SEEK_CUR)
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder(encoding)(), translate=True)
    lines, last = 0, "\n"
    try:
        while chunk := os.read(fd, CHUNK):
            text = decoder.decode(chunk)
            lines += text.count("\n")
            last = text[-1:] or last
        text = decoder.decode(b"", final=True)
    except UnicodeError:
        return None
    finally:
        os.lseek(fd, start, os.SEEK_SET)
    return lines + text.count("\n") + ((text[-1:] or last) != "\n")


def _read_head(fd: int, size: int) -> bytes:
    head = b""
    while len(head) < size and (_is_partial(head) or _has_more(fd, len(head))):
        more = os.read(fd, size - len(head))
        if not more:
            break
        head += more
    return head


def _is_partial(head: bytes) -> bool:
    """Return whether the first row is not there as a whole, so far as a pipe tells."""
    row = head.lstrip()
    return b"\n" not in row and b"\r" not in row


def _has_more(fd: int, size: int) -> bool:
    if is_regular(fd):
        return True
    return size < CHUNK and sys.platform != "win32" and bool(select.select([fd], [], [], _GRACE)[0])
