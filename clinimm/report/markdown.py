"""The little Markdown that governance texts use, as HTML: headings, paragraphs, lists, bold, code.

A full Markdown reader lets HTML through; this one escapes everything first.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from markupsafe import Markup, escape

_INLINE = (
    (re.compile(r"`([^`]+)`"), r"<code>\1</code>"),
    (re.compile(r"\*\*([^*]+)\*\*"), r"<strong>\1</strong>"),
    (re.compile(r"\[([^\]]+)\]\([^)\s]*\)"), r"\1"),
)
_HEADING = re.compile(r"^(#{1,4})\s+(.*)$")
_ITEM = re.compile(r"^\s*[-*]\s+(.*)$")


def to_html(text: str, top_level: int = 3) -> Markup:
    """Markdown as HTML whose highest heading is ``<h{top_level}>``; links become their words.

    >>> to_html("A **b** <i>")
    Markup('<p>A <strong>b</strong> &lt;i&gt;</p>')
    """
    return Markup("\n".join(_blocks(text, top_level)))  # noqa: S704  # each piece is escaped in _inline


def _blocks(text: str, top_level: int) -> Iterator[str]:
    for block in re.split(r"\n\s*\n", text.strip()):
        lines = block.splitlines()
        if heading := _HEADING.match(lines[0]):
            level = min(6, len(heading[1]) + top_level - 1)
            yield f"<h{level}>{_inline(heading[2])}</h{level}>"
            lines = lines[1:]
        if lines and _ITEM.match(lines[0]):
            yield "<ul>" + "".join(f"<li>{_inline(item)}</li>" for item in _items(lines)) + "</ul>"
        elif lines:
            yield f"<p>{_inline(' '.join(line.strip() for line in lines))}</p>"


def _items(lines: list[str]) -> list[str]:
    """List items; a line without a bullet continues the one above."""
    items: list[str] = []
    for line in lines:
        if found := _ITEM.match(line):
            items.append(found[1])
        else:
            items[-1] += " " + line.strip()
    return items


def _inline(text: str) -> str:
    safe = str(escape(text))
    for pattern, replacement in _INLINE:
        safe = pattern.sub(replacement, safe)
    return safe
