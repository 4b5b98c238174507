from __future__ import annotations

import numpy as np
import pytest
import torch

from clinimm.modalities.notes.language_model import TextEncoder, encode_texts, load_text_encoder

LONG = " ".join(f"Day {day}: saturation {90 + day % 9} percent on {day % 5} litres." for day in range(60))


SHORT = "Cough since Monday. Fever of 38.5 degrees.\nNo known allergies."


@pytest.fixture(scope="module")
def minilm() -> TextEncoder:
    return load_text_encoder(None)


def test_a_span_is_the_mean_of_its_wordpieces(minilm: TextEncoder) -> None:
    inputs = minilm.tokenizer(SHORT, return_offsets_mapping=True, return_tensors="pt")
    offsets = inputs.pop("offset_mapping")[0]
    with torch.inference_mode():
        states = minilm.model(**inputs).last_hidden_state[0]
    start, stop = SHORT.index("Fever"), SHORT.index("\n")
    inside = [i for i, (a, b) in enumerate(offsets.tolist()) if a < b and a >= start and b <= stop]

    (entry,) = encode_texts(minilm, [SHORT], "span")

    assert entry["spans"].tolist()[1] == [start, stop]
    np.testing.assert_allclose(entry["values"][1], states[inside].mean(0).numpy(), atol=2e-3)


def test_wordpieces_are_the_token_embeddings_of_sentence_transformers(minilm: TextEncoder) -> None:
    library = pytest.importorskip("sentence_transformers", reason="an independent reader of the same weights")
    model = library.SentenceTransformer(str(minilm.tokenizer.name_or_path), device="cpu")
    expected = model.encode(SHORT, output_value="token_embeddings").numpy()

    (entry,) = encode_texts(minilm, [SHORT], "wordpiece")

    np.testing.assert_allclose(entry["values"], expected[1:-1], atol=2e-3)


def test_a_long_note_is_read_to_its_end_and_its_offsets_hold(minilm: TextEncoder) -> None:
    plain = minilm.tokenizer(LONG, add_special_tokens=False, return_offsets_mapping=True, verbose=False)

    (entry,) = encode_texts(minilm, [LONG], "wordpiece")

    assert len(plain["input_ids"]) > 2 * minilm.window
    np.testing.assert_array_equal(entry["spans"], plain["offset_mapping"])
    assert (np.abs(entry["values"]).sum(axis=1) > 0).all()


def test_a_batch_equals_one_by_one(minilm: TextEncoder) -> None:
    texts = [SHORT, LONG, "Well."]

    together = encode_texts(minilm, texts, "span")

    for text, found in zip(texts, together, strict=True):
        (alone,) = encode_texts(minilm, [text], "span")
        np.testing.assert_array_equal(found["spans"], alone["spans"])
        np.testing.assert_allclose(found["values"], alone["values"], atol=2e-3)
