"""Docstrings as Markdown understands them: doctests become code blocks, and ``::`` loses a colon."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object

_DOCTEST = re.compile(r"^>>> .*(?:\n(?!\s*$).*)*", re.MULTILINE)
_LITERAL = re.compile(r"::$", re.MULTILINE)


class MarkdownDocstrings(Extension):
    """Called by griffe for every object that it read."""

    def on_object(self, *, obj: Object, **unused: Any) -> None:
        """Rewrite the docstring in memory."""
        if obj.docstring is not None and not obj.is_alias:
            obj.docstring.value = as_markdown(obj.docstring.value)


def as_markdown(text: str) -> str:
    """A docstring whose examples stand in fences.

    >>> as_markdown("Adds.\\n\\n>>> 1 + 1\\n2")
    'Adds.\\n\\n```pycon\\n>>> 1 + 1\\n2\\n```'
    """
    return _LITERAL.sub(":", _DOCTEST.sub(lambda found: f"```pycon\n{found[0]}\n```", text))
