"""The server's scripts in Python, and a link to them.

With these a test decides the order of everything.
`test_scripts.py` holds the scripts equal to the Lua on a real server.
"""

from __future__ import annotations

import asyncio
import math
from contextlib import contextmanager
from contextvars import Context
from typing import TYPE_CHECKING, Any

from wolf_async.cache import LoadingCache
from wolf_async.errors import WolfError
from wolf_async.logs import ThrottledLogger
from wolf_async.policy import CachePolicy
from wolf_async.shared.codec import Names
from wolf_async.shared.link import LinkError, LinkOwner
from wolf_async.shared.loads import RedisLoads
from wolf_async.shared.settings import Settings
from wolf_async.testing import FakeClock

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Generator

    from wolf_async.cache.tier import Codec, SharingCache
    from wolf_async.shared.scripts import Script

LEASE = 3.0
EPOCH = 1_700_000_000.0
"""What the server's clock shows when the test's shows 0."""


class FakeRedis:
    """A server with a clock of the test's own: its hashes, its channel, and its scripts."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.hashes: dict[str, dict[str, bytes]] = {}
        self.expires: dict[str, float] = {}
        """When a hash expires, in milliseconds."""
        self.texts: dict[str, bytes] = {}
        self.published: list[bytes] = []

    @property
    def now(self) -> int:
        """The server's time in microseconds."""
        return round((EPOCH + self._clock()) * 1e6)

    def run(self, script: str, key: str, args: tuple[Any, ...]) -> Any:
        """Run a script of `wolf_async.shared.scripts` by its name.

        ``args`` are the arguments as they are sent.
        """
        self.expire()
        return getattr(self, script)(key, *(_as_bytes(arg) for arg in args))

    def expire(self) -> None:
        gone = [key for key, until in self.expires.items() if until <= self.now / 1000]
        for key in gone:
            self.delete(key)

    def delete(self, key: str) -> None:
        self.hashes.pop(key, None)
        self.expires.pop(key, None)

    def take(self, key: str, *args: bytes) -> list[Any]:
        token, lease, stale, own = args[0], float(args[1]), float(args[5]), args[6] == b"1"
        accept, ttl, jitter = map(float, args[2:5])
        error_ttl, backoff, after = float(args[7]), float(args[8]), args[9]
        h, now = self.hashes.get(key, {}), self.now
        sent, r = _number(h.get("s")), _number(h.get("r")) or 0.0
        age = None if sent is None or sent > now else now - int(sent)
        value = [] if age is None else [age, h.get("r", b"0"), h.get("v", b"")]
        if age is not None and age < accept and age < ttl * (1 - jitter * r):
            return [b"value", *value]
        old = value if age is not None and age <= stale else []
        failed = _number(h.get("fa"))
        if failed is not None:
            since, began = now - failed, now - (_number(h.get("fs")) or failed)
            pause = error_ttl if began < accept else 0.0
            row = min(int(_number(h.get("fb")) or 0), 32)
            if row > 0 and (old or own):
                pause = max(backoff, min(backoff * 2 ** (row - 1), 60e6))
            same = after != b"" and h.get("ft") == after
            if same or 0 <= since < pause:
                return [b"error", int(since), int(began), h.get("f", b""), *old]
        began, ends = int(_number(h.get("ls")) or 0), int(_number(h.get("le")) or 0)
        longest = max(600e6, lease * 1000)
        own_again = h.get("l") == token
        if "l" in h and not own_again and 0 < ends - now <= longest and began <= now:
            h["w"] = b"1"
            return [b"wait", now - began, ends - now, h["l"]]
        h = self.hashes.setdefault(key, {})
        h |= {"l": token, "ls": _as_bytes(now), "le": _as_bytes(int(now + lease * 1000))}
        if not own_again:
            h.pop("w", None)
        self.live(key, 2 * lease)
        return [b"grant", now, *old]

    def put(self, key: str, *args: bytes) -> int:
        token, body, sent, px, r, channel, message = args
        h = self.hashes.get(key, {})
        if h.get("l") != token:
            self.publish(channel, b"d" + message)
            return 0
        waited = "w" in h
        for name in ("l", "ls", "le", "w", "f", "fa", "fs", "fb", "ft"):
            h.pop(name, None)
        h |= {"v": body, "s": sent, "r": r}
        self.expires[key] = self.now / 1000 + float(px)
        self.expire()
        if waited:
            self.publish(channel, b"d" + message)
        return 1

    def fail(self, key: str, *args: bytes) -> int:
        token, error, kind, px, channel, message = args
        h = self.hashes.get(key, {})
        if h.get("l") != token:
            return 0
        began, waited = h["ls"], "w" in h
        for name in ("l", "ls", "le", "w"):
            h.pop(name, None)
        if kind != b"release":
            row = int(_number(h.get("fb")) or 0) + 1 if kind == b"unwell" else 0
            h |= {"f": error, "fa": _as_bytes(self.now), "fs": began, "fb": _as_bytes(row)}
            h["ft"] = token
            self.live(key, float(px))
        if kind == b"no":
            for name in ("v", "s", "r"):
                h.pop(name, None)
            self.publish(channel, b"x" + message)
        elif waited:
            self.publish(channel, b"d" + message)
        if not h:
            self.delete(key)
        return 1

    def renew(self, key: str, *args: bytes) -> int:
        token, lease = args[0], float(args[1])
        h = self.hashes.get(key, {})
        if h.get("l") != token:
            return 0
        h["le"] = _as_bytes(int(self.now + lease * 1000))
        self.live(key, 2 * lease)
        return 1

    def void(self, key: str, *args: bytes) -> int:
        channel, message = args
        self.delete(key)
        self.publish(channel, b"i" + message)
        return 1

    def clear(self, key: str, *args: bytes) -> int:
        epoch, channel, sender = args
        self.texts[key] = epoch
        self.publish(channel, b"c" + sender + epoch)
        return 1

    def pause(self, key: str, *args: bytes) -> int:
        channel, message = args
        self.publish(channel, b"t" + message)
        return 0

    def hello(self, key: str, *args: bytes) -> bytes:
        epoch, channel = args
        if channel:
            self.publish(channel, b"h")
        return self.texts.setdefault(key, epoch)

    def live(self, key: str, least: float) -> None:
        left = self.expires.get(key, -math.inf) - self.now / 1000
        if left < least:
            self.expires[key] = self.now / 1000 + least

    def publish(self, channel: bytes, message: bytes) -> None:
        self.published.append(message)


