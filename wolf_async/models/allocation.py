"""Share calls out among lines. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from wolf_async.models.sections import Line
from wolf_async.models.task_extras import TaskLine, draft_error

__all__ = ["allocate"]


def allocate(calls: int, lines: Sequence[Line], most_lines: int) -> tuple[TaskLine, ...]:
    """Share ``calls`` out among the fewest of those lines, the roomiest first.

    ``lines`` are those that can carry at least one call more. Of lines with equal room the earlier
    one goes first, so that the result is the same for the same answer. Raises `WolfDraftError` if
    ``most_lines`` of them have too little room.
    """
    by_id: dict[str, Line] = {}
    for line in lines:
        by_id.setdefault(line.line_id, line)
    # sorting keeps the order of equals, also in reverse
    roomiest = sorted(by_id.values(), key=_residue, reverse=True)
    chosen = roomiest[:most_lines]
    if sum(map(_residue, chosen)) < calls:
        raise draft_error("$.task_extras.line", "no_room", _too_little(calls, roomiest, most_lines))
    free = accumulate(map(_residue, chosen), initial=0)
    return tuple(
        TaskLine(id=line.line_id, limit=min(_residue(line), calls - before))
        for line, before in zip(chosen, free, strict=False)
        if before < calls
    )


def _residue(line: Line) -> int:
    return line.residue or 0


def _too_little(calls: int, roomiest: Sequence[Line], most_lines: int) -> str:
    free = sum(map(_residue, roomiest))
    message = f"{calls} calls at once were asked for; {free} are free on {len(roomiest)} lines"
    if free < calls:
        return message
    within = sum(map(_residue, roomiest[:most_lines]))
    return f"{message}, but only {within} on the {most_lines} with most room"
