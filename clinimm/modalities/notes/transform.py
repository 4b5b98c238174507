"""Notes as spans: sentence-like stretches of text with the place where they stand."""

from __future__ import annotations

import re

#: A sentence ends at a mark followed by space and no lower-case letter; a line break always ends one.
_END = re.compile(r"[.!?;](?=\s+(?![a-z]))|\n+")
_LONGEST = 400


def spans(text: str) -> list[tuple[int, int]]:
    """Character ``(start, stop)`` of each sentence-like span, in order, without outer white space.

    Together they hold every character that is not white space. A sentence longer than 400
    characters is cut at white space (or, failing that, anywhere).

    >>> spans("Cough. Fever 38.5 since Monday.")
    [(0, 6), (7, 31)]
    """
    found = []
    start = 0
    for match in [*_END.finditer(text), None]:
        stop = match.end() if match else len(text)
        found += _pieces(text, start, stop)
        start = stop
    return found


def _pieces(text: str, start: int, stop: int) -> list[tuple[int, int]]:
    found = []
    start, stop = _strip(text, start, stop)
    while stop - start > _LONGEST:
        cut = max(text.rfind(" ", start + 1, start + _LONGEST), text.rfind("\t", start + 1, start + _LONGEST))
        cut = cut if cut > start else start + _LONGEST
        found.append(_strip(text, start, cut))
        start, stop = _strip(text, cut, stop)
    return [*found, (start, stop)] if stop > start else found


def _strip(text: str, start: int, stop: int) -> tuple[int, int]:
    while start < stop and text[start].isspace():
        start += 1
    while stop > start and text[stop - 1].isspace():
        stop -= 1
    return start, stop
