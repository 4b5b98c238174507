"""Self-contained pages: one template in, one HTML file out, and nothing fetched from anywhere.

Everything that comes from data is escaped by the template engine. The content security policy
allows the page's own stylesheet (by its SHA-256), images inside the page, and nothing else: no
frame, no form, no network, and no script but one of our own, by its SHA-256, where a page has one.
Hostile text in a note or a DICOM header stays text.
"""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from clinimm.report.words import date, number, percent, percent_range, plural, share, signed

_HERE = Path(__file__).parent
#: What has no business in a text and can change how its neighbours are read: control characters, and
#: those that turn the direction of writing (Unicode Technical Report 36, section 2.5).
_UNSEEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]"
)


def render(template: str, *, more_style: str = "", script: str = "", **values: Any) -> str:
    """The page that ``template`` makes of ``values``; a value that it misses is an error.

    Args:
        template: a file of ``templates``.
        more_style: follows the stylesheet of all pages.
        script: the one script that may run, our own; it knows nothing that comes from data.
        values: what the template says.
    """
    style = stylesheet() + more_style
    return (
        _environment()
        .get_template(template)
        .render(
            style=Markup(style),  # noqa: S704  # our own file, not data
            script=Markup(script),  # noqa: S704  # our own file, not data
            policy=content_policy(style, script),
            **values,
        )
    )


def stylesheet() -> str:
    """The one stylesheet of all pages."""
    return (_HERE / "style.css").read_text(encoding="utf-8")


def asset(name: str) -> str:
    """A stylesheet or a script that lies beside the templates."""
    return (_HERE / "templates" / name).read_text(encoding="utf-8")


def content_policy(style: str, script: str = "") -> str:
    """The content security policy that allows ``style``, ``script`` and pictures inside the page.

    >>> content_policy("")
    "default-src 'none'; img-src data:; style-src 'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='; base-uri 'none'; form-action 'none'"
    """  # noqa: E501
    scripts = f"script-src 'sha256-{_sha256(script)}'; " if script else ""
    return (
        f"default-src 'none'; img-src data:; style-src 'sha256-{_sha256(style)}'; {scripts}"
        "base-uri 'none'; form-action 'none'"
    )


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


def data_uri(content: bytes, media_type: str) -> str:
    """Bytes as a ``data:`` address."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}"


def visible(value: Any) -> Any:
    """A text with a replacement character for each character that cannot be seen, as long as before.

    >>> visible("a" + chr(0x202E) + "b") == "a" + chr(0xFFFD) + "b"
    True
    """
    if not isinstance(value, str) or not _UNSEEN.search(value):
        return value
    cleaned = _UNSEEN.sub("\ufffd", value)
    return Markup(cleaned) if isinstance(value, Markup) else cleaned  # noqa: S704  # was escaped before


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        {
            "percent": percent,
            "percent_range": percent_range,
            "share": share,
            "number": number,
            "signed": signed,
            "date": date,
            "plural": plural,
        }
    )
    return environment
