"""Draw the figures that a user decides by: a line each, as multiples of its limit."""

from __future__ import annotations

from html import escape
from math import ceil, floor, log10

from benchmarks.harness import Figure
from benchmarks.report import Report, amount, number

_WIDTH, _TOP, _ROW = 900, 86, 46
_LEFT, _RIGHT = 320, 650
_OURS, _OTHERS, _REACH = "#0b6e4f", "#9aa5b1", "#c0392b"
_BOLD, _SMALL = 'font-weight="bold"', 'font-size="11" fill="#616e7c"'
_LEGEND = "green: wolf_async; grey: others, of whom the best is named; red: the reach set"


def _text(x: float, y: float, text: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {more}>{escape(text.replace("`", ""))}</text>'


def _line(x: float, top: float, bottom: float, colour: str, width: int) -> str:
    ends = f'x1="{x:.1f}" x2="{x:.1f}" y1="{top:.1f}" y2="{bottom:.1f}"'
    return f'<line {ends} stroke="{colour}" stroke-width="{width}"/>'


def _dot(figure: Figure, x: float, y: float, radius: float, colour: str) -> str:
    circle = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{colour}">'
    return f"{circle}<title>{escape(_named(figure))}</title></circle>"


def _named(figure: Figure) -> str:
    return f"{figure.who}: {amount(figure)}, {number(figure.value.median)} ×"


class _Scale:
    """Turns a multiple into a place: equal ratios are equal distances."""

    def __init__(self, figures: list[Figure]) -> None:
        values = [figure.value.median for figure in figures]
        self.low, self.high = log10(min([0.8, *values])), log10(max([10.0, *values]))

    def __call__(self, value: float) -> float:
        part = (log10(value) - self.low) / (self.high - self.low)
        return _LEFT + part * (_RIGHT - _LEFT)

    def grid(self, bottom: float) -> list[str]:
        shapes: list[str] = []
        for tick in (10.0**power for power in range(ceil(self.low), floor(self.high) + 1)):
            shapes.append(_line(self(tick), _TOP - 22, bottom, "#d8dee4", 2 if tick == 1 else 1))
            middle = f'text-anchor="middle" {_SMALL}'
            shapes.append(_text(self(tick), _TOP - 28, f"{number(tick)} ×", middle))
        return shapes


def _row(figure: Figure, others: list[Figure], y: float, place: _Scale) -> list[str]:
    """Draw one line: what it is, the dots, and the figures in themselves."""
    cost = f"{amount(figure)}   {number(figure.value.median)} ×"
    shapes = [
        _text(8, y, figure.title, _BOLD),
        _text(8, y + 16, f"1 × = {figure.against}", _SMALL),
        _text(_RIGHT + 20, y, cost, f'{_BOLD} fill="{_OURS}" xml:space="preserve"'),
        *(_text(_RIGHT + 20, y + 16, _named(other), _SMALL) for other in others[:1]),
        *(_dot(other, place(other.value.median), y, 4.5, _OTHERS) for other in others),
    ]
    if figure.reach is not None:
        shapes.append(_line(place(figure.reach), y - 9, y + 9, _REACH, 2))
    return [*shapes, _dot(figure, place(figure.value.median), y, 6.5, _OURS)]


def svg(report: Report) -> str:
    """Return the picture, as the text of an SVG file."""
    shown = [(figure, others) for figure, others in report.summary() if figure.plotted]
    place = _Scale([each for figure, others in shown for each in (figure, *others)])
    height = _TOP + _ROW * len(shown)
    rows = [_row(*each, _TOP + _ROW * line, place) for line, each in enumerate(shown)]
    size = f'width="{_WIDTH}" height="{height}"'
    font = 'font-family="sans-serif" font-size="13" fill="#1f2933"'
    shapes = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="0 0 {_WIDTH} {height}" {font}>',
        f'<rect {size} fill="#ffffff"/>',
        _text(8, 20, "What wolf_async costs, as a multiple of the limit; less is better", _BOLD),
        _text(8, 38, _LEGEND, _SMALL),
        *place.grid(height - 16),
        *(shape for row in rows for shape in row),
        "</svg>\n",
    ]
    return "\n".join(shapes)
