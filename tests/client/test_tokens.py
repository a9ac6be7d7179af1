"""The token's sources: a string, the environment, a provider that is asked again after a 401."""

from __future__ import annotations

import asyncio
import gc
import pickle
import weakref
from contextlib import suppress
from typing import Any

import pytest

from wolf_async import WolfAuthError, WolfClient, WolfConfigError
from wolf_async.events import Event, RequestEvent
from wolf_async.testing import Sandbox, hold, respond, unauthorized
from wolf_async.upstream.auth import Credential, Tokens

from .conftest import AT_ONCE, ONCE, TOKEN, Canary, MakeClient


class Provider:
    """Gives the sandbox's token, or does what a test tells it to."""

    def __init__(self, box: Sandbox) -> None:
        self.box = box
        self.calls = 0
        self.called = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()
        self.fails_with: list[BaseException] = []
        self.gives: list[Any] = []

    async def __call__(self) -> str:
        self.calls += 1
        self.called.set()
        await self.gate.wait()
        if self.fails_with:
            raise self.fails_with.pop(0)
        token: str = self.gives.pop(0) if self.gives else self.box.token
        return token


async def test_a_provider_is_called_once_for_all_who_need_the_first_token(
    box: Sandbox, client: MakeClient
) -> None:
    provider = Provider(box)
    wolf = client(box.base_url, token=provider)
    assert provider.calls == 0
    await asyncio.gather(*(wolf.task_init(user) for user in box.users))
    assert provider.calls == 1
    assert len(box.calls) == 20


async def test_a_storm_of_401_calls_the_provider_once_more(
    box: Sandbox, client: MakeClient
) -> None:
    provider = Provider(box)
    wolf = client(box.base_url, token=provider, cache=None)
    await wolf.task_init(box.users[0])
    box.reset_calls()
    box.expire_token("next/" + TOKEN)
    await asyncio.gather(*(wolf.task_init(user) for user in box.users))
    assert provider.calls == 2
    assert sorted(call.status or 0 for call in box.calls) == [200] * 20 + [401] * 20
    assert (wolf.stats().requests, wolf.stats().retries) == (41, 20)


async def test_late_news_of_a_401_does_not_call_the_provider_again(
    box: Sandbox, client: MakeClient
) -> None:
    provider = Provider(box)
    wolf = client(box.base_url, token=provider, cache=None)
    await wolf.task_init(box.users[0])
    late = asyncio.Event()
    box.script(box.users[1], hold(late) + unauthorized())
    waiting = asyncio.ensure_future(wolf.task_init(box.users[1]))
    await box.wait_for_calls(2)
    box.expire_token("next/" + TOKEN)
    await wolf.task_init(box.users[0])
    late.set()
    await waiting
    assert provider.calls == 2


async def test_a_second_401_is_raised(box: Sandbox, client: MakeClient) -> None:
    provider = Provider(box)
    box.always(unauthorized())
    with pytest.raises(WolfAuthError) as caught:
        await client(box.base_url, token=provider).task_init(box.users[0])
    assert (caught.value.http_status, caught.value.attempts) == (401, 2)
    assert provider.calls == len(box.calls) == 2


async def test_a_load_renews_the_token_once_however_often_it_is_tried(
    box: Sandbox, client: MakeClient
) -> None:
    provider = Provider(box)
    box.script(None, *[unauthorized(), respond(503)] * 3)
    with pytest.raises(WolfAuthError):
        await client(box.base_url, token=provider, retry=AT_ONCE).task_init(box.users[0])
    assert [call.status for call in box.calls] == [401, 503, 401]
    assert provider.calls == 2


async def test_a_string_that_is_refused_is_raised_at_once(box: Sandbox, client: MakeClient) -> None:
    box.expire_token("another")
    with pytest.raises(WolfAuthError) as caught:
        await client(box.base_url).task_init(box.users[0])
    assert (caught.value.http_status, caught.value.attempts) == (401, 1)


async def test_a_failing_provider_raises_with_its_cause_and_is_not_remembered(
    box: Sandbox, client: MakeClient
) -> None:
    provider = Provider(box)
    cause = RuntimeError("the vault is shut")
    provider.fails_with = [cause]
    wolf = client(box.base_url, token=provider)
    with pytest.raises(WolfAuthError, match="the token provider failed: RuntimeError") as caught:
        await wolf.task_init(box.users[0])
    assert cause in _causes(caught.value)
    assert (caught.value.attempts, caught.value.account) == (0, (box.users[0], None))
    assert not box.calls
    await wolf.task_init(box.users[0])
    assert provider.calls == 2


