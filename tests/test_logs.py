"""A thing said once instead of a thousand times."""

from __future__ import annotations

import logging

import pytest

from wolf_async.logs import ThrottledLogger, logger
from wolf_async.testing import FakeClock


def test_each_kind_is_said_once_a_minute_with_how_many_were_left_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = FakeClock()
    log = ThrottledLogger(clock)
    for number in range(5):
        log(logging.WARNING, "kind", "number %d", number)
        log(logging.WARNING, "other", "something else")
    assert caplog.messages == ["number 0", "something else"]
    clock.advance(59.9)
    log(logging.WARNING, "kind", "number %d", 5)
    assert len(caplog.messages) == 2
    clock.advance(0.2)
    log(logging.WARNING, "kind", "number %d", 6)
    log(logging.WARNING, "kind", "number %d", 7)
    assert caplog.messages[2:] == ["number 6 (5 more of this kind since the last time)"]
    clock.advance(61)
    log(logging.WARNING, "kind", "number %d", 8)
    assert caplog.messages[3:] == ["number 8 (1 more of this kind since the last time)"]
    clock.advance(61)
    log(logging.WARNING, "kind", "number %d", 9)
    assert caplog.messages[4:] == ["number 9"]


def test_the_level_is_the_one_given(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "wolf_async")
    log = ThrottledLogger()
    log(logging.DEBUG, "a", "low")
    log(logging.ERROR, "b", "high")
    assert [(record.levelno, record.name) for record in caplog.records] == [
        (logging.DEBUG, "wolf_async"),
        (logging.ERROR, "wolf_async"),
    ]


def test_a_percent_sign_in_an_argument_is_itself(caplog: pytest.LogCaptureFixture) -> None:
    clock = FakeClock()
    log = ThrottledLogger(clock)
    for _ in range(2):
        log(logging.WARNING, "kind", "%s", "100 %d")
        clock.advance(30)
    clock.advance(30)
    log(logging.WARNING, "kind", "%s", "100 %d")
    assert caplog.messages == ["100 %d", "100 %d (1 more of this kind since the last time)"]


def test_the_logger_is_the_librarys_own() -> None:
    assert logger is logging.getLogger("wolf_async")
    assert logger.propagate
    assert logger.level == logging.NOTSET
