from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score

from clinimm.audit.detect.probe import cross_fitted, metadata_probe, probe
from clinimm.audit.engine.rows import Coded
from tests.audit.detect.conftest import most_alarms


def coded(code: np.ndarray, levels: str) -> Coded:
    return Coded(np.asarray(code).astype(np.int64), tuple(levels))


def test_scores_are_those_of_ridge_fits_without_the_row() -> None:
    generator = np.random.default_rng(0)
    features, target = generator.normal(size=(200, 7)), generator.normal(size=(200, 2))
    fold = generator.permutation(200) % 5
    scores = cross_fitted(features, target, fold)
    for number in range(5):
        train, test = fold != number, fold == number
        fit = Ridge(alpha=7.0).fit(features[train], target[train])
        expected = fit.predict(features[test]) - target[train].mean(axis=0)
        assert np.allclose(scores[test], expected, atol=1e-9)


def test_what_was_planted_in_an_embedding_is_told_and_nothing_else() -> None:
    generator = np.random.default_rng(1)
    device, sex = generator.integers(0, 3, 900), generator.integers(0, 2, 900)
    embedding = generator.normal(size=(900, 16))
    embedding[:, 3] += 1.5 * (device == 2)
    found = probe(embedding, {"device": coded(device, "ABC"), "sex": coded(sex, "fm")}, "the embedding")
    by_name = {one.target: one for one in found}
    assert set(by_name) == {"device: A", "device: B", "device: C", "sex: m"}
    planted = by_name["device: C"]
    assert planted.raised() and planted.low > 0.7
    assert not by_name["sex: m"].raised()
    assert planted.null < 0.6
    assert "can be told from the embedding" in planted.sentence


def test_auroc_is_scikit_learns_of_the_same_scores() -> None:
    generator = np.random.default_rng(2)
    columns = {
        "view": coded(generator.integers(0, 2, 500), "ap"),
        "site": coded(generator.integers(0, 4, 500), "wxyz"),
    }
    label = (generator.random(500) < 0.2 + 0.4 * (columns["view"].code == 1)).astype(np.int64)
    found = metadata_probe(columns, label)
    assert found is not None and found.raised()
    from clinimm.audit.detect.probe import one_hot

    values = one_hot(list(columns.values()))
    values = (values - values.mean(axis=0)) / values.std(axis=0)
    fold = np.random.default_rng([0, 8]).permutation(500) % 5
    scores = cross_fitted(values, label[:, None].astype(float), fold)[:, 0]
    assert found.auroc == pytest.approx(roc_auc_score(label, scores), abs=1e-9)
    assert found.low < found.auroc < found.high


@pytest.mark.slow
def test_noise_is_told_no_more_often_than_alpha() -> None:
    runs, alarms = 60, 0
    for seed in range(runs):
        generator = np.random.default_rng(seed)
        targets = {"site": coded(generator.integers(0, 4, 150), "abcd")}
        found = probe(generator.normal(size=(150, 5)), targets, "noise", permutations=99, seed=seed)
        alarms += any(one.raised() for one in found)
    assert alarms <= most_alarms(runs)


def test_what_goes_only_with_the_label_is_no_finding_within_it() -> None:
    generator = np.random.default_rng(4)
    label = generator.integers(0, 2, 1500)
    site = (generator.random(1500) < 0.2 + 0.6 * label).astype(np.int64)
    embedding = generator.normal(size=(1500, 6)) + 1.5 * label[:, None]
    target = {"site": coded(site, "xy")}
    assert probe(embedding, target, "it")[0].raised()
    assert not probe(embedding, target, "it", within=label)[0].raised()


def test_rows_of_one_subject_are_drawn_once_and_rare_levels_left_out() -> None:
    generator = np.random.default_rng(5)
    features = np.repeat(generator.normal(size=(60, 40)), 20, axis=0)
    code = np.repeat(generator.integers(0, 2, 60), 20)
    cluster = np.repeat(np.arange(60), 20)
    # Twenty copies of each subject would let a fit know every subject from its copies.
    assert probe(features, {"sex": coded(code, "fm")}, "copies")[0].auroc > 0.95
    kept = probe(features, {"sex": coded(code, "fm")}, "copies", cluster=cluster)[0]
    assert kept.n == 60 and not kept.raised()
    assert metadata_probe({"site": coded(code, "xy")}, np.arange(1200) < 5) is None


def test_a_level_and_its_opposite_are_one_question() -> None:
    generator = np.random.default_rng(4)
    site, embedding = generator.integers(0, 3, 300), generator.normal(0, 1, (300, 4))
    targets = {"site": coded(site, "ABC"), "device": coded(site == 2, "xy"), "old": coded(site != 2, "01")}
    names = [one.target for one in probe(embedding, targets, "the embedding", permutations=20)]
    assert names == ["site: A", "site: B", "site: C = device: y = not old"]
