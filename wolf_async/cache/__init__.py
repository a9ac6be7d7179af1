"""A loading cache that is useful alone: it stands before any async loader and knows no word of HTTP."""

from wolf_async.cache.loading import CacheStats, Loaded, LoadingCache

__all__ = ["CacheStats", "Loaded", "LoadingCache"]
