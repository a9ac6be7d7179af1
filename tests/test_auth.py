"""Tokens alone: one call of the provider for all, one more after a refusal, no failure is kept."""

from __future__ import annotations

import asyncio
import pickle
from typing import Any

import pytest
from client.virtual_time import run

from wolf_async import WolfAuthError, WolfClosedError, WolfConfigError
from wolf_async.upstream.auth import Credential, Tokens


class Provider:
    def __init__(self, *gives: Any, seconds: float = 1.0) -> None:
        self.gives = list(gives)
        self.calls = 0
        self.seconds = seconds

    async def __call__(self) -> str:
        self.calls += 1
        number = self.calls
        await asyncio.sleep(self.seconds)
        given = self.gives.pop(0) if self.gives else f"token-{number}"
        if isinstance(given, BaseException):
            raise given
        token: str = given
        return token


def test_a_fixed_token_is_at_hand_and_not_renewable() -> None:
    tokens = Tokens("abc")
    credential = tokens.at_hand()
    assert credential is not None
    assert dict(credential.headers) == {"Authorization": "Bearer abc"}
    assert not tokens.renewable

    async def main() -> None:
        assert await tokens.get() is credential
        assert await tokens.renew(credential) is credential
        await tokens.aclose()

    run(main())


def test_a_provider_is_called_at_first_need_and_once() -> None:
    async def main() -> None:
        provider = Provider()
        tokens = Tokens(provider)
        assert tokens.renewable
        assert tokens.at_hand() is None
        got = await asyncio.gather(*(tokens.get() for _ in range(9)))
        assert len(set(map(id, got))) == 1
        # a token is kept until it is refused, however long that takes; nobody else sets this clock
        held = tokens._held  # pyright: ignore[reportPrivateUsage]
        assert held is not None
        held._clock = lambda: 1e12  # pyright: ignore[reportPrivateUsage]
        assert tokens.at_hand() is got[0]
        assert got[0].headers["authorization"] == "Bearer token-1"
        assert provider.calls == 1

    run(main())


def test_a_refused_credential_is_renewed_once_for_all_who_saw_it() -> None:
    async def main() -> None:
        provider = Provider()
        tokens = Tokens(provider)
        first = await tokens.get()
        got = await asyncio.gather(*(tokens.renew(first) for _ in range(9)))
        assert {credential.token for credential in got} == {"token-2"}
        assert (await tokens.renew(first)).token == "token-2"  # late news
        assert provider.calls == 2
        assert (await tokens.renew(got[0])).token == "token-3"

    run(main())


def test_who_needs_a_token_during_a_refresh_waits_for_it() -> None:
    async def main() -> None:
        provider = Provider()
        tokens = Tokens(provider)
        first = await tokens.get()
        renewing = asyncio.ensure_future(tokens.renew(first))
        await asyncio.sleep(0.5)
        assert tokens.at_hand() is None
        assert await tokens.get() is await renewing
        assert provider.calls == 2

    run(main())


def test_a_failure_has_its_cause_is_shared_and_not_remembered() -> None:
    async def main() -> None:
        cause = RuntimeError("with a secret in it")
        provider = Provider(cause)
        tokens = Tokens(provider)
        outcomes = await asyncio.gather(*(tokens.get() for _ in range(3)), return_exceptions=True)
        assert len(set(map(id, outcomes))) == 3
        for outcome in outcomes:
            assert isinstance(outcome, WolfAuthError)
            assert "the token provider failed: RuntimeError" in str(outcome)
            assert "secret" not in str(outcome)
            assert isinstance(outcome.__cause__, WolfAuthError)
            assert outcome.__cause__.__cause__ is cause
        assert (await tokens.get()).token == "token-2"

    run(main())


@pytest.mark.parametrize("bad", ["", "a b", "a\nb", "a\r", "\0", "é", "\x7f", b"abc", None, 5])
def test_what_is_no_token_is_refused_and_not_shown(bad: Any) -> None:
    with pytest.raises(WolfConfigError, match="the token must"):
        Tokens(bad)

    async def main() -> None:
        tokens = Tokens(Provider(bad))
        with pytest.raises(WolfAuthError, match="gave no token: the token must"):
            await tokens.get()
        assert (await tokens.get()).token == "token-2"

    run(main())


def test_a_cancelled_caller_leaves_the_others_alone() -> None:
    async def main() -> None:
        provider = Provider()
        tokens = Tokens(provider)
        calls = [asyncio.ensure_future(tokens.get()) for _ in range(3)]
        await asyncio.sleep(0.5)
        calls[0].cancel()
        await asyncio.wait(calls)
        assert calls[0].cancelled()
        assert calls[1].result() is calls[2].result()
        assert provider.calls == 1

    run(main())


def test_closing_ends_a_call_of_the_provider() -> None:
    async def main() -> None:
        tokens = Tokens(Provider(seconds=1e6))
        call = asyncio.ensure_future(tokens.get())
        await asyncio.sleep(1)
        await tokens.aclose()
        with pytest.raises(WolfClosedError):
            await call

    run(main())


def test_a_plain_function_will_do() -> None:
    async def main() -> None:
        assert (await Tokens(lambda: "abc").get()).token == "abc"  # type: ignore[arg-type,return-value]

    run(main())


def test_nothing_shows_the_token() -> None:
    tokens = Tokens("sesame")
    credential = tokens.at_hand()
    for thing in (tokens, credential):
        assert "sesame" not in repr(thing)
        with pytest.raises(TypeError):
            pickle.dumps(thing)
    assert repr(tokens) == "<Tokens: fixed>"
    assert repr(Tokens(Provider())) == "<Tokens: from a provider>"
    assert repr(Credential("sesame")) == "<Credential>"
