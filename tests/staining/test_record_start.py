from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from clinimm.corpus import Corpus
from clinimm.nn.stain.start import ColourStart
from clinimm.staining import context
from clinimm.staining.context import ContextData, ContextSpec, Trunk
from clinimm.staining.pairs import StainPair
from clinimm.staining.record_start import departures, fit_record
from clinimm.tasks.virtual_staining import StainTask
from tests.toy import toy_modalities, toy_modality, toy_spec, toy_table

SUBJECTS = [f"s{number:02d}" for number in range(40)]


@pytest.fixture(autouse=True)
def _toy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(context, "get_modality", lambda name, plugins=(): toy_modality(name))
    with toy_modalities():
        yield


def fitted(targets: np.ndarray, signal: np.ndarray) -> tuple[Trunk, ContextData, torch.Tensor]:
    model = toy_spec(("a",))
    spec = ContextSpec(model.model, model.modalities, model.statistics, model.plugins)
    data = ContextData(Corpus({"a": toy_table(SUBJECTS, signal, 1)}), spec)
    trunk = Trunk(spec, 1).eval()
    return trunk, data, fit_record(trunk, data.batch(SUBJECTS), targets, seed=0)


def said(trunk: Trunk, data: ContextData, fold: torch.Tensor | None) -> np.ndarray:
    embedded = trunk.embed(data.batch(SUBJECTS))["a"]
    summary = trunk.encoder("a").summarise(embedded)
    return np.asarray(trunk.probe("a")(summary, embedded.present, fold).detach())


def test_a_fact_that_moves_the_stain_is_found_and_read_out_of_fold() -> None:
    random = np.random.default_rng(0)
    signal = random.choice([-1.0, 1.0], len(SUBJECTS))
    targets = np.stack([signal, signal, -signal], axis=1) * 0.03 + 0.003 * random.standard_normal((40, 3))
    trunk, data, folds = fitted(targets, signal)
    honest, new = said(trunk, data, folds), said(trunk, data, None)
    for column, sign in enumerate((1, 1, -1)):
        assert np.corrcoef(honest[:, column], sign * signal)[0, 1] > 0.6
    assert not np.allclose(honest, new)  # one model a fold, their mean for new patients


def test_what_does_not_predict_unseen_patients_says_nothing() -> None:
    random = np.random.default_rng(1)
    trunk, data, folds = fitted(0.03 * random.standard_normal((40, 3)), random.choice([-1.0, 1.0], 40))
    silent = [not said(trunk, data, folds)[:, column].any() for column in range(3)]
    assert sum(silent) >= 2


def test_departures_are_what_the_start_leaves_over_on_tissue() -> None:
    task = StainTask(("KI67", "PANCK"))
    source = np.full((64, 64, 3), (150, 60, 150), np.uint8)
    source[:, 32:] = 245  # glass, which does not count
    target = np.where(source < 200, source + np.uint8(51), np.uint8(0)).astype(np.uint8)
    pair = StainPair("s00", "A1", source, {"KI67": target}, np.ones((64, 64), bool), 0.5)
    start = ColourStart(2)  # leaves colours as they are
    found = departures([pair], task, start, ["s00", "s01"])
    assert found.shape == (2, 6)
    assert found[0, :3] == pytest.approx([0.2, 0.2, 0.2], abs=1e-6)
    assert np.isnan(found[0, 3:]).all()
    assert np.isnan(found[1]).all()
