"""The API on loopback: a real HTTP server with synthetic accounts that misbehaves on demand."""

from __future__ import annotations

import asyncio
import gzip as gzip_codec
import math
import re
import socket
import struct
import time
import weakref
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from types import MappingProxyType, TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, unquote

import msgspec
from aiohttp import web

from wolf_async.account import Account
from wolf_async.testing.accounts import synthetic_accounts, synthetic_token
from wolf_async.testing.data import AccountData
from wolf_async.testing.faults import (
    Exchange,
    Reply,
    Step,
    error_reply,
    unauthorized_reply,
)
from wolf_async.testing.plan import Cycle, Plan
from wolf_async.testing.tasks import Task, TaskStore

__all__ = ["Call", "Sandbox"]

_TASK_CREATE = re.compile(r"/agent-api/new/user/([^/]*)/task/create")
_TASK = re.compile(r"/agent-api/new/user/([^/]*)/task")
_ZONE = timezone(timedelta(hours=8))
_BACKLOG = 4096  # a crowd of first connections must not wait for the kernel to try again
_HIDDEN = "***"
_NO_ROUTE = error_reply(404, "接口不存在", 404)
_NO_API = Reply(404, b"<html><h1>404 Not Found</h1></html>", {"Content-Type": "text/html"})
_NO_METHOD = error_reply(405, "请求方式错误", 405)
_NO_TOKEN = unauthorized_reply()
_NO_USER = error_reply(404, "用户不存在", 404)
_NO_SUB_USER = error_reply(6007, "子账户不存在", 200)


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One request that reached the sandbox.

    Attributes:
        number: 1 for the first request, and for the first after `reset_calls`.
        at: when it arrived, on the sandbox's clock.
        account: whom it asked for, whether the sandbox has that account or not; ``None`` for
            another path.
        method: ``GET`` or ``POST``, or whatever else was sent.
        target: path and query as they were on the wire.
        headers: read-only, names in lower case. The value of `authorization` is never kept; `***`
            stands for it.
        authorized: whether it carried the token that was accepted at that time.
        body: the request's body.
        status: the HTTP status answered. ``None`` without a complete answer: not yet, or because
            the connection broke.

    """

    number: int
    at: float
    account: Account | None
    method: str
    target: str
    headers: Mapping[str, str]
    authorized: bool
    body: bytes = b""
    status: int | None = None

    @property
    def path(self) -> str:
        """The path as it was on the wire."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> Mapping[str, str]:
        """The query, decoded; of a name that comes twice, the last value."""
        return dict(parse_qsl(self.target.partition("?")[2], keep_blank_values=True))


