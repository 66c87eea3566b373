"""Panels over one time axis as SVG text. Pure.

Written by hand: plotly needs a browser to make SVG, and its identifiers change from run to run; these files are compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import floor, log10

WIDTH, LEFT, RIGHT = 760, 52, 14
_TOP, _PANEL, _GAP, _BOTTOM = 46, 96, 30, 34
_TEXT, _GRID = "#475569", "#e2e8f0"

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a panel.

    Attributes:
        label: Its entry in the legend; lines of equal labels share one.
        colour: As CSS takes it.
        points: `(seconds, value)`.
        dashed: Drawn dashed.
        is_step: Each value holds until the next.
    """

    label: str
    colour: str
    points: Sequence[Point]
    dashed: bool = False
    is_step: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    """One quantity over time; lines above `top` are cut off there."""

    title: str
    lines: tuple[Line, ...]
    top: float


def draw(panels: Sequence[Panel], seconds: float, description: str) -> str:
    """The panels below each other, from 0 to `seconds`."""
    height = _TOP + len(panels) * (_PANEL + _GAP) - _GAP + _BOTTOM
    size = f'width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}"'
    font = 'font-family="system-ui, sans-serif" font-size="11"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} {font} role="img">',
        f"<title>{escape(description)}</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        _legend(panels),
    ]
    for number, panel in enumerate(panels):
        top = _TOP + number * (_PANEL + _GAP)
        parts.append(_panel(panel, top, seconds, clip=f"panel{number}"))
    bottom = height - _BOTTOM
    for time in ticks(seconds, 8):
        x = _x(time, seconds)
        parts.append(f'<text x="{x:.1f}" y="{bottom + 15}" text-anchor="middle" fill="{_TEXT}">{time:g} s</text>')
    parts.append("</svg>")
    return "\n".join(part for part in parts if part) + "\n"


def ticks(most: float, count: int) -> list[float]:
    """Round values from 0 to at most `most`, about `count` of them."""
    raw = most / count
    power = 10.0 ** floor(log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw)
    return [round(step * number, 9) for number in range(int(most / step + 1e-9) + 1)]


def _legend(panels: Sequence[Panel]) -> str:
    lines = {line.label: line for panel in panels for line in panel.lines}
    parts = []
    x = float(LEFT)
    for label, line in lines.items():
        dash = ' stroke-dasharray="5 3"' if line.dashed else ""
        parts.append(f'<path d="M{x:.0f} 12h18" stroke="{line.colour}" stroke-width="2"{dash}/>')
        parts.append(f'<text x="{x + 23:.0f}" y="16" fill="{_TEXT}">{escape(label)}</text>')
        x += 23 + 6.2 * len(label) + 20
    return "\n".join(parts)


def _panel(panel: Panel, top: float, seconds: float, clip: str) -> str:
    width = WIDTH - LEFT - RIGHT
    parts = [
        f'<clipPath id="{clip}"><rect x="{LEFT}" y="{top - 1}" width="{width}" height="{_PANEL + 2}"/></clipPath>',
        f'<text x="{LEFT}" y="{top - 6}" fill="{_TEXT}" font-weight="600">{escape(panel.title)}</text>',
    ]
    for value in ticks(panel.top, 3):
        y = _y(value, panel, top)
        parts.append(f'<path d="M{LEFT} {y:.1f}h{width}" stroke="{_GRID}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end" fill="{_TEXT}">{value:g}</text>')
    for line in panel.lines:
        dash = ' stroke-dasharray="5 3"' if line.dashed else ""
        parts.append(
            f'<path clip-path="url(#{clip})" d="{_path(line, panel, top, seconds)}" fill="none" stroke="{line.colour}" '
            f'stroke-width="1.6" stroke-linejoin="round"{dash}/>'
        )
    return "\n".join(parts)


def _path(line: Line, panel: Panel, top: float, seconds: float) -> str:
    parts: list[str] = []
    for time, value in line.points:
        x, y = f"{_x(time, seconds):.1f}", f"{_y(min(value, 3 * panel.top), panel, top):.1f}"
        if not parts:
            parts.append(f"M{x} {y}")
        elif line.is_step:
            parts.append(f"H{x}V{y}")
        else:
            parts.append(f"L{x} {y}")
    return "".join(parts)


def _x(time: float, seconds: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * time / seconds


def _y(value: float, panel: Panel, top: float) -> float:
    return top + _PANEL * (1 - value / panel.top)
