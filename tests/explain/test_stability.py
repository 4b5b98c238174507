from __future__ import annotations

import numpy as np
import pytest
import torch
from captum.attr import IntegratedGradients
from captum.metrics import sensitivity_max

from clinimm.explain import checks
from clinimm.explain.attribute import explain_problem
from clinimm.explain.hide import ALL
from clinimm.explain.layout import Layout
from clinimm.explain.problem import Setting, pose
from clinimm.explain.stability import (
    agreement,
    largest_change,
    member_agreement,
    rank_correlation,
    repeatability,
    sensitivity,
)
from clinimm.model import FusionModel
from clinimm.nn.tokens import Tokens
from tests.toy import DIM, toy_modalities, toy_spec


def test_it_equals_captums_sensitivity_max_with_the_same_shifts(curved) -> None:
    values = torch.randn(1, 5, 2, generator=torch.Generator().manual_seed(0))
    tokens = Tokens(values, torch.ones(1, 5, dtype=torch.bool), torch.zeros(1, 5))
    problem = pose(curved, {"notes": tokens}, 1, Setting(steps=16))
    found = sensitivity(problem, lambda one: explain_problem(one, "integrated_gradients"), 0.1, 4)

    def explain(value: torch.Tensor | tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        value = value[0] if isinstance(value, tuple) else value
        extras = tuple(extra.expand(len(value), -1) for extra in problem.unchanged)
        raw = IntegratedGradients(problem.forward).attribute(
            value, additional_forward_args=extras, n_steps=16, method="gausslegendre"
        )
        return (raw.sum(2),)

    def perturb(value: torch.Tensor) -> torch.Tensor:
        spread = problem.values[0].std(correction=0)
        shift = 0.1 * spread * (2 * torch.rand((5, 5, 2), generator=torch.Generator().manual_seed(0)) - 1)
        return problem.values[0] + shift[1:]

    expected = sensitivity_max(explain, problem.values[0], perturb_func=perturb, n_perturb_samples=4)
    assert found["notes"] == pytest.approx(float(expected[0]), rel=1e-4)
    assert found[ALL] == pytest.approx(found["notes"])


def test_a_linear_model_moves_no_more_than_its_input(linear, batch_of) -> None:
    found = sensitivity(pose(linear, batch_of(), 1), lambda one: explain_problem(one, "integrated_gradients"))
    assert all(0 < value < 0.1 for value in found.values())


def test_a_hair_is_a_share_of_each_modalitys_own_spread(curved, batch_of) -> None:
    """A modality with five times the spread moves five times as far; the others as before."""
    batch, moved = batch_of(), []

    def explain(problem):
        moved.append({n: t.values[1:] - t.values[:1] for n, t in problem.embedded.items()})
        return explain_problem(problem, "integrated_gradients")

    wide = {**batch, "notes": batch["notes"].with_values(5 * batch["notes"].values)}
    for one in (batch, wide):
        sensitivity(pose(curved, one, 1), explain)
    assert len(moved[0]["notes"]) == 10
    torch.testing.assert_close(moved[1]["notes"], 5 * moved[0]["notes"], atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(moved[1]["ehr"], moved[0]["ehr"])
    own = 2 * batch["ehr"].values[0, :3]
    assert float(moved[0]["ehr"].abs().max()) <= 0.02 * float(own.std(correction=0)) + 1e-6


def test_repeatability_is_asked_of_maps_with_the_shown_maps_steps(curved, batch_of, monkeypatch) -> None:
    seen = []
    monkeypatch.setattr(checks, "repeatability", lambda problem, _: seen.append(problem.setting.steps) or {})
    checks.check_stability(pose(curved, batch_of(), 1), batch_of(), "gradient_shap", 512)
    assert seen == [512]
    shown = checks.attribute_fully(curved, batch_of(), 1, "gradient_shap", 4)
    assert shown.steps in {4 * factor for factor in (1, 2, 4, 8, 16)}
    assert shown.steps > 4, "four samples leave more than 1 % over"


def test_draws_of_training_tokens_are_draws_whatever_the_method(curved, batch_of) -> None:
    bank = {
        name: torch.randn(40, len(weight), generator=torch.Generator().manual_seed(1))
        for name, weight in curved.weights.items()
    }
    setting = Setting(steps=32, baseline="training", references=bank)
    problem = pose(curved, batch_of(), 1, setting)
    found = {one.name for one in checks.check_stability(problem, batch_of(), "integrated_gradients")}
    assert "repeatability" in found
    usual = pose(curved, batch_of(), 1)
    found = {one.name for one in checks.check_stability(usual, batch_of(), "integrated_gradients")}
    assert "repeatability" not in found


def test_places_go_with_every_moved_copy(curved, batch_of) -> None:
    layout = Layout({"radiology": np.array([[[0, 0, 0], [0, 0, 1], [0, 1, 0]]])})
    problem = pose(curved, batch_of(), 1, Setting(layout=layout))
    assert sensitivity(problem, lambda one: explain_problem(one, "occlusion"))["radiology"] > 0


def test_a_map_without_any_score_has_no_relative_change() -> None:
    assert np.isnan(largest_change(np.zeros((3, 4))))
    assert largest_change(np.array([[3.0, 4.0], [3.0, 4.0], [0.0, 0.0]])) == 1.0


def test_a_method_that_draws_agrees_with_itself_the_more_it_draws(curved, batch_of) -> None:
    few, many = (
        repeatability(pose(curved, batch_of(), 1, Setting(steps=steps)), "gradient_shap")
        for steps in (1, 300)
    )
    assert many[ALL] > 0.9
    assert many[ALL] >= few[ALL]


def test_agreement_is_the_mean_rank_correlation_and_needs_an_order() -> None:
    assert agreement([np.arange(4.0), np.arange(4.0), -np.arange(4.0)]) == pytest.approx(-1 / 3)
    assert agreement([np.arange(4.0), np.zeros(4)]) is None
    assert np.isnan(rank_correlation(np.array([1.0]), np.array([2.0])))


def test_members_that_are_copies_agree_and_members_turned_round_do_not() -> None:
    torch.manual_seed(0)
    with toy_modalities():
        model = FusionModel(toy_spec(("a", "b"), members=2))
    with torch.no_grad():
        for parameter in model.members[0].parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    model.members[1].load_state_dict(model.members[0].state_dict())
    values = torch.randn(1, 6, DIM, generator=torch.Generator().manual_seed(1))
    tokens = Tokens(values, torch.ones(1, 6, dtype=torch.bool), torch.zeros(1, 6))
    batch = {"a": tokens, "b": tokens.with_values(-values)}
    problem = pose(model, batch, 0, Setting(steps=8))
    same = member_agreement(problem, batch, "integrated_gradients")
    assert same == {"a": pytest.approx(1), "b": pytest.approx(1), ALL: pytest.approx(1)}
    with torch.no_grad():
        other = model.members[1]
        for weight in (
            other.head.weight,
            other.evidence.weight,
            *(h.linear.weight for h in other.heads.values()),
        ):
            weight.neg_()
    assert member_agreement(problem, batch, "integrated_gradients")[ALL] == pytest.approx(-1)


def test_one_member_has_nobody_to_agree_with(curved, batch_of) -> None:
    assert member_agreement(pose(curved, batch_of(), 1), batch_of(), "integrated_gradients") == {}
