"""Our own pages: the reports' look, every value escaped, and no script or style but our files."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request

from clinimm.report.page import stylesheet, visible
from clinimm.report.words import date, number, percent, plural, signed
from clinimm.serve.guard import CSRF_FIELD
from clinimm.serve.office import office_of
from clinimm.serve.rules import may
from clinimm.serve.sessions import Session

_HERE = Path(__file__).parent
_MEDIA = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".md": "text/markdown"}


def render(request: Request, template: str, **values: Any) -> str:
    """A page for the person who asks; a value that it misses is an error."""
    session: Session | None = getattr(request.state, "session", None)
    roles = session.user.roles if session else frozenset()
    office = office_of(request)
    return (
        environment()
        .get_template(template)
        .render(
            user=session.user if session else None,
            csrf=session.csrf if session else "",
            csrf_field=CSRF_FIELD,
            single_user=office.provider is None,
            may=lambda method, address: may(roles, method, address),
            here=request.url.path,
            **values,
        )
    )


@cache
def environment() -> Environment:
    """The template engine: escapes everything, and refuses what it does not know."""
    from clinimm.report import page

    reports = Path(page.__file__).with_name("templates")
    found = Environment(
        loader=ChoiceLoader([FileSystemLoader(_HERE / "templates"), FileSystemLoader(reports)]),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters.update(percent=percent, number=number, signed=signed, date=date, plural=plural)
    return found


@cache
def static_files() -> dict[str, tuple[bytes, str]]:
    """Name -> content and media type of every file that a page may load."""
    found = {"reports.css": (stylesheet().encode("utf-8"), _MEDIA[".css"])}
    for item in files("clinimm.serve").joinpath("static").iterdir():
        suffix = Path(item.name).suffix
        if suffix in _MEDIA:
            found[item.name] = (item.read_bytes(), _MEDIA[suffix])
    return found
