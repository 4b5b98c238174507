from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score

from clinimm.corpus import Corpus
from clinimm.model import FusionNetwork
from clinimm.nn.evidence import Probe
from clinimm.tasks.diagnosis import Task
from clinimm.train import TrainingSet, predict_raw
from clinimm.warm_start import Training, deal, fit_probe, warm_start
from tests.toy import DIM, toy_modalities, toy_spec, toy_table

SUBJECTS = [f"s{i:03d}" for i in range(300)]
TRAINING, REST = SUBJECTS[:200], SUBJECTS[200:]


@pytest.fixture(autouse=True)
def _toy() -> Iterator[None]:
    with toy_modalities():
        yield


def planted(main: float, product: float, classes: int = 1) -> TrainingSet:
    """Two modalities with a signal each; main effects and their product in log odds."""
    draw = np.random.default_rng(3)
    one, two = draw.choice([-1.5, 1.5], size=(2, len(SUBJECTS)))
    logit = main * (one + two) + product * one * two
    label = draw.random((classes, len(SUBJECTS))) < 1 / (1 + np.exp(-logit))
    corpus = Corpus({"a": toy_table(SUBJECTS, one, 1), "b": toy_table(SUBJECTS, two, 2)})
    targets = {s: label[:, i].astype(float) for i, s in enumerate(SUBJECTS)}
    task = Task("toy", "multilabel", tuple("uvw"[:classes])) if classes > 1 else None
    return TrainingSet(corpus, toy_spec(("a", "b"), task), targets)


def started(data: TrainingSet, seed: int = 0) -> tuple[FusionNetwork, torch.Tensor]:
    torch.manual_seed(0)
    network = FusionNetwork(data.spec)
    target = data.target(TRAINING)
    weights = data.spec.task.class_weights(target)
    folds = warm_start(
        network, [data.batch(TRAINING[:90]), data.batch(TRAINING[90:])], target, data.spec.task, weights, seed
    )
    return network, folds


def auroc(network: FusionNetwork, data: TrainingSet) -> float:
    return float(roc_auc_score(data.target(REST)[:, 0], predict_raw(network, data, REST)[:, 0]))


def test_it_starts_as_good_as_logistic_regression_on_everything() -> None:
    data = planted(1.0, 0.0)
    network, _ = started(data)
    mean = {
        part: np.concatenate([data.batch(part)[name].values.mean(1).numpy() for name in "ab"], axis=1)
        for part in map(tuple, (TRAINING, REST))
    }
    peer = LogisticRegression().fit(mean[tuple(TRAINING)], data.target(TRAINING)[:, 0])
    other = roc_auc_score(data.target(REST)[:, 0], peer.predict_proba(mean[tuple(REST)])[:, 1])
    assert auroc(network, data) > other - 0.02
    assert other > 0.85


def test_it_finds_a_product_that_the_sum_does_not_show() -> None:
    data = planted(0.7, 1.0)
    network, _ = started(data)
    with_pairs = auroc(network, data)
    with torch.no_grad():
        network.evidence.weight.zero_()
    assert with_pairs > 0.8
    assert auroc(network, data) < with_pairs - 0.1


def test_a_training_subject_is_read_by_a_model_that_has_not_seen_it() -> None:
    data = planted(1.0, 0.0)
    network, folds = started(data)
    probe = network.probe("a")
    summary = network.summarise(network.embed(data.batch(TRAINING)))["a"]
    own = probe(summary, torch.ones(len(TRAINING)).bool(), folds)[:, 0]
    for fold in range(5):
        here = folds == fold
        by_hand = (summary[here] - probe.mean) @ probe.fold_weight[fold, :, 0] + probe.fold_bias[fold, 0]
        assert torch.allclose(own[here], by_hand, atol=1e-5)


def test_what_a_fold_is_told_does_not_hang_on_its_own_labels() -> None:
    draw = np.random.default_rng(0)
    features = draw.normal(size=(200, 4))
    targets = (features[:, :1] + draw.normal(size=(200, 1)) > 0).astype(float)
    folds = np.arange(200) % 5
    there = {"a": np.ones(200, bool)}
    swapped = np.where(folds[:, None] == 0, 1 - targets, targets)
    found = []
    for labels in (targets, swapped):
        network = FusionNetwork(toy_spec(("a",)))
        wide = np.pad(features, ((0, 0), (0, DIM - 4))).astype(np.float32)
        data = Training(Task("t", "binary", ("y",)), {"a": wide}, there, labels, folds, np.ones((2, 1)))
        fit_probe(network, "a", data, strength=0.1)
        probe = network.probe("a")
        found.append(torch.cat([probe.fold_weight[:, :, 0], probe.fold_bias], dim=1))
    same = [torch.equal(one, other) for one, other in zip(*found, strict=True)]
    assert same == [True, False, False, False, False]


def test_pure_noise_gives_hardly_any_evidence() -> None:
    data = planted(0.0, 0.0)
    network, _ = started(data)
    spread = predict_raw(network, data, REST).std()
    assert spread < 0.5


