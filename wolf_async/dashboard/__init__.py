"""Show live, on a web page, what is free of the lines of many accounts.

`make_app` makes it as an application of aiohttp, to run alone or mounted in one of your own.
``wolf-async dashboard`` runs it from the command line, with the extra ``dashboard``. `LOOPBACK` has
the names of this machine, for ``allowed_hosts``.

``app`` answers the requests. ``feed`` asks for all accounts while anybody looks, and publishes
what changed; ``rows`` keeps what the page shows of each account, ``summary`` and ``details`` draw
that from an answer, ``events`` is the log from which every browser reads, and ``safety`` decides
who is answered. The page itself is in ``static``, as the browser gets it.
"""

from wolf_async.dashboard.app import make_app
from wolf_async.dashboard.safety import LOOPBACK

__all__ = ["LOOPBACK", "make_app"]
