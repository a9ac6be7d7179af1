"""What a cache and a tier that it shares with other processes know of each other.

The cache decides how old is good enough; the tier tells ages. The tier is asked inside the task of
a load, so a hit never meets it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from wolf_async.errors import WolfConfigError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from wolf_async.policy import CachePolicy

__all__ = ["Codec", "InFlight", "SharedLoads", "SharingCache", "Tier", "check_shared"]

K = TypeVar("K")
V = TypeVar("V")
K_contra = TypeVar("K_contra", contravariant=True)
V_contra = TypeVar("V_contra", contravariant=True)


class Codec(Protocol[K_contra, V]):
    """Turns values into bytes and back."""

    def encode(self, value: V) -> bytes:
        """Return the bytes of ``value``; not called for a `Loaded` that brings its own."""
        ...

    def decode(self, key: K_contra, body: bytes, sent_at: float) -> V:
        """Return the value of ``key`` that these bytes are, sent then on the cache's clock.

        Raises whatever says that they are none.
        """
        ...


class InFlight(Protocol):
    """The load in flight in whose task the tier is asked."""

    sent_at: float | None
    """When what it will bring was sent at the earliest; ``None`` as long as nothing was."""
    floor: float
    """Those who wait accept only what was sent after this."""
    failed_at: float | None
    """When it failed, if that was earlier and elsewhere."""

    @property
    def holds_up_loads(self) -> bool:
        """Whether another load, which is under way, waits for this one."""
        ...


class SharingCache(Protocol[K_contra, V_contra]):
    """What a tier needs of the cache that it serves."""

    @property
    def policy(self) -> CachePolicy | None:
        """How long values are kept."""
        ...

    @property
    def clock(self) -> Callable[[], float]:
        """Seconds for ages."""
        ...

    def says_unwell(self, error: BaseException) -> bool:
        """Tell whether a failed load means that the upstream is unwell, not that it said no."""
        ...

    def forget(self, key: K_contra) -> bool:
        """Do as `invalidate`, which came from elsewhere: the tier is not told."""
        ...

    def forget_all(self) -> None:
        """Do as `clear`, which came from elsewhere: the tier is not told."""
        ...

    def drop(self, key: K_contra) -> None:
        """Drop what is held for ``key``; a load in flight goes on."""
        ...

    async def distrust(self) -> None:
        """Let nothing that is held be fresh any more: it stands in for failed loads alone."""
        ...

    def has_stand_in(self, key: K_contra) -> bool:
        """Tell whether a value is held that may still stand in for a failed load."""
        ...

    def adopt(
        self, load: InFlight, key: K_contra, value: V_contra, sent_at: float, jitter: float
    ) -> None:
        """Hold a stale value for a ``load`` that may fail, unless that was superseded."""
        ...

    def discard(self, load: InFlight, key: K_contra) -> None:
        """Neither store what ``load`` brings, nor let anybody join it."""
        ...


class SharedLoads(Protocol[K_contra]):
    """A tier at work for one cache."""

    async def load(self, key: K_contra) -> Any:
        """Bring the value of ``key`` from the tier, or load it for all, in the task of a load."""
        ...

    def void(self, key: K_contra) -> None:
        """Tell all that ``key`` was invalidated, in the tick in which it was."""
        ...

    def void_all(self) -> None:
        """Tell all that everything was invalidated."""
        ...

    async def settled(self) -> bool:
        """Wait until the tier has all invalidations; return whether it could be reached in time."""
        ...

    def stats(self) -> dict[str, int]:
        """Return what it has done: the fields of `CacheStats` that begin with ``shared_``."""
        ...

    async def aclose(self) -> None:
        """Send what is pending, once, and end every task and connection."""
        ...


class Tier(Protocol):
    """The settings of a tier, which serves any number of caches."""

    def bind(
        self,
        cache: SharingCache[K, V],
        load: Callable[[K], Awaitable[Any]],
        codec: Codec[K, V],
    ) -> SharedLoads[K]:
        """Serve ``cache``, whose loads are made by ``load``; touches no event loop."""
        ...


def check_shared(shared: object, policy: CachePolicy | None) -> None:
    """Refuse a tier that is none, or that has nothing to share."""
    if not callable(getattr(shared, "scoped_to", None)):
        raise WolfConfigError(f"shared must be a RedisTier or None, not {shared!r}")
    if policy is None:
        raise WolfConfigError("shared= shares the answers that are kept, and cache=None keeps none")
