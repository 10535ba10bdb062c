"""A picture of a run: every case's time over the floor, one panel a size. Plain SVG, so that no
package is needed to draw it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from xml.sax.saxutils import escape

from benchmarks.fused.document import Document
from benchmarks.fused.tables import FLOOR, Table

_LABEL, _BARS, _LINE, _TOP = 260, 300, 18, 44
_TICKS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
_COLOURS = {"spec": "#2563a8", "limit": "#4d7f3a", "eager": "#c9c9c9", "compiled": "#8f8f8f"}


def svg(document: Document) -> str:
    """Panels beside each other, on logarithmic axes."""
    panels = document.get("padded", {})
    names = list(dict.fromkeys(name for table in panels.values() for name in table["cases"]))
    names = [name for name in names if name != FLOOR]
    width = _LABEL + len(panels) * (_BARS + 60) + 20
    height = _TOP + len(names) * _LINE + 60
    body = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="11">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for index, name in enumerate(names):
        y = _TOP + index * _LINE + 12
        body.append(f'<text x="{_LABEL - 8}" y="{y}" text-anchor="end">{escape(name)}</text>')
    for index, (size, table) in enumerate(panels.items()):
        body += _panel(_LABEL + index * (_BARS + 60), size, table, names)
    body.append(_legend(height - 14))
    return "\n".join([*body, "</svg>", ""])


def _panel(left: float, size: str, table: Table, names: list[str]) -> Iterator[str]:
    ratios = {name: case["over_floor"] or 1.0 for name, case in table["cases"].items()}
    most = math.log(max(2.0, *ratios.values()))
    bottom = _TOP + len(names) * _LINE
    yield (
        f'<text x="{left}" y="18" font-size="13" font-weight="bold">{size}</text>'
        f'<text x="{left}" y="34">time / floor ({table["cases"][FLOOR]["median_ms"]:.3f} ms)</text>'
    )
    for tick in _TICKS:
        if math.log(tick) <= most:
            x = left + _BARS * math.log(tick) / most
            yield f'<path d="M{x:.1f} {_TOP - 4}V{bottom}" stroke="#dddddd"/>'
            yield f'<text x="{x:.1f}" y="{bottom + 14}" text-anchor="middle">{tick}</text>'
    for index, name in enumerate(names):
        if name in ratios:
            y, length = _TOP + index * _LINE, _BARS * max(0.0, math.log(ratios[name])) / most
            yield (
                f'<rect x="{left}" y="{y + 2}" width="{length:.1f}" height="{_LINE - 5}" '
                f'fill="{_COLOURS[_kind(name)]}"/>'
                f'<text x="{left + length + 4:.1f}" y="{y + 12}">{ratios[name]:.1f}</text>'
            )


def _kind(name: str) -> str:
    for word, kind in (("C++", "limit"), ("eager", "eager"), ("compiled", "compiled")):
        if word in name:
            return kind
    return "spec"


def _legend(y: int) -> str:
    words = {
        "spec": "a spec, compiled",
        "limit": "by hand in C++",
        "eager": "autograd, eager",
        "compiled": "autograd, torch.compile",
    }
    return "".join(
        f'<rect x="{_LABEL + 180 * i}" y="{y - 10}" width="12" height="12" '
        f'fill="{_COLOURS[kind]}"/><text x="{_LABEL + 180 * i + 18}" y="{y}">{text}</text>'
        for i, (kind, text) in enumerate(words.items())
    )
