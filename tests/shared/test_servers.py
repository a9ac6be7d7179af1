"""A server that does not come up says why, and leaves nothing behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from shared.servers import Server

if TYPE_CHECKING:
    from pathlib import Path


def test_a_server_that_ends_shows_what_it_said(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="no-such-option"):
        Server(tmp_path, "--no-such-option", "1").start()


def test_a_server_on_the_port_of_another_is_not_taken_for_it(
    server: Server, tmp_path: Path
) -> None:
    second = Server(tmp_path)
    second.port = server.port
    with pytest.raises(AssertionError, match="in use"):
        second.start()
