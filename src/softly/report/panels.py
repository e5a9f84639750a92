"""Small SVG plots for pages and examples: lines, points and bars on plain axes, light or dark as the viewer asks.

A figure is a tuple of panels; `svg` draws them side by side. Coordinates are rounded to a tenth of a pixel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from softly.report.figures import DARK, DARK_MEDIA, LIGHT

WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 400, 300, 56, 40, 14, 48
SERIES = ("before", "after", "muted", "ink")  # colours of the report


@dataclass
class Panel:
    """Axes with what is drawn on them; `log` names the axes that are logarithmic: "", "x", "y" or "xy"."""

    title: str
    x_title: str
    y_title: str
    x_range: tuple[float, float]
    y_range: tuple[float, float]
    log: str = ""
    marks: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)

    def x(self, value: float) -> float:
        """Pixels of a value."""
        return LEFT + (WIDTH - LEFT - RIGHT) * _share(value, self.x_range, "x" in self.log)

    def y(self, value: float) -> float:
        """Pixels of a value."""
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * _share(value, self.y_range, "y" in self.log)

    def line(
        self, xs: Any, ys: Any, name: str, colour: int, *, label: tuple[float, float], dashed: bool = False
    ) -> None:
        """A curve, its name at the values `label`; what lies outside the axes is left out."""
        low, high = self.y_range
        kept = [(self.x(float(a)), self.y(float(b))) for a, b in zip(xs, ys, strict=True) if low <= b <= high]
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in kept)
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        self.marks.append(f'<polyline class="{SERIES[colour]} curve" points="{points}"{dash}/>')
        self.note(name, colour, label)
        self.words.append(f"{name}: from {float(ys[0]):.3g} at {float(xs[0]):.3g} to {float(ys[-1]):.3g}")

    def bars(self, xs: Sequence[float], ys: Sequence[float], width: float, name: str, colour: int) -> None:
        """Bars from 0, `width` wide in units of the x axis."""
        for a, b in zip(xs, ys, strict=True):
            left, right, top = self.x(a - width / 2), self.x(a + width / 2), self.y(b)
            self.marks.append(
                f'<rect class="{SERIES[colour]} bar" x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" '
                f'height="{self.y(0) - top:.1f}"/>'
            )
        self.words.append(f"{name}: {', '.join(f'{b:.3g}' for b in ys)} at {', '.join(f'{a:.3g}' for a in xs)}")

    def points(self, xs: Any, ys: Any, name: str, colour: int, *, size: float = 2.5) -> None:
        """Dots; those outside the axes are left out."""
        (left, right), (low, high) = self.x_range, self.y_range
        pairs = [(float(a), float(b)) for a, b in zip(xs, ys, strict=True)]
        self.marks += [
            f'<circle class="{SERIES[colour]} bar" cx="{self.x(a):.1f}" cy="{self.y(b):.1f}" r="{size:g}"/>'
            for a, b in pairs
            if left <= a <= right and low <= b <= high
        ]
        self.words.append(f"{name}: {len(pairs)} points")

    def note(self, text: str, colour: int, at: tuple[float, float], *, anchor: str = "start") -> None:
        """Words at the values `at`; `anchor` says which end of them stands there: "start", "middle" or "end"."""
        end = "" if anchor == "start" else f' text-anchor="{anchor}"'
        self.marks.append(
            f'<text class="{SERIES[colour]} named" x="{self.x(at[0]):.1f}" y="{self.y(at[1]):.1f}"{end}>'
            f"{escape(text)}</text>"
        )

    def draw(self) -> str:
        """The panel as SVG, with its axes."""
        parts = [f'<text class="heading" x="{LEFT}" y="22">{escape(self.title)}</text>']
        bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
        for value in _ticks(self.x_range, "x" in self.log):
            parts.append(f'<path class="rule" d="M{self.x(value):.1f} {TOP}V{bottom}"/>')
            parts.append(f'<text x="{self.x(value):.1f}" y="{bottom + 18}" text-anchor="middle">{value:g}</text>')
        for value in _ticks(self.y_range, "y" in self.log):
            parts.append(f'<path class="rule" d="M{LEFT} {self.y(value):.1f}H{right}"/>')
            parts.append(f'<text x="{LEFT - 6}" y="{self.y(value) + 4:.1f}" text-anchor="end">{value:g}</text>')
        middle = (TOP + bottom) / 2
        parts.append(
            f'<text x="{(LEFT + right) / 2}" y="{bottom + 38}" text-anchor="middle">{escape(self.x_title)}</text>'
            f'<text transform="translate(14 {middle}) rotate(-90)" text-anchor="middle">{escape(self.y_title)}</text>'
        )
        return "".join(parts + self.marks)


def svg(title: str, panels: Sequence[Panel]) -> str:
    """The panels side by side, as one SVG file with its description in words."""
    words = ". ".join(f"{panel.title}: {'; '.join(panel.words)}" for panel in panels)
    body = "".join(f'<g transform="translate({WIDTH * i} 0)">{panel.draw()}</g>' for i, panel in enumerate(panels))
    width = WIDTH * len(panels)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {HEIGHT}" width="{width}" height="{HEIGHT}" '
        f'role="img" aria-labelledby="t d"><title id="t">{escape(title)}</title><desc id="d">{escape(words)}.</desc>'
        f"<style>text{{font:12px system-ui,sans-serif}}.heading{{font-size:15px;font-weight:600}}"
        f".curve{{fill:none;stroke:currentColor;stroke-width:2;stroke-linejoin:round}}"
        f".named,.bar{{fill:currentColor}}{_rules(LIGHT)}{DARK_MEDIA}{{{_rules(DARK)}}}</style>"
        f'<rect class="card" width="{width}" height="{HEIGHT}" rx="8"/>{body}</svg>\n'
    )


def _rules(palette: dict[str, str]) -> str:
    colours = "".join(f".{name}{{color:{palette[name]}}}" for name in SERIES)
    return f"text{{fill:{palette['muted']}}}.rule{{stroke:{palette['rule']}}}.card{{fill:{palette['card']}}}{colours}"


def _share(value: float, limits: tuple[float, float], logarithmic: bool) -> float:
    low, high = limits
    if logarithmic:
        low, high, value = math.log(low), math.log(high), math.log(value)
    return (value - low) / (high - low)


def _ticks(limits: tuple[float, float], logarithmic: bool) -> list[float]:
    """Powers of ten, or four to nine round numbers."""
    low, high = limits
    if logarithmic:
        return [10.0**i for i in range(math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9) + 1)]
    step = 10.0 ** math.floor(math.log10((high - low) / 4))
    step *= next(m for m in (5, 2, 1) if (high - low) / (m * step) >= 4)
    return [round(i * step, 10) for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]
