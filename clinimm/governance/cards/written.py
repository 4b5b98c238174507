"""The filled items as files: HTI-1 as JSON, Annex IV as Markdown, TRIPOD+AI as CSV."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Sequence
from typing import Any

from clinimm.governance.cards.fill import Filled, Items, Source, figure_text, fill
from clinimm.governance.cards.places import Shown

_STARTS_A_FORMULA = ("=", "+", "-", "@", "\t", "\r")
#: What Markdown or HTML would take for its own; names of groups come from data.
_MARKUP = re.compile(r"([\\`*_\[\]<>|#])")


def as_json(items: Items, source: Source) -> bytes:
    """The items with their clauses; each figure with its pointer."""
    filled = fill(items.items, source)
    content = {
        "schema": "clinimm.source-attributes/1",
        "standard": items.standard,
        "audit_sha256": source.audit.sha256,
        "tested_on": source.tested_on,
        "filled": _count(filled),
        "attributes": [
            {
                "clause": one.item.id,
                "section": one.item.section,
                "title": one.item.title,
                "state": one.state,
                "texts": list(one.texts),
                "figures": [_figure_json(shown) for shown in one.figures],
                "empty": [{"question": empty.question, "owner": empty.owner} for empty in one.empty],
            }
            for one in filled
        ],
    }
    text = json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode("utf-8")


def as_markdown(items: Items, source: Source) -> bytes:
    """The items under their headings."""
    filled = fill(items.items, source)
    lines = [
        f"# {items.standard}",
        "",
        f"Made from audit.json (SHA-256 {source.audit.sha256}). Data tested, against those of training: "
        f"{source.tested_on.replace('_', ' ')}. {_count_text(filled)} "
        "Figures stand beside the pointer that they were read through.",
    ]
    section = ""
    for one in filled:
        if one.item.section != section:
            section = one.item.section
            lines += ["", f"## {section}"]
        lines += ["", f"### {one.item.id} {one.item.title}", ""]
        lines += [f"{_plain(text)}\n" for text in one.texts]
        lines += [f"- {_plain(figure_text(shown))}" for shown in one.figures]
        lines += [f"- **{_plain(empty.text())}**" for empty in one.empty]
    return ("\n".join(lines) + "\n").encode("utf-8")


def as_csv(items: Items, source: Source) -> bytes:
    """The items as a checklist, one row each."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["item", "section", "asks", "state", "reported", "figures", "empty", "audit_sha256"])
    for one in fill(items.items, source):
        cells = [
            one.item.id,
            one.item.section,
            one.item.title,
            one.state,
            " ".join(one.texts),
            "; ".join(figure_text(shown) for shown in one.figures),
            "; ".join(empty.text() for empty in one.empty),
            source.audit.sha256,
        ]
        writer.writerow([f"'{cell}" if cell.startswith(_STARTS_A_FORMULA) else cell for cell in cells])
    return stream.getvalue().encode("utf-8")


def _figure_json(shown: Shown) -> dict[str, Any]:
    fields = {"value": shown.value, "low": shown.low, "high": shown.high, "n": shown.n}
    fields["verdict"] = shown.verdict
    known = {name: value for name, value in fields.items() if name == "value" or value is not None}
    return {"label": shown.label, "pointer": shown.pointer, **known}


def _count(filled: Sequence[Filled]) -> dict[str, int]:
    states = [one.state for one in filled]
    return {state: states.count(state) for state in ("filled", "partly", "empty")}


def _count_text(filled: Sequence[Filled]) -> str:
    count = _count(filled)
    return (
        f"{count['filled']} of {len(filled)} items are filled, {count['partly']} partly, "
        f"{count['empty']} are empty and name who owes them."
    )


def _plain(text: str) -> str:
    return _MARKUP.sub(r"\\\1", text)