class FakeNetwork(FakeRedis):
    """A server with its links; a test may hold replies and messages back, or cut the links."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self.links: list[FakeLink] = []
        self.ran: list[str] = []
        """The scripts that were run so far."""
        self.slow: set[str] = set()
        """The scripts that are held back on their way to the server, until `arrive_now`."""
        self.late: set[str] = set()
        """The scripts whose replies are held back until `reply_now`."""
        self.deaf = False
        """Whether messages are held back until `deliver`."""
        self._commands: list[tuple[asyncio.Future[Any], str, str, tuple[Any, ...]]] = []
        self._replies: list[tuple[asyncio.Future[Any], Any]] = []
        self._messages: list[bytes] = []

    def send(self, script: Script, key: str, args: tuple[Any, ...]) -> asyncio.Future[Any]:
        reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if script.name in self.slow:
            self._commands.append((reply, script.name, key, args))
        else:
            self._arrive(reply, script.name, key, args)
        return reply

    def _arrive(
        self, reply: asyncio.Future[Any], script: str, key: str, args: tuple[Any, ...]
    ) -> None:
        self.ran.append(script)
        answer = self.run(script, key, args)
        if script in self.late:
            self._replies.append((reply, answer))
        else:
            asyncio.get_running_loop().call_soon(_set, reply, answer)

    def arrive_now(self) -> None:
        """Let the server run all scripts that were held back on their way to it."""
        self.slow.clear()
        commands, self._commands = self._commands, []
        for command in commands:
            self._arrive(*command)

    def lose_exchanges(self) -> None:
        """Let the scripts that were held back never arrive, nor the replies."""
        lost = [command[0] for command in self._commands]
        lost += [reply for reply, _ in self._replies]
        self._commands.clear()
        self._replies.clear()
        for reply in lost:
            _fail(reply)

    def reply_now(self) -> None:
        """Let all replies come that were held back."""
        self.late.clear()
        replies, self._replies = self._replies, []
        for reply, answer in replies:
            _set(reply, answer)

    def publish(self, channel: bytes, message: bytes) -> None:
        super().publish(channel, message)
        self._messages.append(message)
        if not self.deaf:
            asyncio.get_running_loop().call_soon(self.deliver)

    def deliver(self) -> None:
        """Let all messages come that were held back."""
        messages, self._messages = self._messages, []
        for message in messages:
            for link in self.links:
                if link.hears:
                    link.owner.hear(message)

    @contextmanager
    def held_from(self, link: FakeLink) -> Generator[None]:
        """Hold messages back from one link alone, until the end."""
        held: list[bytes] = []
        owner: Any = link.owner
        owner.hear, hear = held.append, owner.hear
        yield
        owner.hear = hear
        for message in held:
            hear(message)

    def lose_messages(self) -> None:
        """Let those that were held back never come."""
        self._messages.clear()


class FakeLink:
    """A link to a `FakeNetwork`, up from the beginning."""

    timeout: float | None = None
    """After how many seconds a reply is given up; never, unless a test says so."""

    def __init__(self, network: FakeNetwork, owner: LinkOwner, names: Names) -> None:
        self.network = network
        self.owner = owner
        self.names = names
        self.reconnects = 0
        self.hears = self.answers = False
        self.is_current = True
        network.links.append(self)

    @property
    def up(self) -> bool:
        return self.hears and self.answers

    async def ready(self) -> bool:
        if not self.up and not self.reconnects:
            await self.connect()
        return self.up

    async def connect(self) -> None:
        """Come up, for the first time or again."""
        epoch = self.network.run("hello", self.names.epoch_key, (self.owner.epoch, b""))
        await self.owner.reconnected(epoch.decode())
        self.hears = self.answers = True
        self.owner.changed()

    def cut(self) -> None:
        """Go down; messages are lost from now on."""
        self.hears = self.answers = False
        self.reconnects += 1
        self.owner.changed()

    def fail(self) -> None:
        """Go down because an operation got no reply; messages are still heard."""
        self.answers = False
        self.owner.changed()

    def recover(self) -> None:
        """Come up after `fail`."""
        self.answers = True
        self.owner.changed()

    def submit(self, script: Script, key: str, *args: Any) -> asyncio.Future[Any]:
        if not self.up:
            reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            _fail(reply)
            return reply
        return self.network.send(script, key, args)

    async def reply(self, reply: asyncio.Future[Any]) -> Any:
        done, _ = await asyncio.wait((reply,), timeout=self.timeout)
        if not done and not reply.done():
            self.fail()
            raise LinkError("no answer")
        return reply.result()

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return asyncio.get_running_loop().create_task(coroutine, context=Context())

    async def aclose(self) -> None:
        self.hears = self.answers = False


class FakeTier:
    """A tier on a `FakeNetwork`."""

    loads_type: type[RedisLoads[Any, Any]] = RedisLoads
    link_type: type[FakeLink] = FakeLink

    def __init__(self, network: FakeNetwork) -> None:
        self._network = network
        self.pauses: list[float] = []
        """What other processes have announced."""
        self.loads: RedisLoads[Any, Any]
        """The tier at work for the cache that it was bound to."""
        self.links: list[FakeLink] = []
        """The links of that, the present one last."""

    def bind(
        self,
        cache: SharingCache[Any, Any],
        load: Callable[[Any], Awaitable[Any]],
        codec: Codec[Any, Any],
    ) -> RedisLoads[Any, Any]:
        settings = Settings(
            namespace="test",
            timeout=0.25,
            connect_timeout=0.5,
            lease=LEASE,
            heartbeat=1.0,
            compress_from=2048,
            max_connections=3,
        )
        self.loads = self.loads_type(
            cache,
            load,
            codec,
            is_unwell=cache.says_unwell,
            on_pause=self.pauses.append,
            settings=settings,
            max_body=2**20,
            names=Names("", "test", ""),
            log=ThrottledLogger(),
            connect=self._connect,
        )
        return self.loads

    def _connect(self, owner: LinkOwner, names: Names) -> FakeLink:
        link = self.link_type(self._network, owner, names)
        self.links.append(link)
        return link


class TextCodec:
    """Texts, and nothing else."""

    def encode(self, value: str) -> bytes:
        return value.encode()

    def decode(self, key: object, body: bytes, sent_at: float) -> str:
        return body.decode()


class Refused(WolfError):  # noqa: N818
    """The upstream said no."""


def is_unwell(error: BaseException) -> bool:
    return not isinstance(error, Refused)


class Process:
    """A cache that stands for a process of its own, and its loads.

    The test ends the loads one by one.
    """

    def __init__(
        self,
        network: FakeNetwork,
        clock: FakeClock,
        policy: CachePolicy,
        *,
        sizeof: Callable[[str], int] | None = None,
        skew: float = 0.0,
    ) -> None:
        self.loads: list[asyncio.Future[Any]] = []
        """The loads that this process has begun."""
        self.skew = skew
        """Seconds by which its clock is ahead of the test's."""
        self.tier = FakeTier(network)
        self.cache: LoadingCache[str, str] = LoadingCache(
            self._load,
            policy=policy,
            sizeof=sizeof,
            clock=lambda: clock() + self.skew,
            is_unwell=is_unwell,
            shared=self.tier,
            codec=TextCodec(),
        )

    async def _load(self, key: str) -> str:
        load: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.loads.append(load)
        text: str = await load
        return text

    @property
    def link(self) -> FakeLink:
        """The link of this process; there is one as soon as it has loaded."""
        return self.tier.links[0]

    def get(self, key: str = "a", *, max_age: float | None = None) -> asyncio.Task[str]:
        return asyncio.create_task(self.cache.get(key, max_age=max_age))


def _set(reply: asyncio.Future[Any], answer: Any) -> None:
    if not reply.done():
        reply.set_result(answer)


def _fail(reply: asyncio.Future[Any]) -> None:
    if not reply.done():
        reply.set_exception(LinkError("down"))
        reply.exception()  # nobody may be left to see it


def _as_bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def _number(value: bytes | None) -> float | None:
    try:
        number = math.nan if value is None else float(value)
    except ValueError:
        return None
    return number if abs(number) < 9e15 else None
