"""The settings of a tier: frozen, and checked when they are made."""

from __future__ import annotations

import msgspec

from wolf_async.errors import WolfConfigError
from wolf_async.policy import check_count, check_seconds

__all__ = ["Settings"]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What a tier's user may set; see `wolf_async.shared.RedisTier`. All times are in seconds."""

    namespace: str | None
    timeout: float
    connect_timeout: float
    lease: float
    heartbeat: float
    compress_from: int
    max_connections: int

    def __post_init__(self) -> None:
        for name in ("timeout", "connect_timeout", "lease", "heartbeat"):
            check_seconds(name, getattr(self, name), above=True, finite=True)
        check_count("compress_from", self.compress_from, least=0)
        check_count("max_connections", self.max_connections, least=2)
        if self.namespace is not None and not (
            isinstance(self.namespace, str) and self.namespace.strip()
        ):
            raise WolfConfigError(
                f"namespace must be a text with something in it, not {self.namespace!r}"
            )
