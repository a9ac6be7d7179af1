"""Keep what any async loader brings, and share its loads; useful alone, without HTTP."""

from wolf_async.cache.inflight import mark_sent
from wolf_async.cache.loading import Loaded, LoadingCache
from wolf_async.cache.stats import CacheStats

__all__ = ["CacheStats", "Loaded", "LoadingCache", "mark_sent"]
