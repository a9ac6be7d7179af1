"""``wolf-async demo``: it shows the truth, and fails if the truth is not what it promises."""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from wolf_async import RetryPolicy, WolfClient
from wolf_async.cli import demo
from wolf_async.cli.app import run
from wolf_async.cli.verdict import is_for
from wolf_async.testing import Sandbox, hold, respond

from .shell import environment, start, wolf_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from wolf_async.testing import Step

GOOD = "1000 callers, 10 accounts, 10 requests: one per account"


@pytest.fixture
async def box() -> AsyncIterator[Sandbox]:
    async with Sandbox(accounts=10, sub_accounts=0) as running:
        yield running


# --- as a process --------------------------------------------------------------------------------


async def test_it_ends_by_itself_and_its_last_line_states_the_counts() -> None:
    begun = time.monotonic()
    ended = await wolf_async(
        "demo", env=environment(WOLF_TOKEN="canary-token", WOLF_BASE_URL="https://example.com")
    )
    assert (ended.status, ended.err) == (0, "")
    assert time.monotonic() - begun < 20
    assert ended.out.splitlines()[-1] == GOOD
    assert re.search(r"requests that reached the server +10 ", ended.out)
    assert "Outbound lines" in ended.out
    assert "canary" not in ended.out


async def test_a_hit_costs_a_small_part_of_a_miss() -> None:
    ended = await wolf_async("demo", env=environment())
    costs = {
        name: re.search(rf"^{name} +([0-9.,]+) ", ended.out, re.MULTILINE)
        for name in ("a miss", "a hit")
    }
    miss, hit = (float(found[1].replace(",", "")) for found in costs.values() if found)
    ratio = re.search(r"a miss beside a hit +([0-9,]+) ×", ended.out)
    assert ratio is not None
    assert float(ratio[1].replace(",", "")) == pytest.approx(miss / hit, rel=0.05)
    assert miss / hit > 20


async def test_ctrl_c_is_quiet_and_status_130() -> None:
    async with await start("demo", env=environment()) as process:
        await process.out_until("per answer")
        process.interrupt()
        status, out, err = await process.ended()
    assert (status, err) == (130, "")
    assert GOOD not in out


# --- what it counts ------------------------------------------------------------------------------


async def test_the_counts_come_from_the_server(box: Sandbox) -> None:
    async with WolfClient(box.token, base_url=box.base_url) as wolf:
        crowd = await demo.send_crowd(box, wolf)
    assert crowd.verdict() == (True, GOOD)
    assert Counter(call.account for call in box.calls) == Counter(box.accounts)


async def test_a_repeated_request_fails_it(box: Sandbox) -> None:
    box.script(None, respond(503))
    retry = RetryPolicy(attempts=2, backoff=0.0)
    async with WolfClient(box.token, base_url=box.base_url, retry=retry) as wolf:
        crowd = await demo.send_crowd(box, wolf)
        assert wolf.stats().retries == 1
    assert crowd.verdict() == (False, "1000 callers, 10 accounts, 11 requests: not one per account")


async def test_ten_requests_that_are_not_one_per_account_fail_it(box: Sandbox) -> None:
    async with WolfClient(box.token, base_url=box.base_url) as wolf:
        await wolf.task_init(*box.accounts[0])
        wolf.invalidate(*box.accounts[0])
        await wolf.task_init(*box.accounts[1])
        wolf.peek(*box.accounts[1])
        box.reset_calls()
        wolf.invalidate(*box.accounts[0])
        await wolf.task_init(*box.accounts[0])
        wolf.invalidate(*box.accounts[0])
        crowd = await demo.send_crowd(box, wolf)
    assert len(box.calls) == 10
    assert crowd.verdict() == (False, "1000 callers, 10 accounts, 10 requests: not one per account")


async def test_an_answer_for_another_account_fails_it(box: Sandbox) -> None:
    box.set_data(box.accounts[0], box.data_for(box.accounts[1]))
    async with WolfClient(box.token, base_url=box.base_url) as wolf:
        crowd = await demo.send_crowd(box, wolf)
    assert crowd.verdict() == (
        False,
        "1000 callers, 10 accounts, 10 requests: 100 answers for another account",
    )


async def test_one_line_of_another_account_is_enough_to_fail_it(box: Sandbox) -> None:
    data, other = box.data_for(box.accounts[0]), box.data_for(box.accounts[1])
    data["caller_line_list"][-1] = other["caller_line_list"][-1]
    box.set_data(box.accounts[0], data)
    async with WolfClient(box.token, base_url=box.base_url) as wolf:
        assert not is_for(box.accounts[0], await wolf.task_init(*box.accounts[0]))
        assert is_for(box.accounts[1], await wolf.task_init(*box.accounts[1]))


async def test_callers_without_an_answer_fail_it(box: Sandbox) -> None:
    box.script(None, respond(503))
    async with WolfClient(box.token, base_url=box.base_url, retry=RetryPolicy(attempts=1)) as wolf:
        crowd = await demo.send_crowd(box, wolf)
    assert crowd.verdict() == (
        False,
        "1000 callers, 10 accounts, 10 requests: 100 callers without an answer",
    )


async def test_a_miss_is_a_request_and_a_hit_is_none(
    box: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "MISSES", 7)
    async with WolfClient(box.token, base_url=box.base_url) as wolf:
        cost = await demo.measure(wolf, box.accounts[0])
        stats = wolf.stats()
    assert len(box.calls) == stats.misses == 7
    assert stats.hits == demo.HIT_ROUNDS * demo.HITS
    assert 0 < cost.hit < cost.miss


# --- how it ends if that goes wrong --------------------------------------------------------------


class Faulty(Sandbox):
    """A sandbox that does something else than it is told."""

    fault: Step

    def always(self, *steps: Step) -> None:
        super().always(self.fault)


def run_faulty(fault: Step, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(Faulty, "fault", fault, raising=False)
    monkeypatch.setattr(demo, "Sandbox", Faulty)
    return run(["demo"])


def test_counts_that_are_wrong_are_the_last_line_and_status_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_faulty(respond(503), monkeypatch) == 1
    out, err = capsys.readouterr()
    assert (
        out.splitlines()[-1]
        == "1000 callers, 10 accounts, 10 requests: 1000 callers without an answer"
    )
    assert err == "wolf-async: the demo failed: its last line says which count is wrong\n"


def test_it_gives_up_before_its_time_is_over(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "LIMIT", 0.2)
    assert run_faulty(hold(asyncio.Event()), monkeypatch) == 1
    assert capsys.readouterr().err == "wolf-async: the demo did not end within 0.2 seconds\n"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (RuntimeError("odd\nthing"), "wolf-async: unexpected RuntimeError: odd thing\n"),
        (PermissionError(13, "Permission denied"), "wolf-async: Permission denied\n"),
        (TimeoutError(), "wolf-async: the demo did not end within 15 seconds\n"),
    ],
)
def test_whatever_goes_wrong_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception, line: str
) -> None:
    def broken(*args: Any) -> Any:
        raise error

    monkeypatch.setattr(demo, "send_crowd", broken)
    assert run(["demo"]) == 1
    assert capsys.readouterr().err == line
