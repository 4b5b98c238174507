"""DocumentReference: a clinical note, where its text is in the resource itself.

The fact belongs to modality ``notes`` although this reader finds it: a modality never imports
another, and the text is plain by the time it leaves here.
"""

from __future__ import annotations

import base64
import binascii
import re
from html.parser import HTMLParser
from typing import Any

from clinimm.modalities.ehr.codes import code_of, first_code
from clinimm.modalities.ehr.collect import Collector, Head, Resource, item_of
from clinimm.modalities.ehr.versions import revised_at, taken_back

#: LOINC "Progress note", for a note whose type is not stated.
PROGRESS_NOTE = "LOINC//11506-3"
_READABLE = ("text/plain", "text/html", "application/xhtml+xml", "text/markdown")
_CHARSET = re.compile(r"charset\s*=\s*\"?([\w.:-]+)", re.IGNORECASE)
_BLOCKS = frozenset(
    ("p", "div", "br", "li", "tr", "h1", "h2", "h3", "h4", "h5", "h6", "table", "ul", "ol", "section")
)


def document(collector: Collector, resource: Resource, head: Head, flags: list[str]) -> None:
    """Add the note, available on the document's date."""
    contents = [content for content in resource.get("content") or () if isinstance(content, dict)]
    attachments = [content.get("attachment") for content in contents]
    created = collector.clock.latest(
        *(item.get("creation") for item in attachments if isinstance(item, dict))
    )
    when = collector.clock.read(resource.get("date")) or created
    status = resource.get("docStatus")
    if status == "preliminary":
        flags = [*flags, "preliminary"]
    if status == "amended":
        flags = [*flags]
        when = revised_at(collector, resource, flags, when, created)
    if when is None:
        collector.refuse(item_of(resource), "no-time", "no usable time in date", "export it with its date")
        return
    if status == "entered-in-error":
        known = taken_back(collector, head, status)
        if known is None:
            return
        head = known
    body = attached_text(collector, resource, attachments)
    if body is None:
        return
    context = resource.get("context")
    if head.encounter is None and isinstance(context, dict) and context.get("encounter"):
        head = head._replace(encounter=collector.target(context["encounter"][0]))
    category = first_code(resource.get("category")) or "documentreference"
    code = code_of(resource.get("type")) or PROGRESS_NOTE
    collector.emit(head, when, code, category, text=body[0], flags=flags + body[1], modality="notes")


def attached_text(
    collector: Collector, resource: Resource, attachments: list[Any]
) -> tuple[str, list[str]] | None:
    """The text of the first attachment that can be read, and flags; else None, and a refusal."""
    reason = ("no-attachment", "the document holds no text", "export the note's text inline")
    for attachment in attachments:
        if not isinstance(attachment, dict):
            continue
        kind = str(attachment.get("contentType") or "text/plain").lower()
        data = attachment.get("data")
        if not kind.startswith(_READABLE):
            reason = (
                "attachment-type",
                f"an attachment of type {kind.partition(';')[0]} is not read",
                "export the note as text/plain",
            )
        elif not isinstance(data, str) or not data:
            reason = (
                "attachment-not-inline",
                "the text lies behind a link, which ingest does not follow",
                "export the attachment inline as base 64",
            )
        else:
            try:
                text, flags = _decoded(base64.b64decode(data, validate=False), kind)
            except (binascii.Error, ValueError):
                reason = ("bad-base64", "the attachment is not base 64", "export the note again")
                continue
            if text.strip():
                return text, flags
            reason = ("empty-note", "the note has no words", "export the note's text inline")
    collector.refuse(item_of(resource), *reason)
    return None


def _decoded(content: bytes, kind: str) -> tuple[str, list[str]]:
    match = _CHARSET.search(kind)
    text, flags = decode(content, match[1] if match else "utf-8")
    if "html" in kind.partition(";")[0]:
        stripper = _Stripper()
        stripper.feed(text)
        stripper.close()
        text = stripper.text()
    return text, flags


def decode(content: bytes, charset: str) -> tuple[str, list[str]]:
    """Bytes as text; flag ``charset_guessed`` where they are not in the stated character set."""
    try:
        text, flags = content.decode("utf-8-sig" if charset.lower() in ("utf-8", "utf8") else charset), []
    except (UnicodeDecodeError, LookupError):
        text, flags = content.decode("cp1252", errors="replace"), ["charset_guessed"]
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\x00", ""), flags


class _Stripper(HTMLParser):
    """HTML -> its words, one line a block."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._parts: list[str] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Blocks start a line; scripts and styles are hidden."""
        self._hidden += tag in ("script", "style")
        if tag in _BLOCKS:
            self._parts.append("\n")

    def handle_endtag(self, tag: str) -> None:
        """The other end of ``handle_starttag``."""
        self._hidden -= tag in ("script", "style") and self._hidden > 0
        if tag in _BLOCKS:
            self._parts.append("\n")

    def handle_data(self, data: str) -> None:
        """Words."""
        if not self._hidden:
            self._parts.append(data)

    def text(self) -> str:
        """All words so far."""
        lines = (" ".join(line.split()) for line in "".join(self._parts).splitlines())
        return "\n".join(line for line in lines if line)
