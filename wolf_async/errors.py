"""Every error that this library raises; one tree, rooted in `WolfError`.

All of them can be pickled and copied, and none of them holds the access token: what the server
sent is cleaned of it before it gets here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Self

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wolf_async.account import Account

__all__ = [
    "DraftProblem",
    "WolfAPIError",
    "WolfAuthError",
    "WolfCircuitOpenError",
    "WolfClosedError",
    "WolfConfigError",
    "WolfConnectionError",
    "WolfDecodeError",
    "WolfDraftError",
    "WolfEndpointError",
    "WolfError",
    "WolfNotFoundError",
    "WolfPermissionError",
    "WolfRateLimitError",
    "WolfServerError",
    "WolfTimeoutError",
    "WolfUncertainError",
]

_TELLING = frozenset({401, 403, 404, 408, 429})
BODY_KEPT = 2048
"""Bytes of a response's body that an error keeps."""


class WolfError(Exception):
    """Base of all errors of this library; its text names the account, where there is one.

    Attributes:
        account: the account that was asked for, where there is one.
        attempts: how many requests were sent for this answer; 0 if none was.
        body: the first 2 KiB of the response's body; empty where there was none, or none that could
            be read.

    """

    account: Account | None
    attempts: int
    body: bytes

    def __init__(
        self,
        message: str = "",
        *,
        account: Account | None = None,
        attempts: int = 0,
        body: bytes = b"",
    ) -> None:
        super().__init__(message)
        self.account = account
        self.attempts = attempts
        self.body = body[:BODY_KEPT]

    def __str__(self) -> str:
        text = super().__str__()
        # a class of a user's own may not have been given one
        account: Account | None = getattr(self, "account", None)
        return text if account is None else f"{text} ({_describe(account)})".lstrip()

    def __copy__(self) -> Self:
        """Return an equal error without the traceback, notes and cause of this one."""
        cls = type(self)
        twin = cls.__new__(cls)
        twin.args = self.args
        fields = self.__dict__.copy()
        fields.pop("__notes__", None)
        twin.__dict__ = fields
        return twin

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self.__copy__()


class WolfConfigError(WolfError):
    """The call or the settings make no sense: no token, a bad base URL or id, plain http."""


class WolfClosedError(WolfError):
    """The client is closed, or was closed while the caller waited."""


class WolfConnectionError(WolfError):
    """There was no usable answer: connection refused or reset, or an answer cut short."""


class WolfCircuitOpenError(WolfConnectionError):
    """The circuit breaker is open: too many requests in a row failed, and this one was not sent.

    Attributes:
        retry_after: seconds after which a request may be sent again.

    """

    retry_after: float

    def __init__(self, message: str = "", *, retry_after: float = 0.0, **context: Any) -> None:
        super().__init__(message, **context)
        self.retry_after = retry_after


class WolfTimeoutError(WolfError, TimeoutError):
    """The answer did not come in time; the message says what was being waited for.

    `Timeouts` sets the times. It is a `TimeoutError` too.
    """


class WolfDecodeError(WolfError):
    """An answer that is not what the API documents.

    Attributes:
        path: where the first deviation is, as in ``$.data.caller_line_list[0].residue``; ``$`` is
            the whole body.

    """

    path: str

    def __init__(self, message: str = "", *, path: str = "$", **context: Any) -> None:
        super().__init__(message, **context)
        self.path = path


class DraftProblem(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One thing that is wrong, or odd, with a draft of a task.

    Attributes:
        path: where in the body, as in ``$.task_extras.line[0].limit``.
        code: what kind of problem it is, as in ``limit_above_residue``; for programs.
        message: what was expected and what came, in one sentence; for people.
        severity: ``"error"`` where the task is not to be created, ``"warning"`` where somebody
            should look.

    """

    path: str
    code: str
    message: str
    severity: Literal["error", "warning"] = "error"


class WolfDraftError(WolfError):
    """A draft of a task that must not be sent, or that cannot be made; no task was created.

    Attributes:
        problems: all that was found, warnings included.

    """

    problems: tuple[DraftProblem, ...]

    def __init__(
        self, message: str = "", *, problems: tuple[DraftProblem, ...] = (), **context: Any
    ) -> None:
        super().__init__(message, **context)
        self.problems = problems


class WolfUncertainError(WolfError):
    """A task may or may not have been created: look before it is tried again.

    The request may have reached the server, and no answer says how it ended. The error behind it is
    its ``__cause__``.

    Attributes:
        draft_name: ``name`` of the draft that was sent, to look for among the account's tasks.

    """

    draft_name: str

    def __init__(self, message: str = "", *, draft_name: str = "", **context: Any) -> None:
        super().__init__(message, **context)
        self.draft_name = draft_name


class WolfAPIError(WolfError):
    """The server said no.

    Attributes:
        http_status: status of the HTTP response.
        code: ``code`` of the API's envelope, of which the vendor documents no list; ``None`` if the
            body was no envelope.
        status: ``status`` of the API's envelope, ``"error"`` as a rule; ``None`` if the body was no
            envelope.
        api_message: ``message`` of the body as one line, or empty.
        request_id: the response's ``X-Request-Id`` header, where a gateway set one.
        retry_after: seconds that the server asked to wait before another attempt (``Retry-After``,
            RFC 9110 §10.2.3); ``None`` if it asked for none.

    """

    http_status: int
    code: int | None
    status: str | None
    api_message: str
    request_id: str | None
    retry_after: float | None

    def __init__(
        self,
        message: str = "",
        *,
        http_status: int = 0,
        code: int | None = None,
        status: str | None = None,
        api_message: str = "",
        request_id: str | None = None,
        retry_after: float | None = None,
        **context: Any,
    ) -> None:
        super().__init__(message, **context)
        self.http_status = http_status
        self.code = code
        self.status = status
        self.api_message = api_message
        self.request_id = request_id
        self.retry_after = retry_after


class WolfAuthError(WolfAPIError):
    """401: the token is missing, unknown or expired, or the token provider failed."""


class WolfPermissionError(WolfAPIError):
    """403: the token may not act for this account."""


class WolfNotFoundError(WolfAPIError):
    """404: no such account, says the API itself; see `WolfEndpointError` for other 404s."""


class WolfEndpointError(WolfAPIError):
    """404 or 405 without a JSON object: there is no such API at this base URL.

    A gateway may say so too while what is behind it is deployed.
    """


class WolfRateLimitError(WolfAPIError):
    """429: too many requests with this token, whatever the account.

    ``retry_after`` is the pause that the server asked for, or what is left of it, in seconds;
    ``None`` if it asked for none. Meanwhile the client sends no request for any account.
    """


class WolfServerError(WolfAPIError):
    """5xx: the server or a gateway before it failed."""


def _describe(account: Account) -> str:
    user_id, sub_user_id = account
    return f"account {user_id}" + ("" if sub_user_id is None else f", sub-account {sub_user_id}")


def deciding(code: int | None, http_status: int) -> int:
    """Return the status that tells the kind of a no: the envelope's code if that is one of HTTP's.

    The envelope comes from the API itself, the response's status perhaps from a gateway before it.
    """
    return code if code is not None and (code in _TELLING or 500 <= code < 600) else http_status


def iter_causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and all causes and contexts behind it, each once: they may form a circle."""
    seen: set[int] = set()
    links: list[BaseException | None] = [error]
    while links:
        link = links.pop()
        if link is None or id(link) in seen:
            continue
        seen.add(id(link))
        yield link
        links += (link.__context__, link.__cause__)
