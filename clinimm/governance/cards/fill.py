"""The items of a document, filled: what was written, which figures, and who owes what is empty."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field

from clinimm.config import Frozen
from clinimm.governance.cards.card import Text, all_topics, resolved
from clinimm.governance.cards.places import SETS, Shown, show
from clinimm.governance.cards.pointer import AuditDocument
from clinimm.governance.owners import Owners
from clinimm.report.words import number
from clinimm.yaml_lines import read_yaml, validate

#: What the tested rows are to the rows that the model was made from.
TestedOn = Literal["internal", "external", "local", "not_stated"]
_OF_KIND: dict[str, TestedOn] = {"run": "internal", "export": "external"}


class Item(Frozen):
    """One item that a standard asks for."""

    id: str = Field(description="Its number there.")
    title: str = Field(description="What it asks, in our words.")
    section: str = Field("", description="The heading that it stands under.")
    topics: tuple[str, ...] = Field((), description="Texts that answer it.")
    figures: tuple[str, ...] = Field((), description="Sets of figures that answer it.")
    only: TestedOn | None = Field(None, description="Figures count only where the rows tested were these.")


class Items(Frozen):
    """A list of items."""

    standard: str = Field(description="What the list is of, with its source.")
    items: tuple[Item, ...] = Field(description="In the standard's order.")


@dataclass(frozen=True)
class Empty:
    """Something that nobody has written.

    Attributes:
        topic, question: what is missing.
        owner: role and person who owe it.
    """

    topic: str
    question: str
    owner: str

    def text(self) -> str:
        """For people."""
        return f"Empty. {self.question} To be answered by: {self.owner}."


@dataclass(frozen=True)
class Filled:
    """An item with its answer.

    Attributes:
        item: what is asked.
        texts: what people wrote, references resolved.
        figures: read from the audit.
        empty: what nobody wrote.
    """

    item: Item
    texts: tuple[str, ...]
    figures: tuple[Shown, ...]
    empty: tuple[Empty, ...]

    @property
    def state(self) -> str:
        """``filled``, ``partly``, or ``empty``."""
        if not self.texts and not self.figures:
            return "empty"
        return "partly" if self.empty else "filled"


@dataclass(frozen=True)
class Source:
    """All that documents are made from.

    Attributes:
        audit: the figures.
        texts: topic -> what was written.
        owners: who owes what is empty.
        tested_on: what the tested rows are to those that the model was made from.
    """

    audit: AuditDocument
    texts: Mapping[str, Text]
    owners: Owners
    tested_on: TestedOn

    def text(self, topic: str) -> str:
        """What was written about a topic, references resolved; empty where nothing was."""
        return resolved(self.texts.get(topic, Text()).text.strip(), self.audit)

    def empty(self, topic: str) -> Empty:
        """Who owes a topic."""
        asked = all_topics()[topic]
        owner = self.texts.get(topic, Text()).owner or asked.owner
        return Empty(topic, asked.question, self.owners.name(owner))

    def text_or_empty(self, *topics: str) -> str:
        """Each topic's text, or that it is empty and who owes it."""
        return "\n\n".join(self.text(topic) or self.empty(topic).text() for topic in topics)

    def figures(self, *sets: str) -> list[Shown]:
        """The figures of some sets."""
        return [show(self.audit, place) for name in sets for place in SETS[name](self.audit)]


def tested_on(audit: AuditDocument, stated: TestedOn | None) -> TestedOn:
    """What was stated, else what the audit says of itself: a run tests what it held out."""
    return stated or _OF_KIND.get(str(audit.content["tested"]["kind"]), "not_stated")


def load_items(name: str) -> Items:
    """A list of items from the package."""
    return validate(read_yaml(Path(__file__).with_name(f"{name}.yaml")), Items)


def fill(items: Sequence[Item], source: Source) -> list[Filled]:
    """Every item with its answer."""
    return [_fill(item, source) for item in items]


def figure_text(shown: Shown) -> str:
    """A figure for people: ``AUROC 0.812 (0.774 to 0.851), n 400 [audit.json /groups/0/figures/auroc]``."""
    if shown.value is None:
        words = "no figure"
    else:
        words = number(shown.value) if isinstance(shown.value, float) else str(shown.value)
    if shown.has_interval:
        words += f" ({number(shown.low)} to {number(shown.high)})"
    if shown.n is not None:
        words += f", n {shown.n}"
    if shown.verdict is not None:
        words += f", {shown.verdict}"
    return f"{shown.label}: {words} [audit.json {shown.pointer}]"


def _fill(item: Item, source: Source) -> Filled:
    texts = [(topic, source.text(topic)) for topic in item.topics]
    counts = item.only is None or item.only == source.tested_on
    figures = source.figures(*item.figures) if counts else []
    empty = [source.empty(topic) for topic, text in texts if not text]
    if not counts and not item.topics:
        question = f"Figures from {item.only} data: the audit that was given tested {source.tested_on} data."
        empty.append(Empty("", question, source.owners.name("auditor")))
    return Filled(item, tuple(text for _, text in texts if text), tuple(figures), tuple(empty))
