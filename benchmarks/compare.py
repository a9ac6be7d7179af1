"""Compare two saved runs: ``python -m benchmarks compare A B``."""

from __future__ import annotations

from benchmarks.harness import Figure, Spread
from benchmarks.report import Report, number, table


def _key(figure: Figure) -> tuple[str, str, str, str]:
    return figure.part, figure.name, figure.against, figure.unit


def _verdict(before: Spread, after: Spread) -> str:
    # what has no spread, such as a count, is different by any difference
    if after.low <= before.high and after.high >= before.low:
        return ""
    return "**more**" if after.median > before.median else "**less**"


def _row(before: Figure, after: Figure) -> list[str]:
    values = before.value, after.value
    shown = [f"{number(value.median)} {before.unit}".strip() for value in values]
    change = f"{after.value.median / before.value.median:.3f}" if before.value.median else ""
    return [before.part, before.name, before.against, *shown, change, _verdict(*values)]


def compare(before: Report, after: Report) -> str:
    """Say in Markdown what moved beyond the quartiles of both runs."""
    then, now = ({_key(figure): figure for figure in report.figures} for report in (before, after))
    rows = [_row(figure, now[key]) for key, figure in then.items() if key in now]
    moved = sum(bool(row[-1]) for row in rows)
    lines = [f"- {name} of A: {value}" for name, value in before.setting.items()]
    lines += [f"- {name} of B: {value}" for name, value in after.setting.items()]
    lines += ["", table(["part", "", "against", "A", "B", "B / A", "moved"], rows), ""]
    lines.append(f"{moved} of {len(rows)} moved beyond their spread.")
    for only, keys in (("A", then.keys() - now.keys()), ("B", now.keys() - then.keys())):
        if keys:
            parts = ", ".join(sorted({key[0] for key in keys}))
            lines.append(f"Only in {only}: {len(keys)} figures of {parts}.")
    return "\n".join(lines)
