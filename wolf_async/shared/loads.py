"""One cache's side of the tier: take a value or a lease, load, put; and invalidations both ways.

The mutable state is who waits for messages about which account, and this process's own
invalidations, which are kept for as long as a server restored from a snapshot could undo them.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import math
import random
import secrets
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar, cast

import msgspec

from wolf_async.cache.inflight import current_load
from wolf_async.cache.loading import Loaded, as_loaded
from wolf_async.cache.stats import CacheStats
from wolf_async.cache.tier import Codec, InFlight, SharingCache
from wolf_async.errors import WolfClosedError, WolfConfigError, WolfError, iter_causes
from wolf_async.shared.codec import (
    Names,
    decode_body,
    decode_error,
    decode_key,
    encode_body,
    encode_error,
    encode_key,
)
from wolf_async.shared.link import LinkError, LinkOwner
from wolf_async.shared.scripts import CLEAR, FAIL, PAUSE, PUT, RENEW, TAKE, VOID, Script

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Generator, Hashable, Iterable

    from wolf_async.logs import ThrottledLogger
    from wolf_async.policy import CachePolicy
    from wolf_async.shared.settings import Settings

__all__ = ["Lease", "RedisLoads"]

K = TypeVar("K", bound="Hashable")
V = TypeVar("V")

_FOREVER: Final = 10**15
"""Microseconds, about 30 years: more than any age, and little enough for a double."""
_KEPT: Final = 1000
"""Own invalidations that are remembered one by one."""
_POLL: Final = 1.0
"""Seconds after which whoever waits looks by himself, in case a message was lost."""
_CIRCLE: Final = 10
"""Leases for which a load waits while other loads wait for it."""
_SENDER: Final = 8
"""Bytes of a sender's id."""
_COUNTS: Final = tuple(name for name in CacheStats.__struct_fields__ if name.startswith("shared_"))
_OWN_LIMITS: Final = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL}
)
"""What the system says when this machine has run out of something."""


class LinkLike(Protocol):
    """What is needed of a `Link`, for the one that tests script."""

    reconnects: int

    @property
    def up(self) -> bool: ...
    @property
    def is_current(self) -> bool: ...
    async def ready(self) -> bool: ...
    def submit(self, script: Script, key: str, *args: Any) -> asyncio.Future[Any]: ...
    async def reply(self, reply: asyncio.Future[Any]) -> Any: ...
    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]: ...
    async def aclose(self) -> None: ...


class Lease(msgspec.Struct, frozen=True):
    """The right to load, or to create, which whoever knows the token has; or the wish for it."""

    name: str
    """The key on the server."""
    wire: bytes
    """What messages call it."""
    token: str


class Asking(Generic[K]):
    """A load in flight that asks the tier."""

    __slots__ = (
        "after",
        "began",
        "gaps",
        "key",
        "lease",
        "load",
        "marks_sent",
        "trusting",
        "wire",
        "woken",
    )

    def __init__(self, load: InFlight, key: K, wire: bytes, began: float) -> None:
        self.load = load
        self.began = began
        """When it began, on the cache's clock."""
        self.marks_sent = load.sent_at is None
        """Whether the loader tells when it sends its request."""
        self.key = key
        self.wire = wire
        """The key as bytes."""
        self.lease: Lease
        """What it asked for last."""
        self.gaps = 0
        """How often messages had been missed when it began what it brings."""
        self.woken = asyncio.Event()
        self.after = ""
        """The token of the lease it waited for, whose failure is its own too."""
        self.trusting = True
        """Whether what stands in the server is accepted: not after it could not be decoded."""


