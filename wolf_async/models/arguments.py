"""Check the ids and names that callers pass. Pure functions."""

from __future__ import annotations

from wolf_async.errors import WolfConfigError

__all__ = ["id_text", "name_text"]


def id_text(id: object) -> str:
    """Return an id as text: the API has the same id as an int in one place and as text in another.

    Raises `WolfConfigError` for what is neither an int nor a str.
    """
    if isinstance(id, bool) or not isinstance(id, (int, str)):
        raise WolfConfigError(f"id must be an int or a str, not {id!r}")
    # what it holds: str() of an enum's member is its name
    return str.__str__(id) if isinstance(id, str) else int.__repr__(id)


def name_text(name: object) -> str:
    """Return a name as it is; raise `WolfConfigError` for what is no str."""
    if not isinstance(name, str):
        raise WolfConfigError(f"name must be a str, not {name!r}")
    return name
