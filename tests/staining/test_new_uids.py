from __future__ import annotations

import re

from clinimm.core.pseudonym import Pseudonymiser
from clinimm.staining.new_uids import NewUids

KEY = Pseudonymiser(b"0123456789abcdef")


def test_uids_are_of_the_form_that_dicom_asks_for() -> None:
    # PS3.5 B.2: "2.25." and the decimal of a UUID, at most 64 characters.
    for uids in (NewUids(KEY), NewUids()):
        assert re.fullmatch(r"2\.25\.[1-9]\d{0,38}", uids.of("1.2.3", "x"))


def test_one_key_gives_one_answer_and_another_key_another() -> None:
    other = Pseudonymiser(b"another key of 16")
    assert NewUids(KEY).of("a", 1) == NewUids(KEY).of("a", 1) != NewUids(other).of("a", 1)
    assert NewUids(KEY).name("d" * 64) == NewUids(KEY).name("d" * 64)
    assert "d" * 6 not in NewUids(KEY).name("d" * 64).lower()


def test_without_a_key_nothing_can_be_linked_to_another_call() -> None:
    first, second = NewUids(), NewUids()
    assert first.of("a") == first.of("a") != second.of("a")
    assert NewUids(KEY).lasting and not first.lasting
