from __future__ import annotations

import json

import numpy as np

from clinimm.audit.detect.detect import Extras, detect
from clinimm.audit.detect_settings import DetectSettings
from clinimm.audit.engine.rows import Coded
from tests.audit.detect.conftest import draw_rows


def test_only_what_was_asked_is_looked_for_and_the_rest_is_absent() -> None:
    rows = draw_rows(800)
    signals = detect(rows, 0.3, Extras(), DetectSettings(slices=True, permutations=199))
    assert list(signals.as_json()) == ["slices"]
    assert signals.raised == []


def test_every_detector_reports_in_plain_values() -> None:
    rows = draw_rows(3000, bias=2.0)
    generator = np.random.default_rng(0)
    device = Coded(rows.label.astype(np.int64), ("A", "B"))
    embedding = generator.normal(size=(3000, 4))
    embedding[:, 0] += 2 * rows.attributes["sex"].code
    extras = Extras(
        features={"ward": Coded(generator.integers(0, 3, 3000), ("x", "y", "z"))},
        outcome=("death", np.where(rows.attributes["race"].code == 2, 1.0, 0.0)),
        period=Coded(generator.integers(0, 4, 3000), ("a", "b", "c", "d")),
        metadata={"device": device},
        embedding=embedding,
    )
    settings = DetectSettings(slices=True, permutations=199)
    signals = detect(rows, 0.3, extras, settings)
    assert set(signals.raised) >= {"slices", "label_validity", "metadata", "embedding"}
    text = json.dumps(signals.as_json(), allow_nan=False)
    assert set(json.loads(text)) == {"slices", "label_validity", "metadata", "embedding", "drift"}
    assert text == json.dumps(detect(rows, 0.3, extras, settings).as_json(), allow_nan=False)
    assert any("device alone" in sentence for sentence in signals.sentences)
    told = {one.target for one in signals.embedding or () if one.raised()}
    assert told == {"sex: male"}


def test_a_small_alpha_has_draws_enough_to_be_reached() -> None:
    """199 permutations give no p-value below 0.005: what is there could never have been told."""
    rows = draw_rows(600)
    extras = Extras(metadata={"device": Coded(rows.label.astype(np.int64), ("A", "B"))})
    assert detect(rows, 0.3, extras, DetectSettings(alpha=0.003)).raised == ["metadata"]


def test_a_finding_is_worded_at_the_alpha_that_was_asked_for() -> None:
    rows = draw_rows(600)
    for seed in range(60):
        device = Coded(np.random.default_rng(seed).integers(0, 2, 600), ("A", "B"))
        signals = detect(rows, 0.3, Extras(metadata={"device": device}), DetectSettings(alpha=0.3))
        (one,) = signals.metadata or ()
        if 0.05 < one.p <= 0.3:
            assert all("can be told" in text for text in signals.sentences)
            return
    raise AssertionError("no seed gave a p-value between the two")
