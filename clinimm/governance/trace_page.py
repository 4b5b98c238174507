"""The traceability table as a page: one file, no script."""

from __future__ import annotations

from itertools import groupby

from clinimm.governance.check import Checked
from clinimm.governance.hazards import Hazards
from clinimm.report.page import render


def trace_page(checked: Checked, hazards: Hazards) -> str:
    """The page as text; the same folder gives the same bytes."""
    rows = {name: list(group) for name, group in groupby(checked.rows, key=lambda row: row.hazard)}
    return render("traceability.html", checked=checked, hazards=hazards, rows=rows)
