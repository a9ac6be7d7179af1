"""The steps of the protocol, each one atomic script on one key of the server.

An account is one hash of three parts:

- the value: ``v`` body, ``s`` when it was sent, ``r`` its jitter;
- the lease of the process that loads it: ``l`` token, ``ls`` start, ``le`` end,
  ``w`` somebody waits;
- the last failure: ``f`` error, ``fa`` when it came, ``fs`` when its lease began,
  ``fb`` how many in a row said "unwell", ``ft`` token of its lease.

Times are microseconds of the server's ``TIME``, so no process's clock matters.
A message on the channel is one letter, the sender's id of 8 bytes, and what it is about:

- ``d`` account: a load of it has ended, or is no longer to be waited for;
- ``i`` account: it was invalidated;
- ``x`` account: the upstream said no, so its value was dropped;
- ``c`` epoch: all accounts were invalidated, and this is the namespace's epoch now;
- ``t`` milliseconds: the upstream wants no request for so long;
- ``h`` alone is for nobody: with it a process tries out whether it may publish.
"""

from __future__ import annotations

from hashlib import sha1
from typing import Final

import msgspec

__all__ = ["CLEAR", "FAIL", "HELLO", "PAUSE", "PUT", "RENEW", "SCRIPTS", "TAKE", "VOID", "Script"]


class Script(msgspec.Struct, frozen=True):
    """A Lua script of one key."""

    name: str
    text: str
    sha: str
    """SHA-1 of the text, as ``EVALSHA`` wants it."""


def _script(name: str, text: str) -> Script:
    return Script(name, text, sha1(text.encode(), usedforsecurity=False).hexdigest())


_NOW: Final = """
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
-- what is no number of microseconds in our time may be an infinity, or no number at all
local function num(x)
  local n = tonumber(x or '')
  return n and math.abs(n) < 9e15 and n or nil
end
local function int(x) return string.format('%.0f', x) end
local function live(least)
  if redis.call('PTTL', KEYS[1]) < tonumber(least) then redis.call('PEXPIRE', KEYS[1], least) end
end
"""

TAKE: Final = _script(
    "take",
    _NOW
    + """
local token, lease = ARGV[1], tonumber(ARGV[2])
local accept, ttl, jitter = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local stale, own = tonumber(ARGV[6]), ARGV[7] == '1'
local error_ttl, backoff, after = tonumber(ARGV[8]), tonumber(ARGV[9]), ARGV[10]
local h = redis.call('HMGET', KEYS[1], 's', 'r', 'l', 'ls', 'le', 'fa', 'fs', 'fb', 'ft')
local age, r = num(h[1]) and now - num(h[1]), num(h[2]) or 0
if age and age < 0 then age = nil end
if age and age < accept and age < ttl * (1 - jitter * r) then
  return {'value', age, h[2] or '0', redis.call('HGET', KEYS[1], 'v') or ''}
end
local old = age and age <= stale
local function with_old(reply)
  if old then
    reply[#reply + 1], reply[#reply + 2] = age, h[2] or '0'
    reply[#reply + 1] = redis.call('HGET', KEYS[1], 'v') or ''
  end
  return reply
end
local failed = num(h[6])
if failed then
  local since, began = now - failed, now - (num(h[7]) or failed)
  local pause = began < accept and error_ttl or 0
  local row = math.min(num(h[8]) or 0, 32)
  if row > 0 and (old or own) then
    pause = math.max(backoff, math.min(backoff * 2 ^ (row - 1), 60000000))
  end
  if (after ~= '' and h[9] == after) or (since >= 0 and since < pause) then
    return with_old({'error', since, began, redis.call('HGET', KEYS[1], 'f') or ''})
  end
end
local began, ends = num(h[4]) or 0, num(h[5]) or 0
-- ten minutes, the longest turn to create: what ends later was not written by this script
local longest = math.max(600000000, lease * 1000)
if h[3] and h[3] ~= token and ends > now and ends - now <= longest and began <= now then
  redis.call('HSET', KEYS[1], 'w', '1')
  return {'wait', now - began, ends - now, h[3]}
end
redis.call('HSET', KEYS[1], 'l', token, 'ls', int(now), 'le', int(now + lease * 1000))
-- its own token comes again where a client sends again what it has had no reply to
if h[3] ~= token then redis.call('HDEL', KEYS[1], 'w') end
live(2 * lease)
return with_old({'grant', now})
""",
)
"""Ask for a value: ``value``, ``error``, ``wait`` for another's lease, or the ``grant`` of one."""

