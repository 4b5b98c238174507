from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from clinimm.modalities.notes.transform import spans


def test_sentences_and_lines_are_spans() -> None:
    text = "Cough. Fever 38.5 since Monday.\n\nNo known allergies; stable"

    assert [text[start:stop] for start, stop in spans(text)] == [
        "Cough.",
        "Fever 38.5 since Monday.",
        "No known allergies; stable",
    ]


def test_a_long_sentence_is_cut_at_white_space() -> None:
    text = "word " * 200

    found = spans(text)

    assert len(found) > 1
    assert all(stop - start <= 400 for start, stop in found)
    assert all(text[start:stop].endswith("word") for start, stop in found)


@given(st.text(alphabet=st.sampled_from("ab .;!?\n\tÄ_9"), max_size=900))
def test_spans_hold_every_character_once_and_in_order(text: str) -> None:
    found = spans(text)

    ends = [0, *(edge for span in found for edge in span)]
    assert ends == sorted(ends)
    assert all(0 < stop - start <= 400 for start, stop in found)
    assert "".join("".join(text[a:b].split()) for a, b in found) == "".join(text.split())
    assert all(text[start:stop] == text[start:stop].strip() for start, stop in found)
