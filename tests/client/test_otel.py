"""Let OpenTelemetry see loads, requests and counts, under whoever called for them."""

from __future__ import annotations

import asyncio
import gc
import itertools
import weakref
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import fastapi
import httpx
import pytest
from opentelemetry.metrics._internal import _ProxyMeterProvider  # pyright: ignore[reportPrivateUsage]
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from wolf_async import (
    CachePolicy,
    ClientStats,
    WolfAPIError,
    WolfClient,
    WolfConfigError,
    WolfServerError,
    events,
)
from wolf_async.otel import instrument
from wolf_async.testing import FakeClock, Sandbox, hold, respond
from wolf_async.upstream import sender

from .conftest import AT_ONCE, ONCE, TOKEN

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .conftest import MakeClient

TEMPLATE = "/agent-api/new/user/{user_id}/task/create"


class Telemetry:
    """An SDK that keeps what it is told in memory."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        self.traces = TracerProvider()
        self.traces.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.metrics = MeterProvider([self._reader])
        self.tracer = self.traces.get_tracer("tests")

    def watch(self, wolf: WolfClient, **settings: Any) -> WolfClient:
        instrument(wolf, self.traces, self.metrics, **settings)
        return wolf

    def spans(self, name: str = "") -> list[ReadableSpan]:
        """Return the spans that have ended and whose names begin so, in order."""
        return [span for span in self._exporter.get_finished_spans() if span.name.startswith(name)]

    def span(self, name: str) -> ReadableSpan:
        (span,) = self.spans(name)
        return span

    def points(self, name: str) -> dict[str | None, Any]:
        """Return the value of a metric by ``outcome``: a count, or how often it was measured."""
        found: dict[str | None, Any] = {}
        for point in self._points(name):
            outcome = dict(point.attributes).get("outcome")
            found[outcome] = point.value if hasattr(point, "value") else point.count
        return found

    def _points(self, name: str) -> Iterator[Any]:
        data = self._reader.get_metrics_data()
        for resource in data.resource_metrics if data else ():
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    if metric.name == name:
                        yield from metric.data.data_points

    def attributes(self, name: str) -> list[dict[str, Any]]:
        return [dict(point.attributes) for point in self._points(name)]

    def close(self) -> None:
        self.traces.shutdown()
        self.metrics.shutdown()


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    told = Telemetry()
    yield told
    told.close()


def parent_of(span: ReadableSpan) -> int | None:
    return None if span.parent is None else span.parent.span_id


def id_of(span: ReadableSpan) -> int:
    assert span.context is not None
    return int(span.context.span_id)


def linked(span: ReadableSpan) -> list[int]:
    return [link.context.span_id for link in span.links]


async def test_a_load_is_a_span_under_its_caller_with_its_requests_below(
    box: Sandbox, client: MakeClient, telemetry: Telemetry
) -> None:
    wolf, user = telemetry.watch(client(box.base_url, retry=AT_ONCE)), box.users[0]
    box.script(user, respond(503))
    with telemetry.tracer.start_as_current_span("handler"):
        await wolf.task_init(user)
    load, handler = telemetry.span("wolf.load"), telemetry.span("handler")
    assert parent_of(load) == id_of(handler)
    assert load.attributes == {"wolf.outcome": "value"}
    first, second = telemetry.spans("GET")
    assert first.name == f"GET {TEMPLATE}"
    for request in (first, second):
        assert parent_of(request) == id_of(load)
        assert request.kind is SpanKind.CLIENT
    port = int(box.base_url.rpartition(":")[2])
    same = {
        "http.request.method": "GET",
        "server.address": "127.0.0.1",
        "server.port": port,
        "url.template": TEMPLATE,
    }
    failed = {"http.response.status_code": 503, "error.type": "503"}
    assert first.attributes == same | failed
    resent = {"http.response.status_code": 200, "http.request.resend_count": 1}
    assert second.attributes == same | resent
    assert first.status.status_code is StatusCode.ERROR
    assert second.status.status_code is StatusCode.UNSET


async def test_spans_lie_within_each_other_in_time(
    box: Sandbox, client: MakeClient, telemetry: Telemetry
) -> None:
    wolf = telemetry.watch(client(box.base_url))
    with telemetry.tracer.start_as_current_span("handler"):
        await wolf.task_init(box.users[0])
    spans = [telemetry.span(name) for name in ("handler", "wolf.load", "GET")]
    millisecond = 1_000_000  # the wall clock and the one for durations are two
    for outer, inner in itertools.pairwise(spans):
        assert outer.start_time is not None
        assert inner.start_time is not None
        assert outer.end_time is not None
        assert inner.end_time is not None
        assert outer.start_time <= inner.start_time + millisecond
        assert inner.start_time <= inner.end_time <= outer.end_time + millisecond


async def test_the_request_that_creates_a_task_is_a_span_under_its_caller(
    box: Sandbox, client: MakeClient, telemetry: Telemetry
) -> None:
    wolf, user = client(box.base_url), box.users[0]
    init = await wolf.task_init(user)
    telemetry.watch(wolf)
    year = datetime.now(UTC).year
    draft = init.draft(
        name="a task",
        script=init.outbound_group_v2[0],
        calls=1,
        lines=(),
        start=datetime(year, 1, 1, tzinfo=UTC),
        stop=datetime(year + 2, 1, 1, tzinfo=UTC),
    )
    # the sandbox refuses a task without lines
    with telemetry.tracer.start_as_current_span("handler"), pytest.raises(WolfAPIError):
        await wolf.create_task(user, draft=draft, check=False)
    request = telemetry.span("POST")
    assert request.name == "POST /agent-api/new/user/{user_id}/task"
    assert request.attributes is not None
    assert request.attributes["error.type"] == "422"
    assert parent_of(request) == id_of(telemetry.span("handler"))
    assert telemetry.attributes("http.client.request.duration")[0]["http.request.method"] == "POST"


async def test_who_joins_has_a_span_with_a_link_to_the_load(
    box: Sandbox, client: MakeClient, telemetry: Telemetry
) -> None:
    wolf, user = telemetry.watch(client(box.base_url)), box.users[0]
    gate = asyncio.Event()
    box.script(user, hold(gate))

    async def call(name: str) -> None:
        with telemetry.tracer.start_as_current_span(name):
            await wolf.task_init(user)

    calls = [asyncio.create_task(call(name)) for name in ("one", "two", "three")]
    await box.wait_for_calls(1)
    gate.set()
    await asyncio.gather(*calls)
    load = telemetry.span("wolf.load")
    assert parent_of(load) == id_of(telemetry.span("one"))
    waits = telemetry.spans("wolf.wait")
    assert [parent_of(wait) for wait in waits] == [
        id_of(telemetry.span("two")),
        id_of(telemetry.span("three")),
    ]
    assert [linked(wait) for wait in waits] == [[id_of(load)], [id_of(load)]]


async def test_who_leaves_before_the_load_ends_has_no_link(
    box: Sandbox, client: MakeClient, telemetry: Telemetry
) -> None:
    wolf, user = telemetry.watch(client(box.base_url)), box.users[0]
    gate = asyncio.Event()
    box.script(user, hold(gate))
    stays = asyncio.create_task(wolf.task_init(user))
    await box.wait_for_calls(1)
    leaves = asyncio.create_task(wolf.task_init(user))
    await asyncio.sleep(0)
    leaves.cancel()
    await asyncio.wait([leaves])
    gate.set()
    await stays
    wait = telemetry.span("wolf.wait")
    assert wait.attributes == {"wolf.outcome": "left"}
    assert linked(wait) == []


async def test_a_load_that_waits_for_the_one_before_is_under_its_first_waiter(
    box: Sandbox, client: MakeClient, telemetry: Telemetry
) -> None:
    wolf, user = telemetry.watch(client(box.base_url)), box.users[0]
    gate = asyncio.Event()
    box.script(user, hold(gate))

    async def call(name: str) -> None:
        with telemetry.tracer.start_as_current_span(name):
            await wolf.task_init(user, max_age=0)

    calls = [asyncio.create_task(call("one"))]
    await box.wait_for_calls(1)
    calls += [asyncio.create_task(call(name)) for name in ("two", "three")]
    await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(*calls)
    parents = [parent_of(load) for load in telemetry.spans("wolf.load")]
    assert parents == [id_of(telemetry.span("one")), id_of(telemetry.span("two"))]
    assert linked(telemetry.span("wolf.wait")) == [id_of(telemetry.spans("wolf.load")[1])]


async def test_a_background_refresh_is_a_trace_of_its_own_linked_to_its_caller(
    box: Sandbox, client: MakeClient, telemetry: Telemetry
) -> None:
    clock = FakeClock()
    policy = CachePolicy(ttl=1, stale_while_revalidate=100)
    wolf, user = client(box.base_url, cache=policy, clock=clock), box.users[0]
    await wolf.task_init(user)
    telemetry.watch(wolf)
    clock.advance(5)
    with telemetry.tracer.start_as_current_span("handler"):
        await wolf.task_init(user)
    await box.wait_for_calls(2)
    await wolf.task_init(user, max_age=1)
    load, handler = telemetry.span("wolf.load"), telemetry.span("handler")
    assert load.parent is None
    assert load.context is not None
    assert handler.context is not None
    assert load.context.trace_id != handler.context.trace_id
    assert linked(load) == [id_of(handler)]
    # of the call that waited for it here; the one that began it was a hit
    wait = telemetry.span("wolf.wait")
    assert (wait.parent, linked(wait)) == (None, [id_of(load)])


async def test_there_is_no_span_for_a_hit(
    box: Sandbox, client: MakeClient, telemetry: Telemetry
) -> None:
    wolf = client(box.base_url)
    await wolf.task_init(box.users[0])
    telemetry.watch(wolf)
    await wolf.task_init(box.users[0])
    assert telemetry.spans() == []


async def test_a_failure_marks_the_spans_of_all_who_got_it(
    box: Sandbox, client: MakeClient, telemetry: Telemetry
) -> None:
    wolf, user = telemetry.watch(client(box.base_url, retry=ONCE)), box.users[0]
    box.always(respond(503))
    calls = [asyncio.create_task(wolf.task_init(user)) for _ in range(2)]
    for call in calls:
        with pytest.raises(WolfServerError):
            await call
    for name in ("wolf.load", "wolf.wait"):
        assert telemetry.span(name).status.status_code is StatusCode.ERROR
    assert telemetry.span("wolf.load").attributes == {
        "wolf.outcome": "failure",
        "error.type": "WolfServerError",
    }


async def test_requests_and_loads_are_measured(
    box: Sandbox, client: MakeClient, telemetry: Telemetry
) -> None:
    wolf = telemetry.watch(client(box.base_url, retry=AT_ONCE))
    box.script(box.users[0], respond(503))
    for user in box.users[:3]:
        await wolf.task_init(user)
    requests = telemetry.attributes("http.client.request.duration")
    assert [found["http.response.status_code"] for found in requests] == [503, 200]
    assert [found.get("error.type") for found in requests] == ["503", None]
    assert {found["url.template"] for found in requests} == {TEMPLATE}
    assert telemetry.points("wolf.load.duration") == {"value": 3}


async def test_the_counts_of_a_client_are_read_when_they_are_collected(
    box: Sandbox, client: MakeClient, telemetry: Telemetry
) -> None:
    wolf = telemetry.watch(client(box.base_url, retry=ONCE))
    await asyncio.gather(*[wolf.task_init(box.users[0]) for _ in range(3)])
    await wolf.task_init(box.users[0])
    box.script(box.users[1], respond(503))
    with pytest.raises(WolfServerError):
        await wolf.task_init(box.users[1])
    assert telemetry.points("wolf.cache.calls") == {
        "hit": 1,
        "stale": 0,
        "miss": 2,
        "joined": 2,
        "error": 0,
    }
    assert telemetry.points("wolf.loads") == {"value": 1, "failure": 1, "abandoned": 0}
    assert telemetry.points("wolf.cache.entries") == {None: 1}
    shared = [name for name in ClientStats.__struct_fields__ if name.startswith("shared_")]
    assert shared
    for name in (
        *("cache.evictions", "repairs", "throttled", "breaker.opened", "loads.in_flight"),
        *(name.replace("_", ".", 1) for name in shared),
    ):
        assert telemetry.points(f"wolf.{name}") == {None: 0}


async def test_two_clients_of_one_deployment_are_one_series(
    box: Sandbox, client: MakeClient, telemetry: Telemetry
) -> None:
    for wolf in (client(box.base_url), client(box.base_url)):
        telemetry.watch(wolf)
        await wolf.task_init(box.users[0])
    assert telemetry.points("wolf.cache.entries") == {None: 2}


async def test_ids_are_on_spans_only_where_they_are_asked_for_and_on_no_metric(
    box: Sandbox, client: MakeClient, telemetry: Telemetry
) -> None:
    account = box.accounts[-1]
    await telemetry.watch(client(box.base_url)).task_init(*account)
    said = "".join(span.to_json() for span in telemetry.spans())
    assert account.user_id not in said
    assert TOKEN not in said
    seen = len(telemetry.spans())
    await telemetry.watch(client(box.base_url), account_ids=True).task_init(*account)
    for span in telemetry.spans()[seen:]:
        assert span.attributes is not None
        assert span.attributes["wolf.user_id"] == account.user_id
        assert span.attributes["wolf.sub_user_id"] == account.sub_user_id
    measured = str(telemetry.attributes("http.client.request.duration"))
    assert account.user_id not in measured


async def test_no_traceparent_is_sent_to_the_api(
    box: Sandbox, client: MakeClient, telemetry: Telemetry
) -> None:
    wolf = telemetry.watch(client(box.base_url))
    with telemetry.tracer.start_as_current_span("handler"):
        await wolf.task_init(box.users[0])
    assert "traceparent" not in box.calls[0].headers


async def test_under_fastapi_each_load_is_under_the_request_that_began_it(
    box: Sandbox, client: MakeClient, telemetry: Telemetry
) -> None:
    wolf = telemetry.watch(client(box.base_url))
    app = fastapi.FastAPI()

    @app.get("/free/{user_id}")
    async def free(user_id: str) -> int:
        with telemetry.tracer.start_as_current_span(f"GET /free/{user_id}"):
            init = await wolf.task_init(user_id)
        return sum(line.residue or 0 for line in init.caller_line_list)

    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://app") as web:
        users = box.users[:3]
        answers = await asyncio.gather(*[web.get(f"/free/{user}") for user in users])
    assert [answer.status_code for answer in answers] == [200] * 3
    parents = {parent_of(load) for load in telemetry.spans("wolf.load")}
    assert parents == {id_of(telemetry.span(f"GET /free/{user}")) for user in users}


async def test_a_client_without_an_sdk_works_as_ever(box: Sandbox, client: MakeClient) -> None:
    wolf = client(box.base_url)
    instrument(wolf)
    assert (await wolf.task_init(box.users[0])).caller_line_list


async def test_a_provider_that_the_program_sets_later_gets_the_spans_from_then_on(
    box: Sandbox, client: MakeClient, telemetry: Telemetry, monkeypatch: pytest.MonkeyPatch
) -> None:
    wolf = client(box.base_url)
    instrument(wolf)
    await wolf.task_init(box.users[0])
    monkeypatch.setattr("opentelemetry.trace._TRACER_PROVIDER", telemetry.traces)
    await wolf.task_init(box.users[1])
    assert len(telemetry.spans("wolf.load")) == len(telemetry.spans("GET")) == 1


async def test_a_provider_that_the_program_sets_later_gets_the_measurements_from_then_on(
    box: Sandbox, client: MakeClient, telemetry: Telemetry
) -> None:
    # as the API's own one for those who have set none yet, which cannot be set twice
    proxy = _ProxyMeterProvider()
    wolf = client(box.base_url)
    instrument(wolf, meter_provider=proxy)
    await wolf.task_init(box.users[0])
    proxy.on_set_meter_provider(telemetry.metrics)
    await wolf.task_init(box.users[1])
    assert telemetry.points("wolf.load.duration") == {"value": 1}
    assert telemetry.points("http.client.request.duration") == {None: 1}


async def test_without_an_sdk_no_event_is_made(
    box: Sandbox, client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **fields: object) -> None:
        pytest.fail("an event is made that nobody hears")

    wolf = client(box.base_url)
    instrument(wolf)
    for module, name in ((events, "LoadEvent"), (events, "WaitEvent"), (sender, "RequestEvent")):
        monkeypatch.setattr(module, name, refuse)
    assert await wolf.task_init(box.users[0])


async def test_what_cannot_be_instrumented_is_refused(
    box: Sandbox, client: MakeClient, telemetry: Telemetry
) -> None:
    wolf = telemetry.watch(client(box.base_url))
    with pytest.raises(WolfConfigError, match="instrumented already"):
        telemetry.watch(wolf)
    with pytest.raises(WolfConfigError, match="takes a WolfClient"):
        instrument(box)  # type: ignore[arg-type]


async def test_no_provider_keeps_a_client_alive(box: Sandbox, telemetry: Telemetry) -> None:
    wolf = telemetry.watch(WolfClient(TOKEN, base_url=box.base_url))
    await wolf.task_init(box.users[0])
    await wolf.aclose()
    gone = weakref.ref(wolf)
    del wolf
    gc.collect()
    assert gone() is None
    assert telemetry.points("wolf.cache.entries") == {}
