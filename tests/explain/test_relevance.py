from __future__ import annotations

import numpy as np
import pytest
import torch

from clinimm.core.errors import ConfigError
from clinimm.explain.attribute import attribute
from clinimm.explain.problem import pose
from clinimm.explain.relevance import Streams, attention_relevance, rule_5, trace
from clinimm.explain.rollout import attention_rollout, rolled
from clinimm.model import FusionModel
from clinimm.nn.attention import CLASSES, LATENTS, TOKENS, Attention, Trace
from clinimm.nn.tokens import Batch, Tokens
from tests.toy import DIM, toy_modalities, toy_spec

NAMES = ("a", "b", "c")


@pytest.fixture
def model() -> FusionModel:
    torch.manual_seed(0)
    with toy_modalities():
        found = FusionModel(toy_spec(NAMES, members=2))
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return found.eval()


def _batch(rows: int = 3, tokens: int = 4) -> Batch:
    generator = torch.Generator().manual_seed(1)
    mask = torch.tensor([[True] * 4, [True] * 3 + [False], [True] + [False] * 3])[:rows]
    mask = torch.nn.functional.pad(mask, (0, tokens - 4))
    values = {name: torch.randn(3, 4, DIM, generator=generator)[:rows] for name in NAMES}
    return {
        name: Tokens(
            torch.nn.functional.pad(values[name], (0, 0, 0, tokens - 4)), mask, torch.zeros(rows, tokens)
        )
        for name in NAMES
    }


def _by_the_paper(model: FusionModel, batch: Batch) -> np.ndarray:
    """Rules 5 to 11 for a bi-modal model (tokens t, latents l), in loops over subjects, in NumPy."""
    total = np.zeros((3, 12))
    found, logit = trace(pose(model, batch, 0))
    weights = [[one.weights for one in each.attentions] for each in found]
    gradients = torch.autograd.grad(logit.sum(), [w for each in weights for w in each])
    gradients = iter(gradients)
    for each in weights:
        averaged = []
        for weight in each:
            product = (weight * next(gradients)).detach().double().numpy()
            averaged.append(np.maximum(product, 0).mean(axis=1)[..., 1:])
        for subject in range(3):
            gather1, mix1, scatter, gather2, mix2, read = (a[subject] for a in averaged)
            tt, ll, lt, tl = np.eye(12), np.eye(4), np.zeros((4, 12)), np.zeros((12, 4))

            def bar(r: np.ndarray) -> np.ndarray:
                hat = r - np.eye(len(r))
                return hat / np.maximum(hat.sum(1, keepdims=True), 1e-12) + np.eye(len(r))

            lt, ll = lt + bar(ll).T @ gather1 @ bar(tt), ll + gather1 @ tl
            lt, ll = lt + mix1 @ lt, ll + mix1 @ ll
            tl, tt = tl + bar(tt).T @ scatter @ bar(ll), tt + scatter @ lt
            lt, ll = lt + bar(ll).T @ gather2 @ bar(tt), ll + gather2 @ tl
            lt, ll = lt + mix2 @ lt, ll + mix2 @ ll
            total[subject] += (read @ lt)[0]
    return total


def test_it_equals_the_papers_rules_written_out_for_every_subject(model) -> None:
    problem = pose(model, _batch(), 0)
    found = torch.cat(attention_relevance(problem).scores, dim=1).numpy()
    expected = _by_the_paper(model, _batch())
    mask = torch.cat([tokens.mask for tokens in _batch().values()], dim=1).numpy()
    np.testing.assert_allclose(found, expected * mask, rtol=1e-4, atol=1e-9)
    assert (found[mask] > 0).any()
    assert (found >= 0).all()


def test_the_two_rules_of_a_cross_attention_by_hand() -> None:
    streams = Streams()
    weights = torch.tensor([[[0.2, 0.3], [0.1, 0.4]]], dtype=torch.double)
    streams.attend("query", "text", weights)
    torch.testing.assert_close(streams.relevance["query", "text"], weights)
    own = torch.tensor([[[0.5, 0.0], [0.5, 0.5]]], dtype=torch.double)
    streams.attend("query", "query", own)  # rules 6 and 7
    torch.testing.assert_close(streams.relevance["query", "text"], weights + own @ weights)
    torch.testing.assert_close(streams.relevance["query", "query"], torch.eye(2).double() + own)


