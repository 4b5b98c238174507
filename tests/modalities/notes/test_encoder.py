from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from clinimm.config import EncoderConfig, ModalityConfig
from clinimm.core.errors import ConfigError
from clinimm.core.pseudonym import Pseudonymiser
from clinimm.core.record import digest_bytes
from clinimm.modalities import get_modality
from clinimm.modalities.notes.encoder import TextEncoder, encode, encode_texts, fit, load_text_encoder
from clinimm.modalities.notes.explain import locate
from clinimm.modality import EncodeContext
from clinimm.progress import QUIET
from clinimm.sources.base import Opener
from clinimm.testing import check_modality

SHORT = "Cough since Monday. Fever of 38.5 degrees.\nNo known allergies."
LONG = " ".join(f"Day {day}: saturation {90 + day % 9} percent on {day % 5} litres." for day in range(60))


@pytest.fixture(scope="module")
def minilm() -> TextEncoder:
    return load_text_encoder(None)


def events(*texts: str) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "subject_id": [f"s{i}" for i in range(len(texts))],
            "time_hours": 2.0,
            "code": "LOINC//11506-3",
            "text_value": list(texts),
            "digest": None,
            "uri": None,
        }
    )


def context(folder: Path, max_tokens: int = 512, **options: Any) -> EncodeContext:
    config = ModalityConfig(encoder=EncoderConfig(options=options), max_tokens=max_tokens)
    return EncodeContext(config, Opener((), Pseudonymiser(b"0" * 16)), folder, 8, QUIET)


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


def test_encode_keeps_the_text_of_each_span_and_locate_finds_it(tmp_path: Path) -> None:
    found = encode(events(SHORT, "", "Well."), context(tmp_path))

    rows = found.tokens.to_dict("records")
    place = locate(rows[1], 0)
    start, stop = (int(edge) for edge in place.box)
    assert SHORT[start:stop] == place.text == "Fever of 38.5 degrees."
    assert (place.kind, place.digest, place.time_hours) == ("characters", digest_bytes(SHORT.encode()), 2.0)
    assert [refusal.code for refusal in found.refusals] == ["empty-note"]
    assert [row["subject_id"] for row in rows] == ["s0", "s0", "s0", "s2"]
    assert found.values.shape == (4, 384)

    again = encode(events(SHORT, "", "Well."), context(tmp_path))
    np.testing.assert_array_equal(again.values, found.values)
    assert again.counts["cache_hits"] == 2
    assert encode(events(SHORT), context(tmp_path, unit="wordpiece")).counts["cache_hits"] == 0


def test_what_goes_beyond_the_limit_is_counted(tmp_path: Path) -> None:
    found = encode(events(SHORT), context(tmp_path, max_tokens=2))

    assert found.tokens["text"].tolist() == ["Fever of 38.5 degrees.", "No known allergies."]
    assert found.counts["beyond_max_tokens"] == 1
    assert fit(found, ModalityConfig())["dim"] == 384


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"name": "bert"}, "known are minilm and hf:NAME_OR_PATH"),
        ({"name": "hf:./no/such/model"}, "hf:./no/such/model"),
        ({"fine_tune_blocks": 1}, "must be 0"),
        ({"options": {"unit": "word"}}, "known are span, wordpiece"),
        ({"options": {"units": "span"}}, "known are components, unit"),
    ],
)
def test_errors_name_what_is_known(tmp_path: Path, settings: dict[str, Any], words: str) -> None:
    config = ModalityConfig.model_validate({"encoder": settings})
    with pytest.raises(ConfigError, match=words):
        encode(events(SHORT), EncodeContext(config, Opener((), Pseudonymiser(b"0" * 16)), tmp_path, 8, QUIET))


def test_it_keeps_the_contract(tmp_path: Path) -> None:
    files = {"MRN1__20240301T100000Z.txt": SHORT.encode(), "MRN2__20240301T110000Z.txt": b"Well. No fever."}

    check_modality(get_modality("notes"), files, tmp_path)