PUT: Final = _script(
    "put",
    """
local token, body, sent, px, r, channel, message = unpack(ARGV)
local h = redis.call('HMGET', KEYS[1], 'l', 'w')
if h[1] ~= token then
  redis.call('PUBLISH', channel, 'd' .. message)
  return 0
end
redis.call('HDEL', KEYS[1], 'l', 'ls', 'le', 'w', 'f', 'fa', 'fs', 'fb', 'ft')
redis.call('HSET', KEYS[1], 'v', body, 's', sent, 'r', r)
redis.call('PEXPIRE', KEYS[1], px)
if h[2] then redis.call('PUBLISH', channel, 'd' .. message) end
return 1
""",
)
"""Store what a lease has brought; 0 if the lease is no longer ours."""

FAIL: Final = _script(
    "fail",
    _NOW
    + """
local token, err, kind, px, channel, message = unpack(ARGV)
local h = redis.call('HMGET', KEYS[1], 'l', 'ls', 'fb', 'w')
if h[1] ~= token then return 0 end
redis.call('HDEL', KEYS[1], 'l', 'ls', 'le', 'w')
local row = 0
if kind == 'unwell' then row = (num(h[3]) or 0) + 1 end
if kind ~= 'release' then
  redis.call('HSET', KEYS[1], 'f', err, 'fa', int(now), 'fs', h[2], 'fb', row, 'ft', token)
  live(px)
end
if kind == 'no' then
  redis.call('HDEL', KEYS[1], 'v', 's', 'r')
  redis.call('PUBLISH', channel, 'x' .. message)
elseif h[4] then
  redis.call('PUBLISH', channel, 'd' .. message)
end
return 1
""",
)
"""Give a lease back, as ``release`` or with the failure.

A failure is ``unwell``, or a ``no``, which drops the value.
"""

RENEW: Final = _script(
    "renew",
    _NOW
    + """
local token, lease = ARGV[1], tonumber(ARGV[2])
if redis.call('HGET', KEYS[1], 'l') ~= token then return 0 end
redis.call('HSET', KEYS[1], 'le', int(now + lease * 1000))
live(2 * lease)
return 1
""",
)
"""Make a lease last longer; 0 if it is no longer ours."""

VOID: Final = _script(
    "void",
    """
local channel, message = unpack(ARGV)
redis.call('DEL', KEYS[1])
redis.call('PUBLISH', channel, 'i' .. message)
return 1
""",
)
"""Forget an account everywhere: its value, its failure, and the lease of whoever loads it."""

CLEAR: Final = _script(
    "clear",
    """
local epoch, channel, sender = unpack(ARGV)
redis.call('SET', KEYS[1], epoch)
redis.call('PUBLISH', channel, 'c' .. sender .. epoch)
return 1
""",
)
"""Forget all accounts everywhere, by giving the namespace a new epoch."""

PAUSE: Final = _script("pause", "return redis.call('PUBLISH', ARGV[1], 't' .. ARGV[2])")
"""Tell all that the upstream wants a pause; the key is the epoch's, which finds the server."""

HELLO: Final = _script(
    "hello",
    """
local epoch, channel = unpack(ARGV)
if channel ~= '' then redis.call('PUBLISH', channel, 'h') end
local known = redis.pcall('GET', KEYS[1])
if known and not (known.err and string.find(known.err, 'WRONGTYPE')) then return known end
redis.call('SET', KEYS[1], epoch)
return epoch
""",
)
"""Return the namespace's epoch, which is made where there is none.

With a channel, try out whether one may publish.
"""

SCRIPTS: Final = (TAKE, PUT, FAIL, RENEW, VOID, CLEAR, PAUSE, HELLO)
