"""A tier on Redis or Valkey: N processes on M machines, one upstream call per account.

It works for a `WolfClient` and for any `LoadingCache`, and needs the extra ``redis``::

    WolfClient(shared=RedisTier("redis://cache:6379/0"))

The cache knows the tier by the protocols of `wolf_async.cache.tier`. On a miss it starts a load,
and in the load's task asks the tier (`loads.RedisLoads.load`) in place of the loader.
The tier asks the server with one script per step (`scripts`), which the link sends
with the others of the same tick (`link`), and comes back with one of these:

- a value: it is decoded (`codec`) and returned with its true age;
- an error that another process's load has just met: it is raised,
  and the cache's own rules decide what follows;
- the lease of another's load: the tier waits for a message, and asks again;
- a lease of one's own: the loader is called, and its value or error stored for all;
- nothing, because the server is down, slow or refusing: the loader is called,
  and nothing is stored.

The lease's random token is the only fence: an invalidation deletes the account's hash,
so a load that began before is refused when it stores, and the cache then keeps nothing of it.
All times are the server's.
"""

from wolf_async.shared.tier import RedisTier

__all__ = ["RedisTier"]
