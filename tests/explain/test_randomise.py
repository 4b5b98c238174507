from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from clinimm.explain.attribute import Explanation, attribute
from clinimm.explain.hide import ALL
from clinimm.explain.layout import Layout
from clinimm.explain.randomise import CASCADE, DEEPEST, cascade, randomise, scaled, ssim
from clinimm.model import FusionModel
from clinimm.nn.tokens import Batch, Tokens
from tests.toy import DIM, toy_modalities, toy_spec


@pytest.fixture
def model() -> FusionModel:
    torch.manual_seed(0)
    with toy_modalities():
        found = FusionModel(toy_spec(("a", "b"), members=1))
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        for probe in found.members[0].probes.values():
            probe.weight.normal_()
    return found.eval()


@pytest.fixture
def batch() -> Batch:
    values = torch.randn(2, 30, DIM, generator=torch.Generator().manual_seed(1))
    mask = torch.ones(2, 30, dtype=torch.bool)
    mask[1, 20:] = False
    return {name: Tokens(values + i, mask, torch.zeros(2, 30)) for i, name in enumerate("ab")}


def _explain(batch: Batch):
    return lambda model: attribute(model, batch, 0, steps=8)


def test_maps_of_the_model_fall_to_chance_and_those_of_the_input_do_not(model, batch) -> None:
    deep = [one for one in cascade(model, _explain(batch), shuffles=6) if one.depth == DEEPEST]
    mean = np.mean([one.correlation for one in deep if one.modality == ALL])
    assert abs(mean) < 0.3

    def of_the_input(_: object) -> Explanation:
        scores = {name: t.values[..., 0].double().numpy() * t.mask.numpy() for name, t in batch.items()}
        return Explanation(scores, np.zeros(2), np.zeros(2), np.zeros(2), "input", "none")

    assert all(one.correlation == pytest.approx(1) for one in cascade(model, of_the_input))


def test_the_cascade_goes_from_the_answer_down_and_keeps_what_was_randomised(model) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    changed: list[set[str]] = []
    for (depth, parts), (name, copied) in zip(CASCADE, randomise(model, 0), strict=True):
        assert depth == name
        differ = {
            key.split(".")[2]
            for key, value in copied.state_dict().items()
            if not torch.equal(value, before[key])
        }
        assert set(parts) & differ or depth == "encoders", "toy encoders have no weights"
        changed.append(differ)
    assert all(one <= two for one, two in pairwise(changed))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_weights_keep_their_sizes_but_not_their_sum_and_statistics_of_the_data_stay(model) -> None:
    *_, (_, copied) = randomise(model, 0)
    member, other = model.members[0], copied.members[0]
    weight, shuffled = member.probes["a"].weight, other.probes["a"].weight
    assert not torch.equal(weight, shuffled)
    assert torch.equal(weight.abs().flatten().sort().values, shuffled.abs().flatten().sort().values)
    assert weight.sum() != shuffled.sum()
    assert torch.equal(member.adapters["a"].mean, other.adapters["a"].mean)
    assert torch.equal(member.probes["a"].mean, other.probes["a"].mean)


def test_a_seed_gives_the_same_again_and_only_the_first_goes_step_by_step(model, batch) -> None:
    one, two = (cascade(model, _explain(batch), shuffles=2) for _ in range(2))
    assert [a.correlation for a in one] == [b.correlation for b in two]
    assert {a.depth for a in one if a.seed == 0} == {depth for depth, _ in CASCADE}
    assert {a.depth for a in one if a.seed == 1} == {DEEPEST}


def test_padding_is_not_counted_as_agreement(model, batch) -> None:
    found = {(a.subject, a.modality): a.tokens for a in cascade(model, _explain(batch)) if a.depth == DEEPEST}
    assert found[0, "a"] == 30
    assert found[1, "a"] == 20
    assert found[1, ALL] == 40


@pytest.mark.parametrize("shape", [(7, 7), (3, 9), (12, 5)])
def test_structural_similarity_is_scikit_images(shape: tuple[int, int]) -> None:
    draw = np.random.default_rng(0)
    one = scaled(draw.normal(size=shape))
    two = scaled(one + 0.5 * draw.normal(size=shape))
    expected = structural_similarity(one, two, win_size=3, data_range=2.0)
    assert ssim(one, two) == pytest.approx(expected, abs=1e-12)
    assert ssim(one, one) == pytest.approx(1)


def test_only_maps_of_pictures_have_a_structural_similarity(model, batch) -> None:
    place = np.stack(np.unravel_index(np.arange(30), (1, 5, 6)), axis=1)
    second = np.where(np.arange(30)[:, None] < 20, place, -1)
    layout = Layout({"a": np.stack([place, second])})
    found = cascade(model, _explain(batch), layout)
    assert all(np.isfinite(one.ssim) == (one.modality == "a") for one in found)
    assert all(-1 <= one.ssim <= 1 for one in found if one.modality == "a")
