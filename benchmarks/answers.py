"""Parts ``hit``, ``peek``, ``decode`` and ``refresh``: an answer that is held, or has come."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from benchmarks.harness import Effort, Figure, Samples, beside_all, interleave, repeated
from benchmarks.peers import installed, peers
from benchmarks.subjects import SAMPLE, SUB, USER, OfflineClient, decoder, envelope_of, sample
from benchmarks.twins import attrs_envelope, pydantic_envelope
from wolf_async import Account, RawResponse, WolfClient
from wolf_async.api.response import parse

BARE = "bare function, `d[user_id, sub_user_id]`"
HIT = "`await client.task_init(u, s)`"
PEEK = "`client.peek(u, s)`"
DECODER = "bare typed msgspec decoder"
PARSE = "`wolf_async.api.response.parse`"
KEPT = "from the bytes of a body to what is kept"
BODIES = {"documented sample": SAMPLE, "0.5 MB": envelope_of(500_000)}

Decode = Callable[[bytes], Any]


def _measured(
    effort: Effort, client: WolfClient, statements: dict[str, tuple[str, Any]]
) -> Samples:
    """Run each statement, with ``f`` for its function, on ids of which ``client`` has an answer."""
    with effort.runner() as runner:
        runner.run(client.task_init(USER, SUB))
        variants = {
            name: repeated(runner, effort.slot, statement, f=function, u=USER, s=SUB)
            for name, (statement, function) in statements.items()
        }
        samples = interleave(variants, effort.rounds)
        runner.run(client.aclose())
    return samples


def hit(effort: Effort) -> list[Figure]:
    """Measure a hit that is awaited."""
    held: dict[Any, Any] = {(USER, SUB): object()}

    async def bare(user_id: str, sub_user_id: str) -> Any:
        return held[user_id, sub_user_id]

    async def load(user_id: str, sub_user_id: str | None) -> Any:
        return "an answer"

    client = OfflineClient(sample)
    # on the client as users write it: what a bound method saves would not be theirs
    statements: dict[str, tuple[str, Any]] = {
        HIT: ("await f.task_init(u, s)", client),
        BARE: ("await f(u, s)", bare),
    }
    statements |= {peer.name: ("await f(u, s)", peer.cached(load)) for peer in peers()}
    samples = _measured(effort, client, statements)
    return beside_all(samples, HIT, BARE, reach=2.8, title="A hit, awaited", plotted=True)


def peek(effort: Effort) -> list[Figure]:
    """Measure the same without suspending: plain functions."""
    held: dict[Any, Any] = {(USER, SUB): object()}

    def bare(user_id: str, sub_user_id: str) -> Any:
        return held[user_id, sub_user_id]

    client = OfflineClient(sample)
    statements = {BARE: ("f(u, s)", bare), PEEK: ("f.peek(u, s)", client)}
    samples = _measured(effort, client, statements)
    return beside_all(samples, PEEK, BARE, reach=4.5, title="A hit through `peek`")


# --- from bytes to an answer ----------------------------------------------------------------------


def cattrs_decode() -> Decode:
    """Make a decoder of cattrs over orjson, as its documentation prefers for JSON."""
    structured = attrs_envelope()
    converter = import_module("cattrs.preconf.orjson").make_converter()
    return lambda body: converter.loads(body, structured)


def _peers() -> dict[str, Decode]:
    found: dict[str, Decode] = {}
    if installed("pydantic"):
        found["pydantic"] = pydantic_envelope().model_validate_json
    if installed("orjson"):
        found["orjson (dictionaries)"] = import_module("orjson").loads
    if installed("orjson") and installed("cattrs"):
        found["cattrs"] = cattrs_decode()
    return found


def decode(effort: Effort) -> list[Figure]:
    """Measure what the client makes of a body, beside the bare decoder."""
    figures: list[Figure] = []
    others = _peers()
    for size, body in BODIES.items():
        slot = effort.slot * (1 if body is SAMPLE else 6)  # a few decodes of 0.5 MB say little
        with effort.runner() as runner:
            raw = RawResponse(200, {}, body)
            variants = {PARSE: repeated(runner, slot, "parse(raw)", parse=parse, raw=raw)}
            for name, call in {DECODER: decoder.decode, **others}.items():
                variants[name] = repeated(runner, slot, "decode(body)", decode=call, body=body)
            samples = interleave(variants, effort.fewer(2))
        plotted, title = body is SAMPLE, f"Decoding: {size}"
        figures += beside_all(
            samples, PARSE, DECODER, size, reach=1.05, title=title, plotted=plotted
        )
    return figures


def refresh(effort: Effort) -> list[Figure]:
    """Measure a load whose answer equals the one held: the same bytes in another object."""
    figures: list[Figure] = []
    for size, body in BODIES.items():
        with effort.runner() as runner:

            async def upstream(account: Account, body: bytes = body) -> bytes:
                return bytes(memoryview(body))

            raw = RawResponse(200, {}, body)
            client = OfflineClient(upstream)
            runner.run(client.task_init(USER, SUB))
            variants = {
                DECODER: repeated(runner, effort.slot, "decode(b)", decode=decoder.decode, b=body),
                KEPT: repeated(runner, effort.slot, "read(raw)", read=client.read, raw=raw),
            }
            samples = interleave(variants, effort.fewer(2))
            runner.run(client.aclose())
        title = f"A refresh that brings an equal answer: {size}"
        figures += beside_all(samples, KEPT, DECODER, size, reach=0.35, title=title)
    return figures
