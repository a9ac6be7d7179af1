"""Give the tests of ``fetch`` and ``create`` a sandbox and a shell."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from wolf_async.testing import FakeClock, Sandbox

from .fetching import Shell

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

ACCOUNTS = 40


@pytest.fixture
async def box() -> AsyncIterator[Sandbox]:
    async with Sandbox(accounts=ACCOUNTS, sub_accounts=1, clock=FakeClock(1000.0)) as running:
        yield running


@pytest.fixture
def shell(
    box: Sandbox,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Shell:
    monkeypatch.setenv("WOLF_TOKEN", box.token)
    monkeypatch.setenv("WOLF_BASE_URL", box.base_url)
    return Shell(tmp_path, capsys)
