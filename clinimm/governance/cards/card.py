"""The texts that people write for the evidence documents, by topic; without a figure of their own.

``governance/card.yaml`` holds them. A figure in a text is ``{{subjects}}`` or ``{{/groups/0/n}}``, a
place in ``audit.json``; one written out is refused, because nobody would change it with the evidence.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import Field

from clinimm.config import Frozen
from clinimm.core.errors import ConfigError
from clinimm.governance.cards.places import NAMES, pointer_of, seen
from clinimm.governance.cards.pointer import AuditDocument
from clinimm.yaml_lines import YamlDocument, read_yaml, validate

CARD_FILE = "card.yaml"
TOPICS_FILE = Path(__file__).with_name("topics.yaml")
_REFERENCE = re.compile(r"\{\{\s*([^{}\s]+)\s*\}\}")
#: A decimal or a percentage; numbers of clauses, versions and years are none.
_FIGURE = re.compile(r"(?<![\w.])\d+(?:[.,]\d+)?\s?(?:%|per cent|percent)|(?<![\w.])[01]\.\d+(?![\w.])")


class Text(Frozen):
    """What somebody wrote about one topic."""

    text: str = Field("", description="The text; empty until its owner writes it.")
    owner: str | None = Field(None, description="Role that writes it, where not the topic's own.")


class Card(Frozen):
    """A file of texts."""

    schema_: Literal["clinimm.card/1"] = Field(alias="schema", description="Format of the file.")
    topics: dict[str, Text] = Field(description="Topic and what was written about it.")


class Topic(Frozen):
    """Something that a document asks about."""

    question: str = Field(min_length=5, description="What is asked.")
    owner: str = Field(description="Role that knows the answer.")


class Topics(Frozen):
    """Everything that is asked about."""

    topics: dict[str, Topic] = Field(description="Short name and topic.")


@cache
def all_topics() -> Mapping[str, Topic]:
    """Everything that the documents ask about, from the package."""
    return validate(read_yaml(TOPICS_FILE), Topics).topics


def load_card(paths: Sequence[Path]) -> dict[str, Text]:
    """The texts of some files; a later file's text replaces an earlier one's.

    Raises:
        ConfigError: one line a mistake, with ``file:line``: a topic that is not known, a figure
            written out, a reference to no place.
    """
    found: dict[str, Text] = {}
    for path in paths:
        document = read_yaml(path)
        card = validate(document, Card)
        if mistakes := _mistakes(document, card):
            raise ConfigError("\n".join(mistakes))
        found |= {name: text for name, text in card.topics.items() if text.text or text.owner}
    return found


def resolved(text: str, audit: AuditDocument) -> str:
    """A text with its references read from the audit, each beside its pointer.

    Raises:
        ConfigError: a reference leads nowhere, or not to a single value.
    """

    def value(found: re.Match[str]) -> str:
        pointer = pointer_of(found[1])
        try:
            at = audit.resolve(pointer)
        except ConfigError:
            if found[1] not in NAMES:
                raise
            at = None  # a table has no model and no run
        if isinstance(at, (dict, list)):
            raise ConfigError(f"{{{{{found[1]}}}}} points at several values; name one of them.")
        return f"{'not known' if at is None else seen(str(at))} [audit.json {pointer}]"

    return _REFERENCE.sub(value, text)


def _mistakes(document: YamlDocument, card: Card) -> list[str]:
    found = []
    for name, text in card.topics.items():
        where = document.where(("topics", name, "text"))
        if name not in all_topics():
            near = get_close_matches(name, all_topics(), n=1)
            hint = f"; did you mean `{near[0]}`?" if near else ""
            found.append(f"{document.where(('topics', name))}: no document asks about {name}{hint}")
        if written := _FIGURE.search(_REFERENCE.sub("", text.text)):
            found.append(
                f"{where}: topics.{name}: the figure {written[0]!r} is written out; refer to audit.json, "
                "such as {{subjects}} or {{/groups/0/n}}"
            )
        for reference in _REFERENCE.findall(text.text):
            try:
                pointer_of(reference)
            except ConfigError as error:
                found.append(f"{where}: topics.{name}: {error}")
    return found
