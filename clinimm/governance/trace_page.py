"""The traceability table as a page: one file, no script."""

from __future__ import annotations

import re
from itertools import groupby

from markupsafe import Markup, escape

from clinimm.governance.check import Checked
from clinimm.governance.hazards import Hazards
from clinimm.report.page import render

_CODE = re.compile(r"`([^`]+)`")


def trace_page(checked: Checked, hazards: Hazards) -> str:
    """The page as text; the same folder gives the same bytes."""
    rows = {name: list(group) for name, group in groupby(checked.rows, key=lambda row: row.hazard)}
    return render("traceability.html", checked=checked, hazards=hazards, rows=rows, coded=coded)


def coded(text: str) -> Markup:
    """Text in which what stands between backticks is code; all else is escaped.

    >>> str(coded("see `a<b`"))
    'see <code>a&lt;b</code>'
    """
    safe = str(escape(text))
    return Markup(_CODE.sub(r"<code>\1</code>", safe))  # noqa: S704  # was escaped before
