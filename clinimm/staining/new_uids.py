"""Identifiers that stand for others: keyed, so that only who holds the key can tell for which.

Under one key the same original always gets the same new identifier: two stains of one slide name the
same source and lie in the same frame of reference, and neither says which slide that was (PS3.15
E.3.9, "Replaced UIDs are internally consistent within a set").
"""

from __future__ import annotations

import hashlib
import secrets
import uuid

from clinimm.core.pseudonym import Pseudonymiser

_SHORT = 12


class NewUids:
    """Makes identifiers under a key.

    Args:
        key: of the run's pseudonyms; None draws a key that nobody keeps, so that nothing made now can be
            linked to anything made later.

    >>> uids = NewUids(Pseudonymiser(b"0123456789abcdef"))
    >>> uids.of("1.2.3") == uids.of("1.2.3"), uids.of("1.2.3") == uids.of("1.2.4")
    (True, False)
    """

    def __init__(self, key: Pseudonymiser | None = None) -> None:
        self.lasting = key is not None
        self._key = Pseudonymiser(secrets.token_bytes(32)) if key is None else key

    def of(self, *parts: object) -> str:
        """The UID that stands for some values (PS3.5 B.2, by UUID)."""
        keyed = self._key.hash("dicom uid", "|".join(map(str, parts)))
        digest = hashlib.sha256(keyed.encode("ascii")).digest()
        return f"2.25.{uuid.UUID(bytes=digest[:16], version=5).int}"

    def name(self, value: str) -> str:
        """A short name that stands for a value, of capital letters and digits."""
        return self._key.hash("slide name", value)[:_SHORT]
