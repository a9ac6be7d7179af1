"""The scripts in Python, which scripted tests run on, do what the Lua does on a real server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.fake import EPOCH, FakeRedis
from wolf_async.shared.scripts import SCRIPTS
from wolf_async.testing import FakeClock

if TYPE_CHECKING:
    from shared.servers import Server

KEY, CHANNEL, MESSAGE = "account", "channel", b"sender00account"
TIME = "redis.call('TIME')"
SECOND = 1_000_000
NOTHING_HELD = (3000, 10 * SECOND, 10 * SECOND, 0.0, -1, 0, 0, 0, "")
"""What a lease of three seconds is asked with, where there is no value."""
TOKENS = st.sampled_from(["t1", "t2"])
SECONDS = st.sampled_from([0, 1, 2, 5, 10, 40])
TAKES = st.tuples(
    st.just("take"),
    st.tuples(
        TOKENS,
        st.just(3000),  # lease
        st.sampled_from([0, 1, 5, 10**9]).map(lambda s: s * SECOND),  # accept
        SECONDS.map(lambda s: s * SECOND),  # ttl
        st.sampled_from([0.0, 0.5, 1.0]),  # jitter
        st.sampled_from([-1, 20 * SECOND]),  # stale
        st.sampled_from([0, 1]),  # own
        SECONDS.map(lambda s: s * SECOND),  # error_ttl
        SECONDS.map(lambda s: s * SECOND),  # backoff
        st.sampled_from(["", "t1"]),  # after
    ),
)
PUTS = st.tuples(
    st.just("put"),
    st.tuples(
        TOKENS,
        st.sampled_from([b"body", b"\x00\xff"]),
        st.sampled_from([0, 3, 100]),  # how long ago it was sent; negative ages are the next step's
        st.sampled_from([-1000, 5000, 30000]),  # px
        st.sampled_from([0.0, 0.25, 0.99]),
    ),
)
FAILS = st.tuples(
    st.just("fail"),
    st.tuples(
        TOKENS,
        st.sampled_from([b"error", b""]),
        st.sampled_from(["unwell", "no", "release"]),
        st.sampled_from([6000, 60000]),
    ),
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("pass"), st.tuples(SECONDS)),
        TAKES,
        TAKES,
        PUTS,
        FAILS,
        st.tuples(st.just("renew"), st.tuples(TOKENS, st.just(3000))),
        st.tuples(st.just("void"), st.tuples()),
    ),
    max_size=12,
)


class RealRedis:
    """A real server whose scripts are told the time, and whose keys age with it."""

    def __init__(self, server: Server) -> None:
        self.client: Any = server.client()
        self.client.flushall()
        self.pubsub = self.client.pubsub()
        self.pubsub.subscribe(CHANNEL)
        self.pubsub.get_message(timeout=1)

    def run(self, script: str, now: int, args: tuple[Any, ...]) -> Any:
        text = next(s.text for s in SCRIPTS if s.name == script)
        time = f"{{{now // SECOND}, {now % SECOND}}}"
        return self.client.eval(text.replace(TIME, time), 1, KEY, *args)

    def age(self, seconds: float) -> None:
        left = self.client.pttl(KEY)
        if left >= 0:
            left -= round(seconds * 1000)
            self.client.pexpire(KEY, left) if left > 500 else self.client.delete(KEY)

    def messages(self) -> list[bytes]:
        heard: list[bytes] = []
        while (message := self.pubsub.get_message(timeout=0.002)) is not None:
            heard.append(message["data"])
        return heard

    def close(self) -> None:
        self.pubsub.close()
        self.client.close()


def arguments(script: str, args: tuple[Any, ...], now: int) -> tuple[Any, ...]:
    if script == "put":
        token, body, ago, px, r = args
        return (token, body, now - ago * SECOND, px, r, CHANNEL, MESSAGE)
    return (*args, CHANNEL, MESSAGE) if script in ("fail", "void") else args


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=STEPS)
def test_the_python_scripts_equal_the_lua(server: Server, steps: list[Any]) -> None:
    clock = FakeClock()
    fake, real = FakeRedis(clock), RealRedis(server)
    try:
        for script, given_args in steps:
            if script == "pass":
                clock.advance(given_args[0])
                fake.expire()
                real.age(given_args[0])
                continue
            args = arguments(script, given_args, fake.now)
            assert real.run(script, fake.now, args) == fake.run(script, KEY, args), script
            stored = real.client.hgetall(KEY)
            assert {k.decode(): v for k, v in stored.items()} == fake.hashes.get(KEY, {})
            expires = fake.expires.get(KEY, -2000 / 1e3 + fake.now / 1000)
            left = real.client.pttl(KEY)
            assert left == pytest.approx(expires - fake.now / 1000, abs=900)
        assert real.messages() == fake.published
    finally:
        real.close()


def test_an_epoch_is_made_once_and_changed_by_a_clear(server: Server) -> None:
    fake, real = FakeRedis(FakeClock(EPOCH)), RealRedis(server)
    try:
        for script, args in (
            ("hello", ("e1", CHANNEL)),
            ("hello", ("e2", "")),
            ("clear", ("e3", CHANNEL, b"sender00")),
            ("hello", ("e4", "")),
        ):
            assert real.run(script, 0, args) == fake.run(script, KEY, args)
        assert real.messages() == fake.published == [b"h", b"csender00e3"]
    finally:
        real.close()


def test_a_lease_that_is_asked_for_again_is_granted_again(server: Server) -> None:
    """A client that had no reply may send once more what the server has done already."""
    real = RealRedis(server)
    try:
        replies = [
            real.run("take", now * SECOND, (token, *NOTHING_HELD))
            for now, token in ((1, "t1"), (2, "t2"), (3, "t1"), (5, "t2"), (7, "t2"))
        ]
        waits = [[b"wait", 1 * SECOND, 2 * SECOND, b"t1"], [b"wait", 2 * SECOND, SECOND, b"t1"]]
        grants = [[b"grant", now * SECOND] for now in (1, 3, 7)]
        assert replies == [grants[0], waits[0], grants[1], waits[1], grants[2]]
        assert real.client.hget(KEY, "w") is None, "nobody has waited for the last one"
    finally:
        real.close()


def test_who_waits_for_a_lease_is_not_forgotten_when_it_is_granted_again(server: Server) -> None:
    real = RealRedis(server)
    try:
        for token in ("t1", "t2", "t1"):
            real.run("take", SECOND, (token, *NOTHING_HELD))
        real.run("put", SECOND, ("t1", b"body", SECOND, 5000, 0.0, CHANNEL, MESSAGE))
        assert real.messages() == [b"d" + MESSAGE]
    finally:
        real.close()