class RedisLoads(Generic[K, V]):
    """The tier at work for one cache; see `wolf_async.cache.tier.SharedLoads`."""

    def __init__(
        self,
        cache: SharingCache[K, V],
        load: Callable[[K], Awaitable[Any]],
        codec: Codec[K, V],
        *,
        is_unwell: Callable[[BaseException], bool],
        on_pause: Callable[[float], object],
        settings: Settings,
        max_body: int,
        names: Names,
        log: ThrottledLogger,
        connect: Callable[[LinkOwner, Names], LinkLike],
    ) -> None:
        self.epoch = secrets.token_hex(8)
        """The namespace's epoch, as far as it is known; one's own as long as none was heard of."""
        self._cache, self._load, self._codec = cache, load, codec
        self._policy = policy = _policy_of(cache)
        self._is_unwell = is_unwell
        self._on_pause = on_pause
        self._clock = cache.clock
        self._settings = settings
        self._max_body = max_body
        self.names = names
        self._log = log
        self._connect = connect
        self._link: LinkLike | None = None
        self._sender = b""
        self._own_epoch = ""  # what this process has last cleared everything by
        self._knows_epoch = self._closed = False
        self._waiting: dict[bytes, set[asyncio.Event]] = {}
        # until when an own invalidation matters, by account, oldest first; "" stands for all
        self._own: dict[bytes, float] = {}
        self._own_unnamed = -math.inf  # the same of those no longer remembered one by one
        # those that the server does not have yet, and the replies that are awaited
        self._pending: dict[bytes, asyncio.Future[Any] | None] = {}
        self._unsent = False  # whether some were made while no event loop ran
        self._sent: set[bytes] = set()  # sent since the epoch was last confirmed
        self._sent_before: set[bytes] = set()  # sent between the two confirmations before
        self._gaps = 0  # how often messages may have been missed
        self._settled: asyncio.Event | None = None
        self._counts = dict.fromkeys(_COUNTS, 0)
        self._window = policy.ttl + max(policy.stale_while_revalidate, policy.stale_if_error)
        self._failure_px = _milli(max(2 * settings.lease, policy.error_ttl, policy.refresh_backoff))

    # --- a load ----------------------------------------------------------------------------------

    async def load(self, key: K) -> Any:
        """Bring the value of ``key`` from the tier, or load it for all."""
        load = cast("InFlight | None", current_load.get())
        assert load is not None, "only the cache calls this, in the task of a load"
        asking = Asking(load, key, encode_key(key), self._clock())
        load.sent_at = None
        if not await self._may_share(asking.wire):
            return await self._load_alone(asking)
        # before the tier is asked, since a message may overtake the reply
        with self.woken_by(asking.wire, asking.woken):
            return await self._share(asking)

    @contextmanager
    def woken_by(self, wire: bytes, woken: asyncio.Event) -> Generator[None]:
        """Set ``woken`` at each message about ``wire``, and when the link goes down."""
        events = self._waiting.setdefault(wire, set())
        events.add(woken)
        try:
            yield
        finally:
            events.discard(woken)
            if not events and self._waiting.get(wire) is events:
                del self._waiting[wire]

    async def _may_share(self, wire: bytes) -> bool:
        """Tell whether the tier works and knows this process's invalidations of the account."""
        is_up = await self.is_up()
        if self._unsent:
            self._send_pending()
        return is_up and await self._has_heard_of(b"") and await self._has_heard_of(wire)

    async def is_up(self) -> bool:
        """Tell whether the tier works; the first time, wait for it to connect."""
        link = self._enter()
        return link.up or await link.ready()

    async def _has_heard_of(self, wire: bytes) -> bool:
        reply = self._pending.get(wire)
        if reply is not None:
            await asyncio.wait((reply,), timeout=self._settings.timeout)
        return wire not in self._pending

    async def _load_alone(self, asking: Asking[K]) -> Any:
        self._count("shared_bypassed")
        asking.gaps = self._gaps
        self._begin(asking)
        result = await self._load(asking.key)
        self._discard_if_missed(asking)
        return result

    def _discard_if_missed(self, asking: Asking[K]) -> None:
        """Keep nothing that an invalidation may have overtaken whose message was missed."""
        if asking.gaps != self._gaps:
            self._cache.discard(asking.load, asking.key)

    def _begin(self, asking: Asking[K]) -> float:
        """Note that the loader is called now, and return when that is."""
        now = self._clock()
        asking.load.sent_at = None if asking.marks_sent else now
        return now

    async def _share(self, asking: Asking[K]) -> Any:
        """Ask until there is a value, an error, or a lease for a load of one's own."""
        while self._enter().up:
            asked, asking.gaps = self._clock(), self._gaps
            asking.woken.clear()
            try:
                kind, *reply = await self._take(asking, asked)
            except LinkError:
                break
            if kind == b"value":
                found = self._accept(asking, asked, *reply)
                if found is not None:
                    return found
            elif kind == b"error":
                self._raise_shared(asking, asked, *reply)
            elif kind == b"grant":
                return await self._load_for_all(asking, asked, *reply)
            elif self._may_be_a_circle(asking, asked):
                break
            else:
                await self._wait(asking, asked, *reply)
        return await self._load_alone(asking)

    def _may_be_a_circle(self, asking: Asking[K], asked: float) -> bool:
        """Tell whether this may be a circle of loads, some of them in other processes.

        Each would wait for the next one for ever, with a lease that is renewed. A load without the
        tier finds the way back to itself in this process, and the cache refuses that.
        """
        lasts = asked - asking.began > _CIRCLE * self._settings.lease
        return lasts and asking.load.holds_up_loads

    async def _take(self, asking: Asking[K], asked: float) -> Any:
        asking.lease = self.new_lease(self.epoch, asking.wire)
        return await self.take(asking.lease, *self._what_will_do(asking, asked))

    def new_lease(self, part: str, wire: bytes) -> Lease:
        """Return a lease, not taken yet, of a key in this part of the namespace."""
        return Lease(self.names.key(part, wire), wire, secrets.token_hex(8))

    async def take(self, lease: Lease, *what: Any) -> Any:
        """Ask for a value or ``lease``.

        Raises `LinkError`; a lease that comes too late, or gets lost, is given back.
        """
        reply = self.submit(TAKE, lease.name, lease.token, *what)
        try:
            return await self._enter().reply(reply)
        except (LinkError, asyncio.CancelledError):
            # it may be granted all the same, and nobody would use it
            reply.add_done_callback(lambda late: self._give_back_late(lease, late))
            raise

    def _give_back_late(self, lease: Lease, reply: asyncio.Future[Any]) -> None:
        if not reply.cancelled() and _may_be_grant(reply):
            self.give_back(lease)

    def _what_will_do(self, asking: Asking[K], asked: float) -> tuple[Any, ...]:
        policy, trusting = self._policy, asking.trusting
        accept = asked - asking.load.floor if trusting else 0.0
        has_own = self._cache.has_stand_in(asking.key)
        return (
            _milli(self._settings.lease),
            _micro(accept),
            _micro(policy.ttl),
            policy.jitter,
            -1 if has_own or not trusting else _micro(self._window),
            int(has_own),
            _micro(policy.error_ttl) if trusting else 0,
            _micro(policy.refresh_backoff) if accept == math.inf else 0,
            asking.after if trusting else "",
        )

    def _accept(
        self, asking: Asking[K], asked: float, age: int, jitter: bytes, stored: bytes = b""
    ) -> Loaded[V] | None:
        """Return the value that was found.

        Return ``None`` if it is too old for who has joined, if it may have been invalidated
        meanwhile, or if it cannot be decoded.
        """
        sent_at = asked - age / 1e6
        if sent_at <= asking.load.floor or asking.gaps != self._gaps:
            return None
        found = self._decode(asking, stored, sent_at, jitter)
        if found is not None:
            self._count("shared_hits")
            asking.load.sent_at = sent_at
        return found

    def _decode(
        self, asking: Asking[K], stored: bytes, sent_at: float, jitter: bytes
    ) -> Loaded[V] | None:
        try:
            value = self._codec.decode(asking.key, decode_body(stored, self._max_body), sent_at)
            return Loaded(value, sent_at, jitter=_jitter_of(jitter))
        except Exception as error:  # whatever stands there: it is loaded anew
            asking.trusting = False
            self.warn("value", "a shared value cannot be decoded: %s", str(error))
            return None

    def _raise_shared(
        self, asking: Asking[K], asked: float, since: int, began: int, stored: bytes, *stale: Any
    ) -> None:
        """Raise what another process's load has met.

        Return if that load began too early for who has joined, or the error cannot be decoded.
        """
        sent_at = asked - began / 1e6
        if sent_at <= asking.load.floor:
            asking.after = ""  # or it would be told again
            return
        try:
            error = decode_error(stored)
        except ValueError as broken:
            asking.trusting = False
            self.warn("error", "a shared error: %s", str(broken))
            return
        self._adopt(asking, asked, *stale)
        asking.load.sent_at = sent_at
        asking.load.failed_at = asked - since / 1e6
        raise error

    def _adopt(
        self,
        asking: Asking[K],
        asked: float,
        age: int = -1,
        jitter: bytes = b"0",
        stored: bytes = b"",
    ) -> None:
        """Hold the stale value that came with a reply, for the case that the load fails."""
        if age < 0 or asking.gaps != self._gaps:
            return
        sent_at = asked - age / 1e6
        stale = self._decode(asking, stored, sent_at, jitter)
        if stale is None:
            return
        try:
            self._cache.adopt(asking.load, asking.key, stale.value, sent_at, float(jitter))
        except Exception as error:  # of sizeof, which is not ours: the load goes on without it
            self.warn("adopt", "a stale value cannot be held: %s", str(error))

    async def _wait(
        self, asking: Asking[K], asked: float, lease_age: int, left: int, token: bytes
    ) -> None:
        """Wait for another process's load.

        The wait ends with a message, with the end of its lease, or after a short while.
        """
        if asking.load.sent_at is None:
            self._count("shared_waits")
        began = asked - lease_age / 1e6
        asking.load.sent_at = began
        # the failure of a load that began too early for those who wait is not theirs
        asking.after = token.decode(errors="replace") if began > asking.load.floor else ""
        pause = min(left / 1e6, _POLL * random.uniform(0.8, 1.2))
        with suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await asking.woken.wait()

    # --- a load for all --------------------------------------------------------------------------

    async def _load_for_all(
        self, asking: Asking[K], asked: float, granted: int, *stale: Any
    ) -> Loaded[V]:
        """Load with a lease, and store what comes of it, or why nothing did."""
        heard = self._clock()
        self._adopt(asking, asked, *stale)
        sent_at = self._begin(asking)
        renewing = self.spawn(self.renew(asking.lease, self._settings.lease))
        try:
            result = await self._load(asking.key)
            loaded = as_loaded(cast("V | Loaded[V]", result), sent_at)
            body = self._codec.encode(loaded.value) if loaded.body is None else loaded.body
        except BaseException as error:
            await self._fail(asking, error)
            raise
        finally:
            renewing.cancel()
        jitter = random.random()
        # the grant was before it was heard of, so this is never later than the truth
        sent = granted + _micro(loaded.sent_at - heard)
        await self._put(asking, body, sent, self._clock() - loaded.sent_at, jitter)
        return Loaded(loaded.value, loaded.sent_at, jitter=jitter)

    async def renew(self, lease: Lease, seconds: float) -> None:
        """Keep ``lease`` until it is lost."""
        while True:
            await asyncio.sleep(seconds / 3)
            with suppress(LinkError):  # the next one comes before the lease is over
                if not await self.run(RENEW, lease.name, lease.token, _milli(seconds)):
                    return

    async def _put(
        self, asking: Asking[K], body: bytes, sent: int, age: float, jitter: float
    ) -> None:
        stored, left = encode_body(body, self._settings.compress_from), self._window - age
        lease = asking.lease
        what = (lease.token, stored, sent, _milli(left), jitter, *self._message(lease.wire))
        try:
            done = await self.run(PUT, lease.name, *what)
        except LinkError:  # served here alone
            self._discard_if_missed(asking)
            return
        if not done:
            self._count("shared_stores_refused")
            self._cache.discard(asking.load, asking.key)

    async def _fail(self, asking: Asking[K], error: BaseException) -> None:
        lease = asking.lease
        if not isinstance(error, Exception) or _is_own(error):
            self.give_back(lease)
            return
        kind = "unwell" if self._is_unwell(error) else "no"
        what = (lease.token, encode_error(error), kind, self._failure_px)
        with suppress(LinkError):
            await self.run(FAIL, lease.name, *what, *self._message(lease.wire))

    def give_back(self, lease: Lease) -> None:
        """Let go of ``lease``, and wait for nothing."""
        what = (lease.token, b"", "release", 0)
        self.submit(FAIL, lease.name, *what, *self._message(lease.wire))

    def _message(self, wire: bytes) -> tuple[str, bytes]:
        return self.names.channel, self._sender + wire

    # --- invalidations, ours and others' ---------------------------------------------------------

    def void(self, key: K) -> None:
        """Tell all that ``key`` was invalidated."""
        self._remember(encode_key(key))

    def void_all(self) -> None:
        """Tell all that everything was invalidated."""
        self._remember(b"")

    def _remember(self, wire: bytes) -> None:
        if self._closed:
            return
        now = self._clock()
        self._own.pop(wire, None)
        self._own[wire] = now + self._window
        # the oldest ones: of those that still matter, the latest time stands for all of them
        while len(self._own) > _KEPT or next(iter(self._own.values())) < now:
            self._own_unnamed = max(self._own_unnamed, self._own.pop(next(iter(self._own))))
        self._send_all((wire,))

    def _send_all(self, wires: Iterable[bytes]) -> None:
        self._pending.update(dict.fromkeys(wires))
        if len(self._pending) > _KEPT:
            self._pending = {b"": None}
        self._send_pending()

    def _send_pending(self) -> None:
        """Send what the server does not have, unless that is under way."""
        try:
            link = self._enter()
            for wire, reply in list(self._pending.items()) if link.up else ():
                if reply is None or _has_failed(reply):
                    self._send(wire)
            self._unsent = False
        except RuntimeError:  # no event loop: the next load sends it
            self._unsent = True

    def _send(self, wire: bytes) -> None:
        channel = self.names.channel
        if wire:
            self._sent.add(wire)
            name = self.names.key(self.epoch, wire)
            reply = self.submit(VOID, name, *self._message(wire))
            reply.add_done_callback(lambda done: self._has_it(wire, done))
        else:
            epoch = self._own_epoch = secrets.token_hex(8)
            # done when the message comes: all processes change the epoch in the channel's order
            reply = self.submit(CLEAR, self.names.epoch_key, epoch, channel, self._sender)
        self._pending[wire] = reply

    def _has_it(self, wire: bytes, reply: asyncio.Future[Any]) -> None:
        if self._pending.get(wire) is reply and not _has_failed(reply):
            del self._pending[wire]
        self._note_settled()

    def _note_settled(self) -> None:
        if self._settled is not None:
            self._settled.set()

    async def settled(self) -> bool:
        """Wait until the server has all invalidations made so far, for ``timeout`` at most."""
        if not self._pending or self._closed:
            return not self._pending
        # not those made meanwhile; but too many of these become one of all accounts
        awaited = {b"", *self._pending}
        await self._enter().ready()
        self._send_pending()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._settings.timeout):
                await self._have_all(awaited)
        return awaited.isdisjoint(self._pending)

    async def _have_all(self, awaited: set[bytes]) -> None:
        assert self._settled is not None
        while not awaited.isdisjoint(self._pending):
            self._settled.clear()
            await self._settled.wait()

    def hear(self, message: bytes) -> None:
        """Take a message: somebody's load has ended, or an invalidation."""
        own = message[1 : 1 + _SENDER] == self._sender
        try:
            self._hear(message[:1], message[1 + _SENDER :], own=own)
        except (ValueError, OverflowError, RecursionError) as error:
            self.warn("message", "a message that is none: %s", str(error))

    def _hear(self, kind: bytes, wire: bytes, *, own: bool) -> None:
        """Take a message of a ``kind`` that `scripts` names; ``wire`` is what it is about."""
        if kind == b"c":
            self._hear_of_clear(wire.decode(), own)
        elif kind == b"t" and wire.isdigit() and not own:
            self._on_pause(int(wire) / 1000)
        elif kind in (b"d", b"i", b"x"):
            self._wake(self._waiting.get(wire, ()))
            if kind != b"d" and not own:
                self._hear_of_invalidation(kind, decode_key(wire))

    def _hear_of_clear(self, epoch: str, own: bool) -> None:
        self.epoch = epoch
        if epoch == self._own_epoch:
            self._pending.pop(b"", None)
        if not own:
            self._count("shared_invalidations")
            self._cache.forget_all()
        # the server may have had these after the clear, under the names of the epoch before it
        again = self._sent | self._sent_before
        self._sent, self._sent_before = set(), set()
        self._send_all(again)
        self._note_settled()
        self._wake_all()

    def _hear_of_invalidation(self, kind: bytes, key: K) -> None:
        if kind == b"i":
            self._count("shared_invalidations")
            self._cache.forget(key)
        else:
            self._cache.drop(key)

    def announce_pause(self, seconds: float) -> None:
        """Tell all that the upstream wants no request for so many seconds.

        While the link is down nobody is told.
        """
        if self._link is not None and self._link.up:
            message = self._sender + str(_milli(seconds)).encode()
            self.submit(PAUSE, self.names.epoch_key, self.names.channel, message)

    def _wake(self, events: Iterable[asyncio.Event]) -> None:
        for woken in events:
            woken.set()

    def _wake_all(self) -> None:
        for events in self._waiting.values():
            self._wake(events)

    # --- what the link tells ---------------------------------------------------------------------

    def changed(self) -> None:
        """Send what is pending when the link has come up.

        When it has gone down, let those who wait load by themselves.
        """
        if self._enter().up:
            self._send_pending()
        else:
            self._wake_all()

    async def reconnected(self, epoch: str) -> None:
        """Mend what may have been missed while no message came.

        Nothing that is held counts as fresh, and own invalidations are sent again.
        """
        self._gaps += 1
        self.epoch_is(epoch, self.epoch)
        await self._cache.distrust()
        if self._own_unnamed > self._clock():
            self._own[b""] = self._own_unnamed
        # a server restored from a snapshot may have forgotten them; and of what is pending,
        # the message that says that it was done may be among those missed
        now = self._clock()
        own = (wire for wire, until in self._own.items() if until >= now)
        self._pending = dict.fromkeys([*self._pending, *own])

    def epoch_is(self, epoch: str, asked: str) -> None:
        """Compare the epoch that was read when ``asked`` was known.

        If it is another one, a clear was missed. This comes with each heartbeat, so what the server
        has refused, or a dead connection has lost, is sent again too.
        """
        self._send_pending()
        knew, self._knows_epoch = self._knows_epoch, True
        if asked != self.epoch:
            return
        if epoch == asked:
            # of two in a row, the later one was asked for after the earlier one was known
            self._sent, self._sent_before = set(), self._sent
            return
        self.epoch = epoch
        if knew:
            self._hear_of_clear(epoch, own=False)

    # --- the ends --------------------------------------------------------------------------------

    def _enter(self) -> LinkLike:
        """Return the link of this process and the running loop.

        Raises `RuntimeError` if no loop runs.
        """
        link = self._link
        if link is None or not link.is_current:
            self._counts["shared_reconnects"] += 0 if link is None else link.reconnects
            self._settled = asyncio.Event()
            self._sender = secrets.token_bytes(_SENDER)
            self._pending = dict.fromkeys(self._pending)
            self._link = link = self._connect(self, self.names)
        return link

    def submit(self, script: Script, name: str, *args: Any) -> asyncio.Future[Any]:
        """Run a script on a key of the server; see `Link.submit`."""
        return self._enter().submit(script, name, *args)

    async def run(self, script: Script, name: str, *args: Any) -> Any:
        """Run a script and return its reply; raises `LinkError`."""
        return await self._enter().reply(self.submit(script, name, *args))

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Begin a task that ends before the link does."""
        return self._enter().spawn(coroutine)

    def warn(self, kind: str, message: str, *args: object) -> None:
        """Log a warning, at most once a minute for each kind."""
        self._log(logging.WARNING, kind, message, *args)

    def _count(self, what: str) -> None:
        self._counts[what] += 1

    def stats(self) -> dict[str, int]:
        """Return what the tier has done for this cache."""
        counts = dict(self._counts)
        counts["shared_reconnects"] += 0 if self._link is None else self._link.reconnects
        return counts

    async def aclose(self) -> None:
        """Send what is pending, once, and end every task and connection."""
        if self._link is not None and not self._link.is_current:
            self._link = None
        if self._pending and not self._closed:
            await self.settled()
        self._closed = True
        if self._link is not None:
            await self._link.aclose()

    def __repr__(self) -> str:
        return f"<RedisLoads: {self._link}, {self.stats()}>"


def _policy_of(cache: SharingCache[Any, Any]) -> CachePolicy:
    if cache.policy is None:
        raise WolfConfigError("a shared tier keeps values: it needs a policy, not None")
    return cache.policy


def _micro(seconds: float) -> int:
    return int(min(seconds * 1e6, _FOREVER))


def _milli(seconds: float) -> int:
    return int(min(seconds * 1e3, _FOREVER / 1e3))


def _jitter_of(stored: bytes) -> float:
    jitter = float(stored)
    if not 0 <= jitter <= 1:  # nor one that is no number, by which a value would be fresh for good
        raise ValueError(f"a jitter of {jitter}")
    return jitter


def _has_failed(reply: asyncio.Future[Any]) -> bool:
    return reply.done() and (reply.cancelled() or reply.exception() is not None)


def _may_be_grant(reply: asyncio.Future[Any]) -> bool:
    error = reply.exception()
    if error is None:
        return bool(reply.result()[0] == b"grant")
    # a reply that got lost, as in a loop that stood still, may have been one
    return not (isinstance(error, LinkError) and error.refused)


def _is_own(error: Exception) -> bool:
    """Tell whether ``error`` says something about this process alone.

    It does if nothing was sent, or if this machine ran out of something.
    """
    if isinstance(error, (WolfClosedError, WolfConfigError)):
        return True
    if isinstance(error, WolfError) and error.account is not None and error.attempts == 0:
        return True
    return any(isinstance(e, OSError) and e.errno in _OWN_LIMITS for e in iter_causes(error))