async def test_a_refresh_that_fails_is_not_remembered(box: Sandbox, client: MakeClient) -> None:
    provider, refusals = Provider(box), Refusals()
    wolf = client(box.base_url, token=provider, cache=None, listeners=[refusals])
    await wolf.task_init(box.users[0])
    box.expire_token("next/" + TOKEN)
    provider.fails_with = [OSError("no route")]
    provider.gate.clear()
    calls = asyncio.gather(*(wolf.task_init(user) for user in box.users), return_exceptions=True)
    await refusals.reach(20)
    provider.gate.set()
    outcomes = await calls
    assert all(isinstance(outcome, WolfAuthError) for outcome in outcomes)
    assert provider.calls == 2
    await wolf.task_init(box.users[0])
    assert provider.calls == 3


@pytest.mark.parametrize("timeout", [TimeoutError("slow"), TimeoutError()])
async def test_a_timeout_of_the_provider_is_a_failure_of_the_provider(
    box: Sandbox, client: MakeClient, timeout: Exception
) -> None:
    provider = Provider(box)
    provider.fails_with = [timeout]
    with pytest.raises(WolfAuthError, match="the token provider failed: TimeoutError"):
        await client(box.base_url, token=provider).task_init(box.users[0])


@pytest.mark.parametrize("who", [0, 1])
async def test_a_cancelled_caller_does_not_fail_the_others(
    box: Sandbox, client: MakeClient, who: int
) -> None:
    provider = Provider(box)
    provider.gate.clear()
    wolf = client(box.base_url, token=provider)
    calls = [asyncio.ensure_future(wolf.task_init(user)) for user in box.users[:3]]
    await provider.called.wait()
    calls[who].cancel()
    await asyncio.wait([calls[who]])
    provider.gate.set()
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(outcomes.pop(who), asyncio.CancelledError)
    assert not any(isinstance(outcome, BaseException) for outcome in outcomes)
    assert provider.calls == 1


async def test_a_caller_cancelled_in_a_refresh_does_not_fail_the_others(
    box: Sandbox, client: MakeClient
) -> None:
    provider, refusals = Provider(box), Refusals()
    wolf = client(box.base_url, token=provider, cache=None, listeners=[refusals])
    await wolf.task_init(box.users[0])
    box.expire_token("next/" + TOKEN)
    provider.gate.clear()
    calls = [asyncio.ensure_future(wolf.task_init(user)) for user in box.users[:5]]
    await refusals.reach(5)
    calls[0].cancel()
    await asyncio.wait(calls[:1])
    provider.gate.set()
    await asyncio.gather(*calls[1:])
    assert provider.calls == 2


async def test_when_all_callers_have_left_the_provider_is_cancelled(
    box: Sandbox, client: MakeClient
) -> None:
    provider = Provider(box)
    provider.gate.clear()
    wolf = client(box.base_url, token=provider)
    call = asyncio.ensure_future(wolf.task_init(box.users[0]))
    await provider.called.wait()
    call.cancel()
    await asyncio.wait([call])
    provider.gate.set()
    await wolf.task_init(box.users[0])
    assert provider.calls == 2


BAD = [
    "",
    "two\nlines",
    "carriage\rreturn",
    "nul\0",
    "tab\t",
    "sp ace",
    "naïve",
    "令牌",
    " ",
    "\x7f",
    b"bytes",
    None,
    7,
]


@pytest.mark.parametrize("bad", [bad for bad in BAD if bad is not None])
def test_a_string_that_cannot_stand_in_a_header_is_refused(bad: Any) -> None:
    with pytest.raises(WolfConfigError, match="the token must") as caught:
        WolfClient(bad)
    assert not bad or repr(bad) not in str(caught.value)


@pytest.mark.parametrize("bad", BAD)
async def test_a_provider_that_gives_no_token_raises_and_is_not_remembered(
    box: Sandbox, client: MakeClient, bad: Any
) -> None:
    provider = Provider(box)
    provider.gives = [bad]
    wolf = client(box.base_url, token=provider)
    with pytest.raises(
        WolfAuthError, match="the token provider gave no token: the token must"
    ) as caught:
        await wolf.task_init(box.users[0])
    assert not isinstance(bad, str) or len(bad) < 2 or bad not in str(caught.value)
    await wolf.task_init(box.users[0])
    assert [call.status for call in box.calls] == [200]


async def test_a_token_is_looked_at_by_the_header_alone(box: Sandbox, client: MakeClient) -> None:
    token = "!#$%&'()*+,-./:;<=>?@[]^_`{|}~\"\\" + TOKEN
    box.expire_token(token)
    await client(box.base_url, token=token).task_init(box.users[0])