def test_each_label_has_its_own_evidence() -> None:
    data = planted(1.0, 0.0, classes=3)
    data = replace(data, targets={s: np.r_[t[0], 1 - t[0], np.nan] for s, t in data.targets.items()})
    network, _ = started(data)
    weight = network.probe("a").weight
    assert torch.allclose(weight[:, 0], -weight[:, 1], atol=1e-3)
    assert weight[0, 0] > 0
    assert not weight[:, 2].any()


def test_a_subject_without_the_modality_has_no_evidence() -> None:
    probe = Probe(2, 1)
    probe.set(torch.zeros(2), torch.ones(3, 2, 1), torch.ones(3, 1))
    logit = probe(torch.ones(2, 2), torch.tensor([True, False]))
    assert logit[:, 0].tolist() == [3.0, 0.0]


def test_parts_have_alike_shares_of_the_classes() -> None:
    targets = np.array([[1.0]] * 23 + [[0.0]] * 77 + [[np.nan]] * 5)
    part = deal(targets, 5, seed=2)
    positives = [int((targets[part == k] == 1).sum()) for k in range(5)]
    assert sorted(np.bincount(part)) == [21] * 5
    assert max(positives) - min(positives) <= 1
    assert (deal(targets, 5, seed=2) == part).all()
    assert (deal(targets, 5, seed=3) != part).any()


def test_exclusive_classes_start_as_a_multinomial_regression_does() -> None:
    draw = np.random.default_rng(1)
    kind = draw.choice(3, size=len(SUBJECTS), p=[0.7, 0.2, 0.1])
    table = toy_table(SUBJECTS, 1.2 * (kind - 1.0), 1)
    targets = {s: np.eye(3)[k] for s, k in zip(SUBJECTS, kind, strict=True)}
    data = TrainingSet(
        Corpus({"a": table}), toy_spec(("a",), Task("toy", "multiclass", ("u", "v", "w"))), targets
    )
    network = FusionNetwork(data.spec)
    flat = torch.ones(2, 3)
    warm_start(network, [data.batch(TRAINING)], data.target(TRAINING), data.spec.task, flat, 0)
    mean = {n: data.batch(part)["a"].values.mean(1).numpy() for n, part in (("t", TRAINING), ("r", REST))}
    peer = LogisticRegression().fit(mean["t"], kind[:200])
    own = predict_raw(network, data, REST).softmax(dim=1).numpy()
    chance = np.tile(np.bincount(kind[:200]) / 200, (100, 1))
    assert log_loss(kind[200:], own) < log_loss(kind[200:], peer.predict_proba(mean["r"])) + 0.03
    assert log_loss(kind[200:], own) < log_loss(kind[200:], chance) - 0.2


def test_evidence_that_modalities_share_is_counted_once() -> None:
    signal = np.random.default_rng(2).choice([-0.7, 0.7], size=len(SUBJECTS))
    label = np.random.default_rng(3).random(len(SUBJECTS)) < 1 / (1 + np.exp(-3 * signal))
    targets = {s: np.array([float(y)]) for s, y in zip(SUBJECTS, label, strict=True)}
    table = toy_table(SUBJECTS, signal, 1)
    losses = []
    for names in (("a",), ("a", "b", "c", "d")):
        data = TrainingSet(Corpus(dict.fromkeys(names, table)), toy_spec(names), targets)
        network, _ = started(data)
        chance = predict_raw(network, data, REST).sigmoid().numpy()[:, 0]
        losses.append(log_loss(label[200:], chance))
    assert losses[1] < losses[0] + 0.03


def test_a_rare_label_of_sparse_facts_moves_nobody_who_merely_has_a_record() -> None:
    draw = np.random.default_rng(0)
    facts = csr_matrix((draw.random((1000, 30)) < 0.2).astype(np.float32))
    targets = (draw.random((1000, 1)) < 0.05).astype(float)
    spec = toy_spec(("a",))
    network = FusionNetwork(spec)
    network.encoder("a").sparse_summary = True
    network.probes["a"] = Probe(30, 1)
    task = Task("t", "binary", ("y",))
    data = Training(
        task, {"a": facts}, {"a": np.ones(1000, bool)}, targets, np.arange(1000) % 5, np.ones((2, 1))
    )
    fit_probe(network, "a", data, strength=0.1)
    logit = network.probe("a")(torch.from_numpy(facts.toarray()), torch.ones(1000).bool())
    assert abs(float(logit.mean())) < 0.1


def test_a_modality_that_hardly_anybody_has_or_that_never_varies_has_no_evidence() -> None:
    data = planted(1.0, 0.0)
    few = toy_table(SUBJECTS[:3], np.ones(3), 1)
    flat = toy_table(SUBJECTS, np.ones(len(SUBJECTS)), 2)
    flat = replace(flat, values=np.ones_like(flat.values))
    corpus = Corpus({"a": toy_table(SUBJECTS, np.ones(len(SUBJECTS)), 1), "b": few, "c": flat})
    data = TrainingSet(corpus, toy_spec(("a", "b", "c")), data.targets)
    network, folds = started(data)
    answer = network.answer(network.embed(data.batch(TRAINING)), fold=folds)
    assert not answer.unimodal["b"].any()
    assert not answer.unimodal["c"].any()
    assert bool(answer.fused.isfinite().all())
