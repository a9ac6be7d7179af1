"""Tell OpenTelemetry what a client does: spans of loads and requests, and metrics.

Needs the extra ``otel``, which is OpenTelemetry's API alone::

    async with WolfClient(token="…") as wolf:
        instrument(wolf)

Where a program sets up no SDK, nothing is recorded. No attribute of a metric or a span holds a
token, and none an account's id unless it is asked for. No ``traceparent`` is sent to the API.

Spans: ``wolf.load`` under whatever span the caller has who began the load, with a span for each of
its requests below; ``wolf.wait`` for each call that joined, with a link to the load; the requests
that create a task under the caller's span. A refresh in the background is a trace of its own, with
a link to the span of the caller behind whom it began. There is no span for a hit.

Metrics: ``http.client.request.duration`` and ``wolf.load.duration`` in seconds, and the counts of
`WolfClient.stats`, read when they are collected; see `instrument`.

Source: OpenTelemetry's semantic conventions for HTTP clients.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from opentelemetry import context as otel_context
from opentelemetry import metrics, trace
from opentelemetry.metrics import CallbackOptions, Meter, Observation
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, Status, StatusCode

from wolf_async._version import __version__
from wolf_async.client import ClientStats, WolfClient
from wolf_async.errors import WolfConfigError
from wolf_async.events import Event, LoadEvent, RequestEvent, WaitEvent

if TYPE_CHECKING:
    from wolf_async.account import Account

__all__ = ["instrument"]

_Attributes: TypeAlias = "dict[str, str | int]"

_NAME: Final = "wolf_async"
_TEMPLATES: Final = {
    "GET": "/agent-api/new/user/{user_id}/task/create",
    "POST": "/agent-api/new/user/{user_id}/task",
}
_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)


def instrument(
    wolf: WolfClient,
    tracer_provider: trace.TracerProvider | None = None,
    meter_provider: metrics.MeterProvider | None = None,
    *,
    account_ids: bool = False,
) -> None:
    """Record what ``wolf`` does from now on, with the providers given or the global ones.

    ``tracer_provider`` makes the spans and ``meter_provider`` the metrics; ``None`` is the one that
    the program has set for OpenTelemetry's API. ``account_ids=True`` puts the ids of accounts on
    the spans; never on a metric, where each would be a time series of its own.

    Besides the two histograms there are, with ``server.address`` and ``server.port``, the counters
    ``wolf.cache.calls`` (by ``outcome``: hit, stale, miss, joined, error), ``wolf.loads`` (value,
    failure, abandoned), ``wolf.cache.evictions``, ``wolf.repairs``, ``wolf.throttled``,
    ``wolf.breaker.opened`` and ``wolf.shared.*``, which is each count of the shared tier in
    `WolfClient.stats`; and the gauges ``wolf.cache.entries`` and ``wolf.loads.in_flight``.

    Raises `WolfConfigError` for what is no client, or one that is instrumented already.

    >>> import asyncio
    >>> from opentelemetry.sdk.trace import TracerProvider
    >>> from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    >>> from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    >>> from wolf_async import WolfClient
    >>> from wolf_async.otel import instrument
    >>> from wolf_async.testing import Sandbox
    >>> exporter, provider = InMemorySpanExporter(), TracerProvider()
    >>> provider.add_span_processor(SimpleSpanProcessor(exporter))
    >>> async def main() -> None:
    ...     async with Sandbox() as box, WolfClient(box.token, base_url=box.base_url) as wolf:
    ...         instrument(wolf, provider)
    ...         await wolf.task_init(box.users[0])
    ...         await wolf.task_init(box.users[0])  # a hit has no span
    >>> asyncio.run(main())
    >>> for span in exporter.get_finished_spans():
    ...     print(span.name)
    GET /agent-api/new/user/{user_id}/task/create
    wolf.load
    """
    if not isinstance(wolf, WolfClient):
        raise WolfConfigError(f"instrument takes a WolfClient, not {wolf!r}")
    dispatcher = wolf._dispatcher  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
    if any(isinstance(listener, _Recorder) for listener in dispatcher.listeners):
        raise WolfConfigError("this client is instrumented already")
    tracer = trace.get_tracer(_NAME, __version__, tracer_provider)
    meter = metrics.get_meter(_NAME, __version__, meter_provider)
    dispatcher.add(_Recorder(tracer, meter, account_ids=account_ids))
    base_url = wolf._settings.base_url  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
    _clients_of(meter).all[wolf] = _server_attributes(base_url)


# --- spans, and how long things take --------------------------------------------------------------


class _Recorder:
    """The listener: it makes spans and measurements of events."""

    def __init__(self, tracer: trace.Tracer, meter: Meter, *, account_ids: bool) -> None:
        self._tracer = tracer
        self._account_ids = account_ids
        self._requests = meter.create_histogram(
            "http.client.request.duration",
            unit="s",
            description="Duration of HTTP client requests.",
            explicit_bucket_boundaries_advisory=_BUCKETS,
        )
        self._loads = meter.create_histogram(
            "wolf.load.duration",
            unit="s",
            description="Duration of loads, pauses and waits for a place included.",
            explicit_bucket_boundaries_advisory=_BUCKETS,
        )

    def capture(self) -> otel_context.Context:
        """Return the context of the caller, with the span that it is in."""
        return otel_context.get_current()

    def is_idle(self) -> bool:
        """Tell whether the program has set up no SDK, so that nothing is recorded.

        Asked each time, since it may do so later. What the API gives until then keeps in there what
        to use; where that is no longer so, events are made as if something were recorded.
        """
        # as with a tracer: it is a proxy until there is a provider
        histogram = getattr(self._requests, "_real_instrument", self._requests)
        is_measured = histogram is not None and type(histogram) is not metrics.NoOpHistogram
        return not (is_measured or self._is_traced())

    def _is_traced(self) -> bool:
        return type(getattr(self._tracer, "_tracer", self._tracer)) is not trace.NoOpTracer

    def __call__(self, event: Event) -> SpanContext | None:
        """Record ``event``; return the context of the span of a load, for those who joined it."""
        match event:
            case RequestEvent():
                self._requests.record(event.seconds, _attributes_of(event))
                # a creation is no load: it runs in its caller's context
                if event.method == "POST":
                    self._trace_request(event, otel_context.get_current())
            case LoadEvent():
                self._loads.record(event.seconds, {"outcome": event.outcome})
                return self._trace_load(event)
            case WaitEvent(joined=True):
                self._trace_wait(event)
            case _:
                pass
        return None

    def _trace_load(self, event: LoadEvent) -> SpanContext | None:
        if not self._is_traced():
            return None
        parent: otel_context.Context | None = event.captured
        links: list[Link] = []
        if event.background:
            links = _links(trace.get_current_span(parent).get_span_context())
            parent = otel_context.Context()
        span = self._tracer.start_span(
            "wolf.load", parent, links=links, start_time=_nanoseconds(event.began_at)
        )
        if span.is_recording():
            span.set_attributes(self._attributes(event.outcome, event.account))
            below = trace.set_span_in_context(span, otel_context.Context())
            for request in event.requests:
                self._trace_request(request, below)
            _end(span, event, event.error)
        return span.get_span_context()

    def _trace_request(self, event: RequestEvent, parent: otel_context.Context) -> None:
        attributes = _attributes_of(event) | self._account_attributes(event.account)
        if event.attempt > 1:
            attributes["http.request.resend_count"] = event.attempt - 1
        span = self._tracer.start_span(
            f"{event.method} {attributes['url.template']}",
            parent,
            SpanKind.CLIENT,
            start_time=_nanoseconds(event.began_at),
            attributes=attributes,
        )
        error = attributes.get("error.type")
        _end(span, event, None if error is None else str(error))

    def _trace_wait(self, event: WaitEvent) -> None:
        span = self._tracer.start_span(
            "wolf.wait",
            event.captured,
            links=_links(event.load),
            start_time=_nanoseconds(event.began_at),
            attributes=self._attributes(event.outcome, event.account),
        )
        _end(span, event, "failure" if event.outcome == "failure" else None)

    def _attributes(self, outcome: str, account: Account) -> _Attributes:
        return {"wolf.outcome": outcome, **self._account_attributes(account)}

    def _account_attributes(self, account: Account) -> _Attributes:
        if not self._account_ids:
            return {}
        attributes: _Attributes = {"wolf.user_id": account.user_id}
        if account.sub_user_id is not None:
            attributes["wolf.sub_user_id"] = account.sub_user_id
        return attributes


def _attributes_of(event: RequestEvent) -> _Attributes:
    return _request_attributes(event.base_url, event.method, event.status, event.error)


@lru_cache(maxsize=1024)
def _request_attributes(
    base_url: str, method: str, status: int | None, error: str | None
) -> _Attributes:
    """Return the attributes of all requests that end so; not to be changed."""
    attributes = _server_attributes(base_url) | {
        "http.request.method": method,
        "url.template": urlsplit(base_url).path + _TEMPLATES[method],
    }
    if status is not None:
        attributes["http.response.status_code"] = status
    if error is not None or (status is not None and status >= 400):
        attributes["error.type"] = error or str(status)
    return attributes


def _server_attributes(base_url: str) -> _Attributes:
    base = urlsplit(base_url)
    port = base.port or (443 if base.scheme == "https" else 80)
    return {"server.address": base.hostname or "", "server.port": port}


def _links(context: SpanContext | None) -> list[Link]:
    return [Link(context)] if context is not None and context.is_valid else []


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)


def _end(span: Span, event: LoadEvent | RequestEvent | WaitEvent, error: str | None) -> None:
    if error is not None:
        span.set_attribute("error.type", error)
        span.set_status(Status(StatusCode.ERROR))
    span.end(_nanoseconds(event.began_at + event.seconds))


# --- the counts of the clients --------------------------------------------------------------------


class _Count(NamedTuple):
    """A metric that is read from the counts of a client."""

    name: str
    unit: str
    description: str
    read: Callable[[ClientStats], dict[str, int]]
    """Return the count of each outcome; of ``""`` where there are none."""


def _read_calls(stats: ClientStats) -> dict[str, int]:
    return {
        "hit": stats.hits,
        "stale": stats.stale_hits,
        "error": stats.error_hits,
        "miss": stats.misses,
        "joined": stats.joined,
    }


def _read_loads(stats: ClientStats) -> dict[str, int]:
    ended = stats.loads - stats.in_flight
    return {
        "value": ended - stats.failures - stats.abandoned,
        "failure": stats.failures,
        "abandoned": stats.abandoned,
    }


def _read(field: str) -> Callable[[ClientStats], dict[str, int]]:
    return lambda stats: {"": getattr(stats, field)}


_COUNTERS: Final = (
    _Count("wolf.cache.calls", "{call}", "Calls, by what answered them.", _read_calls),
    _Count("wolf.loads", "{load}", "Loads that have ended.", _read_loads),
    _Count("wolf.cache.evictions", "{entry}", "Answers dropped to make room.", _read("evictions")),
    _Count("wolf.repairs", "{answer}", "Answers with quirks put right.", _read("repaired")),
    _Count("wolf.throttled", "{request}", "Requests answered by 429.", _read("throttled")),
    _Count("wolf.breaker.opened", "{time}", "Openings of the breaker.", _read("breaker_opened")),
    _Count("wolf.shared.hits", "{load}", "Answered by another process.", _read("shared_hits")),
    _Count("wolf.shared.waits", "{load}", "Waited for another process.", _read("shared_waits")),
    _Count("wolf.shared.bypassed", "{load}", "Without the tier.", _read("shared_bypassed")),
    _Count(
        "wolf.shared.stores_refused",
        "{answer}",
        "Overtaken by an invalidation or another load.",
        _read("shared_stores_refused"),
    ),
    _Count(
        "wolf.shared.invalidations",
        "{invalidation}",
        "Came from other processes.",
        _read("shared_invalidations"),
    ),
    _Count(
        "wolf.shared.reconnects",
        "{connection}",
        "Connections to the tier made again.",
        _read("shared_reconnects"),
    ),
)
_GAUGES: Final = (
    _Count("wolf.cache.entries", "{entry}", "Answers held.", _read("entries")),
    _Count("wolf.loads.in_flight", "{load}", "Loads under way.", _read("in_flight")),
)


class _Clients:
    """The clients that one meter is for; their counts are read when they are collected."""

    def __init__(self, meter: Meter) -> None:
        # held by the provider for good, which must not keep the clients
        self.all: WeakKeyDictionary[WolfClient, _Attributes] = WeakKeyDictionary()
        for count in _COUNTERS:
            meter.create_observable_counter(
                count.name, [self._observer(count)], count.unit, count.description
            )
        for count in _GAUGES:
            meter.create_observable_gauge(
                count.name, [self._observer(count)], count.unit, count.description
            )

    def _observer(self, count: _Count) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def observe(options: CallbackOptions) -> Iterable[Observation]:
            # two clients of one deployment are one series
            sums: Counter[tuple[tuple[str, str | int], ...]] = Counter()
            for wolf, server in list(self.all.items()):
                for outcome, value in count.read(wolf.stats()).items():
                    labels = server | ({"outcome": outcome} if outcome else {})
                    sums[tuple(labels.items())] += value
            return [Observation(value, dict(labels)) for labels, value in sums.items()]

        return observe


_clients: Final[WeakKeyDictionary[Meter, _Clients]] = WeakKeyDictionary()


def _clients_of(meter: Meter) -> _Clients:
    # once for each meter: the SDK warns of a second instrument of one name
    found = _clients.get(meter)
    if found is None:
        found = _clients[meter] = _Clients(meter)
    return found
