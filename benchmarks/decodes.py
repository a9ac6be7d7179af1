"""Parts ``decode`` and ``refresh``: from bytes to an answer, and an answer that is held already."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from benchmarks.harness import Effort, Figure, beside, interleave, repeated
from benchmarks.peers import installed
from benchmarks.subjects import SAMPLE, SUB, USER, OfflineClient, decoder, envelope_of
from benchmarks.twins import attrs_envelope, pydantic_envelope
from wolf_async import Account, RawResponse
from wolf_async.api.response import parse

BARE = "bare typed msgspec decoder"
CLIENT = "`wolf_async.api.response.parse`"
PYDANTIC, ORJSON, CATTRS = "pydantic", "orjson (dictionaries)", "cattrs"
KEPT = "from the bytes of a body to what is kept"
BODIES = {"documented sample": SAMPLE, "0.5 MB": envelope_of(500_000)}

Decode = Callable[[bytes], Any]


def cattrs_decode() -> Decode:
    """Make a decoder of cattrs over orjson, as its documentation prefers for JSON."""
    structured = attrs_envelope()
    converter = import_module("cattrs.preconf.orjson").make_converter()
    return lambda body: converter.loads(body, structured)


def _peers() -> dict[str, Decode]:
    found: dict[str, Decode] = {}
    if installed("pydantic"):
        found[PYDANTIC] = pydantic_envelope().model_validate_json
    if installed("orjson"):
        found[ORJSON] = import_module("orjson").loads
    if installed("orjson") and installed("cattrs"):
        found[CATTRS] = cattrs_decode()
    return found


def decode(effort: Effort) -> list[Figure]:
    """Measure what the client makes of a body, beside the bare decoder."""
    figures: list[Figure] = []
    others = _peers()
    for size, body in BODIES.items():
        slot = effort.slot * (1 if body is SAMPLE else 6)  # a few decodes of 0.5 MB say little
        with effort.runner() as runner:
            raw = RawResponse(200, {}, body)
            variants = {CLIENT: repeated(runner, slot, "parse(raw)", parse=parse, raw=raw)}
            for name, call in {BARE: decoder.decode, **others}.items():
                variants[name] = repeated(runner, slot, "decode(body)", decode=call, body=body)
            samples = interleave(variants, effort.fewer(2))
        more = {"title": f"Decoding: {size}", "plotted": body is SAMPLE}
        figures.append(beside(samples, CLIENT, BARE, case=size, reach=1.05, **more))
        figures += [beside(samples, name, BARE, case=size, peer=True) for name in others]
    return figures


def refresh(effort: Effort) -> list[Figure]:
    """Measure a load whose answer equals the one held: the same bytes in another object."""
    figures: list[Figure] = []
    for size, body in BODIES.items():
        with effort.runner() as runner:
            view = memoryview(body)

            async def upstream(account: Account, view: memoryview = view) -> bytes:
                return bytes(view)

            raw = RawResponse(200, {}, body)
            client = OfflineClient(upstream)
            runner.run(client.task_init(USER, SUB))
            variants = {
                BARE: repeated(runner, effort.slot, "decode(b)", decode=decoder.decode, b=body),
                KEPT: repeated(runner, effort.slot, "read(raw)", read=client.read, raw=raw),
            }
            samples = interleave(variants, effort.fewer(2))
            runner.run(client.aclose())
        title = f"A refresh that brings an equal answer: {size}"
        figures.append(beside(samples, KEPT, BARE, case=size, reach=0.35, title=title))
    return figures
