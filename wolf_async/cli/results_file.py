"""Write files of whole lines, and continue them.

If the process is killed, at most the last line is cut.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import click
import msgspec

from wolf_async.cli.text_file import is_regular
from wolf_async.cli.threads import in_thread, to_the_end
from wolf_async.errors import WolfAPIError, WolfError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from wolf_async.account import Account
    from wolf_async.cli.accounts_file import BadRow

if sys.platform != "win32":
    import fcntl

__all__ = [
    "Done",
    "Failure",
    "LinesFile",
    "Result",
    "beside",
    "failure_of",
    "failure_of_row",
    "note_result",
    "open_errors",
]

_BINARY: Final[int] = getattr(os, "O_BINARY", 0)
_STDOUT: Final = Path("-")
_SYNC_EVERY: Final = 0.5
_LAST_WRITE: Final = 2.0
"""Seconds for which a line that is being written is waited for at the end."""


class Failure(msgspec.Struct, omit_defaults=True):
    """Say what went wrong with an account, or with a row that names none."""

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


def failure_of(error: WolfError) -> Failure:
    """Return what a line says of an error."""
    failure = Failure(type(error).__name__, str(error))
    if isinstance(error, WolfAPIError):
        failure.http_status = error.http_status
        failure.code = msgspec.UNSET if error.code is None else error.code
    return failure


def failure_of_row(row: BadRow) -> Failure:
    """Return what a line says of a bad row."""
    return Failure("BadRow", f"line {row.line}: {row.why}", line=row.line, row=row.text)


class Result(msgspec.Struct):
    """A line: an account and either its answer or its error; a bad row has no account."""

    user_id: str | None
    sub_user_id: str | None
    init: Any = msgspec.UNSET
    """A `TaskInit`, or a mapping of some of its sections."""
    error: Failure | msgspec.UnsetType = msgspec.UNSET


class _Read(msgspec.Struct):
    """Hold of a line what resuming needs.

    The answer is checked to be JSON, and left as it is.
    """

    user_id: str | None
    sub_user_id: str | None
    init: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    error: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(_Read)


class Done:
    """Hold a set of accounts in 16 bytes each.

    Of each there is a digest, in one of many strings that are searched as a whole.
    """

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


def note_result(line: bytes, done: Done) -> bool:
    """Note in ``done`` whether the line's account has its answer; return whether it is of `fetch`.

    Of several lines of one account the last one counts: an earlier form of the file had errors
    among its lines.
    """
    try:
        read = _decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    if (read.init is msgspec.UNSET) == (read.error is msgspec.UNSET):
        return False
    if read.user_id is None:
        return True
    if read.init is msgspec.UNSET:
        done.discard(read.user_id, read.sub_user_id)
    else:
        done.add(read.user_id, read.sub_user_id)
    return True


def beside(out: Path, word: str) -> Path:
    """Return a name beside ``out``: answers.errors.jsonl for answers.jsonl and ``errors``."""
    return out.with_name(f"{out.stem}.{word}{out.suffix or '.jsonl'}")


class LinesFile:
    """The file at ``path``, made anew, or with ``resume`` continued, or with ``overwrite`` emptied.

    ``-`` is standard output. ``note`` gets each whole line that is there, and returns whether it
    is one of the command; ``start`` is how such a line begins. ``others`` are the files that it
    must not be, ``remedy`` is what to say of a file that is there. Nobody else may write it
    meanwhile.

    Raises `click.UsageError` if it cannot be opened, is there although neither was asked for, is
    one of the others, or holds a line that is not of the command; it is then as it was.
    """

    __slots__ = (
        "_end",
        "_fd",
        "_is_dirty",
        "_is_new",
        "_note",
        "_path",
        "_remedy",
        "_start",
        "is_regular",
    )

    is_regular: bool
    """Whether it is a file, and no pipe, terminal or device."""

    def __init__(
        self,
        path: Path,
        *,
        note: Callable[[bytes], bool],
        start: bytes = b'{"user_id":',
        others: Sequence[os.stat_result] = (),
        resume: bool = False,
        overwrite: bool = False,
        remedy: str = "--resume continues it, --overwrite begins anew",
    ) -> None:
        self._path = path
        self._remedy = remedy
        self._note = note
        self._start = start
        self._end = 0
        self._is_dirty = False
        self._is_new = not path.exists()
        # a pipe or a device is always there
        is_kept = not (resume or overwrite) and (path.is_file() or self._is_new)
        self._fd = self._open(os.O_CREAT | os.O_EXCL if is_kept else os.O_CREAT)
        try:
            self.is_regular = is_regular(self._fd) and path != _STDOUT
            self._take(others)
            if resume:
                self._end = self._read()
            if self.is_regular:
                os.ftruncate(self._fd, self._end)
        except BaseException:
            self._close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *exc_info: object) -> None:
        self._close()
        # as when another file cannot be opened: the next try is not to find it there already
        if kind is not None and self._is_new and self.is_regular and not self._end:
            self._path.unlink()

    @property
    def stat(self) -> os.stat_result:
        """What the system says of the open file."""
        return os.fstat(self._fd)

    def clear(self) -> None:
        """Take away all that is in it."""
        if self.is_regular:
            self._end = 0
            os.ftruncate(self._fd, 0)

    async def append(self, line: msgspec.Struct) -> None:
        """Append the line; if that cannot be done, nothing of it stays, unless we are killed.

        A pipe may have to be waited for, and is: what is under way goes on meanwhile. Raises
        `click.ClickException` if it cannot be written, `BrokenPipeError` if the reader has gone.
        """
        data = _encoder.encode(line) + b"\n"
        if self.is_regular:
            self._write(data)
            return
        await to_the_end(in_thread(lambda: self._write(data)), _LAST_WRITE)

    async def sync(self) -> None:
        """Sync what was written to the disk, if anything was."""
        if self._is_dirty and self.is_regular:
            self._is_dirty = False
            await in_thread(lambda: os.fsync(self._fd))

    async def keep_synced(self) -> None:
        """Sync twice a second, and once more when cancelled."""
        try:
            while True:
                await asyncio.sleep(_SYNC_EVERY)
                await self.sync()
        finally:
            if self.is_regular:
                os.fsync(self._fd)

    def sync_folder(self) -> None:
        """Sync the name of the file to the disk too, where folders can be synced."""
        if self.is_regular and sys.platform != "win32":
            folder = os.open(self._path.parent, os.O_RDONLY)
            with contextlib.suppress(OSError):
                os.fsync(folder)
            os.close(folder)

    def _write(self, data: bytes) -> None:
        left = memoryview(data)
        try:
            while left:  # a disk that gets full takes a part, and refuses the rest
                left = left[os.write(self._fd, left) :]
        except BaseException as error:
            if self.is_regular:
                os.ftruncate(self._fd, self._end)
            if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
                raise click.ClickException(
                    f"cannot write {self._path}: {_reason(error)}"
                ) from error
            raise
        self._end += len(data)
        self._is_dirty = True

    def _open(self, flags: int) -> int:
        if self._path == _STDOUT:
            return 1
        try:
            # for writing alone: who can read a pipe never hears that its other readers have left
            return os.open(self._path, os.O_WRONLY | os.O_APPEND | _BINARY | flags, 0o666)
        except FileExistsError:
            raise click.UsageError(f"{self._path} is there already: {self._remedy}") from None
        except OSError as error:
            raise click.UsageError(f"cannot open {self._path}: {_reason(error)}") from error

    def _close(self) -> None:
        if self._path != _STDOUT:
            os.close(self._fd)

    def _take(self, others: Sequence[os.stat_result]) -> None:
        if self.is_regular and any(os.path.samestat(self.stat, other) for other in others):
            raise click.UsageError(f"{self._path} is also read or written for something else")
        if sys.platform == "win32" or self._path == _STDOUT:
            return
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise click.UsageError(f"{self._path} is being written by another process") from None
        except OSError:  # a file system without locks
            return

    def _read(self) -> int:
        """Let each line be noted, and return where the whole lines end."""
        if not self.is_regular:
            raise click.UsageError(f"{self._path} is no file that could be continued")
        end = 0
        try:
            file = self._path.open("rb")
        except OSError as error:
            raise click.UsageError(f"cannot read {self._path}: {_reason(error)}") from error
        with file:
            for number, line in enumerate(file, 1):
                if not (self._note(line) if line.endswith(b"\n") else self._is_torn(line)):
                    raise click.UsageError(
                        f"line {number} of {self._path} is not of this command: nothing was changed"
                    )
                end += len(line) if line.endswith(b"\n") else 0
        return end

    def _is_torn(self, line: bytes) -> bool:
        """Return whether the line is what a write leaves that was cut short, or a crash.

        A crash leaves zeros. Anything else is somebody's text, and not ours to cut off.
        """
        start = self._start
        return line.startswith(start) or start.startswith(line) or not line.strip(b"\0")


def open_errors(path: Path, others: Sequence[os.stat_result]) -> LinesFile:
    """Begin a file of failures anew, unless something else is in it than those of earlier runs."""
    is_there = path.is_file()
    file = LinesFile(
        path,
        note=functools.partial(note_result, done=Done()),
        others=others,
        resume=is_there,
        overwrite=not is_there,
    )
    file.clear()
    return file


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
