"""From a load that is needed to the socket: token, limits, attempts, deadline, and aiohttp."""
