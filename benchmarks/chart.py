"""A bar chart as SVG, without a library: groups of horizontal bars, each labelled with its value."""

from collections.abc import Mapping
from html import escape
from typing import Final

WIDTH: Final = 760
LABEL: Final = 210
BAR: Final = 18
GAP: Final = 6
COLOURS: Final = {"ours": "#2f6f4f", "peer": "#8a8f98", "baseline": "#c9b458"}


def bar_chart(groups: Mapping[str, Mapping[str, float]], kinds: Mapping[str, str]) -> str:
    """One group of bars for each title; `kinds` says for each bar's label whose colour it has."""
    parts: list[str] = []
    top = 8
    for title, bars in groups.items():
        parts.append(f'<text x="0" y="{top + 16}" font-weight="bold">{escape(title)}</text>')
        top += 26
        most = max(bars.values(), default=1.0)
        for label, value in bars.items():
            parts.append(_bar(label, value / most, f"{value:,.0f}", (top, kinds[label])))
            top += BAR + GAP
        top += 14
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" font-family="sans-serif" font-size="13">'
    )
    ground = f'<rect width="{WIDTH}" height="{top}" fill="#ffffff"/>'
    return "\n".join([head, ground, *parts, "</svg>"]) + "\n"


def _bar(label: str, share: float, value: str, place: tuple[int, str]) -> str:
    top, kind = place
    length = max(1, round((WIDTH - LABEL - 80) * share))
    return (
        f'<text x="{LABEL - 8}" y="{top + 13}" text-anchor="end">{escape(label)}</text>'
        f'<rect x="{LABEL}" y="{top}" width="{length}" height="{BAR}" fill="{COLOURS[kind]}"/>'
        f'<text x="{LABEL + length + 6}" y="{top + 13}">{value}</text>'
    )
