"""A server may be away, slow, full, forgetful or refusing.

No caller notices more of it than the time that it takes.
"""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from shared.servers import PausableProxy, until
from shared.sharing import Counter, cache_on, slow
from shared.test_processes import USERS, forgotten, serials
from shared.upstream import TOKEN
from shared.worker import Failed
from wolf_async import WolfClient
from wolf_async.shared import RedisTier
from wolf_async.testing import Sandbox, hold, respond

if TYPE_CHECKING:
    from shared.conftest import Fleet
    from shared.servers import Server
    from shared.worker import Worker

README = Path(__file__).parent.parent.parent / "README.md"
QUICK = {"heartbeat": 0.5}


async def up(worker: Worker) -> None:
    """Wait until the process shares again."""
    async with asyncio.timeout(10):
        while not await worker.call("is_up"):  # noqa: ASYNC110 - nothing here tells of it
            await asyncio.sleep(0.02)


# --- away -----------------------------------------------------------------------------------------


async def test_a_server_that_refuses_from_the_start_changes_nothing(own_fleet: Fleet) -> None:
    own_fleet.server.kill()
    worker = await own_fleet.worker()
    began = time.monotonic()
    assert len(serials(await worker.crowd(USERS, 10))) == len(USERS)
    assert time.monotonic() - began < 2
    assert own_fleet.upstream.calls == len(USERS)
    await worker.call("invalidate", user="u1")
    assert not await worker.call("settled")


async def test_a_server_that_hangs_costs_one_timeout_once(own_fleet: Fleet) -> None:
    worker = await own_fleet.worker(tier={"timeout": 0.3, "heartbeat": 30.0})
    await worker.get()
    own_fleet.server.stop()
    began = time.monotonic()
    assert (await worker.get()).serial == 1
    assert time.monotonic() - began < 0.1, "a local hit does not ask"
    took: list[float] = []
    for user in USERS[2:6]:
        began = time.monotonic()
        await worker.get(user)
        took.append(time.monotonic() - began)
    assert 0.3 <= took[0] < 0.3 + 0.25
    assert max(took[1:]) < 0.25
    own_fleet.server.go_on()
    await up(worker)
    before = (await worker.stats())["shared_bypassed"]
    await worker.get("later")
    assert (await worker.stats())["shared_bypassed"] == before


async def test_a_server_that_dies_mid_load_lets_those_who_wait_load_at_once(
    own_fleet: Fleet,
) -> None:
    one, two = await own_fleet.workers(2)
    await asyncio.gather(one.get("other"), two.get("other"))
    own_fleet.upstream.gate.clear()
    before = own_fleet.upstream.calls
    calls = [asyncio.create_task(worker.get()) for worker in (one, two)]
    await until(lambda: own_fleet.upstream.calls == before + 1)
    await asyncio.sleep(0.2)
    own_fleet.server.kill()
    await until(lambda: own_fleet.upstream.calls == before + 2, 1.0)
    own_fleet.upstream.gate.set()
    assert len(serials(list(await asyncio.gather(*calls)))) == 2


async def test_after_a_restart_the_processes_share_again(own_fleet: Fleet) -> None:
    one, two = await own_fleet.workers(2, tier=QUICK)
    await asyncio.gather(one.get(), two.get())
    own_fleet.server.kill()
    answers = await asyncio.gather(one.get("u2"), two.get("u2"))
    assert {answer.serial for answer in answers} == {2, 3}
    own_fleet.server.start()
    await up(one)
    await up(two)
    own_fleet.upstream.latency = 0.2
    before = own_fleet.upstream.calls
    for user in ("u1", "u3"):
        answers = await asyncio.gather(one.get(user), two.get(user))
        assert len({answer.serial for answer in answers}) == 1
    assert own_fleet.upstream.calls == before + 2
    assert (await one.stats())["shared_reconnects"] >= 1


async def test_a_server_restored_from_a_snapshot_undoes_no_invalidation(own_fleet: Fleet) -> None:
    server = own_fleet.server
    one, two = await own_fleet.workers(2, tier=QUICK)
    await asyncio.gather(one.get(), two.get())
    with server.client() as client:
        client.save()
    await one.call("invalidate", user="u1")
    assert await one.call("settled")
    async with asyncio.timeout(5):  # the message may still travel
        while (await two.get()).serial == 1:
            pass
    server.kill()
    server.start()
    await up(one)
    await up(two)
    # the server holds the older answer again, until the one who took it back has said so
    await until_settled(one)
    late = await own_fleet.worker()
    assert (await late.get()).serial >= 2
    assert (await one.get()).serial >= 2


async def reconnected(worker: Worker) -> None:
    """Wait until the process has noticed that its subscription is gone."""
    async with asyncio.timeout(10):
        while not (await worker.stats())["shared_reconnects"]:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.02)


async def until_settled(worker: Worker) -> None:
    async with asyncio.timeout(5):
        while not await worker.call("settled"):
            pass