class Sandbox:
    """The two endpoints of a task on loopback, for tests and demonstrations.

    ``GET /agent-api/new/user/{user_id}/task/create`` answers what a task can be built from.
    ``POST /agent-api/new/user/{user_id}/task`` makes a task, or refuses it with 422 and messages by
    field. From then until its `stop_time` its limits are taken off the `residue` of its lines, in
    the answers to all accounts that have them. `tasks` holds what was made.

    Use it as an async context manager, or call `start` and `close`. The same seed gives the same
    accounts, the same data and the same token everywhere; only `residue` moves, once per `period`.

    Args:
        accounts: number of main accounts.
        sub_accounts: number of sub-accounts of each.
        seed: what all synthetic data are made from.
        token: what is accepted as the bearer token; ``None`` makes one from the seed.
        host: the address to listen on.
        port: 0 lets the operating system choose; a restart keeps the port.
        prefix: a path such as ``/v1`` before ``/agent-api``; `base_url` ends in it. Elsewhere there
            is a web page that says 404, as a gateway's does.
        latency: seconds of real time before every answer.
        clock: gives seconds, for `Call.at`, `now` and `residue`. With a `FakeClock`, equal time
            means byte-equal answers.
        period: seconds of that clock between movements of `residue`.
        gzip: whether bodies are compressed for clients that accept it.

    Attributes:
        accounts: all accounts, the main ones first.
        users: the ids of the main accounts.
        calls: every request that reached the sandbox, in order of arrival: the live list.
        concurrency_peak: the highest number of requests that were being served at once.

    Raises `ValueError` for settings that make no sense.

    >>> import asyncio
    >>> from wolf_async import WolfClient
    >>> from wolf_async.testing import Sandbox, hold, respond
    >>> async def main() -> None:
    ...     gate = asyncio.Event()
    ...     async with Sandbox(accounts=3) as box:
    ...         async with WolfClient(box.token, base_url=box.base_url) as wolf:
    ...             box.script(box.users[0], respond(503))  # its first request fails
    ...             await wolf.task_init(box.users[0])
    ...             print([call.status for call in box.calls])
    ...             box.script(None, hold(gate))  # the next request waits for the gate
    ...             waiting = asyncio.create_task(wolf.task_init(box.users[1]))
    ...             await box.wait_for_calls(3)
    ...             print(waiting.done())
    ...             gate.set()
    ...             print(len((await waiting).caller_line_list) > 0)
    >>> asyncio.run(main())
    [503, 200]
    False
    True

    """

    def __init__(
        self,
        *,
        accounts: int = 10,
        sub_accounts: int = 2,
        seed: int = 0,
        token: str | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        prefix: str = "",
        latency: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
        period: float = 1.0,
        gzip: bool = False,
    ) -> None:
        _check_settings(accounts, sub_accounts, latency, period, prefix)
        self.accounts: tuple[Account, ...] = synthetic_accounts(seed, accounts, sub_accounts)
        self.users: tuple[str, ...] = tuple(account.user_id for account in self.accounts[:accounts])
        self.calls: list[Call] = []
        self.concurrency_peak: int = 0
        self._seed = seed
        self._token = synthetic_token(seed) if token is None else token
        self._tokens_made = 0
        self._host = host
        self._port = port
        self._prefix = prefix
        self._latency = latency
        self._clock = clock
        self._made_at = datetime.now(_ZONE).replace(tzinfo=None), clock()
        self._period = period
        self._gzip = gzip
        self._known = frozenset(self.accounts)
        self._known_users = frozenset(self.users)
        self._store = TaskStore(seed, lambda: self.now)
        self._data = AccountData(seed, self._tick, self._store)
        self._plan = Plan()
        self._visits: set[_Visit] = set()
        self._watchers: set[_Watcher] = set()
        self._transports: weakref.WeakSet[asyncio.Transport] = weakref.WeakSet()
        self._runner: web.ServerRunner | None = None

    # Running

    async def start(self) -> None:
        """Listen for requests.

        Raises `RuntimeError` if it does already, and `OSError` if the port is taken.
        """
        if self._runner is not None:
            raise RuntimeError("the sandbox is running already")
        server = web.Server(self._handle, handler_cancellation=True, access_log=None)
        # A short time to wait, since close() has ended whatever could take longer.
        runner = web.ServerRunner(server, shutdown_timeout=0.1)
        self._runner = runner
        try:
            await runner.setup()
            await web.TCPSite(runner, self._host, self._port, backlog=_BACKLOG).start()
        except BaseException:
            self._runner = None
            await runner.cleanup()
            raise
        self._port = runner.addresses[0][1]

    async def close(self) -> None:
        """Stop listening and break every connection, those of held requests too; twice is once."""
        runner, self._runner = self._runner, None
        if runner is None:
            return
        for site in list(runner.sites):
            await site.stop()
        tasks = [visit.task for visit in self._visits if visit.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # A client that does not read its answer would keep its connection, and the server, waiting.
        for transport in list(self._transports):
            transport.abort()
        await runner.cleanup()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        where = self.base_url if self._runner else "not running"
        return f"<Sandbox {where}, {len(self.accounts)} accounts, {len(self.calls)} calls>"

    @property
    def base_url(self) -> str:
        """Where it listens, as ``http://127.0.0.1:40123``; no port before the first start."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}{self._prefix}"

    # Credentials, data and tasks

    @property
    def now(self) -> datetime:
        """The wall clock of Shanghai: as it was when the sandbox was made, moved on by `clock`."""
        wall, since = self._made_at
        return wall + timedelta(seconds=self._clock() - since)

    @property
    def tasks(self) -> list[Task]:
        """The tasks that were made, in order: the live list."""
        return self._store.tasks

    @property
    def token(self) -> str:
        """The bearer token that is accepted now."""
        return self._token

    def expire_token(self, new_token: str | None = None) -> str:
        """Accept another token from now on, and return it; the old one gets a 401.

        That is ``new_token``, or one that is made from the seed.
        """
        self._tokens_made += 1
        self._token = (
            synthetic_token(self._seed, self._tokens_made) if new_token is None else new_token
        )
        return self._token

    def data_for(self, account: Account | str) -> Any:
        """Return the `data` that this account would be answered now.

        JSON types, the caller's own copy. Raises `KeyError` for an account that the sandbox does
        not have.
        """
        return self._data.data(self._own(account))

    def body_for(self, account: Account | str) -> bytes:
        """Return the body, with its envelope, that this account would be answered now.

        Raises `KeyError` as `data_for` does.
        """
        return self._data.body(self._own(account))

    def set_data(self, account: Account | str, data: Any) -> None:
        """Answer the account with that `data` from now on; ``None`` makes it synthetic again.

        ``data`` is of JSON types, and is what stands under that name in the body. Raises `KeyError`
        for an account that the sandbox does not have.
        """
        self._data.set(self._own(account), data)

    def _own(self, account: Account | str) -> Account:
        account = _as_account(account)
        if account not in self._known:
            raise KeyError(account)
        return account

    def _tick(self) -> int:
        return math.floor(self._clock() / self._period)

    # Script

    def script(self, account: Account | str | None, *steps: Step) -> None:
        """Queue steps, one for each of the account's next requests (``None``: anybody's).

        An account's own queue goes before anybody's. A scripted request is not touched by `always`
        or `fault_every`.
        """
        self._plan.queue(None if account is None else _as_account(account), steps)

    def always(self, *steps: Step) -> None:
        """Begin an outage: every request gets one of ``steps``, in turn, until `heal`.

        Raises `ValueError` if there are none.
        """
        self._plan.outage = Cycle(1, steps)

    def fault_every(self, n: int, *steps: Step) -> None:
        """Give every n-th request from now on one of ``steps``, in turn, until `heal`.

        Raises `ValueError` if there are none, or ``n`` is below 1.
        """
        self._plan.faults = Cycle(n, steps)

    def heal(self) -> None:
        """Forget all steps, queued ones too; requests that are waiting in a step stay there."""
        self._plan = Plan()

    # Record

    def calls_for(self, account: Account | str) -> list[Call]:
        """Return the calls that asked for that account, in order of arrival."""
        account = _as_account(account)
        return [call for call in self.calls if call.account == account]

    def reset_calls(self) -> None:
        """Forget all calls and the peak of concurrency; requests being served go on."""
        self.calls.clear()
        self.concurrency_peak = len(self._visits)

    @property
    def concurrency(self) -> int:
        """How many requests are being served now."""
        return len(self._visits)

    async def wait_for_calls(self, count: int = 1, *, timeout: float = 10.0) -> None:
        """Return once ``count`` requests have reached the sandbox, answered yet or not.

        Those that `reset_calls` has forgotten do not count. Raises `TimeoutError` after
        `timeout` seconds of real time.
        """
        await self._wait(lambda: len(self.calls) >= count, timeout)

    async def wait_until_idle(self, *, timeout: float = 10.0) -> None:
        """Return once no request is being served: all are answered, or their clients have left.

        Raises `TimeoutError` after `timeout` seconds of real time.
        """
        await self._wait(lambda: not self._visits, timeout)

    async def _wait(self, reached: Callable[[], bool], timeout: float) -> None:
        watcher = _Watcher(reached)
        watcher.look()
        self._watchers.add(watcher)
        try:
            async with asyncio.timeout(timeout):
                await watcher.seen.wait()
        except TimeoutError:
            message = f"{len(self.calls)} calls, {self.concurrency} being served after {timeout} s"
            raise TimeoutError(message) from None
        finally:
            self._watchers.discard(watcher)

    # Serving

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        # all of the request, so that it is recorded with the sub-account that stands in its body
        visit = self._arrive(request, await request.read())
        account = visit.call.account
        exchange = Exchange(
            account,
            self._refusal(visit.call),
            lambda: self.data_for(account or ""),
            lambda: self._serve(visit.call),
        )
        step = self._plan.next_step(account)
        try:
            if self._latency:
                await asyncio.sleep(self._latency)
            if step is not None:
                await step.apply(exchange)
            if exchange.drop is not None or self._runner is None:
                return self._drop(visit, exchange)
            reply = exchange.serve() if exchange.reply is None else exchange.reply
            return await self._send(visit, exchange, reply)
        finally:
            self._leave(visit, None)

    def _serve(self, call: Call) -> Reply:
        account = call.account
        assert account is not None  # any other call was refused
        if call.method == "POST":
            return self._store.create(account, self.data_for(account), call.body)
        return Reply(200, self.body_for(account))

    def _arrive(self, request: web.BaseRequest, body: bytes) -> _Visit:
        target = request.raw_path
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        call = Call(
            number=len(self.calls) + 1,
            at=self._clock(),
            account=_account_asked_for(request.method, target, self._prefix, body),
            method=request.method,
            target=target,
            headers=_recorded(tuple(map(_without_secret, request.headers.items()))),
            authorized=scheme.lower() == "bearer" and token == self._token,
            body=body,
        )
        self.calls.append(call)
        visit = _Visit(request, call, asyncio.current_task())
        self._visits.add(visit)
        self.concurrency_peak = max(self.concurrency_peak, len(self._visits))
        if request.transport is not None:
            self._transports.add(request.transport)
        self._look()
        return visit

    def _leave(self, visit: _Visit, status: int | None) -> None:
        """End a visit, once.

        This comes before the last byte of an answer is sent, so that whoever has read an answer
        finds it in the record, and finds nothing being served.
        """
        if visit not in self._visits:
            return
        self._visits.remove(visit)
        at = visit.call.number - 1
        if at < len(self.calls) and self.calls[at] is visit.call:
            self.calls[at] = msgspec.structs.replace(visit.call, status=status)
        self._look()

    def _look(self) -> None:
        for watcher in self._watchers:
            watcher.look()

    def _refusal(self, call: Call) -> Reply | None:
        account = call.account
        if account is None:
            return _NO_ROUTE if call.path.startswith(f"{self._prefix}/agent-api/") else _NO_API
        if call.method != ("GET" if call.path.endswith("/create") else "POST"):
            return _NO_METHOD
        if not call.authorized:
            return _NO_TOKEN
        if account.user_id not in self._known_users:
            return _NO_USER
        return None if account in self._known else _NO_SUB_USER

    def _drop(self, visit: _Visit, exchange: Exchange) -> web.StreamResponse:
        self._leave(visit, None)
        visit.hang_up(reset=exchange.drop == "reset")
        return web.Response()  # it finds the connection closed

    async def _send(self, visit: _Visit, exchange: Exchange, reply: Reply) -> web.StreamResponse:
        headers = dict(reply.headers)
        given = {name.lower() for name in headers}
        if "content-type" not in given:
            headers["Content-Type"] = "application/json"
        body = reply.body
        accepted = visit.request.headers.get("Accept-Encoding", "")
        if self._gzip and body and "gzip" in accepted and "content-encoding" not in given:
            body = _compressed(body)
            headers["Content-Encoding"] = "gzip"
        if exchange.pace is None and exchange.cut is None and not exchange.hang_up:
            self._leave(visit, reply.status)
            return web.Response(status=reply.status, headers=headers, body=body)
        response = web.StreamResponse(status=reply.status, headers=headers)
        response.content_length = len(body)
        await response.prepare(visit.request)
        await self._stream(visit, exchange, response, body)
        return response

    async def _stream(
        self, visit: _Visit, exchange: Exchange, response: web.StreamResponse, body: bytes
    ) -> None:
        whole = exchange.cut is None or exchange.cut >= len(body)
        status = response.status if whole else None
        sent = body[: exchange.cut]
        pause, chunk = exchange.pace or (0.0, len(sent) or 1)
        for at in range(0, len(sent), chunk):
            if at:
                await asyncio.sleep(pause)
            if at + chunk >= len(sent):
                self._leave(visit, status)
            await response.write(sent[at : at + chunk])
        self._leave(visit, status)
        if whole:
            await response.write_eof()
        if exchange.hang_up or not whole:
            visit.hang_up()


class _Visit:
    """A request being served: its record, and the task to cancel when the sandbox is closed."""

    __slots__ = ("call", "request", "task")

    def __init__(
        self, request: web.BaseRequest, call: Call, task: asyncio.Task[Any] | None
    ) -> None:
        self.request = request
        self.call = call
        self.task = task

    def hang_up(self, *, reset: bool = False) -> None:
        """Close the connection after what has been written; with `reset`, by a TCP reset."""
        transport = self.request.transport
        if transport is None:
            return
        connection = transport.get_extra_info("socket")
        if reset and connection is not None:  # without lingering, the kernel sends a reset
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.close()


class _Watcher:
    __slots__ = ("reached", "seen")

    def __init__(self, reached: Callable[[], bool]) -> None:
        self.reached = reached
        self.seen = asyncio.Event()

    def look(self) -> None:
        if self.reached():
            self.seen.set()


def _check_settings(
    accounts: int, sub_accounts: int, latency: float, period: float, prefix: str
) -> None:
    if min(accounts, sub_accounts, latency) < 0 or period <= 0:
        raise ValueError("accounts, sub_accounts and latency are at least 0, and period is above 0")
    if prefix and not re.fullmatch(r"(/[\w.~-]+)+", prefix, re.ASCII):
        raise ValueError(f"prefix is a path such as /v1, without a slash at its end: {prefix!r}")


def _as_account(account: Account | str) -> Account:
    return Account(account) if isinstance(account, str) else Account(*account)


def _account_asked_for(method: str, target: str, prefix: str, body: bytes) -> Account | None:
    path, _, query = target.partition("?")
    if not path.startswith(prefix):
        return None
    if match := _TASK_CREATE.fullmatch(path.removeprefix(prefix)):
        sub_user = dict(parse_qsl(query)).get("sub_user_id")  # an empty one counts as none
        return Account(unquote(match[1]), sub_user)
    if method == "POST" and (match := _TASK.fullmatch(path.removeprefix(prefix))):
        return Account(unquote(match[1]), _sub_user_in(body))
    return None


def _sub_user_in(body: bytes) -> str | None:
    """Return the sub-account that a body names: it is a parameter of creating a task."""
    try:
        return msgspec.json.decode(body, type=_SubUser).sub_user_id
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


class _SubUser(msgspec.Struct, frozen=True):
    sub_user_id: str | None = None


def _without_secret(header: tuple[str, str]) -> tuple[str, str]:
    name = header[0].lower()
    return (name, _HIDDEN if name == "authorization" else header[1])


@lru_cache(maxsize=256)
def _recorded(headers: tuple[tuple[str, str], ...]) -> Mapping[str, str]:
    # Cached for the memory, not for the time: a client's requests have the same headers each time.
    return MappingProxyType(dict(headers))


@lru_cache(maxsize=256)
def _compressed(body: bytes) -> bytes:
    return gzip_codec.compress(body, mtime=0)
