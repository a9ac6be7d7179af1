"""Encode what stands in the server: names, bodies and errors.

The names tell nobody an account, and nothing is a pickle.
"""

from __future__ import annotations

import sys
from hashlib import blake2b, sha256
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeAlias, TypedDict, cast

import msgspec

from wolf_async.account import Account
from wolf_async.errors import (
    WolfAPIError,
    WolfAuthError,
    WolfConfigError,
    WolfConnectionError,
    WolfDecodeError,
    WolfEndpointError,
    WolfError,
    WolfNotFoundError,
    WolfPermissionError,
    WolfRateLimitError,
    WolfServerError,
    WolfTimeoutError,
)

if TYPE_CHECKING:
    from collections.abc import Hashable

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    try:
        from backports import zstd
    except ImportError as error:
        raise ImportError(
            'a shared tier needs the package backports.zstd: pip install "wolf-async[redis]"'
        ) from error

__all__ = [
    "Names",
    "decode_body",
    "decode_error",
    "decode_key",
    "encode_body",
    "encode_error",
    "encode_key",
]

_PLAIN: Final = b"\x00"
_ZSTD: Final = b"\x01"
_LEVEL: Final = 1
_LARGEST: Final = 63
"""Bits of a number that msgpack takes, whatever its sign."""
_Scalar: TypeAlias = bool | int | float | str | None


class Names:
    """The names of one namespace in the server: of its channel, its epoch and its accounts.

    ``base_url`` and ``namespace`` say what is shared; ``token`` is the credential,
    or empty where a namespace stands in for it. Who does not have the token
    cannot tell which account a name belongs to.
    """

    __slots__ = ("_secret", "channel", "epoch_key")

    def __init__(self, base_url: str, namespace: str, token: str) -> None:
        digest = blake2b(key=sha256(token.encode()).digest(), digest_size=64)
        for part in (base_url.encode(), namespace.encode()):
            digest.update(len(part).to_bytes(8, "big") + part)
        root = digest.digest()
        self.channel = f"wolf1:{root[:12].hex()}"
        """The channel of the namespace's messages; all its keys begin like that too."""
        self.epoch_key = f"{self.channel}:epoch"
        self._secret = root[12:44]

    def key(self, epoch: str, account: bytes) -> str:
        """Return the name of the hash of an account, whose key is given as `encode_key` made it."""
        digest = blake2b(account, key=self._secret, digest_size=16)
        return f"{self.channel}:{epoch}:{digest.hexdigest()}"


def encode_key(key: Hashable) -> bytes:
    """Return ``key`` as bytes that are the same in every process.

    Raises `WolfConfigError` for a key that would not come back as it was.
    """
    try:
        encoded = msgspec.msgpack.encode(_as_one(key))
        if decode_key(encoded) == key:
            return encoded
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError):
        pass
    raise WolfConfigError(
        "with a shared tier a key must be a str, bytes, a number, None or a tuple of these,"
        f" not {key!r}"
    )


def _as_one(value: object) -> object:
    """Return the one that stands for all keys that are equal: ``1`` for ``1.0`` and ``True``."""
    if isinstance(value, tuple):
        return tuple(map(_as_one, cast("tuple[object, ...]", value)))
    if isinstance(value, float) and value.is_integer() and -(2.0**63) <= value < 2.0**64:
        return int(value)
    return int(value) if isinstance(value, bool) else value


def decode_key(encoded: bytes) -> Any:
    """Return the key that `encode_key` was given.

    Raises `msgspec.MsgspecError` or `ValueError` for other bytes.
    """
    return _as_key(msgspec.msgpack.decode(encoded))


def _as_key(value: object) -> object:
    if isinstance(value, list):
        return tuple(map(_as_key, cast("list[object]", value)))
    if isinstance(value, (dict, msgspec.msgpack.Ext)):
        raise ValueError("a map or an extension is no key")  # noqa: TRY004 - of bytes, not a type
    return value