async def test_the_environment_gives_token_and_base_url(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Sandbox(token=TOKEN, prefix="/prefix") as box:
        monkeypatch.setenv("WOLF_TOKEN", TOKEN)
        monkeypatch.setenv("WOLF_BASE_URL", box.base_url + "/")
        async with WolfClient() as wolf:
            await wolf.task_init(box.users[0])
    assert box.calls[0].path.startswith("/prefix/agent-api/")


def test_an_empty_base_url_in_the_environment_counts_as_unset(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WOLF_BASE_URL", "")
    assert "https://api.wolfsmartcloud.com" in repr(WolfClient(TOKEN))


def test_an_error_about_a_setting_of_the_environment_names_the_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WOLF_TOKEN", "two words")
    with pytest.raises(WolfConfigError, match="the token in WOLF_TOKEN must hold visible ASCII"):
        WolfClient()
    monkeypatch.setenv("WOLF_TOKEN", "")
    with pytest.raises(WolfConfigError, match="no token: pass one, or set WOLF_TOKEN"):
        WolfClient()
    for base_url in ("api.example", "http://api.example", "https://api.example/agent-api"):
        monkeypatch.setenv("WOLF_BASE_URL", base_url)
        with pytest.raises(WolfConfigError, match="WOLF_BASE_URL"):
            WolfClient(TOKEN)


@pytest.mark.parametrize("value", [None, "", "two\nlines"])
def test_no_token_in_the_environment_is_an_error(
    monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    if value is not None:
        monkeypatch.setenv("WOLF_TOKEN", value)
    with pytest.raises(WolfConfigError, match="token"):
        WolfClient()


async def test_a_provider_that_asks_its_own_client_gets_an_error_at_once(
    box: Sandbox, client: MakeClient
) -> None:
    async def provider() -> str:
        await wolf.task_init(box.users[1])
        return TOKEN

    wolf = client(box.base_url, token=provider)
    async with asyncio.timeout(5):
        with pytest.raises(
            WolfAuthError, match=r"provider failed: (WolfAuthError|WolfConfigError)"
        ):
            await wolf.task_init(box.users[0])


async def test_a_token_is_in_no_pickle(box: Sandbox, client: MakeClient, canary: Canary) -> None:
    wolf = client(box.base_url, token=Provider(box))
    await wolf.task_init(box.users[0])
    for thing in (
        WolfClient(TOKEN),
        wolf,
        Tokens(TOKEN),
        Credential(TOKEN),
        await wolf.task_init(box.users[0]),
    ):
        for protocol in (0, pickle.HIGHEST_PROTOCOL):  # the first one refuses what has slots
            with suppress(TypeError, AttributeError, pickle.PicklingError):
                canary.check("pickle", pickle.dumps(thing, protocol).decode("latin-1"))


class Refusals:
    """A listener that counts 401s; whose request got one asks for another token in that tick."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, event: Event) -> None:
        self.count += isinstance(event, RequestEvent) and event.status == 401

    async def reach(self, count: int) -> None:
        async with asyncio.timeout(5):
            while self.count < count:  # noqa: ASYNC110 (nothing else tells of it)
                await asyncio.sleep(0)


def _causes(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    link: BaseException | None = error
    while link is not None:
        found.append(link)
        link = link.__cause__
    return found


# the main thread's alarm, since a loop that turns for ever lets no timeout of asyncio's fire
@pytest.mark.timeout(5, method="signal")
async def test_a_provider_whose_errors_go_round_in_a_circle_fails_as_any_other(
    client: MakeClient,
) -> None:
    async def provider() -> str:
        cause = OSError("the vault is down")
        try:
            raise RuntimeError("no secret") from cause
        except RuntimeError as error:
            raise cause from error

    wolf = client("http://127.0.0.1:9", token=provider, retry=ONCE)
    with pytest.raises(WolfAuthError, match="OSError"):
        await wolf.task_init("somebody")


async def test_whoever_else_caught_the_provider_s_error_is_left_alone(client: MakeClient) -> None:
    refreshing: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    go_on = asyncio.Event()

    async def provider() -> str:
        return await asyncio.shield(refreshing)

    async def somebody_else() -> str:
        try:
            return await provider()
        except OSError:
            await go_on.wait()
            return "went on"

    other = asyncio.ensure_future(somebody_else())
    wolf = client("http://127.0.0.1:9", token=provider, retry=ONCE)
    waiting = asyncio.ensure_future(wolf.task_init("somebody"))
    await asyncio.sleep(0)
    refreshing.set_exception(OSError("the vault is down"))
    with pytest.raises(WolfAuthError, match="OSError"):
        await waiting
    go_on.set()
    assert await asyncio.wait_for(other, 5) == "went on"


async def test_a_task_for_life_that_a_provider_starts_does_not_keep_the_client(
    box: Sandbox,
) -> None:
    tasks: list[asyncio.Task[Any]] = []

    async def provider() -> str:
        tasks.append(asyncio.create_task(asyncio.Event().wait()))
        return TOKEN

    wolf = WolfClient(provider, base_url=box.base_url)
    await wolf.task_init(box.users[0])
    await wolf.aclose()
    seen: list[weakref.ref[Any]] = [weakref.ref(wolf), weakref.ref(provider)]
    del wolf, provider
    gc.collect()
    assert [thing() for thing in seen] == [None, None]
    tasks[0].cancel()
