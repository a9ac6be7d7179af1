"""What a user makes: a tier on a Redis or Valkey server."""

from __future__ import annotations

import copy
import weakref
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast
from urllib.parse import urlsplit

from wolf_async.errors import WolfConfigError
from wolf_async.logs import ThrottledLogger
from wolf_async.policy import check_count
from wolf_async.shared.codec import Names
from wolf_async.shared.link import Link, LinkOwner
from wolf_async.shared.loads import RedisLoads
from wolf_async.shared.settings import Settings
from wolf_async.shared.turns import SharedTurns

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable

    from wolf_async.cache.tier import Codec, SharingCache
    from wolf_async.turns import Turns

__all__ = ["RedisTier"]

K = TypeVar("K", bound="Hashable")
V = TypeVar("V")

_NO_REDIS: Final = 'a shared tier needs the package redis: pip install "wolf-async[redis]"'
_SCHEMES: Final = ("redis", "rediss", "unix")
_LARGEST: Final = 512 * 2**20
"""Bytes of a value that a cache without a client takes: what a server holds uncompressed."""
_METHODS: Final = ("pipeline", "pubsub", "ping", "get_encoder", "aclose")


class RedisTier:
    """Share answers and loads with all processes of the same server, base URL and credential.

    All times are in seconds.

    Args:
        url: names the server: ``redis://``, ``rediss://`` (TLS) or ``unix://``.
        client: in place of ``url``, an asyncio client of redis-py or valkey-py, for a cluster or
            Sentinel; it is not closed.
        namespace: keeps apart what would be shared otherwise; needed where no fixed token tells
            whose answers these are. ``None`` sets none.
        timeout: bounds each operation on the server; after it a load goes on without the tier.
        connect_timeout: bounds the first load's wait for a connection.
        lease: after so long the load of a process that has died is begun by another.
        heartbeat: within two of these a lost connection is noticed.
        compress_from: bytes from which on a body is compressed.
        max_connections: connections of each process that uses ``url``.

    Attributes:
        where: the server's URL without user and password, or the class of ``client``.
        connect: gives the client that was given, or a new one for the running loop.

    Raises `WolfConfigError` for settings that make no sense, and if the package redis is missing.

    Two clients, which might as well be in two processes, make one request (``WOLF_SHARED`` names
    the server, as in ``redis://cache:6379/0``):

    >>> import asyncio
    >>> import os
    >>> from wolf_async import WolfClient
    >>> from wolf_async.shared import RedisTier
    >>> from wolf_async.testing import Sandbox
    >>> async def main() -> None:
    ...     async with Sandbox() as box:
    ...         for _ in range(2):
    ...             tier = RedisTier(os.environ["WOLF_SHARED"])
    ...             async with WolfClient(box.token, base_url=box.base_url, shared=tier) as wolf:
    ...                 await wolf.task_init(box.users[0])
    ...                 print(wolf.stats().shared_hits)
    ...         print(len(box.calls), "request")
    >>> asyncio.run(main())
    0
    1
    1 request

    """

    def __init__(
        self,
        url: str | None = None,
        *,
        client: Any = None,
        namespace: str | None = None,
        timeout: float = 0.25,
        connect_timeout: float = 0.5,
        lease: float = 3.0,
        heartbeat: float = 1.0,
        compress_from: int = 2048,
        max_connections: int = 3,
    ) -> None:
        if (url is None) == (client is None):
            raise WolfConfigError("a shared tier needs either a url or a client")
        self._settings = Settings(
            namespace=namespace,
            timeout=timeout,
            connect_timeout=connect_timeout,
            lease=lease,
            heartbeat=heartbeat,
            compress_from=compress_from,
            max_connections=max_connections,
        )
        self._owns_client = client is None
        if url is None:
            _check_client(client)
            self.connect: Callable[[], Any] = lambda: client
            self.where = type(client).__name__
        else:
            self.where = _without_password(url)
            self.connect = _connector(url, self._settings)
        self._identity: tuple[str, str | None] = ("", None)
        self._max_body = _LARGEST
        self._is_unwell: Callable[[BaseException], bool] | None = None
        self._on_pause: Callable[[float], object] = lambda _: None
        self._loads: weakref.ref[RedisLoads[Any, Any]] | None = None
        self._log = ThrottledLogger()
        self._links: weakref.WeakSet[Link] = weakref.WeakSet()

    def scoped_to(
        self,
        base_url: str,
        token: object,
        *,
        max_body: int,
        is_unwell: Callable[[BaseException], bool],
        on_pause: Callable[[float], object],
    ) -> RedisTier:
        """Return this tier for the deployment at ``base_url`` and one credential.

        ``token`` is the credential, or a provider of tokens. A value of more than ``max_body``
        bytes counts as none. ``is_unwell`` tells whether a failure means that the upstream is
        unwell, in place of the cache's own way to tell.
        ``on_pause`` is told for how many seconds no request may go when another process got a 429.
        Raises `WolfConfigError` if there is neither a token nor a namespace.
        """
        scoped = copy.copy(self)
        scoped._identity = (base_url, token if isinstance(token, str) else None)  # noqa: SLF001
        scoped._max_body = max_body  # noqa: SLF001
        scoped._is_unwell = is_unwell  # noqa: SLF001 - of this class, as the others
        scoped._on_pause = on_pause  # noqa: SLF001
        scoped._names()  # noqa: SLF001
        return scoped

    def bind(
        self,
        cache: SharingCache[K, V],
        load: Callable[[K], Awaitable[Any]],
        codec: Codec[K, V],
    ) -> RedisLoads[K, V]:
        """Serve ``cache``, whose loads are made by ``load``; touches no event loop.

        ``codec`` turns the cache's values into bytes, and back. Raises `WolfConfigError` if there
        is neither a token nor a namespace.
        """
        loads = RedisLoads(
            cache,
            load,
            codec,
            is_unwell=self._is_unwell or cache.says_unwell,
            on_pause=self._on_pause,
            settings=self._settings,
            max_body=self._max_body,
            names=self._names(),
            log=self._log,
            connect=self._link,
        )
        self._loads = weakref.ref(loads)
        return loads

    def turns(self, local: Turns, attempt: float) -> SharedTurns:
        """Return turns to create tasks, one at a time among all processes; only after `bind`.

        ``local`` gives those of one client, and ``attempt`` is how many seconds one request takes
        at most.
        """
        loads = None if self._loads is None else self._loads()
        assert loads is not None
        return SharedTurns(loads, local, attempt + self._settings.lease)

    def announce_pause(self, seconds: float) -> None:
        """Tell other processes' clients of this credential to send no request for ``seconds``."""
        loads = None if self._loads is None else self._loads()
        if loads is not None:
            loads.announce_pause(seconds)

    def _names(self) -> Names:
        base_url, token = self._identity
        namespace = self._settings.namespace
        if token is None and namespace is None:
            raise WolfConfigError(
                "a shared tier needs namespace= where no fixed token tells whose answers it holds"
            )
        return Names(base_url, namespace or "", token or "")

    def _link(self, owner: LinkOwner, names: Names) -> Link:
        link = Link(
            owner,
            self.connect(),
            self._settings,
            names,
            log=self._log,
            owns_client=self._owns_client,
        )
        self._links.add(link)
        return link

    def __repr__(self) -> str:
        states = [link.up for link in self._links]
        state = "not in use" if not states else "up" if all(states) else "down"
        return f"<RedisTier {self.where}: {state}>"


