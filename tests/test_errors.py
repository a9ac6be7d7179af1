"""Errors survive pickling and copying whole, and each waiter's copy is its own."""

from __future__ import annotations

import copy
import pickle
from dataclasses import dataclass
from typing import Any

import pytest

from wolf_async import errors
from wolf_async.account import Account
from wolf_async.cache.inflight import own_copy
from wolf_async.errors import (
    BODY_KEPT,
    DraftProblem,
    WolfAPIError,
    WolfAuthError,
    WolfCircuitOpenError,
    WolfClosedError,
    WolfConfigError,
    WolfConnectionError,
    WolfDecodeError,
    WolfDraftError,
    WolfEndpointError,
    WolfError,
    WolfNotFoundError,
    WolfPermissionError,
    WolfRateLimitError,
    WolfServerError,
    WolfTimeoutError,
    WolfUncertainError,
)

CONTEXT: dict[str, Any] = {"account": Account("u", "s"), "attempts": 3, "body": b"<html>\xff"}
API: dict[str, Any] = {
    "http_status": 429,
    "code": 6007,
    "status": "error",
    "api_message": "参数错误",
    "request_id": "r-1",
    "retry_after": 2.5,
}
CLASSES: list[type[WolfError]] = [
    value
    for value in (getattr(errors, name) for name in errors.__all__)
    if issubclass(value, WolfError)
]
PROBLEM = DraftProblem(path="$.name", code="name_empty", message="name must not be empty")


def fields_of(cls: type[WolfError]) -> dict[str, Any]:
    """All that an error of that class can be given besides its message."""
    own: dict[str, Any] = {}
    if issubclass(cls, WolfDecodeError):
        own = {"path": "$.data[0]"}
    if issubclass(cls, WolfDraftError):
        own = {"problems": (PROBLEM,)}
    if issubclass(cls, WolfUncertainError):
        own = {"draft_name": "催收"}
    if issubclass(cls, WolfAPIError):
        own = API
    return CONTEXT | own


def full(cls: type[WolfError]) -> WolfError:
    return cls("it went wrong", **fields_of(cls))


every_class = pytest.mark.parametrize("cls", CLASSES)


def assert_same(twin: BaseException, original: BaseException) -> None:
    assert type(twin) is type(original)
    assert twin is not original
    assert twin.args == original.args
    assert str(twin) == str(original)
    assert repr(twin) == repr(original)
    assert vars(twin) == vars(original)


@every_class
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_error_survives_pickling(cls: type[WolfError], protocol: int) -> None:
    for error in (cls(), cls("it went wrong"), full(cls)):
        assert_same(pickle.loads(pickle.dumps(error, protocol)), error)


@every_class
def test_every_error_survives_copying(cls: type[WolfError]) -> None:
    for error in (cls(), cls("it went wrong"), full(cls)):
        for duplicate in (copy.copy(error), copy.deepcopy(error), copy.deepcopy([error])[0]):
            assert_same(duplicate, error)


@every_class
def test_every_error_keeps_all_that_it_was_given(cls: type[WolfError]) -> None:
    error = full(cls)
    assert error.args == ("it went wrong",)
    assert {name: getattr(error, name) for name in fields_of(cls)} == fields_of(cls)
    assert "it went wrong" in repr(error)
    for duplicate in (copy.copy(error), pickle.loads(pickle.dumps(error)), twin_of(error)):
        assert {name: getattr(duplicate, name) for name in fields_of(cls)} == fields_of(cls)


@every_class
def test_the_text_of_an_error_names_the_account(cls: type[WolfError]) -> None:
    assert str(cls("it went wrong")) == "it went wrong"
    error = cls("it went wrong", account=Account("u"))
    assert str(error) == "it went wrong (account u)"
    error.account = Account("u", "s")
    assert str(error) == "it went wrong (account u, sub-account s)"
    assert str(cls(account=Account("u"))) == "(account u)"


@every_class
def test_every_error_has_all_its_fields_also_when_nothing_was_given(cls: type[WolfError]) -> None:
    error = cls("it went wrong")
    assert (error.account, error.attempts, error.body) == (None, 0, b"")
    assert all(hasattr(error, name) for name in fields_of(cls))


