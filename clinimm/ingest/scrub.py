"""Cleans texts of their own patient: what names the patient becomes underscores of equal length.

Equal length, so that character offsets in a note still hold. Only what the record itself states is
known here: the patient's names, addresses, identifiers and birth date. Other people's names in
a note stay; a hospital that must remove those de-identifies its notes before the export.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from datetime import date
from functools import lru_cache

#: Words that are names too. In lower case they stay: a note about a rapid test is about a test.
_ORDINARY_WORDS = """
able an angel april art august baker bank barber be best bill bishop black blood bloom booth
bridge brook brown burns bush carpenter case chance christian church city clay cook cross dale
dawn day days de do early faith field fine fisher fold foot forest fox frank gene glass good
grace grant gray green grey hall hand hands hardy he heart heath hill holly hope house iris ivy
joy june king knight lake lane large le lily little long love low major mark marsh mason may
miles mill mills moon my new newborn no noble north old olive page pain park parks patience
per pierce point pool poor pope power price ray reed rich ring rise rivers road robin root rose
ruby sage sharp shepherd short small snow so south spring stern stone strange street strong
summer test tests to tree van violet wall walls ward waters weeks wells west white wild will
winter wise wood woods young
"""
_ORDINARY = frozenset(_ORDINARY_WORDS.split())
_SHORTEST_NAME = 2
_SHORTEST_NUMBER = 4
_TOKEN = re.compile(r"[^\W_]+")
_PARTS = re.compile(r"[\s,;]+")
_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
    "November", "December",
)  # fmt: skip


class Scrubber:
    """Cleans the texts of one patient.

    >>> Scrubber(["Ada", "Byron"], "1815-12-10").clean("Ada B., born 10 December 1815, MRN 7")
    '___ B., born ________________, MRN 7'

    Args:
        words: names, addresses and identifiers.
        birth_date: ISO date; a year alone is left in the text.
    """

    def __init__(self, words: Iterable[str], birth_date: str | None) -> None:
        targets = sorted({part for word in words for part in _targets(word)}, key=lambda it: (-len(it), it))
        self._targets = [(frozenset(_TOKEN.findall(target.lower())), target) for target in targets]
        self._born = _born(birth_date)
        self._year_signs = _year_signs(self._born) if self._born else ()

    def clean(self, text: str) -> str:
        """``text`` with every target overwritten; its length stays."""
        folded = fold(text)
        patterns = self._patterns(folded)
        spans = [match.span() for match in _compiled(patterns).finditer(folded)] if patterns else []
        if not spans:
            return text
        parts, last = [], 0
        for start, stop in spans:
            parts += [text[last:start], "_" * (stop - start)]
            last = stop
        return "".join([*parts, text[last:]])

    def _patterns(self, folded: str) -> tuple[str, ...]:
        """What can match at all: a target whose every word is in the text. Mostly, nothing is."""
        tokens = _tokens(folded)
        found = tuple(_pattern(target) for words, target in self._targets if words <= tokens)
        if self._born is not None and not tokens.isdisjoint(self._year_signs):
            found += _date_patterns(self._born)
        return found


def fold(text: str) -> str:
    """``text`` without accents, character by character, so that its length stays.

    >>> fold("Agustín")
    'Agustin'
    """
    return text if text.isascii() else "".join(map(_base, text))


class PathCleaner:
    """Replaces known identifiers in paths by pseudonyms, and known names by underscores.

    Args:
        pseudonyms: identifier -> subject_id.
        names: words that name patients.
    """

    _LONGEST = 9

    def __init__(self, pseudonyms: Mapping[str, str], names: Iterable[str] = ()) -> None:
        known = {key.casefold(): value for key, value in pseudonyms.items()}
        self._short = {
            key: value for key, value in known.items() if key.isdigit() and len(key) < _SHORTEST_NUMBER
        }
        self._pseudonyms = {key: value for key, value in known.items() if key not in self._short}
        self._names = {
            part.casefold()
            for name in names
            for part in _TOKEN.findall(name)
            if len(part) > _SHORTEST_NAME and not part.isdigit()
        }

    def clean(self, text: str) -> str:
        """``text`` without any identifier that starts and ends between two marks of punctuation.

        A number of up to three digits is taken for an identifier only where it is a whole folder.
        """
        text = "/".join(self._short.get(part, part) for part in text.split("/"))
        spans = [match.span() for match in _TOKEN.finditer(text)]
        parts, last, number = [], 0, 0
        while number < len(spans):
            start = spans[number][0]
            for width in range(min(self._LONGEST, len(spans) - number), 0, -1):
                stop = spans[number + width - 1][1]
                found = self._replacement(text[start:stop], width)
                if found is not None:
                    parts += [text[last:start], found]
                    last, number = stop, number + width
                    break
            else:
                number += 1
        return "".join([*parts, text[last:]])

    def _replacement(self, piece: str, width: int) -> str | None:
        key = piece.casefold()
        found = self._pseudonyms.get(key)
        if found is None and width == 1 and key in self._names and not (piece == key and key in _ORDINARY):
            return "_" * len(piece)
        return found


def _targets(word: str) -> Iterable[str]:
    """A word and its parts, where they are long enough to mean the patient.

    What holds a digit (an address, a telephone number) is taken whole: ``12 Main Street`` must not
    take ``main`` out of every note.
    """
    whole = fold(word.strip())
    parts = {whole} if any(map(str.isdigit, whole)) else {whole, *_PARTS.split(whole)}
    for part in parts:
        plain = part.strip(".()")
        number = plain.replace("-", "").replace(".", "").isdigit()
        if len(plain) >= (_SHORTEST_NUMBER if number else _SHORTEST_NAME):
            yield plain


def _pattern(target: str) -> str:
    """Matches the target as a word of its own; spaces match any white space."""
    body = r"\s+".join(re.escape(part) for part in target.split())
    if target.lower() in _ORDINARY:
        body = f"(?:{re.escape(target.capitalize())}|{re.escape(target.upper())})"
    else:
        body = f"(?i:{body})"
    return rf"(?<![^\W_]){body}(?![^\W_])"


def _born(birth_date: str | None) -> date | None:
    try:
        return date.fromisoformat(birth_date or "")
    except ValueError:
        return None


def _year_signs(born: date) -> tuple[str, ...]:
    """One of these words is in every way to write a birth date."""
    return str(born.year), f"{born:%y}", f"{born:%Y%m%d}"


@lru_cache(maxsize=8192)
def _tokens(folded: str) -> frozenset[str]:
    """The words of a text; remembered, because coded texts come again and again."""
    return frozenset(_TOKEN.findall(folded.lower()))


@lru_cache(maxsize=256)
def _compiled(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(patterns))


@lru_cache(maxsize=256)
def _date_patterns(born: date) -> tuple[str, ...]:
    """The usual ways to write a birth date, in any order of day and month."""
    month = _MONTHS[born.month - 1]
    day, number, year = f"0?{born.day}", f"0?{born.month}", str(born.year)
    short = f"(?:{year}|{year[2:]})"
    name = f"(?:{month}|{month[:3]}\\.?)"
    forms = [
        rf"{year}[-/.]{number}[-/.]{day}",
        f"{born:%Y%m%d}",
        rf"{number}[-/.]{day}[-/.]{short}",
        rf"{day}[-/.]\s?{number}[-/.]\s?{short}",
        rf"{name}\s+{day}(?:st|nd|rd|th)?,?\s+{year}",
        rf"{day}(?:st|nd|rd|th)?\.?[\s-]+(?:of\s+)?{name}[\s,-]+{short}",
    ]
    return tuple(rf"(?<!\d)(?i:{form})(?!\d)" for form in forms)


def _base(character: str) -> str:
    parts = unicodedata.normalize("NFD", character)
    return parts[0] if len(parts) > 1 and len(parts[0]) == 1 else character
