"""Names of people: one person is not two because a name is spelled with other bytes."""

from __future__ import annotations

import unicodedata


def same_name(name: str) -> str:
    """A name without what readers do not see: case, spaces, and the form of its letters (Unicode NFKC)."""
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())
