"""Draws a bar chart as SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

_COLORS = ("#2f6fab", "#e0912f")
_LEFT, _WIDTH, _RIGHT, _BAR, _GAP, _TOP = 290, 420, 80, 13, 12, 64


def bars(caption: str, legend: Sequence[str], values: Mapping[str, Sequence[float | None]]) -> str:
    """Draw horizontal bars: a group per title, a colour per entry of the legend, no bar for None."""
    most = max(value for group in values.values() for value in group if value is not None)
    width, y = _LEFT + _WIDTH + _RIGHT, _TOP
    parts = [_text(20, 26, caption, size=15, weight="bold")]
    for index, name in enumerate(legend):
        x = _LEFT + 150 * index
        parts.append(_bar(x, 38, 12, 12, index))
        parts.append(_text(x + 18, 48, name))
    for title, group in values.items():
        shown = [(index, value) for index, value in enumerate(group) if value is not None]
        parts.append(_text(_LEFT - 8, y + len(shown) * _BAR / 2 + 4, title, anchor="end"))
        for index, value in shown:
            length = _WIDTH * value / most
            parts.append(_bar(_LEFT, y, length, _BAR - 2, index))
            parts.append(_text(_LEFT + length + 5, y + _BAR - 3, f"{value:,.1f}", size=10))
            y += _BAR
        y += _GAP
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {y}" width="{width}" height="{y}" '
        f'font-family="sans-serif" role="img">\n<title>{escape(caption)}</title>\n'
        f'<rect width="100%" height="100%" fill="white"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _bar(x: float, y: float, width: float, height: float, index: int) -> str:
    return f'<rect x="{x}" y="{y}" width="{width:.1f}" height="{height}" fill="{_COLORS[index]}"/>'


def _text(x: float, y: float, text: str, size: int = 12, weight: str = "normal", anchor: str = "start") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" font-weight="{weight}" text-anchor="{anchor}">'
        f"{escape(text)}</text>"
    )