@every_class
def test_every_error_refuses_fields_that_it_does_not_have(cls: type[WolfError]) -> None:
    with pytest.raises(TypeError):
        cls("it went wrong", unheard_of=1)  # type: ignore[call-arg]


def test_only_the_first_two_kilobytes_of_a_body_are_kept() -> None:
    assert BODY_KEPT == 2048
    assert WolfError(body=b"x" * 5000).body == b"x" * 2048
    assert WolfError(body=b"x" * 2048).body == b"x" * 2048


def test_the_tree_of_errors() -> None:
    direct: dict[type[WolfError], type[BaseException]] = {
        WolfConfigError: WolfError,
        WolfClosedError: WolfError,
        WolfConnectionError: WolfError,
        WolfCircuitOpenError: WolfConnectionError,
        WolfTimeoutError: WolfError,
        WolfDecodeError: WolfError,
        WolfDraftError: WolfError,
        WolfUncertainError: WolfError,
        WolfAPIError: WolfError,
        WolfAuthError: WolfAPIError,
        WolfPermissionError: WolfAPIError,
        WolfNotFoundError: WolfAPIError,
        WolfEndpointError: WolfAPIError,
        WolfRateLimitError: WolfAPIError,
        WolfServerError: WolfAPIError,
    }
    assert {WolfError, *direct} == set(CLASSES)
    for cls, base in direct.items():
        assert cls.__bases__[0] is base
    assert WolfError.__bases__ == (Exception,)
    assert WolfTimeoutError.__bases__ == (WolfError, TimeoutError)
    assert {cls.__name__ for cls in CLASSES if issubclass(cls, OSError)} == {"WolfTimeoutError"}


def test_a_timeout_is_caught_as_one() -> None:
    error = WolfTimeoutError("late", attempts=2)
    with pytest.raises(TimeoutError):
        raise error
    assert (error.errno, error.strerror, str(error)) == (None, None, "late")


@every_class
def test_a_copy_has_nothing_of_what_happened_to_the_original(cls: type[WolfError]) -> None:
    original = full(cls)
    original.add_note("a note")
    try:
        raise original from ValueError("the cause")
    except WolfError:
        pass
    for duplicate in (copy.copy(original), copy.deepcopy(original)):
        assert duplicate.__traceback__ is None
        assert duplicate.__cause__ is None
        assert not hasattr(duplicate, "__notes__")
    assert isinstance(original.__cause__, ValueError)
    assert original.__notes__ == ["a note"]


# --- twins ----------------------------------------------------------------------------------------


def twin_of(error: BaseException) -> BaseException:
    """Return what a waiter gets who waited for a load that ended in ``error``."""
    return own_copy(error)


class OwnInitError(Exception):
    def __init__(self, host: str, *, port: int) -> None:
        super().__init__(f"cannot reach {host}:{port}")
        self.host = host
        self.port = port


class OwnOSError(OSError):
    """As aiohttp's connector errors are: an `OSError` that is made from something else."""

    def __init__(self, key: str, error: OSError) -> None:
        super().__init__(error.errno, error.strerror, error.filename)
        self.key = key


@dataclass(frozen=True)
class FrozenError(Exception):
    code: int


class OwnGroupError(ExceptionGroup[Exception]):
    def __init__(  # pyright: ignore[reportInconsistentConstructor]
        self, message: str, members: list[Exception]
    ) -> None:
        super().__init__(message, members)
        self.extra = "extra"


