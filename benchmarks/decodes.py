"""Parts ``decode`` and ``refresh``: from bytes to an answer, and an answer that is the one that is held."""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

from benchmarks.harness import Effort, Figure, Variant, interleave, ratio, repeated
from benchmarks.peers import installed
from benchmarks.subjects import SAMPLE, SUB, USER, OfflineClient, decoder, envelope_of
from benchmarks.twins import attrs_envelope, pydantic_envelope
from wolf_async import Account, RawResponse
from wolf_async.api.response import parse

__all__ = ["cattrs_decode", "decode", "refresh"]

BARE = "bare typed msgspec decoder"
CLIENT = "`wolf_async.api.response.parse`"
PYDANTIC = "pydantic"
_LARGE = 500_000

Decode = Callable[[bytes], Any]


def _bodies() -> dict[str, bytes]:
    return {"documented sample": SAMPLE, "0.5 MB": envelope_of(_LARGE)}


def cattrs_decode() -> Decode:
    """cattrs over orjson, as its documentation prefers for JSON."""
    structured = attrs_envelope()
    converter = import_module("cattrs.preconf.orjson").make_converter()
    return lambda body: converter.loads(body, structured)


def _peers() -> dict[str, tuple[Decode, str]]:
    found: dict[str, tuple[Decode, str]] = {}
    if installed("pydantic"):
        found[PYDANTIC] = (pydantic_envelope().model_validate_json, "`model_validate_json`")
    if installed("orjson"):
        found["orjson"] = (
            import_module("orjson").loads,
            "dictionaries: no types, no datetimes, no checks",
        )
    if installed("orjson") and installed("cattrs"):
        found["cattrs"] = (cattrs_decode(), "over orjson, to attrs classes")
    return found


def decode(effort: Effort) -> list[Figure]:
    """What the client makes of a body, beside the bare decoder."""
    figures: list[Figure] = []
    others = _peers()
    for size, body in _bodies().items():
        slot = (
            effort.slot if body is SAMPLE else 6 * effort.slot
        )  # a few decodes of 0.5 MB say little
        with effort.runner() as runner:
            response = RawResponse(200, {}, body)
            variants: dict[str, Variant] = {
                BARE: repeated(runner, slot, "decoder.decode(body)", decoder=decoder, body=body),
                CLIENT: repeated(runner, slot, "parse(response)", parse=parse, response=response),
            }
            for name, (function, _) in others.items():
                variants[name] = repeated(runner, slot, "decode(body)", decode=function, body=body)
            samples = interleave(variants, effort.fewer(2))
        figures += [
            Figure(
                part="decode",
                name=f"{name}, {size}",
                value=ratio(samples, name, BARE),
                against=BARE,
                reach=1.05 if name == CLIENT else None,
                note=others[name][1] if name in others else "",
            )
            for name in [CLIENT, *others]
        ]
        if PYDANTIC in others:
            figures.append(
                Figure(
                    part="decode",
                    name=f"{CLIENT}, {size}",
                    value=ratio(samples, CLIENT, PYDANTIC),
                    against=PYDANTIC,
                    reach=1 / 3,
                )
            )
    return figures


def refresh(effort: Effort) -> list[Figure]:
    """A load whose answer equals the one that is held, byte for byte but not the same object."""
    figures: list[Figure] = []
    handled, whole = (
        "from the bytes of a body to what is kept",
        "a whole load, with task, waiter and store",
    )
    for size, body in _bodies().items():
        with effort.runner() as runner:
            view = memoryview(body)

            async def upstream(account: Account, view: memoryview = view) -> bytes:
                return bytes(view)

            client = OfflineClient(upstream, clock=time.monotonic)
            runner.run(client.task_init(USER, SUB))
            variants = {
                BARE: repeated(
                    runner, effort.slot, "decoder.decode(body)", decoder=decoder, body=body
                ),
                handled: repeated(
                    runner,
                    effort.slot,
                    "read(account, response)",
                    read=client.read,
                    account=Account(USER, SUB),
                    response=RawResponse(200, {}, body),
                ),
                whole: repeated(
                    runner,
                    effort.slot,
                    "await client.task_init(u, s, max_age=0)",
                    client=client,
                    u=USER,
                    s=SUB,
                ),
            }
            samples = interleave(variants, effort.fewer(2))
            runner.run(client.aclose())
        figures += [
            Figure(
                part="refresh",
                name=f"{name}, {size}",
                value=ratio(samples, name, BARE),
                against="the decode that it saves",
                reach=0.35 if name == handled else None,
                note="without the network",
            )
            for name in (handled, whole)
        ]
    return figures
