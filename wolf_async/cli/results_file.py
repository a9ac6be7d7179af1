"""The file that ``wolf-async fetch`` writes: whole lines but for a cut last one, and what need not be asked again."""

from __future__ import annotations

import hashlib
import os
import sys
from typing import TYPE_CHECKING, Final, Self

import click
import msgspec

from wolf_async.cli.accounts_file import is_regular

if TYPE_CHECKING:
    from pathlib import Path

    from wolf_async.account import Account
    from wolf_async.models import TaskInit

if sys.platform != "win32":
    import fcntl

__all__ = ["Done", "Failure", "Line", "Outfile"]

_START: Final = b'{"user_id":'
_BINARY: Final[int] = getattr(os, "O_BINARY", 0)


class Failure(msgspec.Struct, omit_defaults=True):
    """What went wrong with an account, or with a row that names none."""

    type: str
    """Name of the error's class, or ``BadRow``."""
    message: str
    """The error as text."""
    http_status: int | msgspec.UnsetType = msgspec.UNSET
    """Status of the HTTP response that said no."""
    code: int | msgspec.UnsetType = msgspec.UNSET
    """Code of its envelope, where it had one."""
    line: int | msgspec.UnsetType = msgspec.UNSET
    """Number of a bad row's line."""
    row: str | msgspec.UnsetType = msgspec.UNSET
    """What stands in a bad row."""


class Line(msgspec.Struct):
    """One line of the file: an account and either its answer or its error; a bad row has no account."""

    user_id: str | None
    sub_user_id: str | None
    init: TaskInit | msgspec.UnsetType = msgspec.UNSET
    error: Failure | msgspec.UnsetType = msgspec.UNSET


class _Read(msgspec.Struct):
    """A line as far as resuming needs it; the answer is checked to be JSON and left as it is."""

    user_id: str | None
    sub_user_id: str | None
    init: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    error: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(_Read)


class Done:
    """A set of accounts in 16 bytes each: of each a digest, in one of many strings that are searched as a whole."""

    __slots__ = ("_buckets", "_count")

    def __init__(self) -> None:
        self._buckets = [bytearray() for _ in range(4096)]
        self._count = 0

    def add(self, user_id: str, sub_user_id: str | None) -> None:
        """Add an account."""
        digest, bucket = self._place(user_id, sub_user_id)
        if digest not in bucket:
            bucket += digest
            self._count += 1

    def discard(self, user_id: str, sub_user_id: str | None) -> None:
        """Remove an account, if it is there."""
        digest, bucket = self._place(user_id, sub_user_id)
        at = bucket.find(digest)
        while at > 0 and at % len(digest):  # the end of one and the beginning of the next
            at = bucket.find(digest, at + 1)
        if at >= 0:
            del bucket[at : at + len(digest)]
            self._count -= 1

    def __contains__(self, account: Account) -> bool:
        digest, bucket = self._place(*account)
        return digest in bucket

    def __len__(self) -> int:
        return self._count

    def _place(self, user_id: str, sub_user_id: str | None) -> tuple[bytes, bytearray]:
        # no id holds a NUL
        name = user_id if sub_user_id is None else f"{user_id}\0{sub_user_id}"
        digest = hashlib.blake2b(name.encode(), digest_size=16).digest()
        return digest, self._buckets[int.from_bytes(digest[:2]) % len(self._buckets)]


class Outfile:
    """The file at ``path``, made anew, or with ``resume`` continued, or with ``overwrite`` emptied.

    Nobody else may write it meanwhile. Raises `click.UsageError` if it cannot be opened, is there although neither was
    asked for, is the file ``source`` that is read, or with ``resume`` holds a line that is not of this command; it is then
    as it was. Raises `click.ClickException` if a line cannot be written.
    """

    __slots__ = ("_end", "_fd", "_path", "_regular", "done")

    done: Done
    """The accounts whose answers are in the file already."""

    def __init__(
        self, path: Path, *, source: int, resume: bool = False, overwrite: bool = False
    ) -> None:
        self._path = path
        self._end = 0
        self.done = Done()
        self._fd = self._open(os.O_CREAT if resume or overwrite else os.O_CREAT | os.O_EXCL)
        try:
            self._regular = is_regular(self._fd)
            self._take(source)
            if resume:
                self._end = self._read()
            if self._regular:
                os.ftruncate(self._fd, self._end)
        except BaseException:
            os.close(self._fd)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        os.close(self._fd)

    def write(self, line: Line) -> None:
        """Append the line; if that cannot be done, nothing of it stays, unless the process is killed meanwhile."""
        left = memoryview(_encoder.encode(line) + b"\n")
        size = len(left)
        try:
            while left:  # a disk that gets full takes a part, and refuses the rest
                left = left[os.write(self._fd, left) :]
        except BaseException as error:
            if self._regular:
                os.ftruncate(self._fd, self._end)
            if isinstance(error, OSError):
                raise click.ClickException(
                    f"cannot write {self._path}: {_reason(error)}"
                ) from error
            raise
        self._end += size

    def _open(self, flags: int) -> int:
        try:
            # for writing alone: who can read a pipe never hears that its other readers have left
            return os.open(self._path, os.O_WRONLY | os.O_APPEND | _BINARY | flags, 0o666)
        except FileExistsError:
            raise click.UsageError(
                f"{self._path} is there already: --resume continues it, --overwrite begins anew"
            ) from None
        except OSError as error:
            raise click.UsageError(f"cannot open {self._path}: {_reason(error)}") from error

    def _take(self, source: int) -> None:
        if os.path.samestat(os.fstat(self._fd), os.fstat(source)) and self._regular:
            raise click.UsageError(f"{self._path} is also what is read")
        if sys.platform == "win32":
            return
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise click.UsageError(f"{self._path} is being written by another process") from None
        except OSError:  # a file system without locks
            return

    def _read(self) -> int:
        """Note the accounts that have their answers, and return where the whole lines end."""
        if not self._regular:
            raise click.UsageError(f"{self._path} is no file that could be continued")
        end = 0
        try:
            file = self._path.open("rb")
        except OSError as error:
            raise click.UsageError(f"cannot read {self._path}: {_reason(error)}") from error
        with file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    self._check_torn(line, number)
                    break
                self._note(line, number)
                end += len(line)
        return end

    def _note(self, line: bytes, number: int) -> None:
        try:
            read = _decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise self._foreign(number) from None
        if (read.init is msgspec.UNSET) == (read.error is msgspec.UNSET):
            raise self._foreign(number)
        if read.user_id is None:
            return
        # the last line of an account counts
        if read.init is msgspec.UNSET:
            self.done.discard(read.user_id, read.sub_user_id)
        else:
            self.done.add(read.user_id, read.sub_user_id)

    def _check_torn(self, line: bytes, number: int) -> None:
        # what a write that was cut short leaves, or zeros where a crash of the machine lost it; anything else is
        # somebody's text, and not ours to cut off
        if not (line.startswith(_START) or _START.startswith(line) or not line.strip(b"\0")):
            raise self._foreign(number)

    def _foreign(self, number: int) -> click.UsageError:
        return click.UsageError(
            f"line {number} of {self._path} is not of this command: nothing was changed"
        )


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
