"""Make the options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import click

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "count_option",
    "every_option",
    "out_option",
    "quiet_option",
    "resume_option",
    "seconds_option",
]

Decorator: TypeAlias = "Callable[[Callable[..., Any]], Callable[..., Any]]"


def seconds_option(name: str, default: float, text: str) -> Decorator:
    """Return an option that takes a number of seconds; the command checks which make sense."""
    return click.option(
        name, metavar="SECONDS", type=float, default=default, show_default=True, help=text
    )


def every_option() -> Decorator:
    """Return the option of how often a watched account is asked for."""
    return seconds_option("--every", 1.0, "Ask for each account once in so many seconds.")


def count_option(name: str, default: int, text: str) -> Decorator:
    """Return an option that takes a number of at least 1."""
    return click.option(
        name, metavar="N", type=click.IntRange(1), default=default, show_default=True, help=text
    )


def out_option(text: str) -> Decorator:
    """Return the option of the file that a run writes, and must be told."""
    return click.option(
        "--out",
        required=True,
        metavar="FILE",
        type=click.Path(path_type=Path, dir_okay=False),
        help=text,
    )


def resume_option(text: str) -> Decorator:
    """Return the option by which a run goes on with what an earlier one has written."""
    return click.option("--resume", is_flag=True, help=f"Continue --out: {text}")


def quiet_option(what: str) -> Decorator:
    """Return the option by which a run shows neither ``what`` nor the summary."""
    return click.option("-q", "--quiet", is_flag=True, help=f"Show neither {what} nor the summary.")