class DerivedError(WolfAPIError):
    """A user's own error on top of this library's."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"because {reason}", http_status=418)
        self.reason = reason


TWINNED: list[tuple[BaseException, tuple[str, ...]]] = [
    (ValueError("bad"), ()),
    (ValueError(), ()),
    (KeyError("key"), ()),
    (OSError(5, "bad", "file", None, "other"), ("errno", "strerror", "filename", "filename2")),
    (ConnectionResetError(104, "reset"), ("errno", "strerror")),
    (TimeoutError(), ("errno",)),
    (
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "why"),
        ("encoding", "object", "start", "end", "reason"),
    ),
    (ImportError("no", name="name", path="path"), ("name", "path")),
    (SystemExit(3), ("code",)),
    (ExceptionGroup("two", [ValueError(1), KeyError(2)]), ("message",)),
    (OwnGroupError("group", [ValueError(1)]), ("message", "extra")),
    (DerivedError("teapot"), ("reason", "http_status", "attempts")),
    *((full(cls), tuple(fields_of(cls))) for cls in CLASSES),
]


@pytest.mark.parametrize(
    ("original", "attributes"), TWINNED, ids=lambda value: type(value).__name__
)
def test_a_twin_is_equal_to_its_original_and_its_own(
    original: BaseException, attributes: tuple[str, ...]
) -> None:
    for twin in (twin_of(original), twin_of(twin_of(original))):
        assert type(twin) is type(original)
        assert twin is not original
        assert twin.args == original.args
        assert str(twin) == str(original)
        for name in attributes:
            assert getattr(twin, name) == getattr(original, name), name
    twin = twin_of(original)
    assert twin.__cause__ is None
    assert twin.__traceback__ is None
    assert original.__cause__ is None


def test_a_twin_of_a_group_has_the_same_members() -> None:
    members = [ValueError(1), KeyError(2)]
    for group in (ExceptionGroup("two", members), OwnGroupError("two", list(members))):
        twin: Any = twin_of(group)
        assert list(twin.exceptions) == members
        assert twin.subgroup(KeyError).exceptions == (members[1],)


@pytest.mark.parametrize("make", [ValueError, WolfError, ConnectionResetError])
def test_notes_are_not_shared_between_twins(make: Any) -> None:
    original = make("bad")
    original.add_note("first")
    one, other = twin_of(original), twin_of(original)
    one.add_note("mine")
    other.add_note("yours")
    assert original.__notes__ == ["first"]
    assert [note for note in one.__notes__ if note != "first"] == ["mine"]
    assert [note for note in other.__notes__ if note != "first"] == ["yours"]


@pytest.mark.parametrize("make", [ValueError, WolfError])
def test_attributes_of_a_twin_are_its_own(make: Any) -> None:
    original = make("bad")
    original.extra = "shared"
    twin: Any = twin_of(original)
    assert twin.extra == "shared"
    twin.extra = "mine"
    assert original.extra == "shared"


def test_the_originals_own_cause_stays_with_it() -> None:
    original = WolfConnectionError("down")
    cause = ConnectionResetError(104, "reset")
    original.__cause__ = cause
    twin = twin_of(original)
    assert twin.__cause__ is None
    assert original.__cause__ is cause


class NotCopyableError(Exception):
    def __copy__(self) -> NotCopyableError:
        raise RuntimeError("no copies")


class CopiesToItselfError(Exception):
    def __copy__(self) -> CopiesToItselfError:
        return self


class CopiesToOtherError(Exception):
    def __copy__(self) -> str:
        return "no error at all"


class UnprintableError(NotCopyableError):
    def __str__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize(
    "original",
    [
        NotCopyableError("why"),
        OwnInitError("host", port=80),
        OwnOSError("key", OSError(5, "bad", "file")),
        CopiesToItselfError("why"),
        CopiesToOtherError("why"),
        FrozenError(7),
        UnprintableError("why"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_cannot_be_copied_is_told_as_an_error_of_this_library(original: BaseException) -> None:
    one, other = twin_of(original), twin_of(original)
    assert one is not other
    for twin in (one, other):
        assert twin is not original
        assert type(twin) is WolfError
        assert twin.__cause__ is None
        assert type(original).__name__ in repr(twin)


@pytest.mark.parametrize("notes", [None, "a note", 5], ids=repr)
def test_notes_that_are_no_list_do_not_cost_the_news(notes: Any) -> None:
    original = ValueError("bad")
    original.__notes__ = notes
    twin = twin_of(original)
    assert twin.__cause__ is None
    assert "bad" in str(twin)
