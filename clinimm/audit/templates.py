"""HTML of the audit's pages: one file each, without script, every value escaped."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment

_FOLDERS = (Path(__file__).parent, Path(__file__).parent / "table")


def environment() -> Environment:
    """Where the templates of the audit lie; a name that a template does not know is an error."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(_FOLDERS),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
