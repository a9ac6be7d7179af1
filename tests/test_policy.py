"""Settings that make no sense are refused when they are made, with what was expected."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import msgspec
import pytest

from wolf_async.errors import WolfConfigError
from wolf_async.policy import CachePolicy, RetryPolicy, Timeouts

NO_NUMBER: list[Any] = [True, False, "5", b"5", None, [], float("nan"), 1j, object]
HUGE = 10**400
"""An int that no float can hold, so that no time can be reckoned with it."""

SECONDS = [
    (CachePolicy, "ttl"),
    (CachePolicy, "stale_while_revalidate"),
    (CachePolicy, "stale_if_error"),
    (CachePolicy, "refresh_backoff"),
    (CachePolicy, "error_ttl"),
    (RetryPolicy, "backoff"),
    (RetryPolicy, "max_backoff"),
    (RetryPolicy, "max_retry_after"),
    (RetryPolicy, "budget"),
    (Timeouts, "total"),
    (Timeouts, "attempt"),
    (Timeouts, "connect"),
]
FINITE = {"refresh_backoff", "backoff", "max_backoff", "max_retry_after"}
WHOLE = [(CachePolicy, "max_entries"), (CachePolicy, "max_bytes"), (RetryPolicy, "attempts")]


def refused(cls: type[Any], name: str, value: object) -> str:
    """Return what the refusal says; it names the setting and shows the value."""
    with pytest.raises(WolfConfigError) as refusal:
        cls(**{name: value})
    said = str(refusal.value)
    assert said.startswith(f"{name} must be a")
    assert said.endswith(f"not {value!r}")
    return said


@pytest.mark.parametrize(("cls", "name"), SECONDS)
@pytest.mark.parametrize("value", [*NO_NUMBER, -1, -0.001, float("-inf")], ids=repr)
def test_what_is_no_number_of_seconds_is_refused(cls: type[Any], name: str, value: object) -> None:
    assert "number" in refused(cls, name, value)


@pytest.mark.parametrize(("cls", "name"), SECONDS)
def test_a_number_too_large_to_reckon_with_is_refused(cls: type[Any], name: str) -> None:
    with pytest.raises(WolfConfigError, match=f"^{name} must be a"):
        cls(**{name: HUGE})


@pytest.mark.parametrize(("cls", "name"), WHOLE)
@pytest.mark.parametrize(
    "value", [True, False, "5", 0, -1, 1.0, 2.5, float("nan"), math.inf, []], ids=repr
)
def test_what_is_no_count_is_refused(cls: type[Any], name: str, value: object) -> None:
    assert "a whole number from 1" in refused(cls, name, value)


@pytest.mark.parametrize("name", ["max_entries", "attempts"])
def test_a_count_that_must_be_given_cannot_be_none(name: str) -> None:
    refused(CachePolicy if name == "max_entries" else RetryPolicy, name, None)


@pytest.mark.parametrize("value", [*NO_NUMBER, -0.1, 1.001, 2, math.inf], ids=repr)
def test_what_is_no_fraction_is_refused_as_jitter(value: object) -> None:
    refused(CachePolicy, "jitter", value)


@pytest.mark.parametrize(("cls", "name"), SECONDS)
def test_without_end_is_for_times_that_may_be(cls: type[Any], name: str) -> None:
    if name in FINITE:
        assert "finite" in refused(cls, name, math.inf)
    else:
        assert getattr(cls(**{name: math.inf}), name) == math.inf


@pytest.mark.parametrize("name", ["total", "attempt", "connect"])
def test_a_timeout_of_0_is_refused(name: str) -> None:
    assert "above 0" in refused(Timeouts, name, 0)


@pytest.mark.parametrize("window", ["stale_while_revalidate", "stale_if_error"])
def test_a_ttl_of_0_with_a_stale_window_is_refused(window: str) -> None:
    with pytest.raises(WolfConfigError, match="stale windows need a ttl above 0"):
        CachePolicy(**{"ttl": 0, window: 1})
    assert CachePolicy(ttl=0).ttl == 0
    assert CachePolicy(ttl=0, error_ttl=5).error_ttl == 5


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {
            "ttl": 1,
            "stale_while_revalidate": 2,
            "stale_if_error": 3,
            "refresh_backoff": 0,
            "error_ttl": 0.5,
        },
        {"jitter": 1, "max_entries": 1, "max_bytes": 1},
        {"jitter": 0.0, "max_entries": 10**9, "max_bytes": None},
    ],
)
def test_settings_that_make_sense_are_kept_as_given(settings: dict[str, Any]) -> None:
    policy = CachePolicy(**settings)
    assert {name: getattr(policy, name) for name in settings} == settings


def test_the_documented_defaults() -> None:
    assert msgspec.structs.astuple(CachePolicy()) == (30.0, 0.0, 0.0, 1.0, 0.0, 0.0, 10_000, None)
    assert msgspec.structs.astuple(RetryPolicy()) == (3, 0.2, 5.0, 30.0, 0.1)
    assert msgspec.structs.astuple(Timeouts()) == (30.0, 10.0, 5.0)


@pytest.mark.parametrize("cls", [CachePolicy, RetryPolicy, Timeouts])
def test_settings_are_frozen_and_compare_hash_copy_and_pickle_by_value(cls: type[Any]) -> None:
    settings = cls()
    name = cls.__struct_fields__[0]
    with pytest.raises(AttributeError):
        setattr(settings, name, 99)
    with pytest.raises(AttributeError):
        settings.unheard_of = 1
    with pytest.raises(TypeError):
        cls(unheard_of=1)
    assert settings == cls() == copy.deepcopy(settings) == pickle.loads(pickle.dumps(settings))
    assert hash(settings) == hash(cls())
    assert settings != cls(**{name: 2})


def test_changed_copies_are_checked_too() -> None:
    with pytest.raises(WolfConfigError):
        msgspec.structs.replace(CachePolicy(), ttl=-1)
