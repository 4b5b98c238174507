from __future__ import annotations

from collections.abc import Iterator
from unittest import mock

import numpy as np
import pytest
import torch

from clinimm.config import ModalityConfig, ModelConfig
from clinimm.core.errors import ModelError
from clinimm.nn.stain.generator import GeneratorSettings
from clinimm.nn.tokens import Batch, Tokens
from clinimm.staining.context import ContextSpec
from clinimm.staining.explain_stain import explain_stain
from clinimm.staining.optical import Signal
from clinimm.staining.region_view import Region
from clinimm.staining.stainer import Stainer, StainerSpec
from clinimm.staining.stainer_view import StainerView
from clinimm.tasks.virtual_staining import StainTask
from tests.toy import DIM, toy_modality

WIDTH = 16


def _stainer(context: bool) -> Stainer:
    model = ModelConfig.model_validate({"width": WIDTH, "heads": 2, "latents": 4, "layers": 1, "members": 1})
    trunk = ContextSpec(model, {"ehr": ModalityConfig()}, {"ehr": {"raw_dim": DIM}}) if context else None
    settings = GeneratorSettings(stains=1, width=4, levels=3, context_dim=WIDTH if context else None)
    torch.manual_seed(0)
    stainer = Stainer(StainerSpec(StainTask(("KI67",)), "HE", 0.5, "unet", settings, 2, trunk, {}))
    for parameter in stainer.parameters():  # some start at nothing, and nothing has nothing to explain
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    return stainer.eval()


@pytest.fixture(scope="module")
def stainer() -> Iterator[Stainer]:
    with mock.patch("clinimm.staining.context.get_modality", lambda name, plugins=(): toy_modality(name)):
        yield _stainer(context=True)


@pytest.fixture
def batch() -> Batch:
    values = torch.randn(1, 3, DIM, generator=torch.Generator().manual_seed(1))
    return {"ehr": Tokens(values, torch.tensor([[True, True, False]]), torch.zeros(1, 3))}


def _source() -> np.ndarray:
    return np.random.default_rng(0).integers(40, 250, (64, 64, 3)).astype(np.uint8)


def test_the_view_stains_as_the_stainer_does(stainer: Stainer, batch: Batch) -> None:
    view = StainerView(stainer, "KI67")
    image = torch.from_numpy(_source()).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        expected = stainer(image, stainer.stain_index("KI67"), stainer.read_context(batch)).colour
        torch.testing.assert_close(view.colour(image, view.embed(batch), (0, 0)), expected)
        unknown = stainer(image, stainer.stain_index("KI67")).colour
        torch.testing.assert_close(view.colour(image, {}, (0, 0)), unknown)
    assert not torch.allclose(expected, unknown)


def test_members_lie_side_by_side_and_uninformative_facts_are_their_means(
    stainer: Stainer, batch: Batch
) -> None:
    view = StainerView(stainer, "KI67")
    embedded = view.embed(batch)
    assert embedded["ehr"].values.shape == (1, 3, 2 * DIM)
    for index, member in enumerate(stainer.members):
        member.trunk.adapters["ehr"].mean.fill_(float(index))
    baseline = view.baseline(embedded)["ehr"].values
    assert (baseline[..., :DIM] == 0).all()
    assert (baseline[..., DIM:] == 1).all()


def test_a_real_stainers_budget_adds_up(stainer: Stainer, batch: Batch) -> None:
    view = StainerView(stainer, "KI67")
    record = view.embed(batch)
    found = explain_stain(view, _source(), Region(16, 16, 8, 8), Signal.DAB, 0.5, record)
    assert found.record["ehr"].shape == (3,)
    assert found.record["ehr"][2] == 0
    assert np.abs(found.record["ehr"][:2]).min() > 0
    change = abs(found.amount - found.baseline_amount)
    assert abs(found.residual) <= max(0.02 * change, 1e-4)


def test_a_stainer_of_pixels_alone_has_no_record() -> None:
    view = StainerView(_stainer(context=False), "KI67")
    assert explain_stain(view, _source(), Region(16, 16, 8, 8), Signal.DAB, 0.5, steps=2).record == {}
    with pytest.raises(ModelError, match="pixels alone"):
        view.embed({})
