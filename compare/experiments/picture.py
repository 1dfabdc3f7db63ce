"""A picture as SVG: lines, steps and marks over two axes. Text alone, for any browser; no drawing library is needed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from html import escape
from typing import Final

from compare.experiments.base import Axis, Line, Mark, Picture

WIDTH, HEIGHT = 900, 460
LEFT, RIGHT, TOP, BOTTOM = 64, 260, 44, 52
COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Okabe and Ito's, which people who see colours differently can tell apart."""
TICKS: Final = 6


def svg(picture: Picture) -> str:
    """The whole file."""
    frame = f'viewBox="0 0 {WIDTH} {HEIGHT}" role="img" font-family="sans-serif" font-size="12"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {frame}>',
            f"<title>{escape(picture.title)}</title>",
            f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
            _text(LEFT, 24, picture.title, size=15),
            *_axes(picture),
            *_drawn(picture),
            "</svg>",
            "",
        ]
    )


# ------------------------------------------------------------------------------------------------------------ the axes


def _share(axis: Axis, value: float) -> float:
    """Where on the axis, from 0 to 1. What lies outside is put on its end."""
    low, high = axis.least, axis.most
    if axis.logarithmic:
        low, high, value = math.log10(low), math.log10(high), math.log10(max(value, low))
    return min(max((value - low) / (high - low), 0.0), 1.0)


def _x(picture: Picture, value: float) -> float:
    return LEFT + _share(picture.x, value) * (WIDTH - LEFT - RIGHT)


def _y(picture: Picture, value: float) -> float:
    return HEIGHT - BOTTOM - _share(picture.y, value) * (HEIGHT - TOP - BOTTOM)


def ticks(axis: Axis) -> list[float]:
    """Round values within the axis: powers of ten with 2 and 5 between them, or even steps."""
    if axis.logarithmic:
        decades = range(math.floor(math.log10(axis.least)), math.ceil(math.log10(axis.most)) + 1)
        found = [factor * 10.0**power for power in decades for factor in (1, 2, 5)]
        return [value for value in found if axis.least <= value <= axis.most]
    rough = (axis.most - axis.least) / TICKS
    scale = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * scale for factor in (1, 2, 5, 10) if factor * scale >= rough)
    first, last = math.ceil(axis.least / step), math.floor(axis.most / step + 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def _axes(picture: Picture) -> Iterator[str]:
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    for value in ticks(picture.x):
        x = _x(picture, value)
        yield f'<path d="M{x:.1f} {TOP}V{bottom}" stroke="#dddddd"/>'
        yield _text(x, bottom + 18, f"{value:g}", "middle")
    for value in ticks(picture.y):
        y = _y(picture, value)
        yield f'<path d="M{LEFT} {y:.1f}H{right}" stroke="#dddddd"/>'
        yield _text(LEFT - 8, y + 4, f"{value:g}", "end")
    yield f'<path d="M{LEFT} {TOP}V{bottom}H{right}" fill="none" stroke="#000000"/>'
    yield _text((LEFT + right) / 2, HEIGHT - 12, picture.x.label, "middle")
    middle = (TOP + bottom) / 2
    turned = f'transform="rotate(-90 16 {middle:.0f})"'
    yield f'<text x="16" y="{middle:.0f}" text-anchor="middle" {turned}>{escape(picture.y.label)}</text>'


# ------------------------------------------------------------------------------------------------------ what is drawn


def _drawn(picture: Picture) -> Iterator[str]:
    for number, line in enumerate(picture.lines):
        colour = COLOURS[number % len(COLOURS)]
        dash = ' stroke-dasharray="6 4"' if line.dashed else ""
        yield f'<path d="{_path(picture, line)}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>'
        y = TOP + 10 + 20 * number
        yield f'<path d="M{WIDTH - RIGHT + 12} {y}h24" stroke="{colour}" stroke-width="2"{dash}/>'
        yield _text(WIDTH - RIGHT + 42, y + 4, line.name)
    below = TOP + 10 + 20 * len(picture.lines)
    measured = [mark for mark in picture.marks if mark.low is not None]
    for mark in measured:
        yield from _measured(picture, mark)
    if measured:
        yield f'<circle cx="{WIDTH - RIGHT + 24}" cy="{below}" r="3.5" fill="#000000"/>'
        yield _text(WIDTH - RIGHT + 42, below + 4, "measured, 95 %")
    for number, mark in enumerate(mark for mark in picture.marks if mark.low is None):
        yield from _published(picture, mark, below + 20 * (number + bool(measured)))


def _path(picture: Picture, line: Line) -> str:
    parts: list[str] = []
    for x, y in line.points:
        place = f"{_x(picture, x):.1f} {_y(picture, y):.1f}"
        if parts and line.steps:
            parts.append(f"H{place.split()[0]}")
        parts.append(f"{'L' if parts else 'M'}{place}")
    return "".join(parts)


def _measured(picture: Picture, mark: Mark) -> Iterator[str]:
    """With its interval."""
    x, y = _x(picture, mark.x), _y(picture, mark.y)
    low, high = (_y(picture, mark.y if end is None else end) for end in (mark.low, mark.high))
    yield f'<path d="M{x:.1f} {low:.1f}V{high:.1f}m-5 0h10M{x - 5:.1f} {low:.1f}h10" stroke="#000000"/>'
    yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="#000000"><title>{escape(mark.name)}</title></circle>'


def _published(picture: Picture, mark: Mark, legend_y: float) -> Iterator[str]:
    x, y = _x(picture, mark.x), _y(picture, mark.y)
    yield f'<path d="M{x - 5:.1f} {y - 5:.1f}l10 10m0 -10l-10 10" stroke="#000000" stroke-width="2"/>'
    yield _text(WIDTH - RIGHT + 12, legend_y + 4, f"\N{MULTIPLICATION SIGN} {mark.name}", size=11)


def _text(x: float, y: float, text: str, anchor: str = "start", size: int = 12) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">{escape(text)}</text>'
