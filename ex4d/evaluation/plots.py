# SPDX-License-Identifier: Apache-2.0
"""Plots of figures over a take's frames, as SVG text for a page. No library, no script."""

import html
import math
from collections.abc import Sequence

WIDTH, HEIGHT = 380, 150  # about as wide as a column of the page, so that letters have their own size
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 10, 24
MOST_TICKS = 5
DOT_PX = 2.5


def line_plot(columns: Sequence[Sequence[float | None]], classes: Sequence[str], scale: float = 1.0) -> str:
    """Draw figures over frames, one line for each column.

    Args:
        columns: a figure per frame each; None leaves a gap, unless every line has gaps there.
        classes: CSS class of each line.
        scale: what figures are multiplied with, 100 for percent.
    """
    known = [value * scale for column in columns for value in column if value is not None]
    last = max(max(len(column) for column in columns) - 1, 1)
    ticks = _ticks(min(known), max(known))
    low, high = min(ticks[0], *known), max(ticks[-1], *known)

    def x(frame: float) -> float:
        return LEFT + frame / last * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        return TOP + (high - value) / (high - low) * (HEIGHT - TOP - BOTTOM)

    parts = [f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">']
    for value in ticks:
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 7}" y="{y(value) + 4:.1f}" text-anchor="end">{value:.6g}</text>')
    for frame in sorted({round(last * share / 4) for share in range(5)}):
        parts.append(f'<text class="tick" x="{x(frame):.1f}" y="{HEIGHT - 7}" text-anchor="middle">{frame}</text>')
    for column, name in zip(columns, classes, strict=True):
        shown = [(x(n), y(value * scale)) for n, value in enumerate(column) if value is not None]
        path = " ".join(f"{px:.1f},{py:.1f}" for px, py in shown)
        parts.append(f'<polyline class="line {html.escape(name)}" points="{path}"/>')
        if len(shown) < len(column) / 2 or len(shown) == 1:  # few frames are known: show which
            parts += [
                f'<circle class="dot {html.escape(name)}" cx="{px:.1f}" cy="{py:.1f}" r="{DOT_PX}"/>'
                for px, py in shown
            ]
    parts.append("</svg>")
    return "".join(parts)


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers that enclose a range."""
    if high - low < 1e-9 * max(1.0, abs(high)):
        margin = 0.1 * abs(high) or 1.0
        low, high = low - margin, high + margin
    rough = (high - low) / (MOST_TICKS - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [number * step for number in range(first, last + 1)]