async def test_an_invalidation_while_the_server_is_away_is_heard_when_it_is_back(
    own_fleet: Fleet,
) -> None:
    one, two = await own_fleet.workers(2, tier=QUICK)
    await asyncio.gather(one.get(), two.get())
    own_fleet.server.stop()
    await asyncio.sleep(1.1)
    serial, _, _ = await one.call("invalidate", user="u1", then_get=True)
    assert serial == 2
    assert not await one.call("settled")
    own_fleet.server.go_on()
    await until_settled(one)
    await forgotten(two)
    assert (await two.get()).serial >= 2


async def test_a_partition_heals_with_the_invalidations_of_both_sides(
    own_fleet: Fleet,
) -> None:
    async with PausableProxy(own_fleet.server.port) as proxy:
        near = await own_fleet.worker(tier=QUICK)
        far = await own_fleet.worker(url=f"redis://127.0.0.1:{proxy.port}/0", tier=QUICK)
        await asyncio.gather(*(worker.crowd(["u1", "u2"], 1) for worker in (near, far)))
        proxy.close()
        await near.call("invalidate", user="u1")
        await far.call("invalidate", user="u2")
        alone = await far.get("u3")
        assert (await near.get("u3")).serial != alone.serial, "the far one works alone"
        # nothing comes through that would tell it: it notices by itself
        await reconnected(far)
        proxy.open()
        await up(far)
        await until_settled(far)
        before = own_fleet.upstream.calls
        near_found = [await near.get("u1"), await near.get("u2")]
        far_found = [await far.get("u1"), await far.get("u2")]
        assert [one.serial for one in near_found] == [one.serial for one in far_found]
        assert min(serials(near_found)) > 2
        assert own_fleet.upstream.calls <= before + 2


# --- forgetful ------------------------------------------------------------------------------------


async def test_a_subscription_that_is_killed_is_noticed_and_nothing_is_fresh_after(
    own_fleet: Fleet,
) -> None:
    one, two = await own_fleet.workers(2, tier=QUICK)
    await asyncio.gather(one.get(), two.get())
    with own_fleet.server.client() as client:
        client.client_kill_filter(_type="pubsub")
        client.flushall()
    await reconnected(two)
    await up(two)
    assert (await two.get()).serial == 2, "an invalidation may have been missed"


async def test_a_flush_mid_load_costs_one_more_load(fleet: Fleet) -> None:
    one, two = await fleet.workers(2)
    await asyncio.gather(one.get("other"), two.get("other"))
    fleet.upstream.gate.clear()
    calls = [asyncio.create_task(worker.get()) for worker in (one, two)]
    await until(lambda: fleet.upstream.calls == 2)
    await asyncio.sleep(0.2)
    with fleet.server.client() as client:
        client.flushall()
    fleet.upstream.gate.set()
    await asyncio.gather(*calls)
    stats = await asyncio.gather(one.stats(), two.stats())
    assert sum(each["shared_stores_refused"] for each in stats) == 1
    assert (await one.get()).serial == (await two.get()).serial == 3
    assert fleet.upstream.calls == 3


async def test_the_processes_agree_on_an_epoch_again_after_a_flush(fleet: Fleet) -> None:
    one, two = await fleet.workers(2, tier=QUICK)
    await asyncio.gather(one.get("other"), two.get("other"))
    with fleet.server.client() as client:
        client.flushall()
    await asyncio.sleep(0.5)
    assert (await one.get()).serial == (await two.get()).serial


async def test_the_processes_agree_on_rubbish_in_place_of_the_epoch(server: Server) -> None:
    load = Counter()
    caches = [cache_on(load, slow(url=server.url, heartbeat=0.1)) for _ in range(2)]
    for cache in caches:
        assert await cache.get("a") == "a#1"
    with server.client() as client:
        (name,) = client.keys("wolf1:*:epoch")
        client.set(name, b"\xff\xfe")
    await until(lambda: not any(cache.peek("a") for cache in caches))
    for cache in caches:
        assert await cache.get("a") == "a#2"
        assert cache.stats().shared_reconnects == 0
        await cache.aclose()


@pytest.mark.parametrize("rubbish", [b"", b"\x00{}", b"\x01\x02", b"\xff" * 100])
async def test_rubbish_in_place_of_an_answer_is_replaced(fleet: Fleet, rubbish: bytes) -> None:
    one, two, three = await fleet.workers(3)
    await one.get()
    with fleet.server.client() as client:
        for key in client.keys("wolf1:*:*"):
            if client.type(key) == b"hash":
                client.hset(key, "v", rubbish)
    assert (await two.get()).serial == 2
    assert (await three.get()).serial == 2


async def test_rubbish_in_place_of_a_failure_is_replaced(fleet: Fleet) -> None:
    one, two = await fleet.workers(2, error_ttl=30.0)
    fleet.upstream.status = 404
    with pytest.raises(Failed):
        await one.get()
    fleet.upstream.status = 200
    with pytest.raises(Failed):
        await two.get()
    assert fleet.upstream.calls == 1
    with fleet.server.client() as client:
        for key in client.keys("wolf1:*:*"):
            if client.type(key) == b"hash":
                client.hset(key, "f", b"rubbish")
    three = await fleet.worker(error_ttl=30.0)
    assert (await three.get()).serial == 2


