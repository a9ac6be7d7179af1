"""Two saved runs side by side: ``python -m benchmarks compare A B``."""

from __future__ import annotations

from benchmarks.harness import Figure, Spread
from benchmarks.report import Report, number, table

__all__ = ["compare"]


def _key(figure: Figure) -> tuple[str, str, str, str]:
    return figure.part, figure.name, figure.against, figure.unit


def _change(before: Figure, after: Figure) -> Spread | None:
    """``after`` over ``before``, at most and at least; ``None`` where there is no ratio."""
    a, b = before.value, after.value
    if min(a.low, b.low) <= 0:
        return None
    return Spread(b.median / a.median, b.low / a.high, b.high / a.low)


def _verdict(before: Figure, after: Figure) -> str:
    a, b = before.value, after.value
    # what is exact has no spread, so that any difference is beyond it
    beyond = b.low > a.high or b.high < a.low
    if not beyond:
        return ""
    return "**more**" if b.median > a.median else "**less**"


def _row(before: Figure, after: Figure) -> list[str]:
    change = _change(before, after)
    return [
        before.part,
        before.name,
        before.against,
        f"{number(before.value.median)} {before.unit}".strip(),
        f"{number(after.value.median)} {after.unit}".strip(),
        "" if change is None else f"{change.median:.3f}",
        "" if change is None or before.exact else f"{change.low:.3f} – {change.high:.3f}",
        _verdict(before, after),
    ]


def compare(before: Report, after: Report) -> str:
    """What moved, in Markdown: exact counts by any difference, all else beyond the quartiles of both runs."""
    then, now = ({_key(figure): figure for figure in report.figures} for report in (before, after))
    rows = [_row(figure, now[key]) for key, figure in then.items() if key in now]
    head = ["part", "", "against", "A", "B", "B / A", "within", "moved"]
    lines = [
        *(
            f"- {name}: {value}"
            + ("" if after.setting.get(name) == value else f" → {after.setting.get(name)}")
            for name, value in before.setting.items()
        ),
        "",
        table(head, rows),
        "",
        f"{sum(bool(row[-1]) for row in rows)} of {len(rows)} moved beyond their spread.",
    ]
    for only, keys in (("A", then.keys() - now.keys()), ("B", now.keys() - then.keys())):
        if keys:
            lines.append(
                f"Only in {only}: {len(keys)} figures of {', '.join(sorted({key[0] for key in keys}))}."
            )
    return "\n".join(lines)
