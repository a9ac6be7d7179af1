"""Where the access token comes from, and the one place that turns it into a header."""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from multidict import CIMultiDict, CIMultiDictProxy

from wolf_async.cache import LoadingCache
from wolf_async.errors import WolfAuthError, WolfConfigError
from wolf_async.policy import CachePolicy

__all__ = ["Credential", "TokenProvider", "Tokens", "check_token", "choose_token"]

TokenProvider: TypeAlias = Callable[[], Awaitable[str]]


class Credential:
    """A token as a request's header; its repr shows neither."""

    __slots__ = ("headers", "token")

    def __init__(self, token: str) -> None:
        self.token = token
        self.headers = CIMultiDictProxy(CIMultiDict({"Authorization": f"Bearer {token}"}))

    def __repr__(self) -> str:
        return "<Credential>"


class Tokens:
    """A fixed token, or one that a provider gives.

    The provider is called once at first need, and once more after the server refused a token,
    however many requests saw that. Its failures are not remembered.
    """

    def __init__(self, source: str | TokenProvider) -> None:
        self._held: LoadingCache[str, Credential] | None = None
        self._fixed: Credential | None = None
        if callable(source):
            self._provider = source
            # one key and no expiry: here callers share a load, and leave and fail alone
            self._held = LoadingCache(self._fetch, policy=CachePolicy(ttl=math.inf, max_entries=1))
        else:
            self._fixed = Credential(check_token(source))

    @property
    def renewable(self) -> bool:
        """Whether there may be another token after this one was refused."""
        return self._held is not None

    def at_hand(self) -> Credential | None:
        """Return the credential that can be used without waiting, if there is one."""
        return self._fixed if self._held is None else self._held.peek("token")

    async def get(self) -> Credential:
        """Return the credential, from the provider where there is one.

        Raise `WolfAuthError` if the provider fails, with the provider's error in its causes.
        """
        if self._held is None:
            assert self._fixed is not None
            return self._fixed
        return await self._held.get("token")

    async def renew(self, refused: Credential) -> Credential:
        """Return the credential to use after the server ``refused`` that one.

        Only the first who says so makes the provider give another one.
        """
        if self._held is not None and self._held.peek("token") is refused:
            self._held.invalidate("token")
        return await self.get()

    async def aclose(self) -> None:
        """End a call of the provider that is under way."""
        if self._held is not None:
            await self._held.aclose()

    async def _fetch(self, key: str) -> Credential:
        try:
            answer: object = self._provider()
            token = await answer if inspect.isawaitable(answer) else answer
        except Exception as error:
            # only its kind: the text of a provider's error may hold a secret
            raise WolfAuthError(f"the token provider failed: {type(error).__name__}") from error
        try:
            return Credential(check_token(token))
        except WolfConfigError as error:
            raise WolfAuthError(f"the token provider gave no token: {error}") from error

    def __repr__(self) -> str:
        return f"<Tokens: {'from a provider' if self.renewable else 'fixed'}>"


def choose_token(given: str | TokenProvider | None) -> str | TokenProvider:
    """Return the token or provider that was given, or the token in ``WOLF_TOKEN``."""
    if given is not None:
        return given
    variable = os.environ.get("WOLF_TOKEN")
    if not variable:
        raise WolfConfigError("no token: pass one, or set WOLF_TOKEN")
    return check_token(variable, name="the token in WOLF_TOKEN")


def check_token(token: object, *, name: str = "the token") -> str:
    """Return the token if it can stand in a header; the `WolfConfigError` never shows it.

    ``name`` is where it comes from, for the error's text.
    """
    if not isinstance(token, str):
        raise WolfConfigError(f"{name} must be a str, not {type(token).__name__}")
    if not token:
        raise WolfConfigError(f"{name} must not be empty")
    if not token.isascii() or not token.isprintable() or " " in token:
        raise WolfConfigError(
            f"{name} must hold visible ASCII characters only, without spaces or line ends"
        )
    return token
