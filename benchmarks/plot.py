"""Draw the figures that a user decides by: a line each, as multiples of its limit."""

from __future__ import annotations

import math
from html import escape

from benchmarks.harness import Figure
from benchmarks.report import Report, amount, number

_WIDTH, _TOP, _ROW = 900, 86, 46
_LEFT, _RIGHT = 320, 650
_OURS, _OTHERS, _REACH, _GREY = "#0b6e4f", "#9aa5b1", "#c0392b", "#616e7c"
_BOLD, _SMALL = 'font-weight="bold"', f'font-size="11" fill="{_GREY}"'


def _text(x: float, y: float, text: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {more}>{escape(text.replace("`", ""))}</text>'


def _line(x: float, top: float, bottom: float, colour: str, width: int = 1) -> str:
    ends = f'x1="{x:.1f}" x2="{x:.1f}" y1="{top:.1f}" y2="{bottom:.1f}"'
    return f'<line {ends} stroke="{colour}" stroke-width="{width}"/>'


def _dot(x: float, y: float, radius: float, colour: str, title: str) -> str:
    circle = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{colour}">'
    return f"{circle}<title>{escape(title)}</title></circle>"


class _Scale:
    """Turns a multiple into a place: equal ratios are equal distances."""

    def __init__(self, figures: list[Figure]) -> None:
        values = [figure.value.median for figure in figures]
        self.low = math.log10(min([0.8, *values]))
        self.high = math.log10(max([10.0, *values]))

    def __call__(self, value: float) -> float:
        part = (math.log10(value) - self.low) / (self.high - self.low)
        return _LEFT + part * (_RIGHT - _LEFT)

    @property
    def ticks(self) -> list[float]:
        powers = range(math.ceil(self.low), math.floor(self.high) + 1)
        return [10.0**power for power in powers]


def _named(figure: Figure) -> str:
    return f"{figure.who}: {amount(figure)}, {number(figure.value.median)} ×"


def _row(figure: Figure, others: list[Figure], y: float, place: _Scale) -> list[str]:
    """Draw one line: what it is, the dots, and the figures in themselves."""
    cost = f"{amount(figure)}   {number(figure.value.median)} ×"
    shapes = [
        _text(8, y, figure.title, _BOLD),
        _text(8, y + 16, f"1 × = {figure.against}", _SMALL),
        _text(_RIGHT + 20, y, cost, f'{_BOLD} fill="{_OURS}" xml:space="preserve"'),
    ]
    if others:
        shapes.append(_text(_RIGHT + 20, y + 16, _named(others[0]), _SMALL))
    for other in others:
        shapes.append(_dot(place(other.value.median), y, 4.5, _OTHERS, _named(other)))
    if figure.reach is not None:
        shapes.append(_line(place(figure.reach), y - 9, y + 9, _REACH, 2))
    return [*shapes, _dot(place(figure.value.median), y, 6.5, _OURS, _named(figure))]


def _grid(place: _Scale, bottom: float) -> list[str]:
    shapes: list[str] = []
    for tick in place.ticks:
        shapes.append(_line(place(tick), _TOP - 22, bottom, "#d8dee4", 2 if tick == 1 else 1))
        middle = f'text-anchor="middle" {_SMALL}'
        shapes.append(_text(place(tick), _TOP - 28, f"{number(tick)} ×", middle))
    return shapes


def svg(report: Report) -> str:
    """Return the picture, as the text of an SVG file."""
    shown = [(figure, others) for figure, others in report.summary() if figure.plotted]
    place = _Scale([each for figure, others in shown for each in (figure, *others)])
    height = _TOP + _ROW * len(shown)
    size = f'width="{_WIDTH}" height="{height}"'
    shapes = [
        _text(8, 20, "What wolf_async costs, as a multiple of the limit; less is better", _BOLD),
        _text(
            8,
            38,
            "green: wolf_async; grey: others, of whom the best is named; red: the reach set",
            _SMALL,
        ),
        *_grid(place, height - 16),
    ]
    for number_, (figure, others) in enumerate(shown):
        shapes += _row(figure, others, _TOP + _ROW * number_, place)
    font = 'font-family="sans-serif" font-size="13" fill="#1f2933"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="0 0 {_WIDTH} {height}" {font}>'
    return "\n".join([head, f'<rect {size} fill="#ffffff"/>', *shapes, "</svg>\n"])
