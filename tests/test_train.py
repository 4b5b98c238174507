from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score

from clinimm.checkpoint import Checkpoint
from clinimm.config import TrainConfig
from clinimm.core.errors import ModelError
from clinimm.corpus import Corpus
from clinimm.nn.tokens import Tokens
from clinimm.tasks.diagnosis import Task
from clinimm.train import TrainingSet, calibrated_loss, drop, predict_raw, train_member
from tests.toy import DIM, toy_modalities, toy_spec, toy_table


@pytest.fixture(autouse=True)
def _toy() -> Iterator[None]:
    with toy_modalities():
        yield


SUBJECTS = [f"s{i:03d}" for i in range(240)]
TRAINING, TUNING, HELD_OUT = SUBJECTS[:140], SUBJECTS[140:180], SUBJECTS[180:]


def planted(interaction: bool, **model: object) -> TrainingSet:
    """Two modalities; the label is the sign of the first signal, or of both signals' product."""
    draw = np.random.default_rng(5)
    one, two = draw.choice([-1.5, 1.5], size=(2, len(SUBJECTS)))
    label = (one * two > 0) if interaction else (one > 0)
    corpus = Corpus({"a": toy_table(SUBJECTS, one, 1), "b": toy_table(SUBJECTS, two, 2)})
    targets = {s: np.array([float(y)]) for s, y in zip(SUBJECTS, label, strict=True)}
    return TrainingSet(corpus, toy_spec(("a", "b"), **model), targets)


def held_out_auroc(data: TrainingSet, config: TrainConfig) -> float:
    network, _ = train_member(data, TRAINING, TUNING, config, seed=0)
    return float(roc_auc_score(data.target(HELD_OUT)[:, 0], predict_raw(network, data, HELD_OUT)[:, 0]))


def test_it_learns_a_main_effect() -> None:
    assert held_out_auroc(planted(False), TrainConfig(epochs=25, learning_rate=3e-3, warm_start=False)) > 0.95


def test_it_learns_an_interaction_that_no_modality_shows_alone() -> None:
    data = planted(True, modality_dropout=0.0, width=32)
    assert held_out_auroc(data, TrainConfig(epochs=80, patience=60, learning_rate=3e-3)) > 0.9


def test_the_same_seed_gives_the_same_weights() -> None:
    config = TrainConfig(epochs=3)
    first, _ = train_member(planted(False), TRAINING, TUNING, config, seed=4)
    second, _ = train_member(planted(False), TRAINING, TUNING, config, seed=4)
    other, _ = train_member(planted(False), TRAINING, TUNING, config, seed=5)
    same = [torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True)]
    assert all(same)
    assert not all(torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))


class KilledError(Exception):
    """Stands for the end of the process."""


def test_a_killed_training_resumes_to_the_same_weights(tmp_path: Path) -> None:
    config = TrainConfig(epochs=6, patience=6, learning_rate=1e-2)
    data = planted(True)
    whole, uninterrupted = train_member(data, TRAINING, TUNING, config, seed=1)
    assert uninterrupted.best_epoch > 3  # else the resumed half would not matter

    def die(row: dict[str, float]) -> None:
        if row["epoch"] == 3:
            raise KilledError

    with pytest.raises(KilledError):
        checkpoint = Checkpoint(tmp_path, every_seconds=0.0)
        train_member(data, TRAINING, TUNING, config, 1, checkpoint, die)
    assert (tmp_path / "checkpoint.json").exists()
    epochs = []
    resumed, state = train_member(
        data,
        TRAINING,
        TUNING,
        config,
        1,
        Checkpoint(tmp_path),
        lambda row: epochs.append(row["epoch"]),
    )
    assert epochs == [3, 4, 5]
    assert [row["epoch"] for row in state.history] == list(range(6))
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_it_stops_early_and_keeps_the_best_epoch() -> None:
    data = planted(False)
    shuffled = np.random.default_rng(0).permutation(len(SUBJECTS))
    noise = {s: data.targets[SUBJECTS[i]] for s, i in zip(SUBJECTS, shuffled, strict=True)}
    _, state = train_member(
        TrainingSet(data.corpus, data.spec, noise), TRAINING, TUNING, TrainConfig(epochs=60, patience=3), 0
    )
    assert state.epoch < 60
    losses = [row["tuning_loss"] for row in state.history]
    assert state.best_loss <= min(losses)
    assert state.best_epoch == -1 or state.best_loss == losses[state.best_epoch]


