from hypothesis import given, settings
from hypothesis import strategies as st

from clinimm.ingest.scrub import PathCleaner, Scrubber, fold


@settings(deadline=None, max_examples=60)
@given(st.text(), st.lists(st.text(max_size=12), max_size=4), st.dates().map(str) | st.none())
def test_the_length_never_changes(text: str, words: list[str], birth_date: str | None) -> None:
    cleaned = Scrubber(words, birth_date).clean(text)
    assert len(cleaned) == len(text)
    assert all(after in (before, "_") for before, after in zip(text, cleaned, strict=True))


@settings(deadline=None, max_examples=60)
@given(st.text())
def test_folding_keeps_every_character_in_its_place(text: str) -> None:
    assert len(fold(text)) == len(text)


@settings(deadline=None, max_examples=60)
@given(
    st.text("xyz ", max_size=20),
    st.text("xyz ", max_size=20),
    st.sampled_from(["BRANNICK", "Brannick", "brannick"]),
)
def test_a_name_between_words_is_gone_in_any_case(before: str, after: str, name: str) -> None:
    cleaned = Scrubber(["Brannick"], None).clean(f"{before} {name} {after}")
    assert cleaned == f"{before} {'_' * 8} {after}"


def test_names_identifiers_and_accents() -> None:
    scrubber = Scrubber(["Agustín", "O'Connell", "MRN-00123", "Jane van der Berg"], None)
    assert scrubber.clean("Agustin AGUSTÍN o'connell") == "_______ _______ _________"
    assert scrubber.clean("id MRN-00123, MRN-001234") == "id _________, MRN-001234"
    assert scrubber.clean("Jane van\nder  Berg; Berg") == "_" * len("Jane van der  Berg") + "; ____"


def test_only_whole_words_are_taken() -> None:
    assert Scrubber(["Ann"], None).clean("annual planning, Ann's arm") == "annual planning, ___'s arm"


def test_an_ordinary_word_is_taken_only_where_it_is_written_as_a_name() -> None:
    cleaned = Scrubber(["Test", "Rose"], None).clean("Mrs Rose TEST: a rapid test, the fever rose")
    assert cleaned == "Mrs ____ ____: a rapid test, the fever rose"


def test_an_address_is_taken_whole() -> None:
    cleaned = Scrubber(["12 Main Street"], None).clean("main vessel; lives at 12 Main Street.")
    assert cleaned == "main vessel; lives at ______________."


def test_short_numbers_are_not_identifiers() -> None:
    assert Scrubber(["7", "42", "A1"], None).clean("7 of 42 A1") == "7 of 42 __"


def test_birth_dates_in_every_usual_form() -> None:
    forms = [
        "1984-07-02", "1984/7/2", "19840702", "07/02/1984", "7/2/84", "2.7.1984", "02.07.1984", "2. 7. 1984",
        "July 2, 1984", "Jul 2nd 1984", "2 July 1984", "02-Jul-1984", "2nd of July 1984", "2. JULY 1984",
    ]  # fmt: skip
    scrubber = Scrubber([], "1984-07-02")
    for form in forms:
        assert scrubber.clean(f"born {form}.") == f"born {'_' * len(form)}.", form
    for other in ("1984-07-03", "1984", "July 1984", "17/2/1984"):
        assert scrubber.clean(other) == other
    assert Scrubber([], "1984").clean("in 1984") == "in 1984"


def test_paths_lose_identifiers_and_names() -> None:
    cleaner = PathCleaner({"COV1": "SUBJECT", "999-48-8934": "OTHER"}, ["Agustín", "Fonseca"])
    assert cleaner.clean("dicom/COV1/001.dcm") == "dicom/SUBJECT/001.dcm"
    assert cleaner.clean("notes/cov1__20200101T000000Z.txt") == "notes/SUBJECT__20200101T000000Z.txt"
    assert cleaner.clean("a/999-48-8934.dcm") == "a/OTHER.dcm"
    assert cleaner.clean("Agustín_Fonseca_7.json") == "_" * len("Agustín_Fonseca_") + "7.json"
    assert cleaner.clean("COV12/x.dcm") == "COV12/x.dcm"


def test_paths_keep_ordinary_words_and_small_numbers() -> None:
    cleaner = PathCleaner({"1": "SUBJECT"}, ["Test"])
    assert cleaner.clean("test/Test.csv") == "test/____.csv"
    assert cleaner.clean("1/001.dcm") == "SUBJECT/001.dcm"
    assert cleaner.clean("line 1") == "line 1"