def _connector(url: str, settings: Settings) -> Callable[[], Any]:
    """Return what makes a client for the running loop.

    A url that is none is refused here and now.
    """
    try:
        from redis.asyncio import Redis  # noqa: PLC0415 - who gives a client may have valkey-py alone
        from redis.asyncio.retry import Retry  # noqa: PLC0415
        from redis.backoff import NoBackoff  # noqa: PLC0415
        from redis.exceptions import RedisError  # noqa: PLC0415
    except ImportError as error:
        raise WolfConfigError(_NO_REDIS) from error

    def connect() -> Any:
        return cast("Any", Redis).from_url(
            url,
            # by default it tries ten times, and waits five seconds
            retry=Retry(NoBackoff(), 0),
            # longer than our own: a late reply is still read, to give a lease back
            socket_timeout=2 * settings.timeout,
            socket_connect_timeout=settings.timeout,
            max_connections=settings.max_connections,
        )

    _check_url(url, connect, RedisError)
    return connect


def _check_url(url: str, connect: Callable[[], Any], refusal: type[Exception]) -> None:
    """Raise `WolfConfigError` for a url of which no useful client comes, without its password.

    ``refusal`` is what the client raises for settings that make no sense.
    """
    where = _without_password(url)
    try:
        client = connect()
        client.connection_pool.make_connection()  # which does not connect
    except ValueError as error:
        # neither its text nor its cause, which may hold the password
        raise WolfConfigError(f"{where} is no url of a server: {type(error).__name__}") from None
    except (TypeError, AttributeError, refusal) as error:
        message = f"{where} has a setting that redis-py does not take: {error}"
        raise WolfConfigError(message) from None
    # the url's own settings win over those that are given
    if client.get_encoder().decode_responses:
        raise WolfConfigError(f"{where} must return bytes: leave decode_responses out of the url")
    check_count(f"max_connections of {where}", client.connection_pool.max_connections, least=2)


def _check_client(client: Any) -> None:
    missing = [name for name in _METHODS if not callable(getattr(client, name, None))]
    if missing:
        raise WolfConfigError(
            "client must be an asyncio client of redis-py or valkey-py,"
            f" not a {type(client).__name__}, which lacks {', '.join(missing)}:"
            " for a cluster, it must be of redis-py 8.0 or later"
        )
    if client.get_encoder().decode_responses:
        raise WolfConfigError("the client must return bytes: make it with decode_responses=False")


def _without_password(url: object) -> str:
    """Return ``url`` without user, password and query.

    Raises `WolfConfigError` if it is no url.
    """
    try:
        parts = urlsplit(url) if isinstance(url, str) else None
    except ValueError:
        # neither its text nor its cause, which may hold the password
        raise WolfConfigError("a shared tier's url names a host that is none") from None
    if parts is None or parts.scheme not in _SCHEMES:
        came = type(url).__name__ if parts is None else f"{parts.scheme or 'nothing'}://"
        expected = ", ".join(f"{scheme}://" for scheme in _SCHEMES)
        raise WolfConfigError(f"a shared tier's url begins with one of {expected}, not with {came}")
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
