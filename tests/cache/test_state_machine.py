r"""`LoadingCache` alone, against the model of its semantics in `machine.py`.

It runs for seconds by default, and for as many steps as one likes with::

    WOLF_STEPS=1000000 python -m pytest -o timeout=0 -o faulthandler_timeout=0 -s \
        tests/cache/test_state_machine.py
"""

from __future__ import annotations

from typing import Final

from machine import CacheMachine, run_histories

REACHED: Final = (
    *(
        "hits",
        "stale_hits",
        "error_hits",
        "misses",
        "joined",
        "loads",
        "refreshes",
        "failures",
        "abandoned",
    ),
    *(
        "superseded",
        "evictions",
        "of them queued",
        "of them left by all",
        "of them stood in for",
    ),
    *(
        "value",
        "later value",
        "unwell",
        "no",
        "cancelled",
        "odd",
        "asked by loads",
        "slow clean-ups",
    ),
)


def test_the_cache_does_what_the_model_says() -> None:
    run_histories(CacheMachine, REACHED)
