from __future__ import annotations

import json
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
from clinimm.modalities.notes.encoder import build_encoder, encode, fit, tensorise
from clinimm.modalities.notes.explain import locate
from clinimm.modality import EncodeContext
from clinimm.nn.tokens import Tokens
from clinimm.progress import QUIET
from clinimm.sources.base import Opener
from clinimm.testing import check_modality

SHORT = "Cough since Monday. Fever of 38.5 degrees.\nNo known allergies."


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
        ({"name": "bert"}, "known are minilm, lexical and hf:NAME_OR_PATH"),
        ({"name": "hf:./no/such/model"}, "hf:./no/such/model"),
        ({"fine_tune_blocks": 1}, "must be 0"),
        ({"options": {"unit": "word"}}, "known are span, wordpiece"),
        ({"options": {"units": "span"}}, "known are components, lexical, min_subjects, unit"),
    ],
)
def test_errors_name_what_is_known(tmp_path: Path, settings: dict[str, Any], words: str) -> None:
    config = ModalityConfig.model_validate({"encoder": settings})
    with pytest.raises(ConfigError, match=words):
        encode(events(SHORT), EncodeContext(config, Opener((), Pseudonymiser(b"0" * 16)), tmp_path, 8, QUIET))


def test_it_keeps_the_contract(tmp_path: Path) -> None:
    files = {"MRN1__20240301T100000Z.txt": SHORT.encode(), "MRN2__20240301T110000Z.txt": b"Well. No fever."}

    check_modality(get_modality("notes"), files, tmp_path)


def test_words_are_added_to_the_language_model_or_stand_alone(tmp_path: Path) -> None:
    texts = [f"Patient number {i}. Fever and cough. Intubated." for i in range(4)]
    beside = context(tmp_path, lexical=3)
    alone = EncodeContext(
        ModalityConfig(encoder=EncoderConfig(name="lexical")), beside.opener, tmp_path, 8, QUIET
    )

    for use, dim in ((beside, 384), (alone, 0)):
        found = encode(events(*texts, ""), use)
        statistics = json.loads(json.dumps(fit(found, use.config)))
        raw = torch.from_numpy(tensorise(found, statistics))[None]
        network = build_encoder(use.config, statistics)
        embedded = network.embed(Tokens(raw, torch.ones(raw.shape[:2]).bool(), torch.zeros(raw.shape[:2])))

        assert [refusal.code for refusal in found.refusals] == ["empty-note"]
        assert found.values.shape == (12, dim)
        assert raw.shape[2] == statistics["raw_dim"] == dim + 3
        assert network.dim == embedded.values.shape[2] == dim + statistics["lexical_scale"]["dim"]
        torch.testing.assert_close(embedded.values.mean((0, 1)), torch.zeros(network.dim), atol=1e-3, rtol=0)


def test_the_words_alone_keep_the_contract(tmp_path: Path) -> None:
    files = {f"MRN{i}__20240301T100000Z.txt": b"Fever and cough." for i in range(3)}
    config = ModalityConfig(encoder=EncoderConfig(name="lexical"))

    check_modality(get_modality("notes"), files, tmp_path, config)