def encode_body(body: bytes, compress_from: int) -> bytes:
    """Return ``body`` with a first byte that tells its format, compressed from so many bytes on."""
    if len(body) < compress_from:
        return _PLAIN + body
    return _ZSTD + zstd.compress(body, _LEVEL)


def decode_body(stored: bytes, max_body: int) -> bytes:
    """Return the body that `encode_body` was given.

    Raises `ValueError` if ``stored`` is no body, or one of more than ``max_body`` bytes once it is
    decompressed.
    """
    if stored[:1] == _PLAIN:
        return stored[1:]
    if stored[:1] != _ZSTD:
        raise ValueError(f"a body of an unknown format: {stored[:1]!r}")
    decompressor = zstd.ZstdDecompressor()
    try:
        # no further than that: a few bytes may be worth gigabytes
        body = decompressor.decompress(stored[1:], max_body + 1)
    except zstd.ZstdError as error:
        raise ValueError(f"a body that cannot be decompressed: {error}") from error
    if not decompressor.eof or len(body) > max_body:
        raise ValueError(f"a body that is cut short, or of more than {max_body} bytes")
    return body


class _Fields(TypedDict, total=False):
    """The plain fields of all kinds of errors, each of the type that its readers count on."""

    attempts: int
    path: str
    http_status: int
    code: int | None
    status: str | None
    api_message: str
    request_id: str | None
    retry_after: Annotated[float, msgspec.Meta(ge=0)] | None


class _SharedError(msgspec.Struct, frozen=True, array_like=True):
    kind: str
    text: str
    account: tuple[str, str | None] | None = None
    body: bytes = b""
    fields: _Fields = {}


_KINDS: Final[dict[str, type[WolfError]]] = {
    kind.__name__: kind
    for kind in (
        WolfError,
        WolfConnectionError,
        WolfTimeoutError,
        WolfDecodeError,
        WolfAPIError,
        WolfAuthError,
        WolfPermissionError,
        WolfNotFoundError,
        WolfEndpointError,
        WolfRateLimitError,
        WolfServerError,
    )
}
"""The errors that keep their class from one process to another."""
_decode_error: Final = msgspec.msgpack.Decoder(_SharedError).decode


def encode_error(error: BaseException) -> bytes:
    """Return the class, text and plain fields of ``error``, encoded.

    If its class is not ours, class and text are all.
    """
    kind = type(error).__name__
    if _KINDS.get(kind) is not type(error):
        return msgspec.msgpack.encode(_SharedError("WolfError", _as_text(f"{kind}: {error}")))
    assert isinstance(error, WolfError)
    scalars = {name: value for name, value in vars(error).items() if isinstance(value, _Scalar)}
    fields = {name: _sendable(value) for name, value in scalars.items()}
    account = None if error.account is None else (error.account[0], error.account[1])
    text = _as_text(str(error.args[0]) if error.args else "")
    shared = _SharedError(kind, text, account, error.body, cast("_Fields", fields))
    return msgspec.msgpack.encode(shared)


def _sendable(value: _Scalar) -> _Scalar:
    """Return a field as msgpack takes it; ``None`` for a number above its 64 bits."""
    if isinstance(value, str):
        return _as_text(value)
    return None if isinstance(value, int) and value.bit_length() > _LARGEST else value


def _as_text(text: str) -> str:
    """Return ``text`` with escapes for what is none, as of bytes in a header."""
    return text.encode(errors="backslashreplace").decode()


def decode_error(stored: bytes) -> WolfError:
    """Return an error like the one that `encode_error` was given.

    Raises `ValueError` if ``stored`` is no error.
    """
    try:
        shared = _decode_error(stored)
    except (msgspec.MsgspecError, UnicodeDecodeError) as broken:
        raise ValueError(f"an error that cannot be decoded: {broken}") from broken
    account = None if shared.account is None else Account(*shared.account)
    error = _KINDS.get(shared.kind, WolfError)(shared.text, account=account, body=shared.body)
    for name, value in shared.fields.items():
        if name in vars(error):
            setattr(error, name, value)
    return error