# --- full, and refusing ---------------------------------------------------------------------------


async def test_a_full_server_still_shares_what_it_holds(own_fleet: Fleet) -> None:
    one, two = await own_fleet.workers(2)
    await one.get()
    with own_fleet.server.client() as client:
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", "1")
    assert (await two.get()).serial == 1
    assert (await two.get("u2")).serial == 2
    assert (await one.get("u2")).serial == 3
    stats = await two.stats()
    assert (stats["shared_hits"], stats["shared_bypassed"]) == (1, 1)
    await two.call("invalidate", user="u1")
    assert await two.call("settled")
    await forgotten(one)


async def test_a_user_who_may_not_publish_shares_nothing_and_is_told(
    own_fleet: Fleet,
) -> None:
    with own_fleet.server.client() as client:
        client.acl_setuser(
            "app",
            enabled=True,
            passwords=["+secret"],
            keys=["*"],
            channels=["*"],
            commands=["+@all", "-publish"],
        )
    url = own_fleet.server.url.replace("//", "//app:secret@")
    one, two = await own_fleet.workers(2, url=url)
    answers = await asyncio.gather(one.get(), two.get())
    assert {answer.serial for answer in answers} == {1, 2}
    assert not await one.call("is_up")
    assert (await one.stats())["shared_bypassed"] == 1
    (told,) = await one.call("warnings")
    assert "refuses a command" in told
    assert "secret" not in told


async def test_the_rights_that_the_readme_names_are_enough(own_fleet: Fleet) -> None:
    (rights,) = re.findall(r"`ACL SETUSER wolf on >PASSWORD (.*?)`", README.read_text("utf-8"))
    with own_fleet.server.client() as client:
        client.execute_command("ACL", "SETUSER", "app", "on", ">secret", *rights.split())
    url = own_fleet.server.url.replace("//", "//app:secret@")
    one, two = await own_fleet.workers(2, url=url)
    await one.get()
    assert (await two.get()).serial == 1
    await one.call("invalidate", user="u1")
    await one.call("clear")
    assert await one.call("settled")
    assert await one.call("warnings") == []


# --- the same in one process ----------------------------------------------------------------------


async def test_neither_a_token_nor_an_id_stands_in_the_names_and_no_token_in_anything(
    fleet: Fleet,
) -> None:
    worker = await fleet.worker()
    user = "user-id-of-a-customer"
    with fleet.server.client() as watcher, watcher.monitor() as monitor:
        await worker.get(user)
        await worker.call("invalidate", user=user)
        assert await worker.call("settled")
        await worker.get(user)
        fleet.upstream.status = 401
        with pytest.raises(Failed):
            await worker.get("other-id-of-a-customer")
        with fleet.server.client() as client:
            names = client.keys("*")
            client.echo("the end")
        seen = seen_by(monitor)
    assert TOKEN not in "\n".join(seen)
    assert len(names) >= 2
    assert all(user.encode() not in name for name in names)
    assert all(name.startswith(b"wolf1:") for name in names)


def seen_by(monitor: Any) -> list[str]:
    """Return all commands up to ``ECHO``."""
    seen: list[str] = []
    while not seen or "ECHO" not in seen[-1]:
        seen.append(monitor.next_command()["command"])
    return seen


async def test_no_token_that_was_echoed_is_stored_though_it_was_renewed_meanwhile(
    server: Server,
) -> None:
    async def provider() -> str:
        return box.token

    gate = asyncio.Event()
    tier = RedisTier(server.url, namespace="n", timeout=2.0, compress_from=2**20)
    async with (
        Sandbox(accounts=2) as box,
        WolfClient(provider, base_url=box.base_url, shared=tier) as wolf,
    ):
        first, other = box.token, box.users[1]
        echo = {
            "code": 200,
            "status": "success",
            "message": first,
            "data": box.data_for(box.users[0]),
        }
        box.script(box.users[0], hold(gate) + respond(200, echo))
        call = asyncio.create_task(wolf.task_init(box.users[0]))
        await box.wait_for_calls(1)
        assert box.expire_token() != first
        await wolf.task_init(other)
        gate.set()
        await call
    with server.client() as client:
        hashes = [client.hgetall(key) for key in client.keys("wolf1:*:*") if b"epoch" not in key]
    assert len(hashes) == 2
    assert all(b"max_recycle_limit" in one[b"v"] for one in hashes)
    assert not any(first.encode() in one[b"v"] for one in hashes)


async def test_callers_who_leave_at_any_moment_leave_no_lease_behind(fleet: Fleet) -> None:
    one, two = await fleet.workers(2)
    await one.get("other")
    for number in range(50):
        call = asyncio.create_task(one.get(f"left{number}"))
        for _ in range(number % 10):
            await asyncio.sleep(0.0007)
        call.cancel()
    began = time.monotonic()
    await two.crowd([f"left{number}" for number in range(50)], 1)
    assert time.monotonic() - began < 2, "a lease that nobody uses would take 3 s"
