"""Run ``wolf-async fetch`` in this process, with a sandbox as the real service."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from wolf_async import Account
from wolf_async.cli.app import run

from .shell import Ended

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


class Shell:
    """Run the command in a thread of this process, in a folder of its own.

    The sandbox is the real service.
    """

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capsys = capsys

    def write(self, name: str, *rows: str) -> str:
        path = self.folder / name
        path.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
        return str(path)

    @property
    def out(self) -> Path:
        return self.folder / "out.jsonl"

    @property
    def errors(self) -> Path:
        return self.folder / "out.errors.jsonl"

    def write_bytes(self, name: str, data: bytes) -> str:
        path = self.folder / name
        path.write_bytes(data)
        return str(path)

    def failures(self) -> list[dict[str, Any]]:
        return lines_of(self.errors)

    def lines(self) -> list[dict[str, Any]]:
        return lines_of(self.out)

    async def fetch(self, accounts: str, *options: str) -> Ended:
        args = ("fetch", accounts, "--out", str(self.out), *options)
        self.said()
        status = await asyncio.to_thread(run, args)
        return Ended(status, *self.said())

    def said(self) -> tuple[str, str]:
        """Return what was printed since the last time, and what was said on stderr."""
        said = self._capsys.readouterr()
        return said.out, said.err


def lines_of(path: Path) -> list[dict[str, Any]]:
    text = path.read_bytes()
    assert text == b"" or text.endswith(b"\n")
    return [json.loads(line) for line in text.splitlines()]


def account_of(line: dict[str, Any]) -> Account:
    return Account(line["user_id"], line["sub_user_id"])
