"""A board as SVG, as near to what Grafana shows as a few hundred lines of text can be (pure)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import escape

Samples = Sequence[tuple[float, float]]
Series = tuple[str, Samples]
Span = tuple[float, float]
Marks = Sequence[tuple[float, str]]

COLUMN, GAP, UNIT_HEIGHT = 50, 10, 26
HEAD = 64
COLOURS = {
    "green": "#56a64b", "yellow": "#d9a400", "red": "#e02f44", "dark-red": "#9b1c2e",
    "purple": "#a352cc", "dark-purple": "#6b2c91", "orange": "#fa7b17", "blue": "#3274d9",
}  # fmt: skip
PALETTE = (
    "#3274d9", "#56a64b", "#fa7b17", "#a352cc", "#d9a400", "#19a0a8", "#e02f44", "#7a5c3e",
    "#8ab8ff", "#96d98d",
)  # fmt: skip
OUTSIDE, INSIDE = "#f4f5f7", "#ffffff"
TEXT, FAINT, GRID = "#24292e", "#6a737d", "#e1e4e8"


@dataclass(frozen=True, slots=True)
class Drawn:
    """A panel of the board's file, and its answers by legend."""

    panel: dict[str, Any]
    series: Sequence[Series]

    @property
    def unit(self) -> str:
        """Grafana's name of it."""
        return str(self.panel["fieldConfig"]["defaults"]["unit"])

    @property
    def steps(self) -> list[tuple[float, str]]:
        """Thresholds; the first holds from minus infinity."""
        steps = self.panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
        return [(-math.inf if s["value"] is None else s["value"], s["color"]) for s in steps]


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle of the picture."""

    x: float
    y: float
    width: float
    height: float


def draw(title: str, drawn: Sequence[Drawn], span: Span, marks: Marks) -> str:
    """The whole picture. `marks` are moments with a name, drawn into every line panel."""
    parts, row_y, x, highest = [], float(HEAD), float(GAP), 0.0
    for one in drawn:
        grid = one.panel["gridPos"]
        width = grid["w"] * COLUMN - GAP
        height = grid["h"] * UNIT_HEIGHT - GAP
        if x + width > 24 * COLUMN + GAP:
            row_y, x, highest = row_y + highest + GAP, float(GAP), 0.0
        parts.append(_panel(one, Box(x, row_y, width, height), span, marks))
        x, highest = x + width + GAP, max(highest, height)
    height, width = row_y + highest + GAP, 24 * COLUMN + GAP
    legend = " · ".join(f"{n} {name}" for n, (_, name) in enumerate(marks, 1))
    legend = f"{(span[1] - span[0]) / 60:.1f} minutes of real mail: {legend}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height:.0f}" '
        f'font-family="Helvetica, Arial, sans-serif">'
        f'<rect width="100%" height="100%" fill="{OUTSIDE}"/>'
        f"{_text(GAP + 4, 28, title, 20, TEXT, bold=True)}"
        f"{_text(GAP + 4, 50, legend, 12, FAINT)}{''.join(parts)}</svg>\n"
    )


def _panel(one: Drawn, box: Box, span: Span, marks: Marks) -> str:
    frame = (
        f'<rect x="{box.x:.0f}" y="{box.y:.0f}" width="{box.width:.0f}" '
        f'height="{box.height:.0f}" rx="4" fill="{INSIDE}" stroke="{GRID}"/>'
    )
    title = _text(box.x + 10, box.y + 19, one.panel["title"], 13, TEXT, bold=True)
    inner = Box(box.x + 10, box.y + 28, box.width - 20, box.height - 36)
    kind = one.panel["type"]
    if kind == "stat":
        return frame + _number(one, box) + title
    if kind == "bargauge":
        return frame + title + _bars(one, inner)
    if kind == "table":
        return frame + title + _table(one, inner)
    return frame + title + _lines(one, inner, span, marks)


def _number(one: Drawn, box: Box) -> str:
    value = one.series[0][1][-1][1] if one.series and one.series[0][1] else math.nan
    colour = COLOURS[[name for at, name in one.steps if not value < at][-1]]
    strip = (
        f'<rect x="{box.x:.0f}" y="{box.y + box.height - 5:.0f}" width="{box.width:.0f}" '
        f'height="5" rx="2" fill="{colour}"/>'
    )
    return strip + _text(box.x + 10, box.y + 62, said(value, one.unit), 27, colour, bold=True)


def _bars(one: Drawn, box: Box) -> str:
    last = sorted(((samples[-1][1], name) for name, samples in one.series), reverse=True)[:9]
    most, parts = max((value for value, _ in last), default=1.0) or 1.0, []
    for number, (value, name) in enumerate(last):
        y = box.y + 18 * number
        length = max(2.0, (box.width - 190) * value / most)
        parts.append(_text(box.x, y + 13, name, 11, TEXT))
        parts.append(
            f'<rect x="{box.x + 130:.0f}" y="{y + 2:.0f}" width="{length:.1f}" height="13" '
            f'fill="{PALETTE[0]}"/>'
        )
        parts.append(_text(box.x + 136 + length, y + 13, said(value, one.unit), 11, FAINT))
    return "".join(parts)


def _table(one: Drawn, box: Box) -> str:
    names = sorted({name for name, _ in one.series}) or ["nothing"]
    return "".join(
        _text(box.x, box.y + 16 + 18 * number, name, 12, COLOURS["red"] if one.series else FAINT)
        for number, name in enumerate(names)
    )


def _lines(one: Drawn, box: Box, span: Span, marks: Marks) -> str:
    rows = 1 + max((row for row, _ in _places([n for n, _ in one.series], box.width)), default=0)
    plot = Box(box.x + 44, box.y + 4, box.width - 48, box.height - 15 * rows - 14)
    stacked = one.panel["fieldConfig"]["defaults"].get("custom", {}).get("stacking", {})
    layers = _stacked(one.series) if stacked.get("mode") == "normal" else one.series
    top = _top(layers)
    parts = [_axis(plot, top, one.unit)]
    parts += [
        _level(plot, top, at, colour) for at, colour in one.steps[1:] if 0 < at <= top
    ]  # thresholds
    colours = [_colour(one, name, number) for number, (name, _) in enumerate(one.series)]
    order = range(len(layers) - 1, -1, -1) if layers is not one.series else range(len(layers))
    for number in order:
        filled = layers is not one.series
        parts.append(_path(plot, span, top, layers[number][1], colours[number], filled=filled))
    names = [name for name, _ in one.series]
    parts.append(_marks(plot, span, marks))
    parts.append(_legend(names, colours, box, plot.y + plot.height + 20))
    return "".join(parts)


def _stacked(series: Sequence[Series]) -> Sequence[Series]:
    total: dict[float, float] = {}
    layers = []
    for name, samples in series:
        for at, value in samples:
            total[at] = total.get(at, 0.0) + value
        layers.append((name, [(at, total[at]) for at, _ in samples]))
    return layers


def _top(layers: Sequence[Series]) -> float:
    most = max((value for _, samples in layers for _, value in samples), default=0.0)
    if most <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(most))
    return next(step * power for step in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if step * power >= most)


def _axis(plot: Box, top: float, unit: str) -> str:
    parts = []
    for share in (0, 0.5, 1):
        y = plot.y + plot.height * (1 - share)
        parts.append(_level(plot, 1, share, GRID))
        label = said(top * share, unit)
        parts.append(_text(plot.x - 5, y + 4, label, 10, FAINT, anchor="end"))
    return "".join(parts)


def _level(plot: Box, top: float, at: float, colour: str) -> str:
    y = plot.y + plot.height * (1 - at / top)
    known = COLOURS.get(colour)
    dashes = ' stroke-dasharray="5 4"' if known else ""
    return (
        f'<line x1="{plot.x:.0f}" x2="{plot.x + plot.width:.0f}" y1="{y:.1f}" y2="{y:.1f}" '
        f'stroke="{known or colour}"{dashes}/>'
    )


def _marks(plot: Box, span: Span, marks: Marks) -> str:
    parts = []
    for number, (at, _) in enumerate(marks, 1):
        x = _x(plot, span, at)
        parts.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{plot.y:.0f}" y2="{plot.y + plot.height:.0f}" '
            f'stroke="#7f8790" stroke-dasharray="2 3"/>'
        )
        parts.append(_text(x + 2, plot.y + 8, str(number), 9, FAINT))
    return "".join(parts)


def _path(plot: Box, span: Span, top: float, samples: Samples, colour: str, *, filled: bool) -> str:
    bottom = plot.y + plot.height
    points = [
        (_x(plot, span, at), bottom - plot.height * min(max(value, 0) / top, 1))
        for at, value in samples
    ]
    text = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    if not filled:
        return f'<polyline points="{text}" fill="none" stroke="{colour}" stroke-width="1.6"/>'
    corners = f"{points[0][0]:.1f},{bottom:.1f} {text} {points[-1][0]:.1f},{bottom:.1f}"
    return f'<polygon points="{corners}" fill="{colour}" stroke="{colour}"/>'


def _x(plot: Box, span: Span, at: float) -> float:
    return plot.x + plot.width * (at - span[0]) / (span[1] - span[0])


def _colour(one: Drawn, name: str, number: int) -> str:
    for override in one.panel["fieldConfig"].get("overrides", ()):
        if override["matcher"].get("options") == name:
            return COLOURS[override["properties"][0]["value"]["fixedColor"]]
    return PALETTE[number % len(PALETTE)]


def _legend(names: Sequence[str], colours: Sequence[str], box: Box, y: float) -> str:
    parts = []
    for name, colour, (row, left) in zip(names, colours, _places(names, box.width), strict=True):
        x, below = box.x + left, y + 15 * row
        square = f'y="{below - 8:.0f}" width="9" height="9" fill="{colour}"/>'
        parts.append(f'<rect x="{x:.0f}" {square}{_text(x + 13, below, name, 11, TEXT)}')
    return "".join(parts)


def _places(names: Sequence[str], width: float) -> list[tuple[int, float]]:
    """Row and distance from the left of each name of a legend."""
    places, row, left = [], 0, 0.0
    for name in names:
        needed = 6.4 * len(name) + 24
        if left and left + needed > width:
            row, left = row + 1, 0.0
        places.append((row, left))
        left += needed
    return places


def _text(
    x: float, y: float, text: str, size: int, colour: str, *, bold: bool = False, anchor: str = ""
) -> str:
    weight = ' font-weight="bold"' if bold else ""
    where = f' text-anchor="{anchor}"' if anchor else ""
    return (
        f'<text x="{x:.0f}" y="{y:.0f}" font-size="{size}" fill="{colour}"{weight}{where}>'
        f"{escape(text)}</text>"
    )


def said(value: float, unit: str) -> str:
    """The value as a person reads it."""
    if math.isnan(value):
        return "none"
    if unit == "percentunit":
        return f"{100 * value:.3g} %"
    if unit == "s":
        return _seconds(value)
    suffix = {"Bps": "B/s", "bytes": "B"}.get(unit, "")
    if unit.startswith("suffix:"):
        suffix = unit.removeprefix("suffix:").strip()
    for limit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.3g} {letter}{suffix}"
    return f"{value:.3g} {suffix}".strip()


def _seconds(value: float) -> str:
    for limit, name in ((86400, "d"), (3600, "h"), (300, "min")):
        if value >= 2 * limit:
            return f"{value / (60 if name == 'min' else limit):,.0f} {name}"
    return f"{value:.3g} s" if value >= 1 or value == 0 else f"{1000 * value:.3g} ms"
