"""Draws curves as an SVG picture: one small log-log chart for each operation, one line a side."""

from __future__ import annotations

import math
from collections.abc import Iterable
from html import escape

Points = list[tuple[float, float]]

_WIDTH, _HEIGHT = 280, 210
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 14, 34, 34
_COLUMNS = 3
_HEADER = 48
_COLOURS = ("#1f6feb", "#d1750c", "#2da44e", "#8250df")
_INK, _GRID = "#24292f", "#d8dee4"
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def render(curves: dict[str, dict[str, Points]], title: str, x_title: str, y_title: str) -> str:
    """Return the picture; all charts have the same axes, so that they can be compared."""
    sides = list(dict.fromkeys(side for each in curves.values() for side in each))
    points = [point for each in curves.values() for line in each.values() for point in line]
    xs, ys = (_decades(axis) for axis in zip(*points, strict=True))
    rows = -(-len(curves) // _COLUMNS)
    width, height = _COLUMNS * _WIDTH, _HEADER + rows * _HEIGHT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"'
        f' width="{width}" height="{height}" font-family="sans-serif" font-size="11"'
        f' fill="{_INK}">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        _text(_LEFT, 22, title, size=15),
        *_legend(sides),
    ]
    for index, (name, lines) in enumerate(curves.items()):
        left = index % _COLUMNS * _WIDTH
        top = _HEADER + index // _COLUMNS * _HEIGHT
        chart = _Chart(left + _LEFT, top + _TOP, xs, ys)
        parts += [*chart.axes(name, x_title, y_title)]
        for side, line in lines.items():
            parts += chart.line(line, _COLOURS[sides.index(side) % len(_COLOURS)])
    return "\n".join([*parts, "</svg>", ""])


class _Chart:
    """One chart's place and scales."""

    def __init__(self, left: int, top: int, xs: range, ys: range) -> None:
        self.left, self.top, self.xs, self.ys = left, top, xs, ys
        self.right = left + _WIDTH - _LEFT - _RIGHT
        self.bottom = top + _HEIGHT - _TOP - _BOTTOM

    def x(self, value: float) -> float:
        """Return where a value lies from left to right."""
        share = (math.log10(value) - self.xs[0]) / max(1, self.xs[-1] - self.xs[0])
        return round(self.left + share * (self.right - self.left), 1)

    def y(self, value: float) -> float:
        """Return where a value lies from top to bottom."""
        share = (math.log10(value) - self.ys[0]) / max(1, self.ys[-1] - self.ys[0])
        return round(self.bottom - share * (self.bottom - self.top), 1)

    def axes(self, name: str, x_title: str, y_title: str) -> Iterable[str]:
        """Yield the heading, the grid and its labels."""
        yield _text(self.left, self.top - 8, name, size=13, weight="bold")
        yield _text(self.right, self.top - 8, y_title, anchor="end")
        yield _text((self.left + self.right) / 2, self.bottom + 28, x_title, anchor="middle")
        for power in self.xs:
            at = self.x(10.0**power)
            yield _stroke([(at, self.top), (at, self.bottom)], _GRID, 1)
            yield _text(at, self.bottom + 14, _power(power), anchor="middle")
        for power in self.ys:
            at = self.y(10.0**power)
            yield _stroke([(self.left, at), (self.right, at)], _GRID, 1)
            yield _text(self.left - 6, at + 4, _power(power), anchor="end")

    def line(self, points: Points, colour: str) -> Iterable[str]:
        """Yield a line with a dot at each measured point."""
        places = [(self.x(x), self.y(y)) for x, y in points]
        yield _stroke(places, colour, 2)
        for x, y in places:
            yield f'<circle cx="{x}" cy="{y}" r="3" fill="{colour}"/>'


def _legend(sides: list[str]) -> Iterable[str]:
    for index, side in enumerate(sides):
        x, colour = _LEFT + index * 240, _COLOURS[index % len(_COLOURS)]
        yield _stroke([(x, 38), (x + 22, 38)], colour, 2)
        yield _text(x + 28, 42, side)


def _decades(values: Iterable[float]) -> range:
    """Return the powers of ten that enclose some values."""
    found = list(values)
    low, high = math.floor(math.log10(min(found))), math.ceil(math.log10(max(found)))
    return range(low, max(high, low + 1) + 1)


def _power(power: int) -> str:
    return f"{10.0**power:g}" if -2 <= power <= 1 else "10" + str(power).translate(_SUPERSCRIPT)


def _text(
    x: float, y: float, text: str, size: int = 11, anchor: str = "start", weight: str = "normal"
) -> str:
    style = f'font-size="{size}" text-anchor="{anchor}" font-weight="{weight}"'
    return f'<text x="{x}" y="{y}" {style}>{escape(text)}</text>'


def _stroke(places: Iterable[tuple[float, float]], colour: str, width: int) -> str:
    points = " ".join(f"{x},{y}" for x, y in places)
    style = f'fill="none" stroke="{colour}" stroke-width="{width}"'
    return f'<polyline points="{points}" {style}/>'