def test_what_lowers_the_logit_and_the_empty_key_are_nobodys_relevance() -> None:
    weights = torch.tensor([[[[0.5, 0.3, 0.2]], [[0.2, 0.4, 0.4]]]])
    gradient = torch.tensor([[[[9.0, 1.0, -1.0]], [[9.0, 1.0, 2.0]]]])
    found = rule_5(Attention(CLASSES, LATENTS, weights), gradient)
    torch.testing.assert_close(found, torch.tensor([[[0.35, 0.4]]], dtype=torch.double), atol=1e-6, rtol=0)


@pytest.mark.parametrize("method", ["attention_relevance", "attention_rollout"])
def test_padding_changes_nothing_and_a_batch_equals_one_by_one(model, method: str) -> None:
    together = attribute(model, _batch(), 0, method)
    padded = attribute(model, _batch(tokens=7), 0, method)
    for name in NAMES:
        np.testing.assert_allclose(padded.scores[name][:, :4], together.scores[name], atol=1e-6)
        assert (padded.scores[name][:, 4:] == 0).all()
    for subject in range(3):
        alone = {name: tokens.row(subject) for name, tokens in _batch().items()}
        found = attribute(model, alone, 0, method)
        for name in NAMES:
            width = found.scores[name].shape[1]
            np.testing.assert_allclose(
                found.scores[name][0], together.scores[name][subject, :width], atol=1e-5
            )


def test_shares_sum_to_one_and_are_counted_from_nothing(model) -> None:
    found = attribute(model, _batch(), 0, "attention_relevance")
    np.testing.assert_allclose(found.total, 1.0)
    assert np.isnan(found.baseline_logit).all()
    assert np.isnan(found.delta).all()


def test_relevance_depends_on_the_class_and_rollout_does_not_know_what_it_did_to_the_logit(model) -> None:
    with torch.no_grad():
        for member in model.members:
            member.head.weight.neg_()
    opposite = attribute(model, _batch(), 0, "attention_relevance").scores["a"]
    rollout = attribute(model, _batch(), 0, "attention_rollout").scores["a"]
    with torch.no_grad():
        for member in model.members:
            member.head.weight.neg_()
    assert np.abs(attribute(model, _batch(), 0, "attention_relevance").scores["a"] - opposite).max() > 1e-3
    np.testing.assert_allclose(attribute(model, _batch(), 0, "attention_rollout").scores["a"], rollout)


def test_rollout_of_two_layers_by_hand() -> None:
    """Latents hold half of what they gather, then mix; the class reads them."""
    gather = torch.tensor([[[[0.0, 1.0, 0.0], [0.0, 0.5, 0.5]]]])
    mix = torch.tensor([[[[0.0, 0.0, 1.0], [0.0, 0.0, 1.0]]]])
    read = torch.tensor([[[[0.0, 0.25, 0.75]]]])
    found = rolled(
        Trace(
            [
                Attention(LATENTS, TOKENS, gather),
                Attention(LATENTS, LATENTS, mix),
                Attention(CLASSES, LATENTS, read),
            ]
        )
    )
    one = np.array([[1, 0], [0.5, 0.5]]) / 2
    two = (one + np.array([[0, 1], [0, 1]]) @ one) / 2
    np.testing.assert_allclose(found[0, 0], np.array([0.25, 0.75]) @ two / 2)


def test_a_model_that_cannot_trace_is_a_named_error(linear, batch_of) -> None:
    with pytest.raises(ConfigError, match="relevance"):
        attribute(linear, batch_of(), 1, "attention_relevance")


def test_rollout_sums_members_evenly(model) -> None:
    found = attention_rollout(pose(model, _batch(), 0))
    assert all(score.shape == (3, 4) for score in found.scores)
    assert all((score >= 0).all() for score in found.scores)
