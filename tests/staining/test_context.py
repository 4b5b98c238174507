from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from clinimm.corpus import Corpus
from clinimm.model import FusionNetwork
from clinimm.staining import context
from clinimm.staining.context import ContextData, ContextSpec, Trunk
from tests.toy import toy_modalities, toy_modality, toy_spec, toy_table


@pytest.fixture(autouse=True)
def _toy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(context, "get_modality", lambda name, plugins=(): toy_modality(name))
    with toy_modalities():
        yield


SUBJECTS = ["s0", "s1", "s2"]


def data_of() -> ContextData:
    model = toy_spec(("a", "b"), modality_dropout=0.5)
    spec = ContextSpec(model.model, model.modalities, model.statistics, model.plugins)
    signal = np.array([1.0, -1.0, 0.5])
    corpus = Corpus({"a": toy_table(SUBJECTS, signal, 1), "b": toy_table(SUBJECTS[:2], signal[:2], 2)})
    return ContextData(corpus, spec)


def test_it_is_the_trunk_of_a_diagnosis() -> None:
    data = data_of()
    torch.manual_seed(0)
    network = FusionNetwork(toy_spec(("a", "b"))).eval()
    trunk = Trunk(data.spec, 1).eval()
    for part in ("encoders", "adapters", "fusion"):
        getattr(trunk, part).load_state_dict(getattr(network, part).state_dict())
    batch = data.batch(SUBJECTS)
    embedded = network.embed(batch)
    adapted = {
        name: network.adapters[name](network.encoder(name)(tokens)) for name, tokens in embedded.items()
    }
    fused = network.fusion(adapted).values
    assert torch.equal(trunk(batch).values[:, : fused.shape[1]], fused)


def test_a_token_a_modality_says_what_the_probe_reads() -> None:
    data = data_of()
    trunk = Trunk(data.spec, 1).eval()
    batch = data.batch(SUBJECTS)
    features = trunk.probe("a").weight.shape[0]
    before = trunk(batch)
    trunk.probe("a").set(torch.zeros(features), torch.ones(1, features, 3), torch.zeros(1, 3))
    after = trunk(batch)
    latents = before.values.shape[1] - 2
    assert torch.equal(after.values[:, :latents], before.values[:, :latents])
    assert (after.values[:, latents] != before.values[:, latents]).any(dim=1).all()
    assert torch.equal(after.values[:, latents + 1], before.values[:, latents + 1])
    assert after.mask[:, latents:].tolist() == [[True, True], [True, True], [True, False]]


def test_who_has_no_token_gets_none() -> None:
    data = data_of()
    fused = Trunk(data.spec, 1).eval()(data.batch(["s0", "nobody", "s2"]))
    assert fused.present.tolist() == [True, False, True]
    assert fused.mask[0].all()


def test_in_training_modalities_are_hidden_at_random() -> None:
    data = data_of()
    torch.manual_seed(0)
    trunk = Trunk(data.spec, 1).train()
    batch = data.batch(["s2"] * 200)  # who has one modality of two
    share = trunk(batch).present.float().mean()
    assert 0.35 < share < 0.65
    assert trunk.eval()(batch).present.all()


def test_adapters_start_from_the_training_tokens() -> None:
    data = data_of()
    trunk = Trunk(data.spec, 1)
    trunk.initialise(data.batch(SUBJECTS))
    network = FusionNetwork(toy_spec(("a", "b")))
    network.initialise(data.batch(SUBJECTS))
    assert torch.equal(trunk.adapters["a"].mean, network.adapters["a"].mean)  # type: ignore[arg-type]


def test_the_spec_survives_json() -> None:
    spec = data_of().spec
    assert ContextSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
