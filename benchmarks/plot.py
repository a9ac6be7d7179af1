"""One picture of a run: what wolf_async and its peers cost, as multiples of the limit, on a logarithmic scale."""

from __future__ import annotations

import math
from html import escape

from benchmarks.harness import Figure
from benchmarks.report import Report, number

__all__ = ["svg"]

_SHOWN = ("hit", "peek", "waiting", "failure", "miss", "decode", "leaving", "storm")
_LEFT, _RIGHT, _ROW, _TOP = 330, 90, 20, 72
_WIDTH = 900
_OURS, _OTHERS, _REACH = "#0b6e4f", "#9aa5b1", "#c0392b"


def _rows(report: Report) -> list[Figure]:
    """Each multiple of its part's limit, which is what the part's first figure is measured against."""
    rows: list[Figure] = []
    for part in _SHOWN:
        figures = [
            figure for figure in report.figures if figure.part == part and figure.unit == "×"
        ]
        rows += [figure for figure in figures if figure.against == figures[0].against]
    return rows


def _text(x: float, y: float, text: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {more}>{escape(text)}</text>'


def _line(x: float, top: float, bottom: float, colour: str, more: str = "") -> str:
    return f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom}" stroke="{colour}" {more}/>'


class _Scale:
    """From a multiple to a place on the picture."""

    def __init__(self, rows: list[Figure]) -> None:
        values = [figure.value.median for figure in rows]
        self.low = math.log10(min([0.5, *values]))
        self.high = math.log10(max([10.0, *values]))

    def __call__(self, value: float) -> float:
        part = (math.log10(value) - self.low) / (self.high - self.low)
        return _LEFT + part * (_WIDTH - _LEFT - _RIGHT)


def _bar(figure: Figure, y: float, place: _Scale) -> list[str]:
    value = figure.value.median
    ours = figure.name.startswith("`") and "asyncio" not in figure.name
    begin, end = sorted((place(1), place(value)))
    colour = _OURS if ours else _OTHERS
    shape = f'<rect x="{begin:.1f}" y="{y + 4}" width="{max(end - begin, 2):.1f}" height="12" fill="{colour}"/>'
    label = _text(_LEFT - 8, y + 14, figure.name.replace("`", ""), 'text-anchor="end"')
    reach = (
        []
        if figure.reach is None
        else [_line(place(figure.reach), y + 1, y + 19, _REACH, 'stroke-width="2"')]
    )
    return [
        label,
        shape,
        *reach,
        _text(max(end, place(figure.reach or 1)) + 6, y + 14, f"{number(value)} ×"),
    ]


def svg(report: Report) -> str:
    """The picture, as the text of an SVG file."""
    rows = _rows(report)
    place = _Scale(rows)
    shapes: list[str] = []
    y, part = _TOP, ""
    for figure in rows:
        if figure.part != part:
            part = figure.part
            y += _ROW + 6
            shapes.append(
                _text(
                    8,
                    y - 6,
                    f"{part}: × of {figure.against}".replace("`", ""),
                    'font-weight="bold"',
                )
            )
        shapes += _bar(figure, y, place)
        y += _ROW
    ticks = [10**power for power in range(math.ceil(place.low), math.floor(place.high) + 1)]
    grid = [_line(place(tick), _TOP - 12, y, "#d8dee4") for tick in ticks]
    grid += [
        _text(place(tick), _TOP - 16, f"{number(tick)} ×", 'text-anchor="middle"') for tick in ticks
    ]
    head = _text(
        8, 18, "Cost as a multiple of the limit, medians; less is better", 'font-weight="bold"'
    )
    legend = _text(
        8, 36, "green: wolf_async; grey: others; red line: what wolf_async is to stay below"
    )
    size = f'width="{_WIDTH}" height="{y + 16}"'
    font = 'font-family="sans-serif" font-size="12" fill="#1f2933"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="0 0 {_WIDTH} {y + 16}" {font}>',
            f'<rect {size} fill="#ffffff"/>',
            head,
            legend,
            *grid,
            *shapes,
            "</svg>\n",
        ]
    )
