"""Bags in the whole model: trained with the fusion, saved, loaded, and explained tile by tile."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score

from clinimm.config import EncoderConfig, ModalityConfig, ModelConfig, TrainConfig
from clinimm.corpus import Corpus
from clinimm.explain.attribute import attribute
from clinimm.explain.checks import deletion, relative_delta
from clinimm.modalities import get_modality
from clinimm.modality import Encoded
from clinimm.model import FusionModel, FusionNetwork, ModelSpec
from clinimm.nn.mil import ClusteredBag
from clinimm.tasks.diagnosis import Task
from clinimm.train import TrainingSet, predict_raw, train_member
from tests.nn.test_mil import DIM, witness_bags

SUBJECTS = [f"s{i:03d}" for i in range(300)]
TRAINING, TUNING, HELD_OUT = SUBJECTS[:180], SUBJECTS[180:220], SUBJECTS[220:]
TILES = 12


def data(mil: str) -> TrainingSet:
    """Witness bags as the pathology modality's tokens; one training label in seven is wrong.

    Wrong labels keep the model from switching between two certainties, as no clinic's data let it:
    a step has no path of integration.
    """
    raw, label = witness_bags(len(SUBJECTS), seed=1, tiles=TILES)
    wrong = np.random.default_rng(0).random(len(TRAINING) + len(TUNING)) < 1 / 7
    label[: len(wrong)] = torch.where(torch.from_numpy(wrong), 1 - label[: len(wrong)], label[: len(wrong)])
    count = len(SUBJECTS) * TILES
    column = np.tile(np.arange(TILES) * 448, len(SUBJECTS))
    tokens = pd.DataFrame(
        {"subject_id": np.repeat(SUBJECTS, TILES), "time_hours": 5.0, "digest": np.repeat(SUBJECTS, TILES),
         "left": column, "right": column + 448, "top": 0, "bottom": 448}
    )  # fmt: skip
    encoded = Encoded(tokens, raw.values.reshape(count, DIM).numpy().astype(np.float16))
    config = ModalityConfig(encoder=EncoderConfig(options={"mil": mil}))
    modality = get_modality("pathology")
    spec = ModelSpec(
        task=Task("witness", "binary", ("positive",)),
        model=ModelConfig(width=32, modality_dropout=0.0, members=1),
        modalities={"pathology": config},
        statistics={"pathology": modality.fit(encoded, config)},
        plugins=(),
        provenance={},
    )
    targets = {subject: np.array([float(y)]) for subject, y in zip(SUBJECTS, label, strict=True)}
    return TrainingSet(Corpus({"pathology": encoded}), spec, targets)


def trained(training: TrainingSet, epochs: int = 16) -> FusionNetwork:
    config = TrainConfig(epochs=epochs, patience=5, learning_rate=2e-3)
    return train_member(training, TRAINING, TUNING, config, seed=0)[0]


@pytest.mark.parametrize("mil", ["abmil", "clam", "transformer"])
def test_the_model_finds_witnesses_and_explains_them_tile_by_tile(mil: str, tmp_path: Path) -> None:
    training = data(mil)
    network = trained(training)
    target = training.target(HELD_OUT)[:, 0]
    auroc = roc_auc_score(target, predict_raw(network, training, HELD_OUT)[:, 0])
    print(f"fused, {mil}: held-out AUROC {auroc:.3f}, n = {len(HELD_OUT)}")
    assert auroc > 0.85

    model = FusionModel(training.spec)
    model.members[0].load_state_dict(network.state_dict())
    model.save_pretrained(tmp_path)
    loaded = FusionModel.from_pretrained(tmp_path)
    batch = training.batch(HELD_OUT[1:40:2])  # positive ones
    torch.testing.assert_close(loaded(batch), model.eval()(batch))

    found = attribute(loaded, batch, 0, steps=64)
    scores = found.scores["pathology"]
    on_witnesses = np.abs(scores[:, :2]).sum() / np.abs(scores).sum()
    assert scores.shape == (20, TILES)
    missing = np.median(relative_delta(found))
    print(f"share of attribution on the two witnesses {on_witnesses:.2f}, residual {missing:.3f}")
    assert missing < (0.5 if mil == "transformer" else 0.1)
    assert on_witnesses > 1.5 * 2 / TILES
    one = training.batch(HELD_OUT[1:2])
    faithful = deletion(loaded, one, attribute(loaded, one, 0, steps=32), 0)
    assert np.isfinite(faithful.auc)


def test_training_adds_clam_s_loss_on_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    training = data("clam")
    config = TrainConfig(epochs=1, warm_start=False)

    def weights() -> torch.Tensor:
        network, _ = train_member(training, TRAINING[:64], [], config, seed=0)
        encoder = network.encoder("pathology")
        assert isinstance(encoder, ClusteredBag)
        return encoder.instance.weight.detach()

    taught = weights()
    monkeypatch.setattr(ClusteredBag, "auxiliary_loss", lambda self, embedded, target: None)
    assert (taught - weights()).abs().max() > 1e-6


def test_a_bag_as_long_as_its_slide_tokens_is_not_hidden_by_them() -> None:
    """Four tiles, four slide tokens: whose masks are alike in shape must not be taken for each other."""
    training = data("abmil")
    network = FusionNetwork(training.spec).eval()
    probe = network.probe("pathology")
    probe.weight.normal_()
    batch = training.batch(HELD_OUT[:2])
    tokens = batch["pathology"]
    few = {"pathology": tokens.with_mask(tokens.mask & (torch.arange(TILES) < torch.tensor([[4], [2]])))}
    short = {"pathology": type(tokens)(*(part[:, :4] for part in
             (few["pathology"].values, few["pathology"].mask, few["pathology"].time)))}  # fmt: skip
    torch.testing.assert_close(
        network.answer(network.embed(short)).fused, network.answer(network.embed(few)).fused
    )
