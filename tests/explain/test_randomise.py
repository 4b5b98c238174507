from __future__ import annotations

from itertools import pairwise, permutations

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import spearmanr
from skimage.metrics import structural_similarity

from clinimm.explain.attribute import Explanation, attribute
from clinimm.explain.hide import ALL
from clinimm.explain.layout import Layout
from clinimm.explain.randomise import (
    CASCADE,
    DEEPEST,
    Likeness,
    cascade,
    chance_likeness,
    randomise,
    scaled,
    ssim,
)
from clinimm.explain.release import randomisation_checks
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


def _rows(found: list[Likeness]) -> pd.DataFrame:
    return pd.DataFrame([vars(one) for one in found])


def test_a_map_of_the_input_up_to_sign_survives_and_is_told_from_chance(model, batch) -> None:
    """Shuffled weights turn such a map round from shuffle to shuffle: its mean correlation is near 0."""
    signs, parts = iter([1, 1, 1, 1, 1, -1, 1, -1, -1, 1]), np.random.default_rng(0)

    def of_the_input(_: object) -> Explanation:
        sign = next(signs)
        scores = {
            name: sign * t.values[..., 0].double().numpy() * t.mask.numpy() for name, t in batch.items()
        }
        return Explanation(scores, np.zeros(2), np.zeros(2), np.zeros(2), "input", "none")

    def of_chance(_: object) -> Explanation:
        scores = {name: parts.normal(size=(2, 30)) * t.mask.numpy() for name, t in batch.items()}
        return Explanation(scores, np.zeros(2), np.zeros(2), np.zeros(2), "chance", "none")

    stuck = cascade(model, of_the_input, shuffles=6)
    deep = [one.correlation for one in stuck if one.depth == DEEPEST]
    assert abs(np.mean(deep)) < 0.4
    assert all(check[0].value > 0.95 for check in randomisation_checks(_rows(stuck)).values())
    free = randomisation_checks(_rows(cascade(model, of_chance, shuffles=6)))
    assert set(free) == {"a", "b", ALL}
    assert all(check[0].value < 0.1 for check in free.values())


def test_chance_is_counted_exactly_for_few_tokens_and_near_scipys_for_many() -> None:
    one, two = np.array([1.0, 2.0, 3.0, 4.0]), np.array([0.4, 0.1, 0.3, 0.2])
    found = [abs(spearmanr(one, order).statistic) for order in permutations(two)]
    assert chance_likeness(one, two) == pytest.approx(np.mean(found))
    draw = np.random.default_rng(1)
    one, two = draw.normal(size=(2, 40))
    drawn = []
    for _ in range(400):
        order = draw.permutation(two)
        drawn.append(max(abs(spearmanr(*p).statistic) for p in ((one, order), (np.abs(one), np.abs(order)))))
    assert chance_likeness(one, two) == pytest.approx(np.mean(drawn), abs=0.02)
    assert np.isnan(chance_likeness(one, np.zeros(40)))


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