def test_where_nothing_beats_the_simple_model_the_simple_model_is_kept() -> None:
    data = planted(False)
    harmful = TrainConfig(epochs=4, patience=4, learning_rate=10.0)
    kept, state = train_member(data, TRAINING, TUNING, harmful, 0)
    start, _ = train_member(data, TRAINING, TUNING, TrainConfig(epochs=1, learning_rate=1e-12), 0)
    assert state.best_epoch == -1
    assert torch.equal(predict_raw(kept, data, HELD_OUT), predict_raw(start, data, HELD_OUT))


def test_an_unknown_label_costs_nothing() -> None:
    data = planted(False)
    unknown = {**data.targets, **{s: np.array([np.nan]) for s in TRAINING[:20]}}
    _, state = train_member(
        TrainingSet(data.corpus, data.spec, unknown), TRAINING, TUNING, TrainConfig(epochs=2), 0
    )
    assert np.isfinite([row["training_loss"] for row in state.history]).all()


def test_dropping_never_leaves_a_subject_without_what_it_has() -> None:
    torch.manual_seed(0)
    mask = torch.tensor([[True, True], [True, False], [False, False]])
    other = torch.tensor([[True, False], [False, False], [True, True]])
    for _ in range(50):
        kept = drop(
            {
                "a": Tokens(torch.zeros(3, 2, DIM), mask, torch.zeros(3, 2)),
                "b": Tokens(torch.zeros(3, 2, DIM), other, torch.zeros(3, 2)),
            },
            modality_dropout=0.9,
            token_dropout=0.9,
        )
        anything = kept["a"].mask.any(1) | kept["b"].mask.any(1)
        assert anything.all()
        assert not (kept["a"].mask & ~mask).any()
        assert not (kept["b"].mask & ~other).any()


def test_a_training_that_diverges_is_a_named_error() -> None:
    config = TrainConfig(epochs=2, patience=2, learning_rate=1e30)
    with pytest.raises(ModelError, match="training diverged"):
        train_member(planted(False), TRAINING, TUNING, config, seed=0)


def test_confidence_that_only_needs_scaling_down_does_not_count_against_a_model() -> None:
    draw = np.random.default_rng(0)
    label = torch.from_numpy(draw.random((400, 1)) < 0.5).float()
    logits = (2 * label - 1) + torch.from_numpy(draw.normal(size=(400, 1))).float()
    task, weights = Task("t", "binary", ("t",)), torch.ones(2, 1)
    scale = LogisticRegression(C=1e9, fit_intercept=False).fit(logits.numpy(), label.numpy().ravel())
    best = log_loss(label.numpy().ravel(), scale.predict_proba(logits.numpy())[:, 1])
    for factor in (1.0, 2.0, 3.0):
        assert calibrated_loss(task, factor * logits, label, weights) == pytest.approx(best, abs=0.04)
    plain = [float(task.loss(factor * logits, label, weights).mean()) for factor in (1.0, 6.0)]
    assert plain[1] > plain[0] + 0.05  # which is what the plain loss says of the same order of subjects
    few = calibrated_loss(task, 6 * logits[:8], label[:8], weights)
    assert few > calibrated_loss(task, logits[:8], label[:8], weights)  # eight cannot tell the scale
    assert np.isnan(calibrated_loss(task, logits * float("nan"), label, weights))


def test_training_minds_the_groups_that_it_is_told_of() -> None:
    """Group x is a fifth of the subjects and its label is turned round: the mean loss gives it up."""
    data = planted(False)
    groups = {s: "x" if place % 5 == 0 else "y" for place, s in enumerate(SUBJECTS)}
    turned = {s: 1 - target if groups[s] == "x" else target for s, target in data.targets.items()}
    data = replace(data, targets=turned, groups=groups)
    losses = {}
    for kind in ("none", "group_dro", "reweighing"):
        named = "" if kind == "none" else "site"
        config = TrainConfig(epochs=8, patience=8, mitigation=kind, mitigation_attribute=named)
        network, _ = train_member(data, TRAINING, [], config, seed=0)
        target = data.target(HELD_OUT)
        each = data.spec.task.loss(predict_raw(network, data, HELD_OUT), target, torch.ones(2, 1))
        inside = torch.tensor([groups[s] == "x" for s in HELD_OUT])
        losses[kind] = float(each[inside].mean()), float(each[~inside].mean())
    assert losses["group_dro"][0] < losses["none"][0] - 0.04
    assert losses["group_dro"][1] > losses["none"][1]
    assert losses["reweighing"] != losses["none"]
