from datetime import UTC, datetime

import pytest

from clinimm.core.errors import InputRejected
from clinimm.modalities.notes.reader import accepts, scan
from clinimm.modality import Scan
from clinimm.sources.memory import MemorySource


def read(name: str, content: bytes) -> Scan:
    source = MemorySource({name: content})
    return scan(source, next(source.files()))


def test_the_name_says_whose_it_is_and_when() -> None:
    scanned = read("ward/MRN_1__20200501T083000Z.txt", b"\xef\xbb\xbfFever.\r\n")
    (fact,) = scanned.facts
    assert fact.patient == scanned.identities[0].keys[0] == (None, "MRN_1")
    assert fact.time == datetime(2020, 5, 1, 8, 30, tzinfo=UTC)
    assert (fact.modality, fact.code, fact.text_value) == ("notes", "LOINC//11506-3", "Fever.\n")


def test_a_part_after_the_time_tells_files_apart() -> None:
    (fact,) = read("M1__20200501T083000Z__2.txt", b"Cough.").facts
    assert fact.patient == (None, "M1")


def test_another_character_set_is_guessed_and_flagged() -> None:
    (fact,) = read("M1__20200501T083000Z.txt", "Fièvre".encode("latin-1")).facts
    assert (fact.text_value, fact.flags) == ("Fièvre", ("charset_guessed",))


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("README.txt", b"hello", "note-name"),
        ("M1__20201301T083000Z.txt", b"hello", "note-name"),
        ("__20200501T083000Z.txt", b"hello", "note-name"),
        ("M1__20200501T083000Z.txt", b" \n", "empty-note"),
    ],
)
def test_other_files_are_refused_by_name(name: str, content: bytes, code: str) -> None:
    with pytest.raises(InputRejected) as refusal:
        read(name, content)
    assert refusal.value.code == code


def test_accepts() -> None:
    assert accepts("a/b.TXT", b"")
    assert not accepts("a.json", b"")
